"""What a map says by itself: a geometric solver, and the model's answers beside it.

An answer can follow from the drawn map or not, and the map can be right or wrong. The
solver tells the four cases apart, and the kinds of failure of SpaceR's Figure 8.

Source: SpaceR Appendix C.4 (do maps carry the answer?) and C.7 (failure cases); both
are looked at by hand there, the solver and the measures are ours.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from spacer_lib.benchmarks.rules import strict
from spacer_lib.errors import SpacerError
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
from spacer_lib.rewards.metrics import bootstrap_interval, mean_relative_accuracy
from spacer_lib.rooms.geometry import turn_deg
from spacer_lib.rooms.scene import space_of

# What no map of this kind can tell, however good it is.
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


def answer_from_map(row, cells, cell_size_m=None):
    """Answer a question from a map and nothing else.

    Counting counts the cells listed. Directions are bearings between cells, as the
    generator takes them between centroids. Relative distance is the option with the
    least distance between cells, and absolute distance that distance in metres: both
    between centres and along the floor, where the questions mean closest points in
    space.

    Parameters
    ----------
    row : dict
        A question of ours or of VSI-Bench; its objects are ``categories`` if it has
        them, else they are read from its words.
    cells : dict or None
        ``{category: [(x_col, y_row), …]}``.
    cell_size_m : float or (2,), optional
        Metres of a cell along x and y. Without it cells count as squares of unknown
        size, which is all that a map says of itself.

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


def _objects(row):
    return row.get("categories") or named_categories(row) or ()


_SPELLINGS = SYNONYMS | {meta: asked for asked, meta in SYNONYMS.items()}


def _spots(cells, name):
    """(n, 2) cells of a category, under either of its names."""
    names = {normal_category(n) for n in (name, _SPELLINGS.get(name, name))}
    found = [spots for key, spots in cells.items() if normal_category(key) in names]
    return np.array([cell for spots in found for cell in spots], float).reshape(-1, 2)


def _count(row, names, spots):
    return Solved(str(len(spots[0])))


def _direction(row, names, spots):
    places = _places(spots)
    if places is None:
        return Solved(None, "several_cells")
    if len(set(places)) < 3:
        return Solved(None, "same_cell")
    turn = turn_deg(*places)  # positioning, orienting, querying object
    difficulty = row["question_type"].rsplit("_")[-1]
    borders = DIRECTION_BORDERS_DEG[difficulty]
    if min(abs(turn - border) for border in borders) < _SAME:
        return Solved(None, "on_border")
    return _chosen(row, direction_answer(turn, difficulty))


def _closest(row, names, spots):
    target, *others = spots
    if _places([target]) is None:
        return Solved(None, "several_cells")
    lengths = [np.linalg.norm(found - target[0], axis=1).min() for found in others]
    ranked = np.sort(lengths)
    if len(ranked) > 1 and ranked[1] - ranked[0] < _SAME:
        return Solved(None, "tie")
    return _chosen(row, names[1 + int(np.argmin(lengths))])


def _distance(row, names, spots):
    places = _places(spots)
    if places is None:
        return Solved(None, "several_cells")
    return Solved(f"{math.dist(*places):.1f}")


def _places(spots):
    """The one cell of each object, or ``None`` if an object is in several."""
    places = [set(map(tuple, found.tolist())) for found in spots]
    return [min(p) for p in places] if max(map(len, places)) == 1 else None


_SOLVERS = {
    "object_counting": _count,
    "object_rel_direction": _direction,
    "object_rel_distance": _closest,
    "object_abs_distance": _distance,
}


def _chosen(row, words):
    """The letter of an option's words; the words themselves where there are none."""
    if not row.get("options"):
        return Solved(words)
    for letter, text in labelled_options(row["options"]).items():
        if plain_text(text) == plain_text(words):
            return Solved(letter)
    return Solved(None, "not_an_option")


def cell_size_m(scene, grid_size=10):
    """(2,) metres of a map's cell along x and y; the floor need not be square."""
    return np.subtract(scene.floor_max_m, scene.floor_min_m) / grid_size


# ---------------------------------------------------------------- model beside map

SHARES = {
    "follows": "the answer follows from the drawn map",
    "drawn_suffices": "the drawn map gives the right answer",
    "true_suffices": "the true map gives the right answer",
    "right": "the model is right",
    "right_if_drawn_suffices": "it is right where the drawn map is",
    "right_if_drawn_fails": "it is right where the drawn map is not",
}


