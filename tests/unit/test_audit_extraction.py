"""The extraction audit: hand-derived readings of the same outputs."""

import json

import matplotlib.pyplot as plt
import pytest

from spacer_lib import cli
from spacer_lib.artifacts import read_json
from spacer_lib.benchmarks import named, rules_of
from spacer_lib.evaluation.audit import audit
from spacer_lib.evaluation.foreign import Answer
from spacer_lib.language.tags import tagged_answer
from spacer_lib.pictures import evaluation_plots

VSI = named("vsi")
RULES = [
    "strict",
    "official",
    "final_answer",
    "first_number",
    "last_letter",
    "official_after_tag",
    "spacer_released",
    "video_r1",
    "lmms_eval",
    "vlmevalkit",
    "easi",
]


def rows():
    """One counting question (truth 10) and one of left, right, back (truth B)."""
    common = {"dataset": "scannet", "groups": {}, "question": "?"}
    number = {
        **common,
        "scene_name": "r1",
        "question_type": "object_counting",
        "problem_type": "numerical",
        "ground_truth": "10",
        "options": None,
    }
    letter = {
        **common,
        "scene_name": "r2",
        "question_type": "object_rel_direction_hard",
        "problem_type": "multiple choice",
        "ground_truth": "B",
        "options": ["A. left", "B. right", "C. back"],
    }
    return number, letter


