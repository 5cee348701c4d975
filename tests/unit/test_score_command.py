"""``spacer score`` against a second reading of VSI-Bench's published rule."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from spacer_lib import cli
from spacer_lib.artifacts import read_json

LETTERED = {
    "object_rel_direction_easy",
    "object_rel_direction_medium",
    "route_planning",
    "object_rel_direction_hard",
    "object_rel_distance",
    "obj_appearance_order",
}
COUNTED = (
    "object_abs_distance",
    "object_counting",
    "object_size_estimation",
    "room_size_estimation",
)
ODD = [
    "",
    " ",
    "\n",
    "  5",
    " 5",
    "5 ",
    "5\n",
    "5.\n",
    "5. ",
    "5.",
    "5..",
    "..",
    ".",
    "5.0",
    "05",
    "+5",
    "-5",
    "--5",
    "1e1",
    "5e-1",
    "1E400",
    "nan",
    "-NaN",
    "inf",
    "-inf",
    "Infinity",
    "None",
    "null",
    "NA",
    "1_000",
    "1__0",
    "_5",
    "٣",
    "５",
    "Ⅴ",
    "½",
    "²",
    "0x10",
    "0b1",
    "1,200",
    "5,",
    "5m",
    "5 meters",
    "5\xa0m",
    "5\tm",
    "5\r\n",
    "\t5",
    "\u20035",
    "5\u200b",
    "A",
    "a",
    "A.",
    "a.",
    "A..",
    "A)",
    "(A)",
    "A.B",
    "A. chair",
    "A.\n",
    "\nA",
    " A",
    "A\tB",
    "B\tC",
    "B\nC",
    "Ａ",
    "А",
    "Based",
    "Based on it",
    "b",
    "C.",
    "D .",
    "E",
    "AB",
    "<answer>A</answer>",
    "<think>x</think><answer>5",
    "<answer> 5 </answer>",
    "The answer is B",
    "5" * 400,
    "1" * 5000,
    "A" * 20_000,
    "\0",
    "A\0",
    "5\0",
    "😀",
    "A😀",
    "\ud800",
    "A\udfff",
    "\u2028A",
    "İ",
    "ß",
    "4.0000000001",
    "-0",
    "0",
    "0.0",
    "1e-320",
    "True",
    "twenty",
    "5;",
    '"5"',
    "'A'",
]


def second_opinion(documents, texts):
    """VSI-Bench's rule as its paper and its evaluator describe it, on data frames."""
    table = pd.DataFrame(
        {
            "kind": [doc["question_type"] for doc in documents],
            "truth": [doc["ground_truth"] for doc in documents],
        }
    )
    words = [text[: (text + " ").index(" ")] for text in texts]
    while any(word.endswith(".") for word in words):
        words = [word[:-1] if word.endswith(".") else word for word in words]
    words = [word.strip() for word in words]
    scores = []
    for kind, truth, word in zip(table["kind"], table["truth"], words, strict=True):
        if kind in LETTERED:
            scores.append(1.0 if word.lower() == truth.lower() else 0.0)
            continue
        assert kind in COUNTED
        try:
            off = abs(float(word) - float(truth)) / float(truth)
        except ValueError:
            scores.append(0.0)
            continue
        passed = [off <= 1 - level for level in np.linspace(0.5, 0.95, 10)]
        scores.append(sum(passed) / 10)
    table["score"] = scores
    means = table.groupby("kind")["score"].mean()
    turns = [name for name in means.index if name.startswith("object_rel_direction_")]
    if turns:
        means["object_rel_direction"] = means[turns].mean()
    tasks = means.drop(turns)
    return scores, tasks.to_dict(), tasks.mean()


def near(document, rng):
    """Outputs around the truth: written otherwise, and on the edges of the scale."""
    truth = document["ground_truth"]
    if document["question_type"] in LETTERED:
        return [truth, truth.lower(), f"{truth}.", f"{truth}. it", f"{truth}\n", "B"]
    share = rng.choice([0.05, 0.1, 0.25, 0.3, 0.45, 0.5, 0.55, -0.1, -0.35, -0.5])
    edge = float(truth) * (1 + share)
    written = [repr(float(edge)), f"{edge:.2f} m", f"{edge:.3f}.\n"]
    return [truth, f"{truth}.", f"~{truth}", *written]


