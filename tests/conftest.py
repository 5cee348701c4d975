"""Session set-up: one thread, no network, no windows, real metadata when named.

Whole files get the markers that ``scripts/test.sh`` selects by.
"""

import os
from pathlib import Path

# Before numpy and torch are imported: both read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest  # noqa: E402

# Folders, or files without ``test_`` and suffix.
MARKS = {
    "training": (
        "training",
        "ask",
        "cli",
        "doctor",
        "evaluation",
        "sampling",
        "bench_step",
        "study",
        "reproduce",
        "rollouts",
    ),
    "video": (
        "build",
        "cli",
        "bench_data",
        "layouts",
        "reproduce",
        "scannet",
        "scans",
        "synthetic",
        "video",
    ),
    "processes": (
        "bench_kills",
        "cluster",
        "equality",
        "lab",
        "launch",
        "light_workers",
        "nbval",
        "notebook_scans",
        "with_vllm",
        "workers",
    ),
    "slow": ("processors", "qa_properties"),
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the tests of whole files, before any is deselected."""
    for item in items:
        names = item.path.parent.name, item.path.stem.removeprefix("test_")
        for mark, marked in MARKS.items():
            if not set(names).isdisjoint(marked):
                item.add_marker(mark)


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
