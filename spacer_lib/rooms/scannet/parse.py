"""One scan folder → ``Scene``: aligned boxes, floor, room size, first-seen frames.

Old releases are read too: without ``axisAlignment``, without a recording, with scan ids
that lack the prefix ``scene``, and with labels that the table lacks.

Source: SpaceR §3 "Data Collection"; ScanNet's data organisation,
https://github.com/ScanNet/ScanNet.
"""

import dataclasses
import operator
import os
import re
import reprlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spacer_lib.artifacts import PathLike, read_json
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.area import room_floor
from spacer_lib.rooms.geometry import (
    alpha_shape_area_m2,
    box_corners,
    oriented_box,
    require_rigid,
    transform_points,
)
from spacer_lib.rooms.recording import RecordingReader
from spacer_lib.rooms.scannet.exported import find_frames, read_exported
from spacer_lib.rooms.scannet.labels import (
    Label,
    find_label,
    normalise_category,
    read_labels,
)
from spacer_lib.rooms.scannet.recorded import VISIBLE, read_poses, what_is_seen
from spacer_lib.rooms.scannet.sens import SensReader
from spacer_lib.rooms.scannet.text import read_text
from spacer_lib.rooms.scene import (
    BENCHMARK_AREA,
    PARSER_VERSION,
    ObjectInstance,
    Ring,
    Scene,
    is_structural,
    require_scene_id,
)

MAX_OBJECT_M = 30.0  # longest side of an object's axis-aligned box
MIN_ROOM_M, MAX_ROOM_M = 0.5, 150.0  # longest side of the mesh
MIN_ROOM_M2, MAX_ROOM_M2 = 0.1, 2000.0

# Vertices this close to z = 0 are the floor if none is labelled as floor.
FLOOR_BAND_M = 0.1
# A floor label that covers less of the room's area causes a warning.
MIN_FLOOR_LABEL = 0.9

MESH = "_vh_clean_2.ply"
SEGMENTS = "_vh_clean_2.0.010000.segs.json"
AGGREGATION = ".aggregation.json"
INSTANCES_2D = "_2d-instance-filt.zip"
TEXT, RECORDING = ".txt", ".sens"


@dataclass(frozen=True)
class Group:
    """One annotated group; ``vertices`` (n,) are indices into the mesh.

    ``other_ids`` are the object ids of further groups with the same vertices. ``box``
    is an annotated oriented box in the scan frame: centre (3,), edge lengths (3,) and
    axes (3, 3) as rows. Without one the box is computed from the vertices.
    """

    object_id: int
    label: str
    vertices: np.ndarray
    other_ids: tuple[int, ...] = ()
    box: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


NamedGroup = tuple[Group, str]  # with its category


@dataclass(frozen=True)
class Annotated:
    """What the reader of a data set's layout hands over to ``build_scene``.

    Attributes
    ----------
    scan, dataset : str
        Id of the scan; name of the data set.
    vertices : (n, 3) float64
        Of the mesh, metres, scan frame: the frame of the poses.
    T_aligned_from_scan : (4, 4) float64
    aligned : bool
        Whether the data set aligns walls with x and y.
    groups : list of (Group, category)
    annotated : int
        Groups in the file. More than ``groups`` if some were listed twice.
    recording : RecordingReader or None
    instance_images : Path or None
        Archive of ScanNet's 2-D instance images.
    files : dict
        Name → bytes of the files that were read.
    warnings : list of str
        ``build_scene`` adds to them.
    """

    scan: str
    dataset: str
    vertices: npt.NDArray[np.float64]
    T_aligned_from_scan: npt.NDArray[np.float64]
    aligned: bool
    groups: list[NamedGroup]
    annotated: int
    recording: RecordingReader | None
    instance_images: Path | None
    files: dict[str, int]
    warnings: list[str]


