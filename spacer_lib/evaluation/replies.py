"""What comes back from a backend. Nothing here loads a model library."""

import zlib
from collections.abc import Generator
from typing import NamedTuple

import numpy as np


class Reply(NamedTuple):
    """What came back for one row.

    Attributes
    ----------
    text : str or None
        Raw output; begins with its forced prefix.
    tokens : int or None
        Generated, a forced prefix not counted; ``None`` if the backend does not say.
    failure : str or None
        Why there is no text: one of ``predictions.UNANSWERED``, with details.
    """

    text: str | None = None
    tokens: int | None = None
    failure: str | None = None


Replies = Generator[tuple[int, Reply], None, None]  # (index of the row, its reply)


def keyed(seed: int, name: object) -> np.random.Generator:
    """A generator that depends on the seed and a row's id alone."""
    return np.random.default_rng([seed, zlib.crc32(str(name).encode())])
