"""Answer scores: how near an answer is to the ground truth.

Each score lies in [0, 1], 1 being right; ``word_error_rate`` is an error instead. The
inputs are numbers and texts that ``language`` has read already.

Departure from VSI-Bench's evaluator and the released code: a comparison with a
threshold has a stated tolerance. 8 against a true 10 is exactly 20% off and passes
the threshold 0.80, which floating point alone would fail.

Source: SpaceR Eq. 2, Eq. 3 and §4.1, https://arxiv.org/abs/2504.01805.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jiwer
import numpy as np

from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import plain_text

# SpaceR Eq. 3, after VSI-Bench (https://arxiv.org/abs/2412.14171).
THRESHOLDS = (0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95)
# Spatial-R1 Eq. 2: N = (0.95 - 0.50) / 0.05 + 2 = 11 over the same span.
SPATIAL_R1_THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.50, 0.95, 11).tolist())


def mean_relative_accuracy(
    prediction: float,
    truth: float,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    tolerance: float = 1e-9,
) -> float:
    """Share of thresholds θ with |prediction - truth| / |truth| ≤ 1 - θ + tolerance.

    A truth of 0 has no relative error: an exact 0 scores 1 and anything else 0. A
    prediction that is not finite scores 0.

    Parameters
    ----------
    prediction, truth : float
    thresholds : sequence of float
        ``THRESHOLDS`` or ``SPATIAL_R1_THRESHOLDS``.
    tolerance : float
        Added to each bound, so that an error of exactly 1 - θ passes.

    Raises
    ------
    SpacerError
        If the truth is not finite, or there are no thresholds.

    Source: SpaceR Eq. 3, https://arxiv.org/abs/2504.01805 (eleven thresholds:
    Spatial-R1 Eq. 1 to 3, https://arxiv.org/abs/2504.01805v1). The modulus of the
    denominator is ours: a prediction of the other sign than its truth scores 0.

    Examples
    --------
    >>> mean_relative_accuracy(8, 10)  # 20% off: passes 0.50 … 0.80
    0.7
    >>> mean_relative_accuracy(8, 10, thresholds=SPATIAL_R1_THRESHOLDS) == 7 / 11
    True
    """
    if not len(thresholds):
        raise SpacerError(
            "accuracy thresholds",
            kind="rewards.no-thresholds",
            got="none",
            expected="at least one",
        )
    error = _relative_error(prediction, truth)
    return sum(error <= 1 - theta + tolerance for theta in thresholds) / len(thresholds)


_CONFIDENCES = np.linspace(0.5, 0.95, 10)


def float_accuracy(value: float, truth: float) -> float:
    """Mean relative accuracy in plain floats, without a tolerance, as published code.

    A truth of 0, by which that code would divide, is met exactly or not at all.

    Examples
    --------
    >>> float_accuracy(8, 10)  # the error is a little more than 1 - 0.8
    0.6
    """
    if truth == 0:
        return float(value == 0)
    return float((abs(value - truth) / truth <= 1 - _CONFIDENCES).mean())


def relative_cost_score(prediction: float, truth: float) -> float:
    """max(0, 1 - |prediction - truth| / min(prediction, truth)); 0 where min ≤ 0.

    Half and double the truth both score 0. A number of 0 or less has no such cost and
    scores 0 even where it is right; so does a prediction that is not finite.

    Raises
    ------
    SpacerError
        If the truth is not finite.

    Source: vsGRPO §4.2, https://arxiv.org/abs/2504.00883, prints |Δ| / min, a cost.
    One minus it, clipped at 0, is ours.

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


def regression_score(prediction: float, truth: float) -> float:
    """1 - min(1, |prediction - truth| / |truth|).

    A truth of 0 needs an exact 0. A prediction that is not finite scores 0.

    Raises
    ------
    SpacerError
        If the truth is not finite.

    Source: SpaceR §4.1 ("relative distance"), after Video-R1,
    https://arxiv.org/abs/2503.21776.
    """
    return 1 - min(1.0, _relative_error(prediction, truth))


def _require_finite(truth: float) -> None:
    if not math.isfinite(truth):
        raise SpacerError(
            "true number",
            kind="rewards.true-number-not-finite",
            got=truth,
            expected="a finite number",
        )


def _relative_error(prediction: float, truth: float) -> float:
    _require_finite(truth)
    if not math.isfinite(prediction):
        return math.inf
    if truth == 0:
        return 0.0 if prediction == 0 else math.inf
    return abs(prediction - truth) / abs(truth)


def exact_match(prediction: str, truth: str) -> float:
    """1.0 if two texts are equal up to case, spaces and a final full stop, else 0.0.

    Source: SpaceR Eq. 2, https://arxiv.org/abs/2504.01805; vsGRPO §4.2 for answers
    without options. Equality up to case and spaces is ours.
    """
    return float(plain_text(prediction) == plain_text(truth))


def word_error_rate(prediction: str, reference: str) -> float:
    """Word edits from reference to prediction, divided by the reference's words.

    0 or more; above 1 where the prediction is longer than the reference.

    Raises
    ------
    SpacerError
        If the reference has no words.

    Source: SpaceR §4.1 (OCR reward), after Video-R1,
    https://arxiv.org/abs/2503.21776. Computed by jiwer.
    """
    if not reference.split():
        raise SpacerError(
            "reference text",
            kind="rewards.no-words",
            got="no words",
            expected="at least one",
        )
    rate = jiwer.wer(" ".join(reference.split()), " ".join(prediction.split()))
    return float(rate)


def rouge_f1(prediction: str, reference: str) -> float:
    """Mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L, with stemming.

    Source: SpaceR §4.1 (free-form reward), after Video-R1,
    https://arxiv.org/abs/2503.21776. Computed by rouge-score.
    """
    scores = _rouge_scorer().score(reference, prediction)
    return sum(part.fmeasure for part in scores.values()) / len(scores)


@functools.cache
def _rouge_scorer() -> Any:
    # Imported here: it loads nltk for two seconds, and only general data need it.
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    # Stemming takes most of the time, and words repeat.
    stemmer = scorer._tokenizer._stemmer
    stemmer.stem = functools.lru_cache(maxsize=65536)(stemmer.stem)
    return scorer
