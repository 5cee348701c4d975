"""The tables of the three papers as data, one CSV file each.

Every CSV holds one printed number a line: ``paper, table, row, column, value, unit,
note``. Rows and columns keep the printed names (citations left out), values the
printed precision; a printed dash is an empty value. ``note`` says what is odd about a
number, such as an average that does not follow from its cells.
"""

import difflib
import functools
from importlib import resources

import pandas as pd

from spacer_lib.errors import SpacerError

COLUMNS = ("paper", "table", "row", "column", "value", "unit", "note")
# What the column ``paper`` stands for.
SOURCES = {
    "SpaceR": "SpaceR: Reinforcing MLLMs in Video Spatial Reasoning",
    "Spatial-R1": "Spatial-R1: Enhancing MLLMs in Video Spatial Reasoning",
    "vsGRPO": "Improved Visual-Spatial Reasoning via R1-Zero-Like Training",
    "leaderboard": "a public leaderboard page about SpaceR: 10 of its 75 rows",
    "field notes": "this project's reading of public code, results and metadata",
}


def names():
    """Names of all tables, sorted: ``spacer_table1`` … and ``context``.

    >>> "vsgrpo_table3" in names()
    True
    """
    files = resources.files(__name__).iterdir()
    return sorted(f.name.removesuffix(".csv") for f in files if f.suffix == ".csv")


def table(name):
    """One table as it lies in its CSV file.

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


def wide(name):
    """One table as it is printed: rows by columns, in the printed order.

    >>> wide("spacer_table5").shape
    (3, 10)
    """
    tidy = _read(name)
    printed = tidy.pivot(index="row", columns="column", values="value")
    rows, columns = tidy["row"].unique(), tidy["column"].unique()
    return printed.loc[rows, columns]


def value(name, row, column):
    """One printed number; NaN for a dash.

    Raises
    ------
    SpacerError
        For a row or column that the table does not have, with the nearest ones.

    Examples
    --------
    >>> value("spacer_table1", "SpaceR SG-RLVR", "VSI-Bench")
    45.6
    """
    tidy = _read(name)
    for kind, wanted in (("row", row), ("column", column)):
        _known(f"{name}: {kind}", wanted, list(tidy[kind].unique()))
    found = tidy.loc[(tidy["row"] == row) & (tidy["column"] == column), "value"]
    if found.empty:
        columns = tidy.loc[tidy["row"] == row, "column"]
        raise SpacerError(
            f"{name}: row {row} has no column {column}", expected=", ".join(columns)
        )
    return float(found.iloc[0])


def _known(what, wanted, valid):
    if wanted not in valid:
        near = difflib.get_close_matches(str(wanted), valid, n=3, cutoff=0.3)
        raise SpacerError(what, got=wanted, expected=", ".join(near or valid))


@functools.cache
def _read(name):
    _known("published table", name, names())
    with resources.files(__name__).joinpath(f"{name}.csv").open(encoding="utf-8") as f:
        # Empty notes are text; only an empty value is missing.
        tidy = pd.read_csv(f, dtype=dict.fromkeys(COLUMNS, str), keep_default_na=False)
    return tidy.assign(value=pd.to_numeric(tidy["value"]))