def parse_scene(
    scan_dir: PathLike, label_tsv: PathLike, *, video_path: PathLike | None = None
) -> Scene:
    """Read one scan folder.

    Parameters
    ----------
    scan_dir : path
        ``scans/<scan id>``. It must hold ``_vh_clean_2.ply``, its ``.segs.json`` and
        ``.aggregation.json``, all named like the folder. The recording is ``.sens``
        (with ``.txt`` beside it) or the folders of ``exported.find_frames``; without
        either the scene has no video. Without ``_2d-instance-filt.zip`` depth images
        tell what a frame shows. Warnings tell what is absent. A folder
        ``0000_00``, as in old releases, is scan ``scene0000_00``, so that rescans and
        held-out lists match.
    label_tsv : path
        ``scannetv2-labels.combined.tsv``.
    video_path : path, optional
        Written into the scene unchanged, if there is a recording.

    Returns
    -------
    Scene
        ``instances`` has no structural categories (walls, floor …). The floor gives
        the rectangle. All vertices, of whatever label, give the areas: floor under
        furniture has no label. ``room_center_m`` is the rectangle's centre at half
        the mesh's height. ``provenance`` holds ``scan``, ``files`` (name → bytes),
        ``parser_version``, ``aligned``, ``first_seen`` ("instance images",
        "projection" or None), ``minimum_visible`` (the rule of that method) and
        ``groups`` (how many annotated groups became objects, and why others did not).

    Raises
    ------
    SpacerError
        If files are missing, broken or contradict each other. The message names the
        file to download.

    Source: SpaceR §3 "Data Collection".
    """
    scan_dir = Path(os.path.abspath(scan_dir))
    if not scan_dir.is_dir():
        raise SpacerError(
            f"{scan_dir} is missing",
            kind="rooms.no-scan",
            expected="a folder scans/<scan id>",
            remedy="download the scan, or fix the path",
        )
    prefix = "scene" if re.fullmatch(r"\d{4,}_\d{2}", scan_dir.name) else ""
    scan = require_scene_id(prefix + scan_dir.name)
    warnings: list[str] = []
    labels = read_labels(label_tsv)
    alignment = read_alignment(scan_dir)
    if alignment is None:
        what = "axisAlignment" if _file(scan_dir, TEXT).is_file() else TEXT
        warnings.append(f"no {what}: the scan's own axes are kept")
    vertices, _ = read_vertices(scan_dir)
    stored = read_groups(scan_dir, len(vertices))
    archive = _file(scan_dir, INSTANCES_2D)
    return build_scene(
        Annotated(
            scan=scan,
            dataset="scannet",
            vertices=vertices,
            T_aligned_from_scan=np.eye(4) if alignment is None else alignment,
            aligned=alignment is not None,
            groups=_named(_merged(stored, warnings), labels, warnings),
            annotated=len(stored),
            recording=open_recording(scan_dir, warnings),
            instance_images=archive if archive.is_file() else None,
            files=_file_sizes(scan_dir, label_tsv),
            warnings=warnings,
        ),
        video_path,
    )


def build_scene(raw: Annotated, video_path: PathLike | None = None) -> Scene:
    """The scene of one scan, by the same rules for every data set.

    Raises
    ------
    SpacerError
        If mesh, floor or recording contradict each other or have impossible sizes.
    """
    scan, warnings, vertices = raw.scan, raw.warnings, raw.vertices
    T_aligned_from_scan, named_groups = raw.T_aligned_from_scan, raw.groups
    _require_metres(scan, vertices)
    points = transform_points(T_aligned_from_scan, vertices)  # (n, 3) m, aligned

    areas_m2, outline_m, (floor_min_m, floor_max_m) = _floor(
        scan, points, named_groups, warnings
    )
    area_m2 = areas_m2[BENCHMARK_AREA]
    if not MIN_ROOM_M2 <= area_m2 <= MAX_ROOM_M2:
        raise SpacerError(
            f"{scan}: area of the room",
            kind="rooms.room-area",
            got=f"{area_m2:.2f} m2",
            expected=f"{MIN_ROOM_M2} to {MAX_ROOM_M2:.0f} m2",
            remedy="check the label of the floor and the axisAlignment",
        )
    middle_z = (points[:, 2].min() + points[:, 2].max()) / 2
    kept, fate = _sort_groups(named_groups, points, T_aligned_from_scan, warnings)
    fate["annotated"] = raw.annotated
    fate["duplicates"] = raw.annotated - len(named_groups)
    if fate["duplicates"]:
        fate["note"] += f", and {fate['duplicates']} duplicates of them"
    recording = None
    if raw.recording is not None:
        recording = read_poses(raw.recording, vertices, T_aligned_from_scan, warnings)
    seen = what_is_seen(
        recording,
        raw.instance_images,
        [(group.object_id, *group.other_ids) for group, _ in kept],
        vertices,
        [group.vertices for group, _ in kept],
        warnings,
    )
    return Scene(
        scene_id=scan,
        dataset=raw.dataset,
        instances=tuple(
            _instance(*pair, points, T_aligned_from_scan, first)
            for pair, first in zip(kept, seen.first_seen, strict=True)
        ),
        room_size_m2=area_m2,
        room_areas_m2=areas_m2,
        room_center_m=(*((floor_min_m + floor_max_m) / 2), middle_z),
        floor_min_m=tuple(floor_min_m),
        floor_max_m=tuple(floor_max_m),
        video_path=str(video_path) if video_path and recording else None,
        fps=recording.reader.fps if recording else None,
        frame_count=recording.frame_count if recording else None,
        source=raw.dataset,
        warnings=tuple(warnings),
        camera_path_m=recording.camera_path_m if recording else (),
        provenance={
            "scan": scan,
            "files": raw.files,
            "parser_version": PARSER_VERSION,
            "aligned": raw.aligned,
            "first_seen": seen.method,
            "minimum_visible": VISIBLE[seen.method] if seen.method else None,
            "groups": fate,
        },
        footage=seen.footage,
        outline_m=outline_m,
    )


