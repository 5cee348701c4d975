"""Draw what the tiny model sees, draws and answers: the pictures of README.

    python -m scripts.glance        # half a minute

Asks the shipped checkpoint about test rooms, one question each, from the first on.
``docs/one_room.png`` has the first hard direction that it answers rightly, beside the
map hits of SG-RLVR with and without the map reward.
``docs/rooms.png`` has the first right order of appearance, the first right relative
distance and the first wrong choice.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from spacer_lib.artifacts import PROJECT_ROOT, atomic_path, listing, read_jsonl
from spacer_lib.evaluation.backends import load
from spacer_lib.evaluation.runner import evaluate
from spacer_lib.pictures.figures import at_a_glance, preview
from spacer_lib.pictures.style import use_house_style
from spacer_lib.rows import Prediction, Question
from spacer_lib.tiny.curriculum import DEMONSTRATED, SEEDS, draw_rows
from spacer_lib.training.recipe import load_config

CURVES = PROJECT_ROOT / "papermill_runs" / "study_map"
QUESTIONS = 63  # seven of each type
Asked = tuple[Question, Prediction]


def first(asked: list[Asked], kind: str, right: bool) -> Asked:
    """The first question of a type (``""``: any choice) with such an answer."""
    return next(
        (row, made)
        for row, made in asked
        if row["options"] and kind in row["question_type"] and made["score"] == right
    )


def main() -> None:
    """Write both pictures."""
    use_house_style()
    config = load_config("tiny")
    rows = draw_rows(SEEDS["test"], QUESTIONS, DEMONSTRATED)
    with tempfile.TemporaryDirectory() as folder:
        made = evaluate(
            *load(config.model_path, None),
            rows,
            config.asking(),
            condition="own",
            out_path=Path(folder) / "answers.jsonl",
        )
    asked = list(zip(rows, made, strict=True))
    rooms = [
        first(asked, "obj_appearance_order", True),
        first(asked, "object_rel_distance", True),
        first(asked, "", False),
    ]
    one = [first(asked, "object_rel_direction_hard", True)]
    curves = {}
    for words, arm in (("map reward", "map"), ("no map reward", "no_map")):
        logs = listing(CURVES, f"{arm}_seed*/metrics.jsonl")
        curves[words] = [read_jsonl(path) for path in logs]
    for name, chosen, shown in (("one_room", one, curves), ("rooms", rooms, None)):
        figure = at_a_glance(*map(list, zip(*chosen, strict=True)), shown)
        with atomic_path(PROJECT_ROOT / "docs" / f"{name}.png") as path:
            path.write_bytes(preview(figure))
        plt.close(figure)


if __name__ == "__main__":
    main()
