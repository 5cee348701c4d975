"""ScanNet's files → ``Scene``, on a scan small enough to work out by hand."""

import csv
import json
import os
import shutil
import struct
import zipfile
import zlib

import cv2
import numpy as np
import plyfile
import pytest
from support import refused

from spacer_lib.artifacts import write_json as write_any_json
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.geometry import box_corners
from spacer_lib.rooms.scannet.frames2d import read_frame_numbers, read_instance_frames
from spacer_lib.rooms.scannet.labels import find_label, normalise_category, read_labels
from spacer_lib.rooms.scannet.parse import (
    parse_scene,
    read_alignment,
    read_groups,
    read_vertices,
)
from spacer_lib.rooms.scannet.splits import read_split, read_splits
from spacer_lib.rooms.scene import PARSER_VERSION, Scene, read_meta_file
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import VIEWS
from spacer_lib.rooms.synthetic.write import write_dataset_files
from spacer_lib.rooms.synthetic.write import write_scan as write_drawn_scan

# A quarter turn and a shift: aligned = (-y + 1, x + 2, z - 0.5).
ALIGNMENT = [0, -1, 0, 1, 1, 0, 0, 2, 0, 0, 1, -0.5, 0, 0, 0, 1]
TABLE = (
    "id\traw_category\tcategory\tcount\tnyu40id\tnyu40class\n"
    "1\twall\twall\t9\t1\twall\n"
    "3\tfloor\tfloor\t9\t2\tfloor\n"
    "10\toffice chair\toffice chair\t9\t5\tchair\n"
    '11\tchairs "\tchair\t9\t5\tchair\n'
    "14\tdesk\tdesk\t9\t14\tdesk\n"
    "56\ttrash can\ttrash can\t9\t39\tgarbage bin\n"
    "57\trecycling bin\trecycling bin\t9\t39\tgarbage bin\n"
    "58\tmouse\tmouse\t9\t40\totherprop\n"
    "59\tcouch\tcouch\t9\t6\tsofa\n"
)
SCAN = "scene0007_01"
FRAME_COUNT = 26
# Pictures have 8 x 4 pixels, depth images 4 x 4.
COLOR_K, DEPTH_K = np.diag([7.0, 7, 1, 1]), np.diag([4.0, 4, 1, 1])
COLOR_K[:2, 2], DEPTH_K[:2, 2] = (3.5, 1.5), (1.5, 1.5)


def grid(x, y, z, step=0.1):
    """Vertices of an axis-aligned box's lattice, ends included."""
    ticks = [
        np.linspace(lo, hi, max(2, round((hi - lo) / step) + 1)) for lo, hi in (x, y)
    ]
    ticks.append(np.unique(z))
    return np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)


def write_scan(
    root, *, alignment=ALIGNMENT, scene_id=f"scannet.{SCAN}", chair="chair", lost=()
):
    """Aligned frame: a 4 x 3 m floor, a 1 x 1 x 0.8 chair, a trash can, a wall."""
    pieces = [
        ("floor", grid((0, 4), (0, 3), (0,))),
        (chair, grid((1, 2), (1, 2), (0, 0.8))),
        ("trash can", grid((3, 3.4), (0.2, 0.6), (0, 0.5))),
        ("wall", grid((0, 4), (0, 0.1), (0, 2.4))),
    ]
    folder = root / "scans" / SCAN
    folder.mkdir(parents=True)
    text = "colorWidth = 8\n"
    if alignment is not None:
        text += f"axisAlignment = {' '.join(map(str, alignment))}\n"
    (folder / f"{SCAN}.txt").write_text(text + "sceneType = Office\n")

    aligned = np.concatenate([points for _, points in pieces])
    T = np.array(ALIGNMENT if alignment is None else alignment).reshape(4, 4)
    points = aligned if alignment is None else (aligned - T[:3, 3]) @ T[:3, :3]
    vertex = np.zeros(
        len(points), [(k, "f4") for k in "xyz"] + [(k, "u1") for k in COLORS]
    )
    for axis, name in enumerate("xyz"):
        vertex[name] = points[:, axis]
    face = np.array([([0, 1, 2],)], dtype=[("vertex_indices", "i4", (3,))])
    elements = [
        plyfile.PlyElement.describe(vertex, "vertex"),
        plyfile.PlyElement.describe(face, "face"),
    ]
    plyfile.PlyData(elements, byte_order="<").write(folder / f"{SCAN}_vh_clean_2.ply")

    # Two segments a piece: even and odd vertices; ids have gaps.
    segments, groups = [], []
    for number, (label, vertices) in enumerate(pieces):
        ids = [100 * number + 7, 100 * number + 8]
        segments += [ids[k % 2] for k in range(len(vertices))]
        groups.append(
            {"id": number, "objectId": number, "segments": ids, "label": label}
        )
    write_json(folder, "segs", {"sceneId": scene_id, "segIndices": segments})
    write_json(folder, "groups", {"sceneId": scene_id, "segGroups": groups})

    jpeg, depth = b"jpeg", zlib.compress(np.zeros((4, 4), "<u2").tobytes())
    matrices = [COLOR_K, np.eye(4), DEPTH_K, np.eye(4)]
    data = struct.pack("<IQ4s", 4, 4, b"test")
    data += struct.pack("<64f", *np.concatenate(matrices).ravel())
    data += struct.pack("<iiIIIIfQ", 2, 1, 8, 4, 4, 4, 1000.0, FRAME_COUNT)
    for index in range(FRAME_COUNT):
        pose = np.eye(4)
        pose[:3, 3] = index / 8, 0, 1  # along the scan's x
        pose = np.full((4, 4), -np.inf) if index in lost else pose
        data += struct.pack("<16fQQ", *pose.ravel(), 0, 0)
        data += struct.pack("<QQ", len(jpeg), len(depth)) + jpeg + depth
    (folder / f"{SCAN}.sens").write_bytes(data)

    # 40 x 50 pixels: at least two must show an object (a thousandth). The chair
    # (objectId 1) has one pixel before frame 6, then two; the trash can never has two.
    instances = np.zeros((FRAME_COUNT, 40, 50), np.uint8)
    instances[:, 20:] = 1  # floor
    instances[:, 0, 0] = 2
    instances[6:, 0, 1] = 2
    instances[2, 5, 5] = 3
    # Names sort as numbers, not as text, and order in the file is free.
    write_images(folder, dict(reversed([*enumerate(instances)])))
    (root / "labels.tsv").write_text(TABLE)
    return folder


def write_images(folder, images):
    """``{frame: image}`` as the archive of instance images."""
    with zipfile.ZipFile(folder / f"{SCAN}_2d-instance-filt.zip", "w") as archive:
        for index, image in images.items():
            done, png = cv2.imencode(".png", image)
            assert done
            archive.writestr(f"instance-filt/{index}.png", png.tobytes())


COLORS = ("red", "green", "blue")
NAMES = {
    "segs": f"{SCAN}_vh_clean_2.0.010000.segs.json",
    "groups": f"{SCAN}.aggregation.json",
}


