"""Relations that a thought states outside its map, each checked against the truth.

Read are these forms, in any case; A, B and C are categories of the true map, with or
without an article and a plural s:

========  ========================================================================
side      A is [just] [to the] left (right, west, east, north, south) of B;
          A is above (below) B
nearer    A is closer (nearer, farther, further) to B than to C; … to B than C is
length    A is 2.5 metres (cells) [away] from B; the distance between A and B is 4 cells
count     there are 3 A; I see (count) 3 A; ``A=3`` in a counting question
offset    ``A+4-2``: columns and rows from the question's first object to A, also
          after A's cell (``A75+4-2``). A length after it (``=22``: fifths of a cell)
          is a relation too.
========  ========================================================================

The last two are how the tiny model's workings write (``tiny.thoughts``). Every other
sentence is left alone. West is left and smaller columns, south is below and smaller
rows, in the frame of the drawn map where the scorer allows any frame, else in the
aligned one.

A side or a comparison must hold of the true cells. An offset is right within 1.5 cells
(a hit), a length within 1 cell or 25% of the metres, a count if it is the number. That
there is one of a kind is a good guess (most categories are single): it can be wrong,
but it is never right.
A category in several cells has no side and no length; it is nearest where it comes
nearest.

    score = max(0, right - wrong) / max(stated, 4)

It is 0 to 1. A statement counts once, however often and from whichever side it is made;
one made in two different ways is wrong; one about an object and itself, or about an
object that is not in the room, does not count. So nothing is gained by repeating, by
trivial statements, or by stating everything. The best blind guess of each form is
right at most every other time in our rooms; four independent ones earn 0.19 on average,
more of them less.

The first ``MAX_THOUGHT_CHARS`` characters are read, in linear time. No text raises.

Source: ours, after https://arxiv.org/abs/2606.02459 (statements about a map as a dense
reward).
"""

import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from spacer_lib.maps.boxes import box_gap_m
from spacer_lib.maps.grid import Cell, turned
from spacer_lib.maps.text import normal_category
from spacer_lib.questions.generators import task_kind
from spacer_lib.questions.solver import objects_of
from spacer_lib.rows import Boxes, CognitiveMap, Question

MAX_THOUGHT_CHARS = 10_000  # of a thought without its map
ENOUGH = 4  # statements for a whole score
NEAR_CELLS = 1.5  # of an offset: the radius of a hit
LENGTH_CELLS = 1.0  # of a length
NEAR_SHARE = 0.25  # of a length in metres


class Statement(NamedTuple):
    """One relation, in a form that equal statements share.

    Attributes
    ----------
    kind : str
        ``side``, ``nearer``, ``length``, ``metres``, ``count`` or ``offset``.
    about : tuple of str
        Categories, and for ``side`` the axis. Of a pair, the first in the alphabet
        comes first where the relation has no direction of its own.
    said : tuple of float
        The sign along the axis; 1 or -1 for nearer or farther; a number; two numbers.
    """

    kind: str
    about: tuple[str, ...]
    said: tuple[float, ...]


@dataclass(frozen=True)
class Checked:
    """What a thought states, and how much of it is right.

    Attributes
    ----------
    right, wrong : tuple of Statement
        A statement that is made in two ways is among the wrong ones once.
    """

    right: tuple[Statement, ...]
    wrong: tuple[Statement, ...]

    @property
    def score(self) -> float:
        """In [0, 1]; see the module."""
        stated = len(self.right) + len(self.wrong)
        return max(0, len(self.right) - len(self.wrong)) / max(stated, ENOUGH)

    @property
    def reason(self) -> str:
        """Such as ``3 right, 1 wrong``."""
        return f"{len(self.right)} right, {len(self.wrong)} wrong"


