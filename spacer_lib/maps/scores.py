"""How well a drawn map agrees with the true one: four scorers and hits.

Departures from SpaceR §4.2, Eq. 4: the pairing of cells, the scorers ``decay`` and
``aligned``, and a definition of the hit rate.
"""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from spacer_lib.errors import SpacerError, nearest
from spacer_lib.maps.grid import Cell
from spacer_lib.maps.text import normal_category
from spacer_lib.rows import CognitiveMap

DECAY_CELLS = 1.5
CHANCE_DRAWS = 192  # random maps that a chance level averages

SCORERS = ("released", "paper", "decay", "aligned")


def score(
    predicted: CognitiveMap,
    true: CognitiveMap,
    grid_size: int = 10,
    *,
    scorer: str = "released",
) -> float:
    """Agreement of a drawn map with the true one, in [0, 1].

    In each category, drawn and true cells are paired one to one. A pair at distance d
    earns w(d); the sum is divided by a number of cells. Categories are averaged,
    weighted by their true instances. A missing category counts 0. A category that is
    not in the room is ignored, except by ``aligned``.

    ========  =====================  =========================  ======================
    scorer    w(d)                   pairing                    divided by
    ========  =====================  =========================  ======================
    released  max(0, 1 - d / (M√2))  greedy, closest first      max(#drawn, #true)
    paper     max(0, 1 - d / (M√2))  greatest sum (Hungarian)   #true
    decay     exp(-d / 1.5 cells)    greatest sum (Hungarian)   max(#drawn, #true)
    aligned   exp(-(d / 1.5)² / 2)   greatest sum (Hungarian)   max(#drawn, #true)
    ========  =====================  =========================  ======================

    ``released`` breaks ties as its code does: of equally close pairs, the first drawn
    cell goes first, then the first true cell, in the order that the maps are written.
    The other scorers do not depend on that order.

    ``released`` and ``paper`` vary little: with all objects at the centre a map earns
    about 0.7. ``paper``, as printed, does not count surplus cells.

    ``aligned`` compares layouts in any frame and subtracts chance:

    - *frame*: the drawn map is turned by 0, 90, 180 and 270 degrees about the grid's
      centre, as a whole and without reflection. The best of the four agreements a
      counts.
    - *surplus*: each cell of a category that is not in the room adds one true instance
      of worth 0 to the average. Surplus cells then never pay: the expected a does not
      fall if cells of a category are dropped at random down to its true count.
    - *chance*: the score is (a - c) / (1 - c), at least 0, where c is the room's
      ``chance_level``. A perfect map scores 1, a constant map 0, a random map 0.03 on
      average.

    With other shapes of w(d), subtracting chance separates maps less (means over 60
    furnished rooms). With the line of ``released``, c is 0.73: an exact map of half the
    objects scores 0.00 (``aligned`` 0.34). If a quarter of the objects is missing and
    as many foreign ones are drawn, a map with an error of ±1 cell beats one with ±2 in
    50% of the draws (``aligned`` 99%; with the peak of ``decay`` 94%). With that peak
    an error of ±1 cell alone leaves 0.44 (``aligned`` 0.71).

    Parameters
    ----------
    predicted, true : dict
        ``{category: [(x_col, y_row), …]}``; names are normalised.
    grid_size : int
        M.
    scorer : str
        One of ``SCORERS``.

    Raises
    ------
    SpacerError
        If there is no such scorer, or the true map has no instances.

    Source: SpaceR Eq. 4 (``paper``); SpaceR's released reward (``released``). ``decay``
    and ``aligned`` are ours; ``decay`` is steep near the truth.
    """
    if scorer not in SCORERS:
        raise SpacerError(
            "map scorer",
            kind="maps.no-scorer",
            got=scorer,
            expected=", ".join(SCORERS),
            remedy=nearest(scorer, SCORERS),
        )
    in_order = scorer == "released"  # as its code breaks ties
    seen, there = _joined(predicted, in_order), _joined(true, in_order)
    count = _require_instances(there)
    if scorer == "aligned":
        chance = chance_level(there, grid_size).level
        agreement = max(_agreements(seen, there, grid_size))
        above = (agreement - chance) / (1 - chance)
        return float(min(above, 1.0)) if above > 1e-9 else 0.0  # 1e-9: rounding
    total = 0.0
    for category, spots in there.items():
        drawn = seen.get(category, [])
        if not drawn or not spots:
            continue
        if len(drawn) == len(spots) == 1:  # most categories: nothing to pair
            earned = float(_worth(math.dist(drawn[0], spots[0]), scorer, grid_size))
        else:
            distance = _distances(drawn, spots)
            worth = _worth(distance, scorer, grid_size)
            if scorer == "released":
                earned = _greedy_sum(distance, worth)
            else:
                earned = float(best_sum(worth))
        size = len(spots) if scorer == "paper" else max(len(drawn), len(spots))
        total += len(spots) * earned / size
    return float(min(max(total / count, 0.0), 1.0))


