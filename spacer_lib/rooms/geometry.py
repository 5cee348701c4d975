"""Boxes, distances, bearings and areas: pure functions of numpy and scipy.

Points are metres in the aligned frame (+z up). Formulas marked *official* reproduce
VSI-Bench's published ground truth. What is written or decides about it is summed in a
written order (``moved``): the last digits of a matrix product depend on the processor.

Source: VSI-Bench, https://github.com/vision-x-nyu/thinking-in-space; its paper,
https://arxiv.org/abs/2412.14171.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull, Delaunay, QhullError, cKDTree

from spacer_lib.errors import SpacerError
from spacer_lib.rooms.box_distances import pair_distances_m, sum_of_three
from spacer_lib.rooms.scene import ObjectInstance

MAX_CELLS = 10**8  # bytes of memory for thinning the points of an alpha shape
Point2 = Sequence[float] | np.ndarray


def fused(a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike) -> np.ndarray:
    """``a * b + c`` rounded once, on every processor.

    Current processors have an instruction for this and their matrix products use it;
    older ones round twice. The product's rounding error is computed (Dekker), the sum's
    too (Knuth), and both are added.

    Source: T. J. Dekker, https://doi.org/10.1007/BF01397083.

    Examples
    --------
    >>> float(fused(0.1, 10.0, -1.0)), 0.1 * 10.0 - 1.0
    (5.551115123125783e-17, 0.0)
    """
    a, b, c = (np.asarray(value, dtype=np.float64) for value in (a, b, c))
    product = a * b
    a_high, b_high = ((x * _SPLIT) - (x * _SPLIT - x) for x in (a, b))
    a_low, b_low = a - a_high, b - b_high
    lost = a_high * b_high - product
    lost = ((lost + a_high * b_low) + a_low * b_high) + a_low * b_low
    total = product + c
    part = total - product
    return total + (lost + ((product - (total - part)) + (c - part)))


_SPLIT = 2.0**27 + 1


def moved(points: npt.ArrayLike, matrix: npt.ArrayLike) -> np.ndarray:
    """``points @ matrix.T`` for (..., 3) points, the same on every processor.

    Each coordinate is summed from the left with one rounding a step. The official
    answers were computed so: a plain sum loses other points of ``sampled_box_points``.
    """
    points, matrix = np.asarray(points, dtype=np.float64), np.asarray(matrix)
    x, y, z = points[..., :1], points[..., 1:2], points[..., 2:]
    return fused(z, matrix[:, 2], fused(y, matrix[:, 1], x * matrix[:, 0]))


def transform_points(T: np.ndarray, points: npt.ArrayLike) -> np.ndarray:
    """(n, 3) points moved by the (4, 4) rigid transform ``T``.

    Examples
    --------
    >>> T_aligned_from_scan = np.eye(4)
    >>> T_aligned_from_scan[:3, 3] = 1, 2, 3
    >>> transform_points(T_aligned_from_scan, [(0, 0, 1)]).tolist()
    [[1.0, 2.0, 4.0]]
    """
    return moved(points, T[:3, :3]) + T[:3, 3]


def require_rigid(T: npt.ArrayLike, where: str) -> npt.NDArray[np.float64]:
    """Return ``T``, 16 numbers, as (4, 4) if it is a rotation and a translation.

    Raises
    ------
    SpacerError
        If the matrix scales, shears, mirrors or is not finite; ``where`` names it.
    """
    T = np.asarray(T, dtype=np.float64).reshape(4, 4)
    rotation = T[:3, :3]
    rigid = (
        np.isfinite(T).all()
        and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
        and np.linalg.det(rotation) > 0
        and np.allclose(T[3], [0, 0, 0, 1], atol=1e-6)
    )
    if not rigid:
        raise SpacerError(
            f"{where}: not a rigid transform",
            kind="rooms.not-rigid",
            got=np.array2string(T, precision=4).replace("\n", ""),
            expected="a rotation, a translation and the last row 0 0 0 1",
            remedy="download the scan's .txt again",
        )
    return T


def oriented_box(
    points: npt.ArrayLike,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Smallest box around (n, 3) points, n >= 1, that has a side on the convex hull.

    For each triangle of the hull, the boxes with a side in its plane and an edge along
    one of its edges are compared, in float64. (Open3D 0.20 does this in float32 and
    sometimes returns the right lengths with the identity as rotation.) Flat, collinear
    and very small sets have no volume to minimise: they get their axis-aligned box.

    Returns
    -------
    centroid_m : (3,) float64
    axes_lengths_m : (3,) float64
        Full edge lengths.
    axes : (3, 3) float64
        Rows are unit axes, right-handed.

    Source: the method of Open3D's ``get_minimal_oriented_bounding_box``.
    """
    points = np.asarray(points, dtype=np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    flat = (low + high) / 2, high - low, np.eye(3)
    if len(points) < 4 or np.linalg.matrix_rank(points - points[0], tol=1e-6) < 3:
        return flat
    try:
        hull = ConvexHull(points)
    except QhullError:
        return flat
    corners, rim = points[hull.simplices], points[hull.vertices]
    normals = np.tile(hull.equations[:, :3], (3, 1))
    edges = np.concatenate([corners[:, k] - corners[:, k - 1] for k in range(3)])
    edges -= (edges * normals).sum(axis=1, keepdims=True) * normals
    lengths = np.linalg.norm(edges, axis=1, keepdims=True)
    usable = lengths[:, 0] > 1e-9
    u, w = edges[usable] / lengths[usable], normals[usable]
    candidates = np.stack([u, np.cross(w, u), w], axis=1)  # (c, 3, 3), rows are axes
    volumes = _extents(rim, candidates).prod(axis=1)
    # Of equally small boxes the most upright one, so that noise does not decide.
    equal = candidates[volumes <= volumes.min() * (1 + 1e-4)]
    along = moved(rim, equal.reshape(-1, 3)).reshape(len(rim), -1, 3)
    volumes = (along.max(axis=0) - along.min(axis=0)).prod(axis=1)
    upright = np.abs(equal[:, :, 2]).max(axis=1).round(4)
    axes = equal[np.lexsort((volumes, -upright))[0]]
    along = moved(rim, axes)
    middle = (along.min(axis=0) + along.max(axis=0)) / 2
    center = sum_of_three(middle * axes.T)
    return center, along.max(axis=0) - along.min(axis=0), axes


def _extents(points: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """(c, 3) lengths of (n, 3) points along the rows of (c, 3, 3) frames."""
    extents = np.empty((len(frames), 3))
    x, y, z = points[:, None, None].transpose(3, 0, 1, 2)
    for start in range(0, len(frames), 16):  # they fit into the processor's cache
        part = frames[start : start + 16]
        along = (x * part[..., 0] + y * part[..., 1]) + z * part[..., 2]
        extents[start : start + 16] = along.max(axis=0) - along.min(axis=0)
    return extents


def box_corners(
    centroid_m: npt.ArrayLike, axes_lengths_m: npt.ArrayLike, axes: npt.ArrayLike
) -> np.ndarray:
    """(8, 3) corners of an oriented box, metres.

    Parameters
    ----------
    centroid_m, axes_lengths_m : (3,)
        Centre and full edge lengths.
    axes : (3, 3) or (9,)
        Rows are the box's unit axes.
    """
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1], indexing="ij"))
    offsets = signs.reshape(3, 8).T * (np.asarray(axes_lengths_m) / 2)
    return moved(offsets, np.asarray(axes).reshape(3, 3).T) + np.asarray(centroid_m)


