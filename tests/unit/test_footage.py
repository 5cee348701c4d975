"""What a video shows: cameras and visible shares, in memory and in scene files."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from support import refused

from spacer_lib.rooms.footage import (
    MIN_VISIBLE_FRACTION,
    Footage,
    kept_frames,
)
from spacer_lib.rooms.frames import Sampler
from spacer_lib.rooms.scene import ObjectInstance, Scene
from spacer_lib.rooms.shown import SMALL, UNKNOWN, UNSEEN, Shown, as_shown
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.render import Renderer, film
from spacer_lib.rooms.synthetic.views import (
    VIEWS,
    look_at,
    pinhole,
    to_scene,
    view_intrinsic,
    view_poses,
)

SIZE = (96, 72)


def footage(**changes):
    """A camera at (1, 2, 1.5) that looks along +x, in two frames; two objects."""
    values = {
        "frames": (3, 9),
        "poses": np.stack([look_at((1, 2, 1.5), (4, 2, 1.5))] * 2),
        "intrinsic": pinhole(*SIZE, 90.0),
        "size": SIZE,
        "visible": [[0.25, 0.0], [0.0, np.nan]],
    }
    return Footage(**values | changes)


@pytest.fixture(scope="module")
def filmed():
    """A room with the footage of its whole video."""
    room, view = draw_room(3, "furnished"), VIEWS["walk"]
    return room, view, to_scene(room, view, footage=film(room, view, size=SIZE))


def meta_of(scene):
    return json.loads(json.dumps(scene.to_meta()))


# --- the camera


def test_what_is_ahead_to_the_right_and_above():
    u, v, depth = footage().project([(4, 2, 1.5), (4, 1, 1.5), (4, 2, 2.5)])[0].T
    assert depth == pytest.approx([3, 3, 3])  # metres along the view, not from the eye
    assert u == pytest.approx([47.5, 47.5 + 48 / 3, 47.5])  # y = 1 is to the right
    assert v == pytest.approx([35.5, 35.5, 35.5 - 48 / 3])  # rows count downwards
    behind = footage().project([(0, 2, 1.5)])[0, 0]
    assert behind[2] == -1 and np.isnan(behind[:2]).all()


def test_a_pose_moves_points_from_the_camera_to_the_room():
    """The inverse has another position and another direction of view."""
    pose = footage().poses[0]
    assert pose @ (0, 0, 3, 1) == pytest.approx((4, 2, 1.5, 1))
    assert footage().centers_m[0] == pytest.approx((1, 2, 1.5))
    assert np.abs(np.linalg.inv(pose)[:3, 3] - (1, 2, 1.5)).max() > 1


def test_centres_of_objects_land_where_the_labels_show_them(filmed):
    """Of objects that look whole: a hidden part moves the middle of the rest."""
    room, view, scene = filmed
    found, renderer = scene.footage, Renderer(room)
    intrinsic = view_intrinsic(room, view, *SIZE)  # the footage's is rounded
    landed = 0
    for row, pose in enumerate(view_poses(room, view, found.frames)):
        labels = renderer.render(pose, intrinsic, *SIZE)[2]
        for k, instance in enumerate(scene.instances):
            rows, columns = np.nonzero(labels == instance.instance_id)
            share = len(rows) / labels.size
            assert found.visible[row, k] == pytest.approx(share, abs=1.01e-5)
            corners = room.furniture[k].corners_m()
            u, v, depth = found.project(corners)[row].T
            inside = (depth > 0) & (u > 0) & (u < SIZE[0]) & (v > 0) & (v < SIZE[1])
            whole = inside.all() and len(rows) and np.ptp(columns) >= 0.9 * np.ptp(u)
            if whole and np.ptp(rows) >= 0.9 * np.ptp(v):
                u, v, depth = found.project([instance.centroid_m])[row, 0]
                assert columns.min() - 1 <= u <= columns.max() + 1
                assert rows.min() - 1 <= v <= rows.max() + 1
                assert depth > 0
                landed += 1
    assert landed > 25


def test_first_seen_frames_are_those_of_the_footage(filmed):
    _, _, scene = filmed
    shares, frames = scene.footage.visible, scene.footage.frames
    for k, instance in enumerate(scene.instances):
        rows = np.flatnonzero(shares[:, k] >= MIN_VISIBLE_FRACTION)
        first = frames[rows[0]] if len(rows) else None
        assert instance.first_seen_frame == first
    assert len({i.first_seen_frame for i in scene.instances}) > 3


def test_the_camera_path_is_that_of_the_footage(filmed):
    _, _, scene = filmed
    assert [p[0] for p in scene.camera_path_m] == list(scene.footage.frames)
    np.testing.assert_array_equal(
        [p[1:] for p in scene.camera_path_m], scene.footage.centers_m
    )
    assert meta_of(scene)["camera_path"] == []  # once in the file


# --- which frames are kept


def test_kept_are_two_a_second_and_those_of_common_budgets():
    kept = kept_frames(range(1500), 1500, 24.0)
    assert set(range(0, 1500, 12)) < set(kept)
    for count in (8, 16, 32):
        assert set(np.linspace(0, 1499, count).round().astype(int)) < set(kept)
    assert len(kept) < 125 + 8 + 16 + 32
    # Frames 0 and 12 have no pose; 13 follows 1 after half a second.
    posed = [i for i in range(1500) if i not in (0, 12)]
    assert set(range(1, 1500, 12)) < set(kept_frames(posed, 1500, 24.0))
    assert kept_frames([], 10, 24.0) == ()


# --- what cannot be footage


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"frames": (9, 3)}, "in order: False"),
        ({"frames": (3, 3)}, "in order: False"),
        ({"frames": (-1, 3)}, "in order: False"),
        ({"frames": (3,), "visible": [[0.1, 0]]}, "1 frames, in order: True, 2 poses"),
        ({"frames": (), "poses": np.empty((0, 4, 4)), "visible": []}, "0"),
        ({"poses": np.zeros((2, 3, 4))}, "(2, 3, 4)"),
        ({"poses": np.full((2, 4, 4), np.nan)}, "finite: False"),
        ({"poses": np.stack([np.eye(4), 2 * np.eye(4)])}, "pose 1"),
        ({"poses": np.stack([np.diag([1, 1, -1, 1]), np.eye(4)])}, "pose 0"),
        ({"intrinsic": np.zeros((3, 3))}, "focal"),
        ({"intrinsic": np.eye(4)}, "3x3"),
        ({"size": (0, 4)}, "0x4"),
        ({"visible": [[0.1, 1.1], [0, 0]]}, "from 0 to 1: False"),
        ({"visible": [[-0.1, 0], [0, 0]]}, "from 0 to 1: False"),
        ({"visible": [[0, 0]]}, "(1, 2)"),
        ({"visible": [0, 0]}, "(2,)"),
    ],
)
def test_what_cannot_be_footage(changes, says):
    with refused("rooms.footage", says=says):
        footage(**changes)


def test_a_pose_stored_by_columns_is_no_pose():
    pose = look_at((1, 2, 1.5), (4, 2, 1.5))
    with refused("rooms.footage", says="pose 0"):
        footage(poses=np.stack([pose.T, pose]))


def test_a_scene_refuses_footage_of_other_objects_or_a_longer_video(filmed):
    _, _, scene = filmed
    with refused("rooms.other-footage", says="10 objects"):
        dataclasses.replace(scene, instances=scene.instances[:-1], object_counts={})
    with refused("rooms.other-footage", says="last frame 95"):
        dataclasses.replace(scene, frame_count=95)


def test_footage_equals_what_it_is_made_of():
    assert footage() == footage() != footage(frames=(3, 10))
    assert footage() != footage(visible=[[0.25, 0.0], [0.0, 0.0]])
    assert footage() != footage(size=(96, 73)) and footage() != 3


def test_shares_are_rounded_down():
    """0.09996 % of the pixels is not enough to be seen, before and after rounding."""
    short = np.nextafter(MIN_VISIBLE_FRACTION, 0) - 1e-8
    exact = footage(visible=[[short, MIN_VISIBLE_FRACTION], [0.12345678, 1 + 1e-12]])
    assert exact.visible.tolist() == [[0.00099, 0.001], [0.12345, 1]]
    assert footage(visible=exact.visible) == exact
    assert exact.first_seen() == [9, 3]


# --- in files


def test_footage_survives_the_way_through_json(filmed):
    _, _, scene = filmed
    assert Scene.from_meta(scene.scene_id, meta_of(scene)) == scene
    unknown = dataclasses.replace(
        scene.footage,
        visible=np.where(
            np.arange(len(scene.footage.frames))[:, None] % 3 == 1,
            np.nan,
            scene.footage.visible,
        ),
    )
    unknown.visible[0, 2] = np.nan
    scene = dataclasses.replace(scene, footage=unknown)
    assert meta_of(scene)["footage"]["visible"][1] is None
    assert Scene.from_meta(scene.scene_id, meta_of(scene)) == scene


def test_a_fingerprint_changes_with_the_footage(filmed):
    _, _, scene = filmed
    found, prints = scene.footage, [scene.fingerprint()]
    for other in (
        None,
        dataclasses.replace(
            found, poses=found.poses[[1, 0, *range(2, len(found.poses))]]
        ),
        dataclasses.replace(found, visible=found.visible[::-1]),
        dataclasses.replace(found, size=(97, 72)),
        dataclasses.replace(found, intrinsic=pinhole(*SIZE, 80.0)),
    ):
        prints.append(dataclasses.replace(scene, footage=other).fingerprint())
    assert len({json.dumps(each) for each in prints}) == len(prints)
    again = Scene.from_meta(scene.scene_id, meta_of(scene))
    assert again.fingerprint() == prints[0]


def test_shares_belong_to_ids_and_not_to_places_in_the_file(filmed):
    _, _, scene = filmed
    meta = meta_of(scene)
    boxes = meta["object_bbox"]
    meta["object_bbox"] = {name: boxes[name][::-1] for name in reversed(boxes)}
    assert Scene.from_meta(scene.scene_id, meta) == scene


def test_files_without_footage_are_read(filmed):
    _, _, scene = filmed
    meta = meta_of(scene)
    path = [list(position) for position in scene.camera_path_m]
    old = {**meta, "parser_version": "4", "camera_path": path}
    del old["footage"]
    read = Scene.from_meta(scene.scene_id, old)
    assert read.footage is None and read.camera_path_m == scene.camera_path_m
    assert "footage" not in read.to_meta() and read.to_meta()["camera_path"] == path


def changed(meta, *path, to):
    """The meta with another value at a path of keys; ``to`` may be a function."""
    meta = copy.deepcopy(meta)
    *above, last = path
    place = meta
    for key in above:
        place = place[key]
    place[last] = to(place[last]) if callable(to) else to
    return meta


@pytest.mark.parametrize(
    ("path", "to", "kind", "says"),
    [
        ((), 7, "meta-form", "a.footage"),
        (("size",), [96], "meta-size", "a.footage.size"),
        (("size",), [0, 72], "meta-range", "size[0]"),
        (("frames", 1), "6", "meta-form", "frames[1]"),
        (("frames", 1), -6, "meta-range", "frames[1]"),
        (("frames", 1), 0, "footage", "in order: False"),
        (("frames",), lambda frames: frames[1:], "footage", "frames"),
        (("frames", -1), 10**6, "other-footage", "1000000"),
        (("poses", 4, 2), float("nan"), "not-finite", "poses[4][2]"),
        (("poses", 4, 2), True, "meta-form", "poses[4][2]"),
        (("poses", 4, 2), "0.5", "meta-form", "poses[4][2]"),
        (("poses", 4, 3), 10**400, "meta-range", "poses[4][3]"),
        (("poses", 4, 3), 5000.0, "meta-range", "poses[4][3]"),
        (("poses", 4), [0.0] * 11, "meta-size", "poses[4]"),
        (("poses", 4), [0.0] * 12, "footage", "pose 4"),
        (("poses", 4), None, "meta-form", "poses[4]"),
        (("intrinsic",), [1.0] * 8, "meta-size", "intrinsic"),
        (("intrinsic",), [0.0] * 9, "footage", "focal"),
        (("visible", 0, 1), 1.5, "meta-range", "visible[0], id 0"),
        (("visible", 0, 1), 2, "meta-range", "visible[0], id 0"),
        (("visible", 0, 1), "x", "meta-form", "visible[0], id 0"),
        (("visible", 0, 0), 99, "footage", "instance ids"),
        (("visible", 0, 0), "0", "footage", "instance ids"),
        (("visible", 0, 0), [], "footage", "instance ids"),
        (("visible", 0), [0.5], "meta-form", "visible[0]"),
        (("visible", 0), {"0": 0.5}, "meta-form", "visible[0]"),
        (("poses", 4, 2), float("inf"), "not-finite", "poses[4][2]"),
        (("poses",), 7, "meta-form", "poses"),
        (("visible",), lambda rows: rows[1:], "footage", "visible shares"),
    ],
)
def test_footage_in_a_file_that_cannot_be(filmed, path, to, kind, says):
    meta = changed(meta_of(filmed[2]), "footage", *path, to=to) if path else None
    meta = meta or meta_of(filmed[2]) | {"footage": to}
    with refused(f"rooms.{kind}", says=says):
        Scene.from_meta("a", meta)


@pytest.mark.parametrize("key", ["size", "intrinsic", "frames", "poses", "visible"])
def test_a_file_with_half_the_footage(filmed, key):
    meta = meta_of(filmed[2])
    del meta["footage"][key]
    with refused("rooms.meta-key", says=key):
        Scene.from_meta("a", meta)


def test_objects_with_one_id_have_no_footage(filmed):
    meta = meta_of(filmed[2])
    for boxes in meta["object_bbox"].values():
        boxes[0]["instance_id"] = 0
    with refused("rooms.footage", says="instance_id"):
        Scene.from_meta("a", meta)


# --- what a model is shown


def shown_room(visible, categories, frames=(0, 12, 24, 36, 47), **changes):
    """A video of 48 frames; ``visible`` has a row for each kept frame."""
    poses = np.stack([look_at((1, 2, 1.5), (4, 2, 1.5))] * len(frames))
    boxes = [
        ObjectInstance(
            k, name, (1, k, 1), (1, 1, 1), np.eye(3).ravel(), (0,) * 3, (1,) * 3
        )
        for k, name in enumerate(categories)
    ]
    values = {
        "scene_id": "scene0001_00",
        "dataset": "synthetic",
        "instances": boxes,
        "room_size_m2": 12.0,
        "room_center_m": (2, 1.5, 1),
        "floor_min_m": (0, 0),
        "floor_max_m": (4, 3),
        "fps": 24.0,
        "frame_count": 48,
        "footage": footage(frames=frames, poses=poses, visible=visible),
    }
    return Scene(**values | changes)


NAMES = ("bed", "sofa", "lamp", "chair", "chair", "desk", "desk")
SHARES = [
    [0.00, 0.04, 0.00, 0.06, 0.00, 0.10, 0.01],  # frame 0
    [0.90, 0.90, 0.90, 0.90, 0.90, 0.90, 0.90],  # frame 12: not shown
    [0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00],
    [0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00],
    [0.05, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00],  # frame 47
]


def test_only_what_shown_frames_show_is_left():
    """Two frames are shown, 0 and 47. The sofa and a desk are small in them."""
    scene = shown_room(SHARES, NAMES)
    seen, left_out = as_shown(scene, Shown(2))
    assert [(i.category, i.first_seen_frame) for i in seen.instances] == [
        ("bed", 47),
        ("chair", 0),
    ]
    # Of two chairs one is not shown, so a viewer counts one. Of two desks nobody can
    # say whether the small one counts, so that none is said to be absent either.
    assert seen.object_counts == {"bed": 1, "chair": 1, "desk": 0, "sofa": 0}
    assert left_out == {SMALL: 3, UNSEEN: 2}
    assert seen.footage.frames == (0, 47)
    assert seen.footage.visible.tolist() == [[0, 0.06], [0.05, 0]]
    assert scene == shown_room(SHARES, NAMES)  # unchanged
    # More frames show more, and a larger share leaves less.
    assert len(as_shown(scene, Shown(5))[0].instances) == len(NAMES)
    assert [i.category for i in as_shown(scene, Shown(2, 0.06))[0].instances] == [
        "chair"
    ]
    small, _ = as_shown(scene, Shown(2, 0.01))
    assert small.object_counts == {"bed": 1, "sofa": 1, "chair": 1, "desk": 2}


def test_an_object_first_appears_in_a_shown_frame_even_if_small():
    shares = [[0.0009, 0.0], [0.001, 0.0], [0.2, 0.0], [0, 0], [0, 0.3]]
    seen, _ = as_shown(shown_room(shares, ("bed", "sofa")), Shown(5))
    assert [i.first_seen_frame for i in seen.instances] == [12, 47]


def test_the_sampler_picks_the_frames():
    scene = shown_room(SHARES, NAMES)
    inner = Shown(1, sampler=Sampler("inner"))  # frame 24
    seen, left_out = as_shown(scene, inner)
    assert seen.instances == () and left_out == {UNSEEN: 7}


def test_the_nearest_kept_frame_stands_for_a_shown_one():
    """Of 48 frames at 24 a second; six frames are a quarter of a second."""
    near = shown_room([[0.5], [0.5]], ["bed"], frames=(6, 41))
    assert as_shown(near, Shown(2))[0].footage.frames == (6, 41)
    far = shown_room([[0.5], [0.5]], ["bed"], frames=(7, 40))
    seen, left_out = as_shown(far, Shown(2))
    assert seen.footage is None and left_out == {UNKNOWN: 1}


def test_unknown_shares_leave_objects_out():
    """Unless another frame shows enough; the first appearance is unknown then."""
    shares = [[np.nan] * 3, [0, 0, 0], [0.5, 0, 0.01], [0, 0, 0], [0, 0, 0]]
    scene = shown_room(shares, ("bed", "sofa", "desk"))
    seen, left_out = as_shown(scene, Shown(5))
    assert [(i.category, i.first_seen_frame) for i in seen.instances] == [("bed", None)]
    assert left_out == {SMALL: 2}


@pytest.mark.parametrize("missing", ["footage", "frame_count", "fps"])
def test_without_footage_nothing_is_known_to_be_shown(missing):
    scene = shown_room(SHARES, NAMES, **{missing: None})
    seen, left_out = as_shown(scene, Shown(2))
    assert seen.instances == () and seen.object_counts == {}
    assert left_out == {UNKNOWN: 7}
    assert as_shown(seen, Shown(2)) == (seen, {})


def test_counts_that_differ_from_the_boxes_still_do():
    scene = shown_room(SHARES, NAMES, object_counts={"bed": 2, "chair": 2, "toy": 1})
    seen, _ = as_shown(scene, Shown(2))
    half_seen = {"desk": 0, "sofa": 0}
    assert seen.object_counts == {"bed": 2, "chair": 1, "toy": 1} | half_seen


@pytest.mark.parametrize("values", [(0,), (16, 0.0), (16, 0.0001), (16, 1.5)])
def test_shown_frames_that_cannot_be(values):
    with refused("rooms.shown-frames"):
        Shown(*values)
