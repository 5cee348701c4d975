"""The rows a run learns from, checked before anything starts."""

import math
from pathlib import Path

from spacer_lib.artifacts import PROJECT_ROOT
from spacer_lib.errors import SpacerError
from spacer_lib.qa.dataset import read_rows
from spacer_lib.training.curriculum import SEEDS, draw_rows

ROW_KEYS = ("id", "question", "problem_type", "ground_truth", "video")


def training_rows(config):
    """The rows a run learns from.

    Raises
    ------
    SpacerError
        For rows without a video (text and image rows need another trainer), with
        missing keys, or whose video file is absent.
    """
    if config.data_path is None:
        if not config.max_steps:
            raise SpacerError(
                "setting max_steps", got=0, expected="more than 0 without data_path"
            )
        batches = math.ceil(config.max_steps / config.num_iterations)
        count = batches * config.prompts_per_step
        return draw_rows(SEEDS[config.rooms], count, config.view, exact_boxes=False)
    path = locate(config.data_path)
    rows = read_rows(path)
    for number, row in enumerate(rows, start=1):
        absent = [key for key in ROW_KEYS if not row.get(key)]
        if absent:
            raise SpacerError(
                f"{path} row {number}",
                got=f"no {', '.join(absent)}",
                expected="video questions; text and image rows cannot be mixed in",
            )
        if "://" not in row["video"]:
            row["video"] = str(locate(row["video"], path.parent))
            if not Path(row["video"]).exists():
                raise SpacerError(
                    f"{path} row {number}",
                    got=f"{row['video']}, which is missing",
                    remedy="make the videos first, or drop the row",
                )
    if len(rows) < config.prompts_per_step:
        raise SpacerError(
            f"{path} is shorter than one step",
            got=f"{len(rows)} rows",
            expected=f"at least prompts_per_step = {config.prompts_per_step}",
        )
    return rows


def locate(name, *folders):
    """``name`` as given, else in ``folders``, else in the repository."""
    places = [Path(folder) / name for folder in ("", *folders, PROJECT_ROOT)]
    return next((path for path in places if path.exists()), places[0])
