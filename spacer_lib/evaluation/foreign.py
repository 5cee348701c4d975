"""Predictions made elsewhere → one text per question.

Three shapes are told apart by what a file holds, not by its name:

plain       ``id, prediction``: ours, or anyone's
lmms-eval   sample logs: ``doc_id``, ``resps``, ``filtered_resps``; the question in the
            metrics that list rows, or in ``doc``
VLMEvalKit  tables: ``index, question, answer, prediction``

Each may lie in JSON lines, a JSON list, CSV, TSV, Parquet or an Excel sheet. Every cell
stays the text it is: "nan", "None" and "5.0" are answers. Nothing is unpickled.
"""

import csv
import json
import math
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from spacer_lib.artifacts import json_lines, write_jsonl
from spacer_lib.errors import SpacerError

# What files call a question's id, and the room or video that it is asked about.
IDS = ("id", "question_id", "ID")
VIDEOS = ("scene_name", "video", "video_id", "videoID", "video_path", "Video")
_RESPONSES = ("resps", "filtered_resps")
# How failures begin of rows that were not asked, or not answered, in a run of ours.
_UNASKED = ("missing", "broken", "request_failed", "refused", "no_prediction")
_VLMEVALKIT_FAILED = "Failed to obtain answer"


class Answer(NamedTuple):
    """A raw output; ``text`` is ``None`` where there is none, and ``failure`` why."""

    text: str | None
    failure: str = "no_prediction"


@dataclass(frozen=True)
class Line:
    """One prediction of a file: where it stands, what it says, what it is about."""

    place: str
    answer: Answer
    about: dict


# ---------------------------------------------------------------- files


