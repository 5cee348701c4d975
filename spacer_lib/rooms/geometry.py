"""Boxes, distances, bearings and areas: pure numpy and scipy.

All points are metres in the aligned frame (+z up) unless a name says otherwise.
Formulas marked *official* reproduce VSI-Bench's published ground truth.
"""

import functools
import math

import numpy as np
from scipy.optimize import lsq_linear
from scipy.spatial import ConvexHull, Delaunay, QhullError, cKDTree

from spacer_lib.errors import SpacerError


def transform_points(T, points):
    """Apply a 4x4 rigid transform to (n, 3) points."""
    points = np.asarray(points, dtype=np.float64)
    return points @ T[:3, :3].T + T[:3, 3]


def require_rigid(T, where):
    """Return ``T`` as (4, 4) float64 if it is a rotation plus a translation.

    Raises
    ------
    SpacerError
        If the matrix scales, shears, mirrors or is not finite.
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
            got=np.array2string(T, precision=4).replace("\n", ""),
            expected="rotation, translation and last row 0 0 0 1",
            remedy="download the scan's .txt again",
        )
    return T


def oriented_box(points):
    """Smallest box of (n, 3) points, n >= 1, with a side flush with a hull facet.

    For each triangle of the convex hull, the boxes that share its plane and one of
    its edges are tried, in float64. (Open3D 0.20 does this in float32 and sometimes
    returns the right lengths with the identity as rotation.)

    Returns
    -------
    centroid_m : (3,) float64
    axes_lengths_m : (3,) float64, full edge lengths
    axes : (3, 3) float64, rows are unit axes, right-handed

    Flat, collinear or very small sets have no volume to minimise: they get their
    axis-aligned box.
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
    extents = np.empty((len(candidates), 3))
    for start in range(0, len(candidates), 128):  # a bound on memory
        along = rim @ candidates[start : start + 128].transpose(0, 2, 1)
        extents[start : start + 128] = along.max(axis=1) - along.min(axis=1)
    volumes = extents.prod(axis=1)
    # Of boxes that are equally small, the most upright: noise must not choose.
    ties = np.flatnonzero(volumes <= volumes.min() * (1 + 1e-4))
    upright = np.abs(candidates[ties, :, 2]).max(axis=1).round(4)
    axes = candidates[ties[np.lexsort((volumes[ties], -upright))[0]]]
    along = rim @ axes.T
    middle = (along.min(axis=0) + along.max(axis=0)) / 2
    return middle @ axes, along.max(axis=0) - along.min(axis=0), axes


def box_corners(centroid_m, axes_lengths_m, axes):
    """(8, 3) corners of an oriented box; ``axes`` is (3, 3) with rows as axes."""
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1], indexing="ij"))
    offsets = signs.reshape(3, 8).T * (np.asarray(axes_lengths_m) / 2)
    return offsets @ np.asarray(axes).reshape(3, 3) + np.asarray(centroid_m)


@functools.lru_cache(maxsize=512)
def sampled_box_points(instance, spacing_m=0.05):
    """Points on the outer shell of an instance's oriented box (*official*).

    Along each axis of edge e: ``linspace(-e/2, e/2, ceil(e / 0.05))``; a grid point
    stays if it lies beyond e/4 along some axis and, after rotation, still tests
    inside the box; if none is left the spacing is halved.

    Returns
    -------
    (n, 3) float64, metres, aligned frame.
    """
    lengths = np.asarray(instance.axes_lengths_m, dtype=np.float64)
    R = instance.axes_matrix.T  # columns are the box axes
    center = np.asarray(instance.centroid_m, dtype=np.float64)
    for _ in range(12):
        ticks = [np.linspace(-e / 2, e / 2, math.ceil(e / spacing_m)) for e in lengths]
        grid = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
        grid = grid[(np.abs(grid) > lengths / 4).any(axis=1)]
        world = grid @ R.T + center
        d = world - center
        along = (d[:, :1] * R[0] + d[:, 1:2] * R[1]) + d[:, 2:] * R[2]
        kept = world[(np.abs(along) <= lengths / 2).all(axis=1)]
        if len(kept):
            return kept
        spacing_m /= 2
    return box_corners(center, lengths, instance.axes_matrix)


def closest_distance_m(first, second):
    """Least distance between the sampled boxes of two instances, metres (*official*).

    Zero is possible only where a sampled point is shared; overlapping boxes give a
    value near the sampling step.
    """
    points = sampled_box_points(first)
    distances, _ = cKDTree(sampled_box_points(second)).query(points)
    return float(distances.min())


def box_distance_m(first, second):
    """Exact closest-point distance of two oriented boxes, metres; 0 if they overlap.

    A bounded least-squares problem in the six box coordinates; boxes that share
    their axes have a closed form (*official* for relative distance).
    """
    offset = np.subtract(second.centroid_m, first.centroid_m)
    half = np.add(first.axes_lengths_m, second.axes_lengths_m) / 2
    if first.axes == second.axes:
        gap = np.abs(first.axes_matrix @ offset) - half
        return float(np.linalg.norm(np.maximum(gap, 0)))
    A = np.hstack([first.axes_matrix.T, -second.axes_matrix.T])
    bound = np.concatenate([first.axes_lengths_m, second.axes_lengths_m]) / 2
    bound = np.maximum(bound, 1e-9)
    solved = lsq_linear(A, offset, (-bound, bound), method="bvls")
    return float(math.sqrt(max(0.0, 2 * solved.cost)))


def turn_deg(position_xy, facing_xy, query_xy):
    """Signed turn from the facing direction to the query, degrees in (-180, 180].

    Positive is counter-clockwise, i.e. to the left seen from above with +z up
    (*official*: bearings at the positioning object's centroid, in the floor plane).

    Raises
    ------
    SpacerError
        If two of the points coincide, so that a bearing does not exist.
    """
    forward = np.subtract(facing_xy, position_xy)
    query = np.subtract(query_xy, position_xy)
    if not forward.any() or not query.any():
        raise SpacerError(
            "a bearing needs three distinct points",
            got=np.round([position_xy, facing_xy, query_xy], 3).tolist(),
        )
    cross = forward[0] * query[1] - forward[1] * query[0]
    return math.degrees(math.atan2(cross, float(forward @ query)))


def alpha_shape_area_m2(points_xy, alpha_m=0.5):
    """Area of the alpha shape of (n, 2) floor points, square metres.

    Delaunay triangles whose circumradius is below ``alpha_m`` are kept and summed:
    the same set the ``alphashape`` package keeps for ``alpha = 1 / alpha_m`` (an
    oracle test compares the two), vectorised.

    Raises
    ------
    SpacerError
        With fewer than three points, or all on one line.
    """
    points = np.unique(np.asarray(points_xy, dtype=np.float64), axis=0)
    try:
        if len(points) < 3:
            raise ValueError("fewer than three points")
        corners = points[Delaunay(points).simplices]  # (t, 3, 2)
    except (QhullError, ValueError) as error:
        raise SpacerError(
            "room size: the floor points span no area",
            got=f"{len(points)} distinct points",
            expected="at least three not on one line",
            remedy="check that the scan's floor is labelled",
        ) from error
    a, b, c = (
        np.linalg.norm(corners[:, i] - corners[:, j], axis=1)
        for i, j in ((0, 1), (1, 2), (2, 0))
    )
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]) / 2
    with np.errstate(divide="ignore"):
        circumradius = a * b * c / (4 * areas)
    return float(areas[circumradius < alpha_m].sum())
