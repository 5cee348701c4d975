"""The components of ours: consistency, assertions, boxes, relations; by hand and by
property."""

import dataclasses
import itertools
import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import refused

from spacer_lib.evaluation.counterfactual import counterfactual_shares, counterfactuals
from spacer_lib.evaluation.predictions import record, reward_rule
from spacer_lib.language.tags import write_completion
from spacer_lib.maps.boxes import (
    box_gap_m,
    box_score,
    parse_boxes,
    true_boxes,
    turned_boxes,
)
from spacer_lib.maps.grid import rasterize, turned
from spacer_lib.maps.relations import relation_score
from spacer_lib.maps.scores import best_turn
from spacer_lib.rewards.assertions import MAX_THOUGHT_CHARS, check_thought
from spacer_lib.rewards.config import ADDED, PRESETS, RewardConfig
from spacer_lib.rewards.consistency import consistency, follows, settled_by_map
from spacer_lib.rewards.counterfactual import counterfactual, truth_elsewhere
from spacer_lib.rewards.score import check_item, score
from spacer_lib.rewards.trl import trl_reward_functions
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import to_scene
from spacer_lib.tiny.curriculum import DEMONSTRATED, demonstration, draw_rows

CELLS = {"chair": [[2, 5], [4, 4]], "lamp": [[6, 8]], "bed": [[1, 1]], "sofa": [[8, 2]]}
BOXES = {
    "chair": [[-1, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]],
    "lamp": [[1, 2, 0.4, 0.4]],
    "bed": [[-2, -2, 1, 2]],
}
COUNT = {
    "id": "room:count:0",
    "question_type": "object_counting",
    "problem_type": "numerical",
    "question": "How many chair(s) are in this room?",
    "ground_truth": "2",
    "options": None,
    "categories": ["chair"],
    "map": CELLS,
    "boxes": BOXES,
}
SIDE = {
    **COUNT,
    "id": "room:side:0",
    "question_type": "object_rel_direction_easy",
    "problem_type": "multiple choice",
    "question": "?",
    "ground_truth": "A",  # standing at the bed, facing the sofa: the lamp is left
    "options": ["A. left", "B. right"],
    "categories": ["bed", "sofa", "lamp"],
}
ALL = RewardConfig(
    map_scorer="aligned",
    map_gate="always",
    length_window=None,
    **{f"{name}_weight": 1.0 for name in ADDED},
)


@pytest.fixture(scope="module")
def scenes():
    return [to_scene(draw_room(seed), with_boxes=False) for seed in range(30)]


# ---------------------------------------------------------------- consistency

MOVED = {**CELLS, "lamp": [[8, 0]]}  # now the lamp is on the right
CONSISTENT = [
    # answer, map, follows, consistent, why
    ("A", CELLS, 1, 1, "the true map, and its answer"),
    ("B", CELLS, 0, 0, "right map, another answer"),
    ("B", MOVED, 1, 0, "a map redrawn to fit a guess"),
    ("A", MOVED, 0, 0, "right by luck: the map says B"),
    ("A", {"bed": [[4, 4]], "sofa": [[5, 4]], "lamp": [[5, 5]]}, 1, 0, "asked alone"),
    ("A", dict.fromkeys(CELLS, [[5, 5]]), 0, 0, "all in one cell"),
    ("A", None, 0, 0, "no map"),
    ("A", {}, 0, 0, "an empty map"),
    (None, CELLS, 0, 0, "no answer"),
]


@pytest.mark.parametrize("answer, drawn, is_so, paid, why", CONSISTENT)
def test_consistency_by_hand(answer, drawn, is_so, paid, why):
    assert follows(answer, drawn, SIDE) == is_so, why
    found = consistency(answer, drawn, SIDE)
    # Three objects at arbitrary places may agree a little more than by chance.
    assert found.score == pytest.approx(paid, abs=0.15 if why == "asked alone" else 0)
    assert found.reason


def test_a_partly_right_map_pays_in_part():
    near = {**CELLS, "chair": [[2, 4], [5, 4]]}
    assert 0.5 < consistency("A", near, SIDE).score < 1
    assert consistency("2", {"chair": [[9, 9], [9, 0]]}, COUNT).score == 0


