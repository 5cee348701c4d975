"""Cognitive maps: a room as ``{category: [(x_col, y_row), …]}`` on an M x M grid.

Axes, said once: the floor rectangle of the aligned scene is cut into M x M equal
cells; ``x_col`` grows with aligned +x and ``y_row`` with aligned +y, both from 0 to
M - 1. Cell (0, 0) holds the floor's smallest x and y.

Source: SpaceR §4.2, Eq. 4. Departures: the matching and two further scorers.
"""

import json
import re
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from spacer_lib.errors import SpacerError

# Longest map that is read. A map of 300 objects takes about 3,000 characters.
MAX_MAP_CHARS = 10_000
MAX_NESTING = 3  # {name: [[x, y], …]}
DECAY_CELLS = 1.5


def rasterize(scene, grid_size=10):
    """The true map of a scene: the cell of each instance's centroid.

    Parameters
    ----------
    scene : Scene
    grid_size : int
        M, cells per side.

    Returns
    -------
    dict
        ``{category: [(x_col, y_row), …]}`` of int; categories in the order of their
        first instance, without structural ones; the cells of a category sorted.
        Centroids outside the floor rectangle fall into its nearest cell.
    """
    low = np.array(scene.floor_min_m)
    span = np.array(scene.floor_max_m) - low
    cells = {}
    for category, instances in scene.by_category().items():
        centers = np.array([i.centroid_m[:2] for i in instances])  # (n, 2) metres
        spots = np.floor((centers - low) / span * grid_size)
        spots = np.clip(spots, 0, grid_size - 1).astype(int)
        cells[category] = sorted((x, y) for x, y in spots.tolist())
    return cells


def map_to_text(cells, last=()):
    """A map as compact JSON.

    Parameters
    ----------
    cells : dict
        ``{category: [(x_col, y_row), …]}``.
    last : sequence of str
        Categories to write at the end, in this order; the others come first, sorted.
        JSON's order is free and no score sees it.

    Examples
    --------
    >>> map_to_text({"lamp": [(6, 8)], "chair": [(2, 5), (4, 4)]})
    '{"chair":[[2,5],[4,4]],"lamp":[[6,8]]}'
    """
    ending = [name for name in dict.fromkeys(last) if name in cells]
    names = [name for name in sorted(cells) if name not in ending] + ending
    return json.dumps({name: cells[name] for name in names}, separators=(",", ":"))


def normal_category(name):
    """One spelling per category: lower case, single spaces, last word singular.

    Examples
    --------
    >>> [normal_category(n) for n in ("Chairs", "trash_bins", "chair(s)", "glass")]
    ['chair', 'trash bin', 'chair', 'glass']
    >>> [normal_category(n) for n in ("bookshelves", "boxes", "couches")]
    ['bookshelf', 'box', 'couch']
    """
    name = " ".join(name.lower().replace("_", " ").split()).removesuffix("(s)")
    if name.endswith("shelves"):
        return name[:-3] + "f"
    if name.endswith(("ches", "shes", "sses", "xes")):
        return name[:-2]
    if name.endswith("s") and not name.endswith(("ss", "us", "is")):
        return name[:-1]
    return name


@dataclass(frozen=True)
class MapReading:
    """What a text says as a map: the map, or the name of why there is none.

    Attributes
    ----------
    map : dict or None
        ``{category: [(x_col, y_row), …]}``, normalised names, cells in [0, M - 1].
    failure : str or None
        ``map_too_long``, ``map_unreadable`` (not a dictionary of integer cells) or
        ``map_off_grid``.
    """

    map: dict | None
    failure: str | None = None


def parse_map(text, grid_size=10):
    """Read a model's map: strict JSON, else Python's spelling of the same.

    Names are normalised; cells of names that become equal are joined, repeated keys
    too. A flat pair ``{'chair': [2, 3]}`` is one instance. One cell off the grid, or
    one that is not a pair of integers, spoils the whole map. Nothing is evaluated, no
    text raises, and the work is linear in at most ``MAX_MAP_CHARS`` characters.

    Returns
    -------
    MapReading
    """
    if len(text) > MAX_MAP_CHARS:
        return MapReading(None, "map_too_long")
    content = _read_pairs(text)
    if content is None:
        return MapReading(None, "map_unreadable")
    cells = {}
    for name, value in content:
        spots = _cells(value)
        if spots is None:
            return MapReading(None, "map_unreadable")
        cells.setdefault(normal_category(name), []).extend(spots)
    if any(not 0 <= v < grid_size for s in cells.values() for xy in s for v in xy):
        return MapReading(None, "map_off_grid")
    return MapReading(cells)


def _read_pairs(text):
    """[(name, value), …] of the outermost dictionary, or ``None``."""
    if not _brackets_match(text):
        return None
    for candidate in (text, _python_to_json(text)):
        try:
            # As pairs, so that a repeated key is not lost; a list of pairs inside
            # (a nested dictionary) fails the test for cells.
            content = json.loads(
                candidate, object_pairs_hook=_Pairs, parse_int=_bounded_int
            )
        except ValueError:
            continue
        return content if isinstance(content, _Pairs) else None
    return None


class _Pairs(list):
    """A JSON object as its (name, value) pairs."""


def _bounded_int(digits):
    # Python refuses integers of thousands of digits; any of these is off the grid.
    return int(digits) if len(digits) <= 9 else 10**9


_OPENS = {"}": "{", "]": "[", ")": "("}


def _brackets_match(text):
    """Whether brackets pair up, at most ``MAX_NESTING`` deep (parsers recurse)."""
    stack = []
    for bracket in re.findall(r"[][{}()]", text):
        if bracket not in _OPENS:
            stack.append(bracket)
            if len(stack) > MAX_NESTING:
                return False
        elif not stack or stack.pop() != _OPENS[bracket]:
            return False
    return not stack


