"""Worked thoughts for the view from inside: what is seen, map, computation, answer.

A program writes them from what the shown frames determine: the objects in the order of
their first appearance, the cells of the map, the sides of the room. A demonstration
whose computed choice is wrong, since cells are coarse, is left out.

A sector is two digits, a quarter turn and a sixth of it: ``13`` is 1 x 90 + 3 x 15
degrees. So a difference of two sectors is a subtraction with a carry.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from spacer_lib.maps.text import map_to_text
from spacer_lib.rows import CognitiveMap, Question
from spacer_lib.tiny.shown import SHOWN, ShownRoom

SECTOR_DEG = 15
SECTORS = 360 // SECTOR_DEG
SIXTHS = SECTORS // 4  # of a quarter turn: a sector
# Heads that are taught, see ``Pointer``; the last in the layer below the others.
VIDEO, FIRST, SECOND, QUESTION, NAME = range(5)
LAST_VIEW = SHOWN.frames - 1  # by then everything was seen


class Facts(NamedTuple):
    """What a thought says beside the map.

    Attributes
    ----------
    seen : list of (view, category, cell)
        Every object, in the order of its first appearance; within a view from the
        right to the left, the way the camera turns.
    sides_dm : (x, y)
        Of the floor's rectangle, decimetres.
    cut_dm : (x, y)
        Of the corner that an L-shaped floor lacks; (0, 0) where it is whole.
    longest_cm : dict
        Category → longest edge of its first object, to 10 cm.
    """

    seen: list[tuple[int, str, tuple[int, int]]]
    sides_dm: tuple[int, int]
    cut_dm: tuple[int, int]
    longest_cm: dict[str, int]


class Pointer(NamedTuple):
    """Where a character of a completion is read from: a training aid.

    Attributes
    ----------
    head : int
        That is taught (``aids.TAUGHT``): ``VIDEO`` looks at the video, ``FIRST`` and
        ``SECOND`` at what was written, ``QUESTION`` at the question, ``NAME`` at the
        object whose cell a digit is part of.
    at : int
        Index of the character.
    chars : tuple of int
        Indices of earlier characters of the completion.
    category, cell, view : str, (x, y), int
        Of the objects whose video tokens are meant; ``None`` where not limited. A view
        alone means all its tokens.
    option : str
        The option of the question whose last word is meant.
    word : str
        The word that is meant: of that option, else where the question has it first.
    """

    head: int
    at: int
    chars: tuple[int, ...] = ()
    category: str | None = None
    cell: tuple[int, int] | None = None
    view: int | None = None
    option: str | None = None
    word: str | None = None


class Thought:
    """A completion while it is written, with its pointers."""

    def __init__(self) -> None:
        self.text = ""
        self.pointers: list[Pointer] = []
        self.cells: dict[tuple[str, int, int], tuple[int, int]] = {}  # their digits
        self.seen: dict[str, int] = {}  # where a category is first named
        self.told: list[tuple[int, int]] = []  # what the video alone tells
        self.letter: int | None = None  # of the right option, where a working names it

    def add(self, text: str) -> int:
        """Append; returns the index of the first new character."""
        self.text += text
        return len(self.text) - len(text)

    def tell(self, text: str) -> int:
        """Append what the video alone tells; returns the index as ``add``."""
        at = self.add(text)
        self.told.append((at, len(self.text)))
        return at

    def name(self, category: str) -> int:
        """Append a category that the question names; returns the index as ``add``."""
        at = self.add(category)
        self.point(QUESTION, at, word=category)
        return at

    def point(self, head: int, at: int, **source: Any) -> None:
        """The character ``at`` is read from there."""
        self.pointers.append(Pointer(head, at, **source))


def sector(dx: int, dy: int) -> int:
    """Direction of a cell offset in 15-degree sectors, 0 = +x, counter-clockwise."""
    return round(math.degrees(math.atan2(dy, dx)) / SECTOR_DEG) % SECTORS


Answer = str | None  # computed from the thought; None: cells do not determine it


def facts_of(shown: ShownRoom) -> Facts:
    """The facts of a room as its frames show them."""
    cells, bearing, _ = shown.places
    instances, first = shown.scene.instances, shown.first_views
    order = sorted(range(len(first)), key=lambda i: (first[i], -bearing[i, first[i]]))
    low, high = shown.room.floor_bounds_m
    cut = (0, 0)
    if len(shown.room.floor_rects) > 1:
        whole, arm = shown.room.floor_rects
        cut = (
            round(10 * float(whole[2] - whole[0] - arm[2] + arm[0])),
            round(10 * (arm[3] - arm[1])),
        )
    longest: dict[str, int] = {}
    for instance in instances:
        edge = round(10 * max(instance.axes_lengths_m)) * 10
        longest.setdefault(instance.category, edge)
    x, y = (round(10 * float(b - a)) for a, b in zip(low, high, strict=True))
    return Facts(
        [(first[i], instances[i].category, _cell(cells[i])) for i in order],
        (x, y),
        cut,
        longest,
    )


def _cell(cell: Sequence[int]) -> tuple[int, int]:
    return int(cell[0]), int(cell[1])


def in_order_seen(cells: CognitiveMap, facts: Facts) -> CognitiveMap:
    """The map in the order of first appearance; of another room's, the categories."""
    made: dict[str, list[list[int]]] = {}
    given = {name: [list(cell) for cell in spots] for name, spots in cells.items()}
    for _, name, cell in facts.seen:
        spots = made.setdefault(name, [])
        if list(cell) in given.get(name, []) and list(cell) not in spots:
            spots.append(list(cell))
    same = {k: sorted(v) for k, v in made.items()}
    if same == {k: sorted(v) for k, v in given.items()}:
        return made
    order = [name for name in made if name in cells]
    return {name: cells[name] for name in dict.fromkeys([*order, *cells])}


