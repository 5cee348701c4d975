"""VSI-SUPER: what happened in videos of ten minutes to four hours, and how many.

Recall: ``question, options, answer, type, video_path``, where ``type`` is the length
(``10mins``). Count: ``question, answer, split, video_path``, where ``split`` is. Both
are a table ``test`` (Parquet, JSON lines or JSON); ``video_path`` is relative to its
folder.

``official`` is the rule of the authors' copy of lmms-eval. Recall: the text up to the
first space, without full stops, must equal the truth up to case. Count: ``float`` must
read the whole text, and the score is the mean relative accuracy; their code stops at
another text, here it is a failure. Each length is reported apart (``groups``).

Source: Yang et al., "Cambrian-S", https://arxiv.org/abs/2511.04670;
github.com/cambrian-mllm/cambrian-s, ``lmms-eval``.
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
    read_table,
)
from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import labelled_options
from spacer_lib.rewards.metrics import float_accuracy
from spacer_lib.rows import Question

RECALL_COLUMNS: dict[str, Any] = {
    "question": str,
    "options": list,
    "answer": str,
    "type": str,
    "video_path": str,
}
COUNT_COLUMNS: dict[str, Any] = {
    "question": str,
    "answer": (int, float),
    "split": str,
    "video_path": str,
}
_NAMES = ("test*.parquet", "*/test*.parquet", "test*.jsonl", "test*.json", "*.parquet")


def read_recall(path: PathLike) -> list[Question]:
    """Questions of VSI-SUPER-Recall.

    Parameters
    ----------
    path : path
        The published folder, or its table.

    Raises
    ------
    SpacerError
        If the table is not as published.
    """
    file = find_file(path, _NAMES)
    rows = []
    for number, record in enumerate(read_table(file, RECALL_COLUMNS), 1):
        options, letter = record["options"], record["answer"].strip()
        check_choice(f"{file} row {number}: answer", options, letter)
        row = _row(record, path, file, number, record["type"], "recall")
        rows.append(row | {"options": options, "ground_truth": letter})
    return rows


def read_count(path: PathLike) -> list[Question]:
    """Questions of VSI-SUPER-Count.

    Parameters
    ----------
    path : path
        The published folder, or its table.

    Raises
    ------
    SpacerError
        If the table is not as published.
    """
    file = find_file(path, _NAMES)
    rows = []
    for number, record in enumerate(read_table(file, COUNT_COLUMNS), 1):
        if not 0 < record["answer"] < math.inf:
            raise SpacerError(
                f"{file} row {number}: answer",
                kind="benchmarks.answer-not-a-number",
                got=record["answer"],
                expected="a number above 0: the rule divides by it",
            )
        row = _row(record, path, file, number, record["split"], "count")
        rows.append(row | {"ground_truth": f"{record['answer']:.12g}"})
    return rows


def _row(
    record: Record, path: PathLike, file: Path, number: int, length: str, task: str
) -> Question:
    root = Path(path) if Path(path).is_dir() else file.parent
    return {
        "id": str(record.get("id", f"{task}|{number - 1}")),
        "dataset": "vsi-super",
        "scene_name": record["video_path"],
        "question_type": task,
        "problem_type": "multiple choice" if task == "recall" else "numerical",
        "question": record["question"].strip(),
        "options": None,
        "ground_truth": "",
        "video": str(root / record["video_path"]),
        "groups": {"length": length},
    }


def official(text: str, row: Question) -> Verdict:
    """The published rule of the question's task."""
    truth = row["ground_truth"]
    if row["question_type"] == "recall":
        word = text.split(" ")[0].rstrip(".").strip()
        right = float(word.lower() == truth.lower())
        if word.upper() not in labelled_options(row["options"] or []):
            return Verdict(right, None, "not_an_option")
        return Verdict(right, word)
    try:
        return Verdict(float_accuracy(float(text), float(truth)), text.strip())
    except ValueError:
        return Verdict(0.0, None, "no_number")


def benchmark(task: str) -> Benchmark:
    """VSI-SUPER's ``recall`` or ``count``."""
    return Benchmark(
        f"vsi-super-{task}",
        f"VSI-SUPER-{task.capitalize()}",
        source=f"huggingface.co/datasets/nyu-visionx/VSI-SUPER-{task.capitalize()}",
        read=read_recall if task == "recall" else read_count,
        official=official,
    )
