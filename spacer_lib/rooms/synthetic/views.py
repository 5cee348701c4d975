"""The light path: a room straight to a ``Scene`` and video frames, no files.

Used where thousands of rooms are needed (the tiny model's data). It must agree with
the long way round (``write`` → ``scannet.parse``); ``tests/unit/test_synthetic.py``
holds both to the same boxes, map and floor.
"""

import functools
from dataclasses import dataclass

import numpy as np

from spacer_lib.errors import SpacerError
from spacer_lib.rooms.geometry import oriented_box
from spacer_lib.rooms.scene import ObjectInstance, Scene
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.render import (
    Renderer,
    box_vertices,
    orbit_poses,
    pinhole,
    walk_poses,
)

FPS = 24.0


@dataclass(frozen=True)
class View:
    """How a synthetic video is shot.

    ``azimuth_deg`` is a range: each room's seed picks one value in it.
    """

    name: str
    style: str
    camera: str  # "orbit" or "walk"
    azimuth_deg: tuple = (0.0, 0.0)
    elevation_deg: tuple = (56.0, 62.0)
    sweep_deg: float = 12.0
    frames: int = 48


# `seen` is where the warm start has demonstrations; `new` is never demonstrated, and
# no angle of its sweep is.
VIEWS = {
    view.name: view
    for view in (
        View("seen", "dollhouse", "orbit", (-15.0, 15.0)),
        View("new", "dollhouse", "orbit", (30.0, 45.0)),
        View("walk", "furnished", "walk", frames=96),
    )
}


def view_poses(room, view, indices=None):
    """(n, 4, 4) camera poses of a video, a function of (room.seed, view).

    ``indices`` picks frames of the video; all of them by default.
    """
    rng = np.random.default_rng([room.seed, sum(map(ord, view.name)), 7])
    times = np.linspace(0, 1, view.frames)
    times = times if indices is None else times[list(indices)]
    if view.camera == "walk":
        return walk_poses(room, times, rng)
    azimuth, elevation = (
        rng.uniform(*view.azimuth_deg),
        rng.uniform(*view.elevation_deg),
    )
    return orbit_poses(room, times, azimuth, view.sweep_deg, elevation)


def first_in_view(room, view, every=12):
    """``{instance_id: frame}`` in which an object's centre enters the picture.

    One frame in ``every`` is looked at, 4:3 pictures, and nothing hides anything: for
    metadata without a video. The parser's first-seen frames know better.
    """
    indices = np.arange(0, view.frames, every)
    poses = view_poses(room, view, indices)  # (n, 4, 4) T_aligned_from_camera
    width, height = 320, 240
    K, first = pinhole(width, height), {}
    for piece in room.furniture:
        corners = np.concatenate([box_vertices(*b[:3]) for b in piece.part_boxes()])
        middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
        camera = np.einsum("nij,ni->nj", poses[:, :3, :3], middle - poses[:, :3, 3])
        depth = np.maximum(camera[:, 2], 1e-6)
        u, v = (K[k, k] * camera[:, k] / depth + K[k, 2] for k in (0, 1))
        seen = (camera[:, 2] > 0.1) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        if seen.any():
            first[piece.instance_id] = int(indices[seen.argmax()])
    return first


def to_scene(room, view=None, with_boxes=True, first_seen=False):
    """``Room`` → ``Scene``, from the same corner points the mesh is made of.

    ``with_boxes=False`` skips the minimal oriented boxes (axis-aligned ones take
    their place): enough for maps, several times faster. ``first_seen`` adds the
    frames of ``first_in_view``.
    """
    instances, seen = [], first_in_view(room, view) if first_seen else {}
    for piece in room.furniture:
        corners = np.concatenate([box_vertices(*b[:3]) for b in piece.part_boxes()])
        low, high = corners.min(axis=0), corners.max(axis=0)
        if with_boxes:
            center, lengths, axes = oriented_box(corners)
        else:
            center, lengths, axes = (low + high) / 2, high - low, np.eye(3)
        instances.append(
            ObjectInstance(
                piece.instance_id,
                piece.kind.category,
                center,
                lengths,
                tuple(axes.ravel()),
                low,
                high,
                first_seen_frame=seen.get(piece.instance_id),
            )
        )
    low, high = room.floor_bounds_m
    top = max([room.style.wall_height_m, *(i.aabb_max_m[2] for i in instances)])
    rects = np.array(room.floor_rects)
    area = ((rects[:, 2] - rects[:, 0]) * (rects[:, 3] - rects[:, 1])).sum()
    return Scene(
        scene_id=room.scene_id,
        dataset="synthetic",
        instances=tuple(instances),
        room_size_m2=float(area),
        room_center_m=(*((low + high) / 2), top / 2),
        floor_min_m=low,
        floor_max_m=high,
        fps=FPS if view else None,
        frame_count=view.frames if view else None,
        source="synthetic light path",
    )


def render_frames(room, view, indices, size):
    """(n, size, size, 3) uint8 frames of the video at the given frame indices."""
    renderer, intrinsic = Renderer(room), pinhole(size, size)
    return np.stack(
        [
            renderer.render(pose, intrinsic, size, size)[0]
            for pose in view_poses(room, view, indices)
        ]
    )


def video_uri(view, seed):
    """The address of a video that exists only as a recipe: ``room://seen/17``."""
    return f"room://{view}/{seed}"


@functools.lru_cache(maxsize=512)
def frames_from_uri(uri, count, size):
    """Frames behind a ``room://view/seed`` address.

    Returns
    -------
    frames : (count, size, size, 3) uint8
    indices : (count,) tuple of int into the full video
    total, fps : int, float of the full video
    """
    scheme, _, rest = uri.partition("://")
    name, _, seed = rest.partition("/")
    if scheme != "room" or name not in VIEWS or not seed.isdigit():
        raise SpacerError(
            "synthetic video address",
            got=uri,
            expected=f"room://<{'|'.join(sorted(VIEWS))}>/<seed>",
        )
    view = VIEWS[name]
    room = draw_room(int(seed), view.style)
    indices = tuple(np.linspace(0, view.frames - 1, count).round().astype(int).tolist())
    frames = render_frames(room, view, indices, size)
    frames.setflags(write=False)  # the cache hands out this very array
    return frames, indices, view.frames, FPS
