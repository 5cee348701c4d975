"""The solver against the generator and by hand; maps beside answers; failures."""

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from support import refused

from spacer_lib.artifacts import read_json, read_jsonl
from spacer_lib.benchmarks.rules import last_letter, strict
from spacer_lib.evaluation.consistency import (
    FAILURES,
    SHARES,
    failure_examples,
    failures,
    shares,
)
from spacer_lib.evaluation.predictions import record, reward_rule
from spacer_lib.maps.grid import rasterize
from spacer_lib.maps.text import map_to_text
from spacer_lib.questions.audit import named_categories
from spacer_lib.questions.choose import without_options
from spacer_lib.questions.generators import Rules, question_rows, task_kind
from spacer_lib.questions.solver import (
    BEYOND_MAPS,
    Solved,
    answer_from_map,
    cell_size_m,
    objects_of,
)
from spacer_lib.rewards.consistency import same_answer
from spacer_lib.rooms.scene import Scene
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import to_scene

FINE = 1000


def predict(row, text):
    return record(row, text, reward_rule())


def ask(kind, categories, truth, *, options=None, **more):
    numerical = kind in ("object_counting", "object_abs_distance")
    return {
        "id": "q",
        "scene_name": "scene0001_00",
        "question_type": kind,
        "problem_type": "numerical" if numerical else "multiple choice",
        "question": "",
        "options": options,
        "ground_truth": truth,
        "categories": list(categories),
        **more,
    }


QUADRANTS = ["A. back-left", "B. back-right", "C. front-left", "D. front-right"]
SIDES = ["A. left", "B. right"]


# ---------------------------------------------------------------- against the generator


@pytest.fixture(scope="module")
def rooms():
    """(scene, rows, map in cells of a thousandth of the floor)"""
    rules = Rules(abs_distance="centers")
    found = []
    for seed in range(6):
        scene = to_scene(draw_room(seed, "furnished"))
        rows, _ = question_rows(scene, seed, per_task=8, rules=rules)
        found.append((scene, rows, rasterize(scene, FINE)))
    return found


def test_on_a_fine_map_the_solver_gives_the_generators_answers(rooms):
    checked = {}
    for scene, rows, cells in rooms:
        for row in rows:
            solved = answer_from_map(row, cells, cell_size_m(scene, FINE))
            kind = task_kind(row["question_type"])
            if kind in ("object_counting", "object_rel_direction"):
                assert solved == Solved(row["ground_truth"])
            elif kind == "object_abs_distance":
                pair = [scene.by_category()[c][0] for c in row["categories"]]
                level = math.dist(*(i.centroid_m[:2] for i in pair))
                assert abs(float(solved.answer) - level) < 0.07  # rounding, and a cell
                # The truth is measured in space, a map lies flat.
                assert float(solved.answer) <= float(row["ground_truth"]) + 0.1 + 1e-9
            elif kind != "object_rel_distance":
                assert solved == Solved(None, "not_in_map")
            checked[kind] = checked.get(kind, 0) + 1
    assert min(checked.values()) >= 5 and len(checked) == 6  # no video


def test_variants_are_answered_as_what_they_ask(rooms):
    """With the back to an object, the farthest of several, two categories together."""
    checked = Counter()
    for scene, _, cells in rooms:
        tasks = [
            "object_rel_direction_backward_medium",
            "object_rel_direction_backward_hard",
            "object_counting_multiple",
            "object_rel_distance_farthest",
        ]
        for row in question_rows(scene, 0, tasks=tasks)[0]:
            solved = answer_from_map(row, cells, cell_size_m(scene, FINE))
            kind = row["question_type"]
            right = solved.answer == row["ground_truth"]
            assert right or kind == "object_rel_distance_farthest", row
            checked[kind, right] += 1
    assert len(checked) >= 4
    # Between centres along the floor, where the question measures closest points.
    assert checked[tasks[-1], True] > 2 * checked[tasks[-1], False]


