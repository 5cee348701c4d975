"""MMSI-Video-Bench: questions on one or several long videos, as at most 50 frames.

``mmsivideo.json`` with ``id, type, frames_list, ref_images, task_prompt, user_prompt,
ground_truth`` (and further prompts); pictures in ``frames`` and ``ref_images``. The
question is both prompts. As the authors' setting Uniform-50 does, 50 frames are taken
evenly over all videos of a question, in order, and one of each video at least.

``<video>`` and ``<image>`` in a question stand for media. All pictures come before the
text here, so that they become "(frames 1 to 30)" and "(picture 51)".

``official`` is the authors' ``evaluation.py``: what ``boxed{}`` holds, else what
follows the last "answer is" or its like up to a comma or full stop, else the text up to
the first full stop. It must be one capital A to F, without spaces, quotes and colons.
Overall is the mean over rows.

Source: Lin et al., "MMSI-Video-Bench", https://arxiv.org/abs/2512.10863;
github.com/InternRobotics/MMSI-Video-Bench.
"""

import itertools
import re
from collections.abc import Sequence
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
    read_table,
)
from spacer_lib.errors import SpacerError
from spacer_lib.rows import Question

FRAMES = 50
COLUMNS: dict[str, Any] = {
    "id": str,
    "type": str,
    "frames_list": list,
    "ref_images": list,
    "task_prompt": str,
    "user_prompt": str,
    "ground_truth": str,
}


def read_rows(path: PathLike) -> list[Question]:
    """Questions of MMSI-Video-Bench.

    Parameters
    ----------
    path : path
        The published folder, unpacked, or its JSON file.

    Raises
    ------
    SpacerError
        If the file is not as published.
    """
    file = find_file(path, ["mmsivideo.json", "data/mmsivideo.json"])
    records = read_table(file, COLUMNS)
    return [_row(record, file, number) for number, record in enumerate(records, 1)]


def _row(record: Record, file: Path, number: int) -> Question:
    where, letter = f"{file} row {number}", record["ground_truth"]
    check_letter(f"{where}: ground_truth", letter, "ABCDEF")
    videos, asides = record["frames_list"], record["ref_images"]
    for names in videos or [[]]:
        check_paths(f"{where}: frames_list", names if isinstance(names, list) else [])
    if asides:
        check_paths(f"{where}: ref_images", asides)
    question = record["task_prompt"] + record["user_prompt"]
    if question.count("<image>") != len(asides):
        raise SpacerError(
            f"{where}: ref_images",
            kind="benchmarks.other-number-of-pictures",
            got=len(asides),
            expected=f"{question.count('<image>')}, as <image> in its prompts",
        )
    taken = zip(videos, _even(videos), strict=True)
    shown = [[names[i] for i in indices] for names, indices in taken]
    paths = [f"frames/{name}" for names in shown for name in names]
    paths += [f"ref_images/{name}" for name in asides]
    return {
        "id": record["id"],
        "dataset": "mmsi-video",
        "scene_name": videos[0][0].rpartition("/")[0] or record["id"],
        "question_type": record["type"],
        "problem_type": "multiple choice",
        "question": _numbered(question, [len(names) for names in shown]),
        "options": None,
        "ground_truth": letter,
        "image": [str(file.parent / name) for name in paths],
        "groups": {"videos": len(videos)},
    }


def _even(videos: Sequence[Sequence[str]], count: int = FRAMES) -> list[list[int]]:
    """Indices of the frames of each video that are shown, ``count`` in all.

    Examples
    --------
    >>> _even(["abcd", "ef"], 3)
    [[0, 2], [1]]
    """
    total = sum(map(len, videos))
    if total <= count:
        return [list(range(len(names))) for names in videos]
    step = (total - 1) / (count - 1)
    chosen = [int(i * step) for i in range(count)]
    starts = list(itertools.accumulate(map(len, videos), initial=0))
    parts = [
        [i - start for i in chosen if start <= i < end]
        for start, end in itertools.pairwise(starts)
    ]
    return [part or [0] for part in parts]


def _numbered(question: str, counts: Sequence[int]) -> str:
    """The question with numbers in place of ``<video>`` and ``<image>``.

    A question with one mark for all videos gets all frames there.
    """
    ends = list(itertools.accumulate(counts))
    spans = [
        f"(frames {end - count + 1} to {end})"
        for count, end in zip(counts, ends, strict=True)
    ]
    if question.count("<video>") != len(counts):
        spans = [f"(frames 1 to {ends[-1]})"] * question.count("<video>")
    frames, pictures = iter(spans), itertools.count(ends[-1] + 1)
    text = re.sub("<video>", lambda _: next(frames), question)
    return re.sub("<image>", lambda _: f"(picture {next(pictures)})", text)


_PHRASES = ('"answer":', "answer is", "answer:", '"Answer":', "Answer is", "Answer:")
_DROPPED = str.maketrans(dict.fromkeys(" \"'\n:"))


def official(text: str, row: Question) -> Verdict:
    """The published rule."""
    letter = _answer(text.replace("<answer>", "").replace("</answer>", ""))
    if letter not in tuple("ABCDEF"):
        return Verdict(0.0, None, "no_letter")
    return Verdict(float(letter == row["ground_truth"]), letter)


def _answer(text: str) -> str:
    if "no answer" in text:
        return ""
    if "boxed{" in text:
        said = text.split("boxed{")[1].split("}")[0]
    elif phrase := next((phrase for phrase in _PHRASES if phrase in text), None):
        said = text.split(phrase)[-1].split(",")[0].split(".")[0]
    else:
        said = text.split(".")[0]
    return said.translate(_DROPPED)


def benchmark() -> Benchmark:
    """MMSI-Video-Bench, Uniform-50."""
    return Benchmark(
        "mmsi-video",
        "MMSI-Video-Bench",
        source="huggingface.co/datasets/rbler/MMSI-Video-Bench",
        read=read_rows,
        official=official,
    )