def test_consistency_does_not_apply_where_the_true_map_says_another_thing():
    for row in (
        {**SIDE, "ground_truth": "B"},
        {**SIDE, "map": None},
        {**COUNT, "question_type": "room_size_estimation"},
        {k: v for k, v in COUNT.items() if k != "question_type"},
    ):
        assert not settled_by_map(row)
        assert consistency("A", CELLS, row).score is None


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*CELLS, "door"]),
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=4),
    ),
    st.sampled_from(["A", "B"]),
    st.integers(1, 3),
)
def test_consistency_is_in_range_needs_a_right_answer_and_no_frame(drawn, answer, k):
    found = consistency(answer, drawn, SIDE).score
    assert 0 <= found <= 1 and (answer == "A" or found == 0)
    again = consistency(answer, turned(drawn, k), SIDE).score
    assert again == pytest.approx(found, abs=1e-9)


# ---------------------------------------------------------------- assertions

NEAR = {**SIDE, "question_type": "object_rel_distance"}
FAR = {**SIDE, "question_type": "object_abs_distance", "categories": ["bed", "sofa"]}
STATED = [
    # thought, row, right, wrong, why
    ("The lamp is left of the sofa.", COUNT, 1, 0, "6 < 8"),
    ("The lamp is to the right of the sofa.", COUNT, 0, 1, "6 < 8"),
    ("the LAMP is just to the left  of that Sofa", COUNT, 1, 0, "case and spaces"),
    ("The bed is south of the lamp; the lamp is above the bed.", COUNT, 1, 0, "one"),
    ("The lamp is above the bed. The lamp is below the bed.", COUNT, 0, 1, "both ways"),
    ("The chair is left of the sofa.", COUNT, 0, 0, "two chairs have no side"),
    ("The lamp is left of the lamp.", COUNT, 0, 0, "trivial"),
    ("The lamp is left of the throne.", COUNT, 0, 0, "not in the room"),
    ("The lamp is not left of the sofa.", COUNT, 0, 0, "no form of these"),
    ("There are 2 chairs. I see three sofas.", COUNT, 1, 1, "counts"),
    ("There is 1 sofa. There is 1 chair.", COUNT, 0, 1, "one is a guess"),
    ("There are 2 unicorns.", COUNT, 0, 0, "not in the room"),
    ("The bed is closer to the sofa than to the lamp.", COUNT, 1, 0, "7.1 < 8.6"),
    ("The bed is farther from the sofa than to the lamp.", COUNT, 0, 1, "7.1 < 8.6"),
    ("The bed is nearer to the chair than the sofa is.", COUNT, 0, 0, "two chairs"),
    ("The lamp is closer to the bed than the sofa is.", COUNT, 0, 1, "8.6 > 7.1"),
    ("The bed is 7 cells from the sofa.", COUNT, 1, 0, "7.07"),
    ("The bed is about 4 cells away from the sofa.", COUNT, 0, 1, "7.07"),
    ("The distance between the bed and the lamp is 3.6 m.", COUNT, 1, 0, "3.70 m"),
    ("The bed is 6 meters from the lamp.", COUNT, 0, 1, "3.70 m"),
    ("The bed is 2 metres from the sofa.", COUNT, 0, 0, "the sofa has no box"),
    ("chair=2", COUNT, 1, 0, "a working"),
    ("chair=210", {**COUNT, "question_type": "object_size_estimation"}, 0, 0, "cm"),
    ("sofa+7+1=1,lamp+5+7=4,turn=3,left", SIDE, 2, 0, "offsets from the bed"),
    ("sofa-7+1=11,lamp+5+7=4,turn=3,left", SIDE, 1, 1, "one offset is wrong"),
    ("sofa+6+2=12,lamp+5+7=04", SIDE, 2, 0, "within 1.5 cells"),
    ("sofa+7+1=35,lamp+5+7=43,sofa", NEAR, 4, 0, "and lengths in fifths"),
    ("sofa+7+1=35,lamp+5+7=14,lamp", NEAR, 3, 1, "14 fifths are 2.8 cells"),
    ("bed13:sofa84+7+1=02,lamp68+5+5=11,15,left", SIDE, 1, 1, "after cells"),
    ("bed13:sofa84+7+1=35,lamp68+5+5=35,sofa", NEAR, 2, 2, "after cells, lengths"),
    ("57x42,bed13:sofa84+7+1=35", FAR, 2, 0, "after its cell, of two objects"),
    ("", COUNT, 0, 0, "nothing"),
    ("\x02" + "9" * 400 + "\x03 is left of \x020\x03", COUNT, 0, 0, "our own marks"),
]


