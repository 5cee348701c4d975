"""Questions about drawn rooms, and the completions that a warm start imitates."""

import numpy as np
import pytest

from spacer_lib.language.tags import SHAPES
from spacer_lib.rooms.synthetic.views import VIEWS, address_parts
from spacer_lib.rooms.video import read_frames
from spacer_lib.tiny.curriculum import (
    DEMONSTRATED,
    demonstration,
    draw_rows,
    room_rows,
    tasks_of,
)
from spacer_lib.tiny.shown import SHOWN, show

INSIDE = [name for name, view in VIEWS.items() if view.style == "home"]


@pytest.mark.parametrize("view", ["turn", "part", "seen"])
def test_each_kind_is_asked_in_turn_about_another_room(view):
    tasks = tasks_of(view)
    rows = draw_rows(9_300_000, 2 * len(tasks), view)
    assert [row["question_type"] for row in rows] == 2 * list(tasks)
    assert len({row["scene_name"] for row in rows}) == len(rows)
    assert all(address_parts(row["video"])[0] == view for row in rows)


@pytest.mark.parametrize("view", INSIDE)
def test_the_video_of_a_row_has_the_frames_its_answers_are_about(view):
    row = draw_rows(9_310_000, 1, view)[0]
    frames, *_ = read_frames(row["video"], SHOWN.frames, SHOWN.size)
    np.testing.assert_array_equal(frames, show(*address_parts(row["video"])).frames)


def test_no_question_about_a_room_of_which_an_object_is_hardly_seen():
    asked = {
        seed: bool(room_rows(seed, "turn")) for seed in range(9_320_000, 9_320_040)
    }
    shown = {seed: show("turn", seed) is not None for seed in asked}
    assert asked == shown and not all(shown.values())


def test_the_shapes_of_a_demonstration_tell_the_same():
    for row in draw_rows(9_330_000, 18, DEMONSTRATED):
        texts = {shape: demonstration(row, shape=shape) for shape in SHAPES}
        assert len({text is None for text in texts.values()}) == 1
        if texts["think"] is None:
            continue
        assert texts["think"].startswith("<think>") and "<map>" in texts["observe"]
        assert texts["observe"].startswith("<observe>")
        answer = f"<answer>{texts['vanilla']}</answer>"
        assert texts["think"].endswith(answer) and texts["observe"].endswith(answer)


def test_there_is_no_demonstration_about_a_dollhouse():
    assert [demonstration(row) for row in draw_rows(9_340_000, 6, "seen")] == 6 * [None]


def test_addresses():
    assert address_parts("room://turn/17") == ("turn", 17)
    for wrong in (
        "turn/17",
        "room://attic/17",
        "room://turn/x",
        "room://turn",
        "a.mp4",
    ):
        assert address_parts(wrong) is None