def test_relative_distance_is_the_nearest_centre(rooms):
    """The generator measures closest points of boxes: centres agree with it mostly."""
    same = []
    for scene, rows, cells in rooms:
        groups = scene.by_category()
        for row in rows:
            if row["question_type"] != "object_rel_distance":
                continue
            target, *options = row["categories"]
            origin = groups[target][0].centroid_m[:2]
            lengths = [
                min(math.dist(origin, i.centroid_m[:2]) for i in groups[name])
                for name in options
            ]
            solved = answer_from_map(row, cells, cell_size_m(scene, FINE))
            if np.diff(np.sort(lengths))[0] > 0.05:
                assert solved.answer == "ABCD"[int(np.argmin(lengths))]
            same.append(solved.answer == row["ground_truth"])
    assert len(same) > 20 and 0.6 < np.mean(same) < 1


def test_words_are_read_as_the_generator_means_them(rooms):
    for _, rows, cells in rooms:
        for row in rows:
            kind = row["question_type"]
            if kind in ("obj_appearance_order", "room_size_estimation"):
                assert not named_categories(row)
                continue
            bare = {k: v for k, v in row.items() if k != "categories"}
            assert named_categories(bare) == tuple(row["categories"])
            assert answer_from_map(bare, cells) == answer_from_map(row, cells)


def test_without_letters_the_answer_is_in_words(rooms):
    _, rows, cells = rooms[0]
    choices = [r for r in rows if "direction" in r["question_type"]]
    for row in choices:
        words = answer_from_map(without_options(row), cells, 1.0).answer
        letter = answer_from_map(row, cells, 1.0).answer
        assert f"{letter}. {words}" in row["options"]


def test_fine_maps_of_real_rooms_give_the_published_directions(real_meta, real_qa):
    scenes = {
        name: Scene.from_meta(name, meta) for name, meta in read_json(real_meta).items()
    }
    rows = [r for r in read_jsonl(real_qa) if "direction" in r["question_type"]]
    for row in rows:
        scene = scenes[row["scene_name"]]
        cells, size = rasterize(scene, FINE), cell_size_m(scene, FINE)
        assert answer_from_map(row, cells, size) == Solved(row["ground_truth"])
    assert len(rows) > 100


# ---------------------------------------------------------------- by hand


def test_published_wording_is_read():
    row = {
        "question_type": "object_rel_direction_hard",
        "question": "If I am standing by the window and facing the towel, is the table "
        "to my front-left, front-right, back-left, or back-right?\nThe directions "
        "refer to the quadrants of a Cartesian plane (if I am standing at the origin "
        "and facing along the positive y-axis).",
        "options": ["A. front-left", "B. front-right", "C. back-right", "D. back-left"],
    }
    assert named_categories(row) == ("window", "towel", "table")
    # Facing east from (2, 2): south of east is to the right, ahead.
    cells = {"window": [(2, 2)], "towel": [(6, 2)], "table": [(4, 1)]}
    assert answer_from_map(row, cells) == Solved("B")
    near = {
        "question_type": "object_rel_distance",
        "question": "Measuring from the closest point of each object, which of these "
        "objects (table, trash bin, chair, door) is the closest to the bed?",
        "options": ["A. table", "B. trash bin", "C. chair", "D. door"],
    }
    assert named_categories(near) == ("bed", "table", "trash bin", "chair", "door")
    cells = {
        "bed": [(0, 0)],
        "table": [(4, 4)],
        "trash bin": [(3, 0)],
        "chairs": [(9, 9), (2, 1)],
        "door": [(9, 0)],
    }
    assert answer_from_map(near, cells) == Solved("C")  # √5 < 3


@pytest.mark.parametrize(
    ("spot", "words"),
    [((2, 6), "A"), ((2, 2), "A"), ((8, 6), "B"), ((5, 9), None), ((5, 0), None)],
)
def test_left_and_right_when_facing_north(spot, words):
    row = ask("object_rel_direction_easy", ("bed", "lamp", "sofa"), "A", options=SIDES)
    solved = answer_from_map(row, {"bed": [(5, 4)], "lamp": [(5, 8)], "sofa": [spot]})
    assert solved == Solved(words, None if words else "on_border")


