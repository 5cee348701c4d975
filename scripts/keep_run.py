"""Keep of a run or study folder what notebook 09 draws, small enough to commit.

    python scripts/keep_run.py runs/study_beta papermill_runs/study_beta

Of each ``answers.jsonl`` the first questions, of each ``metrics.jsonl`` the rewards,
of each ``selection.jsonl`` the scores; the folders in between stay.
"""

import sys
from pathlib import Path

from spacer_lib.artifacts import read_jsonl, write_jsonl

ANSWERS = 120
KEPT = {
    "answers.jsonl": ("id", "question_type", "prediction", "answer", "score"),
    "metrics.jsonl": (
        "step",
        "reward",
        "rewards/format/mean",
        "rewards/task/mean",
        "kl",
    ),
    "selection.jsonl": ("id", "scores"),
}


def keep(source, target):
    """Write the kept files below ``target``; of answers only the first seed's."""
    for path in sorted(source.rglob("*.jsonl")):
        if path.name not in KEPT or "checkpoints" in path.parts:
            continue
        if path.name == "answers.jsonl" and path.parent.name[-1] in "123456789":
            continue
        rows = read_jsonl(path)[: ANSWERS if path.name == "answers.jsonl" else None]
        if path.name == "metrics.jsonl" and "reward" not in rows[0]:
            continue
        kept = [{k: tidy(row[k]) for k in KEPT[path.name] if k in row} for row in rows]
        write_jsonl(target / path.relative_to(source), kept)


def tidy(value):
    """Four decimals are more than a curve shows."""
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    keep(Path(sys.argv[1]), Path(sys.argv[2]))