def check_thought(
    thought: str,
    row: Question,
    cells: CognitiveMap,
    boxes: Boxes | None = None,
    *,
    quarters: int = 0,
    grid_size: int = 10,
) -> Checked:
    """Read the statements of a thought and check each.

    Parameters
    ----------
    thought : str
        Without its map.
    row : Question
        ``question_type`` and ``categories`` (else the question's words) tell what an
        offset starts from; both may be absent.
    cells : dict
        The true map, ``{category: [(x_col, y_row), …]}``.
    boxes : dict, optional
        The true boxes (``maps.boxes``); without them metres are not checked.
    quarters : int
        Quarter turns that bring the true map into the frame of the thought.
    grid_size : int
        M.

    Examples
    --------
    >>> cells = {"chair": [(2, 5)], "lamp": [(6, 8)], "bed": [(7, 0)]}
    >>> row = {"question_type": "object_counting", "categories": ["chair"]}
    >>> said = "The chair is left of the lamp. The lamp is to the right of the chair. "
    >>> check_thought(said + "The bed is above the lamp.", row, cells).reason
    '1 right, 1 wrong'
    """
    there = _joined(turned(cells, quarters, grid_size))
    sizes = _joined(boxes or {})
    ways: dict[tuple[str, tuple[str, ...]], set[Statement]] = {}
    for statement in read_statements(thought, row, cells):
        ways.setdefault((statement.kind, statement.about), set()).add(statement)
    right: list[Statement] = []
    wrong: list[Statement] = []
    for said in ways.values():
        verdicts = {_holds(one, there, sizes) for one in said}
        if None in verdicts:
            continue  # the truth does not tell
        first = min(said)
        (right if verdicts == {True} and len(said) == 1 else wrong).append(first)
    return Checked(tuple(right), tuple(wrong))


# ---------------------------------------------------------------- reading

# A category stands in the text as its number between these two characters.
_OPEN, _CLOSE = "\x02", "\x03"
_MARKS = str.maketrans("", "", _OPEN + _CLOSE)
_NAME = rf"{_OPEN}([0-9]+){_CLOSE}"
_A = rf"(?:(?:the|a|an|this|that) )?{_NAME}"
_IS = "(?:is|are|stands|sits|lies)"
_ABOUT = "(?:about |around |roughly |exactly )?"
_NUMBER = r"([0-9]{1,4}(?:\.[0-9]{1,4})?)"
_UNIT = r"(met(?:er|re)s?|m|cells?)\b"
_SIDE = re.compile(
    rf"{_A} {_IS} (?:just |directly |far )?(?:(?:to the |on the )?"
    rf"(left|right|west|east|north|south) of|(above|below)) {_A}"
)
_NEARER = re.compile(
    rf"{_A} {_IS} (closer|nearer|farther|further) (?:to|from) {_A} "
    rf"than (?:(?:to|from) {_A}|{_A} {_IS}\b)"
)
_FROM = re.compile(rf"{_A} {_IS} {_ABOUT}{_NUMBER} ?{_UNIT} (?:away )?from {_A}")
_BETWEEN = re.compile(
    rf"distance (?:between {_A} and|from {_A} to) {_A} {_IS} {_ABOUT}{_NUMBER} ?{_UNIT}"
)
_WORDS = "one two three four five six seven eight nine ten".split()
_COUNT = re.compile(
    r"(?:there (?:is|are)|i (?:see|count)) (?:exactly )?"
    rf"([0-9]{{1,3}}|{'|'.join(_WORDS)}) {_NAME}"
)
_SHORT_COUNT = re.compile(rf"{_NAME}=([0-9]{{1,2}})(?![0-9])")
_OFFSET = re.compile(
    rf"{_NAME}(?:[0-9]{{2}})?"
    r"([+-][0-9]{1,2})([+-][0-9]{1,2})(?:=([0-9]{1,3}))?(?![0-9])"
)
# Word → (axis, sign): what the first of two objects is to the second.
_AXES = {
    **dict.fromkeys(("left", "west"), ("x", -1.0)),
    **dict.fromkeys(("right", "east"), ("x", 1.0)),
    **dict.fromkeys(("south", "below"), ("y", -1.0)),
    **dict.fromkeys(("north", "above"), ("y", 1.0)),
}


def read_statements(
    thought: str, row: Question, cells: CognitiveMap
) -> Iterator[Statement]:
    """The statements of a thought, in no order; see the module for their forms."""
    names = tuple(sorted({normal_category(name) for name, at in cells.items() if at}))
    text = " ".join(thought[:MAX_THOUGHT_CHARS].lower().translate(_MARKS).split())
    if not names or not text:
        return
    text = _names_pattern(names).sub(
        lambda found: f"{_OPEN}{names.index(normal_category(found[0]))}{_CLOSE}", text
    )
    for statement in (*_plain(text, names), *_short(text, names, row)):
        if len(set(statement.about)) == len(statement.about):
            yield statement


@functools.lru_cache(maxsize=512)
def _names_pattern(names: tuple[str, ...]) -> "re.Pattern[str]":
    """Any of the names, the longest first, as a word of its own."""
    forms = {form for name in names for form in (name, f"{name}s", f"{name}es")}
    known = [form for form in forms if normal_category(form) in names]
    listed = "|".join(re.escape(form) for form in sorted(known, key=len, reverse=True))
    return re.compile(rf"(?<![a-z])(?:{listed})(?![a-z])")


