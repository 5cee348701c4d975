"""Boxes, distances, bearings and areas against hand-worked values and an oracle."""

import math
from fractions import Fraction

import alphashape
import numpy as np
import pytest
from scipy.optimize import lsq_linear
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from support import refused

from spacer_lib.rooms.geometry import (
    alpha_shape_area_m2,
    box_corners,
    box_distance_m,
    box_distances_m,
    closest_distance_m,
    fused,
    moved,
    oriented_box,
    require_rigid,
    sampled_box_points,
    transform_points,
    turn_deg,
)
from spacer_lib.rooms.scene import ObjectInstance


def rotation_z(degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def instance(center, lengths, degrees=0.0):
    axes = rotation_z(degrees).T  # rows are the box's axes
    corners = box_corners(center, lengths, axes)
    return ObjectInstance(
        0, "box", center, lengths, tuple(axes.ravel()), corners.min(0), corners.max(0)
    )


# --- distances


def test_facing_boxes_are_as_far_as_their_gap():
    # Faces at x = 0.5 and x = 2.0 with equal grids: both distances are exactly 1.5.
    first, second = instance((0, 0, 0), (1, 1, 1)), instance((2.5, 0, 0), (1, 1, 1))
    assert box_distance_m(first, second) == pytest.approx(1.5, abs=1e-12)
    assert closest_distance_m(first, second) == pytest.approx(1.5, abs=1e-9)


def test_diagonal_boxes_are_as_far_as_their_corners():
    # Corners (0.5, 0.5, 0.5) and (3.5, 4.5, 0.5): a 3-4-5 triangle.
    first, second = instance((0, 0, 0), (1, 1, 1)), instance((4, 5, 0), (1, 1, 1))
    assert box_distance_m(first, second) == pytest.approx(5.0)
    assert closest_distance_m(first, second) == pytest.approx(5.0)


def test_a_turned_box_reaches_out_with_its_edge():
    # A unit cube at 45 degrees reaches sqrt(2)/2 along x.
    first = instance((0, 0, 0), (1, 1, 1), degrees=45)
    second = instance((3, 0, 0), (1, 1, 1))
    gap = 2.5 - math.sqrt(0.5)
    assert box_distance_m(first, second) == pytest.approx(gap, abs=1e-6)
    # A sampled point may be one grid step away from an edge, but not more.
    assert gap - 1e-9 <= closest_distance_m(first, second) <= gap + 0.05


def test_overlapping_boxes():
    first, second = instance((0, 0, 0), (1, 1, 1)), instance((0.5, 0, 0), (1, 1, 1), 30)
    assert box_distance_m(first, second) == pytest.approx(0.0, abs=1e-6)
    assert closest_distance_m(first, second) < 0.06


def test_distance_is_symmetric_and_between_bounds():
    rng = np.random.default_rng(5)
    for _ in range(20):
        centers = rng.uniform(-4, 4, (2, 3))
        sizes = rng.uniform(0.2, 1.5, (2, 3))
        first, second = (
            instance(tuple(c), tuple(s), rng.uniform(0, 180))
            for c, s in zip(centers, sizes, strict=True)
        )
        exact = box_distance_m(first, second)
        assert exact == pytest.approx(box_distance_m(second, first), abs=1e-6)
        sampled = closest_distance_m(first, second)
        assert exact - 1e-6 <= sampled <= exact + 0.15
        centers_apart = float(np.linalg.norm(centers[0] - centers[1]))
        assert exact <= centers_apart


def as_instances(centers, lengths, axes):
    zero = (0.0, 0.0, 0.0)
    return [
        ObjectInstance(0, "box", tuple(c), tuple(e), tuple(a.ravel()), zero, zero)
        for c, e, a in zip(centers, lengths, axes, strict=True)
    ]


def turns(kind, count, rng):
    """(n, 3, 3) axes: free, upright, at right angles, or almost at right angles."""
    if kind == "free":
        return Rotation.random(count, random_state=rng).as_matrix()
    if kind == "nearly square":
        tilt = rng.normal(size=(count, 3)) * 10.0 ** rng.uniform(-14, -3, (count, 1))
        return Rotation.from_rotvec(tilt).as_matrix()
    step, most = (90.0, 4) if kind == "square" else (1e-3, 360_000)
    about_z = [[0, 0, math.radians(step * k)] for k in rng.integers(0, most, count)]
    return Rotation.from_rotvec(about_z).as_matrix()


def solved_distance_m(first, second):
    """The distance as bounded least squares over the six box coordinates."""
    A = np.hstack([first.axes_matrix.T, -second.axes_matrix.T])
    bound = np.concatenate([first.axes_lengths_m, second.axes_lengths_m]) / 2
    bound = np.maximum(bound, 1e-12)
    offset = np.subtract(second.centroid_m, first.centroid_m)
    solved = lsq_linear(A, offset, (-bound, bound), method="bvls", tol=1e-14)
    return math.sqrt(2 * solved.cost)


@pytest.mark.parametrize("reach", [0.5, 1.2, 3.0])  # mostly overlapping … mostly apart
@pytest.mark.parametrize("kind", ["free", "upright", "square", "nearly square"])
def test_exact_distance_equals_that_of_a_general_solver(kind, reach):
    rng = np.random.default_rng(4)
    pair = []
    for _ in range(2):
        lengths = rng.uniform(0.1, 2, (150, 3))
        lengths[rng.random((150, 3)) < 0.15] = 0.0  # a sheet, a rod or a point
        lengths[rng.random((150, 3)) < 0.10] = 1e-3
        centers = rng.uniform(-reach, reach, (150, 3))
        pair.append(as_instances(centers, lengths, turns(kind, 150, rng)))
    found = box_distances_m(*pair)
    solved = [solved_distance_m(*boxes) for boxes in zip(*pair, strict=True)]
    # The solver stops a few micrometres early where edges are nearly parallel.
    np.testing.assert_allclose(found, solved, rtol=0, atol=1e-5)
    assert (found <= np.add(solved, 1e-9)).all()
    np.testing.assert_allclose(box_distances_m(*pair[::-1]), found, rtol=0, atol=1e-7)
    one = box_distance_m(pair[0][7], pair[1][7])
    assert one == found[7]


def test_exact_distance_is_the_limit_of_dense_samples():
    rng = np.random.default_rng(6)
    ticks = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 21)] * 3), -1).reshape(-1, 3)
    for _ in range(12):
        boxes = []
        for spot in rng.uniform(-1, 1, (2, 3)) + [[-0.8, 0, 0], [0.8, 0, 0]]:
            lengths = rng.uniform(0.2, 1.2, (1, 3))
            boxes += as_instances([spot], lengths, turns("free", 1, rng))
        clouds = [
            (ticks * box.axes_lengths_m) @ box.axes_matrix + box.centroid_m
            for box in boxes
        ]
        dense = cKDTree(clouds[0]).query(clouds[1])[0].min()
        assert dense - 0.1 <= box_distance_m(*boxes) <= dense + 1e-9


