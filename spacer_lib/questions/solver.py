"""A geometric solver that answers a question from a map alone.

Reads questions and maps, true or drawn. It compares a map with an answer without any
model: rewards ask it whether an answer follows from the drawn map, and evaluation which
of the two was wrong.

Source: SpaceR Appendix C.4 (do maps carry the answer?). The paper judges by hand; the
solver is ours.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spacer_lib.language.choices import labelled_options, plain_text
from spacer_lib.maps.text import normal_category
from spacer_lib.questions.audit import SYNONYMS, named_categories
from spacer_lib.questions.generators import (
    DIRECTION_BORDERS_DEG,
    direction_answer,
    task_kind,
)
from spacer_lib.rooms.geometry import turn_deg
from spacer_lib.rooms.scene import Scene
from spacer_lib.rows import Question

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
    names = objects_of(row)
    if not names:
        return Solved(None, "unread_question")
    if cells is None:
        return Solved(None, "no_map")
    spots = [spots_of(cells, name) for name in names]
    if not all(len(found) for found in spots):
        return Solved(None, "missing_object")
    if cell_size_m is not None:
        spots = [found * np.asarray(cell_size_m, float) for found in spots]
    return _SOLVERS[task](row, names, spots)


def objects_of(row: Question) -> Sequence[str]:
    """The categories that a question is about; none if its words are not read."""
    return row.get("categories") or named_categories(row) or ()


_SPELLINGS = SYNONYMS | {meta: asked for asked, meta in SYNONYMS.items()}
_Spots = Sequence[npt.NDArray[np.float64]]  # (n, 2) places of each object


def spots_of(cells: Cells, name: str) -> npt.NDArray[np.float64]:
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
