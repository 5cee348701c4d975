"""One folder of ScanNet++ → ``Scene``.

``data/<id>/scans/`` holds the mesh (``mesh_aligned_0.05.ply``, metres, +z up, walls
along x and y), ``segments.json`` and ``segments_anno.json``, whose groups have
ScanNet's form and an oriented box. ``iphone/`` holds the recording: the video
``rgb.mp4`` (``rgb.mkv`` in the second release), ``pose_intrinsic_imu.json`` and
``depth.bin``. ``aligned_pose`` moves camera to mesh coordinates, with x to the right, y
down and z forward in the camera. ``dslr/`` holds stills, which are no video.

Source: https://github.com/scannetpp/scannetpp (``common/scene_release.py``,
``common/utils/anno.py``, ``iphone/prepare_iphone_data.py``).
"""

import dataclasses
import functools
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from spacer_lib.artifacts import PathLike, listing, read_json
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.footage import usable_camera
from spacer_lib.rooms.recording import FrameFolder, StoredFrame, read_depth_image
from spacer_lib.rooms.scannet.labels import spelling
from spacer_lib.rooms.scannet.parse import (
    Annotated,
    Group,
    build_scene,
    match_groups,
    read_mesh,
    sizes_of,
)
from spacer_lib.rooms.scannet.text import read_text
from spacer_lib.rooms.scene import Scene, require_scene_id

DATASET = "scannetpp"
MESH = "scans/mesh_aligned_0.05.ply"
SEGMENTS = "scans/segments.json"
ANNOTATION = "scans/segments_anno.json"
POSES = "iphone/pose_intrinsic_imu.json"
DEPTH = "iphone/depth.bin"
COLMAP = "iphone/colmap/images.txt"
VIDEOS = ("iphone/rgb.mp4", "iphone/rgb.mkv", "iphone/rgb.mov")

# VSI-Bench's names for ScanNet++'s labels.
CATEGORIES = {
    "armchair": "chair",
    "ceiling lamp": "ceiling light",
    "coat hanger": "coat rack",
    "dining chair": "chair",
    "dining table": "table",
    "mouse": "computer mouse",
    "office chair": "chair",
    "soap dispenser": "hand soap",
}
FPS = 60.0  # of the iPhone's video, if the time stamps do not tell
COLOR_SIZE = (1920, 1440)  # of the iPhone's video, if there is none
DEPTH_SIZE = (256, 192)  # width, height
# An annotated box counts if it holds this share of its vertices, within a margin.
BOX_HOLDS, BOX_MARGIN_M = 0.9, 0.05


def parse_scannetpp(scan_dir: PathLike, *, video_path: PathLike | None = None) -> Scene:
    """Read one folder ``data/<id>``.

    Objects have the annotated oriented boxes, as in VSI-Bench's metadata. A box that
    does not hold its vertices is computed from them instead, with a warning.

    Raises
    ------
    SpacerError
        If mesh or annotation are missing or broken, or contradict each other.
    """
    scan_dir = Path(scan_dir)
    warnings: list[str] = []
    mesh, segments, annotation = (
        _require(scan_dir / name) for name in (MESH, SEGMENTS, ANNOTATION)
    )
    vertices, _ = read_mesh(mesh)
    content = read_json(annotation)
    groups = match_groups(
        (segments, read_json(segments)), (annotation, content), len(vertices)
    )
    named = [
        (group, CATEGORIES.get(spelling(group.label), spelling(group.label)))
        for group in _with_boxes(groups, content["segGroups"], vertices, warnings)
    ]
    return build_scene(
        Annotated(
            scan=require_scene_id(scan_dir.resolve().name),
            dataset=DATASET,
            vertices=vertices,
            T_aligned_from_scan=np.eye(4),
            aligned=True,
            groups=named,
            annotated=len(named),
            recording=open_recording(scan_dir, warnings),
            instance_images=None,
            files=sizes_of(
                [mesh, segments, annotation, scan_dir / POSES, scan_dir / DEPTH]
            ),
            warnings=warnings,
        ),
        video_path,
    )


def find_video(scan_dir: PathLike) -> Path | None:
    """The iPhone's video, if it is there."""
    paths = [Path(scan_dir) / name for name in VIDEOS]
    return next((path for path in paths if path.is_file()), None)


