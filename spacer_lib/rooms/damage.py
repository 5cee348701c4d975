"""Images that may be broken, and how many of a recording's before it is refused."""

from typing import Any

import cv2
import numpy as np

from spacer_lib.errors import SpacerError

MAX_BROKEN = 0.1  # share of all frames


def decoded(data: bytes, flags: int) -> np.ndarray[Any, Any] | None:
    """The pixels of a PNG or JPEG, or ``None``; ``flags`` are OpenCV's."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # no bytes at all, or more pixels than OpenCV allows
        return None


class BrokenFrames:
    """The broken frames of one kind in one recording, with a limit.

    Parameters
    ----------
    where : str
        The file, for messages.
    what : str
        What is broken, such as "depth images".
    total : int
        Frames of the recording.
    """

    def __init__(self, where: str, what: str, total: int) -> None:
        self.where, self.what, self.total = where, what, total
        self.frames: list[int] = []

    def add(self, frame: int, reason: object) -> None:
        """Count one frame.

        Raises
        ------
        SpacerError
            If more than ``MAX_BROKEN`` of the frames are broken now.
        """
        self.frames.append(frame)
        if len(self.frames) > MAX_BROKEN * self.total:
            raise SpacerError(
                f"{self.where}: broken {self.what}",
                kind="rooms.broken-frames",
                got=f"{len(self.frames)} of {self.total}, first frame "
                f"{self.frames[0]}; frame {frame}: {reason}",
                expected=f"at most {MAX_BROKEN:.0%} of the frames",
                remedy="download the file again",
            )

    def note(self, remedy: str) -> str:
        """Such as "1 of 96 depth images are broken (frame 3): left out"."""
        named = ", ".join(map(str, self.frames[:10]))
        more = ", ..." if len(self.frames) > 10 else ""
        return (
            f"{len(self.frames)} of {self.total} {self.what} are broken "
            f"(frame {named}{more}): {remedy}"
        )