def consistency(predictions, rows, *, grid_size=10, cell_sizes=None):
    """Each answer beside what its own map and the true map say.

    Parameters
    ----------
    predictions : list of dict
        Of ``predictions.record``, ``predictions.predict`` or ``runner.evaluate``.
    rows : list of dict
        Their questions, in any order; ``map`` is the true one, where known.
    grid_size : int
        Of the drawn maps.
    cell_sizes : dict, optional
        ``{row id: cell size in metres}``; see ``answer_from_map``.

    Returns
    -------
    pandas.DataFrame
        One row per prediction: ``id``, ``space``, ``question_type``, ``truth``,
        ``answer`` (the model's, as read), ``from_model_map`` and ``from_true_map``
        with ``model_map_reason`` and ``true_map_reason``, and the ``SHARES`` as 1, 0
        or NaN where a question has no say:

        - ``follows``: where an answer was read and the drawn map has one;
        - ``drawn_suffices``: where maps can tell (not ``BEYOND_MAPS``); a map that
          cannot be read, lacks an object or ties does not suffice;
        - ``true_suffices``: the same of the true map, where there is one.

        Right means exactly right; numbers agree within 5% (the strictest of mean
        relative accuracy's thresholds).

    Raises
    ------
    SpacerError
        If a prediction has no question.
    """
    sizes = cell_sizes or {}
    return pd.DataFrame(
        [
            _compared(prediction, row, grid_size, sizes.get(row["id"]))
            for prediction, row in _paired(predictions, rows)
        ]
    )


def _compared(prediction, row, grid_size, size):
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
        "space": space_of(row["scene_name"]),
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


def _paired(predictions, rows):
    by_id = {row["id"]: row for row in rows}
    absent = [p["id"] for p in predictions if p["id"] not in by_id]
    if absent:
        raise SpacerError(
            "predictions without a question",
            got=f"{len(absent)}, first {absent[0]}",
            expected="rows with the same ids",
        )
    return [(p, by_id[p["id"]]) for p in predictions]


def read_answer(prediction, row):
    """The answer as a letter, number or words, or ``None`` if none was read.

    What a rule has ``extracted`` counts where the record has it, else our own rule.
    """
    if "extracted" in prediction:
        text = prediction["extracted"]
    else:
        text = strict(prediction["prediction"], row).answer
    if text is None or not row.get("options"):
        return text
    return read_choice(text, row["options"])


def same_answer(answer, reference, row):
    """1.0 if two answers to a question are the same, numbers within 5%; else 0.0."""
    if answer is None or reference is None:
        return 0.0
    if row["problem_type"] in ("numerical", "regression"):
        first, second = read_number(answer)[0], read_number(reference)[0]
        if first is None or second is None:
            return 0.0
        return float(mean_relative_accuracy(first, second) == 1)
    return float(plain_text(answer) == plain_text(reference))


def shares(table, *, seed=0):
    """The ``SHARES`` of a ``consistency`` table, with 95% intervals over rooms.

    Returns
    -------
    pandas.DataFrame
        ``level`` (question_type or overall), ``name``, ``measure``, ``n`` (questions
        that have a say), ``value``, ``low``, ``high``; groups without any are left
        out.
    """
    parts = [("question_type", *part) for part in table.groupby("question_type")]
    records = []
    for level, name, part in [*parts, ("overall", "overall", table)]:
        for measure in SHARES:
            counted = part[part[measure].notna()]
            if not len(counted):
                continue
            value, low, high = bootstrap_interval(
                counted[measure], counted["space"], np.random.default_rng([seed, 37])
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


# ---------------------------------------------------------------- kinds of failure

FAILURES = {
    "right": "exactly right",
    "extraction": "no answer could be read",
    "no_map": "wrong, and no map could be read",
    "perception": "an object of the question is missing, or their number is wrong",
    "localisation": "all are drawn, but in the wrong places",
    "reasoning": "the drawn map gives the right answer, the model another",
    "undetermined": "objects are near their places, and no map fixes the answer",
}


def failures(predictions, rows, *, grid_size=10, cell_sizes=None):
    """What went wrong, question by question.

    The first of ``FAILURES`` that holds, in this order. Places are wrong where an
    object of the question is not within 1.5 cells of where it is, or the drawn map
    gives a wrong answer that the true map does not. Without a true map only the number
    asked for by a counting question can be compared.

    Parameters
    ----------
    see ``consistency``

    Returns
    -------
    pandas.DataFrame
        A ``consistency`` table with ``label`` and ``missing`` (categories).
    """
    records, sizes = [], cell_sizes or {}
    for prediction, row in _paired(predictions, rows):
        record = _compared(prediction, row, grid_size, sizes.get(row["id"]))
        label, missing = _failure(record, prediction, row, grid_size)
        records.append({**record, "label": label, "missing": missing})
    return pd.DataFrame(records)


def _failure(record, prediction, row, grid_size):
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


def _is_off(seen, there):
    known = {name: spots.tolist() for name, spots in there.items() if len(spots)}
    if not known:
        return False
    hit, total = hits({name: seen[name].tolist() for name in known}, known)
    return hit < total
