"""The general part of SpaceR-151k: Video-R1-260k read, sampled and joined.

Raw rows (``problem_id``, ``problem``, ``data_type``, ``problem_type``, ``options``,
``solution``, ``path``, ``data_source``) become rows with the keys ``GENERAL_KEYS``. A
row that cannot be asked or scored is left out and counted under one of ``REASONS``.
``general_sample`` draws a small set in the same raw format for runs without downloads.

Departure from Video-R1: its reward gives 0 for a truth that it cannot read; here such
a row is never trained on.

Source: SpaceR §3; Video-R1 (arXiv 2503.21776).
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from spacer_lib.artifacts import (
    PathLike,
    json_lines,
    read_head,
    read_json,
    sole_writer,
    text_encoding,
    write_json,
    write_text,
)
from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import MAX_ANSWER_CHARS, labelled_options, true_letter
from spacer_lib.language.numbers import read_number
from spacer_lib.markup import markdown_table, markdown_text
from spacer_lib.questions.card import LICENCE, front_matter
from spacer_lib.rooms.identity import (
    benchmark_questions,
    question_room,
    require_no_benchmark_rooms,
)
from spacer_lib.rows import (
    JOINT_KEYS,
    MEDIA_KEYS,
    Question,
    QuestionWriter,
    read_questions,
)

GENERAL_KEYS = JOINT_KEYS[:-1]  # ``part`` is known in the joint set only
PROBLEM_TYPES = ("multiple choice", "numerical", "regression", "ocr", "free-form")
DATA_TYPES = ("image", "video")
REASONS = (
    "not an object",
    "no id",
    "id seen before",
    "no question",
    "unknown problem type",
    "unknown data type",
    "no solution",
    "no answer tag",
    "two answer tags",
    "empty answer",
    "answer too long",
    "fewer than two options",
    "answer not an option",
    "answer not a number",
    "no path",
    "path leaves the media root",
    "room of VSI-Bench",
    "media missing",
)
# A number without unit, fraction, formula or word, which Video-R1 reads as we do.
_PLAIN_NUMBER = re.compile(r"[-+−]?\.?[0-9](?:[0-9.,]*[0-9])?(?:[eE][-+]?[0-9]+)?")


class _Refusal(Exception):
    """Why a row is left out: one of ``REASONS``."""


def _check(holds: object, reason: str) -> None:
    if not holds:
        raise _Refusal(reason)


def read_video_r1(
    path: PathLike, media_root: PathLike | None = None
) -> tuple[list[Question], Counter[str]]:
    """``convert`` the rows of a file: a JSON array, or one object a line.

    The text may be UTF-8, 16 or 32, with or without a byte-order mark.

    Lines are streamed. An array, as published, is read whole: its 263,071 rows take
    about a gigabyte of memory.

    Raises
    ------
    SpacerError
        If the file or the media root is missing, or the file is empty or not JSON.
    """
    return convert(_raw_rows(path), media_root)


def _raw_rows(path: PathLike) -> Iterator[Any]:
    head = read_head(path)
    text = head.decode(text_encoding(head), errors="replace")
    if text.lstrip().startswith("["):
        yield from read_json(path)
        return
    empty = True
    for _, raw in json_lines(path, objects=False):
        empty = False
        yield raw
    if empty:
        raise SpacerError(
            f"{path} is empty",
            kind="questions.general-empty",
            expected="a file like Video-R1-260k.json",
            remedy="download it again",
        )


def convert(
    raws: Iterable[Any], media_root: PathLike | None = None
) -> tuple[list[Question], Counter[str]]:
    """Video-R1's raw rows as ours. Unusable rows are counted and raise no error.

    Ids become ``video-r1:<problem_id>`` (``2.0`` is 2), question types
    ``general_multiple_choice`` and so on, options ``A. text``, the truth of a multiple
    choice its letter. There is no scene and no map.

    Parameters
    ----------
    raws : iterable
        JSON values.
    media_root : path, optional
        The folder that holds ``Math``, ``OCR`` and so on. If given, paths begin with it
        and files must exist; otherwise paths are relative to it and not checked.
        ``./Math/x.png``, ``/Math/x.png`` and ``Math/x.png`` are one path.

    Returns
    -------
    rows : list of Question
        With the keys ``GENERAL_KEYS``.
    refused : Counter
        Reason, one of ``REASONS`` → count.

    Raises
    ------
    SpacerError
        If the media root is no folder.
    """
    if media_root is not None and not os.path.isdir(media_root):
        raise SpacerError(
            f"media root {media_root}",
            kind="questions.no-media-root",
            got="no such folder",
            remedy="unpack Video-R1's archives there, or name the folder they are in",
        )
    rows, refused, seen = [], Counter[str](), set()
    for raw in raws:
        try:
            row = _row(raw, media_root)
            _check(row["id"] not in seen, "id seen before")
        except _Refusal as refusal:
            refused[str(refusal)] += 1
            continue
        seen.add(row["id"])
        rows.append(row)
    return rows, refused


def _row(raw: Any, media_root: PathLike | None) -> Question:
    if not isinstance(raw, dict):
        raise _Refusal("not an object")
    identity = _identity(raw.get("problem_id"))
    question = _text(raw.get("problem"))
    _check(question, "no question")
    kind = _text(raw.get("problem_type")).lower()
    _check(kind in PROBLEM_TYPES, "unknown problem type")
    medium = _text(raw.get("data_type")).lower()
    _check(medium in DATA_TYPES, "unknown data type")
    path = _text(raw.get("path"))
    shown = question_room({**raw, "dataset": "video-r1"})
    _check(shown is None, "room of VSI-Bench")
    options, answer = None, _answer(raw.get("solution"))
    if kind == "multiple choice":
        options, answer = _choice(raw.get("options"), answer)
    elif kind in ("numerical", "regression"):
        plain = _PLAIN_NUMBER.fullmatch(answer) and read_number(answer)[0] is not None
        _check(plain, "answer not a number")
    spatial = raw.get("data_source") == "SR_dataset"  # SpaceR's rows
    row: Question = {
        "id": f"{'spacer' if spatial else 'video-r1'}:{identity}",
        "dataset": "scannet" if spatial else "video-r1",
        "scene_name": PurePosixPath(path).stem if spatial else None,
        "question_type": "general_" + re.sub(r"\W", "_", kind),
        "problem_type": kind,
        "question": question,
        "options": options,
        "ground_truth": answer,
        "categories": [],
        "map": None,
        "video": None,
        "image": None,
        "data_type": medium,
        "source": _text(raw.get("data_source")) or None,
    }
    if medium == "image":
        row["image"] = _locate(path, media_root)
    else:
        row["video"] = _locate(path, media_root)
    return row


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _identity(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 2.0: pandas makes floats of a column with gaps
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    _check(_text(value), "no id")
    return _text(value)


def _answer(solution: Any) -> str:
    """The text between the answer tags."""
    _check(_text(solution), "no solution")
    once = max(map(solution.count, ("<answer>", "</answer>"))) < 2
    _check(once, "two answer tags")
    found = re.search("<answer>(.*)</answer>", solution, re.DOTALL)
    if found is None:
        raise _Refusal("no answer tag")
    answer = found[1].strip()
    _check(answer, "empty answer")
    _check(len(answer) <= MAX_ANSWER_CHARS, "answer too long")
    return answer


def _choice(options: Any, answer: str) -> tuple[list[str], str]:
    """Options as ``A. text``, and the letter of the right one."""
    readable = isinstance(options, list) and all(map(_text, options))
    _check(readable and 2 <= len(options) <= 26, "fewer than two options")
    # "A" alone is an option without a text, as of a figure with letters in it.
    options = [re.sub(r"^\s*([A-Z])\s*$", r"\1.", option) for option in options]
    letter = true_letter(answer, options)
    if letter is None:
        raise _Refusal("answer not an option")
    texts = labelled_options(options)
    return [f"{label}. {text}".strip() for label, text in texts.items()], letter


def _locate(path: str, media_root: PathLike | None) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    _check(parts, "no path")
    _check(".." not in parts, "path leaves the media root")
    if media_root is None:
        return "/".join(parts)
    file = os.path.join(media_root, *parts)
    _check(os.path.isfile(file), "media missing")
    return file


def report(
    rows: Sequence[Question], refused: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Counts of rows, as JSON values.

    Returns
    -------
    dict
        ``rows``: their number; ``part``, ``question_type``, ``problem_type``,
        ``data_type`` and ``source``: ``{value: count}`` of the rows that have one;
        ``refused``: ``{reason: count}``.
    """
    counts: dict[str, Any] = {"rows": len(rows)}
    for key in ("part", "question_type", "problem_type", "data_type", "source"):
        values = Counter(str(row[key]) for row in rows if row.get(key) is not None)
        counts[key] = dict(sorted(values.items()))
    return {**counts, "refused": dict(sorted((refused or {}).items()))}


