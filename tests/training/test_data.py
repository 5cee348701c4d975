"""Rows of a run: chosen by part and number, checked, and counted where media miss."""

import json
from collections import Counter

import pytest
from support import nested, refused

from spacer_lib.artifacts import write_jsonl
from spacer_lib.language.prompts import user_text
from spacer_lib.questions.general_sample import synthetic_general
from spacer_lib.questions.mixture import write_joint
from spacer_lib.questions.recipes import load_recipe
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import score
from spacer_lib.rows import ROLLOUT_QUESTION_KEYS, SPATIAL_KEYS
from spacer_lib.training.data import (
    ENOUGH_MAPS,
    TrainingRows,
    _read,
    training_rows,
)
from spacer_lib.training.recipe import config_from_dict

SPATIAL = {
    "question_type": "object_rel_distance",
    "problem_type": "multiple choice",
    "question": "Which is nearer?",
    "options": ["A. bed", "B. sofa"],
    "ground_truth": "A",
    "map": {"bed": [[0, 9]]},
    "part": "spatial",
}
GENERAL = {
    "problem_type": "free-form",
    "question": "What is written?",
    "ground_truth": "a sign",
    "part": "general",
}


@pytest.fixture
def folder(tmp_path):
    """Media of twenty spatial and of five general questions."""
    for name in ("rooms/a.mp4", "pictures/b.png", "pictures/c.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def spatial(number, **changes):
    return {"id": f"s{number}", **SPATIAL, "video": "rooms/a.mp4", **changes}


def load(folder, rows, **settings):
    write_jsonl(folder / "train.jsonl", rows)
    settings = {"prompts_per_step": 1, "data_path": str(folder / "train.jsonl")} | (
        settings
    )
    return training_rows(config_from_dict(nested(settings)))


def test_videos_images_and_texts_share_their_keys(folder):
    rows = [
        spatial(0),
        {"id": "one", **GENERAL, "image": "pictures/b.png"},
        {"id": "two", **GENERAL, "image": ["pictures/b.png", "pictures/c.png"]},
        {"id": "text", **GENERAL},
        {"id": "drawn", **GENERAL, "video": "room://new/1"},
    ]
    found = load(folder, rows)
    assert [row["id"] for row in found] == ["s0", "one", "two", "text", "drawn"]
    assert len({tuple(row) for row in found}) == 1
    assert set(found[0]) >= {*SPATIAL_KEYS, "image", "part"}
    pictures = [str(folder / "pictures" / name) for name in ("b.png", "c.png")]
    assert [row["video"] for row in found] == [
        str(folder / "rooms/a.mp4"),
        None,
        None,
        None,
        "room://new/1",
    ]
    assert [row["image"] for row in found] == [
        None,
        pictures[0],
        pictures,
        None,
        None,
    ]
    assert found[3]["map"] is found[3]["options"] is found[3]["categories"] is None
    assert found.report == {
        "read": 5,
        "part": "all",
        "chosen": 5,
        "skipped": {},
        "without_map": 0,
        "kept": 5,
    }


def test_a_joint_set_is_read_as_it_was_written(folder, monkeypatch):
    """Both formats of `spacer mix`, its media named relative to its own folder."""
    spatial_rows = [spatial(i, dataset="scannet", scene_name="a") for i in range(4)]
    (folder / "sr").mkdir()
    write_jsonl(
        folder / "sr/train.jsonl",
        [{**row, "video": "../rooms/a.mp4"} for row in spatial_rows],
    )
    raw = synthetic_general(10, folder / "general", 0)
    write_joint(folder / "sr", raw, folder / "joint", media_root=raw.parent, total=6)
    monkeypatch.chdir("/")
    read = []
    for name in ("train.jsonl", "train.parquet"):
        path = str(folder / "joint" / name)
        read.append(
            training_rows(config_from_dict({"data_path": path, "prompts_per_step": 1}))
        )
        assert read[-1].report["kept"] == 10 and not read[-1].report["skipped"]
    assert read[0] == read[1]
    assert {row["part"] for row in read[0]} == {"spatial", "general"}


def test_rows_with_control_words_are_left_out_and_counted(folder, capsys):
    rows = [spatial(i) for i in range(20)]
    rows[2]["question"] = "How many <|video_pad|> are there?"
    rows[4] |= {"problem_type": "multiple choice", "ground_truth": "A"}
    rows[4]["options"] = ["A. one", "B. two<|im_end|>"]
    rows[6]["question"] = "Is a <b> or | a word of control?"
    found = load(folder, rows)
    assert found.report["skipped"] == {"control word": 2}
    assert not {"s2", "s4"} & {row["id"] for row in found} and len(found) == 18
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("2 of 20 rows left out: row 3 has <|video_pad|>")
    rows[5]["question"] = "<|vision_start|>?"
    with refused("training.control-words", says="3 of 20 rows; row 3 has"):
        load(folder, rows)


def test_rows_of_missing_media_are_left_out_and_counted(folder, capsys, monkeypatch):
    rows = [spatial(i) for i in range(18)]
    rows[3]["video"] = "rooms/absent.mp4"
    rows.append({"id": "x", **GENERAL, "image": ["pictures/b.png", "absent.png"]})
    rows.append({"id": "y", **GENERAL})
    found = load(folder, rows)
    assert found.report["skipped"] == {"video missing": 1, "image missing": 1}
    assert (found.report["chosen"], found.report["kept"], len(found)) == (20, 18, 18)
    assert not {"s3", "x"} & {row["id"] for row in found}
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("2 of 20 rows left out: row 4 names rooms/absent.mp4")
    monkeypatch.setenv("RANK", "1")
    load(folder, rows)
    assert not capsys.readouterr().out
    rows[5]["video"] = "rooms/gone.mp4"
    with refused("training.no-media", says="3 of 20; row 4 names rooms/absent.mp4"):
        load(folder, rows)


def test_smaller_choices_nest_whatever_the_seed(folder):
    rows = [spatial(i) for i in range(40)]
    chosen = {
        (size, seed): [r["id"] for r in load(folder, rows, data_rows=size, seed=seed)]
        for size in (5, 10, 40)
        for seed in (0, 1)
    }
    for size in (5, 10, 40):
        assert chosen[size, 0] == chosen[size, 1] and len(chosen[size, 0]) == size
        assert chosen[size, 0] == sorted(chosen[size, 0], key=lambda k: int(k[1:]))
    assert set(chosen[5, 0]) < set(chosen[10, 0])
    assert chosen[10, 0] != chosen[40, 0][:10]
    with refused("training.data-rows", says="41; expected at most the 40"):
        load(folder, rows, data_rows=41)


def test_a_part_is_chosen_before_its_number(folder):
    rows = [spatial(i) for i in range(6)]
    rows += [{"id": f"g{i}", **GENERAL} for i in range(4)]
    found = load(folder, rows, data_part="general", data_rows=3)
    assert {row["part"] for row in found} == {"general"}
    assert (found.report["read"], found.report["chosen"]) == (10, 3)
    with refused("training.no-such-part", says="general"):
        load(folder, rows[:6], data_part="general")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"ground_truth": "C"}, "rewards.ground-truth-not-an-option"),
        ({"problem_type": "essay"}, "rewards.unknown-problem-type"),
        ({"map": {"bed": [[0, 10]]}}, "rewards.map-off-grid"),
        ({"map": [[0, 1]]}, "rows.wrong-type"),
        ({"video": 7}, "rows.wrong-type"),
    ],
)
def test_rows_that_cannot_be_scored_are_named(folder, changes, kind):
    with refused(kind, says=" 2"):
        load(folder, [spatial(0), spatial(1, **changes)])


