"""Public benchmarks: readers of their files, their own rules and aggregates.

``schema``  shared types and the checked reader of files
``rules``   reading rules that serve every benchmark
``systems`` reading rules of published systems
One module per benchmark, and ``held_out``, our own. ``named`` finds one.
"""

import re

from spacer_lib.benchmarks import (
    blink,
    embspatial,
    held_out,
    longvideobench,
    mindcube,
    mmsi,
    mmsi_video,
    revsi,
    sitebench,
    spar,
    sti,
    systems,
    tempcompass,
    threedsr,
    videomme,
    videommmu,
    viewspatial,
    vsi,
    vsi_super,
)
from spacer_lib.benchmarks.rules import (
    after_tag,
    final_answer,
    first_number,
    last_letter,
    strict,
)
from spacer_lib.benchmarks.schema import Benchmark, Rule
from spacer_lib.errors import SpacerError, nearest

BENCHMARKS = {
    entry.name: entry
    for entry in (
        vsi.benchmark(),
        vsi.benchmark("vsi-debiased", "VSI-Bench (debiased)", debiased=True),
        held_out.benchmark(),
        sti.benchmark(),
        spar.benchmark(),
        videomme.benchmark(),
        tempcompass.benchmark(),
        longvideobench.benchmark(),
        videommmu.benchmark(),
        *map(revsi.benchmark, revsi.BUDGETS),
        mmsi.benchmark(),
        mindcube.benchmark(tiny=True),
        mindcube.benchmark(),
        viewspatial.benchmark(),
        embspatial.benchmark(),
        blink.benchmark(),
        threedsr.benchmark(),
        sitebench.benchmark(),
        mmsi_video.benchmark(),
        vsi_super.benchmark("recall"),
        vsi_super.benchmark("count"),
    )
}


def named(name: str) -> Benchmark:
    """The benchmark of a name; case, hyphens and "bench" do not matter.

    Raises
    ------
    SpacerError
        For an unknown name, with the nearest known one.

    Examples
    --------
    >>> named("VSI-Bench").name, named("vsibench_debiased").name
    ('vsi', 'vsi-debiased')
    """
    for key, entry in BENCHMARKS.items():
        if _plain(name) == _plain(key):
            return entry
    raise SpacerError(
        "benchmark",
        kind="benchmarks.unknown-benchmark",
        got=name,
        remedy=nearest(name.lower(), BENCHMARKS),
    )


def rules_of(benchmark: Benchmark) -> dict[str, Rule]:
    """Reading rules by name: ours, the benchmark's own, and two common ones.

    ``official_after_tag`` is the benchmark's own rule on the content of the answer tag.
    The last five are those of published systems; see ``systems``.
    """
    official = benchmark.official
    return {
        "strict": benchmark.strict or strict,
        "official": official,
        "final_answer": final_answer,
        "first_number": first_number,
        "last_letter": last_letter,
        "official_after_tag": after_tag(official),
        "spacer_released": systems.spacer(benchmark.name, official, sti.stated),
        "video_r1": systems.video_r1,
        "lmms_eval": systems.lmms_eval(official),
        "vlmevalkit": systems.vlmevalkit,
        "easi": systems.easi,
    }


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]|bench", "", name.lower())
