"""Camera displacements in VSTI-Bench's schema: synthetic rows, two lengths."""

import dataclasses

import numpy as np
import pytest
from samples.filmed import walk_footage
from support import refused

from spacer_lib import cli
from spacer_lib.artifacts import read_json, write_json
from spacer_lib.questions.vsti import CENTER, ORIGIN, audit_displacements, read_poses
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene

SCAN = "scene0011_00"


def turned(degrees, place):
    """(4, 4) pose, as lists: turned about z, then moved."""
    angle = np.radians(degrees)
    T = np.eye(4)
    T[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    T[:3, 3] = place
    return T.tolist()


# The camera moves by 3 m along x and 4 m along y, and turns by a quarter to the left.
# By hand: -Rᵀt is (-1, -1, 0) first and (-5, 4, 0) then, sqrt(16 + 25) = 6.4 m away.
FRAMES = [
    {"frame_id": 0, "camera_pose_camera_to_world": turned(0, (1, 1, 0))},
    {"frame_id": 20, "camera_pose_camera_to_world": None},
    {"frame_id": 40, "camera_pose_camera_to_world": turned(90, (4, 5, 0))},
    {"frame_id": 60, "camera_pose_camera_to_world": turned(90, (4, 5.02, 0))},
]


def row(truth, **changes):
    """A row with the keys that VLM-3R's generator writes."""
    return {
        "dataset": "scannet",
        "scene_name": SCAN,
        "video_path": f"scannet/videos/val/{SCAN}.mp4",
        "frame_indices": [0, 40],
        "question_type": "camera_displacement",
        "question": "Approximately how far (in meters) did the camera move between "
        "frame 1 and frame 2 of 4?",
        "options": ["A. 5.0", "B. 6.4", "C. 2.2", "D. 9.1"],
        "ground_truth": truth,
        "mc_answer": "A",
    } | changes


def audited(tmp_path, rows, frames=FRAMES):
    write_json(tmp_path / "rows.json", rows)
    write_json(tmp_path / "frames.json", {SCAN: {"frames": frames}})
    return audit_displacements(tmp_path / "rows.json", tmp_path / "frames.json")


def test_the_two_lengths_by_hand(tmp_path):
    found = audited(tmp_path, [row(5.0), row("5.0"), row(6.4), row(2.2)])
    assert found["tasks"] == {"camera_displacement": {"rows": 4, "exact": 2}}
    assert found["equal"] == {CENTER: 2, ORIGIN: 1}
    assert [(d["ours"], d["official"]) for d in found["disagreements"]] == [
        ("5.0", 6.4),
        ("5.0", 2.2),
    ]
    notes = [d["note"] for d in found["disagreements"]]
    assert ORIGIN in notes[0] and notes[1] is None


def test_places_count_the_frames_with_a_pose(tmp_path):
    """As in the released file: no scene_name, no frame_indices, answers as texts."""
    bare = row("5.0")
    del bare["scene_name"], bare["frame_indices"]
    assert audited(tmp_path, [bare])["equal"][CENTER] == 1
    later = bare | {"question": bare["question"].replace("frame 2", "frame 3")}
    assert audited(tmp_path, [later])["tasks"]["camera_displacement"]["rows"] == 1
    beyond = bare | {"question": bare["question"].replace("frame 2", "frame 4")}
    found = audited(tmp_path, [beyond])
    assert found["tasks"] == {} and sum(found["skipped"].values()) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"scene_name": "scene0012_00"}, "scan's poses"),
        ({"frame_indices": [0, 20]}, "no pose of a frame"),
        ({"frame_indices": [0, 41]}, "no pose of a frame"),
        ({"frame_indices": None, "question": "How far?"}, "not named"),
        ({"question_type": "camera_obj_abs_dist"}, "camera_obj_abs_dist"),
    ],
)
def test_rows_that_poses_do_not_fix_are_counted(changes, says, tmp_path):
    found = audited(tmp_path, [row(5.0, **changes)])
    assert found["tasks"] == {} and not found["disagreements"]
    ((reason, count),) = found["skipped"].items()
    assert says in reason and count == 1


def filmed():
    room = draw_room(3)
    scene = to_scene(room, VIEWS["walk"])
    return dataclasses.replace(scene, footage=walk_footage(room, scene.instances))


def test_our_own_scenes_supply_poses(tmp_path):
    scene = filmed()
    write_json(tmp_path / "meta.json", {scene.scene_id: scene.to_meta()})
    first, last = scene.footage.frames[0], scene.footage.frames[-1]
    moved = scene.footage.centers_m[-1] - scene.footage.centers_m[0]
    truth = round(float(np.linalg.norm(moved)), 1)
    mine = row(truth, scene_name=scene.scene_id, frame_indices=[first, last])
    write_json(tmp_path / "rows.json", [mine, mine | {"frame_indices": None}])
    found = audit_displacements(tmp_path / "rows.json", tmp_path / "meta.json")
    assert found["equal"][CENTER] == 1 == found["tasks"]["camera_displacement"]["exact"]
    ((reason, _),) = found["skipped"].items()
    assert "frame metadata" in reason


@pytest.mark.parametrize(
    "frames",
    [
        [],
        None,
        [{"camera_pose_camera_to_world": turned(0, (0, 0, 0))}],
        [FRAMES[0], FRAMES[0]],
        [{"frame_id": 0, "camera_pose_camera_to_world": [[1, 2], [3, 4]]}],
        [{"frame_id": 0, "camera_pose_camera_to_world": (2 * np.eye(4)).tolist()}],
        [{"frame_id": 0, "camera_pose_camera_to_world": "pose"}],
    ],
)
def test_frame_metadata_that_cannot_be_used(frames, tmp_path):
    write_json(tmp_path / "frames.json", {SCAN: {"frames": frames}})
    if frames == []:
        assert read_poses(tmp_path / "frames.json")[0][SCAN].frames == []
        return
    with refused("questions.no-pose", says=SCAN):
        read_poses(tmp_path / "frames.json")
    # Beside a scan that can be used it costs its own rows only.
    good = {"scene0012_00": {"frames": FRAMES}, SCAN: {"frames": frames}}
    write_json(tmp_path / "frames.json", good)
    poses, wrong = read_poses(tmp_path / "frames.json")
    assert list(poses) == ["scene0012_00"] and list(wrong) == [SCAN]


@pytest.mark.parametrize(
    "rows", [{"a": 1}, [1], [row(None)], [row("far")], [row(float("nan"))]]
)
def test_rows_of_another_form_are_an_error(rows, tmp_path):
    write_json(tmp_path / "frames.json", {SCAN: {"frames": FRAMES}})
    write_json(tmp_path / "rows.json", rows)
    with refused("questions.no-vsti-rows"):
        audit_displacements(tmp_path / "rows.json", tmp_path / "frames.json")


def test_the_command(tmp_path, capsys):
    audited(tmp_path, [row(5.0), row(6.4), row(1.0, question_type="other")])
    words = ["extras", "audit", "--meta", str(tmp_path / "frames.json")]
    words += ["--questions", str(tmp_path / "rows.json")]
    out = tmp_path / "out.json"
    more = ["--kind", "camera_displacement", "--json", str(out)]
    assert cli.main([*words, *more]) == 0
    said = capsys.readouterr().out
    assert f"equal to the length of {CENTER}: 1" in said and "skipped" not in said
    assert read_json(out)["equal"] == {CENTER: 1, ORIGIN: 1}
    assert cli.main([*words, "--kind", "camera_displacemen"]) == 2
    assert "camera_displacement" in capsys.readouterr().err
