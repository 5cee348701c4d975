"""Rewards part by part, worked by hand; reward hacks; and the functions for TRL."""

import dataclasses
import importlib
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import refused

from spacer_lib.language.tags import read_completion, write_completion
from spacer_lib.maps.scores import SCORERS
from spacer_lib.maps.text import map_to_text
from spacer_lib.rewards.config import (
    ADDED,
    COMPONENTS,
    PRESETS,
    RewardConfig,
    get_preset,
)
from spacer_lib.rewards.score import check_item, score, score_batch
from spacer_lib.rewards.trl import tgrpo_bonus, trl_reward_functions

TRUE_MAP = {"chair": [[2, 5], [4, 4]], "lamp": [[6, 8]]}
CHOICE = {
    "id": "room:side:0",
    "problem_type": "multiple choice",
    "ground_truth": "B",
    "options": ["A. left", "B. right"],
    "map": TRUE_MAP,
}
COUNT = {
    "id": "room:count:0",
    "problem_type": "numerical",
    "ground_truth": "10",
    "options": None,
    "map": TRUE_MAP,
}
PAPER = RewardConfig()
TINY = RewardConfig(map_scorer="decay", length_window=None)


def completion(answer, cells=TRUE_MAP, thought="so"):
    return write_completion(answer, thought, cells)


def parts(breakdown):
    return breakdown.format, breakdown.task, breakdown.map, breakdown.length


# ------------------------------------------------------------------ one by one

ONE_LAMP = {"lamp": [[6, 8]]}  # 1 of 3 instances, and weight 1/3 by Eq. 4
SCORES = [
    # text, item, (format, task, map, length), failure, why
    (completion("B"), CHOICE, (1, 1, 1, 0), None, "all right"),
    (completion("right"), CHOICE, (1, 1, 1, 0), None, "the option's text"),
    (completion("A"), CHOICE, (1, 0, 0, 0), None, "wrong: the map does not count"),
    (completion("C"), CHOICE, (1, 0, 0, 0), "not_an_option", "no such option"),
    (completion("B", ONE_LAMP), CHOICE, (1, 1, 1 / 3, 0), None, "a third of the map"),
    (completion("B", None), CHOICE, (1, 1, 0, 0), None, "no map"),
    (
        completion("B", {"chair": [[99, 0]]}),
        CHOICE,
        (1, 1, 0, 0),
        None,
        "a bad map costs the answer nothing",
    ),
    ("B", CHOICE, (0, 0, 0, 0), "no_answer_tag", "a bare letter"),
    ("", CHOICE, (0, 0, 0, 0), "no_answer_tag", "nothing"),
    (
        "<answer>B</answer>",
        CHOICE,
        (0, 1, 0, 0),
        "no_think",
        "the answer is read although the format is wrong",
    ),
    (
        "so <answer>Q</answer>",
        CHOICE,
        (0, 0, 0, 0),
        "not_an_option",
        "the answer's failure comes before the format's",
    ),
    (completion("B") + completion("B"), CHOICE, (0, 0, 0, 0), "two_answers", "twice"),
    (completion("10"), COUNT, (1, 1, 1, 0), None, "a count, exact"),
    (completion("ten chairs"), COUNT, (1, 1, 1, 0), None, "in words"),
    (completion("9.6"), COUNT, (1, 1, 1, 0), None, "within 5% is a task reward of 1"),
    (completion("8"), COUNT, (1, 0.7, 0, 0), None, "20% off: not 1, the gate is shut"),
    (completion("8 or 9"), COUNT, (1, 0, 0, 0), "ambiguous_number", "two numbers"),
    (completion("1e400"), COUNT, (1, 0, 0, 0), "number_out_of_range", "huge"),
    (completion("nan"), COUNT, (1, 0, 0, 0), "no_number", "not a number"),
    (completion("9" * 3000), COUNT, (1, 0, 0, 0), "answer_too_long", "endless"),
    (completion("B"), {**CHOICE, "map": None}, (1, 1, None, 0), None, "no true map"),
    (completion("B"), {**CHOICE, "map": {}}, (1, 1, None, 0), None, "an empty room"),
]


@pytest.mark.parametrize("text, item, expected, failure, why", SCORES)
def test_hand_worked_rewards(text, item, expected, failure, why):
    breakdown = score(text, item, PAPER)
    assert parts(breakdown) == pytest.approx(expected), why
    assert breakdown.failure == failure, why
    assert breakdown.total == pytest.approx(sum(part or 0 for part in expected))


GENERAL = [
    ("option-free", " Back-Left", "back-left", 1, "equal up to case and spaces"),
    ("option-free", "left", "back-left", 0, "other words"),
    ("ocr", "the red door", "the red door", 1, "equal"),
    ("ocr", "the blue door", "the red door", 2 / 3, "one word of three"),
    ("ocr", "a b c d e", "x", 0, "more errors than words"),
    ("free-form", "the cat sat", "the cat ran", (2 / 3 + 1 / 2 + 2 / 3) / 3, "ROUGE"),
    ("regression", "8", "10", 0.8, "20% off"),
    ("regression", "none", "10", 0, "no number"),
]


