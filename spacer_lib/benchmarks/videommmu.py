"""Video-MMMU: questions on lectures in three tracks.

``id, question, options, answer, question_type`` (also ``qa_type``, ``link_selected``
and, for adaptation, ``image``) in ``{Track}/test*.parquet``; videos in
``{Discipline}/{id}.mp4``, as the published archives unpack, or in ``videos/{id}.mp4``.
An id belongs to a video; each track asks about each video once. The last frame of a
video is the picture of its adaptation question, so the column ``image`` is not read.

``question_type`` is ``multiple-choice``, ``open``, or ``None`` in one row. That row has
options and a letter as its truth and is asked with its options; ``official`` judges it
as an open answer, as released.

The rule is that of lmms-eval's task ``video_mmmu``, which the authors point to. Its
multiple-choice parser (``parse_videommmu_multi_choice_response``) is derived from
MMMU's but never guesses. The released mean leaves out empty completions
(``aggregate``); our aggregates count them as wrong.

Source: Hu et al., "Video-MMMU", lmms-lab/VideoMMMU.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from spacer_lib.artifacts import PathLike
from spacer_lib.benchmarks.schema import (
    Benchmark,
    Record,
    Verdict,
    find_file,
    media_path,
    read_table,
)
from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import labelled_options
from spacer_lib.rows import Prediction, Question

TRACKS = ("Perception", "Comprehension", "Adaptation")
FORMATS = ("multiple-choice", "open", "None")
# Discipline: (folder of its videos, subjects).
DISCIPLINES = {
    "Art and Design": ("Art", "Art Art_Theory Design Music"),
    "Business": ("Business", "Accounting Economics Finance Manage Marketing"),
    "Science": ("Science", "Biology Chemistry Geography Math Physics"),
    "Health and Medicine": (
        "Medicine",
        "Basic_Medical_Science Clinical_Medicine Diagnostics_and_Laboratory_Medicine "
        "Pharmacy Public_Health",
    ),
    "Humanities and Social Science": (
        "Humanities",
        "History Literature Sociology Psychology",
    ),
    "Tech and Engineering": (
        "Engineering",
        "Agriculture Architecture_and_Engineering Computer_Science Electronics "
        "Energy_and_Power Materials Mechanical_Engineering",
    ),
}
COLUMNS = {
    "id": str,
    "question": str,
    "options": list,
    "answer": str,
    "question_type": str,
}
_QUIZ = "The quiz in the last frame is another question: leave it aside.\n"
_LEAD = {
    "Perception": _QUIZ,
    "Comprehension": _QUIZ,
    "Adaptation": (
        "Apply what the lecture teaches to this question. "
        "Its picture is the last frame of the video.\n"
    ),
}


def read_rows(path: PathLike) -> list[Question]:
    """Questions of Video-MMMU; their ``id`` is ``{Track}/{video}``.

    Parameters
    ----------
    path : path
        The published folder, for all three tracks; or the file of one track, which
        its name or a folder above it names.

    Raises
    ------
    SpacerError
        If a file is not as published.
    """
    if Path(path).is_file():
        return _read_track(Path(path), _track_of(Path(path)))
    files = [
        find_file(
            path,
            [
                f"{track}/test*.parquet",
                f"{track}/**/*.parquet",
                f"{track}*.parquet",
                f"{track}*.jsonl",
            ],
        )
        for track in TRACKS
    ]
    return [
        row
        for track, file in zip(TRACKS, files, strict=True)
        for row in _read_track(file, track)
    ]


def _track_of(file: Path) -> str:
    for part in (file.name, *reversed(file.parent.parts)):
        for track in TRACKS:
            if part.startswith(track):
                return track
    raise SpacerError(
        f"{file}: its track",
        kind="benchmarks.no-track",
        got="none named",
        expected=" or ".join(TRACKS),
        remedy="keep the published folders",
    )


def _read_track(file: Path, track: str) -> list[Question]:
    folder = file.parent
    while track in (folder.name, folder.parent.name):
        folder = folder.parent
    records = read_table(file, COLUMNS, skip=["image"])
    return [
        _row(record, track, file, folder, number)
        for number, record in enumerate(records, start=1)
    ]


def _row(record: Record, track: str, file: Path, folder: Path, number: int) -> Question:
    where = f"{file} row {number}"
    answer, texts, kind = record["answer"], record["options"], record["question_type"]
    if kind not in FORMATS:
        raise SpacerError(
            f"{where}: question_type",
            kind="benchmarks.unknown-format",
            got=kind,
            expected=", ".join(FORMATS),
        )
    if not all(isinstance(text, str) for text in texts):
        raise SpacerError(
            f"{where}: options",
            kind="benchmarks.options-not-texts",
            got=repr(texts)[:80],
            expected="a list of texts",
        )
    options = list(texts)
    if not all(text.startswith(f"{chr(65 + i)}.") for i, text in enumerate(texts)):
        options = [f"{chr(65 + i)}. {text}" for i, text in enumerate(texts)]
    is_choice = answer in labelled_options(options)
    if kind == "multiple-choice" and not is_choice:
        raise SpacerError(
            f"{where}: answer",
            kind="benchmarks.answer-not-an-option",
            got=repr(answer)[:80],
            expected=f"the letter of one of {len(options)} options",
        )
    subject, discipline = _subject(record["id"], where)
    shelf = DISCIPLINES[discipline][0]
    return {
        "id": f"{track}/{record['id']}",
        "dataset": subject,
        "scene_name": record["id"],
        "question_type": track,
        "problem_type": "multiple choice" if is_choice else "option-free",
        "question": _LEAD[track] + record["question"],
        "options": options if is_choice else None,
        "ground_truth": answer,
        "video": media_path(
            folder, f"{shelf}/{record['id']}.mp4", f"videos/{record['id']}.mp4"
        ),
        "groups": {"discipline": discipline, "format": kind},
        "published_options": list(texts),
        "published_type": kind,
    }


def _subject(video: str, where: str) -> tuple[str, str]:
    """(subject, discipline) of ``validation_Art_Theory_12``."""
    named = re.fullmatch(r"[^_]*_(.+?)_\d+", video)
    for discipline, (_, subjects) in DISCIPLINES.items():
        if named and named[1] in subjects.split():
            return named[1], discipline
    raise SpacerError(
        f"{where}: id",
        kind="benchmarks.unknown-subject",
        got=repr(video)[:80],
        expected="such as validation_Math_7",
    )


def official(text: str, row: Question) -> Verdict:
    """The published rule; ``_chosen`` and ``_stated`` say what it reads."""
    if text in ("", "API Error"):
        return Verdict(0.0, None, "empty_output")
    truth = row["ground_truth"]
    if row["published_type"] == "multiple-choice":
        letter = _chosen(text, row["published_options"])
        failure = None if letter else "no_letter"
        return Verdict(float(letter == truth), letter, failure)
    wanted, said = _normalised(truth), _stated(text)
    right = any(
        value in wanted if isinstance(value, float) else _holds(value, wanted)
        for value in said
    )
    return Verdict(float(right), "; ".join(sorted(map(str, said))))


def _chosen(text: str, options: Sequence[str]) -> str | None:
    """The letter that a completion chooses, or ``None``.

    These are searched anywhere in the text, in this order: ``B.`` or ``B:``; ``(B)``;
    ``B`` before a space; and in a text of over five words the words of an option. If
    several letters are found, the last in the text counts.
    """
    for mark in ",.!?;:'":
        text = text.strip(mark)
    text, letters = f" {text} ", [chr(65 + i) for i in range(len(options))]

    def written(form: str) -> list[str]:
        return [letter for letter in letters if form.format(letter) in text]

    def last(letter: str) -> int:
        return text.rfind(form.format(letter))

    found, form = written("{}."), "{}."
    if not found:
        form = "{}:"
    found = found + written("{}:")
    # A letter before a space is ranked by its place between two spaces.
    for sought, ranked in (("({})", "({})"), ("{} ", " {} ")):
        if not found:
            found, form = written(sought), ranked
    if not found and len(text.split()) > 5:
        text, form = text.lower(), "{}"
        words = dict(zip(letters, (option.lower() for option in options), strict=True))
        found = [letter for letter in letters if words[letter] in text]
        return max(found, key=lambda letter: text.rfind(words[letter]), default=None)
    return max(found, key=last, default=None)


# An open answer is searched for after these words; after "=" only in the last line.
_BEFORE_ANSWERS = tuple(
    f"{words} "
    for words in (
        "could be",
        "so",
        "is",
        "thus",
        "therefore",
        "final",
        "answer",
        "result",
        "are",
        "in total",
        "total",
        "identify",
        "recognize",
        "calculated as",
        "counted as",
        "measured as",
        "observed as",
        "concluded as",
        "found to be",
        "equals",
        "determined to be",
        "number of",
        "value is",
        "adds up to",
        "have",
        "has",
    )
)
# The released patterns, and ``(?<!\d)``: a match that fails at the first digit of a
# row of digits fails at all of them, which took quadratic time.
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?(?<!\d)\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:(?<!\d)\d+\.\d+|\.\d+|(?<!\d)\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


def _stated(text: str) -> set[str | float]:
    """What an open completion states: each key phrase and the numbers in it.

    A line's key phrase is its shortest part after one of ``_BEFORE_ANSWERS``. Without
    any, the whole completion is the phrase. (The released pattern also splits at full
    stops before capitals, but the text is in lower case by then.)
    """
    text = text.strip().strip(".").lower()
    lines = text.split("\n")
    phrases: list[str] = []
    for number, line in enumerate(lines, start=1):
        marks = _BEFORE_ANSWERS + (("=",) if number == len(lines) else ())
        shortest = ""
        for mark in marks:
            tail = line.rpartition(mark)[2].strip()
            if mark in line and (not shortest or len(tail) < len(shortest)):
                shortest = tail
        if shortest and shortest not in tuple(":,.!?;'"):
            phrases.append(shortest)
    phrases = phrases or [text]
    numbers = [
        digits
        for phrase in phrases
        for pattern in _NUMBERS
        for digits in pattern.findall(phrase)
    ]
    return {value for part in phrases + numbers for value in _normalised(part)}


def _normalised(text: str) -> list[str | float]:
    """The number to two decimals, or the text in lower case.

    A single character becomes two texts, with a space before it and with one after it.
    """
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def _holds(said: str, wanted: Sequence[str | float]) -> bool:
    return any(isinstance(text, str) and text in said for text in wanted)


def aggregate(predictions: Iterable[Prediction]) -> dict[str, float]:
    """The released code's means: overall and per track, without empty completions."""
    kept = [p for p in predictions if p["prediction"] not in ("", "API Error")]
    parts = {"overall": kept}
    parts |= {t: [p for p in kept if p["question_type"] == t] for t in TRACKS}
    return {
        name: sum(p["score"] for p in part) / len(part)
        for name, part in parts.items()
        if part
    }


def benchmark() -> Benchmark:
    """Video-MMMU."""
    return Benchmark(
        "videommmu",
        "Video-MMMU",
        source="huggingface.co/datasets/lmms-lab/VideoMMMU",
        read=read_rows,
        official=official,
        overall="micro",
        aggregate=aggregate,
    )
