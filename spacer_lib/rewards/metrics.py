"""Answer metrics, each in [0, 1] (WER apart), and scene-clustered intervals.

Departure from VSI-Bench's evaluator: a comparison with a threshold has a stated
tolerance, so that 8 against a true 10 is decided on paper, not by float rounding.
"""

import functools
import math

import jiwer
import numpy as np

from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import plain_text

# SpaceR Eq. 3, VSI-Bench.
THRESHOLDS = (0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95)
# Spatial-R1 counts N = (0.95 - 0.50) / 0.05 + 2 = 11 of them over the same span.
SPATIAL_R1_THRESHOLDS = tuple(np.linspace(0.50, 0.95, 11).tolist())


def mean_relative_accuracy(prediction, truth, *, thresholds=THRESHOLDS, tolerance=1e-9):
    """Share of thresholds θ with |prediction - truth| / |truth| ≤ 1 - θ + tolerance.

    A truth of 0 has no relative error: only an exact 0 scores, and scores 1. A
    negative truth counts by its modulus, so a prediction of the other sign scores 0.
    A prediction that is not finite scores 0, and so does one so large that the error
    overflows.

    Parameters
    ----------
    prediction, truth : float
    thresholds : sequence of float
        ``THRESHOLDS`` or ``SPATIAL_R1_THRESHOLDS``.
    tolerance : float
        Added to each bound, so that an error of exactly 1 - θ on paper passes.

    Raises
    ------
    SpacerError
        If the truth is not finite, or there are no thresholds.

    Source: SpaceR Eq. 3, over the ten ``THRESHOLDS``; the modulus of the denominator
    is ours.

    Examples
    --------
    >>> mean_relative_accuracy(8, 10)  # 20% off: passes 0.50 … 0.80
    0.7
    >>> mean_relative_accuracy(8, 10, thresholds=SPATIAL_R1_THRESHOLDS) == 7 / 11
    True
    """
    if not len(thresholds):
        raise SpacerError("accuracy thresholds", got="none", expected="at least one")
    error = _relative_error(prediction, truth)
    return sum(error <= 1 - theta + tolerance for theta in thresholds) / len(thresholds)


def relative_cost_score(prediction, truth):
    """max(0, 1 - |prediction - truth| / min(prediction, truth)); 0 where min ≤ 0.

    Dividing by the smaller of the two makes half and double equally wrong (both score
    0). Zero and negative numbers have no such cost and score 0, right or wrong; so
    does a prediction that is not finite.

    Raises
    ------
    SpacerError
        If the truth is not finite.

    Source: vsGRPO's numerical reward, published as the cost |Δ| / min; ours turns it
    into a score.

    Examples
    --------
    >>> relative_cost_score(8, 10), relative_cost_score(12.5, 10)
    (0.75, 0.75)
    """
    _require_finite(truth)
    least = min(prediction, truth)
    if not math.isfinite(prediction) or least <= 0:
        return 0.0
    return max(0.0, 1 - abs(prediction - truth) / least)


def regression_score(prediction, truth):
    """1 - min(1, |prediction - truth| / |truth|); a truth of 0 needs an exact 0.

    A prediction that is not finite scores 0.

    Raises
    ------
    SpacerError
        If the truth is not finite.

    Source: SpaceR §4.1, regression reward.
    """
    return 1 - min(1.0, _relative_error(prediction, truth))


def _require_finite(truth):
    if not math.isfinite(truth):
        raise SpacerError("true number", got=truth, expected="a finite number")


def _relative_error(prediction, truth):
    _require_finite(truth)
    if not math.isfinite(prediction):
        return math.inf
    if truth == 0:
        return 0.0 if prediction == 0 else math.inf
    return abs(prediction - truth) / abs(truth)


def exact_match(prediction, truth):
    """1.0 if two texts are equal up to case, spaces and a final full stop, else 0.0."""
    return float(plain_text(prediction) == plain_text(truth))


def word_error_rate(prediction, reference):
    """Word edits from reference to prediction over the reference's words, ≥ 0.

    Raises
    ------
    SpacerError
        If the reference has no words.

    Source: SpaceR §4.1, OCR reward; computed by jiwer, on rapidfuzz.
    """
    if not reference.split():
        raise SpacerError("reference text", got="no words", expected="at least one")
    return jiwer.wer(" ".join(reference.split()), " ".join(prediction.split()))


def rouge_f1(prediction, reference):
    """Mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L, stemmed.

    Source: SpaceR §4.1, free-form reward; computed by rouge-score.
    """
    scores = _rouge_scorer().score(reference, prediction)
    return sum(part.fmeasure for part in scores.values()) / len(scores)


@functools.cache
def _rouge_scorer():
    # Imported here: it loads nltk for two seconds, and only general data need it.
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    # Stemming is most of the time, and words come again and again.
    stemmer = scorer._tokenizer._stemmer
    stemmer.stem = functools.lru_cache(maxsize=65536)(stemmer.stem)
    return scorer


def bootstrap_interval(values, clusters, rng, n=2000, level=0.95):
    """Mean of values with the percentile interval of a clustered bootstrap.

    Whole clusters are drawn with replacement, since questions about one room are not
    independent of each other.

    Parameters
    ----------
    values : (k,) array of float
    clusters : (k,) sequence
        The cluster (physical space) of each value.
    rng : numpy.random.Generator
    n : int
        Resamples.
    level : float
        Coverage.

    Returns
    -------
    mean, low, high : float
        ``low`` and ``high`` are NaN for a single cluster: it says nothing of others.

    Raises
    ------
    SpacerError
        If there is nothing to average, or lengths differ.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or len(values) != len(clusters):
        raise SpacerError(
            "bootstrap",
            got=f"{values.shape} values, {len(clusters)} clusters",
            expected="as many clusters as values, at least one",
        )
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    sizes = np.bincount(index)
    sums = np.bincount(index, weights=values)
    mean = float(values.mean())
    if len(sizes) == 1:
        return mean, math.nan, math.nan
    # (n, clusters) how often each cluster was drawn
    drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=n)
    means = (drawn @ sums) / (drawn @ sizes)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return mean, float(low), float(high)


def paired_bootstrap(deltas, clusters, rng, n=2000, level=0.95):
    """Mean paired difference (after - before, question by question) and interval.

    The same resampling as ``bootstrap_interval``; pairing first removes what the
    questions have in common, which is most of the spread.
    """
    return bootstrap_interval(deltas, clusters, rng, n, level)


def majority_floor(rows):
    """What always giving the most frequent answer earns, by exact match.

    Parameters
    ----------
    rows : list of dict
        Question rows with ``question_type`` and ``ground_truth``.

    Returns
    -------
    dict
        ``{question_type: (answer, share of rows it is right for)}``; of equally
        frequent answers the first in sorting order.
    """
    answers = {}
    for row in rows:
        answers.setdefault(row["question_type"], []).append(row["ground_truth"])
    floor = {}
    for kind, given in answers.items():
        best = min(set(given), key=lambda a, given=given: (-given.count(a), a))
        floor[kind] = best, given.count(best) / len(given)
    return floor
