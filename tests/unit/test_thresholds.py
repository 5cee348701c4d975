"""A value that equals its threshold is asked about; by the next stricter one it is not.

Places are on whole metres and turns are right angles, so that measures are exact.
"""

import math
from typing import NamedTuple

import numpy as np
import pytest
from samples.boxes import box

from spacer_lib.questions.drafts import Draft
from spacer_lib.questions.kinds import (
    QUESTION_TYPES,
    appearance,
    camera,
    direction,
    distance,
    picture,
    route,
)
from spacer_lib.questions.rules import Rules
from spacer_lib.rooms.footage import Footage
from spacer_lib.rooms.scene import Scene

AHEAD, TO_THE_RIGHT, DOWN = (0, 1, 0), (1, 0, 0), (0, 0.6, -0.8)
SIDE_M = 0.5  # of ``box``


def pose(x, y, view):
    """(4, 4) of a camera 0.25 m high: columns right, down, forward, place."""
    forward = np.array(view, float)
    right = np.cross(forward, (0, 0, 1))
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3] = np.stack([right, np.cross(forward, right), forward, (x, y, 0.25)], axis=1)
    return T


def scene(*places, poses=(), seen_s=(), share=0.25):
    """Cubes at places and cameras, one a second."""
    seen_s = seen_s or [None] * len(places)
    cubes = [
        box(n, f"thing {'abcd'[n]}", (*spot, 0.25)[:3], first_seen_frame=seen)
        for n, (spot, seen) in enumerate(zip(places, seen_s, strict=True))
    ]
    footage = None
    if poses:
        K = np.array([[100, 0, 100], [0, 100, 50], [0, 0, 1.0]])
        shares = np.full((len(poses), len(cubes)), share)
        frames = tuple(range(len(poses)))
        footage = Footage(frames, [pose(*one) for one in poses], K, (200, 100), shares)
    floor, ring = ((-1, -1), (13, 13)), ((-1, -1), (13, -1), (13, 13), (-1, 13))
    more = {"fps": 1.0, "footage": footage, "outline_m": (ring,)}
    return Scene("a", "hand", cubes, 196.0, (2, 2, 1), *floor, **more)


class Case(NamedTuple):
    """At ``value`` a type asks more about a scene than at the next stricter one."""

    type: str
    rule: str
    value: float
    reason: str
    about: Scene
    more: dict = {}
    most: bool = False  # the rule is an upper bound


PAIR, ROW = scene((0, 0), (1, 0)), scene((0, 0), (1, 0), (3, 0))
FAR_ROW, TRIANGLE = scene((0, 0), (2, 0), (9, 0)), scene((0, 0), (3, 0), (0, 4))
SEEN = scene((0, 0), (3, 0), (0, 3), (3, 3), seen_s=(0, 2, 4, 6))
STEP_AHEAD = scene((0, 5), poses=[(0, 0, AHEAD), (0, 1, AHEAD)])
STEP_LOOKING_DOWN = scene((0, 5), poses=[(0, 0, DOWN), (0, 1, DOWN)])
TURN = scene((0, 5), poses=[(0, 0, AHEAD), (0, 0, TO_THE_RIGHT)])
DEPTHS = scene((0, 2), (0, 3), (0, 5), poses=[(0, 0, AHEAD)])
SIDES = scene((0, 4), (1, 4), poses=[(0, 0, AHEAD)])
WALKED, ANY_TURN = scene((0, 0), (9, 0), (0, 12)), {"direction_border_deg": 0.0}
TWO = {"rel_distance_options": 2}
CENTERS, EXACT = {"abs_distance": "centers"}, {"abs_distance": "exact"}
STEP = "camera_move_min_m"
OBJECTS, MARGIN = "camera_object_min_m", "rel_distance_margin_m"
CASES = [
    Case(
        "object_abs_distance",
        "smallest_edge_m",
        SIDE_M,
        distance.TOO_SMALL,
        PAIR,
        EXACT,
    ),
    Case("object_abs_distance", "abs_distance_min_m", 1, distance.TOUCH, PAIR, CENTERS),
    Case("object_rel_distance", MARGIN, 1, distance.NEARLY_EQUAL, ROW, TWO),
    Case("object_rel_distance", MARGIN, 1.5, distance.OPTION_TOUCHES, FAR_ROW, TWO),
    Case(
        "object_rel_direction_easy", "direction_min_m", 3, direction.TOO_CLOSE, TRIANGLE
    ),
    Case(
        "object_rel_direction_easy",
        "direction_max_m",
        5,
        direction.TOO_FAR,
        TRIANGLE,
        most=True,
    ),
    Case(
        "object_rel_direction_easy",
        "direction_border_deg",
        90,
        direction.NEAR_BORDER,
        TRIANGLE,
    ),
    Case("obj_appearance_order", "order_gap_s", 2, appearance.NEARLY_AT_ONCE, SEEN),
    Case("appearance_before_after", "order_gap_s", 6, appearance.NEARLY_AT_ONCE, SEEN),
    Case("route_planning", "route_leg_min_m", 9, route.TOO_SHORT, WALKED, ANY_TURN),
    Case("camera_displacement", STEP, 1, camera.HARDLY_MOVES, STEP_AHEAD),
    Case("camera_movement_direction", STEP, 1, camera.HARDLY_MOVES, STEP_AHEAD),
    Case(
        "camera_movement_direction",
        "direction_border_deg",
        45,
        camera.NEAR_BORDER,
        STEP_AHEAD,
    ),
    Case(
        "camera_movement_direction",
        "level_view_min",
        0.6,
        camera.LOOKS_DOWN,
        STEP_LOOKING_DOWN,
    ),
    Case(
        "view_change",
        "level_view_min",
        0.6,
        camera.LOOKS_DOWN,
        scene((0, 5), poses=[(0, 0, DOWN), (0, 0, TO_THE_RIGHT)]),
    ),
    Case("view_change", "view_turn_min_deg", 90, camera.HARDLY_TURNS, TURN),
    Case("camera_object_distance", OBJECTS, 4.75, camera.TOO_CLOSE, STEP_AHEAD),
    Case(
        "camera_object_distance",
        "visible_share",
        0.25,
        camera.FEW_SEEN.format(1),
        STEP_AHEAD,
    ),
    Case("camera_object_rel_distance", OBJECTS, 1.75, camera.TOO_CLOSE, DEPTHS),
    Case("camera_object_rel_distance", MARGIN, 1, camera.NEARLY_EQUAL, DEPTHS),
    Case("camera_object_distance_change", STEP, 1, camera.HARDLY_CHANGES, STEP_AHEAD),
    Case("frame_left_right", "picture_margin", 0.125, picture.NEARLY_EQUAL, SIDES),
    Case("frame_left_right", "visible_share", 0.25, picture.FEW_SEEN.format(2), SIDES),
    Case("frame_near_far", MARGIN, 3, picture.NEARLY_EQUAL, DEPTHS),
    Case("frame_depth_order", MARGIN, 1, picture.NEARLY_EQUAL, DEPTHS),
]


