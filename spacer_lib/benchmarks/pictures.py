"""Pictures inside published files: written once to ``.images`` beside the file.

A row's pictures are bytes (Parquet) or base64 text (TSV, JSON), one or a list. They are
copied without decoding.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from spacer_lib.artifacts import (
    Manifest,
    atomic_path,
    config_hash,
    parse_json,
    sole_writer,
    whole_table,
)
from spacer_lib.benchmarks.schema import Record, separated_batches
from spacer_lib.errors import SpacerError

_MAGIC = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}


def unpack(
    file: Path, cells: Callable[[], Iterable[Any]], column: str = "image"
) -> list[list[str]]:
    """Write the pictures of a file, each once and whole.

    Parameters
    ----------
    file : Path
        A changed file is unpacked again.
    cells : callable
        Yields, row by row, bytes, base64 text, ``{"bytes": …}`` or a list of these.
        Called only if the pictures are not there yet.
    column : str
        Named in messages.

    Returns
    -------
    list of list of str
        Paths per row: ``.images/{file}/{row}_{picture}.png`` or ``.jpg``.

    Raises
    ------
    SpacerError
        If a row has no picture, or one is neither PNG nor JPEG.
    """
    stat, folder = file.stat(), file.parent / ".images"
    fingerprint = config_hash([file.name, stat.st_size, stat.st_mtime_ns])
    names = Manifest(folder).files(file.name, fingerprint)
    if names is None:
        # Two evaluations of one benchmark may start together: the second finds them.
        with sole_writer(folder, wait=True), Manifest(folder) as manifest:
            names = manifest.files(file.name, fingerprint)
            if names is None:
                names = list(_write(cells(), file, folder, column))
                manifest.record(file.name, fingerprint, names)
    rows: list[list[str]] = []
    for name in names:
        if int(Path(name).stem.split("_")[0]) > len(rows):
            rows.append([])
        rows[-1].append(str(folder / name))
    return rows


def paired(
    file: Path, records: Sequence[Record], pictures: Sequence[list[str]]
) -> list[tuple[Record, list[str]]]:
    """Each row with its pictures.

    Raises
    ------
    SpacerError
        If there are more of one than of the other: a part of the file is lost.
    """
    if len(records) != len(pictures):
        raise SpacerError(
            f"{file}: pictures",
            kind="benchmarks.pictures-lost",
            got=f"those of {len(pictures)} rows",
            expected=f"those of {len(records)} rows",
            remedy="download it again",
        )
    return list(zip(records, pictures, strict=True))


def parquet_cells(
    file: Path, columns: Sequence[str], expected: Iterable[str]
) -> Iterator[list[Any]]:
    """The picture columns of a Parquet file, a list per row without the empty ones.

    Raises
    ------
    SpacerError
        If none of ``columns`` is there; ``expected`` names the others for the message.
    """
    with whole_table(file), pq.ParquetFile(file) as table:
        there = [name for name in columns if name in table.schema_arrow.names]
        if not there:
            raise SpacerError(
                f"{file}: column {columns[0]} is missing",
                kind="benchmarks.missing-column",
                got=table.schema_arrow.names,
                expected=[columns[0], *expected],
                remedy="use the file as it is published",
            )
        for batch in table.iter_batches(64, columns=there):
            lists = (batch[name].to_pylist() for name in there)
            for values in zip(*lists, strict=True):
                yield [value for value in values if value is not None]


def tsv_cells(file: Path, column: str = "image") -> Iterator[Any]:
    """The base64 texts of a TSV column, row by row."""
    for batch in separated_batches(file, "\t", only=[column]):
        yield from batch[column].to_pylist()


def _write(
    cells: Iterable[Any], file: Path, folder: Path, column: str
) -> Iterator[str]:
    """Yield the names of the pictures, relative to ``folder``, as they are written."""
    for number, value in enumerate(cells, start=1):
        found = _bytes(value)
        for index, data in enumerate(found or [b""]):
            if not data.startswith(tuple(_MAGIC)):
                raise SpacerError(
                    f"{file} row {number}: column {column}",
                    kind="benchmarks.not-a-picture",
                    got=repr(data)[:40],
                    expected="PNG or JPEG pictures, as bytes or in base64",
                )
            (suffix,) = (_MAGIC[mark] for mark in _MAGIC if data.startswith(mark))
            name = f"{file.stem}/{number}_{index}{suffix}"
            with atomic_path(folder / name) as temporary:
                temporary.write_bytes(data)
            yield name


def _bytes(value: Any) -> list[bytes]:
    """Every picture of a cell; ``b""`` for what is none."""
    if isinstance(value, str) and value.startswith("["):
        value = _json_list(value)
    if isinstance(value, list):
        return [data for part in value for data in _bytes(part)]
    if isinstance(value, dict):
        value = value.get("bytes")
    if isinstance(value, str):
        try:
            return [base64.b64decode(value, validate=True)]
        except (binascii.Error, ValueError):
            return [b""]
    return [value if isinstance(value, bytes) else b""]


def _json_list(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return None
