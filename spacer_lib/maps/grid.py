"""Cognitive maps: a room as ``{category: [(x_col, y_row), …]}`` on an M x M grid.

Axes, said once: the floor rectangle of the aligned scene is cut into M x M equal
cells; ``x_col`` grows with aligned +x and ``y_row`` with aligned +y, both from 0 to
M - 1. Cell (0, 0) holds the floor's smallest x and y.

Source: SpaceR §4.2, Eq. 4. Departures: the matching, the scorers ``decay`` and
``aligned``, and a map accuracy.
"""

import numpy as np


def rasterize(scene, grid_size=10):
    """The true map of a scene: the cell of each instance's centroid.

    Parameters
    ----------
    scene : Scene
    grid_size : int
        M, cells per side.

    Returns
    -------
    dict
        ``{category: [(x_col, y_row), …]}`` of int; categories in the order of their
        first instance, without structural ones; the cells of a category sorted.
        Centroids outside the floor rectangle fall into its nearest cell.
    """
    low = np.array(scene.floor_min_m)
    span = np.array(scene.floor_max_m) - low
    cells = {}
    for category, instances in scene.by_category().items():
        centers = np.array([i.centroid_m[:2] for i in instances])  # (n, 2) metres
        spots = np.floor((centers - low) / span * grid_size)
        spots = np.clip(spots, 0, grid_size - 1).astype(int)
        cells[category] = sorted((x, y) for x, y in spots.tolist())
    return cells


def turned(cells, quarters=1, grid_size=10):
    """The map turned about the grid's centre, ``quarters`` times from +x to +y.

    Examples
    --------
    >>> turned({"lamp": [(6, 8)]}), turned({"lamp": [(6, 8)]}, quarters=2)
    ({'lamp': [(1, 6)]}, {'lamp': [(3, 1)]})
    """
    for _ in range(quarters % 4):
        cells = {
            name: [(grid_size - 1 - y, x) for x, y in spots]
            for name, spots in cells.items()
        }
    return cells
