"""How well a drawn map agrees with the true one: four scorers, hits, chance."""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import linear_sum_assignment

from spacer_lib.errors import SpacerError
from spacer_lib.maps.grid import turned
from spacer_lib.maps.text import normal_category

DECAY_CELLS = 1.5
CHANCE_DRAWS = 192  # random maps behind a chance level


SCORERS = ("released", "paper", "decay", "aligned")


def score(predicted, true, grid_size=10, *, scorer="released"):
    """How well a map agrees with the true one, in [0, 1].

    Per category, predicted and true cells are paired one to one; a pair at distance d
    is worth w(d); their sum is divided by a number of cells; categories are averaged
    with weights = number of true instances. A category that is missing counts 0, one
    that is not in the room is ignored (but see ``aligned``).

    ========  =====================  =========================  ======================
    scorer    w(d)                   pairing                    divided by
    ========  =====================  =========================  ======================
    released  max(0, 1 - d / (M√2))  greedy, closest first      max(#predicted, #true)
    paper     max(0, 1 - d / (M√2))  greatest sum (Hungarian)   #true
    decay     exp(-d / 1.5 cells)    greatest sum (Hungarian)   max(#predicted, #true)
    aligned   exp(-(d / 1.5)² / 2)   greatest sum (Hungarian)   max(#predicted, #true)
    ========  =====================  =========================  ======================

    ``released`` and ``paper`` are nearly flat (everything at the centre earns about
    0.7) and ``paper``, as printed, has no price on surplus cells.

    ``aligned`` asks for the layout and not for the frame, and pays nothing to a map
    that does not look:

    - *frame*: the prediction is turned by 0, 90, 180 and 270 degrees about the
      grid's centre and the best of the four agreements a counts (one turn for the
      whole map, never a reflection);
    - *surplus*: every cell of a category that is not in the room adds one true
      instance, worth 0, to the average. So no surplus pays: dropping cells of a
      category at random down to its true count never lowers the expected a;
    - *chance*: the score is (a - c) / (1 - c), clipped below at 0, with c the
      room's ``chance_level``. A perfect map scores 1, a heap in any cell 0, a random
      map 0.03 on average (a little below 0 but for the clipping).

    Its worth is a bell, because both other shapes separate less once chance is
    subtracted (means over 60 furnished rooms). With the published line c is 0.73, so
    that an exact map of half the objects scores 0.00 (bell 0.34), and so do messy
    maps: with a quarter of the objects missing and as many foreign ones, ±1 cell of
    jitter beats ±2 no more often than a coin (bell 99%, ``decay``'s peak 94%). With
    the peak, ±1 cell alone already costs more than half of the score (0.44 is left,
    bell 0.71).

    Parameters
    ----------
    predicted, true : dict
        ``{category: [(x_col, y_row), …]}``; names are compared normalised.
    grid_size : int
        M.
    scorer : str
        One of ``SCORERS``.

    Raises
    ------
    SpacerError
        For an unknown scorer, or a true map without instances.

    Source: SpaceR Eq. 4 (``paper``); its released reward (``released``); ``decay``
    (steep near the truth, where the published ones hardly change) and ``aligned`` are
    ours.
    """
    if scorer not in SCORERS:
        raise SpacerError("map scorer", got=scorer, expected=", ".join(SCORERS))
    predicted, true = _joined(predicted), _joined(true)
    count = _require_instances(true)
    if scorer == "aligned":
        chance = _chance(_layout(true), grid_size).level
        agreement = max(_agreements(predicted, true, grid_size))
        above = (agreement - chance) / (1 - chance)
        return float(min(above, 1.0)) if above > 1e-9 else 0.0  # not rounding's work
    total = 0.0
    for category, spots in true.items():
        drawn = predicted.get(category, [])
        if not drawn or not spots:
            continue
        alone = len(drawn) == len(spots) == 1  # most categories: nothing to pair
        distance = math.dist(*drawn, *spots) if alone else _distances(drawn, spots)
        if scorer == "decay":
            worth = np.exp(-distance / DECAY_CELLS)
        else:
            worth = np.maximum(0.0, 1 - distance / (grid_size * math.sqrt(2)))
        if alone:
            earned = worth
        elif scorer == "released":
            earned = _greedy_sum(distance, worth)
        else:
            earned = _best_sum(worth)
        size = len(spots) if scorer == "paper" else max(len(drawn), len(spots))
        total += len(spots) * earned / size
    return float(min(max(total / count, 0.0), 1.0))