def sample_uniform(rows: Iterable[Question], total: int, seed: int) -> list[Question]:
    """Draw ``total`` rows, as evenly over the problem types as these allow.

    A type with fewer rows than an equal share gives all it has, and the others share
    the rest. Of rows with the same question, options and media only the first by id
    counts. The order of the rows does not matter.

    Returns
    -------
    list of Question
        Sorted by id.

    Raises
    ------
    SpacerError
        If ids repeat, or there are fewer than ``total`` distinct rows.

    Source: SpaceR §3, "uniformly sample 60,000 diverse QA instances". The paper does
    not say over what. Over the types is our reading: over rows, two thirds would be
    multiple choice and 2% regression.
    """
    distinct: dict[tuple, Question] = {}
    for row in _by_id(rows):
        media = row.get("video") or row.get("image")
        distinct.setdefault((row["question"], str(row["options"]), str(media)), row)
    if not 0 <= total <= len(distinct):
        raise SpacerError(
            "general questions to draw",
            kind="questions.too-few-general",
            got=f"{total} of {len(distinct)} distinct ones",
            expected="0 to all of them",
            remedy="lower the total, or read more rows",
        )
    groups: dict[str, list[Question]] = {}
    for row in distinct.values():
        groups.setdefault(row["problem_type"], []).append(row)
    drawn: list[Question] = []
    # The rarest type first: the others make up for what it lacks.
    for kind in sorted(groups, key=lambda kind: (len(groups[kind]), kind)):
        group = groups.pop(kind)
        share = min(len(group), (total - len(drawn)) // (len(groups) + 1))
        rng = np.random.default_rng([seed, *kind.encode()])
        drawn += [group[i] for i in rng.permutation(len(group))[:share]]
    return _by_id(drawn)


def _by_id(rows: Iterable[Question]) -> list[Question]:
    rows = sorted(rows, key=lambda row: row["id"])
    counts = Counter(row["id"] for row in rows)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise SpacerError(
            "question ids repeat",
            kind="questions.repeated-id",
            got=f"{len(repeated)} ids, first {repeated[0]}",
            expected="every id once",
            remedy="read each file once",
        )
    return rows


def joint_set(
    spatial_rows: Iterable[Question], general_rows: Iterable[Question], seed: int
) -> tuple[list[Question], dict[str, Any]]:
    """Both parts as one shuffled training set, like SpaceR-151k.

    Parameters
    ----------
    spatial_rows, general_rows : iterable of Question
        As ``build`` writes them and as ``sample_uniform`` draws them.
    seed : int

    Returns
    -------
    rows : list of Question
        With the keys ``JOINT_KEYS``; their order depends on ids and seed alone.
    counts : dict
        The ``report`` of the rows.

    Raises
    ------
    SpacerError
        If an id repeats, in a part or between the two.

    Source: SpaceR §3: 91k spatial and 60k general rows, 151,310 in all.
    """
    rows = [_joint_row(row, "spatial") for row in spatial_rows]
    rows += [_joint_row(row, "general") for row in general_rows]
    rows = _by_id(rows)
    order = np.random.default_rng([seed, *b"joint"]).permutation(len(rows))
    rows = [rows[i] for i in order]
    return rows, report(rows)


def _joint_row(row: Question, part: str) -> Question:
    """The row with all ``JOINT_KEYS``. A spatial one shows a video of its data set."""
    joint: Any = {**dict.fromkeys(JOINT_KEYS), "data_type": "video"}
    joint |= {"source": row.get("dataset"), **row, "part": part}
    return joint


def write_joint(
    spatial_folder: PathLike,
    general_path: PathLike,
    out_dir: PathLike,
    *,
    media_root: PathLike | None = None,
    total: int = 60_000,
    seed: int = 0,
    allow_datasets: Iterable[str] = (),
) -> dict[str, Any]:
    """Join a question set with general questions in a folder like SpaceR-151k's.

    Writes ``train.jsonl``, ``train.parquet``, ``report.json`` and a card. Videos and
    images are named relative to ``out_dir``.

    Parameters
    ----------
    spatial_folder : path
        As ``build`` writes it; its part ``train`` is used.
    general_path : path
        Video-R1's JSON; see ``read_video_r1``.
    out_dir, media_root : path
    total : int
        General questions wanted; all usable ones if there are fewer.
    seed : int
    allow_datasets : iterable of str
        Data sets whose rooms only share names with VSI-Bench's.

    Returns
    -------
    dict
        ``report`` of the joint rows, with ``wanted`` (general questions), ``sources``
        (``{source: {usable, used}}`` of the general rows), ``refused`` and ``seed``.

    Raises
    ------
    SpacerError
        If a spatial question shows a room of VSI-Bench, general questions are wanted
        and none is usable, ids repeat, or a file cannot be read.
    """
    spatial_folder, out_dir = Path(spatial_folder), Path(out_dir)
    spatial = read_questions(spatial_folder / "train.jsonl")
    require_no_benchmark_rooms(
        f"{spatial_folder}/train.jsonl",
        benchmark_questions(spatial, allow_datasets),
        "make the questions again with `spacer qa --drop-held-out`",
    )
    general, refused = read_video_r1(general_path, media_root)
    if total and not general:
        reasons = ", ".join(f"{count} {reason}" for reason, count in refused.items())
        raise SpacerError(
            f"{general_path}: no usable general question",
            kind="questions.no-general",
            got=f"0 of {total:,} wanted; refused: {reasons or 'none'}",
            expected="rows like Video-R1's, and their media where a folder is given",
            remedy="correct the paths, or ask for 0 general questions (--total 0)",
        )
    usable = _sources(general)
    general = sample_uniform(general, min(total, len(general)), seed)
    used = _sources(general)
    sources = {n: {"usable": usable[n], "used": used[n]} for n in sorted(usable)}
    rows, counts = joint_set(spatial, general, seed)
    counts |= {"wanted": total, "sources": sources}
    counts |= {"refused": dict(refused), "seed": seed}
    with sole_writer(out_dir):
        boxed = ("boxes",) if any(row.get("boxes") for row in rows) else ()
        with QuestionWriter(out_dir / "train", (*JOINT_KEYS, *boxed)) as writer:
            for row in rows:
                home = spatial_folder if row["part"] == "spatial" else Path()
                writer.write(_with_media_from(row, home, out_dir))
        write_json(out_dir / "report.json", counts)
        write_text(out_dir / "README.md", _card(counts))
    return counts


def _card(counts: Mapping[str, Any]) -> str:
    """The README of a joint set."""
    kinds = [(kind, f"{n:,}") for kind, n in counts["question_type"].items()]
    table = markdown_table(("question type", "rows"), kinds)
    title = f"# {counts['rows']:,} questions: rooms and general\n\n"
    reasons = markdown_text(counts["refused"] or "none")
    note = f"\nRefused general rows: {reasons}. {LICENCE}\n"
    return front_matter(["train"]) + title + table + note


def _sources(rows: Iterable[Question]) -> Counter[str]:
    return Counter(row.get("source") or "unnamed" for row in rows)


def _with_media_from(row: Question, home: Path, out_dir: Path) -> Question:
    """The row with its media, named relative to ``home``, named from ``out_dir``."""
    moved: Any = dict(row)
    for key in MEDIA_KEYS:
        if moved[key] and "://" not in moved[key]:
            moved[key] = os.path.relpath(home / moved[key], out_dir)
    return moved
