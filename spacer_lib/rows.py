"""The rows that all packages use: questions, predictions and rollouts.

A question is made (``questions``), rewarded (``rewards``), trained on (``training``)
and asked again (``evaluation``). A row is a plain dictionary everywhere, since
datasets, Parquet and TRL use dictionaries; the classes here name its keys for readers
and for the type checker. Only this module holds the schema, reader, writer, hash and
version of question files.
"""

import contextlib
import hashlib
import json
import reprlib
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Required, TypedDict, cast

from spacer_lib.artifacts import (
    PathLike,
    atomic_path,
    json_lines,
    parse_json,
    read_parquet,
    to_jsonable,
)
from spacer_lib.errors import SpacerError

FORMAT_VERSION = 1  # of question files
# Category -> cells of its instances, each (x_col, y_row) with 0 <= x, y < M.
CognitiveMap = Mapping[str, Sequence[Sequence[int]]]
# Category -> boxes of its instances, each (x, y, w, h) in metres: see ``maps.boxes``.
Boxes = Mapping[str, Sequence[Sequence[float]]]
MEDIA_KEYS = ("video", "image")  # of a question: paths or addresses (``room://…``)
ROWS_PER_GROUP = 5000  # of a Parquet file, at least


class Question(TypedDict, total=False):
    """One question about one room, video or picture.

    The first eleven keys are VSI-Bench's and ours, in the order of our files; the
    next four come with general data (``questions.mixture``); the next six come from
    benchmark files; the last is written where a recipe asks for boxes. Only a row's
    id, question, type and truth are always there.
    """

    id: Required[str]
    dataset: str | None  # scannet, scannetpp, arkitscenes, synthetic, video-r1 ...
    scene_name: str | None  # what rows share: a scan, or a video
    question_type: str  # such as object_counting
    problem_type: Required[str]  # how it is scored: a key of ``rewards.score``
    question: Required[str]
    options: list[str] | None  # "A. chair", "B. sofa"; None: not multiple choice
    ground_truth: Required[str]  # a letter, a number or words
    categories: list[str]  # that the question is about
    map: CognitiveMap | None  # the true map
    video: str | None

    image: str | list[str] | None
    data_type: str | None  # video or image
    source: str | None  # data set that a general question came from
    part: str | None  # of a joint set: spatial or general

    groups: dict[str, Any]  # further columns that results are broken down by
    published_id: int  # the id where a benchmark's file has a number
    pruned: bool  # VSI-Bench: left out of its debiased subset
    published_answer: str  # TempCompass: an option in full, where the truth is a letter
    published_options: list[str]  # Video-MMMU: also those of open questions
    published_type: str  # Video-MMMU: multiple-choice, open or None

    boxes: Boxes | None  # the true metric map


class Prediction(TypedDict, total=False):
    """One answer to one question, read and scored.

    ``extracted`` is what the reading rule found in the raw text ``prediction``;
    ``failure`` says why it found nothing. Keys that start with ``map_`` are there for
    rows with a true map.
    """

    id: Required[str]
    scene_name: Required[str | None]
    dataset: str | None
    question_type: Required[str]
    problem_type: str
    question: str
    options: list[str] | None
    groups: dict[str, Any]
    prediction: Required[str]
    answer: Required[str]  # ground truth
    extracted: str | None
    score: Required[float]  # 0 to 1
    failure: Required[str | None]
    how: str | None  # how it was read, see ``language.answers``
    map_failure: str | None
    map_hits: int  # true instances drawn within 1.5 cells
    map_total: int  # true instances
    map_released: float | None
    map_paper: float | None
    map_decay: float | None
    map_aligned: float | None
    condition: str  # of ``evaluation.conditions``
    tokens: int | None  # generated
    seed: int
    config: str  # hash of everything that the answer depends on
    chain: str  # covers this record and those before, see ``evaluation.chain``


class Rollout(TypedDict, total=False):
    """One sampled completion of a training step, as ``rollouts.jsonl`` has it.

    It repeats the keys of its question that scoring needs.
    """

    step: Required[int]  # optimiser step, from 1
    id: Required[str]
    question: Required[str]
    problem_type: Required[str]
    ground_truth: Required[str]
    video: str | None
    image: str | list[str] | None
    question_type: str | None
    options: list[str] | None
    map: CognitiveMap | None
    completion: Required[str]
    rewards: Required[dict[str, float | None]]  # by component, weight and gate applied
    advantage: Required[float]


QUESTION_KEYS = tuple(Question.__annotations__)
SPATIAL_KEYS = QUESTION_KEYS[:11]  # columns of a question set
JOINT_KEYS = QUESTION_KEYS[:15]  # columns of a joint set
JSON_KEYS = ("map", "boxes")  # JSON text in files
REQUIRED_KEYS = tuple(key for key in QUESTION_KEYS if key in Question.__required_keys__)
# Of a rollout, what it repeats of its question.
ROLLOUT_QUESTION_KEYS = tuple(
    key for key in Rollout.__annotations__ if key in Question.__annotations__
)


# ---------------------------------------------------------------- files


