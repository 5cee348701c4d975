"""One error type for everything a user can mend.

A message has four parts, in this order: what went wrong, what was found, what was
expected, and what to do about it. The command line prints it without a traceback.
Beside the words an error has a *kind*, a short name that stays when the words change:
``<wing>.<fault>``, such as ``rooms.no-labels``. Tests assert kinds, not words.
"""

import difflib
import errno
import functools
from collections.abc import Iterable


class SpacerError(Exception):
    """A mistake in input, configuration or environment, with its remedy.

    Parameters
    ----------
    what : object
        The thing that is wrong, named so that a reader can find it.
    kind : str
        ``<wing>.<fault>``: what sort of mistake this is, in lower case and hyphens.
    got, expected, remedy : object, optional
        What was found, what should have been there, and what to do.

    Examples
    --------
    >>> error = SpacerError("scene0000_00", kind="rooms.no-aggregation",
    ...                     got="no aggregation.json", remedy="download it again")
    >>> print(error)
    scene0000_00: got no aggregation.json. Remedy: download it again.
    >>> error.kind
    'rooms.no-aggregation'
    """

    def __init__(
        self,
        what: object,
        *,
        kind: str,
        got: object = None,
        expected: object = None,
        remedy: object = None,
    ) -> None:
        self.what, self.kind = what, kind
        self.got, self.expected, self.remedy = got, expected, remedy
        parts = []
        if got is not None:
            parts.append(f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        text = str(what) + (": " + "; ".join(parts) if parts else "")
        if remedy is not None:
            text = f"{_ended(text)} Remedy: {remedy}"
        super().__init__(_ended(text))

    def inside(self, place: object) -> "SpacerError":
        """The same error, its subject preceded by a file or row that it lacks."""
        if str(place) in str(self.what):
            return self
        return SpacerError(
            f"{place}: {self.what}",
            kind=self.kind,
            got=self.got,
            expected=self.expected,
            remedy=self.remedy,
        )

    def __reduce__(self) -> tuple:
        # Raised in a worker process, it must reach the caller as it was.
        parts = {"got": self.got, "expected": self.expected, "remedy": self.remedy}
        texts = {k: None if v is None else str(v) for k, v in parts.items()}
        again = functools.partial(type(self), str(self.what), kind=self.kind, **texts)
        return again, ()


def _ended(text: str) -> str:
    """``text`` with a full stop, unless a sentence ends there already."""
    text = text.rstrip(". ")
    return text if text.endswith(("?", "!")) else f"{text}."


def nearest(name: object, known: Iterable[object]) -> str:
    """A remedy for a name that does not exist: the nearest one, or all there are.

    Examples
    --------
    >>> nearest("tinny", ["tiny", "spacer_7b"])
    'did you mean tiny?'
    >>> nearest("05", ["04_design_rewards", "05_train_grpo"])
    'did you mean 05_train_grpo?'
    >>> nearest("x", ["tiny", "spacer_7b"])
    'choose from tiny, spacer_7b'
    """
    names = [str(other) for other in known]
    found = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    # "05" is far from "05_train_grpo" by letters.
    found = found or [other for other in names if other.startswith(str(name))][:1]
    return f"did you mean {found[0]}?" if found else f"choose from {', '.join(names)}"


_ELSEWHERE = "or choose another folder"
# By error number: what to do. Their meaning is the system's own text.
_REMEDIES: dict[int | None, str] = {
    errno.ENOSPC: f"free space on that disk, {_ELSEWHERE}, and start again",
    errno.EDQUOT: f"free space below your quota, {_ELSEWHERE}, and start again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), and start again",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.EACCES: f"change its permissions, {_ELSEWHERE}",
    errno.EPERM: f"change its permissions, {_ELSEWHERE}",
    errno.ELOOP: "a symbolic link leads back to itself: remove or correct it",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of the path is a file, not a folder: correct the path",
    errno.EISDIR: "the path is a folder, not a file: correct it",
    errno.EEXIST: "remove what is there, or choose another name",
    errno.ENOENT: "correct the path, or run the step that writes it",
    errno.EMFILE: "raise the limit on open files (ulimit -n), or use fewer --workers",
    errno.ENFILE: "close other programs, or use fewer --workers",
    errno.ENOMEM: "use fewer --workers or smaller batches, or free memory",
    errno.EAGAIN: "use fewer --workers, or raise the limit on processes (ulimit -u)",
    errno.EIO: "check the disk (dmesg), and start again from another one",
    errno.ESTALE: "mount the network folder again, and start again",
    errno.EPIPE: "the process that reads it has ended: start again",
    errno.EADDRINUSE: "choose another --port",
}


def remedy_for(error: OSError) -> str:
    """What to do about an error of the system, by its number.

    Examples
    --------
    >>> remedy_for(OSError(errno.ENAMETOOLONG, "File name too long"))
    'choose a shorter name'
    """
    return _REMEDIES.get(error.errno, "mend what it names, and start again")
