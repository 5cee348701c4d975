"""Damage the project's own files at random and read them: every reader must refuse.

Each file is a synthetic one with one to three random changes. A reader returns a value
or raises ``SpacerError``; anything else is counted as a traceback.

    python -m benches.readers [FILES] [SEED]
"""

import csv
import functools
import importlib
import re
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plyfile

from spacer_lib.artifacts import (
    PROJECT_ROOT,
    PathLike,
    read_json,
    write_json,
    write_jsonl,
)
from spacer_lib.benchmarks import named
from spacer_lib.benchmarks.vsi import read_rows as vsi_rows
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.foreign import read_predictions
from spacer_lib.questions.general_sample import synthetic_general
from spacer_lib.questions.generators import question_rows
from spacer_lib.questions.mixture import read_video_r1
from spacer_lib.rewards.config import PRESETS
from spacer_lib.rewards.files import score_files
from spacer_lib.rooms.damage import BrokenFrames
from spacer_lib.rooms.scannet.frames2d import read_frame_numbers, read_instance_frames
from spacer_lib.rooms.scannet.labels import read_labels
from spacer_lib.rooms.scannet.parse import (
    AGGREGATION,
    INSTANCES_2D,
    MESH,
    RECORDING,
    SEGMENTS,
    TEXT,
    read_alignment,
    read_groups,
    read_vertices,
)
from spacer_lib.rooms.scannet.sens import FRAME, HEADER, OPENING, SensReader
from spacer_lib.rooms.scans import LABELS, synthetic_meta, synthetic_scans, try_scenes
from spacer_lib.rows import QuestionWriter, read_questions

Rng = np.random.Generator
KEPT_VERTICES, KEPT_FRAMES = 1500, 6
SAMPLES = ("general", "images", "spatial")  # modules of tests/samples
TABLES = {".parquet", ".jsonl", ".json", ".tsv", ".csv"}
VSI_ROWS = [
    {
        "id": n,
        "dataset": "scannet",
        "scene_name": f"scene0{n:03}_00",
        "question_type": "object_counting" if n % 2 else "object_rel_distance",
        "question": "How many chairs are in this room?",
        "ground_truth": str(n) if n % 2 else "B",
        "options": None if n % 2 else ["A. table", "B. sofa"],
    }
    for n in range(20)
]

# What may stand in the place of a value of a text file.
_WORDS = (
    'NaN Infinity -Infinity 1e999 1e308 -1 0 1.5 null true {} [] [1] {"a":1} "" '
    '"x" 4294967296 18446744073709551616 -9223372036854775809'
).split()
_LONG = ("1" * 5000, "[" * 100_000, '"' + "x" * 200_000 + '"', '{"a":' * 50_000)
_VALUE = re.compile(rb'-?\d[\d.eE+-]*|"[^"\n]{0,80}"|true|false|null')
_MARKS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32")


def damaged(data: bytes, rng: Rng, *, text: bool) -> bytes:
    """``data`` with one to three random changes."""
    for _ in range(int(rng.integers(1, 4))):
        change = _change_text if text and rng.random() < 0.7 else _change_bytes
        data = change(data, rng)
    return data


def _change_bytes(data: bytes, rng: Rng) -> bytes:
    at = int(rng.integers(0, len(data) + 1))
    span = int(2 ** rng.integers(0, 8))
    rest = data[at + span :]
    kind = int(rng.integers(0, 8))
    if kind == 0:  # a bit
        flipped = bytes(b ^ (1 << int(rng.integers(0, 8))) for b in data[at : at + 1])
        return data[:at] + flipped + data[at + 1 :]
    if kind == 1:  # cut off
        return data[:at]
    if kind == 2:  # lost
        return data[:at] + rest
    if kind == 3:  # twice
        return data[: at + span] + data[at:]
    if kind == 4:  # noise
        return data[:at] + rng.bytes(span) + rest
    if kind == 5:  # a run of one value
        return data[:at] + bytes([int(rng.choice([0, 255]))]) * span + rest
    if kind == 6:  # an extreme number
        number = int(rng.choice([-1, 0, 1, 2**31 - 1, -(2**31), 2**62]))
        packed = struct.pack("<q", number)[: int(rng.choice([2, 4, 8]))]
        return data[:at] + packed + data[at + len(packed) :]
    return data[:at] + rng.bytes(span) + data[at:]


def _change_text(data: bytes, rng: Rng) -> bytes:
    kind = int(rng.integers(0, 10))
    if kind == 0:
        mark = str(rng.choice(_MARKS))
        return data.decode("utf-8", errors="replace").encode(mark)
    if kind == 1:  # lines in another order
        lines = data.split(b"\n")
        return b"\n".join(lines[i] for i in rng.permutation(len(lines)))
    values = list(_VALUE.finditer(data[:200_000]))
    if not values:
        return _change_bytes(data, rng)
    chosen = values[int(rng.integers(0, len(values)))]
    if kind == 2:  # another value of the file
        new = values[int(rng.integers(0, len(values)))][0]
    elif kind == 3:
        new = _LONG[int(rng.integers(0, len(_LONG)))].encode()
    else:
        new = _WORDS[int(rng.integers(0, len(_WORDS)))].encode()
    return data[: chosen.start()] + new + data[chosen.end() :]


