"""Files that are whole or absent: atomic writes, journals, manifests, provenance."""

import codecs
import contextlib
import csv
import dataclasses
import errno
import fcntl
import functools
import hashlib
import json
import math
import os
import platform
import reprlib
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from spacer_lib.errors import SpacerError, remedy_for

PathLike = str | os.PathLike[str]

# The checkout: notebooks and the command line put their defaults below it, so that
# they work from any working directory.
PROJECT_ROOT = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it onto ``path`` on success.

    The suffix is kept (encoders choose the format by it). On any exception the
    temporary file is removed and ``path`` stays as it was.

    Raises
    ------
    SpacerError
        If the folder cannot be made or written.
    """
    path = Path(path)
    make_folder(path.parent)
    try:
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix
        )
    except OSError as error:
        raise _unwritable(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        with naming(path, temporary):
            yield temporary
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: PathLike, temporary: Path | None = None) -> Iterator[None]:
    """Put the name of a file or folder into errors of writing, which often lack it."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
        if (error.filename is None and full) or error.filename == str(temporary):
            error.filename = str(path)
        raise


def _unwritable(path: Path, error: OSError) -> SpacerError:
    return SpacerError(
        f"cannot write {path}",
        kind="artifacts.unwritable",
        got=error.strerror,
        expected="a writable folder",
        remedy=remedy_for(error),
    )


def make_folder(path: PathLike) -> Path:
    """Create ``path`` (and parents) and return it as a ``Path``."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpacerError(
            f"cannot create folder {path}",
            kind="artifacts.unwritable",
            got=error.strerror,
            expected="a writable parent folder",
            remedy=remedy_for(error),
        ) from error
    return path


@contextlib.contextmanager
def sole_writer(folder: PathLike) -> Iterator[None]:
    """Hold a run's folder against a second run; the lock ends with the process.

    The lock is a hidden file beside the folder, since a folder may be moved away.

    Raises
    ------
    SpacerError
        If another process holds it.
    """
    folder = Path(folder).absolute()
    make_folder(folder.parent)
    lock = folder.parent / f".{folder.name}.lock"
    try:
        file = open(lock, "w")
    except OSError as error:
        raise _unwritable(lock, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink == 0:  # released a moment ago
                raise BlockingIOError
        except BlockingIOError as error:
            raise SpacerError(
                f"{folder} is in use",
                kind="artifacts.folder-in-use",
                got="another run that writes it",
                remedy="wait for it, or choose another --out",
            ) from error
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)  # while it is held


def write_text(path: PathLike, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def to_jsonable(value: Any) -> Any:
    """Dataclasses, arrays, paths and tuples as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_jsonable(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    return value


def write_json(path: PathLike, value: Any, indent: int | None = 1) -> None:
    """Write one JSON value atomically; see ``to_jsonable`` for what it may hold."""
    write_text(path, json.dumps(to_jsonable(value), indent=indent) + "\n")


class RepeatedKeys(dict[str, Any]):
    """A JSON object that has a key twice; ``repeated`` are these keys."""

    repeated: tuple[str, ...] = ()


def _marked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) == len(pairs):
        return plain
    marked = RepeatedKeys(plain)
    counts = Counter(key for key, _ in pairs)
    marked.repeated = tuple(key for key, count in counts.items() if count > 1)
    return marked


