"""Question rows and text for the tiny model, straight from room seeds.

Seeds are split by number so that no room serves twice: warm start, SG-RLVR and the
held-out evaluation draw from disjoint ranges (``SEEDS``).
"""

import itertools

import numpy as np

from spacer_lib.questions.generators import Rules, question_rows
from spacer_lib.rooms.synthetic.layout import KINDS, draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene, video_uri
from spacer_lib.tiny.demonstrations import TINY_TASKS, demonstrate

# First seed of each part; a part takes consecutive seeds from here.
SEEDS = {
    "warmstart": 1_000_000,
    "grpo": 5_000_000,
    "form": 7_000_000,  # where a study teaches the form of an answer
    "develop": 8_000_000,
    "test": 9_000_000,
}

# Rooms hold four or five categories, so three options, and counting starts at one.
# Options stand in a fixed order: with shuffled letters this small a model needed far
# longer on directions (LOG.md).
TINY_RULES = Rules(
    min_count=1,
    rel_distance_options=3,
    rel_distance_margin_m=0.3,
    direction_border_deg=15.0,
    direction_min_m=0.8,
    direction_max_m=9.0,
    shuffle_options=False,
)


def room_rows(seed, view, *, per_task=1, tasks=TINY_TASKS, exact_boxes=True):
    """All tiny-task questions of one dollhouse room, with its ``room://`` video.

    ``exact_boxes=False`` measures distances on axis-aligned boxes: several times
    faster, and equal within centimetres for quarter-turned furniture.
    """
    room = draw_room(seed, VIEWS[view].style)
    scene = to_scene(room, VIEWS[view], with_boxes=exact_boxes)
    rows, _ = question_rows(
        scene, seed, per_task=per_task, rules=TINY_RULES, tasks=tasks
    )
    for row in rows:
        row["video"] = video_uri(view, seed)
    return rows


def draw_row(seed, view, task=None, **options):
    """One question about one room, or ``None`` if the room has none of that type.

    The task is drawn from the seed unless given. Counting prefers a category that the
    room repeats, so that the answers 1 to 4 come up about equally often and the
    majority floor is low (SpaceR §3 flattens numeric answers too).
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


def draw_rows(first_seed, count, view, **options):
    """``count`` rows from consecutive room seeds, tasks in turn, one row per room."""
    rows, tasks = [], itertools.cycle(TINY_TASKS)
    task = next(tasks)
    for seed in itertools.count(first_seed):
        row = draw_row(seed, view, task, **options)
        if row is not None:
            rows.append(row)
            task = next(tasks)
        if len(rows) == count:
            return rows


def tokenizer_corpus():
    """Text that holds every word the tiny model has to read or write as one token."""
    lines = []
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
