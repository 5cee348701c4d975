"""Exact distances of oriented boxes, for many pairs at once.

Two boxes that do not overlap are closest at a corner of one, or where two edges cross:
a closest face or parallel edge of the other always has such a point too. So the least
distance is that of 16 corners to the other box and of 12 x 12 pairs of edges. Boxes
overlap if none of the 15 axes (three of each box, nine cross products of edges)
separates them.

All sums are written out: matrix products add in an order that depends on the processor,
and so do their last digits.

Source: the separating axes of Gottschalk, Lin and Manocha, "OBBTree" (1996),
https://doi.org/10.1145/237170.237244.
"""

import itertools

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# Squared sine of the angle below which two edges count as parallel: less loses digits,
# more would leave out crossings (an error of 3e-8 m for an edge of one metre).
PARALLEL_SINE_SQUARED = 1e-15
PAIRS_AT_ONCE = 64  # they fit into the processor's cache
_NEXT, _LAST = [1, 2, 0], [2, 0, 1]
_CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))  # (8, 3)
# (3, 4, 3): in half edges, the middles of the four edges along each axis.
_EDGES = np.array(
    [
        [
            np.insert(signs, axis, 0.0)
            for signs in itertools.product((-1.0, 1.0), repeat=2)
        ]
        for axis in range(3)
    ]
)


def pair_distances_m(
    centers_m: tuple[Array, Array],
    lengths_m: tuple[Array, Array],
    axes: tuple[Array, Array],
) -> Array:
    """Distance of the closest points of each pair of boxes; 0 where they overlap.

    Parameters
    ----------
    centers_m : two (n, 3) arrays
        Of the first boxes, and of the second ones.
    lengths_m : two (n, 3) arrays
        Full edge lengths; 0 makes a flat box.
    axes : two (n, 3, 3) arrays
        Rows are unit axes.

    Returns
    -------
    (n,) float64
        Metres; within 1e-7 of the true distance for boxes of a room's size.
    """
    distances = [np.empty(0)]
    for start in range(0, len(centers_m[0]), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        offset = (centers_m[1] - centers_m[0])[part]
        half = lengths_m[0][part] / 2, lengths_m[1][part] / 2
        first, second = axes[0][part], axes[1][part]
        turn = sum_of_three(first[:, :, None] * second[:, None])  # cosines, (n, 3, 3)
        there = sum_of_three(first * offset[:, None])  # second centre, first's frame
        back = -sum_of_three(second * offset[:, None])  # first centre, second's frame
        squared = np.minimum(
            _from_corners(there, half, turn),
            _from_corners(back, half[::-1], turn.transpose(0, 2, 1)),
        )
        squared = np.minimum(squared, _between_edges(there, half, turn))
        apart = _separated(there, back, half, turn)
        distances.append(np.where(apart, np.sqrt(squared), 0.0))
    return np.concatenate(distances)


def sum_of_three(terms: Array) -> Array:
    """Sum over the last axis, of length 3, from the left."""
    return (terms[..., 0] + terms[..., 1]) + terms[..., 2]


def _placed(center: Array, half: Array, turn: Array, signs: Array) -> Array:
    """Points of the second box in the first one's frame.

    ``signs`` (..., 3) are in half edges; returns (n, ..., 3).
    """
    grown = (slice(None), *[None] * (signs.ndim - 1))
    local = signs * half[grown]
    return center[grown] + sum_of_three(local[..., None, :] * turn[grown])


def _from_corners(center: Array, half: tuple[Array, Array], turn: Array) -> Array:
    """(n,) least squared distance of the second boxes' corners to the first boxes."""
    corners = _placed(center, half[1], turn, _CORNERS)
    outside = np.maximum(np.abs(corners) - half[0][:, None], 0)
    return sum_of_three(outside * outside).min(axis=1)


def _between_edges(center: Array, half: tuple[Array, Array], turn: Array) -> Array:
    """(n,) least squared distance of an edge of the first and one of the second boxes.

    Axes of the arrays: pair, direction i and j of the two edges, which of four edges
    each. Positions ``s`` and ``t`` on the edges are solved for the lines, and then kept
    inside the edges, which at least gives the distance of two points of the boxes.
    """
    mine = (_EDGES * half[0][:, None, None])[:, :, None, :, None]  # (n, 3, 1, 4, 1, 3)
    theirs = _placed(center, half[1], turn, _EDGES)[:, None, :, None]
    between = theirs - mine
    cosine = turn[..., None, None]
    along_i = np.stack([between[:, i, ..., i] for i in range(3)], axis=1)
    directions = turn.transpose(0, 2, 1)[
        :, None, :, None, None
    ]  # of the second's edges
    along_j = sum_of_three(between * directions)
    sine_squared = (turn[:, _NEXT] * turn[:, _NEXT] + turn[:, _LAST] * turn[:, _LAST])[
        ..., None, None
    ]
    crossing = sine_squared > PARALLEL_SINE_SQUARED
    reach_s = half[0][:, :, None, None, None]
    reach_t = half[1][:, None, :, None, None]
    s = (along_i - cosine * along_j) / np.where(crossing, sine_squared, np.inf)
    s = np.clip(s, -reach_s, reach_s)
    t = np.clip(cosine * s - along_j, -reach_t, reach_t)
    s = np.clip(cosine * t + along_i, -reach_s, reach_s)
    gap = between + t[..., None] * directions
    for i in range(3):
        gap[:, i, ..., i] -= s[:, i]
    return sum_of_three(gap * gap).reshape(len(center), -1).min(axis=1)


def _separated(
    there: Array, back: Array, half: tuple[Array, Array], turn: Array
) -> npt.NDArray[np.bool_]:
    """(n,) whether one of the 15 axes separates the boxes."""
    size = np.abs(turn)
    mine, theirs = half
    apart = np.abs(there) > mine + sum_of_three(size * theirs[:, None])
    apart |= np.abs(back) > theirs + sum_of_three(
        size.transpose(0, 2, 1) * mine[:, None]
    )
    shift = (
        there[:, _LAST, None] * turn[:, _NEXT] - there[:, _NEXT, None] * turn[:, _LAST]
    )
    reach = (
        mine[:, _NEXT, None] * size[:, _LAST] + mine[:, _LAST, None] * size[:, _NEXT]
    )
    reach = reach + (
        theirs[:, None, _NEXT] * size[:, :, _LAST]
        + theirs[:, None, _LAST] * size[:, :, _NEXT]
    )
    sine_squared = turn[:, _NEXT] * turn[:, _NEXT] + turn[:, _LAST] * turn[:, _LAST]
    crossing = sine_squared > PARALLEL_SINE_SQUARED
    crossed = crossing & (np.abs(shift) > reach)
    return np.asarray(apart.any(axis=1) | crossed.any(axis=(1, 2)))
