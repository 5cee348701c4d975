"""Questions and texts for the tiny model, made from room seeds.

No room is used twice: warm start, SG-RLVR and the held-out evaluation draw their rooms
from disjoint ranges of seeds (``SEEDS``).
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from spacer_lib.questions.generators import Rules, question_rows
from spacer_lib.rooms.synthetic.layout import KINDS, draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene, video_uri
from spacer_lib.rows import Question
from spacer_lib.tiny.demonstrations import TINY_TASKS, demonstrate

# First seed of each part, which takes consecutive seeds.
SEEDS = {
    "warmstart": 1_000_000,
    "grpo": 5_000_000,
    "form": 7_000_000,  # where a study teaches the form of an answer
    "develop": 8_000_000,
    "test": 9_000_000,
}

# Rooms have four or five categories, so a question has three options, and counting
# starts at one. The order of options is fixed: with shuffled letters so small a model
# needed far longer to learn directions (LOG.md).
TINY_RULES = Rules(
    min_count=1,
    rel_distance_options=3,
    rel_distance_margin_m=0.3,
    direction_border_deg=15.0,
    direction_min_m=0.8,
    direction_max_m=9.0,
    shuffle_options=False,
)


def room_rows(
    seed: int,
    view: str,
    *,
    per_task: int = 1,
    tasks: Sequence[str] = TINY_TASKS,
    exact_boxes: bool = True,
) -> list[Question]:
    """All tiny-task questions of one dollhouse room, with its ``room://`` video.

    ``exact_boxes=False`` measures distances between axis-aligned boxes: several times
    faster, and equal within centimetres for furniture in steps of 90 degrees.
    """
    room = draw_room(seed, VIEWS[view].style)
    scene = to_scene(room, VIEWS[view], with_boxes=exact_boxes)
    rows, _ = question_rows(
        scene, seed, per_task=per_task, rules=TINY_RULES, tasks=tasks
    )
    for row in rows:
        row["video"] = video_uri(view, seed)
    return rows


def draw_row(
    seed: int, view: str, task: str | None = None, **options: Any
) -> Question | None:
    """One question about one room, or ``None`` if the room has none of that type.

    The task is drawn from the seed unless given; ``options`` as for ``room_rows``.
    Counting prefers a category with several instances, so that the answers 1 to 4 are
    about equally frequent and the majority floor is low (SpaceR §3 flattens numeric
    answers too).
    """
    rng = np.random.default_rng([seed, 23])
    task = task or TINY_TASKS[int(rng.integers(len(TINY_TASKS)))]
    if task != "object_counting":
        rows = room_rows(seed, view, tasks=(task,), **options)
        return rows[0] if rows else None
    rows = room_rows(seed, view, tasks=(task,), per_task=9, **options)
    repeated = [row for row in rows if row["ground_truth"] != "1"]
    pool = repeated if repeated and rng.random() < 0.9 else rows
    return pool[int(rng.integers(len(pool)))]


def draw_rows(first_seed: int, count: int, view: str, **options: Any) -> list[Question]:
    """``count`` rows from consecutive room seeds, tasks in turn, one row per room."""
    rows: list[Question] = []
    tasks = itertools.cycle(TINY_TASKS)
    task, seed = next(tasks), first_seed
    while len(rows) < count:
        row = draw_row(seed, view, task, **options)
        seed += 1
        if row is not None:
            rows.append(row)
            task = next(tasks)
    return rows


def training_rows(part: str, count: int, view: str) -> list[Question]:
    """``count`` rows of one part of ``SEEDS``, for a run without a question file."""
    return draw_rows(SEEDS[part], count, view, exact_boxes=False)


def tokenizer_corpus() -> list[str]:
    """Text with every word that the tiny model reads or writes as one token."""
    lines: list[str] = []
    for style in ("dollhouse", "furnished"):
        for seed in range(40):
            room = draw_room(seed, style)
            rows, _ = question_rows(to_scene(room), 0, rules=TINY_RULES)
            for row in rows:
                lines.append(row["question"])
                lines.extend(row["options"] or ())
                if row["question_type"] in TINY_TASKS and style == "dollhouse":
                    lines.append(demonstrate(row) or "")
    for name in KINDS:
        lines.append(f"the {name} {name}, {name}(s) A. {name}\n{name}=")
    return lines
