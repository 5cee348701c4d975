"""Answer scores against hand-worked values, and intervals against theory."""

import math

import numpy as np
import pytest
import rapidfuzz
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from support import refused

from spacer_lib.evaluation.bootstrap import bootstrap_interval
from spacer_lib.rewards.metrics import (
    SPATIAL_R1_THRESHOLDS,
    THRESHOLDS,
    exact_match,
    mean_relative_accuracy,
    regression_score,
    relative_cost_score,
    rouge_f1,
    word_error_rate,
)

MRA = [
    # prediction, truth, expected, why
    (10, 10, 1.0, "exact"),
    (9.5, 10, 1.0, "5% off passes every threshold, 0.95 too"),
    (10.5, 10, 1.0, "the same above"),
    (9.4, 10, 0.9, "6% off fails 0.95 alone"),
    (9, 10, 0.9, "10% off passes 0.50 … 0.90"),
    (8, 10, 0.7, "20% off passes 0.50 … 0.80"),
    (12, 10, 0.7, "the same above"),
    (7, 10, 0.5, "30% off passes 0.50 … 0.70"),
    (5, 10, 0.1, "50% off passes 0.50 alone"),
    (4.9, 10, 0.0, "51% off"),
    (15, 10, 0.1, "50% off above"),
    (0, 10, 0.0, "nothing"),
    (-10, 10, 0.0, "the wrong sign"),
    (-8, -10, 0.7, "a negative truth"),
    (1, 2, 0.1, "one of two"),
    (3, 4, 0.6, "25% off passes 0.50 … 0.75"),
    (0.8, 1.0, 0.7, "20% off in fractions"),
    (240, 300, 0.7, "20% off in hundreds"),
    (0, 0, 1.0, "a truth of 0, exact"),
    (1e-12, 0, 0.0, "a truth of 0, nearly"),
    (math.nan, 10, 0.0, "not a number"),
    (math.inf, 10, 0.0, "infinite"),
    (1e308, 1e-308, 0.0, "beyond a float"),
    (-math.inf, 10, 0.0, "infinite"),
    (1e300, 1e300, 1.0, "huge, and right"),
    (8e299, 1e300, 0.7, "huge, 20% off"),
    (1e308, -1e308, 0.0, "a difference beyond a float"),
    (5e-324, 0, 0.0, "the smallest float is not 0"),
    (-0.0, 0, 1.0, "a 0 with a sign"),
    (0, -10, 0.0, "nothing of a negative truth"),
]


@pytest.mark.parametrize("prediction, truth, expected, why", MRA)
def test_mean_relative_accuracy(prediction, truth, expected, why):
    assert mean_relative_accuracy(prediction, truth) == pytest.approx(expected), why


def test_thresholds_are_the_ten_of_the_paper():
    assert np.allclose(THRESHOLDS, np.arange(50, 100, 5) / 100)
    assert len(THRESHOLDS) == 10


def test_spatial_r1_spreads_eleven_over_the_same_span():
    """N = (e - s) / δ + 2 with s = 0.50, e = 0.95, δ = 0.05: one more than steps of δ.

    Spacing is 0.45 / 10 = 0.045, so both ends are in and nothing between is shared.
    """
    count = round((0.95 - 0.50) / 0.05) + 2
    assert count == len(SPATIAL_R1_THRESHOLDS) == 11
    by_hand = (0.5, 0.545, 0.59, 0.635, 0.68, 0.725, 0.77, 0.815, 0.86, 0.905, 0.95)
    assert SPATIAL_R1_THRESHOLDS == pytest.approx(by_hand)
    assert SPATIAL_R1_THRESHOLDS == tuple(np.linspace(0.50, 0.95, 11))
    assert SPATIAL_R1_THRESHOLDS[0] == 0.5 and SPATIAL_R1_THRESHOLDS[-1] == 0.95


