"""Moments of a video that generators ask about: kept frames with a camera pose."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spacer_lib.rooms.scene import Scene

NO_FOOTAGE = "no camera poses"
MOST = 16  # moments of a video, evenly spread over its kept frames


class Moment(NamedTuple):
    """A kept frame.

    ``second`` is its time as questions name it, ``pose`` (4, 4) its
    T_aligned_from_camera, and ``visible`` instance id → share of the picture; objects
    of an unknown share are left out.
    """

    second: str
    number: int  # within the footage
    pose: npt.NDArray[np.float64]
    visible: dict[int, float]


def moments(scene: Scene) -> list[Moment]:
    """Up to ``MOST`` moments of a scene's video; none without footage."""
    footage = scene.footage
    if footage is None or not scene.fps:
        return []
    count = len(footage.frames)
    chosen = np.unique(np.linspace(0, count - 1, min(MOST, count)).round().astype(int))
    ids = [one.instance_id for one in scene.instances]
    return [
        Moment(
            f"{footage.frames[k] / scene.fps:.2f}",
            k,
            footage.poses[k],
            {
                i: share
                for i, share in zip(ids, footage.visible[k].tolist(), strict=True)
                if share == share
            },
        )
        for k in chosen.tolist()
    ]
