"""Meta-information of one room: a ``Scene`` and its instances.

Coordinates are metres in the *aligned* frame: +z up, floor near z = 0, walls roughly
along x and y (ScanNet's ``axisAlignment`` applied). The JSON form has VSI-Bench's keys
(``object_counts``, ``object_bbox`` …) and further ones; files without those are read
too.

Source: SpaceR §3 "Data Collection" and Appendix A; VSI-Bench's meta files,
https://github.com/vision-x-nyu/thinking-in-space.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spacer_lib.artifacts import PathLike, listing, read_json
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.checks import MAX_M, MAX_WHOLE, Field
from spacer_lib.rooms.footage import Footage
from spacer_lib.rows import Question

PARSER_VERSION = "6"
# The rule of ``Scene.room_size_m2``; ``rooms.area`` has all rules.
BENCHMARK_AREA = "vsi-bench"
# The rule of scene files up to version 3: vertices that are labelled as floor.
LABELLED_AREA = "labelled-floor"

AXES_TOLERANCE = 0.01  # of the products of a box's axes

CameraPosition = tuple[int, float, float, float]  # frame, x, y, z
Ring = tuple[tuple[float, float], ...]  # a closed line, metres, aligned frame

# Categories of a room's shell, and those without meaning. They may be parsed and drawn
# but are in no question and no map (SpaceR App. A, "noisy").
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
        "split",
        "delete",
        "void",
        "unannotated",
        "unlabeled",
        "unlabelled",
    }
)


def is_structural(category: str) -> bool:
    """Whether a category, in any spelling, is in ``STRUCTURAL_CATEGORIES`` or blank."""
    name = " ".join(category.replace("_", " ").casefold().split())
    return not name or name in STRUCTURAL_CATEGORIES


# Ids become file names: no separators, parent folders or control characters.
_UNSAFE_ID = re.compile(r"[/\\\x00-\x1f]|\.\.|^\.?$")


def require_scene_id(scene_id: object) -> str:
    """Return ``scene_id`` if it can be a file name.

    Raises
    ------
    SpacerError
        If it is no text, is empty, or has a path separator or "..".

    Examples
    --------
    >>> require_scene_id("scene0000_00")
    'scene0000_00'
    """
    if not isinstance(scene_id, str) or _UNSAFE_ID.search(scene_id):
        raise SpacerError(
            "scene id",
            kind="rooms.scene-id",
            got=repr(scene_id),
            expected='a name without path separators and ".."',
            remedy="rename the scene: its files are named by its id",
        )
    return scene_id


def space_of(scene_id: str) -> str:
    """``scene0025_01`` → ``scene0025``: scans of one room share the space.

    Names of another form (videos of other data sets) are returned unchanged.
    """
    scan = re.fullmatch(r"(scene\d+)_\d+", scene_id)
    return scan[1] if scan else scene_id


def first_of_spaces(rows: Sequence[Question], kind: str = "video") -> dict[str, int]:
    """Space → number of its first row with media of that kind, in order of rows."""
    first: dict[str, int] = {}
    for number, row in enumerate(rows):
        if row.get(kind):
            first.setdefault(space_of(row["scene_name"] or ""), number)
    return first


@dataclass(frozen=True)
class ObjectInstance:
    """One annotated object.

    Attributes
    ----------
    instance_id : int
        ScanNet's ``objectId``; of other data, the position in the file.
    category : str
        Lower case, singular.
    centroid_m : (3,) tuple of float
        Centre of the oriented box, metres, aligned frame.
    axes_lengths_m : (3,) tuple of float
        Full edge lengths of the oriented box.
    axes : (9,) tuple of float
        3x3, row-major; rows are the box's unit axes.
    aabb_min_m, aabb_max_m : (3,) tuple of float
        Axis-aligned bounds, metres, aligned frame.
    vertex_count : int or None
        Mesh vertices of the instance.
    first_seen_frame : int or None
        First video frame in which it is visible; ``None``: unknown or never.

    Raises
    ------
    SpacerError
        If a value has another length, is not finite, or an edge is negative.
    """

    instance_id: int
    category: str
    centroid_m: tuple[float, ...]
    axes_lengths_m: tuple[float, ...]
    axes: tuple[float, ...]
    aabb_min_m: tuple[float, ...]
    aabb_max_m: tuple[float, ...]
    vertex_count: int | None = None
    first_seen_frame: int | None = None

    def __post_init__(self) -> None:
        where = f"instance {self.instance_id} ({self.category})"
        for name, size in (
            ("centroid_m", 3),
            ("axes_lengths_m", 3),
            ("axes", 9),
            ("aabb_min_m", 3),
            ("aabb_max_m", 3),
        ):
            values = _finite(f"{where}: {name}", getattr(self, name), size)
            object.__setattr__(self, name, values)
        if not self.category:
            raise SpacerError(
                f"{where}: category",
                kind="rooms.no-category",
                got="an empty text",
                expected="a name",
            )
        if min(self.axes_lengths_m) < 0:
            raise SpacerError(
                f"{where}: axes_lengths_m",
                kind="rooms.negative-length",
                got=self.axes_lengths_m,
                expected=">= 0",
            )

    @property
    def axes_matrix(self) -> np.ndarray:
        """(3, 3) float64; rows are unit axes."""
        return np.array(self.axes).reshape(3, 3)


def _finite(what: str, values: Iterable[float], size: int) -> tuple[float, ...]:
    numbers = tuple(float(v) for v in values)
    if len(numbers) != size or not np.isfinite(numbers).all():
        raise SpacerError(
            what,
            kind="rooms.not-finite",
            got=numbers,
            expected=f"{size} finite numbers",
        )
    return numbers


@dataclass(frozen=True)
class Scene:
    """A room: its instances, floor, size and video.

    Attributes
    ----------
    scene_id, dataset : str
    instances : tuple of ObjectInstance
    room_size_m2 : float
        Area of the room by the benchmark's rule.
    room_center_m : (3,) tuple of float
        Metres, aligned frame.
    floor_min_m, floor_max_m : (2,) tuple of float
        Smallest and largest x and y of the floor rectangle.
    object_counts : dict
        ``{category: instances}``. It is stored because the counts of VSI-Bench's files
        differ from their boxes in 12 of 44 scenes; of parsed scans the two are equal.
    room_areas_m2 : dict
        ``{rule: area}``, m², by the rules of ``rooms.area``. Empty: ``room_size_m2``
        is the benchmark's. Scene files up to version 3 have another rule's.
    video_path : str or None
    fps : float or None
        Of the video.
    frame_count : int or None
        Of the video.
    source : str
        What the scene was read from.
    parser_version : str
    warnings : tuple of str
        What was missing and what took its place.
    camera_path_m : tuple of (frame, x, y, z)
        Camera centres, metres, aligned frame, in the order of frames: those of
        ``footage``, if there is any. Files up to version 4 have them alone. Empty if
        unknown.
    footage : Footage or None
        The cameras of kept frames, and what each of these shows; ``None`` if unknown.
    outline_m : tuple of rings
        Closed lines around the area ``room_size_m2``, (x, y) in metres, to 0.001 in
        files: outer ones counter-clockwise, holes clockwise. Files up to version 5 and
        published ones have none: ``()``.
    provenance : dict
        What the scene was made from, as JSON values; see ``parse_scene``.

    Raises
    ------
    SpacerError
        If a value has another length, a number is not finite, the floor rectangle is
        empty, frames of the camera path are out of order, a ring of the outline has
        fewer than three points, or the footage is of other objects or of a longer
        video.
    """

    scene_id: str
    dataset: str
    instances: tuple[ObjectInstance, ...]
    room_size_m2: float
    room_center_m: tuple[float, ...]
    floor_min_m: tuple[float, ...]
    floor_max_m: tuple[float, ...]
    object_counts: dict[str, int] = field(default_factory=dict)
    room_areas_m2: dict[str, float] = field(default_factory=dict)
    video_path: str | None = None
    fps: float | None = None
    frame_count: int | None = None
    source: str = "scannet"
    parser_version: str = PARSER_VERSION
    warnings: tuple[str, ...] = ()
    camera_path_m: tuple[CameraPosition, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    footage: Footage | None = None
    outline_m: tuple[Ring, ...] = ()

    def __post_init__(self) -> None:
        require_scene_id(self.scene_id)
        object.__setattr__(self, "instances", tuple(self.instances))
        if not self.object_counts:
            counts: dict[str, int] = {}
            for instance in self.instances:
                counts[instance.category] = counts.get(instance.category, 0) + 1
            object.__setattr__(self, "object_counts", counts)
        for name, size in (
            ("room_center_m", 3),
            ("floor_min_m", 2),
            ("floor_max_m", 2),
        ):
            values = _finite(f"{self.scene_id}: {name}", getattr(self, name), size)
            object.__setattr__(self, name, values)
        if any(a >= b for a, b in zip(self.floor_min_m, self.floor_max_m, strict=True)):
            raise SpacerError(
                f"{self.scene_id}: floor rectangle",
                kind="rooms.empty-floor",
                got=f"{self.floor_min_m} .. {self.floor_max_m}",
                expected="min < max in x and y",
                remedy="check that the scan has a floor and its axisAlignment",
            )
        if not (np.isfinite(self.room_size_m2) and self.room_size_m2 >= 0):
            raise SpacerError(
                f"{self.scene_id}: room_size_m2",
                kind="rooms.room-size",
                got=self.room_size_m2,
                expected="a finite number >= 0",
            )
        self._settle_areas()
        self._settle_outline()
        self._settle_footage()
        path = [
            (int(f), float(x), float(y), float(z)) for f, x, y, z in self.camera_path_m
        ]
        ordered = all(a[0] < b[0] for a, b in zip(path, path[1:], strict=False))
        if not ordered or not np.isfinite(path).all():
            raise SpacerError(
                f"{self.scene_id}: camera_path_m",
                kind="rooms.camera-path",
                got=f"{len(path)} positions, frames in order: {ordered}",
                expected="(frame, x, y, z), frames ascending, numbers finite",
            )
        object.__setattr__(self, "camera_path_m", tuple(path))

    def _settle_footage(self) -> None:
        """Check ``footage``, and take the camera path from it."""
        if self.footage is None:
            return
        shape, frames = self.footage.visible.shape, self.footage.frames
        if shape[1] != len(self.instances) or frames[-1] >= (
            MAX_WHOLE if self.frame_count is None else self.frame_count
        ):
            raise SpacerError(
                f"{self.scene_id}: footage",
                kind="rooms.other-footage",
                got=f"{shape[1]} objects, last frame {frames[-1]}",
                expected=f"{len(self.instances)} objects, {self.frame_count} frames",
                remedy="parse the scan again",
            )
        centers = self.footage.centers_m.tolist()
        path = [(f, *center) for f, center in zip(frames, centers, strict=True)]
        object.__setattr__(self, "camera_path_m", tuple(path))

    def _settle_areas(self) -> None:
        """Fill ``room_areas_m2`` if it is empty, and check it."""
        areas = {name: float(area) for name, area in self.room_areas_m2.items()}
        if not areas and self.room_size_m2:
            areas = {BENCHMARK_AREA: self.room_size_m2}
        object.__setattr__(self, "room_areas_m2", areas)
        usable = all(np.isfinite(area) and area >= 0 for area in areas.values())
        if not usable or areas.get(BENCHMARK_AREA, self.room_size_m2) != (
            self.room_size_m2
        ):
            raise SpacerError(
                f"{self.scene_id}: areas of the room",
                kind="rooms.room-areas",
                got=f"{areas}, room size {self.room_size_m2}",
                expected=f"finite numbers >= 0, {BENCHMARK_AREA} equal to the room "
                "size",
                remedy="parse the scan again",
            )

    def _settle_outline(self) -> None:
        """Check ``outline_m``, and make it tuples."""
        rings = tuple(tuple((float(x), float(y)) for x, y in r) for r in self.outline_m)
        object.__setattr__(self, "outline_m", rings)
        finite = all(np.isfinite(ring).all() for ring in rings)
        if not finite or min(map(len, rings), default=3) < 3:
            raise SpacerError(
                f"{self.scene_id}: outline",
                kind="rooms.outline",
                got=f"rings of {[*map(len, rings)]} points, finite: {finite}",
                expected="three finite points or more in each ring",
                remedy="parse the scan again",
            )

    @property
    def duration_s(self) -> float | None:
        """Seconds of video, or ``None`` without one."""
        return self.frame_count / self.fps if self.frame_count and self.fps else None

    @property
    def space_id(self) -> str:
        """The physical space: ``scene0025_01`` → ``scene0025``; see ``space_of``."""
        return space_of(self.scene_id)

    def by_category(self) -> dict[str, list[ObjectInstance]]:
        """``{category: [instances]}`` without structural categories, in their order."""
        groups: dict[str, list[ObjectInstance]] = {}
        for instance in self.instances:
            if not is_structural(instance.category):
                groups.setdefault(instance.category, []).append(instance)
        return groups

    def to_meta(self) -> dict[str, Any]:
        """The scene as JSON values: VSI-Bench's keys and further ones."""
        meta = self._plain_meta()
        if self.footage is not None:
            ids = [instance.instance_id for instance in self.instances]
            meta["footage"] = self.footage.to_meta(ids)
        return meta

    def fingerprint(self) -> dict[str, Any]:
        """JSON values that change with the scene; faster to hash than ``to_meta``."""
        return self._plain_meta() | {"footage": self.footage and self.footage.digest()}

    def _plain_meta(self) -> dict[str, Any]:
        """``to_meta`` without the footage, and without the camera path that it has."""
        path = () if self.footage else self.camera_path_m
        boxes: dict[str, list[dict[str, Any]]] = {}
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
        outline = [[round(1000 * v) for xy in r for v in xy] for r in self.outline_m]
        return {
            "dataset": self.dataset,
            "room_size": self.room_size_m2,
            "room_areas": dict(self.room_areas_m2),
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
            "camera_path": [list(position) for position in path],
            "provenance": dict(self.provenance),
        } | ({"outline_mm": outline} if outline else {})

    @classmethod
    def from_meta(cls, scene_id: str, meta: Any, *, where: str = "") -> "Scene":
        """Read one scene of a meta file: VSI-Bench's, of any data set, or ours.

        Names stay as published. VSI-Bench's files have no floor rectangle and some no
        centre. The bounds of all boxes then are the rectangle; its centre at half the
        boxes' height is the room's. A warning tells of either. A box without ``min``
        and ``max`` gets the bounds of its oriented box.

        Parameters
        ----------
        scene_id : str
        meta : dict
            JSON values.
        where : str
            File and room, for messages.

        Raises
        ------
        SpacerError
            If a required key is missing, a value has another form, a number is not
            finite or absurd, axes are not orthonormal, or there is neither a box nor a
            floor rectangle.
        """
        require_scene_id(scene_id)
        room = Field(where or scene_id, meta)
        return cls(scene_id=scene_id, **_fields_from_meta(scene_id, room))


