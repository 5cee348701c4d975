"""Suites: sets of benchmarks that papers report together, and where their data lie."""

from dataclasses import dataclass
from pathlib import Path

from spacer_lib.artifacts import PathLike
from spacer_lib.benchmarks import named
from spacer_lib.benchmarks.schema import Benchmark
from spacer_lib.errors import SpacerError, nearest


@dataclass(frozen=True)
class Suite:
    """A set of benchmarks.

    Attributes
    ----------
    name : str
    source : str
        Where the set is published.
    members : dict
        Benchmark → which mean stands for it: ``overall``, or a name of its
        ``aggregate``.
    """

    name: str
    source: str
    members: dict[str, str]


SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "easi-8",
            "github.com/EvolvingLMMs-Lab/EASI",
            {
                "vsi": "overall",
                "mmsi": "overall",
                "mindcube-tiny": "overall",
                "viewspatial": "overall",
                "site": "chance_adjusted",
                "blink": "overall",
                "3dsr": "overall",
                "embspatial": "overall",
            },
        ),
    )
}


def suite_named(name: str) -> Suite:
    """The suite of a name.

    Raises
    ------
    SpacerError
        For an unknown name.
    """
    if name not in SUITES:
        raise SpacerError(
            "suite",
            kind="benchmarks.unknown-suite",
            got=name,
            expected=", ".join(SUITES),
            remedy=nearest(name, SUITES),
        )
    return SUITES[name]


def suite_folders(suite: Suite, folder: PathLike) -> list[tuple[Benchmark, Path]]:
    """Each benchmark of a suite with its folder inside ``folder``.

    It has the benchmark's name (``mmsi``) or that of its published repository
    (``MMSI-Bench``).

    Raises
    ------
    SpacerError
        With all folders that are missing and where each is published.
    """
    found, missing = [], []
    for name in suite.members:
        bench = named(name)
        published = bench.source.rpartition("/")[2]
        places = [Path(folder) / name, Path(folder) / published]
        place = next((place for place in places if place.is_dir()), None)
        if place is None:
            missing.append(f"{name} or {published} ({bench.source})")
        else:
            found.append((bench, place))
    if missing:
        raise SpacerError(
            f"{len(missing)} of {len(suite.members)} data folders of {suite.name} in "
            f"{folder}",
            kind="benchmarks.missing-folders",
            got=", ".join(place.name for _, place in found) or "none",
            expected="; ".join(missing),
            remedy="download them, or ask one benchmark with --benchmark",
        )
    return found
