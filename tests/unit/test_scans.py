"""Scan folders → videos and scenes: resuming, errors, several workers."""

import dataclasses
import json
import os
import shutil

import pytest
from support import refused

from spacer_lib import cli
from spacer_lib.artifacts import read_json, write_json
from spacer_lib.errors import SpacerError
from spacer_lib.rooms import scans as scanning
from spacer_lib.rooms.scannet.parse import AGGREGATION
from spacer_lib.rooms.scans import (
    parse_scans,
    read_scenes,
    synthetic_meta,
    synthetic_scans,
    try_scans,
    try_scenes,
)
from spacer_lib.rooms.scene import read_meta_file, space_of
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene
from spacer_lib.rooms.video import probe, read_frame_times


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    return root, *synthetic_scans(root, count=3, seed=1)


@pytest.fixture
def copied(demo, tmp_path):
    """The demo scans, to be damaged."""
    _, scan_dirs, label_tsv = demo
    return [shutil.copytree(d, tmp_path / "in" / d.name) for d in scan_dirs], label_tsv


def test_synthetic_scans_hold_a_rescan_and_are_written_once(demo):
    root, scan_dirs, label_tsv = demo
    names = [folder.name for folder in scan_dirs]
    assert names == ["scene20000_00", "scene20001_00", "scene20000_01"]
    assert label_tsv.is_file()
    before = [p.stat().st_mtime_ns for d in scan_dirs for p in d.iterdir()]
    assert synthetic_scans(root, count=3, seed=1) == (scan_dirs, label_tsv)
    assert before == [p.stat().st_mtime_ns for d in scan_dirs for p in d.iterdir()]
    train = (root / "scannetv2_train.txt").read_text().split()
    val = (root / "scannetv2_val.txt").read_text().split()
    assert sorted(train + val) == sorted(names)
    assert not {space_of(s) for s in train} & {space_of(s) for s in val}


def test_a_scan_that_an_older_version_wrote_is_written_again(copied, tmp_path):
    root = shutil.move(tmp_path / "in", tmp_path / "scans")
    scan = root / copied[0][0].name
    text = scan / f"{scan.name}.txt"
    text.write_text(text.read_text().replace("Synthetic 2", "Synthetic"))
    (scan / f"{scan.name}.sens").write_bytes(b"old")
    others = {p: p.stat().st_mtime_ns for p in root.rglob("*.sens") if p.parent != scan}
    synthetic_scans(tmp_path, count=3, seed=1)
    assert "Synthetic 2" in text.read_text()
    assert (scan / f"{scan.name}.sens").stat().st_size > 1000
    assert others == {p: p.stat().st_mtime_ns for p in others} and len(others) == 2


@pytest.mark.parametrize("count, seed", [(0, 0), (2, -1)])
def test_synthetic_scans_refuse_nonsense(tmp_path, count, seed):
    with refused("rooms.synthetic-count", says=f"count {count}, seed {seed}"):
        synthetic_scans(tmp_path, count, seed)


def test_parsing_writes_videos_and_scenes_that_read_back(demo, tmp_path):
    _, scan_dirs, label_tsv = demo
    scenes = parse_scans(scan_dirs, label_tsv, tmp_path)
    assert [scene.scene_id for scene in scenes] == [d.name for d in scan_dirs]
    for scene in scenes:
        mp4 = tmp_path / "videos" / f"{scene.scene_id}.mp4"
        video, times = probe(mp4), read_frame_times(mp4.with_suffix(".frames.csv"))
        assert (video.frame_count, video.fps) == (scene.frame_count, 24.0) == (96, 24.0)
        assert [row.time_s for row in times] == pytest.approx(
            [frame / 24 for frame in range(96)], abs=1e-6
        )
        assert scene.video_path == f"videos/{scene.scene_id}.mp4"
        assert scene.duration_s == 4.0
        truth = to_scene(draw_room(20000 if "20000" in scene.scene_id else 20001))
        assert scene.object_counts == truth.object_counts
        assert scene.room_size_m2 == pytest.approx(truth.room_size_m2, rel=0.02)