def scores(predicted, true, grid_size=10):
    """Every scorer and both map accuracies side by side, for the log.

    Returns
    -------
    dict
        ``{scorer: score, …, "map_accuracy": share, "map_accuracy_best_frame": share}``
    """
    every = {name: score(predicted, true, grid_size, scorer=name) for name in SCORERS}
    every["map_accuracy"] = map_accuracy(predicted, true, grid_size)
    every["map_accuracy_best_frame"] = map_accuracy(
        predicted, true, grid_size, best_frame=True
    )
    return every


def map_accuracy(predicted, true, grid_size=10, *, best_frame=False):
    """Share of the true instances that a map has within one cell, in [0, 1].

    "Within one cell" is the cell itself or one of its eight neighbours (Chebyshev
    distance 1, which on whole cells is the same as Euclidean distance up to 1.5).
    Pairing as in ``hits``, which gives the share as a fraction.

    Parameters
    ----------
    predicted, true : dict
        ``{category: [(x_col, y_row), …]}``; names are compared normalised.
    grid_size : int
        M; matters only where the map is turned.
    best_frame : bool
        Whether to take the best of the map's four right-angle frames.

    Source: ours. SpaceR's Table 5 reports a map accuracy without defining it.
    """
    turns = range(4 if best_frame else 1)
    found = [hits(turned(predicted, turn, grid_size), true) for turn in turns]
    return max(hit / total for hit, total in found)


def hits(predicted, true, radius_cells=1.5):
    """Map accuracy as a fraction: instances found, instances there.

    A true instance is found if it can be paired with a predicted cell of its category
    within ``radius_cells``; each cell serves one instance, and the pairing is the one
    that finds most. Surplus cells cost nothing here: read it beside a map score.

    Returns
    -------
    hit, total : int
        True instances found, true instances.

    Raises
    ------
    SpacerError
        If the true map has no instances.
    """
    predicted, true = _joined(predicted), _joined(true)
    hit = 0
    for category, spots in true.items():
        drawn = predicted.get(category, [])
        if len(drawn) == len(spots) == 1:
            hit += math.dist(*drawn, *spots) <= radius_cells
        elif drawn and spots:
            near = _distances(drawn, spots) <= radius_cells
            hit += int(_best_sum(near.astype(int)))
    return hit, _require_instances(true)


@dataclass(frozen=True)
class Chance:
    """Agreement (best of four frames) that maps without knowledge have with a room.

    Attributes
    ----------
    random, random_error : float
        Of a map with the true counts and uniformly random cells: mean over
        ``CHANCE_DRAWS`` draws, and its standard error.
    heap : float
        Of all objects in one cell, for the cell where that agrees best; exact.
    """

    random: float
    random_error: float
    heap: float

    @property
    def level(self):
        """The greater of the two; one that is perfect (the truth is a heap) is void."""
        return max((v for v in (self.random, self.heap) if v < 1 - 1e-9), default=0.0)