@pytest.mark.parametrize("kind, answer, truth, expected, why", GENERAL)
def test_general_rewards(kind, answer, truth, expected, why):
    item = {"problem_type": kind, "ground_truth": truth}
    breakdown = score(completion(answer, None), item, PAPER)
    assert breakdown.task == pytest.approx(expected), why
    assert breakdown.map is None and not breakdown.gate_open


GATES = [
    # gate, answer to COUNT (task reward), open
    ("paper", "10", True),
    ("paper", "8", False),
    ("paper", "1", False),
    ("released", "10", True),
    ("released", "8", True),
    ("released", "7", False),
    ("off", "10", False),
    ("always", "1", True),
    ("always", "10", True),
]


@pytest.mark.parametrize("gate, answer, opened", GATES)
def test_gates_of_a_number(gate, answer, opened):
    """Answers 10, 8, 7, 1 earn 1, 0.7, 0.5, 0: `released` asks for more than 0.5."""
    breakdown = score(completion(answer), COUNT, RewardConfig(map_gate=gate))
    assert breakdown.gate_open == opened
    assert breakdown.map == (1.0 if opened else 0.0)
    assert breakdown.map_score == 1.0  # reported whatever the gate says


@pytest.mark.parametrize(
    "gate, answer, opened",
    [
        ("paper", "B", True),
        ("paper", "A", False),
        ("released", "B", True),
        ("released", "A", False),
        ("off", "B", False),
        ("always", "A", True),
    ],
)
def test_gates_of_a_choice(gate, answer, opened):
    breakdown = score(completion(answer), CHOICE, RewardConfig(map_gate=gate))
    assert breakdown.gate_open == opened


def test_an_open_gate_stays_open_for_a_bad_map():
    breakdown = score(completion("B", None), CHOICE, PAPER)
    assert breakdown.gate_open and breakdown.map == 0
    assert breakdown.map_failure == "no_map"


LENGTHS = [
    ("B", 359, 0, "one short"),
    ("B", 360, 0.2, "the least"),
    ("B", 512, 0.2, "the most"),
    ("B", 513, 0, "one over"),
    ("A", 400, 0, "a wrong answer"),
    ("B", None, 0, "not counted"),
]


@pytest.mark.parametrize("answer, tokens, bonus, why", LENGTHS)
def test_length_bonus(answer, tokens, bonus, why):
    assert score(completion(answer), CHOICE, PAPER, tokens).length == bonus, why


def test_length_needs_a_task_reward_of_one_and_a_window():
    assert score(completion("8"), COUNT, PAPER, 400).length == 0
    assert score(completion("B"), CHOICE, TINY, 400).length == 0


def test_weights_scale_their_part():
    config = RewardConfig(format_weight=0.5, map_weight=2, length_bonus=0.1)
    assert parts(score(completion("B"), CHOICE, config, 400)) == (0.5, 1, 2, 0.1)


@pytest.mark.parametrize(
    "scorer, expected",
    [
        ("released", (1 - 1 / math.sqrt(200) + 0 + 1) / 3),
        ("paper", (1 - 1 / math.sqrt(200) + 0 + 1) / 3),
        ("decay", (math.exp(-1 / 1.5) + 0 + 1) / 3),
    ],
)
def test_the_scorer_is_the_configs(scorer, expected):
    """One chair a cell off, one missing, the lamp right."""
    drawn = {"chair": [[2, 6]], "lamp": [[6, 8]]}
    breakdown = score(completion("B", drawn), CHOICE, RewardConfig(map_scorer=scorer))
    assert breakdown.map == pytest.approx(expected)
    assert (breakdown.map_hits, breakdown.map_total) == (2, 3)


def test_hits_are_counted_for_wrong_answers_and_missing_maps():
    wrong = score(completion("A"), CHOICE, PAPER)
    assert (wrong.map_hits, wrong.map_total) == (3, 3)
    nothing = score("", CHOICE, PAPER)
    assert (nothing.map_hits, nothing.map_total) == (0, 3)
    unmapped = score(completion("B"), {**CHOICE, "map": None}, PAPER)
    assert (unmapped.map_hits, unmapped.map_total, unmapped.map_score) == (0, 0, None)


def test_a_required_map_belongs_to_the_format():
    config = RewardConfig(require_map=True)
    missing = score(completion("B", None), CHOICE, config)
    assert (missing.format, missing.task, missing.failure) == (0, 1, "no_map")
    assert score(completion("B"), CHOICE, config).format == 1
    no_true_map = {**CHOICE, "map": None}
    assert score(completion("B", None), no_true_map, config).format == 1


def test_every_row_is_judged_by_its_own_grid():
    item = {**CHOICE, "map": {"lamp": [[15, 3]]}}
    text = completion("B", {"lamp": [[15, 3]]})
    assert score(text, item, RewardConfig(grid_size=20)).map == 1
    with refused("rewards.map-off-grid", says="[0, 9]"):
        score(text, item, PAPER)