def sector_digits(sectors: int) -> str:
    """A sector as a thought writes it: ``quarter sixth``, a digit each."""
    return f"{sectors // SIXTHS}{sectors % SIXTHS}"


def fifths(dx: int, dy: int) -> str:
    """Length of a cell offset as a thought writes it: fifths of a cell, two digits."""
    return f"{round(5 * math.hypot(dx, dy)):02d}"


def _write_seen(thought: Thought, facts: Facts) -> None:
    """In which view each category is first seen: ``@0lamp,bed@3chair``."""
    last = None
    for view, name, cell in facts.seen:
        if name in thought.seen:
            continue
        shown = {"category": name, "view": view, "cell": cell}
        at = thought.tell(f"@{view}" if view != last else ",")
        if view != last:
            thought.point(VIDEO, at + 1, **shown)
        at = thought.tell(name)
        thought.point(VIDEO, at, **shown)
        thought.seen[name] = at
        last = view


def _write_map(thought: Thought, cells: CognitiveMap) -> None:
    start = thought.add("<map>") + len("<map>")
    text = map_to_text(cells, last=list(cells))
    thought.add(text + "</map>")
    for name, spots in cells.items():
        at = text.index(f'"{name}":')
        named = start + at + 1
        if name in thought.seen:
            thought.point(FIRST, named, chars=(thought.seen[name],))
        at += len(name) + 3
        for k, (x, y) in enumerate(spots):
            at = text.index("[", at + 1)  # of this cell; the first opens the list
            if k:  # there is another one
                thought.point(VIDEO, start + at, category=name, cell=(x, y))
            digits = start + at + 1, start + at + 3
            thought.cells.setdefault((name, x, y), digits)
            for digit in digits:
                thought.point(NAME, digit + 1, chars=(named,))
                thought.told.append((digit, digit + 1))
                thought.point(VIDEO, digit, category=name, cell=(x, y))
            thought.told.append((digits[1] + 1, digits[1] + 2))  # whether one follows
            at += 4


class Placed(NamedTuple):
    """An object whose cell a working has written, with the indices of its digits."""

    cell: tuple[int, int]
    digits: tuple[int, int]


def _write_cell(thought: Thought, name: str, cell: Sequence[int]) -> Placed:
    """``sofa75``: a category that the question names, and its cell from the map."""
    named, cell = thought.name(name), _cell(cell)
    at = thought.add(f"{cell[0]}{cell[1]}")
    thought.point(NAME, at + 1, chars=(named,))
    for k, digit in enumerate(thought.cells[(name, *cell)]):
        thought.point(FIRST, at + k, chars=(digit,))
    return Placed(cell, (at, at + 1))


