"""Answers that depend on how many frames are shown."""

import itertools

import numpy as np
import pytest
from support import refused

from spacer_lib.questions.budgets import BUDGETS, NO_OPTION, questions_by_budget
from spacer_lib.questions.kinds import QUESTION_TYPES
from spacer_lib.questions.kinds.appearance import NEARLY_AT_ONCE
from spacer_lib.questions.rules import Rules
from spacer_lib.rooms.footage import Footage
from spacer_lib.rooms.frames import Sampler
from spacer_lib.rooms.scene import ObjectInstance, Scene
from spacer_lib.rooms.shown import SMALL, UNSEEN, Shown
from spacer_lib.rooms.synthetic.views import look_at, pinhole

# A video of 20 s at 24 frames a second. Each of these frames is shown by one of the
# budgets 4, 8, 16 and 32 alone; frames 0 and 479 are shown by all.
TOTAL = 480
ONLY_32, ONLY_16, ONLY_8 = 15, 32, 68


def filmed(shares, budgets=BUDGETS):
    """A room; ``shares``: (category, {frame: share of the picture}) of each object."""
    frames = sorted({f for one in budgets for f in shown_frames(one)})
    visible = np.zeros((len(frames), len(shares)))
    for k, (_, seen) in enumerate(shares):
        for frame, share in seen.items():
            visible[frames.index(frame), k] = share
    pose = look_at((1, 2, 1.5), (4, 2, 1.5))
    footage = Footage(
        tuple(frames), [pose] * len(frames), pinhole(96, 72), (96, 72), visible
    )
    boxes = [
        ObjectInstance(
            k, name, (1, k, 1), (1, 1, 1), np.eye(3).ravel(), (0,) * 3, (1,) * 3
        )
        for k, (name, _) in enumerate(shares)
    ]
    floor = (0, 0), (4, 3)
    return Scene(
        "scene0001_00",
        "synthetic",
        boxes,
        12.0,
        (2, 1.5, 1),
        *floor,
        fps=24.0,
        frame_count=TOTAL,
        footage=footage,
    )


def shown_frames(shown):
    return shown.sampler.indices(TOTAL, shown.frames, 24.0)


def asked(scene, kind, budgets=BUDGETS, **rules):
    rng = np.random.default_rng(0)
    return list(questions_by_budget(scene, kind, rng, budgets, Rules(**rules)))


def test_the_frames_of_this_video():
    sets = {one.frames: set(shown_frames(one)) for one in BUDGETS}
    for budget, frame in ((32, ONLY_32), (16, ONLY_16), (8, ONLY_8)):
        assert [n for n in sets if frame in sets[n]] == [budget]


CHAIRS = [
    ("chair", {0: 0.2}),
    ("chair", {0: 0.1, ONLY_32: 0.2}),
    ("chair", {ONLY_32: 0.3}),
    ("bed", {0: 0.2}),
]


def test_32_frames_show_three_chairs_and_8_show_two():
    (found,) = asked(filmed(CHAIRS), "object_counting")
    assert found.answers == {4: "2", 8: "2", 16: "2", 32: "3"}
    assert found.draft.ground_truth == "3" and found.differ
    assert found.rejections == {}
    (both,) = asked(filmed(CHAIRS), "object_counting_multiple")
    assert [both.answers[n] for n in (8, 32)] == ["3", "4"]


def test_a_half_seen_object_is_a_rejection_with_a_reason():
    shares = [*CHAIRS[:2], ("chair", {ONLY_32: 0.3, ONLY_8: 0.01}), CHAIRS[3]]
    (found,) = asked(filmed(shares), "object_counting")
    assert found.answers == {4: "2", 16: "2", 32: "3"}
    assert found.rejections == {8: SMALL}


