"""EmbSpatial-Bench: six relations between things, from where an agent stands.

``embspatial_bench.json`` with ``question_id, data_source, scene_id, question, relation,
image, answer_options, answer``. ``image`` is base64 text, copied once to ``.images``;
``answer`` counts the options from 0.

The authors publish no reader of answers; their metric is accuracy. ``official`` is the
rule of lmms-eval's task ``embspatial``: the first character after brackets and spaces,
in either case. "The answer is B" is T, and so wrong.

Source: Du et al., "EmbSpatial-Bench", https://arxiv.org/abs/2406.05756;
github.com/mengfeidu/EmbSpatial-Bench.
"""

import re
from pathlib import Path
from typing import Any

from spacer_lib.artifacts import PathLike
from spacer_lib.benchmarks.pictures import paired, unpack
from spacer_lib.benchmarks.schema import (
    Benchmark,
    Record,
    Verdict,
    check_place,
    find_file,
    lettered,
    read_table,
)
from spacer_lib.rows import Question

COLUMNS: dict[str, Any] = {
    "question_id": str,
    "data_source": str,
    "scene_id": str,
    "question": str,
    "relation": str,
    "image": str,
    "answer_options": list,
    "answer": int,
}


def read_rows(path: PathLike) -> list[Question]:
    """Questions of EmbSpatial-Bench; its pictures are unpacked.

    Parameters
    ----------
    path : path
        The published folder, or its JSON file.

    Raises
    ------
    SpacerError
        If the file is not as published, or a picture cannot be written.
    """
    file = find_file(path, ["embspatial_bench.json", "*bench*.json"])
    records = read_table(file, COLUMNS)
    images = unpack(file, lambda: [record["image"] for record in records])
    return [
        _row(record, paths, file, number)
        for number, (record, paths) in enumerate(paired(file, records, images), 1)
    ]


def _row(record: Record, images: list[str], file: Path, number: int) -> Question:
    options = lettered(record["answer_options"])
    letter = check_place(f"{file} row {number}: answer", options, record["answer"])
    return {
        "id": record["question_id"],
        "dataset": record["data_source"],
        "scene_name": record["scene_id"],
        "question_type": record["relation"],
        "problem_type": "multiple choice",
        "question": record["question"],
        "options": options,
        "ground_truth": letter,
        "image": images,
        "groups": {"source": record["data_source"]},
    }


_FIRST = re.compile(r"[(\s]*([A-Z])", re.IGNORECASE)


def official(text: str, row: Question) -> Verdict:
    """lmms-eval's rule: the letter that the text begins with."""
    found = _FIRST.match(text.strip())
    if found is None:
        return Verdict(0.0, None, "no_letter")
    letter = found[1].upper()
    return Verdict(float(letter == row["ground_truth"]), letter)


def benchmark() -> Benchmark:
    """EmbSpatial-Bench."""
    return Benchmark(
        "embspatial",
        "EmbSpatial-Bench",
        source="huggingface.co/datasets/Phineas476/EmbSpatial-Bench",
        read=read_rows,
        official=official,
    )
