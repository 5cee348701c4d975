"""No spelling of a VSI-Bench room passes for a room to train on."""

import json
import os
from pathlib import Path

import pytest
from support import refused

from spacer_lib.rooms.identity import (
    Room,
    benchmark_room,
    benchmark_rooms,
    dataset_name,
    question_room,
    require_no_benchmark_rooms,
)

SCANNET = Room("scannet", "scene0011")


def test_every_room_of_the_three_data_sets_is_there():
    counts = {name: len(rooms) for name, rooms in benchmark_rooms().items()}
    assert counts == {"scannet": 707 - 565, "scannetpp": 50, "arkitscenes": 150}


def real_ids():
    """The benchmark's scene ids, which lie beside the real metadata."""
    meta = os.environ.get("SPACER_REAL_META")
    path = meta and Path(meta).with_name("vsibench_scene_ids.json")
    if not path or not path.is_file():
        pytest.skip("SPACER_REAL_META is unset, or has no vsibench_scene_ids.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("dataset", [None, "unknown", "named"])
def test_all_288_published_names_are_known(dataset):
    ids = real_ids()
    names = [(name, kind) for kind, found in ids.items() for name in found]
    assert len(names) == 288
    for name, kind in names:
        room = benchmark_room(name, kind if dataset == "named" else dataset)
        assert room is not None and room.dataset == kind


@pytest.mark.parametrize(
    "name",
    [
        "scene0011_00",
        "scene0011",
        "SCENE0011_07",
        "scene0011_00.mp4",
        "scans/scene0011_00/scene0011_00_vh_clean_2.ply",
        "videos\\Scene0011_00.mp4",
        " scene0011_00 ",
        "scene00011_00",
        "scene0011_00:object_counting:3",
        "scannet_scene0011_00",
        "scene 0011_00",
        "Scene-0011 00",
        "scene_0011_00",
        "scene11",
        "scene0011a",
        "ｓｃｅｎｅ００１１＿００",
        "https://host/scans/scene0011_00.mp4",
        "file:///data/scannet/scene0011_00.mp4",
        "scans%2Fscene0011%5F00",
    ],
)
@pytest.mark.parametrize("dataset", ["scannet", "ScanNet", None, "video-r1", "mine"])
def test_spellings_of_a_scan(name, dataset):
    assert benchmark_room(name, dataset) == SCANNET


@pytest.mark.parametrize("dataset", ["scannet", "ScanNet", "scannet_v2", None, ""])
@pytest.mark.parametrize("name", ["0011_00", "11_00", "0011_00.mp4", "x/0011_00"])
def test_a_scan_without_its_first_word(name, dataset):
    assert benchmark_room(name, dataset) == SCANNET


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("scene0000_00", "scannet"),  # a training scan
        ("scene10011_00", "synthetic"),
        ("scene100110_00", None),
        ("0011_00", "video-r1"),  # digits alone, of a data set of its own
        ("41069021", "video-r1"),
        ("room://scene0011", None),  # drawn from a seed
        ("0011", None),
        ("obscene0011", "scannet"),
        ("movie scene 11.mp4", "video-r1"),
        ("scene 11th of june", None),
        (41069021, "video-r1"),
        (True, None),
        (None, "scannet"),
        ("", None),
    ],
)
def test_other_rooms_pass(name, dataset):
    assert benchmark_room(name, dataset) is None


def test_names_of_digits_count_in_their_own_data_set_and_in_an_unknown_one():
    name = min(benchmark_rooms()["arkitscenes"])
    room = Room("arkitscenes", name)
    assert benchmark_room(name, "ARKitScenes") == room
    assert benchmark_room(name) == room
    assert benchmark_room(f"arkitscenes/{name}.mp4", "video-r1") == room
    assert benchmark_room(name, "video-r1") is None
    assert benchmark_room(int(name), "ARKit Scenes") == room
    for unknown in ("SR-91k", "vsibench", "arkitscenes_val"):
        assert benchmark_room(name, unknown) == room
        assert benchmark_room("0011_00", unknown) == SCANNET
        assert benchmark_room(name, unknown, allowed=[unknown]) is None


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("7B6477CB95", "ScanNet++"),
        ("7b6477cb95.mp4", "scannetpp"),
        ("videos/7B6477CB95/dslr", None),
        ("scannetpp_7b6477cb95", "ScanNet plus plus"),
    ],
)
def test_spellings_of_a_room_of_scannetpp(name, dataset):
    assert str(benchmark_room(name, dataset)) == "scannetpp 7b6477cb95"


def test_a_data_set_is_allowed_by_name_but_none_of_the_three():
    assert benchmark_room("scene0011_00", "Mine", allowed=["mine"]) is None
    assert benchmark_room("scene0011_00", None, allowed=["mine"]) == SCANNET
    assert benchmark_room("scene0011_00", "scannet", allowed=["scannet"]) == SCANNET


def test_spellings_of_data_sets():
    names = ["ScanNet", "scan-net", "ScanNet v2", "ScanNet++", "ScanNetPP", "arkit"]
    found = [dataset_name(name) for name in names]
    assert found == ["scannet"] * 3 + ["scannetpp"] * 2 + ["arkitscenes"]


@pytest.mark.parametrize(
    "row",
    [
        {"id": "1", "scene_name": "scene0011_00"},
        {"id": "scene0011_00:room:0", "scene_name": None},
        {"id": "1", "scene_name": None, "video": "scannet/scene0011_00.mp4"},
        {"id": "1", "image": ["a.png", "frames/scene0011_00/12.jpg"]},
        {"id": "1", "path": "./scannet/scene0011_00.mp4"},
        {"problem_id": 1, "videos": ["scannet/scene0011_00.mp4"]},
        {"problem_id": 1, "videos": [{"video": "scene0011_00.mp4", "fps": 1}]},
        {"messages": [{"content": [{"video": "x/scene0011_00.mp4"}]}]},
        {"id": "1", "video": "https://host/scene0011_00.mp4"},
    ],
)
def test_a_question_shows_its_room_anywhere(row):
    assert question_room(row) == SCANNET
    with refused("rooms.benchmark-room", says="scene0011"):
        require_no_benchmark_rooms("x", [("scene0011_00", question_room(row))], "y")


def test_words_of_a_question_are_no_names():
    row = {"id": "1", "question": "What is in scene0011?", "ground_truth": "41069025"}
    assert question_room(row) is None


def test_no_room_is_no_error():
    require_no_benchmark_rooms("x", [], "y")
