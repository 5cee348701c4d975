"""Predictions from elsewhere: every shape, every container, every mistake."""

import csv
import json
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import refused

from spacer_lib.benchmarks import named
from spacer_lib.evaluation import foreign
from spacer_lib.evaluation.foreign import Answer, gather, join, read_predictions
from spacer_lib.evaluation.predictions import record

DOCS = [
    {
        "id": 7,
        "dataset": "scannet",
        "scene_name": "scene0000_00",
        "question_type": "object_counting",
        "question": "How many chairs are there?",
        "ground_truth": "4",
        "options": None,
    },
    {
        "id": 8,
        "dataset": "arkitscenes",
        "scene_name": "41069021",
        "question_type": "object_counting",
        "question": "How many chairs are there?",
        "ground_truth": "2",
        "options": None,
    },
    {
        "id": 9,
        "dataset": "scannet",
        "scene_name": "scene0000_00",
        "question_type": "object_rel_distance",
        "question": "Which is  closest?",
        "ground_truth": "B",
        "options": ["A. bed", "B. sofa"],
    },
]
TEXTS = ["4.0", "nan", "B. sofa\nI think"]
VSI = named("vsi")


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(doc) + "\n" for doc in DOCS))
    return path


@pytest.fixture
def rows(data):
    return VSI.read(data)


def write(path, records):
    """Records in the container that the name asks for, as its own writer does it."""
    kind = path.suffix
    if kind == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n\n" for record in records))
    elif kind == ".json":
        path.write_text(json.dumps(records, indent=4))
    elif kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif kind == ".xlsx":
        pd.DataFrame(records).to_excel(path, index=False, engine="openpyxl")
    else:
        separator = "\t" if kind == ".tsv" else ","
        pd.DataFrame(records).to_csv(
            path, sep=separator, index=False, quoting=csv.QUOTE_ALL
        )
    return path


def plain():
    return [{"id": d["id"], "prediction": t} for d, t in zip(DOCS, TEXTS, strict=True)]


def lmms_eval(document=True):
    """As a sample log has it: the document under its key, or only in the metric."""
    made = []
    for number, (doc, text) in enumerate(zip(DOCS, TEXTS, strict=True)):
        log = {
            "doc_id": number,
            "target": doc["ground_truth"],
            "input": "These are …",
            "filtered_resps": [text],
            "resps": [[text]],
            "doc_hash": "ab",
            "vsibench_score": {**doc, "prediction": text, "accuracy": 1.0},
        }
        if document:
            log = {**log, "doc": doc, "vsibench_score": 1.0}
        made.append(log)
    return made


def lmms_eval_filtered():
    """Version 0.7.3 where no filter changed a text: one result, and no ``resps``."""
    made = []
    for log in lmms_eval(False):
        log["filtered_resps"] = log.pop("resps")[0][0]
        made.append({**log, "token_counts": [{"output_tokens": 2}]})
    return made


def vlmevalkit(*, ids=True):
    made = [
        {
            "id": doc["id"],
            "prefix": doc["dataset"],
            "video": doc["scene_name"],
            "type": doc["question_type"],
            "question": doc["question"],
            "answer": doc["ground_truth"],
            "index": index,
            "prediction": text,
        }
        for index, (doc, text) in enumerate(zip(DOCS, TEXTS, strict=True))
    ]
    return made if ids else [{k: v for k, v in r.items() if k != "id"} for r in made]


def spacer_eval():
    return [
        {"id": doc["id"], "question": doc["question"], "predicted_answer": text}
        for doc, text in zip(DOCS, TEXTS, strict=True)
    ]


SHAPES = {
    "plain": plain,
    "spacer_eval": spacer_eval,
    "lmms": lmms_eval,
    "lmms_metric": lambda: lmms_eval(False),
    "lmms_filtered": lmms_eval_filtered,
    "vlmevalkit": vlmevalkit,
    "vlmevalkit_old": lambda: vlmevalkit(ids=False),
}


