"""Nine question types: worked by hand, against random rooms, against VSI-Bench."""

import dataclasses
import itertools
import json
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import refused

from spacer_lib.maps.grid import rasterize
from spacer_lib.questions.audit import audit
from spacer_lib.questions.choose import (
    flat_choice,
    flatten_answers,
    split_spaces,
    water_fill,
    with_answer_at,
    without_options,
)
from spacer_lib.questions.generators import (
    DIRECTION_BORDERS_DEG,
    GENERATORS,
    MULTIPLE_CHOICE,
    VSIBENCH_TYPES,
    Draft,
    Rejection,
    Rules,
    direction_answer,
    question_rows,
    task_kind,
)
from spacer_lib.rooms.identity import benchmark_rooms
from spacer_lib.rooms.scene import (
    STRUCTURAL_CATEGORIES,
    ObjectInstance,
    Scene,
    read_meta_file,
)
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import to_scene

DEFAULT_RULES = Rules()
DIRECTIONS = [name for name in VSIBENCH_TYPES if "direction" in name]


def box(number, category, center, size=(0.4, 0.4, 0.4), seen=None):
    center, half = np.array(center, float), np.array(size) / 2
    low, high = center - half, center + half
    axes = np.eye(3).ravel()
    return ObjectInstance(number, category, center, size, axes, low, high, None, seen)


def scene_of(*instances, **changes):
    values = {"room_size_m2": 23.96, "floor_min_m": (0, 0), "floor_max_m": (6, 4)}
    return Scene(
        "scene0001_00",
        "hand",
        instances,
        room_center_m=(3, 2, 1),
        fps=24.0,
        **(values | changes),
    )


@pytest.fixture
def scene():
    """Seen from above (metres): bed at the origin corner, desk to the east.

    y=3.5          lamp(1,3.5)
    y=1   bed(1,1)            desk(4,1)   chairs at x = 2 and 3
    """
    return scene_of(
        box(0, "bed", (1, 1, 0.5), (1.0, 0.8, 0.5), seen=0),
        box(1, "desk", (4, 1, 0.5), (1.234, 0.6, 0.7), seen=48),
        box(2, "lamp", (1, 3.5, 0.5), seen=96),
        box(3, "chair", (2, 1, 0.5), seen=144),
        box(4, "chair", (3, 1, 0.5), seen=30),
        box(5, "cup", (5, 3, 0.5), (0.1, 0.1, 0.1), seen=240),
        box(6, "wall", (0, 2, 1), (0.1, 4, 2), seen=0),
    )


def made(name, scene, rules=DEFAULT_RULES, seed=0):
    results = list(GENERATORS[name](scene, np.random.default_rng(seed), rules))
    questions = [r for r in results if isinstance(r, Draft)]
    return questions, Counter(r.reason for r in results if isinstance(r, Rejection))


def chosen(question):
    """The words of the right option."""
    return question.options[ord(question.ground_truth) - 65][3:]


def test_counting_by_hand(scene):
    (question,), why_not = made("object_counting", scene)
    assert question.question == "How many chair(s) are in this room?"
    assert (question.ground_truth, question.options) == ("2", None)
    assert why_not == {"fewer than 2 instances": 4}


def test_counts_of_two_categories_need_two():
    bed, *chairs = (
        box(n, name, (n + 1, 1, 0.5))
        for n, name in enumerate(["bed", "chair", "chair"])
    )
    alone = scene_of(*chairs)
    pair = "object_counting_multiple"
    assert made(pair, alone) == ([], {"fewer than two categories": 1})
    (question,), why_not = made(pair, scene_of(bed, *chairs))
    assert question.ground_truth == "3" and not why_not


def test_a_category_that_the_counts_lack_is_not_counted():
    boxes = box(0, "bed", (1, 1, 0.5)), box(1, "chair", (3, 1, 0.5))
    scene, rules = scene_of(*boxes, object_counts={"chair": 1}), Rules(min_count=1)
    (question,), why_not = made("object_counting", scene, rules)
    assert question.categories == ("chair",)
    assert why_not == {"fewer than 1 instances": 1}
    assert made("object_counting_multiple", scene, rules) == ([], why_not)


