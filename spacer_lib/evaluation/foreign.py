"""Predictions made elsewhere → one text per question.

The content of a file, not its name, decides which of six shapes it has:

plain       ``id, prediction``: ours, or of any other program
lmms-eval   sample logs: ``doc_id``, ``resps``, ``filtered_resps``; the question in the
            metrics that list rows, or in ``doc``
VLMEvalKit  tables: ``index, question, answer, prediction``
SpaceR-Eval records: ``id, predicted_answer``
Video-R1    one object with ``results``: ``problem, path, solution, output``
EASI        tables of its scores: ``index, video, question, answer, prediction``

Each may be JSON lines, JSON objects one after another, however they are broken into
lines, a JSON list, CSV, TSV, Parquet or an Excel sheet. Every cell
stays a text: "nan", "None" and "5.0" are answers. Nothing is unpickled.
"""

import csv
import json
import math
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast
from xml.etree import ElementTree

from spacer_lib.artifacts import (
    PathLike,
    json_lines,
    make_folder,
    parse_json,
    provenance,
    read_json,
    read_parquet,
    scratch_folder,
    write_json,
    write_jsonl,
)
from spacer_lib.benchmarks.schema import Benchmark
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.chain import check_answers, edit_of, edits_in, refuse_cut_off
from spacer_lib.evaluation.predictions import UNANSWERED
from spacer_lib.rows import Prediction, Question

# What files call a question's id, and the room or video that it is asked about.
IDS = ("id", "question_id", "ID")
VIDEOS = ("scene_name", "video", "video_id", "videoID", "video_path", "Video", "path")
_RESPONSES = ("resps", "filtered_resps")
_TEXTS = ("prediction", "predicted_answer")  # the column of the raw output
_WORD = re.compile(r"\S")
_VLMEVALKIT_FAILED = "Failed to obtain answer"


class Answer(NamedTuple):
    """A raw output; ``text`` is ``None`` where there is none, for the ``failure``."""

    text: str | None
    failure: str = "no_prediction"


@dataclass(frozen=True)
class Line:
    """One prediction of a file: its place, its answer, and the columns around it."""

    place: str
    answer: Answer
    about: dict[str, Any]


_Records = Iterator[tuple[str, dict[str, Any]]]  # (place in a file, its columns)


# ---------------------------------------------------------------- files


def read_predictions(
    path: PathLike, column: str | None = None, *, accept_edited: bool = False
) -> list[Line]:
    """The predictions of a file, or of a run's folder.

    Parameters
    ----------
    path : path
    column : str, optional
        The column of the raw output, where none of the known shapes has it.
    accept_edited : bool
        Read a file of ours that was edited after it was written; ``edits_of`` tells.

    Returns
    -------
    list of Line

    Raises
    ------
    SpacerError
        Naming file and line, for what cannot be read; for a file without predictions;
        for a file of ours that was edited.
    """
    path = _file_of(path)
    lines: list[Line] = []
    records: list[dict[str, Any]] = []
    keys: dict[str, None] = {}
    for place, record in _records(path):
        records.append(record)
        if column is not None and column in record:
            record = {**record, "prediction": record[column]}
        lines.append(_line(place, record))
        keys |= dict.fromkeys(record)
    if not lines:
        raise SpacerError(
            path,
            kind="evaluation.no-predictions",
            got="no rows",
            expected="predictions",
        )
    if path.suffix == ".jsonl":  # other shapes change numbers to texts
        check_answers(path, records, accept_edited=accept_edited)
    known = {*_TEXTS, *_RESPONSES} if column is None else {column}
    if not known & set(keys):
        raise SpacerError(
            f"{path}: predictions",
            kind="evaluation.unknown-columns",
            got=f"columns {', '.join(map(str, keys))}"[:200],
            expected=f"a column {column}"
            if column
            else "id and prediction, a sample log of lmms-eval, a table of VLMEvalKit "
            "or EASI, records of SpaceR-Eval or results of Video-R1",
            remedy=None
            if column
            else "name the column of the output: --column prediction=NAME",
        )
    return lines


def _file_of(path: PathLike) -> Path:
    path = Path(path)
    return path / "predictions.jsonl" if path.is_dir() else path


def edits_of(path: PathLike) -> list[str]:
    """What was edited in a file of ours after it was written, and accepted.

    Parameters
    ----------
    path : path
        That ``read_predictions`` has read.
    """
    path = _file_of(path)
    if path.suffix != ".jsonl":
        return []
    found = edit_of(path, [record for _, record in _records(path)])
    before = edits_in(path.parent) if path.name == "predictions.jsonl" else []
    return [*before, *([found] if found else [])]


