"""Which preset pays which hack: the table, and what ours must not pay."""

import pytest
from support import refused

from spacer_lib.language.tags import read_completion
from spacer_lib.maps.boxes import true_boxes
from spacer_lib.questions.generators import question_rows
from spacer_lib.rewards.config import ADDED, COMPONENTS, PRESETS
from spacer_lib.rewards.consistency import follows
from spacer_lib.rewards.probes import (
    BLIND,
    HONEST,
    HONEST_BOXES,
    MOST_TOKENS,
    TO_COMPARE,
    make_probes,
    probe_table,
)
from spacer_lib.rewards.score import score_batch
from spacer_lib.rooms.scans import synthetic_ids
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene


@pytest.fixture(scope="module")
def items():
    """Questions about three furnished rooms, all types."""
    rows = []
    for seed, name in synthetic_ids(3, 0):
        scene = to_scene(draw_room(seed, "furnished", name), VIEWS["walk"])
        made = question_rows(scene, 0, per_task=2)[0]
        rows += [{**row, "boxes": true_boxes(scene)} for row in made]
    return rows


@pytest.fixture(scope="module")
def table(items):
    return {(row["probe"], row["preset"]): row for row in probe_table(items)}


def hacks(table):
    return list(dict.fromkeys(probe for probe, _ in table if probe not in TO_COMPARE))


def test_the_table_is_complete(table, items):
    assert len(table) == len(make_probes(items)) * len(PRESETS)
    for row in table.values():
        total = sum(row[part] for part in (*COMPONENTS, *ADDED))
        assert row["total"] == pytest.approx(total) and row["items"] > 0


def test_under_ours_no_probe_earns_the_map_or_length_reward(table):
    for hack in hacks(table):
        row = table[hack, "ours"]
        # Asked objects in places not seen may agree by chance.
        assert row["map"] == pytest.approx(0, abs=0.02), hack
        assert row["length"] == 0, hack


def test_under_ours_nothing_beats_the_honest_policy(table):
    best = table[HONEST, "ours"]
    assert [best[part] for part in COMPONENTS] == pytest.approx([1, 1, 1, 0])
    for hack in hacks(table):
        assert table[hack, "ours"]["total"] <= best["total"] - 1, hack


OURS = [name for name in PRESETS if name.startswith("ours")]


@pytest.mark.parametrize("preset", OURS)
def test_no_preset_of_ours_pays_a_hack_more_than_an_honest_right_answer(items, preset):
    """Question by question, and not only on average."""
    config = PRESETS[preset]
    probes = {probe.name: probe for probe in make_probes(items)}
    honest = probes[HONEST_BOXES if preset == "ours+boxes" else HONEST]
    for probe in probes.values():
        asked = [item for item in items if probe.applies(item)]
        paid = score_batch([probe.write(item) for item in asked], asked, config)
        best = score_batch([honest.write(item) for item in asked], asked, config)
        for tricked, straight in zip(paid, best, strict=True):
            assert tricked.total <= straight.total + 1e-9, (probe.name, tricked)


# What an honest answer earns beside format, task and map; and what the tricks do.
ADDED_PAID = [
    # preset, component, trick, at most
    ("ours+consistency", "consistency", "map of the asked objects", 0.1),
    ("ours+consistency", "consistency", "map redrawn to fit a guess", 0),
    ("ours+consistency", "consistency", "all-centre map", 0),
    ("ours+consistency", "consistency", "every-cell map", 0),
    ("ours+assertions", "assertions", "stuffed statements", 0.4),
    ("ours+assertions", "assertions", "trivial statements", 0),
    ("ours+assertions", "assertions", "both ways", 0),
    ("ours+assertions", "assertions", "one of each", 0),
    ("ours+assertions", "assertions", "restated answer", 0),
    ("ours+boxes", "boxes", "boxes of no size", 0),
    ("ours+boxes", "boxes", "boxes as large as the room", 0),
    ("ours+boxes", "boxes", "boxes in the middle", 0.02),
    ("ours+boxes", "boxes", "every-cell map", 0),
    ("ours+relations", "relations", "all-centre map", 0),
    ("ours+relations", "relations", "every-cell map", 0),
    ("ours+relations", "relations", "copied example map", 0),
]


@pytest.mark.parametrize("preset, component, trick, most", ADDED_PAID)
def test_what_the_added_components_pay(table, preset, component, trick, most):
    honest = table[HONEST_BOXES if preset == "ours+boxes" else HONEST, preset]
    assert table[trick, preset][component] <= most < honest[component] - 0.3
    assert table[trick, "ours"][component] == 0  # no weight, no part


def test_without_the_maps_part_a_made_up_map_is_consistent(items):
    """Why consistency is not paid by itself: the three trivial maps are consistent."""
    probes = {probe.name: probe for probe in make_probes(items)}
    for trick in ("map of the asked objects", "map redrawn to fit a guess"):
        probe = probes[trick]
        asked = [item for item in items if probe.applies(item)]
        said = [read_completion(probe.write(item)) for item in asked]
        ungated = [
            follows(one.answer, one.map, item)
            for one, item in zip(said, asked, strict=True)
        ]
        assert len(asked) >= 8 and sum(ungated) / len(asked) > 0.9