def asked(case, value):
    """Number of questions, and the reasons of rejections."""
    rules = Rules(**case.more, **{case.rule: value})
    found = list(
        QUESTION_TYPES[case.type].generator(case.about, np.random.default_rng(0), rules)
    )
    drafts = sum(isinstance(one, Draft) for one in found)
    return drafts, {one.reason for one in found if not isinstance(one, Draft)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.type}-{case.rule}")
def test_a_value_at_its_threshold_is_asked_about(case):
    stricter = math.nextafter(case.value, -math.inf if case.most else math.inf)
    at, _ = asked(case, case.value)
    beyond, reasons = asked(case, stricter)
    assert at > beyond and case.reason in reasons


DEFAULTS = {
    "min_count": 2,
    "abs_distance_min_m": 0.2,
    "rel_distance_margin_m": 0.15,
    "rel_distance_options": 4,
    "rel_distance_rounds": 1,
    "direction_min_m": 0.3,
    "direction_max_m": 5.0,
    "direction_border_deg": 10.0,
    "order_gap_s": 1.0,
    "size_margin": 0.1,
    "route_leg_min_m": 1.0,
    "robot_radius_m": 0.2,
    "robot_height_m": 1.0,
    "robot_step_m": 0.1,
    "camera_move_min_m": 0.3,
    "camera_object_min_m": 0.3,
    "view_turn_min_deg": 20.0,
    "level_view_min": 0.3,
    "visible_share": 0.005,
    "picture_margin": 0.05,
    "smallest_edge_m": 0.15,
}


def test_thresholds_of_a_plain_call_stay():
    """Data sets made by the defaults would change with them."""
    rules = {k: v for k, v in vars(Rules()).items() if type(v) in (int, float)}
    assert rules == DEFAULTS


@pytest.mark.parametrize(
    "rule, at_m, middle_m, stricter_m",
    [
        ("robot_height_m", 1.0, 1.25, math.nextafter(1.0, 2)),
        ("robot_step_m", 0.25, 0.0, math.nextafter(0.25, 0)),
    ],
)
def test_a_robot_passes_below_and_above_what_just_fits(
    rule, at_m, middle_m, stricter_m
):
    """A lamp whose underside is as high as the robot; a mat as high as its step."""
    about = scene((0, 0), (4, 0, middle_m), (8, 0))
    between = about.instances[1]
    assert at_m in (between.aabb_min_m[2], between.aabb_max_m[2])
    unique = {one.category: one for one in about.instances}
    free, met = (
        route._Floor(about, unique, Rules(**{rule: value})).obstacle(
            "thing a", "thing c"
        )
        for value in (at_m, stricter_m)
    )
    assert (free, met) == ("", route.BLOCKED)


@pytest.mark.parametrize("place, answer", [((1, 1), "forward"), ((1, -1), "backward")])
def test_a_step_exactly_between_two_directions(place, answer):
    """Without a border it is asked about; the axis of view decides."""
    about = scene((0, 5), poses=[(0, 0, AHEAD), (*place, AHEAD)])
    one, rules = QUESTION_TYPES["camera_movement_direction"], Rules(**ANY_TURN)
    (draft,) = one.generator(about, np.random.default_rng(0), rules)
    letter = draft.ground_truth
    assert draft.options["ABCD".index(letter)] == f"{letter}. {answer}"
    assert one.oracle(vars(draft), about, rules) == (letter,)


@pytest.mark.parametrize("place", [(5, 4), (-5, 4), (0, 4, 3), (0, 4, -3), (0, -4)])
def test_a_center_outside_the_picture_is_nowhere_in_it(place):
    """Although the picture shows a part of the object."""
    about = scene((1, 4), place, poses=[(0, 0, AHEAD)])
    for kind in ("frame_left_right", "frame_near_far"):
        found = QUESTION_TYPES[kind].generator(about, np.random.default_rng(0), Rules())
        assert [one.reason for one in found] == [picture.FEW_SEEN.format(2)]
