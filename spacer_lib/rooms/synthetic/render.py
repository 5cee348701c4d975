"""Cameras and ray-cast frames of a ``Room`` (Open3D's ``RaycastingScene``, CPU).

Camera convention (ScanNet's): x right, y down, z forward; a pose is the 4x4
``T_aligned_from_camera``. Pixel (u, v) has its centre at integer coordinates.
"""

import functools
import itertools
import math

import numpy as np
import open3d as o3d

FLOOR, WALL, NOTHING = -1, -2, -3
_LIGHT = np.array([0.35, -0.45, 0.82]) / np.linalg.norm([0.35, -0.45, 0.82])
_BACKGROUND = np.array([0.0, 0.0, 0.0])
_WALL_RGB = (0.82, 0.80, 0.76)
_PLAIN_FLOOR_RGB = (0.62, 0.52, 0.42)
_WALL_THICKNESS_M = 0.06

_CORNERS = np.array(
    [(x, y, z) for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)], dtype=np.float64
)
_TRIANGLES = np.array(
    [
        (0, 2, 1),
        (1, 2, 3),
        (4, 5, 6),
        (5, 7, 6),
        (0, 1, 4),
        (1, 5, 4),
        (2, 6, 3),
        (3, 6, 7),
        (0, 4, 2),
        (2, 4, 6),
        (1, 3, 5),
        (3, 7, 5),
    ]
)


def box_vertices(center, size, yaw_rad):
    """(8, 3) corners of a box rotated about +z."""
    local = _CORNERS * np.asarray(size) / 2
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return local @ rotation.T + np.asarray(center)


def room_boxes(room):
    """Every surface of a room as [(center, size, yaw_rad, rgb, label)].

    ``label`` is the instance id, or ``FLOOR`` / ``WALL``.
    """
    boxes = []
    for x0, y0, x1, y1 in room.floor_rects:
        center = ((x0 + x1) / 2, (y0 + y1) / 2, -0.02)
        boxes.append((center, (x1 - x0, y1 - y0, 0.04), 0.0, _PLAIN_FLOOR_RGB, FLOOR))
    for x0, y0, x1, y1 in _wall_segments(room):
        t, h = _WALL_THICKNESS_M, room.style.wall_height_m
        center = ((x0 + x1) / 2, (y0 + y1) / 2, h / 2)
        boxes.append((center, (x1 - x0 + t, y1 - y0 + t, h), 0.0, _WALL_RGB, WALL))
    for piece in room.furniture:
        for center, size, yaw, rgb in piece.part_boxes():
            boxes.append((center, size, yaw, rgb, piece.instance_id))
    return boxes


def _wall_segments(room):
    """Axis-aligned boundary segments of the floor, (x0, y0, x1, y1) with x0<=x1."""
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


class Renderer:
    """Ray-casts one room from any pose."""

    def __init__(self, room):
        boxes = room_boxes(room)
        vertices = np.concatenate(
            [box_vertices(c, s, yaw) for c, s, yaw, _, _ in boxes]
        )
        offsets = 8 * np.arange(len(boxes))[:, None, None]
        triangles = (_TRIANGLES[None] + offsets).reshape(-1, 3)
        self.room = room
        self._labels = np.repeat([b[4] for b in boxes], len(_TRIANGLES))
        self._colors = np.repeat([b[3] for b in boxes], len(_TRIANGLES), axis=0)
        self._scene = o3d.t.geometry.RaycastingScene(nthreads=1)
        self._scene.add_triangles(
            o3d.core.Tensor(vertices.astype(np.float32)),
            o3d.core.Tensor(triangles.astype(np.uint32)),
        )

    def render(self, pose, intrinsic, width, height):
        """One frame.

        Parameters
        ----------
        pose : (4, 4) T_aligned_from_camera
        intrinsic : (3, 3) pinhole matrix in pixels
        width, height : int

        Returns
        -------
        rgb : (height, width, 3) uint8
        depth_m : (height, width) float32, along the optical axis; 0 where nothing
        labels : (height, width) int, instance id, ``FLOOR``, ``WALL`` or ``NOTHING``
        """
        directions = _ray_directions(tuple(map(tuple, intrinsic)), width, height)
        pose = np.asarray(pose, dtype=np.float64)
        world = directions @ pose[:3, :3].T  # z of `directions` is 1: t_hit is depth
        rays = np.empty((len(world), 6), dtype=np.float32)
        rays[:, :3], rays[:, 3:] = pose[:3, 3], world
        hit = self._scene.cast_rays(o3d.core.Tensor(rays))
        depth = hit["t_hit"].numpy()
        seen = np.isfinite(depth)
        primitive = np.where(seen, hit["primitive_ids"].numpy(), 0).astype(np.int64)
        labels = np.where(seen, self._labels[primitive], NOTHING)
        normals = hit["primitive_normals"].numpy()
        # Two-sided lighting: the sign of a normal depends on the winding only.
        facing = np.sign((normals * rays[:, 3:]).sum(axis=1, keepdims=True))
        shade = 0.62 + 0.38 * np.clip(-(normals * facing) @ _LIGHT, 0, 1)
        colors = self._colors[primitive]
        on_floor = labels == FLOOR
        depth = np.where(seen, depth, 0.0).astype(np.float32)
        points = rays[on_floor, :3] + rays[on_floor, 3:] * depth[on_floor, None]
        colors[on_floor] = self._floor_rgb(points[:, :2])
        rgb = np.where(seen[:, None], colors * shade[:, None], _BACKGROUND)
        shape = (height, width)
        return (
            (rgb.clip(0, 1) * 255 + 0.5).astype(np.uint8).reshape(*shape, 3),
            depth.reshape(shape),
            labels.reshape(shape),
        )

    def _floor_rgb(self, xy):
        tile = (np.floor(xy).sum(axis=1) % 2)[:, None]
        if not self.room.style.tinted_floor:
            return np.asarray(_PLAIN_FLOOR_RGB) * (0.9 + 0.1 * tile)
        low, high = self.room.floor_bounds_m
        u = ((xy - low) / (high - low)).clip(0, 1)
        tint = np.stack([u[:, 0], u[:, 1], 1 - u.mean(axis=1)], axis=1)
        return (0.25 + 0.45 * tint) * (0.88 + 0.12 * tile)


