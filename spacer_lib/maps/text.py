"""Cognitive maps as text: written for a prompt, read from a completion."""

import json
import re
from dataclasses import dataclass
from functools import lru_cache

# Longest map that is read. A map of 300 objects takes about 3,000 characters.
MAX_MAP_CHARS = 10_000
MAX_NESTING = 3  # {name: [[x, y], …]}


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


@lru_cache(maxsize=4096)
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
    for respelt in (str, _python_to_json):
        candidate = respelt(text)
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
