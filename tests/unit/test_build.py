"""Question sets: targets, flat answers, letters, leaks, resuming, same bytes."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import psutil
import pytest
from samples.filmed import walk_footage
from support import refused

from spacer_lib.artifacts import PROJECT_ROOT, config_hash, read_json
from spacer_lib.maps.boxes import true_boxes
from spacer_lib.questions import build
from spacer_lib.questions.build import build_dataset
from spacer_lib.questions.generators import GENERATOR_VERSION, Rules
from spacer_lib.questions.recipes import RECIPES, Recipe, TaskWish, load_recipe
from spacer_lib.rooms.frames import Sampler, sample_indices
from spacer_lib.rooms.scans import read_scenes, synthetic_meta
from spacer_lib.rooms.scene import space_of
from spacer_lib.rooms.shown import SMALL, Shown
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.render import Renderer, film
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene, view_intrinsic, view_poses
from spacer_lib.rows import read_questions
from spacer_lib.settings import setting_names


@pytest.fixture(scope="module")
def scenes():
    rooms = [draw_room(seed) for seed in range(8)]
    rescan = draw_room(3, scene_id="scene0003_01")
    return [to_scene(room, VIEWS["walk"]) for room in [*rooms, rescan]]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Sixty rooms with imagined videos, as a meta file and as scenes."""
    path = synthetic_meta(tmp_path_factory.mktemp("many") / "meta.json", 60)
    return path, read_scenes(path)


