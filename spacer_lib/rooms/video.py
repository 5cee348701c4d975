"""Encode, probe, sample and decode videos.

A source is either an ``.mp4`` or a ``room://view/seed`` address, whose frames are
rendered when asked for (``synthetic.light``).
"""

import contextlib
import shutil
import subprocess
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import cv2
import decord
import numpy as np

from spacer_lib.artifacts import atomic_path
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.scannet import SensReader
from spacer_lib.rooms.synthetic.views import FPS, frames_from_uri

ROOM_SCHEME = "room://"
# A keyframe every so many frames: sparse sampling decodes over twice as fast as with
# the encoder's default of 250, for some 15-20% more bytes (`spacer bench data`).
KEYFRAME_EVERY = 12
CACHE_BYTES = 512 * 2**20

FRAMES_SUFFIX = ".frames.csv"

_DECODING_ERRORS = (decord.DECORDError, RuntimeError, IndexError)


class RecentlyUsed(OrderedDict):
    """Values by key, the least recently used first; threads may share one."""

    def __init__(self):
        super().__init__()
        self._lock = threading.Lock()

    def recall(self, key, make, size, most):
        """The value of ``key``, or else what ``make()`` returns, kept.

        The oldest are dropped, all but one at most, while the sum of ``size(value)``
        is above ``most``.
        """
        with self._lock:
            value = self.pop(key, None)
        if value is None:
            value = make()  # may take long, or fail
        with self._lock:
            self[key] = value  # now the most recent
            while len(self) > 1 and sum(map(size, self.values())) > most:
                self.popitem(last=False)
        return value


_CACHE = RecentlyUsed()


@dataclass(frozen=True)
class VideoInfo:
    """What ``probe`` finds; sizes in pixels."""

    frame_count: int
    fps: float
    width: int
    height: int


@dataclass(frozen=True)
class FrameTime:
    """One frame of a recording: where it lies in the video, and its own stamps.

    ``time_s`` is ``frame / fps`` of the video; the sensor's microseconds are as
    stored, often 0 or unrelated to the rate.
    """

    frame: int
    time_s: float
    color_time_us: int
    depth_time_us: int
    has_pose: bool


_COLUMNS = ",".join(FrameTime.__dataclass_fields__)


def encode_jpegs(jpegs, path, fps=FPS):
    """Pipe stored JPEGs, all of one size, into an H.264 mp4.

    An odd width or height is padded by one black pixel (4:2:0 needs even sides).

    Parameters
    ----------
    jpegs : iterable of bytes
    path : path
        Written whole or not at all.
    fps : float

    Returns
    -------
    VideoInfo
        Read back from the file; its frame count equals the JPEGs'.

    Raises
    ------
    SpacerError
        If ffmpeg is absent or fails, there is no JPEG, or frames were lost.
    """
    if shutil.which("ffmpeg") is None:
        raise SpacerError(
            f"{path}: cannot encode",
            got="no ffmpeg on the PATH",
            expected="ffmpeg with libx264",
            remedy="apt install ffmpeg (or conda install ffmpeg)",
        )
    command = ["ffmpeg", "-y", "-hide_banner", "-loglevel", "error"]
    command += ["-f", "image2pipe", "-c:v", "mjpeg", "-framerate", str(fps), "-i", "-"]
    command += ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2,format=yuv420p"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20"]
    command += ["-g", str(KEYFRAME_EVERY), "-movflags", "+faststart"]
    count = 0
    # ffmpeg's complaints go to a file: a full pipe would stop it halfway.
    with atomic_path(path) as temporary, tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [*command, "-f", "mp4", str(temporary)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
        )
        try:
            for jpeg in jpegs:
                process.stdin.write(jpeg)
                count += 1
        except BrokenPipeError:
            pass  # ffmpeg gave up early: its exit status and words follow
        except BaseException:
            process.kill()
            raise
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            status = process.wait()
        if status or not count:
            complaints.seek(0)
            words = complaints.read().decode(errors="replace").strip().splitlines()
            raise SpacerError(
                f"{path}: ffmpeg could not encode {count} frames",
                got=words[0] if words else f"exit status {status}",
                expected="at least one JPEG, all of them whole",
                remedy="check the recording and the space on the disk",
            )
        info = probe(temporary)
        if info.frame_count != count:
            raise SpacerError(
                f"{path}: the encoded video lost frames",
                got=f"{info.frame_count} frames",
                expected=f"{count} frames",
                remedy="check the recording for broken JPEGs",
            )
    return info


def encode_sens(sens_path, mp4_path, fps=FPS):
    """The colour images of a ``.sens`` recording as an mp4; see ``encode_jpegs``.

    Frames whose pose is invalid stay in the video: frame numbers keep their meaning.
    In the same pass the table of ``read_frame_times`` is written beside the video
    (``frame_times_path``), whole or not at all.
    """
    with (
        SensReader(sens_path) as recording,
        atomic_path(frame_times_path(mp4_path)) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as table,
    ):
        table.write(_COLUMNS + "\n")

        def jpegs():
            for frame in recording:
                table.write(
                    f"{frame.index},{frame.index / fps:.6f},{frame.color_time_us},"
                    f"{frame.depth_time_us},{frame.T_scan_from_camera is not None:d}\n"
                )
                yield frame.jpeg

        return encode_jpegs(jpegs(), mp4_path, fps)


