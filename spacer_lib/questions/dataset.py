"""From scenes to question rows: caps, flat answers, balanced letters, leak guard.

A row is a plain dictionary with VSI-Bench's keys (``id``, ``dataset``, ``scene_name``,
``question_type``, ``question``, ``options``, ``ground_truth``) plus ours:
``problem_type``, ``categories``, ``map`` (the true cognitive map) and ``video``.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from spacer_lib.artifacts import read_jsonl
from spacer_lib.errors import SpacerError
from spacer_lib.maps.grid import rasterize
from spacer_lib.questions.generators import (
    GENERATORS,
    OPTION_FREE,
    TASK_KINDS,
    Rejection,
    Rules,
)
from spacer_lib.rooms.scene import space_of

LETTERS = "ABCDEFGHIJ"


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


def water_fill(sizes, total):
    """Share ``total`` as evenly as the sizes allow.

    Parameters
    ----------
    sizes : dict
        ``{key: how many there are}``.
    total : int

    Returns
    -------
    dict
        ``{key: how many to take}``: at most its size, all keys that are not exhausted
        equal to within one, the odd ones to the first keys in sorted order.

    Examples
    --------
    >>> water_fill({2: 10, 3: 4, 4: 1}, 9)
    {2: 4, 3: 4, 4: 1}
    """
    quota, left = {}, min(total, sum(sizes.values()))
    for rank, key in enumerate(sorted(sizes, key=lambda k: (sizes[k], k))):
        waiting = len(sizes) - rank
        quota[key] = min(sizes[key], left // waiting)
        left -= quota[key]
    for key in sorted(sizes):
        if left and quota[key] < sizes[key]:
            quota[key] += 1
            left -= 1
    return {key: quota[key] for key in sorted(sizes)}


def flat_choice(answers, bin_width, rng, target=None):
    """Which of many numeric answers to keep, so that no bin stands out.

    Without ``target`` a bin keeps at most the mean number of answers per bin; with
    it, bins are evened out until so many are left.

    Source: SpaceR §3, "adjust the numerical value distribution".

    Returns
    -------
    list of int
        Kept positions, ascending.
    """
    bins = {}
    for position, answer in enumerate(answers):
        bins.setdefault(int(float(answer) // bin_width), []).append(position)
    if not bins:
        return []
    sizes = {key: len(mine) for key, mine in bins.items()}
    if target is None:
        mean = -(-len(answers) // len(bins))
        quota = {key: min(mean, size) for key, size in sizes.items()}
    else:
        quota = water_fill(sizes, target)
    kept = []
    for key in sorted(bins):
        order = rng.permutation(len(bins[key]))[: quota[key]]
        kept += [bins[key][i] for i in order]
    return sorted(kept)


def flatten_answers(rows, task, rng, *, bin_width=1.0):
    """Thin out the over-represented answers of one question type; see
    ``flat_choice``. Other rows pass through, and the order stays."""
    mine = [i for i, row in enumerate(rows) if row["question_type"] == task]
    answers = [rows[i]["ground_truth"] for i in mine]
    kept = {mine[i] for i in flat_choice(answers, bin_width, rng)}
    dropped = set(mine) - kept
    return [row for i, row in enumerate(rows) if i not in dropped]


def with_answer_at(row, position):
    """The row with its right option at another place, the other one moved in turn.

    Relative distance lists its options in the question too: they follow.
    """
    texts = [option[3:] for option in row["options"]]
    now = LETTERS.index(row["ground_truth"])
    shown = list(texts)
    shown[now], shown[position] = shown[position], shown[now]
    row = row | {
        "options": [f"{LETTERS[i]}. {text}" for i, text in enumerate(shown)],
        "ground_truth": LETTERS[position],
    }
    if row["question_type"] == "object_rel_distance":
        listed = f"({', '.join(texts)})"
        row["question"] = row["question"].replace(listed, f"({', '.join(shown)})", 1)
        row["categories"] = [row["categories"][0], *shown]
    return row


def without_options(row):
    """The row as vsGRPO asks it: no letters, the answer in words."""
    words = row["options"][LETTERS.index(row["ground_truth"])][3:]
    return row | {"options": None, "ground_truth": words, "problem_type": OPTION_FREE}


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


def read_rows(path):
    """Rows of a ``.jsonl`` or ``.parquet`` question file, maps as dictionaries."""
    path = Path(path)
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    else:
        rows = read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise SpacerError(
                f"{path} row {number}", got=repr(row)[:40], expected="a JSON object"
            )
        if isinstance(row.get("map"), str):
            row["map"] = json.loads(row["map"])
    return rows


def task_kind(question_type):
    """One of the seven kinds: direction's three difficulties count as one."""
    return TASK_KINDS.get(question_type, question_type)
