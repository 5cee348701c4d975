"""Route planning: turns to fill in, in the form of VSI-Bench's question.

A robot stands at one object and faces another. It walks straight from object to object,
along legs that no other box blocks and that stay inside the room's outline, and may
turn at each. A turn is to the left or the right between 45 and 135 degrees, back
beyond, and none below. Where the outline is unknown, as in published metadata, no route
is asked.

Source: form of the question of VSI-Bench's ``route_planning``; its routes were made by
people, and the rules here are ours.
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spacer_lib.questions.askable import askable, unique_objects
from spacer_lib.questions.drafts import (
    MULTIPLE_CHOICE,
    Draft,
    Drafts,
    Rejection,
    multiple_choice,
    shuffled,
)
from spacer_lib.questions.kinds.record import QuestionType, in_each_wording
from spacer_lib.questions.oracle import Row, Undetermined, names_in, option_texts
from spacer_lib.questions.rules import DEFAULT_RULES, Rules
from spacer_lib.rooms.geometry import turn_deg
from spacer_lib.rooms.scene import ObjectInstance, Scene, is_structural

WORDS = in_each_wording(
    "You are a robot beginning at the {start} and facing the {facing}. You want to "
    "navigate to the {goal}. You will perform the following actions (Note: for each "
    "[please fill in], choose either 'turn back,' 'turn left,' or 'turn right.'): "
    "{steps} You have reached the final destination."
)
BLANK = "[please fill in]"
TURNS = ("Turn Back", "Turn Left", "Turn Right")
FEW_UNIQUE = "fewer than three unique categories"
BLOCKED = "a box stands in the way"
WALLED = "a wall stands in the way"
NO_OUTLINE = "no outline of the floor in the metadata: a route may cross a wall"
NEAR_BORDER = "turn near the border of two answers"
STRAIGHT_ON = "no turn at an object on the way"
TOO_SHORT = "objects of a leg too close together"
WRONG_ENDS = "a wrong turn may end at the goal"
ATTEMPTS = 300  # routes drawn for a scene
LEGS = (1, 2, 3)
BACK_WEIGHT = 2.2  # makes the three turns about equally frequent in right options

Place = tuple[float, float]


class _Route(NamedTuple):
    facing: str
    stops: tuple[str, ...]  # start, objects on the way, goal
    turns: tuple[str, ...]  # before each leg; "" where the first is straight on


def route_planning(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Turns that lead from one unique object to another, one to three blanks.

    Routes of a scene are asked so that the numbers of blanks, and the sequences of
    turns of a number, come in turn.
    """
    kind = "route_planning"
    if not scene.outline_m:
        yield Rejection(kind, NO_OUTLINE)
        return
    unique = unique_objects(scene, askable(scene, rules))
    if len(unique) < 3:
        yield Rejection(kind, FEW_UNIQUE)
        return
    floor = _Floor(scene, unique, rules)
    found: dict[tuple[str, ...], list[_Route]] = {}
    for _ in range(ATTEMPTS):
        routes = _draw_routes(floor, rng, rules)
        if isinstance(routes, str):
            yield Rejection(kind, routes)
            continue
        for route in routes:
            mine = found.setdefault(tuple(filter(None, route.turns)), [])
            if route not in mine:
                mine.append(route)
    for turns, route in _in_turn(found, rng):
        wrong = _wrong_options(floor, route, turns, rng)
        if wrong is None:
            yield Rejection(kind, WRONG_ENDS)
            continue
        yield _draft(kind, route, turns, wrong, rng, rules)


