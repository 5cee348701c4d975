"""One error type for everything a user can mend.

A message has four parts, in this order: what went wrong, what was found, what was
expected, and what to do about it. The command line prints it without a traceback.
"""

import functools


class SpacerError(Exception):
    """A mistake in input, configuration or environment, with its remedy.

    Parameters
    ----------
    what : str
        The thing that is wrong, named so that a reader can find it.
    got, expected, remedy : object, optional
        What was found, what should have been there, and what to do.

    Examples
    --------
    >>> print(SpacerError("scene0000_00", got="no aggregation.json",
    ...                   remedy="download it again"))
    scene0000_00: got no aggregation.json. Remedy: download it again.
    """

    def __init__(self, what, *, got=None, expected=None, remedy=None):
        self.what, self.got, self.expected, self.remedy = what, got, expected, remedy
        parts = []
        if got is not None:
            parts.append(f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        text = str(what) + (": " + "; ".join(parts) if parts else "")
        if remedy is not None:
            text += f". Remedy: {remedy}"
        super().__init__(text.rstrip(".") + ".")

    def __reduce__(self):
        # Raised in a worker process, it must reach the caller as it was.
        parts = {"got": self.got, "expected": self.expected, "remedy": self.remedy}
        texts = {k: None if v is None else str(v) for k, v in parts.items()}
        return functools.partial(type(self), str(self.what), **texts), ()