@pytest.mark.parametrize(
    ("spot", "answer", "reason"),
    [
        ((4, 1), "A", None),  # 161.6 degrees to the left: back
        ((2, 4), "B", None),
        ((5, 1), "A", None),  # straight behind is no border here
        ((2, 1), None, "on_border"),  # exactly 135 degrees
        ((5, 8), None, "same_cell"),
        ((5, 4), None, "same_cell"),
    ],
)
def test_left_right_or_back(spot, answer, reason):
    options = ["A. back", "B. left", "C. right"]
    names = ("bed", "lamp", "sofa")
    row = ask("object_rel_direction_medium", names, "A", options=options)
    cells = {"bed": [(5, 4)], "lamp": [(5, 8)], "sofa": [spot]}
    assert answer_from_map(row, cells) == Solved(answer, reason)


def test_cells_that_are_not_square_turn_directions():
    row = ask(
        "object_rel_direction_hard", ("bed", "lamp", "sofa"), "C", options=QUADRANTS
    )
    cells = {"bed": [(0, 0)], "lamp": [(2, 2)], "sofa": [(0, 0)]}
    cells["sofa"] = [(-1, 2)]  # 71.6 degrees from the diagonal
    assert answer_from_map(row, cells) == Solved("C")
    # Cells four times as wide as deep: (8, 2) and (-4, 2) are 139.4 degrees apart.
    assert answer_from_map(row, cells, (4.0, 1.0)) == Solved("A")


def test_distances():
    row = ask("object_abs_distance", ("bed", "lamp"), "2.5")
    cells = {"bed": [(0, 0)], "lamp": [(3, 4)]}
    assert answer_from_map(row, cells) == Solved(None, "no_scale")
    assert answer_from_map(row, cells, 0.5) == Solved("2.5")
    assert answer_from_map(row, cells, (1.0, 0.0)) == Solved("3.0")
    cells["lamp"].append((1, 1))
    assert answer_from_map(row, cells, 0.5) == Solved(None, "several_cells")
    near = ask(
        "object_rel_distance",
        ("bed", "lamp", "sofa"),
        "A",
        options=["A. lamp", "B. sofa"],
    )
    tied = {"bed": [(5, 5)], "lamp": [(5, 8), (0, 0)], "sofa": [(2, 5)]}
    assert answer_from_map(near, tied) == Solved(None, "tie")
    assert answer_from_map(near, tied, (2.0, 1.0)) == Solved("A")
    assert answer_from_map(near, {"bed": [(0, 0)]}) == Solved(None, "missing_object")


def test_reasons_where_a_map_cannot_tell():
    row = ask("object_counting", ("coat rack",), "2")
    assert answer_from_map(row, {"coat hanger": [(1, 1), (1, 1)]}) == Solved("2")
    assert answer_from_map(row, {"Coat Racks": [(1, 1)]}) == Solved("1")
    twice = ask("object_abs_distance", ("bed", "lamp"), "2.5")
    listed = {"bed": [(0, 0), (0, 0)], "lamp": [(3, 4)]}  # one place, named twice
    assert answer_from_map(twice, listed, 0.5) == Solved("2.5")
    assert answer_from_map(row, {"coat rack": []}).reason == "missing_object"
    assert answer_from_map(row, None).reason == "no_map"
    strange = {**row, "categories": None, "question": "Count the racks!"}
    assert answer_from_map(strange, {}).reason == "unread_question"
    assert objects_of(strange) == ()
    for kind in ("route_planning", "obj_appearance_order", "room_size_estimation"):
        assert answer_from_map({**row, "question_type": kind}, {}).reason in BEYOND_MAPS
    odd = ask(
        "object_rel_direction_easy",
        ("bed", "lamp", "sofa"),
        "A",
        options=["A. up", "B. down"],
    )
    cells = {"bed": [(0, 0)], "lamp": [(0, 5)], "sofa": [(4, 4)]}
    assert answer_from_map(odd, cells).reason == "not_an_option"


# ---------------------------------------------------------------- beside the model

TRUE = {"bed": [[5, 4]], "lamp": [[5, 8]], "sofa": [[2, 6]], "chair": [[1, 1], [8, 1]]}
MIRRORED = {**TRUE, "sofa": [[8, 6]]}