_TOKEN = re.compile(
    r"""\s*(?: '(?P<single>[^'"\\\n]*)' | "(?P<double>[^'"\\\n]*)"
      | (?P<integer>-?[0-9]+) | (?P<mark>[][{}():,]) )\s*""",
    re.VERBOSE,
)


def _python_to_json(text):
    """Python's quotes, tuples and trailing commas respelt; "" if there is more."""
    parts, position = [], 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return ""
        position = token.end()
        kind, value = token.lastgroup, token[token.lastgroup]
        if kind == "mark":
            value = {"(": "[", ")": "]"}.get(value, value)
            if value in "]}" and parts[-1:] == [","] and parts[-2] not in "[{,":
                parts.pop()
        elif kind != "integer":
            value = json.dumps(value)
        parts.append(value)
    return " ".join(parts)  # two numbers side by side must not become one


def _cells(value):
    """A value of the dictionary → list of integer pairs, or ``None``."""
    if _is_cell(value):
        value = [value]
    if type(value) is not list or not all(_is_cell(cell) for cell in value):
        return None
    return [tuple(cell) for cell in value]


def _is_cell(value):
    return type(value) is list and [type(v) for v in value] == [int, int]


SCORERS = ("released", "paper", "decay")


def score(predicted, true, grid_size=10, *, scorer="released"):
    """How well a map agrees with the true one, in [0, 1].

    Per category, predicted and true cells are paired one to one; a pair at distance d
    is worth w(d); their sum is divided by a number of cells; categories are averaged
    with weights = number of true instances. A category that is missing counts 0, one
    that is not in the room is ignored.

    ========  =====================  =========================  ======================
    scorer    w(d)                   pairing                    divided by
    ========  =====================  =========================  ======================
    released  max(0, 1 - d / (M√2))  greedy, closest first      max(#predicted, #true)
    paper     max(0, 1 - d / (M√2))  greatest sum (Hungarian)   #true
    decay     exp(-d / 1.5 cells)    greatest sum (Hungarian)   max(#predicted, #true)
    ========  =====================  =========================  ======================

    ``released`` and ``paper`` are nearly flat (everything at the centre earns about
    0.7) and ``paper``, as printed, has no price on surplus cells.

    Parameters
    ----------
    predicted, true : dict
        ``{category: [(x_col, y_row), …]}``; names are compared normalised.
    grid_size : int
        M.
    scorer : str
        One of ``SCORERS``.

    Raises
    ------
    SpacerError
        For an unknown scorer, or a true map without instances.

    Source: SpaceR Eq. 4 (``paper``); its released reward (``released``); ``decay`` is
    ours: steep near the truth, where the others hardly change.
    """
    if scorer not in SCORERS:
        raise SpacerError("map scorer", got=scorer, expected=", ".join(SCORERS))
    predicted, true = _joined(predicted), _joined(true)
    count = _require_instances(true)
    total = 0.0
    for category, spots in true.items():
        drawn = predicted.get(category, [])
        if not drawn or not spots:
            continue
        distance = _distances(drawn, spots)
        if scorer == "decay":
            worth = np.exp(-distance / DECAY_CELLS)
        else:
            worth = np.maximum(0.0, 1 - distance / (grid_size * np.sqrt(2)))
        if scorer == "released":
            earned = _greedy_sum(distance, worth)
        else:
            earned = worth[linear_sum_assignment(worth, maximize=True)].sum()
        size = len(spots) if scorer == "paper" else max(len(drawn), len(spots))
        total += len(spots) * earned / size
    return float(np.clip(total / count, 0.0, 1.0))


def hits(predicted, true, radius_cells=1.5):
    """Map accuracy as a fraction: instances found, instances there.

    A true instance is found if it can be paired with a predicted cell of its category
    within ``radius_cells``; each cell serves one instance, and the pairing is the one
    that finds most. Surplus cells cost nothing here: read it beside a map score.

    Returns
    -------
    hit, total : int
        True instances found, true instances.

    Raises
    ------
    SpacerError
        If the true map has no instances.
    """
    predicted, true = _joined(predicted), _joined(true)
    hit = 0
    for category, spots in true.items():
        drawn = predicted.get(category, [])
        if drawn and spots:
            near = _distances(drawn, spots) <= radius_cells
            hit += int(near[linear_sum_assignment(near, maximize=True)].sum())
    return hit, _require_instances(true)


def _joined(cells):
    """The map with normalised names and sorted cells: order never decides a tie."""
    joined = {}
    for name, spots in cells.items():
        joined.setdefault(normal_category(name), []).extend(map(tuple, spots))
    return {name: sorted(spots) for name, spots in joined.items()}


def _require_instances(true):
    count = sum(len(spots) for spots in true.values())
    if not count:
        raise SpacerError(
            "true map", got="no instances", expected="at least one",
            remedy="treat rooms without objects as having no map",
        )  # fmt: skip
    return count


def _distances(drawn, spots):
    """(n, k) distances in cells between (n, 2) predicted and (k, 2) true cells."""
    offset = np.array(drawn, float)[:, None] - np.array(spots, float)[None]
    return np.hypot(offset[..., 0], offset[..., 1])


def _greedy_sum(distance, worth):
    """Sum of ``worth`` over pairs taken closest first, each row and column once."""
    rows, columns = np.unravel_index(
        np.argsort(distance, axis=None, kind="stable"), distance.shape
    )
    used_rows, used_columns, total = set(), set(), 0.0
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            total += worth[row, column]
            if min(distance.shape) == len(used_rows):
                break
    return total
