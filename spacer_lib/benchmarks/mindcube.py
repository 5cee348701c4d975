"""MindCube and MindCube-tiny: what a few views of a place leave out.

``raw/MindCube_tinybench.jsonl`` or ``raw/MindCube.jsonl`` with ``id, images, question,
gt_answer`` (also ``category``, ``type`` and ``meta_info``). ``images`` are paths from
the folder ``data``, where ``raw`` is too. The options stand in the question, as
``A. left B. right``. The task, called setting, is read off the id.

``official`` is the authors' ``extract_answer``. Any capital A to E with a full stop
behind it counts, the last one first: "B. is wrong, so C" is B. Overall is the mean over
the rows without the setting ``translation`` (``aggregate``).

Source: Yin, Wang et al., "Spatial Mental Modeling from Limited Views",
https://arxiv.org/abs/2506.21458; github.com/mll-lab-nu/MindCube.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spacer_lib.artifacts import PathLike
from spacer_lib.benchmarks.schema import (
    Benchmark,
    Record,
    Verdict,
    check_letter,
    check_paths,
    find_file,
    inline_options,
    read_table,
)
from spacer_lib.rows import Prediction, Question

SETTINGS = ("around", "rotation", "translation", "among")  # in the authors' order
COLUMNS: dict[str, Any] = {
    "id": str,
    "images": list,
    "question": str,
    "gt_answer": str,
}


def read_rows(path: PathLike, *, tiny: bool) -> list[Question]:
    """Questions of MindCube.

    Parameters
    ----------
    path : path
        The published folder, its ``data``, or one file.
    tiny : bool
        The 1,050 questions that most papers report.

    Raises
    ------
    SpacerError
        If the file is not as published.
    """
    name = "MindCube_tinybench.jsonl" if tiny else "MindCube.jsonl"
    file = find_file(path, [f"{place}{name}" for place in ("data/raw/", "raw/", "")])
    root = file.parent.parent if file.parent.name == "raw" else file.parent
    records = read_table(file, COLUMNS)
    return [_row(record, file, root, i) for i, record in enumerate(records, 1)]


def _row(record: Record, file: Path, root: Path, number: int) -> Question:
    letter, where = record["gt_answer"], f"{file} row {number}"
    check_letter(f"{where}: gt_answer", letter, "ABCDE")
    check_paths(f"{where}: images", record["images"])
    question, options = inline_options(record["question"], letter)
    return {
        "id": record["id"],
        "dataset": "mindcube",
        # Views of one place lie in one folder.
        "scene_name": str(Path(record["images"][0]).parent),
        "question_type": _setting(record["id"]),
        "problem_type": "multiple choice",
        "question": question,
        "options": options,
        "ground_truth": letter,
        "image": [str(root / name) for name in record["images"]],
        "groups": {"views": len(record["images"])},
    }


def _setting(name: str) -> str:
    return next((s for s in SETTINGS if s in name.lower()), "other")


# First what follows <Answer>, then the whole text; in each the first pattern that
# occurs, and of it the last place.
_IN_TAG = (r"[Mm]y answer is ([A-E])", r"[Tt]he answer is ([A-E])", r"\b([A-E])\b")
_ANYWHERE = (
    r"(?:^|\n)(?:Answer: )?([A-E])(?:$|\s)",
    r"[\*\"]([A-E])[\*\"]",
    r"\bAnswer:?\s*([A-E])\b",
    r"[Mm]y answer is ([A-E])",
    r"answer is ([A-E])",
)


def official(text: str, row: Question) -> Verdict:
    """The published rule; the first of these that the text has.

    A capital A to E with a full stop; what ``<Answer>`` holds; a letter that begins a
    line, stands in asterisks or quotes, or follows "Answer" or "answer is"; the first
    single letter of the last line that has one.
    """
    letter = _letter(text)
    if letter is None:
        return Verdict(0.0, None, "no_letter")
    return Verdict(float(letter == row["ground_truth"]), letter)


def _letter(text: str) -> str | None:
    tag = re.search(r"<Answer>(.*?)(?:<|$)", text, re.DOTALL)
    places = [(r"([A-E])\.", text)]
    places += [(pattern, tag[1]) for pattern in _IN_TAG if tag]
    places += [(pattern, text) for pattern in _ANYWHERE]
    for pattern, place in places:
        found = re.findall(pattern, place)
        if found:
            return str(found[-1])
    for line in reversed(text.split("\n")):
        single = re.search(r"\b([A-E])\b", line)
        if single:
            return single[1]
    return None


def aggregate(predictions: Iterable[Prediction]) -> dict[str, float]:
    """The authors' accuracy: rows of the setting ``translation`` do not count."""
    scores = [p["score"] for p in predictions if p["question_type"] != "translation"]
    return {"overall": sum(scores) / len(scores) if scores else 0.0}


def benchmark(*, tiny: bool = False) -> Benchmark:
    """MindCube, or its small subset."""
    return Benchmark(
        "mindcube-tiny" if tiny else "mindcube",
        "MindCube-tiny" if tiny else "MindCube",
        source="huggingface.co/datasets/MLL-Lab/MindCube",
        read=lambda path: read_rows(path, tiny=tiny),
        official=official,
        aggregate=aggregate,
    )
