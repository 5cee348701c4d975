"""Directions: where an object lies for somebody at one object who faces another."""

import itertools

import numpy as np

from spacer_lib.questions.askable import askable, unique_objects
from spacer_lib.questions.drafts import (
    MULTIPLE_CHOICE,
    Drafts,
    Rejection,
    multiple_choice,
    shuffled,
)
from spacer_lib.questions.kinds.distance import length_m
from spacer_lib.questions.kinds.record import QuestionType, in_each_wording
from spacer_lib.questions.oracle import Row, Undetermined, fitting, names_in, the_box
from spacer_lib.questions.rules import DEFAULT_RULES, Rules
from spacer_lib.rooms.geometry import turn_deg
from spacer_lib.rooms.scene import Scene

_BY_THE = "If I am standing by the {position} and facing the {facing}, is the {query} "
_MEDIUM = (
    _BY_THE + "to my left, right, or back?",
    "An object is to my back if I would have to turn at least 135 degrees in order to "
    "face it.",
)
_HARD = _BY_THE + "to my front-left, front-right, back-left, or back-right?"
WORDS = {
    "easy": in_each_wording(_BY_THE + "to the left or the right of the {facing}?"),
    "medium": {"spacer": " ".join(_MEDIUM), "vsibench": "\n".join(_MEDIUM)},
    "hard": {
        "spacer": _HARD + " Directions refer to the quadrants of a Cartesian plane "
        "(assuming I am at the origin and facing the positive y-axis).",
        "vsibench": _HARD + "\nThe directions refer to the quadrants of a Cartesian "
        "plane (if I am standing at the origin and facing along the positive y-axis).",
    },
}
# ReVSI's idea: with the back to the second object.
_BACK_TO = (
    "If I am standing by the {position} with my back to the {facing}, is the {query} "
)
BACKWARD_WORDS = {
    "easy": in_each_wording(_BACK_TO + "to my left or to my right?"),
    "medium": in_each_wording(_BACK_TO + f"to my left, right, or back? {_MEDIUM[1]}"),
    "hard": in_each_wording(
        _BACK_TO + "to my front-left, front-right, back-left, or back-right?"
    ),
}
FEW_UNIQUE = "fewer than three unique categories"
TOO_CLOSE = "objects too close together"
TOO_FAR = "objects too far apart"
NEAR_BORDER = "direction near the border of two answers"

# Difficulty → answers, and signed turns (degrees) at which the answer changes.
_DIRECTIONS: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {
    "easy": (("left", "right"), (0.0, 180.0, -180.0)),
    "medium": (("back", "left", "right"), (0.0, 135.0, -135.0)),
    "hard": (
        ("back-left", "back-right", "front-left", "front-right"),
        (0.0, 90.0, -90.0, 180.0, -180.0),
    ),
}

DIRECTION_BORDERS_DEG = {name: parts[1] for name, parts in _DIRECTIONS.items()}


def direction_answer(turn: float, difficulty: str) -> str:
    """The answer to a signed turn in degrees, positive to the left (*official*)."""
    side = "left" if turn > 0 else "right"
    if difficulty == "medium":
        return "back" if abs(turn) >= 135 else side
    if difficulty == "hard":
        return f"{'front' if abs(turn) < 90 else 'back'}-{side}"
    return side


def _direction(
    difficulty: str,
    scene: Scene,
    rng: np.random.Generator,
    rules: Rules,
    backward: bool = False,
) -> Drafts:
    kind = f"object_rel_direction_{'backward_' if backward else ''}{difficulty}"
    templates = (BACKWARD_WORDS if backward else WORDS)[difficulty]
    words, borders = _DIRECTIONS[difficulty]
    unique = unique_objects(scene, askable(scene, rules))
    if len(unique) < 3:
        yield Rejection(kind, FEW_UNIQUE)
    spots = {name: instance.centroid_m[:2] for name, instance in unique.items()}
    apart_m = {
        (a, b): length_m(spots[a], spots[b])
        for a, b in itertools.permutations(spots, 2)
    }
    for names in shuffled(itertools.permutations(sorted(unique), 3), rng):
        gaps = [apart_m[pair] for pair in itertools.combinations(names, 2)]
        if min(gaps) < rules.direction_min_m:
            yield Rejection(kind, TOO_CLOSE)
            continue
        if max(gaps) > rules.direction_max_m:
            yield Rejection(kind, TOO_FAR)
            continue
        turn = turn_deg(*(spots[name] for name in names))
        if backward:
            turn += -180 if turn > 0 else 180
        if min(abs(turn - border) for border in borders) < rules.direction_border_deg:
            yield Rejection(kind, NEAR_BORDER)
            continue
        position, facing, query = names
        question = templates[rules.wording].format(
            position=position, facing=facing, query=query
        )
        answer = direction_answer(turn, difficulty)
        wrong = [word for word in words if word != answer]
        yield multiple_choice(
            kind, question, answer, wrong, names, rng, rules.shuffle_options
        )


def object_rel_direction_easy(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Left or right of the orienting object."""
    return _direction("easy", scene, rng, rules)


def object_rel_direction_medium(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Left, right or back."""
    return _direction("medium", scene, rng, rules)


def object_rel_direction_hard(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """One of four quadrants."""
    return _direction("hard", scene, rng, rules)


def object_rel_direction_backward_easy(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Left or right with the back to the orienting object."""
    return _direction("easy", scene, rng, rules, backward=True)


def object_rel_direction_backward_medium(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Left, right or back, with the back to the orienting object."""
    return _direction("medium", scene, rng, rules, backward=True)


def object_rel_direction_backward_hard(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """One of four quadrants, with the back to the orienting object."""
    return _direction("hard", scene, rng, rules, backward=True)


def _word_of(place: complex, difficulty: str) -> str:
    """Where a place lies if I am at 0 and face along the positive real axis."""
    if place.imag == 0 and not (difficulty == "medium" and place.real < 0):
        raise Undetermined("the three objects stand in a line")
    side = "left" if place.imag > 0 else "right"
    if difficulty == "medium":
        return "back" if place.real <= -abs(place.imag) else side
    if difficulty == "hard":
        if place.real == 0:
            raise Undetermined("the object is exactly to one side")
        return f"{'front' if place.real > 0 else 'back'}-{side}"
    return side


def _seen_from(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """The floor as complex numbers, turned so that I face along the real axis."""
    difficulty = row["question_type"].rpartition("_")[2]
    backward = "_backward_" in row["question_type"]
    names = names_in((BACKWARD_WORDS if backward else WORDS)[difficulty], row)
    at, faced, asked = (
        complex(*the_box(scene, names[role], rules).center[:2])
        for role in ("position", "facing", "query")
    )
    gaze = at - faced if backward else faced - at
    return fitting(row, [_word_of((asked - at) * gaze.conjugate(), difficulty)])


TYPES = tuple(
    QuestionType(
        name=generator.__name__,
        kind="object_rel_direction",
        words=words,
        generator=generator,
        oracle=_seen_from,
        problem_type=MULTIPLE_CHOICE,
        rejections=(FEW_UNIQUE, TOO_CLOSE, TOO_FAR, NEAR_BORDER),
    )
    for words, generator in (
        (WORDS["easy"], object_rel_direction_easy),
        (WORDS["medium"], object_rel_direction_medium),
        (WORDS["hard"], object_rel_direction_hard),
        (BACKWARD_WORDS["easy"], object_rel_direction_backward_easy),
        (BACKWARD_WORDS["medium"], object_rel_direction_backward_medium),
        (BACKWARD_WORDS["hard"], object_rel_direction_backward_hard),
    )
)