def _plain(text: str, names: tuple[str, ...]) -> Iterator[Statement]:
    """Statements in words."""

    def name(number: str) -> str:
        return names[int(number)]

    for a, word, upright, b in _SIDE.findall(text):
        axis, sign = _AXES[word or upright]
        first, second = sorted((name(a), name(b)))
        sign = sign if first == name(a) else -sign
        yield Statement("side", (first, second, axis), (sign,))
    for a, word, b, c, other in _NEARER.findall(text):
        sign = 1.0 if word in ("closer", "nearer") else -1.0
        # "than to C": from A to B and to C; "than C is": from B to A and to C.
        centre, near, far = (a, b, c) if c else (b, a, other)
        first, second = sorted((name(near), name(far)))
        sign = sign if first == name(near) else -sign
        yield Statement("nearer", (name(centre), first, second), (sign,))
    for a, number, unit, b in _FROM.findall(text):
        yield _length(name(a), name(b), number, unit)
    for a, other, b, number, unit in _BETWEEN.findall(text):
        yield _length(name(a or other), name(b), number, unit)
    for number, a in _COUNT.findall(text):
        count = _WORDS.index(number) + 1 if number in _WORDS else int(number)
        yield Statement("count", (name(a),), (float(count),))


def _length(a: str, b: str, number: str, unit: str) -> Statement:
    first, second = sorted((a, b))
    kind = "length" if unit.startswith("cell") else "metres"
    return Statement(kind, (first, second), (float(number),))


def _short(text: str, names: tuple[str, ...], row: Question) -> Iterator[Statement]:
    """Statements as the tiny model's workings write them."""
    kind = task_kind(row.get("question_type") or "")
    if kind == "object_counting":
        for a, number in _SHORT_COUNT.findall(text):
            yield Statement("count", (names[int(a)],), (float(number),))
    asked = [normal_category(name) for name in _asked(row)]
    if kind not in _OFFSETS or len(asked) < 2:
        return
    for a, x, y, length in _OFFSET.findall(text):
        to = names[int(a)]
        yield Statement("offset", (asked[0], to), (float(x), float(y)))
        if length and kind != "object_rel_direction":  # there it is a sector
            yield _length(asked[0], to, str(int(length) / 5), "cells")


_OFFSETS = ("object_rel_direction", "object_rel_distance", "object_abs_distance")


def _asked(row: Question) -> tuple[str, ...]:
    return (
        tuple(objects_of(row)) if row.get("categories") or row.get("question") else ()
    )


# ---------------------------------------------------------------- checking

_There = Mapping[str, list[Cell]]


def _joined(places: Mapping[str, object]) -> dict[str, list]:
    joined: dict[str, list] = {}
    for name, spots in places.items():
        joined.setdefault(normal_category(name), []).extend(spots)  # type: ignore
    return joined


def _holds(one: Statement, there: _There, boxes: Mapping[str, list]) -> bool | None:
    """Whether a statement is true; ``None`` where the truth does not tell."""
    kind, about, said = one
    if not all(there.get(name) for name in about if name not in "xy"):
        return None
    if kind == "count":
        right = len(there[about[0]]) == said[0]
        return None if right and said[0] == 1 else right
    if kind == "metres":
        return _holds_in_metres(about, said[0], boxes)
    start = there[about[0]]
    if len(start) != 1:
        return None
    if kind == "nearer":
        first, second = (_nearest(start[0], there[name])[0] for name in about[1:])
        return (second - first) * said[0] > 0
    length, cell = _nearest(start[0], there[about[1]])
    if kind == "length":
        return abs(said[0] - length) <= LENGTH_CELLS
    dx, dy = cell[0] - start[0][0], cell[1] - start[0][1]
    if kind == "side":
        if len(there[about[1]]) != 1:
            return None
        # The sign is the first object's: smaller columns are left.
        return -(dx if about[2] == "x" else dy) * said[0] > 0
    return math.dist(said, (dx, dy)) <= NEAR_CELLS


def _nearest(start: Cell, cells: list[Cell]) -> tuple[float, Cell]:
    """(distance, cell) of the nearest of some cells."""
    return min((math.dist(start, cell), cell) for cell in cells)


def _holds_in_metres(
    about: tuple[str, ...], said: float, boxes: Mapping[str, list]
) -> bool | None:
    first, second = (boxes.get(name, []) for name in about)
    if not (len(first) == len(second) == 1):
        return None
    length = box_gap_m(first[0], second[0])
    return abs(said - length) <= NEAR_SHARE * length