def _records(path: Path) -> _Records:
    """The rows of a file; its first bytes tell which kind of file it is."""
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise SpacerError(
            f"{path} cannot be read",
            kind="evaluation.unreadable-file",
            got=error.strerror,
            expected="predictions",
        ) from error
    if head.startswith(b"\x80"):
        raise SpacerError(
            f"{path}: file type",
            kind="evaluation.pickle",
            got="a pickle, which can run code",
            expected="JSON, CSV, TSV, Parquet or Excel",
        )
    if head.startswith(b"PK"):
        return _excel(path)
    if head.startswith(b"PAR1"):
        return _parquet(path)
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return {b"{": _json_objects, b"[": _json_list}.get(first, _separated)(path)


def _json_objects(path: Path) -> _Records:
    """JSON lines, objects one after another, or one object that holds ``results``."""
    if _one_a_line(path):
        if path.name == "predictions.jsonl":
            refuse_cut_off(path)
        yield from json_lines(path)
        return
    for place, value in json_values(path):
        results = value.get("results") if isinstance(value, dict) else None
        if isinstance(results, list):
            yield from _numbered(path, results)
        else:
            yield from _numbered(path, [value], place)


def _one_a_line(path: Path) -> bool:
    """Whether the first line is an object of its own, and not Video-R1's only one."""
    with open(path, "rb") as file:
        line = next((line for line in file if line.strip()), b"")
    try:
        first = parse_json(line)
    except ValueError:
        return False
    return isinstance(first, dict) and not isinstance(first.get("results"), list)


def json_values(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield ``("<path> line <n>", value)`` for JSON values one after another.

    Raises
    ------
    SpacerError
        Naming the line, for text that is no JSON value.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SpacerError(
            f"{path} is not UTF-8 text", kind="evaluation.not-utf-8", got=error
        ) from error
    decoder, line, counted = json.JSONDecoder(), 1, 0
    start = _not_blank(text, 0)
    while start < len(text):
        line, counted = line + text.count("\n", counted, start), start
        try:
            value, place = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            at = error.lineno if isinstance(error, json.JSONDecodeError) else line
            raise SpacerError(
                f"{path} line {at}",
                kind="evaluation.not-json",
                got=str(error).partition(": line")[0],
                expected="JSON objects, one after another",
                remedy="write it again",
            ) from error
        yield f"{path} line {line}", value
        start = _not_blank(text, place)


def _not_blank(text: str, place: int) -> int:
    """The next place that is no white space, or the end."""
    found = _WORD.search(text, place)
    return found.start() if found else len(text)


def _json_list(path: Path) -> _Records:
    rows = read_json(path)
    yield from _numbered(path, rows)


def _numbered(path: Path, rows: Sequence[Any], place: str | None = None) -> _Records:
    """Objects with their places: ``place``, or their numbers."""
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise SpacerError(
                place or f"{path} row {number}",
                kind="evaluation.no-object",
                got=repr(row)[:60],
                expected="an object",
            )
        yield place or f"{path} row {number}", row


def _separated(path: Path) -> _Records:
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
                        place,
                        kind="evaluation.uneven-cells",
                        got=f"{len(cells)} cells",
                        expected=len(header),
                    )
                if cells:
                    yield place, dict(zip(header, cells, strict=True))
    except UnicodeDecodeError as error:
        raise SpacerError(
            f"{path} is not UTF-8 text", kind="evaluation.not-utf-8", got=error
        ) from error
    except csv.Error as error:
        raise SpacerError(
            f"{path} line {reader.line_num}", kind="evaluation.bad-csv", got=error
        ) from error
    finally:
        csv.field_size_limit(limit)


def _parquet(path: Path) -> _Records:
    for number, row in enumerate(read_parquet(path), start=1):
        yield f"{path} row {number}", row


MOST_EXCEL_BYTES = 2**29
# A damaged sheet fails in its archive, its XML or the conversion of its values. Of an
# unknown compression method zipfile makes a RuntimeError.
_NO_EXCEL = (
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    ElementTree.ParseError,
    zipfile.BadZipFile,
    zlib.error,
)


def _excel(path: Path) -> _Records:
    from openpyxl import load_workbook  # late: only such files need it

    try:
        with zipfile.ZipFile(path) as parts:
            size = sum(part.file_size for part in parts.infolist())
        if size > MOST_EXCEL_BYTES:
            raise ValueError(f"{size} bytes when unpacked")
        with open(path, "rb") as file:  # a path would have to end in .xlsx
            book = load_workbook(file, read_only=True, data_only=True)
            rows = list(book.worksheets[0].iter_rows(values_only=True))
    except _NO_EXCEL as error:
        raise SpacerError(
            f"{path} cannot be read",
            kind="evaluation.unreadable-file",
            got=" ".join(str(error).split())[:200] or type(error).__name__,
            expected="an Excel sheet",
            remedy="write it again, or save it as CSV",
        ) from error
    header = [str(name) for name in rows[0]] if rows else []
    for number, cells in enumerate(rows[1:], start=2):
        if any(cell is not None for cell in cells):
            yield f"{path} line {number}", dict(zip(header, cells, strict=False))