def says(cells, answer):
    drawn = "" if cells is None else f"<map>{map_to_text(cells)}</map>"
    return f"<think>{drawn}so</think><answer>{answer}</answer>"


def case(name, text, kind="direction", **more):
    """(prediction, row): is the sofa left (A, true) or right; how many chairs (2)?"""
    row = (
        ask("object_counting", ("chair",), "2", map=TRUE)
        if kind == "counting"
        else ask(
            "object_rel_direction_easy",
            ("bed", "lamp", "sofa"),
            "A",
            options=SIDES,
            map=TRUE,
        )
    )
    row = {**row, "id": name, "scene_name": f"scene{len(name):04}_00", **more}
    return predict(row, text), row


CASES = {
    "right": case("right", says(TRUE, "A")),
    "lucky": case("lucky!", says(MIRRORED, "A")),
    "extraction": case("extraction", says(TRUE, "neither")),
    "no_map": case("no_map", says(None, "B")),
    "perception": case("perception", says({"bed": [[5, 4]], "lamp": [[5, 8]]}, "B")),
    "localisation": case("localisation", says(MIRRORED, "B")),
    "reasoning": case("reasoning", says(TRUE, "B")),
    "count": case("count", says({"chair": [[1, 1]]}, "1"), "counting"),
    "miscount": case("miscount", says(TRUE, "3"), "counting"),
    "tie": case(
        "tie", says({**TRUE, "sofa": [[5, 6]]}, "B"), map={**TRUE, "sofa": [[5, 6]]}
    ),
}
PREDICTIONS = [prediction for prediction, _ in CASES.values()]
ROWS = [row for _, row in CASES.values()]


def test_each_failure_has_its_name():
    table = failures(PREDICTIONS, ROWS).set_index("id")
    expected = {
        "right": "right",
        "lucky!": "right",
        "count": "perception",
        "miscount": "reasoning",
        "tie": "undetermined",
    }
    for name, row in table.iterrows():
        assert row["label"] == expected.get(name, name)
    assert table.loc["perception", "missing"] == ("sofa",)
    assert table.loc["count", "missing"] == ("chair",)
    assert set(table["label"]) == set(FAILURES)


def test_a_wrong_number_is_perception_and_a_cell_off_the_grid_no_map():
    lamps = {**TRUE, "lamp": [[5, 8], [1, 1]]}
    prediction, row = case("lamps", says(lamps, "B"))
    (found,) = failures([prediction], [row]).to_dict("records")
    assert (found["label"], found["missing"]) == ("perception", ("lamp",))
    outside = case("outside", says({**TRUE, "sofa": [[10, 6]]}, "B"))
    assert list(failures([outside[0]], [outside[1]])["label"]) == ["no_map"]
    assert failure_examples([outside[0]], [outside[1]]) == {}


def test_near_cells_that_turn_the_answer_are_localisation():
    true = {**TRUE, "sofa": [[4, 6]]}
    near = {**true, "lamp": [[4, 8]], "sofa": [[5, 6]]}  # each one cell off
    prediction, row = case("near", says(near, "B"), map=true)
    assert list(failures([prediction], [row])["label"]) == ["localisation"]


def test_what_is_no_number_is_no_answer_to_a_number():
    row = ask("object_counting", ("chair",), "2")
    for pair in (("some", "2"), ("2", "some"), ("2", None), (None, "2"), ("3", "2")):
        assert same_answer(*pair, row) == 0.0
    assert same_answer("2.0", "2", row) == 1.0


def test_failures_need_no_true_map_where_the_truth_is_a_count():
    prediction, row = CASES["count"]
    bare = {**row, "map": None}
    (label,) = failures([prediction], [bare])["label"]
    assert label == "perception"
    prediction, row = CASES["miscount"]
    assert list(failures([prediction], [{**row, "map": None}])["label"]) == [
        "reasoning"
    ]


