"""Frames of a synthetic ``Room`` by ray casting on the CPU (``rays``).

Cameras follow the convention of ``views``. Detailed rooms are coloured by ``paint``.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spacer_lib.errors import SpacerError
from spacer_lib.rooms.footage import Footage, kept_frames
from spacer_lib.rooms.frames import FPS, Sampler
from spacer_lib.rooms.synthetic.layout import (
    WALL_THICKNESS_M,
    XYZ,
    Furniture,
    Opening,
    Rect,
    Room,
    draw_room,
)
from spacer_lib.rooms.synthetic.paint import Paint
from spacer_lib.rooms.synthetic.rays import Hits, caster
from spacer_lib.rooms.synthetic.shapes import COLOURS, DOOR, SHAPES
from spacer_lib.rooms.synthetic.views import (
    VIEWS,
    View,
    address_parts,
    view_intrinsic,
    view_poses,
)

FLOOR, WALL, NOTHING = -1, -2, -3  # labels of pixels that show no furniture
_BACKGROUND = np.array([0.0, 0.0, 0.0])
_BEYOND = np.array([0.93, 0.93, 0.92], dtype=np.float32)  # above detailed rooms' walls
_CEILING_RGB = (0.97, 0.97, 0.97)
ROOMS_KEPT = 16  # in memory, with their light


class LabelledBox(NamedTuple):
    """A coloured box of a room.

    ``center`` and ``size`` are (3,) in metres, ``rgb`` is in [0, 1]. ``label`` is the
    instance id, or ``FLOOR`` or ``WALL``; ``material`` a texture of ``paint``.
    """

    center: npt.ArrayLike
    size: npt.ArrayLike
    yaw_rad: float
    rgb: XYZ
    label: int
    material: str = ""


def room_boxes(room: Room, *, joined: bool = False) -> list[LabelledBox]:
    """Every surface of a room: floor, walls, openings and furniture.

    ``joined`` gives the same walls as boxes that share no surface, for pictures of
    detailed rooms. The mesh of ``write`` keeps a box for each segment of the border.
    """
    boxes, look = [], room.look
    for x0, y0, x1, y1 in room.floor_rects:
        center = ((x0 + x1) / 2, (y0 + y1) / 2, -0.02)
        size = (x1 - x0, y1 - y0, 0.04)
        boxes.append(LabelledBox(center, size, 0.0, look.floor_rgb, FLOOR, look.floor))
    segments = _wall_segments(room)
    for x0, y0, x1, y1 in _joined(segments) if joined else segments:
        t, h = WALL_THICKNESS_M, room.style.wall_height_m
        center = ((x0 + x1) / 2, (y0 + y1) / 2, h / 2)
        size = (x1 - x0 + t, y1 - y0 + t, h)
        boxes.append(LabelledBox(center, size, 0.0, look.wall_rgb, WALL, look.wall))
    if room.style.lived_in:
        (x0, y0), (x1, y1) = room.floor_bounds_m
        center = ((x0 + x1) / 2, (y0 + y1) / 2, room.style.wall_height_m + 0.02)
        size = (x1 - x0, y1 - y0, 0.04)
        boxes.append(LabelledBox(center, size, 0.0, _CEILING_RGB, WALL))
    if room.style.detailed:
        for opening in room.openings:
            boxes += _door_boxes(opening)
        for piece in room.furniture:
            boxes += _detailed_boxes(room.seed, piece)
        return boxes
    boxes += [LabelledBox(o.center, o.size, 0.0, o.rgb, WALL) for o in room.openings]
    for piece in room.furniture:
        for box in piece.part_boxes():
            boxes.append(LabelledBox(*box, piece.instance_id))
    return boxes


def _detailed_boxes(seed: int, piece: Furniture) -> list[LabelledBox]:
    """The parts of ``SHAPES``; seed and instance draw the piece's own colours."""
    rng = np.random.default_rng([seed, piece.instance_id, 29])
    own = {
        material: np.multiply(some[int(rng.integers(len(some)))], piece.tone)
        for material, some in COLOURS.items()
    }
    boxes = []
    for part in SHAPES[piece.kind.category]:
        rgb = _times(part.rgb, own.get(part.material, np.ones(3)))
        center, size = piece.placed(part)
        label = piece.instance_id
        boxes.append(
            LabelledBox(center, size, piece.yaw_rad, rgb, label, part.material)
        )
    return boxes