NUMBERS = {  # output: what the rules score, truth 10
    "10": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    "10 chairs": [1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 1],
    "<think>2 here, 8 there</think><answer>10</answer>": [
        1,
        0,
        1,
        0,
        1,
        1,
        1,
        1,
        1,
        0,
        1,
    ],
    "<answer>10</answer> or 4": [1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1],
    # In floating point an error of 0.2 is over 1 - 0.8 under the official rule.
    "8 or 10": [0, 0.6, 0, 0.7, 1, 0.6, 0.6, 0, 0.6, 0, 1],
    "there are ten": [1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1],
    "many": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
}
LETTERS = {  # truth B
    "B": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    "b.": [1, 1, 1, 0, 0, 1, 0, 0, 1, 1, 0],
    "B. right": [1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1],
    "Based on the map, A": [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    "<answer>B</answer>": [1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 1],
    "<think>A or C</think><answer>B. right</answer>": [1, 0, 1, 0, 1, 1, 1, 0, 0, 0, 1],
    "right": [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    "": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
}


def asked():
    number, letter = rows()
    cases = [(number, t, s) for t, s in NUMBERS.items()]
    cases += [(letter, t, s) for t, s in LETTERS.items()]
    made = [{**row, "id": str(i)} for i, (row, _, _) in enumerate(cases)]
    return made, [Answer(text) for _, text, _ in cases], [s for _, _, s in cases]


def test_each_rule_on_each_output():
    made, answers, expected = asked()
    rules = rules_of(VSI)
    assert list(rules) == RULES
    for row, answer, scores in zip(made, answers, expected, strict=True):
        found = [rule(answer.text, row).score for rule in rules.values()]
        assert found == pytest.approx(scores), answer.text


def test_tables_of_the_audit():
    made, answers, expected = asked()
    made.append({**rows()[0], "id": "gone"})
    found = audit(made, [*answers, Answer(None, "missing_video")], VSI)
    counts = found.table[found.table["name"] == "object_counting"].set_index("rule")
    for place, rule in enumerate(RULES):
        column = [scores[place] for scores in expected[:7]]
        assert counts.loc[rule, "score"] == pytest.approx(sum(column) / 8)
    assert (counts["n"] == 8).all()
    assert (counts["answered"] + counts["unread"] == 8).all()
    # strict: "8 or 10", "many" and the missing video; nothing read is wrong.
    assert counts.loc["strict", ["unread", "wrong"]].to_list() == [3, 0]
    # last number: "many", "there are ten", the missing; 4 is read and worth nothing.
    assert counts.loc["last_letter", ["unread", "wrong"]].to_list() == [3, 1]
    reasons = found.reasons.set_index(["rule", "name", "reason"])["n"]
    assert reasons["strict", "object_counting", "ambiguous_number"] == 1
    assert reasons["strict", "object_rel_direction", "empty_answer"] == 1
    assert all(reasons[rule, "object_counting", "missing_video"] == 1 for rule in RULES)
    readings = found.readings.set_index(["rule", "name", "how"])["n"]
    # "10", "10 chairs" and the like: a unit of length alone is part of a number.
    assert readings["strict", "object_counting", "number"] == 3
    assert readings["strict", "object_counting", "sentence"] == 2
    assert readings["strict", "object_rel_direction", "letter"] == 3
    assert readings["strict", "object_rel_direction", "letter_and_text"] == 2
    assert readings["strict", "object_rel_direction", "option_text"] == 1
    assert readings["spacer_released", "object_counting", "number_word"] == 1
    assert set(readings.index.get_level_values("rule")) == {
        "strict",
        "final_answer",
        "spacer_released",
        "easi",
    }
    assert found.reasons.groupby("rule")["n"].sum().to_dict() == (
        found.table[found.table["level"] == "overall"]
        .set_index("rule")["unread"]
        .to_dict()
    )


def test_agreement_and_disagreements():
    made, answers, expected = asked()
    found = audit(made, answers, VSI)
    for place, rule in enumerate(RULES):
        unlike = [i for i, s in enumerate(expected) if s[0] != s[place]]
        share = 1 - len(unlike) / len(made)
        assert found.agreement.loc["strict", rule] == pytest.approx(share)
        cases = [case for case in found.disagreements if case["rule"] == rule]
        assert sorted(int(case["id"]) for case in cases) == unlike
        gaps = [abs(case["reference_score"] - case["rule_score"]) for case in cases]
        assert gaps == sorted(gaps, reverse=True)
    assert (found.agreement.to_numpy() == found.agreement.to_numpy().T).all()
    based = next(
        case
        for case in found.disagreements
        if case["rule"] == "first_number" and case["prediction"].startswith("Based")
    )
    assert based["rule_extracted"] == "B" and based["reference_extracted"] is None
    assert based["reference_failure"] == "not_an_option" and based["truth"] == "B"


@pytest.mark.parametrize(
    "text, answer",
    [
        ("<answer>5", "<answer>5"),
        (
            "<answer>1</answer><answer>2</answer>",
            "<answer>1</answer><answer>2</answer>",
        ),
        ("<think>3</think>\n<answer>\n5 m </answer>", "5 m"),
        (" 5", "5"),
        ("<think>3</think>\n\n5 m", "5 m"),
        ("3</think>5 m", "5 m"),
    ],
)
def test_the_answer_tag_or_the_whole(text, answer):
    assert tagged_answer(text).strip() == answer


def test_the_command_prints_and_keeps_it(tmp_path, capsys):
    made, answers, _ = asked()
    lines = [json.dumps(row) + "\n" for row in made]
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    lines = [
        json.dumps({"id": row["id"], "prediction": answer.text}) + "\n"
        for row, answer in zip(made, answers, strict=True)
    ]
    (tmp_path / "p.jsonl").write_text("".join(lines))
    out = tmp_path / "out.json"
    arguments = [
        "score",
        "--benchmark",
        "vsi",
        "--data",
        str(tmp_path / "rows.jsonl"),
        "--predictions",
        str(tmp_path / "p.jsonl"),
        "--audit",
        "--json",
        str(out),
    ]
    assert cli.main(arguments) == 0
    result = read_json(out)["audit"]
    assert list(result["agreement"]) == RULES
    assert result["disagreements"]["strict"] == 0
    assert result["disagreements"]["official"] == 7
    assert {line["rule"] for line in result["table"]} == set(RULES)
    assert len(result["examples"]) == sum(result["disagreements"].values())
    text = capsys.readouterr().out
    assert "the same outputs under each rule" in text
    assert (
        "'<think>2 here, 8 there</think><answer>10</answer>', truth 10: strict 10 (1.0)"
        ", official no_number (0.0)" in text
    )


def test_pictures():
    made, answers, _ = asked()
    found = audit(made, answers, VSI)
    figure, axes = plt.subplots(1, 2)
    evaluation_plots.extraction_bars(found.table, axes[0])
    widths = [
        sum(bar.get_width() for bar in bars)
        for bars in zip(*axes[0].containers, strict=True)
    ]
    assert widths == pytest.approx([100] * len(RULES))
    scores = found.table[found.table["level"] == "overall"]["score"]
    drawn = [bar.get_width() for bar in axes[0].containers[0]]
    assert drawn == pytest.approx(list(100 * scores))
    plt.close(figure)