def _fields_from_meta(scene_id: str, room: Field) -> dict[str, Any]:
    instances: list[ObjectInstance] = []
    # VLM-3R's files have the same boxes under another key.
    boxed = room.get("object_bbox") or room.get("object_bboxes")
    for category, boxes in (boxed or room.key("object_bbox")).items():
        for box in boxes.each():
            instances.append(_instance_from_meta(len(instances), category, box))
    noted = room.get("warnings")
    warnings = [note.text() for note in noted.each()] if noted else []
    if room.get("floor_min") or room.get("floor_max"):
        floor_min, floor_max = (
            room.key(name).numbers(2, -MAX_M, MAX_M)
            for name in ("floor_min", "floor_max")
        )
    elif instances:
        floor_min = tuple(np.min([i.aabb_min_m[:2] for i in instances], axis=0))
        floor_max = tuple(np.max([i.aabb_max_m[:2] for i in instances], axis=0))
        warnings.append("floor rectangle = bounds of all boxes")
    else:
        raise SpacerError(
            f"{room.where}.object_bbox is empty",
            kind="rooms.no-boxes",
            got="no box and no floor rectangle",
            expected="at least one box",
            remedy="leave the scene out, or add floor_min and floor_max",
        )
    if (given := room.get("room_center")) is not None:
        room_center = given.numbers(3, -MAX_M, MAX_M)
    else:
        z = [v for i in instances for v in (i.aabb_min_m[2], i.aabb_max_m[2])] or [0.0]
        middle_xy = (np.asarray(floor_min) + np.asarray(floor_max)) / 2
        room_center = (*middle_xy.tolist(), (min(z) + max(z)) / 2)
        warnings.append("room centre = centre of the floor rectangle")
    instances.sort(key=lambda instance: instance.instance_id)
    ids = [instance.instance_id for instance in instances]
    counts = room.key("object_counts").items()
    frames, fps = room.get("frame_count"), room.get("fps")
    return {
        "dataset": _text(room, "dataset", "unknown"),
        "instances": instances,
        "room_size_m2": room.key("room_size").number(0, MAX_M**2),
        "room_areas_m2": _areas_from_meta(room, warnings),
        "room_center_m": room_center,
        "floor_min_m": floor_min,
        "floor_max_m": floor_max,
        "object_counts": {name: n.whole(0, MAX_WHOLE) for name, n in counts},
        "video_path": _text(room, "video"),
        "fps": fps.number(0.001, 10_000) if fps else None,
        "frame_count": frames.whole(0, MAX_WHOLE) if frames else None,
        "source": _text(room, "source", "vsi-bench meta"),
        "parser_version": _text(room, "parser_version", "published"),
        "warnings": tuple(warnings),
        "camera_path_m": _camera_path(room),
        "footage": Footage.from_meta(f, ids) if (f := room.get("footage")) else None,
        "provenance": dict(p.mapping()) if (p := room.get("provenance")) else {},
        "outline_m": _outline_from_meta(room),
    }