# ------------------------------------------------------------------ rows


def test_columns_may_be_json_or_padded():
    plain = score(completion("right"), CHOICE, PAPER)
    as_json = {key: json.dumps(CHOICE[key]) for key in ("options", "map")}
    assert score(completion("right"), {**CHOICE, **as_json}, PAPER) == plain
    padded = {**TRUE_MAP, "sofa": None, "bed": []}
    assert score(completion("right"), {**CHOICE, "map": padded}, PAPER) == plain
    empty = {**COUNT, "options": "null", "map": "null"}
    assert score(completion("10"), empty, PAPER).map is None


BAD_ROWS = [
    # change, kind, fact
    ({"problem_type": "riddle"}, "unknown-problem-type", "riddle"),
    ({"problem_type": None}, "unknown-problem-type", None),
    ({"ground_truth": ""}, "ground-truth-empty", None),
    ({"ground_truth": None}, "ground-truth-empty", None),
    ({"ground_truth": 10}, "ground-truth-empty", "10"),
    ({"ground_truth": "C"}, "ground-truth-not-an-option", "'C'"),
    ({"ground_truth": "up"}, "ground-truth-not-an-option", "'up'"),
    ({"options": "A. left"}, "options-not-json", "A. left"),
    ({"options": 3}, "options-malformed", "3"),
    ({"options": [1, 2]}, "options-malformed", "[1, 2]"),
    (
        {"problem_type": "numerical", "ground_truth": "many"},
        "ground-truth-not-a-number",
        "no_number",
    ),
    (
        {"problem_type": "numerical", "ground_truth": "nan"},
        "ground-truth-not-a-number",
        "no_number",
    ),
    (
        {"problem_type": "regression", "ground_truth": "2-3"},
        "ground-truth-not-a-number",
        "ambiguous_number",
    ),
    ({"map": "{'a'"}, "map-not-json", "{'a'"),
    ({"map": [[1, 2]]}, "map-malformed", "[[1, 2]]"),
    ({"map": {"chair": [[1, 10]]}}, "map-off-grid", "chair"),
    ({"map": {"chair": [[1.5, 1]]}}, "map-off-grid", "chair"),
    ({"map": {"chair": [[1]]}}, "map-off-grid", "chair"),
    ({"map": {"chair": 3}}, "map-off-grid", "chair"),
]


@pytest.mark.parametrize("change, kind, fact", BAD_ROWS)
@pytest.mark.parametrize("text", [completion("B"), ""])
def test_malformed_ground_truth_raises_whatever_the_completion(
    change, kind, fact, text
):
    with refused(f"rewards.{kind}", says=fact):
        score(text, {**CHOICE, **change}, PAPER)


def test_a_malformed_question_is_named():
    with refused("rewards.ground-truth-empty", says=CHOICE["id"]):
        check_item({**CHOICE, "ground_truth": ""}, PAPER)


BAD_CONFIGS = [
    # settings, kind, fact
    (dict(map_gate="sometimes"), "map-gate", "paper, released, off, always"),
    (dict(map_scorer="nice"), "map-scorer", "released, paper, decay"),
    (dict(length_window=(512, 360)), "length-window", "(512, 360)"),
    (dict(length_window=(360,)), "length-window", "(360,)"),
    (dict(length_window=(0.5, 2.0)), "length-window", "(0.5, 2.0)"),
    (dict(map_weight=-1.0), "map-weight", "-1.0"),
    (dict(format_weight=math.nan), "format-weight", "nan"),
    (dict(grid_size=0), "grid-size", "0"),
    (dict(length_rule="often"), "length-rule", "right, released"),
    (dict(number_score="mae"), "number-score", "mra, mra-11, relative-cost"),
    (dict(shape="haiku"), "shape", "think, observe, vanilla"),
]


@pytest.mark.parametrize("settings_, kind, fact", BAD_CONFIGS)
def test_wrong_settings_are_refused(settings_, kind, fact):
    with refused(f"rewards.invalid-{kind}", says=fact):
        RewardConfig(**settings_)


def test_a_window_from_a_recipe_is_a_list():
    assert RewardConfig(length_window=[360, 512]) == PAPER


# ------------------------------------------------------------------ properties

texts = st.text(max_size=80) | st.lists(
    st.sampled_from(
        [
            "<think>",
            "</think>",
            "<answer>",
            "</answer>",
            "<map>",
            "</map>",
            "B",
            "10",
            '{"chair":[[2,5]]}',
            "{'lamp':",
            "[[6,8]]}",
            " ",
        ]
    ),
    max_size=14,
).map("".join)
configs = st.builds(
    RewardConfig,
    map_gate=st.sampled_from(["paper", "released", "off", "always"]),
    map_scorer=st.sampled_from(SCORERS),
    require_map=st.booleans(),
    length_rule=st.sampled_from(["right", "released"]),
    number_score=st.sampled_from(["mra", "mra-11", "relative-cost"]),
    shape=st.sampled_from(["think", "observe", "vanilla"]),
    strict_think=st.booleans(),
    read_units=st.booleans(),
    answer_grammar=st.sampled_from(["strict", "wide"]),
)


