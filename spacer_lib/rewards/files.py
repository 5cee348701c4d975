"""Scores completions of any source: two JSON-lines files in, rewards out.

Reads questions and completions that other systems may have written. Several spellings
of keys, problem types and maps are read; every mistake names its file and line.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from spacer_lib.artifacts import PathLike, json_lines
from spacer_lib.errors import SpacerError
from spacer_lib.maps.text import parse_map
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import (
    PROBLEM_TYPES,
    RewardBreakdown,
    check_item,
    score_batch,
)
from spacer_lib.rows import Question, check_question


def score_files(
    items_path: PathLike, completions_path: PathLike, config: RewardConfig
) -> tuple[list[tuple[Any, str, RewardBreakdown]], list[Any], int]:
    """Score the completions of one file by the questions of another.

    Parameters
    ----------
    items_path : path
        JSON lines: ``id``, ``problem_type``, ``solution`` (with or without answer
        tags; also ``ground_truth``) and, where there are any, ``options``,
        ``cognitive_map`` (also ``map``) and ``question`` (also ``problem``); for added
        components ``question_type``, ``categories`` and ``boxes``. Problem types are
        read in any case, with spaces, hyphens or underscores.
    completions_path : path
        JSON lines: ``id``, ``completion`` and, for the length bonus,
        ``completion_tokens``. The completions of one id are a group.
    config : RewardConfig

    Returns
    -------
    scored : list of (id, problem type, RewardBreakdown)
        In the order of the completions.
    unanswered : list
        Ids of the questions without a completion.
    counted : int
        Number of completions with ``completion_tokens``.

    Raises
    ------
    SpacerError
        For a line that is not JSON, lacks a key or has a malformed value, for a
        repeated question, and for a completion without its question.
    """
    items: dict[str, Question] = {}
    lines: dict[str, str] = {}
    for line, row in json_lines(items_path):
        key = _identity(row, line)
        if key in items:
            raise SpacerError(
                f"{line}: question {key} again",
                kind="rewards.repeated-question",
                got=f"the id of {lines[key]}",
                expected="every id once",
            )
        items[key], lines[key] = _item(row, line, config), line
    texts, rows, counts = [], [], []
    for line, row in json_lines(completions_path):
        key = _identity(row, line)
        if key not in items:
            raise SpacerError(
                f"{line}: completion of {key}",
                kind="rewards.no-question",
                got="no such question",
                expected=f"an id of {items_path}",
            )
        texts.append(_value(row, line, "completion", str, "a text"))
        count = row.get("completion_tokens")
        if count is not None and (type(count) is not int or count < 0):
            raise SpacerError(
                f"{line}: completion_tokens",
                kind="rewards.completion-tokens-malformed",
                got=repr(count),
                expected="a whole number, 0 or more",
            )
        counts.append(count)
        rows.append(items[key])
    scored = score_batch(texts, rows, config, counts)
    answered = {row["id"] for row in rows}
    return (
        [(r["id"], r["problem_type"], b) for r, b in zip(rows, scored, strict=True)],
        [item["id"] for item in items.values() if item["id"] not in answered],
        sum(count is not None for count in counts),
    )


def _value(
    row: Mapping[str, Any],
    line: str,
    names: str,
    kinds: type | tuple[type, ...],
    expected: str,
) -> Any:
    """The first value under ``names`` (one key, or several split by a bar)."""
    keys = names.split("|")
    found = [row[key] for key in keys if row.get(key) is not None]
    fault = keys[0].replace("_", "-")
    if not found:
        raise SpacerError(
            f"{line}: {' or '.join(keys)}",
            kind=f"rewards.{fault}-missing",
            got="nothing",
            expected=expected,
        )
    if not isinstance(found[0], kinds) or isinstance(found[0], bool):
        raise SpacerError(
            f"{line}: {keys[0]}",
            kind=f"rewards.{fault}-malformed",
            got=repr(found[0]),
            expected=expected,
        )
    return found[0]


def _identity(row: Mapping[str, Any], line: str) -> str:
    """The id as a text, so that 7 and "7" are one id."""
    return str(_value(row, line, "id", (str, int), "a text or whole number"))


_ADDED_KEYS = ("question_type", "categories", "boxes")
_KINDS = {re.sub("[-_ ]+", " ", kind): kind for kind in PROBLEM_TYPES}


def _item(row: Mapping[str, Any], line: str, config: RewardConfig) -> Question:
    """A question of any source as one of ours, its ground truth checked."""
    kind = _value(row, line, "problem_type", str, "a text")
    kind = _KINDS.get(re.sub(r"[-_\s]+", " ", kind.strip().lower()), kind)
    truth = _value(row, line, "solution|ground_truth", (str, int, float), "a text")
    tagged = re.fullmatch(r"\s*<answer>(.*)</answer>\s*", str(truth), re.DOTALL)
    truth = tagged[1].strip() if tagged else str(truth)
    if re.search("</?answer>", truth):
        raise SpacerError(
            f"{line}: solution",
            kind="rewards.solution-tags",
            got=repr(truth[:60]),
            expected="one pair of answer tags, or none",
        )
    item: Question = {
        "id": row["id"],
        "problem_type": kind,
        "ground_truth": truth,
        "options": row.get("options") or None,  # [] where there is no choice
        "question": str(row.get("question") or row.get("problem") or ""),
    }
    plain = cast(dict[str, Any], item)
    plain |= {key: row[key] for key in _ADDED_KEYS if row.get(key) is not None}
    check_question(line, plain, _ADDED_KEYS)
    drawn = row.get("cognitive_map") or row.get("map")
    if isinstance(drawn, dict):
        drawn = json.dumps({k: v for k, v in drawn.items() if v is not None})
    if drawn and drawn != "null":
        reading = parse_map(str(drawn), config.grid_size)
        if reading.failure:
            raise SpacerError(
                f"{line}: cognitive_map",
                kind="rewards.cognitive-map-malformed",
                got=reading.failure,
                expected=f"{{category: [[x, y], …]}}, 0 to {config.grid_size - 1}",
            )
        item["map"] = reading.map
    try:
        check_item(item, config)
    except SpacerError as error:
        raise SpacerError(f"{line}: {error}", kind=error.kind) from error
    return item
