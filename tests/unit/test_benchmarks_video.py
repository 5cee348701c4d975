"""Video-MME, TempCompass and LongVideoBench: readers, published rules, aggregates."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from samples.general import WRITERS
from support import refused

from spacer_lib import cli
from spacer_lib.benchmarks import (
    BENCHMARKS,
    longvideobench,
    named,
    tempcompass,
    videomme,
    videommmu,
)
from spacer_lib.benchmarks.rules import strict
from spacer_lib.benchmarks.schema import check_choice
from spacer_lib.evaluation.predictions import record
from spacer_lib.evaluation.statistics import totals
from spacer_lib.language.prompts import user_text
from spacer_lib.rooms.video import read_frames

TABLE = Path(__file__).resolve().parent.parent / "benchmark_cases_video.yaml"
CASES = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["cases"]
PART = "test-00000-of-00001.parquet"
MINE = tuple(WRITERS)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """``{name: folder}`` of three synthetic videos each."""
    base = tmp_path_factory.mktemp("samples")
    return {name: WRITERS[name](base / name, videos=3, seed=5) for name in MINE}


def table_of(path):
    return pq.read_table(path).to_pylist()


def write_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


# ---------------------------------------------------------------- readers


def test_videomme_rows_are_what_the_file_says(samples):
    folder = samples["videomme"]
    published = table_of(folder / "videomme" / PART)
    rows = videomme.read_rows(folder)
    assert len(rows) == len(published) == 9
    for row, raw in zip(rows, published, strict=True):
        assert row["question"] == raw["question"] and row["options"] == raw["options"]
        assert row["id"] == raw["question_id"] and row["scene_name"] == raw["videoID"]
        assert row["question_type"] == raw["task_type"]
        assert row["ground_truth"] == raw["answer"] and row["dataset"] == "videomme"
        assert row["groups"] == {"duration": raw["duration"], "domain": raw["domain"]}
        assert Path(row["video"]) == folder / "data" / f"{raw['videoID']}.mp4"
        assert Path(row["video"]).is_file()
    assert Counter(row["groups"]["duration"] for row in rows) == Counter(
        short=3, medium=3, long=3
    )
    assert videomme.read_rows(folder / "videomme" / PART) == rows


def test_videomme_takes_videos_with_other_endings_and_keeps_absent_ones(
    samples, tmp_path
):
    raw = table_of(samples["videomme"] / "videomme" / PART)
    write_table(tmp_path / "videomme" / PART, raw)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sample00001.mkv").touch()
    videos = {row["scene_name"]: row["video"] for row in videomme.read_rows(tmp_path)}
    assert videos["sample00000"] == str(tmp_path / "data" / "sample00000.mp4")
    assert videos["sample00001"] == str(tmp_path / "data" / "sample00001.mkv")


def test_longvideobench_rows_are_what_both_files_say(samples):
    folder = samples["longvideobench"]
    published = json.loads((folder / "lvb_val.json").read_text())
    rows = longvideobench.read_rows(folder)
    assert len(rows) == len(published) == 6
    for row, raw in zip(rows, published, strict=True):
        assert row["id"] == raw["id"] and row["question"] == raw["question"]
        assert row["options"] == [
            f"{'ABCDE'[i]}. {text}" for i, text in enumerate(raw["candidates"])
        ]
        assert row["ground_truth"] == "ABCDE"[raw["correct_choice"]]
        assert row["scene_name"] == raw["video_id"]
        assert row["question_type"] == raw["question_category"]
        assert row["groups"]["duration_group"] == raw["duration_group"]
        assert row["groups"]["topic_category"] == raw["topic_category"]
        assert Path(row["video"]) == folder / "videos" / raw["video_path"]
        assert Path(row["video"]).is_file()
    assert {len(row["options"]) for row in rows} == {4, 5}
    other = longvideobench.read_rows(folder / "validation-00000-of-00001.parquet")
    assert other == rows


def test_tempcompass_rows_are_what_the_files_say(samples):
    folder = samples["tempcompass"]
    rows = tempcompass.read_rows(folder, formats=tempcompass.FORMATS)
    flat = [
        (name, raw)
        for name in tempcompass.FORMATS
        for raw in table_of(folder / name / PART)
    ]
    assert len(rows) == len(flat) == 3 * 2 * (1 + 2 + 2 + 1)
    assert len({row["id"] for row in rows}) == len(rows)
    for row, (name, raw) in zip(rows, flat, strict=True):
        assert row["groups"] == {"format": name} and row["question_type"] == raw["dim"]
        assert row["published_answer"] == raw["answer"]
        # Question and options are asked as published.
        assert user_text(row, "tiny") == raw["question"]
        assert Path(row["video"]) == folder / "videos" / f"{raw['video_id']}.mp4"
        assert Path(row["video"]).is_file()
    scenes = {Path(row["video"]).stem: row["scene_name"] for row in rows}
    assert scenes == {
        "1000000": "1000000",
        "1000000_reverse": "1000000",
        "1000001": "1000001",
    }
    by_format = {row["groups"]["format"]: row for row in rows}
    assert by_format["multi-choice"]["problem_type"] == "multiple choice"
    assert by_format["caption_matching"]["problem_type"] == "multiple choice"
    assert by_format["yes_no"]["problem_type"] == "option-free"
    assert by_format["captioning"]["problem_type"] == "free-form"


def test_tempcompass_leaves_captions_out_unless_asked(samples):
    folder = samples["tempcompass"]
    formats = Counter(row["groups"]["format"] for row in tempcompass.read_rows(folder))
    assert formats == {"multi-choice": 6, "yes_no": 12, "caption_matching": 12}
    one = tempcompass.read_rows(folder / "captioning" / PART)
    assert {row["groups"]["format"] for row in one} == {"captioning"} and len(one) == 6
    raw = table_of(folder / "captioning" / PART)
    assert one[0]["ground_truth"] == raw[0]["mc_answer"].split(". ")[1]
    with refused("benchmarks.unknown-format", says="essay"):
        tempcompass.read_rows(folder, formats=["essay"])


def as_questions(folder, target):
    """The authors' own nested layout, from the flat one."""
    for name in tempcompass.FORMATS:
        nested = {}
        for raw in table_of(folder / name / PART):
            asked = {"question": raw["question"], "answer": raw["answer"]}
            dims = nested.setdefault(raw["video_id"], {})
            dims.setdefault(raw["dim"], []).append(asked)
        path = target / "questions" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(nested), encoding="utf-8")
    return target