def _door_boxes(opening: Opening) -> list[LabelledBox]:
    x, y, height = opening.size
    yaw, wide, deep = (0.0, x, y) if x > y else (math.pi / 2, y, x)
    boxes = []
    for part in DOOR:
        along, across, up = np.multiply(part.center, (wide, deep, height))
        step = (along, across) if x > y else (-across, along)
        center = np.add(opening.center, (*step, up - height / 2))
        size = np.multiply(part.size, (wide, deep, height))
        rgb = _times(part.rgb, opening.rgb if part.material == "wood" else (1, 1, 1))
        boxes.append(LabelledBox(center, size, yaw, rgb, WALL, part.material))
    return boxes


def _times(rgb: XYZ, factors: npt.ArrayLike) -> XYZ:
    r, g, b = np.minimum(np.multiply(rgb, factors), 1.0).tolist()
    return (r, g, b)


def _wall_segments(room: Room) -> list[Rect]:
    """Axis-aligned boundary segments of the floor: x0 = x1 or y0 = y1."""
    rects = np.array(room.floor_rects)
    xs, ys = np.unique(rects[:, [0, 2]]), np.unique(rects[:, [1, 3]])
    open_y = ys[0] if room.style.open_wall else None
    eps, segments = 1e-3, []
    for x0, x1 in itertools.pairwise(xs):
        for y in ys:
            sides = room.on_floor([((x0 + x1) / 2, y - eps), ((x0 + x1) / 2, y + eps)])
            if sides.sum() == 1 and y != open_y:
                segments.append((x0, y, x1, y))
    for y0, y1 in itertools.pairwise(ys):
        for x in xs:
            sides = room.on_floor([(x - eps, (y0 + y1) / 2), (x + eps, (y0 + y1) / 2)])
            if sides.sum() == 1:
                segments.append((x, y0, x, y1))
    return segments


def _joined(segments: list[Rect]) -> list[Rect]:
    """Segments in one line joined, and those along y shortened at both ends.

    Where two boxes share a visible surface, either one's light would be seen.
    """
    t = WALL_THICKNESS_M
    along_x = _merged([(y0, x0, x1) for x0, y0, x1, y1 in segments if y0 == y1])
    along_y = _merged([(x0, y0, y1) for x0, y0, x1, y1 in segments if x0 == x1])
    return [
        *((low, y, high, y) for y, low, high in along_x),
        *((x, low + t, x, high - t) for x, low, high in along_y if high - low > t),
    ]


def _merged(lines: list[XYZ]) -> list[XYZ]:
    """(place, low, high) of lines; those that meet become one."""
    done: list[XYZ] = []
    for place, low, high in sorted(lines):
        if done and done[-1][0] == place and done[-1][2] == low:
            low = done.pop()[1]
        done.append((place, low, high))
    return done


@functools.lru_cache(maxsize=ROOMS_KEPT)
def room_paint(room: Room, *, joined: bool = True) -> tuple[list[LabelledBox], Paint]:
    """The boxes of a detailed room, and their colours; kept for the latest rooms."""
    boxes = room_boxes(room, joined=joined)
    return boxes, Paint(
        [box[:3] for box in boxes],
        [box.rgb for box in boxes],
        [box.material for box in boxes],
        [box.label for box in boxes],
        floor=FLOOR,
        wall=WALL,
        light=room.look.light,
        make=caster,
    )


