"""What failed in an answer: the map, the places in it, or the reasoning.

An answer can follow from the drawn map or not, and the map can be right or wrong. The
solver (``questions.solver``) tells the four cases apart. ``failures`` is the definition
of perception, localisation and reasoning failures.

Reads questions and predictions.

Source: SpaceR Appendix C.4 (do maps carry the answer?) and C.7 (failure cases). The
paper judges both by hand; the measures are ours.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from spacer_lib.benchmarks.rules import strict
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.bootstrap import bootstrap_interval
from spacer_lib.language.choices import read_choice
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.scores import hits
from spacer_lib.questions.solver import (
    BEYOND_MAPS,
    CellSize,
    answer_from_map,
    objects_of,
    spots_of,
)
from spacer_lib.rewards.consistency import same_answer
from spacer_lib.rooms.scene import space_of
from spacer_lib.rows import Prediction, Question

# ---------------------------------------------------------------- one answer


def read_answer(prediction: Prediction, row: Question) -> str | None:
    """The answer that was read, as a letter, number or words; ``None`` if none was.

    Older files of predictions lack ``extracted``: their text is read by ``strict``.
    """
    if "extracted" not in prediction:
        return strict(prediction["prediction"], row).answer
    text, options = prediction["extracted"], row.get("options")
    return read_choice(text, options) if text is not None and options else text


# ---------------------------------------------------------------- what failed

SHARES = {
    "follows": "the answer follows from the drawn map",
    "drawn_suffices": "the drawn map gives the right answer",
    "true_suffices": "the true map gives the right answer",
    "right": "the model is right",
    "right_if_drawn_suffices": "it is right where the drawn map is",
    "right_if_drawn_fails": "it is right where the drawn map is not",
}

FAILURES = {
    "right": "exactly right",
    "extraction": "no answer could be read",
    "no_map": "wrong, and no map could be read",
    "perception": "an object of the question is missing, or their number is wrong",
    "localisation": "all are drawn, but in the wrong places",
    "reasoning": "the drawn map gives the right answer, the model another",
    "undetermined": "objects are near their places, and no map fixes the answer",
}


def failures(
    predictions: Sequence[Prediction],
    rows: Sequence[Question],
    *,
    grid_size: int = 10,
    cell_sizes: Mapping[str, CellSize] | None = None,
) -> pd.DataFrame:
    """Each answer beside what its own map and the true map give, and what failed.

    Parameters
    ----------
    predictions : list of Prediction
    rows : list of Question
        Their questions, in any order; ``map`` is the true one, where known.
    grid_size : int
        Of the drawn maps.
    cell_sizes : dict, optional
        ``{row id: cell size in metres}``; see ``answer_from_map``.

    Returns
    -------
    pandas.DataFrame
        One row per prediction, in order: ``id``, ``space``, ``question_type``,
        ``truth``, ``answer`` (the model's, as read), ``from_model_map`` and
        ``from_true_map`` with ``model_map_reason`` and ``true_map_reason``, the
        ``SHARES``, ``label`` and ``missing``.

        The ``SHARES`` are 1, 0, or NaN where a question does not count:

        - ``follows`` counts where an answer was read and the drawn map gives one;
        - ``drawn_suffices`` counts where a map can tell (not ``BEYOND_MAPS``). A map
          that cannot be read, lacks an object or ties does not suffice;
        - ``true_suffices`` is the same of the true map, where there is one.

        Right means exactly right; numbers agree within 5% (the strictest threshold of
        mean relative accuracy).

        ``label`` is the first of ``FAILURES`` that holds, in that order. Places are
        wrong where an object of the question is not within 1.5 cells of its true
        cell, or where the drawn map gives a wrong answer and the true map does not.
        Without a true map only the number that a counting question asks for can be
        compared. ``missing`` holds the categories of a perception failure.

    Raises
    ------
    SpacerError
        If a prediction has no question.
    """
    sizes = cell_sizes or {}
    return pd.DataFrame(
        [
            _judged(prediction, row, grid_size, sizes.get(row["id"]))
            for prediction, row in _paired(predictions, rows)
        ]
    )


class Example(NamedTuple):
    """One judged answer: its question, the prediction, and its line of ``failures``."""

    row: Question
    prediction: Prediction
    judgement: dict[str, Any]


def failure_examples(
    predictions: Sequence[Prediction],
    rows: Sequence[Question],
    labels: Sequence[str] = ("perception", "localisation", "reasoning"),
    *,
    grid_size: int = 10,
) -> dict[str, Example]:
    """The first answer with each of these labels of ``FAILURES``.

    Returns
    -------
    dict
        ``{label: Example}`` in the order of ``labels``; a label that no answer has is
        left out.

    Raises
    ------
    SpacerError
        If a prediction has no question.
    """
    found: dict[str, Example] = {}
    for prediction, row in _paired(predictions, rows):
        line = _judged(prediction, row, grid_size)
        found.setdefault(line["label"], Example(row, prediction, line))
    return {label: found[label] for label in labels if label in found}


def _paired(
    predictions: Sequence[Prediction], rows: Sequence[Question]
) -> list[tuple[Prediction, Question]]:
    by_id = {row["id"]: row for row in rows}
    absent = [p["id"] for p in predictions if p["id"] not in by_id]
    if absent:
        raise SpacerError(
            "predictions without a question",
            kind="evaluation.no-such-question",
            got=f"{len(absent)}, first {absent[0]}",
            expected="rows with the same ids",
        )
    return [(p, by_id[p["id"]]) for p in predictions]


def _judged(
    prediction: Prediction, row: Question, grid_size: int, size: CellSize | None = None
) -> dict[str, Any]:
    """A line of ``failures``."""
    record = _compared(prediction, row, grid_size, size)
    label, missing = _failure(record, prediction, row, grid_size)
    return {**record, "label": label, "missing": missing}


def _compared(
    prediction: Prediction, row: Question, grid_size: int, size: CellSize | None
) -> dict[str, Any]:
    said = read_answer(prediction, row)
    drawn = read_completion(prediction["prediction"], grid_size=grid_size).map
    mine = answer_from_map(row, drawn, size)
    best = answer_from_map(row, row.get("map") or None, size)
    right = float(prediction["score"] > 1 - 1e-9)
    able = mine.reason not in BEYOND_MAPS
    suffices = same_answer(mine.answer, row["ground_truth"], row) if able else math.nan
    known = best.reason not in (*BEYOND_MAPS, "no_map")
    has_both = said is not None and mine.answer is not None
    return {
        "id": row["id"],
        "space": space_of(row["scene_name"] or ""),
        "question_type": row["question_type"],
        "truth": row["ground_truth"],
        "answer": said,
        "from_model_map": mine.answer,
        "model_map_reason": mine.reason,
        "from_true_map": best.answer,
        "true_map_reason": best.reason,
        "follows": same_answer(said, mine.answer, row) if has_both else math.nan,
        "drawn_suffices": suffices,
        "true_suffices": (
            same_answer(best.answer, row["ground_truth"], row) if known else math.nan
        ),
        "right": right,
        "right_if_drawn_suffices": right if suffices == 1 else math.nan,
        "right_if_drawn_fails": right if suffices == 0 else math.nan,
    }


def _failure(
    record: Mapping[str, Any], prediction: Prediction, row: Question, grid_size: int
) -> tuple[str, tuple[str, ...]]:
    """(label, missing categories)."""
    if record["right"]:
        return "right", ()
    if record["answer"] is None:
        return "extraction", ()
    drawn = read_completion(prediction["prediction"], grid_size=grid_size).map
    if drawn is None:
        return "no_map", ()
    names = objects_of(row)
    seen = {name: spots_of(drawn, name) for name in names}
    there = {name: spots_of(row.get("map") or {}, name) for name in names}
    wrong = tuple(
        name
        for name in names
        if not len(seen[name]) or len(there[name]) not in (0, len(seen[name]))
    )
    if row["question_type"] == "object_counting" and not record["drawn_suffices"]:
        wrong = tuple(names)
    if wrong:
        return "perception", wrong
    if record["drawn_suffices"] == 1:
        return "reasoning", ()
    misled = record["from_model_map"] is not None and record["true_suffices"] != 0
    if misled or _is_off(seen, there):
        return "localisation", ()
    return "undetermined", ()


def _is_off(
    seen: Mapping[str, npt.NDArray[np.float64]],
    there: Mapping[str, npt.NDArray[np.float64]],
) -> bool:
    """Whether a known object is not within 1.5 cells of its true cell."""
    known = {name: spots.tolist() for name, spots in there.items() if len(spots)}
    if not known:
        return False
    hit, total = hits({name: seen[name].tolist() for name in known}, known)
    return hit < total


def shares(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """The ``SHARES`` of a table of ``failures``, with 95% intervals over rooms.

    Returns
    -------
    pandas.DataFrame
        ``level`` (question_type or overall), ``name``, ``measure``, ``n`` (questions
        that count), ``value``, ``low``, ``high``; groups without any are left out.
    """
    parts = [("question_type", *part) for part in table.groupby("question_type")]
    records = []
    for level, name, part in [*parts, ("overall", "overall", table)]:
        for measure in SHARES:
            counted = part[part[measure].notna()]
            if not len(counted):
                continue
            rng = np.random.default_rng([seed, 37])
            value, low, high = bootstrap_interval(
                counted[measure], counted["space"], rng, bounds=(0, 1)
            )
            records.append(
                {
                    "level": level,
                    "name": name,
                    "measure": measure,
                    "n": len(counted),
                    "value": value,
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(records)
