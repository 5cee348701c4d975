"""Official answers recomputed: by hand, and on the published rows."""

import dataclasses
import itertools
import json
from collections import Counter

import numpy as np
import pytest
from samples.filmed import walk_footage
from support import refused

from spacer_lib import cli
from spacer_lib.artifacts import read_json, write_json, write_jsonl
from spacer_lib.questions.audit import audit, audit_files
from spacer_lib.questions.generators import Rules, question_rows
from spacer_lib.questions.kinds import QUESTION_TYPES
from spacer_lib.questions.recipes import load_recipe
from spacer_lib.rooms.scene import ObjectInstance, Scene
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene

# What each task's rows are exact in; the other two are not in the metadata.
DETERMINED = {
    "object_abs_distance",
    "object_counting",
    "object_rel_direction_easy",
    "object_rel_direction_hard",
    "object_rel_direction_medium",
    "object_rel_distance",
    "object_size_estimation",
    "room_size_estimation",
}


def box(number, category, center, size=(0.4, 0.4, 0.4)):
    center, half = np.array(center, float), np.array(size) / 2
    return ObjectInstance(
        number, category, center, size, np.eye(3).ravel(), center - half, center + half
    )


@pytest.fixture
def scene():
    boxes = (
        box(0, "bed", (1, 1, 0.5), (2.0, 0.8, 0.5)),
        box(1, "table", (4, 1, 0.5)),
        box(2, "coat hanger", (1, 3.5, 0.5)),
        box(3, "chair", (3, 1, 0.5)),
    )
    return Scene(
        "41069021",
        "arkitscenes",
        boxes,
        23.96,
        (3, 2, 1),
        (0, 0),
        (6, 4),
        object_counts={"bed": 1, "table": 1, "coat hanger": 1, "chair": 2},
    )


def row(kind, question, truth, options=None, number=1, scene_name="41069021"):
    return {
        "id": number,
        "scene_name": scene_name,
        "question_type": kind,
        "question": question,
        "ground_truth": truth,
        "options": options,
    }


HARD = (
    "If I am standing by the bed and facing the table, is the coat rack to my "
    "front-left, front-right, back-left, or back-right?"
)
ORDER = (
    "What will be the first-time appearance order of the following categories in the "
    "video: bed, table?"
)
QUADRANTS = ["A. back-right", "B. front-left", "C. front-right", "D. back-left"]


def test_answers_by_hand(scene):
    rows = [
        row(
            "object_size_estimation",
            "the longest dimension (length, width, or "
            "height) of the bed, measured in centimeters?",
            "200",
        ),
        row("room_size_estimation", "What is the size of this room?", 24.0),
        row("object_counting", "How many chair(s) are in this room?", "2"),
        row("object_counting", "How many coat rack(s) are in this room?", "1"),
        row(
            "object_rel_distance",
            "which of these objects (table, chair, coat rack, "
            "bed) is the closest to the table?",
            "B",
            ["A. coat rack", "B. chair", "C. bed"],
        ),
        row(
            "object_rel_direction_easy",
            "If I am standing by the bed and facing the "
            "table, is the coat rack to the left or the right of the table?",
            "A",
            ["A. left", "B. right"],
        ),
    ]
    result = audit([scene], rows)
    assert result["disagreements"] == [] and result["skipped"] == {}
    assert sum(task["exact"] for task in result["tasks"].values()) == 6


def test_a_disagreement_shows_both_values_and_the_contradiction(scene):
    rows = [
        row("object_counting", "How many chair(s) are in this room?", "3", number=7),
        row("room_size_estimation", "What is the size of this room?", "25.0"),
    ]
    result = audit([scene], rows)
    chair, room = result["disagreements"]
    assert (chair["id"], chair["official"], chair["ours"]) == (7, "3", "2")
    assert "counts 2 chair, and has 1 boxes" in chair["note"] and room["note"] is None
    assert result["tasks"]["object_counting"] == {"rows": 1, "exact": 0}


def test_what_the_metadata_does_not_fix_is_skipped_by_name(scene):
    rows = [
        row("obj_appearance_order", ORDER, "A"),
        row("route_planning", "go", "A"),
        row("object_counting", "How many lamp(s) are in this room?", "2"),
        row("object_counting", "Count the chairs!", "2"),
        row("object_colour", "Which colour?", "red"),
        row(
            "room_size_estimation",
            "What is the size of this room?",
            "1",
            scene_name="absent",
        ),
        row("object_rel_direction_hard", HARD, "A", None),
        row("object_rel_direction_hard", HARD, "A", QUADRANTS[:1]),
        row("object_rel_direction_hard", HARD.replace("table", "bed"), "A", QUADRANTS),
    ]
    result = audit([scene], rows)
    assert result["tasks"] == {} and sum(result["skipped"].values()) == len(rows)
    reasons = "\n".join(result["skipped"])
    for words in (
        "first appearances",
        "routes",
        "no count of",
        "not the benchmark's",
        "unknown question type",
        "metadata is absent",
        "no lettered options",
        "not among the options",
        "share a place",
    ):
        assert words in reasons, words


