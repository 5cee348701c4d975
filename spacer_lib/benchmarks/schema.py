"""What all benchmarks share: their description, and the checked reader of their files.

Readers turn published files into ``rows.Question``. ``question_type`` is the
benchmark's task, ``scene_name`` what questions share (a room or a video), ``video`` and
``image`` are paths, whether the files are there or not, and ``groups`` holds the
further columns that results are broken down by.
"""

import csv
import re
import string
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from spacer_lib.artifacts import (
    PathLike,
    atomic_path,
    listing,
    read_json,
    read_jsonl,
    read_parquet,
    whole_table,
)
from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import labelled_options
from spacer_lib.rows import Prediction, Question

Record = dict[str, Any]  # a row of a published file
Columns = Mapping[str, type | tuple[type, ...]]


class Verdict(NamedTuple):
    """What a reading rule makes of one completion.

    Attributes
    ----------
    score : float
        0 to 1.
    answer : str or None
        What the rule found.
    failure : str or None
        Why the rule found nothing; ``None`` for a wrong answer.
    how : str or None
        How the rule found it, where the rule says so; ``strict`` says one of
        ``language.answers.HOWS``.
    """

    score: float
    answer: str | None
    failure: str | None = None
    how: str | None = None


Rule = Callable[[str, Question], Verdict]
Reader = Callable[[PathLike], list[Question]]


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: where its questions come from and how answers are scored.

    Attributes
    ----------
    name, title : str
    source : str
        Where its files and its official rule are published.
    read : callable
        Reads a file as published, or the folder that holds it.
    official : callable
        The published reading rule, exactly.
    overall : str
        The published aggregate: ``macro`` (mean over tasks) or ``micro`` (mean over
        rows).
    mode : str
        How SpaceR asks it: ``think_map`` on spatial benchmarks, else ``direct``.
    subsets : dict
        Tasks by name of a further published macro mean.
    strict : callable, optional
        Our reading rule, where ``rules.strict`` cannot read one of the tasks.
    aggregate : callable, optional
        Means by name that the released code computes, exactly, where they differ from
        the aggregates above.
    whole : callable, optional
        Where ``read`` takes a part of a set: reads the whole set.
    frames : int, optional
        The frame budget that its answers hold for.
    """

    name: str
    title: str
    source: str
    read: Reader
    official: Rule
    overall: str = "micro"
    mode: str = "direct"
    subsets: dict[str, tuple[str, ...]] = field(default_factory=dict)
    strict: Rule | None = None
    aggregate: Callable[[Iterable[Prediction]], dict[str, float]] | None = None
    whole: Reader | None = None
    frames: int | None = None


def find_file(path: PathLike, names: Sequence[str]) -> Path:
    """``path`` itself if it is a file, else the first of ``names`` in that folder.

    Names may hold ``*``. Of several matches the first in sorting order is taken.

    Raises
    ------
    SpacerError
        If no name matches.
    """
    path = Path(path)
    if path.is_file():
        return path
    for name in names:
        for found in listing(path, name):
            return found
    there: object = "no folder"
    if path.is_dir():
        there = [found.name for found in listing(path)][:8]
    raise SpacerError(
        f"benchmark files in {path}",
        kind="benchmarks.no-files",
        got=there,
        expected=" or ".join(names),
        remedy="give the folder that the benchmark was downloaded to",
    )


def media_path(folder: PathLike, *names: str) -> str:
    """The first of ``names`` that is in ``folder``, else where the first would be."""
    paths = [Path(folder) / name for name in names]
    return str(next((path for path in paths if path.exists()), paths[0]))


def read_table(
    path: PathLike, columns: Columns, *, skip: Collection[str] = ()
) -> list[Record]:
    """Rows of a published file with all its columns, the named ones checked.

    Parameters
    ----------
    path : path
        ``.parquet``, ``.jsonl``, ``.json`` (a list of objects), ``.tsv`` or ``.csv``.
    columns : mapping
        Type or types of each column that every row must have. A column with
        ``type(None)`` among its types may be null or absent.
    skip : collection of str
        Columns of a Parquet, TSV or CSV file that are not read: pictures.

    Raises
    ------
    SpacerError
        For a file that cannot be read, a missing column and a value of another type,
        with file, row and column.
    """
    path = Path(path)
    if path.suffix not in _READERS:
        raise SpacerError(
            f"{path}: file type",
            kind="benchmarks.file-type",
            got=path.suffix or "none",
            expected=", ".join(_READERS),
        )
    return check_table(path, _READERS[path.suffix](path, skip, columns), columns)


def check_table(path: PathLike, rows: Any, columns: Columns) -> list[Record]:
    """The rows of a file, checked as ``read_table`` does."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SpacerError(
            path,
            kind="benchmarks.no-list-of-objects",
            got=str(rows)[:60],
            expected="a list of objects",
        )
    if not rows:
        raise SpacerError(
            path, kind="benchmarks.no-rows", got="no rows", expected="at least one"
        )
    for number, row in enumerate(rows, start=1):
        _check(path, number, row, columns)
    return rows


