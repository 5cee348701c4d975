"""Benchmarks: checked files, extraction rules, VSI-Bench, the held-out rooms."""

import json
import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import refused

from spacer_lib.benchmarks import BENCHMARKS, held_out, named, rules_of, vsi
from spacer_lib.benchmarks.rules import (
    final_answer,
    first_number,
    last_letter,
    spacer_released,
    strict,
)
from spacer_lib.benchmarks.schema import find_file, read_table
from spacer_lib.evaluation.predictions import record
from spacer_lib.evaluation.statistics import summarize, totals
from spacer_lib.rooms.video import probe
from spacer_lib.tiny.curriculum import SEEDS

CHOICE = {
    "id": 1,
    "dataset": "scannet",
    "scene_name": "scene0000_00",
    "question_type": "object_rel_distance",
    "question": "Which is closest to the bed?",
    "ground_truth": "B",
    "options": ["A. table", "B. chair", "C. lamp", "D. door"],
}
NUMBER = {
    "id": 2,
    "dataset": "arkitscenes",
    "scene_name": "41069025",
    "question_type": "object_size_estimation",
    "question": "What is the longest side of the bed, measured in centimeters?",
    "ground_truth": "200",
    "options": None,
}


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        frame = pd.DataFrame(rows)
        frame.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False)
    return path


def read(rows, tmp_path):
    return vsi.read_rows(write(tmp_path / "test.jsonl", rows))


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "json", "tsv", "csv"])
def test_every_published_format_is_read(tmp_path, suffix):
    rows = [{"name": 'a "b"\nc', "n": 1}, {"name": "d\te, f", "n": 2}]
    path = write(tmp_path / f"x.{suffix}", rows)
    assert read_table(path, {"name": str, "n": int}) == rows


