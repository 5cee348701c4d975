"""One scan folder → ``Scene``: aligned boxes, floor, room size, first-seen frames.

Source: SpaceR §3 "Data Collection"; ScanNet's file formats. Old releases parse too:
without ``axisAlignment``, with scan ids that lack the ``scene`` prefix, and with
labels that the table does not know.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyParseError

from spacer_lib.artifacts import read_json
from spacer_lib.errors import SpacerError
from spacer_lib.geometry import (
    alpha_shape_area_m2,
    oriented_box,
    require_rigid,
    transform_points,
)
from spacer_lib.scannet.frames2d import read_instance_frames
from spacer_lib.scannet.labels import normalise_category, read_labels
from spacer_lib.scannet.sens import SensReader
from spacer_lib.scene import STRUCTURAL_CATEGORIES, ObjectInstance, Scene

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

# Vertices taken as floor where none is labelled so.
FLOOR_BAND_M = 0.1
MAX_FLOOR_POINTS = 20_000

MESH = "_vh_clean_2.ply"
SEGMENTS = "_vh_clean_2.0.010000.segs.json"
AGGREGATION = ".aggregation.json"
INSTANCES_2D = "_2d-instance-filt.zip"


@dataclass(frozen=True)
class Group:
    """One annotated group: ``vertices`` are (n,) indices into the mesh."""

    object_id: int
    label: str
    vertices: np.ndarray


def parse_scene(scan_dir, label_tsv, *, video_path=None):
    """Read one scan folder.

    Parameters
    ----------
    scan_dir : path
        ``scans/<scan id>`` with ``.txt``, ``_vh_clean_2.ply``, its ``.segs.json``,
        ``.aggregation.json`` and ``.sens``; ``_2d-instance-filt.zip`` if at hand
        (without it, vertices are projected into the depth images instead).
    label_tsv : path
        ``scannetv2-labels.combined.tsv``.
    video_path : path, optional
        Recorded in the scene as it is.

    Returns
    -------
    Scene
        Structural categories (walls, floor …) are left out of ``instances``; the
        floor gives the rectangle and the area. ``room_center_m`` is the rectangle's
        centre at half the mesh's height.

    Raises
    ------
    SpacerError
        For missing, broken or contradictory files, named with what to download.
    """
    scan_dir = Path(scan_dir)
    if not scan_dir.is_dir():
        raise SpacerError(
            f"{scan_dir} is missing",
            expected="a folder scans/<scan id>",
            remedy="download the scan, or fix the path",
        )
    scan, warnings = scan_dir.name, []
    labels = read_labels(label_tsv)
    T_aligned_from_scan = read_alignment(scan_dir)
    if T_aligned_from_scan is None:
        T_aligned_from_scan = np.eye(4)
        warnings.append("no axisAlignment: the scan's own axes are kept")
    vertices, _ = read_vertices(scan_dir)
    groups = read_groups(scan_dir, len(vertices))
    points = transform_points(T_aligned_from_scan, vertices)  # (n, 3) m, aligned

    named_groups, unknown = [], {}
    for group in groups:
        if group.label in labels:
            category = labels[group.label].category
        else:
            unknown[group.label] = unknown.get(group.label, 0) + 1
            category = normalise_category(group.label)
        named_groups.append((group, category))
    if unknown:
        listed = ", ".join(f"{label} x{n}" for label, n in sorted(unknown.items()))
        warnings.append(f"{len(unknown)} labels absent from the table: {listed}")

    floor = [g.vertices for g, category in named_groups if category == "floor"]
    if floor:
        floor = points[np.unique(np.concatenate(floor))]
    else:
        floor = points[np.abs(points[:, 2]) <= FLOOR_BAND_M]
        warnings.append(f"no floor label: vertices within {FLOOR_BAND_M} m of z = 0")
    step = -(-len(floor) // MAX_FLOOR_POINTS) or 1
    room_size_m2 = alpha_shape_area_m2(floor[::step, :2])
    floor_min_m, floor_max_m = floor[:, :2].min(axis=0), floor[:, :2].max(axis=0)
    middle_z = (points[:, 2].min() + points[:, 2].max()) / 2

    kept = [pair for pair in named_groups if pair[1] not in STRUCTURAL_CATEGORIES]
    with SensReader(_require(scan_dir, ".sens")) as recording:
        frame_count = recording.frame_count
        zip_path = scan_dir / f"{scan}{INSTANCES_2D}"
        if zip_path.exists():
            first_seen = _first_seen_in_images(zip_path, [g.object_id for g, _ in kept])
        else:
            first_seen = _first_seen_by_projection(
                recording, {g.object_id: vertices[g.vertices] for g, _ in kept}
            )
            warnings.append(f"no {INSTANCES_2D[1:]}: first frames by projection")

    instances = []
    for group, category in kept:
        mine = points[group.vertices]
        centroid_m, axes_lengths_m, axes = oriented_box(mine)
        instances.append(
            ObjectInstance(
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
        )
    return Scene(
        scene_id=scan,
        dataset="scannet",
        instances=tuple(instances),
        room_size_m2=room_size_m2,
        room_center_m=(*((floor_min_m + floor_max_m) / 2), middle_z),
        floor_min_m=floor_min_m,
        floor_max_m=floor_max_m,
        video_path=None if video_path is None else str(video_path),
        fps=FPS,
        frame_count=frame_count,
        source="scannet",
        warnings=tuple(warnings),
    )


def _require(scan_dir, suffix):
    path = Path(scan_dir) / f"{Path(scan_dir).name}{suffix}"
    if not path.is_file():
        raise SpacerError(
            f"{path} is missing",
            remedy=f"download the scan's *{suffix} under ScanNet's terms of use",
        )
    return path


def read_alignment(scan_dir):
    """(4, 4) T_aligned_from_scan from the scan's ``.txt``; ``None`` if it has none.

    Raises
    ------
    SpacerError
        If the file is missing or the matrix is not 16 numbers of a rigid transform.
    """
    path = _require(scan_dir, ".txt")
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
        vertices = np.flatnonzero(chosen[place])
        if not len(vertices):
            raise SpacerError(
                f"{groups_path}: object {object_id} ({label}) has no segments",
                remedy=f"download *{AGGREGATION} again",
            )
        groups.append(Group(object_id, label, vertices))
    return groups


def _require_own(path, content, scan):
    """Refuse a file of another scan; ids come as 0000_00, with prefixes, or not."""
    stored = str(content.get("sceneId", scan)) if isinstance(content, dict) else scan
    bare = stored.removeprefix("scannet.").removeprefix("scene")
    if bare != scan.removeprefix("scene"):
        raise SpacerError(
            f"{path} describes another scan", got=stored, expected=scan,
            remedy="put each scan's files in its own folder",
        )  # fmt: skip


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