def test_tempcompass_reads_the_authors_own_files_to_the_same_rows(samples, tmp_path):
    folder = samples["tempcompass"]
    target = as_questions(folder, tmp_path)
    expected = [
        {**row, "video": row["video"].replace(str(folder), str(target))}
        for row in tempcompass.read_rows(folder, formats=tempcompass.FORMATS)
    ]
    assert tempcompass.read_rows(target, formats=tempcompass.FORMATS) == expected
    one = tempcompass.read_rows(target / "questions" / "yes_no.json")
    assert [row for row in expected if row["groups"]["format"] == "yes_no"] == one


def test_tempcompass_reads_options_as_they_are_published(tmp_path):
    """Some lack the space after their letter; sentences may hold a colon."""
    lettered = "Which is first?\nA. a dance\nB. a kiss\nC.Both at once\n"
    captions = "Which fits?\nCaption A: Then: a kiss.\nCaption B: 1. A dance."
    row = {"video_id": "7_8_1", "dim": "order"}
    for name, question, answer in (
        ("multi-choice", lettered, "C.Both at once"),
        ("caption_matching", captions, "Caption B: 1. A dance."),
    ):
        asked = {"question": question, "answer": answer}
        write_table(tmp_path / name / PART, [row | asked])
    first, second = tempcompass.read_rows(
        tmp_path, formats=("multi-choice", "caption_matching")
    )
    assert first["options"] == ["A. a dance", "B. a kiss", "C.Both at once"]
    assert (first["ground_truth"], first["scene_name"]) == ("C", "7")
    assert second["question"] == "Which fits?" and second["ground_truth"] == "B"
    for row in (first, second):
        assert tempcompass.official(row["published_answer"], row).score == 1
        assert strict(row["published_answer"], row).score == 1


