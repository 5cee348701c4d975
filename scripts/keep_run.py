"""Copy what pictures show of a run or study folder, small enough to commit.

    python scripts/keep_run.py runs/study papermill_runs/study_map map no_map

Of a study only the named arms are kept; without names, all. It keeps the first
questions of ``answers.jsonl``, the rewards and map hits of ``metrics.jsonl`` and the
scores of ``selection.jsonl``, in the same folders.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spacer_lib.artifacts import listing, read_jsonl, write_jsonl

ANSWERS = 120
KEPT = {
    "answers.jsonl": ("id", "question_type", "prediction", "answer", "score"),
    "metrics.jsonl": (
        "step",
        "reward",
        "rewards/format/mean",
        "rewards/task/mean",
        "kl",
        "map_hit_rate",
    ),
    "selection.jsonl": ("id", "scores"),
}


def keep(source: Path, target: Path, arms: Sequence[str] = ()) -> None:
    """Write the kept files below ``target``; answers of the first seed only."""
    for path in listing(source, "*.jsonl", deep=True):
        if path.name not in KEPT or "checkpoints" in path.parts:
            continue
        arm = path.parent.name.partition("_seed")[0]
        if arms and path.parent != source and arm not in arms:
            continue
        if path.name == "answers.jsonl" and path.parent.name[-1] in "123456789":
            continue
        rows = read_jsonl(path)[: ANSWERS if path.name == "answers.jsonl" else None]
        if path.name == "metrics.jsonl" and "reward" not in rows[0]:
            continue
        kept = [{k: tidy(row[k]) for k in KEPT[path.name] if k in row} for row in rows]
        write_jsonl(target / path.relative_to(source), kept)


def tidy(value: Any) -> Any:
    """Round to four decimals, which is more than a curve shows."""
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    keep(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