ELEVEN = [
    # prediction, truth, thresholds passed of 11, why
    (10, 10, 11, "exact"),
    (9.5, 10, 11, "5% off passes 0.95"),
    (9.05, 10, 10, "9.5% off passes 0.905"),
    (9, 10, 9, "10% off passes 0.86"),
    (8, 10, 7, "20% off passes 0.77"),
    (7, 10, 5, "30% off passes 0.68"),
    (5.45, 10, 2, "45.5% off passes 0.545"),
    (5, 10, 1, "50% off passes 0.50"),
    (4.9, 10, 0, "51% off"),
    (0, 0, 11, "zero"),
    (math.nan, 10, 0, "not a number"),
]


@pytest.mark.parametrize("prediction, truth, passed, why", ELEVEN)
def test_accuracy_over_eleven_thresholds(prediction, truth, passed, why):
    accuracy = mean_relative_accuracy(
        prediction, truth, thresholds=SPATIAL_R1_THRESHOLDS
    )
    assert accuracy == pytest.approx(passed / 11), why


def test_no_thresholds_raise():
    with refused("rewards.no-thresholds"):
        mean_relative_accuracy(1, 1, thresholds=())


@pytest.mark.parametrize("truth", [1, 3, 7, 10, 0.3, 123.4, 1e6])
@pytest.mark.parametrize("step", range(11))
def test_borders_are_decided_by_the_tolerance(truth, step):
    """An error of exactly 5% x step passes 11 - step thresholds (at most ten)."""
    expected = min(10, max(0, 11 - step)) / 10
    for sign in (-1, 1):
        prediction = truth * (1 + sign * 0.05 * step)
        assert mean_relative_accuracy(prediction, truth) == pytest.approx(expected)
        beyond = truth * (1 + sign * (0.05 * step + 1e-6))
        assert mean_relative_accuracy(beyond, truth) == pytest.approx(
            max(0, 10 - step) / 10
        )


def test_the_tolerance_is_stated():
    assert mean_relative_accuracy(7.9, 10, tolerance=0.02) == pytest.approx(0.7)
    assert mean_relative_accuracy(7.9, 10) == pytest.approx(0.6)


@pytest.mark.parametrize("truth", [math.nan, math.inf])
def test_a_truth_that_is_no_number_raises(truth):
    for measure in (mean_relative_accuracy, regression_score, relative_cost_score):
        with refused("rewards.true-number-not-finite"):
            measure(1, truth)


number = st.floats(-1e9, 1e9)


@given(st.floats(), number)
def test_number_scores_lie_in_range(prediction, truth):
    assert 0 <= mean_relative_accuracy(prediction, truth) <= 1
    assert 0 <= regression_score(prediction, truth) <= 1
    assert 0 <= relative_cost_score(prediction, truth) <= 1
    assert mean_relative_accuracy(truth, truth) == regression_score(truth, truth) == 1


@given(number, number, st.floats(0.1, 10))
def test_the_unit_does_not_matter(prediction, truth, unit):
    before = mean_relative_accuracy(prediction, truth, tolerance=1e-6)
    after = mean_relative_accuracy(prediction * unit, truth * unit, tolerance=1e-6)
    assert abs(before - after) <= 0.1 + 1e-12  # a border may fall either way


REGRESSION = [
    (10, 10, 1, "exact"),
    (8, 10, 0.8, "20% off"),
    (25, 10, 0, "more than 100% off"),
    (-10, -10, 1, "negative"),
    (0, 0, 1, "zero"),
    (1, 0, 0, "not zero"),
    (-8, -10, 0.8, "negative, 20% off"),
    (math.nan, 10, 0, "not a number"),
    (math.inf, 10, 0, "infinite"),
    (1e308, -1e308, 0, "beyond a float"),
]


@pytest.mark.parametrize("prediction, truth, expected, why", REGRESSION)
def test_regression(prediction, truth, expected, why):
    assert regression_score(prediction, truth) == pytest.approx(expected), why


