"""Why two scores of the same questions differ: one share for each cause.

A difference of two runs has causes of two kinds. *Reading* and *averaging* can be
changed on saved texts, so both are varied in full: each run's texts are scored under
both rules and both aggregates. *Asking* cannot: it is one cause, named after the
settings in which the runs' ``evaluation.json`` differ, or "asked elsewhere" for
predictions of another program (`spacer score --out`). If several differ, they share
one number, unless ``ask_again`` makes the runs between them.

A share is a Shapley value: the change that a cause makes, averaged over all orders of
changing one after the other. Shares add up to the difference, and exchanging the runs
exchanges their signs. Intervals resample rooms, pairwise, as all of this wing do.

Source: Shapley, "A value for n-person games", Contributions to the Theory of Games 2
(1953), 307-317.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from spacer_lib.artifacts import PathLike, to_jsonable
from spacer_lib.benchmarks import named, rules_of
from spacer_lib.benchmarks.schema import Benchmark
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.aggregates import row_weights
from spacer_lib.evaluation.backends import Backend
from spacer_lib.evaluation.bootstrap import bootstrap_interval
from spacer_lib.evaluation.predictions import UNANSWERED, reason, record
from spacer_lib.evaluation.profiles import load_profile
from spacer_lib.evaluation.report import Run
from spacer_lib.evaluation.runner import run
from spacer_lib.evaluation.statistics import verdict
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.prompts import PromptStyle, Template
from spacer_lib.rooms.frames import Sampler, VideoSettings
from spacer_lib.rooms.scene import space_of
from spacer_lib.rows import Prediction, Question

# Settings in ``evaluation.json`` by the cause that they belong to.
CAUSES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("settings.mode", "backend.template", "rows.sha256"),
    "frames": ("settings.video.frames",),
    "sampler": ("settings.video.sampler", "settings.video.shuffle"),
    "pixels": (
        "settings.video.size",
        "settings.video.max_pixels",
        "settings.video.min_pixels",
    ),
    "frames as images": ("settings.video.as_images",),
    "decoding": (
        "settings.max_new_tokens",
        "settings.temperature",
        "settings.top_p",
        "settings.seed",
        "settings.batch_size",
    ),
    "positions": ("backend.positions",),
    "precision": ("backend.dtype",),
    "condition": ("condition",),
    "model": (
        "backend.weights",
        "backend.model",
        "backend.backend",
        "backend.version",
        "backend.processor",
        "backend.floor",
        "backend.endpoint",
    ),
}
# What ``AskSettings`` holds, so that a run between two others can be made.
ASKABLE = ("prompt", "frames", "sampler", "pixels", "frames as images", "decoding")
ELSEWHERE = "asked elsewhere"
# Their rules need more of a question than a prediction repeats.
_NEED_DATA = ("tempcompass", "videommmu")
MOST_RUNS = 14  # four causes
_Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Side:
    """One of the two scores: a run's texts, and how they are read and averaged.

    Attributes
    ----------
    run : Run
    extraction, aggregate : str
    """

    run: Run
    extraction: str
    aggregate: str

    @property
    def title(self) -> str:
        """The run with its rule and aggregate."""
        return f"{self.run.name} ({self.extraction}, {self.aggregate})"


class Gap(NamedTuple):
    """A difference and its parts.

    Attributes
    ----------
    before, after : float
        The two scores.
    table : pandas.DataFrame
        One line for each ``cause``, then ``total``: ``share``, ``low``, ``high``
        (95% over rooms), ``verdict`` and ``settings``: what differs, in words.
    remedy : str or None
        How to separate causes that share one number.
    """

    before: float
    after: float
    table: pd.DataFrame
    remedy: str | None


# ---------------------------------------------------------------- sides


def make_side(run: Run, profile: PathLike | None = None) -> Side:
    """A run as it was scored, or as a profile scores it.

    Without a profile the rule is the one in ``evaluation.json``, and the aggregate that
    of the run's own profile, or the benchmark's.

    Raises
    ------
    SpacerError
        If the run has no ``evaluation.json``, or its rule used a second reader.
    """
    bench = named(str(_said(run, "benchmark")))
    system = load_profile(profile) if profile else None
    if system is not None:
        part = system.part(bench.name)
        return Side(run, str(part.extraction), system.aggregate(bench.name))
    extraction = str(_said(run, "extraction"))
    if extraction not in rules_of(bench):
        raise SpacerError(
            f"extraction of {run.name}",
            kind="evaluation.gap-extraction",
            got=extraction,
            expected="a rule that reads a text alone",
            remedy="name a profile, whose rule then replaces it",
        )
    own = run.about.get("profile")
    aggregate = load_profile(own).aggregate(bench.name) if own else bench.overall
    return Side(run, extraction, aggregate)


def _said(run: Run, key: str) -> Any:
    if key not in run.about:
        raise SpacerError(
            f"{run.name}: evaluation.json",
            kind="evaluation.no-header",
            got=f"no {key}",
            expected="the folder of `spacer evaluate`, or of `spacer score --out`",
        )
    return run.about[key]


# ---------------------------------------------------------------- causes


def differing_settings(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, list[str]]:
    """``{cause: ["settings.video.frames 4, then 8"]}`` of two ``evaluation.json``.

    Predictions made elsewhere state no settings: then the one cause is ``ELSEWHERE``.
    """
    if "settings" not in before or "settings" not in after:
        names = (str(header.get("name")) for header in (before, after))
        return {ELSEWHERE: [", then ".join(names)]}
    found: dict[str, list[str]] = {}
    for cause, keys in CAUSES.items():
        for key in keys:
            old, new = _at(before, key), _at(after, key)
            if old != new:
                text = f"{key.rpartition('.')[2]} {_short(old)}, then {_short(new)}"
                found.setdefault(cause, []).append(text)
    return found


def _at(header: Mapping[str, Any], key: str) -> Any:
    value: Any = header
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _short(value: object) -> str:
    if isinstance(value, Mapping):  # a prompt style, or a sampler
        value = value.get("mode") or value.get("rule")
        value = f"{value} …"
    return str(value)[:24]


# ---------------------------------------------------------------- the game


def shapley(
    causes: Sequence[str], value: Callable[[frozenset[str]], _Values]
) -> dict[str, _Values]:
    """Each cause's change, averaged over all orders, row by row.

    Parameters
    ----------
    causes : sequence of str
    value : callable
        (n,) values of the rows where these causes are changed.

    Examples
    --------
    >>> both = {frozenset("ab"): np.array([3.0]), frozenset("a"): np.array([1.0])}
    >>> shapley("ab", lambda changed: both.get(changed, np.array([0.0])))
    {'a': array([2.]), 'b': array([1.])}
    """
    count = len(causes)
    shares = {}
    for cause in causes:
        others = [name for name in causes if name != cause]
        parts = []
        for size in range(count):
            orders = math.comb(count - 1, size) * count
            for some in combinations(others, size):
                step = value(frozenset((*some, cause))) - value(frozenset(some))
                parts.append(step / orders)
        shares[cause] = np.sum(parts, axis=0)
    return shares


def explain(
    before: Side,
    after: Side,
    *,
    rows: Sequence[Question] | None = None,
    between: Mapping[frozenset[str], Sequence[Prediction]] | None = None,
    seed: int = 0,
) -> Gap:
    """Split the difference of two scores into shares of their causes.

    Parameters
    ----------
    before, after : Side
        Of the same questions.
    rows : list of Question, optional
        The questions, where their rule needs more than a prediction repeats.
    between : dict, optional
        ``{causes that are already as in after: predictions}`` of ``ask_again``: then
        each cause of asking has a share of its own.
    seed : int
        Of the intervals.

    Returns
    -------
    Gap

    Raises
    ------
    SpacerError
        If the runs answer different questions or benchmarks, or the rule needs the
        questions.
    """
    bench = _same_benchmark(before, after)
    asked = _questions(before, after, rows, bench)
    settings = differing_settings(before.run.about, after.run.about)
    runs: dict[frozenset[str], Sequence[Prediction]] = {}
    names = list(settings)
    joint = " + ".join(names) or "asking again"
    if between is None or len(names) < 2:
        names, settings = [joint], {joint: sum(settings.values(), [])}
        between = {}
    runs[frozenset()], runs[frozenset(names)] = before.run.records, after.run.records
    runs |= between
    scorer = _Scorer(before, after, asked, runs, bench)
    causes = [*names, "extraction", "aggregate"]
    shares = shapley(causes, scorer.values)
    rule = [f"{before.extraction}, then {after.extraction}"]
    mean = [f"{before.aggregate}, then {after.aggregate}"]
    words = {**settings, "extraction": rule, "aggregate": mean}
    if before.run.parts == after.run.parts and names == [joint]:
        del shares[joint]
    first = scorer.values(frozenset())
    last = scorer.values(frozenset(causes))
    spaces = [space_of(str(row["scene_name"])) for row in asked]
    table = _table(shares, last - first, words, spaces, seed)
    remedy = _remedy(joint) if " + " in joint and not between else None
    return Gap(float(first.mean()), float(last.mean()), table, remedy)


def _same_benchmark(before: Side, after: Side) -> Benchmark:
    names = {str(_said(side.run, "benchmark")) for side in (before, after)}
    if len(names) > 1:
        raise SpacerError(
            "runs to explain",
            kind="evaluation.which-benchmark",
            got=", ".join(sorted(names)),
            expected="one benchmark",
        )
    return named(names.pop())


def _questions(
    before: Side,
    after: Side,
    rows: Sequence[Question] | None,
    bench: Benchmark,
) -> list[Question]:
    """The questions that both runs answer, in the order of the first run."""
    first, second = before.run.records, after.run.records
    ids = [made["id"] for made in first]
    if len(set(ids)) < len(ids) or sorted(ids) != sorted(m["id"] for m in second):
        raise SpacerError(
            f"questions of {after.run.name}",
            kind="evaluation.other-questions",
            got=f"{len(set(ids) & {m['id'] for m in second})} shared questions",
            expected=f"all of {len(first)} and {len(second)}, once each",
            remedy="evaluate both on the same rows",
        )
    if rows is None and bench.name in _NEED_DATA:
        raise SpacerError(
            f"questions of {bench.title}",
            kind="evaluation.gap-needs-data",
            got="predictions alone",
            expected="the questions, which its rule reads",
            remedy="pass them with --data",
        )
    if rows is None:
        return [
            cast(Question, {**made, "ground_truth": made["answer"]}) for made in first
        ]
    known = {row["id"]: row for row in rows}
    lacking = [name for name in ids if name not in known]
    if lacking:
        raise SpacerError(
            "data of the runs",
            kind="evaluation.no-such-question",
            got=f"no question {lacking[0]}",
            expected=f"all {len(ids)}",
        )
    return [cast(Question, {**known[name], "map": None}) for name in ids]


class _Scorer:
    """Row values whose mean is the score, for each set of changed causes."""

    def __init__(
        self,
        before: Side,
        after: Side,
        rows: Sequence[Question],
        runs: Mapping[frozenset[str], Sequence[Prediction]],
        bench: Benchmark,
    ) -> None:
        self.sides, self.rows, self.bench = (before, after), rows, bench
        self.made = {
            key: {record["id"]: record for record in records}
            for key, records in runs.items()
        }
        self.types = [row["question_type"] for row in rows]
        self._read: dict[tuple[frozenset[str], str], _Values] = {}

    def values(self, changed: frozenset[str]) -> _Values:
        rule = self.sides["extraction" in changed].extraction
        scores = self._scores(changed - {"extraction", "aggregate"}, rule)
        side = self.sides["aggregate" in changed]
        weights = row_weights(side.aggregate, self.types, self.bench)
        if not np.ptp(weights):
            return scores
        # First-order expansion around the group means, as in ``statistics``.
        means = pd.Series(scores).groupby(self.types).transform("mean").to_numpy()
        return (weights * scores).mean() + weights * (scores - means)

    def _scores(self, run: frozenset[str], rule: str) -> _Values:
        if (run, rule) not in self._read:
            read = rules_of(self.bench)[rule]
            made = (self.made[run][row["id"]] for row in self.rows)
            scores = [
                record(row, _text(one), read, failure=one["failure"])["score"]
                for row, one in zip(self.rows, made, strict=True)
            ]
            self._read[run, rule] = np.array(scores, dtype=float)
        return self._read[run, rule]


def _text(made: Prediction) -> str | None:
    """The raw text; ``None`` where there was none."""
    if not made["prediction"] and reason(made["failure"] or "") in UNANSWERED:
        return None
    return made["prediction"]


def _table(
    shares: Mapping[str, _Values],
    whole: _Values,
    words: Mapping[str, Iterable[str]],
    spaces: Sequence[str],
    seed: int,
) -> pd.DataFrame:
    lines = []
    for cause, values in {**shares, "total": whole}.items():
        rng = np.random.default_rng([seed, 31])
        share, low, high = bootstrap_interval(values, spaces, rng)
        lines.append(
            {
                "cause": cause,
                "share": share,
                "low": low,
                "high": high,
                "verdict": verdict(low, high),
                "settings": "; ".join(words.get(cause, ())),
            }
        )
    return pd.DataFrame(lines)


# ---------------------------------------------------------------- asking again


def ask_again(
    before: Side,
    after: Side,
    rows: Sequence[Question],
    backend: Backend,
    out_dir: PathLike,
    *,
    overwrite: bool = False,
) -> dict[frozenset[str], list[Prediction]]:
    """Make the runs between two: each set of differing settings changed, and no other.

    Parameters
    ----------
    before, after : Side
    rows : list of Question
        The questions of both.
    backend : Backend
        The one that made both.
    out_dir : path
        A folder for each run, which resumes.
    overwrite : bool
        Replace what a folder holds of another model or other settings.

    Returns
    -------
    dict
        Argument ``between`` of ``explain``.

    Raises
    ------
    SpacerError
        If the backend is another one, if a setting differs that no run between can
        have, or if more than ``MOST_RUNS`` runs are needed.
    """
    first, last = before.run.about, after.run.about
    bench = _same_benchmark(before, after)
    causes = list(differing_settings(first, last))
    runs = [
        frozenset(some)
        for size in range(1, len(causes))
        for some in combinations(causes, size)
    ]
    keys = [key for cause in causes for key in CAUSES.get(cause, (cause,))]
    other = [
        key
        for key in keys
        if "settings." not in key
        and (key == ELSEWHERE or _at(first, key) != _at(last, key))
    ]
    same = to_jsonable(backend.identity()) == _at(first, "backend")
    if other or not same or len(runs) > MOST_RUNS:
        raise SpacerError(
            "runs between the two",
            kind="evaluation.gap-not-askable",
            got=f"{', '.join(other)} differ"
            if other and ELSEWHERE not in other
            else "predictions made elsewhere"
            if other
            else f"{len(runs)} runs"
            if same
            else f"another backend, {backend.name}",
            expected=f"differences in {', '.join(ASKABLE)}, {MOST_RUNS} runs at most, "
            "and the model that made both",
        )
    made = {}
    for some in runs:
        mixed = json.loads(json.dumps(_at(first, "settings")))
        for cause in some:
            for key in CAUSES[cause]:
                _put(mixed, key.removeprefix("settings."), _at(last, key))
        name = "_".join(sorted(some)).replace(" ", "-")
        made[some] = run(
            bench,
            rows,
            backend,
            Path(out_dir) / name,
            _ask_settings(mixed),
            condition=str(_said(before.run, "condition")),
            overwrite=overwrite,
        )
    return made


def _put(settings: dict[str, Any], key: str, value: Any) -> None:
    *parents, name = key.split(".")
    if parents and parents[0] not in ("video",):
        return
    place = settings[parents[0]] if parents else settings
    if name in place or value is not None:
        place[name] = value


def _ask_settings(stated: Mapping[str, Any]) -> AskSettings:
    """``settings`` of an ``evaluation.json`` as ``AskSettings``."""
    video, mode = dict(stated["video"]), stated["mode"]
    if video.get("sampler"):
        video["sampler"] = Sampler(**video["sampler"])
    if isinstance(mode, Mapping):
        template = mode["template"] and Template(**mode["template"])
        mode = PromptStyle(**{**mode, "template": template})
    rest = {k: v for k, v in stated.items() if k not in ("video", "mode")}
    rest["batch_size"] = rest["batch_size"] or 1
    return AskSettings(mode, VideoSettings(**video), **rest)


def _remedy(joint: str) -> str:
    return (
        f"{joint} share one number: repeat `spacer explain-gap` with --ask --model "
        "CHECKPOINT --data FOLDER, or evaluate with one of them changed at a time"
    )


# ---------------------------------------------------------------- shown


def gap_record(gap: Gap, before: Side, after: Side) -> dict[str, Any]:
    """A gap as plain values."""
    return {
        "before": {"title": before.title, "score": gap.before},
        "after": {"title": after.title, "score": gap.after},
        "shares": gap.table.astype(object)
        .where(gap.table.notna(), None)
        .to_dict("records"),
        "remedy": gap.remedy,
    }


def gap_text(gap: Gap, before: Side, after: Side) -> str:
    """A gap as lines, in per cent."""
    lines = [
        f"{before.title}: {100 * gap.before:.1f}",
        f"{after.title}: {100 * gap.after:.1f}",
        f"{'':24}{'share':>7}{'95%':>16}",
    ]
    for line in gap.table.itertuples():
        interval = ""
        if line.low == line.low:  # NaN for a single room
            interval = f"[{100 * line.low:+.1f}, {100 * line.high:+.1f}]"
        lines.append(
            f"{line.cause:24}{100 * line.share:>+7.1f}{interval:>16}  {line.settings}"
        )
    return "\n".join([*lines, *filter(None, [gap.remedy])])
