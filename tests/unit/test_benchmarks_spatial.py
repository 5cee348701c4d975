"""STI-Bench, SPAR-Bench and Video-MMMU: readers, released rules and aggregates."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from samples.spatial import WRITERS
from support import refused

from spacer_lib.benchmarks import BENCHMARKS, named, rules_of, spar, sti, videommmu
from spacer_lib.evaluation.predictions import record
from spacer_lib.evaluation.statistics import summarize, totals
from spacer_lib.language.prompts import media_parts, user_text
from spacer_lib.models.inputs import read_image
from spacer_lib.rewards.score import PROBLEM_TYPES
from spacer_lib.rooms.video import probe

TABLE = Path(__file__).resolve().parent.parent / "benchmark_cases_spatial.yaml"
CASES = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["cases"]
FILES = {
    "sti": "qa.parquet",
    "spar": "data/test-00000-of-00002.parquet",
    "videommmu": "Adaptation/test-00000-of-00001.parquet",
}
COLUMNS = {
    "sti": sti.COLUMNS,
    "spar": spar.COLUMNS | {"image": list},
    "videommmu": videommmu.COLUMNS,
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
    """Rewrite a table row by row; ``change`` works on the list of rows."""
    rows = pq.read_table(path).to_pylist()
    changed = change(rows)
    pq.write_table(pa.Table.from_pylist(rows if changed is None else changed), path)


# ------------------------------------------------------------------ published rules


def judge(case, rule):
    name = case["id"].split("-")[0]
    row = {"id": case["id"], "question_type": "any", **case["row"]}
    return rules_of(BENCHMARKS[name])[rule](case["text"], row)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_rules_are_the_ones_on_paper(case):
    assert judge(case, "official").score == pytest.approx(case["score"]), case["why"]
    assert judge(case, "strict").score == pytest.approx(case["strict"]), case["why"]


def test_the_table_is_whole_and_the_two_rules_differ():
    assert len({case["id"] for case in CASES}) == len(CASES)
    counts = Counter(case["id"].split("-")[0] for case in CASES)
    apart = Counter(
        case["id"].split("-")[0] for case in CASES if case["score"] != case["strict"]
    )
    for name in WRITERS:
        assert counts[name] >= 25 and apart[name] >= 10
    assert all(case["why"].strip() for case in CASES)


@pytest.mark.parametrize(
    "text", ["", " ", "\n", "API Error", "٣", "é" * 5000, "<answer>"]
)
def test_every_rule_takes_every_text(folders, text):
    for name, folder in folders.items():
        for row in BENCHMARKS[name].read(folder):
            for rule in rules_of(BENCHMARKS[name]).values():
                verdict = rule(text, row)
                assert 0 <= verdict.score <= 1
                assert verdict.answer is None or isinstance(verdict.answer, str)


def test_an_empty_output_is_right_only_where_the_released_rule_says_so():
    row = {"id": "0", "question_type": "spatial_imagination_oc", "options": ["A. x"]}
    row |= {"ground_truth": "A", "problem_type": "multiple choice", "question": "?"}
    empty = spar.official("", row)
    assert empty.score == 1 and empty.failure == "empty_output"
    assert spar.strict("", row).score == 0


def test_a_number_too_long_to_convert_makes_the_answer_unreadable():
    row = {"question_type": "depth_prediction_oc", "ground_truth": "3"}
    assert spar.official("3 or 5", row).score == 1
    assert spar.official(f"3 or {'5' * 5000}", row).score == 0


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
        for part in media_parts(row):
            if part["type"] == "image":
                assert read_image(part["image"]).size == (64, 48)
            else:
                assert probe(part["video"]).frame_count == 8
        for rule in ("strict", "official"):
            assert rules_of(entry)[rule](row["ground_truth"], row).score == 1, row


@each_benchmark
def test_samples_depend_on_their_seed_alone(tmp_path, name):
    entry = named(name)

    def questions(folder, seed):
        rows = entry.read(WRITERS[name](tmp_path / folder, videos=2, seed=seed))
        return [(row["id"], row["options"], row["ground_truth"]) for row in rows]

    assert questions("a", 1) == questions("b", 1) != questions("c", 2)


@pytest.mark.parametrize(
    "name, column", [(name, column) for name in WRITERS for column in COLUMNS[name]]
)
def test_a_missing_column_is_named(fresh, name, column):
    folder = fresh(name)
    path = folder / FILES[name]
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    with refused("benchmarks.missing-column", says=str(path)) as caught:
        named(name).read(folder)
    said = str(caught.value)
    assert f"column {column}" in said
    others = set(COLUMNS[name]) - {column, "image"}  # pictures are not read here
    assert all(other in said.split("expected")[0] for other in others)


@pytest.mark.parametrize(
    "name, column, value, kind",
    [
        ("sti", "Question", 3, "wrong-type"),
        ("sti", "time_start", "early", "wrong-type"),
        ("sti", "Task", "Cooking", "unknown-task"),
        ("sti", "Answer", "table", "answer-not-a-letter"),
        ("sti", "Candidates", "A or B", "candidates-not-texts"),
        ("sti", "Candidates", "{}", "candidates-not-texts"),
        ("sti", "Candidates", '{"A": 1}', "candidates-not-texts"),
        ("sti", "Candidates", '["1 m"]', "candidates-not-texts"),
        ("spar", "question", 3, "wrong-type"),
        ("spar", "task", "cooking", "unknown-task"),
        ("spar", "answer", "about three", "answer-not-a-number"),
        ("spar", "answer", "inf", "answer-not-a-number"),
        ("spar", "answer", " ", "empty-answer"),
        ("spar", "image", [{"bytes": b"GIF89a", "path": "0.gif"}], "not-a-picture"),
        ("spar", "image", [], "not-a-picture"),
        (
            "spar",
            "image",
            [{"bytes": None, "path": "../../secret.png"}],
            "not-a-picture",
        ),
        ("videommmu", "id", "lecture", "unknown-subject"),
        ("videommmu", "id", "validation_Cooking_1", "unknown-subject"),
        ("videommmu", "options", "A. one", "wrong-type"),
        ("videommmu", "answer", "Z", "answer-not-an-option"),
        ("videommmu", "question_type", "essay", "unknown-format"),
    ],
)
def test_a_value_that_is_not_as_published_is_named(fresh, name, column, value, kind):
    folder = fresh(name)
    path = folder / FILES[name]
    edit(path, lambda rows: [row | {column: value} for row in rows])
    with refused(f"benchmarks.{kind}", says=f"{path} row 1: ") as caught:
        named(name).read(folder)
    assert column in str(caught.value)


@each_benchmark
def test_a_broken_file_and_an_empty_folder_are_named(fresh, tmp_path, name):
    folder = fresh(name)
    (folder / FILES[name]).write_bytes(b"PAR1 broken")
    with refused("artifacts.not-parquet", says=str(folder / FILES[name])):
        named(name).read(folder)
    (tmp_path / "empty").mkdir()
    with refused("benchmarks.no-files", says=str(tmp_path / "empty")):
        named(name).read(tmp_path / "empty")


# ---------------------------------------------------------------- STI-Bench's own


def test_sti_states_its_span_and_lists_its_candidates(folders):
    row = sti.read_rows(folders["sti"])[0]
    assert "from 0 s to 2 s" in row["question"] and len(row["options"]) == 4
    assert row["id"] == "scene0000_00.mp4|0|0|2" and row["scene_name"] == "scene0000_00"
    assert row["groups"] == {"scene": "indoor", "subset": "SR_sub"}
    last = sti.read_rows(folders["sti"])[-1]
    assert last["options"] is None and "A. 1 m 2 m 3 m 4 m" in last["question"]
    assert last["groups"]["subset"] == "other"


def test_sti_reads_candidates_as_json_and_scenes_off_names(fresh):
    folder = fresh("sti")
    structs = sti.read_rows(folder)

    def as_json(rows):
        for row in rows:
            row["Candidates"] = json.dumps(row["Candidates"])
            del row["scene"]

    edit(folder / "qa.parquet", as_json)
    assert sti.read_rows(folder) == structs


def test_sti_tells_equal_ids_apart_and_finds_either_folder(fresh):
    folder = fresh("sti")
    edit(folder / "qa.parquet", lambda rows: [rows[0], rows[0], rows[0]])
    (folder / "video").rename(folder / "videos")
    rows = sti.read_rows(folder / "qa.parquet")
    assert [row["id"][-4:] for row in rows] == ["|0|2", "|2#2", "|2#3"]
    assert probe(rows[0]["video"]).frame_count == 8
    (folder / "videos").rename(folder / "elsewhere")
    absent = sti.read_rows(folder)[0]["video"]
    assert absent == str(folder / "video" / "scene0000_00.mp4")


# --------------------------------------------------------------- SPAR-Bench's own


def test_spar_covers_twenty_tasks_on_three_levels(folders):
    rows = spar.read_rows(folders["spar"])
    assert {row["question_type"] for row in rows} == set(spar.TASKS)
    assert Counter(level for level, _ in spar.TASKS.values()) == {
        "Low": 8,
        "Middle": 3,
        "High": 9,
    }
    kinds = {row["groups"]["img_type"]: len(row["image"]) for row in rows}
    assert kinds == {"single_view": 1, "multi_view": 3}


def test_spar_unpacks_pictures_once_and_again_when_the_file_changes(fresh):
    folder = fresh("spar")
    first = spar.read_rows(folder)
    pictures = [Path(path) for row in first for path in row["image"]]
    times = [path.stat().st_mtime_ns for path in pictures]
    assert spar.read_rows(folder) == first
    assert [path.stat().st_mtime_ns for path in pictures] == times
    before = read_image(pictures[0])
    pictures[0].unlink()
    spar.read_rows(folder)
    assert np.array_equal(read_image(pictures[0]), before)
    part = folder / FILES["spar"]
    edit(part, lambda rows: rows[1:])
    assert [row["id"] for row in spar.read_rows(part)] == [
        str(number) for number in range(1, 30)
    ]


def test_spar_wants_all_parts(fresh):
    folder = fresh("spar")
    (folder / FILES["spar"]).unlink()
    with refused("benchmarks.missing-part", says="2 of them"):
        spar.read_rows(folder)


@pytest.mark.parametrize(
    "lines, answer, options",
    [
        (["Where?", "A. left", "B. right"], "B", ["A. left", "B. right"]),
        (["Where?", "A. left", "B. right", "One only."], "a", ["A. left", "B. right"]),
        (["Where?", "A.left", "B. "], "A", ["A. left", "B. "]),
        (["Where?", "A. left", "C. right"], "A", None),
        (["Where?", "A. left", "B. right"], "C", None),
        (["Where? A. left B. right"], "A", None),
    ],
)
def test_spar_takes_options_out_of_whole_lists_only(lines, answer, options):
    question, found = spar._split_options("\n".join(lines), answer)
    assert found == options
    kept = [line for line in lines if options is None or line[:2] not in ("A.", "B.")]
    assert question == "\n".join(kept)


def test_spar_clusters_by_scan_where_ids_name_one(fresh):
    folder = fresh("spar")

    def rename(rows):
        return [row | {"id": f"scene0261_00_{row['id']}"} for row in rows]

    edit(folder / FILES["spar"], rename)
    rows = spar.read_rows(folder / FILES["spar"])
    assert {row["scene_name"] for row in rows} == {"scene0261_00"}


@pytest.mark.parametrize(
    "text, failure",
    [
        ("move_right:1,rotate_up:10.", None),
        ("move_right:1,move_right:1", "no_motion"),
        ("move_right:1,jump:3", "no_motion"),
        ("move_right:inf", "no_motion"),
        ("", "empty_answer"),
        ("<answer>move_right:1", "unclosed_answer"),
    ],
)
def test_our_reading_of_a_motion_guesses_nothing(text, failure):
    row = {"question_type": "view_change_infer"}
    row["ground_truth"] = "move_right:1,rotate_up:10"
    verdict = spar.strict(text, row)
    assert (verdict.failure, verdict.score) == (failure, 0.0 if failure else 1.0)


# --------------------------------------------------------------- Video-MMMU's own


def test_videommmu_reads_three_tracks_or_one(folders):
    rows = videommmu.read_rows(folders["videommmu"])
    assert Counter(row["question_type"] for row in rows) == {
        track: 3 for track in videommmu.TRACKS
    }
    assert rows[0]["id"] == "Perception/validation_Art_1"
    assert rows[0]["scene_name"] == "validation_Art_1"
    assert rows[0]["groups"]["discipline"] == "Art and Design"
    assert "Art/validation_Art_1.mp4" in rows[0]["video"]
    one = videommmu.read_rows(folders["videommmu"] / FILES["videommmu"])
    assert one == rows[6:]


def test_videommmu_asks_the_untyped_row_with_its_options(folders):
    rows = videommmu.read_rows(folders["videommmu"])[6:]
    assert [row["published_type"] for row in rows] == list(videommmu.FORMATS)
    kinds = [(row["problem_type"], row["options"] is None) for row in rows]
    choice = ("multiple choice", False)
    assert kinds == [choice, ("option-free", True), choice]


def test_videommmu_wants_all_tracks_and_a_named_one(fresh, tmp_path):
    folder = fresh("videommmu")
    (folder / FILES["videommmu"]).rename(tmp_path / "x.parquet")
    with refused("benchmarks.no-files", says="Adaptation"):
        videommmu.read_rows(folder)
    with refused("benchmarks.no-track", says="x.parquet"):
        videommmu.read_rows(tmp_path / "x.parquet")


def test_videommmu_keeps_letters_that_options_carry(fresh):
    folder = fresh("videommmu")
    path = folder / "Perception/test-00000-of-00001.parquet"

    def letter(rows):
        for row in rows:
            row["options"] = [f"{'ABCD'[i]}. {o}" for i, o in enumerate(row["options"])]

    plain = videommmu.read_rows(path)[0]
    edit(path, letter)
    lettered = videommmu.read_rows(path)[0]
    assert lettered["options"] == plain["options"] == lettered["published_options"]


# ---------------------------------------------------------------------- aggregates


def predictions(scores):
    """``{(task, group): [scores]}`` → predictions, one cluster each."""
    return [
        {
            "id": f"{task}{group}{i}",
            "scene_name": f"{task}{group}{i}",
            "score": score,
            "question_type": task,
            "groups": {"axis": group},
            "prediction": "text",
            "failure": None,
        }
        for (task, group), values in scores.items()
        for i, score in enumerate(values)
    ]


def test_sti_overall_weighs_rows_and_sr_sub_weighs_tasks():
    made = predictions(
        {
            ("Spatial Relation", "SR_sub"): [1, 0, 0, 0],
            ("Trajectory Description", "SR_sub"): [1],
            ("Pose Estimation", "other"): [1, 1, 1],
        }
    )
    total = totals(made, named("sti"))
    # 5 of 8 rows; tasks 1/4, 1, 1; SR_sub's tasks 1/4 and 1, its rows 2 of 5
    assert total["overall"] == total["micro"] == 5 / 8
    assert total["macro"] == pytest.approx(0.75)
    assert total["subsets"] == {"SR_sub": pytest.approx(0.625)}
    assert total["groups"]["axis"]["SR_sub"]["micro"] == pytest.approx(0.4)
    assert total["released"] == {}


def test_spar_released_middle_leaves_view_change_out():
    made = predictions(
        {
            ("depth_prediction_oc", "one"): [1, 0],
            ("distance_prediction_oo_mv", "several"): [0.2],
            ("position_matching", "several"): [1],
            ("camera_motion_infer", "several"): [0.5, 0.5],
            ("view_change_infer", "several"): [0],
            ("spatial_imagination_oc", "one"): [1],
        }
    )
    total = totals(made, named("spar"))
    # tasks 0.5, 0.2, 1, 0.5, 0, 1: 3.2 / 6; rows 4.2 / 8
    assert total["overall"] == total["macro"] == pytest.approx(3.2 / 6)
    assert total["micro"] == pytest.approx(4.2 / 8)
    expected = {"overall": 3.2 / 6, "Low": 0.35, "Middle": 0.75, "High": 1.0}
    assert total["released"] == pytest.approx(expected)
    assert total["groups"]["axis"]["several"]["macro"] == pytest.approx(1.7 / 4)
    assert "High" not in spar.aggregate(made[:-1])


def test_videommmu_released_mean_leaves_empty_outputs_out():
    made = predictions(
        {
            ("Perception", "a"): [1, 0],
            ("Comprehension", "a"): [1],
            ("Adaptation", "a"): [1, 0],
        }
    )
    made[1]["prediction"], made[4]["prediction"] = "", "API Error"
    total = totals(made, named("videommmu"))
    assert total["overall"] == total["micro"] == pytest.approx(3 / 5)
    assert total["tasks"]["Perception"] == 0.5
    assert total["released"] == {
        "overall": 1.0,
        "Perception": 1.0,
        "Comprehension": 1.0,
        "Adaptation": 1.0,
    }


@each_benchmark
def test_records_of_a_benchmark_summarize(folders, name):
    entry = named(name)
    rows = entry.read(folders[name])
    for label, rule in rules_of(entry).items():
        made = [record(row, row["ground_truth"], rule) for row in rows]
        assert totals(made, entry)["n"] == len(rows)
        if label in ("strict", "official"):
            assert summarize(made)["score"].to_numpy() == pytest.approx(1)
    missing = [record(row, None, entry.official) for row in rows]
    assert totals(missing, entry)["overall"] == 0
    assert totals(missing, entry)["failures"] == {"no_prediction": len(rows)}
