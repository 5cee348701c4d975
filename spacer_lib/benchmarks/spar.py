"""SPAR-Bench: twenty tasks on one or several pictures of a room.

``id, image, question, answer, task, img_type`` (also ``format_type`` and ``source``) in
``data/test-*-of-*.parquet``, in several parts. ``image`` is a list of ``{bytes,
path}``; the pictures are copied once, without decoding, to ``.images`` beside the
parts. The options are lines of the question and become ``options`` if their letters are
A, B, C … and the answer is one of them.

The rule is that of lmms-eval's task ``sparbench``, which the authors point to:

===========  ========================================================================
``choice``   letters up to case; a completion contained in the truth is right, so an
             empty one is; so is "Based on …" where B is right
``number``   mean relative accuracy of one number: the first in the completion for one
             picture, the last for several
``motion``   ``move_right:0.5,rotate_left:30,…``: mean relative accuracy on five axes,
             relative to the completion instead of the truth; an axis that is not
             named counts as 0
===========  ========================================================================

Overall is the mean of the tasks. The published tables average ``view_change_infer``
into the middle level. The released code shortens its name and so leaves it out
(``aggregate``). SpaceR's released evaluation takes the mean of the tasks too; code
derived from it weights them by their rows, which is ``micro``.

Source: Zhang et al., "From Flatland to Space" (SPAR-Bench, jasonzhango/SPAR-Bench).
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spacer_lib.artifacts import PathLike, listing
from spacer_lib.benchmarks import rules
from spacer_lib.benchmarks.pictures import paired, parquet_cells, unpack
from spacer_lib.benchmarks.schema import (
    Benchmark,
    Record,
    Verdict,
    find_file,
    read_table,
)
from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import labelled_options, read_choice
from spacer_lib.language.tags import answer_part, read_completion
from spacer_lib.rewards.metrics import mean_relative_accuracy
from spacer_lib.rows import Prediction, Question

# Task: (level, kind of answer). "oo": between objects; "oc": from the camera; "mv": in
# several views.
TASKS = {
    "depth_prediction_oc": ("Low", "number"),
    "depth_prediction_oo": ("Low", "number"),
    "distance_prediction_oc": ("Low", "number"),
    "distance_prediction_oo": ("Low", "number"),
    "depth_prediction_oc_mv": ("Low", "number"),
    "depth_prediction_oo_mv": ("Low", "number"),
    "distance_prediction_oo_mv": ("Low", "number"),
    "distance_prediction_oc_mv": ("Low", "number"),
    "view_change_infer": ("Middle", "motion"),
    "position_matching": ("Middle", "choice"),
    "camera_motion_infer": ("Middle", "choice"),
    "obj_spatial_relation_oo": ("High", "choice"),
    "obj_spatial_relation_oc_mv": ("High", "choice"),
    "obj_spatial_relation_oo_mv": ("High", "choice"),
    "spatial_imagination_oc": ("High", "choice"),
    "spatial_imagination_oo": ("High", "choice"),
    "spatial_imagination_oc_mv": ("High", "choice"),
    "spatial_imagination_oo_mv": ("High", "choice"),
    "distance_infer_center_oo": ("High", "choice"),
    "distance_infer_center_oo_mv": ("High", "choice"),
}
LEVELS = ("Low", "Middle", "High")
AXES = (  # positive, negative
    ("move_right", "move_left"),
    ("move_up", "move_down"),
    ("move_forward", "move_backward"),
    ("rotate_right", "rotate_left"),
    ("rotate_up", "rotate_down"),
)
COLUMNS: dict[str, Any] = {
    "id": (int, str),
    "question": str,
    "answer": str,
    "task": str,
    "img_type": str,
}
_CONFIDENCES = np.linspace(0.5, 0.95, 10)


def read_rows(path: PathLike) -> list[Question]:
    """Questions of SPAR-Bench; its pictures are unpacked.

    ``scene_name`` is the scan that a row's id begins with, else the id. The published
    ids are numbers.

    Parameters
    ----------
    path : path
        The published folder, or one part of it.

    Raises
    ------
    SpacerError
        If a file is not as published, a part is missing, or the folder of the
        pictures cannot be written.
    """
    return [
        _row(record, images, file, number)
        for file in _parts(path)
        for number, (record, images) in enumerate(
            paired(file, read_table(file, COLUMNS, skip=["image"]), _images(file)),
            start=1,
        )
    ]


def _images(file: Path) -> list[list[str]]:
    return unpack(file, lambda: parquet_cells(file, ["image"], COLUMNS))


def _parts(path: PathLike) -> list[Path]:
    names = ["data/test*.parquet", "test*.parquet", "*.parquet"]
    first = find_file(path, names)
    if Path(path).is_file():
        return [first]
    parts = listing(first.parent, "*.parquet")
    whole = re.search(r"-of-0*(\d+)$", first.stem)
    if whole and len(parts) != int(whole[1]):
        raise SpacerError(
            f"parts in {first.parent}",
            kind="benchmarks.missing-part",
            got=[part.name for part in parts],
            expected=f"{whole[1]} of them",
            remedy="download the missing parts",
        )
    return parts


def _row(record: Record, images: list[str], file: Path, number: int) -> Question:
    task, answer = record["task"], record["answer"]
    if task not in TASKS:
        raise SpacerError(
            f"{file} row {number}: task",
            kind="benchmarks.unknown-task",
            got=task,
            expected=", ".join(TASKS),
        )
    level, kind = TASKS[task]
    where = f"{file} row {number}: answer"
    _require(bool(answer.strip()), where, answer, "empty-answer", "an answer")
    question, options = record["question"], None
    if kind == "choice":
        question, options = _split_options(question, answer)
        # In published rows the truth is always a letter; other rows are scored too.
        lettered = read_choice(answer, options)
        problem = "multiple choice" if lettered else "option-free"
    elif kind == "number":
        problem = "numerical"
        good = _is_number(answer)
        _require(good, where, answer, "answer-not-a-number", "a finite number")
    else:
        problem = "option-free"
        good, form = _is_motion(_motion(answer)), "move_right:0.5,rotate_up:3,…"
        _require(good, where, answer, "answer-not-a-motion", form)
    scan = re.match(r"scene\d+_\d+", str(record["id"]))
    return {
        "id": str(record["id"]),
        "published_id": record["id"],
        "dataset": record.get("source"),
        "scene_name": scan[0] if scan else str(record["id"]),
        "question_type": task,
        "problem_type": problem,
        "question": question,
        "options": options,
        "ground_truth": answer,
        "image": images,
        "groups": {"img_type": record["img_type"], "level": level},
    }


def _require(good: bool, where: str, answer: str, fault: str, expected: str) -> None:
    if not good:
        raise SpacerError(
            where,
            kind=f"benchmarks.{fault}",
            got=repr(answer)[:80],
            expected=expected,
        )


def _is_number(answer: str) -> bool:
    try:
        return math.isfinite(float(answer))
    except ValueError:
        return False


_OPTION_LINE = re.compile(r"[ \t]*([A-Z])\.[ \t]*(.*?)[ \t]*")


def _split_options(question: str, answer: str) -> tuple[str, list[str] | None]:
    """The question without its lines of options, and these.

    Without options if the letters are not A, B, C … or the answer is not one of them.
    """
    lines = question.split("\n")
    found = [_OPTION_LINE.fullmatch(line) for line in lines]
    options = [f"{match[1]}. {match[2]}" for match in found if match]
    letters = [option[0] for option in options]
    if (
        len(options) < 2
        or letters != [chr(65 + i) for i in range(len(options))]
        or answer.strip().upper() not in labelled_options(options)
    ):
        return question, None
    rest = [line for line, match in zip(lines, found, strict=True) if not match]
    return "\n".join(rest).strip(), options


_DIGITS = re.compile(r"(?<!\^)\d+\.\d+|(?<!\^)\d+")


def official(text: str, row: Question) -> Verdict:
    """The published rule, its faults included; see the module's table."""
    return _OFFICIAL[TASKS[row["question_type"]][1]](text, row)


