"""The first error of a failed run, which is its cause.

If a worker fails, the others lose their connections and fail too, on all nodes, and
their errors are printed in any order. So a failing worker writes its error into
``failures.txt`` before it closes its connections: the first line there is the cause.
"""

import contextlib
import re
import signal
from pathlib import Path

from spacer_lib.artifacts import PathLike

FAILURES = "failures.txt"
KILLED = "worker killed by signal"
# No process of a run sends these: a worker that ends by one of them is the cause.
CRASHES = {
    signal.SIGKILL,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGILL,
    signal.SIGFPE,
}
_DEATHS = re.compile(
    r"Signal (\d+) \(SIG\w+\) received by PID"  # torch's summary
    r"|died with <Signals\.SIG\w+: (\d+)>"  # accelerate's, of a lone process
)
_ASKED = re.compile(  # 143: exit status of a worker that stopped on SIGTERM
    r"failed \(exitcode: (?:143|-15)\)|non-zero exit status 143"
    rf"|died with <Signals\.SIGTERM: {signal.SIGTERM.value}>"
)


def clear_failures(folder: PathLike) -> None:
    """Start with an empty ``failures.txt``.

    Network file systems cache the absence of a file; so it has to exist before other
    nodes look for it.
    """
    (Path(folder) / FAILURES).write_text("")


def note_failure(folder: PathLike, text: object) -> None:
    """Append one line.

    Errors of writing are ignored: the failure may be a full disk.
    """
    line = " ".join(str(text).split())
    with contextlib.suppress(OSError), open(Path(folder) / FAILURES, "a") as file:
        file.write(line + "\n")


def noted_failures(folder: PathLike) -> list[str]:
    """Lines of ``failures.txt``; none if there is no such file."""
    try:
        # Opened anew each time: network file systems then look again.
        return (Path(folder) / FAILURES).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []


def error_line(kind: type[BaseException], error: BaseException) -> str:
    """``ValueError: reward exploded``: an exception's name and first line."""
    first, *_ = str(error).splitlines() or [""]
    return f"{kind.__name__}: {first}"


def was_asked_to_stop(log: str) -> bool:
    """Whether the log's workers ended because of a SIGTERM."""
    return bool(_ASKED.search(log))


def killed_by(log: str) -> str | None:
    """``worker killed by signal …`` if a worker crashed, or None."""
    if "forcefully exiting via" in log:
        return None  # torch killed workers that did not end: not the cause
    for found in _DEATHS.finditer(log):
        number = int(found[1] or found[2])
        if number in CRASHES:
            memory = " (out of memory?)" if number == signal.SIGKILL else ""
            return f"{KILLED} {number}{memory}"
    return None


def find_cause(folder: PathLike, log: str) -> str | None:
    """The first error of a run: from the failures that nodes noted and a node's log."""
    noted = noted_failures(folder)
    crashed = killed_by(log) or next((n for n in noted if KILLED in n), None)
    return crashed or next(iter(noted), None)


def first_error(text: str) -> str | None:
    """The last line of the first traceback in a log of several ranks.

    For failures that a worker could not note, such as a failed import.
    """
    prefix = re.compile(r"^\[rank\d+\]:\s?")
    lines = [prefix.sub("", line) for line in text.splitlines()]
    for number, line in enumerate(lines):
        if line.startswith("Traceback (most recent call last)"):
            for below in lines[number + 1 :]:
                if below and not below[0].isspace():
                    return below
    return None
