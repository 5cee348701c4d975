"""TempCompass: five temporal aspects of short videos, asked in four formats.

Two layouts are read. ``{format}/test-*.parquet`` with ``video_id, question, answer,
dim``, for captioning also ``mc_question, mc_answer``; or the authors' own
``questions/{format}.json``, ``{video_id: {dim: [{question, answer}, …]}}``. Videos in
``videos/{video_id}.mp4``. Options are lines of the question: "A. …" in multi-choice,
"Option 1: …", "Sentence A: …" or "Caption A: …" in caption matching.

``official`` is the authors' own scripts with ``--disable_llm``. Without that switch
ChatGPT judges what their rules do not match; here that is the failure ``needs_judge``
and counts 0, as with the switch. Captions have no rule: a judge model answers the
multi-choice question from the caption. They are read on request, have no official score
(our own rule gives their ROUGE against the right fact, which is not an accuracy) and
are not among the default rows, so 5,536 of the 7,540 questions count. lmms-eval has the
same rules but keeps ``</s>`` and outer spaces, which the authors drop.

In caption matching our own rule reads the line or, by its place, a letter: "B", but not
"Option 2", which only ``official`` knows.

Source: Liu et al., "TempCompass"; github.com/llyx97/TempCompass, ``eval_*.py``.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from spacer_lib.artifacts import PathLike, read_json
from spacer_lib.benchmarks.schema import (
    Benchmark,
    Record,
    Verdict,
    check_choice,
    check_table,
    find_file,
    read_table,
)
from spacer_lib.errors import SpacerError
from spacer_lib.rows import Question

FORMATS = ("multi-choice", "yes_no", "caption_matching", "captioning")
SCORED = FORMATS[:3]
DIMENSIONS = ("action", "direction", "speed", "order", "attribute_change")
COLUMNS = {"video_id": str, "question": str, "answer": str, "dim": str}
_OF_CAPTIONS = {"mc_question": str, "mc_answer": str}


def read_rows(path: PathLike, *, formats: Iterable[str] = SCORED) -> list[Question]:
    """Questions of TempCompass, format by format.

    The conflicting videos (``…_reverse``, ``…_concat_0``, ``first_second_1``) are made
    from others, so their questions are not independent. ``scene_name`` is the first
    video that one is made from.

    Parameters
    ----------
    path : path
        The published folder, in either layout; or one of its files, which is read
        in its own format, not in ``formats``.
    formats : iterable of str
        Of ``FORMATS``.

    Raises
    ------
    SpacerError
        If a file is missing or not as published.
    """
    path = Path(path)
    if path.is_file():
        formats = [path.stem if path.suffix == ".json" else path.parent.name]
    rows: list[Question] = []
    for name in formats:
        if name not in FORMATS:
            raise SpacerError(
                f"{path}: task format",
                kind="benchmarks.unknown-format",
                got=name,
                expected=", ".join(FORMATS),
            )
        file = find_file(
            path, [f"{name}/test*.parquet", f"questions/{name}.json", f"{name}.json"]
        )
        rows.extend(_rows(file, name))
    return rows


def _rows(file: Path, name: str) -> list[Question]:
    columns = COLUMNS | (_OF_CAPTIONS if name == "captioning" else {})
    if file.suffix == ".json":
        records = check_table(file, _flat(file, name), columns)
    else:
        records = read_table(file, columns)
    inner = file.suffix == ".parquet" or file.parent.name == "questions"
    root = file.parent.parent if inner else file.parent
    count: Counter[str] = Counter()
    rows: list[Question] = []
    for number, record in enumerate(records, start=1):
        key = f"{name}/{record['video_id']}/{record['dim']}"
        count[key] += 1
        where = f"{file} row {number}"
        if record["dim"] not in DIMENSIONS:
            raise SpacerError(
                f"{where}: dim",
                kind="benchmarks.unknown-task",
                got=record["dim"],
                expected=", ".join(DIMENSIONS),
            )
        asked = _TRUTHS[name](record, where)
        rows.append(
            {
                "id": f"{key}/{count[key]}",
                "dataset": "tempcompass",
                "scene_name": record["video_id"].split("_")[0],
                "question_type": record["dim"],
                "problem_type": asked.problem_type,
                "question": asked.question,
                "options": asked.options,
                "ground_truth": asked.truth,
                "video": str(root / "videos" / f"{record['video_id']}.mp4"),
                "groups": {"format": name},
                "published_answer": record["answer"],
            }
        )
    return rows


def _flat(file: Path, name: str) -> list[Record]:
    """The authors' nested questions as the records of the other layout."""
    records = [
        {"video_id": video, "dim": dim, **asked} for video, dim, asked in _asked(file)
    ]
    if name == "captioning":  # judged by the first multi-choice question beside it
        beside = file.with_name("multi-choice.json")
        first: dict[tuple[str, str], Record] = {}
        for video, dim, asked in _asked(beside):
            first.setdefault((video, dim), asked)
        for record in records:
            asked = first.get((record["video_id"], record["dim"]), {})
            record |= {f"mc_{key}": value for key, value in asked.items()}
    return records