def _official_choice(text: str, row: Question) -> Verdict:
    said, truth = text.lower(), row["ground_truth"].lower()
    right = said in truth or said[0] == truth
    return Verdict(float(right), text or None, None if text else "empty_output")


def _official_number(text: str, row: Question) -> Verdict:
    try:
        # One number too long to convert makes the answer unreadable, as published.
        digits = _DIGITS.findall(text)
        numbers: list[float] = [float(d) if "." in d else int(d) for d in digits]
        if row["question_type"].endswith("_mv"):
            numbers = [numbers[-1] if numbers else -1]
        value, truth = float(numbers[0]), float(row["ground_truth"])
    except (IndexError, ValueError, OverflowError):
        return Verdict(0.0, None, "no_number")
    score = _accuracy(value, truth)
    return Verdict(score, f"{value:.12g}", "no_number" if value < 0 else None)


def _official_motion(text: str, row: Question) -> Verdict:
    said, truth = _motion(text), _motion(row["ground_truth"]) or {}
    if said is None:
        return Verdict(0.0, None, "no_motion")
    scores = [_accuracy(_along(truth, axis), _along(said, axis)) for axis in AXES]
    return Verdict(float(np.mean(scores)), text)


_OFFICIAL = {
    "choice": _official_choice,
    "number": _official_number,
    "motion": _official_motion,
}