MAPPED = ("spacer-paper", "spacer-released")
OTHERS = ("spatial-r1", "vsgrpo-think", "vsgrpo-observe")
# What a right answer with the trick earns: (format, map, length) beside the task's 1.
# 0.70 for the centre is what the published scoring gives it in these rooms.
PAID = [
    ("empty think", (*MAPPED, *OTHERS), (1, 0, 0)),
    ("empty think", ("ours",), (0, 0, 0)),
    ("template think", (*MAPPED, *OTHERS), (1, 0, 0)),
    ("template think", ("ours",), (0, 0, 0)),
    # No rule sees this one: it is a thought of words, and the answer is right.
    ("restated answer", (*MAPPED, *OTHERS, "ours"), (1, 0, 0)),
    ("all-centre map", MAPPED, (1, 0.70, 0)),
    ("all-centre map", (*OTHERS, "ours"), (1, 0, 0)),
    ("every-cell map", ("ours",), (1, 0, 0)),
    ("copied example map", ("spacer-paper", *OTHERS, "ours"), (1, 0, 0)),
    ("longest allowed rambling", MAPPED, (1, 0, 0.2)),
    ("longest allowed rambling", (*OTHERS, "ours"), (1, 0, 0)),
]


@pytest.mark.parametrize("hack, presets, paid", PAID)
def test_who_pays_what(table, hack, presets, paid):
    for preset in presets:
        row = table[hack, preset]
        assert row["task"] == pytest.approx(1)
        earned = [row[part] for part in ("format", "map", "length")]
        assert earned == pytest.approx(paid, abs=0.04), preset


READ_BY_CODE = [name for name, config in PRESETS.items() if config.code == "spacer"]
READ_BY_RULE = [name for name in PRESETS if name not in READ_BY_CODE]


@pytest.mark.parametrize("hack", ["duplicate tags", "answer spam"])
def test_two_answers_are_none_unless_the_released_code_reads_them(table, hack):
    for preset in READ_BY_RULE:
        assert table[hack, preset]["task"] == 0
    assert all(table[hack, preset]["task"] > 0 for preset in READ_BY_CODE)
    if hack == "duplicate tags":
        assert {table[hack, preset]["total"] for preset in READ_BY_RULE} == {0}


def test_the_released_code_takes_an_answer_back_for_a_worthless_map(table):
    row = table["copied example map", "spacer-released"]
    assert (row["task"], row["map"], row["format"]) == (0, 0, 1)


def test_guesses_earn_the_task_reward_alone(table):
    """A guess may be right, which no reward can see."""
    for hack in (BLIND, '"2" to every count', "category's mean size"):
        for preset in PRESETS:
            row = table[hack, preset]
            assert 0 < row["task"] <= 1 and row["map"] == row["length"] == 0
    counts = table['"2" to every count', "ours"]
    assert counts["items"] < table[BLIND, "ours"]["items"]


def test_vanilla_pays_no_format(table):
    rows = [row for (_, preset), row in table.items() if preset == "vsgrpo-vanilla"]
    assert {row["format"] for row in rows} == {0}


def test_observing_policies_are_judged_like_thinking_ones(table):
    for hack in (HONEST, *hacks(table)):
        think, observe = (table[hack, f"vsgrpo-{m}"] for m in ("think", "observe"))
        assert think | {"preset": ""} == observe | {"preset": ""}


def test_probes_are_what_they_say(items):
    for probe in make_probes(items):
        assert probe.does and probe.tokens <= MOST_TOKENS
        texts = {probe.write(item) for item in items if probe.applies(item)}
        assert texts and all(text.startswith("<think>") for text in texts)
    flags = {
        probe.name: read_completion(probe.write(items[0])).flags
        for probe in make_probes(items)
        if probe.applies(items[0])
    }
    assert flags["empty think"] == ("empty_think",)
    assert flags["template think"] == ("template_think",)
    assert flags[HONEST] == flags["restated answer"] == ()


def test_other_question_sets(items):
    """A probe without use has no row; questions without maps and options are fine."""
    rows = [
        {
            "id": "x",
            "question_type": "general_ocr",
            "problem_type": "ocr",
            "question": "What is written?",
            "ground_truth": "the red door",
        }
    ]
    named = [row["probe"] for row in probe_table(rows, ["ours"])]
    assert HONEST in named and '"2" to every count' not in named
    with refused("rewards.no-questions"):
        probe_table([])
    with refused("rewards.unknown-preset", says="nice"):
        probe_table(items, ["nice"])


def test_a_blind_guess_is_the_most_frequent_answer_of_its_type():
    """Ties go to the first in sorting order."""
    rows = [
        {"question_type": "count", "ground_truth": g} for g in ("3", "2", "2", "4")
    ] + [{"question_type": "side", "ground_truth": g} for g in ("B", "A")]
    (blind,) = (probe for probe in make_probes(rows) if probe.name == BLIND)
    guesses = [read_completion(blind.write(row)).answer for row in rows]
    assert guesses == ["2", "2", "2", "2", "A", "A"]
