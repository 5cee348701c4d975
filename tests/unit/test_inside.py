"""Rooms seen from inside: cameras, colours, what each frame and token shows."""

import numpy as np
import pytest

from spacer_lib.rooms.synthetic.layout import STYLES, draw_room
from spacer_lib.rooms.synthetic.render import FLOOR, render_labelled
from spacer_lib.rooms.synthetic.views import VIEWS, view_intrinsic, view_poses
from spacer_lib.tiny.shown import CLEAR_PX, FIRST_PX, SHOWN, TOKEN_PX, show

TURN = VIEWS["turn"]
FRAMES = np.linspace(0, TURN.frames - 1, SHOWN.frames).round().astype(int).tolist()


@pytest.fixture(scope="module")
def shown():
    rooms = [room for seed in range(12) if (room := show("turn", seed))]
    assert len(rooms) >= 6
    return rooms


def floor_colours(view, seed):
    room = draw_room(seed, view.style)
    indices = FRAMES if view is TURN else [0, view.frames // 2]
    frames, _, labels = render_labelled(room, view, indices, 56)
    return np.unique(frames[labels == FLOOR], axis=0)


@pytest.mark.parametrize("seed", range(6))
def test_the_floor_has_one_colour_wherever_it_is_seen(seed):
    assert len(floor_colours(TURN, seed)) == 1
    assert len(floor_colours(VIEWS["seen"], seed)) > 50  # the dollhouse's gives it away


def test_colours_and_light_differ_between_rooms():
    looks = {draw_room(seed, "home").look for seed in range(20)}
    assert len(looks) == 20


@pytest.mark.parametrize("seed", range(8))
def test_a_person_turns_once_at_eye_height(seed):
    room = draw_room(seed, "home")
    poses = view_poses(room, TURN, FRAMES)
    heading = np.degrees(np.arctan2(poses[:, 1, 2], poses[:, 0, 2]))
    assert heading[0] == pytest.approx(90)  # +y: the frame of the map
    steps = np.diff(np.unwrap(heading, period=360))
    np.testing.assert_allclose(steps, 45, atol=1.3)  # frames are whole numbers
    assert (poses[:, 2, 3] == poses[0, 2, 3]).all()
    assert TURN.eye_m[0] <= poses[0, 2, 3] <= TURN.eye_m[1]
    np.testing.assert_allclose(poses[:, :2, 3] - room.standpoint_m, 0, atol=1e-12)
    pitch = np.degrees(np.arcsin(poses[:, 2, 2]))
    assert TURN.pitch_deg[0] <= pitch[0] <= TURN.pitch_deg[1]
    width = view_intrinsic(room, TURN, 100, 100)[0, 0]
    low, high = (50 / np.tan(np.radians(fov / 2)) for fov in TURN.fov_deg)
    assert high <= width <= low


@pytest.mark.parametrize("seed", range(30))
def test_nothing_stands_where_the_person_stands(seed):
    room, style = draw_room(seed, "home"), STYLES["home"]
    assert room.on_floor([room.standpoint_m]).all()
    for piece in room.furniture:
        gap = np.abs(np.subtract(piece.position_m[:2], room.standpoint_m))
        away = np.maximum(gap - piece.footprint_half_m(), 0)
        assert np.hypot(*away) >= style.standing_m


def test_rooms_are_as_varied_as_their_style_says():
    rooms = [draw_room(seed, "home") for seed in range(200)]
    sides = np.array([np.subtract(*room.floor_bounds_m[::-1]) for room in rooms])
    assert sides.min() < 3.3
    assert sides.max() > 7.7
    counts = {len(room.furniture) for room in rooms}
    assert counts == {5, 6, 7, 8, 9}
    assert {len(room.floor_rects) for room in rooms} == {1, 2}
    assert {len(room.openings) for room in rooms} >= {1, 2, 3}
    ratios = [
        piece.size_m[0] / piece.kind.size_m[0]
        for room in rooms
        for piece in room.furniture
    ]
    assert min(ratios) < 0.65
    assert max(ratios) > 1.45


def test_bearings_agree_with_the_pixels(shown):
    compared = 0
    for room in shown:
        place = room.places
        _, _, labels = render_labelled(room.room, TURN, room.indices, 112)
        K = view_intrinsic(room.room, TURN, 112, 112)
        for i, piece in enumerate(room.room.furniture):
            for k, label in enumerate(labels):
                rows, columns = np.nonzero(label == piece.instance_id)
                edge = not len(rows) or min(columns) == 0 or max(columns) == 111
                if edge or min(rows) == 0 or max(rows) == 111:
                    continue
                pose = view_poses(room.room, TURN, [room.indices[k]])[0]
                corners = piece.corners_m() - pose[:3, 3]
                ahead = corners @ pose[:3, 2]
                u = K[0, 0] * (corners @ pose[:3, 0]) / ahead + K[0, 2]
                assert u.min() - 1 <= columns.min()
                assert columns.max() <= u.max() + 1
                heading = pose[:2, 2] / np.linalg.norm(pose[:2, 2])
                right = np.degrees(
                    np.arctan2(
                        corners[:, 0] * heading[1] - corners[:, 1] * heading[0],
                        corners[:, :2] @ heading,
                    )
                )
                assert right.min() <= place.bearing_deg[i, k] <= right.max()
                compared += 1
    assert compared > 20


def test_tokens_and_first_views_are_those_of_the_pixels(shown):
    side = SHOWN.size // TOKEN_PX
    for room in shown:
        _, depth, labels = render_labelled(room.room, TURN, room.indices, SHOWN.size)
        sizes = np.array(
            [
                [(frame == piece.instance_id).sum() for frame in labels]
                for piece in room.room.furniture
            ]
        )
        assert (sizes.max(axis=1) >= CLEAR_PX).all()
        for first, seen in zip(room.first_views, sizes, strict=True):
            assert seen[first] >= FIRST_PX
            assert (seen[:first] < FIRST_PX).all()
        for k, row, column in np.ndindex(len(labels), side, side):
            square = np.s_[
                row * TOKEN_PX : (row + 1) * TOKEN_PX,
                column * TOKEN_PX : (column + 1) * TOKEN_PX,
            ]
            inside = labels[k][square]
            named = room.tokens[k, row, column]
            counts = [(inside == p.instance_id).sum() for p in room.room.furniture]
            assert counts[named] == max(counts) if named >= 0 else max(counts) < 8
            middle = room.depth_m[k, row, column]
            assert middle == pytest.approx(np.median(depth[k][square]))


def test_hidden_objects_leave_the_room_out():
    kept = [seed for seed in range(40) if show("turn", seed)]
    assert 20 < len(kept) < 36
