"""Rooms seen from inside, with what the warm start may know of each frame.

A ``ShownRoom`` has the frames that the model is shown, the object that each video token
shows, and the ``Scene`` whose first appearances are those of these very frames.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spacer_lib.maps.grid import cells_at
from spacer_lib.rooms.frames import FPS, Sampler, VideoSettings
from spacer_lib.rooms.scene import Scene
from spacer_lib.rooms.synthetic.layout import Room, draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, View, to_scene, view_poses

SIDE = 56  # of a frame, in pixels
SHOWN = VideoSettings(8, SIDE)
TOKEN_PX = 14  # side of the square of a frame that becomes one video token
CLEAR_PX = 40  # an object that never fills so many pixels of a frame is not seen
FIRST_PX = 15  # it appears in the first frame in which it fills so many
NAMED_PX = 8  # a token shows an object that fills so many of its pixels


class Place(NamedTuple):
    """Where an object is on the map, and from each frame's camera.

    Attributes
    ----------
    cells : (objects, 2) int
        x_col and y_row.
    bearing_deg, distance_m : (objects, frames)
        Of its centre, horizontally: from the middle of the picture, positive to the
        right; from the camera.
    """

    cells: npt.NDArray[np.int64]
    bearing_deg: npt.NDArray[np.float64]
    distance_m: npt.NDArray[np.float64]


@dataclass(frozen=True)
class ShownRoom:
    """A room and the frames of it that the model is shown.

    Attributes
    ----------
    view : View
    room : Room
    scene : Scene
        ``first_seen_frame`` is the first shown frame with at least ``FIRST_PX`` pixels.
    indices : (frames,) tuple of int
        Of the shown frames in the view's video.
    frames : (frames, 56, 56, 3) uint8
        RGB.
    tokens : (frames, 4, 4) int8
        Index into ``scene.instances`` of the object that each token shows, or -1.
    depth_m : (frames, 4, 4) float32
        Median depth of each token's pixels.
    """

    view: View
    room: Room
    scene: Scene
    indices: tuple[int, ...]
    frames: npt.NDArray[np.uint8]
    tokens: npt.NDArray[np.int8]
    depth_m: npt.NDArray[np.float32]

    @property
    def first_views(self) -> list[int]:
        """Of each instance: the shown frame, from 0, in which it first appears."""
        return [
            self.indices.index(int(i.first_seen_frame or 0))
            for i in self.scene.instances
        ]

    @cached_property
    def places(self) -> Place:
        """Objects on the map and from the cameras."""
        centers = np.array([i.centroid_m[:2] for i in self.scene.instances])
        poses = view_poses(self.room, self.view, self.indices)
        offset = centers[:, None] - poses[None, :, :2, 3]  # (objects, frames, 2)
        forward = poses[:, :2, 2] / np.linalg.norm(poses[:, :2, 2], axis=1)[:, None]
        ahead = (offset * forward).sum(axis=-1)
        right = offset[..., 0] * forward[:, 1] - offset[..., 1] * forward[:, 0]
        return Place(
            cells_at(centers, self.scene),
            np.degrees(np.arctan2(right, ahead)),
            np.hypot(ahead, right),
        )


def show(view: str, seed: int) -> ShownRoom | None:
    """The room of a seed as a view shows it; ``None`` if an object is hardly seen."""
    from spacer_lib.rooms.synthetic.render import render_labelled

    filmed = VIEWS[view]
    room = draw_room(seed, filmed.style)
    indices = Sampler().indices(filmed.frames, SHOWN.frames, FPS)
    frames, depth, labels = render_labelled(room, filmed, indices, SIDE)
    n, side = len(frames), SIDE // TOKEN_PX
    shows = labels[..., None] == [p.instance_id for p in room.furniture]
    pixels = shows.reshape(n, side, TOKEN_PX, side, TOKEN_PX, -1).sum(axis=(2, 4))
    of_frames = pixels.sum(axis=(1, 2))  # (frames, objects)
    if (of_frames.max(axis=0) < CLEAR_PX).any():
        return None
    first = (of_frames >= FIRST_PX).argmax(axis=0)
    seen = {
        piece.instance_id: indices[k]
        for piece, k in zip(room.furniture, first, strict=True)
    }
    scene = to_scene(room, filmed, with_boxes=False, first_seen=seen)
    best = pixels.argmax(axis=-1)
    tokens = np.where(pixels.max(axis=-1) >= NAMED_PX, best, -1).astype(np.int8)
    squares = depth.reshape(n, side, TOKEN_PX, side, TOKEN_PX)
    middle = np.median(squares, axis=(2, 4))
    return ShownRoom(filmed, room, scene, indices, frames, tokens, middle)
