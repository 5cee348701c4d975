"""What several test files use."""

from typing import Any

import pytest

from spacer_lib.errors import SpacerError


def refused(kind: str, *, says: str | None = None) -> Any:
    """``pytest.raises`` for a ``SpacerError`` of one kind.

    Parameters
    ----------
    kind : str
        ``<wing>.<fault>``, exactly.
    says : str, optional
        A fact that the message must hold, such as a file's name or a number. Not its
        wording: that is free to change.
    """

    def fits(error: SpacerError) -> bool:
        return error.kind == kind and (says is None or says in str(error))

    return pytest.raises(SpacerError, check=fits)
