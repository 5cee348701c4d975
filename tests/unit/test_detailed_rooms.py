"""Shapes, textures and shadows of detailed rooms: what they show, and leave alone."""

import dataclasses
import hashlib
import itertools

import numpy as np
import pytest

from spacer_lib.rooms.geometry import box_corners, oriented_box, transform_points
from spacer_lib.rooms.scannet.parse import read_groups, read_vertices
from spacer_lib.rooms.synthetic import paint, rays, render
from spacer_lib.rooms.synthetic.layout import (
    KINDS,
    STYLES,
    Look,
    box_vertices,
    draw_room,
    hides_floor,
    in_base,
)
from spacer_lib.rooms.synthetic.render import FLOOR, WALL, Renderer, film, room_boxes
from spacer_lib.rooms.synthetic.shapes import DOOR, SHAPES
from spacer_lib.rooms.synthetic.views import (
    VIEWS,
    look_at,
    pinhole,
    view_intrinsic,
    view_poses,
)
from spacer_lib.rooms.synthetic.write import _write_mesh

DETAILED = [name for name, style in STYLES.items() if style.detailed]
WALK = VIEWS["walk"]


def drawn_parts(room, piece):
    return [box for box in room_boxes(room) if box.label == piece.instance_id]


# --- annotation


def test_which_styles_are_detailed():
    assert DETAILED == ["furnished", "two rooms"]
    assert set(SHAPES) == set(KINDS)


@pytest.mark.parametrize("style", DETAILED)
def test_parts_fill_the_annotated_box_and_hide_the_same_floor(style):
    met = set()
    for seed in range(12):
        room = draw_room(seed, style)
        for piece in room.furniture:
            parts, outer = drawn_parts(room, piece), piece.corners_m()
            points = np.concatenate([box_vertices(*part[:3]) for part in parts])
            assert points.min(axis=0) == pytest.approx(outer.min(axis=0), abs=1e-9)
            assert points.max(axis=0) == pytest.approx(outer.max(axis=0), abs=1e-9)
            boxes = [box_corners(*oriented_box(some)) for some in (points, outer)]
            apart = np.linalg.norm(boxes[0][:, None] - boxes[1], axis=2)
            assert apart.min(axis=1).max() < 1e-6
            hiding = [
                np.round([*box[0][:2], *box[1][:2]], 9).tolist()
                for some in (parts, piece.part_boxes())
                for box in some
                if hides_floor(*box[:2])
            ]
            assert len(hiding) in (0, 2) and hiding[:1] == hiding[1:]
            met.add(piece.kind.category)
    assert met == set(KINDS)


def test_look_and_light_leave_depth_and_labels_alone():
    room = draw_room(6)
    other = dataclasses.replace(room, look=Look(light=(0.0, -0.6, 0.8)))
    K, shots = view_intrinsic(room, WALK, 64, 48), []
    for one in (room, other):
        renderer = Renderer(one)
        for pose in view_poses(room, WALK, [0, 40]):
            shots.append(renderer.render(pose, K, 64, 48))
            depth, labels = renderer.measure(pose, K, 64, 48)
            np.testing.assert_array_equal(depth, shots[-1][1])
            np.testing.assert_array_equal(labels, shots[-1][2])
    for first, second in zip(shots[:2], shots[2:], strict=True):
        np.testing.assert_array_equal(first[1], second[1])
        np.testing.assert_array_equal(first[2], second[2])
        assert (first[0] != second[0]).any(axis=2).mean() > 0.9


# Of frames, depth (mm) and labels: tiny models were trained on these styles.
PLAIN = {"seen": "7eb9baf6d61a3c79", "turn": "6396791a7e374956"}


