"""The process that decodes videos: what it may use, set before it reads a file.

Run as a module with the name of another one, it confines itself and lets that one
serve. It imports nothing that starts threads before: a network is taken from one thread
alone.

It may not write files or leave a core dump. It has no network where Linux lets this
user take it away, and a limit of memory and processor time where the system has one.
"""

import contextlib
import ctypes
import importlib
import os
import resource
import sys
from pathlib import Path

MEMORY_VARIABLE = "SPACER_DECODE_GB"
MEMORY_GB = 8.0  # above what the process has at its start
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # of Linux's unshare


def confine() -> None:
    """Take away files to write, core dumps and, where possible, the network."""
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(what, (0, 0))
    leave_network()


def leave_network() -> bool:
    """Move into a network without interfaces; whether that worked.

    An ordinary user may do so only together with a namespace of users, which many
    systems forbid.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    return any(
        libc.unshare(flags) == 0
        for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET)
    )


def limit_memory(gigabytes: float) -> None:
    """Let the process's memory grow by this much, where the system can tell its size.

    Parameters
    ----------
    gigabytes : float
        10^9 bytes of address space.
    """
    with contextlib.suppress(FileNotFoundError):  # no Linux
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + round(gigabytes * 1e9)
        _lower(resource.RLIMIT_AS, most)


def limit_processor(seconds: float) -> None:
    """Let the process compute for this long from now on; it is ended after that."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, round(used.ru_utime + used.ru_stime + seconds) + 1)


def _lower(what: int, most: int) -> None:
    """Set a limit, but not above the one that the user has."""
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(what, (most, hard))


def main() -> None:
    """Confine this process, then let the module named first serve its input."""
    confine()
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    importlib.import_module(sys.argv[1]).serve()


if __name__ == "__main__":
    main()