def write_json(folder, name, content):
    (folder / NAMES[name]).write_text(json.dumps(content))


def read_content(folder, name):
    return json.loads((folder / NAMES[name]).read_text())


@pytest.fixture
def scan(tmp_path):
    return write_scan(tmp_path, chair='chairs "')


def parse(folder, **options):
    return parse_scene(folder, folder.parent.parent / "labels.tsv", **options)


# --- the whole


def test_a_scan_becomes_the_scene_worked_out_by_hand(scan):
    scene = parse(scan, video_path="videos/a.mp4")
    assert scene.scene_id == SCAN and scene.space_id == "scene0007"
    assert scene.dataset == scene.source == "scannet"
    assert (scene.fps, scene.frame_count) == (24.0, FRAME_COUNT)
    assert scene.video_path == "videos/a.mp4"
    assert scene.warnings == ()
    # Floor and wall are no objects; the floor gives rectangle and area.
    assert scene.object_counts == {"chair": 1, "trash bin": 1}
    assert scene.floor_min_m == pytest.approx((0, 0), abs=1e-5)
    assert scene.floor_max_m == pytest.approx((4, 3), abs=1e-5)
    assert scene.room_size_m2 == pytest.approx(12.0, abs=1e-3)
    assert scene.room_center_m == pytest.approx((2, 1.5, 1.2), abs=1e-5)
    chair, can = scene.instances
    assert (chair.instance_id, can.instance_id) == (1, 2)
    assert chair.centroid_m == pytest.approx((1.5, 1.5, 0.4), abs=1e-5)
    assert sorted(chair.axes_lengths_m) == pytest.approx([0.8, 1, 1], abs=1e-5)
    assert chair.aabb_min_m == pytest.approx((1, 1, 0), abs=1e-5)
    assert chair.aabb_max_m == pytest.approx((2, 2, 0.8), abs=1e-5)
    assert chair.vertex_count == 2 * 11 * 11
    # One pixel, as before frame 6, is too few to count as seen.
    assert chair.first_seen_frame == 6
    assert can.first_seen_frame is None


def test_parts_can_be_read_alone(scan):
    points, rgb = read_vertices(scan)
    assert points.shape == rgb.shape and rgb.dtype == np.uint8
    np.testing.assert_array_equal(read_alignment(scan).ravel(), ALIGNMENT)
    groups = read_groups(scan, len(points))
    assert [g.object_id for g in groups] == [0, 1, 2, 3]
    owned = np.concatenate([g.vertices for g in groups])
    np.testing.assert_array_equal(np.sort(owned), np.arange(len(points)))


def test_the_folder_may_be_written_another_way(scan, monkeypatch):
    detour = scan.parent / ".." / "scans" / SCAN
    assert parse(detour) == parse(scan)
    monkeypatch.chdir(scan)
    table = scan.parent.parent / "labels.tsv"
    assert parse_scene(".", table) == parse(scan)


def test_provenance(scan):
    provenance = parse(scan).provenance
    files = [p for p in scan.iterdir() if "label" not in p.name]
    assert provenance == {
        "scan": SCAN,
        "files": {p.name: p.stat().st_size for p in files} | {"labels.tsv": len(TABLE)},
        "parser_version": PARSER_VERSION,
        "aligned": True,
        "first_seen": "instance images",
        "minimum_visible": "0.1% of the image's pixels",
        "groups": {
            "annotated": 4,
            "duplicates": 0,
            "objects": 2,
            "structural": {"floor": 1, "wall": 1},
            "unusable": {},
            "note": "4 groups: 2 objects, 2 structural (floor x1, wall x1)",
        },
    }


def test_every_group_is_accounted_for(scan):
    content = read_content(scan, "groups")
    segments = read_content(scan, "segs")
    segments["segIndices"][-1] = 5000  # one vertex of the wall, by itself
    groups = content["segGroups"]
    groups[1]["segments"] = []
    for number, label, ids in ((8, "desk", [5000]), (9, None, [7]), (11, "gnome", [8])):
        groups.append({"objectId": number, "label": label, "segments": ids})
    write_json(scan, "groups", content)
    write_json(scan, "segs", segments)
    scene = parse(scan)
    fate = scene.provenance["groups"]
    assert fate["annotated"] == len(groups) == 7
    assert fate["objects"] == len(scene.instances) == 2
    assert fate["structural"] == {"floor": 1, "wall": 1, "unknown": 1}
    assert fate["unusable"] == {
        "chair without segments": 1,
        "table of a single point": 1,
    }
    assert scene.object_counts == {"trash bin": 1, "gnome": 1}
    assert scene.warnings == (
        "2 labels absent from the table: gnome x1, unknown x1",
        "groups that are no objects: chair without segments x1, "
        "table of a single point x1",
    )


def test_a_room_without_objects_is_legal_and_says_so(scan):
    content = read_content(scan, "groups")
    write_json(scan, "groups", content | {"segGroups": content["segGroups"][:1]})
    scene = parse(scan)
    assert scene.instances == () and scene.object_counts == {}
    assert scene.warnings[0].startswith("no object:")
    assert Scene.from_meta(SCAN, json.loads(json.dumps(scene.to_meta()))) == scene
    write_json(scan, "groups", content | {"segGroups": []})
    assert parse(scan).provenance["groups"]["annotated"] == 0


def test_the_camera_path_is_aligned(tmp_path):
    # Scan frame (i / 8, 0, 1) is (1, i / 8 + 2, 0.5) aligned.
    scene = parse(write_scan(tmp_path, lost=(0, 13)))
    frames = [i for i in range(FRAME_COUNT) if i not in (0, 13)]
    assert [frame for frame, *_ in scene.camera_path_m] == frames
    for frame, *center in scene.camera_path_m:
        assert center == pytest.approx((1, frame / 8 + 2, 0.5), abs=1e-6)
    footage = scene.footage
    assert footage.frames == tuple(frames) and footage.size == (8, 4)
    assert footage.intrinsic.tolist() == COLOR_K[:3, :3].tolist()
    # The alignment is a quarter turn: the camera's x points to the room's +y.
    assert footage.poses[3][:3, 0] == pytest.approx((0, 1, 0))


def test_shares_are_counted_in_the_instance_images(scan):
    """Of 40 x 50 pixels the chair has one, from frame 6 on two; the can has one."""
    scene = parse(scan)
    chair, can = scene.footage.visible.T
    assert chair.tolist() == [0.0005] * 6 + [0.001] * (FRAME_COUNT - 6)
    assert np.flatnonzero(can).tolist() == [2] and can[2] == 0.0005


