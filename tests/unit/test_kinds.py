"""Each question type: its generator and its oracle give the same answers."""

import ast
import functools
import inspect
import itertools
import math
import re
import types

import numpy as np
import pytest
from samples.boxes import box
from samples.filmed import walk_footage

from spacer_lib.artifacts import config_hash, read_jsonl
from spacer_lib.questions import kinds
from spacer_lib.questions.drafts import MULTIPLE_CHOICE, Draft, Rejection
from spacer_lib.questions.generators import GENERATOR_VERSION
from spacer_lib.questions.kinds import QUESTION_TYPES, route, size
from spacer_lib.questions.oracle import Undetermined
from spacer_lib.questions.rules import Rules
from spacer_lib.rewards.metrics import mean_relative_accuracy
from spacer_lib.rooms.scene import Scene, read_meta_file
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import (
    VIEWS,
    first_in_view,
    to_scene,
    view_poses,
)

ROOMS = 1000
each_type = pytest.mark.parametrize("name", QUESTION_TYPES)
# Exact distances: the published grid has a test of its own, in fewer rooms.
RULES = Rules(abs_distance="exact", order_gap_s=0.2)


@functools.cache
def room(seed):
    """A synthetic room with the boxes of its furniture, without rendering."""
    view = VIEWS["walk"]
    drawn = draw_room(seed)
    scene = to_scene(
        drawn, view, with_boxes=False, first_seen=first_in_view(drawn, view)
    )
    instances = []
    for one, piece in zip(scene.instances, drawn.furniture, strict=True):
        c, s = math.cos(piece.yaw_rad), math.sin(piece.yaw_rad)
        x, y, z = piece.position_m
        instances.append(
            changed(
                one,
                centroid_m=(x, y, z + piece.size_m[2] / 2),
                axes_lengths_m=piece.size_m,
                axes=(c, s, 0, -s, c, 0, 0, 0, 1),
            )
        )
    footage = walk_footage(drawn, instances)
    return changed(scene, instances=tuple(instances), footage=footage)


def changed(record, **values):
    return type(record)(**(vars(record) | values))


def drafts(one, scene, rules, many=1):
    """The first questions that a type asks about a scene."""
    found = one.generator(
        scene, np.random.default_rng([7, len(scene.instances)]), rules
    )
    for draft in found:
        if isinstance(draft, Draft):
            yield draft
            many -= 1
            if not many:
                return


def row_of(draft):
    row = {key: getattr(draft, key) for key in ("question_type", "question", "options")}
    return row | {"ground_truth": draft.ground_truth, "categories": draft.categories}


def agrees(one, draft, scene, rules):
    """Whether the oracle has this answer; of options, this one alone."""
    answers = one.oracle(row_of(draft), scene, rules)
    if one.problem_type == MULTIPLE_CHOICE:
        return answers == (draft.ground_truth,)
    return draft.ground_truth in answers


@each_type
def test_generator_and_oracle_agree_in_a_thousand_rooms(name):
    one, asked = QUESTION_TYPES[name], 0
    for seed in range(ROOMS):
        for draft in drafts(one, room(seed), RULES):
            assert agrees(one, draft, room(seed), RULES), (seed, draft)
            asked += 1
    assert asked > ROOMS / 10


def test_the_area_inside_the_outline_is_the_rooms():
    """Two derivations, in square metres; the tolerance is the oracle's."""
    shapes = set()
    for seed in range(ROOMS):
        scene = room(seed)
        strips_m2 = size.in_strips_m2(scene.outline_m)
        assert abs(strips_m2 - scene.room_size_m2) <= size.AREA_SLACK_M2, seed
        shapes.add(len(scene.outline_m[0]))
    assert shapes == {4, 6}


def test_an_area_by_another_rule_is_that_of_the_metadata():
    one, scene = QUESTION_TYPES["room_size_estimation"], room(0)
    other = changed(scene, room_areas_m2=scene.room_areas_m2 | {"spatial-r1": 7.0})
    rules = changed(RULES, room_area="spatial-r1")
    (draft,) = drafts(one, other, rules)
    assert draft.ground_truth == "7.0" and agrees(one, draft, other, rules)