class _Floor:
    """The floor with the outlines of what stands on it."""

    def __init__(
        self, scene: Scene, unique: Mapping[str, ObjectInstance], rules: Rules
    ) -> None:
        self.spots: dict[str, Place] = {
            name: (one.centroid_m[0], one.centroid_m[1]) for name, one in unique.items()
        }
        self.solid = [
            one
            for one in scene.instances
            if not is_structural(one.category)
            and one.aabb_min_m[2] < rules.robot_height_m
            and one.aabb_max_m[2] > rules.robot_step_m
        ]
        self.low = np.array([one.aabb_min_m[:2] for one in self.solid]).reshape(-1, 2)
        self.high = np.array([one.aabb_max_m[:2] for one in self.solid]).reshape(-1, 2)
        self.outline = {
            name: (np.array(one.aabb_min_m[:2]), np.array(one.aabb_max_m[:2]))
            for name, one in unique.items()
        }
        self.radius = rules.robot_radius_m
        rings = [np.array(ring) for ring in scene.outline_m]
        walls = [np.stack([r, np.roll(r, -1, axis=0)], axis=1) for r in rings]
        self.walls = np.concatenate([np.empty((0, 2, 2)), *walls])  # (w, 2 ends, x y)
        self.legs: dict[tuple[str, str], str] = {}

    def obstacle(self, first: str, second: str) -> str:
        """Why nobody can walk straight between two objects; "" if one can."""
        key = (first, second) if first < second else (second, first)
        if key not in self.legs:
            others = [one.category not in key for one in self.solid]
            margin = self.radius + 0.05
            low, high = self.low[others] - margin, self.high[others] + margin
            start, end = (np.array(self.spots[name]) for name in key)
            blocked = bool(_crosses(start, end, low, high).any())
            walled = not blocked and self.leaves_room(*key)
            self.legs[key] = BLOCKED if blocked else WALLED if walled else ""
        return self.legs[key]

    def leaves_room(self, first: str, second: str) -> bool:
        """Whether the leg meets a wall between the two objects' outlines.

        An object may be in a wall, as a window is. There is no wall to meet where the
        room's outline is unknown.
        """
        start, end = (np.array(self.spots[name]) for name in (first, second))
        step = np.where(end == start, 1e-12, end - start)
        shares = []  # of the leg: where it leaves the first object, enters the second
        for name, of_axes, of_sides in (
            (first, np.min, np.maximum),
            (second, np.max, np.minimum),
        ):
            low, high = self.outline[name]
            sides = (low - start) / step, (high - start) / step
            shares.append(float(of_axes(of_sides(*sides))))
        leaves, enters = shares
        if leaves >= enters or not len(self.walls):
            return False
        met = _meets(start, end, self.walls)
        middle = start + (leaves + enters) / 2 * (end - start)
        inside = (_meets(middle, middle + (1000.0, 0.0), self.walls) >= 0).sum() % 2
        return bool(((leaves <= met) & (met <= enters)).any() or not inside)

    def may_end_at(self, goal: str, start: Place, bearing: float) -> bool:
        """Whether a straight walk, however far, comes near the goal."""
        far = np.array(start) + 1000 * np.array([math.cos(bearing), math.sin(bearing)])
        low, high = self.outline[goal]
        margin = 2 * self.radius + 0.2
        near = _crosses(np.array(start), far, low[None] - margin, high[None] + margin)
        return bool(near.any())


def _crosses(
    start: npt.NDArray[np.float64],
    end: npt.NDArray[np.float64],
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
) -> npt.NDArray[np.bool_]:
    """(n,) bool: which (n, 2) rectangles a segment meets, by its parts within slabs."""
    step = np.where(end == start, 1e-12, end - start)
    one, two = (low - start) / step, (high - start) / step
    enters = np.minimum(one, two).max(axis=1)
    leaves = np.maximum(one, two).min(axis=1)
    return (enters <= leaves) & (leaves >= 0) & (enters <= 1)