@pytest.mark.parametrize(
    "second, metres",
    [
        (((1, 0, 0), (1, 1, 1), 0), 0.0),  # face on face
        (((1, 1, 1), (1, 1, 1), 0), 0.0),  # corner on corner
        (((0, 0, 0), (0.2, 0.2, 0.2), 30), 0.0),  # inside
        (((0, 0, 0), (9, 9, 0), 30), 0.0),  # a sheet through the middle
        (((0, 0, 0), (0.1, 0.1, 9), 30), 0.0),  # a rod through two faces
        (((0.2, 0.1, 1.5), (9, 9, 0), 30), 1.0),  # a sheet above
        # A rod passes a corner: its middle is 0.25 above and 0.4 * sqrt(2) beside it.
        (((0.9, 0.9, 0.75), (9, 0, 0), -45), math.hypot(0.25, 0.4 * math.sqrt(2))),
        (((2.0, 0, 0), (1, 1, 1), 45), 1.5 - math.sqrt(0.5)),  # edge to face
        (((0, 0, 0), (1, 1, 1), 0), 0.0),  # itself
    ],
)
def test_exact_distance_by_hand(second, metres):
    found = box_distance_m(instance((0, 0, 0), (1, 1, 1)), instance(*second))
    assert found == pytest.approx(metres, abs=1e-9)