def _line(place: str, record: dict[str, Any]) -> Line:
    about = dict(record)
    value = next((record[key] for key in _TEXTS if key in record), None)
    if "extracted" in record:  # a record of ours, where answer is the truth
        about["ground_truth"] = record.get("answer")
    if {"problem", "solution", "output"} <= set(record):  # Video-R1
        value, about["question"] = record["output"], record["problem"]
    if "doc_id" in record or set(_RESPONSES) & set(record):
        # The raw output, since filters remove the thinking. Where they changed nothing
        # only their result is logged. Of repeated requests the first counts, as there.
        value = record.get("resps") or record.get("filtered_resps")
        while isinstance(value, list):
            value = value[0] if value else None
        known = ("doc_id", "target", "input")
        parts = [part for part in record.values() if isinstance(part, dict)]
        parts += [record.get("doc") or {}, {k: record[k] for k in known if k in record}]
        about = {k: v for part in parts for k, v in part.items()}
    if isinstance(value, (dict, list, bytes)):
        raise SpacerError(
            f"{place}: prediction",
            kind="evaluation.prediction-no-text",
            got=repr(value)[:60],
            expected="a text or a number",
        )
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Line(place, Answer(None), about)
    failure = str(record.get("failure") or "")
    if value == "" and failure.startswith(UNANSWERED):
        return Line(place, Answer(None, failure), about)
    if "index" in record and str(value).startswith(_VLMEVALKIT_FAILED):
        return Line(place, Answer(None, "request_failed"), about)
    return Line(place, Answer(str(value)), about)


# ---------------------------------------------------------------- questions


def gather(
    benchmark: Benchmark,
    predictions: PathLike,
    data: PathLike | None = None,
    column: str | None = None,
    *,
    accept_edited: bool = False,
) -> tuple[list[Question], list[Answer]]:
    """The questions of a benchmark with what was answered to each.

    Parameters
    ----------
    benchmark : Benchmark
    predictions : path
        A file of ``read_predictions``.
    data : path, optional
        The benchmark's questions. Without it, those that the file itself has.
    column : str, optional
        The column of the raw output; see ``read_predictions``.
    accept_edited : bool
        See ``read_predictions``.

    Returns
    -------
    rows : list of Question
        In the data's order and without maps: only the run that made the answers knows
        how maps were drawn.
    answers : list of Answer
        One per row. For a subset, predictions of the whole set's other rows are left
        out, where ``data`` has these rows.

    Raises
    ------
    SpacerError
        For a prediction twice, or of no question; for a question twice; for a file
        without questions.
    """
    lines = read_predictions(predictions, column, accept_edited=accept_edited)
    if data is None:
        rows, asked = _carried(lines, predictions, benchmark)
    else:
        rows, asked = _read(benchmark, data)
    rows = [cast(Question, {**row, "map": None}) for row in rows]
    twice = [key for key, n in Counter(row["id"] for row in rows).items() if n > 1]
    if twice:
        raise SpacerError(
            predictions if data is None else data,
            kind="evaluation.id-twice",
            got=f"id {twice[0]} twice",
            expected="every question once",
        )
    answers = join(lines, asked)
    return rows, [answers.get(row["id"], Answer(None)) for row in rows]


def _read(
    benchmark: Benchmark, path: PathLike
) -> tuple[list[Question], list[Question]]:
    """Rows of a benchmark, and of the set that it is a part of."""
    rows = benchmark.read(path)
    return rows, benchmark.whole(path) if benchmark.whole else rows


def _carried(
    lines: Sequence[Line], path: PathLike, benchmark: Benchmark
) -> tuple[list[Question], list[Question]]:
    documents = [
        {k: v for k, v in line.about.items() if not isinstance(v, bytes)}
        for line in lines
    ]
    try:
        with scratch_folder() as folder:
            # Readers look for the subset's name.
            file = folder / f"{benchmark.name}.jsonl"
            write_jsonl(file, documents)
            return _read(benchmark, file)
    except SpacerError as error:
        lacking = str(error.what).rpartition(f"{benchmark.name}.jsonl ")[2]
        raise SpacerError(
            f"{path} has no questions of {benchmark.title}",
            kind="evaluation.no-questions",
            got=f"{lacking}: {str(error.got)[:120]}",
            remedy="pass them with --data",
        ) from error