def parse_json(text: str | bytes) -> Any:
    """A JSON text's value.

    Raises
    ------
    ValueError
        If it is no JSON: also for nesting too deep to read, and for numbers of more
        digits than Python converts.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("too many brackets inside one another") from error


def read_record(path: PathLike, *names: str) -> dict[str, Any]:
    """The object of a JSON file that a command of the project wrote.

    Raises
    ------
    SpacerError
        As ``read_json``, and if it is no object or lacks one of ``names``.
    """
    record = read_json(path)
    if not isinstance(record, dict) or not set(names) <= set(record):
        raise SpacerError(
            path,
            kind="artifacts.wrong-record",
            got=reprlib.repr(record),
            expected=f"an object with {', '.join(names) or 'names'}",
            remedy="remove the file, and run the command that writes it again",
        )
    return record


def read_json(path: PathLike, *, mark_repeated: bool = False) -> Any:
    """Read one JSON file: UTF-8, 16 or 32, with or without a byte-order mark.

    Parameters
    ----------
    path : path
    mark_repeated : bool
        Return ``RepeatedKeys`` for an object that has a key twice. Without it the last
        value counts.

    Raises
    ------
    SpacerError
        If it is missing, cannot be read or is not JSON: also for nesting too deep to
        read and numbers of more digits than Python converts.
    """
    hook = _marked if mark_repeated else None
    try:
        return json.loads(Path(path).read_bytes(), object_pairs_hook=hook)
    except OSError as error:
        raise _unreadable(path, error) from error
    # A ValueError is broken JSON, another encoding or a number of too many digits.
    except (ValueError, RecursionError) as error:
        raise SpacerError(
            f"{path} is not JSON",
            kind="artifacts.not-json",
            got=error,
            remedy="write or download it again",
        ) from error


# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def text_encoding(head: bytes) -> str:
    """The encoding of a text by its first 64 bytes.

    Without a byte-order mark the text is UTF-8, or UTF-16 if every other one of the
    bytes is 0.
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    head = head[:64]
    zeros = [head[k::2].count(0) / max(1, len(head[k::2])) for k in (0, 1)]
    if zeros[1] > 0.8:
        return "utf-16-le"
    return "utf-16-be" if zeros[0] > 0.8 else "utf-8"


def read_head(path: PathLike, count: int = 64) -> bytes:
    """The first bytes of a file.

    Raises
    ------
    SpacerError
        If it is missing or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: PathLike, error: OSError) -> SpacerError:
    if isinstance(error, FileNotFoundError):
        return SpacerError(
            f"{path} is missing",
            kind="artifacts.missing",
            remedy="run the step that writes it, or correct the path",
        )
    return SpacerError(
        f"{path} cannot be read",
        kind="artifacts.unreadable",
        got=error.strerror,
        remedy=remedy_for(error),
    )


def read_parquet(
    path: PathLike, columns: Callable[[list[str]], list[str]] | None = None
) -> list[dict[str, Any]]:
    """Rows of a Parquet file.

    Parameters
    ----------
    path : path
    columns : callable, optional
        Takes the names of the file's columns and returns those to read.

    Raises
    ------
    SpacerError
        If the file is missing, cannot be read or is damaged.
    """
    import pyarrow.parquet

    read_head(path)
    with whole_table(path), pyarrow.parquet.ParquetFile(path) as file:
        names = columns(file.schema_arrow.names) if columns else None
        rows: list[dict[str, Any]] = file.read(names).to_pylist()
    return rows


@contextlib.contextmanager
def whole_table(path: PathLike, what: str = "Parquet") -> Iterator[None]:
    """Word what pyarrow and csv raise while a damaged table is read.

    Raises
    ------
    SpacerError
        Of the kind ``artifacts.not-parquet``, or of another ``what`` in lower case.
    """
    import pyarrow

    try:
        yield
    # Values of a damaged file fail in their conversion: bad UTF-8, dates out of range.
    except (
        pyarrow.ArrowException,
        csv.Error,
        OSError,
        ValueError,
        TypeError,
        OverflowError,
        MemoryError,
    ) as error:
        lines = str(error).strip().splitlines()
        raise SpacerError(
            f"{path} cannot be read",
            kind=f"artifacts.not-{what.lower()}",
            got=lines[0][:200] if lines else type(error).__name__,
            expected=f"a whole {what} file",
            remedy="write or download it again",
        ) from error


def write_jsonl(path: PathLike, rows: Iterable[Any]) -> None:
    """Write rows as JSON lines atomically."""
    lines = [json.dumps(to_jsonable(row), separators=(",", ":")) for row in rows]
    write_text(path, "".join(line + "\n" for line in lines))


def json_lines(
    path: PathLike, *, objects: bool = True, whole_lines: bool = False
) -> Iterator[tuple[str, Any]]:
    """Yield (``"<path> line <n>"``, value) for each line that is not blank.

    The text may be UTF-8, 16 or 32, with or without a byte-order mark.

    Parameters
    ----------
    path
        JSON lines.
    objects
        Refuse a line that is no JSON object.
    whole_lines
        Leave out a last line without an end: a writer was interrupted in it.

    Raises
    ------
    SpacerError
        For a file that cannot be read and a line that is no JSON, named.
    """
    line, encoding = str(path), text_encoding(read_head(path))
    try:
        with open(path, encoding=encoding) as file:
            for number, text in enumerate(file, start=1):
                line = f"{path} line {number}"
                if not text.strip() or (whole_lines and not text.endswith("\n")):
                    continue
                row = json.loads(text)
                if objects and not isinstance(row, dict):
                    raise SpacerError(
                        line,
                        kind="artifacts.no-object",
                        got=text.strip()[:60],
                        expected="a JSON object",
                    )
                yield line, row
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise SpacerError(
            f"{line} is not JSON", kind="artifacts.not-json", got=error
        ) from error


def read_jsonl(path: PathLike) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; see ``json_lines``."""
    return [row for _, row in json_lines(path)]


