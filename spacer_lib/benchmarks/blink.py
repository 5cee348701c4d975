"""BLINK's validation split: fourteen tasks on one to four pictures.

``{Task}/val-*.parquet`` with ``idx, sub_task, question, choices, answer, prompt`` and
``image_1`` to ``image_4``, bytes or null, copied once to ``.images``. Of the tasks that
the folder holds, all are read. Those of space (``subsets``) are ``Spatial_Relation``,
``Relative_Depth`` and ``Multi-view_Reasoning``. The answers of the test split are not
public.

``official`` is the authors' ``test_benchmark.py``: a letter alone, with or without
brackets, or the only bracketed option among the words of the last paragraph, else of
the text. They ask a language model to read the rest; here it is a failure. Overall is
the mean over tasks.

Source: Fu et al., "BLINK", https://arxiv.org/abs/2404.12390;
github.com/zeyofu/BLINK_Benchmark.
"""

from pathlib import Path
from typing import Any

from spacer_lib.artifacts import PathLike, listing
from spacer_lib.benchmarks.pictures import paired, parquet_cells, unpack
from spacer_lib.benchmarks.schema import (
    Benchmark,
    Record,
    Verdict,
    check_choice,
    find_file,
    read_table,
)
from spacer_lib.language.choices import labelled_options
from spacer_lib.rows import Question

SPATIAL = ("Spatial_Relation", "Relative_Depth", "Multi-view_Reasoning")
COLUMNS: dict[str, Any] = {
    "idx": str,
    "sub_task": str,
    "question": str,
    "choices": list,
    "answer": str,
}
_IMAGES = ("image_1", "image_2", "image_3", "image_4")


def read_rows(path: PathLike) -> list[Question]:
    """Questions of BLINK; its pictures are unpacked.

    Parameters
    ----------
    path : path
        The published folder with a folder a task, one of these, or one file.

    Raises
    ------
    SpacerError
        If a file is not as published, or a picture cannot be written.
    """
    first = find_file(path, ["*/val*.parquet", "val*.parquet"])
    files = [first]
    if Path(path).is_dir():
        inside = listing(path, "*/val*.parquet")
        files = inside or listing(path, "val*.parquet")
    return [row for file in files for row in _rows(file)]


def _rows(file: Path) -> list[Question]:
    records = read_table(file, COLUMNS, skip=_IMAGES)
    images = unpack(file, lambda: parquet_cells(file, _IMAGES, COLUMNS), "image_1")
    return [
        _row(record, paths, file, number)
        for number, (record, paths) in enumerate(paired(file, records, images), 1)
    ]


def _row(record: Record, images: list[str], file: Path, number: int) -> Question:
    options = [f"({chr(65 + i)}) {text}" for i, text in enumerate(record["choices"])]
    letter = record["answer"].strip("()")
    check_choice(f"{file} row {number}: answer", options, letter)
    return {
        "id": record["idx"],
        "dataset": "blink",
        "scene_name": record["idx"],
        "question_type": record["sub_task"],
        "problem_type": "multiple choice",
        "question": record["question"],
        "options": options,
        "ground_truth": letter,
        "image": images,
        "groups": {},
    }


def official(text: str, row: Question) -> Verdict:
    """The published rule, without the language model that reads what it leaves."""
    if text in tuple("ABCDE"):
        text = f"({text})"
    marks = {f"({letter})" for letter in labelled_options(row["options"] or [])}
    everywhere = marks.intersection(text.split())
    at_the_end = marks.intersection(text.split("\n\n")[-1].split())
    found = at_the_end if len(at_the_end) == 1 else everywhere
    if len(found) != 1:
        if text in ("(A)", "(B)", "(C)", "(D)", "(E)"):  # no option of this question
            return Verdict(0.0, text[1])
        return Verdict(0.0, None, "no_letter" if not everywhere else "several_letters")
    (mark,) = found
    return Verdict(float(mark[1] == row["ground_truth"]), mark[1])


def benchmark() -> Benchmark:
    """BLINK's validation split."""
    return Benchmark(
        "blink",
        "BLINK",
        source="huggingface.co/datasets/BLINK-Benchmark/BLINK",
        read=read_rows,
        official=official,
        overall="macro",
        subsets={"spatial": SPATIAL},
    )
