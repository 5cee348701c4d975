"""ScanNet's files → ``Scene``, on a scan small enough to work out by hand."""

import json
import struct
import zipfile
import zlib

import cv2
import numpy as np
import plyfile
import pytest

from spacer_lib.errors import SpacerError
from spacer_lib.scannet import (
    instance_label_agreement,
    normalise_category,
    parse_scene,
    read_alignment,
    read_groups,
    read_instance_frames,
    read_label_frames,
    read_labels,
    read_split,
    read_splits,
    read_vertices,
)

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


def grid(x, y, z, step=0.1):
    """Vertices of an axis-aligned box's lattice, ends included."""
    ticks = [
        np.linspace(lo, hi, max(2, round((hi - lo) / step) + 1)) for lo, hi in (x, y)
    ]
    ticks.append(np.unique(z))
    return np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)


def write_scan(root, *, alignment=ALIGNMENT, scene_id=f"scannet.{SCAN}", chair="chair"):
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
    data = struct.pack("<IQ4s", 4, 4, b"test") + struct.pack("<64f", *[0.0] * 64)
    data += struct.pack("<iiIIIIfQ", 2, 1, 8, 4, 4, 4, 1000.0, 3)
    for _ in range(3):
        data += struct.pack("<16fQQ", *np.eye(4).ravel(), 0, 0)
        data += struct.pack("<QQ", len(jpeg), len(depth)) + jpeg + depth
    (folder / f"{SCAN}.sens").write_bytes(data)

    # 40 x 50 pixels: two of them are the least that counts (a thousandth). The chair
    # (objectId 1) shows one pixel in frame 0 and two in frame 1; the can never does.
    instances = np.zeros((3, 40, 50), np.uint8)
    instances[:, 20:] = 1  # floor
    instances[0, 0, 0] = 2
    instances[1:, 0, :2] = 2
    instances[2, 5, 5] = 3
    classes = np.array([0, 3, 11, 56])[instances].astype(np.uint16)
    for kind, images in (("instance", instances), ("label", classes)):
        with zipfile.ZipFile(folder / f"{SCAN}_2d-{kind}-filt.zip", "w") as archive:
            # Names sort as numbers, not as text, and order in the file is free.
            for index in (2, 0, 1):
                done, png = cv2.imencode(".png", images[index])
                assert done
                archive.writestr(f"{kind}-filt/{index * 6}.png", png.tobytes())
    (root / "labels.tsv").write_text(TABLE)
    return folder


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
    assert (scene.fps, scene.frame_count) == (24.0, 3)
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
    # Frame 1 of the archive is video frame 6; a single pixel is not a sight.
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


# --- old releases


@pytest.mark.parametrize("scene_id", ["0007_01", "scannet.0007_01", SCAN])
def test_scan_ids_without_prefix(tmp_path, scene_id):
    scene = parse(write_scan(tmp_path, scene_id=scene_id))
    assert scene.scene_id == SCAN


def test_without_alignment_the_scans_axes_are_kept(tmp_path):
    folder = write_scan(tmp_path, alignment=None)
    assert read_alignment(folder) is None
    scene = parse(folder)
    assert any("no axisAlignment" in warning for warning in scene.warnings)
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


def test_without_instance_images_frames_come_from_projection(scan):
    (scan / f"{SCAN}_2d-instance-filt.zip").unlink()
    scene = parse(scan)
    assert any("by projection" in warning for warning in scene.warnings)
    # This recording's depth is empty, so nothing agrees with it.
    assert [i.first_seen_frame for i in scene.instances] == [None, None]


# --- broken scans


def test_a_missing_folder(tmp_path):
    (tmp_path / "labels.tsv").write_text(TABLE)
    with pytest.raises(SpacerError, match="scene0001_00 is missing"):
        parse(tmp_path / "scans" / "scene0001_00")


@pytest.mark.parametrize(
    "suffix",
    [
        ".txt",
        "_vh_clean_2.ply",
        "_vh_clean_2.0.010000.segs.json",
        ".aggregation.json",
        ".sens",
    ],
)
def test_a_missing_file_is_named_with_its_remedy(scan, suffix):
    (scan / f"{SCAN}{suffix}").unlink()
    with pytest.raises(SpacerError) as caught:
        parse(scan)
    assert f"{SCAN}{suffix} is missing" in str(caught.value)
    assert f"download the scan's *{suffix}" in caught.value.remedy


def test_absent_segment_ids(scan):
    content = read_content(scan, "groups")
    content["segGroups"][1]["segments"] += [412, 9000, 5000]
    write_json(scan, "groups", content)
    with pytest.raises(SpacerError) as caught:
        parse(scan)
    text = str(caught.value)
    assert text.startswith(
        f"{SCAN}: 3 segment ids absent from segs.json (first: 412). Remedy: download"
    )


def test_segments_of_another_mesh(scan):
    content = read_content(scan, "segs")
    total = len(content["segIndices"])
    content["segIndices"].pop()
    write_json(scan, "segs", content)
    with pytest.raises(SpacerError, match=f"got {total - 1} .*expected {total}"):
        parse(scan)


