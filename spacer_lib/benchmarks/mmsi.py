"""MMSI-Bench: 1,000 questions on several pictures, each with four options.

``MMSI_Bench.parquet`` with ``id, images, question_type, question, answer`` (and
``thought``). ``images`` is a list of bytes; they are copied once to ``.images``. The
options stand in the question, as ``A: left, B: right``.

``official`` is the function in the authors' README. It reads the letter between
backticks, then between braces, else the first single A, B, C or D that no word follows
("A bike" is no A). The authors ask a language model to read what this does not; here it
is a failure. Their fork of VLMEvalKit leaves the braces out; lmms-eval reads A to F in
either case.

Source: Yang et al., "MMSI-Bench", https://arxiv.org/abs/2505.23764;
github.com/InternRobotics/MMSI-Bench.
"""

import re
from pathlib import Path
from typing import Any

from spacer_lib.artifacts import PathLike
from spacer_lib.benchmarks.pictures import paired, parquet_cells, unpack
from spacer_lib.benchmarks.schema import (
    Benchmark,
    Record,
    Verdict,
    check_letter,
    find_file,
    inline_options,
    read_table,
)
from spacer_lib.rows import Question

COLUMNS: dict[str, Any] = {
    "id": (int, str),
    "question_type": str,
    "question": str,
    "answer": str,
}


def read_rows(path: PathLike) -> list[Question]:
    """Questions of MMSI-Bench; its pictures are unpacked.

    Parameters
    ----------
    path : path
        The published folder, or its Parquet file.

    Raises
    ------
    SpacerError
        If the file is not as published, or a picture cannot be written.
    """
    file = find_file(path, ["MMSI_Bench.parquet", "*.parquet"])
    records = read_table(file, COLUMNS, skip=["images"])
    images = unpack(file, lambda: parquet_cells(file, ["images"], COLUMNS), "images")
    return [
        _row(record, paths, file, number)
        for number, (record, paths) in enumerate(paired(file, records, images), 1)
    ]


def _row(record: Record, images: list[str], file: Path, number: int) -> Question:
    letter = record["answer"].strip()
    check_letter(f"{file} row {number}: answer", letter, "ABCD")
    question, options = inline_options(record["question"], letter, mark=":")
    return {
        "id": str(record["id"]),
        "published_id": record["id"],
        "dataset": "mmsi",
        "scene_name": str(record["id"]),
        "question_type": record["question_type"],
        "problem_type": "multiple choice",
        "question": question,
        "options": options,
        "ground_truth": letter,
        "image": images,
        "groups": {},
    }


_MARKS = (
    r"``([^`]*)``",
    r"`([^`]*)`",
    r"^[^{]*\{([^}]*)\}",
)  # of braces the first pair
_LETTER = re.compile(r"\b[A-D]\b(?!\s[a-zA-Z])")


def official(text: str, row: Question) -> Verdict:
    """The published rule: what marks enclose, then a capital letter that is alone."""
    for mark in _MARKS:
        enclosed = re.search(mark, text)
        text = enclosed[1] if enclosed else text
    letter = _LETTER.search(text)
    if letter is None:
        return Verdict(0.0, None, "no_letter")
    return Verdict(float(letter[0] == row["ground_truth"]), letter[0])


def benchmark() -> Benchmark:
    """MMSI-Bench."""
    return Benchmark(
        "mmsi",
        "MMSI-Bench",
        source="huggingface.co/datasets/RunsenXu/MMSI-Bench",
        read=read_rows,
        official=official,
    )