def _accuracy(prediction: float, target: float) -> float:
    """Mean relative accuracy without tolerance; the error is absolute for target 0."""
    error = abs(prediction - target)
    if target != 0.0:
        error = abs((prediction - target) / target)
    return float((error <= 1 - _CONFIDENCES).mean())


def _motion(text: str) -> dict[str, float] | None:
    """Value by name of ``name:value,name:value``; ``None`` for another form."""
    try:
        return {name: float(v) for name, v in (p.split(":") for p in text.split(","))}
    except ValueError:
        return None


def _along(motion: Mapping[str, float], axis: tuple[str, str]) -> float:
    forth, back = axis
    return motion.get(forth, 0) - motion.get(back, 0)


def _is_motion(said: Mapping[str, float] | None) -> bool:
    names = {name for axis in AXES for name in axis}
    if not said:
        return False
    return set(said) <= names and all(map(math.isfinite, said.values()))


def strict(text: str, row: Question) -> Verdict:
    """``rules.strict``; for motions, known movements named once with finite values.

    A motion's score is the mean relative accuracy, relative to the truth, averaged over
    the five axes.
    """
    if row["question_type"] != "view_change_infer":
        return rules.strict(text, row)
    reading = read_completion(answer_part(text), shape="vanilla")
    if not reading.answer:
        return Verdict(0.0, None, reading.failure or "empty_answer")
    said = _motion("".join(reading.answer.split()).removesuffix("."))
    if said is None or not _is_motion(said) or len(said) != reading.answer.count(":"):
        return Verdict(0.0, None, "no_motion")
    truth = _motion(row["ground_truth"]) or {}
    scores = [
        mean_relative_accuracy(_along(said, axis), _along(truth, axis)) for axis in AXES
    ]
    return Verdict(float(np.mean(scores)), reading.answer, None, "text")


def aggregate(predictions: Iterable[Prediction]) -> dict[str, float]:
    """The released code's means: over the tasks, and over each level's tasks.

    ``Middle`` lacks ``view_change_infer``. A level without rows is left out.
    """
    scores: dict[str, list[float]] = {}
    for made in predictions:
        scores.setdefault(made["question_type"], []).append(made["score"])
    tasks = {task: float(np.mean(values)) for task, values in scores.items()}
    levels: dict[str, list[float]] = {level: [] for level in LEVELS}
    for task, value in tasks.items():
        if task != "view_change_infer":
            levels[TASKS[task][0]].append(value)
    means = {level: float(np.mean(each)) for level, each in levels.items() if each}
    return {"overall": float(np.mean(list(tasks.values()))), **means}


def benchmark() -> Benchmark:
    """SPAR-Bench."""
    return Benchmark(
        "spar",
        "SPAR-Bench",
        source="huggingface.co/datasets/jasonzhango/SPAR-Bench",
        read=read_rows,
        official=official,
        overall="macro",
        mode="think_map",
        strict=strict,
        aggregate=aggregate,
    )