def test_without_intrinsics_the_camera_path_remains(scan):
    path = scan / f"{SCAN}.sens"
    data = bytearray(path.read_bytes())
    data[16 : 16 + 256] = bytes(256)
    path.write_bytes(bytes(data))
    scene = parse(scan)
    assert scene.footage is None and len(scene.camera_path_m) == FRAME_COUNT
    assert "no intrinsics of the camera" in scene.warnings[0]
    assert scene.instances[0].first_seen_frame == 6
    (scan / f"{SCAN}_2d-instance-filt.zip").unlink()
    assert parse(scan).instances[0].first_seen_frame is None


def test_scenes_survive_the_way_through_json(scan):
    scene = parse(scan, video_path="videos/a.mp4")
    assert len(scene.camera_path_m) == FRAME_COUNT
    assert Scene.from_meta(SCAN, json.loads(json.dumps(scene.to_meta()))) == scene


# --- old releases


@pytest.mark.parametrize("scene_id", ["0007_01", "scannet.0007_01", SCAN])
def test_scan_ids_without_prefix(tmp_path, scene_id):
    folder = write_scan(tmp_path, scene_id=scene_id)
    scene = parse(folder)
    assert scene.scene_id == SCAN
    # A folder without the prefix is the same scan and has the same space.
    bare = folder.parent / SCAN.removeprefix("scene")
    bare.mkdir()
    for path in folder.iterdir():
        shutil.copy(path, bare / path.name.removeprefix("scene"))
    assert parse(bare).space_id == "scene0007"
    assert parse(bare).instances == scene.instances


def test_without_a_recording_there_is_no_video(scan):
    (scan / f"{SCAN}.sens").unlink()
    scene = parse(scan, video_path="videos/a.mp4")
    assert (scene.fps, scene.frame_count, scene.video_path) == (None, None, None)
    assert scene.camera_path_m == ()
    assert scene.warnings == ("no .sens: no video, no frame rate, no camera path",)
    # The instance images still give first frames; without them there are none.
    assert [i.first_seen_frame for i in scene.instances] == [6, None]
    (scan / f"{SCAN}_2d-instance-filt.zip").unlink()
    scene = parse(scan)
    assert [i.first_seen_frame for i in scene.instances] == [None, None]
    assert scene.warnings[1].endswith("first frames are unknown")
    assert scene.provenance["first_seen"] is scene.provenance["minimum_visible"] is None
    assert scene.object_counts == {"chair": 1, "trash bin": 1}


def test_without_alignment_the_scans_axes_are_kept(tmp_path):
    folder = write_scan(tmp_path, alignment=None)
    assert read_alignment(folder) is None
    scene = parse(folder)
    assert any("no axisAlignment" in warning for warning in scene.warnings)
    assert scene.provenance["aligned"] is False
    assert scene.floor_max_m == pytest.approx((4, 3), abs=1e-5)


def test_unknown_labels_keep_their_name_and_are_reported(tmp_path):
    scene = parse(write_scan(tmp_path, chair="Bean  Bag"))
    assert "bean bag" in scene.object_counts
    assert scene.warnings == ("1 labels absent from the table: Bean  Bag x1",)


def test_groups_without_a_label_are_left_out(scan):
    content = read_content(scan, "groups")
    del content["segGroups"][1]["label"]
    write_json(scan, "groups", content)
    scene = parse(scan)
    assert scene.object_counts == {"trash bin": 1}
    assert "unknown x1" in scene.warnings[0]


def test_without_a_floor_label_low_vertices_are_the_floor(scan):
    content = read_content(scan, "groups")
    content["segGroups"] = content["segGroups"][1:]
    write_json(scan, "groups", content)
    scene = parse(scan)
    assert "no floor label" in scene.warnings[0]
    assert scene.room_size_m2 == pytest.approx(12.0, abs=1e-3)


def test_floor_without_a_label_is_room_too(scan):
    content = read_content(scan, "segs")
    vertices = grid((0, 4), (0, 3), (0,))  # the floor's; see write_scan
    # Furniture of 1.5 x 3 m, whose floor the annotators left out.
    for k in np.flatnonzero(vertices[:, 0] < 1.5):
        content["segIndices"][k] = 999
    write_json(scan, "segs", content)
    scene = parse(scan)
    assert scene.room_size_m2 == pytest.approx(12.0, abs=1e-3)
    assert scene.room_areas_m2 == pytest.approx(
        {"vsi-bench": 12.0, "spatial-r1": 12.0}, abs=1e-3
    )
    (note,) = scene.warnings
    assert "the floor label covers 7.5 m2, 62% of the room's 12.0 m2" in note


def test_a_small_gap_in_the_floor_label_is_no_warning(scan):
    content = read_content(scan, "segs")
    for k in np.flatnonzero(grid((0, 4), (0, 3), (0,))[:, 0] < 0.3):
        content["segIndices"][k] = 999
    write_json(scan, "segs", content)
    assert parse(scan).warnings == ()


def test_without_instance_images_frames_come_from_projection(scan):
    (scan / f"{SCAN}_2d-instance-filt.zip").unlink()
    scene = parse(scan)
    assert any("by projection" in warning for warning in scene.warnings)
    # This recording's depth is empty, so nothing agrees with it.
    assert [i.first_seen_frame for i in scene.instances] == [None, None]


def test_projection_agrees_with_the_instance_images(tmp_path):
    """Of all objects, at least nine in ten within 4 frames (a sixth of a second).

    Projection looks at kept frames only, and at fewer rays than an image has pixels.
    """
    apart = []
    for number in (1, 2, 4, 8):
        room = draw_room(number, "furnished", f"scene{number:04d}_00")
        folder = write_drawn_scan(room, tmp_path, VIEWS["walk"], size=(96, 72))
        write_dataset_files(tmp_path)
        table = tmp_path / "scannetv2-labels.combined.tsv"
        by_images = parse_scene(folder, table)
        (folder / f"{room.scene_id}_2d-instance-filt.zip").unlink()
        by_projection = parse_scene(folder, table)
        assert by_images.provenance["first_seen"] == "instance images"
        assert by_projection.provenance["first_seen"] == "projection"
        for a, b in zip(by_images.instances, by_projection.instances, strict=True):
            frames = (a.first_seen_frame, b.first_seen_frame)
            apart.append(np.inf if None in frames else abs(frames[0] - frames[1]))
    share = np.mean(np.array(apart) <= 4)
    assert len(apart) > 35 and share >= 0.9, f"{share:.0%} of {len(apart)}"


# --- messy scans


def change_recording(folder, change):
    """Apply ``change(index, pose) -> (pose, depth bytes or None)`` to each frame."""
    path = folder / f"{SCAN}.sens"
    data = path.read_bytes()
    at = 16 + struct.calcsize("<64fiiIIIIfQ")
    out = data[:at]
    for index in range(FRAME_COUNT):
        values = struct.unpack_from("<16f4Q", data, at)
        at += struct.calcsize("<16f4Q")
        jpeg = data[at : at + values[18]]
        depth = data[at + values[18] : at + values[18] + values[19]]
        at += values[18] + values[19]
        pose, changed = change(index, np.array(values[:16]).reshape(4, 4))
        depth = depth if changed is None else changed
        out += struct.pack("<16f4Q", *pose.ravel(), 0, 0, len(jpeg), len(depth))
        out += jpeg + depth
    path.write_bytes(out)