@pytest.mark.parametrize(
    "text, kind",
    [
        ("[]", "benchmarks.wrong-layout"),
        ('{"1": {"action": ["A. x"]}}', "benchmarks.wrong-layout"),
        ('{"1": [1]}', "benchmarks.wrong-layout"),
        ("{}", "benchmarks.no-rows"),
        ('{"1": {"action": [{"question": "x"}]}}', "benchmarks.missing-column"),
        ("{", "artifacts.not-json"),
    ],
)
def test_a_broken_question_file_is_named(tmp_path, text, kind):
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions" / "multi-choice.json").write_text(text)
    with refused(kind, says="questions/multi-choice.json"):
        tempcompass.read_rows(tmp_path)


# ---------------------------------------------------------------- checks


def _files():
    """(benchmark, file, columns) of everything that is published."""
    flat = tempcompass.COLUMNS
    captions = flat | {"mc_question": str, "mc_answer": str}
    for name in tempcompass.FORMATS:
        columns = captions if name == "captioning" else flat
        yield "tempcompass", f"{name}/{PART}", columns
    yield "videomme", f"videomme/{PART}", videomme.COLUMNS
    parquet = longvideobench.COLUMNS | dict.fromkeys(longvideobench.PLACES, str)
    yield "longvideobench", "validation-00000-of-00001.parquet", parquet
    as_json = longvideobench.COLUMNS | {"candidates": list}
    yield "longvideobench", "lvb_val.json", as_json


COLUMNS = [
    pytest.param(name, file, column, kind, id=f"{file.split('/')[0]}-{column}")
    for name, file, columns in _files()
    for column, kind in columns.items()
]


def changed_file(samples, name, file, tmp_path, change):
    """The named file with every row changed, elsewhere."""
    source, target = samples[name] / file, tmp_path / file
    if target.suffix == ".json":
        rows = json.loads(source.read_text())
        target.write_text(json.dumps([change(row) for row in rows]))
        return target
    return write_table(target, [change(row) for row in table_of(source)])


@pytest.mark.parametrize("name, file, column, kind", COLUMNS)
def test_a_missing_column_is_named(samples, tmp_path, name, file, column, kind):
    target = changed_file(
        samples,
        name,
        file,
        tmp_path,
        lambda row: {k: v for k, v in row.items() if k != column},
    )
    with refused("benchmarks.missing-column", says=f"{target} row 1: column {column}"):
        BENCHMARKS[name].read(target)


@pytest.mark.parametrize("name, file, column, kind", COLUMNS)
def test_a_wrong_type_is_named(samples, tmp_path, name, file, column, kind):
    wrong = 2.5 if kind is not int else "two"
    target = changed_file(
        samples, name, file, tmp_path, lambda row: {**row, column: wrong}
    )
    where = f"{target} row 1: column {column}: got {wrong!r}; expected {kind.__name__}"
    with refused("benchmarks.wrong-type", says=where):
        BENCHMARKS[name].read(target)


