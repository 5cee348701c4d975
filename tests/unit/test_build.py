"""Scan folders to question files: resuming, refusing, splitting, writing."""

import dataclasses
import json
import shutil

import pytest

from spacer_lib.artifacts import read_json, read_jsonl
from spacer_lib.errors import SpacerError
from spacer_lib.qa import build
from spacer_lib.qa.build import build_dataset, demo_scans, parse_scans
from spacer_lib.qa.dataset import space_of
from spacer_lib.scannet.parse import AGGREGATION
from spacer_lib.scene import Scene
from spacer_lib.synthetic.light import VIEWS, to_scene
from spacer_lib.synthetic.rooms import draw_room
from spacer_lib.video import probe


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    return root, *demo_scans(root, count=3, seed=2)


@pytest.fixture
def copied(demo, tmp_path):
    """The demo scans, to be damaged."""
    _, scan_dirs, label_tsv = demo
    return [shutil.copytree(d, tmp_path / "in" / d.name) for d in scan_dirs], label_tsv


@pytest.fixture(scope="module")
def scenes():
    rooms = [draw_room(seed) for seed in range(8)]
    rescan = draw_room(3, scene_id="scene0003_01")
    return [to_scene(room, VIEWS["walk"]) for room in [*rooms, rescan]]


def test_demo_scans_hold_a_rescan_and_are_written_once(demo):
    root, scan_dirs, label_tsv = demo
    names = [folder.name for folder in scan_dirs]
    assert names == ["scene2000_00", "scene2001_00", "scene2000_01"]
    assert label_tsv.is_file()
    before = [p.stat().st_mtime_ns for d in scan_dirs for p in d.iterdir()]
    assert demo_scans(root, count=3, seed=2) == (scan_dirs, label_tsv)
    assert before == [p.stat().st_mtime_ns for d in scan_dirs for p in d.iterdir()]
    train = (root / "scannetv2_train.txt").read_text().split()
    val = (root / "scannetv2_val.txt").read_text().split()
    assert sorted(train + val) == sorted(names)
    assert not {space_of(s) for s in train} & {space_of(s) for s in val}


@pytest.mark.parametrize("count, seed", [(0, 0), (2, -1)])
def test_demo_scans_refuse_nonsense(tmp_path, count, seed):
    with pytest.raises(SpacerError, match="demo scans"):
        demo_scans(tmp_path, count, seed)


def test_parsing_writes_videos_and_scenes_that_read_back(demo, tmp_path):
    _, scan_dirs, label_tsv = demo
    scenes = parse_scans(scan_dirs, label_tsv, tmp_path)
    assert [scene.scene_id for scene in scenes] == [d.name for d in scan_dirs]
    for scene in scenes:
        video = probe(tmp_path / "videos" / f"{scene.scene_id}.mp4")
        assert (video.frame_count, video.fps) == (scene.frame_count, 24.0) == (96, 24.0)
        assert scene.video_path == f"videos/{scene.scene_id}.mp4"
        content = read_json(tmp_path / "scenes" / f"{scene.scene_id}.json")
        assert set(content) == {scene.scene_id}
        read = Scene.from_meta(scene.scene_id, content[scene.scene_id])
        # The file groups by category: instances come back sorted by their ids.
        assert {i.instance_id: i for i in read.instances} == {
            i.instance_id: i for i in scene.instances
        }
        for name in ("room_size_m2", "video_path", "object_counts", "frame_count"):
            assert getattr(read, name) == getattr(scene, name)
        truth = to_scene(draw_room(2000 if "2000" in scene.scene_id else 2001))
        assert scene.object_counts == truth.object_counts
        assert scene.room_size_m2 == pytest.approx(truth.room_size_m2, rel=0.02)


