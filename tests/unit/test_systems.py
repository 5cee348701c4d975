"""Reading rules and aggregates of published systems against their recorded outputs.

``samples/released_readings.json`` holds texts of ours (tags broken and doubled, letters
and numbers written in many ways, noise) and what the released functions gave.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support import refused

from spacer_lib.artifacts import read_json
from spacer_lib.benchmarks import BENCHMARKS, named, rules_of
from spacer_lib.cli.choices import EXTRACTIONS, RULES
from spacer_lib.evaluation.aggregates import row_weights

RECORDED = read_json(Path(__file__).parent.parent / "samples/released_readings.json")
AGGREGATE = {"sti": "tasks_and_subset", "vsi": "macro", "spar": "macro"}


def question(question_type, problem_type, truth):
    words = ["chair", "sofa", "table", "lamp", "bed"]
    options = [f"{letter}. {word}" for letter, word in zip("ABCDE", words, strict=True)]
    return {
        "id": "1",
        "question": "?",
        "question_type": question_type,
        "problem_type": problem_type,
        "ground_truth": truth,
        "options": options if problem_type == "multiple choice" else None,
        "groups": {"format": "multi-choice"},
        "published_answer": truth,
    }


@pytest.mark.parametrize(
    "rule", ["spacer_released", "video_r1", "lmms_eval", "vlmevalkit", "easi"]
)
def test_readings_equal_the_recorded_ones(rule):
    rows = [row[1:] for row in RECORDED["rows"] if row[0] == rule]
    for name, *asked, text, score in rows:
        verdict = rules_of(named(name))[rule](text, question(*asked))
        assert verdict.score == pytest.approx(score, abs=1e-6), (name, asked, text)
    scores = Counter(bool(row[-1]) for row in rows)
    assert min(scores[True], scores[False]) > 5  # the sample decides both ways


def test_every_benchmark_that_spacer_evaluates_is_recorded():
    read = {row[1] for row in RECORDED["rows"] if row[0] == "spacer_released"}
    assert read == {*AGGREGATE, "videomme", "longvideobench", "tempcompass"}


@pytest.mark.parametrize("case", RECORDED["aggregates"], ids=lambda case: case[0])
def test_aggregates_equal_the_recorded_ones(case):
    name, rows, overall = case
    types, scores = zip(*rows, strict=True)
    weights = row_weights(AGGREGATE.get(name, "micro"), types, named(name))
    assert weights.mean() == pytest.approx(1)
    assert (weights * np.array(scores)).mean() == pytest.approx(overall, abs=1e-12)


def test_the_released_sti_aggregate_is_no_plain_mean():
    (case,) = [c for c in RECORDED["aggregates"] if c[0] == "sti"][:1]
    types, scores = zip(*case[1], strict=True)
    for name in ("macro", "micro"):
        weights = row_weights(name, types, named("sti"))
        assert abs((weights * np.array(scores)).mean() - case[2]) > 1e-4


def test_an_unknown_aggregate_is_refused():
    with refused("evaluation.unknown-aggregate", says="tasks_and_subset"):
        row_weights("mean", ["a"], named("sti"))


def test_lmms_eval_takes_thoughts_out_and_leaves_the_answer_tag():
    rule = rules_of(named("vsi"))["lmms_eval"]
    row = question("object_rel_distance", "multiple choice", "B")
    thought = "<think>A or C</think>"
    texts = ("B", f"{thought}B.", "A or C</think> B", f"{thought}<answer>B</answer>")
    assert [rule(text, row).score for text in texts] == [1, 1, 1, 0]
    row = question("object_counting", "numerical", "105")
    texts = ("<answer>105", "one hundred and five", "105 or 3", "a lamp", "3-5")
    read = [rule(text, row).answer for text in texts]
    assert read == ["105", "105", "105", None, "3"]
    row = question("Pose Estimation", "multiple choice", "B")  # a rule of its own
    assert rules_of(named("sti"))["lmms_eval"](f"{thought}(B)", row).answer == "B"


def test_every_rule_can_be_chosen():
    assert set(RULES) == set(rules_of(BENCHMARKS["vsi"]))
    assert set(EXTRACTIONS) >= {"video_r1", "lmms_eval", "vlmevalkit", "easi"}


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("text", ["", "[", "[()]", "<answer>", "\ud800", "9" * 400])
def test_rules_read_any_text(name, text):
    for kind, truth in (("multiple choice", "B"), ("numerical", "2"), ("ocr", "x")):
        row = question("object_counting", kind, truth)
        if name == "spar":
            row["question_type"] = "depth_prediction_oc"
        for rule in ("spacer_released", "video_r1", "vlmevalkit", "easi"):
            assert 0 <= rules_of(BENCHMARKS[name])[rule](text, row).score <= 1
