"""The question rows that a run learns from, chosen and checked before it starts."""

import functools
import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from spacer_lib.artifacts import PROJECT_ROOT, PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.language.prompts import control_words
from spacer_lib.questions.recipes import load_recipe
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import check_item
from spacer_lib.rooms.identity import benchmark_questions, require_no_benchmark_rooms
from spacer_lib.rows import (
    MEDIA_KEYS,
    REQUIRED_KEYS,
    SPATIAL_KEYS,
    CognitiveMap,
    Question,
    read_questions,
)
from spacer_lib.tiny import curriculum
from spacer_lib.training.recipe import TrainConfig

MAX_SKIPPED = 0.1  # if more of the files are missing, the folder is probably wrong
# Not the run's seed: all runs at one data scale learn from the same rows.
SUBSET_SEED = 0
# With so many rooms, at least one object stands at the far walls: if no map reaches the
# last column or row, the maps have a smaller grid.
ENOUGH_MAPS = 20

Numbered = list[tuple[int, Question]]  # rows with their numbers in the file, from 1


class TrainingRows(list[Question]):
    """Question rows that all have the same keys.

    Attributes
    ----------
    report : dict
        ``read``: rows of the file; ``part``; ``chosen``: rows left by ``data_part``
        and ``data_rows``; ``skipped``: ``{reason: rows}``; ``without_map``: kept
        spatial rows that can never earn a map reward; ``kept``: rows in the list.
    """

    def __init__(self, rows: Sequence[Question], report: dict[str, Any]) -> None:
        super().__init__(rows)
        self.report = report