def test_object_size_by_hand(scene):
    questions, why_not = made("object_size_estimation", scene)
    answers = {q.categories[0]: q.ground_truth for q in questions}
    assert answers == {"bed": "100", "desk": "123", "lamp": "40"}
    assert why_not == {"category is not unique": 1, "object too small": 1}
    # Metadata may count another number than it has boxes: then nothing is unique.
    counts = {"bed": 1, "desk": 2, "chair": 1, "cup": 1}
    odd = dataclasses.replace(scene, object_counts=counts)
    questions, why_not = made("object_size_estimation", odd)
    assert [q.categories for q in questions] == [("bed",)]
    assert why_not == {"category is not unique": 3, "object too small": 1}


def test_the_longest_of_three_is_compared_with_the_second():
    boxes = (
        box(n, name, (n + 1, 1, 0.5), (edge, 0.3, 0.3))
        for n, (name, edge) in enumerate({"bed": 1, "desk": 0.5, "lamp": 0.4}.items())
    )
    rules = Rules(rel_distance_options=3)
    (question,), why_not = made("object_size_comparison", scene_of(*boxes), rules)
    assert chosen(question) == "bed" and not why_not


def test_margins_are_the_least_that_is_asked_and_five_categories_are_enough():
    """Nearest faces 0.5, 1, 1.5 and 2 m from the target's."""
    rules = Rules(rel_distance_margin_m=0.5)
    names = ("bed", "desk", "lamp", "chair", "cup")
    spots = (0, 1, 1.5, 2, 2.5)
    cubes = [
        box(i, name, (x, 0, 0.25), (0.5, 0.5, 0.5))
        for i, (name, x) in enumerate(zip(names, spots, strict=True))
    ]
    questions, _ = made("object_rel_distance", scene_of(*cubes), rules)
    assert ["bed"] == [q.categories[0] for q in questions]
    assert chosen(questions[0]) == "desk"
    closer = dataclasses.replace(rules, rel_distance_margin_m=0.5001)
    assert made("object_rel_distance", scene_of(*cubes), closer)[0] == []


@pytest.mark.parametrize("difficulty", DIRECTION_BORDERS_DEG)
def test_the_answer_changes_at_each_border_and_nowhere_else(difficulty):
    def around(turn):
        """Answers on both sides; 180 degrees to the left are 180 to the right."""
        sides = ((turn + side + 180) % 360 - 180 for side in (-1e-6, 1e-6))
        return [direction_answer(side, difficulty) for side in sides]

    borders = DIRECTION_BORDERS_DEG[difficulty]
    assert all(before != after for before, after in map(around, borders))
    rest = {float(turn) for turn in range(-180, 181)} - set(borders)
    assert all(before == after for before, after in map(around, rest))


def test_answers_are_evened_out_over_whole_numbers():
    rows = [
        {"question_type": "object_counting", "ground_truth": truth} for truth in "2223"
    ]
    kept = flatten_answers(rows, "object_counting", np.random.default_rng(0))
    assert [row["ground_truth"] for row in kept] == ["2", "2", "3"]


def test_room_size_by_hand(scene):
    (question,), why_not = made("room_size_estimation", scene)
    assert question.ground_truth == "24.0" and not why_not
    other = Rules(room_area="spatial-r1")
    for room, rules in ((scene_of(room_size_m2=0.0), DEFAULT_RULES), (scene, other)):
        reason = f"no area of the room by the rule {rules.room_area}"
        assert made("room_size_estimation", room, rules) == ([], {reason: 1})
    both = scene_of(room_areas_m2={"vsi-bench": 23.96, "spatial-r1": 21.04})
    (question,), _ = made("room_size_estimation", both, other)
    assert question.ground_truth == "21.0"
    (question,), _ = made("room_size_estimation", both)
    assert question.ground_truth == "24.0"


def test_absolute_distance_by_hand(scene):
    questions, why_not = made("object_abs_distance", scene)
    answers = {frozenset(q.categories): float(q.ground_truth) for q in questions}
    # Faces look at each other at 3.0 - 0.5 - 0.617 and 2.5 - 0.4 - 0.2 metres. The
    # official points may miss a face by one sampling step: a decimetre of slack.
    assert answers[frozenset({"bed", "desk"})] == pytest.approx(1.883, abs=0.1)
    assert answers[frozenset({"bed", "lamp"})] == pytest.approx(1.9, abs=0.11)
    # (4 - 0.617 - 1.2, 3.3 - 1.3) = (2.183, 2.0) metres apart.
    assert answers[frozenset({"desk", "lamp"})] == pytest.approx(2.961, abs=0.1)
    assert len(answers) == 3 and why_not == {"object too small": 3}
    near = scene_of(box(0, "bed", (1, 1, 1)), box(1, "desk", (1.5, 1, 1)))
    assert made("object_abs_distance", near)[1] == {"objects touch or nearly touch": 1}