def contents(folder, suffixes=(".jsonl", ".parquet", ".json", ".md")):
    """{name: bytes} of everything below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in suffixes
    }


def test_dataset_files_are_what_the_report_says(scenes, tmp_path):
    report = build_dataset(scenes, tmp_path, seed=1)
    written = read_json(tmp_path / "report.json")
    assert written["counts"] == report["counts"] and "commit" in written["provenance"]
    assert written["rejections"] == report["rejections"] and report["rejections"]
    spaces = {}
    for part, path in report["paths"].items():
        rows = read_questions(path)
        assert sum(report["counts"][part].values()) == len(rows) > 0
        assert {row["scene_name"] for row in rows} <= set(report["scenes"][part])
        assert len({row["id"] for row in rows}) == len(rows)
        spaces[part] = {space_of(row["scene_name"]) for row in rows}
    assert not spaces["train"] & spaces["test"]
    assert not spaces["train"] & spaces["grpo"]
    assert not spaces["grpo"] & spaces["test"]
    assert sum(map(len, report["scenes"].values())) == len(scenes)


def test_dataset_is_the_same_bytes_in_any_order_of_scenes(scenes, tmp_path):
    one = build_dataset(scenes, tmp_path / "a", seed=5)
    two = build_dataset(scenes[::-1], tmp_path / "b", seed=5)
    other = build_dataset(scenes, tmp_path / "c", seed=6)
    for part in one["paths"]:
        assert one["paths"][part].read_bytes() == two["paths"][part].read_bytes()
    assert one["scenes"] != other["scenes"]


def test_a_planted_leak_is_refused_and_nothing_is_written(scenes, tmp_path):
    report = build_dataset(scenes, tmp_path / "a")
    for part in ("train", "grpo"):
        planted = f"{space_of(report['scenes'][part][0])}_77"  # a rescan, never seen
        with refused("questions.held-out-space"):
            build_dataset(scenes, tmp_path / "b", held_out_ids=[planted])
    assert not (tmp_path / "b").exists()
    build_dataset(scenes, tmp_path / "c", held_out_ids=report["scenes"]["test"])


def test_benchmark_rooms_are_refused_by_default(scenes, tmp_path):
    """A validation scan among the training ones, under an id of its own."""
    planted = dataclasses.replace(scenes[0], scene_id="scene0011_07", dataset="scannet")
    with refused("rooms.benchmark-room", says="scene0011_07"):
        build_dataset([*scenes[1:], planted], tmp_path, "sr91k")
    report = build_dataset(
        [*scenes[1:], planted], tmp_path, "sr91k", drop_held_out=True
    )
    assert report["dropped"] == ["scene0011_07"]
    used = {row["scene_name"] for row in read_questions(tmp_path / "train.jsonl")}
    assert used == {scene.scene_id for scene in scenes[1:]}
    # Audits and test sets may ask about them.
    asked = build_dataset([planted], tmp_path / "test", "vsibench")
    assert sum(asked["counts"]["test"].values()) > 5


@pytest.mark.parametrize(
    ("scene_id", "dataset", "video"),
    [
        ("scene0011_00", "ScanNet", None),
        ("scene0011_00", "unknown", None),
        ("scene0011_00.mp4", "scannet", None),
        ("0011_00", "scannet", None),
        ("SCENE0011_00", "scannet", None),
        ("7b6477cb95", "scannetpp", None),
        ("7b6477cb95", "unknown", None),
        ("41069025", "ARKitScenes", None),
        ("41069025", "unknown", None),
        ("room_a", "mine", "videos/scene0011_00.mp4"),
    ],
)
def test_no_spelling_of_a_benchmark_room_is_trained_on(
    scenes, tmp_path, scene_id, dataset, video
):
    planted = dataclasses.replace(
        scenes[0], scene_id=scene_id, dataset=dataset, video_path=video
    )
    rooms = [*scenes[1:], planted]
    with refused("rooms.benchmark-room", says=scene_id):
        build_dataset(rooms, tmp_path / "a", "sr91k")
    assert not (tmp_path / "a").exists()
    report = build_dataset(rooms, tmp_path / "a", "sr91k", drop_held_out=True)
    assert report["dropped"] == [scene_id]


def test_benchmark_rooms_alone_make_no_set(scenes, tmp_path):
    rooms = [
        dataclasses.replace(scene, scene_id=f"scene0011_0{i}", dataset="scannet")
        for i, scene in enumerate(scenes)
    ]
    with refused("questions.all-held-out", says=f"{len(rooms)} scans left out"):
        build_dataset(rooms, tmp_path / "a", "sr91k", drop_held_out=True)
    assert not (tmp_path / "a").exists()


def test_a_data_set_that_only_shares_names_is_allowed_by_name(scenes, tmp_path):
    own = dataclasses.replace(scenes[0], scene_id="scene0011_00", dataset="mine")
    with refused("rooms.benchmark-room", says="--allow-dataset"):
        build_dataset([own], tmp_path, "sr91k")
    report = build_dataset([own], tmp_path, "sr91k", allow_datasets=["mine"])
    assert report["dropped"] == [] and sum(report["counts"]["train"].values()) > 5


def test_repeats_are_refused(scenes, tmp_path, monkeypatch):
    with refused("questions.no-scene"):
        build_dataset([], tmp_path)
    with refused("questions.repeated-scene"):
        build_dataset([scenes[0], scenes[0]], tmp_path)

    def doubled(scene, *args, **kwargs):
        rows, rejections = build_question_rows(scene, *args, **kwargs)
        return [*rows, rows[-1]], rejections

    build_question_rows = build.question_rows
    monkeypatch.setattr(build, "question_rows", doubled)
    with refused("questions.repeated-question"):
        build_dataset(scenes, tmp_path)
    assert not (tmp_path / "train.jsonl").exists()


def test_boxes_are_written_where_the_recipe_asks_for_them(scenes, tmp_path):
    wish = {"object_counting": TaskWish(2)}
    recipe = Recipe("r", "s", wish, boxes=True)
    report = build_dataset(scenes, tmp_path / "boxed", recipe)
    by_id = {scene.scene_id: scene for scene in scenes}
    path = Path(report["paths"]["train"])
    for file in (path, path.with_suffix(".parquet")):
        for row in read_questions(file):
            assert row["boxes"] == true_boxes(by_id[row["scene_name"]])
            assert row["boxes"].keys() == row["map"].keys()
    plain = dataclasses.replace(recipe, boxes=False)
    report = build_dataset(scenes, tmp_path / "plain", plain)
    assert "boxes" not in read_questions(report["paths"]["train"])[0]


def test_a_set_without_any_question_is_refused(scenes, tmp_path):
    recipe = Recipe("r", "s", {"obj_appearance_order": TaskWish(3)})
    unfilmed = [dataclasses.replace(scene, fps=None) for scene in scenes]
    with refused("questions.none-left", says="9 rejections"):
        build_dataset(unfilmed, tmp_path, recipe)
    assert not list(tmp_path.glob("train.*"))


def test_answers_are_flattened_for_training_only(many, tmp_path):
    wish = {"object_counting": TaskWish(9, flatten_bin=1)}
    for part in ("train", "test"):
        recipe = Recipe("r", "s", wish, parts={part: 1.0})
        build_dataset(many[1], tmp_path / part, recipe)
        rows = read_questions(tmp_path / part / f"{part}.jsonl")
        counts = Counter(row["ground_truth"] for row in rows)
        if part == "train":
            kept = counts
    assert max(kept.values()) < max(counts.values()) and set(kept) == set(counts)


def test_rows_carry_map_and_video(scenes, tmp_path):
    filmed = [
        dataclasses.replace(s, video_path=f"videos/{s.scene_id}.mp4") for s in scenes
    ]
    report = build_dataset(filmed, tmp_path)
    row = read_questions(report["paths"]["test"])[0]
    assert row["video"] == f"videos/{row['scene_name']}.mp4"
    assert all(0 <= x < 10 and 0 <= y < 10 for c in row["map"].values() for x, y in c)
    maps = read_json(tmp_path / "maps.json")
    assert maps["maps"][row["scene_name"]] == row["map"] and maps["grid_size"] == 10


# --- What the model is shown --------------------------------------------------------


SHOWN = """\
name: shown
source: test
frames: {frames}
least_share: 0.03
parts: {{test: 1.0}}
rules: {{order_gap_s: 0.2}}
tasks:
  object_counting: {{per_video: 9}}
  object_size_estimation: {{per_video: 9}}
  object_rel_direction_hard: {{per_video: 9}}
  obj_appearance_order: {{per_video: 9}}
