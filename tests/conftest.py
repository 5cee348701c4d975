"""Session set-up: one thread, no network, no windows, real metadata when named."""

import os
from pathlib import Path

# Before numpy and torch are imported: both read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest  # noqa: E402


def _named_file(variable, what):
    name = os.environ.get(variable)
    if not name:
        pytest.skip(f"{variable} is unset: real {what} is not shipped")
    path = Path(name)
    assert path.is_file(), f"{variable} names {path}, which is not a file"
    return path


@pytest.fixture(scope="session")
def real_meta():
    """Path of VSI-Bench's ScanNet meta-information (one JSON file)."""
    return _named_file("SPACER_REAL_META", "VSI-Bench metadata")


@pytest.fixture(scope="session")
def real_qa():
    """Path of VSI-Bench's questions on ScanNet (JSON lines)."""
    return _named_file("SPACER_REAL_QA", "VSI-Bench questions")
