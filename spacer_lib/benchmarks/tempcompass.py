"""TempCompass: five temporal aspects of short videos, asked in four formats.

Two layouts are read. ``{format}/test-*.parquet`` with ``video_id, question, answer,
dim``, for captioning also ``mc_question, mc_answer``; or the authors' own
``questions/{format}.json``, ``{video_id: {dim: [{question, answer}, …]}}``. Videos in
``videos/{video_id}.mp4``. Options are lines of the question: "A. …" in multi-choice,
"Option 1: …", "Sentence A: …" or "Caption A: …" in caption matching.

``official`` is the authors' own scripts with ``--disable_llm``. Without that switch
ChatGPT judges what their rules do not match; here that is the failure ``needs_judge``
and counts 0, as it does there. Captions have no rule at all: a judge model answers the
multi-choice question from the caption. They are read on request, never score (our own
rule gives their ROUGE against the right fact, which is no accuracy), and are no part of
the default rows, so 5,536 of the 7,540 questions count. lmms-eval has the same rules
but keeps ``</s>`` and outer spaces, which the authors drop.

Of a caption to match, our own rule reads the line or, by its place, a letter: "B" but
not "Option 2", which only ``official`` knows.

Source: Liu et al., "TempCompass"; github.com/llyx97/TempCompass, ``eval_*.py``.
"""

import re
from collections import Counter
from pathlib import Path

from spacer_lib.artifacts import read_json
from spacer_lib.benchmarks.schema import (
    Benchmark,
    Verdict,
    check_choice,
    check_table,
    find_file,
    read_table,
)
from spacer_lib.errors import SpacerError

FORMATS = ("multi-choice", "yes_no", "caption_matching", "captioning")
SCORED = FORMATS[:3]
DIMENSIONS = ("action", "direction", "speed", "order", "attribute_change")
COLUMNS = {"video_id": str, "question": str, "answer": str, "dim": str}
_OF_CAPTIONS = {"mc_question": str, "mc_answer": str}


def read_rows(path, *, formats=SCORED):
    """Rows of TempCompass, format by format.

    The conflicting videos (``…_reverse``, ``…_concat_0``, ``first_second_1``) are made
    from others; ``scene_name`` is the first they are made from, since their questions
    stand and fall together.

    Parameters
    ----------
    path : path
        The published folder, in either layout; or one file of it, whose format is
        read, whatever ``formats`` says.
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
    rows = []
    for name in formats:
        if name not in FORMATS:
            raise SpacerError(
                f"{path}: task format", got=name, expected=", ".join(FORMATS)
            )
        file = find_file(
            path, [f"{name}/test*.parquet", f"questions/{name}.json", f"{name}.json"]
        )
        rows.extend(_rows(file, name))
    return rows


def _rows(file, name):
    columns = COLUMNS | (_OF_CAPTIONS if name == "captioning" else {})
    if file.suffix == ".json":
        records = check_table(file, _flat(file, name), columns)
    else:
        records = read_table(file, columns)
    inner = file.suffix == ".parquet" or file.parent.name == "questions"
    root = file.parent.parent if inner else file.parent
    count, rows = Counter(), []
    for number, record in enumerate(records, start=1):
        key = f"{name}/{record['video_id']}/{record['dim']}"
        count[key] += 1
        where = f"{file} row {number}"
        if record["dim"] not in DIMENSIONS:
            raise SpacerError(
                f"{where}: dim", got=record["dim"], expected=", ".join(DIMENSIONS)
            )
        rows.append(
            {
                **record,
                "id": f"{key}/{count[key]}",
                "dataset": "tempcompass",
                "scene_name": record["video_id"].split("_")[0],
                "question_type": record["dim"],
                **_TRUTHS[name](record, where),
                "video": str(root / "videos" / f"{record['video_id']}.mp4"),
                "groups": {"format": name},
            }
        )
    return rows


def _flat(file, name):
    """The authors' nested questions as the records of the other layout."""
    records = [
        {"video_id": video, "dim": dim, **asked} for video, dim, asked in _asked(file)
    ]
    if name == "captioning":  # judged by the first multi-choice question beside it
        beside, first = file.with_name("multi-choice.json"), {}
        for video, dim, asked in _asked(beside):
            first.setdefault((video, dim), asked)
        for record in records:
            asked = first.get((record["video_id"], record["dim"]), {})
            record |= {f"mc_{key}": value for key, value in asked.items()}
    return records


