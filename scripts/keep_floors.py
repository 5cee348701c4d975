"""Put the floors of the held-out questions into ``papermill_runs/held_out``.

    spacer report … --out runs/held_out_report     # floors, warm start; no other model
    python scripts/keep_floors.py runs/held_out_report

The rows of models that were not asked again stay. A row that is in both files must be
the same in both: then the questions, the rule and the intervals are those of the
committed table.
"""

import sys
from pathlib import Path

import pandas as pd

from spacer_lib.artifacts import PROJECT_ROOT, write_text
from spacer_lib.errors import SpacerError
from spacer_lib.markup import csv_text

KEPT = PROJECT_ROOT / "papermill_runs" / "held_out"
KEY = ["run", "level", "name"]


def merge(
    old: pd.DataFrame, new: pd.DataFrame, numbers: tuple[str, ...]
) -> pd.DataFrame:
    """The old rows with those of the new runs behind them.

    Raises
    ------
    SpacerError
        If one of the numbers differs in a row that both have.
    """
    both = old.merge(new, on=KEY, suffixes=("", "_new"))
    for column in numbers:
        apart = (both[column] - both[f"{column}_new"]).abs() > 1e-9
        if apart.any():
            line = both[apart].iloc[0]
            raise SpacerError(
                f"held-out table: {', '.join(line[KEY])}: {column}",
                kind="evaluation.other-questions",
                got=line[f"{column}_new"],
                expected=line[column],
            )
    added = new[~new["run"].isin(set(old["run"]))]
    return pd.concat([old, added], ignore_index=True)


def main() -> None:
    """Write the table with its floors, and ``floors.csv`` beside it."""
    report = Path(sys.argv[1])
    old, new = (pd.read_csv(folder / "scores.csv") for folder in (KEPT, report))
    table = merge(old, new, ("n", "score", "score_low", "score_high"))
    # Whether a run is a floor is what the new report says.
    flags = new.drop_duplicates("run").set_index("run")["floor"]
    is_floor = table["run"].map(flags).fillna(table["floor"]).astype(bool)
    table = table.assign(floor=is_floor)
    old, new = (pd.read_csv(folder / "deltas.csv") for folder in (KEPT, report))
    deltas = merge(old, new, ("n", "before", "after", "delta", "low", "high"))
    floors = pd.read_csv(report / "floors.csv")
    for name, kept in (("scores", table), ("deltas", deltas), ("floors", floors)):
        write_text(KEPT / f"{name}.csv", csv_text(kept))
    print(f"{KEPT}: {table['run'].nunique()} runs")


if __name__ == "__main__":
    main()
