"""Recompute VSI-Bench's official answers from its published metadata.

The formulas are those of the generators, applied to the words of a question instead of
a drawn candidate. Where they give the official answers, questions made here are
answered as the benchmark answers its own. Question types without an official formula
are answered by their oracle, see ``questions.oracle``.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

from spacer_lib.artifacts import PathLike, read_jsonl
from spacer_lib.errors import SpacerError, nearest
from spacer_lib.questions.generators import direction_answer, task_kind
from spacer_lib.questions.kinds import QUESTION_TYPES
from spacer_lib.questions.oracle import Row, Undetermined
from spacer_lib.questions.rules import DEFAULT_RULES
from spacer_lib.rooms.geometry import box_distance_m, closest_distance_m, turn_deg
from spacer_lib.rooms.scans import require_no_failures
from spacer_lib.rooms.scene import ObjectInstance, Scene, try_meta_files

RowOfAType = TypeVar("RowOfAType", bound=Row)

# Name of an object in questions → its name in the metadata, where the two differ.
SYNONYMS = {"coat rack": "coat hanger"}

_DIRECTION = r"standing by the (.+?) and facing the (.+?), is the (.+?) to (?:my|the) "
_NAMES = {
    "object_counting": r"How many (.+?)(?:\(s\))? are in this room",
    "object_size_estimation": r"height\) of the (.+?), measured",
    "room_size_estimation": r"size of this room()",
    "object_abs_distance": r"distance between the (.+?) and the (.+?) \(in meters",
    "object_rel_distance": r"closest to the (.+?)\?",
    "object_rel_direction_easy": _DIRECTION,
    "object_rel_direction_medium": _DIRECTION,
    "object_rel_direction_hard": _DIRECTION,
}
# What an official row must have.
OFFICIAL_KEYS = ("id", "scene_name", "question_type", "question", "ground_truth")
_TYPES: dict[str, tuple[type, ...]] = {
    "id": (int, str),
    "scene_name": (int, str),
    "question_type": (str,),
    "question": (str,),
    "ground_truth": (int, float, str),
}


def named_categories(row: Row) -> tuple[str, ...] | None:
    """The categories that a question names, read from its words.

    Parameters
    ----------
    row : mapping
        ``question_type`` and ``question``, in VSI-Bench's wording or ours.

    Returns
    -------
    tuple of str or None
        In the order of ``generators.Draft.categories``; ``None`` if the wording is
        another.

    Examples
    --------
    >>> row = {"question_type": "object_counting"}
    >>> named_categories(row | {"question": "How many trash bin(s) are in this room?"})
    ('trash bin',)
    """
    kind = row["question_type"]
    named = re.search(_NAMES[kind], row["question"]) if kind in _NAMES else None
    if named is None:
        return None
    listed = re.search(r"which of these objects \((.+?)\) is", row["question"])
    options = listed[1].split(", ") if listed else ()
    return (*filter(None, named.groups()), *options)


def official_answer(row: Row, scene: Scene) -> str:
    """The answer to an official question, spelled as in the official file.

    Parameters
    ----------
    row : mapping
        ``question_type``, ``question`` and, for multiple choice, ``options``.
    scene : Scene

    Returns
    -------
    str
        An option letter or a number.

    Raises
    ------
    Undetermined
        If the metadata lack an object, or the wording is not the benchmark's.
    """
    kind = row["question_type"]
    if kind not in _ANSWERS:
        return _second_answer(row, scene)
    named = re.search(_NAMES[kind], row["question"])
    if named is None:
        raise Undetermined("the question's words are not the benchmark's")
    return _ANSWERS[kind](row, scene, named.groups())


def _second_answer(row: Row, scene: Scene) -> str:
    """The oracle's answer to a question that has no official formula."""
    known = QUESTION_TYPES.get(row["question_type"])
    if known is None:
        raise Undetermined(f"unknown question type {row['question_type']}")
    answers = known.oracle(row, scene, DEFAULT_RULES)
    if not answers:
        raise Undetermined("the answer is not among the options")
    truth = str(row["ground_truth"])
    return truth if truth in answers else answers[0]