@functools.lru_cache(maxsize=512)
def sampled_box_points(
    instance: ObjectInstance, spacing_m: float = 0.05
) -> npt.NDArray[np.float64]:
    """Points in the outer part of an instance's oriented box (*official*).

    Along an axis with edge e the grid has ``linspace(-e/2, e/2, ceil(e / 0.05))``. A
    point of the grid stays if it is further than e/4 from the centre along some axis
    and, after rotation, still counts as inside the box. If none stays, the spacing is
    halved.

    Returns
    -------
    (n, 3) float64
        Metres, aligned frame.

    Source: VSI-Bench, absolute distance.
    """
    lengths = np.asarray(instance.axes_lengths_m, dtype=np.float64)
    R = instance.axes_matrix.T  # columns are the box axes
    center = np.asarray(instance.centroid_m, dtype=np.float64)
    for _ in range(12):
        ticks = [np.linspace(-e / 2, e / 2, math.ceil(e / spacing_m)) for e in lengths]
        grid = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
        grid = grid[(np.abs(grid) > lengths / 4).any(axis=1)]
        world = moved(grid, R) + center
        d = world - center
        along = (d[:, :1] * R[0] + d[:, 1:2] * R[1]) + d[:, 2:] * R[2]
        kept = world[(np.abs(along) <= lengths / 2).all(axis=1)]
        if len(kept):
            return kept
        spacing_m /= 2
    return box_corners(center, lengths, instance.axes_matrix)


def closest_distance_m(first: ObjectInstance, second: ObjectInstance) -> float:
    """Least distance between sampled points of two boxes, metres (*official*).

    It is 0 only if the two share a sampled point: overlapping boxes have a distance
    near the spacing.

    Source: VSI-Bench, absolute distance.
    """
    points = sampled_box_points(first)
    distances, _ = cKDTree(sampled_box_points(second)).query(points)
    return float(distances.min())


