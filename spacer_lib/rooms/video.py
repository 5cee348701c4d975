"""Encode, probe, sample and decode videos.

A video is an ``.mp4`` file or an address ``room://view/seed``. An address stands for a
synthetic room; its frames are rendered on request (``synthetic.render``). Decoder and
renderer are imported when the first video is opened.
"""

import contextlib
import dataclasses
import os
import shutil
import subprocess
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from spacer_lib.artifacts import PathLike, atomic_path, write_text
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.damage import BrokenFrames, decoded
from spacer_lib.rooms.decoding import decode
from spacer_lib.rooms.frames import FPS, Sampler
from spacer_lib.rooms.recording import Frame, RecordingReader
from spacer_lib.rooms.scannet.sens import COLOR_JPEG, COLOR_PNG, SensReader

ROOM_SCHEME = "room://"
# Frames from one keyframe to the next. Sparse sampling decodes more than twice as fast
# as with the encoder's default of 250, for 15-20% more bytes (`spacer bench data`).
KEYFRAME_EVERY = 12
# Of frames: one video of a published recipe, or all of a step of the tiny one. Who asks
# for frames again does so at once (T-GRPO shows them in another order); whoever wants
# the model's inputs again finds them encoded (``models.inputs``).
CACHE_BYTES = 32 * 2**20

FRAMES_SUFFIX = ".frames.csv"
_CODECS = {COLOR_JPEG: "mjpeg", COLOR_PNG: "png"}  # ffmpeg's names
# The same images give the same bytes. By default ffmpeg starts threads by the number of
# CPUs, x264 decides otherwise with another number of threads, and both choose other
# arithmetic on another CPU.
EXACT_READING = ("-threads", "1", "-filter_threads", "1", "-flags", "bitexact")
EXACT_WRITING = (
    *("-threads", "1", "-x264-params", "cpu-independent=1"),
    *("-sws_flags", "bicubic+accurate_rnd+bitexact", "-fflags", "+bitexact"),
)

T = TypeVar("T")


