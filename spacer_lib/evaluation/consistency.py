"""A geometric solver that answers from a map alone, and what failed in an answer.

An answer can follow from the drawn map or not, and the map can be right or wrong. The
solver tells the four cases apart. ``failures`` is the definition of perception,
localisation and reasoning failures.

Reads questions and predictions.

Source: SpaceR Appendix C.4 (do maps carry the answer?) and C.7 (failure cases). The
paper judges both by hand; the solver and the measures are ours.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from spacer_lib.benchmarks.rules import strict
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.bootstrap import bootstrap_interval
from spacer_lib.language.choices import labelled_options, plain_text, read_choice
from spacer_lib.language.numbers import read_number
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.scores import hits
from spacer_lib.maps.text import normal_category
from spacer_lib.questions.audit import SYNONYMS, named_categories
from spacer_lib.questions.generators import (
    DIRECTION_BORDERS_DEG,
    direction_answer,
    task_kind,
)
from spacer_lib.rewards.metrics import mean_relative_accuracy
from spacer_lib.rooms.geometry import turn_deg
from spacer_lib.rooms.scene import Scene, space_of
from spacer_lib.rows import Prediction, Question

Cells = Mapping[str, Sequence[Sequence[int]]]  # a map: category → (x_col, y_row) each
CellSize = npt.ArrayLike  # metres along x and y, or one number for both

# Reasons why no map, however good, answers a question.
BEYOND_MAPS = ("not_in_map", "no_scale", "unread_question")
_SAME = 1e-9  # two lengths or angles this close are equal: cells are whole numbers


class Solved(NamedTuple):
    """What follows from a map.

    Attributes
    ----------
    answer : str or None
        An option's letter, its words where there are no letters, or a number.
    reason : str or None
        Why there is no answer: one of ``BEYOND_MAPS``; ``no_map``; ``missing_object``
        (an object of the question is not in the map), ``several_cells`` (one that
        should be alone is not); ``same_cell``, ``on_border`` or ``tie`` (the grid is
        too coarse); ``not_an_option``.
    """

    answer: str | None
    reason: str | None = None


def answer_from_map(
    row: Question, cells: Cells | None, cell_size_m: CellSize | None = None
) -> Solved:
    """Answer a question from a map and nothing else.

    Counting counts the listed cells. Directions are bearings between cells, as the
    generator takes them between centroids. Relative distance is the option with the
    least distance between cells, and absolute distance that distance in metres. Both
    are distances between centres along the floor, where the questions ask for closest
    points in space.

    Parameters
    ----------
    row : Question
        One of ours or of VSI-Bench. Its objects are ``categories`` if it has them,
        else they are read from its words.
    cells : dict or None
        ``{category: [(x_col, y_row), …]}``.
    cell_size_m : float or (2,), optional
        Metres of a cell along x and y. Without it cells count as squares of unknown
        size: a map says no more.

    Returns
    -------
    Solved

    Examples
    --------
    >>> row = {"question_type": "object_rel_direction_easy", "options": None,
    ...        "question": "", "categories": ["bed", "lamp", "sofa"]}
    >>> answer_from_map(row, {"bed": [(5, 1)], "lamp": [(5, 8)], "sofa": [(2, 4)]})
    Solved(answer='left', reason=None)
    """
    task = task_kind(row["question_type"])
    if task not in _SOLVERS:
        return Solved(None, "not_in_map")
    if task == "object_abs_distance" and cell_size_m is None:
        return Solved(None, "no_scale")
    names = _objects(row)
    if not names:
        return Solved(None, "unread_question")
    if cells is None:
        return Solved(None, "no_map")
    spots = [_spots(cells, name) for name in names]
    if not all(len(found) for found in spots):
        return Solved(None, "missing_object")
    if cell_size_m is not None:
        spots = [found * np.asarray(cell_size_m, float) for found in spots]
    return _SOLVERS[task](row, names, spots)


def _objects(row: Question) -> Sequence[str]:
    return row.get("categories") or named_categories(row) or ()


_SPELLINGS = SYNONYMS | {meta: asked for asked, meta in SYNONYMS.items()}
_Spots = Sequence[npt.NDArray[np.float64]]  # (n, 2) places of each object


def _spots(cells: Cells, name: str) -> npt.NDArray[np.float64]:
    """(n, 2) cells of a category, under either of its names."""
    names = {normal_category(n) for n in (name, _SPELLINGS.get(name, name))}
    found = [spots for key, spots in cells.items() if normal_category(key) in names]
    return np.array([cell for spots in found for cell in spots], float).reshape(-1, 2)


def _count(row: Question, names: Sequence[str], spots: _Spots) -> Solved:
    return Solved(str(sum(map(len, spots))))


def _direction(row: Question, names: Sequence[str], spots: _Spots) -> Solved:
    places = _places(spots)
    if places is None:
        return Solved(None, "several_cells")
    if len(set(places)) < 3:
        return Solved(None, "same_cell")
    positioning, orienting, querying = places
    turn = turn_deg(positioning, orienting, querying)
    if "_backward_" in row["question_type"]:
        turn += -180 if turn > 0 else 180
    difficulty = row["question_type"].rsplit("_")[-1]
    borders = DIRECTION_BORDERS_DEG[difficulty]
    if min(abs(turn - border) for border in borders) < _SAME:
        return Solved(None, "on_border")
    return _chosen(row, direction_answer(turn, difficulty))


def _closest(row: Question, names: Sequence[str], spots: _Spots) -> Solved:
    target, *others = spots
    if _places([target]) is None:
        return Solved(None, "several_cells")
    lengths = [np.linalg.norm(found - target[0], axis=1).min() for found in others]
    ranked = np.sort(lengths)
    if row["question_type"].endswith("_farthest"):
        ranked, lengths = -ranked[::-1], [-length for length in lengths]
    if len(ranked) > 1 and ranked[1] - ranked[0] < _SAME:
        return Solved(None, "tie")
    return _chosen(row, names[1 + int(np.argmin(lengths))])


def _distance(row: Question, names: Sequence[str], spots: _Spots) -> Solved:
    places = _places(spots)
    if places is None:
        return Solved(None, "several_cells")
    first, second = places
    return Solved(f"{math.dist(first, second):.1f}")


def _places(spots: _Spots) -> list[tuple[float, ...]] | None:
    """The one cell of each object, or ``None`` if an object is in several."""
    places = [set(map(tuple, found.tolist())) for found in spots]
    return [min(p) for p in places] if max(map(len, places)) == 1 else None


_SOLVERS: dict[str, Callable[[Question, Sequence[str], _Spots], Solved]] = {
    "object_counting": _count,
    "object_rel_direction": _direction,
    "object_rel_distance": _closest,
    "object_abs_distance": _distance,
}


def _chosen(row: Question, words: str) -> Solved:
    """The letter of an option's words; the words themselves where there are none."""
    options = row.get("options")
    if not options:
        return Solved(words)
    for letter, text in labelled_options(options).items():
        if plain_text(text) == plain_text(words):
            return Solved(letter)
    return Solved(None, "not_an_option")


