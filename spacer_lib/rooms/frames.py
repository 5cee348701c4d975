"""Which frames of a video are shown to a model, and at which size.

This module imports neither a decoder nor a model library: reading a recipe needs no
more than the settings.
"""

from dataclasses import dataclass

import numpy as np

from spacer_lib.errors import SpacerError

FPS = 24.0  # frame rate of the videos written here (SpaceR §3)


@dataclass(frozen=True)
class VideoSettings:
    """How a video becomes frames, and how large frames and images are.

    Attributes
    ----------
    frames : int
        Frames sampled uniformly, first and last included.
    size : int or None
        Side in pixels of square frames and images. ``None`` keeps the native size and
        leaves resizing to the processor's pixel budget.
    max_pixels : int or None
        Pixel budget per frame or image of the processor. ``None`` keeps the
        processor's own.
    as_images : bool
        Show the frames of a video as single images: more tokens, and no time.
    shuffle : int or None
        Seed that draws the order of a video's frames (T-GRPO's control). ``None``
        keeps the order of time.

    Source: SpaceR §5.1: 128 x 28 x 28 pixels in training, 448 x 28 x 28 in evaluation.
    """

    frames: int = 4
    size: int | None = 56
    max_pixels: int | None = None
    as_images: bool = False
    shuffle: int | None = None


def sample_indices(total: int, count: int) -> tuple[int, ...]:
    """``count`` frame indices, evenly spaced over ``total`` frames, both ends included.

    Positions are ``linspace(0, total - 1, count)``, rounded half to even. Frames
    repeat if ``count`` exceeds ``total``.

    Raises
    ------
    SpacerError
        If ``total`` or ``count`` is below 1.

    Examples
    --------
    >>> sample_indices(10, 4)
    (0, 3, 6, 9)
    """
    if total < 1 or count < 1:
        raise SpacerError(
            "frame sampling",
            kind="rooms.no-frames",
            got=f"{count} of {total} frames",
            expected="at least 1 of at least 1",
        )
    return tuple(np.linspace(0, total - 1, count).round().astype(int).tolist())