@pytest.mark.parametrize("thought, row, right, wrong, why", STATED)
def test_statements_by_hand(thought, row, right, wrong, why):
    found = check_thought(thought, row, CELLS, BOXES)
    assert (len(found.right), len(found.wrong)) == (right, wrong), (why, found)
    assert found.score == max(0, right - wrong) / max(4, right + wrong)


# Types whose workings state relations.
STATING = {
    "object_abs_distance": 2,  # an offset and its length
    "object_rel_distance": 6,
    "object_rel_direction_easy": 2,
    "object_rel_direction_medium": 2,
    "object_rel_direction_hard": 2,
}


def test_every_true_working_of_the_tiny_model_is_right():
    """No relation is missed, none is wrong."""
    for row in draw_rows(9_100_000, 36, DEMONSTRATED):
        text = demonstration(row)
        if text is None:
            continue
        working = text.split("</map>")[1].split("</think>")[0]
        found = check_thought(working, row, row["map"])
        assert not found.wrong, (working, found)
        # Not told: where an object has several places, and lengths between them.
        most = STATING.get(row["question_type"], 1)
        if all(len(row["map"][name]) == 1 for name in row["categories"] or ()):
            least = most if row["question_type"] in STATING else 0
            assert least <= len(found.right) <= most, (working, found)


def test_statements_are_read_in_the_frame_of_the_drawn_map():
    said = "The bed is left of the sofa. The lamp is above the bed. There are 2 chairs."
    said += " The sofa is right of the lamp."
    for quarters in range(4):
        drawn = turned(CELLS, quarters)
        assert turned(CELLS, best_turn(drawn, CELLS)) == drawn
    east = turned(CELLS, 1)
    # Turned, the bed is at (8, 1) and the sofa at (7, 8): one of four is wrong.
    for cells, paid in ((CELLS, 1.0), (east, 0.5)):
        text = write_completion("2", said, cells)
        assert score(text, COUNT, PRESETS["ours+assertions"]).assertions == paid
    fixed = dataclasses.replace(PRESETS["ours+assertions"], map_scorer="decay")
    assert score(write_completion("2", said, east), COUNT, fixed).assertions == 1


BLIND = [
    "The {a} is left of the {b}. ",
    "The {a} is 4 cells from the {b}. ",
    "The {a} is 2 m from the {b}. ",
    "There is 1 {a}. ",
    "There are 2 {a}. ",
    "The {a} is closer to the {b} than to the {c}. ",
]


@pytest.mark.parametrize("form", BLIND)
@pytest.mark.parametrize("style", ["dollhouse", "furnished"])
def test_the_best_blind_guess_of_each_form_pays_little(form, style):
    paid = []
    for seed in range(40):
        scene = to_scene(draw_room(seed, style), with_boxes=False)
        cells, boxes = rasterize(scene), true_boxes(scene)
        said = [
            form.format(a=a, b=b, c=c) for a, b, c in itertools.combinations(cells, 3)
        ]
        paid.append(check_thought("".join(said), COUNT, cells, boxes).score)
    assert np.mean(paid) < 0.25


def test_stuffing_pays_a_blind_policy_little(scenes):
    """Statements about every pair, in the order of the names: an order by chance."""
    paid, few = [], []
    for scene in scenes:
        cells = rasterize(scene)
        said = [
            f"The {a} is left of the {b}. " for a, b in itertools.combinations(cells, 2)
        ]
        paid.append(check_thought(50 * "".join(said), COUNT, cells).score)
        few.append(check_thought("".join(said[::9]), COUNT, cells).score)
    assert np.mean(paid) < 0.2 and np.mean(few) < 0.2


# ---------------------------------------------------------------- relations


def test_relations_know_no_frame_but_know_a_mirror(scenes):
    for scene in scenes[:10]:
        cells = rasterize(scene)
        assert relation_score(cells, cells) == pytest.approx(1)
        for k in (1, 2, 3):
            assert relation_score(turned(cells, k), cells) == pytest.approx(1)
        moved = {n: [(x + 3, y - 2) for x, y in spots] for n, spots in cells.items()}
        assert relation_score(moved, cells) == pytest.approx(1)
        mirrored = {n: [(9 - x, y) for x, y in s] for n, s in cells.items()}
        assert relation_score(mirrored, cells) < 0.6
        foreign = {**cells, "throne": [(5, 5)], "crown": [(4, 5)]}
        assert relation_score(foreign, cells) < 0.9
        surplus = {n: [*spots, *spots, *spots] for n, spots in cells.items()}
        assert relation_score(surplus, cells) == 0