@settings(max_examples=400, deadline=None)
@given(
    texts, st.sampled_from([CHOICE, COUNT]), configs, st.none() | st.integers(0, 600)
)
def test_rewards_lie_in_range_and_no_text_raises(text, item, config, tokens):
    breakdown = score(text, item, config, tokens)
    assert breakdown.format in (0, 1) and breakdown.length in (0, 0.2)
    assert 0 <= breakdown.task <= 1 and 0 <= breakdown.map <= 1
    total = breakdown.format + breakdown.task + breakdown.map + breakdown.length
    assert breakdown.total == pytest.approx(total)
    assert breakdown.gate_open or breakdown.map == 0
    least = 1 if config.length_rule == "right" else 0.1
    assert breakdown.length == 0 or breakdown.task >= least
    assert [why.split(":")[0] for why in breakdown.reasons] == list(COMPONENTS)
    assert breakdown.failure or breakdown.format == 1
    assert not breakdown.answer_failure or breakdown.task == 0


@settings(max_examples=100, deadline=None)
@given(texts)
def test_a_map_never_lowers_a_reward(noise):
    """Whatever stands in the map block, a right answer keeps its reward."""
    text = f"<think><map>{noise.replace('<', '')}</map>so</think><answer>B</answer>"
    breakdown = score(text, CHOICE, PAPER)
    assert breakdown.task == 1 and breakdown.format == 1 and breakdown.total >= 2


