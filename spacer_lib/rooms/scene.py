"""The unified meta-information: one room and its annotated instances.

Everything after the parser speaks ``Scene``. Coordinates are metres in the
*aligned* frame: +z up, floor near z = 0, walls roughly along x and y (ScanNet's
``axisAlignment`` already applied). The JSON form is the one VSI-Bench publishes
(``object_counts``, ``object_bbox`` …) plus our own keys; either reads back.

Source: SpaceR §3 "Data Collection" and Appendix A; VSI-Bench's meta files.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from spacer_lib.artifacts import read_json
from spacer_lib.errors import SpacerError

PARSER_VERSION = "2"

# Categories that describe the shell of a room, or nothing in particular. They may be
# parsed and drawn, but never enter a question or a map (SpaceR App. A, "noisy").
STRUCTURAL_CATEGORIES = frozenset(
    {
        "wall",
        "floor",
        "ceiling",
        "object",
        "doorframe",
        "windowsill",
        "beam",
        "column",
        "pillar",
        "board",
        "structure",
        "stairs",
        "stair rail",
        "ledge",
        "shower floor",
        "shower wall",
        "otherfurniture",
        "otherstructure",
        "otherprop",
        "unknown",
        "misc",
        "remove",
        "splice",
    }
)


# Ids become file names: separators, parent folders and control characters stay out.
_UNSAFE_ID = re.compile(r"[/\\\x00-\x1f]|\.\.|^\.?$")


def require_scene_id(scene_id):
    """Return ``scene_id`` if it can serve as a file name.

    Raises
    ------
    SpacerError
        If it is no text, empty, or holds a path separator or "..".

    Examples
    --------
    >>> require_scene_id("scene0000_00")
    'scene0000_00'
    """
    if not isinstance(scene_id, str) or _UNSAFE_ID.search(scene_id):
        raise SpacerError(
            "scene id",
            got=repr(scene_id),
            expected='a name without path separators and ".."',
            remedy="rename the scene: ids become file names",
        )
    return scene_id


def space_of(scene_id):
    """``scene0025_01`` → ``scene0025``: rescans share the physical space.

    Other names (videos of other data sets) stay as they are.
    """
    scan = re.fullmatch(r"(scene\d+)_\d+", scene_id)
    return scan[1] if scan else scene_id


@dataclass(frozen=True)
class ObjectInstance:
    """One annotated object.

    Attributes
    ----------
    instance_id : int
        ScanNet's ``objectId`` (or the index within the file for foreign data).
    category : str
        Normalised category name, lower case, singular.
    centroid_m : (3,) tuple of float
        Centre of the oriented box, metres, aligned frame.
    axes_lengths_m : (3,) tuple of float
        Full edge lengths of the oriented box.
    axes : (9,) tuple of float
        Row-major 3x3, rows are the box's unit axes.
    aabb_min_m, aabb_max_m : (3,) tuple of float
        Axis-aligned bounds in the aligned frame.
    vertex_count : int or None
        Mesh vertices that carry the instance.
    first_seen_frame : int or None
        First video frame in which it is visible; ``None`` when unknown or never.
    """

    instance_id: int
    category: str
    centroid_m: tuple
    axes_lengths_m: tuple
    axes: tuple
    aabb_min_m: tuple
    aabb_max_m: tuple
    vertex_count: int | None = None
    first_seen_frame: int | None = None

    def __post_init__(self):
        where = f"instance {self.instance_id} ({self.category})"
        for name, size in (
            ("centroid_m", 3),
            ("axes_lengths_m", 3),
            ("axes", 9),
            ("aabb_min_m", 3),
            ("aabb_max_m", 3),
        ):
            values = tuple(float(v) for v in getattr(self, name))
            if len(values) != size or not np.isfinite(values).all():
                raise SpacerError(
                    f"{where}: {name}", got=values, expected=f"{size} finite numbers"
                )
            object.__setattr__(self, name, values)
        if not self.category:
            raise SpacerError(f"{where}: category is empty")
        if min(self.axes_lengths_m) < 0:
            raise SpacerError(
                f"{where}: axes_lengths_m", got=self.axes_lengths_m, expected=">= 0"
            )

    @property
    def axes_matrix(self):
        """(3, 3) float64, rows are unit axes."""
        return np.array(self.axes).reshape(3, 3)


@dataclass(frozen=True)
class Scene:
    """A room: its instances, floor, size and video.

    ``object_counts`` is kept apart from ``len(instances)`` because VSI-Bench's
    published files disagree with themselves for 12 of 44 scenes; for our own parses
    the two are equal.

    Attributes
    ----------
    camera_path_m : tuple of (frame, x, y, z)
        Camera centres in the aligned frame, of some frames that have a pose, in
        order; empty when unknown.
    provenance : dict
        What the scene was made from, as plain JSON values; see ``parse_scene``.
    """

    scene_id: str
    dataset: str
    instances: tuple
    room_size_m2: float
    room_center_m: tuple
    floor_min_m: tuple
    floor_max_m: tuple
    object_counts: dict = field(default_factory=dict)
    video_path: str | None = None
    fps: float | None = None
    frame_count: int | None = None
    source: str = "scannet"
    parser_version: str = PARSER_VERSION
    warnings: tuple = ()
    camera_path_m: tuple = ()
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        require_scene_id(self.scene_id)
        object.__setattr__(self, "instances", tuple(self.instances))
        if not self.object_counts:
            counts = {}
            for instance in self.instances:
                counts[instance.category] = counts.get(instance.category, 0) + 1
            object.__setattr__(self, "object_counts", counts)
        for name, size in (
            ("room_center_m", 3),
            ("floor_min_m", 2),
            ("floor_max_m", 2),
        ):
            values = tuple(float(v) for v in getattr(self, name))
            if len(values) != size or not np.isfinite(values).all():
                raise SpacerError(
                    f"{self.scene_id}: {name}",
                    got=values,
                    expected=f"{size} finite numbers",
                )
            object.__setattr__(self, name, values)
        if any(a >= b for a, b in zip(self.floor_min_m, self.floor_max_m, strict=True)):
            raise SpacerError(
                f"{self.scene_id}: floor rectangle",
                got=f"{self.floor_min_m} .. {self.floor_max_m}",
                expected="min < max in x and y",
                remedy="check that the scan has a floor and its axisAlignment",
            )
        if not (np.isfinite(self.room_size_m2) and self.room_size_m2 >= 0):
            raise SpacerError(
                f"{self.scene_id}: room_size_m2",
                got=self.room_size_m2,
                expected="a finite number >= 0",
            )
        path = [
            (int(f), float(x), float(y), float(z)) for f, x, y, z in self.camera_path_m
        ]
        ordered = all(a[0] < b[0] for a, b in zip(path, path[1:], strict=False))
        if not ordered or not np.isfinite(path).all():
            raise SpacerError(
                f"{self.scene_id}: camera_path_m",
                got=f"{len(path)} positions, frames in order: {ordered}",
                expected="(frame, x, y, z), frames ascending, numbers finite",
            )
        object.__setattr__(self, "camera_path_m", tuple(path))

    @property
    def duration_s(self):
        """Seconds of video, or ``None`` without one."""
        return self.frame_count / self.fps if self.frame_count and self.fps else None

    @property
    def space_id(self):
        """The physical space: ``scene0025_01`` → ``scene0025`` (rescans share it)."""
        return space_of(self.scene_id)

    def by_category(self):
        """``{category: [instances]}`` without structural categories, in file order."""
        groups = {}
        for instance in self.instances:
            if instance.category not in STRUCTURAL_CATEGORIES:
                groups.setdefault(instance.category, []).append(instance)
        return groups

    def to_meta(self):
        """VSI-Bench-compatible dictionary (one scene's value) with our extra keys."""
        boxes = {}
        for instance in self.instances:
            boxes.setdefault(instance.category, []).append(
                {
                    "centroid": list(instance.centroid_m),
                    "axesLengths": list(instance.axes_lengths_m),
                    "normalizedAxes": list(instance.axes),
                    "min": list(instance.aabb_min_m),
                    "max": list(instance.aabb_max_m),
                    "instance_id": instance.instance_id,
                    "vertex_count": instance.vertex_count,
                    "first_seen_frame": instance.first_seen_frame,
                }
            )
        return {
            "dataset": self.dataset,
            "room_size": self.room_size_m2,
            "room_center": list(self.room_center_m),
            "object_counts": dict(self.object_counts),
            "object_bbox": boxes,
            "floor_min": list(self.floor_min_m),
            "floor_max": list(self.floor_max_m),
            "video": self.video_path,
            "fps": self.fps,
            "frame_count": self.frame_count,
            "source": self.source,
            "parser_version": self.parser_version,
            "warnings": list(self.warnings),
            "camera_path": [list(position) for position in self.camera_path_m],
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_meta(cls, scene_id, meta):
        """Read one scene of a VSI-Bench meta file (any dataset), or of our own.

        Names stay exactly as published. What a file leaves out is filled in, and a
        warning says so: the floor rectangle is then the bounds of all boxes, the
        room's centre the rectangle's at half the boxes' height. A box without
        ``min`` / ``max`` gets the bounds of its oriented box.

        Raises
        ------
        SpacerError
            If a required key is missing, a value has another form, a number is not
            finite, or there is neither a box nor a floor rectangle.
        """
        require_scene_id(scene_id)
        try:
            return cls(scene_id=scene_id, **_fields_from_meta(scene_id, meta))
        except KeyError as error:
            raise SpacerError(
                f"{scene_id}: meta-information lacks a key",
                got=f"no {error}",
                expected="VSI-Bench's keys (object_counts, object_bbox, room_size …)",
            ) from error
        except (TypeError, ValueError, AttributeError) as error:
            raise SpacerError(
                f"{scene_id}: meta-information has another form",
                got=f"{type(error).__name__}: {error}",
                expected="the form of VSI-Bench's meta files",
            ) from error


def _fields_from_meta(scene_id, meta):
    if not isinstance(meta, dict):
        raise SpacerError(
            f"{scene_id}: meta-information",
            got=type(meta).__name__,
            expected="a dictionary with object_counts, object_bbox, room_size …",
            remedy="check that the file is {scene_id: meta}",
        )
    instances, warnings = [], list(meta.get("warnings", ()))
    for category, boxes in meta["object_bbox"].items():
        for box in boxes:
            instances.append(_instance_from_meta(len(instances), category, box))
    if "floor_min" in meta:
        floor_min, floor_max = meta["floor_min"], meta["floor_max"]
    elif instances:
        floor_min = np.min([i.aabb_min_m[:2] for i in instances], axis=0)
        floor_max = np.max([i.aabb_max_m[:2] for i in instances], axis=0)
        warnings.append("floor rectangle = bounds of all boxes")
    else:
        raise SpacerError(
            f"{scene_id}: object_bbox is empty",
            got="no box and no floor rectangle",
            expected="at least one box",
            remedy="leave the scene out, or add floor_min and floor_max",
        )
    room_center = meta.get("room_center")
    if room_center is None:
        z = [v for i in instances for v in (i.aabb_min_m[2], i.aabb_max_m[2])] or [0]
        middle_xy = (np.asarray(floor_min) + np.asarray(floor_max)) / 2
        room_center = (*middle_xy, (min(z) + max(z)) / 2)
        warnings.append("room centre = centre of the floor rectangle")
    return {
        "dataset": meta.get("dataset", "unknown"),
        "instances": sorted(instances, key=lambda i: i.instance_id),
        "room_size_m2": float(meta["room_size"]),
        "room_center_m": room_center,
        "floor_min_m": floor_min,
        "floor_max_m": floor_max,
        "object_counts": dict(meta["object_counts"]),
        "video_path": meta.get("video"),
        "fps": meta.get("fps"),
        "frame_count": meta.get("frame_count"),
        "source": meta.get("source", "vsi-bench meta"),
        "parser_version": meta.get("parser_version", "published"),
        "warnings": tuple(warnings),
        "camera_path_m": meta.get("camera_path", ()),
        "provenance": dict(meta.get("provenance", {})),
    }


def _instance_from_meta(number, category, box):
    center, lengths, axes = (
        np.asarray(box[key], dtype=np.float64).ravel()
        for key in ("centroid", "axesLengths", "normalizedAxes")
    )
    low, high = box.get("min"), box.get("max")
    if low is None or high is None:
        # A corner lies half an edge away along each axis, whichever the sign.
        reach = (lengths / 2) @ np.abs(axes.reshape(3, 3))
        low, high = center - reach, center + reach
    return ObjectInstance(
        instance_id=box.get("instance_id", number),
        category=category,
        centroid_m=center,
        axes_lengths_m=lengths,
        axes=axes,
        aabb_min_m=low,
        aabb_max_m=high,
        vertex_count=box.get("vertex_count"),
        first_seen_frame=box.get("first_seen_frame"),
    )


def read_meta_file(path):
    """``{scene_id: meta}`` JSON (VSI-Bench's or ours) → list of ``Scene``.

    Parameters
    ----------
    path : path, or list of paths
        Files, or folders whose ``*.json`` are read in the order of their names.

    Raises
    ------
    SpacerError
        If a file is missing, broken or of another form, a folder holds none, or two
        files hold one scene.
    """
    paths = [path] if isinstance(path, (str, os.PathLike)) else path
    scenes, origin = [], {}
    for file in (file for each in paths for file in _json_files(Path(each))):
        content = read_json(file)
        if not isinstance(content, dict):
            raise SpacerError(
                f"{file} is not a meta file",
                got=type(content).__name__,
                expected="{scene_id: meta}",
            )
        for scene_id, meta in content.items():
            if scene_id in origin:
                raise SpacerError(
                    f"{file}: scene {scene_id} is there twice",
                    got=f"the same id in {origin[scene_id]}",
                    expected="each scene once",
                    remedy="leave one of the two out",
                )
            origin[scene_id] = file
            scenes.append(Scene.from_meta(scene_id, meta))
    return scenes


def _json_files(path):
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.json"))
    if not files:
        raise SpacerError(
            f"{path} holds no scene",
            got="no *.json",
            expected="one or more {scene_id: meta} files",
            remedy="run the step that writes them, or fix the path",
        )
    return files
