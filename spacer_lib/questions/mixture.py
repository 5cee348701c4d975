"""The general part of SpaceR-151k: Video-R1-260k read, sampled and joined.

Raw rows (``problem_id``, ``problem``, ``data_type``, ``problem_type``, ``options``,
``solution``, ``path``, ``data_source``) become rows with the keys of ``SCHEMA``; one
that cannot be asked or scored is left out and counted under one of ``REASONS``.
``synthetic.general`` writes a small set in the same raw format, so that the embedded
run takes the real one's way.

Departure from Video-R1: its reward gives 0 for a truth that it cannot read; here such
a row is never trained on.

Source: SpaceR §3; Video-R1 (arXiv 2503.21776).
"""

import json
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spacer_lib.artifacts import atomic_path, write_json, write_jsonl, write_text
from spacer_lib.errors import SpacerError
from spacer_lib.maps.text import map_to_text
from spacer_lib.questions.card import LICENCE, front_matter
from spacer_lib.questions.dataset import read_rows
from spacer_lib.rooms.identity import (
    benchmark_questions,
    benchmark_room,
    require_no_benchmark_rooms,
)

# The spatial rows' keys, then ``image`` (of ``video`` and ``image`` one is set),
# ``data_type`` (which) and ``source`` (the data set a question came from).
SCHEMA = (
    "id",
    "dataset",
    "scene_name",
    "question_type",
    "problem_type",
    "question",
    "options",
    "ground_truth",
    "categories",
    "map",
    "video",
    "image",
    "data_type",
    "source",
)
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
# As in ``completions``: a longer answer or larger number is never read.
MAX_ANSWER_CHARS = 2_000
MAX_NUMBER = 1e9


class _Refusal(Exception):
    """Why one row is left out: one of ``REASONS``."""


def _check(holds, reason):
    if not holds:
        raise _Refusal(reason)


def read_video_r1(path, media_root=None):
    """``convert`` the rows of a file: a JSON array, or one object a line.

    Lines are streamed. An array, as published, is parsed whole (no dependency of ours
    streams one): its 263,071 rows take about a gigabyte while they are read.

    Raises
    ------
    SpacerError
        If the file or the media root is missing, or the file is not JSON.
    """
    return convert(_raw_rows(path), media_root)


def _raw_rows(path):
    where = path
    try:
        with open(path, "rb") as file:
            array = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
            file.seek(0)
            if array:
                yield from json.load(file)
                return
            for number, line in enumerate(file, start=1):
                where = f"{path} line {number}"
                if line.strip():
                    yield json.loads(line)
    except OSError as error:
        raise SpacerError(
            f"{path} cannot be read",
            got=error.strerror,
            expected="a file like Video-R1-260k.json",
            remedy="download or name it",
        ) from error
    except (ValueError, RecursionError) as error:
        raise SpacerError(
            f"{where} is not JSON", got=str(error), remedy="download it again"
        ) from error


def convert(raws, media_root=None):
    """Video-R1's raw rows as ours; odd ones are counted and never fatal.

    Ids become ``video-r1:<problem_id>`` (``2.0`` is 2), question types
    ``general_multiple_choice`` and so on, options ``A. text``, the truth of a multiple
    choice its letter. There is no scene and no map.

    Parameters
    ----------
    raws : iterable
        JSON values.
    media_root : path-like, optional
        The folder that ``Math``, ``OCR`` and so on are in. If given, paths begin with
        it and files must be there; else paths are relative to it and unchecked.
        ``./Math/x.png``, ``/Math/x.png`` and ``Math/x.png`` are one path.

    Returns
    -------
    rows : list of dict
        With the keys of ``SCHEMA``.
    refused : Counter
        ``{reason: count}``, reasons being of ``REASONS``.

    Raises
    ------
    SpacerError
        If the media root is no folder.
    """
    if media_root is not None and not os.path.isdir(media_root):
        raise SpacerError(
            f"media root {media_root}",
            got="no such folder",
            remedy="unpack Video-R1's archives there, or name the folder they are in",
        )
    rows, refused, seen = [], Counter(), set()
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


def _row(raw, media_root):
    _check(isinstance(raw, dict), "not an object")
    identity = _identity(raw.get("problem_id"))
    question = _text(raw.get("problem"))
    _check(question, "no question")
    kind = _text(raw.get("problem_type")).lower()
    _check(kind in PROBLEM_TYPES, "unknown problem type")
    medium = _text(raw.get("data_type")).lower()
    _check(medium in DATA_TYPES, "unknown data type")
    path = _text(raw.get("path"))
    _check(benchmark_room(path, "video-r1") is None, "room of VSI-Bench")
    options, answer = None, _answer(raw.get("solution"))
    if kind == "multiple choice":
        options, answer = _choice(raw.get("options"), answer)
    elif kind in ("numerical", "regression"):
        _check(_is_number(answer), "answer not a number")
    return {
        "id": f"video-r1:{identity}",
        "dataset": "video-r1",
        "scene_name": None,
        "question_type": "general_" + re.sub(r"\W", "_", kind),
        "problem_type": kind,
        "question": question,
        "options": options,
        "ground_truth": answer,
        "categories": [],
        "map": None,
        "video": None,
        "image": None,
        medium: _locate(path, media_root),
        "data_type": medium,
        "source": _text(raw.get("data_source")) or None,
    }