class Renderer:
    """Renders one room from any pose."""

    def __init__(self, room: Room) -> None:
        boxes = room_boxes(room, joined=room.style.detailed)
        self.room = room
        self._light = np.array(room.look.light)
        self._labels = np.array([box.label for box in boxes])
        self._colors = np.array([box.rgb for box in boxes])
        self._cast = caster([box[:3] for box in boxes])

    def render(
        self, pose: npt.ArrayLike, intrinsic: np.ndarray, width: int, height: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Render one frame.

        Parameters
        ----------
        pose : (4, 4)
            T_aligned_from_camera.
        intrinsic : (3, 3)
            Pinhole matrix in pixels.
        width, height : int

        Returns
        -------
        rgb : (height, width, 3) uint8
        depth_m : (height, width) float32
            Along the optical axis; 0 where there is nothing.
        labels : (height, width) int
            Instance id, ``FLOOR``, ``WALL`` or ``NOTHING``.
        """
        rays, (distance, box, normals) = self._hits(pose, intrinsic, width, height)
        depth, labels = self._shown(distance, box)
        if self.room.style.detailed:
            # A pixel covers more of a surface that is seen at a low angle.
            slope = np.abs((normals * rays[:, 3:]).sum(axis=1)).clip(0.1)
            span_m = depth / intrinsic[0, 0] / np.sqrt(slope)
            rgb = self._painted(rays, depth, box, span_m)
        else:
            rgb = self._shaded(rays, depth, box, normals, labels)
        shape = (height, width)
        return (
            (rgb.clip(0, 1) * 255 + 0.5).astype(np.uint8).reshape(*shape, 3),
            depth.reshape(shape),
            labels.reshape(shape),
        )

    def measure(
        self, pose: npt.ArrayLike, intrinsic: np.ndarray, width: int, height: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Depth and labels of ``render``, without the time that colours take."""
        _, (distance, box, _) = self._hits(pose, intrinsic, width, height)
        depth, labels = self._shown(distance, box)
        return depth.reshape(height, width), labels.reshape(height, width)

    def _hits(
        self, pose: npt.ArrayLike, intrinsic: np.ndarray, width: int, height: int
    ) -> tuple[npt.NDArray[np.float32], Hits]:
        """Rays (n, 6) of the pixels, and what they hit."""
        directions = _ray_directions(tuple(map(tuple, intrinsic)), width, height)
        pose = np.asarray(pose, dtype=np.float64)
        world = directions @ pose[:3, :3].T  # z of `directions` is 1: t_hit is depth
        rays = np.empty((len(world), 6), dtype=np.float32)
        rays[:, :3], rays[:, 3:] = pose[:3, 3], world
        return rays, self._cast(rays)

    def _shown(
        self, distance: np.ndarray, box: np.ndarray
    ) -> tuple[npt.NDArray[np.float32], np.ndarray]:
        """Depth (n,) in metres and labels (n,)."""
        seen = np.isfinite(distance)
        labels = np.where(seen, self._labels[box], NOTHING)
        return np.where(seen, distance, 0.0).astype(np.float32), labels

    def _painted(
        self, rays: np.ndarray, depth: np.ndarray, box: np.ndarray, span_m: np.ndarray
    ) -> np.ndarray:
        """(n, 3) colours in [0, 1] of a detailed room."""
        _, paint = room_paint(self.room)
        points = rays[:, :3] + rays[:, 3:] * depth[:, None]
        rgb = paint.colours(box, points, span_m)
        return np.where(depth[:, None] > 0, rgb, _BEYOND)

    def _shaded(
        self,
        rays: np.ndarray,
        depth: np.ndarray,
        box: np.ndarray,
        normals: np.ndarray,
        labels: np.ndarray,
    ) -> np.ndarray:
        """(n, 3) colours in [0, 1] of plain boxes."""
        # Two-sided lighting: the sign of a normal depends on the winding only.
        facing = np.sign((normals * rays[:, 3:]).sum(axis=1, keepdims=True))
        shade = 0.62 + 0.38 * np.clip(-(normals * facing) @ self._light, 0, 1)
        colors = self._colors[box]
        on_floor = labels == FLOOR
        points = rays[on_floor, :3] + rays[on_floor, 3:] * depth[on_floor, None]
        colors[on_floor] = self._floor_rgb(points[:, :2])
        seen = (labels != NOTHING)[:, None]
        return np.where(seen, colors * shade[:, None], _BACKGROUND)

    def _floor_rgb(self, xy: np.ndarray) -> np.ndarray:
        """(n, 3) colours in [0, 1] of the floor at (n, 2) points, metres."""
        if not self.room.style.tinted_floor:
            return np.broadcast_to(self.room.look.floor_rgb, (len(xy), 3))
        tile = (np.floor(xy).sum(axis=1) % 2)[:, None]
        low, high = self.room.floor_bounds_m
        u = ((xy - low) / (high - low)).clip(0, 1)
        tint = np.stack([u[:, 0], u[:, 1], 1 - u.mean(axis=1)], axis=1)
        return (0.25 + 0.45 * tint) * (0.88 + 0.12 * tile)


@functools.lru_cache(maxsize=8)
def _ray_directions(intrinsic: Any, width: int, height: int) -> np.ndarray:
    """(height x width, 3) directions of the pixels in the camera's frame, z = 1."""
    K = np.array(intrinsic)
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    x = (u - K[0, 2]) / K[0, 0]
    y = (v - K[1, 2]) / K[1, 1]
    return np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)