@pytest.mark.parametrize("name", PLAIN)
def test_styles_that_models_were_trained_on_look_as_before(name, monkeypatch):
    monkeypatch.setattr(render, "caster", rays._numpy_caster)
    view, digest = VIEWS[name], hashlib.sha256()
    for seed in (3, 17, 10_001):
        room = draw_room(seed, view.style)
        renderer, K = Renderer(room), view_intrinsic(room, view, 56, 56)
        for pose in view_poses(room, view, [0, view.frames // 2]):
            rgb, depth, labels = renderer.render(pose, K, 56, 56)
            digest.update(rgb.tobytes())
            for array in (depth, labels):
                digest.update(np.round(array, 3).astype(np.float32).tobytes())
    assert digest.hexdigest()[:16] == PLAIN[name]


# --- shapes


@pytest.mark.parametrize("category", ["chair", "table", "stool", "nightstand"])
def test_four_legs_with_air_between(category):
    parts = SHAPES[category]
    low = [part for part in parts if part.center[2] - part.size[2] / 2 < 1e-9]
    assert {(x > 0, y > 0) for x, y, _ in (part.center for part in low)} == {
        *itertools.product((False, True), repeat=2)
    }
    assert sum(part.size[0] * part.size[1] for part in low) < 0.1 and len(low) == 4


def test_backs_shelves_books_and_screens():
    def above(category, z):
        return [p for p in SHAPES[category] if p.center[2] - p.size[2] / 2 >= z]

    assert min(p.center[1] for p in above("chair", 0.56)) > 0.4
    assert max(p.center[1] for p in SHAPES["sofa"] if p.material == "accent") < 0.1
    shelf = SHAPES["bookshelf"]
    boards = [p for p in shelf if p.size[0] > 0.9 and p.size[2] < 0.06]
    books = [p for p in shelf if p.material == "book"]
    assert len(boards) >= 6 and len(books) >= 30
    assert len({book.rgb for book in books}) == 8
    for category in ("tv", "window", "lamp"):
        bright = [p for p in SHAPES[category] if p.material == "glow"]
        assert len(bright) >= 3
    pillows = [p for p in SHAPES["bed"] if p.material == "linen" and p.size[0] < 0.5]
    assert len(pillows) == 2


@pytest.mark.parametrize("category", [*sorted(SHAPES), "door"])
def test_no_two_parts_share_a_surface_that_is_seen(category):
    """Which one a ray hits there is chance: the two casters would differ."""
    parts = DOOR if category == "door" else SHAPES[category]
    boxes = [(np.array(part.center), np.array(part.size)) for part in parts]
    assert shared_surfaces(boxes) == []


@pytest.mark.parametrize("style", DETAILED)
def test_no_two_walls_share_a_surface_that_is_seen(style):
    for seed in range(25):
        room = draw_room(seed, style)
        drawn = room_boxes(room, joined=True)
        walls = [box for box in drawn if box.material == room.look.wall]
        boxes = [(np.array(box.center), np.array(box.size)) for box in walls]
        # Upper sides overlap where a doorway is a centimetre beside a wall's line.
        assert [pair for pair in shared_surfaces(boxes) if pair[2] != 2] == []
        # They stand where those of the mesh do.
        meshed = [box for box in room_boxes(room) if box.material == room.look.wall]
        plain = [(np.array(box.center), np.array(box.size)) for box in meshed]
        low, high = room.floor_bounds_m
        xy = np.random.default_rng(seed).uniform(low - 0.05, high + 0.05, (4000, 2))
        points = np.column_stack([xy, np.full(len(xy), 2.2)])
        found = inside(points, boxes)
        assert found.any()
        np.testing.assert_array_equal(found, inside(points, plain))


def inside(points, boxes):
    """(n,) bool: which points are in any of the boxes without rotation."""
    found = [(np.abs(points - c) < size / 2).all(axis=1) for c, size in boxes]
    return np.any(found, axis=0)


def shared_surfaces(boxes):
    """Pairs whose faces lie in one plane, overlap, and are not covered by a third."""
    found = []
    for (i, first), (j, second) in itertools.combinations(enumerate(boxes), 2):
        low = np.maximum(first[0] - first[1] / 2, second[0] - second[1] / 2)
        high = np.minimum(first[0] + first[1] / 2, second[0] + second[1] / 2)
        for axis, sign in itertools.product(range(3), (-1, 1)):
            sides = [c[axis] + sign * size[axis] / 2 for c, size in (first, second)]
            others = [k for k in range(3) if k != axis]
            if abs(sides[0] - sides[1]) > 1e-6 or (high - low)[others].min() < 1e-6:
                continue
            before = (low + high) / 2
            before[axis] = sides[0] + sign * 1e-4
            if not inside(before[None], boxes)[0]:
                found.append((i, j, axis, sign))
    return found


# --- textures


def test_textures_are_fixed_and_repeat_without_a_seam():
    first = paint.textures().copy()
    paint.textures.cache_clear()
    np.testing.assert_array_equal(first, paint.textures())
    assert first.shape == (len(paint._MATERIALS), 5, 128, 128)
    for name in ("wood", "cloth", "planks", "plaster"):
        number = paint._NUMBER[name]
        sharp, *_, blurred = first[number]
        assert 0.9 < sharp.mean() < 1.1 and sharp.std() > 0.01
        assert blurred.std() < sharp.std()
    for name in ("carpet", "linen", "plaster"):
        image = first[paint._NUMBER[name], 2]
        inner = np.abs(np.diff(image, axis=0)).mean()
        assert np.abs(image[0] - image[-1]).mean() < 1.5 * inner


def on_floor(room, count=4000):
    """Points (n, 3) of the floor, and their colours (n, 3)."""
    boxes, look = render.room_paint(room)
    rng = np.random.default_rng(0)
    number, points = [], []
    for k, box in enumerate(boxes):
        if box.label == FLOOR:
            half = np.array(box.size) / 2
            some = np.array(box.center) + rng.uniform(-half, half, (count, 3))
            some[:, 2] = 0
            points.append(some)
            number.append(np.full(count, k))
    points = np.concatenate(points)
    return points, look.colours(np.concatenate(number), points, 0.05)


def explained(xy, rgb):
    """Share of the variance of places that a linear rule finds in colours."""
    known = np.column_stack([rgb, rgb**2, np.ones(len(rgb))])
    guess = known @ np.linalg.lstsq(known, xy, rcond=None)[0]
    return 1 - ((xy - guess) ** 2).sum() / ((xy - xy.mean(axis=0)) ** 2).sum()


def test_the_floors_colour_does_not_tell_the_place():
    shares, places, colours = [], [], []
    for seed in range(12):
        room = draw_room(seed)
        points, rgb = on_floor(room)
        low, high = room.floor_bounds_m
        place = (points[:, :2] - low) / (high - low)
        shares.append(explained(place, rgb))
        places.append(place)
        colours.append(rgb / rgb.mean(axis=0))
        assert len(np.unique(rgb.round(3), axis=0)) > 100
    # Of one known room, where its shadows lie; of any room, next to nothing.
    assert np.mean(shares) < 0.1
    assert explained(np.concatenate(places), np.concatenate(colours)) < 0.02
    tinted = Renderer(draw_room(0, "dollhouse"))
    low, high = tinted.room.floor_bounds_m
    xy = np.random.default_rng(0).uniform(low, high, (4000, 2))
    assert explained((xy - low) / (high - low), tinted._floor_rgb(xy)) > 0.7


def test_rooms_differ_in_colours_and_a_room_keeps_its_own():
    looks = {draw_room(seed).look for seed in range(20)}
    assert len(looks) == 20 and len({look.floor for look in looks}) == 3
    render.room_paint.cache_clear()
    first, again = (on_floor(draw_room(3), 500)[1] for _ in range(2))
    render.room_paint.cache_clear()
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, on_floor(draw_room(3), 500)[1])


# --- light


def test_the_floor_is_darker_under_a_table_than_in_the_open():
    compared = 0
    for seed in range(12):
        room = draw_room(seed)
        boxes, look = render.room_paint(room)
        (floor, *more) = [k for k, box in enumerate(boxes) if box.label == FLOOR]
        tables = [p for p in room.furniture if p.kind.category == "table"]
        if more or not tables:
            continue
        points, rgb = on_floor(room)
        below = np.array([[*tables[0].position_m[:2], 0.0]])
        under = look.colours(np.array([floor]), below, 1.0)  # 1 m: no texture
        assert under.mean() < 0.85 * np.median(rgb.mean(axis=1))
        compared += 1
    assert compared >= 2


def test_shadow_is_soft_and_light_stays_in_range():
    _, look = render.room_paint(draw_room(6))
    light = look._light[: -paint.MOST_CELLS - 1]
    assert 0.2 < light.min() and light.max() < 1.2
    steps = np.unique((light[:, 0] * 200).round())
    assert len(steps) > 60  # more than lit and unlit


def test_a_rooms_light_is_computed_once_and_only_for_colours():
    render.room_paint.cache_clear()
    room = draw_room(6)
    film(room, WALK, frames=[0, 40], size=(32, 24))
    assert render.room_paint.cache_info().currsize == 0
    K = view_intrinsic(room, WALK, 16, 12)
    for _ in range(3):
        Renderer(draw_room(6)).render(view_poses(room, WALK, [0])[0], K, 16, 12)
    assert render.room_paint.cache_info().misses == 1
    assert render.room_paint.cache_info().maxsize == render.ROOMS_KEPT


# --- doors and the mesh


@pytest.mark.parametrize("style", DETAILED)
def test_doors_stand_at_walls_and_clear_of_furniture(style):
    rooms, found = [draw_room(seed, style) for seed in range(25)], 0
    for room in rooms:
        for door in room.openings:
            found += 1
            center, half = np.array(door.center[:2]), np.array(door.size[:2]) / 2
            for piece in room.furniture:
                gap = np.abs(center - piece.position_m[:2]) - half
                assert (gap > piece.footprint_half_m()).any()
            thin = half.argmin()
            border = [r[[thin, thin + 2]] for r in np.array(room.floor_rects)]
            assert np.abs(np.concatenate(border) - center[thin]).min() < 0.07
            assert room.on_floor([center])[0] and half[thin] < 0.03
    assert found > 20


def test_a_door_is_a_wall_in_labels_and_is_seen():
    room = next(r for r in map(draw_room, range(20)) if r.openings)
    (door,) = room.openings
    renderer, K = Renderer(room), pinhole(32, 24, 20)
    aim = np.array(door.center) + [0, 0, 0.9 - door.center[2]]
    toward = aim * (-1, -1, 0)
    eye = aim + 0.6 * toward / np.linalg.norm(toward)
    rgb, _, labels = renderer.render(look_at(eye, aim), K, 32, 24)
    assert (labels == WALL).mean() > 0.9
    plain = Renderer(dataclasses.replace(room, openings=()))
    apart = rgb.astype(int) - plain.render(look_at(eye, aim), K, 32, 24)[0]
    assert (np.abs(apart).max(axis=2) > 20).mean() > 0.5


def written_mesh(room, root):
    """Vertices (n, 3) in the aligned frame, and colours, of a room's mesh file."""
    (folder := root / room.scene_id).mkdir()
    _write_mesh(room, folder)
    vertices, colors = read_vertices(folder)
    T_aligned_from_scan = np.reshape(room.T_aligned_from_scan, (4, 4))
    return transform_points(T_aligned_from_scan, vertices), colors


def test_vertices_of_the_mesh_have_the_colours_of_frames(tmp_path):
    room = draw_room(6)
    points, colors = written_mesh(room, tmp_path)
    groups = read_groups(tmp_path / room.scene_id, len(points))
    (floor,) = (group.vertices for group in groups if group.label == "floor")
    boxes, look = render.room_paint(room)
    (number,) = [k for k, box in enumerate(boxes) if box.label == FLOOR]
    rgb = look.colours(np.full(len(floor), number), points[floor], 0.05)
    apart = np.abs(colors[floor] - 255.0 * rgb.clip(0, 1)).max(axis=1)
    assert np.quantile(apart, 0.98) < 3 and len(np.unique(colors[floor], axis=0)) > 300


def test_the_mesh_has_no_vertices_between_the_parts_of_a_piece(tmp_path):
    """A scanner sees no lower side of a pillow, nor the sheet below it."""
    room = draw_room(10_001)
    points, _ = written_mesh(room, tmp_path)
    (bed,) = (piece for piece in room.furniture if piece.kind.category == "bed")
    pillows = [p for p in SHAPES["bed"] if p.material == "linen" and p.size[0] < 0.5]
    for pillow in pillows:
        center, size = bed.placed(pillow)
        below = in_base(points[:, :2], center, size - 0.02, bed.yaw_rad)
        heights = points[below, 2]
        assert len(heights) > 30 and heights.min() > center[2] + size[2] / 2 - 0.01