def _text(value):
    return value.strip() if isinstance(value, str) else ""


def _identity(value):
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 2.0: a column with a gap becomes floats in pandas
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    _check(_text(value), "no id")
    return _text(value)


def _answer(solution):
    """What stands between the one pair of answer tags."""
    _check(_text(solution), "no solution")
    once = max(map(solution.count, ("<answer>", "</answer>"))) < 2
    _check(once, "two answer tags")
    found = re.search("<answer>(.*)</answer>", solution, re.DOTALL)
    _check(found, "no answer tag")
    answer = found[1].strip()
    _check(answer, "empty answer")
    _check(len(answer) <= MAX_ANSWER_CHARS, "answer too long")
    return answer


_LABELLED = re.compile(r"\(?([A-Z])(?:[.):]\s*(.*))?", re.DOTALL)
_LETTER = re.compile(r"\(?([A-Za-z])\)?[.:]?")


def _choice(options, answer):
    """(options as ``A. text``, letter of the right one).

    Printed letters are kept if every option has its own; else they are A, B, C … The
    answer may be a letter, an option in full, or the text of one option alone.
    """
    readable = isinstance(options, list) and all(map(_text, options))
    _check(readable and 2 <= len(options) <= 26, "fewer than two options")
    found = [_LABELLED.fullmatch(option.strip()) for option in options]
    if all(found) and len({label[1] for label in found}) == len(options):
        texts = {label[1]: (label[2] or "").strip() for label in found}
    else:
        texts = {chr(65 + i): option.strip() for i, option in enumerate(options)}
    lines = {letter: f"{letter}. {text}".strip() for letter, text in texts.items()}
    alone = _LETTER.fullmatch(answer)
    right = [alone[1].upper()] if alone and alone[1].upper() in texts else []
    if not right:
        spelled = {k: (_plain(texts[k]), _plain(lines[k])) for k in texts}
        right = [k for k, forms in spelled.items() if _plain(answer) in forms]
    _check(len(right) == 1, "answer not an option")
    return list(lines.values()), right[0]


def _plain(text):
    return " ".join(text.casefold().split()).removesuffix(".")


# No unit, fraction, formula or word: what both Video-R1 and ``completions`` read.
_NUMBER = re.compile(
    r"[-+−]?(?=[.0-9])([0-9]{1,3}(,[0-9]{3})+|[0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?"
)


def _is_number(text):
    if not _NUMBER.fullmatch(text):
        return False
    return abs(float(text.replace(",", "").replace("−", "-"))) <= MAX_NUMBER


def _locate(path, media_root):
    parts = [part for part in path.split("/") if part not in ("", ".")]
    _check(parts, "no path")
    _check(".." not in parts, "path leaves the media root")
    if media_root is None:
        return "/".join(parts)
    file = os.path.join(media_root, *parts)
    _check(os.path.isfile(file), "media missing")
    return file


def report(rows, refused=None):
    """Counts of rows, ready for JSON.

    Returns
    -------
    dict
        ``rows``: how many; ``part``, ``question_type``, ``problem_type``,
        ``data_type`` and ``source``: ``{value: count}`` over the rows that have one;
        ``refused``: ``{reason: count}``.
    """
    counts = {"rows": len(rows)}
    for key in ("part", "question_type", "problem_type", "data_type", "source"):
        values = Counter(row[key] for row in rows if row.get(key) is not None)
        counts[key] = dict(sorted(values.items()))
    return {**counts, "refused": dict(sorted((refused or {}).items()))}


