"""LongVideoBench: 1,337 validation questions on videos up to an hour, no subtitles.

``lvb_val.json``, or the same as ``validation-*.parquet``: ``id, video_id, video_path,
question, correct_choice`` (from 0), ``question_category, topic_category,
duration_group`` (15, 60, 600 or 3600 seconds) and the options: ``candidates`` in JSON,
``option0`` to ``option4``, filled up with "N/A", in Parquet. Videos are in
``videos/{video_path}``. The test split has no public answers.

The authors publish a loader and leave scoring to lmms-eval, so ``official`` is
lmms-eval's rule; its earlier versions had MMMU's parser. It averages over lengths and
question categories by their counts. Every question counts twice, so this is the mean of
the rows.

Source: Wu et al., "LongVideoBench"; lmms-eval, ``tasks/longvideobench/utils.py``.
"""

import re
from pathlib import Path
from typing import Any

from spacer_lib.artifacts import PathLike
from spacer_lib.benchmarks.schema import (
    Benchmark,
    Record,
    Verdict,
    check_place,
    find_file,
    read_table,
)
from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import labelled_options
from spacer_lib.rows import Question

COLUMNS: dict[str, Any] = {
    "id": str,
    "video_id": str,
    "video_path": str,
    "question": str,
    "correct_choice": int,
    "question_category": str,
    "topic_category": str,
    "duration_group": int,
}
PLACES = tuple(f"option{place}" for place in range(5))


def read_rows(path: PathLike) -> list[Question]:
    """Questions of LongVideoBench's validation split.

    Parameters
    ----------
    path : path
        The published folder, or one of its two files of this split.

    Raises
    ------
    SpacerError
        If the file is not as published, or has no answers.
    """
    names = ["lvb_val.json", "validation*.parquet", "data/validation*.parquet"]
    file = find_file(path, names)
    options: dict[str, Any] = {"candidates": list}
    if file.suffix == ".parquet":
        options = dict.fromkeys(PLACES, str)
    records = read_table(file, COLUMNS | options)
    root = file.parent.parent if file.parent.name == "data" else file.parent
    return [_row(record, file, root, i) for i, record in enumerate(records, 1)]


def _row(record: Record, file: Path, root: Path, number: int) -> Question:
    where = f"{file} row {number}: correct_choice"
    if record["correct_choice"] < 0:
        raise SpacerError(
            where,
            kind="benchmarks.secret-answers",
            got=record["correct_choice"],
            expected="0 or more",
            remedy="use the validation split; the test split has no public answers",
        )
    options = record.get("candidates")
    if options is None:
        options = [record[place] for place in PLACES if record[place] != "N/A"]
    letter = check_place(where, options, record["correct_choice"])
    return {
        "id": record["id"],
        "dataset": "longvideobench",
        "scene_name": record["video_id"],
        "question_type": record["question_category"],
        "problem_type": "multiple choice",
        "question": record["question"],
        "options": [f"{chr(65 + i)}. {option}" for i, option in enumerate(options)],
        "ground_truth": letter,
        "video": str(root / "videos" / record["video_path"]),
        "groups": {
            "duration_group": record["duration_group"],
            "topic_category": record["topic_category"],
        },
    }


_PHRASES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
)


def official(text: str, row: Question) -> Verdict:
    """The published rule: drop set phrases, then the first capital A to E anywhere.

    If there is none, the published script draws an option at random. The score here is
    the expected value: one over the number of options.
    """
    options = row["options"] or []
    text = text.strip()
    for phrase in _PHRASES:
        text = text.replace(phrase, "")
    letter = re.search("[ABCDE]", text)
    if letter is None:
        return Verdict(1 / len(options), None, "no_letter")
    if letter[0] not in labelled_options(options):
        return Verdict(0.0, None, "not_an_option")
    return Verdict(float(letter[0] == row["ground_truth"]), letter[0])


def benchmark() -> Benchmark:
    """LongVideoBench's validation split without subtitles."""
    return Benchmark(
        "longvideobench",
        "LongVideoBench",
        source="huggingface.co/datasets/longvideobench/LongVideoBench",
        read=read_rows,
        official=official,
    )
