"""ScanNet's label table and the names of categories.

``scannetv2-labels.combined.tsv`` maps the free text that annotators typed, plurals and
typing errors included, to a category. VSI-Bench renames and merges a few of them.

Source: http://www.scan-net.org (``scannetv2-labels.combined.tsv``); VSI-Bench's
published ScanNet meta-information for the names.
"""

import csv
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.scannet.text import read_text

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


def spelling(name: str) -> str:
    """Equal for names that differ in case, white space, underscores and character form.

    Examples
    --------
    >>> spelling(" Office_Chair ")
    'office chair'
    """
    name = unicodedata.normalize("NFKC", name).replace("_", " ")
    return " ".join(name.lower().split())


def find_label(labels: Mapping[str, "Label"], name: str) -> "Label | None":
    """The table's row for an annotator's text: the same text, else the same spelling.

    Of several rows with one spelling the first counts.
    """
    if name in labels:
        return labels[name]
    wanted = spelling(name)
    return next((row for raw, row in labels.items() if spelling(raw) == wanted), None)


def normalise_category(name: str) -> str:
    """A category in lower case, with single spaces and VSI-Bench's name.

    Examples
    --------
    >>> normalise_category(" Trash  Can")
    'trash bin'
    """
    name = spelling(name)
    return ALIASES.get(name, name)


def read_labels(path: PathLike) -> dict[str, Label]:
    """``{raw_category: Label}`` of the table.

    Columns are found by their names: other columns and their order do not matter. A
    table that pandas or a spreadsheet saved again is read too: commas or semicolons
    instead of tabs, quotes, numbers such as 5.0, and blank rows.

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
    head, *lines = read_text(path).splitlines() or [""]
    mark = max("\t,;", key=head.count)
    # ScanNet's own table has tabs, and quotes that are part of a label.
    quotes = None if mark == "\t" else '"'
    columns = [_unquoted(name).strip() for name in head.split(mark)]
    absent = [name for name in COLUMNS if name not in columns]
    if absent:
        raise SpacerError(
            f"{path}: columns {', '.join(absent)} are missing",
            kind="rooms.label-columns",
            got=str(columns)[:200],
            expected=f"at least {', '.join(COLUMNS)}",
            remedy="download scannetv2-labels.combined.tsv again",
        )
    labels: dict[str, Label] = {}
    rows = csv.reader(lines, delimiter=mark, quotechar=quotes)
    try:
        for cells in rows:
            row = dict(zip(columns, map(_unquoted, cells), strict=False))
            raw = row.get("raw_category", "")
            if any(map(str.strip, cells)) and raw.strip():
                where = f"{path} line {rows.line_num + 1}"
                labels.setdefault(raw, _label(where, raw, row))
    except csv.Error as error:
        raise SpacerError(
            f"{path} line {rows.line_num + 1}",
            kind="rooms.label-row",
            got=error,
            expected="one label",
            remedy="download scannetv2-labels.combined.tsv again",
        ) from error
    return labels


def _label(where: str, raw: str, row: Mapping[str, str]) -> Label:
    try:
        number = _whole(row.get("id", ""))
        nyu40id = _whole(row.get("nyu40id", "") or "0")
    except ValueError as error:
        raise SpacerError(
            f"{where}: id or nyu40id",
            kind="rooms.label-number",
            got=f"{row.get('id', '')[:40]!r}, {row.get('nyu40id', '')[:40]!r}",
            expected="whole numbers",
            remedy="download scannetv2-labels.combined.tsv again",
        ) from error
    category = normalise_category(row.get("category", "")) or normalise_category(raw)
    category = NYU40_CATEGORIES.get(nyu40id, category)
    return Label(number, raw, category, nyu40id)


def _whole(text: str) -> int:
    """``5``, ``5.0`` and, for an empty cell that pandas wrote, ``nan`` as 0."""
    number = float(text)
    if math.isnan(number):
        return 0
    if not number.is_integer():
        raise ValueError(f"{text[:40]} is not whole")
    return int(number)


def _unquoted(cell: str) -> str:
    """A cell without the quotes that pandas puts around one that has quotes in it."""
    inner = cell[1:-1]
    quoted = re.fullmatch(r'"(?:[^"]|"")*"', cell) is not None
    return inner.replace('""', '"') if quoted else cell