def best_turn(predicted: CognitiveMap, true: CognitiveMap, grid_size: int = 10) -> int:
    """Quarter turns that bring the true map into the frame of the drawn one.

    The frame is the one that ``aligned`` takes; of equal ones the first. 0 for a map
    without cells.
    """
    agreements = _agreements(_joined(predicted), _joined(true), grid_size)
    return (4 - int(np.argmax(agreements > agreements.max() - 1e-9))) % 4


def _worth(distance: npt.ArrayLike, scorer: str, grid_size: int) -> np.ndarray:
    """Worth of pairs at distances in cells, same shape."""
    distance = np.asarray(distance)
    if scorer == "decay":
        return np.exp(-distance / DECAY_CELLS)
    return np.maximum(0.0, 1 - distance / (grid_size * math.sqrt(2)))


def hits(
    predicted: CognitiveMap, true: CognitiveMap, radius_cells: float = 1.5
) -> tuple[int, int]:
    """Hits of a map, and its true instances. Their quotient is the hit rate.

    A true instance is a hit if it is paired with a drawn cell of its category within
    ``radius_cells``. Each cell serves one instance; of all pairings the one with most
    hits counts. On whole cells, 1.5 means the cell itself or one of its eight
    neighbours. Surplus cells cost nothing: report a map score too.

    Parameters
    ----------
    predicted, true : dict
        ``{category: [(x_col, y_row), …]}``; names are normalised.
    radius_cells : float

    Returns
    -------
    hit, total : int
        Hits; true instances.

    Raises
    ------
    SpacerError
        If the true map has no instances.

    Source: ours. SpaceR's Table 5 reports a map accuracy without defining it.

    Examples
    --------
    >>> hits({"chair": [(2, 2)]}, {"chair": [(1, 1), (9, 9)], "lamp": [(0, 4)]})
    (1, 3)
    """
    seen, there = _joined(predicted), _joined(true)
    hit = 0
    for category, spots in there.items():
        drawn = seen.get(category, [])
        if len(drawn) == len(spots) == 1:
            hit += math.dist(drawn[0], spots[0]) <= radius_cells
        elif drawn and spots:
            near = _distances(drawn, spots) <= radius_cells
            hit += int(best_sum(near.astype(int)))
    return hit, _require_instances(there)


@dataclass(frozen=True)
class Chance:
    """Agreement, in the best of four frames, of maps drawn without seeing the room.

    Attributes
    ----------
    random, random_error : float
        Of maps with the true counts and uniformly random cells: mean over
        ``CHANCE_DRAWS`` draws, and its standard error.
    constant : float
        Of the constant map that agrees best; exact.
    """

    random: float
    random_error: float
    constant: float

    @property
    def level(self) -> float:
        """The greater of the two that are below 1; 0 if none is.

        ``constant`` is 1 if the true map is a constant map itself.
        """
        values = (self.random, self.constant)
        return max((v for v in values if v < 1 - 1e-9), default=0.0)


def chance_level(true: CognitiveMap, grid_size: int = 10) -> Chance:
    """The chance level of a room, which the scorer ``aligned`` subtracts.

    ``constant`` has a closed form. ``random`` is sampled from a fixed seed, once per
    layout and process, with the same result for a layout turned or mirrored.
    ``random_error`` is about 0.004 in a room of ten objects, which is 0.006 of the
    score; it has no effect where ``constant`` is the greater of the two.

    Parameters
    ----------
    true : dict
        ``{category: [(x_col, y_row), …]}``.
    grid_size : int
        M.

    Returns
    -------
    Chance

    Raises
    ------
    SpacerError
        If the true map has no instances.

    Source: ours.
    """
    there = _joined(true)
    _require_instances(there)
    # A layout has no names: the cells of each category, sorted.
    layout = tuple(sorted(tuple(spots) for spots in there.values() if spots))
    return _chance(layout, grid_size)


@lru_cache(maxsize=2048)
def _chance(layout: tuple[tuple[Cell, ...], ...], grid_size: int) -> Chance:
    """``chance_level`` of a layout; its eight symmetric forms share their draws."""
    views = [_frames(spots, grid_size) for spots in layout]  # (4, k, 2) each
    forms = [np.concatenate([v, v[..., ::-1]]).tolist() for v in views]
    first = min(sorted(map(sorted, form)) for form in zip(*forms, strict=True))
    every_cell = np.indices((grid_size, grid_size)).reshape(2, -1).T  # (M², 2)
    rng = np.random.default_rng(0)
    count = sum(map(len, layout))
    agreement = np.zeros((4, CHANCE_DRAWS))
    constant = np.zeros(grid_size**2)
    for spots in first:
        k = len(spots)
        worth = _bell(_distances(_frames(every_cell, grid_size), spots))  # (4, M², k)
        drawn = rng.integers(grid_size**2, size=(CHANCE_DRAWS, k))
        agreement = agreement + best_sum(worth[:, drawn]) / count  # (4, draws)
        constant = constant + worth[0].sum(axis=1) / count  # (M²,)
    best = agreement.max(axis=0)
    error = best.std(ddof=1) / math.sqrt(CHANCE_DRAWS)
    return Chance(float(best.mean()), float(error), float(constant.max()))


