"""Layouts other than ScanNet's own folder give the scene of the same room.

Reference: the scan in ScanNet's layout, with first frames by projection into the same
depth images. Tolerances are stated where results are not equal.
"""

import dataclasses
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from samples import layouts as writers
from support import refused

from spacer_lib.artifacts import read_json
from spacer_lib.questions.build import build_dataset
from spacer_lib.rooms import scannetpp
from spacer_lib.rooms.geometry import transform_points
from spacer_lib.rooms.identity import benchmark_rooms
from spacer_lib.rooms.layouts import (
    find_scans,
    input_files,
    layout_of,
    open_recording,
    parse_scene,
)
from spacer_lib.rooms.scannet import parse
from spacer_lib.rooms.scannet.exported import read_exported
from spacer_lib.rooms.scans import parse_scans, try_scans
from spacer_lib.rooms.scene import Scene
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import VIEWS
from spacer_lib.rooms.synthetic.write import write_dataset_files, write_scan
from spacer_lib.rooms.video import frame_times_path, probe, read_frame_times

FRAMES = 36
# Coordinates of meshes and poses are stored with 32 bits or nine digits.
STORED_M = 1e-4
# Of a mesh without labels an object's vertices are all those in its box, so that it is
# seen a little sooner or later.
BOX_FRAMES = 2
PLUSPLUS, ARKIT = "zz00000001", "99000001"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(folder of a scan in ScanNet's layout, its label table)."""
    root = tmp_path_factory.mktemp("scannet")
    view = dataclasses.replace(VIEWS["walk"], frames=FRAMES)
    # Depth images then are 256 x 192, as an iPhone's.
    scan = write_scan(
        draw_room(3, "furnished", "scene10003_00"), root, view, size=(512, 384)
    )
    write_dataset_files(root)
    return scan, root / "scannetv2-labels.combined.tsv"


@pytest.fixture
def scan(written, tmp_path):
    """A copy of the scan without instance images."""
    copy = tmp_path / "scans" / written[0].name
    shutil.copytree(written[0], copy, ignore=shutil.ignore_patterns("*.zip"))
    return copy


@pytest.fixture(scope="module")
def labels(written):
    return written[1]


@pytest.fixture(scope="module")
def reference(written, tmp_path_factory):
    copy = tmp_path_factory.mktemp("reference") / written[0].name
    shutil.copytree(written[0], copy, ignore=shutil.ignore_patterns("*.zip"))
    return parse.parse_scene(copy, written[1])


def exported(scan, **options):
    """Replace the recording by exported frames."""
    writers.export_frames(scan, scan, **options)
    (scan / f"{scan.name}.sens").unlink()
    return scan


def seen(scene):
    return {i.instance_id: i.first_seen_frame for i in scene.instances}


def common(scene, reference):
    """Footage of the frames that two scenes kept, and which objects are in both."""
    frames = sorted({*scene.footage.frames} & {*reference.footage.frames})
    assert len(frames) >= 20
    cut = []
    for footage in (scene.footage, reference.footage):
        rows = [footage.frames.index(frame) for frame in frames]
        cut.append(
            dataclasses.replace(
                footage,
                frames=frames,
                poses=footage.poses[rows],
                visible=footage.visible[rows],
            )
        )
    return *cut, (cut[0].visible > 0) & (cut[1].visible > 0)


def assert_seen_alike(scene, reference):
    """The writer's pictures are 4 degrees wider, as its depth images are."""
    for number, frame in seen(reference).items():
        other = seen(scene)[number]
        assert frame == other or (None not in (frame, other) and frame >= other)
        assert frame == other or frame - other <= 3
    mine, theirs, shared = common(scene, reference)
    assert shared.sum() > 50
    assert np.abs(mine.visible - theirs.visible).max() < 0.08


def lost_frames(folder):
    with open_recording(folder) as recording:
        return {index for index, pose in recording.poses() if pose is None}


def test_the_reference_sees_most_objects(reference):
    """Without this, comparisons of first frames would compare nothing."""
    frames = seen(reference)
    assert sum(f is not None for f in frames.values()) >= 6
    assert len(set(frames.values())) >= 4
    assert len(reference.footage.frames) >= 30


# --- exported frames


def test_exported_frames_are_the_recording(scan, labels, reference, tmp_path):
    exported(scan)
    writers.leave_leftovers(scan / "color")
    (scan / "depth" / "._7.png").write_bytes(b"\x00\x05\x16\x07")
    assert layout_of(scan) == "scannet"
    [scene] = parse_scans([scan], labels, tmp_path / "out")
    assert (scene.fps, scene.frame_count) == (24.0, FRAMES)
    assert seen(scene) == seen(reference)
    assert scene.warnings == reference.warnings
    np.testing.assert_allclose(
        scene.camera_path_m, reference.camera_path_m, atol=STORED_M
    )
    video = tmp_path / "out" / scene.video_path
    assert probe(video).frame_count == FRAMES
    lost = [
        t.frame for t in read_frame_times(frame_times_path(video)) if not t.has_pose
    ]
    with parse.open_recording(scan) as recording:
        assert lost == [i for i, pose in recording.poses() if pose is None] != []


def test_every_fourth_frame_with_a_gap(scan, labels, reference):
    """First frames count in the kept frames; the video lasts as long as before."""
    exported(scan, step=4, drop=(8,), digits=6)
    scene = parse_scene(scan, labels)
    assert (scene.fps, scene.frame_count) == (6.0, FRAMES // 4 - 1)
    kept = [n for n in range(0, FRAMES, 4) if n != 8]
    for number, frame in seen(scene).items():
        if frame is not None:
            assert kept[frame] >= seen(reference)[number]
    assert sum(f is not None for f in seen(scene).values()) >= 5
    assert "every 4th frame was exported: 6 a second" in scene.warnings
    assert "1 frames are missing between the exported ones" in scene.warnings


def test_instance_images_of_frames_that_were_kept(scan, written, labels):
    exported(scan, step=4)
    name = f"{scan.name}{parse.INSTANCES_2D}"
    shutil.copy(written[0] / name, scan / name)
    every = parse_scene(written[0], labels)
    scene = parse_scene(scan, labels)
    assert scene.provenance["first_seen"] == "instance images"
    late = {k: f for k, f in seen(scene).items() if f is not None}
    assert len(late) >= 6
    # An object may be out of the picture again in the next kept frame.
    on_time = [late[k] == -(-seen(every)[k] // 4) for k in late]
    assert np.mean(on_time) >= 0.8
    writers.keep_images(scan / name, range(0, FRAMES, 8))
    with refused("rooms.other-frames", says="frames missing"):
        parse_scene(scan, labels)


def test_one_broken_depth_image_and_one_broken_jpeg(scan, labels, reference, tmp_path):
    exported(scan)
    (scan / "depth" / "30.png").write_bytes(b"")
    (scan / "color" / "5.jpg").write_bytes(b"")
    [scene] = parse_scans([scan], labels, tmp_path / "out")
    assert seen(scene).keys() == seen(reference).keys()
    assert any("(frame 30)" in warning for warning in scene.warnings)
    assert any("(frame 5)" in warning for warning in scene.warnings)
    for n in range(8):
        (scan / "depth" / f"{n}.png").write_bytes(b"")
    with refused("rooms.broken-frames", says="depth images"):
        parse_scene(scan, labels)


def test_parts_of_an_export_may_be_absent(scan, labels):
    exported(scan)
    (scan / "intrinsic" / "intrinsic_depth.txt").rename(scan / "intrinsics_depth.txt")
    assert parse_scene(scan, labels).provenance["first_seen"] == "projection"
    (scan / "intrinsics_depth.txt").write_text("577 0 160\n")
    with refused("rooms.intrinsics", says="intrinsics_depth.txt: intrinsics"):
        parse_scene(scan, labels)
    (scan / "intrinsics_depth.txt").unlink()
    scene = parse_scene(scan, labels)
    assert scene.provenance["first_seen"] is None and scene.camera_path_m
    shutil.rmtree(scan / "depth")
    for path in list((scan / "pose").iterdir())[:3]:
        path.unlink()
    assert any(
        "3 of 36 frames have no pose" in w for w in parse_scene(scan, labels).warnings
    )
    shutil.rmtree(scan / "color")
    (scan / "color").mkdir()
    with refused("rooms.no-exported-frames"):
        read_exported(scan, [])


# --- meshes


MESHES = {
    "quads": {"faces": ((0, 1, 2, 3), (4, 5, 6, 7))},
    "n-gons": {"faces": ((0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, 4))},
    "no colour": {"colors": False},
    "text": {"text": True},
    "big-endian": {"order": ">"},
    "no face": {"faces": ()},
}


@pytest.mark.parametrize("options", MESHES.values(), ids=MESHES)
def test_meshes_of_other_forms(scan, labels, reference, options):
    vertices, _ = parse.read_vertices(scan)
    path = scan / f"{scan.name}{parse.MESH}"
    writers.write_ply(path, vertices, **options)
    (scan / f"{scan.name}.sens").unlink()
    points, rgb = parse.read_vertices(scan)
    np.testing.assert_allclose(points, vertices, atol=1e-6)
    assert rgb.shape == points.shape and rgb.dtype == np.uint8
    if options.get("colors") is False:
        assert (rgb == 128).all()
    scene = parse_scene(scan, labels)
    for mine, theirs in zip(scene.instances, reference.instances, strict=True):
        assert mine.axes_lengths_m == pytest.approx(theirs.axes_lengths_m, abs=STORED_M)


# --- old releases and leftovers


def only_annotation(scan):
    for path in scan.iterdir():
        if not path.name.endswith((".ply", ".segs.json", ".aggregation.json")):
            path.unlink()
    return scan


def test_a_scan_of_mesh_segments_and_aggregation(scan, labels, reference):
    scene = parse_scene(only_annotation(scan), labels)
    assert scene.object_counts == reference.object_counts
    assert (scene.fps, scene.frame_count, scene.camera_path_m) == (None, None, ())
    assert "no .txt: the scan's own axes are kept" in scene.warnings
    assert any(w.startswith("no .sens") for w in scene.warnings)
    assert any(w.endswith("first frames are unknown") for w in scene.warnings)
    for mine, theirs in zip(scene.instances, reference.instances, strict=True):
        # The scan's axes are others, so edges come in another order.
        edges = sorted(theirs.axes_lengths_m)
        assert sorted(mine.axes_lengths_m) == pytest.approx(edges, abs=0.01)


def test_leftovers_are_no_scans(scan, labels, tmp_path):
    writers.leave_leftovers(scan.parent)
    (scan.parent / "._more").mkdir()
    assert find_scans(scan.parent) == find_scans(tmp_path) == {scan.name: scan}
    assert find_scans(scan) == {scan.name: scan}
    before = input_files(scan)
    writers.leave_leftovers(scan)
    assert input_files(scan) == before
    (scan / "color").mkdir()
    (scan / "color" / "0.jpg").write_bytes(b"\xff\xd8")
    assert input_files(scan) != before


def touch(*names):
    def make(folder):
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")

    return make


KINDS = {
    "Matterport3D": touch("house_segmentations/a.house"),
    "3RScan": touch("mesh.refined.v2.obj", "semseg.v2.json"),
    "HM3D": touch("00800-x/x.semantic.glb", "00800-x/x.basis.glb"),
    "a folder of videos": touch("a.mp4", "b.MOV", ".DS_Store"),
    "a folder of archives": touch("scene0000_00.zip"),
    "a folder of metadata": touch("scannet_meta.json"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_another_kind_is_named(tmp_path, labels, kind):
    folder = tmp_path / "given"
    folder.mkdir()
    KINDS[kind](folder)
    with refused("rooms.another-kind", says=kind) as caught:
        find_scans(folder)
    assert caught.value.remedy


def test_one_folder_of_another_kind_beside_a_scan(scan, labels, tmp_path):
    foreign = scan.parent / "2t7WUuJeko7"
    foreign.mkdir()
    KINDS["Matterport3D"](foreign)
    folders = find_scans(scan.parent).values()
    scenes, failures = try_scans(folders, labels, tmp_path / "out", video=False)
    assert [s.scene_id for s in scenes] == [scan.name]
    assert failures[foreign.name].kind == "rooms.another-kind"


def test_an_archive_instead_of_a_folder(tmp_path):
    (tmp_path / "scans.zip").write_bytes(b"PK")
    with refused("rooms.no-scans", says="scans.zip is an archive"):
        find_scans(tmp_path / "scans.zip")
    with refused("rooms.no-scans", says="nowhere is missing"):
        find_scans(tmp_path / "nowhere")


# --- ScanNet++


@pytest.fixture(scope="module")
def plusplus(written, reference, tmp_path_factory):
    root = tmp_path_factory.mktemp("scannetpp")
    return writers.write_scannetpp(written[0], reference, root, PLUSPLUS)


def test_scannetpp_is_the_same_scene(plusplus, reference, tmp_path):
    assert find_scans(plusplus.parent.parent) == {PLUSPLUS: plusplus}
    [scene] = parse_scans([plusplus], tmp_path / "no.tsv", tmp_path / "out")
    assert (scene.scene_id, scene.dataset) == (PLUSPLUS, "scannetpp")
    assert scene.frame_count == FRAMES and scene.fps == pytest.approx(60, abs=0.01)
    renamed = {"trash bin": "trash can"}  # VSI-Bench renames it in ScanNet only
    for mine, theirs in zip(scene.instances, reference.instances, strict=True):
        assert mine.category == renamed.get(theirs.category, theirs.category)
        assert mine.vertex_count == theirs.vertex_count
        assert mine.centroid_m == pytest.approx(theirs.centroid_m, abs=1e-9)
        assert mine.axes == pytest.approx(theirs.axes, abs=1e-9)
        low = np.subtract(mine.aabb_min_m, theirs.aabb_min_m)
        # Corners of the oriented box instead of vertices: they reach further out.
        assert (low <= STORED_M).all()
    assert_seen_alike(scene, reference)
    assert scene.room_size_m2 == pytest.approx(reference.room_size_m2, rel=1e-3)
    mine, theirs, _ = common(scene, reference)
    np.testing.assert_allclose(mine.poses, theirs.poses, atol=STORED_M)
    assert (scene.footage.size, scene.fps) == (writers.IPHONE_SIZE, 60.0)
    video = tmp_path / "out" / scene.video_path
    assert video.read_bytes() == (plusplus / "iphone" / "rgb.mp4").read_bytes()
    assert len(read_frame_times(frame_times_path(video))) == FRAMES


def test_scannetpp_poses_of_every_frame(plusplus, written):
    """The pose is camera to mesh, in ScanNet's camera frame."""
    frames, _ = writers.frames_of(written[0])
    T = parse.read_alignment(written[0])
    with open_recording(plusplus) as recording:
        for (index, pose), frame in zip(recording.poses(), frames, strict=True):
            assert (pose is None) == (frame.T_scan_from_camera is None)
            if pose is not None:
                np.testing.assert_allclose(
                    pose, T @ frame.T_scan_from_camera, atol=STORED_M
                )
            assert index == frame.index


def test_scannetpp_with_colmap_extracted_depth_and_mkv(plusplus, reference, tmp_path):
    folder = shutil.copytree(plusplus, tmp_path / "data" / PLUSPLUS)
    (folder / "iphone" / "rgb.mp4").rename(folder / "iphone" / "rgb.mkv")
    path = folder / "iphone" / "pose_intrinsic_imu.json"
    entries = read_json(path)
    lines = [
        "# Image list",
        "#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME",
    ]
    for number, (name, entry) in enumerate(entries.items(), start=1):
        if "aligned_pose" not in entry:
            continue
        camera = np.linalg.inv(entry.pop("aligned_pose"))
        w, x, y, z = quaternion(camera[:3, :3])
        t = " ".join(f"{v:.9f}" for v in camera[:3, 3])
        lines += [f"{number} {w} {x} {y} {z} {t} 1 {name}.jpg", "10.0 20.0 -1"]
    path.write_text(json.dumps(entries))
    (folder / "iphone" / "colmap").mkdir()
    (folder / "iphone" / "colmap" / "images.txt").write_text("\n".join(lines))
    with open_recording(folder) as recording:
        images = [frame.depth_m() for frame in recording]
    (folder / "iphone" / "depth.bin").unlink()
    (folder / "iphone" / "depth").mkdir()
    for n, image in enumerate(images):
        stored = (image * 1000).round().astype(np.uint16)
        cv2.imwrite(str(folder / "iphone" / "depth" / f"frame_{n:06d}.png"), stored)
    [scene] = parse_scans([folder], tmp_path / "no.tsv", tmp_path / "out")
    assert scene.video_path.endswith(".mkv")
    assert_seen_alike(scene, reference)


def quaternion(R):
    """(w, x, y, z) of a rotation whose angle is not near 180 degrees."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(R).as_quat()
    return w, x, y, z


def test_scannetpp_depth_of_the_first_release(plusplus, tmp_path):
    """Deflated images of 32-bit metres, one by one or as a whole."""
    import struct
    import zlib

    folder = shutil.copytree(plusplus, tmp_path / PLUSPLUS)
    path = folder / "iphone" / "depth.bin"
    metres = np.full((192, 256), 1.5, "<f4")
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = deflate.compress(metres.tobytes()) + deflate.flush()
    path.write_bytes(struct.pack("<I", len(packed)) + packed)
    with open_recording(folder) as recording:
        assert (next(iter(recording)).depth_m() == 1.5).all()
    path.write_bytes(struct.pack("<I", 4) + b"none")
    with open_recording(folder) as recording:
        with refused("rooms.scannetpp-depth", says="depth.bin"):
            next(iter(recording)).depth_m()
    path.write_bytes(packed)
    warnings = []
    recording = scannetpp.open_recording(folder, warnings)
    assert not recording.has_depth and "compressed as a whole" in warnings[0]


def test_scannetpp_without_a_phone(plusplus, tmp_path):
    folder = shutil.copytree(plusplus, tmp_path / PLUSPLUS)
    shutil.rmtree(folder / "iphone")
    scene = parse_scene(folder, tmp_path / "no.tsv")
    assert scene.fps is None and any("no video" in w for w in scene.warnings)
    (folder / "scans" / "segments.json").unlink()
    with refused("rooms.no-scannetpp-file", says="segments.json"):
        parse_scene(folder, tmp_path / "no.tsv")


def test_a_wrong_annotated_box_is_not_believed(plusplus, reference, tmp_path):
    folder = shutil.copytree(plusplus, tmp_path / PLUSPLUS)
    path = folder / "scans" / "segments_anno.json"
    content = read_json(path)
    box = content["segGroups"][0]["obb"]
    box["centroid"] = [v + 3 for v in box["centroid"]]
    path.write_text(json.dumps(content))
    scene = parse_scene(folder, tmp_path / "no.tsv")
    assert any(w.startswith("1 annotated boxes") for w in scene.warnings)
    mine, theirs = scene.instances[0], reference.instances[0]
    assert mine.centroid_m == pytest.approx(theirs.centroid_m, abs=0.01)


# --- ARKitScenes


@pytest.fixture(scope="module")
def arkit(written, reference, tmp_path_factory):
    root = tmp_path_factory.mktemp("arkitscenes")
    return writers.write_arkitscenes(written[0], reference, root, ARKIT)


def expected_world(points):
    """Aligned points of the reference in the parsed scene's frame."""
    T = writers.arkit_world()
    T[2, 3] = 0  # the parser puts the floor at z = 0
    return transform_points(T, points)


def test_arkitscenes_is_the_same_scene(arkit, reference, tmp_path):
    assert find_scans(arkit.parent.parent) == {ARKIT: arkit}
    [scene] = parse_scans([arkit], tmp_path / "no.tsv", tmp_path / "out")
    assert (scene.scene_id, scene.dataset) == (ARKIT, "arkitscenes")
    assert scene.frame_count == FRAMES and scene.fps == pytest.approx(10, abs=0.01)
    renamed = {"nightstand": "cabinet"}
    off = []
    for mine, theirs in zip(scene.instances, reference.instances, strict=True):
        assert mine.category == renamed.get(theirs.category, theirs.category)
        assert mine.axes_lengths_m == pytest.approx(theirs.axes_lengths_m, abs=1e-9)
        center = expected_world([theirs.centroid_m])[0]
        # The height of the floor is that of its rough vertices, to 2 mm.
        assert mine.centroid_m == pytest.approx(center, abs=0.002)
        turned = theirs.axes_matrix @ writers.arkit_world()[:3, :3].T
        np.testing.assert_allclose(mine.axes_matrix, turned, atol=1e-9)
        # Without the lowest 3 cm of the object; with parts of a wall behind it.
        assert 0.5 <= mine.vertex_count / theirs.vertex_count <= 1.25
        frames = mine.first_seen_frame, seen(reference)[theirs.instance_id]
        assert (frames[0] is None) == (frames[1] is None)
        if None not in frames:
            off.append(abs(frames[0] - frames[1]))
    assert max(off) <= BOX_FRAMES and len(off) >= 6
    assert scene.room_size_m2 == pytest.approx(reference.room_size_m2, rel=0.15)
    assert set(range(0, FRAMES, 5)) - set(scene.footage.frames) <= lost_frames(arkit)
    mine, theirs, shared = common(scene, reference)
    T = writers.arkit_world()
    T[2, 3] = 0
    np.testing.assert_allclose(mine.poses, T @ theirs.poses, atol=0.002)
    assert scene.footage.size == (256, 192)
    # Parts of walls behind objects are theirs here.
    apart = np.abs(mine.visible - theirs.visible)[shared]
    assert np.quantile(apart, 0.9) < 0.03
    assert any("no alignment" in w for w in scene.warnings)
    info = probe(tmp_path / "out" / scene.video_path)
    assert (info.frame_count, info.width, info.height) == (FRAMES, 256, 192)
    assert info.fps == pytest.approx(10, abs=0.05)


def test_arkitscenes_poses_of_every_frame(arkit, written):
    """A line of the trajectory is world to camera; the reader gives the inverse."""
    frames, _ = writers.frames_of(written[0])
    T = writers.arkit_world() @ parse.read_alignment(written[0])
    with open_recording(arkit) as recording:
        for (_, pose), frame in zip(recording.poses(), frames, strict=True):
            assert (pose is None) == (frame.T_scan_from_camera is None)
            if pose is not None:
                np.testing.assert_allclose(
                    pose, T @ frame.T_scan_from_camera, atol=STORED_M
                )


def test_arkitscenes_raw_layout_and_missing_parts(written, reference, tmp_path):
    folder = writers.write_arkitscenes(written[0], reference, tmp_path, ARKIT, raw=True)
    assert layout_of(folder) == "arkitscenes"
    scene = parse_scene(folder, tmp_path / "no.tsv")
    assert scene.frame_count == FRAMES and scene.provenance["first_seen"]
    shutil.rmtree(folder / "lowres_wide_intrinsics")
    scene = parse_scene(folder, tmp_path / "no.tsv")
    assert scene.camera_path_m and scene.provenance["first_seen"] is None
    (folder / "lowres_wide.traj").write_text("1 2 3\n")
    with refused("rooms.arkitscenes-trajectory", says="lowres_wide.traj line 1"):
        parse_scene(folder, tmp_path / "no.tsv")
    shutil.rmtree(folder / "lowres_wide")
    assert parse_scene(folder, tmp_path / "no.tsv").fps is None
    path = folder / f"{ARKIT}_3dod_annotation.json"
    content = read_json(path)
    content["data"][0]["label"] = "tv_monitor"
    content["skipped"] = True
    path.write_text(json.dumps(content))
    scene = parse_scene(folder, tmp_path / "no.tsv")
    assert scene.instances[0].category == "tv"
    assert "the annotation is marked as skipped" in scene.warnings
    content["data"][0]["segments"]["obbAligned"]["normalizedAxes"][0] = 3.0
    path.write_text(json.dumps(content))
    with refused("rooms.arkitscenes-annotation", says="object 0"):
        parse_scene(folder, tmp_path / "no.tsv")
    path.unlink()
    with refused("rooms.no-arkitscenes-file", says="annotation.json"):
        parse_scene(folder, tmp_path / "no.tsv")


# --- all of them


def test_the_leak_guard_knows_the_rooms_of_every_data_set(plusplus, arkit, tmp_path):
    for folder, dataset in ((plusplus, "scannetpp"), (arkit, "arkitscenes")):
        name = min(benchmark_rooms()[dataset])
        copy = tmp_path / dataset / name
        shutil.copytree(folder, copy)
        for path in sorted(copy.rglob(f"{folder.name}*")):
            if path.is_dir() or path.parent == copy:
                path.rename(path.with_name(path.name.replace(folder.name, name)))
        scene = parse_scene(copy, tmp_path / "no.tsv")
        assert scene.scene_id == name
        with refused("rooms.benchmark-room", says=name):
            build_dataset([scene], tmp_path / "qa", "sr91k")


def test_the_command_reads_every_layout(scan, plusplus, arkit, labels, tmp_path):
    exported(scan)
    for folder in (scan.parent, plusplus.parent, arkit.parent.parent):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "spacer_lib",
                "parse",
                str(folder),
                "--out",
                str(tmp_path / "out"),
                "--labels",
                str(labels),
                "--no-video",
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    found = {path.stem for path in (tmp_path / "out" / "scenes").iterdir()}
    assert found == {scan.name, PLUSPLUS, ARKIT}


# --- metadata of VLM-3R


def as_vlm_3r(scene, *, nested=False, corners=False):
    """The scene as VLM-3R's metadata: another key, and rotations in either form."""
    meta = scene.to_meta()
    boxes = meta.pop("object_bbox")
    for box in (box for group in boxes.values() for box in group):
        if nested:
            box["normalizedAxes"] = np.reshape(box["normalizedAxes"], (3, 3)).tolist()
        low, high = box.pop("min"), box.pop("max")
        if corners:  # its ARKitScenes files; there the corners turn the wrong way
            box |= {"min_corner": [v - 1 for v in low], "max_corner": high}
        else:
            box |= {"min": low, "max": high}
        for key in ("vertex_count", "first_seen_frame"):
            box.pop(key)
    keep = ("dataset", "room_size", "room_center", "object_counts")
    return {key: meta[key] for key in keep} | {
        "video_path": f"scannet/videos/train/{scene.scene_id}.mp4",
        "object_bboxes": boxes,
    }


@pytest.mark.parametrize("nested", [False, True])
def test_metadata_of_vlm_3r(reference, nested):
    scene = Scene.from_meta(reference.scene_id, as_vlm_3r(reference, nested=nested))
    assert any(
        np.abs(i.axes_matrix - i.axes_matrix.T).max() > 0.1 for i in scene.instances
    )  # else a transposed rotation would pass
    mine = {i.instance_id: i for i in scene.instances}
    for theirs in reference.instances:
        assert mine[theirs.instance_id].axes == theirs.axes
        assert mine[theirs.instance_id].aabb_min_m == theirs.aabb_min_m
    assert scene.object_counts == reference.object_counts


def test_metadata_of_vlm_3r_with_corners(reference):
    """``min_corner`` and ``max_corner`` are not used: the box gives its bounds."""
    scene = Scene.from_meta(reference.scene_id, as_vlm_3r(reference, corners=True))
    mine = {i.instance_id: i for i in scene.instances}
    for theirs in reference.instances:
        low = np.subtract(mine[theirs.instance_id].aabb_min_m, theirs.aabb_min_m)
        assert (low <= STORED_M).all() and (low > -0.5).all()
