"""The one place where errors of the system become one line.

Readers and writers raise ``SpacerError`` for what they expect. What remains (a full
disk, a link to itself, too little memory, a closed output) is worded here, with the
file and a remedy. ``SPACER_TRACEBACK=1`` shows the traceback instead.
"""

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from spacer_lib.errors import SpacerError, remedy_for

_MEMORY = "use fewer --workers or smaller batches, or free memory"
# How libraries that do not raise MemoryError word too little memory.
_MEMORY_WORDS = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "insufficient memory",
    "failed to map segment",
    "bad_alloc",
)
# How torch, safetensors and ffmpeg word a full disk.
_FULL_WORDS = ("no space left", "os error 28", "file write failed", "unexpected pos")
STANDARD = {0: "stdin", 1: "stdout", 2: "stderr"}


class OutputClosed(Exception):
    """Nobody reads standard output any more, as after ``| head``."""


def open_standard_streams() -> None:
    """Put the null device where standard input, output or error is closed.

    The next file would take its number, and a message be written into that file.
    """
    for number, name in STANDARD.items():
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(number, mode, closefd=False))


def check_working_folder() -> None:
    """Refuse to work in a folder that is deleted.

    Raises
    ------
    SpacerError
    """
    try:
        os.getcwd()
    except OSError as error:
        raise SpacerError(
            "the working folder",
            kind="cli.no-working-folder",
            got=error.strerror,
            expected="a folder that exists",
            remedy="change to another folder (cd), and start again",
        ) from error


def flush_output(text: str = "") -> None:
    """Write what standard output still holds, and ``text``.

    Raises
    ------
    OutputClosed
        If nobody reads it.
    SpacerError
        If it cannot be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError as error:
        _give_up_output()
        raise OutputClosed from error
    except OSError as error:
        _give_up_output()
        raise SpacerError(
            "standard output",
            kind="cli.output-unwritable",
            got=error.strerror,
            expected="a place that can be written",
            remedy="send it elsewhere; the command's own files are whole",
        ) from error


def _give_up_output() -> None:
    """Drop what standard output holds; the interpreter would try again at its end."""
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Turn any error of the block into a ``SpacerError``.

    Raises
    ------
    SpacerError
        With file, the system's words and a remedy; ``kind`` is ``cli.`` and the sort of
        fault: ``system``, ``disk-full``, ``memory``, ``nesting``, ``package`` or
        ``unforeseen``.
    OutputClosed
        If nobody reads standard output.
    """
    try:
        yield
    except (SpacerError, OutputClosed):
        raise
    except Exception as error:
        if os.environ.get("SPACER_TRACEBACK") == "1":
            raise
        if isinstance(error, OSError) and error.filename is None:
            flush_output("\n")  # raises if this is what failed
        raise as_refusal(error) from error


def as_refusal(error: Exception) -> SpacerError:
    """An error that nobody expected, with what is known of its file and a remedy."""
    words = " ".join(str(error).split())[:300]
    name = type(error).__name__
    if isinstance(error, MemoryError) or any(
        part in words.lower() for part in _MEMORY_WORDS
    ):
        return SpacerError(
            "too little memory",
            kind="cli.memory",
            got=words or name,
            remedy=_MEMORY,
        )
    if isinstance(error, OSError) and error.errno is not None:
        return SpacerError(
            _file(error),
            kind="cli.system",
            got=error.strerror or words,
            remedy=remedy_for(error),
        )
    if any(part in words.lower() for part in _FULL_WORDS):
        return SpacerError(
            f"a file in use by {_place(error)}",
            kind="cli.disk-full",
            got=words,
            remedy=remedy_for(OSError(errno.ENOSPC, words)),
        )
    if isinstance(error, RecursionError):
        return SpacerError(
            f"a value nested too deeply, read in {_place(error)}",
            kind="cli.nesting",
            got=words,
            remedy="write or download the input again",
        )
    if isinstance(error, ImportError):
        return SpacerError(
            f"package {error.name or ''}".strip(),
            kind="cli.package",
            got=words,
            remedy="make setup, which completes the environment",
        )
    return SpacerError(
        f"unforeseen {name} in {_place(error)}",
        kind="cli.unforeseen",
        got=words or name,
        remedy="check the input; if it is whole, report this line with the traceback "
        "that SPACER_TRACEBACK=1 shows",
    )


def _file(error: OSError) -> str:
    names = [os.fsdecode(n) for n in (error.filename, error.filename2) if n is not None]
    return " → ".join(names) if names else f"a file in use by {_place(error)}"


def _place(error: Exception) -> str:
    """Module and line of the project where an error came up."""
    root = Path(__file__).parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if Path(one.filename).is_relative_to(root)]
    if not frames:
        return "the program"
    last = (own or frames)[-1]
    return f"{Path(last.filename).name} line {last.lineno}"