COST = [
    (10, 10, 1, "exact"),
    (8, 10, 0.75, "1 - 2/8"),
    (12.5, 10, 0.75, "1 - 2.5/10"),
    (12, 10, 0.8, "1 - 2/10"),
    (5, 10, 0, "half: 1 - 5/5"),
    (20, 10, 0, "double"),
    (4, 10, 0, "less than half: clipped"),
    (0, 10, 0, "min = 0"),
    (10, 0, 0, "min = 0"),
    (0, 0, 0, "min = 0, even where right"),
    (-10, 10, 0, "min < 0"),
    (10, -10, 0, "min < 0"),
    (-10, -10, 0, "min < 0, even where right"),
    (math.nan, 10, 0, "not a number"),
    (math.inf, 10, 0, "infinite"),
    (-math.inf, 10, 0, "infinite"),
    (1e300, 1e300, 1, "huge, and right"),
    (1e308, 1e-308, 0, "beyond a float"),
]


@pytest.mark.parametrize("prediction, truth, expected, why", COST)
def test_relative_cost(prediction, truth, expected, why):
    assert relative_cost_score(prediction, truth) == pytest.approx(expected), why


@given(st.floats(0.01, 1e6), st.floats(0.01, 1e6))
def test_relative_cost_treats_both_sides_alike(prediction, truth):
    there = relative_cost_score(prediction, truth)
    assert there == relative_cost_score(truth, prediction)
    assert (there > 0) == (prediction < 2 * truth and truth < 2 * prediction)


def test_exact_match():
    assert exact_match(" Front  Left", "front left") == 1
    assert exact_match("Front left.", "front left") == 1
    assert exact_match("front", "front left") == exact_match("", "a") == 0
    assert exact_match("front-left", "front left") == 0


WER = [
    ("the red door", "the red door", 0, "equal"),
    ("the  red\ndoor ", "the red door", 0, "white space"),
    ("the blue door", "the red door", 1 / 3, "one replaced"),
    ("the door", "the red door", 1 / 3, "one missing"),
    ("the big red door", "the red door", 1 / 3, "one added"),
    ("", "the red door", 1, "nothing read"),
    ("a b c d", "x", 4, "more than one error a word"),
]


@pytest.mark.parametrize("prediction, reference, expected, why", WER)
def test_word_error_rate(prediction, reference, expected, why):
    assert word_error_rate(prediction, reference) == pytest.approx(expected), why


edits = st.lists(st.sampled_from(["a", "b", "red", "door"]), max_size=8)


@given(edits, edits.filter(len))
def test_word_error_rate_is_rapidfuzz_over_words(prediction, reference):
    distance = rapidfuzz.distance.Levenshtein.distance(reference, prediction)
    rate = word_error_rate(" ".join(prediction), " ".join(reference))
    assert rate == pytest.approx(distance / len(reference))


def test_word_error_rate_needs_words():
    with refused("rewards.no-words"):
        word_error_rate("a", " \n")


def test_rouge_by_hand():
    """2 of 3 words agree, 1 of 2 neighbouring pairs, and 2 of 3 in order."""
    assert rouge_f1("the cat sat", "the cat ran") == pytest.approx(
        (2 / 3 + 1 / 2 + 2 / 3) / 3
    )
    assert rouge_f1("the cat", "the cat") == pytest.approx(1)
    assert rouge_f1("dog", "the cat") == rouge_f1("", "the cat") == 0


# ------------------------------------------------------------------ intervals


def test_interval_of_independent_values_is_the_textbook_one():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, 400)
    mean, low, high = bootstrap_interval(values, range(400), rng, n=4000)
    half = 1.96 * values.std() / math.sqrt(400)
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(mean - half, abs=0.1 * half)
    assert high == pytest.approx(mean + half, abs=0.1 * half)


