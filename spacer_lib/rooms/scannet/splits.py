"""ScanNet's lists of training and validation scans.

Source: https://github.com/ScanNet/ScanNet (``Tasks/Benchmark``).
"""

import re
from pathlib import Path

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError

_SCAN_ID = re.compile(r"scene\d{4,}_\d{2}")


def read_split(path: PathLike) -> tuple[str, ...]:
    """Scan ids of one list, such as ``scannetv2_val.txt``, in the file's order.

    Raises
    ------
    SpacerError
        If the file is missing or a line is not a scan id.
    """
    path = Path(path)
    if not path.is_file():
        raise SpacerError(
            f"{path} is missing",
            kind="rooms.no-split",
            remedy="download ScanNet's benchmark split lists into the folder of scans/",
        )
    scan_ids = tuple(path.read_text(encoding="utf-8", errors="replace").split())
    for scan_id in scan_ids:
        if not _SCAN_ID.fullmatch(scan_id):
            raise SpacerError(
                f"{path}: not a scan id",
                kind="rooms.not-a-scan-id",
                got=repr(scan_id),
                expected="scene0000_00",
                remedy="download the official split lists again",
            )
    return scan_ids


def read_splits(folder: PathLike) -> dict[str, tuple[str, ...]]:
    """``{"train": ids, "val": ids}`` from ``scannetv2_train.txt`` and ``_val.txt``.

    Raises
    ------
    SpacerError
        As ``read_split``, or if the two lists share a physical space: the official
        ones do not.
    """
    folder = Path(folder)
    splits = {
        name: read_split(folder / f"scannetv2_{name}.txt") for name in ("train", "val")
    }
    spaces = [{scan.split("_")[0] for scan in ids} for ids in splits.values()]
    shared = sorted(spaces[0] & spaces[1])
    if shared:
        raise SpacerError(
            f"{folder}: train and val share physical spaces",
            kind="rooms.shared-spaces",
            got=f"{len(shared)}, first {shared[0]}",
            expected="none",
            remedy="download the official split lists again",
        )
    return splits