def read_questions(path: PathLike) -> list[Question]:
    """Rows of a ``.jsonl`` or ``.parquet`` question file, maps as dictionaries.

    An id or a scene's name that is a whole number becomes text. Problem types are in
    lower case: ``OCR`` is ``ocr``.

    Raises
    ------
    SpacerError
        If the file cannot be read, or a row is no object, has a map that is no JSON or
        a value of another type (``check_question``).
    """
    path = Path(path)
    if path.suffix == ".parquet":
        found = read_parquet(path)
        rows = [(f"{path} row {n}", row) for n, row in enumerate(found, start=1)]
    else:
        rows = list(json_lines(path))
    for where, row in rows:
        for name in ("id", "scene_name"):  # numbers in some published files
            if type(row.get(name)) is int:
                row[name] = str(row[name])
        if isinstance(row.get("problem_type"), str):
            row["problem_type"] = row["problem_type"].lower()
        for name in JSON_KEYS:
            if isinstance(row.get(name), str):
                try:
                    row[name] = parse_json(row[name])
                except ValueError as error:
                    raise SpacerError(
                        f"{where}: {name} is not JSON",
                        kind=f"rows.{name}-not-json",
                        got=error,
                    ) from error
        check_question(where, row)
    return [cast(Question, row) for _, row in rows]


def check_question(
    where: str, row: Mapping[str, Any], names: Iterable[str] = QUESTION_KEYS
) -> None:
    """Refuse a row in which one of ``Question``'s keys has a value of another type.

    Parameters
    ----------
    where : str
        File and row, for the message.
    row : mapping
        Keys may be absent, and values null.
    names : iterable of str
        Keys to look at.

    Raises
    ------
    SpacerError
    """
    for name in names:
        value = row.get(name)
        if value is not None and not _FITS[name][1](value):
            raise SpacerError(
                f"{where}: {name}",
                kind="rows.wrong-type",
                got=reprlib.repr(value),
                expected=_FITS[name][0],
            )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_map(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(cells, list) and all(map(_is_cell, cells))
        for cells in value.values()
        if cells is not None
    )


def _are_boxes(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(boxes, list)
        and all(isinstance(box, list | tuple) and len(box) == 4 for box in boxes)
        for boxes in value.values()
        if boxes is not None
    )


def _is_cell(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    )


_TEXT, _TEXTS = ("a text", _is_text), ("a list of texts", _are_texts)
# Key of a question → what its value must be, and the test of that.
_FITS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(QUESTION_KEYS, _TEXT),
    "options": _TEXTS,
    "categories": _TEXTS,
    "published_options": _TEXTS,
    "map": ("{category: [[column, row], ...]}", _is_map),
    "boxes": ("{category: [[x, y, w, h], ...]}", _are_boxes),
    "image": ("a path or paths", lambda v: _is_text(v) or _are_texts(v)),
    "groups": ("an object", lambda value: isinstance(value, dict)),
    "published_id": ("a whole number", lambda value: isinstance(value, int)),
    "pruned": ("true or false", lambda value: isinstance(value, bool)),
}


class QuestionWriter:
    """Writes ``<stem>.jsonl`` and ``<stem>.parquet`` row by row, both whole or absent.

    A context manager. Of each row its ``columns`` are written: a missing one as null,
    map and boxes as JSON text.
    """

    def __init__(self, stem: PathLike, columns: Sequence[str] = SPATIAL_KEYS) -> None:
        self.stem, self.columns = Path(stem), tuple(columns)
        self._waiting: list[dict[str, Any]] = []

    def __enter__(self) -> "QuestionWriter":
        import pyarrow.parquet

        schema = arrow_schema(self.columns)
        with contextlib.ExitStack() as stack:
            enter = stack.enter_context
            # Not with_suffix: a stem may hold a dot.
            lines = enter(atomic_path(f"{self.stem}.jsonl"))
            table = enter(atomic_path(f"{self.stem}.parquet"))
            self._lines = enter(open(lines, "w", encoding="utf-8"))
            self._table = enter(pyarrow.parquet.ParquetWriter(table, schema))
            self._stack = stack.pop_all()
        return self

    def write(self, *rows: Question) -> None:
        """Add rows. A Parquet row group never ends within one call."""
        for row in rows:
            record: dict[str, Any] = {name: row.get(name) for name in self.columns}
            for name in JSON_KEYS:
                if isinstance(record.get(name), dict):
                    # As ``maps.map_to_text`` writes it.
                    record[name] = json.dumps(
                        record[name], sort_keys=True, separators=(",", ":")
                    )
            self._lines.write(json.dumps(record, separators=(",", ":")) + "\n")
            self._waiting.append(record)
        if len(self._waiting) >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        schema = arrow_schema(self.columns)
        self._table.write_table(pyarrow.Table.from_pylist(self._waiting, schema))
        self._waiting = []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._flush()


def arrow_schema(columns: Iterable[str]) -> Any:
    """The ``pyarrow.Schema`` of these keys of ``Question``: texts and lists of texts.

    A map is JSON text: as a struct, Arrow would give every row every category.
    """
    import pyarrow

    texts = pyarrow.list_(pyarrow.string())
    hints = typing.get_type_hints(Question)
    lists = (list[str], list[str] | None)
    return pyarrow.schema(
        [
            (name, texts if hints[name] in lists else pyarrow.string())
            for name in columns
        ]
    )


def questions_hash(rows: Iterable[Question]) -> str:
    """SHA-256 of rows in their order, as hexadecimal digits.

    Equal rows have equal hashes wherever their media lie: of a path only the file's
    name counts. The media themselves are not read.
    """
    digest = hashlib.sha256()
    for row in rows:
        plain = cast(dict[str, Any], row)
        names = {k: _file_name(plain[k]) for k in MEDIA_KEYS if plain.get(k)}
        text = json.dumps(
            {**plain, **names},
            sort_keys=True,
            separators=(",", ":"),
            default=to_jsonable,
        )
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def _file_name(media: Any) -> Any:
    """A path's last part; addresses (``room://…``) stay whole."""
    if not isinstance(media, str) or "://" in media:
        return media
    return PurePosixPath(media).name
