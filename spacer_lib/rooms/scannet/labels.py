"""ScanNet's label table and the names of categories.

``scannetv2-labels.combined.tsv`` maps the free text that annotators typed, plurals and
typing errors included, to a category. VSI-Bench renames and merges a few of them.

Source: http://www.scan-net.org (``scannetv2-labels.combined.tsv``); VSI-Bench's
published ScanNet meta-information for the names.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError

COLUMNS = ("id", "raw_category", "category", "nyu40id")

ALIASES = {
    "couch": "sofa",
    "desk": "table",
    "mouse": "computer mouse",
    "recycling bin": "trash bin",
    "trash can": "trash bin",
}

# Nine of ScanNet's twenty benchmark classes combine several labels (an office chair is
# a chair). Their nyu40 number decides.
NYU40_CATEGORIES = {
    4: "bed",
    5: "chair",
    6: "sofa",
    7: "table",
    9: "window",
    10: "bookshelf",
    12: "counter",
    14: "table",  # nyu40 says desk
    24: "refrigerator",
}


@dataclass(frozen=True)
class Label:
    """One row of the table; ``category`` is normalised."""

    id: int
    raw_category: str
    category: str
    nyu40id: int


def normalise_category(name: str) -> str:
    """A category in lower case, with single spaces and VSI-Bench's name.

    Examples
    --------
    >>> normalise_category(" Trash  Can")
    'trash bin'
    """
    name = " ".join(name.lower().split())
    return ALIASES.get(name, name)


def read_labels(path: PathLike) -> dict[str, Label]:
    """``{raw_category: Label}`` of the tab-separated table.

    Columns are found by their names: other columns and their order do not matter.

    Raises
    ------
    SpacerError
        If the file or one of its columns is missing, or an id is not a number.
    """
    path = Path(path)
    if not path.is_file():
        raise SpacerError(
            f"{path} is missing",
            kind="rooms.no-labels",
            remedy="download scannetv2-labels.combined.tsv",
        )
    with path.open(encoding="utf-8", errors="replace", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        absent = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if absent:
            raise SpacerError(
                f"{path}: columns {', '.join(absent)} are missing",
                kind="rooms.label-columns",
                got=rows.fieldnames,
                expected=f"at least {', '.join(COLUMNS)}",
                remedy="download scannetv2-labels.combined.tsv again",
            )
        labels = {}
        for row in rows:
            raw = row["raw_category"]
            try:
                number, nyu40id = int(row["id"]), int(row["nyu40id"] or 0)
            except (TypeError, ValueError) as error:
                raise SpacerError(
                    f"{path} line {rows.line_num}: id or nyu40id",
                    kind="rooms.label-number",
                    got=f"{row['id']!r}, {row['nyu40id']!r}",
                    expected="whole numbers",
                    remedy="download scannetv2-labels.combined.tsv again",
                ) from error
            category = normalise_category(row["category"] or raw)
            category = NYU40_CATEGORIES.get(nyu40id, category)
            labels[raw] = Label(number, raw, category, nyu40id)
    return labels
