"""AC1 by hand and on a published example; the quiz about maps."""

import math

import numpy as np
import pytest
from support import refused

from spacer_lib.evaluation.agreement import gwet_ac1, quiz, score_quiz
from spacer_lib.evaluation.predictions import record, reward_rule
from spacer_lib.maps.text import map_to_text
from spacer_lib.questions.generators import question_rows
from spacer_lib.questions.solver import answer_from_map
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import to_scene

# ---------------------------------------------------------------- AC1


def test_two_raters_by_hand():
    """Ten items, 7 twice yes, 1 twice no, 2 apart: π = 0.8 and p_e = 2 · 0.8 · 0.2."""
    found = gwet_ac1([["y", "y"]] * 7 + [["n", "n"]] + [["y", "n"], ["n", "y"]])
    assert found.observed == pytest.approx(0.8)
    assert found.chance == pytest.approx(0.32)
    assert found.coefficient == pytest.approx((0.8 - 0.32) / 0.68)
    assert (found.items, found.raters) == (10, 2)


def test_the_standard_error_by_hand():
    """Four items, A twice, B twice, two apart: π = 1/2 and every p_e,i = 1/2."""
    found = gwet_ac1([["A", "A"], ["B", "B"], ["A", "B"], ["B", "A"]])
    # γ = 0; shares are ±1, their variance 4/3, over n = 4.
    assert found.coefficient == pytest.approx(0)
    assert found.standard_error == pytest.approx(math.sqrt(4 / 3 / 4))
    assert (found.low, found.high) == (-1, 1)  # ±3.18 errors, cut at the range


def test_published_example_with_missing_ratings():
    """Four raters, twelve subjects: the example of irrCAC's documentation."""
    by_rater = (
        (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
        (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, None),
        (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 3),
        (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
    )
    found = gwet_ac1(list(map(list, zip(*by_rater, strict=True))))
    assert found.coefficient == pytest.approx(0.77544, abs=5e-6)
    assert found.standard_error == pytest.approx(0.14295, abs=5e-6)
    assert found.observed == pytest.approx(0.81818, abs=5e-6)
    assert found.chance == pytest.approx(0.19032, abs=5e-6)
    assert found.low == pytest.approx(0.46081, abs=5e-6) and found.high == 1
    assert (found.items, found.raters) == (11, 4)


def test_where_kappa_collapses_ac1_does_not():
    """95 of 100 agree on yes: Cohen's kappa is below 0, AC1 about 0.94."""
    found = gwet_ac1([["y", "y"]] * 95 + [["y", "n"]] * 3 + [["n", "y"]] * 2)
    assert found.coefficient == pytest.approx(0.9475, abs=1e-3)


def test_categories_nobody_used_lower_chance():
    pairs = [["A", "A"], ["B", "B"], ["A", "B"], ["B", "A"]]
    found = gwet_ac1(pairs, categories="ABCD")
    assert found.chance == pytest.approx(0.5 / 3)  # 2 · ¼ over q - 1
    assert found.coefficient == pytest.approx((0.5 - 1 / 6) / (5 / 6))
    assert gwet_ac1([["A", "A"]] * 3).coefficient == 1
    assert gwet_ac1([["A", "A"], [None, None]]).items == 1


def test_items_of_one_room_stand_and_fall_together():
    rng = np.random.default_rng(1)
    agree = np.repeat(rng.random(20) < 0.6, 5)
    pairs = [["A", "A"] if a else ["A", "B"] for a in agree]
    loose = gwet_ac1(pairs)
    rooms = gwet_ac1(pairs, clusters=np.repeat(np.arange(20), 5).tolist())
    assert rooms.coefficient == loose.coefficient
    assert rooms.high - rooms.low > 1.5 * (loose.high - loose.low)
    assert rooms.low < rooms.coefficient < rooms.high


def test_ratings_that_do_not_fit_are_refused():
    with refused("evaluation.uneven-ratings"):
        gwet_ac1([["A", "A"], ["A"]])
    with refused("evaluation.unknown-rating", says="Z"):
        gwet_ac1([["A", "Z"]], categories="AB")
    with refused("evaluation.nothing-rated-twice"):
        gwet_ac1([["A", None], [None, "B"]])


# ---------------------------------------------------------------- the quiz


@pytest.fixture(scope="module")
def rows():
    made = []
    for seed in range(3):
        scene = to_scene(draw_room(seed, "furnished"), with_boxes=False)
        made += question_rows(scene, seed, per_task=4)[0]
    return made


def test_a_quiz_asks_only_what_a_map_can_answer(rows):
    asked = quiz(rows, 10, seed=1)
    kinds = [q["row"]["question_type"] for q in asked]
    assert len(asked) == 10 and len(set(kinds)) == 5  # types in turn
    assert max(map(kinds.count, kinds)) == 2
    for q in asked:
        assert q["map"] == q["row"]["map"]
        assert q["solved"] == answer_from_map(q["row"], q["map"])
    assert asked == quiz(rows, 10, seed=1) != quiz(rows, 10, seed=2)
    sizes = [row for row in rows if "size" in row["question_type"]]
    with refused("evaluation.empty-quiz"):
        quiz(sizes, 10)


def test_drawn_maps_are_shown_for_right_answers_only(rows):
    counting = [row for row in rows if row["question_type"] == "object_counting"]
    drawn = {row["categories"][0]: [[0, i] for i in range(9)] for row in counting}
    predictions = [
        record(
            row,
            f"<think><map>{map_to_text(drawn)}</map>x</think>"
            f"<answer>{row['ground_truth'] if i else 99}</answer>",
            reward_rule(),
        )
        for i, row in enumerate(counting)
    ]
    asked = quiz(rows, 50, predictions=predictions)
    assert {q["row"]["id"] for q in asked} == {row["id"] for row in counting[1:]}
    assert all(q["solved"].answer == "9" for q in asked)


def test_a_quiz_is_scored_against_truth_and_solver(rows):
    asked = quiz(rows, 12)
    truth = {q["row"]["id"]: q["row"]["ground_truth"] for q in asked}
    found = score_quiz(asked, truth)
    assert found["right"][0] == 1 and found["with_truth"].coefficient == 1
    assert found["answered"] == found["n"] == 12
    solver = {q["row"]["id"]: q["solved"].answer for q in asked}
    found = score_quiz(asked, {k: v and v.lower() + "." for k, v in solver.items()})
    assert found["with_solver"].coefficient == 1
    assert found["right"] == found["solver_right"]
    assert found["answered"] == sum(v is not None for v in solver.values())


def test_nothing_answered_is_nothing_right(rows):
    found = score_quiz(quiz(rows, 4), {})
    assert found["right"][0] == 0 and found["answered"] == 0
    assert found["with_truth"] is None and found["with_solver"] is None
    with refused("evaluation.no-such-quiz-question", says="mine"):
        score_quiz(quiz(rows, 4), {"mine": "A"})