@pytest.mark.parametrize(
    "name, file, change, kind, says",
    [
        (
            "videomme",
            f"videomme/{PART}",
            {"answer": "E"},
            "answer-not-an-option",
            "'E'",
        ),
        (
            "videomme",
            f"videomme/{PART}",
            {"answer": "b"},
            "answer-not-an-option",
            "'b'",
        ),
        (
            "videomme",
            f"videomme/{PART}",
            {"options": ["A. one"]},
            "options-not-texts",
            "['A. one']",
        ),
        (
            "longvideobench",
            "lvb_val.json",
            {"correct_choice": 5},
            "answer-not-an-option",
            "'F'",
        ),
        (
            "longvideobench",
            "lvb_val.json",
            {"correct_choice": -1},
            "secret-answers",
            "-1",
        ),
        (
            "longvideobench",
            "lvb_val.json",
            {"candidates": ["x", 2]},
            "options-not-texts",
            "['x', 2]",
        ),
        (
            "longvideobench",
            "validation-00000-of-00001.parquet",
            {"option1": "N/A", "option2": "N/A", "option3": "N/A", "option4": "N/A"},
            "options-not-texts",
            "correct_choice",
        ),
        (
            "tempcompass",
            f"multi-choice/{PART}",
            {"answer": "Z. spin"},
            "answer-not-an-option",
            "'Z'",
        ),
        (
            "tempcompass",
            f"multi-choice/{PART}",
            {"answer": ""},
            "answer-not-an-option",
            "''",
        ),
        (
            "tempcompass",
            f"multi-choice/{PART}",
            {"question": "What?"},
            "options-not-texts",
            "[]",
        ),
        (
            "tempcompass",
            f"yes_no/{PART}",
            {"answer": "maybe"},
            "answer-not-yes-or-no",
            "maybe",
        ),
        (
            "tempcompass",
            f"caption_matching/{PART}",
            {"answer": "Option 3: x"},
            "answer-not-an-option",
            "Option 3: x",
        ),
        (
            "tempcompass",
            f"caption_matching/{PART}",
            {"question": "Which?\nOption 1: a\nnone", "answer": "Option 1: a"},
            "answer-not-an-option",
            "Option 1: a",
        ),
        (
            "tempcompass",
            f"yes_no/{PART}",
            {"dim": "mood"},
            "unknown-task",
            "mood",
        ),
    ],
)
def test_a_row_that_no_rule_can_judge_is_named(
    samples, tmp_path, name, file, change, kind, says
):
    target = changed_file(samples, name, file, tmp_path, lambda row: {**row, **change})
    with refused(f"benchmarks.{kind}", says=says) as caught:
        BENCHMARKS[name].read(target)
    assert f"{target} row 1: " in str(caught.value)


@pytest.mark.parametrize("name", MINE)
def test_an_empty_folder_says_what_should_lie_there(tmp_path, name):
    with refused("benchmarks.no-files", says=str(tmp_path)):
        BENCHMARKS[name].read(tmp_path)


def test_check_choice_takes_what_is_right():
    assert check_choice("here", ["A. one", "B. two"], "B") is None
    assert check_choice("here", ["one", "two", "three"], "C") is None


# ---------------------------------------------------------------- samples


@pytest.mark.parametrize("name", MINE)
def test_samples_are_their_seeds_and_answered_by_their_truth(tmp_path, name, samples):
    again = WRITERS[name](tmp_path / "again", videos=3, seed=5)
    read = BENCHMARKS[name].read
    assert json.dumps(read(again)).replace(str(again), "") == json.dumps(
        read(samples[name])
    ).replace(str(samples[name]), "")
    other = read(WRITERS[name](tmp_path / "other", videos=3, seed=6))
    truths = [row["ground_truth"] for row in read(again)]
    assert truths != [row["ground_truth"] for row in other]
    for row in other:
        said = row["ground_truth"]
        if row["groups"].get("format") == "caption_matching":
            said = row["published_answer"]  # its labels are not always letters
        assert BENCHMARKS[name].official(said, row).score == 1
        assert strict(row["ground_truth"], row).score == 1


def test_the_clips_show_what_the_answers_say(samples):
    rows = tempcompass.read_rows(samples["tempcompass"], formats=["multi-choice"])
    ways = set()
    for row in rows:
        if row["question_type"] == "direction":
            frames, *_ = read_frames(row["video"], 4)
            off_grey = np.abs(frames.astype(int) - 128).max(axis=-1) > 40
            left = [np.nonzero(part)[1].mean() for part in off_grey]
            right_way = "left to right" if left[0] < left[-1] else "right to left"
            assert row["published_answer"].endswith(right_way)
            ways.add(right_way)
    assert ways == {"left to right", "right to left"}  # a clip and its reverse


# ---------------------------------------------------------------- rules


