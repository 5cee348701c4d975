"""The libraries that read video files: decord, or PyAV where decord is not installed.

Both are called in the process of ``rooms.decoding`` only. They give equal frames of
H.264, H.265 and VP9, and frames that differ by at most 2 of 255 of MPEG-4 part 2.
decord's last release (0.6.0) is of 2021 and holds FFmpeg's libraries of that time; it
exists for Linux and Windows on x86-64 only. PyAV holds current ones.
"""

import bisect
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spacer_lib.artifacts import read_head
from spacer_lib.errors import SpacerError, nearest

DECODER_VARIABLE = "SPACER_DECODER"
DECODERS = ("decord", "av")  # the first that is installed is used
TOGETHER = 8  # frames that decord decodes in one call
# From the number of frames and their rate: the indices of the frames to read.
Choose = Callable[[int, float], Sequence[int]]
Frame = npt.NDArray[np.uint8]  # (height, width, 3), RGB


class Undecodable(Exception):
    """What a library said of a file that it cannot decode."""


def decoder_name() -> str:
    """``decord`` or ``av``: ``SPACER_DECODER``, or the first that is installed.

    Raises
    ------
    SpacerError
        If the variable names no decoder, or none is installed.
    """
    asked = os.environ.get(DECODER_VARIABLE)
    if asked and asked not in DECODERS:
        raise SpacerError(
            f"environment variable {DECODER_VARIABLE}",
            kind="rooms.unknown-decoder",
            got=repr(asked),
            expected=" or ".join(DECODERS),
            remedy=nearest(asked, DECODERS),
        )
    for name in [asked] if asked else DECODERS:
        if importlib.util.find_spec(name) is not None:
            return name
    raise SpacerError(
        "decoder of videos",
        kind="rooms.no-decoder",
        got=f"{asked or 'decord and av'} not installed",
        expected=" or ".join(DECODERS),
        remedy="pip install av, or make setup",
    )


def read(
    path: Path, choose: Choose, change: Callable[[Frame], Frame]
) -> tuple[Frame, dict[str, Any]]:
    """Chosen frames of a video file.

    Parameters
    ----------
    path : Path
    choose : callable
        ``(total, fps) → indices``.
    change : callable
        Made of each frame as soon as it is decoded, such as a smaller copy.

    Returns
    -------
    frames : (count, height, width, 3) uint8
    facts : dict
        ``indices``, ``total`` and ``fps``.

    Raises
    ------
    Undecodable
    SpacerError
        For a text file, and where no decoder is installed.
    """
    _refuse_text(path)
    reader = {"decord": _with_decord, "av": _with_av}[decoder_name()]
    return reader(path, choose, change)


def _refuse_text(path: Path) -> None:
    """Refuse playlists: FFmpeg knows them by content and opens the files they name."""
    head = read_head(path)
    if head and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        raise SpacerError(
            f"video {path} cannot be decoded",
            kind="rooms.video-is-text",
            got=f"text: {head[:40].decode()!r}",
            expected="a video file, no playlist",
            remedy="download it again",
        )


def _with_decord(
    path: Path, choose: Choose, change: Callable[[Frame], Frame]
) -> tuple[Frame, dict[str, Any]]:
    import decord

    # `decoding` counts the damaged frames that it tells of.
    decord.logging.set_level(decord.logging.INFO)
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        total, fps = len(reader), float(reader.get_avg_fps())
        indices = list(choose(total, fps))
        frames = [
            change(frame)
            for start in range(0, len(indices), TOGETHER)
            for frame in reader.get_batch(indices[start : start + TOGETHER]).asnumpy()
        ]
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        raise Undecodable(_first_line(error)) from error
    return np.stack(frames), {"indices": indices, "total": total, "fps": fps}


def _with_av(
    path: Path, choose: Choose, change: Callable[[Frame], Frame]
) -> tuple[Frame, dict[str, Any]]:
    import av

    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            packets = [
                (packet.pts, packet.is_keyframe)
                for packet in container.demux(stream)
                if packet.pts is not None and packet.size and not packet.is_discard
            ]
            times = sorted(time for time, _ in packets)
            keys = sorted(time for time, key in packets if key)
            if not keys or not stream.average_rate:
                raise Undecodable("no frames")
            total, fps = len(times), float(stream.average_rate)
            indices = list(choose(total, fps))
            wanted = sorted({times[index] for index in indices})
            found = {
                time: change(frame)
                for time, frame in _at_times(container, stream, wanted, keys)
            }
    except MemoryError:
        raise
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise Undecodable(_first_line(error)) from error
    frames = [found[times[index]] for index in indices]
    return np.stack(frames), {"indices": indices, "total": total, "fps": fps}


def _at_times(
    container: Any, stream: Any, wanted: Sequence[int], keys: Sequence[int]
) -> Iterator[tuple[int, Frame]]:
    """Yield ``(time, frame)`` for times in increasing order.

    Frames are decoded from the key frame before, or from the last frame if that is
    later.
    """
    decoded: Iterator[Any] = iter(())
    reached: int | None = None
    for time in wanted:
        key = keys[max(0, bisect.bisect_right(keys, time) - 1)]
        if reached is None or key > reached:
            container.seek(key, stream=stream)
            decoded = container.decode(stream)
        for frame in decoded:
            reached = frame.pts
            if reached is not None and reached >= time:
                yield time, frame.to_ndarray(format="rgb24")
                break
        else:
            raise Undecodable(f"no frame at time {time}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