def test_relative_distance_by_hand(scene):
    for seed in range(20):
        questions, _ = made("object_rel_distance", scene, seed=seed)
        for question in questions:
            target, *options = question.categories
            # From the bed: chair 2 - 0.2 - 1.5 = 0.3, then desk, lamp, cup.
            nearest = {"bed": "chair", "desk": "chair", "lamp": "bed", "cup": "desk"}
            assert chosen(question) == nearest[target] and len(options) == 4
            assert f"({', '.join(options)})" in question.question
            assert [f"{chr(65 + i)}. {o}" for i, o in enumerate(options)] == list(
                question.options
            )
    few = scene_of(*scene.instances[:3])
    assert made("object_rel_distance", few)[1] == {"fewer than 5 categories": 1}


def test_directions_by_hand(scene):
    """At the bed, facing the desk (east), the lamp is straight to the left."""
    words = {}
    loose = Rules(direction_border_deg=0.0)  # the lamp is at exactly 90 degrees
    for name in DIRECTIONS:
        questions, _ = made(name, scene, loose)
        words[name] = {q.categories: chosen(q) for q in questions}
    easy, medium, hard = (words[name] for name in DIRECTIONS)
    assert easy["bed", "desk", "lamp"] == medium["bed", "desk", "lamp"] == "left"
    assert easy["bed", "lamp", "desk"] == "right"
    # At the desk facing the bed (west), the lamp (up and west) is front-right.
    assert hard["desk", "bed", "lamp"] == "front-right"
    # At the desk facing the cup (1 east, 2 north), the bed lies 116 degrees left.
    assert hard["desk", "cup", "bed"] == "back-left"
    assert medium["desk", "cup", "bed"] == "left"
    assert all("wall" not in names and "chair" not in names for names in easy)


@pytest.mark.parametrize(
    "turn, easy, medium, hard",
    [
        (45, "left", "left", "front-left"),
        (-45, "right", "right", "front-right"),
        (100, "left", "left", "back-left"),
        (-100, "right", "right", "back-right"),
        (150, "left", "back", "back-left"),
        (-150, "right", "back", "back-right"),
    ],
)
def test_turns_in_words(turn, easy, medium, hard):
    for difficulty, word in (("easy", easy), ("medium", medium), ("hard", hard)):
        assert direction_answer(turn, difficulty) == word


def test_direction_filters(scene):
    row = (("bed", 1), ("desk", 2), ("lamp", 4))
    on_border = scene_of(*(box(i, n, (x, 1, 1)) for i, (n, x) in enumerate(row)))
    assert made(DIRECTIONS[0], on_border) == (
        [],
        {"direction near the border of two answers": 6},
    )
    assert made(DIRECTIONS[0], scene, Rules(direction_min_m=9))[1] == {
        "objects too close together": 24
    }
    assert made(DIRECTIONS[0], scene, Rules(direction_max_m=0.5))[1] == {
        "objects too far apart": 24
    }


def test_appearance_order_by_hand(scene):
    rules = Rules(order_gap_s=0.5)
    orders = {}
    for seed in range(10):
        for question in made("obj_appearance_order", scene, rules, seed)[0]:
            orders[frozenset(question.categories)] = chosen(question)
    # The chairs count from the earlier one, frame 30.
    first = ["bed", "chair", "desk", "lamp", "cup"]
    for names, order in orders.items():
        assert order == ", ".join(name for name in first if name in names)
    assert orders
    # Chair at 1.25 s and desk at 2 s are less than a second apart.
    for seed in range(10):
        for question in made("obj_appearance_order", scene, seed=seed)[0]:
            assert not {"chair", "desk"} <= set(question.categories)
    blind = scene_of(*(box(i, f"thing{i}", (i, 1, 1)) for i in range(5)))
    assert made("obj_appearance_order", blind)[1] == {
        "first appearance unknown": 5,
        "fewer than four categories with a first appearance": 1,
    }
    three = scene_of(*(box(i, f"thing{i}", (i, 1, 1), seen=48 * i) for i in range(3)))
    assert made("obj_appearance_order", three)[1] == {
        "fewer than four categories with a first appearance": 1
    }