def test_blind_maps_have_no_relations(scenes):
    rng, paid = np.random.default_rng(0), []
    for scene in scenes:
        cells = rasterize(scene)
        blind = {n: rng.integers(0, 10, (len(s), 2)).tolist() for n, s in cells.items()}
        paid.append(relation_score(blind, cells))
        assert (
            relation_score({n: [(5, 5)] * len(s) for n, s in cells.items()}, cells) == 0
        )
        assert relation_score({}, cells) == 0
    assert np.mean(paid) < 0.08


def test_a_turned_truth_has_the_same_relations(scenes):
    rng = np.random.default_rng(1)
    for scene in scenes[:10]:
        cells = rasterize(scene)
        drawn = {n: rng.integers(0, 10, (len(s), 2)).tolist() for n, s in cells.items()}
        drawn |= dict(list(cells.items())[::2])
        found = relation_score(drawn, cells)
        assert relation_score(drawn, turned(cells, 1)) == pytest.approx(found)


def test_two_objects_have_no_relation_to_score():
    assert (
        relation_score({"bed": [(0, 0)]}, {"bed": [(0, 0)], "sofa": [(9, 9)]}) is None
    )


# ---------------------------------------------------------------- boxes

TEXTS = [
    ('{"chair": [[1, 2, 0.5, 0.5]]}', None),
    ('{"chair": [[1, 2, 0, 0.5]]}', "boxes_degenerate"),
    ('{"chair": [[1, 2, -1, 0.5]]}', "boxes_degenerate"),
    ('{"chair": [[1, 2, NaN, 0.5]]}', "boxes_unreadable"),
    ('{"chair": [[Infinity, 2, 1, 0.5]]}', "boxes_unreadable"),
    ('{"chair": [[1e300, 2, 1, 0.5]]}', "boxes_unreadable"),
    ('{"chair": [[1, 2]]}', "boxes_unreadable"),
    ('{"chair": [1, 2, 1, 1]}', "boxes_unreadable"),
    ('{"chair": [[true, 2, 1, 1]]}', "boxes_unreadable"),
    ('{"chair": {"x": 1}}', "boxes_unreadable"),
    ('{"chair": []}', "boxes_unreadable"),
    ("{}", "boxes_unreadable"),
    ("[[1, 2, 3, 4]]", "boxes_unreadable"),
    ("chair near", "boxes_unreadable"),
    ("[" * 5000, "boxes_unreadable"),
    (" " * 10_001, "map_too_long"),
    ('{"chair": [[' + "9" * 5000 + ", 2, 1, 1]]}", "boxes_unreadable"),
]


@pytest.mark.parametrize("text, failure", TEXTS)
def test_readings_of_boxes(text, failure):
    found = parse_boxes(text)
    assert found.failure == failure and (found.boxes is None) == (failure is not None)


def test_repeated_names_are_joined():
    found = parse_boxes('{"chair": [[1, 2, 1, 1]], "Chairs": [[3, 2, 1, 1]]}')
    assert found.boxes == {"chair": [[1, 2, 1, 1], [3, 2, 1, 1]]}


def test_boxes_lie_in_the_room_and_are_read_back(scenes):
    for scene in scenes[:10]:
        boxes = true_boxes(scene)
        cells = rasterize(scene)
        assert {n: len(b) for n, b in boxes.items()} == {
            n: len(c) for n, c in cells.items()
        }
        half = np.subtract(scene.floor_max_m, scene.floor_min_m) / 2
        for found in boxes.values():
            assert (np.abs(np.array(found)[:, :2]) <= half + 0.3).all()
        assert parse_boxes(json.dumps(boxes)).boxes == boxes
        for k in range(4):
            assert box_score(turned_boxes(boxes, k), boxes) == pytest.approx(1)
        assert turned_boxes(boxes, 4) == boxes


def test_boxes_by_hand():
    """Halves of a square share half, of (1/2) / (1 + 1 - 1/2) = 1/3 with the other."""
    assert box_gap_m([0, 0, 1, 1], [3, 0, 1, 1]) == 2
    assert box_gap_m([0, 0, 2, 2], [0.5, 0, 2, 2]) == 0
    assert box_gap_m([0, 0, 1, 1], [4, 5, 1, 1]) == 5
    off = {**BOXES, "lamp": [[1.2, 2, 0.4, 0.4]]}
    # One of four boxes overlaps by a third: a falls by (2/3) / 4.
    assert 0 < box_score(off, BOXES) < 1
    lost = (1 - box_score(off, BOXES)) / (2 / 3 / 4)
    gone = {**BOXES, "lamp": [[9, 2, 0.4, 0.4]]}
    assert 1 - box_score(gone, BOXES) == pytest.approx(lost / 4)