@pytest.mark.parametrize(
    "name, case",
    [
        pytest.param(name, case, id=case["id"])
        for name, cases in CASES.items()
        for case in cases
    ],
)
def test_the_published_rule_and_ours_say_what_the_paper_does(name, case):
    verdict = BENCHMARKS[name].official(case["text"], case["row"])
    assert verdict.score == case["score"], case["why"]
    assert verdict.failure == case.get("failure"), case["why"]
    assert (verdict.answer is None) == ("failure" in case)
    ours = strict(case["text"], {"id": case["id"], **case["row"]})
    assert ours.score == pytest.approx(case.get("strict", case["score"]))


def test_the_table_of_cases_is_whole():
    assert {name: len(cases) >= 25 for name, cases in CASES.items()} == dict.fromkeys(
        MINE, True
    )
    ids = [case["id"] for cases in CASES.values() for case in cases]
    assert len(set(ids)) == len(ids)
    formats = Counter(c["row"]["groups"]["format"] for c in CASES["tempcompass"])
    assert formats["multi-choice"] >= 25 and formats["yes_no"] >= 12
    assert formats["caption_matching"] >= 20


def test_the_registry_asks_all_three_directly_and_averages_rows():
    for spelled, name in (
        ("Video-MME", "videomme"),
        ("TempCompass", "tempcompass"),
        ("LongVideoBench", "longvideobench"),
    ):
        entry = named(spelled)
        assert (entry.name, entry.title) == (name, spelled)
        assert (entry.overall, entry.mode) == ("micro", "direct")


# ---------------------------------------------------------------- aggregates


def judged(name, answers):
    """Records of ``(task, groups, truth, output)``, one video each."""
    options = [f"{letter}. {letter.lower()}" for letter in "ABCD"]
    records = []
    for number, (task, groups, truth, text) in enumerate(answers):
        row = {
            "id": str(number),
            "scene_name": f"v{number}",
            "question_type": task,
            "groups": groups,
            "problem_type": "multiple choice",
            "question": "Which?",
            "options": options,
            "ground_truth": truth,
            "published_answer": truth,
        }
        records.append(record(row, text, BENCHMARKS[name].official))
    return records


def test_videomme_by_hand():
    short, medium, long = ({"duration": d} for d in ("short", "medium", "long"))
    knowledge, life = {"domain": "Knowledge"}, {"domain": "Life Record"}
    records = judged(
        "videomme",
        [
            ("Counting", short | knowledge, "A", "A"),  # 1
            ("Counting", short | knowledge, "B", "C"),  # 0
            ("OCR", short | life, "C", "C."),  # 1
            ("OCR", medium | knowledge, "D", "D"),  # 1
            ("Counting", medium | life, "A", ""),  # 0, unread
            ("OCR", long | life, "B", "B"),  # 1
            ("OCR", long | life, "B", None),  # 0, no output
            ("OCR", long | knowledge, "A", "(A)"),  # 1
        ],
    )
    found = totals(records, BENCHMARKS["videomme"])
    assert found["overall"] == found["micro"] == pytest.approx(5 / 8)
    assert found["tasks"] == pytest.approx({"Counting": 1 / 3, "OCR": 4 / 5})
    assert found["macro"] == pytest.approx((1 / 3 + 4 / 5) / 2)
    durations = {k: v["micro"] for k, v in found["groups"]["duration"].items()}
    assert durations == pytest.approx({"short": 2 / 3, "medium": 1 / 2, "long": 2 / 3})
    domains = {k: v["micro"] for k, v in found["groups"]["domain"].items()}
    assert domains == pytest.approx({"Knowledge": 3 / 4, "Life Record": 2 / 4})
    assert found["failures"] == {"no_letter": 1, "no_prediction": 1}
    # Of the eight, six were answered, five of them right.
    assert found["released"] == pytest.approx({"overall": 5 / 6})
    assert videomme.aggregate([]) == {"overall": 0}