@dataclass(frozen=True)
class Format:
    """A kind of file: a whole example, and what reads it."""

    name: str
    path: Path
    read: Callable[[], Any]
    text: bool = False


def formats(root: PathLike) -> list[Format]:
    """Write a whole file of each format below ``root``."""
    root = Path(root)
    (folder, *_), labels = synthetic_scans(root, 1, seed=3)
    _shorten(folder)
    vertices = len(read_vertices(folder)[0])
    scan = folder.name
    images = folder / f"{scan}{INSTANCES_2D}"
    meta = synthetic_meta(root / "meta.json", 2)
    scene = try_scenes(meta)[0][0]
    rows = question_rows(scene, 0, per_task=3)[0]
    with QuestionWriter(root / "train") as writer:
        writer.write(*rows[:20])
    general = synthetic_general(12, root / "general", seed=0)

    def groups() -> Any:
        return read_groups(folder, vertices)

    return [
        Format("aggregation", folder / f"{scan}{AGGREGATION}", groups, True),
        Format("segments", folder / f"{scan}{SEGMENTS}", groups, True),
        Format("text", folder / f"{scan}{TEXT}", lambda: read_alignment(folder), True),
        Format("labels", root / LABELS, lambda: read_labels(labels), True),
        Format("instances", images, lambda: _images(images)),
        Format("mesh", folder / f"{scan}{MESH}", lambda: read_vertices(folder)),
        Format("recording", path := folder / f"{scan}{RECORDING}", _recording(path)),
        Format("metadata", meta, lambda: _scenes(meta), True),
        Format("rows", p := root / "train.jsonl", _questions(p), True),
        Format("parquet", p := root / "train.parquet", _questions(p)),
        Format("general", general, lambda: read_video_r1(general), True),
    ]


def benchmark_formats(root: PathLike) -> list[Format]:
    """Write a small set of every benchmark below ``root``: a format for each table.

    The sets are those of the tests, which write them as they are published.
    """
    sys.path.insert(0, str(PROJECT_ROOT / "tests"))
    samples = [importlib.import_module(f"samples.{name}") for name in SAMPLES]
    found = []
    for name, write in (pair for one in samples for pair in one.WRITERS.items()):
        folder = write(Path(root) / name, videos=2)
        read = functools.partial(named(name).read, folder)
        paths = [p for p in sorted(folder.rglob("*.*")) if p.suffix in TABLES]
        for suffix, path in {p.suffix: p for p in paths if _is_read(p, read)}.items():
            is_text = suffix != ".parquet"
            found.append(Format(f"{name} {suffix[1:]}", path, read, is_text))
    for suffix in (".parquet", ".jsonl", ".json"):
        path = Path(root) / "vsi" / f"test{suffix}"
        _write_table(path, VSI_ROWS)
        read = functools.partial(vsi_rows, path)
        found.append(Format(f"vsi {suffix[1:]}", path, read, suffix != ".parquet"))
    return found


def _is_read(path: Path, read: Callable[[], Any]) -> bool:
    """Whether ``read`` reads a file: it refuses an empty one."""
    whole = path.read_bytes()
    path.write_bytes(b"")
    try:
        read()
    except SpacerError:
        return True
    finally:
        path.write_bytes(whole)
    return False


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".xlsx":
        table.to_excel(path, index=False)
    elif path.suffix in (".tsv", ".csv"):
        with path.open("w", newline="") as file:
            cells = csv.DictWriter(
                file, list(table), delimiter="\t" if path.suffix == ".tsv" else ","
            )
            cells.writeheader()
            cells.writerows(rows)
    elif path.suffix == ".json":
        write_json(path, rows)
    else:
        write_jsonl(path, rows)


def answer_formats(root: PathLike) -> list[Format]:
    """Answers of other systems, and questions and completions to be rewarded."""
    root, found = Path(root), []
    answers = [{"id": str(n), "prediction": f"{n} chairs, so {n}."} for n in range(30)]
    for suffix in ("csv", "tsv", "xlsx", "json", "jsonl", "parquet"):
        path = root / f"answers.{suffix}"
        _write_table(path, answers)
        is_text = suffix not in ("xlsx", "parquet")
        read = functools.partial(read_predictions, path)
        found.append(Format(f"answers {suffix}", path, read, is_text))
    items: list[dict[str, Any]] = [
        {
            "id": n,
            "problem_type": "numerical",
            "solution": f"<answer>{n}</answer>",
            "map": {"chair": [[n % 10, 3]]},
        }
        for n in range(10)
    ]
    text = '<think>a</think><map>{"chair": [[1, 3]]}</map><answer>3</answer>'
    drawn: list[dict[str, Any]] = [
        {"id": n, "completion": text, "completion_tokens": 9} for n in range(10)
    ]
    paths = root / "items.jsonl", root / "completions.jsonl"
    for path, rows in zip(paths, (items, drawn), strict=True):
        write_jsonl(path, rows)
        score = functools.partial(score_files, *paths, PRESETS["ours"])
        found.append(Format(path.stem, path, score, True))
    return found


