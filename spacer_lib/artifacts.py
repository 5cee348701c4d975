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
import re
import reprlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from spacer_lib.errors import SpacerError, remedy_for

PathLike = str | os.PathLike[str]

# The checkout: notebooks and the command line put their defaults below it, so that
# they work from any working directory.
PROJECT_ROOT = Path(__file__).resolve().parents[1]


# ---------------------------------------------------------------- temporary names


# Begins the name of everything that is not finished, and of locks; nothing reads it.
HIDDEN = ".spacer-"
_TEMPORARY = HIDDEN + "tmp."
_NAMED = re.compile(re.escape(_TEMPORARY) + r"(?P<pid>\d+)\.(?P<host>[\w-]+)\.")
# Whether a writer on another machine lives cannot be seen: after two weeks without a
# change it counts as dead.
FORGOTTEN_S = 14 * 86_400
_SWEEP_EVERY_S = 60
_swept: dict[str, float] = {}  # folder: when this process swept it


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is a writer's own: unfinished, or a lock.

    Examples
    --------
    >>> is_temporary(".spacer-tmp.12.host-0.ab12cd34.a.json"), is_temporary("a.json")
    (True, False)
    """
    return name.startswith(HIDDEN)


def listing(folder: PathLike, pattern: str = "*", *, deep: bool = False) -> list[Path]:
    """The files and folders in a folder, sorted, without those that are temporary.

    Parameters
    ----------
    folder : path
        A missing one is empty.
    pattern : str
        Of ``Path.glob``.
    deep : bool
        Include folders below it.
    """
    folder = Path(folder)
    found = folder.rglob(pattern) if deep else folder.glob(pattern)
    return sorted(
        path
        for path in found
        if not any(map(is_temporary, path.relative_to(folder).parts))
    )


@functools.cache
def _host() -> str:
    """This machine; a container with process numbers of its own is another one."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        space = 0
    return re.sub(r"[^\w-]", "-", socket.gethostname(), flags=re.ASCII) + f"-{space:x}"


def sweep(folder: PathLike, *, deep: bool = False) -> None:
    """Remove what dead writers left in a folder.

    A writer of this machine is dead if its process has ended. One of another machine
    counts as dead ``FORGOTTEN_S`` seconds after the last change. What a live writer has
    is never touched, and neither is what cannot be removed.

    Parameters
    ----------
    folder : path
        A missing one is empty.
    deep : bool
        Include folders below it.
    """
    for place, folders, files in os.walk(folder):
        for name in [name for name in (*folders, *files) if is_temporary(name)]:
            if _is_dead(Path(place, name)):
                _remove(Path(place, name))
        if not deep:
            break
        folders[:] = [name for name in folders if not is_temporary(name)]


def _sweep_at_times(folder: Path) -> None:
    """``sweep`` at most once a minute: a writer may add thousands of files."""
    now, key = time.monotonic(), os.path.abspath(folder)
    if now - _swept.get(key, -math.inf) > _SWEEP_EVERY_S:
        _swept[key] = now
        sweep(folder)


def _is_dead(path: Path) -> bool:
    """Whether the writer that a temporary name tells of has ended."""
    import psutil

    named = _NAMED.match(path.name)
    if named is None:  # a lock
        return False
    try:
        changed = path.lstat().st_ctime
    except OSError:
        return False
    if named["host"] != _host():
        return time.time() - changed > FORGOTTEN_S
    try:
        process = psutil.Process(int(named["pid"]))
        # A process that began after the last change is another one of that number.
        return bool(
            process.status() == psutil.STATUS_ZOMBIE
            or process.create_time() > changed + 60
        )
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def _remove(path: Path) -> None:
    """Remove a file or folder that nobody uses, as far as that is allowed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _new_temporary(path: Path, *, folder: bool = False) -> Path:
    """A new temporary file or folder beside ``path``, with its suffix."""
    make_folder(path.parent)
    _sweep_at_times(path.parent)
    suffix = f".{path.stem[:24]}{path.suffix}"
    prefix = f"{_TEMPORARY}{os.getpid()}.{_host()}."
    try:
        if folder:
            return Path(tempfile.mkdtemp(suffix, prefix, path.parent))
        handle, name = tempfile.mkstemp(suffix, prefix, path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    os.close(handle)
    return Path(name)


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it onto ``path`` on success.

    The suffix is kept (encoders choose the format by it). The file is on the disk
    before the rename, and the rename before this returns. On any exception the
    temporary file is removed and ``path`` stays as it was.

    Raises
    ------
    SpacerError
        If the folder cannot be made or written.
    """
    path = Path(path)
    temporary = _new_temporary(path)
    try:
        with naming(path, temporary):
            yield temporary
            os.chmod(temporary, 0o644)
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
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