def two_rooms(seed):
    """Two rooms and the doorway between them, without a video."""
    return to_scene(draw_room(seed, "two rooms"), with_boxes=False)


def test_the_size_of_two_rooms_is_that_of_both_and_the_doorway():
    one = QUESTION_TYPES["room_size_estimation"]
    for seed in range(100):
        drawn, scene = draw_room(seed, "two rooms"), two_rooms(seed)
        (first, second, doorway), ((ring),) = drawn.floor_rects, scene.outline_m
        sides = [(x1 - x0, y1 - y0) for x0, y0, x1, y1 in (first, second, doorway)]
        assert sorted(sides[2]) == pytest.approx([0.06, 0.9]) and len(ring) == 12
        true_m2 = sum(width * depth for width, depth in sides)
        (draft,) = drafts(one, scene, RULES)
        assert float(draft.ground_truth) == pytest.approx(true_m2, abs=0.0501)
        assert "combined space" in draft.question
        assert agrees(one, draft, scene, RULES), seed


def test_routes_between_two_rooms_lead_through_the_doorway():
    one, through = QUESTION_TYPES["route_planning"], 0
    for seed in range(40):
        drawn, scene = draw_room(seed, "two rooms"), two_rooms(seed)
        rects = np.array(drawn.floor_rects)
        groups = scene.by_category()
        for draft in drafts(one, scene, RULES, many=6):
            assert agrees(one, draft, scene, RULES), (seed, draft)
            walked = re.findall(
                r"at the ([\w ]+) and|until the ([\w ]+)\.", draft.question
            )
            stops = [np.array(groups[a or b][0].centroid_m[:2]) for a, b in walked]
            for here, there in itertools.pairwise(stops):
                leg = here + np.linspace(0, 1, 400)[:, None] * (there - here)
                assert drawn.on_floor(leg).all(), (seed, draft)
                low, high = rects[2, :2], rects[2, 2:]
                through += bool(((leg > low) & (leg < high)).all(axis=1).any())
    assert through > 20


@pytest.mark.parametrize("boxes", ["oriented", "aligned"])
@pytest.mark.parametrize("abs_distance", ["sampled", "centers"])
def test_they_agree_by_the_other_rules(boxes, abs_distance):
    rules = Rules(boxes=boxes, abs_distance=abs_distance, wording="vsibench")
    one = QUESTION_TYPES["object_abs_distance"]
    for seed in range(40):
        for draft in drafts(one, room(seed), rules, many=2):
            assert agrees(one, draft, room(seed), rules), (seed, draft)
    one = QUESTION_TYPES["object_rel_distance"]
    for seed in range(40):
        for draft in drafts(one, room(seed), rules):
            assert agrees(one, draft, room(seed), rules), (seed, draft)


@each_type
def test_each_rejection_is_registered(name):
    one = QUESTION_TYPES[name]
    known = [reason.partition("{")[0] for reason in one.rejections]
    empty = {"object_counts": {}, "room_areas_m2": {}, "fps": None, "footage": None}
    bare = changed(room(0), instances=(), **empty)
    for scene in (bare, *map(room, range(20))):
        rng = np.random.default_rng(0)
        for result, _ in zip(
            one.generator(scene, rng, RULES), range(200), strict=False
        ):
            if isinstance(result, Rejection):
                assert result.question_type == name
                assert any(result.reason.startswith(words) for words in known), result


# ---------------------------------------------------------------- independence

# What both may use: the scene, and readers of a scene that hold no formula.
SHARED = {"Scene", "Rules", "ObjectInstance"}


def reached(module, name):
    """Names of the project that a function of a module uses, directly or not."""
    tree = ast.parse(inspect.getsource(module))
    bodies = {
        node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)
    }
    seen, todo = set(), [name]
    while todo:
        current = todo.pop()
        seen.add(current)
        if current in bodies:
            names = {n.id for n in ast.walk(bodies[current]) if isinstance(n, ast.Name)}
            ours = {n for n in names if is_ours(module, n)}
            todo += sorted(ours - seen)
    return seen


def is_ours(module, name):
    value = getattr(module, name, None)
    return (inspect.isfunction(value) or inspect.isclass(value)) and (
        value.__module__.startswith("spacer_lib")
    )