def _shorten(folder: Path) -> None:
    """Keep few vertices and frames of a scan, so that it is read in milliseconds."""
    scan = folder.name
    path = folder / f"{scan}{MESH}"
    ply = plyfile.PlyData.read(path, mmap=False)
    vertex = ply["vertex"].data[:KEPT_VERTICES]
    faces = ply["face"].data
    faces = faces[[max(face[0]) < KEPT_VERTICES for face in faces]]
    parts = [("vertex", vertex), ("face", faces)]
    elements = [plyfile.PlyElement.describe(data, name) for name, data in parts]
    plyfile.PlyData(elements, byte_order="<").write(path)
    path = folder / f"{scan}{SEGMENTS}"
    content = read_json(path)
    kept = content["segIndices"][:KEPT_VERTICES]
    write_json(path, content | {"segIndices": kept}, indent=None)
    path, known = folder / f"{scan}{AGGREGATION}", set(kept)
    content = read_json(path)
    for group in content["segGroups"]:
        group["segments"] = [s for s in group["segments"] if s in known]
    write_json(path, content)
    path = folder / f"{scan}{INSTANCES_2D}"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()[:KEPT_FRAMES]
        members = {name: archive.read(name) for name in names}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    path = folder / f"{scan}{RECORDING}"
    data = path.read_bytes()
    start = OPENING.size + OPENING.unpack_from(data)[1]
    header, at = list(HEADER.unpack_from(data, start)), start + HEADER.size
    for _ in range(KEPT_FRAMES):
        at += FRAME.size + sum(FRAME.unpack_from(data, at)[18:])
    header[-1], first = KEPT_FRAMES, start + HEADER.size
    path.write_bytes(data[:start] + HEADER.pack(*header) + data[first:at] + bytes(8))


def _images(path: Path) -> Any:
    broken = BrokenFrames(str(path), "instance images", len(read_frame_numbers(path)))
    return list(read_instance_frames(path, broken))


def _recording(path: Path) -> Callable[[], Any]:
    def read() -> Any:
        with SensReader(path) as reader:
            return [f.depth_m() if reader.has_depth else f.jpeg for f in reader]

    return read


def _questions(path: Path) -> Callable[[], Any]:
    return lambda: read_questions(path)


def _scenes(path: Path) -> Any:
    """Scenes; a room that was refused counts as refused."""
    scenes, failures = try_scenes(path)
    if failures:
        raise next(iter(failures.values()))
    return scenes


@dataclass
class Tally:
    """What came of the damaged files of one format."""

    accepted: int = 0
    refused: int = 0
    tracebacks: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0


def read_damaged(kind: Format, files: int, seed: int = 0) -> Tally:
    """Read ``files`` damaged copies of a format's file; the whole file is put back."""
    whole, tally = kind.path.read_bytes(), Tally()
    kind.read()
    rng = np.random.default_rng([seed, *kind.name.encode()])
    pool = ThreadPoolExecutor(1)  # its futures hold errors of any type
    for _ in range(files):
        kind.path.write_bytes(damaged(whole, rng, text=kind.text))
        start = time.perf_counter()
        error = pool.submit(kind.read).exception()
        if error is None:
            tally.accepted += 1
        elif isinstance(error, SpacerError):
            tally.refused += 1
        else:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            tally.tracebacks[f"{type(error).__name__} in {where}"] += 1
        tally.slowest_s = max(tally.slowest_s, time.perf_counter() - start)
    pool.shutdown()
    kind.path.write_bytes(whole)
    return tally


def main(files: int = 1000, seed: int = 0) -> int:
    """Print a table; the number of tracebacks is the exit status, at most 1."""
    names = ("format", "files", "refused", "accepted", "tracebacks", "slowest s")
    print("| " + " | ".join(names) + " |\n|---|---:|---:|---:|---:|---:|")
    found = Counter[str]()
    with tempfile.TemporaryDirectory() as root:
        for kind in (
            *formats(Path(root) / "rooms"),
            *benchmark_formats(Path(root) / "benchmarks"),
            *answer_formats(Path(root) / "answers"),
        ):
            tally = read_damaged(kind, files, seed)
            found += Counter(
                {f"{kind.name}: {k}": n for k, n in tally.tracebacks.items()}
            )
            print(
                f"| {kind.name} | {files} | {tally.refused} | {tally.accepted} | "
                f"{tally.tracebacks.total()} | {tally.slowest_s:.2f} |",
                flush=True,
            )
    for name, count in found.most_common():
        print(f"{count} {name}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