def _asked(file):
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
            got=error,
            expected="{video_id: {dim: [{question, answer}, …]}}",
        ) from error


# ---------------------------------------------------------------- truth by format


def _of_lettered(record, where):
    stem, options = _split(record["question"], "[A-Z][.)]")
    letter = record["answer"][:1]
    check_choice(f"{where}: answer", options, letter)
    return _choice(stem, options, letter)


def _of_captions_to_match(record, where):
    label = r"(?:Option|Sentence|Caption) \w+: "
    stem, options = _split(record["question"], label)
    labelled = all(re.match(label, line) for line in options)
    if not labelled or record["answer"] not in options:
        raise SpacerError(
            f"{where}: answer",
            got=repr(record["answer"])[:80],
            expected=f"one of the lines 'Option 1: …' of its question, {options}",
        )
    letter = chr(ord("A") + options.index(record["answer"]))
    check_choice(f"{where}: answer", options, letter)
    return _choice(stem, options, letter)


def _of_yes_no(record, where):
    if record["answer"] not in ("yes", "no"):
        raise SpacerError(
            f"{where}: answer", got=repr(record["answer"])[:80], expected="yes or no"
        )
    return _words("option-free", record["answer"])


def _of_captioning(record, where):
    return _words("free-form", record["answer"].partition(". ")[2] or record["answer"])


def _split(question, label):
    """The question and its option lines, which join to the published text."""
    lines = question.split("\n")
    start = next((i for i in range(1, len(lines)) if re.match(label, lines[i])), None)
    if start is None:
        return question, []
    return "\n".join(lines[:start]), [line for line in lines[start:] if line.strip()]


def _choice(stem, options, letter):
    return {
        "problem_type": "multiple choice",
        "question": stem,
        "options": options,
        "ground_truth": letter,
    }


def _words(kind, truth):
    return {"problem_type": kind, "options": None, "ground_truth": truth}


_TRUTHS = {
    "multi-choice": _of_lettered,
    "yes_no": _of_yes_no,
    "caption_matching": _of_captions_to_match,
    "captioning": _of_captioning,
}


# ---------------------------------------------------------------- the published rule


def official(text, row):
    """The authors' rule for the row's format, without their judge.

    ``</s>`` and outer spaces are dropped first. Multi-choice: the answer in full, or A
    to D alone or before a full stop or bracket. Yes or no: how the output begins, in
    any case, so "Not sure" is no. Caption matching: an option's line, sentence or
    label, in full.
    """
    answer = _READERS[row["groups"]["format"]](text.replace("</s>", "").strip(), row)
    if answer is None:
        return Verdict(0.0, None, "needs_judge")
    return Verdict(float(answer in _right(row)), answer)


def _right(row):
    """What counts as the right answer once read."""
    truth = row["answer"]
    kind = row["groups"]["format"]
    if kind == "multi-choice":
        return truth, truth[0]
    if kind == "caption_matching":
        label, sentence = truth.split(": ")[:2]
        return truth, truth.split(":")[0], sentence, label.split()[1]
    return (truth,)


def _read_lettered(text, row):
    if text == row["answer"]:
        return text
    letter = re.match(r"([ABCD])(?:[.)]|\Z)", text)
    return letter and letter[1]


def _read_yes_no(text, row):
    start = text.lower()
    return next((word for word in ("yes", "no") if start.startswith(word)), None)


def _read_caption(text, row):
    """The last that matches of all lines, then sentences, then labels."""
    lines = row["options"]
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


_READERS = {
    "multi-choice": _read_lettered,
    "yes_no": _read_yes_no,
    "caption_matching": _read_caption,
    "captioning": lambda text, row: None,
}


def benchmark():
    """TempCompass: the three formats that the authors' rules score."""
    return Benchmark(
        "tempcompass",
        "TempCompass",
        source="huggingface.co/datasets/lmms-lab/TempCompass",
        read=read_rows,
        official=official,
    )