def append_jsonl(path: PathLike, rows: Iterable[Any], *, sync: bool = False) -> None:
    """Append rows at once, so that a reader never sees half a line of an old one.

    ``sync=True`` returns when they are on the disk, not in a buffer of the system.
    """
    lines = [json.dumps(_finite(row), separators=(",", ":")) + "\n" for row in rows]
    with naming(path), open(path, "a", encoding="utf-8") as file:
        file.write("".join(lines))
        if sync:
            file.flush()
            os.fsync(file.fileno())


def read_journal(path: PathLike) -> list[dict[str, Any]]:
    """Rows of a file that ``append_jsonl`` writes; a last line cut off is no row."""
    return [row for _, row in json_lines(path, whole_lines=True)]


def resume_journal(path: PathLike) -> list[dict[str, Any]]:
    """Rows to continue from, none without a file; a last line cut off is removed."""
    path = Path(path)
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))
    return read_jsonl(path)


def _finite(value: Any) -> Any:
    """NaN (a component that applied to no row) → null, which is JSON."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def config_hash(value: Any) -> str:
    """Twelve hex digits that change when any part of ``value`` changes."""
    text = json.dumps(to_jsonable(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.cache
def commit() -> str:
    """The checkout's commit (with ``-dirty`` when files differ), or ``unknown``."""
    git = [
        "git",
        "-C",
        str(PROJECT_ROOT),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


PACKAGES = ("torch", "transformers", "trl", "accelerate", "deepspeed", "open3d")


def provenance(**extra: Any) -> dict[str, Any]:
    """Commit, interpreter and package versions, plus whatever is passed in."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "packages": versions,
        **extra,
    }


class Manifest:
    """What an output folder has finished: ``manifest.json``, written atomically.

    An interrupted run skips the keys that ``done`` reports. Used as a context manager,
    a manifest is written at most once a second and when the block ends, also by an
    error. Entries are sorted: the file does not depend on which worker ended first.
    """

    def __init__(self, folder: PathLike) -> None:
        self.folder = Path(folder)
        self.path = self.folder / "manifest.json"
        self.entries: dict[str, Any] = {}
        if self.path.exists():
            self.entries = read_record(self.path, "entries")["entries"]
        self._saved, self._dirty = 0.0, False

    def __enter__(self) -> "Manifest":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._dirty:
            self._save()

    def done(self, key: str, fingerprint: Any) -> bool:
        """Whether ``key`` was recorded with this fingerprint and its files exist."""
        entry = self.entries.get(key)
        return (
            entry is not None
            and entry["fingerprint"] == fingerprint
            and all((self.folder / name).exists() for name in entry["files"])
        )

    def record(self, key: str, fingerprint: Any, files: Iterable[str]) -> None:
        """Record ``key`` and its files, named relative to the folder."""
        self.entries[key] = {"fingerprint": fingerprint, "files": list(files)}
        self._dirty = True
        if time.monotonic() - self._saved > 1:
            self._save()

    def _save(self) -> None:
        entries = dict(sorted(self.entries.items()))
        write_json(self.path, {"provenance": provenance(), "entries": entries})
        self._saved, self._dirty = time.monotonic(), False