def join(lines: Sequence[Line], rows: Sequence[Question]) -> dict[str, Answer]:
    """Which prediction belongs to which row.

    Lines with an id are joined by id (compared as text), others by question and room or
    video. lmms-eval logs without documents are joined by place, if question and truth
    agree.

    Returns
    -------
    dict
        ``{id: Answer}``.

    Raises
    ------
    SpacerError
        Naming the line, for a prediction of no row, of several rows, or of a row that
        has one already; if the lines have nothing to join by.
    """
    find = _finder([line.about for line in lines], rows)
    answers: dict[str, Answer] = {}
    places: dict[str, str] = {}
    for line in lines:
        key = find(line)
        if key in answers:
            raise SpacerError(
                f"{line.place}: prediction of {key} again",
                kind="evaluation.prediction-twice",
                got=f"it is also in {places[key]}",
                expected="every question once",
            )
        answers[key], places[key] = line.answer, line.place
    return answers


_Find = Callable[[Line], str]  # the id of the row that a prediction belongs to


def _finder(abouts: Sequence[dict[str, Any]], rows: Sequence[Question]) -> _Find:
    def all_have(key: str) -> bool:
        return all(about.get(key) is not None for about in abouts)

    for name in filter(all_have, IDS):
        return _by_id(name, rows)
    if all_have("question"):
        return _by_question(rows)
    if all_have("doc_id") and all_have("target"):
        return _by_place(rows)
    raise SpacerError(
        "predictions",
        kind="evaluation.nothing-to-join-by",
        got=f"columns {', '.join(map(str, abouts[0]))}"[:200],
        expected="id in every row, or question and video",
    )


def _by_id(name: str, rows: Sequence[Question]) -> _Find:
    known = {row["id"] for row in rows}

    def find(line: Line) -> str:
        key = str(line.about[name])
        if key not in known:
            raise _stranger(line, f"{name} {key!r}")
        return key

    return find


def _by_question(rows: Sequence[Question]) -> _Find:
    asked: dict[str, list[Question]] = {}
    for row in rows:
        asked.setdefault(_plain(row["question"]), []).append(row)

    def find(line: Line) -> str:
        found = asked.get(_plain(line.about["question"]), [])
        names = _videos(line.about)
        if names:
            found = [r for r in found if names & _videos(cast(dict[str, Any], r))]
        if not found:
            raise _stranger(line, repr(_plain(line.about["question"])[:60]))
        if len(found) > 1:
            raise SpacerError(
                f"{line.place}: question",
                kind="evaluation.ambiguous-question",
                got=f"{len(found)} rows that ask it",
                expected="an id, or a video that tells them apart",
            )
        return found[0]["id"]

    return find


def _by_place(rows: Sequence[Question]) -> _Find:
    def find(line: Line) -> str:
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
                kind="evaluation.other-order",
                got=f"target {about['target']!r}",
                expected=f"row {number + 1} of the data, {row['ground_truth']!r}",
                remedy="log with documents, or pass the rows in the log's order",
            )
        return row["id"]

    return find


def _stranger(line: Line, name: str) -> SpacerError:
    return SpacerError(
        f"{line.place}: prediction of {name}",
        kind="evaluation.no-such-question",
        got="no such question",
        expected="a question of the data",
    )


def _plain(text: object) -> str:
    return " ".join(str(text).split())


def _videos(row: dict[str, Any]) -> set[str]:
    """The room or video that a row names, without folders and suffixes."""
    named = (row.get(key) for key in VIDEOS)
    return {PurePosixPath(str(name)).stem for name in named if name}


# ---------------------------------------------------------------- scored


def write_run(
    folder: PathLike,
    records: Sequence[Prediction],
    benchmark: Benchmark,
    extraction: str,
    source: PathLike,
    profile: str | None = None,
) -> list[Path]:
    """Scored predictions made elsewhere as the folder of a run.

    ``spacer report`` and ``spacer extras explain-gap`` read it as one of `spacer
    evaluate`. Its ``evaluation.json`` has no settings: a file of texts states none.

    Returns
    -------
    list of Path
        ``predictions.jsonl`` and ``evaluation.json``.

    Raises
    ------
    SpacerError
        If the folder holds a run of `spacer evaluate`.
    """
    folder = make_folder(folder)
    paths = [folder / "predictions.jsonl", folder / "evaluation.json"]
    if paths[1].exists() and "settings" in read_json(paths[1]):
        raise SpacerError(
            folder,
            kind="evaluation.other-run",
            got="answers of `spacer evaluate`",
            expected="a folder of its own",
            remedy="choose another --out",
        )
    header = {
        "name": Path(source).name,
        "benchmark": benchmark.name,
        "extraction": extraction,
        **({"profile": profile} if profile else {}),
        "predictions": str(source),
        **provenance(),
    }
    write_jsonl(paths[0], records)
    write_json(paths[1], header)
    return paths
