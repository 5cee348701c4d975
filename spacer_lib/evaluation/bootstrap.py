"""Confidence intervals that respect what questions share.

Reads scores of single questions, or their differences between two models or
conditions, with the room or video of each.

Source: the cluster bootstrap of Field and Welsh, "Bootstrapping clustered data",
J. R. Statist. Soc. B 69 (2007), 369-390. For few clusters: T. Hesterberg, "What
teachers should know about the bootstrap", The American Statistician 69 (2015), 371-386.
``python -m benches.intervals`` measures how often each form contains the true mean.
"""

import math
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

from spacer_lib.errors import SpacerError

# Tables and plots mark intervals of fewer clusters: they cover less than they say.
FEW_CLUSTERS = 20
FEW_MARK = "†"
_PERCENTILE_FROM = 60  # clusters; the percentile form is too narrow below
_T_BELOW = 5  # so few clusters that their resamples hardly differ


def bootstrap_interval(
    values: npt.ArrayLike,
    clusters: Sequence[Hashable],
    rng: np.random.Generator,
    n: int = 2000,
    level: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> tuple[float, float, float]:
    """Mean of values with the interval of a clustered bootstrap.

    Whole clusters are drawn with replacement, since questions about one room depend
    on each other. For a comparison pass paired differences, after minus before of the
    same question: that removes the difficulty that both share.

    The form depends on the number of clusters k. From 60: the percentiles of the
    resampled means. Below, the percentiles are moved outwards by Student's t with k - 1
    degrees and by sqrt(k / (k - 1)) (Hesterberg's expanded form). Below 5: mean ± t
    standard errors.

    Parameters
    ----------
    values : (k,) array of float
    clusters : (k,) sequence
        The cluster (physical space or video) of each value.
    rng : numpy.random.Generator
    n : int
        Resamples.
    level : float
        Coverage, in (0, 1).
    bounds : (float, float)
        Between which a mean can lie at all; the interval is cut there.

    Returns
    -------
    mean, low, high : float
        ``low`` and ``high`` are NaN for a single cluster.

    Raises
    ------
    SpacerError
        If there is no value, or the lengths differ.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or len(values) != len(clusters):
        raise SpacerError(
            "values to average",
            kind="evaluation.uneven-clusters",
            got=f"{values.shape} values, {len(clusters)} clusters",
            expected="one cluster for each value, and at least one value",
        )
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    sizes = np.bincount(index)
    sums = np.bincount(index, weights=values)
    mean = float(values.mean())
    if len(sizes) == 1:
        return mean, math.nan, math.nan
    tail = (1 - level) / 2
    k, wide = len(sizes), stdtrit(len(sizes) - 1, (1 + level) / 2)
    if k < _T_BELOW:
        spread = np.square(sums - mean * sizes).sum() * k / (k - 1)
        half = float(wide * math.sqrt(spread) / sizes.sum())
        return mean, max(mean - half, bounds[0]), min(mean + half, bounds[1])
    if k < _PERCENTILE_FROM:
        tail = ndtr(-math.sqrt(k / (k - 1)) * wide)
    # (n, clusters): how often each cluster is drawn
    drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=n)
    means = (drawn @ sums) / (drawn @ sizes)
    low, high = np.quantile(means, [tail, 1 - tail])
    return mean, max(float(low), bounds[0]), min(float(high), bounds[1])