@each_type
def test_generator_and_oracle_share_no_helper(name):
    one = QUESTION_TYPES[name]
    module = inspect.getmodule(one.oracle)
    derived, made = (
        reached(module, part.__name__) for part in (one.oracle, one.generator)
    )
    assert derived & made <= SHARED


# ---------------------------------------------------------------- mutants

MOVEMENT, FROM_CAMERA = "camera_movement_direction", "camera_object_distance"
SIDES, DEPTHS, MORE = "frame_left_right", "frame_depth_order", "view_shows_more"
# Module, what the generator or the oracle has, what it has instead, question type.
MUTANTS = [
    ("direction", "turn > 0 else", "turn < 0 else", "object_rel_direction_easy"),
    ("direction", "abs(turn) >= 135", "abs(turn) > 135", "object_rel_direction_medium"),
    ("direction", "abs(turn) < 90", "abs(turn) < 95", "object_rel_direction_hard"),
    ("direction", "place.imag > 0", "place.imag < 0", "object_rel_direction_hard"),
    ("direction", "gaze.conjugate()", "gaze", "object_rel_direction_hard"),
    (
        "direction",
        "turn += -180 if turn > 0 else 180",
        "turn += 180",
        "object_rel_direction_backward_hard",
    ),
    (
        "direction",
        "at - faced if backward",
        "faced - at if backward",
        "object_rel_direction_backward_medium",
    ),
    ("distance", "np.argmin(dist", "np.argmax(dist", "object_rel_distance"),
    ("distance", "min(distance, near", "max(distance, near", "object_rel_distance"),
    ("distance", ">= max(gaps", "<= max(gaps", "object_rel_distance_farthest"),
    ("distance", "argmax(dist", "argmin(dist", "object_rel_distance_farthest"),
    ("distance", "(-0.5, 0.5)", "(-0.25, 0.5)", "object_rel_distance"),
    ("distance", "edges.T, -second", "edges, -second", "object_rel_distance"),
    (
        "distance",
        "round(distance, 1)",
        "round(distance + 0.05, 1)",
        "object_abs_distance",
    ),
    ("route", '"Turn Left": 1j', '"Turn Left": -1j', "route_planning"),
    ("route", '"Turn Left" if turn > 0', '"Turn Left" if turn < 0', "route_planning"),
    ("route", "self.radius + 0.05", "-self.radius", "route_planning"),
    ("route", "turn += -180 if turn > 0 else 180", "pass", "route_planning"),
    ("route", "abs(turn) > 135", "abs(turn) > 95", "route_planning"),
    ("camera", "pose[:3, 3] - start", "pose[3, :3] - start", "camera_displacement"),
    ("camera", "first @ origin", "first.T @ origin", "camera_displacement"),
    ("camera", "view = start.pose[:2, 2]", "view = start.pose[2, :2]", MOVEMENT),
    ("camera", "if way.imag > 0", "if way.imag < 0", MOVEMENT),
    ("camera", "45 < abs(turn) < 135", "50 < abs(turn) < 90", MOVEMENT),
    ("camera", 'if turn > 0 else ("right', 'if turn < 0 else ("right', "view_change"),
    ("camera", "T[2, 0], T[2, 1]", "T[0, 2], T[1, 2]", "view_change"),
    ("camera", "axes_matrix @ offset", "axes_matrix.T @ offset", FROM_CAMERA),
    ("camera", "axes_lengths_m) / 2", "axes_lengths_m)", FROM_CAMERA),
    ("camera", "min(metres, key", "max(metres, key", "camera_object_rel_distance"),
    ("camera", "if change < 0", "if change > 0", "camera_object_distance_change"),
    ("picture", "sides if gap > 0", "sides if gap < 0", SIDES),
    ("picture", "slopes[0] < slopes[1]", "slopes[0] > slopes[1]", SIDES),
    (
        "picture",
        "solve(footage.poses[number],",
        "solve(footage.poses[number].T,",
        SIDES,
    ),
    ("picture", "sides if gap > 0", "sides if gap < 0", "frame_near_far"),
    ("picture", "key=lambda sight: sight.m", "key=lambda sight: -sight.m", DEPTHS),
    ("picture", "if two > one", "if two < one", "view_shows_more"),
    ("picture", "shown[start] > shown[end]", "shown[start] < shown[end]", MORE),
    ("route", "met <= enters", "met < leaves", "route_planning"),
    ("route", "> math.pi", "< math.pi", "route_planning"),
    ("size", "corners[1:]) / 2", "corners[1:]) / 3", "room_size_estimation"),
    ("size", "np.diff(corners)", "np.diff(corners) / 100", "room_size_estimation"),
    (
        "size",
        "pairs[..., 0], axis",
        "pairs[..., 0] + 0.01, axis",
        "room_size_estimation",
    ),
    ("size", "longest * 100", "longest * 100 + 0.5", "object_size_estimation"),
    ("size", "round(area_m2, 1)", "round(area_m2 + 0.05, 1)", "room_size_estimation"),
    ("counting", "str(count)", "str(count - 1)", "object_counting"),
    ("counting", "str(sum(counts))", "str(max(counts))", "object_counting_multiple"),
    (
        "counting",
        '"yes" if category in',
        '"yes" if category not in',
        "object_existence",
    ),
    ("counting", '"yes" if found', '"no" if found', "object_existence"),
    ("size", "max(edges, key", "min(edges, key", "object_size_comparison"),
    ("size", "extents[name] > most", "extents[name] < most", "object_size_comparison"),
    ("appearance", "if lead_s > 0", "if lead_s < 0", "appearance_before_after"),
    ("appearance", "shown[0] == names", "shown[1] == names", "appearance_before_after"),
    ("appearance", "min(seen) /", "max(seen) /", "obj_appearance_order"),
    ("appearance", "sorted(frames", "reversed(frames", "obj_appearance_order"),
]