def _outline_from_meta(room: Field) -> tuple[Ring, ...]:
    """The rings of ``outline_mm``: ``[x, y, x, y …]`` in whole millimetres each."""
    rings: list[Ring] = []
    given, most = room.get("outline_mm"), int(1000 * MAX_M)
    for ring in given.each() if given else ():
        numbers = [number / 1000 for number in ring.wholes(-most, most)]
        if len(numbers) % 2 or len(numbers) < 6:
            raise ring.refuse("rooms.meta-size", "x and y of three points or more")
        rings.append(tuple(zip(numbers[::2], numbers[1::2], strict=True)))
    return tuple(rings)


def _areas_from_meta(room: Field, warnings: list[str]) -> dict[str, float]:
    """``{rule: area}``; empty for published files, which have the benchmark's only."""
    if (given := room.get("room_areas")) is not None:
        return {name: area.number(0, MAX_M**2) for name, area in given.items()}
    if _text(room, "source") != "scannet":
        return {}
    warnings.append(
        "room size of the floor label alone: parse the scan again for other areas"
    )
    return {LABELLED_AREA: room.key("room_size").number(0, MAX_M**2)}


def _text(room: Field, name: str, default: str | None = None) -> str | None:
    given = room.get(name)
    return default if given is None else given.text()


