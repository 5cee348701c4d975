"""Decode video files in a child process, within a time limit.

The decoder is known to hang on some files, and a thread in its code cannot be stopped.
A process can. It is started with the first video, and serves until its parent ends.
"""

import atexit
import contextlib
import dataclasses
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
from spacer_lib.rooms.damage import MAX_BROKEN, concealed_frames, library_messages
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
    text = os.environ.get(SECONDS_VARIABLE) or str(SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 10**6:
        raise SpacerError(
            f"environment variable {SECONDS_VARIABLE}",
            kind="rooms.decode-seconds",
            got=repr(text),
            expected="seconds, above 0",
        )
    return seconds


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
        If the video cannot be decoded, or not within ``time_limit_s``; the file is
        named.
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
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
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
                remedy="encode or download it again",
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
    import decord

    decord.logging.set_level(decord.logging.INFO)  # read by `_serve`
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        total, fps = len(reader), float(reader.get_avg_fps())
        indices = (0,) if count is None else sampler.indices(total, count, fps)
        frames = reader.get_batch(list(indices)).asnumpy()
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        cut = _cut_short(path, count, sampler)
        if cut is not None:
            return _resized(cut[0], size), cut[1]
        lines = str(error).strip().splitlines()
        raise SpacerError(
            f"video {path} cannot be decoded",
            kind="rooms.undecodable-video",
            got=lines[0][:200] if lines else type(error).__name__,
            expected="a whole mp4",
            remedy="encode or download it again",
        ) from error
    facts = {"indices": list(indices), "total": total, "fps": fps}
    return _resized(frames, size), facts


def _resized(frames: npt.NDArray[np.uint8], size: int | None) -> npt.NDArray[np.uint8]:
    if size is None:
        return frames
    return np.stack(
        [cv2.resize(f, (size, size), interpolation=cv2.INTER_AREA) for f in frames]
    ).astype(np.uint8)


def _cut_short(
    path: Path, count: int | None, sampler: Sampler
) -> tuple[npt.NDArray[np.uint8], dict[str, Any]] | None:
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
    indices = (0,) if count is None else sampler.indices(whole, count, fps)
    video, kept = cv2.VideoCapture(str(path)), {}
    for number in range(whole):
        if video.grab() and number in indices:
            _, image = video.retrieve()
            kept[number] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    note = f"the header states {stated:.0f} frames, {whole} decode"
    facts = {"indices": list(indices), "total": whole, "fps": fps, "note": note}
    return np.stack([kept[i] for i in indices]), facts


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


def _serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer each line: 8 bytes with the length of a JSON text, the text, frames."""
    for line in requests:
        job = json.loads(line)
        # If the parent was killed, nobody else stops a decoder that hangs.
        signal.setitimer(signal.ITIMER_REAL, job["seconds"] + 10)
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
        replies.write(frames.tobytes())
        replies.flush()


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no reply
    _serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    _main()
