"""Where the camera is, how it moves and turns, and how far objects are from it.

The camera's position is the last column of a pose ``T_aligned_from_camera``, and its
third column the direction of view; see ``rooms.footage``. Moments are named by their
second in the video. Objects are asked about where the picture shows them.
"""

import itertools
import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy.optimize import lsq_linear

from spacer_lib.questions.askable import askable, unique_objects
from spacer_lib.questions.drafts import (
    MULTIPLE_CHOICE,
    NUMERICAL,
    Draft,
    Drafts,
    Rejection,
    listed_choice,
    multiple_choice,
    shuffled,
)
from spacer_lib.questions.kinds.moments import NO_FOOTAGE, Moment, moments
from spacer_lib.questions.kinds.record import QuestionType, in_each_wording
from spacer_lib.questions.oracle import (
    Row,
    fitting,
    frame_at,
    names_in,
    rounded,
    the_box,
)
from spacer_lib.questions.rules import DEFAULT_RULES, Rules
from spacer_lib.rooms.geometry import turn_deg
from spacer_lib.rooms.scene import ObjectInstance, Scene

DISPLACEMENT_WORDS = in_each_wording(
    "How far apart, in a straight line, are the places where the camera is at second "
    "{start} and at second {end} of the video (in meters)?"
)
MOVEMENT_WORDS = in_each_wording(
    "Seen in the direction in which the camera looks at second {start} of the video, "
    "where is it at second {end}: further forward, backward, to the left or to the "
    "right?"
)
TURN_WORDS = in_each_wording(
    "Compared with second {start} of the video, does the camera look further to the "
    "left or to the right at second {end}?"
)
DISTANCE_WORDS = in_each_wording(
    "At second {moment} of the video, how far is the camera from the closest point of "
    "the {object} (in meters)?"
)
CLOSEST_WORDS = in_each_wording(
    "At second {moment} of the video, which of these objects ({options}) is the "
    "closest to the camera?"
)
CHANGE_WORDS = in_each_wording(
    "From second {start} to second {end} of the video, does the camera get closer to "
    "the {object} or farther from it?"
)
HARDLY_MOVES = "the camera hardly moves"
HARDLY_TURNS = "the camera hardly turns, or turns around"
LOOKS_DOWN = "the camera looks up or down"
NEAR_BORDER = "direction near the border of two answers"
FEW_SEEN = "fewer than {} unique objects are seen"
TOO_CLOSE = "the camera is at the object"
NEARLY_EQUAL = "two objects at nearly the same distance"
HARDLY_CHANGES = "the distance hardly changes"


