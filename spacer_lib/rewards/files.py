"""Completions from any source, scored: two files in, rewards out.

Items and completions are JSON lines that other systems write too; spellings are
forgiven where the meaning is plain, and every mistake names its file and line.
"""

import json
import re

from spacer_lib.artifacts import json_lines
from spacer_lib.errors import SpacerError
from spacer_lib.maps.text import parse_map
from spacer_lib.rewards.score import PROBLEM_TYPES, check_item, score_batch


def score_files(items_path, completions_path, config):
    """Score completions from any source.

    Parameters
    ----------
    items_path : path
        JSON lines: ``id``, ``problem_type``, ``solution`` (with or without answer
        tags; also ``ground_truth``) and where there are any ``options``,
        ``cognitive_map`` (also ``map``) and ``question`` (also ``problem``). Types are
        read in any case, with spaces, hyphens or underscores.
    completions_path : path
        JSON lines: ``id``, ``completion`` and, for the length bonus,
        ``completion_tokens``. The completions of one id are a group.
    config : RewardConfig

    Returns
    -------
    scored : list of (id, problem type, RewardBreakdown)
        In the completions' order.
    unanswered : list
        Ids of the items without a completion.
    counted : int
        Completions whose tokens are counted.

    Raises
    ------
    SpacerError
        For a line that is not JSON, lacks a key or has a malformed value, an item
        twice, or a completion without its item: named by file and line.
    """
    items, lines = {}, {}
    for line, row in json_lines(items_path):
        key = _identity(row, line)
        if key in items:
            raise SpacerError(
                f"{line}: item {key} again",
                got=f"it is also in {lines[key]}",
                expected="every id once",
            )
        items[key], lines[key] = _item(row, line, config), line
    texts, rows, counts = [], [], []
    for line, row in json_lines(completions_path):
        key = _identity(row, line)
        if key not in items:
            raise SpacerError(
                f"{line}: completion of {key}",
                got="no such item",
                expected=f"an id of {items_path}",
            )
        texts.append(_value(row, line, "completion", str, "a text"))
        count = row.get("completion_tokens")
        if count is not None and (type(count) is not int or count < 0):
            raise SpacerError(
                f"{line}: completion_tokens",
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


def _value(row, line, names, kinds, expected):
    """The first of a row's values under ``names`` (one, or several split by a bar)."""
    keys = names.split("|")
    found = [row[key] for key in keys if row.get(key) is not None]
    if not found:
        raise SpacerError(
            f"{line}: {' or '.join(keys)}", got="missing", expected=expected
        )
    if not isinstance(found[0], kinds) or isinstance(found[0], bool):
        raise SpacerError(f"{line}: {keys[0]}", got=repr(found[0]), expected=expected)
    return found[0]


def _identity(row, line):
    """Ids are compared as texts: 7 is "7"."""
    return str(_value(row, line, "id", (str, int), "a text or whole number"))


_KINDS = {re.sub("[-_ ]+", " ", kind): kind for kind in PROBLEM_TYPES}


def _item(row, line, config):
    """An item from any source as a row of ours, its truth checked."""
    kind = _value(row, line, "problem_type", str, "a text")
    kind = _KINDS.get(re.sub(r"[-_\s]+", " ", kind.strip().lower()), kind)
    truth = _value(row, line, "solution|ground_truth", (str, int, float), "a text")
    tagged = re.fullmatch(r"\s*<answer>(.*)</answer>\s*", str(truth), re.DOTALL)
    truth = tagged[1].strip() if tagged else str(truth)
    if re.search("</?answer>", truth):
        raise SpacerError(
            f"{line}: solution",
            got=repr(truth[:60]),
            expected="one pair of answer tags, or none",
        )
    item = {
        "id": row["id"],
        "problem_type": kind,
        "ground_truth": truth,
        "options": row.get("options") or None,  # [] where there is no choice
        "question": str(row.get("question") or row.get("problem") or ""),
    }
    drawn = row.get("cognitive_map") or row.get("map")
    if isinstance(drawn, dict):
        drawn = json.dumps({k: v for k, v in drawn.items() if v is not None})
    if drawn and drawn != "null":
        reading = parse_map(str(drawn), config.grid_size)
        if reading.failure:
            raise SpacerError(
                f"{line}: cognitive_map",
                got=reading.failure,
                expected=f"{{category: [[x, y], …]}}, 0 to {config.grid_size - 1}",
            )
        item["map"] = reading.map
    try:
        check_item(item, config)
    except SpacerError as error:
        raise SpacerError(f"{line}: {error}") from error
    return item