CONTAINERS = [
    (shape, kind)
    for shape in SHAPES
    for kind in ("jsonl", "json", "parquet", "csv", "tsv", "xlsx")
    if not (shape.startswith("lmms") and kind in ("csv", "tsv", "xlsx"))  # nested
]


@pytest.mark.parametrize("shape, kind", CONTAINERS)
def test_every_shape_in_every_container(shape, kind, tmp_path, data):
    # The name says nothing: what is inside decides.
    odd = write(tmp_path / f"x.{kind}", SHAPES[shape]()).rename(tmp_path / "x.log")
    found, answers = gather(VSI, odd, data)
    assert [row["id"] for row in found] == ["7", "8", "9"]
    assert answers == [Answer(text) for text in TEXTS]


KEPT = [
    "nan",
    "NaN",
    "None",
    "NA",
    "null",
    "",
    "5.0",
    "5",
    "05",
    "1e1",
    "1_000",
    "٣",
    "True",
    " 5 ",
    "5\n",
    'say "B"',
    "a,b\tc",
    "-inf",
    "<NA>",
    "=1+1",
    "😀",
    "x" * 200_000,
]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_texts_stay_as_they_are(kind, tmp_path):
    records = [{"id": f"{i:03}", "prediction": text} for i, text in enumerate(KEPT)]
    lines = read_predictions(write(tmp_path / f"x.{kind}", records))
    assert [line.answer.text for line in lines] == KEPT
    assert [line.about["id"] for line in lines] == [r["id"] for r in records]


def test_texts_of_a_sheet_stay_as_they_are(tmp_path):
    from openpyxl import Workbook

    book, texts = Workbook(), [t for t in KEPT if t and len(t) < 32_767]
    book.active.append(["id", "prediction"])
    for i, text in enumerate(texts):
        book.active.append([i, None])
        cell = book.active.cell(i + 2, 2, text)
        cell.data_type = "s"  # as the toolkit writes it: no formulas
    book.save(tmp_path / "x.xlsx")
    lines = read_predictions(tmp_path / "x.xlsx")
    assert [line.answer.text for line in lines] == texts


@pytest.mark.parametrize("value, text", [(5, "5"), (5.0, "5.0"), (-2.5, "-2.5")])
def test_numbers_are_written_out(value, text, tmp_path):
    for kind in ("jsonl", "json", "parquet"):
        path = write(tmp_path / f"x.{kind}", [{"id": 1, "prediction": value}])
        assert read_predictions(path)[0].answer == Answer(text)


def test_missing_and_null_have_no_prediction(tmp_path, data):
    records = [{"id": 9, "prediction": None}, {"id": 8, "prediction": math.nan}]
    rows, answers = gather(VSI, write(tmp_path / "x.jsonl", records), data)
    assert len(rows) == 3
    assert answers == [Answer(None)] * 3 == [Answer(None, "no_prediction")] * 3
    records = [{"id": 9, "prediction": "B"}, {"id": 8}]
    answers = gather(VSI, write(tmp_path / "x.jsonl", records), data)[1]
    assert answers == [Answer(None), Answer(None), Answer("B")]


def test_a_run_of_ours_keeps_its_reason(tmp_path, data):
    records = [
        {"id": "7", "prediction": "", "failure": "missing_media: 7.mp4"},
        {"id": "8", "prediction": "", "failure": "empty_answer"},
    ]
    write(tmp_path / "predictions.jsonl", records)
    answers = gather(VSI, tmp_path, data)[1]  # the run's folder will do
    assert answers[:2] == [Answer(None, "missing_media: 7.mp4"), Answer("")]


def test_a_run_of_ours_can_be_judged_again_without_its_data(tmp_path, rows):
    texts = ["<answer>4</answer>", "2", "Based on B"]
    made = [
        record(row, text, VSI.official) for row, text in zip(rows, texts, strict=True)
    ]
    path = write(tmp_path / "predictions.jsonl", made)
    again, answers = gather(VSI, path)
    assert [answer.text for answer in answers] == texts
    for row, twin in zip(rows, again, strict=True):
        keys = ("id", "ground_truth", "question", "options", "problem_type", "groups")
        assert {key: row[key] for key in keys} == {key: twin[key] for key in keys}