@pytest.mark.parametrize("suffix", ["jsonl", "json", "tsv", "csv"])
def test_a_byte_order_mark_does_not_matter(tmp_path, suffix):
    rows = [{"name": "chair", "n": 1}]
    path = write(tmp_path / f"x.{suffix}", rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_table(path, {"name": str, "n": int}) == rows


@pytest.mark.parametrize("column", ["id", "question_type", "ground_truth"])
def test_a_missing_column_names_file_column_and_what_was_found(tmp_path, column):
    rows = [CHOICE, {k: v for k, v in NUMBER.items() if k != column}]
    with refused("benchmarks.missing-column") as caught:
        read(rows, tmp_path)
    message = str(caught.value)
    assert "test.jsonl row 2" in message and f"column {column}" in message
    assert "'dataset'" in message and "'scene_name'" in message


@pytest.mark.parametrize(
    ("change", "kind", "column"),
    [
        ({"ground_truth": 3}, "wrong-type", "ground_truth"),
        ({"question_type": "colour"}, "unknown-task", "question_type"),
        ({"options": "A. table"}, "wrong-type", "options"),
        (
            {"question_type": "room_size_estimation", "ground_truth": "0"},
            "answer-not-a-number",
            "ground_truth",
        ),
        ({"map": "{"}, "column-not-json", "map"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, change, kind, column):
    with refused(f"benchmarks.{kind}", says="row 1") as caught:
        read([{**CHOICE, **change}], tmp_path)
    assert column in str(caught.value)


def test_files_that_are_none(tmp_path):
    with refused("benchmarks.no-files", says=str(tmp_path)):
        find_file(tmp_path, ["*.parquet"])
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not")
    with refused("artifacts.not-parquet", says="a.parquet"):
        read_table(tmp_path / "a.parquet", {})
    (tmp_path / "a.json").write_text("[1]")
    with refused("benchmarks.no-list-of-objects", says="a.json"):
        read_table(tmp_path / "a.json", {})
    (tmp_path / "a.jsonl").write_text("\n")
    with refused("benchmarks.no-rows", says="a.jsonl"):
        read_table(tmp_path / "a.jsonl", {})
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n{"n": \n')
    with refused("artifacts.not-json", says="a.jsonl line 2"):
        read_table(tmp_path / "a.jsonl", {})
    (tmp_path / "a.jsonl").write_text("[1]\n")
    with refused("artifacts.no-object", says="a.jsonl line 1"):
        read_table(tmp_path / "a.jsonl", {})
    (tmp_path / "a.json").write_text("{")
    with refused("artifacts.not-json", says="a.json"):
        read_table(tmp_path / "a.json", {})
    (tmp_path / "a.xml").write_text("")
    with refused("benchmarks.file-type", says=".xml"):
        read_table(tmp_path / "a.xml", {})


def test_names_are_forgiving_and_closed():
    assert named("VSI-Bench") is named("vsibench") is BENCHMARKS["vsi"]
    assert named("vsi_bench_debiased") is BENCHMARKS["vsi-debiased"]
    for misspelt in ("vis", "VSI2"):
        with refused("benchmarks.unknown-benchmark", says="vsi?"):
            named(misspelt)
    with refused("benchmarks.unknown-benchmark", says=", ".join(BENCHMARKS)):
        named("cooking")


# ---------------------------------------------------------------- VSI-Bench


def test_rows_of_vsi_bench(tmp_path):
    choice, number = read([CHOICE, {**NUMBER, "scene_name": 41069025}], tmp_path)
    assert choice["id"] == "1" and choice["problem_type"] == "multiple choice"
    assert choice["video"] == str(tmp_path / "scannet" / "scene0000_00.mp4")
    assert choice["groups"] == {"dataset": "scannet", "source": "ScanNet"}
    assert number["scene_name"] == "41069025" and number["options"] is None
    assert number["groups"]["source"] == "not ScanNet"


def test_the_debiased_subset_in_a_file_of_its_own_or_marked(tmp_path):
    both = [{**CHOICE, "pruned": True}, {**NUMBER, "pruned": False}]
    write(tmp_path / "test.parquet", both)
    assert [row["id"] for row in vsi.read_rows(tmp_path, debiased=True)] == ["2"]
    assert len(vsi.read_rows(tmp_path)) == 2
    write(tmp_path / "test_debiased.parquet", [CHOICE])
    assert [row["id"] for row in vsi.read_rows(tmp_path, debiased=True)] == ["1"]
    write(tmp_path / "plain.jsonl", [CHOICE])
    with refused("benchmarks.no-debiased-subset", says="plain.jsonl"):
        vsi.read_rows(tmp_path / "plain.jsonl", debiased=True)


# (row, output, official score, why)
OFFICIAL = [
    (CHOICE, "B", 1, "the letter"),
    (CHOICE, "b", 1, "case is ignored"),
    (CHOICE, "B.", 1, "full stops fall from the first word"),
    (CHOICE, "B...", 1, "all of them"),
    (CHOICE, "B\n", 1, "outer white space falls after them"),
    (CHOICE, "B.\n", 0, "the line break shields the full stop"),
    (CHOICE, " B", 0, "the text before the first space is empty"),
    (CHOICE, "B. chair", 1, "only the first word counts"),
    (CHOICE, "B chair", 1, "the same"),
    (CHOICE, "B\tchair", 0, "a tab is not a space"),
    (CHOICE, "(B)", 0, "brackets stay"),
    (CHOICE, "Based on", 0, "a word is not a letter"),
    (CHOICE, "", 0, "nothing"),
    (CHOICE, "<answer>B</answer>", 0, "tags are not read"),
    (NUMBER, "200", 1, "exact"),
    (NUMBER, "200.", 1, "float reads it"),
    (NUMBER, "200 cm", 1, "the first word"),
    (NUMBER, "200cm", 0, "float refuses it"),
    (NUMBER, "2e2", 1, "float reads exponents"),
    (NUMBER, "2_00", 1, "and underscores"),
    (NUMBER, "٢٠٠", 1, "and other digits"),
    (NUMBER, "1,200", 0, "but no thousands separators"),
    (NUMBER, "nan", 0, "not below any threshold"),
    (NUMBER, "inf", 0, "nor this"),
    (NUMBER, "100", 0.1, "50% off passes 0.5 alone: 0.5 is exact in binary"),
    (NUMBER, "180", 0.9, "10% off passes 0.5 … 0.9: by floats 1 - 0.9 > 0.1"),
    (NUMBER, "160", 0.6, "20% off fails at 0.8, where by floats 1 - 0.8 < 0.2"),
    (NUMBER, "-200", 0, "twice the truth away"),
    (NUMBER, "two hundred", 0, "words are not read as numbers"),
]


@pytest.mark.parametrize(
    ("row", "text", "score", "why"), OFFICIAL, ids=[repr(c[1]) for c in OFFICIAL]
)
def test_official_rule(tmp_path, row, text, score, why):
    assert vsi.official(text, read([row], tmp_path)[0]).score == score, why


def test_aggregates_by_hand(tmp_path):
    kinds = {  # question type: scores
        "object_rel_direction_easy": [1, 1, 0],
        "object_rel_direction_medium": [0],
        "object_rel_direction_hard": [1],
        "route_planning": [0, 1],
        "room_size_estimation": [0.5],
    }
    predictions = [
        {
            "id": f"{kind}{i}",
            "scene_name": "scene0000_00",
            "question_type": kind,
            "score": float(score),
            "failure": None,
            "groups": {},
        }
        for kind, scores in kinds.items()
        for i, score in enumerate(scores)
    ]
    made = totals(predictions, named("vsi"))
    # Directions: (2/3 + 0 + 1) / 3 = 5/9, not 3/5 of the rows.
    assert made["tasks"]["object_rel_direction"] == pytest.approx(5 / 9)
    assert made["overall"] == made["macro"] == pytest.approx((5 / 9 + 0.5 + 0.5) / 3)
    assert made["micro"] == pytest.approx(4.5 / 8)
    # The same of each group: the route alone, and all others.
    for made_of in predictions:
        alone = made_of["question_type"] == "route_planning"
        made_of["groups"] = {"source": "routes" if alone else "others"}
    cells = totals(predictions, named("vsi"))["groups"]["source"]
    assert cells["routes"] == {"n": 2, "macro": 0.5, "micro": 0.5}
    assert cells["others"] == {
        "n": 6,
        "macro": pytest.approx((5 / 9 + 0.5) / 2),
        "micro": pytest.approx(3.5 / 6),
    }


# ---------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("text", "score", "answer", "failure"),
    [
        ("B", 1, "B", None),
        ("(b)", 1, "B", None),
        ("<think>x</think><answer>B. chair</answer>", 1, "B", None),
        ("chair", 1, "B", None),
        ("Based on the map", 0, None, "not_an_option"),
        ("A or B", 0, None, "not_an_option"),
        ("The answer is **B**.", 1, "B", None),
        ("<think>A or B?</think>\n\nB", 1, "B", None),
        ("A or B?</think> B. chair", 1, "B", None),  # the prompt opened it
        ("<think>A</think>x<think>C</think>B", 1, "B", None),  # after the last
        ("<think>so</think><map>{}</map>B", 1, "B", None),
        ("<think>B</think>", 0, None, "empty_answer"),
        ("<think>so</think>A or B", 0, None, "not_an_option"),
        ("<think>B", 0, None, "no_answer_tag"),
        ("<think>so</think><think>B", 0, None, "no_answer_tag"),
        ("<think>x</think><answer>B", 0, None, "unclosed_answer"),
        ("<answer>A</answer><answer>B</answer>", 0, None, "two_answers"),
        ("", 0, None, "empty_answer"),
    ],
)
def test_strict_choice(tmp_path, text, score, answer, failure):
    found = strict(text, read([CHOICE], tmp_path)[0])
    assert found[:3] == (score, answer, failure)
    assert (found.how is None) == (failure is not None)


@pytest.mark.parametrize(
    ("text", "score", "answer", "failure"),
    [
        ("200", 1, "200", None),
        ("2 m", 1, "200", None),  # the question asks for centimetres
        ("about two hundred centimeters", 1, "200", None),
        ("100", 0.1, "100", None),
        ("180", 0.9, "180", None),
        ("160", 0.7, "160", None),  # 20% off: 0.8 passes with the tolerance
        ("190 or 200", 0, None, "ambiguous_number"),
        ("3 square meters", 0, None, "wrong_unit"),
        ("big", 0, None, "no_number"),
    ],
)
def test_strict_number(tmp_path, text, score, answer, failure):
    found = strict(text, read([NUMBER], tmp_path)[0])
    assert found[:3] == (pytest.approx(score), answer, failure)


@pytest.mark.parametrize(
    ("text", "number", "choice"),
    [  # truths 200 and B; what SpaceR's released evaluation reads
        ("<think>a</think><answer>200</answer>", ("200", 1), ("200", 0)),
        ("200 cm", ("200", 1), (None, 0)),
        ("a table of 200 cm", ("1", 0), (None, 0)),  # "a" is a number word
        ("nine or four", ("4", 0), (None, 0)),  # in its list's order
        ("about 190.5 or 200", ("190.5", 1), (None, 0)),  # error 0.0475
        ("B", (None, 0), ("B", 1)),
        ("b", (None, 0), ("b", 1)),
        ("B. chair", (None, 0), ("B", 1)),
        ("B) chair", (None, 0), (None, 0)),
        ("Answer: B", (None, 0), ("B", 1)),
        ("<answer>B", (None, 0), (None, 0)),  # never closed
        ("<answer>A</answer><answer>B</answer>", ("1", 0), ("A", 0)),
    ],
)
def test_the_rule_of_spacer(tmp_path, text, number, choice):
    one, other = read([CHOICE, NUMBER], tmp_path)
    for row, (answer, score) in ((one, choice), (other, number)):
        if answer == "200" and row is one:
            answer = None  # no option
        found = spacer_released(text, row)
        assert (found.answer, found.score) == (answer, pytest.approx(score))
        assert (found.failure is None) == (answer is not None)


@pytest.mark.parametrize(
    ("text", "number", "choice"),
    [  # truths 200 and B
        ("The bed ends at [1.2,3]. It is sqrt(4) = 200.", "200", None),
        ("It is 3 steps. The length is 2 m.", "200", None),  # cm are asked for
        ("We see 3. So the final answer is 200 cm.\nThat is 2 beds.", "200", None),
        ("First 4 chairs.\n\nAnswer: **C**", None, "C"),
        ("A is near. The correct answer is (B), the chair. D is far.", None, "B"),
        ("D seems near.\nThe answer is not B.", None, None),
        ("The answer is B or C.\nC", None, None),
        ("I see a chair behind the table.\nB", None, "B"),
        ("It is 8 or 10", None, None),
        ("between 150 and 200 cm", None, None),
        ("I cannot tell.", None, None),
        ("", None, None),
    ],
)
def test_the_end_of_a_chain_of_thought(tmp_path, text, number, choice):
    one, other = read([CHOICE, NUMBER], tmp_path)
    if number or not choice:
        assert final_answer(text, other).answer == number
    if choice or not number:
        assert final_answer(text, one).answer == choice
    if number or choice:
        found = final_answer(text, other if number else one)
        assert found.how in (
            "answer_phrase",
            "last_line",
            "last_sentence",
            "last_number",
        )
        assert strict(text, other if number else one).answer is None


def test_the_official_rule_after_the_tag(tmp_path):
    one, other = read([CHOICE, NUMBER], tmp_path)
    rule = rules_of(named("vsi"))["official_after_tag"]
    assert rule("<think>A</think><answer>B. chair</answer>", one).score == 1
    assert rule("<think>3</think>\n<answer>\n200 cm </answer>", other).score == 1
    assert rule("<think>3</think>\n\n200 cm", other).score == 1
    assert vsi.official("<answer>200</answer>", other).score == 0


def test_common_rules_read_letters_and_numbers_anywhere(tmp_path):
    choice, number = read([CHOICE, NUMBER], tmp_path)
    assert first_number("Based on the map: D", choice).score == 1  # B of "Based"
    assert last_letter("B, since the Chair is near", choice).answer == "C"
    assert first_number("of 3 beds, 200", number).answer == "3"
    assert last_letter("200 in 1 room", number).answer == "1"
    assert last_letter("none", number).failure == "no_number"


def test_a_row_without_output_is_wrong_and_says_why(tmp_path):
    row = read([CHOICE], tmp_path)[0]
    made = record(row, None, strict, failure="missing_media")
    assert (made["score"], made["failure"]) == (0, "missing_media")
    assert made["prediction"] == "" and made["extracted"] is None


# ---------------------------------------------------------------- held-out rooms


def test_held_out_rooms_are_vsi_bench_files(tmp_path):
    file = held_out.write(tmp_path, rooms=8)
    again = held_out.write(tmp_path / "again", rooms=8)
    assert file.read_bytes() == again.read_bytes()
    rows = named("held-out").read(tmp_path)
    assert {row["id"] for row in rows} == {row["id"] for row in vsi.read_rows(file)}
    # None about a room of which an object is hardly seen.
    assert 4 <= len({row["scene_name"] for row in rows}) <= 8 and len(rows) >= 24
    for row in rows:
        rule = rules_of(named("held-out"))["strict"]
        answer = f"<think><map>{json.dumps(row['map'])}</map></think>"
        made = record(row, f"{answer}<answer>{row['ground_truth']}</answer>", rule)
        assert made["score"] == 1 and made["map_hits"] == made["map_total"] > 0
        assert set(row["categories"]) <= set(row["map"])
    table = summarize([record(row, "1", strict) for row in rows])
    assert {"score", "score_low", "hits", "map_failures"} <= set(table.columns)


def test_held_out_rooms_are_test_rooms_beyond_the_studies():
    assert SEEDS["test"] < held_out.FIRST_SEED
    assert held_out.FIRST_SEED < SEEDS["warmstart"]


def test_held_out_rooms_as_videos(tmp_path):
    file = held_out.write(tmp_path, rooms=1, videos=True)
    row = vsi.read_rows(file)[0]
    assert row["video"] == str(tmp_path / "synthetic" / f"{row['scene_name']}.mp4")
    assert probe(row["video"]).frame_count == 192


# ---------------------------------------------------------------- real rows


@pytest.mark.skipif(
    not os.environ.get("SPACER_REAL_QA"),
    reason="SPACER_REAL_QA names no VSI-Bench rows (they are not shipped)",
)
def test_the_true_answer_is_right_under_every_rule():
    bench = named("vsi")
    rows = bench.read(os.environ["SPACER_REAL_QA"])
    for name, rule in rules_of(bench).items():
        made = [record(row, row["ground_truth"], rule) for row in rows]
        assert {r["id"]: r["prediction"] for r in made if r["score"] < 1} == {}, name