def sample_uniform(rows, total, seed):
    """Draw ``total`` rows, as evenly over the problem types as these allow.

    A type with fewer rows than an equal share gives all it has, and the others share
    the rest (water filling). Of rows with the same question, options and media only
    the first by id counts. The order of the rows makes no difference.

    Returns
    -------
    list of dict
        Sorted by id.

    Raises
    ------
    SpacerError
        If ids repeat, or fewer than ``total`` distinct rows are there.

    Source: SpaceR §3, "uniformly sample 60,000 diverse QA instances". It does not say
    over what. Over the types is our reading: over rows, two thirds would be multiple
    choice and 2% regression.
    """
    distinct = {}
    for row in _by_id(rows):
        media = row["video"] or row["image"]
        distinct.setdefault((row["question"], str(row["options"]), media), row)
    if not 0 <= total <= len(distinct):
        raise SpacerError(
            "general rows to draw",
            got=f"{total} of {len(distinct)} distinct ones",
            expected="0 to all of them",
            remedy="lower the total, or read more rows",
        )
    groups = {}
    for row in distinct.values():
        groups.setdefault(row["problem_type"], []).append(row)
    drawn = []
    # The scarcest type first: what it cannot give is left to the others.
    for kind in sorted(groups, key=lambda kind: (len(groups[kind]), kind)):
        group = groups.pop(kind)
        share = min(len(group), (total - len(drawn)) // (len(groups) + 1))
        rng = np.random.default_rng([seed, *kind.encode()])
        drawn += [group[i] for i in rng.permutation(len(group))[:share]]
    return _by_id(drawn)


def _by_id(rows):
    rows = sorted(rows, key=lambda row: row["id"])
    counts = Counter(row["id"] for row in rows)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise SpacerError(
            "question ids repeat",
            got=f"{len(repeated)} ids, first {repeated[0]}",
            expected="every id once",
            remedy="read each file once",
        )
    return rows


def joint_set(spatial_rows, general_rows, seed):
    """Both parts as one shuffled training set, as SpaceR-151k is.

    Parameters
    ----------
    spatial_rows, general_rows : list of dict
        As ``qa.dataset`` makes and as ``sample_uniform`` draws them. What the spatial
        ones lack of ``SCHEMA`` is filled in.
    seed : int

    Returns
    -------
    rows : list of dict
        With the keys of ``SCHEMA`` and ``part`` (``spatial`` or ``general``); their
        order depends on ids and seed alone.
    counts : dict
        The ``report`` of the rows.

    Raises
    ------
    SpacerError
        If an id repeats, in a part or between the two.

    Source: SpaceR §3: 91k spatial and 60k general rows, 151,310 in all.
    """
    parts = [(row, "spatial") for row in spatial_rows]
    parts += [(row, "general") for row in general_rows]
    blank = {**dict.fromkeys(SCHEMA), "data_type": "video"}
    rows = _by_id(
        {**blank, "source": row["dataset"], **row, "part": part} for row, part in parts
    )
    order = np.random.default_rng([seed, *b"joint"]).permutation(len(rows))
    rows = [rows[i] for i in order]
    return rows, report(rows)


def write_joint(
    spatial_folder,
    general_path,
    out_dir,
    *,
    media_root=None,
    total=60_000,
    seed=0,
    allow_datasets=(),
):
    """A SpaceR-151k-style folder: a question set joined with general questions.

    Writes ``train.jsonl``, ``train.parquet``, ``report.json`` and a card. Videos and
    images are named relative to ``out_dir``.

    Parameters
    ----------
    spatial_folder : path
        As ``qa.build`` writes it; its part ``train`` is used.
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
        ``report`` of the joint rows, with what was refused and why.
    """
    spatial_folder, out_dir = Path(spatial_folder), Path(out_dir)
    spatial = read_rows(spatial_folder / "train.jsonl")
    require_no_benchmark_rooms(
        f"{spatial_folder}/train.jsonl",
        benchmark_questions(spatial, allow_datasets),
        "make the questions again with `spacer qa --drop-held-out`",
    )
    general, refused = read_video_r1(general_path, media_root)
    general = sample_uniform(general, min(total, len(general)), seed)
    rows, counts = joint_set(spatial, general, seed)
    for row in rows:
        home = spatial_folder if row["part"] == "spatial" else Path()
        for kind in DATA_TYPES:
            if row[kind] and "://" not in row[kind]:
                row[kind] = os.path.relpath(home / row[kind], out_dir)
        if row["map"] is not None:
            row["map"] = map_to_text(row["map"])
    texts = {name: pa.list_(pa.string()) for name in ("options", "categories")}
    schema = pa.schema(
        [(name, texts.get(name, pa.string())) for name in (*SCHEMA, "part")]
    )
    write_jsonl(out_dir / "train.jsonl", rows)
    with atomic_path(out_dir / "train.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema), temporary)
    counts = counts | {"refused": dict(refused), "seed": seed}
    write_json(out_dir / "report.json", counts)
    table = "".join(f"| {k} | {n:,} |\n" for k, n in counts["question_type"].items())
    title = f"# {len(rows):,} questions: rooms and general\n\n"
    head = "| question type | rows |\n|---|---:|\n"
    note = f"\nRefused general rows: {counts['refused'] or 'none'}. {LICENCE}\n"
    card = front_matter(["train"]) + title + head + table + note
    write_text(out_dir / "README.md", card)
    return counts
