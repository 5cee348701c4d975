"""One scan folder → ``Scene``: aligned boxes, floor, room size, first-seen frames.

Source: SpaceR §3 "Data Collection"; ScanNet's file formats. Old releases parse too:
without ``axisAlignment``, without a recording, with scan ids that lack the ``scene``
prefix, and with labels that the table does not know.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyParseError

from spacer_lib.artifacts import read_json
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.geometry import (
    alpha_shape_area_m2,
    oriented_box,
    require_rigid,
    transform_points,
)
from spacer_lib.rooms.scannet.frames2d import read_frame_numbers, read_instance_frames
from spacer_lib.rooms.scannet.labels import normalise_category, read_labels
from spacer_lib.rooms.scannet.sens import SensReader
from spacer_lib.rooms.scene import (
    PARSER_VERSION,
    STRUCTURAL_CATEGORIES,
    ObjectInstance,
    Scene,
    require_scene_id,
)

# Videos are written at this rate (SpaceR §3), whatever the sensor's was.
FPS = 24.0

# An instance counts as seen when it covers this share of the image's pixels: 1,255
# of a 1296x968 frame, a patch of 35x35.
MIN_VISIBLE_FRACTION = 0.001

# Without instance images: seen when this share of at most so many of its vertices
# projects into the depth image and agrees with it this well.
MIN_VISIBLE_VERTICES = 0.1
MAX_PROJECTED_VERTICES = 200
DEPTH_TOLERANCE_M = 0.08

# The camera path keeps the first frame with a pose, then each one at least so many
# frames after the last kept: two a second of video.
CAMERA_PATH_EVERY = 12

# Vertices taken as floor where none is labelled so.
FLOOR_BAND_M = 0.1
MAX_FLOOR_POINTS = 20_000

MESH = "_vh_clean_2.ply"
SEGMENTS = "_vh_clean_2.0.010000.segs.json"
AGGREGATION = ".aggregation.json"
INSTANCES_2D = "_2d-instance-filt.zip"
TEXT, RECORDING = ".txt", ".sens"

# How first frames are found → what counts as seen.
VISIBLE = {
    "instance images": f"{MIN_VISIBLE_FRACTION:.1%} of the image's pixels",
    "projection": f"{MIN_VISIBLE_VERTICES:.0%} of up to {MAX_PROJECTED_VERTICES} "
    f"vertices, within {DEPTH_TOLERANCE_M} m of the depth image",
}


@dataclass(frozen=True)
class Group:
    """One annotated group: ``vertices`` are (n,) indices into the mesh."""

    object_id: int
    label: str
    vertices: np.ndarray


@dataclass(frozen=True)
class Recording:
    """What the scene takes from a ``.sens``: its length, and where the camera was.

    ``posed`` holds the frames with a pose; ``camera_path_m`` is ``Scene``'s.
    """

    path: Path
    frame_count: int
    posed: tuple
    camera_path_m: tuple


def parse_scene(scan_dir, label_tsv, *, video_path=None):
    """Read one scan folder.

    Parameters
    ----------
    scan_dir : path
        ``scans/<scan id>`` with ``.txt``, ``_vh_clean_2.ply``, its ``.segs.json``
        and ``.aggregation.json``; ``.sens`` (without it the scene has no video, and
        a warning); ``_2d-instance-filt.zip`` if at hand (without it, vertices are
        projected into the depth images instead). All are named like the folder. A
        folder ``0000_00``, as old releases have it, is scan ``scene0000_00``: rescans
        and held-out lists must find their space.
    label_tsv : path
        ``scannetv2-labels.combined.tsv``.
    video_path : path, optional
        Recorded in the scene as it is, if there is a recording.

    Returns
    -------
    Scene
        Structural categories (walls, floor …) are left out of ``instances``; the
        floor gives the rectangle and the area. ``room_center_m`` is the rectangle's
        centre at half the mesh's height. ``camera_path_m`` has at most two positions
        a second of video. ``provenance`` holds ``scan``, ``files`` (name → bytes),
        ``parser_version``, ``aligned``, ``first_seen`` ("instance images",
        "projection" or None), ``minimum_visible`` (that method's rule) and
        ``groups``: what became of each annotated group.

    Raises
    ------
    SpacerError
        For missing, broken or contradictory files, named with what to download.
    """
    scan_dir = Path(os.path.abspath(scan_dir))
    if not scan_dir.is_dir():
        raise SpacerError(
            f"{scan_dir} is missing",
            expected="a folder scans/<scan id>",
            remedy="download the scan, or fix the path",
        )
    prefix = "scene" if re.fullmatch(r"\d{4,}_\d{2}", scan_dir.name) else ""
    scan, warnings = require_scene_id(prefix + scan_dir.name), []
    labels = read_labels(label_tsv)
    T_aligned_from_scan = read_alignment(scan_dir)
    aligned = T_aligned_from_scan is not None
    if not aligned:
        T_aligned_from_scan = np.eye(4)
        warnings.append("no axisAlignment: the scan's own axes are kept")
    vertices, _ = read_vertices(scan_dir)
    named_groups = _named(read_groups(scan_dir, len(vertices)), labels, warnings)
    points = transform_points(T_aligned_from_scan, vertices)  # (n, 3) m, aligned

    area_m2, floor_min_m, floor_max_m = _floor(scan, points, named_groups, warnings)
    middle_z = (points[:, 2].min() + points[:, 2].max()) / 2
    kept, fate = _sort_groups(named_groups, points, warnings)
    recording = _read_recording(scan_dir, T_aligned_from_scan, warnings)
    first_seen, method = _first_seen(
        scan_dir,
        {g.object_id: vertices[g.vertices] for g, _ in kept},
        recording,
        warnings,
    )
    return Scene(
        scene_id=scan,
        dataset="scannet",
        instances=[_instance(*pair, points, first_seen) for pair in kept],
        room_size_m2=area_m2,
        room_center_m=(*((floor_min_m + floor_max_m) / 2), middle_z),
        floor_min_m=floor_min_m,
        floor_max_m=floor_max_m,
        video_path=str(video_path) if video_path and recording else None,
        fps=FPS if recording else None,
        frame_count=recording.frame_count if recording else None,
        source="scannet",
        warnings=tuple(warnings),
        camera_path_m=recording.camera_path_m if recording else (),
        provenance={
            "scan": scan,
            "files": _file_sizes(scan_dir, label_tsv),
            "parser_version": PARSER_VERSION,
            "aligned": aligned,
            "first_seen": method,
            "minimum_visible": VISIBLE.get(method),
            "groups": fate,
        },
    )


def _named(groups, labels, warnings):
    """[(group, category)]; labels that the table lacks keep their own name."""
    unknown = Counter(group.label for group in groups if group.label not in labels)
    if unknown:
        warnings.append(
            f"{len(unknown)} labels absent from the table: {_listed(unknown)}"
        )
    return [
        (
            group,
            normalise_category(group.label)
            if group.label in unknown
            else labels[group.label].category,
        )
        for group in groups
    ]


def _listed(counts):
    return ", ".join(f"{name} x{n}" for name, n in sorted(counts.items()))


def _floor(scan, points, named_groups, warnings):
    """Area in m², and the corners (2,) of the floor's rectangle."""
    floor = [g.vertices for g, category in named_groups if category == "floor"]
    if sum(map(len, floor)):
        floor = points[np.unique(np.concatenate(floor))]
    else:
        floor = points[np.abs(points[:, 2]) <= FLOOR_BAND_M]
        warnings.append(f"no floor label: vertices within {FLOOR_BAND_M} m of z = 0")
    step = -(-len(floor) // MAX_FLOOR_POINTS) or 1
    try:
        area_m2 = alpha_shape_area_m2(floor[::step, :2])
    except SpacerError as error:
        raise SpacerError(
            f"{scan}: {error.what}",
            got=error.got,
            expected=error.expected,
            remedy=error.remedy,
        ) from error
    return area_m2, floor[:, :2].min(axis=0), floor[:, :2].max(axis=0)


def _sort_groups(named_groups, points, warnings):
    """The [(group, category)] that become objects, and what became of all groups."""
    kept, structural, unusable = [], Counter(), Counter()
    for group, category in named_groups:
        mine = points[group.vertices]
        if category in STRUCTURAL_CATEGORIES:
            structural[category] += 1
        elif not len(mine):
            unusable[f"{category} without segments"] += 1
        elif not np.ptp(mine, axis=0).any():
            unusable[f"{category} of a single point"] += 1
        else:
            kept.append((group, category))
    parts = [f"{len(kept)} objects"]
    for kind, counts in (("structural", structural), ("unusable", unusable)):
        if counts:
            parts.append(f"{counts.total()} {kind} ({_listed(counts)})")
    if unusable:
        warnings.append(f"groups that are no objects: {_listed(unusable)}")
    if not kept:
        warnings.append("no object: no annotated group is a piece of furniture")
    return kept, {
        "annotated": len(named_groups),
        "objects": len(kept),
        "structural": dict(structural),
        "unusable": dict(unusable),
        "note": f"{len(named_groups)} groups: {', '.join(parts)}",
    }


def _instance(group, category, points, first_seen):
    mine = points[group.vertices]
    centroid_m, axes_lengths_m, axes = oriented_box(mine)
    return ObjectInstance(
        instance_id=group.object_id,
        category=category,
        centroid_m=centroid_m,
        axes_lengths_m=axes_lengths_m,
        axes=tuple(axes.ravel()),
        aabb_min_m=mine.min(axis=0),
        aabb_max_m=mine.max(axis=0),
        vertex_count=len(mine),
        first_seen_frame=first_seen.get(group.object_id),
    )


def _file(scan_dir, suffix):
    return Path(scan_dir) / f"{Path(scan_dir).name}{suffix}"


def _require(scan_dir, suffix):
    path = _file(scan_dir, suffix)
    if not path.is_file():
        raise SpacerError(
            f"{path} is missing",
            remedy=f"download the scan's *{suffix} under ScanNet's terms of use",
        )
    return path


def _file_sizes(scan_dir, label_tsv):
    """``{name: bytes}`` of the files that a parse reads."""
    suffixes = (TEXT, MESH, SEGMENTS, AGGREGATION, RECORDING, INSTANCES_2D)
    paths = [Path(label_tsv), *(_file(scan_dir, suffix) for suffix in suffixes)]
    return {path.name: path.stat().st_size for path in paths if path.is_file()}


def read_alignment(scan_dir):
    """(4, 4) T_aligned_from_scan from the scan's ``.txt``; ``None`` if it has none.

    Raises
    ------
    SpacerError
        If the file is missing or the matrix is not 16 numbers of a rigid transform.
    """
    path = _require(scan_dir, TEXT)
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "axisAlignment":
            try:
                numbers = [float(word) for word in value.split()]
            except ValueError:
                numbers = []
            if len(numbers) != 16:
                raise SpacerError(
                    f"{path}: axisAlignment",
                    got=value.strip()[:80] or "nothing",
                    expected="16 numbers, row-major",
                    remedy="download the scan's .txt again",
                )
            return require_rigid(numbers, f"{path}: axisAlignment")
    return None


def read_vertices(scan_dir):
    """Vertices of ``_vh_clean_2.ply``.

    Returns
    -------
    points : (n, 3) float64, metres, scan frame
    rgb : (n, 3) uint8
    """
    path = _require(scan_dir, MESH)
    try:
        ply = PlyData.read(path, known_list_len={"face": {"vertex_indices": 3}})
        vertex = ply["vertex"].data
        points = np.stack([vertex[k] for k in "xyz"], axis=1).astype(np.float64)
        rgb = np.stack([vertex[k] for k in ("red", "green", "blue")], axis=1)
    except (PlyParseError, KeyError, ValueError) as error:
        raise SpacerError(
            f"{path} is not a coloured triangle mesh",
            got=error,
            remedy=f"download *{MESH} again",
        ) from error
    if not len(points) or not np.isfinite(points).all():
        raise SpacerError(
            f"{path}: vertices",
            got=f"{len(points)}, finite: {bool(np.isfinite(points).all())}",
            expected="at least one, all finite",
            remedy=f"download *{MESH} again",
        )
    return points, rgb


def read_groups(scan_dir, vertex_count):
    """Annotated groups of a scan as vertex indices, in file order.

    A group without segments has no vertices.

    Parameters
    ----------
    scan_dir : path
    vertex_count : int
        Vertices of the mesh that the segments must cover.

    Raises
    ------
    SpacerError
        If the two files disagree with each other, the mesh or the folder's name.
    """
    scan_dir = Path(scan_dir)
    segments_path = _require(scan_dir, SEGMENTS)
    groups_path = _require(scan_dir, AGGREGATION)
    segments, aggregation = read_json(segments_path), read_json(groups_path)
    for path, content in ((segments_path, segments), (groups_path, aggregation)):
        _require_own(path, content, scan_dir.name)
    try:
        owner = np.asarray(segments["segIndices"], dtype=np.int64)
        stored = [
            (
                int(group["objectId"]),
                str(group.get("label") or "unknown"),
                np.unique(np.asarray(group["segments"], dtype=np.int64)),
            )
            for group in aggregation["segGroups"]
        ]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise SpacerError(
            f"{scan_dir.name}: segs.json or aggregation.json has another form",
            got=f"{type(error).__name__} {error}",
            expected="segIndices; segGroups with objectId, label and segments",
            remedy=f"download *{SEGMENTS} and *{AGGREGATION} again",
        ) from error
    twice = [i for i, n in Counter(i for i, *_ in stored).items() if n > 1]
    if twice:
        raise SpacerError(
            f"{groups_path}: {len(twice)} object ids belong to several groups",
            got=f"first {twice[0]}",
            expected="one group per objectId",
            remedy=f"download *{AGGREGATION} again",
        )
    if owner.shape != (vertex_count,):
        raise SpacerError(
            f"{scan_dir.name}: segs.json does not belong to the mesh",
            got=f"{owner.size} segment indices",
            expected=f"{vertex_count}, one per vertex of *{MESH}",
            remedy=f"download *{MESH} and *{SEGMENTS} again",
        )
    known, place = np.unique(owner, return_inverse=True)
    absent = sorted({int(s) for _, _, ids in stored for s in ids[~np.isin(ids, known)]})
    if absent:
        raise SpacerError(
            f"{scan_dir.name}: {len(absent)} segment ids absent from segs.json "
            f"(first: {absent[0]})",
            remedy=f"download *{SEGMENTS} again; *_vh_clean.aggregation.json belongs "
            "to another mesh",
        )
    groups = []
    for object_id, label, ids in stored:
        chosen = np.zeros(len(known), dtype=bool)
        chosen[np.searchsorted(known, ids)] = True
        groups.append(Group(object_id, label, np.flatnonzero(chosen[place])))
    return groups


def _require_own(path, content, scan):
    """Refuse a file of another scan; ids come as 0000_00, with prefixes, or not."""
    stored = str(content.get("sceneId", scan)) if isinstance(content, dict) else scan
    bare = stored.removeprefix("scannet.").removeprefix("scene")
    if bare != scan.removeprefix("scene"):
        raise SpacerError(
            f"{path} describes another scan",
            got=stored,
            expected=scan,
            remedy="put each scan's files in its own folder",
        )


def _read_recording(scan_dir, T_aligned_from_scan, warnings):
    """``Recording``, or ``None`` and a warning; no image is read."""
    path = _file(scan_dir, RECORDING)
    if not path.is_file():
        warnings.append(f"no {RECORDING}: no video, no frame rate, no camera path")
        return None
    posed, camera_path_m = [], []
    with SensReader(path) as reader:
        for index, T_scan_from_camera in reader.poses():
            if T_scan_from_camera is None:
                continue
            posed.append(index)
            if not camera_path_m or index - camera_path_m[-1][0] >= CAMERA_PATH_EVERY:
                center = T_scan_from_camera[None, :3, 3]
                x, y, z = transform_points(T_aligned_from_scan, center)[0].tolist()
                camera_path_m.append((index, x, y, z))
        return Recording(path, reader.frame_count, tuple(posed), tuple(camera_path_m))


def _first_seen(scan_dir, vertices, recording, warnings):
    """``{object_id: frame}`` and the method, of ``{object_id: (n, 3) scan frame}``."""
    zip_path = _file(scan_dir, INSTANCES_2D)
    if zip_path.is_file():
        _require_whole(zip_path, recording)
        return _first_seen_in_images(zip_path, vertices), "instance images"
    if recording is None:
        warnings.append(f"no {INSTANCES_2D[1:]} either: first frames are unknown")
        return {}, None
    warnings.append(f"no {INSTANCES_2D[1:]}: first frames by projection")
    with SensReader(recording.path) as reader:
        return _first_seen_by_projection(reader, vertices), "projection"


def _require_whole(zip_path, recording):
    """Refuse an archive whose frames are not the recording's.

    Frames without a pose may lack an image (it is made by projecting the mesh).
    Without a recording the numbers must run from 0 without a gap.
    """
    held = set(read_frame_numbers(zip_path))
    frames = range(recording.frame_count if recording else max(held, default=0) + 1)
    absent = sorted(set(recording.posed if recording else frames) - held)
    foreign = sorted(held - set(frames))
    if absent or foreign:
        parts = [
            f"{len(numbers)} frames {what} (first: {numbers[0]})"
            for what, numbers in (("missing", absent), ("too many", foreign))
            if numbers
        ]
        raise SpacerError(
            f"{zip_path}: the images are not the recording's",
            got=" and ".join(parts),
            expected=f"frames 0 to {len(frames) - 1}",
            remedy=f"download {zip_path.name} again, or remove it: first frames then "
            "come by projection",
        )


def _first_seen_in_images(zip_path, object_ids):
    """``{object_id: frame}`` by pixel counts (value = objectId + 1)."""
    first_seen, waiting = {}, {i for i in object_ids if 0 <= i < 255}
    for index, image in read_instance_frames(zip_path):
        counts = np.bincount(image.ravel(), minlength=256)
        seen = counts >= max(1, MIN_VISIBLE_FRACTION * image.size)
        for object_id in [i for i in waiting if seen[i + 1]]:
            first_seen[object_id] = index
            waiting.remove(object_id)
        if not waiting:
            break
    return first_seen


def _first_seen_by_projection(recording, vertices):
    """``{object_id: frame}`` by projecting (n, 3) scan-frame vertices, depth-tested."""
    waiting = {}
    for object_id, points in vertices.items():
        count = min(len(points), MAX_PROJECTED_VERTICES)
        waiting[object_id] = points[np.linspace(0, len(points) - 1, count).astype(int)]
    first_seen, K = {}, recording.depth_intrinsic
    width, height = recording.depth_size
    for frame in recording:
        if frame.T_scan_from_camera is None:
            continue
        T_scan_from_camera = require_rigid(
            frame.T_scan_from_camera, f"{recording.path}, frame {frame.index}"
        )
        depth = frame.depth_m()
        R, t = T_scan_from_camera[:3, :3], T_scan_from_camera[:3, 3]
        for object_id, points in list(waiting.items()):
            camera = (points - t) @ R  # R^T (p - t), as rows
            camera = camera[camera[:, 2] > 0.05]
            u = np.rint(K[0, 0] * camera[:, 0] / camera[:, 2] + K[0, 2])
            v = np.rint(K[1, 1] * camera[:, 1] / camera[:, 2] + K[1, 2])
            inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
            measured = depth[v[inside].astype(int), u[inside].astype(int)]
            near = np.abs(measured - camera[inside, 2]) <= DEPTH_TOLERANCE_M
            if near.sum() >= max(1, MIN_VISIBLE_VERTICES * len(points)):
                first_seen[object_id] = frame.index
                del waiting[object_id]
        if not waiting:
            break
    return first_seen