def synthetic():
    """Questions of all ten types in five rooms, their truths spread."""
    rng, made = np.random.default_rng(5), []
    for number, (room, kind) in enumerate(
        itertools.product(range(30), sorted(LETTERED) + list(COUNTED))
    ):
        lettered = kind in LETTERED
        made.append(
            {
                "id": 10_000 + 7 * number,
                "question_type": kind,
                "dataset": ("scannet", "scannetpp", "arkitscenes")[room % 3],
                "scene_name": f"scene{room:04}_00",
                "question": f"Question {number}?",
                "ground_truth": str(rng.choice(list("ABCD")))
                if lettered
                else str(
                    rng.choice(["1", "2", "3", "10", "0.7", "2.5", "33.3", "180"])
                ),
                "options": [f"{x}. thing {x}" for x in "ABCD"] if lettered else None,
            }
        )
    return made


def scored(folder, documents, predictions, *more):
    """The command's JSON for ids and texts, through plain JSON lines."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(d) + "\n" for d in documents))
    lines = [json.dumps({"id": k, "prediction": t}) + "\n" for k, t in predictions]
    (folder / "p.jsonl").write_text("".join(lines))
    out = folder / "out.json"
    code = cli.main(
        [
            "score",
            "--benchmark",
            "vsi",
            "--predictions",
            str(folder / "p.jsonl"),
            "--data",
            str(folder / "rows.jsonl"),
            "--json",
            str(out),
            *more,
        ]
    )
    assert code == 0
    return read_json(out)


def agree(folder, documents, count):
    """Score ``count`` adversarial outputs both ways, in rounds over the rows."""
    rng = np.random.default_rng(11)
    odd = itertools.cycle(ODD)
    for turn in range(-(-count // len(documents))):
        texts = [
            next(odd) if rng.random() < 0.6 else str(rng.choice(near(doc, rng)))
            for doc in documents
        ]
        pairs = [(doc["id"], text) for doc, text in zip(documents, texts, strict=True)]
        shuffled = [pairs[i] for i in rng.permutation(len(pairs))]
        ours = scored(folder, documents, shuffled, "--extraction", "official")
        scores, tasks, overall = second_opinion(documents, texts)
        assert [row["id"] for row in ours["rows"]] == [doc["id"] for doc in documents]
        for doc, text, row, score in zip(
            documents, texts, ours["rows"], scores, strict=True
        ):
            assert row["score"] == pytest.approx(score, abs=1e-12), (turn, doc, text)
        assert ours["tasks"] == pytest.approx(tasks, abs=1e-12)
        assert ours["overall"] == pytest.approx(overall, abs=1e-12)
        assert 0.1 < overall < 0.6 and len(set(scores)) > 4


def test_the_published_rule_on_synthetic_rooms(tmp_path):
    agree(tmp_path, synthetic(), 2_400)


def test_the_published_rule_on_the_real_questions(tmp_path, real_qa):
    lines = real_qa.read_text(encoding="utf-8").splitlines()
    documents = [json.loads(line) for line in lines]
    assert len(documents) > 1_000
    agree(tmp_path, documents, 2_000)


@pytest.mark.parametrize("rule", ["official", "strict", "first_number", "last_letter"])
def test_every_odd_output_meets_every_kind_of_question(tmp_path, rule):
    first = {doc["question_type"]: doc for doc in synthetic()}
    documents = [
        {**doc, "id": f"{kind}/{number}"}
        for kind, doc in first.items()
        for number in range(len(ODD))
    ]
    texts = ODD * len(first)
    pairs = zip((doc["id"] for doc in documents), texts, strict=True)
    result = scored(tmp_path, documents, pairs, "--extraction", rule)
    assert all(0 <= row["score"] <= 1 for row in result["rows"])
    unread = [row for row in result["rows"] if row["failure"]]
    assert all(row["answer"] is None for row in unread)
    assert sum(result["failures"].values()) == len(unread) > 100
    if rule == "official":
        scores, _, overall = second_opinion(documents, texts)
        assert [row["score"] for row in result["rows"]] == pytest.approx(scores)
        assert result["overall"] == pytest.approx(overall)


# ---------------------------------------------------------------- hand-derived


ROWS = [
    ("object_counting", "4", None),
    ("object_counting", "10", None),
    ("object_rel_direction_easy", "A", ["A. left", "B. right"]),
    ("object_rel_direction_easy", "B", ["A. left", "B. right"]),
    ("object_rel_direction_hard", "B", ["A. left", "B. right"]),
]
DOCUMENTS = [
    {
        "id": number,
        "dataset": "scannet" if number < 3 else "arkitscenes",
        "scene_name": f"r{number}",
        "question_type": kind,
        "question": "?",
        "ground_truth": truth,
        "options": options,
    }
    for number, (kind, truth, options) in enumerate(ROWS, start=1)
]


def test_what_the_file_holds(tmp_path, capsys):
    texts = ["4", "8", "<answer>A</answer>", "Based on the map"]
    result = scored(tmp_path, DOCUMENTS, zip((1, 2, 3, 4), texts, strict=True))
    assert result["rows"] == [
        {"id": 1, "score": 1.0, "answer": "4", "failure": None},
        {"id": 2, "score": pytest.approx(0.7), "answer": "8", "failure": None},
        {"id": 3, "score": 1.0, "answer": "A", "failure": None},
        {"id": 4, "score": 0.0, "answer": None, "failure": "not_an_option"},
        {"id": 5, "score": 0.0, "answer": None, "failure": "no_prediction"},
    ]
    # counting (1 + 0.7) / 2; direction: easy 1/2, hard 0, averaged.
    assert result["tasks"] == pytest.approx(
        {"object_counting": 0.85, "object_rel_direction": 0.25}
    )
    assert result["overall"] == result["macro"] == pytest.approx(0.55)
    assert result["micro"] == pytest.approx(2.7 / 5)
    assert result["groups"]["source"]["ScanNet"]["micro"] == pytest.approx(0.85)
    assert result["question_types"]["object_rel_direction_hard"] == 0
    assert result["extraction"] == "strict" and result["benchmark"] == "vsi"
    assert result["unanswered"] == [5]
    low, high = result["intervals"]["overall"]["overall"]
    assert low <= 0.54 <= high
    # One room says nothing of others.
    assert result["intervals"]["question_type"]["object_rel_direction_hard"] == [
        None,
        None,
    ]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("VSI-Bench, extraction strict")
    table = {line.split()[0]: line.split() for line in lines[2:6]}
    assert table["object_counting"][1:3] == ["2", "0.850"]
    assert table["object_rel_direction"][-2:] == ["0", "2"]  # none wrong, two unread
    assert table["macro*"][2] == "0.550" and table["micro"][2] == "0.540"
    assert lines[-1] == "1 without a prediction: 5"


def test_official_and_strict_part_on_tags(tmp_path):
    texts = [(3, "<answer>A</answer>"), (1, "4 chairs"), (2, "about 10")]
    strict = scored(tmp_path, DOCUMENTS, texts)["rows"]
    official = scored(tmp_path, DOCUMENTS, texts, "--extraction", "official")["rows"]
    assert [row["score"] for row in strict] == [1, 1, 1, 0, 0]
    assert [row["score"] for row in official] == [1, 0, 0, 0, 0]


def test_ids_keep_the_type_that_the_data_gave_them(tmp_path):
    texts = {**DOCUMENTS[0], "id": "007"}, {**DOCUMENTS[1], "id": 8}
    result = scored(tmp_path, texts, [("007", "4"), ("8", "10")])
    assert [row["id"] for row in result["rows"]] == ["007", 8]


def test_one_line_for_a_mistake(tmp_path, capsys):
    (tmp_path / "p.jsonl").write_text('{"id": 1, "prediction": "4"}\n')
    start = ["score", "--predictions", str(tmp_path / "p.jsonl"), "--benchmark"]
    for more, words in (
        (["vsi", "--extraction", "kind"], "extraction: got kind; expected strict, off"),
        (["riddles"], "benchmark: got riddles"),
        (["vis"], "did you mean vsi?"),
        (["vsi"], "p.jsonl has no questions of VSI-Bench"),
        (["vsi", "--data", str(tmp_path / "none")], "got no folder"),
    ):
        assert cli.main([*start, *more]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1


def test_neither_torch_nor_a_model_is_imported():
    """Scoring starts at once: on a laptop without a GPU, in a second or two."""
    code = (
        "import sys; from spacer_lib import cli; "
        "import spacer_lib.benchmarks, spacer_lib.evaluation.foreign, "
        "spacer_lib.evaluation.statistics, spacer_lib.evaluation.predictions; "
        "print(sorted({'torch', 'transformers', 'datasets', 'nltk', 'matplotlib'} "
        "& set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