def frame_times_path(mp4_path):
    """``videos/<id>.mp4`` → ``videos/<id>.frames.csv``."""
    return Path(mp4_path).with_suffix(FRAMES_SUFFIX)


def read_frame_times(path):
    """The table that ``encode_sens`` writes beside a video.

    Returns
    -------
    tuple of FrameTime
        In order, one per frame of the video.

    Raises
    ------
    SpacerError
        If the file is missing or is no such table.
    """
    path = _require_file(path, "frame table")
    text = path.read_text(encoding="utf-8", errors="replace")
    head, *rows = text.splitlines() or [""]
    if head != _COLUMNS:
        raise SpacerError(
            f"{path} is no frame table",
            got=head[:80] or "nothing",
            expected=_COLUMNS,
            remedy="encode the recording again",
        )
    times = []
    for number, row in enumerate(rows):
        try:
            frame, time_s, color_us, depth_us, has_pose = row.split(",")
            if int(frame) != number:
                raise ValueError("another frame")
            posed = bool(("0", "1").index(has_pose))
            time = FrameTime(number, float(time_s), int(color_us), int(depth_us), posed)
        except ValueError as error:
            raise SpacerError(
                f"{path} line {number + 2}",
                got=row[:80],
                expected=f"frame {number}, three numbers, and 0 or 1",
                remedy="encode the recording again",
            ) from error
        times.append(time)
    return tuple(times)


def _require_file(path, kind="video"):
    if not Path(path).is_file():
        raise SpacerError(
            f"{kind} {path} is missing", remedy="encode or download it, or fix the path"
        )
    return Path(path)


def _open(path):
    _require_file(path)
    decord.logging.set_level(decord.logging.QUIET)
    try:
        return decord.VideoReader(str(path), num_threads=1)
    except _DECODING_ERRORS as error:
        raise _unreadable(path, error) from error


def _unreadable(path, error):
    lines = str(error).strip().splitlines()
    return SpacerError(
        f"video {path} cannot be decoded",
        got=lines[0][:200] if lines else type(error).__name__,
        expected="a whole mp4",
        remedy="encode or download it again",
    )


def probe(path):
    """Frame count, rate and size of a video file, from the decoder itself.

    Raises
    ------
    SpacerError
        If the file is missing or does not decode.
    """
    reader = _open(path)
    try:
        height, width = reader[0].shape[:2]
    except _DECODING_ERRORS as error:
        raise _unreadable(path, error) from error
    return VideoInfo(len(reader), float(reader.get_avg_fps()), width, height)


def sample_indices(total, count):
    """``count`` frame indices spread evenly over ``total`` frames, both ends included.

    Positions are ``linspace(0, total - 1, count)``, rounded half to even; frames
    repeat when ``count`` exceeds ``total``.

    Examples
    --------
    >>> sample_indices(10, 4)
    (0, 3, 6, 9)
    """
    if total < 1 or count < 1:
        raise SpacerError(
            "frame sampling", got=f"{count} of {total} frames", expected="at least 1"
        )
    return tuple(np.linspace(0, total - 1, count).round().astype(int).tolist())


def read_frames(source, count, size=None):
    """Evenly sampled frames of a video.

    Recent reads are kept, up to ``CACHE_BYTES``; a file that changed is read again.

    Parameters
    ----------
    source : path or str
        An mp4, or a ``room://view/seed`` address.
    count : int
        See ``sample_indices``.
    size : int, optional
        Side of the square frames, by area averaging (a ``room://`` video is rendered
        at that size). ``None`` keeps a file's own size.

    Returns
    -------
    frames : (count, height, width, 3) uint8, RGB, the caller's own copy
    indices : (count,) tuple of int into the full video
    total, fps : int, float of the full video

    Raises
    ------
    SpacerError
        If the video is missing, broken, or rendered and no size is given.
    """
    if str(source).startswith(ROOM_SCHEME):
        if size is None:
            raise SpacerError(
                f"video {source}", got="no size", expected="the side of its frames"
            )
        sample_indices(1, count)  # the same refusal as for files
        frames, *rest = frames_from_uri(str(source), count, size)
        return frames.copy(), *rest
    path = _require_file(source)
    frames, *rest = _CACHE.recall(
        (*file_identity(path), count, size),
        lambda: _decode(path, count, size),
        lambda clip: clip[0].nbytes,
        CACHE_BYTES,
    )
    return frames.copy(), *rest


def file_identity(path):
    """A file's full path, time of change and size: other contents, another identity."""
    path = Path(path)
    stat = path.stat()
    return str(path.resolve()), stat.st_mtime_ns, stat.st_size


def _decode(path, count, size):
    reader = _open(path)
    indices = sample_indices(len(reader), count)
    try:
        frames = reader.get_batch(list(indices)).asnumpy()
    except _DECODING_ERRORS as error:
        raise _unreadable(path, error) from error
    if size is not None:
        frames = np.stack(
            [cv2.resize(f, (size, size), interpolation=cv2.INTER_AREA) for f in frames]
        )
    return frames, indices, len(reader), float(reader.get_avg_fps())