def test_groups_with_the_same_vertices_are_one_object(scan):
    content = read_content(scan, "groups")
    groups = content["segGroups"]
    copies = [dict(g, id=g["id"] + 9, objectId=g["objectId"] + 9) for g in groups]
    plain = parse(scan)
    write_json(scan, "groups", content | {"segGroups": content["segGroups"] + copies})
    scene = parse(scan)
    assert scene.instances == plain.instances
    assert scene.object_counts == plain.object_counts
    assert scene.warnings[0].startswith("4 duplicates")
    groups = scene.provenance["groups"]
    assert (groups["annotated"], groups["duplicates"], groups["objects"]) == (8, 4, 2)
    # The images may show the id of either copy.
    write_json(scan, "groups", content | {"segGroups": copies + content["segGroups"]})
    assert parse(scan).instances[0].first_seen_frame == 6


@pytest.mark.parametrize(("count", "kept"), [(1, True), (2, True), (3, False)])
@pytest.mark.parametrize(
    "wild", ["millimetres", "transposed", "scaled", "more than 10 m"]
)
def test_wild_poses_are_left_out_and_too_many_cost_the_path(scan, wild, count, kept):
    def change(index, pose):
        if index < count:
            pose[:3, 3] += 2 if wild == "millimetres" else 1
            pose = {
                "millimetres": np.vstack([pose[:3] * [1, 1, 1, 1e3], pose[3:]]),
                "more than 10 m": np.vstack([pose[:3] + [0, 0, 0, 1e6], pose[3:]]),
                "transposed": pose.T,
                "scaled": np.diag([2, 2, 2, 1]) @ pose,
            }[wild]
        return pose, None

    change_recording(scan, change)
    scene = parse(scan)
    words = {"millimetres": "in millimetres", "scaled": "no rigid transform"}.get(wild)
    assert scene.warnings[0].startswith(
        f"{count} of {FRAME_COUNT} camera poses are {words or wild}"
    )
    assert bool(scene.camera_path_m) == kept
    assert scene.instances[0].first_seen_frame == 6
    if kept:
        assert scene.camera_path_m[0][0] == count


@pytest.mark.parametrize("count", [1, 2, 3])
def test_broken_depth_images_are_left_out_up_to_a_tenth(scan, count):
    (scan / f"{SCAN}_2d-instance-filt.zip").unlink()
    bad = range(4, 4 + count)
    change_recording(scan, lambda i, pose: (pose, b"bad" if i in bad else None))
    if count > 0.1 * FRAME_COUNT:
        with refused("rooms.broken-frames", says=f"3 of {FRAME_COUNT}"):
            parse(scan)
    else:
        named = ", ".join(map(str, bad))
        assert any(f"(frame {named})" in note for note in parse(scan).warnings)


def test_a_recording_of_colour_alone(scan):
    path = scan / f"{SCAN}.sens"
    change_recording(scan, lambda index, pose: (pose, b""))
    data = bytearray(path.read_bytes())
    at = 16 + 256 + 16  # after the opening, the matrices, codecs and colour size
    data[at : at + 12] = bytes(12)  # depth size, depth shift
    path.write_bytes(bytes(data))
    scene = parse(scan)
    assert scene.frame_count == FRAME_COUNT and scene.camera_path_m
    assert scene.instances[0].first_seen_frame == 6 and scene.warnings == ()
    (scan / f"{SCAN}_2d-instance-filt.zip").unlink()
    assert "no depth images: first frames are unknown" in parse(scan).warnings[0]


@pytest.mark.parametrize("scale", [1000, 0.001])
def test_a_mesh_in_another_unit(scan, scale):
    path = scan / f"{SCAN}_vh_clean_2.ply"
    mesh = plyfile.PlyData.read(path, mmap=False)
    for axis in "xyz":
        mesh["vertex"].data[axis] *= scale
    mesh.write(path)
    with refused("rooms.mesh-unit", says=SCAN):
        parse(scan)


def test_an_object_longer_than_a_room(scan):
    path = scan / f"{SCAN}_vh_clean_2.ply"
    mesh = plyfile.PlyData.read(path, mmap=False)
    chair = read_groups(scan, len(mesh["vertex"].data))[1]
    mesh["vertex"].data["x"][chair.vertices[0]] += 40
    mesh.write(path)
    scene = parse(scan)
    assert scene.object_counts == {"trash bin": 1}
    assert scene.provenance["groups"]["unusable"] == {"chair of more than 30 m": 1}


def test_a_floor_of_no_area(scan):
    content = read_content(scan, "segs")
    floor = [k for k, s in enumerate(content["segIndices"]) if s in (7, 8)]
    for k in floor[4:]:
        content["segIndices"][k] = 999
    write_json(scan, "segs", content)
    with pytest.raises(SpacerError) as caught:
        parse(scan)
    assert caught.value.kind in ("rooms.room-area", "rooms.no-floor-area")


# --- broken scans


def test_a_missing_folder(tmp_path):
    (tmp_path / "labels.tsv").write_text(TABLE)
    with refused("rooms.no-scan", says="scene0001_00"):
        parse(tmp_path / "scans" / "scene0001_00")


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".txt", "rooms.no-text"),
        ("_vh_clean_2.ply", "rooms.no-mesh"),
        ("_vh_clean_2.0.010000.segs.json", "rooms.no-segments"),
        (".aggregation.json", "rooms.no-aggregation"),
    ],
)
def test_a_missing_file_is_named_with_its_remedy(scan, suffix, kind):
    (scan / f"{SCAN}{suffix}").unlink()
    with refused(kind, says=f"{SCAN}{suffix}") as caught:
        parse(scan)
    assert f"*{suffix}" in caught.value.remedy


def test_absent_segment_ids(scan):
    content = read_content(scan, "groups")
    content["segGroups"][1]["segments"] += [412, 9000, 5000]
    write_json(scan, "groups", content)
    with refused("rooms.absent-segments", says="412") as caught:
        parse(scan)
    assert SCAN in caught.value.what and "3" in caught.value.what


def test_segments_of_another_mesh(scan):
    content = read_content(scan, "segs")
    total = len(content["segIndices"])
    content["segIndices"].pop()
    write_json(scan, "segs", content)
    with refused("rooms.foreign-segments", says=f"{total - 1}") as caught:
        parse(scan)
    assert f"{total}" in caught.value.expected


def test_a_file_of_another_scan(tmp_path):
    folder = write_scan(tmp_path, scene_id="scannet.scene0008_00")
    with refused("rooms.another-scan", says="scannet.scene0008_00"):
        parse(folder)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"segGroups": None},
        {"segGroups": [{"objectId": 1}]},
        {"segGroups": [{"objectId": "x", "segments": [7]}]},
        {"segGroups": [{"objectId": 1, "segments": ["a"]}]},
        {"segGroups": [[1, 2]]},
    ],
)
def test_an_aggregation_of_another_form(scan, content):
    write_json(scan, "groups", content)
    with refused("rooms.groups-form", says=SCAN):
        parse(scan)