def test_blind_boxes_earn_nothing(scenes):
    rng, paid = np.random.default_rng(0), []
    for scene in scenes:
        boxes = true_boxes(scene)
        blind = {
            n: [[*rng.uniform(-3, 3, 2), *b[2:]] for b in found]
            for n, found in boxes.items()
        }
        paid.append(box_score(blind, boxes))
        for same in ([0, 0, 8, 8], [0, 0, 1, 1], [0.5, 0.5, 0.3, 0.3]):
            drawn = {n: [same] * len(found) for n, found in boxes.items()}
            assert box_score(drawn, boxes) <= 0.03
        assert box_score({}, boxes) == 0
        many = {n: 20 * found for n, found in boxes.items()}
        assert box_score(many, boxes) < 0.1
    assert np.mean(paid) < 0.03


def test_a_room_without_boxes_is_refused():
    with refused("maps.no-boxes"):
        box_score(BOXES, {"chair": []})


# ---------------------------------------------------------------- all together

noise = st.text(max_size=60) | st.lists(
    st.sampled_from(
        "<think> </think> <map> </map> <answer> </answer> A B 2 { } [ ] , : "
        '"chair" "bed" lamp 1 0.5 -3 NaN + = is left of from m cells there are'.split()
    ),
    max_size=40,
).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(noise, st.sampled_from([COUNT, SIDE]))
def test_added_rewards_lie_in_range_and_no_text_raises(text, item):
    found = score(text, item, ALL)
    parts = [getattr(found, name) for name in ADDED]
    assert all(math.isfinite(p) and 0 <= p <= 1 for p in parts)
    total = found.format + found.task + found.map + found.length + sum(parts)
    assert found.total == pytest.approx(total)
    assert [why.split(":")[0] for why in found.reasons] == list(ALL.components)


@pytest.mark.parametrize(
    "unit",
    [
        "The lamp is left of the sofa. ",
        "lamp+1+1=2,",
        "the the the lamp is ",
        "distance between the lamp and ",
        "there are 1",
        '<map>{"chair":[[1,1,1,1]],',
        "[[[[",
    ],
)
def test_time_is_linear(unit):
    def seconds(size):
        text = f"<think>{unit * (size // len(unit))}</think><answer>2</answer>"
        start = time.process_time()
        score(text, COUNT, ALL)
        return time.process_time() - start

    seconds(2_000)
    assert seconds(200_000) < 1.0


def test_what_stands_after_the_bound_is_not_read():
    said = " " * 3 + "so " * MAX_THOUGHT_CHARS + "The lamp is left of the sofa."
    assert check_thought(said, COUNT, CELLS).score == 0


def test_parts_are_recorded_where_they_have_a_weight():
    names = [f.__name__ for f in trl_reward_functions(PRESETS["ours"])]
    assert names == ["format", "task", "map", "length"]
    text = write_completion("2", "There are 2 chairs.", CELLS)
    columns = {key: [value] for key, value in COUNT.items()}

    def pay(functions):
        batch = {"prompts": [""], "completions": [text], **columns}
        return {function.__name__: function(**batch) for function in functions}

    paid = pay(trl_reward_functions(ALL))
    assert list(paid) == list(ALL.components)
    assert paid["consistency"] == paid["relations"] == [pytest.approx(1)]
    assert paid["assertions"] == [0.25] and paid["boxes"] == [0]
    columns |= {"map": [None], "boxes": [None]}
    none = pay(trl_reward_functions(ALL))
    assert [none[name] for name in ADDED] == [[None]] * 4


def test_weights_and_gates():
    half = dataclasses.replace(ALL, **{f"{n}_weight": 0.5 for n in ADDED})
    text = write_completion("2", "There are 2 chairs.", CELLS)
    whole, halved = score(text, COUNT, ALL), score(text, COUNT, half)
    for name in ADDED:
        assert getattr(halved, name) == getattr(whole, name) / 2
    wrong = write_completion("7", "There are 2 chairs.", CELLS)
    assert score(wrong, COUNT, ALL).assertions == 0.25  # the gate is always open
    shut = dataclasses.replace(ALL, map_gate="paper")
    assert score(wrong, COUNT, shut).assertions == 0