def _camera_path(room: Field) -> tuple[CameraPosition, ...]:
    path: list[CameraPosition] = []
    given = room.get("camera_path")
    for position in given.each() if given else ():
        frame, x, y, z = position.numbers(4, -MAX_WHOLE, MAX_WHOLE)
        path.append((int(frame), x, y, z))
    return tuple(path)


def _instance_from_meta(number: int, category: str, box: Field) -> ObjectInstance:
    center = box.key("centroid").numbers(3, -MAX_M, MAX_M)
    lengths = box.key("axesLengths").numbers(3, 0, MAX_M)
    given = box.key("normalizedAxes")
    if len(given.each()) == 3:
        rows = [row.numbers(3, -2, 2) for row in given.each()]
        axes = tuple(value for row in rows for value in row)
    else:
        axes = given.numbers(9, -2, 2)
    matrix = np.array(axes).reshape(3, 3)
    if not np.allclose(matrix @ matrix.T, np.eye(3), atol=AXES_TOLERANCE):
        raise given.refuse("rooms.axes", "three unit axes at right angles")
    low, high = box.get("min"), box.get("max")
    if low is None or high is None:
        # A corner is half an edge away from the centre along each axis.
        x, y, z = (np.array(lengths) / 2)[:, None] * np.abs(matrix)
        reach = (x + y) + z  # in this order on every processor
        bounds = tuple(np.array(center) - reach), tuple(np.array(center) + reach)
    else:
        bounds = low.numbers(3, -MAX_M, MAX_M), high.numbers(3, -MAX_M, MAX_M)
        if any(a > b for a, b in zip(*bounds, strict=True)):
            raise low.refuse("rooms.meta-range", f"at most max = {list(bounds[1])}")

    def whole(name: str) -> int | None:
        given = box.get(name)
        return None if given is None else given.whole(0, MAX_WHOLE)

    identity = whole("instance_id")
    return ObjectInstance(
        instance_id=number if identity is None else identity,
        category=category,
        centroid_m=center,
        axes_lengths_m=lengths,
        axes=axes,
        aabb_min_m=bounds[0],
        aabb_max_m=bounds[1],
        vertex_count=whole("vertex_count"),
        first_seen_frame=whole("first_seen_frame"),
    )


