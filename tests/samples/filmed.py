"""The cameras of a synthetic walk, without rendering."""

import numpy as np

from spacer_lib.rooms.footage import Footage
from spacer_lib.rooms.synthetic.views import VIEWS, view_intrinsic, view_poses


def walk_footage(drawn, instances):
    """Cameras of the walk; an object is shown if its centre is in the picture."""
    view, size, frames = VIEWS["walk"], (320, 240), range(0, 96, 12)
    poses = view_poses(drawn, view, frames)
    K = view_intrinsic(drawn, view, *size)
    shares = np.zeros((len(frames), len(instances)))
    footage = Footage(tuple(frames), poses, K, size, shares)
    places = footage.project([one.centroid_m for one in instances])
    with np.errstate(invalid="ignore"):
        inside = np.all((places[..., :2] >= 0) & (places[..., :2] < size), axis=-1)
    return Footage(tuple(frames), poses, K, size, np.where(inside, 0.05, 0.0))
