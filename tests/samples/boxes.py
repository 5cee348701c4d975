"""Objects made by hand: boxes along the axes of the room."""

import numpy as np

from spacer_lib.rooms.scene import ObjectInstance


def box(number, category, center, size=(0.5, 0.5, 0.5), **more):
    """An instance whose oriented and aligned box are the same."""
    half = np.array(size) / 2
    low, high = np.array(center) - half, np.array(center) + half
    axes = np.eye(3).ravel()
    return ObjectInstance(number, category, center, size, axes, low, high, **more)