def test_two_groups_of_one_object_id(scan):
    content = read_content(scan, "groups")
    content["segGroups"][1]["objectId"] = 2
    write_json(scan, "groups", content)
    with refused("rooms.object-id-twice", says="first 2"):
        parse(scan)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vertices_that_are_no_numbers(scan, value):
    path = scan / f"{SCAN}_vh_clean_2.ply"
    mesh = plyfile.PlyData.read(path, mmap=False)
    mesh["vertex"].data["y"][3] = value
    mesh.write(path)
    with refused("rooms.mesh-vertices", says="False"):
        parse(scan)


def test_a_mesh_without_vertices(scan):
    path = scan / f"{SCAN}_vh_clean_2.ply"
    mesh = plyfile.PlyData.read(path, mmap=False)
    empty = [plyfile.PlyElement.describe(e.data[:0], e.name) for e in mesh.elements]
    plyfile.PlyData(empty, byte_order="<").write(path)
    with refused("rooms.mesh-vertices", says="got 0,"):
        parse(scan)


def test_no_floor_at_all(scan):
    content = read_content(scan, "groups")
    content["segGroups"] = content["segGroups"][1:]
    write_json(scan, "groups", content)
    high = np.array(ALIGNMENT, dtype=float)
    high[11] += 5  # nothing is left near z = 0
    text = f"axisAlignment = {' '.join(map(str, high))}\n"
    (scan / f"{SCAN}.txt").write_text(text)
    with refused("rooms.no-floor-area", says=SCAN):
        parse(scan)


def test_a_cut_recording(scan):
    path = scan / f"{SCAN}.sens"
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    scene = parse(scan)
    assert scene.frame_count == FRAME_COUNT - 1
    assert f"states {FRAME_COUNT} frames, {FRAME_COUNT - 1}" in scene.warnings[0]
    assert scene.instances[0].first_seen_frame == 6
    path.write_bytes(data[: len(data) // 2])
    with refused("rooms.sens-truncated", says=f"of {FRAME_COUNT}"):
        parse(scan)


def test_a_header_that_states_more_frames_than_there_are(scan):
    path = scan / f"{SCAN}.sens"
    data = bytearray(path.read_bytes())
    data[16 + 256 + 28 : 16 + 256 + 36] = struct.pack("<Q", FRAME_COUNT + 40)
    path.write_bytes(bytes(data))
    scene = parse(scan)
    assert scene.frame_count == FRAME_COUNT and "40 left out" in scene.warnings[0]
    assert scene.instances[0].first_seen_frame == 6


def test_a_depth_compression_that_is_not_known(scan):
    path = scan / f"{SCAN}.sens"
    data = bytearray(path.read_bytes())
    data[16 + 256 + 4 : 16 + 256 + 8] = struct.pack("<i", 2)
    path.write_bytes(bytes(data))
    scene = parse(scan)
    assert "depth compression 2" in scene.warnings[0] and scene.camera_path_m
    assert scene.instances[0].first_seen_frame == 6
    (scan / f"{SCAN}_2d-instance-filt.zip").unlink()
    assert "no depth images: first frames are unknown" in parse(scan).warnings[1]


def change_ids(folder, change):
    content = read_content(folder, "groups")
    for group in content["segGroups"]:
        group["objectId"] = change(group["objectId"])
    write_json(folder, "groups", content)


@pytest.mark.parametrize("shift", [253, 254, 299, 65533])
def test_ids_above_those_of_a_byte(scan, shift):
    """The chair becomes 254, 255, 300 or 65534; images of 16 bits hold all these."""
    images = dict(read_instance_frames(scan / f"{SCAN}_2d-instance-filt.zip"))
    change_ids(scan, lambda number: number + shift)
    wide = {
        k: np.where(image > 0, image.astype(np.uint16) + np.uint16(shift), 0)
        for k, image in images.items()
    }
    write_images(scan, {k: image.astype(np.uint16) for k, image in wide.items()})
    scene = parse(scan)
    assert scene.instances[0].first_seen_frame == 6
    assert len(scene.warnings) == (shift == 65533)  # the trash can has 65535
    # As 8 bits the values would be those of other objects.
    write_images(scan, {k: (image % 256).astype(np.uint8) for k, image in wide.items()})
    scene = parse(scan)
    if shift > 253:
        assert scene.instances[0].first_seen_frame is None
        assert "images of 8 bits cannot hold" in scene.warnings[-1]
    else:
        assert scene.instances[0].first_seen_frame == 6


def test_an_id_that_no_image_holds(scan):
    change_ids(scan, lambda number: number + 10**15)
    scene = parse(scan)
    assert scene.instances[0].first_seen_frame is None
    assert "2 objects have ids" in scene.warnings[-1]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("damage", [b"", b"not a png", "three channels", "float"])
def test_broken_instance_images_are_left_out_up_to_a_tenth(scan, damage, count):
    path = scan / f"{SCAN}_2d-instance-filt.zip"
    images = dict(read_instance_frames(path))
    bad = range(3, 3 + count)
    with zipfile.ZipFile(path, "w") as archive:
        for index, image in images.items():
            data = cv2.imencode(".png", image)[1].tobytes()
            if index in bad:
                wrong = np.zeros((4, 5, 3), np.uint8 if damage[0:1] == "t" else "u2")
                wrong = cv2.imencode(".png", wrong)[1].tobytes()
                data = damage if isinstance(damage, bytes) else wrong
            archive.writestr(f"instance-filt/{index}.png", data)
    if count > 0.1 * FRAME_COUNT:
        with refused("rooms.broken-frames", says=f"3 of {FRAME_COUNT}"):
            parse(scan)
    else:
        scene = parse(scan)
        assert scene.instances[0].first_seen_frame == 6
        named = ", ".join(map(str, bad))
        assert f"instance images are broken (frame {named})" in scene.warnings[0]


@pytest.mark.parametrize(
    "change",
    [
        {"segIndices": 1.5},
        {"segIndices": "1"},
        {"segIndices": True},
        {"segIndices": 2**70},
        {"segIndices": None},
        {"segIndices": [1]},
    ],
)
def test_segments_that_are_no_whole_numbers(scan, change):
    content = read_content(scan, "segs")
    content["segIndices"][5] = change["segIndices"]
    write_json(scan, "segs", content)
    with refused("rooms.groups-form", says=SCAN):
        parse(scan)


@pytest.mark.parametrize("number", ["1", 1.0, None, [1]])
def test_object_ids_that_are_no_whole_numbers(scan, number):
    content = read_content(scan, "groups")
    content["segGroups"][1]["objectId"] = number
    write_json(scan, "groups", content)
    with refused("rooms.groups-form", says=SCAN):
        parse(scan)


def test_a_scan_name_that_is_no_file_name(scan):
    shutil.copytree(scan, scan.parent / "scene..0007")
    with refused("rooms.scene-id", says="'scene..0007'"):
        parse(scan.parent / "scene..0007")


def test_broken_json(scan):
    (scan / NAMES["groups"]).write_text('{"segGroups": [')
    with refused("artifacts.not-json", says="aggregation.json"):
        parse(scan)


@pytest.mark.parametrize("keep", [0, 40, 400, -5])
def test_a_broken_mesh(scan, keep):
    path = scan / f"{SCAN}_vh_clean_2.ply"
    path.write_bytes(path.read_bytes()[:keep])
    with refused("rooms.not-a-mesh", says=path.name):
        parse(scan)


def test_a_mesh_that_claims_too_much(scan):
    path = scan / f"{SCAN}_vh_clean_2.ply"
    head, _, rest = path.read_bytes().partition(b"element vertex ")
    path.write_bytes(head + b"element vertex 9999999999" + rest[rest.index(b"\n") :])
    with refused("rooms.not-a-mesh", says=path.name):
        parse(scan)


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ("1 0 0", "rooms.alignment"),
        ("one two", "rooms.alignment"),
        (" ".join(map(str, (2 * np.eye(4)).ravel())), "rooms.not-rigid"),
    ],
)
def test_a_broken_alignment(scan, numbers, kind):
    (scan / f"{SCAN}.txt").write_text(f"axisAlignment = {numbers}\n")
    with refused(kind, says=f"{SCAN}.txt"):
        parse(scan)


