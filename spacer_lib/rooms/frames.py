"""Which frames of a video are shown to a model, and at which size.

This module imports neither a decoder nor a model library: reading a recipe needs no
more than the settings.
"""

from dataclasses import dataclass

import numpy as np

from spacer_lib.errors import SpacerError

FPS = 24.0  # frame rate of the videos written here (SpaceR §3)


SAMPLERS = ("uniform", "floor", "tail", "inner")


@dataclass(frozen=True)
class Sampler:
    """Which frames of a video are shown, by the rule of another system.

    Attributes
    ----------
    rule : str
        Positions are evenly spaced. ``uniform``: ``linspace`` rounded half to even,
        first and last frame included. ``floor``: the same, rounded down. ``tail``:
        ``floor``, and the last frame if it is not among them. ``inner``: multiples of
        the length over the count plus one, without both ends.
    fps : float or None
        At most this many frames a second of video. ``None``: the count alone decides.
    min_frames : int
        Fewest frames under ``fps``.
    multiple : int
        Under ``fps`` the count is rounded down to a multiple of this.
    whole_seconds : bool
        Under ``fps`` the duration is rounded down to seconds.

    Raises
    ------
    SpacerError
        For an unknown rule, or a value out of range.
    """

    rule: str = "uniform"
    fps: float | None = None
    min_frames: int = 1
    multiple: int = 1
    whole_seconds: bool = False

    def __post_init__(self) -> None:
        bad_rate = self.fps is not None and self.fps <= 0
        if (
            self.rule not in SAMPLERS
            or bad_rate
            or min(self.min_frames, self.multiple) < 1
        ):
            raise SpacerError(
                "sampler",
                kind="rooms.sampler",
                got=f"{self.rule}, fps {self.fps}, min_frames {self.min_frames}, "
                f"multiple {self.multiple}",
                expected=f"{', '.join(SAMPLERS)}; fps above 0, whole numbers from 1",
            )

    def indices(self, total: int, count: int, fps: float) -> tuple[int, ...]:
        """Frame indices, for a video of ``total`` frames at ``fps``, ``count`` at most.

        ``tail`` may add one.

        Examples
        --------
        >>> Sampler("inner").indices(100, 4, 24.0)
        (20, 40, 60, 80)
        >>> Sampler(fps=2, min_frames=4, multiple=2).indices(120, 16, 24.0)
        (0, 13, 26, 40, 53, 66, 79, 93, 106, 119)
        """
        count = self._count(total, count, fps)
        if self.rule == "uniform":
            return sample_indices(total, count)
        if self.rule == "inner":
            step = total / (count + 1)
            return tuple(int(i * step) for i in range(1, count + 1))
        found = np.linspace(0, total - 1, count, dtype=int).tolist()
        if self.rule == "tail" and total - 1 not in found:
            found.append(total - 1)
        return tuple(found)

    def _count(self, total: int, count: int, fps: float) -> int:
        if self.fps is None:
            return count
        seconds = total / fps
        if self.whole_seconds:
            seconds = int(seconds)
        most = count // self.multiple * self.multiple
        wanted = min(max(seconds * self.fps, self.min_frames), most, total)
        return max(int(wanted) // self.multiple * self.multiple, 1)


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
    min_pixels : int or None
        Fewest pixels of a frame or image: smaller ones are enlarged. ``None`` keeps
        the processor's own. It needs ``max_pixels``.
    sampler : Sampler or None
        Another rule than uniform sampling.

    Source: SpaceR §5.1: 128 x 28 x 28 pixels in training, 448 x 28 x 28 in evaluation.
    """

    frames: int = 4
    size: int | None = 56
    max_pixels: int | None = None
    as_images: bool = False
    shuffle: int | None = None
    min_pixels: int | None = None
    sampler: Sampler | None = None


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
