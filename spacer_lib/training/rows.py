"""The rows a run learns from, chosen and checked before anything starts."""

import functools
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np

from spacer_lib.artifacts import PROJECT_ROOT
from spacer_lib.errors import SpacerError
from spacer_lib.rewards.score import check_item
from spacer_lib.rooms.identity import benchmark_questions, require_no_benchmark_rooms
from spacer_lib.rows import read_questions
from spacer_lib.tiny.curriculum import SEEDS, draw_rows

ROW_KEYS = ("id", "question", "problem_type", "ground_truth")
MEDIA_KEYS = ("video", "image")  # a row of text alone has neither
OPTIONAL_KEYS = ("question_type", "options", "map", "categories", "video")
MAX_SKIPPED = 0.1  # above this share of missing files, the media root is wrong
# Not the run's seed: runs of one data scale learn from the same rows.
SUBSET_SEED = 0
ENOUGH_MAPS = 20  # rooms, of which one surely has something along the far walls


class TrainingRows(list):
    """Question rows that all have the same keys.

    Attributes
    ----------
    report : dict
        ``read``: rows of the file; ``part``; ``chosen``: rows left by ``data_part``
        and ``data_rows``; ``skipped``: ``{reason: rows}``; ``without_map``: kept
        spatial rows that can never earn a map reward; ``kept``: rows in the list.
    """

    def __init__(self, rows, report):
        super().__init__(rows)
        self.report = report


def training_rows(config):
    """The rows a run learns from: of ``data_path``, or drawn rooms without one.

    A file (``.jsonl`` or ``.parquet``; of a folder, its ``train`` file) may ask about
    a ``video``, an ``image`` (a path or a list of paths) or text alone. Paths are
    relative to the working folder, the file's own folder or the repository. Rows whose
    media are missing are left out and counted; rank 0 says so in one line. The order is
    the file's.

    Returns
    -------
    TrainingRows

    Raises
    ------
    SpacerError
        If the file cannot be read; a row lacks one of ``ROW_KEYS``, cannot be scored
        or has a map off the reward's grid; ids repeat; more than ``MAX_SKIPPED`` of
        the media are missing; the map reward counts, but no spatial row has a map, or
        maps are of a smaller grid; or too few rows are left.
    """
    if config.data_path is None:
        return _drawn(config)
    path = _file(locate(config.data_path))
    numbered = list(enumerate(_read(path), start=1))
    chosen = _chosen(path, numbered, config)
    require_no_benchmark_rooms(
        str(path),
        benchmark_questions([row for _, row in chosen], config.advanced.allow_datasets),
        "leave these rows out",
    )
    keys = dict.fromkeys((*OPTIONAL_KEYS, *(key for _, row in chosen for key in row)))
    for number, row in chosen:
        _check(f"{path} row {number}", row, config.reward)
    chosen = [(number, {key: row.get(key) for key in keys}) for number, row in chosen]
    _check_ids(path, [row for _, row in chosen])
    rows, skipped = _with_media(path, chosen)
    without_map = _check_maps(path, rows, config)
    if len(rows) < config.prompts_per_step:
        raise SpacerError(
            f"{path} is shorter than one step",
            got=f"{len(rows)} rows",
            expected=f"at least prompts_per_step = {config.prompts_per_step}",
        )
    return TrainingRows(
        rows,
        {
            "read": len(numbered),
            "part": config.data_part,
            "chosen": len(chosen),
            "skipped": dict(skipped),
            "without_map": without_map,
            "kept": len(rows),
        },
    )


def _drawn(config):
    if not config.max_steps:
        raise SpacerError(
            "setting max_steps", got=0, expected="more than 0 without data_path"
        )
    if config.data_part != "all" or config.data_rows:
        raise SpacerError(
            "settings data_part and data_rows",
            got=f"{config.data_part} and {config.data_rows} without data_path",
            expected="all and null, where rooms are drawn",
        )
    batches = math.ceil(config.max_steps / config.advanced.num_iterations)
    count = batches * config.prompts_per_step
    rows = draw_rows(SEEDS[config.rooms], count, config.view, exact_boxes=False)
    return TrainingRows(
        rows,
        {
            "read": count,
            "part": "all",
            "chosen": count,
            "skipped": {},
            "without_map": 0,
            "kept": count,
        },
    )


def _file(path):
    """``path`` itself, or of a folder of `spacer qa` or `spacer mix` its questions."""
    if not path.is_dir():
        return path
    names = [path / f"train.{suffix}" for suffix in ("jsonl", "parquet")]
    return next((name for name in names if name.exists()), names[0])


def _read(path):
    if not path.exists():
        raise SpacerError(
            f"{path} is missing",
            remedy="write it with `spacer qa` or `spacer mix`, or fix data_path",
        )
    try:
        return read_questions(path)
    except (OSError, ValueError) as error:
        raise SpacerError(
            f"{path} cannot be read",
            got=str(error).splitlines()[0],
            expected="question rows as JSON lines or Parquet",
        ) from error