# --- 2-D images


def test_frames_come_in_numeric_order(scan):
    path = scan / f"{SCAN}_2d-instance-filt.zip"
    instances = list(read_instance_frames(path))
    assert [index for index, _ in instances] == list(range(FRAME_COUNT))
    assert read_frame_numbers(path) == list(range(FRAME_COUNT))
    assert instances[0][1].dtype == np.uint8 and instances[2][1][5, 5] == 3


@pytest.mark.parametrize(
    "image", [np.zeros((4, 5, 4), np.uint8), np.zeros((4, 5, 3), np.uint8)]
)
def test_images_that_hold_no_instances(scan, image):
    """Pictures have three channels or four."""
    write_images(scan, {0: image})
    with refused("rooms.not-an-instance-image", says="frame 0") as caught:
        list(read_instance_frames(scan / f"{SCAN}_2d-instance-filt.zip"))
    assert caught.value.got == f"{image.dtype} {image.shape}"


def test_a_broken_archive(scan):
    path = scan / f"{SCAN}_2d-instance-filt.zip"
    path.write_bytes(path.read_bytes()[:200])
    with refused("rooms.broken-archive", says=path.name):
        parse(scan)


@pytest.mark.parametrize(
    ("kept", "got"),
    [
        (range(20), "6 frames missing (first: 20)"),
        ([i for i in range(26) if i != 8], "1 frames missing (first: 8)"),
        (range(27), "1 frames too many (first: 26)"),
        ([], "26 frames missing (first: 0)"),
    ],
)
def test_images_of_another_number_of_frames(scan, kept, got):
    write_images(scan, dict.fromkeys(kept, np.zeros((4, 5), np.uint8)))
    with refused("rooms.other-frames", says=f"{SCAN}_2d-instance-filt.zip") as caught:
        parse(scan)
    assert caught.value.got == got


def test_a_frame_without_a_pose_needs_no_image(tmp_path):
    folder = write_scan(tmp_path, lost=(25,))
    images = dict(read_instance_frames(folder / f"{SCAN}_2d-instance-filt.zip"))
    del images[25]
    write_images(folder, images)
    assert parse(folder).instances[0].first_seen_frame == 6


def test_without_a_recording_images_may_have_no_gap(scan):
    (scan / f"{SCAN}.sens").unlink()
    images = dict(read_instance_frames(scan / f"{SCAN}_2d-instance-filt.zip"))
    del images[3]
    write_images(scan, images)
    with refused("rooms.other-frames") as caught:
        parse(scan)
    assert caught.value.got == "1 frames missing (first: 3)"


def test_a_broken_image(tmp_path):
    path = tmp_path / "a_2d-instance-filt.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("instance-filt/3.png", b"not a png")
    with refused("rooms.not-an-instance-image", says="frame 3") as caught:
        list(read_instance_frames(path))
    assert caught.value.got == "no image"


def test_an_image_whose_bytes_changed(scan):
    path = scan / f"{SCAN}_2d-instance-filt.zip"
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 6] ^= 255
    path.write_bytes(bytes(data))
    with refused("rooms.broken-image", says=path.name):
        list(read_instance_frames(path))
    (note,) = parse(scan).warnings
    assert f"1 of {FRAME_COUNT} instance images are broken" in note


def test_an_image_that_claims_too_much(scan):
    path = scan / f"{SCAN}_2d-instance-filt.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("instance-filt/0.png", bytes(64 * 2**20 + 1))
    with refused("rooms.huge-image", says="frame 0"):
        list(read_instance_frames(path))


# --- labels and splits


def test_labels_are_normalised(scan):
    labels = read_labels(scan.parent.parent / "labels.tsv")
    categories = {raw: label.category for raw, label in labels.items()}
    assert categories == {
        "wall": "wall",
        "floor": "floor",
        "office chair": "chair",
        'chairs "': "chair",
        "desk": "table",
        "trash can": "trash bin",
        "recycling bin": "trash bin",
        "mouse": "computer mouse",
        "couch": "sofa",
    }
    assert (labels["desk"].id, labels["desk"].nyu40id) == (14, 14)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Trash  can", "trash bin"), ("Mouse", "computer mouse"), ("tv", "tv")],
)
def test_normalise_category(name, expected):
    assert normalise_category(name) == expected


def test_columns_are_found_by_name(tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_text("nyu40id\tnew\tcategory\traw_category\tid\n5\t\tchair\tchairs\t2\n")
    label = read_labels(path)["chairs"]
    assert (label.id, label.category, label.nyu40id) == (2, "chair", 5)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("id\traw_category\tcategory\n", "rooms.label-columns", "nyu40id"),
        ("", "rooms.label-columns", "id, raw_category"),
        (
            "id\traw_category\tcategory\tnyu40id\nx\tchair\tchair\t5\n",
            "rooms.label-number",
            "line 2",
        ),
    ],
)
def test_broken_tables(tmp_path, text, kind, says):
    path = tmp_path / "labels.tsv"
    path.write_text(text)
    with refused(kind, says=says):
        read_labels(path)


ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["labels", ".txt", "segs", "groups"])
def test_files_in_another_encoding_are_read_as_before(scan, encoding, name):
    plain = parse(scan)
    path = {
        "labels": scan.parent.parent / "labels.tsv",
        ".txt": scan / f"{SCAN}.txt",
    }.get(name) or scan / NAMES[name]
    path.write_bytes(path.read_text().encode(encoding))
    again = parse(scan)
    assert again.instances == plain.instances and again.warnings == plain.warnings
    assert again.provenance["aligned"] and again.room_size_m2 == plain.room_size_m2