def box_distance_m(first: ObjectInstance, second: ObjectInstance) -> float:
    """Distance of the closest points of two boxes, metres; 0 if they overlap.

    For many pairs ``box_distances_m`` is faster (*official*).

    Source: VSI-Bench, relative distance.
    """
    return float(box_distances_m([first], [second])[0])


def box_distances_m(
    firsts: Sequence[ObjectInstance], seconds: Sequence[ObjectInstance]
) -> npt.NDArray[np.float64]:
    """``box_distance_m`` of the first with the first, the second with the second …

    Returns
    -------
    (n,) float64
        Metres.
    """
    groups = firsts, seconds
    centers, lengths, axes = (
        [np.array([getattr(i, name) for i in group]) for group in groups]
        for name in ("centroid_m", "axes_lengths_m", "axes")
    )
    frames = [one.reshape(-1, 3, 3) for one in axes]
    return pair_distances_m(
        (centers[0], centers[1]), (lengths[0], lengths[1]), (frames[0], frames[1])
    )


def turn_deg(position_xy: Point2, facing_xy: Point2, query_xy: Point2) -> float:
    """Turn at a position from the facing point to the query, degrees (*official*).

    Positive is counter-clockwise seen from above, which is to the left. All points are
    (2,) in the floor plane.

    Returns
    -------
    float
        In (-180, 180].

    Raises
    ------
    SpacerError
        If facing point or query coincide with the position.

    Source: VSI-Bench, relative direction.
    """
    x, y = (float(value) for value in position_xy)
    forward = float(facing_xy[0]) - x, float(facing_xy[1]) - y
    query = float(query_xy[0]) - x, float(query_xy[1]) - y
    if not any(forward) or not any(query):
        raise SpacerError(
            "bearing",
            kind="rooms.no-bearing",
            got=np.round([position_xy, facing_xy, query_xy], 3).tolist(),
            expected="three distinct points",
        )
    cross = forward[0] * query[1] - forward[1] * query[0]
    along = forward[0] * query[0] + forward[1] * query[1]
    return math.degrees(math.atan2(cross + 0.0, along))  # -0.0 would be -180


def alpha_shape_area_m2(
    points_xy: npt.ArrayLike, alpha_m: float = 0.5, *, fill_holes: bool = False
) -> float:
    """Area of the alpha shape of (n, 2) floor points, square metres.

    Parameters and errors are those of ``alpha_triangles``.
    """
    corners = alpha_triangles(points_xy, alpha_m, fill_holes=fill_holes)
    return float(triangle_areas_m2(corners).sum())


def triangle_areas_m2(corners: np.ndarray) -> np.ndarray:
    """(t,) areas of (t, 3, 2) triangles."""
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]) / 2


def alpha_triangles(
    points_xy: npt.ArrayLike, alpha_m: float = 0.5, *, fill_holes: bool = False
) -> npt.NDArray[np.float64]:
    """Triangles of the alpha shape of (n, 2) floor points.

    The shape consists of the Delaunay triangles whose circumradius is below
    ``alpha_m``. The package ``alphashape`` keeps the same ones for
    ``alpha = 1 / alpha_m``, and fills the holes between them.

    Parameters
    ----------
    points_xy : (n, 2)
        Metres.
    alpha_m : float
    fill_holes : bool
        Whether parts that the shape encloses on all sides count too.

    Returns
    -------
    (t, 3, 2) float64
        Their corners, metres.

    Raises
    ------
    SpacerError
        If there are fewer than three points, or all are on one line.

    Source: SpaceR App. A, room size; https://pypi.org/project/alphashape.
    """
    points = np.unique(_thinned(np.asarray(points_xy, np.float64), alpha_m / 4), axis=0)
    try:
        if len(points) < 3:
            raise ValueError("fewer than three points")
        triangles = Delaunay(points)
    except (QhullError, ValueError) as error:
        raise SpacerError(
            "room size: the floor points span no area",
            kind="rooms.no-floor-area",
            got=f"{len(points)} distinct points",
            expected="at least three not on one line",
            remedy="check that the scan's floor is labelled",
        ) from error
    corners = points[triangles.simplices]  # (t, 3, 2)
    a, b, c = (
        np.linalg.norm(corners[:, i] - corners[:, j], axis=1)
        for i, j in ((0, 1), (1, 2), (2, 0))
    )
    with np.errstate(divide="ignore"):
        inside = a * b * c / (4 * triangle_areas_m2(corners)) < alpha_m
    if fill_holes:
        inside = _with_holes(inside, triangles.neighbors)
    return corners[inside]