def test_what_no_shown_frame_shows_is_not_counted_and_does_not_exist():
    shares = [("chair", {ONLY_32: 0.3}), ("chair", {ONLY_32: 0.3}), ("bed", {0: 0.2})]
    (found,) = asked(filmed(shares), "object_counting")
    assert found.answers == {32: "2"} and found.rejections == dict.fromkeys(
        (4, 8, 16), UNSEEN
    )
    exists = {
        one.draft.categories[0]: one
        for one in asked(filmed(shares), "object_existence")
    }
    chair, bed, sink = (words(exists[name]) for name in ("chair", "bed", "sink"))
    assert chair == {4: "no", 8: "no", 16: "no", 32: "yes"}
    assert set(bed.values()) == {"yes"} and set(sink.values()) == {"no"}


def words(found):
    """The answers in words."""
    texts = {option[0]: option[3:] for option in found.draft.options}
    return {budget: texts[letter] for budget, letter in found.answers.items()}


def test_nobody_asks_whether_a_half_seen_object_exists():
    shares = [("sink", {ONLY_32: 0.01}), ("bed", {0: 0.2})]
    named = {one.draft.categories for one in asked(filmed(shares), "object_existence")}
    assert ("bed",) in named and ("sink",) not in named


def test_the_order_of_appearance_follows_the_shown_frames():
    """Frame 15 shows the sofa before the lamp, but only 32 frames have it."""
    last = {TOTAL - 1: 0.2}
    shares = [
        ("bed", {0: 0.2}),
        ("sofa", {ONLY_32: 0.2} | last),
        ("lamp", {31: 0.2, ONLY_16: 0.2, ONLY_8: 0.2, 160: 0.2}),
    ]
    (found,) = asked(filmed(shares), "obj_appearance_order_3", order_gap_s=0.3)
    orders = words(found)
    assert orders[32] == "bed, sofa, lamp"
    assert orders[4] == orders[8] == orders[16] == "bed, lamp, sofa"
    assert len(set(found.draft.options)) == 4


def test_first_appearances_that_are_close_for_one_budget():
    """In 32 frames 19 s apart, in 16 frames 1.3 s."""
    bed, sofa = {ONLY_32: 0.2, ONLY_16: 0.2}, {464: 0.2, 64: 0.2}
    scene = filmed([("bed", bed), ("sofa", sofa)])
    (found,) = asked(scene, "obj_appearance_order_2", order_gap_s=2.0)
    assert words(found) == {32: "bed, sofa"}
    assert found.rejections == {4: UNSEEN, 8: UNSEEN, 16: NEARLY_AT_ONCE}
    (found,) = asked(scene, "appearance_before_after", order_gap_s=1.0)
    assert len(set(words(found).values())) == 1 and set(found.answers) == {16, 32}


def test_five_budgets_with_five_orders_and_four_options():
    budgets = [Shown(n, sampler=Sampler("inner")) for n in (4, 6, 10, 12, 16)]
    orders = list(itertools.permutations(("bed", "sofa", "tv")))
    seen = {name: {} for name in orders[0]}
    for shown, order in zip(budgets, orders, strict=False):
        for frame, name in zip(shown_frames(shown), order, strict=False):
            seen[name][frame] = 0.2
    scene = filmed(list(seen.items()), budgets)
    (found,) = asked(scene, "obj_appearance_order_3", budgets, order_gap_s=0.1)
    assert list(found.rejections.values()) == [NO_OPTION]
    told = words(found)
    assert len(told) == 4
    right = {b.frames: ", ".join(o) for b, o in zip(budgets, orders, strict=False)}
    assert all(right[budget] == order for budget, order in told.items())


@pytest.mark.parametrize(
    "kind, budgets",
    [
        ("object_size_estimation", BUDGETS),
        ("no_such_type", BUDGETS),
        ("object_counting", (Shown(8), Shown(8, 0.01))),
    ],
)
def test_budgets_that_cannot_be(kind, budgets):
    with refused("questions.no-budgets", says=kind):
        asked(filmed(CHAIRS), kind, budgets)


def test_types_that_depend_on_the_frames():
    named = {name for name, one in QUESTION_TYPES.items() if one.by_frames}
    assert len(named) == 9
    assert {"object_counting", "object_existence", "obj_appearance_order"} <= named