def read_predictions(path):
    """The predictions of a file, or of a run's folder.

    Returns
    -------
    list of Line

    Raises
    ------
    SpacerError
        Naming file and line, for what cannot be read; for a file without predictions.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "predictions.jsonl"
    lines, keys = [], {}
    for place, record in _records(path):
        lines.append(_line(place, record))
        keys |= dict.fromkeys(record)
    if not lines:
        raise SpacerError(path, got="no rows", expected="predictions")
    if not {"prediction", *_RESPONSES} & set(keys):
        raise SpacerError(
            f"{path}: predictions",
            got=f"columns {', '.join(map(str, keys))}"[:200],
            expected="id and prediction, a sample log of lmms-eval or a table of "
            "VLMEvalKit",
        )
    return lines


def _records(path):
    """Yield (place, dictionary); the kind of file is seen from its first bytes."""
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise SpacerError(
            f"{path} cannot be read", got=error.strerror, expected="predictions"
        ) from error
    if head.startswith(b"\x80"):
        raise SpacerError(
            f"{path}: file type",
            got="a pickle, which can run code",
            expected="JSON, CSV, TSV, Parquet or Excel",
        )
    if head.startswith(b"PK"):
        return _excel(path)
    if head.startswith(b"PAR1"):
        return _parquet(path)
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return {b"{": json_lines, b"[": _json_list}.get(first, _separated)(path)


def _json_list(path):
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SpacerError(f"{path} is not JSON", got=error) from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise SpacerError(
                f"{path} row {number}", got=repr(row)[:60], expected="an object"
            )
        yield f"{path} row {number}", row


def _separated(path):
    limit = csv.field_size_limit(2**31 - 1)  # the default ends at 131,072 characters
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            tabs = "\t" in file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter="\t" if tabs else ",", strict=True)
            header = next(reader, [])
            for cells in reader:
                place = f"{path} line {reader.line_num}"
                if cells and len(cells) != len(header):
                    raise SpacerError(
                        place, got=f"{len(cells)} cells", expected=len(header)
                    )
                if cells:
                    yield place, dict(zip(header, cells, strict=True))
    except UnicodeDecodeError as error:
        raise SpacerError(f"{path} is not UTF-8 text", got=error) from error
    except csv.Error as error:
        raise SpacerError(f"{path} line {reader.line_num}", got=error) from error
    finally:
        csv.field_size_limit(limit)


def _parquet(path):
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SpacerError(
            f"{path} cannot be read", got=str(error).splitlines()[0]
        ) from error
    for number, row in enumerate(rows, start=1):
        yield f"{path} row {number}", row


def _excel(path):
    from openpyxl import load_workbook  # late: only such files need it

    try:
        with open(path, "rb") as file:  # a path would have to end in .xlsx
            book = load_workbook(file, read_only=True, data_only=True)
            rows = list(book.worksheets[0].iter_rows(values_only=True))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise SpacerError(
            f"{path} cannot be read", got=error, expected="an Excel sheet"
        ) from error
    header = [str(name) for name in rows[0]] if rows else []
    for number, cells in enumerate(rows[1:], start=2):
        if any(cell is not None for cell in cells):
            yield f"{path} line {number}", dict(zip(header, cells, strict=False))


def _line(place, record):
    about, value = dict(record), record.get("prediction")
    if "extracted" in record:  # a record of ours, where answer is the truth
        about["ground_truth"] = record.get("answer")
    if "doc_id" in record or set(_RESPONSES) & set(record):
        # The raw output: filters cut the thinking out, and where they changed nothing
        # only their result is logged. Of repeated requests the first, as scored there.
        value = record.get("resps") or record.get("filtered_resps")
        while isinstance(value, list):
            value = value[0] if value else None
        known = ("doc_id", "target", "input")
        parts = [part for part in record.values() if isinstance(part, dict)]
        parts += [record.get("doc") or {}, {k: record[k] for k in known if k in record}]
        about = {k: v for part in parts for k, v in part.items()}
    if isinstance(value, (dict, list, bytes)):
        raise SpacerError(
            f"{place}: prediction", got=repr(value)[:60], expected="a text or a number"
        )
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Line(place, Answer(None), about)
    failure = str(record.get("failure") or "")
    if value == "" and failure.startswith(_UNASKED):
        return Line(place, Answer(None, failure), about)
    if "index" in record and str(value).startswith(_VLMEVALKIT_FAILED):
        return Line(place, Answer(None, "request_failed"), about)
    return Line(place, Answer(str(value)), about)


# ---------------------------------------------------------------- questions


def gather(benchmark, predictions, data=None):
    """The questions of a benchmark with what was answered to each.

    Parameters
    ----------
    benchmark : Benchmark
    predictions : path
        A file of ``read_predictions``.
    data : path, optional
        The benchmark's questions; without it, those that the file itself carries.

    Returns
    -------
    rows : list of dict
        In the data's order, without maps: these are judged where answers are made.
    answers : list of Answer
        One per row. Of a subset, predictions of the whole set's other rows are left
        out, where ``data`` holds these.

    Raises
    ------
    SpacerError
        For a prediction twice, or of no question; for a question twice; for a file
        without questions.
    """
    lines = read_predictions(predictions)
    if data is None:
        rows, asked = _carried(lines, predictions, benchmark)
    else:
        rows, asked = _read(benchmark, data)
    rows = [{**row, "map": None} for row in rows]
    twice = [key for key, n in Counter(row["id"] for row in rows).items() if n > 1]
    if twice:
        raise SpacerError(
            predictions if data is None else data,
            got=f"id {twice[0]} twice",
            expected="every question once",
        )
    answers = join(lines, asked)
    return rows, [answers.get(row["id"], Answer(None)) for row in rows]


def _read(benchmark, path):
    """Rows of a benchmark, and of the set that it is a part of."""
    rows = benchmark.read(path)
    return rows, benchmark.whole(path) if benchmark.whole else rows


def _carried(lines, path, benchmark):
    documents = [
        {k: v for k, v in line.about.items() if not isinstance(v, bytes)}
        for line in lines
    ]
    try:
        with TemporaryDirectory() as folder:
            # Readers look for the subset's name.
            file = Path(folder) / f"{benchmark.name}.jsonl"
            write_jsonl(file, documents)
            return _read(benchmark, file)
    except SpacerError as error:
        lacking = error.what.rpartition(f"{benchmark.name}.jsonl ")[2]
        raise SpacerError(
            f"{path} carries no questions of {benchmark.title}",
            got=f"{lacking}: {str(error.got)[:120]}",
            remedy="pass them with --data",
        ) from error


def join(lines, rows):
    """Which prediction belongs to which row.

    By id where the lines have one (compared as text); else by question and room or
    video; else, for lmms-eval logs without documents, by place, with question and
    truth agreeing.

    Returns
    -------
    dict
        ``{id: Answer}``.

    Raises
    ------
    SpacerError
        Naming the line, for a prediction of no row, of several, or of one that has a
        prediction; if there is nothing to go by.
    """
    find = _finder([line.about for line in lines], rows)
    answers, places = {}, {}
    for line in lines:
        key = find(line)
        if key in answers:
            raise SpacerError(
                f"{line.place}: prediction of {key} again",
                got=f"it is also in {places[key]}",
                expected="every question once",
            )
        answers[key], places[key] = line.answer, line.place
    return answers


def _finder(abouts, rows):
    def all_have(key):
        return all(about.get(key) is not None for about in abouts)

    for name in filter(all_have, IDS):
        return _by_id(name, rows)
    if all_have("question"):
        return _by_question(rows)
    if all_have("doc_id") and all_have("target"):
        return _by_place(rows)
    raise SpacerError(
        "predictions",
        got=f"columns {', '.join(map(str, abouts[0]))}"[:200],
        expected="id in every row, or question and video",
    )


def _by_id(name, rows):
    known = {row["id"] for row in rows}

    def find(line):
        key = str(line.about[name])
        if key not in known:
            raise _stranger(line, f"{name} {key!r}")
        return key

    return find


def _by_question(rows):
    asked = {}
    for row in rows:
        asked.setdefault(_plain(row["question"]), []).append(row)

    def find(line):
        found = asked.get(_plain(line.about["question"]), [])
        names = _videos(line.about)
        if names:
            found = [row for row in found if names & _videos(row)]
        if not found:
            raise _stranger(line, repr(_plain(line.about["question"])[:60]))
        if len(found) > 1:
            raise SpacerError(
                f"{line.place}: question",
                got=f"{len(found)} rows that ask it",
                expected="an id, or a video that tells them apart",
            )
        return found[0]["id"]

    return find


def _by_place(rows):
    def find(line):
        about, number = line.about, line.about["doc_id"]
        if not isinstance(number, int) or not 0 <= number < len(rows):
            raise _stranger(line, f"doc_id {number!r}")
        row = rows[number]
        prompt = about.get("input")
        if str(about["target"]) != row["ground_truth"] or (
            isinstance(prompt, str) and _plain(row["question"]) not in _plain(prompt)
        ):
            raise SpacerError(
                f"{line.place}: doc_id {number}",
                got=f"target {about['target']!r}",
                expected=f"row {number + 1} of the data, {row['ground_truth']!r}",
                remedy="log with documents, or pass the rows in the log's order",
            )
        return row["id"]

    return find


def _stranger(line, name):
    return SpacerError(
        f"{line.place}: prediction of {name}",
        got="no such question",
        expected="a question of the data",
    )


def _plain(text):
    return " ".join(str(text).split())


def _videos(row):
    """The room or video that a row names, without folders and suffixes."""
    named = (row.get(key) for key in VIDEOS)
    return {PurePosixPath(str(name)).stem for name in named if name}