def _group(scene: Scene, name: str) -> list[ObjectInstance]:
    groups: dict[str, list[ObjectInstance]] = {}
    for instance in scene.instances:
        groups.setdefault(instance.category, []).append(instance)
    for spelling in (name, SYNONYMS.get(name)):
        if spelling in groups:
            return groups[spelling]
    raise Undetermined("no box of the category in the metadata")


def _only(scene: Scene, name: str) -> ObjectInstance:
    return _group(scene, name)[0]


def _options(row: Row) -> dict[str, str]:
    options = row.get("options")
    if not options or not all(re.match(r"[A-J]\. ", str(o)) for o in options):
        raise Undetermined("no lettered options")
    return {option[0]: option[3:] for option in options}


def _counting(row: Row, scene: Scene, names: Sequence[str]) -> str:
    for name in (names[0], SYNONYMS.get(names[0])):
        if name in scene.object_counts:
            return str(scene.object_counts[name])
    raise Undetermined("no count of the category in the metadata")


def _object_size(row: Row, scene: Scene, names: Sequence[str]) -> str:
    return str(round(max(_only(scene, names[0]).axes_lengths_m) * 100))


def _room_size(row: Row, scene: Scene, names: Sequence[str]) -> str:
    return str(round(scene.room_size_m2, 1))


def _abs_distance(row: Row, scene: Scene, names: Sequence[str]) -> str:
    first, second = (_only(scene, name) for name in names)
    return str(round(closest_distance_m(first, second), 1))


def _rel_distance(row: Row, scene: Scene, names: Sequence[str]) -> str:
    target = _only(scene, names[0])
    distance = {
        letter: min(box_distance_m(target, i) for i in _group(scene, words))
        for letter, words in _options(row).items()
    }
    return min(distance, key=distance.__getitem__)


def _direction(row: Row, scene: Scene, names: Sequence[str]) -> str:
    try:
        position, facing, query = (_only(scene, n).centroid_m[:2] for n in names)
        turn = turn_deg(position, facing, query)
    except SpacerError as error:
        raise Undetermined("two of the three objects share a place") from error
    words = direction_answer(turn, row["question_type"].rsplit("_")[-1])
    for letter, option in _options(row).items():
        if option == words:
            return letter
    raise Undetermined("the answer is not among the options")


_ANSWERS: dict[str, Callable[[Row, Scene, Sequence[str]], str]] = {
    "object_counting": _counting,
    "object_size_estimation": _object_size,
    "room_size_estimation": _room_size,
    "object_abs_distance": _abs_distance,
    "object_rel_distance": _rel_distance,
    "object_rel_direction_easy": _direction,
    "object_rel_direction_medium": _direction,
    "object_rel_direction_hard": _direction,
}


def audit(
    scenes: Iterable[Scene], rows: Iterable[Row], unreadable: Collection[str] = ()
) -> dict[str, Any]:
    """Compare official answers with ours, row by row.

    Parameters
    ----------
    scenes : iterable of Scene
    rows : iterable of mapping
        Official question rows.
    unreadable : collection of str
        Scenes with broken metadata: their rows are skipped under a reason of their own.

    Returns
    -------
    dict
        ``tasks`` ``{question_type: {rows, exact}}`` over the rows that the metadata
        determine, ``skipped`` ``{reason: n}``, and ``disagreements``, a list of
        ``id, scene_name, question_type, question, official, ours, note``; ``note`` is
        set where the official metadata contradict themselves about the objects named.

    Raises
    ------
    SpacerError
        If a row lacks one of ``OFFICIAL_KEYS``, or a value has another type.
    """
    by_id = {scene.scene_id: scene for scene in scenes}
    tasks: dict[str, dict[str, int]] = {}
    skipped, disagreements = Counter[str](), []
    for number, row in enumerate(rows, start=1):
        absent = [key for key in OFFICIAL_KEYS if row.get(key) is None]
        if absent:
            raise SpacerError(
                f"question row {number}",
                kind="questions.no-official-row",
                got=f"no {', '.join(absent)}",
                expected=f"VSI-Bench's keys: {', '.join(OFFICIAL_KEYS)}",
            )
        _require_types(number, row)
        kind, scene = row["question_type"], by_id.get(str(row["scene_name"]))
        if scene is None:
            broken = str(row["scene_name"]) in unreadable
            what = "cannot be read" if broken else "is absent"
            skipped[f"the scene's metadata {what}"] += 1
            continue
        try:
            ours = official_answer(row, scene)
        except Undetermined as why:
            skipped[f"{kind}: {why}"] += 1
            continue
        entry = tasks.setdefault(kind, {"rows": 0, "exact": 0})
        entry["rows"] += 1
        if _same(ours, str(row["ground_truth"]).strip()):
            entry["exact"] += 1
        else:
            disagreements.append(
                {
                    "id": row["id"],
                    "scene_name": row["scene_name"],
                    "question_type": kind,
                    "question": row["question"],
                    "official": row["ground_truth"],
                    "ours": ours,
                    "note": _contradiction(row, scene),
                }
            )
    return {
        "tasks": dict(sorted(tasks.items())),
        "skipped": dict(sorted(skipped.items())),
        "disagreements": disagreements,
    }