@functools.cache
def lattice(seed):
    """Objects on whole metres: turns of exactly 45, 90, 135 degrees are common."""
    rng = np.random.default_rng([seed, 3])
    spots = rng.permutation([(x, y) for x in range(4) for y in range(4)])[:7]
    cubes = [
        box(number, f"thing {'abcdefghijklmnop'[number]}", (x, y, 0.25))
        for number, (x, y) in enumerate(spots)
    ]
    floor = (-1, -1), (5, 5)
    ring = ((-1, -1), (5, -1), (5, 5), (-1, 5))
    return Scene(
        f"scene{seed:04d}_00",
        "lattice",
        cubes,
        36.0,
        (2, 2, 1),
        *floor,
        outline_m=(ring,),
    )


@pytest.mark.parametrize("name, old, new, kind", MUTANTS)
def test_a_mutant_of_either_is_a_disagreement(name, old, new, kind):
    module = getattr(kinds, name)
    source = inspect.getsource(module)
    assert source.count(old) >= 1
    mutant = types.ModuleType(module.__name__)
    exec(compile(source.replace(old, new), module.__file__, "exec"), vars(mutant))
    (one,) = [one for one in mutant.TYPES if one.name == kind]
    loose = Rules(abs_distance="exact", direction_border_deg=0.0, order_gap_s=0.2)
    for scene in [*map(lattice, range(30)), *map(room, range(100))]:
        for draft in drafts(one, scene, loose, many=6):
            try:
                if not agrees(one, draft, scene, loose):
                    return
            except Undetermined:
                if scene.dataset != "lattice":  # three objects in a line
                    return
    pytest.fail("no room tells the mutant from the original")


def test_on_whole_metres_the_originals_agree():
    loose = Rules(abs_distance="exact", direction_border_deg=0.0)
    # A turn of exactly 45 degrees is neither straight on nor a turn.
    known = [one for one in QUESTION_TYPES.values() if one.name != "route_planning"]
    asked = 0
    for scene in map(lattice, range(30)):
        for one in known:
            for draft in drafts(one, scene, loose, many=20):
                try:
                    assert agrees(one, draft, scene, loose), draft
                    asked += 1
                except Undetermined:
                    assert "direction" in one.name
    assert asked > 1000


# ---------------------------------------------------------------- versions