@pytest.mark.parametrize(
    "change, kind",
    [
        ({"consistency_weight": -1.0}, "rewards.invalid-consistency-weight"),
        ({"boxes_weight": math.nan}, "rewards.invalid-boxes-weight"),
        ({"relations_weight": 1.0, "code": "spacer"}, "rewards.invalid-code"),
        ({"assertions_weight": 1.0, "map_gate": "off"}, "rewards.invalid-map-gate"),
    ],
)
def test_wrong_settings_of_added_parts_are_refused(change, kind):
    with refused(kind):
        RewardConfig(**change)


@pytest.mark.parametrize(
    "boxes, kind",
    [
        ("{", "rewards.boxes-not-json"),
        ([1], "rewards.boxes-malformed"),
        ({"chair": [[1, 2, 3]]}, "rewards.boxes-malformed"),
        ({"chair": [[1, 2, 0, 1]]}, "rewards.boxes-malformed"),
        ({"chair": [[1, 2, math.nan, 1]]}, "rewards.boxes-malformed"),
        ({"chair": 7}, "rewards.boxes-malformed"),
    ],
)
def test_malformed_true_boxes_are_refused(boxes, kind):
    with refused(kind):
        check_item({**COUNT, "boxes": boxes}, ALL)
    check_item({**COUNT, "boxes": json.dumps(BOXES)}, ALL)
    check_item({**COUNT, "boxes": {"chair": None}}, ALL)


# ---------------------------------------------------------------- counterfactual

OTHER = {"bed": [[1, 1]], "sofa": [[8, 2]], "lamp": [[8, 0]]}  # there the lamp is right
PAIRS = [
    # beside the own video, beside the other, other truth, reward, why
    ("A", "B", "B", 1, "it changes, and the own answer is right"),
    ("A", "A", "B", 0, "the same answer beside both"),
    ("B", "A", "B", 0, "it changes, and the own answer is wrong"),
    ("A", "none", "B", 0, "unread"),
    ("A", "B", "A", None, "the other room has the same answer"),
    ("A", "B", None, None, "the other room has none"),
]


@pytest.mark.parametrize("own, other, truth, paid, why", PAIRS)
def test_counterfactual_by_hand(own, other, truth, paid, why):
    texts = [write_completion(answer, "so") for answer in (own, other)]
    assert counterfactual(*texts, SIDE, truth, PRESETS["ours"]).score == paid, why


def test_the_truth_elsewhere_is_the_solvers():
    assert truth_elsewhere(SIDE, OTHER) == "B" and truth_elsewhere(SIDE, CELLS) == "A"
    assert truth_elsewhere(SIDE, {}) is None and truth_elsewhere(SIDE, None) is None


@settings(max_examples=60, deadline=None)
@given(noise, noise, st.sampled_from(["A", "B", None]))
def test_counterfactual_is_in_range(first, second, truth):
    paid = counterfactual(first, second, SIDE, truth, PRESETS["ours"]).score
    assert paid in (None, 0, 1)
    assert not counterfactual(first, first, SIDE, truth, PRESETS["ours"]).score


def test_counterfactuals_of_predictions():
    """Room 1 shows room 2 and the other way round; in room 2 the answer is B."""
    rows = [
        {**SIDE, "id": "1", "scene_name": "scene0001_00", "video": "1.mp4"},
        {**SIDE, "id": "2", "scene_name": "scene0002_00", "video": "2.mp4"},
    ]
    rows[1] |= {"map": OTHER, "ground_truth": "B"}

    def predict(*answers):
        return [
            record(row, write_completion(answer, "so"), reward_rule())
            for row, answer in zip(rows, answers, strict=True)
        ]

    table = counterfactuals(predict("A", "A"), predict("B", "A"), rows)
    assert table.other_truth.tolist() == ["B", "A"]
    assert table.changed.tolist() == [1, 0] and table.reward.tolist() == [1, 0]
    shares = counterfactual_shares(table).set_index("measure")
    assert shares.value.to_dict() == {"changed": 0.5, "reward": 0.5}
    assert (shares.n == 2).all()
    rows[1] |= {"map": CELLS, "ground_truth": "A"}
    table = counterfactuals(predict("A", "A"), predict("B", "A"), rows)
    assert table.kept.tolist() == [0, 1] and table.changed.isna().all()
    with refused("evaluation.other-questions"):
        counterfactuals(predict("A", "A"), predict("A", "A")[:1], rows)