def test_a_second_run_reads_and_a_changed_scan_is_parsed_again(
    copied, tmp_path, monkeypatch
):
    scan_dirs, label_tsv = copied
    first = parse_scans(scan_dirs, label_tsv, tmp_path / "out")
    parsed = []
    real = build.parse_scene

    def counted(scan_dir, *args, **kwargs):
        parsed.append(scan_dir.name)
        return real(scan_dir, *args, **kwargs)

    monkeypatch.setattr(build, "parse_scene", counted)
    again = parse_scans(scan_dirs, label_tsv, tmp_path / "out")
    assert parsed == []
    assert [s.object_counts for s in again] == [s.object_counts for s in first]
    text = scan_dirs[1] / f"{scan_dirs[1].name}.txt"
    text.write_text(text.read_text() + "note = touched\n")
    (tmp_path / "out" / "videos" / f"{scan_dirs[2].name}.mp4").unlink()
    parse_scans(scan_dirs, label_tsv, tmp_path / "out")
    assert parsed == [scan_dirs[1].name, scan_dirs[2].name]
    monkeypatch.setattr(build, "PARSER_VERSION", "next")
    parse_scans(scan_dirs, label_tsv, tmp_path / "out")
    assert len(parsed) == 5


def test_a_broken_scan_stops_but_earlier_ones_stay_done(copied, tmp_path):
    scan_dirs, label_tsv = copied
    bad = scan_dirs[1]
    (bad / f"{bad.name}{AGGREGATION}").unlink()
    with pytest.raises(SpacerError, match="aggregation.json is missing"):
        parse_scans(scan_dirs, label_tsv, tmp_path / "out")
    done = read_json(tmp_path / "out" / "manifest.json")["entries"]
    assert list(done) == [scan_dirs[0].name]
    assert not (tmp_path / "out" / "videos" / f"{bad.name}.mp4").exists()


def test_a_missing_folder_is_the_parsers_error(demo, tmp_path):
    with pytest.raises(SpacerError, match="is missing"):
        parse_scans([tmp_path / "scene9999_00"], demo[2], tmp_path / "out")


def test_dataset_files_are_what_the_report_says(scenes, tmp_path):
    report = build_dataset(scenes, tmp_path, seed=1)
    written = read_json(tmp_path / "report.json")
    assert written["counts"] == report["counts"] and "commit" in written["provenance"]
    total = {(r["question_type"], r["reason"]): r["count"]
             for r in written["rejections"]}  # fmt: skip
    assert total == dict(report["rejections"]) and total
    spaces = {}
    for part, path in report["paths"].items():
        rows = read_jsonl(path)
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
        with pytest.raises(SpacerError, match="share physical spaces"):
            build_dataset(scenes, tmp_path / "b", held_out_ids=[planted])
    assert not (tmp_path / "b").exists()
    build_dataset(scenes, tmp_path / "c", held_out_ids=report["scenes"]["test"])


def test_repeats_are_refused(scenes, tmp_path, monkeypatch):
    with pytest.raises(SpacerError, match="unique ids"):
        build_dataset([scenes[0], scenes[0]], tmp_path)

    def doubled(scene, *args, **kwargs):
        rows, rejections = build_question_rows(scene, *args, **kwargs)
        return [*rows, rows[-1]], rejections

    build_question_rows = build.question_rows
    monkeypatch.setattr(build, "question_rows", doubled)
    with pytest.raises(SpacerError, match="same question twice"):
        build_dataset(scenes, tmp_path)
    assert not (tmp_path / "train.jsonl").exists()


def test_counting_answers_are_flattened_on_train_only(tmp_path):
    rooms = [to_scene(draw_room(seed), with_boxes=False) for seed in range(60)]
    report = build_dataset(rooms, tmp_path, per_task={"object_counting": 9})
    before = {  # the same scenes, all of them for testing
        row["id"]
        for row in read_jsonl(
            build_dataset(rooms, tmp_path / "all", fractions={"test": 1.0},
                          per_task={"object_counting": 9})["paths"]["test"]
        )
    }  # fmt: skip
    kept = [row for p in report["paths"].values() for row in read_jsonl(p)]
    assert {row["id"] for row in kept} <= before
    assert len(before) - len(kept) == report["flattened"] > 0


def test_rows_carry_map_and_video(scenes, tmp_path):
    filmed = [dataclasses.replace(s, video_path=f"videos/{s.scene_id}.mp4")
              for s in scenes]  # fmt: skip
    report = build_dataset(filmed, tmp_path)
    row = json.loads(report["paths"]["test"].read_text().splitlines()[0])
    assert row["video"] == f"videos/{row['scene_name']}.mp4"
    assert all(0 <= x < 10 and 0 <= y < 10 for c in row["map"].values() for x, y in c)