def _agreements(
    predicted: dict[str, list[Cell]], true: dict[str, list[Cell]], grid_size: int
) -> np.ndarray:
    """(4,) agreements of joined maps, the drawn one turned by 0, 90, 180, 270 deg."""
    drawn = {name: predicted.get(name, []) for name in true}
    seen = _frames([cell for spots in drawn.values() for cell in spots], grid_size)
    there = [cell for spots in true.values() for cell in spots]
    worth = _bell(_distances(seen, there))  # (4, m, n)
    total, row, column = np.zeros(4), 0, 0
    surplus = sum(len(spots) for name, spots in predicted.items() if not true.get(name))
    for name, spots in true.items():
        rows, columns = len(drawn[name]), len(spots)
        if rows and columns:
            pairs = worth[:, row : row + rows, column : column + columns]
            total += columns * best_sum(pairs) / max(rows, columns)
        row, column = row + rows, column + columns
    return total / (len(there) + surplus)


def _frames(spots: npt.ArrayLike, grid_size: int) -> np.ndarray:
    """(4, n, 2): the cells (n, 2) turned by 0, 90, 180, 270 degrees from +x to +y."""
    x, y = np.reshape(spots, (-1, 2)).T
    last = grid_size - 1
    frames = [x, y], [last - y, x], [last - x, last - y], [y, last - x]
    return np.array(frames).swapaxes(1, 2)


def _joined(cells: CognitiveMap, in_order: bool = False) -> dict[str, list[Cell]]:
    """The map with normalised names, and sorted cells unless their order counts."""
    joined: dict[str, list[Cell]] = {}
    for name, spots in cells.items():
        joined.setdefault(normal_category(name), []).extend((x, y) for x, y in spots)
    if in_order:
        return joined
    return {name: sorted(spots) for name, spots in joined.items()}


def _require_instances(true: CognitiveMap) -> int:
    count = sum(len(spots) for spots in true.values())
    if not count:
        raise SpacerError(
            "true map",
            kind="maps.no-instances",
            got="no instances",
            expected="at least one",
            remedy="leave the map out for rooms without objects",
        )
    return count


def _distances(drawn: npt.ArrayLike, spots: npt.ArrayLike) -> np.ndarray:
    """(…, n, k) distances in cells between (…, n, 2) and (k, 2) cells.

    Equal distances of whole cells are equal numbers: roots of the same integer.
    """
    offset = np.asarray(drawn)[..., None, :] - np.asarray(spots)
    return np.sqrt((offset**2).sum(axis=-1))


def _bell(distance: np.ndarray) -> np.ndarray:
    """Worth of a pair in ``aligned``: 0.80 at one cell, 0.41 at two, 0.14 at three."""
    return np.exp(-((distance / DECAY_CELLS) ** 2) / 2)


@lru_cache(maxsize=64)
def _pairings(n: int, k: int) -> np.ndarray:
    """(p, n): all ways to give n rows different ones of k columns."""
    return np.array(list(itertools.permutations(range(k), n)))


def best_sum(worth: np.ndarray) -> np.ndarray:
    """(…,) greatest sum of (…, n, k) ``worth`` over one-to-one pairings."""
    n, k = worth.shape[-2:]
    if n > k:
        return best_sum(worth.swapaxes(-1, -2))
    if n == 1:
        return worth.max(axis=(-1, -2))
    if math.perm(k, n) <= 24:  # comparing few pairings is faster than assignment
        return worth[..., range(n), _pairings(n, k)].sum(axis=-1).max(axis=-1)
    tables = worth.reshape(-1, n, k)
    sums = [t[linear_sum_assignment(t, maximize=True)].sum() for t in tables]
    return np.reshape(sums, worth.shape[:-2])


def _greedy_sum(distance: np.ndarray, worth: np.ndarray) -> float:
    """Sum of (n, k) ``worth`` over pairs, closest first, each row and column once."""
    rows, columns = np.unravel_index(
        np.argsort(distance, axis=None, kind="stable"), distance.shape
    )
    used_rows: set[int] = set()
    used_columns: set[int] = set()
    total = 0.0
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            total += worth[row, column]
            if min(distance.shape) == len(used_rows):
                break
    return total