def test_aligned_boxes_and_centres_by_rule(scene):
    tilted = dataclasses.replace(
        scene.instances[0], axes_lengths_m=(9, 9, 9), centroid_m=(1.1, 1, 0.5)
    )
    changed = dataclasses.replace(scene, instances=(tilted, *scene.instances[1:]))
    for rules, length in ((Rules(), "900"), (Rules(boxes="aligned"), "100")):
        questions, _ = made("object_size_estimation", changed, rules)
        answers = {q.categories[0]: q.ground_truth for q in questions}
        assert answers["bed"] == length
    questions, _ = made("object_abs_distance", scene, Rules(abs_distance="centers"))
    answers = {frozenset(q.categories): q for q in questions}
    question = answers[frozenset({"bed", "desk"})]
    assert question.ground_truth == "3.0" and "from the center of" in question.question
    exact, _ = made("object_abs_distance", scene, Rules(abs_distance="exact"))
    answers = {frozenset(q.categories): q.ground_truth for q in exact}
    # 3.0 - 0.5 - 0.617; 2.5 - 0.4 - 0.2; hypot(2.183, 2.0): no sampling step is lost.
    assert answers == {
        frozenset({"bed", "desk"}): "1.9",
        frozenset({"bed", "lamp"}): "1.9",
        frozenset({"desk", "lamp"}): "3.0",
    }
    excluded, _ = made("object_size_estimation", scene, Rules(excluded=["bed"]))
    assert {q.categories[0] for q in excluded} == {"desk", "lamp"}
    with refused("questions.unknown-rule-value", says="boxes"):
        Rules(boxes="round")
    with refused("questions.unknown-rule-value", says="vsi-bench or spatial-r1"):
        Rules(room_area="vsibench")
    with refused("questions.unknown-rule-value", says="sampled or exact or centers"):
        Rules(abs_distance="closest")
    with refused("questions.unknown-rule-value", says="wording"):
        Rules(wording="mine")


def test_more_rounds_ask_no_question_twice():
    names = ["bed", "desk", "lamp", "cup", "sofa", "door", "tv", "shelf", "mug"]
    spots = [(0.9 * i + 0.02 * i * i, 2.1 * (i % 3), 1) for i in range(len(names))]
    room = scene_of(*(box(i, n, p) for i, (n, p) in enumerate(zip(names, spots))))  # noqa: B905
    once, _ = made("object_rel_distance", room)
    often, why_not = made("object_rel_distance", room, Rules(rel_distance_rounds=6))
    keys = [(q.categories[0], *sorted(q.categories[1:])) for q in often]
    assert len(keys) == len(set(keys)) > len(once)


@pytest.mark.parametrize(
    "name, asked",
    [
        ("chair", "chair(s)"),
        ("blinds", "blinds"),
        ("glass", "glass(s)"),
        ("bookshelves", "bookshelves"),
        ("computer mouse", "computer mouse(s)"),
    ],
)
def test_no_double_plural(name, asked):
    room = scene_of(box(0, name, (1, 1, 1)), box(1, name, (2, 1, 1)))
    (question,), _ = made("object_counting", room)
    assert question.question == f"How many {asked} are in this room?"


@pytest.fixture(scope="module")
def random_scenes():
    """200 rooms with first-seen frames drawn at random."""
    rng = np.random.default_rng(0)
    scenes = []
    for seed in range(200):
        room = draw_room(seed, "furnished" if seed % 2 else "dollhouse")
        meta = to_scene(room).to_meta()
        for boxes in meta["object_bbox"].values():
            for entry in boxes:
                entry["first_seen_frame"] = int(rng.integers(0, 600))
        shell = dict(meta["object_bbox"][next(iter(meta["object_bbox"]))][0])
        shell["instance_id"] = 99
        meta |= {"fps": 24.0, "object_bbox": meta["object_bbox"] | {"wall": [shell]}}
        scenes.append(Scene.from_meta(room.scene_id, meta))
    return scenes