def _asked(file: Path) -> list[tuple[str, str, Record]]:
    """(video, dimension, question) of a nested file."""
    try:
        return [
            (video, dim, dict(asked))
            for video, dims in read_json(file).items()
            for dim, questions in dims.items()
            for asked in questions
        ]
    except (AttributeError, TypeError, ValueError) as error:
        raise SpacerError(
            f"{file}: layout",
            kind="benchmarks.wrong-layout",
            got=error,
            expected="{video_id: {dim: [{question, answer}, …]}}",
        ) from error


# ---------------------------------------------------------------- truth by format


class _Asked(NamedTuple):
    problem_type: str
    question: str
    options: list[str] | None
    truth: str


def _of_lettered(record: Record, where: str) -> _Asked:
    stem, options = _split(record["question"], "[A-Z][.)]")
    letter = record["answer"][:1]
    check_choice(f"{where}: answer", options, letter)
    return _Asked("multiple choice", stem, options, letter)


def _of_captions_to_match(record: Record, where: str) -> _Asked:
    label = r"(?:Option|Sentence|Caption) \w+: "
    stem, options = _split(record["question"], label)
    labelled = all(re.match(label, line) for line in options)
    if not labelled or record["answer"] not in options:
        raise SpacerError(
            f"{where}: answer",
            kind="benchmarks.answer-not-an-option",
            got=repr(record["answer"])[:80],
            expected=f"one of the lines 'Option 1: …' of its question, {options}",
        )
    letter = chr(ord("A") + options.index(record["answer"]))
    check_choice(f"{where}: answer", options, letter)
    return _Asked("multiple choice", stem, options, letter)


def _of_yes_no(record: Record, where: str) -> _Asked:
    if record["answer"] not in ("yes", "no"):
        raise SpacerError(
            f"{where}: answer",
            kind="benchmarks.answer-not-yes-or-no",
            got=repr(record["answer"])[:80],
            expected="yes or no",
        )
    return _Asked("option-free", record["question"], None, record["answer"])


def _of_captioning(record: Record, where: str) -> _Asked:
    fact = record["answer"].partition(". ")[2] or record["answer"]
    return _Asked("free-form", record["question"], None, fact)


def _split(question: str, label: str) -> tuple[str, list[str]]:
    """The question and its option lines, which join to the published text."""
    lines = question.split("\n")
    start = next((i for i in range(1, len(lines)) if re.match(label, lines[i])), None)
    if start is None:
        return question, []
    return "\n".join(lines[:start]), [line for line in lines[start:] if line.strip()]


_TRUTHS: dict[str, Callable[[Record, str], _Asked]] = {
    "multi-choice": _of_lettered,
    "yes_no": _of_yes_no,
    "caption_matching": _of_captions_to_match,
    "captioning": _of_captioning,
}


# ---------------------------------------------------------------- the published rule


def official(text: str, row: Question) -> Verdict:
    """The authors' rule for the row's format, without their judge.

    ``</s>`` and outer spaces are dropped first. Multi-choice: the answer in full, or A
    to D alone or before a full stop or bracket. Yes or no: the beginning of the text in
    upper or lower case, so "Not sure" is no. Caption matching: an option's line,
    sentence or label, in full.
    """
    answer = _READERS[row["groups"]["format"]](text.replace("</s>", "").strip(), row)
    if answer is None:
        return Verdict(0.0, None, "needs_judge")
    return Verdict(float(answer in _right(row)), answer)


def _right(row: Question) -> Sequence[str]:
    """The texts that count as the right answer once read."""
    truth = row["published_answer"]
    kind = row["groups"]["format"]
    if kind == "multi-choice":
        return truth, truth[0]
    if kind == "caption_matching":
        label, sentence = truth.split(": ")[:2]
        return truth, truth.split(":")[0], sentence, label.split()[1]
    return (truth,)


def _read_lettered(text: str, row: Question) -> str | None:
    if text == row["published_answer"]:
        return text
    letter = re.match(r"([ABCD])(?:[.)]|\Z)", text)
    return letter[1] if letter else None


def _read_yes_no(text: str, row: Question) -> str | None:
    start = text.lower()
    return next((word for word in ("yes", "no") if start.startswith(word)), None)


def _read_caption(text: str, row: Question) -> str | None:
    """The last that matches of all lines, then sentences, then labels."""
    lines = row["options"] or []
    sentences = [line.split(": ")[1] for line in lines]
    labels = [line.split(": ")[0] for line in lines]
    labels += [re.sub("Sentence |Option |Caption ", "", label) for label in labels]
    bracketed = text.split(") ")[1:2]  # "(1) A man is running."
    found = [
        *(line for line in lines if line == text),
        *(s for s in sentences if s == text or [s] == bracketed),
        *(label for label in labels if label in (text, text.replace(".", ""))),
    ]
    return found[-1] if found else None


_READERS: dict[str, Callable[[str, Question], str | None]] = {
    "multi-choice": _read_lettered,
    "yes_no": _read_yes_no,
    "caption_matching": _read_caption,
    "captioning": lambda text, row: None,
}


def benchmark() -> Benchmark:
    """TempCompass: the three formats that the authors' rules score."""
    return Benchmark(
        "tempcompass",
        "TempCompass",
        source="huggingface.co/datasets/lmms-lab/TempCompass",
        read=read_rows,
        official=official,
    )