def _require_metres(scan: str, vertices: np.ndarray) -> None:
    """Refuse a mesh in millimetres or another unit."""
    side = float(np.ptp(vertices, axis=0).max())
    if not MIN_ROOM_M <= side <= MAX_ROOM_M:
        raise SpacerError(
            f"{scan}: the mesh is not in metres",
            kind="rooms.mesh-unit",
            got=f"a longest side of {side:.4g}",
            expected=f"{MIN_ROOM_M} to {MAX_ROOM_M:.0f} m",
            remedy="convert the vertices to metres (millimetres are divided by 1000)",
        )


def _merged(groups: list[Group], warnings: list[str]) -> list[Group]:
    """The groups, those with the same vertices as one: the first of them."""
    merged: dict[object, Group] = {}
    for position, group in enumerate(groups):
        # Groups without vertices have nothing in common.
        key = group.vertices.tobytes() or position
        if key in merged:
            first = merged[key]
            ids = (*first.other_ids, group.object_id)
            merged[key] = dataclasses.replace(first, other_ids=ids)
        else:
            merged[key] = group
    if len(merged) < len(groups):
        warnings.append(
            f"{len(groups) - len(merged)} duplicates: groups with the vertices of an "
            "earlier one are counted once"
        )
    return list(merged.values())


def _named(
    groups: list[Group], labels: dict[str, Label], warnings: list[str]
) -> list[NamedGroup]:
    """[(group, category)]; a label that the table lacks is its own category."""
    found = {group.label: find_label(labels, group.label) for group in groups}
    unknown = Counter(group.label for group in groups if found[group.label] is None)
    if unknown:
        warnings.append(
            f"{len(unknown)} labels absent from the table: {_listed(unknown)}"
        )
    categories = {
        name: label.category if label else normalise_category(name)
        for name, label in found.items()
    }
    return [(group, categories[group.label]) for group in groups]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} x{n}" for name, n in sorted(counts.items()))


def _floor(
    scan: str, points: np.ndarray, named_groups: list[NamedGroup], warnings: list[str]
) -> tuple[dict[str, float], tuple[Ring, ...], tuple[np.ndarray, np.ndarray]]:
    """``{rule: m²}``, outline, and corners (2,) of the floor's rectangle, metres."""
    labelled = [g.vertices for g, category in named_groups if category == "floor"]
    known = bool(sum(map(len, labelled)))
    if known:
        floor = points[np.unique(np.concatenate(labelled))]
    else:
        floor = points[np.abs(points[:, 2]) <= FLOOR_BAND_M]
        warnings.append(f"no floor label: vertices within {FLOOR_BAND_M} m of z = 0")
    try:
        floor_m2 = alpha_shape_area_m2(floor[:, :2])
        areas_m2, outline_m = room_floor(points, warnings)
    except SpacerError as error:
        raise SpacerError(
            f"{scan}: {error.what}",
            kind=error.kind,
            got=error.got,
            expected=error.expected,
            remedy=error.remedy,
        ) from error
    room_m2 = areas_m2[BENCHMARK_AREA]
    if known and floor_m2 < MIN_FLOOR_LABEL * room_m2:
        warnings.append(
            f"the floor label covers {floor_m2:.1f} m2, {floor_m2 / room_m2:.0%} of "
            f"the room's {room_m2:.1f} m2: the rest is hidden or has no label"
        )
    return areas_m2, outline_m, (floor[:, :2].min(axis=0), floor[:, :2].max(axis=0))