# Of what each type asks and rejects, by this GENERATOR_VERSION.
VERSION = "5"
ASKED = {
    "object_counting": "4f60177ba6a1",
    "object_counting_multiple": "5bda68b506f6",
    "object_existence": "7227a760302f",
    "object_size_estimation": "f6c846db6d05",
    "object_size_comparison": "787b3c5145f2",
    "room_size_estimation": "300c8e1432fe",
    "object_abs_distance": "c4e33e5e490b",
    "object_rel_distance": "12d658e72962",
    "object_rel_distance_farthest": "33cfc4badd4a",
    "object_rel_direction_easy": "7388d3667b92",
    "object_rel_direction_medium": "72a828427c74",
    "object_rel_direction_hard": "326b43205c0e",
    "object_rel_direction_backward_easy": "f3351d24f981",
    "object_rel_direction_backward_medium": "111bb9c158bd",
    "object_rel_direction_backward_hard": "4c076d234e92",
    "obj_appearance_order": "ffd7b9424e1f",
    "obj_appearance_order_2": "41955439050c",
    "obj_appearance_order_3": "3f0322c561e0",
    "obj_appearance_order_5": "1cbc29f66a8a",
    "obj_appearance_order_6": "6c865a7b897e",
    "appearance_before_after": "17bcc878c4f2",
    "route_planning": "955f1977755f",
    "camera_displacement": "500000b790ec",
    "camera_movement_direction": "b3c07991e255",
    "view_change": "a8e97bc41628",
    "camera_object_distance": "b9051cf7b1e6",
    "camera_object_rel_distance": "84e8da55575e",
    "camera_object_distance_change": "105a4a5a4a6e",
    "frame_left_right": "4841a2504fb5",
    "frame_near_far": "e0ed90b9414a",
    "frame_depth_order": "775d24de4fd0",
    "view_shows_more": "3804b2b8bd61",
}


@each_type
def test_what_a_type_asks_and_rejects_has_its_version(name):
    """About rooms and whole metres; also without borders, where turns are exact."""
    loose = Rules(direction_border_deg=0.0, order_gap_s=0.2, view_turn_min_deg=0.0)
    bare = changed(room(0), instances=(), object_counts={}, fps=None, footage=None)
    scenes = [bare, *map(lattice, range(12)), *map(room, range(12))]
    found = []
    for rules, scene in itertools.product((RULES, loose), scenes):
        rng = np.random.default_rng(0)
        found += [
            vars(one) for one in QUESTION_TYPES[name].generator(scene, rng, rules)
        ]
    assert sum("ground_truth" in one for one in found) > 10
    assert GENERATOR_VERSION == VERSION, "put VERSION and ASKED right"
    assert config_hash(found) == ASKED.get(name), (
        f"{name} asks or rejects otherwise. If that is not meant, undo it. If it is, "
        "raise GENERATOR_VERSION in questions/generators.py, and put ASKED right."
    )


# ---------------------------------------------------------------- routes


def test_five_hundred_routes_end_at_the_goal_and_wrong_turns_elsewhere():
    """Options are balanced: letters, and turns in right and wrong sequences."""
    one, letters, right, every = QUESTION_TYPES["route_planning"], [], [], []
    blanks, seed = [], 0
    while len(letters) < 500:
        scene = room(seed)
        seed += 1
        for draft in drafts(one, scene, RULES, many=2):
            assert one.oracle(row_of(draft), scene, RULES) == (draft.ground_truth,)
            letters.append(draft.ground_truth)
            texts = [option[3:].split(", ") for option in draft.options]
            right += texts["ABCD".index(draft.ground_truth)]
            every += itertools.chain(*texts)
            blanks.append(len(texts[0]))
    assert seed < 700
    for words in (right, every):
        shares = [words.count(turn) / len(words) for turn in route.TURNS]
        assert 0.25 < min(shares) and max(shares) < 0.42, shares
    assert 0.2 < letters.count("A") / len(letters) < 0.35
    assert min(blanks.count(n) for n in (1, 2, 3)) > 50