def test_a_row_without_its_keys_is_an_error(scene):
    rows = [row("route_planning", "go", "A"), row("route_planning", "go", None)]
    with refused("questions.no-official-row", says="question row 2: got no ground_tru"):
        audit([scene], rows)


@pytest.mark.parametrize(
    "key, value",
    [
        ("question", 3),
        ("question", ["How many"]),
        ("ground_truth", ["24.0"]),
        ("scene_name", {"a": 1}),
        ("id", True),
        ("options", "A. one"),
        ("options", [1, 2]),
    ],
)
def test_a_row_with_another_type_is_an_error(scene, key, value):
    wrong = {**row("room_size_estimation", "What size?", "24.0"), key: value}
    with refused("questions.official-row-type", says=f"question row 1: {key}"):
        audit([scene], [wrong])


def test_a_file_that_is_no_meta_file_is_an_error(tmp_path):
    write_json(tmp_path / "meta.json", [])
    write_jsonl(tmp_path / "rows.jsonl", [])
    with refused("rooms.not-a-meta-file", says="meta.json"):
        audit_files(tmp_path / "meta.json", tmp_path / "rows.jsonl")


def test_our_own_questions_audit_without_a_disagreement():
    """Generators and audit are two readers of the same formulas."""
    scenes = [to_scene(draw_room(seed)) for seed in range(40)]
    both = load_recipe("vsibench").rules, Rules()
    rows = []
    for scene, rules in itertools.product(scenes, both):
        rows += question_rows(scene, 0, rules=rules)[0]
    result = audit(scenes, rows)
    assert not result["disagreements"] and not result["skipped"]
    assert sum(task["rows"] for task in result["tasks"].values()) == len(rows) > 400


def test_types_without_an_official_formula_are_answered_by_their_oracle():
    rooms = [draw_room(seed) for seed in range(6)]
    bare = [to_scene(room, VIEWS["walk"]) for room in rooms]
    scenes = [
        dataclasses.replace(scene, footage=walk_footage(room, scene.instances))
        for room, scene in zip(rooms, bare, strict=True)
    ]
    tasks = {name for name in QUESTION_TYPES if "appearance" not in name} - DETERMINED
    rows = [row for s in scenes for row in question_rows(s, 0, tasks=tasks)[0]]
    result = audit(scenes, rows)
    assert not result["disagreements"] and not result["skipped"]
    assert set(result["tasks"]) == tasks
    assert sum(task["exact"] for task in result["tasks"].values()) == len(rows)
    # Without cameras the metadata fix no answer about them.
    camera = [row for row in rows if row["question_type"].startswith("camera")]
    assert audit(bare, camera)["tasks"] == {}
    wrong = [row | {"ground_truth": "E"} for row in rows if row["options"]]
    assert len(audit(scenes, wrong)["disagreements"]) == len(wrong) > 50


def test_an_unreadable_scene_costs_its_own_rows_only(scene, tmp_path):
    write_json(tmp_path / "meta.json", {"41069021": scene.to_meta(), "bad": {"a": 1}})
    question = "What is the size of this room?"
    write_jsonl(
        tmp_path / "rows.jsonl",
        [
            row("room_size_estimation", question, "24.0"),
            row("room_size_estimation", question, "24.0", scene_name="bad"),
        ],
    )
    out = tmp_path / "result.json"
    status = cli.main(
        [
            "audit",
            "--meta",
            str(tmp_path / "meta.json"),
            "--questions",
            str(tmp_path / "rows.jsonl"),
            "--json",
            str(out),
        ]
    )
    result = read_json(out)
    assert status == 0
    assert list(result["unreadable"]) == ["bad"]
    assert "bad" in result["unreadable"]["bad"]
    assert result["tasks"] == {"room_size_estimation": {"rows": 1, "exact": 1}}
    ((reason, count),) = result["skipped"].items()
    assert "cannot be read" in reason and count == 1


def test_every_published_answer_that_the_metadata_fixes(real_meta, real_qa):
    """VSI-Bench's ScanNet rows: exact, task by task."""
    result = audit_files(real_meta, real_qa)
    kinds = Counter(
        json.loads(line)["question_type"] for line in real_qa.read_text().splitlines()
    )
    assert set(result["tasks"]) == DETERMINED
    for kind, task in result["tasks"].items():
        assert task["rows"] == kinds[kind], f"{kind}: {result['skipped']}"
    # Where the official files contradict themselves, the note says so.
    assert [d for d in result["disagreements"] if d["note"] is None] == []
    wrong = sum(t["rows"] - t["exact"] for t in result["tasks"].values())
    assert wrong == len(result["disagreements"]) <= 4


def test_an_official_answer_that_is_no_number_is_a_disagreement(scene):
    rows = [row("room_size_estimation", "What is the size of this room?", "nan")]
    assert len(audit([scene], rows)["disagreements"]) == 1