"""


@pytest.fixture(scope="module")
def filmed():
    """Four rooms with footage."""
    rooms, view = [draw_room(seed) for seed in range(4)], VIEWS["walk"]
    return [
        to_scene(room, view, footage=film(room, view, size=(96, 72))) for room in rooms
    ]


def shown_pixels(seed, frames):
    """{category: (instances, frames) shares} in the frames that are shown."""
    room, view = draw_room(seed), VIEWS["walk"]
    indices = sample_indices(view.frames, frames)
    renderer, K = Renderer(room), view_intrinsic(room, view, 96, 72)
    pictures = [
        renderer.render(pose, K, 96, 72)[2] for pose in view_poses(room, view, indices)
    ]
    shares = {}
    for piece in room.furniture:
        mine = [(labels == piece.instance_id).mean() for labels in pictures]
        shares.setdefault(piece.kind.category, []).append(mine)
    return {name: np.array(mine) for name, mine in shares.items()}, indices


@pytest.mark.parametrize("frames", [8, 16])
def test_questions_are_about_what_the_model_is_shown(filmed, tmp_path, frames):
    """Checked by rendering the shown frames again."""
    path = tmp_path / "shown.yaml"
    path.write_text(SHOWN.format(frames=frames))
    report = build_dataset(filmed, tmp_path / "out", path)
    rows = read_questions(tmp_path / "out" / "test.jsonl")
    for seed, scene in enumerate(filmed):
        shares, indices = shown_pixels(seed, frames)
        mine = [row for row in rows if row["scene_name"] == scene.scene_id]
        largest = {name: share.max(axis=1) for name, share in shares.items()}
        for name in {name for row in mine for name in row["categories"]}:
            assert largest[name].max() >= 0.03
            assert not ((largest[name] >= 0.0011) & (largest[name] < 0.0299)).any()
        for row in mine:
            names = row["categories"]
            if row["question_type"] == "object_counting":
                seen = (largest[names[0]] >= 0.03).sum()
                assert row["ground_truth"] == str(seen)
            if row["question_type"] == "obj_appearance_order":
                right = dict(o.split(". ", 1) for o in row["options"])
                order = right[row["ground_truth"]].split(", ")
                first = [(shares[n].max(axis=0) >= 0.001).argmax() for n in order]
                assert first == sorted(first) and len(set(first)) == 4
                assert indices[first[-1]] > 0
        assert set(mine[0]["map"]) < set(shares)
    reasons = {
        (r["question_type"], r["reason"]): r["count"] for r in report["rejections"]
    }
    assert reasons[build.ANY_TYPE, SMALL] > 3
    assert f"the {frames} frames" in (tmp_path / "out" / "README.md").read_text()
    path.write_text(SHOWN.format(frames="null"))  # all objects
    build_dataset(filmed, tmp_path / "all", path)
    every = read_questions(tmp_path / "all" / "test.jsonl")
    assert {row["question"] for row in every} - {row["question"] for row in rows}


def test_other_shown_frames_make_the_candidates_anew(filmed, tmp_path):
    path = tmp_path / "shown.yaml"
    for frames in (8, 16):
        path.write_text(SHOWN.format(frames=frames))
        build_dataset(filmed, tmp_path / "out", path)
    build_dataset(filmed, tmp_path / "fresh", path)
    name = "test.jsonl"
    found, fresh = ((tmp_path / k / name).read_bytes() for k in ("out", "fresh"))
    assert found == fresh


def test_a_recipe_names_the_sampler_of_its_frames(tmp_path):
    path = tmp_path / "shown.yaml"
    path.write_text(SHOWN.format(frames=16) + "sampler: {rule: inner}\n")
    assert load_recipe(path).shown == Shown(16, 0.03, Sampler("inner"))
    assert load_recipe("sr91k").shown is None


def test_scenes_without_footage_have_no_questions_about_what_is_shown(scenes, tmp_path):
    recipe = Recipe("r", "s", {"object_counting": TaskWish(3)}, frames=16)
    with refused("questions.none-left"):
        build_dataset(scenes, tmp_path, recipe)
    with refused("rooms.shown-frames", says="frames 0"):
        Recipe("r", "s", {"object_counting": TaskWish(3)}, frames=0)


# --- Recipes ------------------------------------------------------------------------


def test_sr91k_fills_its_target_with_balanced_letters(many, tmp_path):
    report = build_dataset(many[1], tmp_path, "sr91k")
    recipe = load_recipe("sr91k")
    assert sum(wish.target for wish in recipe.tasks.values()) == 151_310 - 60_000
    tasks = report["tasks"]["train"]
    wanted = sum(row["wanted"] for row in tasks.values())
    assert sum(row["kept"] for row in tasks.values()) == wanted
    assert wanted == pytest.approx(91_310 * 60 / 1201, abs=5)
    for kind, letters in report["letters"]["train"].items():
        assert max(letters.values()) - min(letters.values()) <= 1, kind
    rows = read_questions(tmp_path / "train.parquet")
    assert len({row["id"] for row in rows}) == len(rows) == wanted
    assert rows == read_questions(tmp_path / "train.jsonl")
    per_video = Counter((row["scene_name"], row["question_type"]) for row in rows)
    for (_, kind), count in per_video.items():
        assert count <= recipe.tasks[kind].per_video
    bins = Counter(
        int(float(row["ground_truth"]) // 0.5)
        for row in rows
        if row["question_type"] == "object_abs_distance"
    )
    assert max(bins.values()) <= tasks["object_abs_distance"]["candidates"] / len(bins)


def test_sr_asks_left_or_right_and_measures_aligned_boxes(many, tmp_path):
    report = build_dataset(many[1], tmp_path, "sr")
    rows = read_questions(tmp_path / "train.jsonl")
    directions = [r for r in rows if "direction" in r["question_type"]]
    assert {o[3:] for r in directions for o in r["options"]} == {"left", "right"}
    kept = sum(row["kept"] for row in report["tasks"]["train"].values())
    assert kept == len(rows) <= 9_000 * 60 / 1201 + 5
    by_id = {scene.scene_id: scene for scene in many[1]}
    for row in (r for r in rows if r["question_type"] == "object_size_estimation"):
        (thing,) = by_id[row["scene_name"]].by_category()[row["categories"][0]]
        edges = [b - a for a, b in zip(thing.aabb_min_m, thing.aabb_max_m, strict=True)]
        assert row["ground_truth"] == str(round(max(edges) * 100))


def test_vsi100k_is_option_free_with_centre_distances(many, tmp_path):
    build_dataset(many[1], tmp_path, "vsi100k")
    rows = read_questions(tmp_path / "train.jsonl")
    assert {row["problem_type"] for row in rows} == {"numerical", "option-free"}
    assert all(row["options"] is None for row in rows)
    for row in rows:
        if row["question_type"] == "object_rel_distance":
            assert row["ground_truth"] in row["categories"][1:]
        if row["question_type"] == "object_abs_distance":
            assert "center of each object" in row["question"]
    assert not any(row["question_type"] == "obj_appearance_order" for row in rows)


@pytest.mark.parametrize("name", sorted(p.stem for p in RECIPES.glob("*.yaml")))
def test_recipes_read_and_name_themselves(name):
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.source and isinstance(recipe.rules, Rules)


@pytest.mark.parametrize(
    "text, kind, says",
    [
        (
            "name: x\nsource: s\ntasks: {object_counting: {per_vidoe: 3}}",
            "settings.unknown-key",
            "did you mean per_video?",
        ),
        (
            "name: x\nsource: s\ntasks: {object_countin: {per_video: 3}}",
            "questions.unknown-type",
            "did you mean object_counting?",
        ),
        ("name: x\nsource: s\ntasks: {}", "questions.no-task", "object_counting"),
        (
            "name: x\nsource: s\ntasks: {object_counting: {per_video: no}}",
            "settings.wrong-type",
            "tasks.object_counting.per_video",
        ),
        (
            "name: x\nsource: s\ntasks: {object_counting: 3}",
            "settings.wrong-type",
            "tasks.object_counting",
        ),
        (
            "name: x\nsource: s\ntasks: {object_counting: {per_video: 0}}",
            "questions.wish-out-of-range",
            "per_video",
        ),
        (
            "name: x\nsource: s\nrule: {}\ntasks: {object_counting: {per_video: 1}}",
            "settings.unknown-key",
            "did you mean rules?",
        ),
        (
            "name: x\nsource: s\nrules: {boxes: round}\n"
            "tasks: {object_counting: {per_video: 1}}",
            "questions.unknown-rule-value",
            "oriented or aligned",
        ),
        (
            "name: x\nsource: s\nrules: {min_count: 0}\n"
            "tasks: {object_counting: {per_video: 1}}",
            "questions.rule-too-small",
            "min_count",
        ),
        (
            "name: x\nsource: s\nparts: {train: 0.5}\n"
            "tasks: {object_counting: {per_video: 1}}",
            "questions.shares",
            "0.5",
        ),
        (
            "name: x\nsource: s\nparts: {}\ntasks: {object_counting: {per_video: 1}}",
            "questions.shares",
            "{}",
        ),
        (
            "name: x\nsource: s\nscenes: 0\ntasks: {object_counting: {per_video: 1}}",
            "questions.recipe-out-of-range",
            "scenes 0",
        ),
        (
            "tasks: {object_counting: {per_video: 1}}",
            "settings.missing-key",
            "name",
        ),
        ("[1, 2", "settings.not-yaml", "mine.yaml"),
        ("just words", "settings.no-mapping", "mine.yaml"),
    ],
)
def test_recipe_mistakes_are_named(tmp_path, text, kind, says):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with refused(kind, says=says):
        load_recipe(path)


def test_numbers_of_a_recipe_that_are_none_are_refused():
    """Of recipes made in Python; YAML is checked as it is read."""
    nan, wish = float("nan"), {"object_counting": TaskWish(1)}
    with refused("questions.wish-out-of-range", says="nan"):
        TaskWish(1, flatten_bin=nan)
    with refused("questions.shares", says="nan"):
        Recipe("r", "s", wish, parts={"train": nan})
    with refused("questions.shares", says="-0.5"):
        Recipe("r", "s", wish, parts={"train": 1.5, "test": -0.5})
    floats = [f.name for f in dataclasses.fields(Rules) if f.type is float]
    assert len(floats) == 18
    for name in floats:
        for value in (nan, -0.1):
            with refused("questions.rule-too-small", says=name):
                Rules(**{name: value})


def test_an_unknown_recipe_names_the_nearest_or_all():
    with refused("settings.no-such-file", says="did you mean sr91k?"):
        load_recipe("sr92k")
    every = "3q, demo, spatio-temporal, sr, sr91k, vsi100k, vsibench-8, vsibench"
    with refused("settings.no-such-file", says=every):
        load_recipe("elsewhere")


# --- Same bytes, whatever happens ---------------------------------------------------


def test_one_worker_or_two_or_a_cluster_write_the_same_bytes(many, tmp_path):
    from dask.distributed import Client, LocalCluster

    build_dataset(many[1], tmp_path / "one", "sr91k", seed=3)
    build_dataset(many[1][::-1], tmp_path / "two", "sr91k", seed=3, workers=2)
    with (
        LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        build_dataset(many[1], tmp_path / "dask", "sr91k", seed=3, client=client)
    one = contents(tmp_path / "one")
    assert len(one) == 60 + 6  # candidates; manifest, maps, report, card and two files
    assert one == contents(tmp_path / "two") == contents(tmp_path / "dask")


RUN = """
import sys
from spacer_lib.questions.build import build_dataset
from spacer_lib.rooms.scans import read_scenes
if __name__ == "__main__":
    build_dataset(read_scenes(sys.argv[1]), sys.argv[2], "sr91k", workers=2)