class RecentlyUsed:
    """Values by key, the least recently used first; threads may share one.

    Parameters
    ----------
    size : callable
        Bytes of a value, which must not change.
    most : int
        Bytes of all values. The last value stays even if it alone is larger.
    """

    def __init__(self, size: Callable[[Any], int], most: int) -> None:
        self._size, self._most = size, most
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def recall(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of ``key``; if there is none, ``make()`` is called and kept.

        The least recently used values are dropped while there are too many bytes.
        """
        value: T | None = self.forget(key)
        if value is None:
            value = make()  # may take long, or fail
        with self._lock:
            self._drop(key)  # another thread may have made it meanwhile
            self._values[key] = value  # now the most recent
            self._bytes += self._size(value)
            while len(self._values) > 1 and self._bytes > self._most:
                self._drop(next(iter(self._values)))
        return value

    def forget(self, key: Hashable) -> Any:
        """Drop a value that nobody will ask for again; it is returned, or ``None``."""
        with self._lock:
            return self._drop(key)

    def values(self) -> list[Any]:
        """What is kept, the least recently used first."""
        with self._lock:
            return list(self._values.values())

    def _drop(self, key: Hashable) -> Any:
        value = self._values.pop(key, None)
        if value is not None:
            self._bytes -= self._size(value)
        return value


def _clip_bytes(clip: tuple[npt.NDArray[np.uint8], Any, int, float]) -> int:
    return clip[0].nbytes


_CACHE = RecentlyUsed(_clip_bytes, CACHE_BYTES)


@dataclass(frozen=True)
class VideoInfo:
    """What ``probe`` finds. Sizes are in pixels.

    ``note`` tells which frames ``encode_sens`` had to replace; empty if none.
    """

    frame_count: int
    fps: float
    width: int
    height: int
    note: str = ""


@dataclass(frozen=True)
class FrameTime:
    """One frame of a recording: its place in the video and its time stamps.

    ``time_s`` is ``frame / fps`` of the video. The sensor's microseconds are as
    stored: often 0, or unrelated to the frame rate.
    """

    frame: int
    time_s: float
    color_time_us: int
    depth_time_us: int
    has_pose: bool


_COLUMNS = ",".join(FrameTime.__dataclass_fields__)


def encode_jpegs(
    jpegs: Iterable[bytes], path: PathLike, fps: float = FPS, *, codec: str = "mjpeg"
) -> VideoInfo:
    """Encode JPEG images, all of one size, as an H.264 mp4.

    One version of ffmpeg writes the same bytes for the same images, whatever the
    number of CPUs and their load. An odd width or height is padded by one black pixel
    (4:2:0 needs even sides).

    Parameters
    ----------
    jpegs : iterable of bytes
    path : path
        Written whole or not at all.
    fps : float
    codec : str
        ffmpeg's name of the images' format: "mjpeg" or "png".

    Returns
    -------
    VideoInfo
        Read back from the file. Its frame count equals the number of JPEGs.

    Raises
    ------
    SpacerError
        If ffmpeg is absent or fails, there is no JPEG, or frames were lost.
    """
    if shutil.which("ffmpeg") is None:
        raise SpacerError(
            f"{path}: cannot encode",
            kind="rooms.no-ffmpeg",
            got="no ffmpeg on the PATH",
            expected="ffmpeg with libx264",
            remedy="apt install ffmpeg (or conda install ffmpeg)",
        )
    command = ["ffmpeg", "-y", "-hide_banner", "-loglevel", "error", *EXACT_READING]
    command += ["-f", "image2pipe", "-c:v", codec, "-framerate", str(fps), "-i", "-"]
    command += ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2,format=yuv420p"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20"]
    command += ["-g", str(KEYFRAME_EVERY), "-movflags", "+faststart", *EXACT_WRITING]
    count = 0
    # ffmpeg's messages go to a file: a full pipe would block it.
    with atomic_path(path) as temporary, tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            [*command, "-f", "mp4", str(temporary)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=messages,
        )
        assert process.stdin is not None
        try:
            for jpeg in jpegs:
                process.stdin.write(jpeg)
                count += 1
        except BrokenPipeError:
            pass  # ffmpeg ended early: its exit status and messages are read below
        except BaseException:
            process.kill()
            raise
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            status = process.wait()
        if status or not count:
            messages.seek(0)
            lines = messages.read().decode(errors="replace").strip().splitlines()
            raise SpacerError(
                f"{path}: ffmpeg could not encode {count} frames",
                kind="rooms.encoding-failed",
                got=lines[0] if lines else f"exit status {status}",
                expected="at least one JPEG, all of them whole",
                remedy="check the recording and the free space on the disk",
            )
        info = probe(temporary)
        if info.frame_count != count:
            raise SpacerError(
                f"{path}: the encoded video lost frames",
                kind="rooms.frames-lost",
                got=f"{info.frame_count} frames",
                expected=f"{count} frames",
                remedy="check the recording for broken JPEGs",
            )
    return info


def encode_sens(sens_path: PathLike, mp4_path: PathLike, fps: float = FPS) -> VideoInfo:
    """Encode the colour images of a ``.sens`` recording; see ``encode_recording``."""
    with SensReader(sens_path) as recording:
        return encode_recording(recording, mp4_path, fps)


def encode_recording(
    recording: RecordingReader, mp4_path: PathLike, fps: float | None = None
) -> VideoInfo:
    """Encode the colour images of an open recording as an mp4.

    Frames whose pose is invalid stay in the video, so that frame numbers keep their
    meaning. A broken image is replaced by the one before it (at the start, by the first
    whole one). The table of ``read_frame_times`` is written beside the video
    (``frame_times_path``) in the same pass, whole or not at all. ``fps`` defaults to
    the recording's.

    Raises
    ------
    SpacerError
        As ``encode_jpegs``, or if more frames are broken than ``BrokenFrames`` allows
        or the images are neither JPEG nor PNG ("rooms.color-compression").
    """
    fps = fps or recording.fps
    with (
        atomic_path(frame_times_path(mp4_path)) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as table,
    ):
        if recording.color_format not in _CODECS:
            raise SpacerError(
                f"{recording.path}: colour images",
                kind="rooms.color-compression",
                got=f"compression {recording.color_format}",
                expected=f"{COLOR_JPEG} (jpeg) or {COLOR_PNG} (png)",
            )
        table.write(_COLUMNS + "\n")

        def jpegs() -> Iterator[bytes]:
            for frame in recording:
                table.write(_frame_row(frame, fps))
                yield frame.jpeg

        broken = BrokenFrames(
            str(recording.path), "colour images", recording.frame_count
        )
        codec = _CODECS[recording.color_format]
        images = _whole_jpegs(jpegs(), broken)
        info = encode_jpegs(images, mp4_path, fps, codec=codec)
        note = broken.note("the image before is shown") if broken.frames else ""
        return dataclasses.replace(info, note=note)


def take_video(recording: RecordingReader, video: PathLike, path: PathLike) -> str:
    """Put a recording's own video at ``path`` as it is, with its table of frames.

    The file is linked where the disk allows it, else copied.

    Returns
    -------
    str
        A note if the video and the recording differ in their number of frames.

    Raises
    ------
    SpacerError
        If the video cannot be decoded.
    """
    info = probe(video)
    rows = [_frame_row(frame, info.fps) for frame in recording][: info.frame_count]
    write_text(frame_times_path(path), "".join([_COLUMNS + "\n", *rows]))
    with atomic_path(path) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(video, temporary)
        except OSError:  # another disk
            shutil.copyfile(video, temporary)
    if info.frame_count == recording.frame_count:
        return ""
    return (
        f"the video has {info.frame_count} frames, the recording "
        f"{recording.frame_count}: frames beyond the shorter one are not used"
    )


def _frame_row(frame: Frame, fps: float) -> str:
    return (
        f"{frame.index},{frame.index / fps:.6f},{frame.color_time_us},"
        f"{frame.depth_time_us},{frame.T_scan_from_camera is not None:d}\n"
    )


def _whole_jpegs(jpegs: Iterable[bytes], broken: BrokenFrames) -> Iterator[bytes]:
    """As many images as ``jpegs``, each broken one replaced by a whole neighbour."""
    last, waiting = b"", 0
    for index, jpeg in enumerate(jpegs):
        if not _is_whole(jpeg):
            broken.add(index, f"{len(jpeg)} bytes are no whole image")
            if not last:
                waiting += 1
                continue
        else:
            last = jpeg
        yield from [last] * (waiting + 1)
        waiting = 0


def _is_whole(image: bytes) -> bool:
    """Whether a JPEG or PNG decodes and has its end (some cameras add zeros)."""
    marks = ((b"\xff\xd8", b"\xff\xd9"), (b"\x89PNG", b"IEND"))
    if not any(image.startswith(a) and b in image[-64:] for a, b in marks):
        return False
    return decoded(image, cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None


def frame_times_path(mp4_path: PathLike) -> Path:
    """``videos/<id>.mp4`` → ``videos/<id>.frames.csv``."""
    return Path(mp4_path).with_suffix(FRAMES_SUFFIX)


def read_frame_times(path: PathLike) -> tuple[FrameTime, ...]:
    """Read the table that ``encode_sens`` writes beside a video.

    Returns
    -------
    tuple of FrameTime
        One per frame of the video, in order.

    Raises
    ------
    SpacerError
        If the file is missing or has another form.
    """
    path = Path(path)
    if not path.is_file():
        raise SpacerError(
            f"frame table {path} is missing",
            kind="rooms.no-frame-table",
            remedy="encode the recording, or fix the path",
        )
    text = path.read_text(encoding="utf-8", errors="replace")
    head, *rows = text.splitlines() or [""]
    if head != _COLUMNS:
        raise SpacerError(
            f"{path} is not a frame table",
            kind="rooms.not-a-frame-table",
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
                kind="rooms.frame-table-row",
                got=row[:80],
                expected=f"frame {number}, three numbers, and 0 or 1",
                remedy="encode the recording again",
            ) from error
        times.append(time)
    return tuple(times)


def _require_video(path: PathLike) -> Path:
    if not Path(path).is_file():
        raise SpacerError(
            f"video {path} is missing",
            kind="rooms.no-video",
            remedy="encode or download it, or fix the path",
        )
    return Path(path)


def probe(path: PathLike) -> VideoInfo:
    """Frame count, rate and size of a video file, as the decoder reports them.

    Raises
    ------
    SpacerError
        If the file is missing or cannot be decoded in time.
    """
    frames, facts = decode(_require_video(path), None)
    height, width = frames.shape[1:3]
    return VideoInfo(facts["total"], facts["fps"], width, height)


def read_frames(
    source: PathLike,
    count: int,
    size: int | None = None,
    sampler: Sampler | None = None,
) -> tuple[npt.NDArray[np.uint8], tuple[int, ...], int, float]:
    """Read evenly spaced frames of a video.

    The most recent reads are kept, up to ``CACHE_BYTES``. A file that changed is read
    again.

    Parameters
    ----------
    source : path or str
        An mp4, or a ``room://view/seed`` address.
    count : int
        See ``sample_indices``.
    size : int, optional
        Side in pixels of the square frames. A file's frames are resized by area
        averaging, a ``room://`` video is rendered at that size. ``None`` keeps a
        file's own size.
    sampler : Sampler, optional
        Another rule; then ``count`` is the most.

    Returns
    -------
    frames : (count, height, width, 3) uint8
        RGB. The caller may change them.
    indices : (count,) tuple of int
        Of the frames in the full video.
    total : int
        Frames of the full video.
    fps : float
        Frame rate of the full video.

    Raises
    ------
    SpacerError
        If the video is missing or broken, takes longer than ``decoding.time_limit_s``,
        or is to be rendered and no size is given.
    """
    if str(source).startswith(ROOM_SCHEME):
        if size is None:
            raise SpacerError(
                f"video {source}",
                kind="rooms.no-size",
                got="no size",
                expected="the side of its frames in pixels",
            )
        from spacer_lib.rooms.synthetic.render import frames_from_uri

        # Not kept: rendering takes milliseconds.
        return frames_from_uri(str(source), count, size, sampler)
    path = _require_video(source)
    frames, indices, total, fps = _CACHE.recall(
        (*file_identity(path), count, size, sampler),
        lambda: _decode(path, count, size, sampler or Sampler()),
    )
    return frames.copy(), indices, total, fps


def file_identity(path: PathLike) -> tuple[str, int, int]:
    """A file's full path, time of change in ns and size in bytes.

    Files with other contents differ in one of them.
    """
    path = Path(path)
    stat = path.stat()
    return str(path.resolve()), stat.st_mtime_ns, stat.st_size


def _decode(
    path: Path, count: int, size: int | None, sampler: Sampler
) -> tuple[npt.NDArray[np.uint8], tuple[int, ...], int, float]:
    frames, facts = decode(path, count, size, sampler)
    return frames, tuple(facts["indices"]), facts["total"], facts["fps"]