def check_choice(where: str, options: Sequence[Any], letter: Any) -> None:
    """Refuse options that are not texts, and a letter that none of them has.

    Parameters
    ----------
    where : str
        File, row and column, for the message.
    options : sequence of str
        Two or more.
    letter : str
        A key of ``language.choices.labelled_options``.

    Raises
    ------
    SpacerError
    """
    if len(options) < 2 or not all(isinstance(option, str) for option in options):
        raise SpacerError(
            f"{where}: options",
            kind="benchmarks.options-not-texts",
            got=repr(options)[:80],
            expected="two texts or more",
        )
    letters = labelled_options(options)
    if letter not in letters:
        raise SpacerError(
            where,
            kind="benchmarks.answer-not-an-option",
            got=repr(letter)[:80],
            expected=", ".join(letters),
        )


def check_place(where: str, options: Sequence[Any], place: int) -> str:
    """The letter of an option that a file names by its place, from 0.

    Raises
    ------
    SpacerError
        As ``check_choice``.
    """
    letter = chr(ord("A") + place) if 0 <= place < 26 else str(place)
    check_choice(where, options, letter)
    return letter


def check_letter(where: str, letter: str, letters: str) -> None:
    """Refuse a true letter that is none of ``letters``.

    Raises
    ------
    SpacerError
    """
    if letter not in tuple(letters):
        raise SpacerError(
            where,
            kind="benchmarks.answer-not-an-option",
            got=repr(letter)[:80],
            expected=", ".join(letters),
        )


def check_paths(where: str, names: Sequence[Any]) -> None:
    """Refuse an empty list of media, and entries that are not texts.

    Raises
    ------
    SpacerError
    """
    if not names or not all(isinstance(name, str) and name for name in names):
        raise SpacerError(
            where,
            kind="benchmarks.no-media",
            got=repr(names)[:80],
            expected="a list of paths",
        )


def lettered(options: Sequence[Any]) -> list[Any]:
    """``A. …, B. …`` for texts; other values as they are, for ``check_choice``.

    Examples
    --------
    >>> lettered(["left", "right"])
    ['A. left', 'B. right']
    """
    if not all(isinstance(option, str) for option in options):
        return list(options)
    return [f"{chr(65 + i)}. {option}" for i, option in enumerate(options)]


def write_parquet(path: PathLike, rows: list[Record]) -> None:
    """Write rows as a Parquet file, whole or not at all."""
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)