def open_recording(
    scan_dir: PathLike, warnings: list[str] | None = None
) -> FrameFolder | None:
    """The iPhone's recording: poses and depth; ``None`` and a warning without one.

    A frame's number is its place in the video. Poses are those of
    ``pose_intrinsic_imu.json``, or of ``colmap`` for frames that have none there.

    Raises
    ------
    SpacerError
        If a file of the recording has another form.
    """
    scan_dir = Path(scan_dir)
    warnings = [] if warnings is None else warnings
    path, video = scan_dir / POSES, find_video(scan_dir)
    if not path.is_file():
        warnings.append(f"no {POSES}: no video, no frame rate, no camera path")
        return None
    if video is None:
        warnings.append(f"no {VIDEOS[0]}: no video")
    stored = _frames_of(path)
    count = max(stored) + 1
    colmap, depth = _colmap_poses(scan_dir / COLMAP), _depth_readers(scan_dir, warnings)
    width, height = _color_size(video)
    scale = np.array([DEPTH_SIZE[0] / width, DEPTH_SIZE[1] / height, 1.0])
    frames, color = [], []
    for index in range(count):
        entry = stored.get(index, {})
        pose = _matrix(path, index, entry.get("aligned_pose"), 4)
        K = _matrix(path, index, entry.get("intrinsic"), 3)
        if K is not None:
            color.append(K)
        time_us = round(1e6 * _seconds(entry))
        frames.append(
            StoredFrame(
                index=index,
                T_scan_from_camera=colmap.get(index) if pose is None else pose,
                depth_intrinsic=np.eye(3) if K is None else scale[:, None] * K,
                color_time_us=time_us,
                depth_time_us=time_us,
                depth=None if K is None else depth.get(index),
            )
        )
    # Focusing changes it by some pixels.
    middle = np.median(color, axis=0) if color else np.zeros((3, 3))
    camera = usable_camera(middle, (width, height))
    return FrameFolder(path, _fps(frames), tuple(frames), tuple(range(count)), camera)


def _require(path: Path) -> Path:
    if not path.is_file():
        raise SpacerError(
            f"{path} is missing",
            kind="rooms.no-scannetpp-file",
            remedy=f"download {path.name} of the scene under ScanNet++'s terms of use",
        )
    return path


def _with_boxes(
    groups: list[Group],
    stored: list[Any],
    vertices: np.ndarray,
    warnings: list[str],
) -> list[Group]:
    """The groups with their annotated boxes, as far as these hold the vertices."""
    result, wrong = [], 0
    for group, entry in zip(groups, stored, strict=True):
        box = _annotated_box(entry.get("obb"))
        if box is not None and not _holds(box, vertices[group.vertices]):
            box, wrong = None, wrong + 1
        result.append(dataclasses.replace(group, box=box))
    if wrong:
        warnings.append(
            f"{wrong} annotated boxes do not hold their vertices: computed instead"
        )
    return result