def read_meta_file(path: PathLike | Iterable[PathLike]) -> list[Scene]:
    """Scenes of JSON files ``{scene_id: meta}``, VSI-Bench's or ours.

    Parameters
    ----------
    path : path, or list of paths
        Files, or folders: their ``*.json`` are read in the order of their names.

    Raises
    ------
    SpacerError
        If a file is missing, broken or of another form, a folder has none, or a scene
        is there twice.
    """
    scenes, failures = try_meta_files(path)
    if failures:
        raise next(iter(failures.values()))
    return [scene for _, scene in scenes]


def try_meta_files(
    path: PathLike | Iterable[PathLike],
) -> tuple[list[tuple[Path, Scene]], dict[str, SpacerError]]:
    """Read as ``read_meta_file``; return the failures instead of raising them.

    Returns
    -------
    scenes : list of (file, Scene)
        In the order of the files.
    failures : dict
        ``{file, or file and room: error}`` of the others. Of a room that is there twice
        neither form is used.

    Raises
    ------
    SpacerError
        If a folder has no file.
    """
    paths = [path] if isinstance(path, (str, os.PathLike)) else path
    scenes: dict[str, tuple[Path, Scene]] = {}
    failures: dict[str, SpacerError] = {}
    origin: dict[str, Path] = {}
    for file in (file for each in paths for file in _json_files(Path(each))):
        try:
            content = _rooms_of(file)
        except SpacerError as error:
            failures[str(file)] = error
            continue
        twice = set(getattr(content, "repeated", ()))
        for scene_id, meta in content.items():
            where = f"{file}: {scene_id}"
            if scene_id in origin or scene_id in twice:
                scenes.pop(scene_id, None)
                failures[where] = SpacerError(
                    f"{file}: scene {scene_id} is there twice",
                    kind="rooms.scene-twice",
                    got=f"the same id in {origin.get(scene_id, file)}",
                    expected="each scene once",
                    remedy="remove one of the two",
                )
                continue
            origin[scene_id] = file
            try:
                scene = Scene.from_meta(scene_id, meta, where=where)
            except SpacerError as error:
                failures[where] = error.inside(file)
            else:
                scenes[scene_id] = file, scene
    return list(scenes.values()), failures


def _rooms_of(file: Path) -> dict[str, Any]:
    content = read_json(file, mark_repeated=True)
    if not isinstance(content, dict):
        raise SpacerError(
            f"{file} is not a meta file",
            kind="rooms.not-a-meta-file",
            got=type(content).__name__,
            expected="{scene_id: meta}",
        )
    return content


def _json_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = listing(path, "*.json")
    if not files:
        raise SpacerError(
            f"{path} has no scene",
            kind="rooms.no-meta-file",
            got="no *.json",
            expected="one or more {scene_id: meta} files",
            remedy="run the step that writes them, or fix the path",
        )
    return files