@pytest.mark.parametrize(
    ("changes", "kind", "fact"),
    [
        ({"ground_truth": ""}, "incomplete-row", "row 2: got no ground_truth"),
        ({"id": None, "question": None}, "incomplete-row", "got no id, question"),
        ({"id": "s0"}, "repeated-ids", "1 ids, first s0"),
    ],
)
def test_bad_rows_are_named(folder, changes, kind, fact):
    with refused(f"training.{kind}", says=fact):
        load(folder, [spatial(0), spatial(1, **changes)])


@pytest.mark.parametrize(
    "changes",
    [
        {"scene_name": "Scene0011_00"},
        {"id": "scene0011_00:room_size_estimation:0"},
        {"dataset": "ScanNet++", "scene_name": "7b6477cb95"},
    ],
)
def test_rooms_of_the_benchmark_are_refused(folder, changes):
    """Also in files that `spacer qa` did not write."""
    with refused("rooms.benchmark-room", says="1 rooms"):
        load(folder, [spatial(0), spatial(1, **changes)])
    mine = {"dataset": "mine", "scene_name": "scene0011_00"}
    rows = [spatial(0), spatial(1, **mine)]
    with refused("rooms.benchmark-room", says="--allow-dataset"):
        load(folder, rows)
    assert len(load(folder, rows, allow_datasets=["mine"])) == 2


@pytest.mark.parametrize(
    ("text", "kind", "fact"),
    [
        (None, "training.no-data", "rows.jsonl"),
        ('{"id": 1\n', "artifacts.not-json", "line 1"),
        ('{"id": 1, "map": "{"}\n', "rows.map-not-json", "line 1"),
        ("7\n", "artifacts.no-object", "line 1: got 7"),
        ("", "training.too-few-rows", "0 rows"),
    ],
)
def test_bad_files_are_named(tmp_path, text, kind, fact):
    path = tmp_path / "rows.jsonl"
    if text is not None:
        path.write_text(text)
    with refused(kind, says=fact):
        training_rows(config_from_dict({"data_path": str(path)}))
    if text is not None:
        path = path.rename(path.with_suffix(".parquet"))
        with refused("artifacts.not-parquet", says=".parquet"):
            training_rows(config_from_dict({"data_path": str(path)}))