@pytest.mark.parametrize("unit", ["<think>", "<answer>B</answer>", "<map>{", "one "])
def test_a_megabyte_is_scored(unit):
    text = unit * (1_000_000 // len(unit))
    assert score(text, CHOICE, PAPER).total == 0


# ------------------------------------------------------------------ presets

OBSERVED = completion("10", None).replace("think>", "observe>")


def test_presets_and_their_published_values():
    """FIELD_NOTES' values, written out again."""
    assert PRESETS["spacer-paper"] == RewardConfig()
    assert {n: (c.length_window, c.map_gate) for n, c in PRESETS.items()} == {
        "spacer-paper": ((360, 512), "paper"),
        "spacer-released": ((320, 512), "released"),
        "spatial-r1": (None, "off"),
        "spatial-r1-released": ((320, 512), "off"),
        "vsgrpo-think": (None, "off"),
        "vsgrpo-observe": (None, "off"),
        "vsgrpo-vanilla": (None, "off"),
        **dict.fromkeys(["ours", *(f"ours+{name}" for name in ADDED)], (None, "paper")),
    }
    assert {n for n, c in PRESETS.items() if c.format_weight != 1} == {"vsgrpo-vanilla"}
    assert {n for n, c in PRESETS.items() if c.map_weight != 1} == {"ours+boxes"}
    for name in ADDED:
        assert PRESETS[f"ours+{name}"].added == (name,)
    assert all(not c.added for n, c in PRESETS.items() if "+" not in n)
    assert PRESETS["ours"].map_scorer == "aligned"


def test_an_unknown_preset_names_the_known_ones():
    assert get_preset("ours") is PRESETS["ours"]
    with refused("rewards.unknown-preset", says="vsgrpo-think"):
        get_preset("vsgrpo")


PRESET_TASKS = [
    # preset, answer to COUNT (10), task reward, why
    ("spacer-paper", "8", 0.7, "20% off passes 7 of 10 thresholds"),
    ("spatial-r1", "8", 7 / 11, "and 7 of 11: 0.50, 0.545 … 0.95"),
    ("vsgrpo-think", "8", 0.75, "2 / min(8, 10) is a quarter"),
    ("vsgrpo-think", "12.5", 0.75, "2.5 / min(12.5, 10) too"),
    ("vsgrpo-think", "-10", 0, "no cost is defined below 0"),
    ("ours", "8", 0.7, "as the paper"),
]


@pytest.mark.parametrize("preset, answer, task, why", PRESET_TASKS)
def test_numbers_by_preset(preset, answer, task, why):
    breakdown = score(completion(answer), COUNT, PRESETS[preset])
    assert breakdown.task == pytest.approx(task), why


def test_regression_keeps_its_rule_under_every_preset():
    item = {"problem_type": "regression", "ground_truth": "10"}
    for config in PRESETS.values():
        text = completion("8", None)
        if config.shape == "observe":
            text = text.replace("think>", "observe>")
        assert score(text, item, config).task == pytest.approx(0.8)


SHAPES = [
    # preset, text, (format, task), failure
    ("vsgrpo-think", OBSERVED, (0, 1), "no_think"),
    ("vsgrpo-observe", OBSERVED, (1, 1), None),
    ("vsgrpo-observe", completion("10", None), (0, 1), "no_think"),
    ("vsgrpo-vanilla", "10", (0, 1), None),
    ("vsgrpo-vanilla", "about 10 chairs.", (0, 1), None),
    ("vsgrpo-vanilla", "<answer>10</answer>", (0, 1), None),
    ("vsgrpo-vanilla", "", (0, 0), "empty_answer"),
    ("vsgrpo-vanilla", "9 " * 2000, (0, 0), "answer_too_long"),
    ("vsgrpo-think", "10", (0, 0), "no_answer_tag"),
]


@pytest.mark.parametrize("preset, text, expected, failure", SHAPES)
def test_shapes_by_preset(preset, text, expected, failure):
    breakdown = score(text, COUNT, PRESETS[preset])
    assert (breakdown.format, breakdown.task) == expected
    assert breakdown.failure == failure
    assert breakdown.total == sum(expected)


THOUGHTS = [
    # thought, its flag
    ("", "empty_think"),
    (" \n", "empty_think"),
    ("your reasoning here", "template_think"),
    ("the lamp is left of it", None),
]


@pytest.mark.parametrize("thought, flag", THOUGHTS)
@pytest.mark.parametrize("cells", [None, TRUE_MAP])
def test_ours_pays_no_format_for_a_thought_that_is_none(thought, flag, cells):
    text = completion("B", cells, thought)
    strict, paper = score(text, CHOICE, PRESETS["ours"]), score(text, CHOICE, PAPER)
    assert (strict.format, strict.failure) == (float(flag is None), flag)
    assert (paper.format, paper.failure) == (1, None)
    # The answer and the map are paid all the same.
    assert strict.task == 1 and strict.map == (0 if cells is None else 1)
    assert strict.answer_failure is None


FAR = {
    "problem_type": "numerical",
    "ground_truth": "2.5",
    "question": "How far is the sofa from the bed (in meters)?",
}
UNITS = [
    # answer, task under ours, under the paper's preset
    ("2.5", 1, 1),
    ("2.5 m", 1, 1),
    ("250 cm", 1, 0),
    ("2.5 cm", 0, 1),
    ("2.5 square meters", 0, 1),
]


@pytest.mark.parametrize("answer, ours, paper", UNITS)
def test_ours_reads_units(answer, ours, paper):
    text = completion(answer, None)
    assert score(text, FAR, PRESETS["ours"]).task == ours
    assert score(text, FAR, PAPER).task == paper
    unasked = {**FAR, "question": None}
    assert score(text, unasked, PRESETS["ours"]).task == paper


def test_ours_allows_another_frame_and_pays_nothing_at_the_centre():
    ours = PRESETS["ours"]
    rotated = redrawn(lambda cell: [9 - cell[1], cell[0]])
    assert score(completion("B", rotated), HACKED, ours).map == pytest.approx(1)
    assert score(completion("B", CENTRE), HACKED, ours).map == 0
    assert score(completion("A", SPREAD), HACKED, ours).map == 0


REASONS = [
    # text, item, config, tokens, why
    (
        completion("B"),
        CHOICE,
        PAPER,
        400,
        (
            "format: well-formed",
            "task: right",
            "map: 1 by released",
            "length: 400 tokens, in 360 to 512",
        ),
    ),
    (
        completion("8", None),
        COUNT,
        PAPER,
        400,
        (
            "format: well-formed",
            "task: 0.7 of 1",
            "map: gate shut (task 0.7)",
            "length: not for a task reward of 0.7",
        ),
    ),
    (
        completion("B", None),
        CHOICE,
        PAPER,
        513,
        (
            "format: well-formed",
            "task: right",
            "map: no_map",
            "length: 513 tokens, not in 360 to 512",
        ),
    ),
    (
        "B",
        {**CHOICE, "map": None},
        PAPER,
        None,
        (
            "format: no_answer_tag",
            "task: no_answer_tag",
            "map: the row has none",
            "length: tokens not counted",
        ),
    ),
    (
        completion("Q"),
        CHOICE,
        PRESETS["vsgrpo-vanilla"],
        None,
        (
            "format: not rewarded",
            "task: not_an_option",
            "map: gate off",
            "length: no bonus set",
        ),
    ),
    (
        completion("B", thought=""),
        CHOICE,
        PRESETS["ours"],
        None,
        (
            "format: empty_think",
            "task: right",
            "map: 1 by aligned",
            "length: no bonus set",
        ),
    ),
]


@pytest.mark.parametrize("text, item, config, tokens, reasons", REASONS)
def test_every_component_says_why(text, item, config, tokens, reasons):
    assert score(text, item, config, tokens).reasons == reasons


# ------------------------------------------------------------------ batches

RELEASED = PRESETS["spacer-released"]


@pytest.mark.parametrize(
    "answers, bonuses, why",
    [
        (["10", "8", "1"], [0.2, 0.2, 0], "two of the group above 0.1"),
        (["10", "1", "2"], [0, 0, 0], "one of the group"),
        (["1", "1", "1"], [0, 0, 0], "none"),
        (["10"], [0.2], "alone in its group"),
    ],
)
def test_released_length_rule_asks_the_group(answers, bonuses, why):
    texts = [completion(answer) for answer in answers]
    for items in ([COUNT] * len(texts), [dict(COUNT) for _ in texts]):
        scored = score_batch(texts, items, RELEASED, [400] * len(texts))
        assert [b.length for b in scored] == bonuses, why
        for b in scored:
            assert b.total == pytest.approx(b.format + b.task + b.map + b.length)


def test_groups_are_rows_of_one_id_whatever_their_length():
    items = [COUNT, {**COUNT, "id": "other"}, COUNT]
    texts = [completion("10")] * 3
    scored = score_batch(texts, items, RELEASED, [320, 400, 10])
    # The short third one is right too: it supports the first, and earns nothing.
    assert [b.length for b in scored] == [0.2, 0.2, 0]
    unnamed = [{k: v for k, v in COUNT.items() if k != "id"} for _ in range(2)]
    scored = score_batch([completion("10"), "x"], unnamed, RELEASED, [400, 400])
    assert [b.length for b in scored] == [0.2, 0]
    lost = score_batch(texts[:1] + ["x"], [COUNT] * 2, RELEASED, [400, 400])[0]
    assert lost.length == 0 and lost.reasons[-1].startswith("length: no other")
    alone = score(texts[0], COUNT, RELEASED, 400)
    assert alone.length == 0.2 and lost.reasons[:-1] == alone.reasons[:-1]


def test_a_batch_equals_its_completions_and_checks_each_row_once(monkeypatch):
    texts = [completion("B"), completion("A"), "", completion("10")]
    items = [CHOICE, CHOICE, CHOICE, COUNT]
    one_by_one = [
        score(text, item, PAPER, 400) for text, item in zip(texts, items, strict=True)
    ]
    seen = []
    truth = importlib.import_module("spacer_lib.rewards.score")._truth
    monkeypatch.setattr(
        "spacer_lib.rewards.score._truth",
        lambda item, c: seen.append(item) or truth(item, c),
    )
    assert score_batch(texts, items, PAPER, [400] * 4) == one_by_one
    assert seen == [CHOICE, COUNT]


def test_uneven_batches_are_refused():
    with refused("rewards.uneven-batch", says="2 texts, 1 questions, 2 token counts"):
        score_batch(["", ""], [CHOICE], PAPER)


TGRPO = [
    # ordered, shuffled, bonus, why
    ([1, 1, 0, 0], [1, 0], [1, 1, 0, 0], "0.5 against 0.8 * 0.5"),
    ([0.4, 0.4], [0.5], [1, 1], "exactly 0.8 of it is enough"),
    ([1, 0, 0, 0], [1, 0], [0, 0, 0, 0], "0.25 against 0.4"),
    ([0.1, 0.2], [0], [0, 1], "a reward of 0.1 is not above it"),
    ([0, 0], [0, 0], [0, 0], "nothing to reward"),
]


@pytest.mark.parametrize("ordered, shuffled, paid, why", TGRPO)
def test_tgrpo_bonus(ordered, shuffled, paid, why):
    bonus = tgrpo_bonus(ordered, shuffled)
    assert bonus.tolist() == pytest.approx([0.3 * share for share in paid]), why
    assert tgrpo_bonus(ordered, shuffled, value=0).sum() == 0


@pytest.mark.parametrize(
    "sides", [([], [1]), ([1], []), ([1.5], [1]), ([1], [math.nan]), ([[1]], [1])]
)
def test_tgrpo_needs_task_rewards(sides):
    with refused("rewards.tgrpo-task-rewards"):
        tgrpo_bonus(*sides)


# ------------------------------------------------------------------ hack probes

SPREAD = {  # twelve objects over the room
    "chair": [[1, 1], [8, 1], [1, 8], [8, 8]],
    "table": [[3, 2], [6, 7]],
    "lamp": [[0, 4], [9, 5]],
    "bed": [[4, 9]],
    "sofa": [[5, 0]],
    "tv": [[2, 6]],
    "plant": [[7, 3]],
}
HACKED = {**CHOICE, "map": SPREAD}


def redrawn(draw):
    return {name: [draw(cell) for cell in spots] for name, spots in SPREAD.items()}


CENTRE = redrawn(lambda cell: [5, 5])
MIRROR = redrawn(lambda cell: [9 - cell[0], cell[1]])
FLOODED = {name: [[x, y] for x in range(10) for y in range(10)] for name in SPREAD}

ALL_SPOTS = [cell for spots in SPREAD.values() for cell in spots]


def mean_worth(worth):
    return sum(worth(math.dist((5, 5), cell)) for cell in ALL_SPOTS) / len(ALL_SPOTS)


# At the centre every pairing is the same, so each object is worth its own distance.
AT_CENTRE = mean_worth(lambda d: 1 - d / math.sqrt(200))
AT_CENTRE_DECAY = mean_worth(lambda d: math.exp(-d / 1.5))
# Mirrored, paired best: four chairs at 0, tables at 3, lamps, bed and sofa at 1, tv and
# plant at 5 cells; 20 cells in all.
MIRRORED = 1 - 20 / math.sqrt(200) / 12
MIRRORED_DECAY = (
    4 + 2 * math.exp(-2) + 4 * math.exp(-2 / 3) + 2 * math.exp(-10 / 3)
) / 12
# A category of n in 100 cells earns n / 100, with weight n of 12; Eq. 4 has no price.
FLOOD = (4 * 4 + 2 * 2 + 2 * 2 + 4 * 1) / 1200
EXAMPLE = '<map>{"kind":[[column,row]]}</map>'
TWICE = f"<map>{map_to_text(SPREAD)}</map>"

# Map reward of a right answer: (released, paper, decay).
PROBES = [
    ("the true map", completion("B", SPREAD), (1, 1, 1)),
    ("centre", completion("B", CENTRE), (AT_CENTRE, AT_CENTRE, AT_CENTRE_DECAY)),
    ("mirrored", completion("B", MIRROR), (MIRRORED, MIRRORED, MIRRORED_DECAY)),
    ("every cell of the grid", completion("B", FLOODED), (FLOOD, 1, FLOOD)),
    ("no map", completion("B", None), (0, 0, 0)),
    ("an empty map", completion("B", {}), (0, 0, 0)),
    ("the prompt's example", completion("B", None, EXAMPLE), (0, 0, 0)),
    ("the true map twice", completion("B", SPREAD, TWICE), (0, 0, 0)),
]


def test_the_centre_pays_under_published_scoring_alone():
    assert AT_CENTRE == pytest.approx(0.706, abs=1e-3)
    assert AT_CENTRE_DECAY == pytest.approx(0.079, abs=1e-3)


@pytest.mark.parametrize("name, text, expected", PROBES, ids=[p[0] for p in PROBES])
def test_what_degenerate_maps_earn(name, text, expected):
    earned = [
        score(text, HACKED, RewardConfig(map_scorer=scorer)).map
        for scorer in ("released", "paper", "decay")
    ]
    assert earned == pytest.approx(expected, abs=1e-9)


TRICKS = [
    # text, reward of (format, task), why
    ("<think></think><answer>B</answer>", (1, 1), "an empty think is not fined"),
    ("<answer>A</answer><answer>B</answer>", (0, 0), "every answer at once"),
    ("<think>so</think><answer>A B</answer>", (1, 0), "both letters"),
    ("<think>so</think><answer>A. right</answer>", (1, 0), "a letter and another text"),
    ("<think>so</think><answer></answer>", (0, 0), "no answer"),
    ("<think><answer>A</answer></think><answer>B</answer>", (0, 0), "a spare answer"),
]


@pytest.mark.parametrize("text, expected, why", TRICKS)
def test_what_degenerate_formats_earn(text, expected, why):
    breakdown = score(text, CHOICE, PAPER, token_count=20)
    assert (breakdown.format, breakdown.task) == expected, why
    assert breakdown.map == 0 and breakdown.length == 0


# ------------------------------------------------------------------ TRL


def batch(**changes):
    """Rows of three types, as TRL hands them over: one list per column."""
    texts = [completion("B"), completion("8"), completion("the red door", None)]
    rows = [
        {**CHOICE, "map": json.dumps(TRUE_MAP)},
        COUNT,
        {
            "id": "x",
            "problem_type": "ocr",
            "ground_truth": "the red door",
            "options": None,
            "map": None,
        },
    ]
    columns = {key: [row[key] for row in rows] for key in CHOICE}
    return {
        "prompts": [[{"role": "user", "content": "?"}]] * 3,
        "completions": [[{"role": "assistant", "content": text}] for text in texts],
        "completion_ids": [[0] * 400, [0] * 400, [0] * 10],
        **columns,
        "question": ["?"] * 3,
        "trainer_state": None,
        "log_extra": lambda *_: None,
        "log_metric": lambda *_: None,
        **changes,
    }


def call(functions, **inputs):
    return {f.__name__: f(**inputs) for f in functions}


def test_adapters_give_each_row_its_own_reward():
    functions = trl_reward_functions(PAPER)
    assert [f.__name__ for f in functions] == list(COMPONENTS)
    assert call(functions, **batch()) == {
        "format": [1, 1, 1],
        "task": [1, pytest.approx(0.7), 1],
        "map": [1, 0, None],  # right; gated off; nothing to compare with
        "length": [0.2, 0, 0],
    }


def test_adapters_need_nothing_to_log_with():
    inputs = batch(log_metric=None)
    assert call(trl_reward_functions(PAPER), **inputs)["format"] == [1, 1, 1]


def test_adapters_read_plain_texts_and_count_with_a_tokenizer():
    inputs = batch()
    inputs["completions"] = [chat[0]["content"] for chat in inputs["completions"]]
    assert call(trl_reward_functions(PAPER), **inputs)["length"] == [0.2, 0, 0]
    inputs["completion_ids"] = None
    assert call(trl_reward_functions(PAPER), **inputs)["length"] == [0, 0, 0]

    def tokenizer(text, add_special_tokens):
        return {"input_ids": [0] * 360}

    rewards = call(trl_reward_functions(PAPER, tokenizer), **inputs)
    assert rewards["length"] == [0.2, 0, 0.2]


def test_adapters_know_groups_and_questions():
    long = {"completion_ids": [[0] * 400] * 3}
    released = trl_reward_functions(RELEASED)
    # Three ids are three groups; the same row thrice is one, with one right answer.
    assert call(released, **batch(**long))["length"] == [0.2, 0.2, 0.2]
    one = {key: [COUNT[key]] * 3 for key in CHOICE}
    assert call(released, **batch(**long, **one))["length"] == [0, 0, 0]
    far = {key: [FAR.get(key)] * 3 for key in (*CHOICE, "question")}
    far["completions"] = [completion("250 cm", None)] * 3
    ours = trl_reward_functions(PRESETS["ours"])
    assert call(ours, **batch(**far))["task"] == [1, 1, 1]


def test_a_batch_is_scored_once(monkeypatch):
    calls = []

    def counted(text, **rest):
        calls.append(text)
        return read_completion(text, **rest)

    monkeypatch.setattr("spacer_lib.rewards.score.read_completion", counted)
    functions, inputs = trl_reward_functions(PAPER), batch()
    call(functions, **inputs)
    assert len(calls) == 3  # three completions, four components
    call(functions, **inputs)
    assert len(calls) == 3
    fresh = batch()
    call(functions, **fresh)
    assert len(calls) == 6  # equal texts in other lists are another batch


def test_memory_holds_one_batch_and_follows_every_column():
    functions, inputs = trl_reward_functions(PAPER), batch()
    call(functions, **inputs)
    others = {**inputs, "ground_truth": ["A", "8", "a blue door"]}
    assert call(functions, **others)["task"] == [0, 1, pytest.approx(1 / 3)]
    assert call(functions, **inputs)["task"][0] == 1


def test_two_sets_of_adapters_share_nothing():
    inputs = batch()
    call(trl_reward_functions(PAPER), **inputs)
    shut = call(trl_reward_functions(RewardConfig(map_gate="off")), **inputs)
    assert shut["map"] == [0, 0, None]


def test_shares_are_logged_once_a_batch():
    logged = []
    inputs = batch(log_metric=lambda name, value: logged.append((name, value)))
    inputs["completions"][0][0]["content"] = "nothing"
    call(trl_reward_functions(PAPER), **inputs)
    logged_once = dict(logged)
    assert len(logged) == len(logged_once) == 3 + len(SCORERS)
    for name in SCORERS:  # one perfect map, one that was not drawn
        assert logged_once.pop(f"map_{name}") == pytest.approx(0.5)
    assert logged_once == pytest.approx(
        {"answer_failures": 1 / 3, "map_hit_rate": 3 / 6, "map_failures": 1 / 2}
    )


def test_batches_without_maps_log_no_hit_rate():
    logged = []
    inputs = batch(log_metric=lambda name, value: logged.append(name), map=[None] * 3)
    assert call(trl_reward_functions(PAPER), **inputs)["map"] == [None] * 3
    assert logged == ["answer_failures"]


def test_trl_calls_functions_this_way():
    """The keywords of TRL's own call site, so that a rename there is noticed."""
    folder = Path(importlib.util.find_spec("trl").submodule_search_locations[0])
    source = (folder / "trainer" / "grpo_trainer.py").read_text(encoding="utf-8")
    call_site = source.split("def _calculate_rewards", 1)[1][:6000]
    for keyword in ("prompts=", "completions=", "completion_ids=", '"log_metric"'):
        assert keyword in call_site


def test_breakdowns_are_plain_and_frozen():
    breakdown = score(completion("B"), CHOICE, PAPER)
    json.dumps(dataclasses.asdict(breakdown))
    with pytest.raises(dataclasses.FrozenInstanceError):
        breakdown.total = 9


def test_random_rewards_follow_from_nothing_that_was_asked_for():
    config = RewardConfig(code="random", map_gate="always")
    right, wrong = (
        [
            score(f"<think>{n}</think><answer>{letter}</answer>", CHOICE, config)
            for n in range(2000)
        ]
        for letter in "BA"
    )
    for made in (right, wrong):
        paid = np.array([one.total for one in made])
        # Uniform: the quartiles lie within 3.5 standard errors of a quarter each.
        shares = np.histogram(paid, bins=4, range=(0, 1))[0] / len(paid)
        assert np.abs(shares - 0.25).max() < 3.5 * (0.25 * 0.75 / len(paid)) ** 0.5
        assert all(one.total == one.task and one.format == 0 for one in made)
    assert score(right_text := "<answer>B</answer>", CHOICE, config) == score(
        right_text, CHOICE, config
    )
    assert right[0].answer == "B"  # what was read is still said
    with refused("rewards.invalid-code"):
        RewardConfig(code="random", relations_weight=1.0)
