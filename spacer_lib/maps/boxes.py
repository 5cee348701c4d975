"""Metric maps: a room as ``{category: [[x, y, w, h], …]}`` in metres, from above.

x and y are the middle of an object's box, from the middle of the floor rectangle; w is
its length along x and h along y. Axes are those of the aligned frame, as for cells
(``maps.grid``). A box has a size and a distance in metres, which a cell has not.

Source: boxes in place of cells: https://arxiv.org/abs/2511.16160. Origin, matching and
the correction for chance are ours.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from spacer_lib.errors import SpacerError
from spacer_lib.maps.scores import best_sum
from spacer_lib.maps.text import MAX_MAP_CHARS, brackets_match, normal_category
from spacer_lib.rooms.scene import Scene
from spacer_lib.rows import Boxes

Box = Sequence[float]  # x, y, w, h in metres
MAX_M = 100.0  # no coordinate of a room is greater
CHANCE_DRAWS = 64  # random maps that a chance level averages


def true_boxes(scene: Scene) -> dict[str, list[list[float]]]:
    """The metric map of a scene: its objects' axis-aligned boxes, to centimetres.

    Categories are those of ``maps.grid.rasterize``, without structural ones. An edge
    shorter than 1 cm counts as 1 cm.
    """
    low, high = np.array(scene.floor_min_m), np.array(scene.floor_max_m)
    middle = (low + high) / 2
    boxes: dict[str, list[list[float]]] = {}
    for category, instances in scene.by_category().items():
        for instance in instances:
            least = np.array(instance.aabb_min_m[:2]) - middle
            most = np.array(instance.aabb_max_m[:2]) - middle
            edges = np.maximum(most - least, 0.01)
            box = [*((least + most) / 2), *edges]
            boxes.setdefault(category, []).append([round(float(v), 2) for v in box])
    return {category: sorted(found) for category, found in boxes.items()}


def turned_boxes(boxes: Boxes, quarters: int = 1) -> dict[str, list[list[float]]]:
    """The map turned about the middle of the floor by 90 degrees, ``quarters`` times.

    Each turn is from +x to +y, as ``maps.grid.turned``.

    Examples
    --------
    >>> turned_boxes({"bed": [[1.0, 2.0, 1.5, 0.5]]})
    {'bed': [[-2.0, 1.0, 0.5, 1.5]]}
    """
    turned = {name: [list(box) for box in found] for name, found in boxes.items()}
    for _ in range(quarters % 4):
        turned = {
            name: [[-y, x, h, w] for x, y, w, h in found]
            for name, found in turned.items()
        }
    return turned


def box_gap_m(first: Box, second: Box) -> float:
    """Metres between the closest points of two boxes on the floor; 0 if they touch."""
    gaps = [
        max(0.0, abs(first[k] - second[k]) - (first[k + 2] + second[k + 2]) / 2)
        for k in (0, 1)
    ]
    return math.hypot(*gaps)


# ---------------------------------------------------------------- text


@dataclass(frozen=True)
class BoxReading:
    """The boxes that a text contains, or why there are none.

    Attributes
    ----------
    boxes : dict or None
        ``{category: [[x, y, w, h], …]}`` with normalised names.
    failure : str or None
        ``map_too_long``, ``boxes_unreadable`` (not a dictionary of lists of four finite
        numbers, at most 100 m each) or ``boxes_degenerate`` (a side of 0 or less).
    """

    boxes: dict[str, list[list[float]]] | None
    failure: str | None = None


def parse_boxes(text: str) -> BoxReading:
    """Read a drawn metric map: JSON, in linear time. No text raises.

    One unusable box spoils the whole map, as one cell off the grid does.

    Examples
    --------
    >>> parse_boxes('{"Chairs": [[1, 2.5, 0.5, 0.5]]}').boxes
    {'chair': [[1.0, 2.5, 0.5, 0.5]]}
    >>> parse_boxes('{"chair": [[1, 2, 0, 1]]}').failure
    'boxes_degenerate'
    """
    if len(text) > MAX_MAP_CHARS:
        return BoxReading(None, "map_too_long")
    pairs: Any = None
    if brackets_match(text):
        try:
            pairs = json.loads(text, object_pairs_hook=_Pairs, parse_int=float)
        except ValueError:
            pairs = None
    boxes: dict[str, list[list[float]]] = {}
    for name, found in pairs if isinstance(pairs, _Pairs) else ():
        boxes.setdefault(normal_category(name), [])
        if type(found) is not list or not all(map(_is_box, found)):
            return BoxReading(None, "boxes_unreadable")
        boxes[normal_category(name)] += found
    if not any(boxes.values()):
        return BoxReading(None, "boxes_unreadable")
    if any(min(box[2:]) <= 0 for found in boxes.values() for box in found):
        return BoxReading(None, "boxes_degenerate")
    return BoxReading(boxes)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its (name, value) pairs: repeated keys are joined."""


def are_boxes(value: Any) -> bool:
    """Whether a value is a list of ``[x, y, w, h]``: finite metres, sides above 0."""
    return isinstance(value, (list, tuple)) and all(
        isinstance(box, (list, tuple))
        and len(box) == 4
        and all(type(v) in (int, float) and abs(v) <= MAX_M for v in box)
        and min(box[2:]) > 0
        for box in value
    )


