"""The questions about one scene, by the generators of all kinds.

A generator goes through its candidates in an order drawn from ``rng``. For each it
yields a ``Draft``, or a ``Rejection`` with the reason. ``question_rows`` makes rows of
the drafts. Where VSI-Bench's formula is known (*official*), answers follow it.

Source: words in ``wording``; filters after VSI-Bench's generator.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from spacer_lib.errors import SpacerError, nearest
from spacer_lib.maps.grid import rasterize
from spacer_lib.questions.drafts import (
    LETTERS,
    MULTIPLE_CHOICE,
    NUMERICAL,
    OPTION_FREE,
    Draft,
    Rejection,
)
from spacer_lib.questions.kinds import QUESTION_TYPES
from spacer_lib.questions.kinds.direction import (
    DIRECTION_BORDERS_DEG,
    direction_answer,
)
from spacer_lib.questions.rules import BOXES, DEFAULT_RULES, DISTANCES, Rules
from spacer_lib.rooms.scene import Scene
from spacer_lib.rows import CognitiveMap, Question

__all__ = [
    "BOXES",
    "DEFAULT_RULES",
    "DIRECTION_BORDERS_DEG",
    "DISTANCES",
    "GENERATORS",
    "GENERATOR_VERSION",
    "LETTERS",
    "MULTIPLE_CHOICE",
    "NUMERICAL",
    "OPTION_FREE",
    "VSIBENCH_TYPES",
    "Draft",
    "Rejection",
    "Rules",
    "direction_answer",
    "question_rows",
    "task_kind",
]

GENERATOR_VERSION = "5"
GENERATORS = {name: one.generator for name, one in QUESTION_TYPES.items()}
# VSI-Bench's, without the routes that people made.
VSIBENCH_TYPES = (
    "object_counting",
    "object_size_estimation",
    "room_size_estimation",
    "object_abs_distance",
    "object_rel_distance",
    "object_rel_direction_easy",
    "object_rel_direction_medium",
    "object_rel_direction_hard",
    "obj_appearance_order",
)
_VARIANT = re.compile(
    r"(object_rel_direction|object_rel_distance|object_counting|room_size_estimation)"
    r"_(?:(?:forward_|backward_)?(?:easy|medium|hard)|closest|farthest|single|multiple)"
)


def task_kind(question_type: str) -> str:
    """The kind of a question type: the three difficulties of direction are one kind.

    So are the variants that ReVSI asks.

    Examples
    --------
    >>> task_kind("object_rel_direction_hard"), task_kind("object_counting_single")
    ('object_rel_direction', 'object_counting')
    """
    if question_type in QUESTION_TYPES:
        return QUESTION_TYPES[question_type].kind
    variant = _VARIANT.fullmatch(question_type)
    return variant[1] if variant else question_type


def question_rows(
    scene: Scene,
    seed: int,
    *,
    per_task: int | Mapping[str, int] = 3,
    rules: Rules = DEFAULT_RULES,
    tasks: Iterable[str] | None = None,
    grid_size: int = 10,
) -> tuple[list[Question], Counter[tuple[str, str]]]:
    """The questions about one scene, at most ``per_task`` of each type.

    Random choices depend on seed, scene id and question type, and not on what other
    scenes and types are asked.

    Parameters
    ----------
    scene : Scene
    seed : int
    per_task : int or mapping
        Limit of every type, or question type → limit.
    rules : Rules
    tasks : iterable of str, optional
        Question types to make; by default ``VSIBENCH_TYPES``.
    grid_size : int
        M of the true map.

    Returns
    -------
    rows : list of Question
    rejections : Counter
        (question type, reason) → candidates rejected before the limit was reached.

    Raises
    ------
    SpacerError
        For an unknown question type.
    """
    cells = {
        name: [list(cell) for cell in spots]
        for name, spots in rasterize(scene, grid_size).items()
    }
    rows, rejections = [], Counter[tuple[str, str]]()
    for task in tasks or VSIBENCH_TYPES:
        if task not in GENERATORS:
            raise SpacerError(
                "question type",
                kind="questions.unknown-type",
                got=task,
                remedy=nearest(task, GENERATORS),
            )
        limit = per_task if isinstance(per_task, int) else per_task.get(task, 0)
        key = [seed, *scene.scene_id.encode(), 0, *task.encode()]
        made = 0
        for result in GENERATORS[task](scene, np.random.default_rng(key), rules):
            if made >= limit:
                break
            if isinstance(result, Rejection):
                rejections[task, result.reason] += 1
                continue
            rows.append(_row(scene, cells, result, made))
            made += 1
    return rows, rejections


def _row(scene: Scene, cells: CognitiveMap, draft: Draft, number: int) -> Question:
    return {
        "id": f"{scene.scene_id}:{draft.question_type}:{number}",
        "dataset": scene.dataset,
        "scene_name": scene.scene_id,
        "question_type": draft.question_type,
        "problem_type": draft.problem_type,
        "question": draft.question,
        "options": list(draft.options) if draft.options else None,
        "ground_truth": draft.ground_truth,
        "categories": list(draft.categories),
        "map": {name: [list(cell) for cell in spots] for name, spots in cells.items()},
        "video": scene.video_path,
    }
