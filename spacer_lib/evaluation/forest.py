"""A small forest of extremely random trees, in numpy.

Each tree splits at features and borders that are drawn at random, and keeps the best of
a few draws. A tree is grown level by level over all its nodes at once. The outputs are
many; each tree splits on a random mixture of them.

Source: Geurts, Ernst and Wehenkel, *Extremely randomized trees*, Machine Learning 63
(2006).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Growth:
    """How trees grow.

    Attributes
    ----------
    trees : int
    depth : int
        Levels of splits.
    draws : int
        Splits tried at each node.
    least : int
        Rows in a leaf, at least.
    """

    trees: int = 20
    depth: int = 6
    draws: int = 8
    least: int = 5


def forest_means(
    X: Array, Y: Array, asked: Array, rng: np.random.Generator, growth: Growth
) -> Array:
    """Mean outputs of the training rows that share a leaf, over all trees.

    Parameters
    ----------
    X : (n, f) float64
        Features of training rows, finite.
    Y : (n, k) float64
        Their outputs.
    asked : (m, f) float64
        Features of the rows to be answered.
    rng : np.random.Generator
    growth : Growth

    Returns
    -------
    (m, k) float64
    """
    total = np.zeros((len(asked), Y.shape[1]))
    for _ in range(growth.trees):
        mixed = Y @ rng.normal(size=Y.shape[1])
        known, new = _leaves(X, mixed - mixed.mean(), asked, rng, growth)
        sums = np.zeros((2**growth.depth, Y.shape[1]))
        np.add.at(sums, known, Y)
        # Each leaf that a row can reach has training rows: a split leaves some on
        # both sides.
        total += sums[new] / np.bincount(known, minlength=len(sums))[new, None]
    return total / growth.trees


def _leaves(
    X: Array, y: Array, asked: Array, rng: np.random.Generator, growth: Growth
) -> tuple[Whole, Whole]:
    """The leaf of each training row, and of each row that is asked."""
    known = np.zeros(len(X), np.int64)
    new = np.zeros(len(asked), np.int64)
    for level in range(growth.depth):
        feature, border = _best_splits(X, y, known, 2**level, rng, growth)
        known, new = (
            2 * node + (rows[np.arange(len(rows)), feature[node]] > border[node])
            for rows, node in ((X, known), (asked, new))
        )
    return known, new


def _best_splits(
    X: Array,
    y: Array,
    node: Whole,
    nodes: int,
    rng: np.random.Generator,
    growth: Growth,
) -> tuple[Whole, Array]:
    """Feature and border of each node; the border is infinite where none splits it."""
    shape = growth.draws, nodes
    sizes = np.bincount(node, minlength=nodes)
    place = sizes.cumsum() - sizes + (rng.random(shape) * sizes).astype(np.int64)
    # A row of each node; of an empty one, any.
    some = node.argsort(kind="stable")[np.minimum(place, len(X) - 1)]
    features = rng.integers(X.shape[1], size=shape)
    borders = X[some, features]
    draws = np.arange(growth.draws)[:, None]
    right = X[np.arange(len(X)), features[:, node]] > borders[:, node]
    side = 2 * (draws * nodes + node) + right
    count, total = (
        np.bincount(side.ravel(), weights, 2 * growth.draws * nodes).reshape(*shape, 2)
        for weights in (None, np.broadcast_to(y, side.shape).ravel())
    )
    gain = (total**2 / np.maximum(count, 1)).sum(axis=2)
    gain[count.min(axis=2) < growth.least] = -np.inf
    best = gain.argmax(axis=0), np.arange(nodes)
    return features[best], np.where(np.isfinite(gain[best]), borders[best], np.inf)
