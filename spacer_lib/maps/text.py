"""Cognitive maps as text: written for a prompt, read from a completion."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from spacer_lib.maps.grid import Cell
from spacer_lib.rows import CognitiveMap

# Longest map that is read. A map of 300 objects has about 3,000 characters.
MAX_MAP_CHARS = 10_000
MAX_NESTING = 3  # {name: [[x, y], …]}


def map_to_text(cells: CognitiveMap, last: Iterable[str] = ()) -> str:
    """A map as compact JSON.

    Parameters
    ----------
    cells : dict
        ``{category: [(x_col, y_row), …]}``.
    last : sequence of str
        Categories to write at the end, in this order. The others come first, sorted.
        No score depends on the order.

    Examples
    --------
    >>> map_to_text({"lamp": [(6, 8)], "chair": [(2, 5), (4, 4)]})
    '{"chair":[[2,5],[4,4]],"lamp":[[6,8]]}'
    """
    ending = [name for name in dict.fromkeys(last) if name in cells]
    names = [name for name in sorted(cells) if name not in ending] + ending
    return json.dumps({name: cells[name] for name in names}, separators=(",", ":"))


@lru_cache(maxsize=4096)
def normal_category(name: str) -> str:
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
    """The map that a text contains, or why there is none.

    Attributes
    ----------
    map : dict or None
        ``{category: [(x_col, y_row), …]}``, normalised names, cells in [0, M - 1].
    failure : str or None
        ``map_too_long``, ``map_unreadable`` (not a dictionary of integer cells) or
        ``map_off_grid``.
    """

    map: dict[str, list[Cell]] | None
    failure: str | None = None


def parse_map(text: str, grid_size: int = 10) -> MapReading:
    """Read a drawn map: JSON, or the same as a Python literal.

    Names are normalised. Cells of equal names, and of repeated keys, are joined. A
    plain pair ``{'chair': [2, 3]}`` is one instance. If one cell is off the grid or is
    not a pair of integers, the whole map is refused. The text is never evaluated and
    never raises an error; the work is linear in at most ``MAX_MAP_CHARS`` characters.

    Parameters
    ----------
    text : str
        Content of ``<map> … </map>``.
    grid_size : int
        M.

    Returns
    -------
    MapReading
    """
    if len(text) > MAX_MAP_CHARS:
        return MapReading(None, "map_too_long")
    content = _read_pairs(text)
    if content is None:
        return MapReading(None, "map_unreadable")
    cells: dict[str, list[Cell]] = {}
    for name, value in content:
        spots = _cells(value)
        if spots is None:
            return MapReading(None, "map_unreadable")
        cells.setdefault(normal_category(name), []).extend(spots)
    if any(not 0 <= v < grid_size for s in cells.values() for xy in s for v in xy):
        return MapReading(None, "map_off_grid")
    return MapReading(cells)


def _read_pairs(text: str) -> list[tuple[str, Any]] | None:
    """[(name, value), …] of the outermost dictionary, or ``None``."""
    if not brackets_match(text):
        return None
    for form in (str, _python_to_json):
        candidate = form(text)
        try:
            # As pairs, so that repeated keys are kept. A nested dictionary becomes a
            # list of pairs too, which `_cells` refuses.
            content = json.loads(
                candidate, object_pairs_hook=_Pairs, parse_int=_bounded_int
            )
        except ValueError:
            continue
        return content if isinstance(content, _Pairs) else None
    return None


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its (name, value) pairs."""


def _bounded_int(digits: str) -> int:
    # Python refuses integers of thousands of digits. All of these are off the grid.
    return int(digits) if len(digits) <= 9 else 10**9


_OPENS = {"}": "{", "]": "[", ")": "("}


def brackets_match(text: str) -> bool:
    """Whether brackets match, at most ``MAX_NESTING`` deep (parsers recurse)."""
    stack: list[str] = []
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


def _python_to_json(text: str) -> str:
    """Python's quotes, tuples and trailing commas as JSON; "" for other syntax."""
    parts: list[str] = []
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return ""
        position = token.end()
        kind = token.lastgroup or ""
        value = token[kind]
        if kind == "mark":
            value = {"(": "[", ")": "]"}.get(value, value)
            if value in "]}" and parts[-1:] == [","] and parts[-2] not in "[{,":
                parts.pop()
        elif kind != "integer":
            value = json.dumps(value)
        parts.append(value)
    return " ".join(parts)  # spaces keep two numbers apart


def _cells(value: Any) -> list[Cell] | None:
    """A value of the dictionary as a list of integer pairs, or ``None``."""
    if _is_cell(value):
        value = [value]
    if type(value) is not list or not all(_is_cell(cell) for cell in value):
        return None
    return [(x, y) for x, y in value]


def _is_cell(value: Any) -> bool:
    return type(value) is list and [type(v) for v in value] == [int, int]