def test_copies_within_a_cluster_add_no_knowledge():
    """Ten copies of each value: the interval stays if clustered, else it shrinks."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=50)
    _, low, high = bootstrap_interval(values, range(50), rng)
    copies = np.repeat(values, 10)
    _, low_c, high_c = bootstrap_interval(copies, np.repeat(np.arange(50), 10), rng)
    _, low_i, high_i = bootstrap_interval(copies, range(500), rng)
    assert high_c - low_c == pytest.approx(high - low, rel=0.1)
    assert high_i - low_i == pytest.approx((high - low) / math.sqrt(10), rel=0.15)


def test_the_interval_is_a_function_of_seed_and_level():
    values, clusters = [0, 1, 1, 0, 1], ["a", "a", "b", "c", "c"]

    def interval(seed, level=0.95):
        rng = np.random.default_rng(seed)
        return bootstrap_interval(values, clusters, rng, level=level)

    assert interval(5) == interval(5)
    assert interval(5, 0.5)[1] >= interval(5)[1]
    assert interval(5, 0.5)[2] <= interval(5)[2]


def test_means_of_unequal_clusters_weigh_values_not_clusters():
    values, clusters = [1, 1, 1, 0], ["a", "a", "a", "b"]
    rng = np.random.default_rng(0)
    assert bootstrap_interval(values, clusters, rng)[0] == 0.75
    assert bootstrap_interval(values, clusters, rng, bounds=(0, 1)) == (0.75, 0, 1)


def test_three_clusters_have_the_t_interval_of_their_means():
    values, clusters = [0.1, 0.3, 0.4, 0.6, 0.9, 0.7], [0, 0, 1, 1, 2, 2]
    _, low, high = bootstrap_interval(values, clusters, np.random.default_rng(0))
    # Means .2, .5, .8: standard error .3 / √3; t of 2 degrees is 4.3027.
    half = 4.30265 * 0.3 / math.sqrt(3)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-5)


@pytest.mark.parametrize("rooms, least", [(3, 0.84), (5, 0.88), (10, 0.92), (20, 0.94)])
def test_intervals_of_few_rooms_cover_the_mean(rooms, least):
    """Relative accuracies, skewed. Plain percentiles cover .74, .81, .91 and .93."""
    rng, inside = np.random.default_rng(rooms), 0
    for _ in range(400):
        scores = rng.integers(1, 11, rooms) / 10 * (rng.random(rooms) < 0.6)
        _, low, high = bootstrap_interval(scores, range(rooms), rng, n=400)
        inside += low <= 0.6 * 0.55 <= high
    assert inside / 400 >= least


def test_intervals_of_many_clusters_are_plain_percentiles():
    """Numbers of 60 rooms and more do not depend on the form for few."""
    values = np.random.default_rng(2).random(60)
    _, low, high = bootstrap_interval(values, range(60), np.random.default_rng(3))
    draws = np.random.default_rng(3).multinomial(60, np.full(60, 1 / 60), size=2000)
    expected = np.quantile(draws @ values / 60, [0.025, 0.975])
    assert (low, high) == pytest.approx(tuple(expected))


def test_one_cluster_has_a_mean_and_no_interval():
    mean, low, high = bootstrap_interval([1, 0], ["a", "a"], np.random.default_rng(0))
    assert mean == 0.5 and math.isnan(low) and math.isnan(high)


@pytest.mark.parametrize("values, clusters", [([], []), ([1.0], ["a", "b"])])
def test_nothing_to_average_raises(values, clusters):
    with refused("evaluation.uneven-clusters"):
        bootstrap_interval(values, clusters, np.random.default_rng(0))


def test_pairing_removes_what_questions_share():
    rng = np.random.default_rng(2)
    hard = rng.normal(size=300)
    before, after = hard, hard + 0.1 + rng.normal(scale=0.1, size=300)
    mean, low, high = bootstrap_interval(after - before, range(300), rng)
    assert low > 0 and mean == pytest.approx(0.1, abs=0.02)
    _, low_after, _ = bootstrap_interval(after, range(300), rng)
    _, _, high_before = bootstrap_interval(before, range(300), rng)
    assert low_after < high_before  # unpaired intervals overlap


def test_percentiles_of_ten_rooms_are_moved_outwards():
    """By Student's t with 9 degrees and by sqrt(10 / 9)."""
    values = np.arange(10.0) ** 2
    found = bootstrap_interval(values, range(10), np.random.default_rng(0))
    drawn = np.random.default_rng(0).multinomial(10, np.full(10, 0.1), size=2000)
    tail = stats.norm.cdf(-math.sqrt(10 / 9) * stats.t.ppf(0.975, 9))
    low, high = np.quantile(drawn @ values / 10, [tail, 1 - tail])
    assert found == pytest.approx((28.5, low, high))