def test_workers_and_a_cluster_write_the_same_bytes(demo, tmp_path):
    from dask.distributed import Client, LocalCluster

    _, scan_dirs, label_tsv = demo
    parse_scans(scan_dirs, label_tsv, tmp_path / "one", video=False)
    parse_scans(scan_dirs, label_tsv, tmp_path / "two", workers=2, video=False)
    with (
        LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        parse_scans(scan_dirs, label_tsv, tmp_path / "dask", client=client, video=False)
    first = {
        p.relative_to(tmp_path / "one"): p.read_bytes()
        for p in (tmp_path / "one").rglob("*.json")
    }
    assert len(first) == 4  # three scenes and the manifest
    for other in ("two", "dask"):
        for name, content in first.items():
            assert (tmp_path / other / name).read_bytes() == content, (other, name)


def test_a_second_run_reads_and_a_changed_scan_is_parsed_again(
    copied, tmp_path, monkeypatch
):
    scan_dirs, label_tsv = copied
    first = parse_scans(scan_dirs, label_tsv, tmp_path / "out")
    parsed = []
    real = scanning.parse_scene

    def counted(scan_dir, *args, **kwargs):
        parsed.append(scan_dir.name)
        return real(scan_dir, *args, **kwargs)

    monkeypatch.setattr(scanning, "parse_scene", counted)
    again = parse_scans(scan_dirs, label_tsv, tmp_path / "out")
    assert parsed == []
    assert [s.object_counts for s in again] == [s.object_counts for s in first]
    text = scan_dirs[1] / f"{scan_dirs[1].name}.txt"
    text.write_text(text.read_text() + "note = touched\n")
    (tmp_path / "out" / "videos" / f"{scan_dirs[2].name}.mp4").unlink()
    parse_scans(scan_dirs, label_tsv, tmp_path / "out")
    assert parsed == [scan_dirs[1].name, scan_dirs[2].name]
    monkeypatch.setattr(scanning, "PARSER_VERSION", "next")
    parse_scans(scan_dirs, label_tsv, tmp_path / "out")
    assert len(parsed) == 5


def test_broken_scans_are_named_and_the_others_done(copied, tmp_path):
    scan_dirs, label_tsv = copied
    bad = scan_dirs[1]
    (bad / f"{bad.name}{AGGREGATION}").unlink()
    with refused("rooms.no-aggregation", says=bad.name):
        parse_scans(scan_dirs, label_tsv, tmp_path / "out", video=False)
    done = read_json(tmp_path / "out" / "manifest.json")["entries"]
    assert list(done) == sorted([scan_dirs[0].name, scan_dirs[2].name])
    assert not (tmp_path / "out" / "scenes" / f"{bad.name}.json").exists()
    (scan_dirs[0] / f"{scan_dirs[0].name}.txt").unlink()
    with refused("rooms.scans-failed", says="2 of 3") as caught:
        parse_scans(scan_dirs, label_tsv, tmp_path / "out", video=False)
    assert bad.name in caught.value.got and scan_dirs[0].name in caught.value.got


def break_nesting(scan):
    (scan / f"{scan.name}{AGGREGATION}").write_text("[" * 200_000)


def break_number(scan):
    path = scan / f"{scan.name}{AGGREGATION}"
    path.write_text(
        path.read_text().replace('"objectId": 1,', f'"objectId": {"1" * 5000},')
    )


def break_zip_method(scan):
    path = scan / f"{scan.name}_2d-instance-filt.zip"
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        data[at + 10 : at + 12] = (97).to_bytes(2, "little")
        at = data.find(b"PK\x01\x02", at + 4)
    path.write_bytes(bytes(data))


def break_member(scan):
    path = scan / f"{scan.name}_2d-instance-filt.zip"
    data = path.read_bytes()
    path.write_bytes(data[:2000] + data[-len(data) // 2 :])


def break_into_folder(scan):
    path = scan / f"{scan.name}_vh_clean_2.0.010000.segs.json"
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [break_nesting, break_number, break_zip_method, break_member, break_into_folder],
)
def test_one_bad_file_costs_one_scan(copied, tmp_path, damage):
    scan_dirs, label_tsv = copied
    damage(scan_dirs[0])
    scenes, failures = try_scans(scan_dirs, label_tsv, tmp_path / "out", video=False)
    assert [s.scene_id for s in scenes] == [d.name for d in scan_dirs[1:]]
    assert list(failures) == [scan_dirs[0].name]
    assert scan_dirs[0].name in str(failures[scan_dirs[0].name])
    with pytest.raises(SpacerError):
        parse_scans(scan_dirs, label_tsv, tmp_path / "out", video=False)


@pytest.mark.parametrize("error", [RecursionError, MemoryError, OSError, KeyError])
def test_any_failure_is_that_of_its_scan(copied, tmp_path, monkeypatch, error):
    scan_dirs, label_tsv = copied
    real = scanning.parse_scene

    def fails(scan_dir, *args):
        if scan_dir.name == scan_dirs[1].name:
            raise error("what a library says\nover two lines")
        return real(scan_dir, *args)

    monkeypatch.setattr(scanning, "parse_scene", fails)
    with refused("rooms.scan-failed", says=scan_dirs[1].name) as caught:
        parse_scans(scan_dirs, label_tsv, tmp_path / "out", video=False)
    assert error.__name__ in caught.value.got
    done = read_json(tmp_path / "out" / "manifest.json")["entries"]
    assert list(done) == sorted([scan_dirs[0].name, scan_dirs[2].name])


def test_a_recording_that_cannot_be_encoded_costs_the_video_alone(copied, tmp_path):
    (scan, *_), label_tsv = copied
    (whole,) = parse_scans([scan], label_tsv, tmp_path / "whole", video=False)
    recording = scan / f"{scan.name}.sens"
    data = bytearray(recording.read_bytes())
    at = 12 + int.from_bytes(data[4:12], "little") + 256
    data[at : at + 4] = bytes(4)  # colour compression: raw
    recording.write_bytes(bytes(data))
    (scene,) = parse_scans([scan], label_tsv, tmp_path / "out")
    assert scene.instances == whole.instances and scene.video_path is None
    assert scene.warnings[-1].startswith("no video") and scene.camera_path_m


def test_one_bad_room_costs_one_room(tmp_path):
    good = read_json(synthetic_meta(tmp_path / "good.json", 3))
    first, second, third = good
    bad = good[second] | {"room_size": "large"}
    write_json(tmp_path / "many.json", good | {second: bad})
    scenes, failures = try_scenes(tmp_path / "many.json")
    assert [scene.scene_id for scene in scenes] == sorted({first, third})
    ((place, error),) = failures.items()
    assert place == f"{tmp_path / 'many.json'}: {second}"
    assert error.kind == "rooms.meta-form" and f"{place}.room_size" in str(error)
    folder = tmp_path / "folder"
    for name, meta in good.items():
        write_json(folder / f"{name}.json", {name: meta})
    (folder / f"{second}.json").write_text("[" * 200_000)
    (folder / "more.json").write_text("[1]")
    write_json(folder / "z.json", {third: good[third], "x": None})
    scenes, failures = try_scenes(folder)
    assert [scene.scene_id for scene in scenes] == [first]
    kinds = {place.rsplit("/")[-1]: error.kind for place, error in failures.items()}
    assert kinds == {
        f"{second}.json": "artifacts.not-json",
        "more.json": "rooms.not-a-meta-file",
        f"z.json: {third}": "rooms.scene-twice",
        "z.json: x": "rooms.meta-form",
    }


def test_a_room_that_one_file_has_twice(tmp_path):
    good = read_json(synthetic_meta(tmp_path / "good.json", 3))
    first, second, _ = good
    texts = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in good.items()]
    path = tmp_path / "twice.json"
    path.write_text("{" + ", ".join([*texts, texts[0]]) + "}")
    scenes, failures = try_scenes(path)
    assert first not in [scene.scene_id for scene in scenes] and len(scenes) == 2
    assert failures[f"{path}: {first}"].kind == "rooms.scene-twice"
    text = json.dumps(good[second])
    path.write_text(
        f'{{"{second}": {text[:-1]}, "room_size": 5.0}}, "{first}": {texts[0][17:]}}}'
    )
    scenes, failures = try_scenes(path)
    assert failures[f"{path}: {second}"].kind == "rooms.key-twice"
    assert [scene.scene_id for scene in scenes] == [first]


def test_the_command_makes_questions_of_the_other_rooms(tmp_path, capsys):
    good = read_json(synthetic_meta(tmp_path / "good.json", 4))
    names = list(good)
    write_json(tmp_path / "many.json", good | {names[1]: {"room_size": None}})
    words = ["qa", "--meta", str(tmp_path / "many.json"), "--recipe", "demo"]
    words += ["--out", str(tmp_path / "qa"), "--no-figures"]
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert f"many.json: {names[1]}" in said.err and "Traceback" not in said.err
    used = read_json(tmp_path / "qa" / "report.json")["scenes"]
    assert sorted(sum(used.values(), [])) == sorted({*names} - {names[1]})
    write_json(tmp_path / "many.json", {names[1]: [], names[0]: 5})
    assert cli.main([*words[:-1], "--out", str(tmp_path / "b"), words[-1]]) == 2
    assert "2 of 2 rooms could not be read" in capsys.readouterr().err


def test_scans_that_fail_for_one_reason_share_a_line(copied, tmp_path):
    scan_dirs, _ = copied
    table = tmp_path / "absent.tsv"
    with refused("rooms.scans-failed", says="3 of 3") as caught:
        parse_scans(scan_dirs, table, tmp_path / "out", video=False)
    assert caught.value.got.count(str(table)) == 1


def respelled(scan, name):
    """A copy of the scan's folder under another name, files included."""
    copy = shutil.copytree(scan, scan.with_name(name))
    for path in list(copy.iterdir()):
        path.rename(path.with_name(path.name.replace(scan.name, name)))
    return copy


@pytest.mark.parametrize("name", ["20000_00", "Scene20000_00", "scene020000_00"])
def test_two_spellings_of_a_scan_are_refused_together(copied, tmp_path, name):
    scan_dirs, label_tsv = copied
    twin = respelled(scan_dirs[0], name)
    folders, out = [*scan_dirs, twin], tmp_path / "out"
    scenes, failures = try_scans(folders, label_tsv, out, video=False)
    assert [s.scene_id for s in scenes] == [d.name for d in scan_dirs[1:]]
    assert set(failures) == {scan_dirs[0].name, name}
    for error in failures.values():
        assert error.kind == "rooms.same-scan-twice"
        assert str(scan_dirs[0]) in error.got and str(twin) in error.got


def test_a_second_spelling_does_not_overwrite_an_earlier_run(copied, tmp_path):
    scan_dirs, label_tsv = copied
    out = tmp_path / "out"
    parse_scans(scan_dirs[:1] * 2, label_tsv, out, video=False)  # given twice: once
    with refused("rooms.same-scan-twice", says=scan_dirs[0].name):
        parse_scans([respelled(scan_dirs[0], "20000_00")], label_tsv, out, video=False)
    assert parse_scans(scan_dirs[:1], label_tsv, out, video=False)


def test_a_missing_folder_is_the_parsers_error(demo, tmp_path):
    with refused("rooms.no-scan", says="scene9999_00"):
        parse_scans([tmp_path / "scene9999_00"], demo[2], tmp_path / "out")


def test_an_old_release_has_no_video(copied, tmp_path):
    scan_dirs, label_tsv = copied
    old = scan_dirs[0]
    for path in old.iterdir():
        if path.suffix in (".sens", ".zip"):
            path.unlink()
    text = old / f"{old.name}.txt"
    lines = [s for s in text.read_text().splitlines() if "axisAlignment" not in s]
    text.write_text("\n".join(lines))
    (scene,) = parse_scans([old], label_tsv, tmp_path / "out")
    assert scene.video_path is None and scene.duration_s is None
    assert not (tmp_path / "out" / "videos").exists()
    assert any("axisAlignment" in note for note in scene.warnings)
    groups = scene.provenance["groups"]
    named = sum(groups["structural"].values()) + sum(groups["unusable"].values())
    assert groups["annotated"] == groups["objects"] + named


def test_metadata_alone_equals_the_rooms(tmp_path):
    path = synthetic_meta(tmp_path / "meta.json", 12, seed=4)
    scenes = read_scenes(path)
    assert [s.scene_id for s in scenes][-1] == "scene50010_00" and len(scenes) == 12
    assert {s.space_id for s in scenes} == {f"scene{50000 + k}" for k in range(11)}
    truth = to_scene(draw_room(50003), VIEWS["walk"])
    read = next(s for s in scenes if s.scene_id == "scene50003_00")
    assert read.by_category().keys() == truth.by_category().keys()
    assert 20 <= read.duration_s <= 100
    frames = [i.first_seen_frame for i in read.instances]
    assert any(f is not None and f > 24 for f in frames)


def test_scenes_name_their_videos_from_where_rows_will_lie(demo, tmp_path):
    _, scan_dirs, label_tsv = demo
    parse_scans(scan_dirs[:1], label_tsv, tmp_path / "parsed")
    (scene,) = read_scenes(tmp_path / "parsed" / "scenes", tmp_path / "deep" / "qa")
    video = tmp_path / "deep" / "qa" / scene.video_path
    assert os.path.normpath(video) == str(
        tmp_path / "parsed" / "videos" / f"{scan_dirs[0].name}.mp4"
    )
    (plain,) = read_meta_file(tmp_path / "parsed" / "scenes")
    assert dataclasses.replace(plain, video_path=scene.video_path) == scene
    with refused("rooms.scene-twice", says=scene.scene_id):
        read_scenes([tmp_path / "parsed" / "scenes"] * 2)


def test_a_file_without_a_scene(tmp_path):
    write_json(tmp_path / "empty.json", {})
    with refused("rooms.no-scene"):
        read_scenes(tmp_path / "empty.json")