def test_failed_requests_of_the_toolkit_are_no_answers(tmp_path, data):
    records = vlmevalkit()
    records[1]["prediction"] = "Failed to obtain answer via API."
    answers = gather(VSI, write(tmp_path / "x.tsv", records), data)[1]
    assert answers[1] == Answer(None, "request_failed")


def test_surrogates_and_byte_order_marks(tmp_path, data):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": 7, "prediction": "\\ud800\\u0000"}\n')
    assert gather(VSI, path, data)[1][0] == Answer("\ud800\0")
    path.write_bytes(b"\xef\xbb\xbfid,prediction\r\n7,3\r\n\r\n")
    assert gather(VSI, path, data)[1][0] == Answer("3")


# ---------------------------------------------------------------- lmms-eval


@pytest.mark.parametrize(
    "responses, text",
    [
        ({"filtered_resps": "B", "resps": "<think>x</think>B"}, "<think>x</think>B"),
        (
            {"filtered_resps": ["B"], "resps": [["<think>x</think>B"]]},
            "<think>x</think>B",
        ),
        ({"filtered_resps": "B"}, "B"),
        ({"filtered_resps": [["B", "C"]]}, "B"),
        ({"resps": [["B"]]}, "B"),
        ({"filtered_resps": []}, None),
    ],
)
def test_the_raw_response(responses, text, tmp_path):
    path = write(tmp_path / "x.jsonl", [{"doc_id": 0, "doc": {"id": 1}, **responses}])
    assert read_predictions(path)[0].answer.text == text


def test_a_log_carries_its_questions(tmp_path, data):
    for document in (True, False):
        path = write(tmp_path / "x.jsonl", lmms_eval(document))
        rows, answers = gather(VSI, path)
        assert [row["published_id"] for row in rows] == [7, 8, 9]
        assert [row["ground_truth"] for row in rows] == ["4", "2", "B"]
        assert answers == [Answer(text) for text in TEXTS]


@pytest.mark.parametrize("carried", [False, True])
def test_answers_to_the_whole_set_serve_its_subset(carried, tmp_path):
    """Of rows that are marked, or in a file beside the whole set's."""
    subset = named("vsi-debiased")
    marked = [{**doc, "pruned": doc["id"] == 8} for doc in DOCS]
    path = write(tmp_path / "test.jsonl", marked)
    records = plain()
    if carried:
        pairs = zip(records, marked, strict=True)
        records = [{**record, **doc} for record, doc in pairs]
    answered = write(tmp_path / "x.jsonl", records)
    rows, answers = gather(subset, answered, None if carried else path)
    assert [row["id"] for row in rows] == ["7", "9"]
    assert answers == [Answer(TEXTS[0]), Answer(TEXTS[2])]
    for name, docs in (("test", DOCS), ("test_debiased", DOCS[1:])):
        write(tmp_path / f"{name}.parquet", docs)
    path.unlink()
    rows, answers = gather(subset, write(tmp_path / "x.jsonl", plain()), tmp_path)
    assert [row["id"] for row in rows] == ["8", "9"]
    assert answers == [Answer(text) for text in TEXTS[1:]]
    with refused(
        "evaluation.no-such-question", says="x.jsonl"
    ):  # nothing says what 7 is
        gather(subset, tmp_path / "x.jsonl", tmp_path / "test_debiased.parquet")


def test_a_log_without_documents_goes_by_place_if_it_agrees(tmp_path, data, rows):
    logs = [
        {
            "doc_id": number,
            "target": doc["ground_truth"],
            "filtered_resps": [text],
            "input": f"These are frames.\n{doc['question']}\nAnswer.",
        }
        for number, (doc, text) in enumerate(zip(DOCS, TEXTS, strict=True))
    ]
    path = write(tmp_path / "x.jsonl", logs)
    assert gather(VSI, path, data)[1] == [Answer(text) for text in TEXTS]
    lines = read_predictions(path)
    with refused("evaluation.other-order", says="line 1: doc_id 0: got target '4'"):
        join(lines, rows[1:] + rows[:1])
    with refused("evaluation.no-such-question", says="doc_id 2"):
        join(lines, rows[:2])
    # Same truth, another question: the prompt gives it away.
    rows[0]["question"] = "How many doors?"
    with refused("evaluation.other-order", says="line 1: doc_id 0"):
        join(lines, rows)
    with refused("evaluation.no-questions", says="VSI-Bench"):
        gather(VSI, path)