def _require_types(number: int, row: Row) -> None:
    """Refuse a row with a list where a text belongs, a question in digits, …"""
    for key, types in _TYPES.items():
        value = row[key]
        if isinstance(value, bool) or not isinstance(value, types):
            expected = "a text" if types == (str,) else "a text or a number"
            raise SpacerError(
                f"question row {number}: {key}",
                kind="questions.official-row-type",
                got=repr(value)[:80],
                expected=expected,
            )
    options = row.get("options")
    if options is not None and not (
        isinstance(options, list) and all(isinstance(text, str) for text in options)
    ):
        raise SpacerError(
            f"question row {number}: options",
            kind="questions.official-row-type",
            got=repr(options)[:80],
            expected="a list of texts",
        )


def _same(ours: str, official: str) -> bool:
    """Equal as texts or as numbers: one file says 3 and another 3.0."""
    try:
        return float(ours) == float(official)
    except ValueError:
        return ours == official


def _contradiction(row: Row, scene: Scene) -> str | None:
    """Where the metadata's counts and boxes of an object named differ."""
    if row["question_type"] not in _NAMES:
        return None
    named = re.search(_NAMES[row["question_type"]], row["question"])
    boxes = Counter(i.category for i in scene.instances)
    for name in filter(None, named.groups() if named else ()):
        name = name if name in scene.object_counts else SYNONYMS.get(name, name)
        stated = scene.object_counts.get(name)
        if stated != boxes[name]:
            return f"the metadata counts {stated} {name}, and has {boxes[name]} boxes"
    return None


def of_types(
    rows: Sequence[RowOfAType], types: Collection[str]
) -> Sequence[RowOfAType]:
    """The rows of these question types, or kinds of them; all rows if none is named.

    Raises
    ------
    SpacerError
        If no row is of one of them.
    """
    if not types:
        return rows
    found = {str(row.get("question_type")) for row in rows}
    known = found | {task_kind(name) for name in found}
    for name in types:
        if name not in known:
            raise SpacerError(
                "question type",
                kind="questions.type-not-asked",
                got=name,
                expected=f"one that the rows have: {', '.join(sorted(known))}",
                remedy=nearest(name, known),
            )
    wanted = {name for name in found if {name, task_kind(name)} & set(types)}
    return [row for row in rows if row.get("question_type") in wanted]


def audit_files(
    meta_path: PathLike, questions_path: PathLike, types: Collection[str] = ()
) -> dict[str, Any]:
    """``audit`` of a meta file and a JSON-lines file of questions.

    Parameters
    ----------
    meta_path, questions_path : path
    types : collection of str
        As of ``of_types``.

    Returns
    -------
    dict
        As ``audit``, and ``unreadable``: ``{scene_id: what is wrong}``.

    Raises
    ------
    SpacerError
        If a file cannot be read or has another form, or no row is of these types.
    """
    rows = of_types(read_jsonl(questions_path), types)
    scenes, failures = try_meta_files(meta_path)
    if not scenes:
        require_no_failures(failures, len(failures), "rooms")
    unreadable = {where.rpartition(": ")[2]: str(e) for where, e in failures.items()}
    found = audit([scene for _, scene in scenes], rows, unreadable)
    return found | {"unreadable": unreadable}
