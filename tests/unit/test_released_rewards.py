"""The preset of SpaceR's code against outputs recorded from that code.

``samples/released_rewards.json`` holds completions of ours (tags broken and doubled,
numbers and maps written in many ways, noise) and what the released functions gave.
"""

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from spacer_lib.artifacts import read_json
from spacer_lib.language.released import first_number, read_map
from spacer_lib.rewards.config import PRESETS
from spacer_lib.rewards.score import score

RECORDED = read_json(Path(__file__).parent.parent / "samples/released_rewards.json")
RELEASED = PRESETS["spacer-released"]


def scored(config):
    for kind, truth, has_map, text, accuracy, form in RECORDED["rows"]:
        row = {
            "id": "1",
            "question": "?",
            "problem_type": kind,
            "ground_truth": truth,
            "options": ["A. a", "B. b", "C. c"] if kind == "multiple choice" else None,
            "map": RECORDED["map"] if has_map else None,
        }
        yield text, accuracy, form, score(text, row, config)


def test_rewards_equal_the_recorded_ones():
    for text, accuracy, form, found in scored(RELEASED):
        assert found.task + (found.map or 0) == pytest.approx(accuracy, abs=1e-9), text
        assert found.format == form, text


def test_rewards_of_spatial_r1_equal_the_recorded_ones():
    paid = Counter()
    for kind, truth, text, accuracy, form in RECORDED["spatial_r1"]:
        row = {
            "id": "1",
            "question": "?",
            "problem_type": kind,
            "ground_truth": truth,
            "options": ["A. a", "B. b", "C. c"] if kind == "multiple choice" else None,
            "map": RECORDED["map"],  # which its code does not look at
        }
        found = score(text, row, PRESETS["spatial-r1-released"])
        assert (found.task, found.map or 0) == (pytest.approx(accuracy), 0), text
        assert found.format == form, text
        paid[kind, accuracy > 0, form] += 1
    assert len(paid) == 8 and min(paid.values()) > 2  # the sample decides both ways


def test_the_record_tells_the_code_from_the_paper():
    """A third of the rewards differ, of each kind, and maps are paid and punished."""
    ours = dataclasses.replace(RELEASED, code="ours")
    differ = [
        abs(found.task + (found.map or 0) - accuracy) > 1e-9 or found.format != form
        for _, accuracy, form, found in scored(ours)
    ]
    assert sum(differ) > len(differ) / 4
    kinds = Counter(
        row[0] for row, other in zip(RECORDED["rows"], differ, strict=True) if other
    )
    assert set(kinds) == {row[0] for row in RECORDED["rows"]}
    rewards = [row[4] for row in RECORDED["rows"]]
    assert sum(reward > 1 for reward in rewards) >= 20
    taken = [found.reasons[1] for *_, found in scored(RELEASED)]
    assert sum("taken back" in reason for reason in taken) >= 10


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("{'chair': [[2, 5], [4, 4]]}", {"chair": [(2, 5), (4, 4)]}),
        ("{'Chair:': (2, 5), 'sofa': [[1, 1]]}", {"chair": [(2, 5)]}),
        ("{'chair': [['<2', '5>'], [1, 2, 3], [[3, 3]]]}", {"chair": [(2, 5), (3, 3)]}),
        ("{'chair': [[-3, 50.9]]}", {"chair": [(-3, 50)]}),
        ("chair (2,5) 4 4, floor lamp 6 8 9", {"chair": [(2, 5), (4, 4)]}),
        ("armchair 1 1; LAMP: 6, 8", {"lamp": [(6, 8)]}),
        ("{'chair': [[1e999, 2]]}", {"chair": [(1, 999)]}),  # read as a text
        ("chair " + "9" * 400 + " 1", {}),
        ("[" * 5000, {}),
        ("{'chair':" * 900, {}),
        ("chair 1 2 " * 2000, {}),  # longer than is read
        ("", {}),
    ],
)
def test_maps_are_read_as_the_code_reads_them(text, cells):
    found = read_map(text, ["chair", "lamp", "floor lamp"])
    assert {k: v for k, v in found.items() if k in ("chair", "lamp")} == cells


def test_numbers_are_read_as_the_code_reads_them():
    said = ["12 chairs and a lamp", "9 or 10", "twenty one", "-3.5 m", "٣", "none"]
    read = [first_number(text) for text in said]
    assert read == [
        (1, "number_word"),
        (9, "first_number"),
        (1, "number_word"),  # "one" stands before "twenty" in the code's list
        (3.5, "first_number"),
        (3, "first_number"),
        None,
    ]


def test_a_row_without_a_map_has_no_hits_and_reasons_name_the_failure():
    for text, *_, found in scored(RELEASED):
        if found.map is None:
            assert (found.map_hits, found.map_total, found.map_failure) == (0, 0, None)
        if found.answer_failure and "taken back" not in found.reasons[1]:
            assert found.reasons[1] == f"task: {found.answer_failure}", text


@pytest.mark.parametrize("drawn", [True, False])
def test_whether_a_map_was_drawn_is_said(drawn):
    row = {"problem_type": "numerical", "ground_truth": "3", "map": {"bed": [[1, 1]]}}
    cells = "<map>{'bed': [[1, 1]]}</map>" if drawn else ""
    text = f"<think>{cells}so</think><answer>3</answer>"
    found = score(text, row, RELEASED)
    assert found.map_failure == (None if drawn else "no_map")
    assert found.map_score == (1 if drawn else 0)
