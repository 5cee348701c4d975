"""Relations between all pairs of categories in a map, in any frame.

A map is a graph: its nodes are the categories, each at the mean of its cells, and each
edge is the offset from one to the other. Turning or moving a map as a whole changes no
relation between its objects, so two graphs are compared after the best turn.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from spacer_lib.maps.grid import Cell
from spacer_lib.maps.scores import CHANCE_DRAWS, DECAY_CELLS
from spacer_lib.maps.text import normal_category
from spacer_lib.rows import CognitiveMap

LEAST_CATEGORIES = 3  # two points agree with any two at the same distance


def relation_score(
    predicted: CognitiveMap, true: CognitiveMap, grid_size: int = 10
) -> float | None:
    """Agreement of the relations of a drawn map with the true ones, in [0, 1].

    u and v are the true and the drawn offset of an edge in cells, as complex numbers.
    The drawn graph is turned by the angle of Σ v̄u, any angle, the turn that brings the
    offsets nearest to the true ones (least squares). An edge then earns

        exp(-(|v - u| / (1.5 √2))² / 2) * n₁ * n₂,

    where n is the smaller number of the category's cells over the greater, 0 if it is
    not drawn. The mean a over all edges is corrected for chance, (a - c) / (1 - c), at
    least 0. Each drawn category that is not in the room adds its edges, of worth 0. c
    is the greater of two means: of random cells, over ``CHANCE_DRAWS`` draws, and of a
    constant map.

    It does not change if the drawn map is turned by any angle or moved. A mirrored map
    has other relations. Against ``maps.scores.score`` with ``aligned``: no corner of
    the grid counts, and one object in a wrong place costs all its relations.

    Parameters
    ----------
    predicted, true : dict
        ``{category: [(x_col, y_row), …]}``; names are normalised.
    grid_size : int
        M, of random maps.

    Returns
    -------
    float or None
        ``None`` if the true map has fewer than three categories.

    Source: ours, after the relation graphs of https://arxiv.org/abs/2510.10976.

    Examples
    --------
    >>> room = {"bed": [(1, 1)], "lamp": [(8, 1)], "sofa": [(4, 9)]}
    >>> relation_score({"bed": [(1, 8)], "lamp": [(1, 1)], "sofa": [(9, 5)]}, room)
    1.0
    >>> relation_score(dict.fromkeys(room, [(4, 4)]), room)
    0.0
    """
    seen, there = _cells(predicted), _cells(true)
    names = sorted(there)  # by name: the chance level is that of the turned map too
    if len(names) < LEAST_CATEGORIES:
        return None
    known = [name for name in names if name in seen]
    drawn = np.array([_mean(seen[n]) if n in seen else 0 for n in names], complex)
    share = np.zeros(len(names))
    for name in known:
        counts = sorted((len(seen[name]), len(there[name])))
        share[names.index(name)] = counts[0] / counts[1]
    mean = _agreement(drawn, _places(there, names), share)
    size = len(names) + len(seen) - len(known)
    mean *= math.comb(len(names), 2) / math.comb(size, 2)
    chance = _chance(tuple(tuple(there[name]) for name in names), grid_size)
    above = (float(mean) - chance) / (1 - chance)
    return min(above, 1.0) if above > 1e-9 else 0.0  # 1e-9: rounding


def _agreement(
    drawn: npt.NDArray[np.complex128],
    there: npt.NDArray[np.complex128],
    share: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """(…,) mean worth of the edges of (…, n) drawn and (n,) true places."""
    first, second = np.triu_indices(len(there), 1)
    offset = there[second] - there[first]
    seen = drawn[..., second] - drawn[..., first]
    weight = share[first] * share[second]
    turn = (weight * seen.conj() * offset).sum(axis=-1, keepdims=True)
    size = np.abs(turn)
    turn = np.where(size > 1e-9, turn / np.maximum(size, 1e-9), 1)
    error = np.abs(turn * seen - offset) / (DECAY_CELLS * math.sqrt(2))
    return (weight * np.exp(-(error**2) / 2)).mean(axis=-1)


@lru_cache(maxsize=2048)
def _chance(layout: tuple[tuple[Cell, ...], ...], grid_size: int) -> float:
    """The chance level of a layout; 0 if no blind map is below 1."""
    there = np.array([_mean(cells) for cells in layout])
    every = np.ones(len(layout))
    rng = np.random.default_rng(0)
    drawn = np.empty((CHANCE_DRAWS, len(layout)), complex)
    for column, cells in enumerate(layout):
        spots = rng.integers(grid_size, size=(CHANCE_DRAWS, len(cells), 2)).mean(axis=1)
        drawn[:, column] = spots[:, 0] + 1j * spots[:, 1]
    random = float(_agreement(drawn, there, every).mean())
    constant = float(_agreement(np.zeros(len(layout), complex), there, every))
    return max((c for c in (random, constant) if c < 1 - 1e-9), default=0.0)


def _cells(map_: CognitiveMap) -> dict[str, list[Cell]]:
    joined: dict[str, list[Cell]] = {}
    for name, spots in map_.items():
        if spots:
            joined.setdefault(normal_category(name), []).extend(
                (x, y) for x, y in spots
            )
    return joined


def _places(
    cells: dict[str, list[Cell]], names: Sequence[str]
) -> npt.NDArray[np.complex128]:
    return np.array([_mean(cells[name]) for name in names])


def _mean(cells: Sequence[Cell]) -> complex:
    x, y = np.mean(cells, axis=0)
    return complex(x, y)