@pytest.fixture(scope="module")
def random_rows(random_scenes):
    return [(s, question_rows(s, 7)[0]) for s in random_scenes]


def test_no_degenerate_question_in_random_rooms(random_rows):
    kinds = Counter()
    for scene, rows in random_rows:
        groups = scene.by_category()
        for row in rows:
            kinds[row["question_type"]] += 1
            names = row["categories"]
            assert len(set(names)) == len(names)
            assert not set(names) & STRUCTURAL_CATEGORIES
            assert not re.search(r"the (wall|floor)\b|s\(s\)", row["question"])
            assert all(name in row["question"] for name in names)
            assert row["map"] == json.loads(json.dumps(rasterize(scene)))
            kind = row["question_type"]
            if "direction" in kind or kind == "object_abs_distance":
                assert len(names) == (3 if "direction" in kind else 2)
                assert all(len(groups[name]) == 1 for name in names)
            if kind in ("object_size_estimation", "object_rel_distance"):
                assert len(groups[names[0]]) == 1
            if row["problem_type"] == MULTIPLE_CHOICE:
                texts = [option[3:] for option in row["options"]]
                assert len(set(texts)) == len(texts)
                assert [o[:3] for o in row["options"]] == [
                    f"{letter}. " for letter in "ABCD"[: len(texts)]
                ]
                assert row["ground_truth"] in "ABCD"[: len(texts)]
            else:
                assert row["options"] is None and float(row["ground_truth"]) > 0
    assert set(kinds) == set(VSIBENCH_TYPES) and min(kinds.values()) >= 20, kinds


def test_letters_are_balanced_when_shuffled(random_scenes):
    seen = {name: Counter() for name in VSIBENCH_TYPES}
    for scene in random_scenes:
        for row in question_rows(scene, 3, per_task=4)[0]:
            if row["options"]:
                seen[row["question_type"]][row["ground_truth"]] += 1
    for name, letters in seen.items():
        total = sum(letters.values())
        if not total:
            continue
        size = {"easy": 2, "medium": 3}.get(name.rsplit("_")[-1], 4)
        share = 1 / size
        # Five standard errors of a fair draw.
        slack = 5 * np.sqrt(share * (1 - share) / total)
        for letter in "ABCD"[:size]:
            assert abs(letters[letter] / total - share) < slack, (name, letters)


def test_unshuffled_options_are_alphabetical(random_scenes):
    rows = question_rows(random_scenes[1], 0, rules=Rules(shuffle_options=False))[0]
    options = [row["options"] for row in rows if row["options"]]
    assert options
    for texts in options:
        assert [o[3:] for o in texts] == sorted(o[3:] for o in texts)


def test_questions_depend_on_seed_and_scene_only(random_scenes):
    alone = question_rows(random_scenes[0], 5)[0]
    assert question_rows(random_scenes[0], 5)[0] == alone
    assert question_rows(random_scenes[0], 6)[0] != alone
    fewer = question_rows(random_scenes[0], 5, tasks=["object_abs_distance"])[0]
    assert fewer == [r for r in alone if r["question_type"] == "object_abs_distance"]
    capped = question_rows(random_scenes[0], 5, per_task={"object_abs_distance": 1})[0]
    assert capped == fewer[:1]
    with refused("questions.unknown-type", says="object_colour"):
        question_rows(random_scenes[0], 5, tasks=["object_colour"])


def test_flattening_keeps_at_most_the_mean():
    rows = [
        {"question_type": "object_counting", "ground_truth": str(n), "n": i}
        for n, many in ((2, 10), (3, 4), (4, 1))
        for i in range(many)
    ]
    rows.append({"question_type": "other", "ground_truth": "2"})
    flat = flatten_answers(rows, "object_counting", np.random.default_rng(0))
    counts = Counter((r["question_type"], r["ground_truth"]) for r in flat)
    assert counts == {
        ("object_counting", "2"): 5,
        ("object_counting", "3"): 4,
        ("object_counting", "4"): 1,
        ("other", "2"): 1,
    }
    assert [rows.index(row) for row in flat] == sorted(rows.index(row) for row in flat)
    assert flatten_answers(rows, "absent", np.random.default_rng(0)) == rows


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 40)), st.integers(0, 200))
def test_a_total_is_shared_evenly(sizes, total):
    quota = water_fill(sizes, total)
    assert sum(quota.values()) == min(total, sum(sizes.values()))
    assert all(quota[key] <= sizes[key] for key in sizes)
    open_ones = [quota[key] for key in sizes if quota[key] < sizes[key]]
    if open_ones:  # equal to within one, and no smaller size takes more
        assert max(quota.values()) <= min(open_ones) + 1


