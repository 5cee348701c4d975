"""What the words of our questions give away, before and after pruning: a table.

    python scripts/blind_scores.py [ROOMS]      # 288 rooms: four minutes on one core

Makes the questions of three recipes about synthetic rooms and writes each type's blind
score to ``papermill_runs/blind.json``.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spacer_lib.artifacts import PROJECT_ROOT, provenance, write_json
from spacer_lib.evaluation.blind import by_type, chance, prune
from spacer_lib.questions.build import build_dataset
from spacer_lib.rooms.scans import read_scenes, synthetic_meta
from spacer_lib.rows import Question, read_questions

RECIPES = ("sr91k", "3q", "vsibench-8")
ROOMS = 288  # as many as VSI-Bench has
SEED = 0


def blind_scores(rows: Sequence[Question]) -> dict[str, dict[str, Any]]:
    """The blind scores of each question type.

    Returns
    -------
    dict
        ``{question_type: {questions, rooms, chance, before, pruned, after,
        chance_after, near}}``. Scores and chance are from 0 to 1, ``pruned`` counts the
        rows left out, and ``near`` says whether pruning reached chance. A type that is
        too small has ``questions`` and ``too_small``.

    Raises
    ------
    SpacerError
        If every type is too small.
    """
    parts, small = by_type(rows)
    told = prune(rows, seed=SEED)[1]["types"]
    found: dict[str, dict[str, Any]] = {
        name: {
            "questions": len(part),
            "rooms": len({row["scene_name"] for row in part}),
            "chance": round(chance(part), 4),
            "before": round(told[name]["before"], 4),
            "pruned": told[name]["dropped"],
            "after": round(told[name]["after"], 4),
            "chance_after": round(told[name]["chance"], 4),
            "near": bool(told[name]["near"]),
        }
        for name, part in parts.items()
    }
    for name, why in small.items():
        count = sum(row["question_type"] == name for row in rows)
        found[name] = {"questions": count, "too_small": why}
    return dict(sorted(found.items()))


def scores_of_recipes(rooms: int, names: Sequence[str] = RECIPES) -> dict[str, Any]:
    """``{recipe: blind_scores}`` of questions about this many synthetic rooms."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        scenes = read_scenes([synthetic_meta(made / "meta.json", rooms, SEED)])
        found = {}
        for name in names:
            paths = build_dataset(scenes, made / name, name, seed=SEED)["paths"]
            rows = [row for path in paths.values() for row in read_questions(path)]
            found[name] = blind_scores(rows)
    return found


def main() -> None:
    """Write ``papermill_runs/blind.json``."""
    rooms = int(sys.argv[1]) if len(sys.argv) > 1 else ROOMS
    start = time.process_time()
    found: dict[str, Any] = {
        "rooms": rooms,
        "style": "furnished",
        "seed": SEED,
        "recipes": scores_of_recipes(rooms),
        "cpu_seconds": round(time.process_time() - start),
        "provenance": provenance(),
    }
    write_json(PROJECT_ROOT / "papermill_runs" / "blind.json", found)
    for recipe, types in found["recipes"].items():
        print(f"{recipe}\n{pd.DataFrame(types).T.to_string()}\n")


if __name__ == "__main__":
    main()