@contextlib.contextmanager
def atomic_folder(folder: PathLike) -> Iterator[Path]:
    """``atomic_path`` of a folder: yield a temporary one, which then replaces it.

    Raises
    ------
    SpacerError
        If the folder around it cannot be made or written.
    """
    folder = Path(folder)
    temporary = _new_temporary(folder, folder=True)
    try:
        with naming(folder, temporary):
            yield temporary
            temporary.chmod(0o755)
            sync_tree(temporary)
            move_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for the time of the block, in the system's folder for such files."""
    folder = _new_temporary(Path(tempfile.gettempdir(), "scratch"), folder=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_folder(folder: PathLike, target: PathLike) -> None:
    """Rename a folder; one that has the new name is removed.

    Stopped at any moment, this leaves no folder that is half removed under its name.
    """
    folder, target = Path(folder), Path(target)
    old = _set_aside(target)
    os.replace(folder, target)
    _sync(target.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def remove_folder(folder: PathLike) -> None:
    """Remove a folder, if it exists; it loses its name before its first file."""
    old = _set_aside(Path(folder))
    if old is not None:
        _sync(old.parent)
        shutil.rmtree(old, ignore_errors=True)


def _set_aside(folder: Path) -> Path | None:
    """Rename a folder to a temporary name; ``None`` if it does not exist."""
    if not folder.exists():
        return None
    aside = _new_temporary(folder, folder=True)
    os.replace(folder, aside)  # onto an empty folder
    return aside


def sync_tree(folder: PathLike) -> None:
    """Return when all files and folders below ``folder`` are on the disk."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            _sync(Path(place, name))
        _sync(Path(place))


def _sync(path: Path) -> None:
    """Return when a file's content, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems cannot sync folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


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
    if path.is_dir():
        return path
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        for folder in new:
            _sync(folder.parent)
    except OSError as error:
        raise SpacerError(
            f"cannot create folder {path}",
            kind="artifacts.unwritable",
            got=error.strerror,
            expected="a writable parent folder",
            remedy=remedy_for(error),
        ) from error
    return path


# ---------------------------------------------------------------- one writer a folder


@contextlib.contextmanager
def sole_writer(folder: PathLike, *, wait: bool = False) -> Iterator[None]:
    """Hold an output folder, or one output file, against other writers.

    Every command that writes into a folder holds it like this. The lock is a hidden
    file beside the folder, since a folder may be moved away, or in it if only the
    folder may be written. The system releases it when the process ends, however it
    ends. What dead writers left in the folder is removed, at the start and at the end.

    Parameters
    ----------
    folder : path
    wait : bool
        Wait for another holder's end instead of refusing.

    Raises
    ------
    SpacerError
        If another process holds it, with its command, number, machine and start.
    """
    folder = Path(folder).absolute()
    place = make_folder(folder.parent)
    if folder.is_dir() and not os.access(place, os.W_OK):  # such as a mounted disk
        place = folder
    lock = place / f"{HIDDEN}lock.{folder.name}"
    with _locked(lock, folder, wait) as file:
        holder = {
            "command": " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])[:300],
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "start": datetime.now().astimezone().isoformat(" ", "seconds"),
        }
        try:
            file.truncate(0)  # of a holder that died
            file.write(json.dumps(holder))
            file.flush()
            sweep(folder, deep=True)
            yield
        finally:
            sweep(folder, deep=True)
            lock.unlink(missing_ok=True)  # while it is held


def _locked(lock: Path, folder: Path, wait: bool) -> TextIO:
    """The lock file, open and held; it is released when it is closed."""
    while True:
        try:
            file = open(lock, "a+", encoding="utf-8")
        except OSError as error:
            raise _unwritable(lock, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.fstat(file.fileno()).st_nlink:
                return file
            file.close()  # its holder released it a moment ago: it has no name now
        except BlockingIOError as error:
            with file:
                raise SpacerError(
                    f"{folder} is in use",
                    kind="artifacts.folder-in-use",
                    got=_holder(file),
                    remedy="wait for it, or choose another --out",
                ) from error
        except OSError as error:
            file.close()
            raise SpacerError(
                f"{folder} cannot be locked",
                kind="artifacts.no-locks",
                got=error.strerror,
                expected="a file system with flock",
                remedy="mount it with locks, or choose an --out on another one",
            ) from error


def _holder(file: TextIO) -> str:
    """Who holds a lock, as its file tells."""
    file.seek(0)
    try:
        said = json.loads(file.read())
        return (
            f"`{said['command']}`, process {said['pid']} on {said['host']}, "
            f"since {said['start']}"
        )
    except (ValueError, KeyError, TypeError):  # it has not written its name yet
        return "another process that writes it"


# ---------------------------------------------------------------- text and JSON


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


def file_sizes(folder: PathLike, names: Iterable[str]) -> dict[str, int]:
    """``{name: bytes}`` of files, named relative to a folder."""
    return {name: os.stat(Path(folder, name)).st_size for name in names}


def folder_sizes(folder: PathLike) -> dict[str, int]:
    """``file_sizes`` of all files in a folder and below it."""
    files = [path for path in listing(folder, deep=True) if path.is_file()]
    return file_sizes(folder, [path.relative_to(folder).as_posix() for path in files])


def are_whole(folder: PathLike, sizes: Mapping[str, int]) -> bool:
    """Whether files have the sizes of ``file_sizes``; any other record is refused."""
    try:
        return file_sizes(folder, sizes) == sizes
    except OSError:
        return False


class Manifest:
    """What an output folder has finished: ``manifest.json``, written atomically.

    An interrupted run skips the keys that ``done`` reports. Used as a context manager,
    a manifest is written at most once a second and when the block ends, also by an
    error. Entries are sorted: the file does not depend on which worker ended first.
    An entry's ``files`` are ``{name: bytes}``.
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
        """Whether ``key`` was recorded with this fingerprint, and its files are whole.

        A file that is absent or has another size than was recorded is not whole.
        """
        entry = self.entries.get(key)
        return (
            entry is not None
            and entry["fingerprint"] == fingerprint
            and are_whole(self.folder, entry["files"])
        )

    def files(self, key: str, fingerprint: Any) -> list[str] | None:
        """The files of ``key``, relative to the folder; ``None`` unless it is done."""
        done = self.done(key, fingerprint)
        return list(self.entries[key]["files"]) if done else None

    def record(self, key: str, fingerprint: Any, files: Iterable[str]) -> None:
        """Record ``key`` and its files, named relative to the folder."""
        sizes = file_sizes(self.folder, files)
        self.entries[key] = {"fingerprint": fingerprint, "files": sizes}
        self._dirty = True
        if time.monotonic() - self._saved > 1:
            self._save()

    def _save(self) -> None:
        entries = dict(sorted(self.entries.items()))
        write_json(self.path, {"provenance": provenance(), "entries": entries})
        self._saved, self._dirty = time.monotonic(), False