def test_bins_have_the_given_width_and_targets_are_met():
    answers = [f"{value:.1f}" for value in np.linspace(0, 4.9, 50)] + ["0.2"] * 50
    kept = flat_choice(answers, 0.5, np.random.default_rng(0), target=40)
    bins = Counter(int(float(answers[i]) / 0.5) for i in kept)
    assert len(kept) == 40 and set(bins.values()) == {4} and len(bins) == 10
    assert flat_choice([], 1.0, np.random.default_rng(0)) == []


@pytest.mark.parametrize("position", range(4))
def test_the_right_option_moves_and_the_question_follows(random_rows, position):
    moved = 0
    for scene, rows in random_rows[:40]:
        for row in rows:
            if not row["options"] or len(row["options"]) <= position:
                continue
            new = with_answer_at(row, position)
            words = row["options"]["ABCD".index(row["ground_truth"])][3:]
            assert new["ground_truth"] == "ABCD"[position]
            assert new["options"][position] == f"{'ABCD'[position]}. {words}"
            assert sorted(o[3:] for o in new["options"]) == sorted(
                o[3:] for o in row["options"]
            )
            if row["question_type"] == "object_rel_distance":
                shown = [option[3:] for option in new["options"]]
                assert f"({', '.join(shown)})" in new["question"]
                assert new["categories"] == [row["categories"][0], *shown]
                # Still right by the official formula.
                assert not audit([scene], [new])["disagreements"]
            else:
                assert new["question"] == row["question"]
            moved += 1
    assert moved > 50


def test_without_options_the_answer_is_words(random_rows):
    rows = [row for _, mine in random_rows for row in mine if row["options"]]
    for row in rows:
        free = without_options(row)
        assert free["options"] is None and free["problem_type"] == "option-free"
        assert f"{row['ground_truth']}. {free['ground_truth']}" in row["options"]


def test_splits_keep_rescans_together():
    ids = [f"scene{n:04d}_{v:02d}" for n in range(20) for v in range(1 + n % 3)]
    parts = split_spaces(ids, {"train": 0.5, "test": 0.5}, 0)
    assert sorted(itertools.chain(*parts.values())) == sorted(ids)
    spaces = [{name.split("_")[0] for name in ids} for ids in parts.values()]
    assert not spaces[0] & spaces[1]
    assert split_spaces(ids[::-1], {"train": 0.5, "test": 0.5}, 0) == parts
    with refused("questions.shares"):
        split_spaces(["a", "b"], {"train": float("nan"), "test": 0.5}, 0)
    with refused("questions.shares"):
        split_spaces(ids, {"train": 0.5}, 0)


def test_benchmark_rooms_are_the_official_validation_list():
    rooms = benchmark_rooms()["scannet"]
    assert {"scene0011", "scene0568", "scene0704"} <= rooms
    assert "scene0000" not in rooms


def test_three_difficulties_are_one_kind():
    assert {task_kind(name) for name in DIRECTIONS} == {"object_rel_direction"}
    assert len({task_kind(name) for name in VSIBENCH_TYPES}) == 7


# --- The published metadata and questions -------------------------------------------


@pytest.fixture(scope="module")
def real_scenes(real_meta):
    return {scene.scene_id: scene for scene in read_meta_file(real_meta)}


def test_published_metadata_gives_maps_and_questions(real_scenes):
    kinds = Counter()
    for scene in real_scenes.values():
        cells = rasterize(scene)
        assert set(cells) == set(scene.by_category())
        rows, rejections = question_rows(scene, 0)
        assert rows and rejections
        kinds.update(row["question_type"] for row in rows)
    assert len(real_scenes) == 44
    assert set(kinds) == set(VSIBENCH_TYPES) - {"obj_appearance_order"}


def test_the_benchmark_holds_the_published_rooms(real_scenes):
    assert {scene.space_id for scene in real_scenes.values()} <= benchmark_rooms()[
        "scannet"
    ]
