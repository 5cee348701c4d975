"""What all public benchmarks have in common: checked files → rows, rule, groups.

A row is a dictionary with the keys of our own question rows: ``id`` (text),
``dataset``, ``scene_name`` (what questions share: a room or a video),
``question_type`` (the benchmark's task), ``problem_type``, ``question``, ``options``,
``ground_truth``, ``video`` or ``image`` (a path, there or not), and ``groups``, the
further columns that results are broken down by: ``{axis: value}``. ``published_id``
is the id as the file has it, where that is a number.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from spacer_lib.artifacts import atomic_path
from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import labelled_options


class Verdict(NamedTuple):
    """What a rule makes of one raw output.

    Attributes
    ----------
    score : float
        0 to 1.
    answer : str or None
        What was read from the output.
    failure : str or None
        Why nothing was; a wrong answer is no failure.
    """

    score: float
    answer: str | None
    failure: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """One public benchmark: where its rows come from and how they count.

    Attributes
    ----------
    name, title : str
    source : str
        Where its files and its official rule are published.
    read : callable
        ``path → rows``: a file as published, or the folder that holds it.
    whole : callable, optional
        The same for the set that ``read`` takes a part of.
    official : callable
        ``(text, row) → Verdict``: the published rule, exactly.
    overall : str
        ``macro`` (mean of the tasks) or ``micro`` (mean of the rows): the published
        aggregate.
    mode : str
        How SpaceR asks it: ``think_map`` on spatial benchmarks, else ``direct``.
    subsets : dict
        ``{name: question types}``: further macro means that are published.
    strict : callable, optional
        Our rule, where ``rules.strict`` cannot read one of the tasks.
    aggregate : callable, optional
        ``predictions → {name: value}``: what the released code computes, exactly,
        where that is none of the aggregates above.
    """

    name: str
    title: str
    source: str
    read: Callable
    official: Callable
    overall: str = "micro"
    mode: str = "direct"
    subsets: dict = field(default_factory=dict)
    strict: Callable | None = None
    aggregate: Callable | None = None
    whole: Callable | None = None


def find_file(path, names):
    """``path`` itself if it is a file, else the first of ``names`` in that folder.

    Names may hold ``*``; of several matches the first in sorting order.

    Raises
    ------
    SpacerError
        If there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    for name in names:
        for found in sorted(path.glob(name)):
            return found
    lying = sorted(p.name for p in path.iterdir())[:8] if path.is_dir() else "no folder"
    raise SpacerError(
        f"benchmark files in {path}",
        got=lying,
        expected=" or ".join(names),
        remedy="point at the folder that the benchmark was downloaded to",
    )


def media_path(folder, *names):
    """The first of ``names`` that is in ``folder``, else where the first would be."""
    paths = [Path(folder) / name for name in names]
    return str(next((path for path in paths if path.exists()), paths[0]))


def read_table(path, columns, *, skip=()):
    """Rows of a published file as dictionaries, its columns checked.

    Parameters
    ----------
    path : path
        ``.parquet``, ``.jsonl``, ``.json`` (a list of objects), ``.tsv`` or ``.csv``.
    columns : dict
        ``{column: type or types}`` that every row must have; ``None`` is allowed
        where ``type(None)`` is among them.
    skip : iterable of str
        Columns of a parquet file that stay on disk: pictures.

    Returns
    -------
    list of dict
        With all other columns of the file, in its order.

    Raises
    ------
    SpacerError
        Naming file, column and what was found, for a missing column, a value of
        another type, or a file that cannot be read.
    """
    path = Path(path)
    try:
        rows = _READERS[path.suffix](path, skip)
    except KeyError as error:
        raise SpacerError(
            f"{path}: file type",
            got=path.suffix or "none",
            expected=", ".join(_READERS),
        ) from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SpacerError(
            f"{path} cannot be read",
            got=str(error).splitlines()[0],
            expected=f"a {path.suffix} file",
            remedy="download it again",
        ) from error
    return check_table(path, rows, columns)


def check_table(path, rows, columns):
    """Rows of a file, checked as ``read_table`` does, and returned."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SpacerError(path, got="something else", expected="a list of objects")
    if not rows:
        raise SpacerError(path, got="no rows", expected="at least one")
    for number, row in enumerate(rows, start=1):
        _check(path, number, row, columns)
    return rows


def check_choice(where, options, letter):
    """Raise unless ``options`` are two texts or more and ``letter`` is one of theirs.

    Parameters
    ----------
    where : str
        File, row and column, for the message.
    options : list of str
    letter : str
        See ``language.choices.labelled_options``.

    Raises
    ------
    SpacerError
    """
    if len(options) < 2 or not all(isinstance(option, str) for option in options):
        raise SpacerError(
            f"{where}: options", got=repr(options)[:80], expected="two texts or more"
        )
    letters = labelled_options(options)
    if letter not in letters:
        raise SpacerError(where, got=repr(letter)[:80], expected=", ".join(letters))


def write_parquet(path, rows):
    """Write rows as a Parquet file, whole or not at all."""
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)


def _check(path, number, row, columns):
    for name, kinds in columns.items():
        optional = isinstance(kinds, tuple) and type(None) in kinds
        if name not in row and not optional:
            raise SpacerError(
                f"{path} row {number}: column {name} is missing",
                got=sorted(row),
                expected=sorted(columns),
                remedy="use the file as it is published",
            )
        if not isinstance(row.get(name), kinds):
            wanted = kinds if isinstance(kinds, tuple) else (kinds,)
            raise SpacerError(
                f"{path} row {number}: column {name}",
                got=repr(row[name])[:80],
                expected=" or ".join(kind.__name__ for kind in wanted),
            )


def _parquet(path, skip):
    with pq.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if name not in skip]
        return file.read(names).to_pylist()


def _jsonl(path, _):
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line.strip()]


def _separated(delimiter):
    def read(path, _):
        # Quotes as spreadsheets and pandas write them; cells may hold line breaks.
        options = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        return pyarrow.csv.read_csv(path, parse_options=options).to_pylist()

    return read


_READERS = {
    ".parquet": _parquet,
    ".jsonl": _jsonl,
    ".json": lambda path, _: json.loads(path.read_text(encoding="utf-8")),
    ".tsv": _separated("\t"),
    ".csv": _separated(","),
}