def _chosen(path, numbered, config):
    """The rows of ``data_part``, and of those a random ``data_rows``.

    They are the first of one fixed shuffle, so a smaller choice is part of a larger.
    """
    part = config.data_part
    if part != "all":
        numbered = [pair for pair in numbered if pair[1].get("part") == part]
        if not numbered:
            raise SpacerError(
                f"{path}: rows of part {part}",
                got="none",
                remedy="join both parts with `spacer mix`, or set data_part=all",
            )
    if config.data_rows is None:
        return numbered
    if config.data_rows > len(numbered):
        raise SpacerError(
            "setting data_rows",
            got=config.data_rows,
            expected=f"at most the {len(numbered)} rows of {path}",
        )
    order = np.random.default_rng(SUBSET_SEED).permutation(len(numbered))
    return [numbered[i] for i in sorted(order[: config.data_rows].tolist())]


def _check(where, row, reward):
    absent = [key for key in ROW_KEYS if row.get(key) in (None, "")]
    if absent:
        raise SpacerError(
            where, got=f"no {', '.join(absent)}", expected=", ".join(ROW_KEYS)
        )
    try:
        check_item(row, reward)
    except SpacerError as error:
        raise SpacerError(
            f"{where}: {error.what}",
            got=error.got,
            expected=error.expected,
            remedy=error.remedy,
        ) from error


def _with_media(path, chosen):
    """Rows whose media are there, with found paths, and a count of the others."""
    find = functools.cache(lambda name: _find(name, path.parent))
    rows, skipped, first = [], Counter(), None
    for number, row in chosen:
        missing = _settle_media(f"{path} row {number}", row, find)
        if missing is None:
            rows.append(row)
            continue
        key, name = missing
        skipped[f"{key} missing"] += 1
        first = first or f"row {number} names {name}, which is missing"
    share = f"{skipped.total()} of {len(chosen)}"
    if skipped.total() > MAX_SKIPPED * len(chosen):
        raise SpacerError(
            f"{path}: videos or images are missing",
            got=f"{share}; {first}",
            expected=f"files in {path.parent}, in the working folder or in the "
            "repository",
            remedy="fix the paths, or make the videos first",
        )
    if skipped and os.environ.get("RANK", "0") == "0":
        print(f"{share} rows left out: {first}", flush=True)
    return rows, skipped


def _settle_media(where, row, find):
    """Write found paths into the row; ``(key, name)`` of a missing file, if any."""
    for key in MEDIA_KEYS:
        value = row.get(key) or []
        names = value if isinstance(value, list) else [value]
        if not all(isinstance(name, str) for name in names):
            raise SpacerError(
                f"{where}: {key}", got=repr(value)[:80], expected="a path or paths"
            )
        found = [name if "://" in name else find(name) for name in names]
        if None in found:
            return key, names[found.index(None)]
        if found:
            row[key] = found if isinstance(value, list) else found[0]
    return None


def _check_ids(path, rows):
    counts = Counter(row["id"] for row in rows)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise SpacerError(
            f"{path}: question ids repeat",
            got=f"{len(repeated)} ids, first {repeated[0]}",
            expected="every id once",
        )


def _check_maps(path, rows, config):
    """How many spatial rows have no map; raises where the map reward needs them."""
    spatial = [row for row in rows if row.get("part") != "general"]
    maps = [row["map"] for row in spatial if any((row["map"] or {}).values())]
    without = len(spatial) - len(maps)
    reward = config.reward
    pays = config.method == "grpo" and reward.map_weight and reward.map_gate != "off"
    if pays and spatial and not maps:
        raise SpacerError(
            f"{path}: true maps",
            got=f"none in {without} spatial rows",
            expected="a map to reward",
            remedy="set reward.map_weight=0, or make the questions with `spacer qa`",
        )
    # Cells off the grid were refused row by row; maps of a smaller grid look right.
    if pays and len({row["video"] for row in spatial if row["map"]}) >= ENOUGH_MAPS:
        largest = max(
            coordinate
            for cells in maps
            for spots in cells.values()
            for cell in spots or ()
            for coordinate in cell
        )
        if largest + 1 < reward.grid_size:
            raise SpacerError(
                f"{path}: true maps",
                got=f"no cell beyond {largest} in any",
                expected=f"a grid of {reward.grid_size} x {reward.grid_size}",
                remedy="set reward.grid_size, or make the questions with that "
                "grid_size",
            )
    return without


def locate(name, *folders):
    """``name`` as given, else in ``folders``, else in the repository."""
    return Path(_find(name, *folders) or name)


def _find(name, *folders):
    places = (os.path.join(folder, name) for folder in ("", *folders, PROJECT_ROOT))
    return next(filter(os.path.exists, places), None)
