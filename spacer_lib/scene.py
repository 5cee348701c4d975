"""The unified meta-information: one room and its annotated instances.

Everything after the parser speaks ``Scene``. Coordinates are metres in the
*aligned* frame: +z up, floor near z = 0, walls roughly along x and y (ScanNet's
``axisAlignment`` already applied). The JSON form is the one VSI-Bench publishes
(``object_counts``, ``object_bbox`` …) plus our own keys; either reads back.

Source: SpaceR §3 "Data Collection" and Appendix A; VSI-Bench's meta files.
"""

from dataclasses import dataclass, field

import numpy as np

from spacer_lib.artifacts import read_json
from spacer_lib.errors import SpacerError

PARSER_VERSION = "1"

# Categories that describe the shell of a room, or nothing in particular. They may be
# parsed and drawn, but never enter a question or a map (SpaceR App. A, "noisy").
STRUCTURAL_CATEGORIES = frozenset(
    {
        "wall", "floor", "ceiling", "object", "doorframe", "windowsill", "beam",
        "column", "pillar", "board", "structure", "stairs", "stair rail", "ledge",
        "shower floor", "shower wall", "otherfurniture", "otherstructure", "otherprop",
        "unknown", "misc", "remove", "splice",
    }
)  # fmt: skip


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

    def __post_init__(self):
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

    @property
    def space_id(self):
        """The physical space: ``scene0025_01`` → ``scene0025`` (rescans share it)."""
        return self.scene_id.split("_")[0] if "_" in self.scene_id else self.scene_id

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
        }

    @classmethod
    def from_meta(cls, scene_id, meta):
        """Read one scene of a VSI-Bench meta file, or of our own.

        VSI-Bench publishes no floor rectangle: it is then taken as the bounds of all
        boxes, and a warning says so.

        Raises
        ------
        SpacerError
            If a required key is missing or a number is not finite.
        """
        try:
            instances, warnings = [], list(meta.get("warnings", ()))
            for category, boxes in meta["object_bbox"].items():
                for box in boxes:
                    instances.append(
                        ObjectInstance(
                            instance_id=box.get("instance_id", len(instances)),
                            category=category,
                            centroid_m=box["centroid"],
                            axes_lengths_m=box["axesLengths"],
                            axes=box["normalizedAxes"],
                            aabb_min_m=box["min"],
                            aabb_max_m=box["max"],
                            vertex_count=box.get("vertex_count"),
                            first_seen_frame=box.get("first_seen_frame"),
                        )
                    )
            if "floor_min" in meta:
                floor_min, floor_max = meta["floor_min"], meta["floor_max"]
            else:
                floor_min = np.min([i.aabb_min_m[:2] for i in instances], axis=0)
                floor_max = np.max([i.aabb_max_m[:2] for i in instances], axis=0)
                warnings.append("floor rectangle = bounds of all boxes")
            return cls(
                scene_id=scene_id,
                dataset=meta["dataset"],
                instances=tuple(sorted(instances, key=lambda i: i.instance_id)),
                room_size_m2=float(meta["room_size"]),
                room_center_m=meta["room_center"],
                floor_min_m=floor_min,
                floor_max_m=floor_max,
                object_counts=dict(meta["object_counts"]),
                video_path=meta.get("video"),
                fps=meta.get("fps"),
                frame_count=meta.get("frame_count"),
                source=meta.get("source", "vsi-bench meta"),
                parser_version=meta.get("parser_version", "published"),
                warnings=tuple(warnings),
            )
        except KeyError as error:
            raise SpacerError(
                f"{scene_id}: meta-information lacks a key",
                got=f"no {error}",
                expected="VSI-Bench's keys (object_counts, object_bbox, room_size …)",
            ) from error


def read_meta_file(path):
    """``{scene_id: meta}`` JSON (VSI-Bench's or ours) → list of ``Scene``."""
    content = read_json(path)
    return [Scene.from_meta(scene_id, meta) for scene_id, meta in content.items()]
