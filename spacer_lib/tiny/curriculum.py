"""Questions and demonstrations for the tiny model, made from room seeds.

No room is used twice: warm start, SG-RLVR and the held-out evaluation draw their rooms
from disjoint ranges of seeds (``SEEDS``).
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spacer_lib.language.tags import begin_with_map
from spacer_lib.questions.generators import Rules, question_rows
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import (
    VIEWS,
    address_parts,
    to_scene,
    video_uri,
)
from spacer_lib.rows import CognitiveMap, Question
from spacer_lib.tiny import thoughts
from spacer_lib.tiny.shown import show
from spacer_lib.tiny.thoughts import INSIDE_TASKS

# First seed of each part, which takes consecutive seeds.
SEEDS = {
    "grpo": 5_000_000,
    "form": 7_000_000,  # where a study teaches the form of an answer
    "develop": 8_000_000,
    "test": 9_000_000,
    "warmstart": 20_000_000,  # see `warmstart.first_seed`
}

DEMONSTRATED = "turn"  # the camera that the warm start has demonstrations of

DOLLHOUSE_TASKS = (
    "object_counting",
    "object_abs_distance",
    "object_rel_distance",
    "object_rel_direction_easy",
    "object_rel_direction_medium",
    "object_rel_direction_hard",
)
# Rooms have four or five categories, so a question has three options, and counting
# starts at one. The order of options is fixed: with shuffled letters so small a model
# needed far longer to learn directions (LOG.md).
DOLLHOUSE_RULES = Rules(
    min_count=1,
    rel_distance_options=3,
    rel_distance_margin_m=0.3,
    direction_border_deg=15.0,
    direction_min_m=0.8,
    direction_max_m=9.0,
    shuffle_options=False,
)
# Rooms seen from inside are larger, and their furniture is turned by quarters.
INSIDE_RULES = dataclasses.replace(
    DOLLHOUSE_RULES, abs_distance="exact", direction_max_m=12.0
)


def tasks_of(view: str) -> tuple[str, ...]:
    """Question types that are asked about the rooms of a view."""
    return INSIDE_TASKS if VIEWS[view].style == "home" else DOLLHOUSE_TASKS


def rules_of(view: str) -> Rules:
    """Which questions are asked about the rooms of a view."""
    return INSIDE_RULES if VIEWS[view].style == "home" else DOLLHOUSE_RULES


def room_rows(
    seed: int,
    view: str,
    *,
    per_task: int = 1,
    tasks: Sequence[str] = (),
    exact_boxes: bool = True,
) -> list[Question]:
    """Questions about one room, with its ``room://`` video.

    None about a room of which the frames hardly show an object.

    Parameters
    ----------
    seed : int
        Of the room.
    view : str
        Key of ``VIEWS``.
    per_task : int
        Most questions of a type.
    tasks : sequence of str
        Question types; ``tasks_of(view)`` if empty.
    exact_boxes : bool
        ``False`` measures a dollhouse's distances between axis-aligned boxes: several
        times faster, and equal within centimetres.
    """
    if VIEWS[view].style == "home":
        shown = show(view, seed)
        if shown is None:
            return []
        scene = shown.scene
    else:
        room = draw_room(seed, VIEWS[view].style)
        scene = to_scene(room, VIEWS[view], with_boxes=exact_boxes)
    rows, _ = question_rows(
        scene,
        seed,
        per_task=per_task,
        rules=rules_of(view),
        tasks=tasks or tasks_of(view),
    )
    for row in rows:
        row["video"] = video_uri(view, seed)
    return rows


def demonstration(row: Question, *, shape: str = "think") -> str | None:
    """The completion that a warm start imitates, or ``None`` if cells give a wrong one.

    Parameters
    ----------
    row : Question
        Of ``room_rows``; there are demonstrations about rooms seen from inside alone.
    shape : str
        One of ``language.tags.SHAPES``, see ``thoughts.completion``.
    """
    place = _inside(row)
    if place is None or row["question_type"] not in INSIDE_TASKS:
        return None
    shown = show(*place)
    return thoughts.completion(row, shown, shape=shape) if shown else None


def beginning(row: Question, cells: CognitiveMap) -> str:
    """How a tiny model's response to a row begins, up to the end of a given map."""
    place = _inside(row)
    shown = show(*place) if place is not None else None
    if shown is None:
        return begin_with_map(row, cells)
    return thoughts.beginning(thoughts.facts_of(shown), cells)


def _inside(row: Question) -> tuple[str, int] | None:
    """View and seed of a room seen from inside; ``None`` for any other video."""
    place = address_parts(str(row.get("video") or ""))
    return place if place and VIEWS[place[0]].style == "home" else None


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
    known = tasks_of(view)
    task = task or known[int(rng.integers(len(known)))]
    if task != "object_counting":
        rows = room_rows(seed, view, tasks=(task,), **options)
        return rows[0] if rows else None
    rows = room_rows(seed, view, tasks=(task,), per_task=9, **options)
    repeated = [row for row in rows if row["ground_truth"] != "1"]
    pool = repeated if repeated and rng.random() < 0.9 else rows
    return pool[int(rng.integers(len(pool)))] if pool else None


def draw_rows(
    first_seed: int,
    count: int,
    view: str,
    *,
    shares: Mapping[str, int] | None = None,
    **options: Any,
) -> list[Question]:
    """``count`` rows from consecutive room seeds, one row per room.

    Parameters
    ----------
    first_seed, count, view
        The first room, the number of rows, the camera.
    shares : dict, optional
        Question type → its share, in any unit; by default all of ``tasks_of(view)``
        alike, in turn. Any number of rows keeps the shares within one row a type.
    **options
        As for ``room_rows``.
    """
    shares = shares or dict.fromkeys(tasks_of(view), 1)
    total, asked = sum(shares.values()), Counter[str]()
    rows: list[Question] = []
    seeds = itertools.count(first_seed)
    while len(rows) < count:
        task = max(shares, key=lambda t: shares[t] * (len(rows) + 1) - asked[t] * total)
        row = draw_row(next(seeds), view, task, **options)
        if row is not None:
            rows.append(row)
            asked[task] += 1
    return rows


def training_rows(
    part: str, count: int, view: str, shares: Mapping[str, int] | None = None
) -> list[Question]:
    """``count`` rows of one part of ``SEEDS``, for a run without a question file."""
    return draw_rows(SEEDS[part], count, view, shares=shares, exact_boxes=False)