def test_the_score_command_prints_what_the_authors_compute(samples, tmp_path, capsys):
    folder = samples["videomme"]
    rows = videomme.read_rows(folder)
    said = ["none", "none", *(row["ground_truth"] for row in rows[2:])]
    lines = [
        json.dumps({"id": row["id"], "prediction": text})
        for row, text in zip(rows, said, strict=True)
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    command = f"score --benchmark videomme --extraction official --data {folder}"
    answers = ["--predictions", str(tmp_path / "p.jsonl")]
    assert cli.main([*command.split(), *answers]) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    # Seven of nine are answered, all right; without a letter the other two are wrong.
    assert ["released", "code,", "overall", "1.000"] in printed
    assert ["micro*", "9", "0.778"] in [words[:3] for words in printed]


def test_longvideobench_by_hand():
    brief, hour = {"duration_group": 15}, {"duration_group": 3600}
    art, news = {"topic_category": "KA"}, {"topic_category": "NP"}
    records = judged(
        "longvideobench",
        [
            ("S2E", brief | art, "A", "A"),  # 1
            ("S2E", brief | news, "B", ""),  # 1/4 on average
            ("S2E", hour | art, "C", "E"),  # 0: E is not an option
            ("T3O", hour | art, "D", "D"),  # 1
            ("T3O", hour | news, "D", "none"),  # 1/4
            ("T3O", hour | news, "A", None),  # 0: a missing video draws nothing
        ],
    )
    found = totals(records, BENCHMARKS["longvideobench"])
    assert found["overall"] == pytest.approx(2.5 / 6)
    assert found["tasks"] == pytest.approx({"S2E": 1.25 / 3, "T3O": 1.25 / 3})
    lengths = {k: v["micro"] for k, v in found["groups"]["duration_group"].items()}
    assert lengths == pytest.approx({"15": 1.25 / 2, "3600": 1.25 / 4})
    topics = {k: v["micro"] for k, v in found["groups"]["topic_category"].items()}
    assert topics == pytest.approx({"KA": 2 / 3, "NP": 0.5 / 3})
    # lmms-eval's own sum: every question in a length and in a category.
    parts = [*lengths.values(), *found["tasks"].values()]
    counts = [2, 4, 3, 3]
    doubled = sum(p * n for p, n in zip(parts, counts, strict=True)) / sum(counts)
    assert found["overall"] == pytest.approx(doubled)


def test_tempcompass_by_hand():
    lettered, spoken = {"format": "multi-choice"}, {"format": "yes_no"}
    records = judged(
        "tempcompass",
        [
            ("action", lettered, "A", "A. a"),  # 1
            ("action", lettered, "B", "(B)"),  # 0: needs a judge
            ("speed", lettered, "C", "C)"),  # 1
            ("action", spoken, "yes", "Yes."),  # 1
            ("speed", spoken, "no", "yes"),  # 0
            ("speed", spoken, "no", "Now"),  # 1: it begins with no
            ("order", spoken, "no", None),  # 0
        ],
    )
    found = totals(records, BENCHMARKS["tempcompass"])
    assert found["overall"] == pytest.approx(4 / 7)
    tasks = {"action": 2 / 3, "speed": 2 / 3, "order": 0}
    assert found["tasks"] == pytest.approx(tasks)
    formats = {k: v["micro"] for k, v in found["groups"]["format"].items()}
    assert formats == pytest.approx({"multi-choice": 2 / 3, "yes_no": 2 / 4})
    assert found["failures"] == {"needs_judge": 1, "no_prediction": 1}


RELEASED_NUMBERS = (  # as the published evaluator has them
    r"-?\b\d{1,3}(?:,\d{3})+\b",
    r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
    r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
)


def test_numbers_of_open_answers_are_found_as_published_and_in_linear_time():
    rng = np.random.default_rng(0)
    for _ in range(20_000):
        text = "".join(rng.choice(list("0123456.,-+eE a_٣"), rng.integers(1, 16)))
        for ours, theirs in zip(videommmu._NUMBERS, RELEASED_NUMBERS, strict=True):
            assert ours.findall(text) == re.findall(theirs, text), text
    assert videommmu._stated("so " + "9" * 300_000 + "e") == {"9" * 300_000 + "e"}
