"""Confidence intervals that respect what questions share.

Reads scores of single questions, or their differences between two models or
conditions, with the room or video of each.

Source: the cluster bootstrap of Field and Welsh, "Bootstrapping clustered data",
J. R. Statist. Soc. B 69 (2007), 369-390.
"""

import math
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from spacer_lib.errors import SpacerError


def bootstrap_interval(
    values: npt.ArrayLike,
    clusters: Sequence[Hashable],
    rng: np.random.Generator,
    n: int = 2000,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Mean of values with the percentile interval of a clustered bootstrap.

    Whole clusters are drawn with replacement, since questions about one room depend
    on each other. For a comparison pass paired differences, after minus before of the
    same question: that removes the difficulty that both share.

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
    # (n, clusters): how often each cluster is drawn
    drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=n)
    means = (drawn @ sums) / (drawn @ sizes)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return mean, float(low), float(high)