def _meets(
    start: npt.NDArray[np.float64],
    end: npt.NDArray[np.float64],
    walls: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """(w,) share of a leg at which it meets each of (w, 2, 2) walls; -1: it does not.

    A wall's end belongs to it on one side of the leg only, so that a leg through a
    corner meets one of two walls.
    """
    way, run = end - start, walls[:, 1] - walls[:, 0]
    sides = [
        way[0] * (spot[:, 1] - start[1]) - way[1] * (spot[:, 0] - start[0]) > 0
        for spot in (walls[:, 0], walls[:, 1])
    ]
    across = way[0] * run[:, 1] - way[1] * run[:, 0]
    gap = walls[:, 0] - start
    share = gap[:, 0] * run[:, 1] - gap[:, 1] * run[:, 0]
    share = share / np.where(across == 0, 1.0, across)
    return np.where((sides[0] != sides[1]) & (0 <= share) & (share <= 1), share, -1.0)


def _draw_routes(
    floor: _Floor, rng: np.random.Generator, rules: Rules
) -> list[_Route] | str:
    """The routes over objects that were drawn, or why there is none."""
    names = shuffled(sorted(floor.spots), rng)
    stops = tuple(names[: 1 + min(LEGS[int(rng.integers(len(LEGS)))], len(names) - 1)])
    turns: list[str] = []
    for here, there in itertools.pairwise(stops):
        if math.dist(floor.spots[here], floor.spots[there]) < rules.route_leg_min_m:
            return TOO_SHORT
        if obstacle := floor.obstacle(here, there):
            return obstacle
    for before, here, there in zip(stops, stops[1:], stops[2:], strict=False):
        turn = turn_deg(*(floor.spots[name] for name in (here, before, there)))
        # It comes from the object before, and faces away from that.
        turn += -180 if turn > 0 else 180
        word = _turn_word(turn, rules.direction_border_deg)
        if not word:
            return NEAR_BORDER if word is None else STRAIGHT_ON
        turns.append(word)
    return _facings(floor, stops, turns, names, rules) or STRAIGHT_ON


def _facings(
    floor: _Floor,
    stops: tuple[str, ...],
    turns: Sequence[str],
    names: Sequence[str],
    rules: Rules,
) -> list[_Route]:
    """For each first turn, the first of the names that it is from."""
    start, target = (floor.spots[name] for name in stops[:2])
    routes: dict[str, _Route] = {}
    for facing in names:
        ahead = floor.spots[facing]
        if facing == stops[0] or math.dist(start, ahead) < rules.route_leg_min_m:
            continue
        turn = turn_deg(start, ahead, target) if facing != stops[1] else 0.0
        word = _turn_word(turn, rules.direction_border_deg)
        if word is not None and (word or turns):
            routes.setdefault(word, _Route(facing, stops, (word, *turns)))
    return list(routes.values())


def _turn_word(turn: float, border: float) -> str | None:
    """One of ``TURNS``, "" for straight on; ``None`` near a border."""
    if min(abs(abs(turn) - 45), abs(abs(turn) - 135)) < border:
        return None
    if abs(turn) < 45:
        return ""
    if abs(turn) > 135:
        return "Turn Back"
    return "Turn Left" if turn > 0 else "Turn Right"


def _in_turn(
    found: Mapping[tuple[str, ...], list[_Route]], rng: np.random.Generator
) -> Iterator[tuple[tuple[str, ...], _Route]]:
    """Routes, so that numbers of blanks alternate, and sequences within a number."""
    queues: dict[int, list[tuple[tuple[str, ...], _Route]]] = {}
    for blanks in LEGS:
        mine = {s: shuffled(r, rng) for s, r in found.items() if len(s) == blanks}
        # Fewer legs lead back, so that routes with them come first more often.
        keys = {
            s: rng.exponential() / BACK_WEIGHT ** s.count("Turn Back")
            for s in sorted(mine)
        }
        order = sorted(keys, key=keys.__getitem__)
        rounds = itertools.zip_longest(*(mine[s] for s in order))
        queues[blanks] = [
            (sequence, route)
            for one in rounds
            for sequence, route in zip(order, one, strict=True)
            if route
        ]
    order_of_blanks = shuffled(LEGS, rng)
    for one in itertools.zip_longest(*(queues[blanks] for blanks in order_of_blanks)):
        yield from filter(None, one)


def _wrong_options(
    floor: _Floor, route: _Route, turns: tuple[str, ...], rng: np.random.Generator
) -> list[tuple[str, ...]] | None:
    """Up to three other sequences, none of which may end at the goal."""
    every = [s for s in itertools.product(TURNS, repeat=len(turns)) if s != turns]
    wrong = []
    for sequence in shuffled(every, rng):
        if not _strays_to_goal(floor, route, sequence):
            wrong.append(sequence)
        elif len(turns) == 1:
            return None
        if len(wrong) == min(3, len(every)):
            return wrong
    return None


def _strays_to_goal(floor: _Floor, route: _Route, sequence: Sequence[str]) -> bool:
    """Whether the straight walk after the first wrong turn comes near the goal."""
    filled = iter(sequence)
    heading = _bearing(floor.spots[route.stops[0]], floor.spots[route.facing])
    for here, there, right in zip(
        route.stops, route.stops[1:], route.turns, strict=False
    ):
        turn = next(filled) if right else ""
        if turn != right:
            heading += math.radians(
                {"Turn Back": 180, "Turn Left": 90, "Turn Right": -90}[turn]
            )
            return floor.may_end_at(route.stops[-1], floor.spots[here], heading)
        heading = _bearing(floor.spots[here], floor.spots[there])
    return True


def _bearing(start: Place, end: Place) -> float:
    return math.atan2(end[1] - start[1], end[0] - start[0])


def _draft(
    kind: str,
    route: _Route,
    turns: tuple[str, ...],
    wrong: Iterable[tuple[str, ...]],
    rng: np.random.Generator,
    rules: Rules,
) -> Draft:
    parts: list[str] = []
    for stop, turn in zip(route.stops[1:], route.turns, strict=True):
        parts += [BLANK] if turn else []
        parts.append(f"Go forward until the {stop}.")
    question = WORDS[rules.wording].format(
        start=route.stops[0],
        facing=route.facing,
        goal=route.stops[-1],
        steps=" ".join(f"{i}. {part}" for i, part in enumerate(parts, start=1)),
    )
    return multiple_choice(
        kind,
        question,
        ", ".join(turns),
        [", ".join(sequence) for sequence in wrong],
        dict.fromkeys((route.stops[0], route.facing, *route.stops[1:])),
        rng,
        rules.shuffle_options,
    )


# ---------------------------------------------------------------- the oracle

STEP_M = 0.05
_QUARTER_TURNS = {"Turn Left": 1j, "Turn Right": -1j, "Turn Back": -1 + 0j}
_STEP = re.compile(
    r"\d+\. (?:\[please fill in\]|Go forward until the (.+?)\.?)(?= \d+\. |$)"
)


def _walked(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """Walk each option step by step; the ones that end at the goal."""
    try:
        names = names_in(WORDS, row)
    except Undetermined as error:
        raise Undetermined("routes in other words are not in the metadata") from error
    steps = [match[1] for match in _STEP.finditer(names["steps"])]
    if not steps or steps[-1] is None:
        raise Undetermined("routes in other words are not in the metadata")
    options = option_texts(row)
    if not options:
        every = itertools.product(_QUARTER_TURNS, repeat=steps.count(None))
        options = {", ".join(turns): ", ".join(turns) for turns in every}
    if names["start"] == names["facing"]:
        raise Undetermined("the robot faces the object where it stands")
    walker = _Walker(scene, rules)
    return tuple(
        letter
        for letter, text in options.items()
        if walker.ends_at_goal(names["start"], names["facing"], steps, text.split(", "))
    )


class _Walker:
    """A robot on the floor; places and headings are complex numbers, metres."""

    def __init__(self, scene: Scene, rules: Rules) -> None:
        self.scene, self.radius = scene, rules.robot_radius_m
        self.boxes = [
            (one.category, (*one.aabb_min_m[:2], *one.aabb_max_m[:2]))
            for one in scene.instances
            if not is_structural(one.category)
            and one.aabb_min_m[2] < rules.robot_height_m
            and one.aabb_max_m[2] > rules.robot_step_m
        ]
        self.rings = [
            np.array([complex(x, y) for x, y in ring]) for ring in scene.outline_m
        ]

    def only(self, name: str) -> ObjectInstance:
        """The one object of a name."""
        found = [one for one in self.scene.instances if one.category == name]
        if len(found) != 1:
            raise Undetermined("an object of the route is not alone in the metadata")
        return found[0]

    def place(self, name: str) -> complex:
        """Where an object's centre is on the floor."""
        x, y, _ = self.only(name).centroid_m
        return complex(x, y)

    def ends_at_goal(
        self, start: str, facing: str, steps: Sequence[str | None], turns: Sequence[str]
    ) -> bool:
        """Whether the robot is at the last object after all steps."""
        at, here, left = self.place(start), start, list(turns)
        heading = self.place(facing) - at
        if steps.count(None) != len(left):
            return False
        for target in steps:
            if target is None:
                heading *= _QUARTER_TURNS[left.pop(0)]
                continue
            way = self.place(target) - at
            seen = way * heading.conjugate()
            ahead = seen.real > abs(seen.imag)
            end = self.straight_walk(
                at, way if ahead else heading, {here, target}, target
            )
            if not ahead or not self.is_at(target, end):
                return self.is_at(str(steps[-1]), end)
            at, here, heading = self.place(target), target, way
        return True

    def straight_walk(
        self, at: complex, heading: complex, passed: set[str], to: str
    ) -> complex:
        """Where a straight walk ends: at an object, a box or the end of the floor."""
        path = at + np.arange(0, 20, STEP_M) * heading / abs(heading)
        low, high = self.scene.floor_min_m, self.scene.floor_max_m
        stops = ~self.within(path, (*low, *high), 2 * self.radius)
        if self.rings:
            stops |= ~(self.in_room(path) | self.in_box(passed, path))
        stops |= self.near(to, path)
        for category, bounds in self.boxes:
            if category not in passed:
                stops |= self.within(path, bounds, self.radius)
        first = int(stops.argmax()) if stops.any() else len(path) - 1
        return complex(path[first])

    def in_room(self, path: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """(n,) bool: around which places the outline runs once."""
        turns = np.zeros(len(path))
        for ring in self.rings:
            away = ring[:, None] - path
            turns += np.angle(np.roll(away, -1, axis=0) / away).sum(axis=0)
        return np.asarray(np.abs(turns) > math.pi)

    def in_box(self, names: set[str], path: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """(n,) bool: which places are inside the box of one of the objects."""
        inside = np.zeros(len(path), dtype=bool)
        for one in map(self.only, sorted(names)):
            bounds = (*one.aabb_min_m[:2], *one.aabb_max_m[:2])
            inside |= self.within(path, bounds, 0.0)
        return inside

    def near(self, name: str, path: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """(n,) bool: which places touch an object."""
        one = self.only(name)
        bounds = (*one.aabb_min_m[:2], *one.aabb_max_m[:2])
        return self.within(path, bounds, self.radius)

    def is_at(self, name: str, place: complex) -> bool:
        """Whether the robot at a place touches an object."""
        return bool(self.near(name, np.array([place]))[0])

    @staticmethod
    def within(
        path: npt.NDArray[Any], bounds: Sequence[float], margin: float
    ) -> npt.NDArray[np.bool_]:
        """(n,) bool: which places are in a rectangle that grew by a margin."""
        x0, y0, x1, y1 = bounds
        inside = (path.real >= x0 - margin) & (path.real <= x1 + margin)
        return inside & (path.imag >= y0 - margin) & (path.imag <= y1 + margin)


TYPES = (
    QuestionType(
        name="route_planning",
        kind="route_planning",
        words=WORDS,
        generator=route_planning,
        oracle=_walked,
        problem_type=MULTIPLE_CHOICE,
        rejections=(
            NO_OUTLINE,
            FEW_UNIQUE,
            BLOCKED,
            WALLED,
            NEAR_BORDER,
            STRAIGHT_ON,
            TOO_SHORT,
            WRONG_ENDS,
        ),
    ),
)
