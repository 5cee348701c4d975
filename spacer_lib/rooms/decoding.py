"""Decode video files in a child process, within limits of time and memory.

The decoder is known to hang on some files, and a thread in its code cannot be stopped.
A process can. It is started with the first video, and serves until its parent ends.
``rooms.confined`` says what it may use, ``rooms.decoders`` which library reads.
"""

import atexit
import contextlib
import dataclasses
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from spacer_lib.artifacts import PROJECT_ROOT, PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.rooms import confined
from spacer_lib.rooms.confined import MEMORY_GB, MEMORY_VARIABLE
from spacer_lib.rooms.damage import MAX_BROKEN, concealed_frames, library_messages
from spacer_lib.rooms.decoders import Choose, Undecodable, decoder_name, read
from spacer_lib.rooms.frames import Sampler

SECONDS_VARIABLE = "SPACER_DECODE_SECONDS"
SECONDS = 120.0  # for one read of one video, unless the variable says otherwise


def time_limit_s() -> float:
    """Seconds that one read of a video may take: ``SPACER_DECODE_SECONDS`` or 120.

    Raises
    ------
    SpacerError
        If the variable is not a number above 0.
    """
    return _limit(SECONDS_VARIABLE, SECONDS, "rooms.decode-seconds", "seconds")


def memory_limit_gb() -> float:
    """Memory that a decoder may add to its own: ``SPACER_DECODE_GB`` or 8, in 10^9 B.

    Raises
    ------
    SpacerError
        If the variable is not a number above 0.
    """
    return _limit(MEMORY_VARIABLE, MEMORY_GB, "rooms.decode-memory", "gigabytes")


def _limit(variable: str, usual: float, kind: str, unit: str) -> float:
    text = os.environ.get(variable) or str(usual)
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit < 10**6:
        raise SpacerError(
            f"environment variable {variable}",
            kind=kind,
            got=repr(text),
            expected=f"{unit}, above 0",
        )
    return limit


def decode(
    path: PathLike,
    count: int | None,
    size: int | None = None,
    sampler: Sampler | None = None,
) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
    """Evenly spaced frames of a video file.

    Parameters
    ----------
    path : path
    count : int or None
        See ``sample_indices``; ``None``: the first frame alone.
    size : int, optional
        Side of the square that frames are resized to.
    sampler : Sampler, optional
        Another rule than ``sample_indices``; then ``count`` is the most.

    Returns
    -------
    frames : (count, height, width, 3) uint8
        RGB.
    facts : dict
        ``indices`` of the frames, ``total`` frames of the video, ``fps``. Of a file
        whose header states more frames than decode, ``total`` are those that decode. A
        warning names both numbers.

        At most ``damage.MAX_BROKEN`` of the frames may be missing.

    Raises
    ------
    SpacerError
        If the video cannot be decoded, or not within ``time_limit_s`` and
        ``memory_limit_gb``; the file is named.
    """
    job = {
        "path": str(path),
        "count": count,
        "size": size,
        "sampler": dataclasses.asdict(sampler or Sampler()),
        "seconds": time_limit_s(),
    }
    with _borrowed() as decoder:
        frames, facts = decoder.run(job)
    note = facts.pop("note", None)
    if note:
        warnings.warn(f"video {path}: {note}", stacklevel=2)
    return frames, facts


class _Decoder:
    """A child process that decodes one video at a time."""

    def __init__(self) -> None:
        paths = filter(None, [os.environ.get("PYTHONPATH"), str(PROJECT_ROOT)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", confined.__name__, __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                MEMORY_VARIABLE: str(memory_limit_gb()),
            },
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, job: dict[str, Any]) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
        deadline = time.monotonic() + job["seconds"]
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            length = int.from_bytes(self._receive(8, deadline), "little")
            facts = json.loads(bytes(self._receive(length, deadline)))
            if "error" in facts:
                raise _made_again(**facts["error"])
            shape = facts.pop("shape")
            data = self._receive(int(np.prod(shape)), deadline)
        except TimeoutError as error:
            self.stop()
            raise SpacerError(
                f"video {job['path']} was not decoded in time",
                kind="rooms.decoding-time",
                got=f"no end after {job['seconds']:g} s; the decoder was stopped",
                expected="a whole mp4",
                remedy=f"encode it again, or set {SECONDS_VARIABLE} to more seconds",
            ) from error
        except (EOFError, BrokenPipeError) as error:
            status = self._process.wait()
            raise SpacerError(
                f"video {job['path']} cannot be decoded",
                kind="rooms.undecodable-video",
                got=f"the decoder ended with status {status}",
                expected="a whole mp4",
                remedy=f"encode or download it again; a large one may need more "
                f"memory than {memory_limit_gb():g} GB: set {MEMORY_VARIABLE}",
            ) from error
        except BaseException as error:
            if not isinstance(error, SpacerError):
                self.stop()  # half a reply would be taken for the next one's
            raise
        return np.frombuffer(data, np.uint8).reshape(shape), facts

    def _receive(self, count: int, deadline: float) -> bytearray:
        data = bytearray(count)
        view, pipe = memoryview(data), self._process.stdout
        assert pipe is not None
        while view:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise TimeoutError
            got = pipe.readinto(view)  # type: ignore[attr-defined]
            if not got:
                raise EOFError
            view = view[got:]
        return data