def test_a_file_of_another_scan(tmp_path):
    folder = write_scan(tmp_path, scene_id="scannet.scene0008_00")
    with pytest.raises(SpacerError, match="another scan: got scannet.scene0008_00"):
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
    with pytest.raises(SpacerError, match="has another form"):
        parse(scan)


def test_a_group_without_segments(scan):
    content = read_content(scan, "groups")
    content["segGroups"][1]["segments"] = []
    write_json(scan, "groups", content)
    with pytest.raises(SpacerError, match="object 1 .*has no segments"):
        parse(scan)


def test_broken_json(scan):
    (scan / NAMES["groups"]).write_text('{"segGroups": [')
    with pytest.raises(SpacerError, match="aggregation.json is not JSON"):
        parse(scan)


@pytest.mark.parametrize("keep", [0, 40, 400, -5])
def test_a_broken_mesh(scan, keep):
    path = scan / f"{SCAN}_vh_clean_2.ply"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SpacerError, match="is not a coloured triangle mesh"):
        parse(scan)


def test_a_mesh_that_claims_too_much(scan):
    path = scan / f"{SCAN}_vh_clean_2.ply"
    head, _, rest = path.read_bytes().partition(b"element vertex ")
    path.write_bytes(head + b"element vertex 9999999999" + rest[rest.index(b"\n") :])
    with pytest.raises(SpacerError, match="is not a coloured triangle mesh"):
        parse(scan)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ("1 0 0", "expected 16 numbers"),
        ("one two", "expected 16 numbers"),
        (" ".join(map(str, (2 * np.eye(4)).ravel())), "not a rigid transform"),
    ],
)
def test_a_broken_alignment(scan, numbers, message):
    (scan / f"{SCAN}.txt").write_text(f"axisAlignment = {numbers}\n")
    with pytest.raises(SpacerError, match=message):
        parse(scan)


# --- 2-D images


def test_frames_come_in_numeric_order(scan):
    instances = list(read_instance_frames(scan / f"{SCAN}_2d-instance-filt.zip"))
    classes = list(read_label_frames(scan / f"{SCAN}_2d-label-filt.zip"))
    assert [index for index, _ in instances] == [0, 6, 12]
    assert [index for index, _ in classes] == [0, 6, 12]
    assert instances[0][1].dtype == np.uint8 and classes[0][1].dtype == np.uint16
    assert instances[2][1][5, 5] == 3 and classes[2][1][5, 5] == 56


def test_value_is_object_id_plus_one(tmp_path):
    folder = write_scan(tmp_path, chair='chairs "')
    table = tmp_path / "labels.tsv"
    assert instance_label_agreement(folder, table, stride=1) == 1.0
    assert instance_label_agreement(folder, table, stride=1, offset=0) == 0.0


def test_images_of_the_wrong_depth(scan):
    with pytest.raises(SpacerError, match="frame 0: got uint8 .* one-channel uint16"):
        list(read_label_frames(scan / f"{SCAN}_2d-instance-filt.zip"))


def test_a_broken_archive(scan):
    path = scan / f"{SCAN}_2d-instance-filt.zip"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SpacerError, match="2d-instance-filt.zip cannot be read"):
        parse(scan)


def test_a_broken_image(tmp_path):
    path = tmp_path / "a_2d-instance-filt.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("instance-filt/3.png", b"not a png")
    with pytest.raises(SpacerError, match="frame 3: got no image"):
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
    ("text", "message"),
    [
        ("id\traw_category\tcategory\n", "columns nyu40id are missing"),
        ("", "columns id, raw_category"),
        ("id\traw_category\tcategory\tnyu40id\nx\tchair\tchair\t5\n", "line 2: id"),
    ],
)
def test_broken_tables(tmp_path, text, message):
    path = tmp_path / "labels.tsv"
    path.write_text(text)
    with pytest.raises(SpacerError, match=message):
        read_labels(path)


def test_a_missing_table(tmp_path):
    with pytest.raises(SpacerError, match="download scannetv2-labels.combined.tsv"):
        read_labels(tmp_path / "labels.tsv")


def test_splits(tmp_path):
    (tmp_path / "scannetv2_train.txt").write_text("scene0191_00\nscene0191_01\n")
    (tmp_path / "scannetv2_val.txt").write_text("scene0568_00\n")
    assert read_splits(tmp_path) == {
        "train": ("scene0191_00", "scene0191_01"),
        "val": ("scene0568_00",),
    }
    (tmp_path / "scannetv2_val.txt").write_text("scene0191_02\n")
    with pytest.raises(
        SpacerError, match="share physical spaces: got 1, first scene0191"
    ):
        read_splits(tmp_path)


def test_broken_splits(tmp_path):
    with pytest.raises(SpacerError, match="scannetv2_val.txt is missing"):
        read_split(tmp_path / "scannetv2_val.txt")
    (tmp_path / "scannetv2_val.txt").write_text("scene0191_00\n<html>\n")
    with pytest.raises(SpacerError, match="not a scan id: got '<html>'"):
        read_split(tmp_path / "scannetv2_val.txt")
