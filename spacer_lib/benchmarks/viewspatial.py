"""ViewSpatial-Bench: directions as the camera or a person in the picture sees them.

``ViewSpatial-Bench.json`` with ``question_type, image_path, question, answer,
choices``. ``choices`` is one text with an option a line; ``answer`` is an option in
full. ``image_path`` are paths from the folder that holds ``ViewSpatial-Bench``.

``official`` is the authors' ``evaluate.py``: the first single letter A to D, in either
case, of the last line. "It is a sofa: B" is A. Overall is the mean over rows.

Source: Li et al., "ViewSpatial-Bench", https://arxiv.org/abs/2505.21500;
github.com/ZJU-REAL/ViewSpatial-Bench.
"""

import re
from pathlib import Path
from typing import Any

from spacer_lib.artifacts import PathLike
from spacer_lib.benchmarks.schema import (
    Benchmark,
    Record,
    Verdict,
    check_choice,
    check_paths,
    find_file,
    media_path,
    read_table,
)
from spacer_lib.rows import Question

COLUMNS: dict[str, Any] = {
    "question_type": str,
    "image_path": list,
    "question": str,
    "answer": str,
    "choices": str,
}


def read_rows(path: PathLike) -> list[Question]:
    """Questions of ViewSpatial-Bench.

    Parameters
    ----------
    path : path
        The published folder, or its JSON file.

    Raises
    ------
    SpacerError
        If the file is not as published.
    """
    name = "ViewSpatial-Bench.json"
    file = find_file(path, [name, f"eval/{name}", f"ViewSpatial-Bench/{name}"])
    records = read_table(file, COLUMNS)
    return [_row(record, file, number) for number, record in enumerate(records, 1)]


def _row(record: Record, file: Path, number: int) -> Question:
    where, names = f"{file} row {number}", record["image_path"]
    options = record["choices"].strip().split("\n")
    letter = record["answer"].strip()[:1]
    check_choice(f"{where}: answer", options, letter)
    check_paths(f"{where}: image_path", names)
    scan = re.search(r"scene\d+_\d+", names[0])
    return {
        "id": str(number - 1),  # the file names none
        "dataset": "viewspatial",
        "scene_name": scan[0] if scan else names[0],
        "question_type": record["question_type"],
        "problem_type": "multiple choice",
        "question": record["question"],
        "options": options,
        "ground_truth": letter,
        "image": [_image(file.parent, name) for name in names],
        "groups": {"perspective": record["question_type"].partition(" ")[0]},
    }


def _image(folder: Path, name: str) -> str:
    inner = name.removeprefix("ViewSpatial-Bench/")
    return media_path(folder, name, inner, f"../{name}")


_LETTER = re.compile(r"\b([A-D])\b", re.IGNORECASE)


def official(text: str, row: Question) -> Verdict:
    """The published rule: the first single letter of the last line."""
    found = _LETTER.search(text.split("\n")[-1])
    if found is None:
        return Verdict(0.0, None, "no_letter")
    letter = found[1].upper()
    return Verdict(float(letter == row["ground_truth"]), letter)


def benchmark() -> Benchmark:
    """ViewSpatial-Bench."""
    return Benchmark(
        "viewspatial",
        "ViewSpatial-Bench",
        source="huggingface.co/datasets/lidingm/ViewSpatial-Bench",
        read=read_rows,
        official=official,
    )
