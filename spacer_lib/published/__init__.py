"""The tables of the three papers as data, one CSV file each.

Every line of a CSV file holds one printed number: ``paper, table, row, column, value,
unit, note``. Rows and columns keep the printed names (citations left out), and values
the printed precision; a printed dash is an empty value. ``note`` says what is odd about
a number, such as an average that does not follow from its cells.
"""

import functools
from collections.abc import Sequence
from importlib import resources

import pandas as pd

from spacer_lib.errors import SpacerError, nearest

COLUMNS = ("paper", "table", "row", "column", "value", "unit", "note")
# Titles by the short name in the column ``paper``.
SOURCES = {
    "SpaceR": "SpaceR: Reinforcing MLLMs in Video Spatial Reasoning",
    "Spatial-R1": "Spatial-R1: Enhancing MLLMs in Video Spatial Reasoning",
    "vsGRPO": "Improved Visual-Spatial Reasoning via R1-Zero-Like Training",
    "leaderboard": "a public leaderboard page about SpaceR: 10 of its 75 rows",
}


def names() -> list[str]:
    """Names of all tables, sorted: ``spacer_table1`` … and ``context``.

    >>> "vsgrpo_table3" in names()
    True
    """
    files = resources.files(__name__).iterdir()
    found = [file.name for file in files if file.name.endswith(".csv")]
    return sorted(name.removesuffix(".csv") for name in found)


def table(name: str) -> pd.DataFrame:
    """One table as its CSV file has it.

    Parameters
    ----------
    name : str
        One of ``names()``.

    Returns
    -------
    pandas.DataFrame
        Columns ``COLUMNS``; ``value`` as float, NaN where a dash is printed.

    Raises
    ------
    SpacerError
        For an unknown name.
    """
    return _read(name).copy()


def wide(name: str) -> pd.DataFrame:
    """One table as printed: rows by columns, in the printed order.

    Raises
    ------
    SpacerError
        For an unknown name.

    Examples
    --------
    >>> wide("spacer_table5").shape
    (3, 10)
    """
    tidy = _read(name)
    printed = tidy.pivot(index="row", columns="column", values="value")
    rows, columns = tidy["row"].unique(), tidy["column"].unique()
    return printed.loc[rows, columns]


def value(name: str, row: str, column: str) -> float:
    """One printed number; NaN for a dash.

    Raises
    ------
    SpacerError
        For a row or column that the table does not have, with the nearest one.

    Examples
    --------
    >>> value("spacer_table1", "SpaceR SG-RLVR", "VSI-Bench")
    45.6
    """
    tidy = _read(name)
    for part, wanted in (("row", row), ("column", column)):
        known = list(tidy[part].unique())
        _require_known(f"{name}: {part}", f"unknown-{part}", wanted, known)
    found = tidy.loc[(tidy["row"] == row) & (tidy["column"] == column), "value"]
    if found.empty:
        columns = tidy.loc[tidy["row"] == row, "column"]
        raise SpacerError(
            f"{name}: row {row}",
            kind="published.no-number",
            got=f"no column {column}",
            expected=", ".join(columns),
        )
    return float(found.iloc[0])


def _require_known(what: str, fault: str, wanted: str, known: Sequence[str]) -> None:
    if wanted not in known:
        raise SpacerError(
            what,
            kind=f"published.{fault}",
            got=wanted,
            remedy=nearest(wanted, known),
        )


@functools.cache
def _read(name: str) -> pd.DataFrame:
    _require_known("published table", "unknown-table", name, names())
    with resources.files(__name__).joinpath(f"{name}.csv").open(encoding="utf-8") as f:
        # Empty notes are text; only an empty value is missing.
        tidy = pd.read_csv(f, dtype=dict.fromkeys(COLUMNS, str), keep_default_na=False)
    return tidy.assign(value=pd.to_numeric(tidy["value"]))
