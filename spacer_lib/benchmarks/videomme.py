"""Video-MME: 2,700 questions on 900 videos of three lengths, without subtitles.

``videomme/test-*.parquet`` with ``video_id, duration, domain, sub_category, url,
videoID, question_id, task_type, question, options, answer``; videos in
``data/{videoID}.mp4``.

``official`` is the authors' ``eval_your_results.py``; lmms-eval extracts in the same
way. They differ on a completion without a letter: lmms-eval counts it as wrong, as our
aggregates do; the authors leave it out of the denominator, as ``aggregate`` does.

Source: Fu et al., "Video-MME"; github.com/BradyFU/Video-MME, ``evaluation``.
"""

import re
from collections.abc import Iterable
from pathlib import Path

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
from spacer_lib.rows import Prediction, Question

COLUMNS = dict.fromkeys(
    (
        "video_id",
        "duration",
        "domain",
        "sub_category",
        "url",
        "videoID",
        "question_id",
        "task_type",
        "question",
        "answer",
    ),
    str,
) | {"options": list}


def read_rows(path: PathLike) -> list[Question]:
    """Questions of Video-MME.

    Parameters
    ----------
    path : path
        The published folder, or its Parquet file.

    Raises
    ------
    SpacerError
        If the file is not as published.
    """
    file = find_file(path, ["videomme/test*.parquet", "test*.parquet", "*.parquet"])
    root = file.parent.parent if file.parent.name == "videomme" else file.parent
    records = read_table(file, COLUMNS)
    return [_row(record, file, root, i) for i, record in enumerate(records, 1)]


def _row(record: Record, file: Path, root: Path, number: int) -> Question:
    check_choice(f"{file} row {number}: answer", record["options"], record["answer"])
    # A few videos were published under other endings.
    videos = (f"{record['videoID']}{ending}" for ending in (".mp4", ".MP4", ".mkv"))
    return {
        "id": record["question_id"],
        "dataset": "videomme",
        "scene_name": record["videoID"],
        "question_type": record["task_type"],
        "problem_type": "multiple choice",
        "question": record["question"],
        "options": record["options"],
        "ground_truth": record["answer"],
        "video": media_path(root / "data", *videos),
        "groups": {"duration": record["duration"], "domain": record["domain"]},
    }


# The published list lacks a comma after "The best option is" and "Best answer:".
_PHRASES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is" + "The correct option is",
    "Best answer:" + "Best option:",
)


def official(text: str, row: Question) -> Verdict:
    """The published rule: drop set phrases, then the first capital A, B, C or D.

    The letter may stand anywhere. "Based on" is B. "Best answer: C" is B too, since
    that phrase is dropped only together with the one after it.
    """
    text = text.strip()
    for phrase in _PHRASES:
        text = text.replace(phrase, "")
    letter = re.search("[ABCD]", text)
    if letter is None:
        return Verdict(0.0, None, "no_letter")
    return Verdict(float(letter[0] == row["ground_truth"]), letter[0])


def aggregate(predictions: Iterable[Prediction]) -> dict[str, float]:
    """The authors' accuracy: completions without a letter do not count.

    It is 0 if no completion has a letter.
    """
    scores = [made["score"] for made in predictions if made["failure"] is None]
    return {"overall": sum(scores) / len(scores) if scores else 0.0}


def benchmark() -> Benchmark:
    """Video-MME without subtitles."""
    return Benchmark(
        "videomme",
        "Video-MME",
        source="huggingface.co/datasets/lmms-lab/Video-MME",
        read=read_rows,
        official=official,
        aggregate=aggregate,
    )
