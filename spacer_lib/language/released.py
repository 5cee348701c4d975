"""How SpaceR's released code reads answers and maps, to compare with.

Both readings guess more than ours: "12 chairs and a lamp" is 1, and a map is read from
any text in which names of objects and pairs of numbers follow each other.

Source: https://github.com/OuyangKun10/SpaceR, training rewards and SpaceR-Eval.
"""

import ast
import re
from collections.abc import Iterable
from typing import Any

from spacer_lib.maps.grid import Cell
from spacer_lib.maps.text import MAX_MAP_CHARS

# In the order in which the code looks for them, wherever they stand in the text.
_WORDS = {
    **{
        word: number
        for number, word in enumerate(
            "one two three four five six seven eight nine ten eleven twelve thirteen "
            "fourteen fifteen sixteen seventeen eighteen nineteen twenty".split(),
            start=1,
        )
    },
    **{
        word: number
        for number, word in zip(
            range(30, 100, 10),
            "thirty forty fifty sixty seventy eighty ninety".split(),
            strict=True,
        )
    },
    "zero": 0,
    "a": 1,
    "an": 1,
}
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SIGNED = re.compile(r"-?\d+(?:\.\d+)?")


def first_number(text: str) -> tuple[float, str] | None:
    """The number that the code reads in a text, and how; ``None`` without any.

    Returns
    -------
    value : float
    how : str
        ``number_word``: the first entry of the code's list of words that occurs.
        ``first_number``: without such a word, the first digits.

    Examples
    --------
    >>> first_number("12 chairs and a lamp"), first_number("3 or 4"), first_number("no")
    ((1.0, 'number_word'), (3.0, 'first_number'), None)
    """
    said = text.strip().lower()
    words = set(re.findall(r"\w+", said))
    spoken = next((word for word in _WORDS if word in words), None)
    if spoken:
        return float(_WORDS[spoken]), "number_word"
    digits = _NUMBER.search(said)
    return (float(digits[0]), "first_number") if digits else None


# ---------------------------------------------------------------- maps


def read_map(text: str, names: Iterable[str]) -> dict[str, list[Cell]]:
    """The cells that the code finds for each of the room's categories.

    A Python dictionary is read as one. In any other text, the numbers after a name, up
    to the next name, are taken in pairs. Cells may be off the grid; fractions are cut
    off. Categories that are not in ``names`` are left out.

    Parameters
    ----------
    text : str
        Content of ``<map> … </map>``. Of a text longer than ``MAX_MAP_CHARS`` nothing
        is read, which the code does not limit.
    names : iterable of str
        The categories of the true map.

    Examples
    --------
    >>> read_map("{'Chair': [[2, 5.9]], 'tv': [[0, 0]]}", ["chair"])
    {'chair': [(2, 5)]}
    >>> read_map("a chair at (2, 5), then a lamp: 3 3 4 4", ["chair", "lamp"])
    {'chair': [(2, 5)], 'lamp': [(3, 3), (4, 4)]}
    """
    known = {name.lower() for name in names if name}
    text = text.strip()
    if not known or len(text) > MAX_MAP_CHARS:
        return {}
    literal = text
    if text.startswith("str{") and text.endswith("}"):
        inner = text[4:-1].strip()
        literal = inner if inner.startswith("{") and inner.endswith("}") else text
    if literal.startswith("{") and literal.endswith("}"):
        try:
            content = ast.literal_eval(literal)  # literals alone; nothing is run
            if isinstance(content, dict):
                return _bounded(_from_dictionary(content, known))
        except (
            ValueError,
            SyntaxError,
            TypeError,
            MemoryError,
            RecursionError,
            OverflowError,  # an infinite coordinate
        ):
            pass
    try:
        return _bounded(_from_text(text, known))
    except OverflowError:
        return {}


_FAR, _TOO_FAR = 10**6, 10**154


def _bounded(cells: dict[str, list[Cell]]) -> dict[str, list[Cell]]:
    """Cells that fit into arrays: a far one is worth 0 wherever it is.

    The code fails on cells whose squared distance is no float, and pays nothing.
    """
    if any(abs(v) > _TOO_FAR for spots in cells.values() for xy in spots for v in xy):
        return {}
    return {
        name: [(min(max(x, -_FAR), _FAR), min(max(y, -_FAR), _FAR)) for x, y in spots]
        for name, spots in cells.items()
    }


_KEY = re.compile(r"[^\w\s]*([\w\s]+)[^\w\s]*")


def _from_dictionary(content: dict[Any, Any], known: set[str]) -> dict[str, list[Cell]]:
    cells: dict[str, list[Cell]] = {}
    for key, value in content.items():
        name = str(key).lower().strip()
        # ``$`` of the code also stands before a final line end, which strip removed.
        bare = _KEY.fullmatch(name)
        name = bare[1].strip() if bare else name
        spots = value if isinstance(value, list) else [value]
        found = [cell for spot in spots if (cell := _cell(spot)) is not None]
        if name in known and found:
            cells.setdefault(name, []).extend(found)
    return cells


def _cell(spot: Any) -> Cell | None:
    """A pair of numbers, in whatever form it is written."""
    if isinstance(spot, str):
        spot = _SIGNED.findall(spot)[:2]
    if not isinstance(spot, (list, tuple)):
        return None
    if len(spot) == 1 and isinstance(spot[0], (list, tuple)):
        spot = spot[0]
    if len(spot) != 2:
        return None
    numbers = [_number(part) for part in spot]
    if None in numbers:
        return None
    try:
        x, y = (int(number) for number in numbers if number is not None)
    except ValueError:  # not a number
        return None
    return x, y


_COORDINATE = re.compile(r"[<\[(]*(-?\d+(?:\.\d+)?)[>\])]*")


def _number(part: Any) -> float | None:
    if isinstance(part, (int, float)):
        return part
    if not isinstance(part, str):
        return None
    bare = _COORDINATE.fullmatch(part.strip())
    try:
        return float(bare[1] if bare else part.strip())
    except ValueError:
        return None


def _from_text(text: str, known: set[str]) -> dict[str, list[Cell]]:
    places: list[tuple[int, int, str]] = []  # start, end, name; none overlap
    found = [
        (match.start(), match.end(), name)
        for name in known
        for match in re.finditer(
            rf"(?<![a-zA-Z]){re.escape(name)}(?![a-zA-Z])", text, re.IGNORECASE
        )
    ]
    for start, end, name in sorted(found, key=lambda place: (place[0], -place[1])):
        if not places or start >= places[-1][1]:
            places.append((start, end, name))
        elif end > places[-1][1]:
            places[-1] = (start, end, name)
    cells: dict[str, list[Cell]] = {}
    if not places:
        return cells
    ends = [start for start, _, _ in places[1:]] + [len(text)]
    for (_, start, name), end in zip(places, ends, strict=True):
        numbers = _SIGNED.findall(text[start:end])
        pairs = zip(numbers[::2], numbers[1::2], strict=False)
        spots = [(int(float(x)), int(float(y))) for x, y in pairs]
        if spots:
            cells.setdefault(name, []).extend(spots)
    return cells
