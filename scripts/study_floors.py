"""Add ``floors`` to studies that were kept before ``run_study`` wrote them.

    python scripts/study_floors.py papermill_runs/study*.json

Rooms and questions follow from the study's settings; no model is asked.
"""

import sys

from spacer_lib.artifacts import read_json, write_json
from spacer_lib.study import floor_scores
from spacer_lib.tiny.curriculum import SEEDS, draw_rows
from spacer_lib.training.recipe import load_config


def main() -> None:
    """Write each file again, with its floors."""
    for path in sys.argv[1:]:
        study = read_json(path)
        settings = study["settings"]
        # Only the camera matters; other settings may have had other names.
        camera = {k: v for k, v in settings.get("set", {}).items() if k == "view"}
        recipe = load_config(settings["recipe"], camera)
        rows = draw_rows(SEEDS["test"], settings["questions"], recipe.view)
        study["floors"] = floor_scores(rows, recipe.view)
        write_json(path, study)
        print(path, {k: round(v["score"], 3) for k, v in study["floors"].items()})


if __name__ == "__main__":
    main()
