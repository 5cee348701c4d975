"""One folder of ARKitScenes → ``Scene``.

``<split>/<video id>/`` holds ``<id>_3dod_mesh.ply`` (metres, +z up),
``<id>_3dod_annotation.json`` with oriented boxes, and the recording in
``<id>_frames/`` (or beside them, in the raw release): ``lowres_wide/`` and
``lowres_depth/`` with PNG images named by their time, ``lowres_wide_intrinsics/`` and
``lowres_wide.traj``. The mesh has no labels: an object's vertices are those in its box.

A line of ``.traj`` has a time, an axis-angle rotation and a translation of the
transform from world to camera; here it is inverted. In the camera x is to the right, y
down and z forward. A box's ``normalizedAxes`` are its axes as rows: the corners are
``centroid + local @ axes``.

Source: https://github.com/apple/ARKitScenes (``DATA.md``,
``threedod/benchmark_scripts/utils/tenFpsDataLoader.py`` and ``box_utils.py``).
"""

import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from spacer_lib.artifacts import PathLike, listing, read_json
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.footage import Camera, usable_camera
from spacer_lib.rooms.geometry import box_corners
from spacer_lib.rooms.recording import (
    FrameFolder,
    StoredFrame,
    is_leftover,
    read_depth_image,
)
from spacer_lib.rooms.scannet.labels import normalise_category
from spacer_lib.rooms.scannet.parse import (
    Annotated,
    Group,
    NamedGroup,
    build_scene,
    read_mesh,
    sizes_of,
)
from spacer_lib.rooms.scannet.text import read_text
from spacer_lib.rooms.scene import Scene, require_scene_id

DATASET = "arkitscenes"
MESH, ANNOTATION = "_3dod_mesh.ply", "_3dod_annotation.json"
FRAMES = "_frames"
COLOR, DEPTH = "lowres_wide", "lowres_depth"
INTRINSICS, TRAJECTORY = "lowres_wide_intrinsics", "lowres_wide.traj"

FPS = 10.0  # if there is a single frame
# Largest difference between the times of an image and of its pose.
POSE_TOLERANCE_S = 0.005
BOX_MARGIN_M = 0.02
# The lowest part of a box holds the floor's vertices too: it is left out of boxes that
# are four times as high.
UNDER_M = 0.03
FLOOR_BIN_M = 0.05
CATEGORIES = {"tv monitor": "tv"}  # VSI-Bench's name


def parse_arkitscenes(
    scan_dir: PathLike, *, video_path: PathLike | None = None
) -> Scene:
    """Read one folder ``<split>/<video id>``.

    The floor is moved to z = 0. The data set does not align walls with x and y: a
    warning says so. Boxes are the annotated ones, as in VSI-Bench's metadata.

    Raises
    ------
    SpacerError
        If mesh or annotation are missing or broken.
    """
    scan_dir = Path(scan_dir).resolve()
    mesh, annotation = (_require(scan_dir, suffix) for suffix in (MESH, ANNOTATION))
    warnings = ["no alignment of walls with x and y: the scan's own axes are kept"]
    vertices, _ = read_mesh(mesh)
    T_aligned_from_scan = np.eye(4)
    T_aligned_from_scan[2, 3] = -_floor_height(vertices[:, 2])
    groups = _read_boxes(annotation, vertices, warnings)
    frames = _frames_folder(scan_dir)
    return build_scene(
        Annotated(
            scan=require_scene_id(scan_dir.name),
            dataset=DATASET,
            vertices=vertices,
            T_aligned_from_scan=T_aligned_from_scan,
            aligned=False,
            groups=groups,
            annotated=len(groups),
            recording=open_recording(scan_dir, warnings),
            instance_images=None,
            files=sizes_of([mesh, annotation, frames / TRAJECTORY]),
            warnings=warnings,
        ),
        video_path,
    )


def open_recording(
    scan_dir: PathLike, warnings: list[str] | None = None
) -> FrameFolder | None:
    """The low-resolution frames; ``None`` and a warning without any.

    A frame without a pose within ``POSE_TOLERANCE_S`` has none. Its intrinsics are the
    nearest in time. Colour and depth images have one size, so both share them.

    Raises
    ------
    SpacerError
        If the trajectory or an intrinsics file has another form.
    """
    warnings = [] if warnings is None else warnings
    folder = _frames_folder(Path(scan_dir).resolve())
    color, depth = _by_time(folder / COLOR, ".png"), _by_time(folder / DEPTH, ".png")
    if not color:
        warnings.append(f"no {COLOR}: no video, no frame rate, no camera path")
        return None
    times = sorted(color)
    span_s = times[-1] - times[0]
    fps = round((len(times) - 1) / span_s, 3) if span_s > 0 else FPS
    cameras = _by_time(folder / INTRINSICS, ".pincam")
    if depth and not cameras:
        warnings.append(f"no {INTRINSICS}: the depth images are not used")
        depth = {}
    poses = _matched(times, _read_trajectory(folder), POSE_TOLERANCE_S)
    images = _matched(times, depth, POSE_TOLERANCE_S)
    pincams = [path and _pincam(path) for path in _matched(times, cameras, np.inf)]
    frames = tuple(
        StoredFrame(
            index=index,
            T_scan_from_camera=poses[index],
            depth_intrinsic=pincams[index].intrinsic if cameras else np.eye(3),
            color_time_us=round(1e6 * time),
            depth_time_us=round(1e6 * time),
            color=color[time],
            depth=images[index] and functools.partial(read_depth_image, images[index]),
        )
        for index, time in enumerate(times)
    )
    camera = None
    if cameras:  # focusing changes it by some pixels
        middle = np.median([pincam.intrinsic for pincam in pincams], axis=0)
        camera = usable_camera(middle, pincams[0].size)
    return FrameFolder(folder, fps, frames, tuple(range(len(frames))), camera)