def _write_offset(thought: Thought, origin: Placed, to: Placed) -> tuple[int, int]:
    """``+4-2``: from one cell to another."""
    steps = to.cell[0] - origin.cell[0], to.cell[1] - origin.cell[1]
    for axis, step in enumerate(steps):
        at = thought.add(f"{'-' if step < 0 else '+'}{abs(step)}")
        for char in (at, at + 1):
            thought.point(FIRST, char, chars=(to.digits[axis],))
            thought.point(SECOND, char, chars=(origin.digits[axis],))
    return steps


def _count(
    thought: Thought, row: Question, cells: CognitiveMap, facts: Facts
) -> Answer:
    (name,) = row["categories"]
    thought.name(name)
    thought.add(f"={len(cells[name])}")
    return str(len(cells[name]))


def _size(thought: Thought, row: Question, cells: CognitiveMap, facts: Facts) -> Answer:
    (name,) = row["categories"]
    longest = str(facts.longest_cm[name])
    thought.name(name)
    thought.add("=")
    at = thought.tell(longest)
    for k in range(len(longest)):
        thought.point(VIDEO, at + k, category=name)
    return longest


def _write_sides(thought: Thought, facts: Facts) -> None:
    """``46x63``: sides of the floor, and of the corner that it lacks."""
    (x, y), (cut_x, cut_y) = facts.sides_dm, facts.cut_dm
    text = f"{x}x{y}" + (f"-{cut_x}x{cut_y}" if cut_x else "")
    at = thought.tell(text)
    for k, char in enumerate(text):
        if char.isdecimal():
            thought.point(VIDEO, at + k, view=LAST_VIEW)


def _area(thought: Thought, row: Question, cells: CognitiveMap, facts: Facts) -> Answer:
    (x, y), (cut_x, cut_y) = facts.sides_dm, facts.cut_dm
    area = round((x * y - cut_x * cut_y) / 100)
    _write_sides(thought, facts)
    thought.add(f"={area}")
    return str(area)


def _distance(
    thought: Thought, row: Question, cells: CognitiveMap, facts: Facts
) -> Answer:
    first, second = row["categories"]
    _write_sides(thought, facts._replace(cut_dm=(0, 0)))
    thought.add(",")
    origin = _write_cell(thought, first, cells[first][0])
    thought.add(":")
    dx, dy = _write_offset(
        thought, origin, _write_cell(thought, second, cells[second][0])
    )
    thought.add(f"={fifths(dx, dy)}")
    return None


def _closest(
    thought: Thought, row: Question, cells: CognitiveMap, facts: Facts
) -> Answer:
    target, *options = row["categories"]
    lengths = []
    origin = _write_cell(thought, target, cells[target][0])
    thought.add(":")
    for name in options:
        cell = min(cells[name], key=lambda c: math.dist(origin.cell, c))
        dx, dy = _write_offset(thought, origin, _write_cell(thought, name, cell))
        lengths.append(fifths(dx, dy))
        thought.add(f"={lengths[-1]},")
    if lengths.count(min(lengths)) > 1:
        return ""
    nearest = options[lengths.index(min(lengths))]
    thought.add(nearest)
    return nearest


