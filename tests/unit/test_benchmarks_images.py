"""ReVSI and the benchmarks on pictures: readers, released rules and aggregates."""

import base64
import json
import re
import shutil
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from samples.images import WRITERS
from support import refused

from spacer_lib.artifacts import read_json, write_json, write_jsonl
from spacer_lib.benchmarks import (
    BENCHMARKS,
    blink,
    embspatial,
    mindcube,
    mmsi,
    mmsi_video,
    named,
    pictures,
    revsi,
    rules_of,
    sitebench,
    threedsr,
    viewspatial,
    vsi_super,
)
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.predictions import record
from spacer_lib.evaluation.statistics import summarize, totals
from spacer_lib.language.prompts import media_parts, user_text
from spacer_lib.models.inputs import read_image
from spacer_lib.rewards.score import PROBLEM_TYPES
from spacer_lib.rooms.video import probe

TABLE = Path(__file__).resolve().parent.parent / "benchmark_cases_images.yaml"
CASES = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["cases"]
FILES = {
    "revsi-16": "16_frame/test-00000-of-00001.parquet",
    "mmsi": "MMSI_Bench.parquet",
    "mindcube": "data/raw/MindCube.jsonl",
    "mindcube-tiny": "data/raw/MindCube_tinybench.jsonl",
    "viewspatial": "ViewSpatial-Bench.json",
    "embspatial": "embspatial_bench.json",
    "blink": "Relative_Depth/val-00000-of-00001.parquet",
    "3dsr": "3dsrbench_v1_vlmevalkit_circular.tsv",
    "site": "video_test/test-00000-of-00001.parquet",
    "mmsi-video": "mmsivideo.json",
    "vsi-super-recall": "test.jsonl",
    "vsi-super-count": "test.jsonl",
}
COLUMNS = {
    "revsi-16": revsi.COLUMNS,
    "mmsi": mmsi.COLUMNS | {"images": list},
    "mindcube": mindcube.COLUMNS,
    "viewspatial": viewspatial.COLUMNS,
    "embspatial": embspatial.COLUMNS,
    "blink": blink.COLUMNS | {"image_1": dict},
    "3dsr": threedsr.COLUMNS,
    "site": sitebench.COLUMNS,
    "mmsi-video": mmsi_video.COLUMNS,
    "vsi-super-recall": vsi_super.RECALL_COLUMNS,
    "vsi-super-count": vsi_super.COUNT_COLUMNS,
}
each_benchmark = pytest.mark.parametrize("name", WRITERS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("benchmarks")
    return {name: write(base / name, videos=3) for name, write in WRITERS.items()}


@pytest.fixture
def fresh(folders, tmp_path):
    return lambda name: Path(shutil.copytree(folders[name], tmp_path / name))


def edit(path, change):
    """Rewrite a file row by row; ``change`` makes a new row of an old one."""
    if path.suffix == ".parquet":
        rows = [change(row) for row in pq.read_table(path).to_pylist()]
        if path.parent.name in blink.SPATIAL:
            for column in ("image_1", "image_2", "image_3", "image_4"):
                if all(row.get(column) is None for row in rows):
                    [row.pop(column, None) for row in rows]
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        write_json(path, [change(row) for row in read_json(path)])
    elif path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        write_jsonl(path, [change(row) for row in rows])
    else:
        table = pa.csv.read_csv(
            path,
            parse_options=pa.csv.ParseOptions(delimiter="\t", newlines_in_values=True),
        )
        rows = [change(row) for row in table.to_pylist()]
        pa.csv.write_csv(
            pa.Table.from_pylist(rows), path, pa.csv.WriteOptions(delimiter="\t")
        )


# ------------------------------------------------------------------ published rules


def judge(case, rule):
    row = {"id": case["id"], "question_type": "any", **case["row"]}
    return rules_of(named(case["benchmark"]))[rule](case["text"], row)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_rules_are_the_ones_on_paper(case):
    verdict = judge(case, "official")
    assert verdict.score == pytest.approx(case["score"]), case["why"]
    assert (verdict.failure is None) == case.get("read", True), case["why"]
    if "strict" in case:
        assert judge(case, "strict").score == case["strict"], case["why"]


def test_the_table_is_whole():
    assert len({case["id"] for case in CASES}) == len(CASES)
    counts = Counter(case["benchmark"] for case in CASES)
    right = Counter(case["benchmark"] for case in CASES if case["score"] == 1)
    for name in set(WRITERS) - {"mindcube-tiny"}:
        assert counts[name] >= 9 and 0 < right[name] < counts[name], name
    assert all(case["why"].strip() for case in CASES)


@pytest.mark.parametrize("text", ["", " \n", "٣", "é" * 5000, "<answer>", "<Answer>"])
def test_every_rule_takes_every_text(folders, text):
    for name, folder in folders.items():
        for row in BENCHMARKS[name].read(folder):
            for rule in rules_of(BENCHMARKS[name]).values():
                assert 0 <= rule(text, row).score <= 1
            if not text.strip():
                assert BENCHMARKS[name].official(text, row)[:2] == (0, None)


@pytest.mark.parametrize(
    "part", ["{", "`", "(", "A ", "1", "<Answer>", "answer ", "\n"]
)
@pytest.mark.parametrize("name", sorted({case["benchmark"] for case in CASES}))
def test_long_texts_are_read_in_linear_time(name, part):
    row = next(case["row"] for case in CASES if case["benchmark"] == name)
    row = {"question_type": "any", **row}
    start = time.process_time()
    named(name).official(part * 100_000, row)
    assert time.process_time() - start < 2


# ------------------------------------------------------------------------- readers


@each_benchmark
def test_rows_have_what_a_run_needs(folders, name):
    entry = named(name)
    rows = entry.read(folders[name])
    assert json.loads(json.dumps(rows)) == rows == entry.read(folders[name])
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert isinstance(row["id"], str) and row["problem_type"] in PROBLEM_TYPES
        assert row["question"] in user_text(row, "think")
        parts = media_parts(row)
        assert parts
        for part in parts:
            if part["type"] == "image":
                assert read_image(part["image"]).size == (64, 48)
            else:
                assert probe(part["video"]).frame_count == 8
        said = row["ground_truth"]
        # BLINK's own rule reads "(A)" among other words, MMSI's reads "A" alone.
        for rule in ("strict", "official"):
            assert rules_of(entry)[rule](said, row).score == 1, row
        if row["problem_type"] == "multiple choice" and name != "mmsi-video":
            assert row["options"] and len(row["options"]) in (2, 4)


@each_benchmark
def test_samples_depend_on_their_seed_alone(tmp_path, name):
    entry = named(name)

    def questions(folder, seed):
        rows = entry.read(WRITERS[name](tmp_path / folder, videos=3, seed=seed))
        return [(row["id"], row["options"], row["ground_truth"]) for row in rows]

    assert questions("a", 1) == questions("b", 1) != questions("c", 2)


@pytest.mark.parametrize(
    "name, column", [(name, column) for name in COLUMNS for column in COLUMNS[name]]
)
def test_a_missing_column_is_named(fresh, name, column):
    folder = fresh(name)
    if column == "options" and name == "revsi-16":
        kind = "benchmarks.options-not-texts"  # null in rows of numbers
    else:
        kind = "benchmarks.missing-column"
    path = folder / FILES[name]
    edit(path, lambda row: {k: v for k, v in row.items() if k != column})
    with refused(kind, says=str(path)) as caught:
        named(name).read(folder)
    assert column in str(caught.value) or "options" in str(caught.value)


@pytest.mark.parametrize(
    "name, column, value, kind",
    [
        ("revsi-16", "question", 3, "wrong-type"),
        ("revsi-16", "question_type", "cooking", "unknown-task"),
        ("revsi-16", "num_frames", 32, "other-budget"),
        ("revsi-16", "ground_truth", "Z", "answer-not-an-option"),
        ("mmsi", "answer", "E", "answer-not-an-option"),
        ("mmsi", "question", 3, "wrong-type"),
        ("mmsi", "images", [b"GIF89a"], "not-a-picture"),
        ("mmsi", "images", [], "not-a-picture"),
        ("mindcube", "gt_answer", "F", "answer-not-an-option"),
        ("mindcube", "images", [], "no-media"),
        ("mindcube", "images", [3], "no-media"),
        ("viewspatial", "answer", "left", "answer-not-an-option"),
        ("viewspatial", "choices", "A. left", "options-not-texts"),
        ("viewspatial", "image_path", [], "no-media"),
        ("embspatial", "answer", 4, "answer-not-an-option"),
        ("embspatial", "answer_options", [1, 2], "options-not-texts"),
        ("embspatial", "image", "no base64", "not-a-picture"),
        ("embspatial", "image", base64.b64encode(b"MZ").decode(), "not-a-picture"),
        ("blink", "answer", "hidden", "answer-not-an-option"),
        ("blink", "choices", ["yes"], "options-not-texts"),
        ("3dsr", "category", "cooking", "unknown-task"),
        ("3dsr", "answer", "E", "answer-not-an-option"),
        ("3dsr", "image", "no base64", "not-a-picture"),
        ("site", "answer", "Z", "answer-not-an-option"),
        ("site", "visual", [""], "no-media"),
        ("mmsi-video", "ground_truth", "G", "answer-not-an-option"),
        ("mmsi-video", "frames_list", [], "no-media"),
        ("mmsi-video", "frames_list", [[]], "no-media"),
        ("mmsi-video", "frames_list", ["a.jpg"], "no-media"),
        ("mmsi-video", "ref_images", [], "other-number-of-pictures"),
        ("vsi-super-recall", "answer", "E", "answer-not-an-option"),
        ("vsi-super-count", "answer", 0, "answer-not-a-number"),
        ("vsi-super-count", "answer", "3", "wrong-type"),
    ],
)
def test_a_value_that_is_not_as_published_is_named(fresh, name, column, value, kind):
    folder = fresh(name)
    path = folder / FILES[name]
    edit(path, lambda row: row | {column: value})
    with refused(f"benchmarks.{kind}", says=f"{path} row 1") as caught:
        named(name).read(folder)
    # Options and their letter are checked together.
    assert column in str(caught.value) or kind == "options-not-texts"


@pytest.mark.parametrize("value", ["0", "-1", "inf", "many"])
def test_revsi_truths_are_numbers_that_the_rule_can_divide_by(fresh, value):
    folder = fresh("revsi-16")

    def change(row):
        counted = row["question_type"] == "object_counting_single"
        return row | {"ground_truth": value} if counted else row

    edit(folder / FILES["revsi-16"], change)
    with refused("benchmarks.answer-not-a-number", says="row 8"):
        named("revsi-16").read(folder)


@each_benchmark
def test_a_broken_file_and_an_empty_folder_are_named(fresh, tmp_path, name):
    folder = fresh(name)
    (folder / FILES[name]).write_bytes(b"\x00PAR1 broken\t\n\n\xff")
    with pytest.raises(SpacerError, match=re.escape(str(folder / FILES[name]))):
        named(name).read(folder)
    (tmp_path / "empty").mkdir()
    with refused("benchmarks.no-files", says=str(tmp_path / "empty")):
        named(name).read(tmp_path / "empty")


def test_one_file_is_read_like_its_folder(folders):
    for name in ("mmsi", "mindcube", "viewspatial", "embspatial", "3dsr", "revsi-16"):
        read = named(name).read
        assert read(folders[name] / FILES[name]) == read(folders[name]), name
    alone = blink.read_rows(folders["blink"] / FILES["blink"])
    assert {row["question_type"] for row in alone} == {"Relative_Depth"}


# ------------------------------------------------------------------------ pictures


def test_pictures_are_written_once_and_again_when_the_file_changes(fresh, monkeypatch):
    folder = fresh("embspatial")
    first = embspatial.read_rows(folder)
    monkeypatch.setattr(pictures, "_write", None)  # would be called to write
    assert embspatial.read_rows(folder) == first
    Path(first[0]["image"][0]).unlink()
    with pytest.raises(TypeError):
        embspatial.read_rows(folder)
    monkeypatch.undo()
    assert embspatial.read_rows(folder) == first
    edit(folder / FILES["embspatial"], lambda row: row | {"question": "Which?"})
    monkeypatch.setattr(pictures, "_write", None)
    with pytest.raises(TypeError):
        embspatial.read_rows(folder)


def test_rows_keep_their_own_pictures(folders):
    counts = [len(row["image"]) for row in mmsi.read_rows(folders["mmsi"])]
    assert counts == [2, 3, 2]
    for row in blink.read_rows(folders["blink"]):
        several = row["question_type"] == "Multi-view_Reasoning"
        assert len(row["image"]) == 1 + several


def test_a_cell_may_be_longer_than_a_block_of_the_csv_reader(fresh):
    folder = fresh("3dsr")
    path = folder / FILES["3dsr"]
    blob = b"\x89PNG" + b"x" * 2_000_000
    edit(path, lambda row: row | {"image": base64.b64encode(blob).decode()})
    rows = threedsr.read_rows(folder)
    assert len(rows) == 12
    assert all(Path(r["image"][0]).stat().st_size == len(blob) for r in rows)


def test_options_that_are_numbers_stay_texts_and_empty_cells_are_none(fresh):
    folder = fresh("3dsr")
    texts = {"A": "1", "B": "2.50", "C": "", "D": "nan", "answer": "B"}
    edit(folder / FILES["3dsr"], lambda row: row | texts)
    for row in threedsr.read_rows(folder):
        assert row["options"] == ["A. 1", "B. 2.50"]


# -------------------------------------------------------------- one benchmark's own


def test_revsi_answers_differ_by_budget_and_ask_for_its_frames(folders):
    few = {r["id"]: r for r in named("revsi-16").read(folders["revsi-16"])}
    many = {r["id"]: r for r in named("revsi-32").read(folders["revsi-16"])}
    counts = [i for i, r in few.items() if r["problem_type"] == "numerical"]
    assert all(many[i]["ground_truth"] != few[i]["ground_truth"] for i in counts)
    assert all("16_frame" in r["video"] for r in few.values())
    budgets = [named(f"revsi-{budget}").frames for budget in revsi.BUDGETS]
    assert budgets == [16, 32, 64, None]


def test_revsi_overall_is_the_mean_of_seven_tasks():
    score = dict.fromkeys((*revsi.CHOICE, *revsi.NUMBER), 1.0)
    score["object_rel_direction_forward_easy"] = 0.0
    score["room_size_estimation_multiple"] = 0.0
    made = predictions(score)
    total = totals(made, named("revsi-16"))
    # direction 3/4, room size 1/2, five tasks of 1
    assert total["overall"] == total["macro"] == pytest.approx(6.25 / 7)
    assert len(total["tasks"]) == 7
    assert total["tasks"]["object_rel_direction"] == pytest.approx(0.75)


def test_mindcube_leaves_translation_out():
    made = predictions({"among": 1.0, "rotation": 0.0, "translation": 1.0})
    total = totals(made, named("mindcube-tiny"))
    assert total["overall"] == pytest.approx(2 / 3)
    assert total["released"] == {"overall": 0.5}


def test_mindcube_settings_are_read_off_the_ids(folders):
    rows = named("mindcube").read(folders["mindcube"])
    counts = Counter(row["question_type"] for row in rows)
    assert counts == dict.fromkeys(mindcube.SETTINGS, 3)
    assert rows[0]["scene_name"] == "other_all_image/among/place0"


def test_blink_overall_is_over_tasks_and_space_over_three():
    made = predictions({"Spatial_Relation": 1.0, "Relative_Depth": 0.0})
    made += predictions({"Counting": 1.0}) + predictions({"Counting": 0.0})
    total = totals(made, named("blink"))
    assert total["overall"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert total["subsets"] == {"spatial": 0.5}


def test_3dsr_groups_are_right_only_if_every_form_is():
    def made(name, score, kind="height_higher"):
        return predictions({kind: score})[0] | {"id": name}

    rows = [
        made("AAAAAAAA", 1.0),
        made("AAAAAAAA-1", 1.0),
        made("AAAAAAAA-flip", 1.0),
        made("AAAAAAAA-flip-1", 0.0),
        made("BBBBBBBB", 1.0, "location_above"),
        made("BBBBBBBB-1", 0.0, "location_above"),
    ]
    total = totals(rows, named("3dsr"))
    assert total["overall"] == pytest.approx(4 / 6)
    assert total["released"] == {
        # AAAAAAAA of AAAAAAAA, AAAAAAAA-flip and BBBBBBBB
        "circular": pytest.approx(1 / 3),
        # of AAAAAAAA, AAAAAAAA-1, BBBBBBBB and BBBBBBBB-1 the first and the third
        "flip": 0.5,
        "flip_circular": 0.0,
        "circular height": 0.5,
        "circular location": 0.0,
    }


def test_site_adjusts_for_chance():
    rows = predictions({"a": 1.0, "b": 0.0})
    rows[0]["options"], rows[1]["options"] = ["x"] * 4, ["x"] * 2
    total = totals(rows, named("site"))
    # (0.75 - 0.5) / (0.75 + 0.5)
    assert total["released"] == {"chance_adjusted": pytest.approx(0.2)}


def test_site_needs_both_tables_and_numbers_its_pictures(fresh):
    folder = fresh("site")
    rows = sitebench.read_rows(folder)
    assert rows[0]["question"] == "Is (picture 1) left of (picture 2)?"
    assert len(rows[0]["image"]) == 2 and rows[3]["video"].endswith("videos/0.mp4")
    shutil.rmtree(folder / "image_test")
    with refused("benchmarks.no-files", says="image_test"):
        sitebench.read_rows(folder)
    assert sitebench.read_rows(folder / FILES["site"])[0]["id"] == "video_test|0"


def test_mmsi_video_shows_fifty_frames_of_all_videos_and_says_which(folders):
    one, two, _ = mmsi_video.read_rows(folders["mmsi-video"])
    assert len(one["image"]) == 30 + 1 and len(two["image"]) == 50 + 1
    assert "(frames 1 to 30)Where is (picture 31)?" in one["question"]
    # 64 frames, every 63/49th: 24 of them in the first 30
    assert "(frames 1 to 24)(frames 25 to 50)" in two["question"]
    assert "Where is (picture 51)?" in two["question"]
    assert two["image"][24].endswith("/1/00_frame.jpg")
    assert two["image"][-1].endswith("ref_images/1.png")
    assert mmsi_video._even(["a" * 100, "b"], 50)[1] == [0]
    # A video without one of three frames shows its first.
    assert mmsi_video._even(["a" * 60, "b", "c" * 60], 3) == [[0], [0], [59]]


def predictions(scores):
    """A prediction per task with the given score."""
    return [
        {
            "id": task,
            "scene_name": task,
            "question_type": task,
            "score": score,
            "groups": {},
            "prediction": "text",
            "failure": None,
        }
        for task, score in scores.items()
    ]


@each_benchmark
def test_records_of_a_benchmark_summarize(folders, name):
    entry = named(name)
    rows = entry.read(folders[name])
    for label in ("strict", "official"):
        rule = rules_of(entry)[label]
        made = [record(row, row["ground_truth"], rule) for row in rows]
        assert totals(made, entry)["n"] == len(rows)
        assert summarize(made)["score"].to_numpy() == pytest.approx(1)
        assert set(totals(made, entry)["released"].values()) <= {1.0}
    missing = [record(row, None, entry.official) for row in rows]
    assert totals(missing, entry)["overall"] == 0