"""


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(many, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    script = tmp_path / "run.py"
    script.write_text(RUN)
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(script), str(many[0]), str(cut)],
        start_new_session=True,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 120
    while len(list(cut.glob("candidates/*.json"))) < 20:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()  # this one alone: its workers must not outlive it
    process.wait()
    assert family and psutil.wait_procs(family, timeout=20)[1] == []
    assert not (cut / "train.jsonl").exists()
    build_dataset(many[1], whole, "sr91k")
    build_dataset(many[1], cut, "sr91k")
    assert contents(cut) == contents(whole)


def test_a_folder_of_other_settings_is_made_anew(scenes, tmp_path):
    """Candidates of another seed or recipe are no candidates."""
    build_dataset(scenes, tmp_path / "a", seed=1)
    for folder, seed in (("a", 2), ("b", 2)):
        build_dataset(scenes, tmp_path / folder, seed=seed)
    one, other = (contents(tmp_path / name, (".jsonl",)) for name in "ab")
    assert one == other


def test_finished_scenes_are_not_asked_again(many, tmp_path, monkeypatch):
    asked = []
    real = build.question_rows

    def counted(scene, *args, **kwargs):
        asked.append(scene.scene_id)
        return real(scene, *args, **kwargs)

    monkeypatch.setattr(build, "question_rows", counted)
    build_dataset(many[1][:6], tmp_path, "demo")
    build_dataset(many[1][:8], tmp_path, "demo")
    assert asked == [scene.scene_id for scene in many[1][:8]]
    changed = dataclasses.replace(many[1][0], fps=30.0)
    build_dataset([changed, *many[1][1:8]], tmp_path, "demo")
    assert asked[8:] == [changed.scene_id]


def test_datasets_opens_the_folder_and_either_file(many, tmp_path):
    report = build_dataset(many[1], tmp_path / "qa", "demo")
    cache = str(tmp_path / "cache")
    opened = datasets.load_dataset(str(tmp_path / "qa"), cache_dir=cache)
    counts = {part: sum(kinds.values()) for part, kinds in report["counts"].items()}
    assert {part: len(opened[part]) for part in opened} == counts
    lines = datasets.load_dataset(
        "json", data_files=str(tmp_path / "qa" / "train.jsonl"), cache_dir=cache
    )["train"]
    assert lines.to_list() == opened["train"].to_list()
    assert json.loads(lines[0]["map"])


# ---------------------------------------------------------------- versions

# Of the questions of each recipe about ``scenes``, by this GENERATOR_VERSION.
VERSION = "5"
QUESTIONS = {
    "3q": "3e1d09a6b6ef",
    "demo": "9e4e2d471078",
    "spatio-temporal": "a471ce35c6de",
    "sr": "9dbf0cbcbf9a",
    "sr91k": "6eafedc539b1",
    "vsi100k": "d793be7e6a44",
    "vsibench": "1b3089c03d0d",
    "vsibench-8": "f9c4d801ce11",
}
# Recipes that ask what a video shows: about the same rooms, with cameras.
NEED_VIDEO = ("spatio-temporal",)
ROOMS = "c96a34cc17e6"
HASHED = "id question options ground_truth problem_type categories map".split()
CHANGED = (
    "recipe {name} now asks other questions (hash {found}). If that is not meant, undo "
    "it. If it is, raise GENERATOR_VERSION in questions/generators.py, so that folders "
    "of the old questions are made anew, and put VERSION and QUESTIONS here right."
)


def with_video(scenes):
    drawn = [draw_room(seed) for seed in range(8)]
    shown = [
        walk_footage(room, one.instances)
        for room, one in zip(drawn, scenes, strict=False)
    ]
    return [
        dataclasses.replace(
            one,
            footage=footage,
            instances=[
                dataclasses.replace(instance, first_seen_frame=frame)
                for instance, frame in zip(
                    one.instances, footage.first_seen(), strict=True
                )
            ],
        )
        for one, footage in zip(scenes, shown, strict=False)
    ]


@pytest.mark.parametrize("name", setting_names(RECIPES))
def test_other_questions_have_another_generator_version(name, scenes, tmp_path):
    """Options, letters, words, answers and maps, and which questions are chosen."""
    rooms = config_hash([scene.to_meta() for scene in scenes])
    assert rooms == ROOMS, "the rooms changed: put ROOMS and QUESTIONS right"
    if name in NEED_VIDEO:
        scenes = with_video(scenes)
    report = build_dataset(scenes, tmp_path, name)
    rows = [
        {key: row[key] for key in HASHED}
        for path in report["paths"].values()
        for row in read_questions(path)
    ]
    found = config_hash(rows)
    assert len(rows) > 50
    assert GENERATOR_VERSION == VERSION, "put VERSION and QUESTIONS right"
    assert found == QUESTIONS.get(name), CHANGED.format(name=name, found=found)