def _direction(
    thought: Thought, row: Question, cells: CognitiveMap, facts: Facts
) -> Answer:
    position, facing, query = row["categories"]
    sectors, digits = [], []
    origin = _write_cell(thought, position, cells[position][0])
    thought.add(":")
    for name in (facing, query):
        to = _write_cell(thought, name, cells[name][0])
        offset = _write_offset(thought, origin, to)
        if offset == (0, 0):
            return ""
        sectors.append(sector(*offset))
        digits.append(thought.add(f"={sector_digits(sectors[-1])},") + 1)
    turn = (sectors[1] - sectors[0]) % SECTORS
    kind = str(row["question_type"])
    if turn in (0, SECTORS // 2) and not kind.endswith("medium"):
        return ""
    side = "left" if turn <= SECTORS // 2 else "right"
    if kind.endswith("medium") and 9 <= turn <= 15:
        side = "back"
    if kind.endswith("hard"):
        side = f"{'front' if turn < 6 or turn > 18 else 'back'}-{side}"
    at = thought.add(sector_digits(turn))
    for k in range(2):
        thought.point(FIRST, at + k, chars=(digits[1] + k,))
        thought.point(SECOND, at + k, chars=(digits[0] + k,))
    thought.add(f",{side}")
    return side


def _order(
    thought: Thought, row: Question, cells: CognitiveMap, facts: Facts
) -> Answer:
    """``A:bed2sofa0B:sofa0bed2``: views of each option's objects, until they fall back.

    No two objects of a question appear first in the same view.
    """
    first: dict[str, int] = {}
    for view, name, _ in facts.seen:
        first.setdefault(name, view)
    digits: list[int] = []
    for option in row["options"] or ():
        _point_back(thought, digits)
        thought.letter, digits = thought.add(f"{option[0]}:"), []
        listed = option[3:].split(", ")
        for name in listed:
            _point_back(thought, digits)
            at = thought.add(name)
            thought.point(QUESTION, at, option=option, word=name)
            digits.append(thought.add(str(first[name])))
            thought.point(FIRST, digits[-1], chars=(thought.seen[name],))
            last = [int(thought.text[digit]) for digit in digits[-2:]]
            if last != sorted(last):
                break
        else:
            _point_back(thought, digits)
            return ", ".join(listed)
    return ""


def _point_back(thought: Thought, digits: Sequence[int]) -> None:
    """What follows a view depends on the view before it."""
    if len(digits) > 1:
        thought.point(SECOND, len(thought.text), chars=(digits[-2],))


_WORKINGS: dict[str, Callable[[Thought, Question, CognitiveMap, Facts], Answer]] = {
    "object_counting": _count,
    "object_size_estimation": _size,
    "room_size_estimation": _area,
    "object_abs_distance": _distance,
    "object_rel_distance": _closest,
    "object_rel_direction_easy": _direction,
    "object_rel_direction_medium": _direction,
    "object_rel_direction_hard": _direction,
    "obj_appearance_order": _order,
}
INSIDE_TASKS = tuple(_WORKINGS)


def think(
    row: Question, facts: Facts, cells: CognitiveMap | None = None
) -> Thought | None:
    """The completion to imitate, or ``None`` where coarse cells give a wrong choice.

    Parameters
    ----------
    row : Question
        With ``categories``, ``options``, ``ground_truth`` and ``map``.
    facts : Facts
        Of the row's room.
    cells : dict, optional
        Map to reason from; the row's own by default.
    """
    cells = in_order_seen((row["map"] or {}) if cells is None else cells, facts)
    thought = _begun(facts, cells)
    work = _WORKINGS[str(row["question_type"])]
    computed = work(thought, row, cells, facts)
    answer = row["ground_truth"]
    option = row["options"][ord(answer) - ord("A")] if row["options"] else None
    if option is not None and computed != option[3:]:
        return None
    if option is None and computed is not None:
        answer = computed
    at = thought.add(f"</think><answer>{answer}</answer>") + len("</think><answer>")
    if thought.letter is not None:
        thought.point(FIRST, at, chars=(thought.letter,))
    elif option is not None:
        thought.point(FIRST, at, option=option)
    return thought


def _begun(facts: Facts, cells: CognitiveMap) -> Thought:
    """A thought up to the end of its map."""
    thought = Thought()
    thought.add("<think>")
    _write_seen(thought, facts)
    _write_map(thought, cells)
    return thought


def beginning(facts: Facts, cells: CognitiveMap) -> str:
    """A thought up to the end of a given map, true or not."""
    return _begun(facts, in_order_seen(cells, facts)).text


def completion(row: Question, shown: ShownRoom, *, shape: str = "think") -> str | None:
    """The text of ``think`` in a shape: one of ``language.tags.SHAPES``.

    ``observe`` is what is seen and the map, ``vanilla`` the answer alone. All exist for
    the same rows.
    """
    thought = think(row, facts_of(shown))
    if thought is None:
        return None
    head, _, answer = thought.text.partition("</think>")
    if shape == "vanilla":
        return answer.removeprefix("<answer>").removesuffix("</answer>")
    if shape == "observe":
        words = head.removeprefix("<think>").partition("</map>")[0]
        return f"<observe>{words}</map></observe>{answer}"
    return thought.text