def _sort_groups(
    named_groups: list[NamedGroup],
    points: np.ndarray,
    T_aligned_from_scan: np.ndarray,
    warnings: list[str],
) -> tuple[list[NamedGroup], dict[str, Any]]:
    """The groups that become objects, and counts of all groups by what they became."""
    kept: list[NamedGroup] = []
    structural: Counter[str] = Counter()
    unusable: Counter[str] = Counter()
    for group, category in named_groups:
        mine = _outline(group, points, T_aligned_from_scan)
        if is_structural(category):
            structural[category] += 1
        elif not len(mine):
            unusable[f"{category} without segments"] += 1
        elif not np.ptp(mine, axis=0).any():
            unusable[f"{category} of a single point"] += 1
        elif np.ptp(mine, axis=0).max() > MAX_OBJECT_M:
            unusable[f"{category} of more than {MAX_OBJECT_M:.0f} m"] += 1
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


def _aligned_box(
    group: Group, T_aligned_from_scan: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    if group.box is None:
        return None
    center, lengths, axes = group.box
    R = T_aligned_from_scan[:3, :3]
    return transform_points(T_aligned_from_scan, [center])[0], lengths, axes @ R.T


def _outline(
    group: Group, points: np.ndarray, T_aligned_from_scan: np.ndarray
) -> np.ndarray:
    """(n, 3) aligned points that bound the object: its box's corners, or vertices."""
    box = _aligned_box(group, T_aligned_from_scan)
    return points[group.vertices] if box is None else box_corners(*box)


def _instance(
    group: Group,
    category: str,
    points: np.ndarray,
    T_aligned_from_scan: np.ndarray,
    first_seen: int | None,
) -> ObjectInstance:
    mine = _outline(group, points, T_aligned_from_scan)
    box = _aligned_box(group, T_aligned_from_scan)
    centroid_m, axes_lengths_m, axes = oriented_box(mine) if box is None else box
    return ObjectInstance(
        instance_id=group.object_id,
        category=category,
        centroid_m=tuple(centroid_m),
        axes_lengths_m=tuple(axes_lengths_m),
        axes=tuple(axes.ravel()),
        aabb_min_m=tuple(mine.min(axis=0)),
        aabb_max_m=tuple(mine.max(axis=0)),
        vertex_count=len(group.vertices),
        first_seen_frame=first_seen,
    )


def _file(scan_dir: PathLike, suffix: str) -> Path:
    return Path(scan_dir) / f"{Path(scan_dir).name}{suffix}"


def _require(scan_dir: PathLike, suffix: str, kind: str) -> Path:
    path = _file(scan_dir, suffix)
    if not path.is_file():
        raise SpacerError(
            f"{path} is missing",
            kind=kind,
            remedy=f"download the scan's *{suffix} under ScanNet's terms of use",
        )
    return path


def _file_sizes(scan_dir: Path, label_tsv: PathLike) -> dict[str, int]:
    """``{name: bytes}`` of the files that a parse reads."""
    suffixes = (TEXT, MESH, SEGMENTS, AGGREGATION, RECORDING, INSTANCES_2D)
    return sizes_of([Path(label_tsv), *(_file(scan_dir, s) for s in suffixes)])


def sizes_of(paths: Iterable[Path]) -> dict[str, int]:
    """``{name: bytes}`` of those files that exist."""
    return {path.name: path.stat().st_size for path in paths if path.is_file()}


def read_alignment(scan_dir: PathLike) -> np.ndarray | None:
    """(4, 4) T_aligned_from_scan: ``axisAlignment`` of the scan's ``.txt``.

    ``None`` if the file has no such line, as in old releases, or is absent. ScanNet
    delivers it with every recording: with ``.sens`` and without ``.txt`` a download is
    not complete.

    Raises
    ------
    SpacerError
        If a recording lacks the file, or it is not of the form ``key = value``, or the
        line is not 16 numbers of a rigid transform.

    Source: https://github.com/ScanNet/ScanNet (``<scanId>.txt``).
    """
    path = _file(scan_dir, TEXT)
    if not path.is_file() and not _file(scan_dir, RECORDING).is_file():
        return None
    _require(scan_dir, TEXT, "rooms.no-text")
    text = read_text(path)
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip().casefold() == "axisalignment":
            try:
                numbers = [float(word) for word in value.split()]
            except ValueError:
                numbers = []
            if len(numbers) != 16:
                raise SpacerError(
                    f"{path}: axisAlignment",
                    kind="rooms.alignment",
                    got=value.strip()[:80] or "nothing",
                    expected="16 numbers, row-major",
                    remedy="download the scan's .txt again",
                )
            return require_rigid(numbers, f"{path}: axisAlignment")
    # Without the line the scan's axes are kept; that must not come from a broken file.
    if "=" not in text or "axisalignment" in text.casefold():
        raise SpacerError(
            f"{path} is not the text file of a scan",
            kind="rooms.not-a-scan-text",
            got=repr(text.strip()[:60]),
            expected="lines of the form key = value",
            remedy="download the scan's .txt again",
        )
    return None


def read_vertices(
    scan_dir: PathLike,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """Vertices of ``_vh_clean_2.ply``; see ``read_mesh``."""
    return read_mesh(_require(scan_dir, MESH, "rooms.no-mesh"))


def read_mesh(
    path: Path,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """Vertices of a PLY file, text or binary of either byte order, with any faces.

    Returns
    -------
    points : (n, 3) float64
        As stored: metres, scan frame.
    rgb : (n, 3) uint8
        Grey if the file has no colours.

    Raises
    ------
    SpacerError
        If the file is no PLY mesh, or has no vertices or coordinates that are not
        finite.
    """
    from plyfile import PlyData, PlyParseError

    remedy = f"download {path.name} again"
    try:
        try:  # triangles are read at once, other faces one by one
            ply = PlyData.read(path, known_list_len={"face": {"vertex_indices": 3}})
        except PlyParseError:
            ply = PlyData.read(path)
        vertex = ply["vertex"].data
        points = np.stack([vertex[k] for k in "xyz"], axis=1).astype(np.float64)
    except (PlyParseError, KeyError, ValueError) as error:
        raise SpacerError(
            f"{path} is not a mesh",
            kind="rooms.not-a-mesh",
            got=error,
            expected="a PLY file whose vertices have x, y and z",
            remedy=remedy,
        ) from error
    if not len(points) or not np.isfinite(points).all():
        raise SpacerError(
            f"{path}: vertices",
            kind="rooms.mesh-vertices",
            got=f"{len(points)}, finite: {bool(np.isfinite(points).all())}",
            expected="at least one, all finite",
            remedy=remedy,
        )
    return points, _vertex_colors(vertex)


def _vertex_colors(vertex: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """(n, 3) colours; numbers with a decimal point run from 0 to 1."""
    names = ("red", "green", "blue")
    if not set(names) <= set(vertex.dtype.names or ()):
        return np.full((len(vertex), 3), 128, np.uint8)
    rgb = np.stack([vertex[k] for k in names], axis=1)
    if np.issubdtype(rgb.dtype, np.floating):
        rgb = np.nan_to_num(rgb).clip(0, 1) * 255
    return rgb.astype(np.uint8)


def read_groups(scan_dir: PathLike, vertex_count: int) -> list[Group]:
    """Annotated groups of a scan with their vertices, in the file's order.

    A group without segments has no vertices.

    Parameters
    ----------
    scan_dir : path
    vertex_count : int
        Vertices of the mesh. The segments must cover them.

    Raises
    ------
    SpacerError
        If one of the two files is missing or broken, or they disagree with each other,
        the mesh or the folder's name.

    Source: https://github.com/ScanNet/ScanNet (``.segs.json``, ``.aggregation.json``).
    """
    scan_dir = Path(scan_dir)
    segments_path = _require(scan_dir, SEGMENTS, "rooms.no-segments")
    groups_path = _require(scan_dir, AGGREGATION, "rooms.no-aggregation")
    segments, aggregation = read_json(segments_path), read_json(groups_path)
    for path, content in ((segments_path, segments), (groups_path, aggregation)):
        _require_own(path, content, scan_dir.name)
    return match_groups(
        (segments_path, segments), (groups_path, aggregation), vertex_count
    )


def match_groups(
    segments: tuple[Path, Any], aggregation: tuple[Path, Any], vertex_count: int
) -> list[Group]:
    """The groups of two files of ScanNet's form, given as (path, content).

    Raises
    ------
    SpacerError
        As ``read_groups``.
    """
    segments_path, groups_path = segments[0], aggregation[0]
    remedy = f"download {segments_path.name} and {groups_path.name} again"
    try:
        owner = _whole_numbers(segments[1]["segIndices"])
        stored = [
            (
                operator.index(group["objectId"]),
                _label_of(group),
                np.unique(_whole_numbers(group["segments"])),
            )
            for group in aggregation[1]["segGroups"]
        ]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise SpacerError(
            f"{segments_path} or {groups_path.name} has another form",
            kind="rooms.groups-form",
            got=f"{type(error).__name__} {error}",
            expected="segIndices; segGroups with objectId, label and segments",
            remedy=remedy,
        ) from error
    twice = [i for i, n in Counter(i for i, *_ in stored).items() if n > 1]
    if twice:
        raise SpacerError(
            f"{groups_path}: {len(twice)} object ids belong to several groups",
            kind="rooms.object-id-twice",
            got=f"first {twice[0]}",
            expected="one group per objectId",
            remedy=f"download {groups_path.name} again",
        )
    if owner.shape != (vertex_count,):
        raise SpacerError(
            f"{segments_path} does not belong to the mesh",
            kind="rooms.foreign-segments",
            got=f"{owner.size} segment indices",
            expected=f"{vertex_count}, one per vertex of the mesh",
            remedy=f"download the mesh and {segments_path.name} again",
        )
    known, place = np.unique(owner, return_inverse=True)
    absent = sorted({int(s) for _, _, ids in stored for s in ids[~np.isin(ids, known)]})
    if absent:
        raise SpacerError(
            f"{segments_path} lacks {len(absent)} segment ids of {groups_path.name} "
            f"(first: {absent[0]})",
            kind="rooms.absent-segments",
            remedy=f"download {segments_path.name} again; ScanNet's "
            "*_vh_clean.aggregation.json belongs to another mesh",
        )
    groups = []
    for object_id, label, ids in stored:
        chosen = np.zeros(len(known), dtype=bool)
        chosen[np.searchsorted(known, ids)] = True
        groups.append(Group(object_id, label, np.flatnonzero(chosen[place])))
    return groups


def _whole_numbers(values: Any) -> npt.NDArray[np.int64]:
    """A list of whole numbers as an array; 1.5, "1" and true are none."""
    # By type, since NumPy would make texts or floats of all values.
    if not isinstance(values, list) or not all(type(v) is int for v in values):
        raise ValueError(f"{reprlib.repr(values)} are not whole numbers")
    return np.array(values, dtype=np.int64)


def _label_of(group: Any) -> str:
    """The annotator's text; "unknown" if it is absent or blank."""
    label = group.get("label")
    text = "" if label is None else str(label)
    return text if text.strip() else "unknown"


def _require_own(path: Path, content: Any, scan: str) -> None:
    """Refuse a file of another scan. An id is ``0000_00`` with or without prefixes."""
    stored = str(content.get("sceneId", scan)) if isinstance(content, dict) else scan
    bare = stored.removeprefix("scannet.").removeprefix("scene")
    if bare != scan.removeprefix("scene"):
        raise SpacerError(
            f"{path} describes another scan",
            kind="rooms.another-scan",
            got=stored,
            expected=scan,
            remedy="put each scan's files in its own folder",
        )


def open_recording(
    scan_dir: PathLike, warnings: list[str] | None = None
) -> RecordingReader | None:
    """The scan's ``.sens``, or its exported frames; ``None`` and a warning: neither."""
    warnings = [] if warnings is None else warnings
    path, frames = _file(scan_dir, RECORDING), find_frames(scan_dir)
    if path.is_file():
        return SensReader(path)
    if frames is not None:
        return read_exported(frames, warnings)
    warnings.append(f"no {RECORDING}: no video, no frame rate, no camera path")
    return None