def _is_box(value: Any) -> bool:
    # NaN and infinity are no numbers of a room: every comparison with NaN is false.
    return (
        type(value) is list
        and len(value) == 4
        and all(type(v) is float and abs(v) <= MAX_M for v in value)
    )


# ---------------------------------------------------------------- score


def box_score(predicted: Boxes, true: Boxes) -> float:
    """Agreement of drawn boxes with the true ones, in [0, 1].

    In each category drawn and true boxes are paired one to one, so that the sum of
    their intersections over unions is greatest (Hungarian), and the sum is divided by
    the greater number of boxes. Categories are averaged, weighted by their true boxes;
    each drawn box of a category that is not in the room adds one of worth 0.

    - *frame*: the drawn map is turned by 0, 90, 180 and 270 degrees about the middle of
      the floor, as a whole and without reflection; the best agreement a counts. The
      middle is the origin, so no side of the room needs to be known.
    - *chance*: the score is (a - c) / (1 - c), at least 0. c is the greatest of: the
      mean of ``CHANCE_DRAWS`` maps with the true sizes in random places, and the best
      of the constant maps that put every object into one true box, into a box of mean
      size on an 8 x 8 grid, or into a box as large as the room's objects together.

    Parameters
    ----------
    predicted, true : dict
        ``{category: [[x, y, w, h], …]}`` in metres; names are normalised.

    Raises
    ------
    SpacerError
        If the true map has no box.

    Source: ours; see the module.
    """
    seen, there = _joined(predicted), _joined(true)
    count = sum(map(len, there.values()))
    if not count:
        raise SpacerError(
            "true boxes",
            kind="maps.no-boxes",
            got="none",
            expected="at least one",
            remedy="leave the boxes out for rooms without objects",
        )
    surplus = sum(len(found) for name, found in seen.items() if name not in there)
    total = np.zeros(4)
    for name, found in there.items():
        if name in seen:
            worth = best_sum(_overlap(_four_ways(seen[name]), found))
            total += len(found) * worth / max(len(found), len(seen[name]))
    chance = _chance(tuple(tuple(map(tuple, found)) for found in there.values()))
    above = (float(total.max()) / (count + surplus) - chance) / (1 - chance)
    return min(above, 1.0) if above > 1e-9 else 0.0  # 1e-9: rounding


def _joined(boxes: Boxes) -> dict[str, npt.NDArray[np.float64]]:
    joined: dict[str, list[Box]] = {}
    for name, found in boxes.items():
        if found:
            joined.setdefault(normal_category(name), []).extend(found)
    return {name: np.array(joined[name], float) for name in sorted(joined)}


def _four_ways(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(4, n, 4): (n, 4) boxes turned by 0, 90, 180, 270 degrees from +x to +y."""
    x, y, w, h = boxes.T
    ways = [x, y, w, h], [-y, x, h, w], [-x, -y, w, h], [y, -x, h, w]
    return np.array(ways).swapaxes(1, 2)


def _overlap(
    drawn: npt.NDArray[np.float64], there: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(…, n, k) intersections over unions of (…, n, 4) and (k, 4) boxes."""
    first, second = drawn[..., :, None, :], there[None, :, :]
    low = np.maximum(
        first[..., :2] - first[..., 2:] / 2, second[..., :2] - second[..., 2:] / 2
    )
    high = np.minimum(
        first[..., :2] + first[..., 2:] / 2, second[..., :2] + second[..., 2:] / 2
    )
    common = np.maximum(high - low, 0).prod(axis=-1)
    areas = first[..., 2:].prod(axis=-1) + second[..., 2:].prod(axis=-1)
    return common / (areas - common)


@lru_cache(maxsize=1024)
def _chance(layout: tuple[tuple[tuple[float, ...], ...], ...]) -> float:
    """The chance level of a layout; 0 if no blind map is below 1."""
    there = [np.array(found) for found in layout]
    every = np.concatenate(there)
    low = (every[:, :2] - every[:, 2:] / 2).min(axis=0)
    high = (every[:, :2] + every[:, 2:] / 2).max(axis=0)
    rng = np.random.default_rng(0)
    worth = np.zeros((4, CHANCE_DRAWS))
    for found in there:
        places = rng.uniform(low, high, size=(CHANCE_DRAWS, len(found), 2))
        sizes = np.broadcast_to(found[:, 2:], places.shape)
        drawn = np.concatenate([places, sizes], axis=-1)
        ways = _four_ways(drawn.reshape(-1, 4)).reshape(4, *drawn.shape)
        worth += best_sum(_overlap(ways, found))
    random = float((worth / len(every)).max(axis=0).mean())
    grid = np.linspace(low, high, 8)
    spots = [(x, y, *every[:, 2:].mean(axis=0)) for x in grid[:, 0] for y in grid[:, 1]]
    hull = (*((low + high) / 2), *(high - low))
    constant = float(
        _overlap(np.array([*every, *spots, hull]), every).mean(axis=1).max()
    )
    return max((c for c in (random, constant) if c < 1 - 1e-9), default=0.0)
