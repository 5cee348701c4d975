"""Which box a ray hits first: by Open3D, or by numpy where Open3D is not installed.

Both give equal pictures but for single pixels on edges
(``tests/unit/test_synthetic.py``); numpy takes several times as long.
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spacer_lib.rooms.synthetic.layout import box_vertices

# Centre (3,) and edge lengths (3,) in metres, yaw_rad.
Box = tuple[npt.ArrayLike, npt.ArrayLike, float]
Hits = tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[Any]]
Cast = Callable[[npt.NDArray[np.float32]], Hits]

TOGETHER = 32  # neighbouring rays that numpy rules out together
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


def caster(boxes: Sequence[Box]) -> Cast:
    """A function that casts rays at boxes.

    Parameters
    ----------
    boxes : sequence of (centre, edge lengths, yaw_rad)
        Metres, turned about the z axis.

    Returns
    -------
    callable
        Of rays (n, 6) float32, origins and directions of one camera, it gives the
        distances (n,) in lengths of the direction, infinite without a hit; the numbers
        (n,) of the boxes, 0 without a hit; and normals (n, 3) of either sign.
    """
    if importlib.util.find_spec("open3d") is None:
        return _numpy_caster(boxes)
    return _open3d_caster(boxes)


def _open3d_caster(boxes: Sequence[Box]) -> Cast:
    import open3d as o3d

    vertices = np.concatenate([box_vertices(*box) for box in boxes])
    offsets = 8 * np.arange(len(boxes))[:, None, None]
    triangles = (_TRIANGLES[None] + offsets).reshape(-1, 3)
    scene = o3d.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(
        o3d.core.Tensor.from_numpy(vertices.astype(np.float32)),
        o3d.core.Tensor.from_numpy(triangles.astype(np.uint32)),
    )

    def cast(rays: npt.NDArray[np.float32]) -> Hits:
        hit = scene.cast_rays(o3d.core.Tensor.from_numpy(rays))
        distance = hit["t_hit"].numpy()
        triangle = np.where(np.isfinite(distance), hit["primitive_ids"].numpy(), 0)
        box = triangle.astype(np.int64) // len(_TRIANGLES)
        return distance, box, hit["primitive_normals"].numpy()

    return cast


def _numpy_caster(boxes: Sequence[Box]) -> Cast:
    def cast(rays: npt.NDArray[np.float32]) -> Hits:
        origin, directions = rays[0, :3].astype(float), rays[:, 3:].astype(float)
        distance = np.full(len(rays), np.inf)
        number = np.zeros(len(rays), dtype=np.int64)
        normals = np.zeros((len(rays), 3))
        cones = _cones(directions)
        for index, (center, size, yaw) in enumerate(boxes):
            c, s = np.cos(yaw), np.sin(yaw)
            axes = np.array([(c, s, 0), (-s, c, 0), (0, 0, 1)])  # rows: the box's own
            toward, half = np.asarray(center) - origin, np.asarray(size) / 2
            near = _near(cones, toward, float(np.linalg.norm(half)), len(rays))
            hit, side = _slabs(directions[near] @ axes.T, -axes @ toward, half)
            closer = hit < distance[near]
            rows = near[closer]
            distance[rows], number[rows] = hit[closer], index
            normals[rows] = axes[side[closer]]
        return distance, number, normals

    return cast


def _cones(directions: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Axis (k, 3) and half angle (k,) around each ``TOGETHER`` neighbouring rays."""
    units = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    rest = -len(units) % TOGETHER
    groups = np.concatenate([units, np.repeat(units[-1:], rest, axis=0)])
    groups = groups.reshape(-1, TOGETHER, 3)
    axes = groups.mean(axis=1)
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    cosines = (groups * axes[:, None]).sum(axis=2).min(axis=1)
    return axes, np.arccos(cosines.clip(-1, 1))


def _near(
    cones: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    toward: npt.NDArray[Any],
    radius: float,
    count: int,
) -> npt.NDArray[np.int64]:
    """Numbers of the rays whose cone meets the sphere around a box."""
    axes, angles = cones
    far = float(np.linalg.norm(toward))
    if far <= radius:
        return np.arange(count)
    apart = np.arccos((axes @ (toward / far)).clip(-1, 1))
    groups = np.flatnonzero(apart <= angles + np.arcsin(radius / far) + 1e-6)
    rows = (groups[:, None] * TOGETHER + np.arange(TOGETHER)).reshape(-1)
    return rows[rows < count]


def _slabs(
    directions: npt.NDArray[Any], origin: npt.NDArray[Any], half: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Distance (n,) to a box at 0 in its own axes, and the axis of the side."""
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = (-half - origin) / directions, (half - origin) / directions
    # 0 / 0, of a ray in the plane of a side: it is between the two sides.
    first = np.nan_to_num(np.minimum(low, high), nan=-np.inf)
    last = np.nan_to_num(np.maximum(low, high), nan=np.inf)
    enters, leaves = first.max(axis=1), last.min(axis=1)
    inside = enters <= 0
    distance = np.where(inside, leaves, enters)
    side = np.where(inside, last.argmin(axis=1), first.argmax(axis=1))
    hits = (enters <= leaves) & (leaves > 0)
    return np.where(hits, distance, np.inf), side