def cell_size_m(scene: Scene, grid_size: int = 10) -> npt.NDArray[np.float64]:
    """(2,) metres of a map's cell along x and y; the floor need not be square."""
    return np.subtract(scene.floor_max_m, scene.floor_min_m) / grid_size


# ---------------------------------------------------------------- one answer


def read_answer(prediction: Prediction, row: Question) -> str | None:
    """The answer that was read, as a letter, number or words; ``None`` if none was.

    Older files of predictions lack ``extracted``: their text is read by ``strict``.
    """
    if "extracted" not in prediction:
        return strict(prediction["prediction"], row).answer
    text, options = prediction["extracted"], row.get("options")
    return read_choice(text, options) if text is not None and options else text


def same_answer(answer: str | None, reference: str | None, row: Question) -> float:
    """1.0 if two answers to a question are the same, numbers within 5%; else 0.0."""
    if answer is None or reference is None:
        return 0.0
    if row["problem_type"] in ("numerical", "regression"):
        first, second = read_number(answer)[0], read_number(reference)[0]
        if first is None or second is None:
            return 0.0
        return float(mean_relative_accuracy(first, second) == 1)
    return float(plain_text(answer) == plain_text(reference))


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
    names = _objects(row)
    seen = {name: _spots(drawn, name) for name in names}
    there = {name: _spots(row.get("map") or {}, name) for name in names}
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