def _made_again(what: str, kind: str, **parts: str | None) -> SpacerError:
    return SpacerError(what, kind=kind, **parts)


_idle: list[_Decoder] = []
_owner = [os.getpid()]
_lock = threading.Lock()


@contextlib.contextmanager
def _borrowed() -> Iterator[_Decoder]:
    """A decoder that no other thread uses; a new one if all are busy."""
    with _lock:
        if _owner[0] != os.getpid():  # after a fork they are the parent's
            _owner[0] = os.getpid()
            _idle.clear()
        decoder = _idle.pop() if _idle else None
    if decoder is None or not decoder.alive:
        decoder = _Decoder()
    try:
        yield decoder
    finally:
        if decoder.alive:
            with _lock:
                _idle.append(decoder)


@atexit.register
def stop_idle() -> None:
    """End the child processes that no thread uses."""
    with _lock:
        while _idle and _owner[0] == os.getpid():
            _idle.pop().stop()


# ---------------------------------------------------------------- in the child


def _decoded(
    path: Path, count: int | None, size: int | None, sampler: Sampler
) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
    def choose(total: int, fps: float) -> tuple[int, ...]:
        return (0,) if count is None else sampler.indices(total, count, fps)

    def fitted(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return frame if size is None else _resized(frame, size)

    try:
        return read(path, choose, fitted)
    except Undecodable as error:
        cut = _cut_short(path, choose)
        if cut is not None:
            return np.stack([fitted(frame) for frame in cut[0]]), cut[1]
        raise SpacerError(
            f"video {path} cannot be decoded",
            kind="rooms.undecodable-video",
            got=error,
            expected="a whole mp4",
            remedy="encode or download it again",
        ) from error
    except MemoryError as error:
        raise SpacerError(
            f"video {path} needs too much memory",
            kind="rooms.decoding-memory",
            got=f"no more within {os.environ[MEMORY_VARIABLE]} GB",
            expected="fewer or smaller frames",
            remedy=f"encode it smaller, or set {MEMORY_VARIABLE} to more gigabytes",
        ) from error


def _resized(frame: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    small = cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8)


def _cut_short(
    path: Path, choose: Choose
) -> tuple[list[npt.NDArray[np.uint8]], dict[str, Any]] | None:
    """The same of a file whose end is missing, frame by frame; ``None`` of another.

    The usual decoder does not open such a file.
    """
    video = cv2.VideoCapture(str(path))
    stated, fps = (video.get(p) for p in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
    whole = 0
    while video.grab():
        whole += 1
    few = whole < (1 - MAX_BROKEN) * stated
    if few or not 0 < whole < stated or not fps > 0:
        return None
    indices = choose(whole, fps)
    video, kept = cv2.VideoCapture(str(path)), {}
    for number in range(whole):
        if video.grab() and number in indices:
            _, image = video.retrieve()
            kept[number] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8)
    note = f"the header states {stated:.0f} frames, {whole} decode"
    facts = {"indices": list(indices), "total": whole, "fps": fps, "note": note}
    return [kept[i] for i in indices], facts


def _add_notes(facts: dict[str, Any], said: Sequence[str]) -> None:
    """Put damaged and repeated frames into the note of a video that was read."""
    notes = [facts["note"]] if "note" in facts else []
    damaged, shown = concealed_frames(said), len(facts["indices"])
    if damaged:
        notes.append(
            f"{damaged} or more of the frames read are damaged; the decoder filled "
            "them from their neighbours: download or encode it again"
        )
    if len(set(facts["indices"])) < shown:
        notes.append(
            f"{shown} frames are shown of {facts['total']}, some of them repeatedly: "
            "ask for fewer frames, or leave the video out"
        )
    if notes:
        facts["note"] = "; ".join(notes)


def _answer(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer each line: 8 bytes with the length of a JSON text, the text, frames."""
    for line in requests:
        job = json.loads(line)
        # If the parent was killed, nobody else stops a decoder that hangs.
        signal.setitimer(signal.ITIMER_REAL, job["seconds"] + 10)
        confined.limit_processor(job["seconds"] + 10)
        frames = np.empty(0, np.uint8)
        try:
            sampler = Sampler(**job["sampler"])
            asked = Path(job["path"]), job["count"], job["size"], sampler
            with library_messages() as said:
                frames, facts = _decoded(*asked)
            _add_notes(facts, said)
            facts["shape"] = frames.shape
        except SpacerError as error:
            names = ("what", "kind", "got", "expected", "remedy")
            parts = {name: getattr(error, name) for name in names}
            facts = {"error": {k: v and str(v) for k, v in parts.items()}}
        signal.setitimer(signal.ITIMER_REAL, 0)
        text = json.dumps(facts).encode()
        replies.write(len(text).to_bytes(8, "little") + text)
        replies.write(np.ascontiguousarray(frames).data)
        replies.flush()


def serve() -> None:
    """Decode what this process is asked for, until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    # The limit counts from here on. What fails now fails again, in a reply.
    with contextlib.suppress(ImportError, SpacerError):
        importlib.import_module(decoder_name())
    confined.limit_memory(memory_limit_gb())
    replies = os.fdopen(os.dup(1), "wb")
    # Whatever a library prints is no reply. Standard error may be a file, which this
    # process cannot write.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _answer(sys.stdin.buffer, replies)