# ---------------------------------------------------------------- by question


def test_rooms_tell_equal_questions_apart(rows):
    def ask(**about):
        return foreign.Line("f line 2", Answer("1"), about)

    question = "How many  chairs\nare there?"
    found = join([ask(question=question, video="d/scene0000_00.mp4")], rows)
    assert found == {"7": Answer("1")}
    with refused("evaluation.ambiguous-question", says="f line 2: question: got 2"):
        join([ask(question=question)], rows)
    with refused("evaluation.no-such-question", says="'How many lamps"):
        join([ask(question="How many lamps?", video="41069021")], rows)
    assert join([ask(question="Which is closest?")], rows) == {"9": Answer("1")}
    with refused("evaluation.nothing-to-join-by", says="index, prediction"):
        join([ask(index=0, prediction="1")], rows)


# ---------------------------------------------------------------- mistakes


MISTAKES = [  # (what a file holds, the fault, the place that is named)
    (
        '{"id": 7, "prediction": "1"}\n{"id": "7", "prediction": "2"}\n',
        "evaluation.prediction-twice",
        "x line 2: prediction of 7 ",
    ),
    (
        '{"id": 5, "prediction": "1"}',
        "evaluation.no-such-question",
        "x line 1: prediction of id '5'",
    ),
    (
        '{"id": 7, "prediction": "1"}\n{"id": 8,',
        "artifacts.not-json",
        "x line 2 ",
    ),
    ('{"id": 7, "prediction": "1"}\n3\n', "artifacts.no-object", "x line 2: got 3"),
    (
        '{"id": 7, "prediction": ["1"]}',
        "evaluation.prediction-no-text",
        "x line 1: prediction: got ['1']",
    ),
    ('{"id": 7, "answer": "1"}', "evaluation.unknown-columns", "id, answer"),
    ('{"prediction": "1"}', "evaluation.nothing-to-join-by", "columns prediction"),
    ('[{"id": 7}, 3]', "evaluation.no-object", "x row 2: got 3"),
    ("[", "artifacts.not-json", "x is not JSON"),
    ("", "evaluation.no-predictions", "x: got no rows"),
    ("id,prediction\n7\n", "evaluation.uneven-cells", "x line 2: got 1 cells"),
    ("id,prediction\n7,1\n8,1,2\n", "evaluation.uneven-cells", "x line 3: got 3 cells"),
    ('id,prediction\n7,1\n8,"open\n9,2\n', "evaluation.bad-csv", "x line 4"),
    ("id,prediction\n7,\xff\n", "evaluation.not-utf-8", "x is not UTF-8"),
    ("\x80\x04]q", "evaluation.pickle", "x: file type"),
    ("PK\x03\x04 no zip", "evaluation.unreadable-file", "an Excel sheet"),
    ("PAR1 no table", "artifacts.not-parquet", "Parquet file"),
]


@pytest.mark.parametrize("text, fault, place", MISTAKES)
def test_each_mistake_names_its_place(text, fault, place, tmp_path, data):
    path = tmp_path / "x"
    path.write_bytes(text.encode("latin-1"))
    with refused(fault, says=place) as caught:
        gather(VSI, path, data)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_and_one_without_questions(tmp_path):
    with refused("evaluation.unreadable-file", says="gone.csv"):
        read_predictions(tmp_path / "gone.csv")
    path = write(tmp_path / "x.jsonl", plain())
    with refused("evaluation.no-questions", says="row 1: column dataset"):
        gather(VSI, path)