def test_products_are_rounded_once():
    """Against whole numbers, which are exact."""
    rng = np.random.default_rng(2)
    a, b, c = rng.normal(size=(3, 500)) * 10.0 ** rng.integers(-3, 3, (3, 500))
    exact = [
        float(Fraction(x) * Fraction(y) + Fraction(z))
        for x, y, z in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)
    ]
    assert fused(a, b, c).tolist() == exact
    points, matrix = rng.normal(size=(50, 3)), rotation_z(33)
    np.testing.assert_allclose(moved(points, matrix), points @ matrix.T, atol=1e-15)


def test_sampled_points_form_a_shell_inside_the_box():
    box = instance((1, 2, 3), (0.4, 0.6, 0.8), degrees=20)
    points = (sampled_box_points(box) - box.centroid_m) @ box.axes_matrix.T
    lengths = np.array(box.axes_lengths_m)
    assert (np.abs(points) <= lengths / 2 + 1e-9).all()
    assert (np.abs(points) > lengths / 4 - 1e-9).any(axis=1).all()
    # 8 x 12 x 16 ticks; those with |p| <= e/4 along every axis (4 x 6 x 8) are left
    # out, and rounding may place some of the outermost outside the box.
    assert 0.6 * (8 * 12 * 16 - 4 * 6 * 8) <= len(points) <= 8 * 12 * 16 - 4 * 6 * 8


# --- bearings


@pytest.mark.parametrize(
    ("query", "turn"),
    [
        ((0, 2), 0.0),
        ((-1, 0), 90.0),  # facing +y, -x is on the left
        ((1, 0), -90.0),
        ((-1, 1), 45.0),
        ((1, -1), -135.0),
        ((0, -3), 180.0),
    ],
)
def test_turn_is_positive_to_the_left(query, turn):
    assert turn_deg((0, 0), (0, 1), query) == pytest.approx(turn)


def test_turn_does_not_depend_on_the_frame():
    position, facing, query = np.array([(1.0, 2.0), (2.5, 2.0), (0.3, 4.0)])
    expected = turn_deg(position, facing, query)
    R = rotation_z(77)[:2, :2]
    moved = [R @ p + (5, -3) for p in (position, facing, query)]
    assert turn_deg(*moved) == pytest.approx(expected)


@pytest.mark.parametrize("points", [[(0, 0), (0, 0), (1, 1)], [(1, 1), (0, 0), (1, 1)]])
def test_a_bearing_needs_distinct_points(points):
    with refused("rooms.no-bearing"):
        turn_deg(*points)


# --- areas


def grid(width, depth, step=0.1):
    x, y = np.meshgrid(
        np.arange(0, width + 1e-9, step), np.arange(0, depth + 1e-9, step)
    )
    return np.stack([x.ravel(), y.ravel()], axis=1)


def test_area_of_a_rectangle():
    assert alpha_shape_area_m2(grid(4, 3)) == pytest.approx(12.0)


def test_a_large_hole_is_not_room_and_a_small_one_is():
    points = grid(6, 6)
    distance = np.linalg.norm(points - 3, axis=1)
    assert alpha_shape_area_m2(points[distance > 0.3]) == pytest.approx(36.0)
    holed = alpha_shape_area_m2(points[distance > 1.5])
    assert holed == pytest.approx(36 - math.pi * 1.5**2, rel=0.02)


@pytest.mark.filterwarnings("ignore:the matrix subclass")  # inside the package
@pytest.mark.parametrize("alpha_m", [0.3, 0.5, 1.0])
def test_area_agrees_with_the_alphashape_package(alpha_m):
    rng = np.random.default_rng(11)
    points = rng.uniform(0, 4, (600, 2))
    points = points[(points < 2.2).any(axis=1)]  # an L
    oracle = alphashape.alphashape(points, 1 / alpha_m)
    # The package's polygons lose triangles that touch in one point only.
    assert alpha_shape_area_m2(points, alpha_m) == pytest.approx(oracle.area, rel=5e-3)


