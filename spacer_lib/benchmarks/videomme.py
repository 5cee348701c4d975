"""Video-MME: 2,700 questions on 900 videos of three lengths, without subtitles.

``videomme/test-*.parquet`` with ``video_id, duration, domain, sub_category, url,
videoID, question_id, task_type, question, options, answer``; videos in
``data/{videoID}.mp4``.

``official`` is the authors' ``eval_your_results.py``; lmms-eval extracts in the same
way. They differ in what an output without a letter costs: lmms-eval counts it as wrong,
as all of our aggregates do; the authors leave it out of the denominator, which
``accuracy_of_answered`` gives.

Source: Fu et al., "Video-MME"; github.com/BradyFU/Video-MME, ``evaluation``.
"""

import re

from spacer_lib.benchmarks.schema import (
    Benchmark,
    Verdict,
    check_choice,
    find_file,
    read_table,
)

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


def read_rows(path):
    """Rows of Video-MME.

    Parameters
    ----------
    path : path
        The published folder, or its parquet file.

    Raises
    ------
    SpacerError
        If the file is not as published.
    """
    file = find_file(path, ["videomme/test*.parquet", "test*.parquet", "*.parquet"])
    root = file.parent.parent if file.parent.name == "videomme" else file.parent
    records = read_table(file, COLUMNS)
    return [_row(record, file, root, i) for i, record in enumerate(records, 1)]


def _row(record, file, root, number):
    check_choice(f"{file} row {number}: answer", record["options"], record["answer"])
    return {
        **record,
        "id": record["question_id"],
        "dataset": "videomme",
        "scene_name": record["videoID"],
        "question_type": record["task_type"],
        "problem_type": "multiple choice",
        "ground_truth": record["answer"],
        "video": str(_video(root / "data", record["videoID"])),
        "groups": {"duration": record["duration"], "domain": record["domain"]},
    }


def _video(folder, name):
    """Where it lies; a few were published under other endings."""
    paths = [folder / f"{name}{ending}" for ending in (".mp4", ".MP4", ".mkv")]
    return next((path for path in paths if path.exists()), paths[0])


# The last two each lack a comma in the published list, and so are one phrase.
_PHRASES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is" + "The correct option is",
    "Best answer:" + "Best option:",
)


def official(text, row):
    """The published rule: drop set phrases, then the first capital A, B, C or D.

    It may stand anywhere: "Based on" is B, and so is "Best answer: C", for that phrase
    is only dropped together with the one after it.
    """
    text = text.strip()
    for phrase in _PHRASES:
        text = text.replace(phrase, "")
    letter = re.search("[ABCD]", text)
    if letter is None:
        return Verdict(0.0, None, "no_letter")
    return Verdict(float(letter[0] == row["ground_truth"]), letter[0])


def accuracy_of_answered(predictions):
    """The authors' own aggregate: outputs without a letter do not count.

    Parameters
    ----------
    predictions : list of dict
        With ``score`` and ``failure``, judged by ``official``.

    Returns
    -------
    float
        0 where nothing was answered.
    """
    scores = [p["score"] for p in predictions if p["failure"] is None]
    return sum(scores) / len(scores) if scores else 0.0


def benchmark():
    """Video-MME without subtitles."""
    return Benchmark(
        "videomme",
        "Video-MME",
        source="huggingface.co/datasets/lmms-lab/Video-MME",
        read=read_rows,
        official=official,
    )
