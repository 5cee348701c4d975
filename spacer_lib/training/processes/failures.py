"""Which error of a failed run was the first: the one worth reading.

When a worker fails, the others lose their connections and fail too, on all nodes, in
any order of printing. So a failing worker writes its error into ``failures.txt``
before it lets go of its connections: the first line there is the cause.
"""

import contextlib
import re
import signal
from pathlib import Path

FAILURES = "failures.txt"
KILLED = "worker killed by signal"
# What nobody in a run sends: a worker that dies of one is the cause by itself.
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
_ASKED = re.compile(  # 143: what a worker returns that stopped on SIGTERM
    r"failed \(exitcode: (?:143|-15)\)|non-zero exit status 143"
    rf"|died with <Signals\.SIGTERM: {signal.SIGTERM.value}>"
)


def clear_failures(folder):
    """Start with an empty ``failures.txt``: other nodes see it grow.

    It must exist: network file systems remember for a while that a file does not.
    """
    (Path(folder) / FAILURES).write_text("")


def note_failure(folder, text):
    """Append one line; a full disk, which may be the failure itself, is no other."""
    line = " ".join(str(text).split())
    with contextlib.suppress(OSError), open(Path(folder) / FAILURES, "a") as file:
        file.write(line + "\n")


def noted_failures(folder):
    """Lines of ``failures.txt``; none where there is no such file."""
    try:
        # Opened anew each time: that is when network file systems look again.
        return (Path(folder) / FAILURES).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []


def error_line(kind, error):
    """``ValueError: reward exploded``: an exception's name and first line."""
    first, *_ = str(error).splitlines() or [""]
    return f"{kind.__name__}: {first}"


def was_asked_to_stop(log):
    """Whether the log's workers ended because of a SIGTERM."""
    return bool(_ASKED.search(log))


def killed_by(log):
    """``worker killed by signal …`` if a worker crashed, or None."""
    if "forcefully exiting via" in log:
        return None  # the agent killed what did not end: not the cause
    for found in _DEATHS.finditer(log):
        number = int(found[1] or found[2])
        if number in CRASHES:
            memory = " (out of memory?)" if number == signal.SIGKILL else ""
            return f"{KILLED} {number}{memory}"
    return None


def find_cause(folder, log):
    """The first error of a run from what its nodes noted and one node's log.

    Returns
    -------
    str or None
    """
    noted = noted_failures(folder)
    crashed = killed_by(log) or next((n for n in noted if KILLED in n), None)
    return crashed or next(iter(noted), None)


def first_error(text):
    """The last line of the first traceback in a log of several ranks.

    For failures before a worker could note one, such as an import.
    """
    prefix = re.compile(r"^\[rank\d+\]:\s?")
    lines = [prefix.sub("", line) for line in text.splitlines()]
    for number, line in enumerate(lines):
        if line.startswith("Traceback (most recent call last)"):
            for below in lines[number + 1 :]:
                if below and not below[0].isspace():
                    return below
    return None