@pytest.mark.parametrize("points", [[(0, 0), (1, 1)], [(0, 0), (1, 1), (2, 2)]])
def test_no_area_on_a_line(points):
    with refused("rooms.no-floor-area", says=f"{len(points)} distinct"):
        alpha_shape_area_m2(points)


# --- oriented boxes and transforms


def test_oriented_box_of_a_rotated_box():
    lengths, axes = np.array([2.0, 1.0, 0.5]), rotation_z(33).T
    corners = box_corners((1, -2, 0.7), lengths, axes)
    inside = box_corners((1, -2, 0.7), 0.9 * lengths, axes)
    center, found, found_axes = oriented_box(np.concatenate([corners, inside]))
    np.testing.assert_allclose(center, (1, -2, 0.7), atol=1e-6)
    np.testing.assert_allclose(np.sort(found), np.sort(lengths), atol=1e-6)
    np.testing.assert_allclose(found_axes @ found_axes.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(found_axes) == pytest.approx(1)
    # Rows are axes: the longest edge points along (cos 33, sin 33, 0).
    longest = found_axes[found.argmax()]
    assert abs(longest @ rotation_z(33)[:, 0]) == pytest.approx(1, abs=1e-6)


def test_oriented_box_of_a_rough_surface_holds_its_points():
    """Scanned boxes: corners exact, the rest up to a millimetre inside."""
    rng = np.random.default_rng(8)
    for _ in range(150):
        lengths, axes = rng.uniform(0.3, 2, 3), rotation_z(rng.uniform(0, 360)).T
        local = rng.uniform(-1, 1, (400, 3)) * (lengths / 2 - 0.001)
        flat = rng.integers(3, size=400)
        sides = rng.choice([-1, 1], 400) * (lengths[flat] / 2 - 0.0002)
        local[np.arange(400), flat] = sides
        points = np.concatenate([local @ axes, box_corners((0, 0, 0), lengths, axes)])
        points = points.astype(np.float32).astype(np.float64)
        center, found, found_axes = oriented_box(points)
        np.testing.assert_allclose(np.sort(found), np.sort(lengths), atol=1e-4)
        np.testing.assert_allclose(found_axes @ found_axes.T, np.eye(3), atol=1e-6)
        along = np.abs((points - center) @ found_axes.T)
        assert (along <= found / 2 + 1e-4).all()


@pytest.mark.parametrize(
    "points",
    [
        [(1, 2, 3)],
        [(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)],
        [(0, 0, 0), (1, 0, 0), (0, 2, 0), (1, 2, 0), (0.5, 1, 0)],
    ],
)
def test_flat_sets_get_their_axis_aligned_box(points):
    center, lengths, axes = oriented_box(points)
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    np.testing.assert_allclose(center, (low + high) / 2)
    np.testing.assert_allclose(lengths, high - low)
    np.testing.assert_allclose(axes, np.eye(3))


def test_transform_moves_points():
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation_z(90), (1, 2, 3)
    np.testing.assert_allclose(transform_points(T, [(1, 0, 0)]), [(1, 3, 3)])


def test_rigid_transforms_pass():
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation_z(12), (4, 5, 6)
    np.testing.assert_array_equal(require_rigid(T.ravel().tolist(), "here"), T)


@pytest.mark.parametrize(
    "T",
    [
        np.diag([2.0, 2, 2, 1]),
        np.diag([1.0, 1, -1, 1]),
        np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.full((4, 4), -np.inf),
        np.diag([1.0, 1, 1, 2]),
    ],
    ids=["scale", "mirror", "shear", "lost", "projective"],
)
def test_other_transforms_are_refused(T):
    with refused("rooms.not-rigid", says="scene.txt"):
        require_rigid(T, "scene.txt")
