"""ReVSI: VSI-Bench's tasks asked anew, with answers that hold for a frame budget.

``{budget}_frame/test-*.parquet`` with ``id, num_frames, scene_id, question_type,
question, options, ground_truth``; videos in ``{budget}_frame/{scene_id}.mp4``. A video
has as many frames as its budget: 16, 32, 64 or all. A thing that only other frames show
is neither asked for nor counted, so that each budget is a benchmark of its own.

``official`` is the rule of lmms-eval's task ``revsi``, which the authors point to: the
text up to the first space without full stops, as VSI-Bench's, after outer white space.
The overall score is the mean over seven tasks, each the mean of its variants.

Source: Zhang et al., "ReVSI", https://arxiv.org/abs/2604.24300;
github.com/3dlg-hcvc/revsi.
"""

import math
from pathlib import Path
from typing import Any

from spacer_lib.artifacts import PathLike
from spacer_lib.benchmarks.schema import (
    Benchmark,
    Record,
    Verdict,
    check_choice,
    find_file,
    media_path,
    read_table,
)
from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import labelled_options
from spacer_lib.rewards.metrics import float_accuracy
from spacer_lib.rows import Question

BUDGETS = ("16", "32", "64", "all")
CHOICE = (
    "object_rel_direction_forward_easy",
    "object_rel_direction_backward_easy",
    "object_rel_direction_forward_hard",
    "object_rel_direction_backward_hard",
    "object_rel_distance_closest",
    "object_rel_distance_farthest",
    "route_planning",
)
NUMBER = (
    "object_counting_single",
    "object_counting_multiple",
    "object_abs_distance",
    "object_size_estimation",
    "room_size_estimation_single",
    "room_size_estimation_multiple",
)
COLUMNS: dict[str, Any] = {
    "id": (int, str),
    "num_frames": (int, str),
    "scene_id": str,
    "question_type": str,
    "question": str,
    "ground_truth": str,
    "options": (list, type(None)),
}


def read_rows(path: PathLike, budget: str) -> list[Question]:
    """Questions of one frame budget.

    Parameters
    ----------
    path : path
        The published folder, or the budget's Parquet file.
    budget : str
        One of ``BUDGETS``.

    Raises
    ------
    SpacerError
        If the file is not as published, or holds another budget's answers.
    """
    folder = f"{budget}_frame"
    names = [f"{folder}/test*.parquet", f"data/{folder}/test*.parquet"]
    file = find_file(path, [*names, f"{folder}*.parquet"])
    root = file.parent.parent if file.parent.name == folder else file.parent
    records = read_table(file, COLUMNS)
    return [_row(record, file, root, budget, i) for i, record in enumerate(records, 1)]


def _row(record: Record, file: Path, root: Path, budget: str, number: int) -> Question:
    kind, truth = record["question_type"], record["ground_truth"]
    where = f"{file} row {number}"
    if kind not in (*CHOICE, *NUMBER):
        raise SpacerError(
            f"{where}: question_type",
            kind="benchmarks.unknown-task",
            got=kind,
            expected=", ".join((*CHOICE, *NUMBER)),
        )
    if budget != "all" and str(record["num_frames"]) != budget:
        raise SpacerError(
            f"{where}: num_frames",
            kind="benchmarks.other-budget",
            got=record["num_frames"],
            expected=budget,
            remedy="answers hold for one budget: name its file, or another benchmark",
        )
    is_choice = kind in CHOICE
    if is_choice:
        check_choice(f"{where}: ground_truth", record.get("options") or [], truth)
    elif not _is_positive(truth):
        raise SpacerError(
            f"{where}: ground_truth",
            kind="benchmarks.answer-not-a-number",
            got=truth,
            expected="a number above 0: the rule divides by it",
        )
    clip = f"{budget}_frame/{record['scene_id']}.mp4"
    return {
        "id": str(record["id"]),
        "published_id": record["id"],
        "dataset": record.get("dataset"),
        "scene_name": record["scene_id"],
        "question_type": kind,
        "problem_type": "multiple choice" if is_choice else "numerical",
        "question": record["question"],
        "options": list(record["options"]) if is_choice else None,
        "ground_truth": truth,
        "video": media_path(root, clip, f"video/{clip}", f"videos/{clip}"),
        "groups": {},
    }


def _is_positive(truth: str) -> bool:
    try:
        return 0 < float(truth) < math.inf
    except ValueError:
        return False


def official(text: str, row: Question) -> Verdict:
    """The published rule: the text up to the first space, without full stops.

    A letter must equal the truth up to case. A number is what ``float`` reads; its
    score is the mean relative accuracy over ten confidences.
    """
    word = text.strip().split(" ")[0].rstrip(".").strip()
    truth = row["ground_truth"]
    if row["question_type"] in CHOICE:
        named = word.upper() in labelled_options(row["options"] or [])
        right = float(word.lower() == truth.lower())
        return Verdict(
            right, word if named else None, None if named else "not_an_option"
        )
    try:
        return Verdict(float_accuracy(float(word), float(truth)), word)
    except ValueError:
        return Verdict(0.0, None, "no_number")


def benchmark(budget: str) -> Benchmark:
    """ReVSI with one frame budget."""
    return Benchmark(
        f"revsi-{budget}",
        f"ReVSI ({budget} frames)",
        source="huggingface.co/datasets/3dlg-hcvc/ReVSI",
        read=lambda path: read_rows(path, budget),
        official=official,
        overall="macro",
        mode="think_map",
        frames=None if budget == "all" else int(budget),
    )
