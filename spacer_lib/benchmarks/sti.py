"""STI-Bench: eight tasks on where and how things move, over a stated span of a video.

``Video, Task, Question, Candidates, Answer, time_start, time_end, ID`` (also
``Source`` and ``scene``) in ``qa.parquet``; videos in ``video/{Video}`` or
``videos/{Video}``. ``Candidates`` maps letters to texts, as a struct (a missing letter
is null) or as JSON. In a few published rows the answer is not among the candidates.
They are kept with the candidates in the question, and any letter is allowed.

``official`` is the authors' ``opensource_test.py`` as released with the data; harnesses
such as VLMEvalKit have their own rules. The official overall is the mean of the rows.
SpaceR's SR_sub is the mean of the rows of six tasks (here the group ``subset``); the
mean of the six tasks is the subset ``SR_sub``.

Source: Li et al., "STI-Bench", MINT-SJTU/STI-Bench; SpaceR Appendix B.1 for SR_sub.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from spacer_lib.artifacts import PathLike, parse_json
from spacer_lib.benchmarks.schema import (
    Benchmark,
    Record,
    Verdict,
    find_file,
    media_path,
    read_table,
)
from spacer_lib.errors import SpacerError
from spacer_lib.rows import Question

SR_SUB = (
    "Dimensional Measurement",
    "Displacement & Path Length",
    "Ego-Centric Orientation",
    "Spatial Relation",
    "Speed & Acceleration",
    "Trajectory Description",
)
TASKS = (*SR_SUB, "3D Video Grounding", "Pose Estimation")
COLUMNS: dict[str, Any] = {
    "Video": str,
    "Task": str,
    "Question": str,
    "Candidates": (dict, str),
    "Answer": str,
    "time_start": (int, float),
    "time_end": (int, float),
    "ID": (int, str),
}


def read_rows(path: PathLike) -> list[Question]:
    """Questions of STI-Bench.

    A row's ``id`` is ``Video|ID|start|end``, since ``ID`` starts again with each video.
    Equal ids get ``#2``, ``#3`` … in the order of the file.

    Parameters
    ----------
    path : path
        The published folder, or ``qa.parquet`` itself.

    Raises
    ------
    SpacerError
        If the file is not as published.
    """
    file = find_file(path, ["qa.parquet", "*.parquet", "*.jsonl"])
    seen: Counter[str] = Counter()
    rows = [
        _row(record, file, number)
        for number, record in enumerate(read_table(file, COLUMNS), start=1)
    ]
    for row in rows:
        seen[row["id"]] += 1
        if seen[row["id"]] > 1:
            row["id"] += f"#{seen[row['id']]}"
    return rows


def _row(record: Record, file: Path, number: int) -> Question:
    task, video, answer = record["Task"], record["Video"], record["Answer"].strip()
    if task not in TASKS:
        raise SpacerError(
            f"{file} row {number}: Task",
            kind="benchmarks.unknown-task",
            got=task,
            expected=", ".join(TASKS),
        )
    if not re.fullmatch("[A-Z]", answer):
        raise SpacerError(
            f"{file} row {number}: Answer",
            kind="benchmarks.answer-not-a-letter",
            got=repr(answer),
            expected="one letter",
        )
    texts = _candidates(record["Candidates"], file, number)
    lines = [f"{letter}. {text}" for letter, text in texts.items()]
    options: list[str] | None = lines
    start, end = f"{record['time_start']:g}", f"{record['time_end']:g}"
    question = f"Look at the video from {start} s to {end} s. {record['Question']}"
    if answer not in texts:
        question, options = "\n".join([question, *lines]), None
    scene = record.get("scene") or record.get("Scene") or _scene(video)
    return {
        "id": f"{video}|{record['ID']}|{start}|{end}",
        "dataset": record.get("Source"),
        "scene_name": Path(video).stem,
        "question_type": task,
        "problem_type": "multiple choice",
        "question": question,
        "options": options,
        "ground_truth": answer,
        "video": media_path(file.parent, f"video/{video}", f"videos/{video}"),
        "groups": {"scene": scene, "subset": "SR_sub" if task in SR_SUB else "other"},
    }


def _candidates(value: Any, file: Path, number: int) -> dict[str, str]:
    """Text of each letter, without the letters that have none."""
    try:
        texts = parse_json(value) if isinstance(value, str) else value
        texts = {k: text for k, text in texts.items() if text is not None}
        good = texts and all(re.fullmatch("[A-Z]", letter) for letter in texts)
    except (ValueError, AttributeError):
        good = False
    if not good or not all(isinstance(text, str) for text in texts.values()):
        raise SpacerError(
            f"{file} row {number}: Candidates",
            kind="benchmarks.candidates-not-texts",
            got=repr(value)[:80],
            expected="texts by letter",
        )
    return dict(sorted(texts.items()))


def _scene(video: str) -> str:
    """The published reading of a file name, for files without a column of scenes."""
    if "camera" in video:
        return "outdoor"
    if video.startswith("scene"):
        return "indoor"
    return "desktop" if re.fullmatch(r"\d{6}(\..*)?", video) else "unknown"


# Patterns in the order in which they are tried; case does not matter.
_STATED = [
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        r"\(([A-E])\)",
        r"Ans\s*=\s*['\"]?([A-E])['\"]?",
        r"Answer\s*[:=]\s*([A-E])",
        r"Option\s+([A-E])",
        r"\b([A-E])\s*(?:is|was)\s*correct",
        r"\b([A-E])[\.\)]\s*$",
    )
]


def stated(text: str) -> str | None:
    """The letter of the first pattern that is found; see ``official``."""
    found = (pattern.search(text) for pattern in _STATED)
    return next((match[1].upper() for match in found if match), None)


def official(text: str, row: Question) -> Verdict:
    """The published rule: the first pattern that is found, else the last character.

    ``(B)``, ``Ans='B'``, ``Answer: B``, ``Option B``, ``B is correct`` and a line that
    ends in ``B.`` or ``B)`` are tried in this order, anywhere in the text and in either
    case ("Answer: based" is B). If none is found, the last character counts if it is a
    capital A to E ("I would HESITATE" is E). The released script stops at an empty
    completion, which scores 0 here.
    """
    if letter := stated(text):
        return Verdict(float(letter == row["ground_truth"]), letter)
    last = text.strip()[-1:]
    if not last:
        return Verdict(0.0, None, "empty_output")
    if last not in "ABCDE":
        return Verdict(0.0, None, "no_letter")
    return Verdict(float(last == row["ground_truth"]), last)


def benchmark() -> Benchmark:
    """STI-Bench."""
    return Benchmark(
        "sti",
        "STI-Bench",
        source="huggingface.co/datasets/MINT-SJTU/STI-Bench",
        read=read_rows,
        official=official,
        overall="micro",
        mode="think_map",
        subsets={"SR_sub": SR_SUB},
    )
