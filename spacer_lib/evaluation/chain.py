"""Files of answers whose lines cover each other, so that an edit is noticed.

Each record carries ``chain``: 16 hexadecimal digits of a SHA-256 of the record and of
the chain of the record before. Appending needs the last chain alone. A finished run
keeps the number of its records and the last chain in ``evaluation.json``. A killed
writer leaves whole lines, and half a line at most: that is no edit. Files that were
joined end to end are none either.

This finds accidents and edits by hand. It is no signature: whoever can run this module
can write a new chain.
"""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spacer_lib.artifacts import PathLike, read_json, to_jsonable, write_jsonl
from spacer_lib.errors import SpacerError

KEY = "chain"
DIGITS = 16


def link(before: str, record: Mapping[str, Any]) -> str:
    """The chain of a record behind another; its own ``chain`` does not count.

    Parameters
    ----------
    before : str
        The chain of the record before; ``""`` for the first.
    record : mapping
        As JSON has it. The order of its keys does not matter.
    """
    covered = {key: value for key, value in record.items() if key != KEY}
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()[:DIGITS]


def chained(record: Mapping[str, Any], before: str) -> dict[str, Any]:
    """The record as JSON has it, NaN as null, with its chain as the last key."""
    text = json.dumps(to_jsonable(record))
    plain = json.loads(text, parse_constant=lambda name: None)
    plain.pop(KEY, None)
    return {**plain, KEY: link(before, plain)}


def write_chained(
    path: PathLike, records: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Write records as JSON lines, whole or not at all, each with a new chain."""
    made: list[dict[str, Any]] = []
    for record in records:
        made.append(chained(record, last_of(made)))
    write_jsonl(path, made)
    return made


def last_of(records: Sequence[Mapping[str, Any]]) -> str:
    """The last chain, ``""`` of no record."""
    return str(records[-1][KEY]) if records else ""


def summary(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What ``evaluation.json`` says of a finished file: ``rows`` and ``chain``."""
    return {"rows": len(records), KEY: last_of(records)}


def what_was_edited(
    records: Sequence[Mapping[str, Any]], finished: Mapping[str, Any] | None = None
) -> str:
    """``""``, or which lines are not as they were written.

    Parameters
    ----------
    records : list of dict
        All records of a file, in its order.
    finished : dict, optional
        ``summary`` of the finished file.
    """
    covered = any(KEY in record and "config" in record for record in records)
    if not covered and finished is None:
        return ""
    faults, before = [], ""
    for number, record in enumerate(records, start=1):
        said = record.get(KEY)
        if said not in (link(before, record), link("", record)):
            faults.append(f"line {number} ({record.get('id')})")
        before = str(said or before)
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        return ", ".join(faults[:3]) + more
    if finished is None or finished == summary(records):
        return ""
    if len(records) != finished.get("rows"):
        return f"{len(records)} lines in place of {finished.get('rows')}"
    return "the order of lines"


def edit_of(path: PathLike, records: Sequence[Mapping[str, Any]]) -> str:
    """``what_was_edited`` in a file with these records."""
    path = Path(path)
    of_a_run = path.name == "predictions.jsonl"
    return what_was_edited(records, finished_in(path.parent) if of_a_run else None)


def check_answers(
    path: PathLike,
    records: Sequence[Mapping[str, Any]],
    *,
    accept_edited: bool = False,
) -> str:
    """Refuse a file of answers that was edited, or say that it was.

    Parameters
    ----------
    path : path
    records : list of dict
        All its records. What ``evaluation.json`` beside a ``predictions.jsonl`` says of
        them counts too.
    accept_edited : bool
        Warn in place of refusing.

    Returns
    -------
    str
        What was edited, and accepted.

    Raises
    ------
    SpacerError
    """
    edited = edit_of(path, records)
    if edited and not accept_edited:
        raise SpacerError(
            f"{path} was edited after it was written",
            kind="evaluation.edited-answers",
            got=edited,
            expected="the lines as they were written",
            remedy="restore it, or ask again in a new folder; --accept-edited takes "
            "it as it is, and says so in what is made of it",
        )
    if edited:
        warnings.warn(f"{path} was edited after it was written: {edited}", stacklevel=2)
    elif any("config" in one and KEY not in one for one in records[:1]):
        warnings.warn(
            f"{path} was written before answers covered each other: an edit of it "
            "would not be noticed",
            stacklevel=2,
        )
    return edited


def refuse_cut_off(path: PathLike) -> None:
    """Refuse JSON lines that end within a record, as a killed run leaves them.

    Raises
    ------
    SpacerError
    """
    with open(path, "rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 2**24))
        last = file.read().rpartition(b"\n")[2]
    try:
        json.loads(last or b"{}")
    except (ValueError, RecursionError) as error:
        raise SpacerError(
            f"{path} ends within a line",
            kind="evaluation.cut-off",
            got=last[:60].decode(errors="replace"),
            expected="whole lines",
            remedy="its run was stopped in that moment: the same command goes on; or "
            "delete the last line",
        ) from error


def finished_in(folder: PathLike) -> dict[str, Any] | None:
    """``summary`` in a run's ``evaluation.json``; ``None`` if it has not ended."""
    said = _about(folder).get("answers")
    return said if isinstance(said, dict) else None


def edits_in(folder: PathLike) -> list[str]:
    """What was edited and accepted when a run went on, by its ``evaluation.json``."""
    said = _about(folder).get("accepted_edits")
    return list(map(str, said)) if isinstance(said, list) else []


def _about(folder: PathLike) -> dict[str, Any]:
    header = Path(folder) / "evaluation.json"
    about = read_json(header) if header.exists() else None
    return about if isinstance(about, dict) else {}