def test_rows_without_their_map_are_counted_or_refused(folder):
    rows = [spatial(0), spatial(1, map=None), spatial(2, map={})]
    assert load(folder, rows).report["without_map"] == 2
    none = rows[1:] + [{"id": "g", **GENERAL}]
    with refused("training.no-maps", says="2 spatial"):
        load(folder, none)
    for settings in (
        {"reward": {"map_weight": 0}},
        {"reward": {"map_gate": "off"}},
        {"method": "sft"},
        {"data_part": "general"},
    ):
        without = load(folder, none, **settings).report["without_map"]
        assert without == (0 if "data_part" in settings else 2)


def test_rows_without_their_boxes_are_refused(folder):
    boxes = {"chair": [[0, 0, 0.5, 0.5]]}
    wanted = {"reward": {"boxes_weight": 1.0}}
    assert load(folder, [spatial(0, boxes=boxes), spatial(1)], **wanted)
    with refused("training.no-boxes", says="2 spatial"):
        load(folder, [spatial(0), spatial(1)], **wanted)
    assert load(folder, [spatial(0), spatial(1)], method="sft", **wanted)
    with refused("training.no-boxes", says="drawn rooms"):
        training_rows(config_from_dict({"max_steps": 1, **wanted}))


def test_maps_of_a_smaller_grid_are_refused(folder):
    rows = [spatial(i, video=f"room://new/{i}") for i in range(ENOUGH_MAPS)]
    assert len(load(folder, rows)) == ENOUGH_MAPS
    with refused("training.smaller-grid", says="20 x 20"):
        load(folder, rows, reward={"grid_size": 20})
    assert load(folder, rows[1:], reward={"grid_size": 20})  # too few to tell


def test_rooms_are_drawn_without_a_file():
    found = training_rows(config_from_dict({"max_steps": 2, "prompts_per_step": 3}))
    assert isinstance(found, TrainingRows) and len(found) == 6
    assert found.report["kept"] == found.report["read"] == 6
    kept = set(ROLLOUT_QUESTION_KEYS) - {"image"}
    assert all(json.dumps(row) and kept <= set(row) for row in found)
    with refused("training.part-of-drawn-rooms", says="got general without data_path"):
        training_rows(config_from_dict({"data_part": "general"}))


def test_fewer_drawn_rows_are_the_first_of_more():
    few, more = (
        training_rows(config_from_dict({"max_steps": 2, "data_rows": rows}))
        for rows in (20, 400)
    )
    assert len(few) == 20 and len(more) == 32  # 2 steps of 16
    assert list(few) == list(more)[:20]
    with refused("training.too-few-rows", says="got 15; expected at least"):
        training_rows(config_from_dict({"max_steps": 2, "data_rows": 15}))


def test_drawn_rows_have_the_shares_of_a_question_recipe():
    settings = {"view": "turn", "max_steps": 5, "question_recipe": "3q"}
    rows = training_rows(config_from_dict(settings))
    asked = Counter(row["question_type"] for row in rows)
    targets = {task: wish.target for task, wish in load_recipe("3q").tasks.items()}
    assert set(asked) == set(targets)
    for task, target in targets.items():
        assert abs(asked[task] - len(rows) * target / sum(targets.values())) < 1


@pytest.mark.parametrize(
    "name, view, says",
    [
        ("3q", "new", "got obj_appearance_order; expected"),
        ("demo", "turn", "expected a target for each type"),
    ],
)
def test_a_question_recipe_that_drawn_rooms_cannot_follow(name, view, says):
    settings = {"view": view, "question_recipe": name}
    with refused("training.question-types", says=says):
        training_rows(config_from_dict(settings))


RAW = {
    "problem_id": 1,
    "problem": "How many chairs are there?",
    "problem_type": "OCR",
    "solution": "<answer>four</answer>",
    "path": "./a.mp4",
    "data_type": "video",
}


@pytest.mark.parametrize("text", [json.dumps([RAW]), json.dumps(RAW) + "\n"])
def test_rows_as_video_r1_publishes_them_are_sent_to_the_mixer(tmp_path, text):
    path = tmp_path / "train.jsonl"
    path.write_text(text)
    with refused("training.raw-rows", says="spacer mix --general"):
        _read(path)


def test_ocr_is_one_type_however_it_is_written(tmp_path):
    row = {"id": "1", "question": "Read it.", "options": None, "ground_truth": "exit"}
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({**row, "problem_type": "OCR"}) + "\n")
    assert [read["problem_type"] for read in _read(path)] == ["ocr"]
    said, texts = [], []
    for kind in ("OCR", "ocr"):
        asked = {**row, "problem_type": kind}
        text = "<think>I see it.</think>\n<answer>exit</answer>"
        said.append(score(text, asked, RewardConfig()).task)
        texts.append(user_text(asked, "think"))
    assert said == [1, 1] and texts[0] == texts[1]