def _frames_folder(scan_dir: Path) -> Path:
    inside = scan_dir / f"{scan_dir.name}{FRAMES}"
    return inside if inside.is_dir() else scan_dir


def _require(scan_dir: Path, suffix: str) -> Path:
    path = scan_dir / f"{scan_dir.name}{suffix}"
    if not path.is_file():
        raise SpacerError(
            f"{path} is missing",
            kind="rooms.no-arkitscenes-file",
            remedy=f"download the video's *{suffix} (data set 3dod, or raw with the "
            "assets mesh and annotation)",
        )
    return path


def _floor_height(z: np.ndarray) -> float:
    """z of the most frequent height in the lower half of the mesh, metres."""
    low, middle = float(z.min()), float((z.min() + z.max()) / 2)
    bins = max(1, int(np.ceil((middle - low) / FLOOR_BIN_M)))
    counts, edges = np.histogram(z, bins=bins, range=(low, low + bins * FLOOR_BIN_M))
    k = int(counts.argmax())
    inside = z[(z >= edges[k]) & (z <= edges[k + 1])]
    return float(np.median(inside)) if len(inside) else low


def _read_boxes(
    path: Path, vertices: np.ndarray, warnings: list[str]
) -> list[NamedGroup]:
    """[(group with its box, category)]; an object's id is its place in the file."""
    content = read_json(path)
    groups: list[NamedGroup] = []
    try:
        if content.get("skipped"):
            warnings.append("the annotation is marked as skipped")
        for number, entry in enumerate(content["data"]):
            obb, label = entry["segments"]["obbAligned"], str(entry["label"])
            center, lengths, axes = (
                np.asarray(obb[key], dtype=np.float64).ravel()
                for key in ("centroid", "axesLengths", "normalizedAxes")
            )
            box = center.reshape(3), lengths.reshape(3), axes.reshape(3, 3)
            if not np.allclose(box[2] @ box[2].T, np.eye(3), atol=1e-3):
                raise ValueError(f"axes of object {number} are not orthonormal")
            category = normalise_category(label)
            group = Group(number, label, _inside(box, vertices), box=box)
            groups.append((group, CATEGORIES.get(category, category)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpacerError(
            f"{path} has another form",
            kind="rooms.arkitscenes-annotation",
            got=f"{type(error).__name__} {error}",
            expected="data: label and segments.obbAligned with centroid, axesLengths "
            "and orthonormal normalizedAxes",
            remedy=f"download {path.name} again",
        ) from error
    return groups


def _inside(
    box: tuple[np.ndarray, np.ndarray, np.ndarray], vertices: np.ndarray
) -> npt.NDArray[np.int64]:
    """Indices of the vertices in a box, without those of the floor under it."""
    center, lengths, axes = box
    local = np.abs((vertices - center) @ axes.T)
    inside = (local <= lengths / 2 + BOX_MARGIN_M).all(axis=1)
    z = box_corners(*box)[:, 2]
    if np.ptp(z) >= 4 * UNDER_M:
        inside &= vertices[:, 2] >= z.min() + UNDER_M
    return np.flatnonzero(inside)


def _by_time(folder: Path, suffix: str) -> dict[float, Path]:
    """``{seconds: file}`` of names such as ``41069021_1234.567.png``."""
    found: dict[float, Path] = {}
    for path in listing(folder):
        if path.suffix.lower() != suffix or is_leftover(path.name):
            continue
        try:
            found[float(path.name[: -len(suffix)].split("_")[-1])] = path
        except ValueError:
            continue
    return found


def _matched(
    times: list[float], table: dict[float, Any], tolerance_s: float
) -> list[Any]:
    """For each time the value of the nearest time in the table within the tolerance.

    ``None`` where there is none.
    """
    if not table:
        return [None] * len(times)
    known = np.array(sorted(table))
    after = np.searchsorted(known, times).clip(0, len(known) - 1)
    before = (after - 1).clip(0)
    wanted = np.array(times)
    closer = np.abs(known[before] - wanted) < np.abs(known[after] - wanted)
    nearest = known[np.where(closer, before, after)]
    near = np.abs(nearest - wanted) <= tolerance_s
    return [
        table[n] if ok else None for n, ok in zip(nearest.tolist(), near, strict=True)
    ]


def _read_trajectory(folder: Path) -> dict[float, npt.NDArray[np.float64]]:
    """``{seconds: T_scan_from_camera (4, 4)}``; empty without a trajectory."""
    path = folder / TRAJECTORY
    poses = {}
    lines = read_text(path).splitlines() if path.is_file() else ()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            time, *values = map(float, line.split())
            rotation, translation = np.array(values).reshape(2, 3)
        except ValueError as error:
            raise SpacerError(
                f"{path} line {number}",
                kind="rooms.arkitscenes-trajectory",
                got=line[:80],
                expected="a time, three numbers of rotation, three of translation",
                remedy=f"download {path.name} again",
            ) from error
        R, _ = cv2.Rodrigues(rotation)  # camera from scan
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = R.T, -R.T @ translation
        poses[time] = pose
    return poses


def _pincam(path: Path) -> Camera:
    """The camera of ``width height fx fy cx cy``."""
    words = read_text(path).split()
    try:
        width, height, fx, fy, cx, cy = map(float, words)
        size = int(width), int(height)
    except (ValueError, OverflowError) as error:
        raise SpacerError(
            f"{path}: intrinsics",
            kind="rooms.intrinsics",
            got=" ".join(words)[:80] or "nothing",
            expected="width height fx fy cx cy",
            remedy="download the intrinsics again",
        ) from error
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    return Camera(K, size)
