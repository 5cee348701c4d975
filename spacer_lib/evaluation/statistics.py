"""Tidy tables of means and paired differences, with intervals over rooms.

Reads predictions. All intervals resample physical spaces, since questions of one room
depend on each other.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from spacer_lib.benchmarks.schema import Benchmark
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.bootstrap import bootstrap_interval
from spacer_lib.evaluation.predictions import reason
from spacer_lib.maps.scores import SCORERS
from spacer_lib.questions.generators import task_kind
from spacer_lib.rooms.scene import space_of
from spacer_lib.rows import Prediction

MAP_SCORES = tuple(f"map_{scorer}" for scorer in SCORERS)
MEASURES = ("score", "exact", "hits", *MAP_SCORES)

_TEXTS = frozenset(("prediction", "answer", "extracted"))
_Values = npt.NDArray[np.float64]  # (n,)


def _frame(predictions: Sequence[Prediction]) -> pd.DataFrame:
    if not predictions:
        raise SpacerError(
            "predictions",
            kind="evaluation.no-predictions",
            got="none",
            expected="at least one",
        )
    require_scores(predictions)
    # Without the texts: a lone surrogate, which a model can write, stops pandas.
    table = pd.DataFrame(
        [{k: v for k, v in p.items() if k not in _TEXTS} for p in predictions]
    )
    table["exact"] = (table["score"] > 1 - 1e-9).astype(float)
    table["kind"] = table["question_type"].map(task_kind)
    table["space"] = table["scene_name"].map(space_of)
    return table


def require_scores(predictions: Sequence[Prediction]) -> None:
    """Refuse predictions whose score is no share.

    Means would pass over NaN, and every comparison with it is false.

    Raises
    ------
    SpacerError
        With the first of them.
    """
    for made in predictions:
        score = made["score"]
        if not (isinstance(score, int | float) and 0 <= score <= 1):
            raise SpacerError(
                f"score of {made['id']}",
                kind="evaluation.score-out-of-range",
                got=score,
                expected="a number from 0 to 1",
                remedy="score these predictions again (spacer score)",
            )


def _measures(table: pd.DataFrame) -> list[str]:
    """The ``MEASURES`` that a table has; those of maps need rows with true maps."""
    return [m for m in MEASURES if m in table or (m == "hits" and "map_hits" in table)]


def _groups(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame, _Values]]:
    """(level, name, rows, weights): what a mean is taken over, and how.

    A kind averages its question types, ``macro`` averages the kinds (VSI-Bench's
    rule). ``overall`` is the mean over rows. Both are given for each value of each
    axis of a row's ``groups`` too.
    """
    for name, part in table.groupby("question_type"):
        yield "question_type", name, part, np.ones(len(part))
    for name, part in table.groupby("kind"):
        yield "kind", name, part, _equal_shares(part)
    for axis in _axes(table):
        values = table["groups"].map(lambda groups, axis=axis: groups.get(axis))
        for name, part in table.groupby(values):
            yield f"{axis} macro", str(name), part, _equal_shares(part)
            yield f"{axis} overall", str(name), part, np.ones(len(part))
    yield "macro", "macro", table, _equal_shares(table)
    yield "overall", "overall", table, np.ones(len(table))


def _axes(table: pd.DataFrame) -> list[str]:
    """The further columns that rows are grouped by, in order of appearance."""
    if "groups" not in table:
        return []
    return list(dict.fromkeys(axis for groups in table["groups"] for axis in groups))


def _equal_shares(table: pd.DataFrame) -> _Values:
    """Row weights, mean 1: the same for each kind, and for each type of a kind."""
    rows = table.groupby("question_type")["id"].transform("size")
    types = table.groupby("kind")["question_type"].transform("nunique")
    shares = 1 / (rows * types * table["kind"].nunique())
    return len(table) * shares.to_numpy()


def _influence(table: pd.DataFrame, weights: _Values, measure: str) -> _Values:
    """(n,) values whose mean is the measure, and whose clustered spread is its spread.

    Group averages and shares (hits over instances, map scores over rows with a map)
    are ratios and not means of rows. Each is replaced by its first-order expansion
    around its own value. Map measures pool all rows, whatever the level.
    """
    if measure == "hits":
        return _ratio(table["map_hits"].fillna(0), table["map_total"].fillna(0))
    values = table[measure].astype(float)
    if measure in MAP_SCORES:
        return _ratio(values.fillna(0), values.notna())
    if np.ptp(weights) == 0:
        return values.to_numpy()
    means = table.groupby("question_type")[measure].transform("mean")
    return (weights * values).mean() + weights * (values - means).to_numpy()


def _ratio(above: pd.Series, below: pd.Series) -> _Values:
    above, below = above.to_numpy(float), below.to_numpy(float)
    if not below.sum():
        return np.full(len(below), np.nan)
    share = above.sum() / below.sum()
    return share + (above - share * below) / below.mean()


def totals(predictions: Sequence[Prediction], benchmark: Benchmark) -> dict[str, Any]:
    """A benchmark's aggregates as plain numbers.

    Returns
    -------
    dict
        ``tasks`` (mean score of each), ``overall`` by the published ``rule``, both
        ``macro`` and ``micro``, ``subsets`` (macro over the named tasks), ``groups``
        (``{axis: {value: {macro, micro, n}}}``), ``released`` (what the benchmark's
        released code computes, where it differs), ``n`` and ``failures``
        (rows from which no answer was read, by reason).
    """
    table = _frame(predictions)

    def mean(part: pd.DataFrame, weights: _Values) -> float:
        return float((weights * part["score"]).mean())

    tasks: dict[str, float] = {}
    groups: dict[str, dict[str, dict[str, float]]] = {}
    whole: dict[str, float] = {}
    for level, name, part, weights in _groups(table):
        value = mean(part, weights)
        if level == "kind":
            tasks[name] = value
        elif level in ("macro", "overall"):
            whole["macro" if level == "macro" else "micro"] = value
        elif level != "question_type":
            axis, way = level.rsplit(" ", 1)
            cell = groups.setdefault(axis, {}).setdefault(name, {"n": len(part)})
            cell["macro" if way == "macro" else "micro"] = value
    subsets = {
        name: float(np.mean([tasks[kind] for kind in kinds if kind in tasks]))
        for name, kinds in benchmark.subsets.items()
        if any(kind in tasks for kind in kinds)
    }
    return {
        "tasks": tasks,
        "overall": whole[benchmark.overall],
        "rule": benchmark.overall,
        **whole,
        "subsets": subsets,
        "groups": groups,
        "released": benchmark.aggregate(predictions) if benchmark.aggregate else {},
        "n": len(table),
        "failures": dict(_reasons(predictions).most_common()),
    }


def _reasons(predictions: Sequence[Prediction]) -> Counter[str]:
    return Counter(reason(p["failure"]) for p in predictions if p["failure"])


def _interval(
    values: _Values, clusters: pd.Series, seed: int, least: float = -1.0
) -> tuple[float, float, float]:
    """Mean and interval; all measures lie between ``least`` and 1."""
    if np.isnan(values).any():
        return np.nan, np.nan, np.nan
    rng = np.random.default_rng([seed, 31])
    return bootstrap_interval(values, clusters, rng, bounds=(least, 1.0))


def summarize(predictions: Sequence[Prediction], *, seed: int = 0) -> pd.DataFrame:
    """One tidy table of means with 95% intervals, resampled by physical space.

    Parameters
    ----------
    predictions : list of Prediction
        Of one model and condition.
    seed : int
        Keys the bootstrap.

    Returns
    -------
    pandas.DataFrame
        Rows: ``level`` (question_type, kind, macro, overall, and for each axis of
        ``groups`` "axis macro" and "axis overall") and ``name``. Columns:
        ``n`` questions, ``spaces``; the ``MEASURES`` (``score``, ``exact``: share
        scored 1, ``hits``: share of instances within 1.5 cells, and the map scores),
        each with ``_low`` and ``_high``; ``failures`` (of answer or format),
        ``map_failures`` and ``wrong`` (read, with score 0), as counts.
    """
    records = []
    for level, name, part, weights in _groups(_frame(predictions)):
        record: dict[str, Any] = {"level": level, "name": name, "n": len(part)}
        record["spaces"] = part["space"].nunique()
        for measure in _measures(part):
            values = _influence(part, weights, measure)
            mean, low, high = _interval(values, part["space"], seed, least=0.0)
            record.update(
                {measure: mean, f"{measure}_low": low, f"{measure}_high": high}
            )
        for name in ("failure", "map_failure"):
            if name in part:
                record[f"{name}s"] = int(part[name].notna().sum())
        if "failure" in part:
            nothing = part["failure"].isna() & (part["score"] <= 0)
            record["wrong"] = int(nothing.sum())
        records.append(record)
    return pd.DataFrame(records)


def intervals(
    table: pd.DataFrame, measure: str = "score"
) -> dict[str, dict[str, list[float | None]]]:
    """``{level: {name: [low, high]}}`` of a summary, ``None`` where there is none."""
    found: dict[str, dict[str, list[float | None]]] = {}
    for line in table.to_dict("records"):
        ends = (line[f"{measure}_{end}"] for end in ("low", "high"))
        found.setdefault(line["level"], {})[line["name"]] = [
            None if np.isnan(end) else end for end in ends
        ]
    return found


def compare(
    before: Sequence[Prediction], after: Sequence[Prediction], *, seed: int = 0
) -> pd.DataFrame:
    """Paired differences, question by question, with clustered 95% intervals.

    Returns
    -------
    pandas.DataFrame
        Rows: level, name and ``measure``; columns ``n``, ``spaces``, ``before``,
        ``after``, ``delta``, ``low``, ``high`` and ``verdict``: ``up`` or ``down`` if
        the interval leaves zero out, else ``not distinguishable``.

    Raises
    ------
    SpacerError
        If the two do not answer the same questions.
    """
    first, second = _frame(before), _frame(after)
    if set(first["id"]) != set(second["id"]) or not first["id"].is_unique:
        shared = len(set(first["id"]) & set(second["id"]))
        raise SpacerError(
            "paired comparison",
            kind="evaluation.other-questions",
            got=f"{shared} shared questions",
            expected=f"all of {len(first)} and {len(second)}, once each",
            remedy="evaluate both models on the same rows",
        )
    second = second.set_index("id").loc[first["id"]].reset_index()
    second.index = first.index
    records = []
    for level, name, part, weights in _groups(first):
        other = second.loc[part.index]
        for measure in _measures(part):
            old = _influence(part, weights, measure)
            new = _influence(other, weights, measure)
            delta, low, high = _interval(new - old, part["space"], seed)
            record: dict[str, Any] = {
                "level": level,
                "name": name,
                "measure": measure,
                "n": len(part),
                "spaces": part["space"].nunique(),
            }
            record.update(before=old.mean(), after=new.mean())
            record.update(delta=delta, low=low, high=high, verdict=verdict(low, high))
            records.append(record)
    return pd.DataFrame(records)


def pooled(parts: Mapping[int, Sequence[Prediction]]) -> list[Prediction]:
    """``{seed: predictions}`` in one list, ids made distinct by the seed.

    The same rooms are asked for every seed, so intervals resample rooms with all their
    seeds together.
    """
    return [
        cast(Prediction, {**prediction, "id": f"{seed}/{prediction['id']}"})
        for seed, predictions in parts.items()
        for prediction in predictions
    ]


def verdict(low: float, high: float) -> str:
    """The interval of a difference in words."""
    if low > 0:
        return "up"
    return "down" if high < 0 else "not distinguishable"