def test_an_id_twice_in_the_data(tmp_path, data):
    data.write_text(data.read_text() + json.dumps({**DOCS[0], "id": "7"}) + "\n")
    with refused("evaluation.id-twice", says="test.jsonl: got id 7 twice"):
        gather(VSI, write(tmp_path / "x.jsonl", plain()), data)


def test_values_that_arrow_gives_back(tmp_path, data):
    records = [{"id": np.int64(7), "prediction": "4"}]
    assert gather(VSI, write(tmp_path / "x.parquet", records), data)[1][0].text == "4"


def test_a_column_of_another_name(tmp_path, data):
    records = [
        {"id": doc["id"], "reply": text, "prediction": "not this"}
        for doc, text in zip(DOCS, TEXTS, strict=True)
    ]
    path = write(tmp_path / "p.jsonl", records)
    _, answers = gather(VSI, path, data, column="reply")
    assert [answer.text for answer in answers] == TEXTS
    with refused("evaluation.unknown-columns", says="said"):
        gather(VSI, path, data, column="said")


# ---------------------------------------------------------------- reproduced systems


def video_r1():
    """Rows of Video-R1's evaluation: no ids of the benchmark, the raw text apart."""
    return [
        {
            "problem_id": number,
            "problem": record["question"],
            "data_type": "video",
            "problem_type": "regression",
            "options": record["options"] or [],
            "solution": f"<answer>{record['ground_truth']}</answer>",
            "path": f"./VSI-Bench/{record['dataset']}/{record['scene_name']}.mp4",
            "output": f"<think>t</think><answer>{number}</answer>",
            "prediction": str(number),
            "reward": 0.0,
        }
        for number, record in enumerate(DOCS)
    ]


def texts(path, data):
    return [answer.text for answer in gather(VSI, path, data)[1]]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("finished", [True, False])
def test_results_of_video_r1(indent, finished, tmp_path, data):
    made = {"results": video_r1()}
    if finished:
        made["final_acc"] = [{"mean_acc": 0.0, "mean_mra": 0.0}]
    path = tmp_path / "eval_vsibench_x_greedy_output.json"
    path.write_text(json.dumps(made, indent=indent))
    said = [f"<think>t</think><answer>{i}</answer>" for i in range(len(DOCS))]
    assert texts(path, data) == said


@pytest.mark.parametrize("between", ["", "\n", " \n\n "])
@pytest.mark.parametrize("indent", [None, 4])
def test_objects_one_after_another(between, indent, tmp_path, data):
    records = [{"id": r["id"], "prediction": r["ground_truth"]} for r in DOCS]
    path = tmp_path / "made.json"
    path.write_text(between.join(json.dumps(r, indent=indent) for r in records))
    assert texts(path, data) == [r["ground_truth"] for r in DOCS]


@pytest.mark.parametrize(
    ("text", "kind", "place"),
    [
        ('{\n "id": 1\n}\n{\n "id": \n}', "evaluation.not-json", "line 6"),
        ('{"id": 1}{"id"', "evaluation.not-json", "line 1"),
        ('{\n"id": ' + "9" * 5000 + "}", "evaluation.not-json", "line 1"),
        ('{"id": 1} 7', "evaluation.no-object", "line 1"),
    ],
)
def test_a_fault_in_joined_objects_names_its_line(text, kind, place, tmp_path):
    path = tmp_path / "made.json"
    path.write_text(text)
    with refused(kind, says=place):
        read_predictions(path)


def test_a_table_of_easi(tmp_path, data):
    records = [
        {
            "index": record["id"],
            "question_type": record["question_type"],
            "task_type": "NA",
            "prediction": record["ground_truth"],
            "pred_extracted": 1.0,
            "answer": record["ground_truth"],
            "hit": 1.0,
            "video": f"{record['dataset']}/{record['scene_name']}.mp4",
            "candidates": str(record["options"]),
            "question": record["question"],
        }
        for record in DOCS
    ]
    path = tmp_path / "model_VSI-Bench_extract_matching.xlsx"
    pd.DataFrame(records).to_excel(path, sheet_name="ALL", index=False)
    assert texts(path, data) == [r["ground_truth"] for r in DOCS]