@pytest.mark.parametrize(
    "text",
    ["", "<html>no access</html>", "axisAlignment: 1 0 0 0", "\0\0axisAlignment"],
)
def test_a_text_file_without_the_scans_lines_is_not_an_old_release(scan, text):
    (scan / f"{SCAN}.txt").write_text(text)
    with refused("rooms.not-a-scan-text", says=f"{SCAN}.txt"):
        read_alignment(scan)


@pytest.mark.parametrize("sep", ["\t", ",", ";"])
def test_a_table_that_was_saved_again(scan, sep):
    path = scan.parent.parent / "labels.tsv"
    plain = read_labels(path)
    rows = [line.split("\t") for line in TABLE.splitlines()]
    rows = [rows[0]] + [[r[0] + ".0", *r[1:4], r[4] + ".0", r[5]] for r in rows[1:]]
    rows += [[""] * 6, ["7", "tent", "tent", "", "nan", ""], ["", "", "", "", "", ""]]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter=sep)
        writer.writerow(["", *rows[0]])  # the index of a data frame has no name
        writer.writerows([str(k), *row] for k, row in enumerate(rows[1:]))
    again = read_labels(path)
    assert again.pop("tent").nyu40id == 0
    assert again == plain


@pytest.mark.parametrize(
    "label", ["Office Chair", "office chair ", " office  chair", "OFFICE_CHAIR"]
)
def test_a_label_is_found_in_any_spelling(tmp_path, label):
    scene = parse(write_scan(tmp_path, chair=label))
    assert scene.object_counts == {"chair": 1, "trash bin": 1}
    assert scene.warnings == ()


