"""From scenes to question rows: caps, flat answers, leak-safe splits, JSONL.

A row is a plain dictionary with VSI-Bench's keys (``id``, ``dataset``, ``scene_name``,
``question_type``, ``question``, ``options``, ``ground_truth``) plus ours:
``problem_type``, ``categories``, ``map`` (the true cognitive map) and ``video``.
"""

from collections import Counter

import numpy as np

from spacer_lib.cogmap import rasterize
from spacer_lib.errors import SpacerError
from spacer_lib.qa.generators import GENERATORS, TASK_KINDS, Rejection, Rules


def question_rows(scene, seed, *, per_task=3, rules=None, tasks=None, grid_size=10):
    """All questions of one scene, at most ``per_task`` of each type.

    Parameters
    ----------
    scene : Scene
    seed : int
        With the scene id and the task it keys the random choices, so the same scene
        gives the same questions alone, among others, or in another process.
    per_task : int or dict
        Cap for every type, or ``{question_type: cap}``.
    rules : Rules, optional
    tasks : iterable of str, optional
        Question types to make; all nine by default.

    Returns
    -------
    rows : list of dict
    rejections : Counter
        ``{(question_type, reason): count}`` over the candidates looked at.
    """
    rules = rules or Rules()
    cells = rasterize(scene, grid_size)
    rows, rejections = [], Counter()
    for task in tasks or GENERATORS:
        if task not in GENERATORS:
            raise SpacerError("question type", got=task, expected=sorted(GENERATORS))
        cap = per_task.get(task, 0) if isinstance(per_task, dict) else per_task
        key = [seed, *scene.scene_id.encode(), 0, *task.encode()]
        made = 0
        for result in GENERATORS[task](scene, np.random.default_rng(key), rules):
            if made >= cap:
                break
            if isinstance(result, Rejection):
                rejections[task, result.reason] += 1
                continue
            rows.append(_row(scene, cells, result, made))
            made += 1
    return rows, rejections


def _row(scene, cells, question, index):
    return {
        "id": f"{scene.scene_id}:{question.question_type}:{index}",
        "dataset": scene.dataset,
        "scene_name": scene.scene_id,
        "question_type": question.question_type,
        "problem_type": question.problem_type,
        "question": question.question,
        "options": list(question.options) if question.options else None,
        "ground_truth": question.ground_truth,
        "categories": list(question.categories),
        "map": {name: [list(cell) for cell in spots] for name, spots in cells.items()},
        "video": scene.video_path,
    }


def flatten_answers(rows, task, rng, *, slack=1.0):
    """Thin out the over-represented answers of one question type.

    Each answer of ``task`` keeps at most ``slack`` times the median number of rows
    per answer; other rows pass through. Order is preserved.

    Source: SpaceR §3, "adjust the numerical value distribution".
    """
    mine = [i for i, row in enumerate(rows) if row["question_type"] == task]
    counts = Counter(rows[i]["ground_truth"] for i in mine)
    if not counts:
        return list(rows)
    cap = max(1, round(slack * float(np.median(list(counts.values())))))
    dropped = set()
    for answer, count in sorted(counts.items()):
        here = [i for i in mine if rows[i]["ground_truth"] == answer]
        if count > cap:
            dropped.update(here[i] for i in rng.permutation(count)[cap:])
    return [row for i, row in enumerate(rows) if i not in dropped]


def split_spaces(scene_ids, fractions, seed):
    """Assign whole physical spaces to named parts, so that no room leaks.

    Parameters
    ----------
    scene_ids : iterable of str
    fractions : dict
        ``{"train": 0.6, "grpo": 0.2, "test": 0.2}``; must sum to 1.
    seed : int

    Returns
    -------
    dict
        ``{part: [scene_id]}``; rescans (``scene0025_00``, ``_01``) stay together.
    """
    if abs(sum(fractions.values()) - 1) > 1e-9:
        raise SpacerError("split fractions", got=fractions, expected="a sum of 1")
    scene_ids = sorted(set(scene_ids))
    spaces = sorted({space_of(name) for name in scene_ids})
    order = np.random.default_rng([seed, 11]).permutation(len(spaces))
    edges = np.round(np.cumsum(list(fractions.values())) * len(spaces)).astype(int)
    parts, start = {}, 0
    for name, stop in zip(fractions, edges, strict=True):
        mine = {spaces[i] for i in order[start:stop]}
        parts[name] = [s for s in scene_ids if space_of(s) in mine]
        start = stop
    return parts


def space_of(scene_id):
    """``scene0025_01`` → ``scene0025``: rescans share the physical space."""
    return scene_id.split("_")[0]


def require_no_leak(train_ids, held_out_ids):
    """Refuse training scans of a physical space that evaluation uses.

    Raises
    ------
    SpacerError
        Naming the shared spaces.
    """
    shared = {space_of(s) for s in train_ids} & {space_of(s) for s in held_out_ids}
    if shared:
        raise SpacerError(
            "training and evaluation share physical spaces",
            got=f"{len(shared)} spaces, first {sorted(shared)[:3]}",
            expected="none",
            remedy="drop every scan of these spaces from the training list",
        )


def task_kind(question_type):
    """One of the seven kinds: direction's three difficulties count as one."""
    return TASK_KINDS.get(question_type, question_type)
