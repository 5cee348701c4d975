"""Cognitive maps: a room as ``{category: [(x_col, y_row), …]}`` on an M x M grid.

Axes: the floor rectangle of the aligned scene is divided into M x M equal cells.
``x_col`` grows with aligned +x and ``y_row`` with aligned +y, both from 0 to M - 1.
Cell (0, 0) contains the floor's smallest x and y.

Source: SpaceR §4.2; VSI-Bench §6, cognitive maps (https://arxiv.org/abs/2412.14171).
"""

import numpy as np
import numpy.typing as npt

from spacer_lib.rooms.scene import ObjectInstance, Scene
from spacer_lib.rows import CognitiveMap

Cell = tuple[int, int]  # (x_col, y_row)


def rasterize(
    scene: Scene, grid_size: int = 10, seen_by: int | None = None
) -> dict[str, list[Cell]]:
    """The true map of a scene: the cell of each instance's centroid.

    Parameters
    ----------
    scene : Scene
    grid_size : int
        M, cells per side.
    seen_by : int, optional
        A frame: instances that are first seen later, or never, are left out.

    Returns
    -------
    dict
        ``{category: [(x_col, y_row), …]}``: categories in the order of their first
        instance, without structural ones; the cells of a category are sorted. A
        centroid outside the floor rectangle counts for the nearest cell.

    Source: SpaceR §4.2.
    """
    cells: dict[str, list[Cell]] = {}
    for category, instances in scene.by_category().items():
        if seen_by is not None:
            instances = [i for i in instances if _is_seen(i, seen_by)]
        if not instances:
            continue
        spots = cells_at([i.centroid_m[:2] for i in instances], scene, grid_size)
        cells[category] = sorted((int(x), int(y)) for x, y in spots)
    return cells


def _is_seen(instance: ObjectInstance, frame: int) -> bool:
    first = instance.first_seen_frame
    return first is not None and first <= frame


def cells_at(
    points_xy: npt.ArrayLike, scene: Scene, grid_size: int = 10
) -> npt.NDArray[np.int64]:
    """(n, 2) cells (x_col, y_row) of (n, 2) points in metres, aligned frame.

    A point outside the floor rectangle counts for the nearest cell.
    """
    low = np.array(scene.floor_min_m)
    span = np.array(scene.floor_max_m) - low
    spots = np.floor((np.asarray(points_xy) - low) / span * grid_size)
    return np.clip(spots, 0, grid_size - 1).astype(np.int64)


def turned(
    cells: CognitiveMap, quarters: int = 1, grid_size: int = 10
) -> dict[str, list[Cell]]:
    """The map turned about the grid's centre by 90 degrees, ``quarters`` times.

    Each turn is from +x to +y: counter-clockwise seen from above.

    Examples
    --------
    >>> turned({"lamp": [(6, 8)]}), turned({"lamp": [(6, 8)]}, quarters=2)
    ({'lamp': [(1, 6)]}, {'lamp': [(3, 1)]})
    """
    map_ = {name: [(x, y) for x, y in spots] for name, spots in cells.items()}
    for _ in range(quarters % 4):
        map_ = {
            name: [(grid_size - 1 - y, x) for x, y in spots]
            for name, spots in map_.items()
        }
    return map_
