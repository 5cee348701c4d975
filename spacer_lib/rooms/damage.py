"""Images that may be broken, and how many of a recording's before it is refused."""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
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


_CONCEALED = re.compile(r"concealing \d+ DC, \d+ AC, \d+ MV errors in \w+ frame")
PIPE_BYTES = 2**20


@contextlib.contextmanager
def library_messages() -> Iterator[list[str]]:
    """Lines that C libraries write to standard error in the block, at most 1 MiB."""
    found: list[str] = []
    reading, writing = os.pipe()
    with contextlib.suppress(OSError):  # more than this user may have
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)  # what does not fit is lost, and nothing waits
    kept = os.dup(2)
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield found
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        with os.fdopen(reading, "rb") as pipe:
            found += (pipe.read() or b"").decode(errors="replace").splitlines()


def concealed_frames(messages: Iterable[str]) -> int:
    """How many damaged frames FFmpeg says it filled from their neighbours, at least.

    It says so once for every time that it decodes the frame; equal lines count as one.

    Examples
    --------
    >>> line = "[h264 @ 0x1] concealing 209 DC, 209 AC, 209 MV errors in I frame"
    >>> concealed_frames([line, line, "[h264 @ 0x1] Invalid NAL unit size"])
    1
    """
    found = (_CONCEALED.search(line) for line in messages)
    return len({one[0] for one in found if one})


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