def chance_level(true, grid_size=10):
    """The chance level of a room, as the scorer ``aligned`` subtracts it.

    ``heap`` is in closed form. The mean over random maps of the best of four optimal
    pairings has none that we know, so it is sampled: from a fixed seed, once per
    layout and process, and the same for a layout turned or mirrored.
    ``random_error`` is about 0.004 in a room of ten objects and moves the zero of a
    score by 0.006; where ``heap`` is the greater of the two, by nothing.

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
    true = _joined(true)
    _require_instances(true)
    return _chance(_layout(true), grid_size)


def _layout(true):
    """A joined map without its names, hashable: ((cell, …) per category, …), sorted."""
    return tuple(sorted(tuple(spots) for spots in true.values() if spots))


@lru_cache(maxsize=2048)
def _chance(layout, grid_size):
    """``chance_level`` of a layout; its eight symmetric forms share their draws."""
    views = [_frames(spots, grid_size) for spots in layout]  # (4, k, 2) each
    views = [np.concatenate([v, v[..., ::-1]]).tolist() for v in views]
    layout = min(sorted(map(sorted, form)) for form in zip(*views, strict=True))
    every_cell = np.indices((grid_size, grid_size)).reshape(2, -1).T  # (M², 2)
    rng = np.random.default_rng(0)
    count = sum(map(len, layout))
    agreement, heap = 0.0, 0.0
    for spots in layout:
        k = len(spots)
        worth = _bell(_distances(_frames(every_cell, grid_size), spots))  # (4, M², k)
        drawn = rng.integers(grid_size**2, size=(CHANCE_DRAWS, k))
        agreement = agreement + _best_sum(worth[:, drawn]) / count  # (4, draws)
        heap = heap + worth[0].sum(axis=1) / count  # (M²,)
    best = agreement.max(axis=0)
    error = best.std(ddof=1) / math.sqrt(CHANCE_DRAWS)
    return Chance(float(best.mean()), float(error), float(heap.max()))


def _agreements(predicted, true, grid_size):
    """(4,) agreement of joined maps, the predicted one turned by 0 to 3 quarters."""
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
            total += columns * _best_sum(pairs) / max(rows, columns)
        row, column = row + rows, column + columns
    return total / (len(there) + surplus)


def _frames(spots, grid_size):
    """(4, n, 2): the cells (n, 2) turned by 0 to 3 quarters from +x to +y."""
    x, y = np.reshape(spots, (-1, 2)).T
    last = grid_size - 1
    frames = [x, y], [last - y, x], [last - x, last - y], [y, last - x]
    return np.array(frames).swapaxes(1, 2)


def _joined(cells):
    """The map with normalised names and sorted cells: order never decides a tie."""
    joined = {}
    for name, spots in cells.items():
        joined.setdefault(normal_category(name), []).extend(map(tuple, spots))
    return {name: sorted(spots) for name, spots in joined.items()}


def _require_instances(true):
    count = sum(len(spots) for spots in true.values())
    if not count:
        raise SpacerError(
            "true map",
            got="no instances",
            expected="at least one",
            remedy="treat rooms without objects as having no map",
        )
    return count


def _distances(drawn, spots):
    """(…, n, k) distances in cells between (…, n, 2) and (k, 2) cells.

    Whole cells equally far apart get equal numbers: the root of the same integer.
    """
    offset = np.asarray(drawn)[..., None, :] - np.asarray(spots)
    return np.sqrt((offset**2).sum(axis=-1))


def _bell(distance):
    """Worth of a pair in ``aligned``: 0.80 at one cell, 0.41 at two, 0.14 at three."""
    return np.exp(-((distance / DECAY_CELLS) ** 2) / 2)


@lru_cache(maxsize=64)
def _pairings(n, k):
    """(p, n) every way to give n rows different ones of k columns."""
    return np.array(list(itertools.permutations(range(k), n)))


def _best_sum(worth):
    """(…,) greatest sum of (…, n, k) ``worth`` over one-to-one pairings."""
    n, k = worth.shape[-2:]
    if n > k:
        return _best_sum(worth.swapaxes(-1, -2))
    if n == 1:
        return worth.max(axis=(-1, -2))
    if math.perm(k, n) <= 24:  # few: faster than one assignment after the other
        return worth[..., range(n), _pairings(n, k)].sum(axis=-1).max(axis=-1)
    tables = worth.reshape(-1, n, k)
    sums = [t[linear_sum_assignment(t, maximize=True)].sum() for t in tables]
    return np.reshape(sums, worth.shape[:-2])


def _greedy_sum(distance, worth):
    """Sum of ``worth`` over pairs taken closest first, each row and column once."""
    rows, columns = np.unravel_index(
        np.argsort(distance, axis=None, kind="stable"), distance.shape
    )
    used_rows, used_columns, total = set(), set(), 0.0
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            total += worth[row, column]
            if min(distance.shape) == len(used_rows):
                break
    return total