def test_routes_stay_inside_the_outline():
    """A sofa and a tv in the two arms of an L: the straight way leaves the room."""
    arms = ((0, 0), (9, 0), (9, 2), (2, 2), (2, 9), (0, 9))
    spots = {"sofa": (6, 1), "stool": (8.3, 1), "tv": (1, 8.5), "lamp": (1, 1)}
    cubes = [
        box(number, name, (x, y, 0.5), (0.5, 0.5, 1))
        for number, (name, (x, y)) in enumerate(spots.items())
    ]
    floor = (0, 0), (9, 9)
    known = Scene("a", "hand", cubes, 32.0, (4, 4, 1), *floor, outline_m=(arms,))
    whole = ((0, 0), (9, 0), (9, 9), (0, 9))
    one, unknown = QUESTION_TYPES["route_planning"], changed(known, outline_m=())
    through_the_wall = 0
    for draft in drafts(one, changed(known, outline_m=(whole,)), RULES, many=100):
        stops = re.findall(r"at the (\w+) and|until the (\w+)\.", draft.question)
        stops = [a or b for a, b in stops]
        if any({*leg} == {"sofa", "tv"} for leg in itertools.pairwise(stops)):
            through_the_wall += 1
            assert agrees(one, draft, unknown, RULES)
            assert not agrees(one, draft, known, RULES), draft
    assert through_the_wall > 3
    found = list(one.generator(known, np.random.default_rng(0), RULES))
    walled = [r for r in found if isinstance(r, Rejection) and r.reason == route.WALLED]
    inside = [draft for draft in found if isinstance(draft, Draft)]
    assert walled and inside
    assert all(agrees(one, draft, known, RULES) for draft in inside)
    (why,) = one.generator(unknown, np.random.default_rng(0), RULES)
    assert why == Rejection("route_planning", route.NO_OUTLINE)


def test_a_route_that_ends_in_a_blank_has_no_answer():
    """Nothing says where to walk after the last turn."""
    one, scene = QUESTION_TYPES["route_planning"], room(0)
    (draft,) = drafts(one, scene, RULES)
    row = row_of(draft)
    cut = re.sub(r"(.*) \d+\. Go forward until the [\w ]+\.", r"\1", row["question"])
    assert cut != row["question"]
    with pytest.raises(Undetermined, match="routes in other words"):
        one.oracle(row | {"question": cut}, scene, RULES)


# ---------------------------------------------------------------- poses


def test_the_camera_is_the_last_column_of_a_pose():
    """The origin seen from a camera, -R^T T, moves otherwise than the camera does."""
    drawn, scores = draw_room(5), []
    poses = view_poses(drawn, VIEWS["walk"], range(0, 96, 4))
    for first, second in itertools.combinations(poses, 2):
        true, other = (
            float(np.linalg.norm(there - here))
            for here, there in (
                (first[:3, 3], second[:3, 3]),
                (-first[:3, :3].T @ first[:3, 3], -second[:3, :3].T @ second[:3, 3]),
            )
        )
        if true >= 0.3:
            scores.append(mean_relative_accuracy(other, true))
    # The walk is at a height of 1.5 m that sways by 5 cm.
    assert np.allclose(poses[:, 2, 3], 1.5, atol=0.051)
    low, high = drawn.floor_bounds_m
    assert np.all((poses[:, :2, 3] > low) & (poses[:, :2, 3] < high))
    assert len(scores) > 100 and np.mean(scores) < 0.6


# ---------------------------------------------------------------- published rows


def test_oracles_give_the_published_answers(real_meta, real_qa):
    """By a second derivation; types whose answers the metadata fix."""
    scenes = {scene.scene_id: scene for scene in read_meta_file(real_meta)}
    wrong, asked = [], 0
    for row in read_jsonl(real_qa):
        kind = QUESTION_TYPES.get(row["question_type"])
        if kind is None:
            continue
        try:
            answers = kind.oracle(row, scenes[row["scene_name"]], Rules())
        except Undetermined:
            continue
        asked += 1
        truth = row["ground_truth"]
        if not any(str(truth) == a or is_number(truth, a) for a in answers):
            wrong.append((row["id"], row["question_type"], truth, answers))
    assert not wrong
    assert asked > 780


def is_number(truth, answer):
    try:
        return float(truth) == float(answer)
    except ValueError:
        return False