def render_labelled(
    room: Room, view: View, indices: Sequence[int], size: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Frames of a view's video at n frame indices, and what their pixels show.

    Returns
    -------
    frames : (n, size, size, 3) uint8
        RGB.
    depth_m : (n, size, size) float32
        Along the optical axis.
    labels : (n, size, size) int
        Instance id, ``FLOOR``, ``WALL`` or ``NOTHING``.
    """
    renderer, intrinsic = Renderer(room), view_intrinsic(room, view, size, size)
    shots = [
        renderer.render(pose, intrinsic, size, size)
        for pose in view_poses(room, view, indices)
    ]
    frames, depth, labels = (np.stack(part) for part in zip(*shots, strict=True))
    return frames, depth, labels


def film(
    room: Room,
    view: View,
    *,
    frames: Sequence[int] | None = None,
    size: tuple[int, int] = (112, 84),
) -> Footage:
    """The exact ``Footage`` of a view's video, for ``views.to_scene``.

    Parameters
    ----------
    room : Room
    view : View
    frames : sequence of int, optional
        Ascending; by default those that the parser keeps (``kept_frames``).
    size : (width, height)
        Of the pictures that are rendered to count pixels.
    """
    kept = tuple(
        kept_frames(range(view.frames), view.frames, FPS) if frames is None else frames
    )
    renderer, intrinsic = Renderer(room), view_intrinsic(room, view, *size)
    poses = view_poses(room, view, kept)
    ids = np.array([piece.instance_id for piece in room.furniture], dtype=int)
    visible = np.zeros((len(kept), len(ids)))
    for row, pose in zip(visible, poses, strict=True):
        labels = renderer.measure(pose, intrinsic, *size)[1]
        row[:] = (labels[..., None] == ids).mean(axis=(0, 1))
    return Footage(kept, poses, intrinsic, size, visible)


def render_frames(
    room: Room, view: View, indices: Sequence[int], size: int
) -> npt.NDArray[np.uint8]:
    """(n, size, size, 3) uint8 RGB frames of a view's video at n frame indices."""
    return render_labelled(room, view, indices, size)[0]


def frames_from_uri(
    uri: str, count: int, size: int, sampler: Sampler | None = None
) -> tuple[npt.NDArray[np.uint8], tuple[int, ...], int, float]:
    """Evenly spaced frames of the video at a ``room://view/seed`` address.

    Returns
    -------
    frames : (count, size, size, 3) uint8
        RGB.
    indices : (count,) tuple of int
        Of the frames in the full video.
    total : int
        Frames of the full video.
    fps : float
        Frame rate of the full video.

    Raises
    ------
    SpacerError
        If the address names no view or no seed, or ``count`` is below 1.
    """
    place = address_parts(uri)
    if place is None:
        raise SpacerError(
            "synthetic video address",
            kind="rooms.bad-address",
            got=uri,
            expected=f"room://<{'|'.join(sorted(VIEWS))}>/<seed>",
        )
    view, seed = VIEWS[place[0]], place[1]
    room = draw_room(seed, view.style)
    indices = (sampler or Sampler()).indices(view.frames, count, FPS)
    frames = render_frames(room, view, indices, size)
    return frames, indices, view.frames, FPS