def training_rows(config: TrainConfig) -> TrainingRows:
    """The rows of ``data_path``, or questions about drawn rooms if it is null.

    A file is ``.jsonl`` or ``.parquet``; of a folder it is ``train``. A row asks about
    a ``video``, an ``image`` (a path or a list of paths) or text alone. Paths are
    relative to the working folder, the file's folder or the repository. Rows whose
    media are missing, or whose text has control words of the tokeniser, are left out
    and counted; rank 0 prints their number. The order
    is the file's.

    Raises
    ------
    SpacerError
        If the file cannot be read; a row lacks one of ``rows.REQUIRED_KEYS``, cannot
        be scored or has a map off the reward's grid; ids repeat; more than
        ``MAX_SKIPPED`` of the media are missing; the map reward counts, but no spatial
        row has a map, or maps have a smaller grid; or too few rows are left.
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
    for number, row in chosen:
        _check(f"{path} row {number}", row, config.reward)
    chosen = _with_same_keys(chosen)
    _check_ids(path, [row for _, row in chosen])
    plain, worded = _without_control_words(path, chosen)
    rows, skipped = _with_media(path, plain)
    skipped += worded
    without_map = _check_maps(path, rows, config)
    _require_boxes(str(path), rows, config)
    if len(rows) < config.prompts_per_step:
        raise SpacerError(
            f"{path} is shorter than one step",
            kind="training.too-few-rows",
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


def _drawn(config: TrainConfig) -> TrainingRows:
    """Questions about drawn rooms, one room each: as many as the run uses at most."""
    if not config.max_steps:
        raise SpacerError(
            "setting max_steps",
            kind="training.no-end",
            got=0,
            expected="more than 0 without data_path",
        )
    if config.data_part != "all":
        raise SpacerError(
            "setting data_part",
            kind="training.part-of-drawn-rooms",
            got=f"{config.data_part} without data_path",
            expected="all for drawn rooms",
        )
    batches = math.ceil(config.max_steps / config.advanced.num_iterations)
    count = batches * config.prompts_per_step
    if config.data_rows is not None:
        if config.data_rows < config.prompts_per_step:
            raise SpacerError(
                "setting data_rows",
                kind="training.too-few-rows",
                got=config.data_rows,
                expected=f"at least prompts_per_step = {config.prompts_per_step}",
            )
        count = min(count, config.data_rows)
    rows = curriculum.training_rows(config.rooms, count, config.view, _shares(config))
    _require_boxes("drawn rooms", rows, config)
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


def _shares(config: TrainConfig) -> dict[str, int] | None:
    """Question type → share of the drawn questions; ``None``: all types alike."""
    if config.question_recipe is None:
        return None
    tasks = load_recipe(config.question_recipe).tasks
    known = curriculum.tasks_of(config.view)
    targets = {task: wish.target for task, wish in tasks.items() if wish.target}
    wrong = [task for task in tasks if task not in known or task not in targets]
    if wrong:
        raise SpacerError(
            f"setting question_recipe {config.question_recipe}",
            kind="training.question-types",
            got=", ".join(wrong),
            expected=f"a target for each type, of {', '.join(known)} "
            f"(view {config.view})",
        )
    return targets


def _file(path: Path) -> Path:
    """``path`` itself, or the questions in a folder of `spacer qa` or `spacer mix`."""
    if not path.is_dir():
        return path
    names = [path / f"train.{suffix}" for suffix in ("jsonl", "parquet")]
    return next((name for name in names if name.exists()), names[0])


def _read(path: Path) -> list[Question]:
    if not path.exists():
        raise SpacerError(
            f"{path} is missing",
            kind="training.no-data",
            remedy="write it with `spacer qa` or `spacer mix`, or fix data_path",
        )
    with open(path, "rb") as file:
        is_list = file.read(64).lstrip()[:1] == b"["
    rows = [] if is_list else read_questions(path)
    if is_list or (rows and {"problem", "solution"} <= set(rows[0])):
        raise SpacerError(
            f"{path}",
            kind="training.raw-rows",
            got="one JSON list" if is_list else "problem and solution",
            expected="question rows; Video-R1 publishes others",
            remedy=f"make them with `spacer mix --general {path} --out FOLDER`",
        )
    return rows


def _chosen(path: Path, numbered: Numbered, config: TrainConfig) -> Numbered:
    """The rows of ``data_part``, and of these a random ``data_rows``.

    The random rows are the first of one fixed shuffle, so a smaller choice is part of
    a larger one.
    """
    part = config.data_part
    if part != "all":
        numbered = [pair for pair in numbered if pair[1].get("part") == part]
        if not numbered:
            raise SpacerError(
                f"{path}: rows of part {part}",
                kind="training.no-such-part",
                got="none",
                remedy="join both parts with `spacer mix`, or set data_part=all",
            )
    if config.data_rows is None:
        return numbered
    if config.data_rows > len(numbered):
        raise SpacerError(
            "setting data_rows",
            kind="training.data-rows",
            got=config.data_rows,
            expected=f"at most the {len(numbered)} rows of {path}",
        )
    order = np.random.default_rng(SUBSET_SEED).permutation(len(numbered))
    return [numbered[i] for i in sorted(order[: config.data_rows].tolist())]


def _check(where: str, row: Question, reward: RewardConfig) -> None:
    absent = [key for key in REQUIRED_KEYS if row.get(key) in (None, "")]
    if absent:
        raise SpacerError(
            where,
            kind="training.incomplete-row",
            got=f"no {', '.join(absent)}",
            expected=", ".join(REQUIRED_KEYS),
        )
    try:
        check_item(row, reward)
    except SpacerError as error:
        raise SpacerError(
            f"{where}: {error.what}",
            kind=error.kind,
            got=error.got,
            expected=error.expected,
            remedy=error.remedy,
        ) from error


def _with_same_keys(numbered: Numbered) -> Numbered:
    """Rows that all have the keys of any of them; missing ones are null."""
    keys = dict.fromkeys((*SPATIAL_KEYS, *(key for _, row in numbered for key in row)))
    return [(n, cast(Question, {k: row.get(k) for k in keys})) for n, row in numbered]


def _without_control_words(
    path: Path, numbered: Numbered
) -> tuple[Numbered, "Counter[str]"]:
    """Rows whose texts are text alone, and a count of the other rows."""
    words = {n: found for n, row in numbered if (found := control_words(row))}
    if words:
        number, found = next(iter(words.items()))
        share = f"{len(words)} of {len(numbered)}"
        first = f"row {number} has {found[0]} in its question or options"
        if len(words) > MAX_SKIPPED * len(numbered):
            raise SpacerError(
                f"{path}: control words of the tokeniser",
                kind="training.control-words",
                got=f"{share} rows; {first}",
                expected="questions in plain text, without placeholders",
                remedy="remove these words; media belong in video and image",
            )
        _say(f"{share} rows left out: {first}")
    kept = [pair for pair in numbered if pair[0] not in words]
    return kept, Counter({"control word": len(words)} if words else {})


def _say(line: str) -> None:
    """Print on rank 0 alone."""
    if os.environ.get("RANK", "0") == "0":
        print(line, flush=True)


# ---------------------------------------------------------------- media

Find = Callable[[str], str | None]


def _with_media(
    path: Path, numbered: Numbered
) -> tuple[list[Question], "Counter[str]"]:
    """Rows whose media exist, with the paths found, and a count of the other rows."""
    find = functools.cache(lambda name: _find(name, path.parent))
    rows, skipped, first = [], Counter[str](), ""
    for number, row in numbered:
        missing = _settle_media(row, find)
        if missing is None:
            rows.append(row)
            continue
        key, name = missing
        skipped[f"{key} missing"] += 1
        first = first or f"row {number} names {name}, which is missing"
    share = f"{skipped.total()} of {len(numbered)}"
    if skipped.total() > MAX_SKIPPED * len(numbered):
        raise SpacerError(
            f"{path}: videos or images are missing",
            kind="training.no-media",
            got=f"{share}; {first}",
            expected=f"files in {path.parent}, in the working folder or in the "
            "repository",
            remedy="fix the paths, or make the videos first",
        )
    if skipped:
        _say(f"{share} rows left out: {first}")
    return rows, skipped


def _settle_media(row: Question, find: Find) -> tuple[str, str] | None:
    """Write the paths found into the row; returns (key, name) of a missing file."""
    plain = cast(dict[str, Any], row)
    for key in MEDIA_KEYS:
        value = plain.get(key) or []
        names = value if isinstance(value, list) else [value]
        found = [name if "://" in name else find(name) for name in names]
        if None in found:
            return key, names[found.index(None)]
        if found:
            plain[key] = found if isinstance(value, list) else found[0]
    return None


def locate(name: str, *folders: PathLike) -> Path:
    """``name`` as given, or in one of ``folders``, or in the repository."""
    return Path(_find(name, *folders) or name)


def _find(name: str, *folders: PathLike) -> str | None:
    places = (os.path.join(folder, name) for folder in ("", *folders, PROJECT_ROOT))
    return next(filter(os.path.exists, places), None)


# ---------------------------------------------------------------- all rows together


def _check_ids(path: Path, rows: Sequence[Question]) -> None:
    counts = Counter(row["id"] for row in rows)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise SpacerError(
            f"{path}: question ids repeat",
            kind="training.repeated-ids",
            got=f"{len(repeated)} ids, first {repeated[0]}",
            expected="every id once",
        )


def _require_boxes(where: str, rows: Sequence[Question], config: TrainConfig) -> None:
    """Refuse rows without true boxes where boxes are rewarded."""
    if config.method != "grpo" or not config.reward.boxes_weight:
        return
    spatial = [row for row in rows if row.get("part") != "general"]
    if spatial and not any(row.get("boxes") for row in spatial):
        raise SpacerError(
            f"{where}: true boxes",
            kind="training.no-boxes",
            got=f"none in {len(spatial)} spatial rows",
            expected="boxes to reward",
            remedy="set reward.boxes_weight=0, or make the questions by a recipe with "
            "`boxes: true`",
        )


def _check_maps(path: Path, rows: Sequence[Question], config: TrainConfig) -> int:
    """Number of spatial rows without a map; refuses rows that the reward cannot use."""
    spatial = [row for row in rows if row.get("part") != "general"]
    mapped = [(row, row["map"]) for row in spatial if _has_objects(row.get("map"))]
    without = len(spatial) - len(mapped)
    reward = config.reward
    counts = config.method == "grpo" and reward.map_gate != "off"
    if not (counts and reward.map_weight and spatial):
        return without
    if not mapped:
        raise SpacerError(
            f"{path}: true maps",
            kind="training.no-maps",
            got=f"none in {without} spatial rows",
            expected="a map to reward",
            remedy="set reward.map_weight=0, or make the questions with `spacer qa`",
        )
    # Each row's check has refused cells off the grid; maps of a smaller grid pass it.
    rooms = {row.get("video") for row, _ in mapped}
    largest = max(_largest_coordinate(cells) for _, cells in mapped if cells)
    if len(rooms) >= ENOUGH_MAPS and largest + 1 < reward.grid_size:
        raise SpacerError(
            f"{path}: true maps",
            kind="training.smaller-grid",
            got=f"no cell beyond {largest} in any",
            expected=f"a grid of {reward.grid_size} x {reward.grid_size}",
            remedy="set reward.grid_size, or make the questions with that grid_size",
        )
    return without


def _has_objects(cells: CognitiveMap | None) -> bool:
    return any((cells or {}).values())


def _largest_coordinate(cells: CognitiveMap) -> int:
    spots = itertools.chain.from_iterable(spots or () for spots in cells.values())
    return max(itertools.chain.from_iterable(spots))