def outline_rings(
    triangles: npt.NDArray[np.float64], least_m2: float = 0.0002
) -> list[npt.NDArray[np.float64]]:
    """The border of a shape that consists of (t, 3, 2) triangles.

    Parameters
    ----------
    triangles : (t, 3, 2)
        Metres; no two overlap.
    least_m2 : float
        A corner is left out if it and its neighbours span at most this area.

    Returns
    -------
    list of (n, 2) float64
        Closed lines, metres to 0.001: outer borders counter-clockwise, those of holes
        clockwise. The first point is not repeated.

    Examples
    --------
    >>> square = np.array([[(0, 0), (1, 0), (1, 1)], [(0, 0), (1, 1), (0, 1)]], float)
    >>> [ring.tolist() for ring in outline_rings(square)]
    [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]]
    """
    u, v = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    clockwise = u[:, 0] * v[:, 1] < u[:, 1] * v[:, 0]
    turned = np.where(clockwise[:, None, None], triangles[:, ::-1], triangles)
    corners = np.rint(1000 * turned).astype(np.int64).reshape(-1, 2)
    places, ids = np.unique(corners, axis=0, return_inverse=True)
    start = ids.reshape(-1, 3)
    end = np.roll(start, -1, axis=1)
    # An edge of two triangles is run through once in each direction.
    low, high = np.minimum(start, end), np.maximum(start, end)
    edges, number = np.unique(low * len(places) + high, return_inverse=True)
    net = np.bincount(number.ravel(), weights=np.sign(end - start).ravel())
    follows: dict[int, list[int]] = {}
    for edge, times in zip(edges.tolist(), net.astype(int).tolist(), strict=True):
        pair = divmod(edge, len(places))
        here, there = pair if times > 0 else pair[::-1]
        for _ in range(abs(times)):
            follows.setdefault(here, []).append(there)
    rings = []
    while follows:
        ring = _without_flat_corners(places[_ring_from(follows)] / 1000, least_m2)
        if len(ring) > 2:
            rings.append(ring)
    return rings


def _ring_from(follows: dict[int, list[int]]) -> list[int]:
    """A closed way along edges {start: [end]}, which it takes out."""
    ring = [min(follows)]
    while True:
        here = ring[-1]
        ring.append(follows[here].pop())
        if not follows[here]:
            del follows[here]
        if ring[-1] == ring[0]:
            return ring[:-1]


def _without_flat_corners(ring: np.ndarray, least_m2: float) -> np.ndarray:
    """The flattest corner of a neighbourhood first, until none is flat."""
    while len(ring) > 2:
        a, b = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
        spans = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2
        flat = (spans <= least_m2) & (spans <= np.roll(spans, 1))
        flat &= spans < np.roll(spans, -1)
        if not flat.any():
            break
        ring = ring[~flat]
    return ring


def _thinned(points: np.ndarray, cell_m: float) -> np.ndarray:
    """(m, 2) of the (n, 2) points: of cells amid occupied cells, one point stays.

    Each place there is within a cell's diagonal of a point that stays, so triangles
    stay small. Cells at the border keep all points, and so does the border.
    """
    if not len(points) or np.ptp(points, axis=0).prod() > MAX_CELLS * cell_m**2:
        return points
    cells = np.floor((points - points.min(axis=0)) / cell_m).astype(np.int64) + 1
    occupied = np.zeros(cells.max(axis=0) + 2, dtype=bool)
    occupied[tuple(cells.T)] = True
    within = binary_erosion(occupied, np.ones((3, 3)))[tuple(cells.T)]
    number = np.ravel_multi_index(tuple(cells[within].T), occupied.shape)
    _, first = np.unique(number, return_index=True)
    return np.concatenate([points[~within], points[within][first]])


def _with_holes(inside: np.ndarray, neighbors: np.ndarray) -> npt.NDArray[np.bool_]:
    """(t,) bool: ``inside``, and what no chain of outer triangles joins to the rim.

    ``neighbors`` (t, 3) are the triangles across each side, -1 at the convex hull.
    """
    count = len(inside)  # also the number of a node for all that is outside the hull
    side, other = np.repeat(np.arange(count), 3), neighbors.ravel()
    other = np.where(other < 0, count, other)
    outer = ~np.append(inside, False)
    joined = outer[side] & outer[other]
    edges = side[joined], other[joined]
    graph = coo_array((np.ones(joined.sum()), edges), shape=(count + 1, count + 1))
    _, component = connected_components(graph, directed=False)
    return component[:count] != component[count]
