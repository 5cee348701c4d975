"""The official lists of scans."""

import re
from pathlib import Path

from spacer_lib.errors import SpacerError

_SCAN_ID = re.compile(r"scene\d{4,}_\d{2}")


def read_split(path):
    """Scan ids of one list, e.g. ``scannetv2_val.txt``, in file order.

    Raises
    ------
    SpacerError
        If the file is missing or a line is not a scan id.
    """
    path = Path(path)
    if not path.is_file():
        raise SpacerError(
            f"{path} is missing",
            remedy="download ScanNet's benchmark split lists beside scans/",
        )
    scan_ids = tuple(path.read_text(encoding="utf-8", errors="replace").split())
    for scan_id in scan_ids:
        if not _SCAN_ID.fullmatch(scan_id):
            raise SpacerError(
                f"{path}: not a scan id", got=repr(scan_id), expected="scene0000_00"
            )
    return scan_ids


def read_splits(folder):
    """``{"train": ids, "val": ids}`` from ``scannetv2_train.txt`` and ``_val.txt``.

    Raises
    ------
    SpacerError
        Also if the two share a physical space, which the official lists never do.
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
            got=f"{len(shared)}, first {shared[0]}",
            expected="none",
            remedy="download the official split lists again",
        )
    return splits