def test_a_map_near_the_truth_is_not_blamed_for_what_the_true_map_gets_wrong():
    """The nearest by closest points (B) is not the nearest centre (A)."""
    cells = {"bed": [[1, 1]], "lamp": [[4, 1]], "sofa": [[1, 5]]}
    row = ask(
        "object_rel_distance",
        ("bed", "lamp", "sofa"),
        "B",
        options=["A. lamp", "B. sofa"],
        map=cells,
    )
    (label,) = failures([predict(row, says(cells, "A"))], [row])["label"]
    assert label == "undetermined"
    for bed, label in (([9, 9], "reasoning"), ([9, 1], "localisation")):
        far = {**cells, "bed": [bed]}  # nearer to the sofa, nearer to the lamp
        (found,) = failures([predict(row, says(far, "A"))], [row])["label"]
        assert found == label


def test_answers_beside_maps():
    table = failures(PREDICTIONS, ROWS[::-1]).set_index("id")
    assert list(table["answer"][["right", "no_map", "miscount"]]) == ["A", "B", "3"]
    assert table["answer"].isna().sum() == 1
    assert pd.isna(table.loc["extraction", "answer"])
    assert list(table["from_model_map"][["lucky!", "count"]]) == ["B", "1"]
    assert list(table["from_true_map"][["lucky!", "count"]]) == ["A", "2"]
    follows = table["follows"]
    assert follows[["right", "localisation", "count"]].tolist() == [1, 1, 1]
    assert follows[["lucky!", "reasoning", "miscount"]].tolist() == [0, 0, 0]
    silent = ["extraction", "no_map", "perception", "tie"]
    assert follows[silent].isna().all()
    # A map that cannot be read does not suffice, and the tie is no border for truth.
    assert table.loc["no_map", "drawn_suffices"] == 0
    assert table.loc["tie", ["drawn_suffices", "true_suffices"]].tolist() == [0, 0]


def test_shares_count_only_what_has_a_say():
    found = shares(failures(PREDICTIONS, ROWS)).set_index(["name", "measure"])
    follows = found.loc["overall", "follows"]
    assert follows["n"] == 6 and follows["value"] == pytest.approx(0.5)
    assert follows["low"] <= 0.5 <= follows["high"]
    right = found.loc["overall"].loc[list(SHARES)]["value"]
    # Right: right and lucky of ten; drawn maps suffice for right, extraction,
    # reasoning and miscount.
    assert right["right"] == pytest.approx(0.2)
    assert right["drawn_suffices"] == pytest.approx(0.4)
    assert right["true_suffices"] == pytest.approx(0.9)
    assert right["right_if_drawn_suffices"] == pytest.approx(1 / 4)
    assert right["right_if_drawn_fails"] == pytest.approx(1 / 6)


def test_absolute_distance_has_a_say_only_with_a_scale():
    row = ask("object_abs_distance", ("bed", "lamp"), "2.0", map=TRUE)
    said = [predict(row, says(TRUE, "2.0"))]
    table = failures(said, [row])
    assert table[["follows", "drawn_suffices", "true_suffices"]].isna().all(axis=None)
    assert "drawn_suffices" not in set(shares(table)["measure"])
    scaled = failures(said, [row], cell_sizes={"q": 0.5})
    assert scaled[["follows", "drawn_suffices"]].to_numpy().tolist() == [[1, 1]]


def test_records_of_any_rule_are_read():
    _, row = CASES["reasoning"]
    text = says(TRUE, "b") + " or A"
    first, last = record(row, text, strict), record(row, text, last_letter)
    assert failures([first], [row])["answer"][0] == first["extracted"]
    assert failures([last], [row])["answer"][0] == "A"


def test_predictions_without_questions_are_refused():
    with refused("evaluation.no-such-question", says="10, first right"):
        failures(PREDICTIONS, [])


def test_the_first_answer_of_each_kind_of_failure_is_an_example():
    found = failure_examples(PREDICTIONS, ROWS[::-1])
    assert list(found) == ["perception", "localisation", "reasoning"]
    for label, (row, prediction, judgement) in found.items():
        assert row["id"] == prediction["id"] == judgement["id"]
        assert judgement["label"] == label
    assert found["perception"].row["id"] == "perception"  # "count" comes after it
    assert found["reasoning"].judgement["from_model_map"] == "A"
    assert failure_examples(PREDICTIONS[:1], ROWS, ["right", "no_map"]).keys() == {
        "right"
    }