def _check(path: PathLike, number: int, row: Record, columns: Columns) -> None:
    for name, kinds in columns.items():
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        if name not in row and type(None) not in wanted:
            raise SpacerError(
                f"{path} row {number}: column {name} is missing",
                kind="benchmarks.missing-column",
                got=sorted(row),
                expected=sorted(columns),
                remedy="use the file as it is published",
            )
        if not isinstance(row.get(name), wanted):
            raise SpacerError(
                f"{path} row {number}: column {name}",
                kind="benchmarks.wrong-type",
                got=repr(row[name])[:80],
                expected=" or ".join(kind.__name__ for kind in wanted),
            )


def inline_options(
    question: str, letter: str, mark: str = "."
) -> tuple[str, list[str] | None]:
    """The question and its options, where these stand in one text with it.

    Parameters
    ----------
    question : str
        Such as ``Where is it? A. left B. right``.
    letter : str
        The true one.
    mark : str
        What follows each letter.

    Returns
    -------
    question, options
        The whole text and ``None`` if the letters A, B … cannot be told apart, or the
        truth is not one of them.

    Examples
    --------
    >>> inline_options("Where is it? A. left B. up, right", "B")
    ('Where is it?', ['A. left', 'B. up, right'])
    >>> inline_options("Where? Options: A: left, B: up", "A", mark=":")
    ('Where?', ['A: left', 'B: up'])
    """
    place, starts = 0, []
    for name in string.ascii_uppercase:
        found = re.compile(rf"(?<!\S){name}{re.escape(mark)}\s").search(question, place)
        if found is None:
            break
        place = found.end()
        starts.append(found.start())
    ends = [*starts[1:], len(question)]
    texts = [
        question[start:end].strip().rstrip(",")
        for start, end in zip(starts, ends, strict=False)
    ]
    if len(texts) < 2 or letter not in {text[0] for text in texts}:
        return question, None
    stem = question[: starts[0]].strip()
    return stem.removesuffix("Options:").strip(), texts


def _parquet(path: Path, skip: Collection[str], _: Columns) -> Any:
    return read_parquet(path, lambda names: [n for n in names if n not in skip])


def _separated(delimiter: str) -> Callable[[Path, Collection[str], Columns], Any]:
    def read(path: Path, skip: Collection[str], columns: Columns) -> Any:
        # "1" stays a text where the column holds texts.
        texts = [name for name, kind in columns.items() if kind is str]
        batches = separated_batches(path, delimiter, skip=skip, texts=texts)
        return [row for batch in batches for row in batch.to_pylist()]

    return read


def separated_batches(
    path: Path,
    delimiter: str,
    *,
    only: Collection[str] = (),
    skip: Collection[str] = (),
    texts: Collection[str] = (),
) -> Iterator[pa.RecordBatch]:
    """Parts of a TSV or CSV file; a row may be several megabytes long.

    Parameters
    ----------
    path : Path
    delimiter : str
    only, skip : collection of str
        The columns that are read, and those that are not.
    texts : collection of str
        Columns that are not read as numbers.

    Raises
    ------
    SpacerError
        If the file is no such table, or has not the columns of ``only``.
    """
    with whole_table(path, "TSV" if delimiter == "\t" else "CSV"):
        yield from _batches(path, delimiter, only, skip, texts)


def _batches(
    path: Path,
    delimiter: str,
    only: Collection[str],
    skip: Collection[str],
    texts: Collection[str],
) -> Iterator[pa.RecordBatch]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        names = next(csv.reader(file, delimiter=delimiter), [])
    wanted = [name for name in names if name not in skip]
    # Quotes as spreadsheets and pandas write them; cells may hold line breaks.
    with pyarrow.csv.open_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=list(only) or wanted,
            column_types=dict.fromkeys([*only, *texts], pa.string()),
        ),
    ) as batches:
        yield from batches


_BLOCK_BYTES = 64 * 2**20  # the longest row
_READERS: dict[str, Callable[[Path, Collection[str], Columns], Any]] = {
    ".parquet": _parquet,
    ".jsonl": lambda path, *_: read_jsonl(path),
    ".json": lambda path, *_: read_json(path),
    ".tsv": _separated("\t"),
    ".csv": _separated(","),
}