@functools.lru_cache(maxsize=8)
def _ray_directions(intrinsic, width, height):
    K = np.array(intrinsic)
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    x = (u - K[0, 2]) / K[0, 0]
    y = (v - K[1, 2]) / K[1, 1]
    return np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)


def pinhole(width, height, fov_deg=54.0):
    """(3, 3) intrinsic with square pixels; the field of view is horizontal."""
    f = width / 2 / math.tan(math.radians(fov_deg) / 2)
    return np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]])


def look_at(eye, target):
    """(4, 4) T_aligned_from_camera looking from ``eye`` to ``target``, +z up."""
    forward = np.subtract(target, eye)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = eye
    return pose


def orbit_poses(room, times, azimuth_deg=0.0, sweep_deg=12.0, elevation_deg=59.0):
    """(n, 4, 4) poses on an arc that looks down at the room's centre.

    ``times`` (n,) runs from 0 to 1 over the whole video.

    Azimuth 0 stands at -y and looks towards +y; positive azimuth walks
    counter-clockwise seen from above. The distance frames the whole floor.
    """
    low, high = room.floor_bounds_m
    distance = 1.32 * float(np.max(high - low))
    poses = []
    for t in times:
        a = math.radians(azimuth_deg + (t - 0.5) * sweep_deg)
        e = math.radians(elevation_deg)
        eye = (
            distance * math.cos(e) * math.sin(a),
            -distance * math.cos(e) * math.cos(a),
            distance * math.sin(e),
        )
        center = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, 0.0)
        poses.append(look_at(np.add(eye, center), np.add(center, (0, 0, 0.25))))
    return np.stack(poses)


def walk_poses(room, times, rng, eye_height_m=1.5):
    """(n, 4, 4) poses of a hand-held-like walk inside the room, at ``times`` in [0, 1].

    A closed curve around the middle of the largest floor rectangle, looking across
    the room while turning once around, with a slow sway of height and gaze.
    """
    rects = np.array(room.floor_rects)
    areas = (rects[:, 2] - rects[:, 0]) * (rects[:, 3] - rects[:, 1])
    x0, y0, x1, y1 = rects[areas.argmax()]
    center, half = (
        np.array([(x0 + x1) / 2, (y0 + y1) / 2]),
        np.array([x1 - x0, y1 - y0]),
    )
    start, phase = rng.uniform(0, 2 * math.pi, size=2)
    turn = 1 if rng.random() < 0.5 else -1
    poses = []
    for t in times:
        angle = start + turn * 2 * math.pi * t
        xy = center + 0.30 * half * (math.cos(angle), math.sin(angle))
        sway = 0.05 * math.sin(6 * math.pi * t + phase)
        eye = (xy[0], xy[1], eye_height_m + sway)
        gaze = angle + math.pi + 0.35 * math.sin(4 * math.pi * t + phase)
        pitch = -0.32 + 0.08 * math.sin(10 * math.pi * t + phase)
        target = np.add(eye, (math.cos(gaze), math.sin(gaze), math.tan(pitch)))
        poses.append(look_at(eye, target))
    return np.stack(poses)