def test_the_exact_label_comes_first(tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_text(TABLE + "70\tDesk\tstand\t1\t40\totherprop\n")
    labels = read_labels(path)
    assert find_label(labels, "Desk").category == "stand"
    assert find_label(labels, "DESK").category == "table"
    assert find_label(labels, "disc") is None


@pytest.mark.parametrize("label", ["split", "REMOVE", " Wall", "Object", "  ", "Floor"])
def test_marks_and_structure_are_no_objects_in_any_spelling(tmp_path, label):
    assert parse(write_scan(tmp_path, chair=label)).object_counts == {"trash bin": 1}
    meta = META | {"object_bbox": {label: [box()], "bed": [box()]}}
    assert list(Scene.from_meta("a", meta).by_category()) == ["bed"]


@pytest.mark.parametrize("cell", ["9" * 5000, "1e999", "5.5", "x"])
def test_numbers_that_are_no_label_numbers(tmp_path, cell):
    path = tmp_path / "labels.tsv"
    path.write_text(TABLE + f"71\ttent\ttent\t1\t{cell}\totherprop\n")
    with refused("rooms.label-number", says="line 11"):
        read_labels(path)


def test_a_cell_above_the_limit_of_csv(tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_text(TABLE + f"71\t{'t' * 200_000}\ttent\t1\t5\tchair\n")
    with refused("rooms.label-row", says="line 11"):
        read_labels(path)


def test_a_missing_table(tmp_path):
    with refused("rooms.no-labels", says="scannetv2-labels.combined.tsv"):
        read_labels(tmp_path / "labels.tsv")


def test_splits(tmp_path):
    (tmp_path / "scannetv2_train.txt").write_text("scene0191_00\nscene0191_01\n")
    (tmp_path / "scannetv2_val.txt").write_text("scene0568_00\n")
    assert read_splits(tmp_path) == {
        "train": ("scene0191_00", "scene0191_01"),
        "val": ("scene0568_00",),
    }
    (tmp_path / "scannetv2_val.txt").write_text("scene0191_02\n")
    with refused("rooms.shared-spaces", says="1, first scene0191"):
        read_splits(tmp_path)


def test_broken_splits(tmp_path):
    with refused("rooms.no-split", says="scannetv2_val.txt"):
        read_split(tmp_path / "scannetv2_val.txt")
    (tmp_path / "scannetv2_val.txt").write_text("scene0191_00\n<html>\n")
    with refused("rooms.not-a-scan-id", says="'<html>'"):
        read_split(tmp_path / "scannetv2_val.txt")


# --- meta files: VSI-Bench's, of any dataset, and our own


def box(center=(1, 2, 0.5), **changes):
    """A 2 x 1 x 1 m box turned by 90° about z: its long edge lies along y."""
    return {
        "centroid": list(center),
        "axesLengths": [2.0, 1.0, 1.0],
        "normalizedAxes": [0, 1, 0, -1, 0, 0, 0, 0, 1],
        "min": [center[0] - 0.5, center[1] - 1, center[2] - 0.5],
        "max": [center[0] + 0.5, center[1] + 1, center[2] + 0.5],
        **changes,
    }


def without(mapping, *keys):
    return {key: value for key, value in mapping.items() if key not in keys}


def one_bed(**changes):
    return META | {"object_bbox": {"bed": [box(**changes)]}}


META = {
    "dataset": "arkitscenes",
    "room_size": 20,
    "room_center": [2, 3, 1],
    "object_counts": {"Tv monitor": 3},
    "object_bbox": {"Tv monitor": [box(), box((4, 5, 1.5))], "stool": []},
}


@pytest.mark.parametrize(
    ("scene_id", "dataset"),
    [("scene0025_01", "scannet"), ("0d2ee665be", "scannetpp"), ("41069021", "ark")],
)
def test_published_scenes_of_every_dataset(scene_id, dataset):
    scene = Scene.from_meta(scene_id, META | {"dataset": dataset})
    assert (scene.scene_id, scene.dataset) == (scene_id, dataset)
    assert scene.space_id == scene_id.removesuffix("_01")
    assert scene.object_counts == {"Tv monitor": 3}  # name and count as published
    assert [i.category for i in scene.instances] == ["Tv monitor"] * 2
    assert (scene.floor_min_m, scene.floor_max_m) == ((0.5, 1), (4.5, 6))
    assert scene.warnings == ("floor rectangle = bounds of all boxes",)
    assert scene.camera_path_m == () and scene.provenance == {}
    assert scene.parser_version == "published"


def test_what_a_file_leaves_out_is_filled_in():
    scene = Scene.from_meta("a", without(META, "dataset", "room_center"))
    assert scene.dataset == "unknown"
    # x 0.5 .. 4.5, y 1 .. 6; boxes from z = 0 to 2.
    assert scene.room_center_m == (2.5, 3.5, 1.0)
    assert "room centre = centre of the floor rectangle" in scene.warnings


def test_a_box_without_bounds_gets_those_of_its_corners():
    c, s = np.cos(0.3), np.sin(0.3)
    axes = [[c, s, 0], [-s, c, 0], [0, 0, 1]]
    bare = without(box(normalizedAxes=axes), "min", "max")  # nested, 3 x 3
    meta = META | {"object_bbox": {"bed": [bare]}}
    (bed,) = Scene.from_meta("a", meta).instances
    corners = box_corners((1, 2, 0.5), (2, 1, 1), axes)
    np.testing.assert_allclose(bed.aabb_min_m, corners.min(axis=0))
    np.testing.assert_allclose(bed.aabb_max_m, corners.max(axis=0))
    assert bed.axes == tuple(np.ravel(axes))
    flat = without(box(), "min", "max")
    (bed,) = Scene.from_meta("a", META | {"object_bbox": {"bed": [flat]}}).instances
    assert bed.aabb_min_m == (0.5, 1, 0) and bed.aabb_max_m == (1.5, 3, 1)


@pytest.mark.parametrize(
    ("meta", "kind", "says"),
    [
        ([1, 2], "meta-form", "[1, 2]"),
        (None, "meta-form", "None"),
        (META | {"object_bbox": {}}, "no-boxes", "a.object_bbox"),
        (META | {"object_bbox": {"bed": []}}, "no-boxes", "a.object_bbox"),
        (without(META, "room_size"), "meta-key", "'room_size'"),
        (without(META, "object_counts"), "meta-key", "'object_counts'"),
        (META | {"object_counts": None}, "meta-form", "a.object_counts"),
        (META | {"object_counts": {"bed": "x"}}, "meta-form", "a.object_counts.bed"),
        (META | {"object_counts": {"bed": 1.5}}, "meta-form", "1.5"),
        (META | {"object_counts": {"bed": -1}}, "meta-range", "-1"),
        (META | {"room_size": float("nan")}, "not-finite", "a.room_size"),
        (META | {"room_size": float("inf")}, "not-finite", "inf"),
        (META | {"room_size": 10**400}, "meta-range", "a.room_size"),
        (META | {"room_size": -1}, "meta-range", "-1"),
        (META | {"room_size": "20"}, "meta-form", "'20'"),
        (META | {"room_size": [20]}, "meta-form", "[20]"),
        (META | {"room_size": True}, "meta-form", "True"),
        (META | {"object_bbox": [box()]}, "meta-form", "a.object_bbox"),
        (META | {"object_bbox": {"bed": box()}}, "meta-form", "a list"),
        (META | {"object_bbox": {"bed": [7]}}, "meta-form", "7"),
        (one_bed(centroid=[1, 2]), "meta-size", "bed[0].centroid"),
        (one_bed(centroid=[1, 2, [3]]), "meta-form", "bed[0].centroid[2]"),
        (one_bed(centroid={"x": 1}), "meta-form", "bed[0].centroid"),
        (one_bed(centroid=[1, 2, 1e30]), "meta-range", "1e+30"),
        (one_bed(axesLengths=[-1, 1, 1]), "meta-range", "axesLengths[0]"),
        (one_bed(axesLengths=[1e308, 1, 1]), "meta-range", "1e+308"),
        (one_bed(axesLengths=["2", 1, 1]), "meta-form", "'2'"),
        (one_bed(normalizedAxes=[1, 0, 0, 0, 1, 0, 0, 0]), "meta-size", "9 numbers"),
        (one_bed(normalizedAxes=[2**32, 0, 0, 0, 1, 0, 0, 0, 1]), "meta-range", "Axes"),
        (one_bed(normalizedAxes=[1.5, 0, 0, 0, 1, 0, 0, 0, 1]), "axes", "right angles"),
        (one_bed(normalizedAxes=[1, 0, 0, 1, 0, 0, 0, 0, 1]), "axes", "right angles"),
        (one_bed(normalizedAxes=[0] * 9), "axes", "right angles"),
        (one_bed(min=[9, 9, 9]), "meta-range", "bed[0].min"),
        (one_bed(max=None, min="x", centroid=None), "meta-form", "centroid"),
        (one_bed(first_seen_frame="3"), "meta-form", "first_seen_frame"),
        (one_bed(first_seen_frame=-3), "meta-range", "first_seen_frame"),
        (one_bed(instance_id=0.5), "meta-form", "instance_id"),
        (META | {"object_bbox": {"": [box()]}}, "no-category", "instance 0"),
        (META | {"room_center": [1, 2]}, "meta-size", "a.room_center"),
        (META | {"dataset": ["scannet"]}, "meta-form", "a.dataset"),
        (META | {"fps": "24"}, "meta-form", "a.fps"),
        (META | {"frame_count": {}}, "meta-form", "a.frame_count"),
        (META | {"video": 3}, "meta-form", "a.video"),
        (META | {"warnings": "none"}, "meta-form", "a.warnings"),
        (META | {"provenance": []}, "meta-form", "a.provenance"),
        (META | {"floor_min": [1, 2]}, "meta-key", "'floor_max'"),
        (
            META | {"floor_min": [1, 2], "floor_max": [1, 3]},
            "empty-floor",
            "(1.0, 2.0)",
        ),
        (META | {"camera_path": [[4, 0, 0, 1]] * 2}, "camera-path", "2 positions"),
        (META | {"camera_path": [[4, 0]]}, "meta-size", "a.camera_path[0]"),
    ],
)
def test_meta_that_cannot_be_a_scene(meta, kind, says):
    with refused(f"rooms.{kind}", says=says):
        Scene.from_meta("a", meta)


@pytest.mark.parametrize("scene_id", ["../x", "a/b", "a\\b", "..", ".", "", "a\nb", 7])
def test_ids_that_are_no_file_names(scene_id):
    with refused("rooms.scene-id", says=repr(scene_id)):
        Scene.from_meta(scene_id, META)


def test_meta_from_a_file_a_folder_and_a_list(tmp_path):
    for name in ("b", "a"):
        write_any_json(tmp_path / "scenes" / f"{name}.json", {name: META})
    write_any_json(tmp_path / "c.json", {"c": META, "d": META})
    folder, file = tmp_path / "scenes", tmp_path / "c.json"
    for path, expected in (
        (file, ["c", "d"]),
        (str(folder), ["a", "b"]),
        ([file, folder], ["c", "d", "a", "b"]),
    ):
        assert [scene.scene_id for scene in read_meta_file(path)] == expected


def test_meta_files_that_cannot_be_read(tmp_path):
    with refused("rooms.no-meta-file", says="*.json"):
        read_meta_file(tmp_path)
    with refused("artifacts.missing", says="absent.json"):
        read_meta_file(tmp_path / "absent.json")
    write_any_json(tmp_path / "a.json", {"x": META})
    write_any_json(tmp_path / "b.json", {"x": META})
    with refused("rooms.scene-twice", says="b.json: scene x") as caught:
        read_meta_file(tmp_path)
    assert os.fspath(tmp_path / "a.json") in caught.value.got
    write_any_json(tmp_path / "b.json", [META])
    with refused("rooms.not-a-meta-file", says="list"):
        read_meta_file(tmp_path)