def _annotated_box(
    obb: object,
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(centre, lengths, axes as rows); ``None`` if there is none or it is no box."""
    if not isinstance(obb, dict):
        return None
    keys = ("centroid", "axesLengths", "normalizedAxes")
    try:
        center, lengths, axes = (
            np.asarray(obb[k], dtype=np.float64).ravel() for k in keys
        )
        rows: np.ndarray = axes.reshape(3, 3)
    except (KeyError, TypeError, ValueError):
        return None
    if center.shape != (3,) or lengths.shape != (3,) or not (lengths > 0).all():
        return None
    square = np.allclose(rows @ rows.T, np.eye(3), atol=1e-3)
    return (center, lengths, rows) if square else None


def _holds(box: tuple[np.ndarray, np.ndarray, np.ndarray], points: np.ndarray) -> bool:
    if not len(points):
        return True
    center, lengths, axes = box
    inside = np.abs((points - center) @ axes.T) <= lengths / 2 + BOX_MARGIN_M
    return bool(inside.all(axis=1).mean() >= BOX_HOLDS)


def _frames_of(path: Path) -> dict[int, Mapping[str, Any]]:
    """``{frame: entry}`` of ``pose_intrinsic_imu.json``: keys ``frame_000000`` …"""
    content = read_json(path)
    frames: dict[int, Mapping[str, Any]] = {}
    for name, entry in content.items() if isinstance(content, dict) else ():
        number = str(name).removeprefix("frame_")
        if number.isdecimal() and len(number) <= 7 and isinstance(entry, dict):
            frames[int(number)] = entry
    if not frames:
        raise SpacerError(
            f"{path} has no frame",
            kind="rooms.scannetpp-poses",
            got=str(content)[:60],
            expected="{frame_000000: {aligned_pose, intrinsic, …}, …}",
            remedy=f"download {path.name} again",
        )
    return frames


def _matrix(path: Path, index: int, value: Any, side: int) -> np.ndarray | None:
    """A square matrix of a frame; ``None`` if it is absent or not finite."""
    if value is None:
        return None
    try:
        matrix = np.asarray(value, dtype=np.float64).reshape(side, side)
    except (TypeError, ValueError) as error:
        raise SpacerError(
            f"{path}, frame {index}",
            kind="rooms.scannetpp-matrix",
            got=str(value)[:60],
            expected=f"a {side}x{side} matrix",
            remedy=f"download {path.name} again",
        ) from error
    return matrix if np.isfinite(matrix).all() else None


def _seconds(entry: Mapping[str, Any]) -> float:
    value = entry.get("timestamp")
    known = isinstance(value, (int, float)) and np.isfinite(value) and value >= 0
    return float(value) if known and value is not None else 0.0


def _fps(frames: list[StoredFrame]) -> float:
    times = [(f.index, f.color_time_us) for f in frames if f.color_time_us]
    if len(times) < 2 or times[-1][1] <= times[0][1]:
        return FPS
    span_s = (times[-1][1] - times[0][1]) / 1e6
    return round((times[-1][0] - times[0][0]) / span_s, 3)


def _color_size(video: Path | None) -> tuple[int, int]:
    if video is None:
        return COLOR_SIZE
    header = cv2.VideoCapture(str(video))
    try:
        size = [
            int(header.get(key))
            for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        ]
    finally:
        header.release()
    return (size[0], size[1]) if min(size) > 0 else COLOR_SIZE


def _colmap_poses(path: Path) -> dict[int, npt.NDArray[np.float64]]:
    """``{frame: T_scan_from_camera}`` of COLMAP's ``images.txt``, if it is there.

    A line has id, quaternion (w x y z) and translation of the camera's transform from
    world to camera, the camera's id and the image's name.
    """
    from scipy.spatial.transform import Rotation

    poses: dict[int, npt.NDArray[np.float64]] = {}
    for line in read_text(path).splitlines() if path.is_file() else ():
        words = line.split()
        if line.startswith("#") or len(words) != 10:
            continue
        name = words[9].split("/")[-1].removeprefix("frame_").split(".")[0]
        try:
            w, x, y, z, *t = map(float, words[1:8])
        except ValueError:
            continue  # the line of an image's points
        if name.isdecimal():
            R = Rotation.from_quat([x, y, z, w]).as_matrix()  # camera from scan
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = R.T, -R.T @ np.array(t)
            poses[int(name)] = pose
    return poses


def _depth_readers(scan_dir: Path, warnings: list[str]) -> dict[int, Any]:
    """``{frame: reader of its depth}``, of extracted images or ``depth.bin``."""
    folder, path = scan_dir / "iphone" / "depth", scan_dir / DEPTH
    images = listing(folder, "frame_*.png")
    if images:
        return {
            int(image.stem.removeprefix("frame_")): functools.partial(
                read_depth_image, image
            )
            for image in images
            if image.stem.removeprefix("frame_").isdecimal()
        }
    if not path.is_file():
        return {}
    chunks = _chunks(path)
    if chunks is None:
        warnings.append(
            f"{DEPTH} is compressed as a whole, as in the first release: extract "
            "iphone/depth with the data set's own tools"
        )
        return {}
    return {
        index: functools.partial(_read_chunk, path, at, size)
        for index, (at, size) in enumerate(chunks)
    }


def _chunks(path: Path) -> list[tuple[int, int]] | None:
    """[(start, bytes)] of the images in ``depth.bin``: each after its u32 size.

    ``None`` if the sizes do not add up to the file.
    """
    chunks, at, total = [], 0, path.stat().st_size
    with path.open("rb") as stream:
        while at + 4 <= total:
            stream.seek(at)
            (size,) = struct.unpack("<I", stream.read(4))
            chunks.append((at + 4, size))
            at += 4 + size
    return chunks if chunks and at == total else None


def _read_chunk(path: Path, at: int, size: int) -> npt.NDArray[np.float32]:
    """(192, 256) float32 metres: LZ4 of u16 millimetres, or deflated f32 metres."""
    import pyarrow

    pixels = DEPTH_SIZE[0] * DEPTH_SIZE[1]
    with path.open("rb") as stream:
        stream.seek(at)
        data = stream.read(size)
    try:
        raw = pyarrow.decompress(
            data, decompressed_size=2 * pixels, codec="lz4_raw", asbytes=True
        )
        depth = np.frombuffer(raw, "<u2").astype(np.float32) / np.float32(1000)
    except (OSError, ValueError):
        try:
            raw = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, 4 * pixels + 1)
        except zlib.error:
            raw = b""
        if len(raw) != 4 * pixels:
            raise SpacerError(
                f"{path}, image at byte {at}",
                kind="rooms.scannetpp-depth",
                got=f"{size} bytes that are neither LZ4 nor deflated",
                expected=f"{DEPTH_SIZE[0]} x {DEPTH_SIZE[1]} pixels",
                remedy=f"download {path.name} again",
            ) from None
        depth = np.frombuffer(raw, "<f4").astype(np.float32)
    return depth.reshape(DEPTH_SIZE[1], DEPTH_SIZE[0])