def camera_displacement(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Straight-line distance of two camera positions, metres to 0.1."""
    kind = "camera_displacement"
    for start, end in _pairs(scene, rng):
        metres = float(np.linalg.norm(end.pose[:3, 3] - start.pose[:3, 3]))
        if metres < rules.camera_move_min_m:
            yield Rejection(kind, HARDLY_MOVES)
            continue
        question = DISPLACEMENT_WORDS[rules.wording].format(
            start=start.second, end=end.second
        )
        yield Draft(kind, NUMERICAL, question, None, str(round(metres, 1)), ())
    if scene.footage is None:
        yield Rejection(kind, NO_FOOTAGE)


def _pairs(scene: Scene, rng: np.random.Generator) -> Iterable[tuple[Moment, Moment]]:
    """Two moments, the earlier one first, in a drawn order."""
    return shuffled(itertools.combinations(moments(scene), 2), rng)


def camera_movement_direction(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Along the floor: forward, backward, left or right of the first view."""
    kind, words = "camera_movement_direction", ("forward", "backward", "left", "right")
    if scene.footage is None:
        yield Rejection(kind, NO_FOOTAGE)
    for start, end in _pairs(scene, rng):
        at, to = start.pose[:2, 3], end.pose[:2, 3]
        view = start.pose[:2, 2]
        if np.linalg.norm(view) < rules.level_view_min:
            yield Rejection(kind, LOOKS_DOWN)
            continue
        if np.linalg.norm(to - at) < rules.camera_move_min_m:
            yield Rejection(kind, HARDLY_MOVES)
            continue
        turn = turn_deg(at, at + view, to)
        if min(abs(abs(turn) - b) for b in (45, 135)) < rules.direction_border_deg:
            yield Rejection(kind, NEAR_BORDER)
            continue
        side = "left" if turn > 0 else "right"
        along = "forward" if abs(turn) < 90 else "backward"
        answer = side if 45 < abs(turn) < 135 else along
        question = MOVEMENT_WORDS[rules.wording].format(
            start=start.second, end=end.second
        )
        wrong = [word for word in words if word != answer]
        yield multiple_choice(
            kind, question, answer, wrong, (), rng, rules.shuffle_options
        )


def view_change(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Whether the second view is to the left or the right of the first."""
    kind = "view_change"
    if scene.footage is None:
        yield Rejection(kind, NO_FOOTAGE)
    for start, end in _pairs(scene, rng):
        views = start.pose[:2, 2], end.pose[:2, 2]
        if min(map(np.linalg.norm, views)) < rules.level_view_min:
            yield Rejection(kind, LOOKS_DOWN)
            continue
        turn = turn_deg((0, 0), *views)
        if not rules.view_turn_min_deg <= abs(turn) <= 180 - rules.view_turn_min_deg:
            yield Rejection(kind, HARDLY_TURNS)
            continue
        answer, wrong = ("left", "right") if turn > 0 else ("right", "left")
        question = TURN_WORDS[rules.wording].format(start=start.second, end=end.second)
        yield multiple_choice(
            kind, question, answer, [wrong], (), rng, rules.shuffle_options
        )


def camera_object_distance(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """From the camera to the closest point of a unique object's box, to 0.1 m."""
    kind = "camera_object_distance"
    for moment, seen in _seen(scene, rng, rules):
        if not seen:
            yield Rejection(kind, FEW_SEEN.format(1))
        for name, instance in seen.items():
            metres = _away_m(moment, instance)
            if metres < rules.camera_object_min_m:
                yield Rejection(kind, TOO_CLOSE)
                continue
            question = DISTANCE_WORDS[rules.wording].format(
                moment=moment.second, object=name
            )
            answer = str(round(metres, 1))
            yield Draft(kind, NUMERICAL, question, None, answer, (name,))
    if scene.footage is None:
        yield Rejection(kind, NO_FOOTAGE)


def _seen(
    scene: Scene, rng: np.random.Generator, rules: Rules
) -> Iterable[tuple[Moment, dict[str, ObjectInstance]]]:
    """Moments in a drawn order, with the unique objects that each shows."""
    unique = unique_objects(scene, askable(scene, rules))
    for moment in shuffled(moments(scene), rng):
        names = [
            name
            for name, one in unique.items()
            if moment.visible.get(one.instance_id, 0) >= rules.visible_share
        ]
        yield moment, {name: unique[name] for name in shuffled(names, rng)}


def _away_m(moment: Moment, instance: ObjectInstance) -> float:
    """Distance of the camera from a box, in the box's own frame."""
    offset = moment.pose[:3, 3] - np.array(instance.centroid_m)
    local = abs(instance.axes_matrix @ offset)
    outside = np.maximum(local - np.array(instance.axes_lengths_m) / 2, 0)
    return float(np.linalg.norm(outside))


def camera_object_rel_distance(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Which of the unique objects in the picture is closest to the camera."""
    kind, least = "camera_object_rel_distance", 3
    for moment, seen in _seen(scene, rng, rules):
        if len(seen) < least:
            yield Rejection(kind, FEW_SEEN.format(least))
            continue
        options = list(seen)[: max(least, rules.rel_distance_options)]
        metres = {name: _away_m(moment, seen[name]) for name in options}
        ranked = sorted(metres.values())
        if ranked[0] < rules.camera_object_min_m:
            yield Rejection(kind, TOO_CLOSE)
            continue
        if ranked[1] - ranked[0] < rules.rel_distance_margin_m:
            yield Rejection(kind, NEARLY_EQUAL)
            continue
        answer = min(metres, key=metres.__getitem__)
        words = CLOSEST_WORDS[rules.wording].replace("{moment}", moment.second)
        yield listed_choice(kind, words, answer, options, rng, rules.shuffle_options)
    if scene.footage is None:
        yield Rejection(kind, NO_FOOTAGE)


def camera_object_distance_change(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Whether the camera gets closer to a unique object that both pictures show."""
    kind = "camera_object_distance_change"
    if scene.footage is None:
        yield Rejection(kind, NO_FOOTAGE)
    every = sorted(_seen(scene, rng, rules), key=lambda pair: float(pair[0].second))
    for (start, first), (end, second) in shuffled(
        itertools.combinations(every, 2), rng
    ):
        both = [name for name in first if name in second]
        if not both:
            yield Rejection(kind, FEW_SEEN.format(1))
        for name in both:
            change = _away_m(end, first[name]) - _away_m(start, first[name])
            if abs(change) < rules.camera_move_min_m:
                yield Rejection(kind, HARDLY_CHANGES)
                continue
            answer, wrong = ("closer", "farther")[:: 1 if change < 0 else -1]
            question = CHANGE_WORDS[rules.wording].format(
                start=start.second, end=end.second, object=name
            )
            yield multiple_choice(
                kind, question, answer, [wrong], (name,), rng, rules.shuffle_options
            )


# ---------------------------------------------------------------- the oracles

# Footage keeps five digits of a rotation: lengths in a camera's frame differ by this.
POSE_SLACK_M = 3e-4


def _aligned_to_camera(scene: Scene, second: str) -> npt.NDArray[np.float64]:
    """(4, 4) T_camera_from_aligned at the kept frame of a second."""
    footage, number = frame_at(scene, second)
    return np.linalg.inv(footage.poses[number])


def _moved(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> np.ndarray:
    """(3,) place of the second camera in the first one's frame."""
    origin = np.linalg.solve(second, (0, 0, 0, 1))
    return np.asarray((first @ origin)[:3])


def _level(T: npt.NDArray[np.float64]) -> complex:
    """Direction of view along the floor: of which points the depth grows."""
    return complex(T[2, 0], T[2, 1])


def _two_views(row: Row, scene: Scene, words: dict[str, str]) -> list[np.ndarray]:
    names = names_in(words, row)
    return [_aligned_to_camera(scene, names[key]) for key in ("start", "end")]


def _in_the_first_frame(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """Length of the way in the first camera's frame."""
    first, second = _two_views(row, scene, DISPLACEMENT_WORDS)
    return rounded(float(np.linalg.norm(_moved(first, second))), 1, POSE_SLACK_M)


def _which_way(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """The way along the floor, turned so that the first view is the real axis."""
    first, second = _two_views(row, scene, MOVEMENT_WORDS)
    x, y, _ = first[:3, :3].T @ _moved(first, second)
    way = complex(x, y) * _level(first).conjugate()
    if abs(way.real) >= abs(way.imag):
        return fitting(row, ["forward" if way.real > 0 else "backward"])
    return fitting(row, ["left" if way.imag > 0 else "right"])


def _turned_to(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """On which side of the first view the second one points."""
    first, second = _two_views(row, scene, TURN_WORDS)
    turned = _level(second) * _level(first).conjugate()
    return fitting(row, ["left" if turned.imag > 0 else "right"])


def _reach_m(scene: Scene, second: str, name: str, rules: Rules) -> float:
    """Least distance of the camera's origin from the box, in the camera's frame."""
    T = _aligned_to_camera(scene, second)
    box = the_box(scene, name, rules)
    edges, center = T[:3, :3] @ box.edges.T, T @ np.append(box.center, 1)
    found = lsq_linear(edges, -center[:3], (-0.5, 0.5), method="bvls")
    return math.sqrt(2 * found.cost)


def _measured_from_camera(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """The box in the camera's frame: its point nearest to the origin."""
    names = names_in(DISTANCE_WORDS, row)
    metres = _reach_m(scene, names["moment"], names["object"], rules)
    return rounded(metres, 1, POSE_SLACK_M)


def _first_reached(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """Every option that no other undercuts."""
    names = names_in(CLOSEST_WORDS, row)
    options = names["options"].split(", ")
    reach = {n: _reach_m(scene, names["moment"], n, rules) for n in options}
    return fitting(row, [n for n in options if reach[n] <= min(reach.values()) + 1e-6])


def _nearer_later(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """The distances at both moments compared."""
    names = names_in(CHANGE_WORDS, row)
    before, after = (
        _reach_m(scene, names[key], names["object"], rules) for key in ("start", "end")
    )
    return fitting(row, ["closer" if after < before else "farther"])


TYPES = (
    QuestionType(
        name="camera_displacement",
        kind="camera_displacement",
        words=DISPLACEMENT_WORDS,
        generator=camera_displacement,
        oracle=_in_the_first_frame,
        problem_type=NUMERICAL,
        unit="m",
        rejections=(NO_FOOTAGE, HARDLY_MOVES),
    ),
    QuestionType(
        name="camera_movement_direction",
        kind="camera_movement_direction",
        words=MOVEMENT_WORDS,
        generator=camera_movement_direction,
        oracle=_which_way,
        problem_type=MULTIPLE_CHOICE,
        rejections=(NO_FOOTAGE, LOOKS_DOWN, HARDLY_MOVES, NEAR_BORDER),
    ),
    QuestionType(
        name="view_change",
        kind="view_change",
        words=TURN_WORDS,
        generator=view_change,
        oracle=_turned_to,
        problem_type=MULTIPLE_CHOICE,
        rejections=(NO_FOOTAGE, LOOKS_DOWN, HARDLY_TURNS),
    ),
    QuestionType(
        name="camera_object_distance",
        kind="camera_object_distance",
        words=DISTANCE_WORDS,
        generator=camera_object_distance,
        oracle=_measured_from_camera,
        problem_type=NUMERICAL,
        unit="m",
        rejections=(NO_FOOTAGE, FEW_SEEN, TOO_CLOSE),
    ),
    QuestionType(
        name="camera_object_rel_distance",
        kind="camera_object_rel_distance",
        words=CLOSEST_WORDS,
        generator=camera_object_rel_distance,
        oracle=_first_reached,
        problem_type=MULTIPLE_CHOICE,
        rejections=(NO_FOOTAGE, FEW_SEEN, TOO_CLOSE, NEARLY_EQUAL),
        lists_options=True,
    ),
    QuestionType(
        name="camera_object_distance_change",
        kind="camera_object_distance_change",
        words=CHANGE_WORDS,
        generator=camera_object_distance_change,
        oracle=_nearer_later,
        problem_type=MULTIPLE_CHOICE,
        rejections=(NO_FOOTAGE, FEW_SEEN, HARDLY_CHANGES),
    ),
)
