"""Verifiable rewards of one completion, part by part, and their adapters for TRL.

    R = format + task + (map, if the gate opens) + (length, if the answer is right)

Source: SpaceR Eq. 5. The answer is read from its tag whether or not the rest of the
format is right, and a bad map never costs a right answer its reward (the released
code differs in both). A malformed *completion* scores 0 and says why; malformed
*ground truth* raises. ``PRESETS`` holds the rewards of the systems compared here.
"""

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import MAX_ANSWER_CHARS, read_choice
from spacer_lib.language.numbers import read_number, unit_of
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.scores import hits
from spacer_lib.maps.scores import score as map_score
from spacer_lib.rewards.metrics import (
    SPATIAL_R1_THRESHOLDS,
    exact_match,
    mean_relative_accuracy,
    regression_score,
    relative_cost_score,
    rouge_f1,
    word_error_rate,
)

_NUMBER_SCORES = {
    "mra": mean_relative_accuracy,
    "mra-11": functools.partial(
        mean_relative_accuracy, thresholds=SPATIAL_R1_THRESHOLDS
    ),
    "relative-cost": relative_cost_score,
}
_UNPAID_THINKING = ("empty_think", "template_think")  # of ``Completion.flags``


@dataclass(frozen=True)
class RewardBreakdown:
    """What one completion earned, and why.

    Attributes
    ----------
    format, task, length, total : float
    map : float or None
        Map reward after gate and weight; ``None`` if the row has no map.
    map_score : float or None
        The map's own score in [0, 1], whatever the gate said.
    gate_open : bool
        Whether the map was allowed to count.
    failure : str or None
        ``answer_failure``, else what is wrong with the format.
    answer_failure : str or None
        Why no answer could be read: a failure of the answer tag, ``not_an_option``,
        or one of ``completions.read_number``.
    map_failure : str or None
    map_hits, map_total : int
        True instances found within 1.5 cells, and true instances.
    reasons : tuple of str
        Why each of ``COMPONENTS`` is what it is, such as ``map: gate shut (task 0.4)``.
    drawn_map, true_map : dict or None
        What the map was scored on.
    """

    format: float
    task: float
    map: float | None
    length: float
    total: float
    gate_open: bool
    failure: str | None
    answer_failure: str | None
    map_failure: str | None
    map_score: float | None
    map_hits: int
    map_total: int
    reasons: tuple = ()
    drawn_map: dict | None = None
    true_map: dict | None = None


def score(text, item, config, token_count=None):
    """Reward one completion.

    Parameters
    ----------
    text : str
        The completion.
    item : dict
        Question row: ``problem_type``, ``ground_truth`` (a letter, number or text, as
        str), and where there are any ``options`` and ``map``. Both may arrive as JSON
        text; a map's ``None`` entries (columnar storage pads with them) are dropped.
    config : RewardConfig
    token_count : int, optional
        Length of the completion in tokens; without it there is no length bonus.

    Returns
    -------
    RewardBreakdown

    Raises
    ------
    SpacerError
        If the row's type, options, ground truth or map is malformed.
    """
    return _score(text, _truth(item, config), config, token_count)


def score_batch(texts, items, config, token_counts=None):
    """Reward completions, each by its own row; rows of one ``id`` form a group.

    A row is checked once for all the completions that come with the same object. The
    group matters to ``length_rule="released"`` alone: a lone completion, whose group
    is out of sight, is judged by its own task reward.

    Parameters
    ----------
    texts : list of str
    items : list of dict
        The row of each text, as for ``score``.
    config : RewardConfig
    token_counts : list of (int or None), optional

    Returns
    -------
    list of RewardBreakdown

    Raises
    ------
    SpacerError
        If a row is malformed, or lengths differ.
    """
    counts = [None] * len(texts) if token_counts is None else token_counts
    if not len(texts) == len(items) == len(counts):
        raise SpacerError(
            "completions to score",
            got=f"{len(texts)} texts, {len(items)} rows, {len(counts)} token counts",
            expected="as many of each",
        )
    truths, scored = {}, []
    for text, item, count in zip(texts, items, counts, strict=True):
        if id(item) not in truths:
            truths[id(item)] = _truth(item, config)
        scored.append(_score(text, truths[id(item)], config, count))
    if config.length_rule == "released":
        scored = _settle_groups(scored, [item.get("id") for item in items])
    return scored


def _settle_groups(scored, ids):
    """Take the bonus back where no second completion of the group has earned one."""
    sizes = Counter(ids)
    earning = Counter(k for k, b in zip(ids, scored, strict=True) if b.task > 0.1)
    return [
        _without_length(b)
        if b.length and key is not None and sizes[key] > 1 and earning[key] < 2
        else b
        for key, b in zip(ids, scored, strict=True)
    ]


def _without_length(breakdown):
    reason = "length: no other of the group has a task reward above 0.1"
    return dataclasses.replace(
        breakdown,
        length=0.0,
        total=breakdown.total - breakdown.length,
        reasons=(*breakdown.reasons[:-1], reason),
    )


class _Truth(NamedTuple):
    """A row's truth, checked."""

    kind: str
    judge: Callable  # answer → (reward, failure or None)
    map: dict | None


def _truth(item, config):
    cells = _true_map(item, config.grid_size)
    kind, truth = item.get("problem_type"), item.get("ground_truth")
    if kind not in _TASKS:
        raise SpacerError("problem type", got=kind, expected=", ".join(_TASKS))
    if not isinstance(truth, str) or not truth.strip():
        raise _bad_truth(item, truth, "text that is not empty")
    return _Truth(kind, _TASKS[kind](item, truth, config), cells)


def check_item(item, config):
    """Raise what ``score`` would raise for a malformed row, without a completion."""
    _truth(item, config)


def _score(text, truth, config, token_count):
    reading = read_completion(
        text,
        expect_map=truth.map is not None,
        grid_size=config.grid_size,
        shape=config.shape,
    )
    task, answer_failure = _task_reward(reading.answer, truth)
    if not reading.answer:
        answer_failure = reading.failure
    right = task > 1 - 1e-9
    form_failure = reading.failure
    if form_failure is None and config.strict_think:
        form_failure = next((f for f in reading.flags if f in _UNPAID_THINKING), None)
    gate_open, map_reward, drawn_score, hit, there = False, None, None, 0, 0
    if truth.map is not None:
        gate_open = _gate_opens(config.map_gate, truth.kind, task, right)
        drawn = reading.map or {}
        drawn_score = map_score(
            drawn, truth.map, config.grid_size, scorer=config.map_scorer
        )
        hit, there = hits(drawn, truth.map)
        map_reward = config.map_weight * drawn_score if gate_open else 0.0
        if config.require_map and reading.map is None:
            form_failure = form_failure or reading.map_failure
    format_reward = config.format_weight if form_failure is None else 0.0
    length, length_reason = _length_bonus(config, task, right, token_count)
    reasons = (
        f"format: {_format_reason(config, form_failure)}",
        f"task: {answer_failure or ('right' if right else f'{task:.3g} of 1')}",
        _map_reason(config, gate_open, task, drawn_score, reading.map_failure),
        f"length: {length_reason}",
    )
    return RewardBreakdown(
        format=format_reward,
        task=task,
        map=map_reward,
        length=length,
        total=format_reward + task + (map_reward or 0.0) + length,
        gate_open=gate_open,
        failure=answer_failure or form_failure,
        answer_failure=answer_failure,
        map_failure=reading.map_failure,
        map_score=drawn_score,
        map_hits=hit,
        map_total=there,
        reasons=reasons,
        drawn_map=None if truth.map is None else drawn,
        true_map=truth.map,
    )


def _gate_opens(gate, problem_type, task, right):
    if gate == "released" and problem_type == "numerical":
        return task > 0.5
    return gate == "always" or (gate != "off" and right)


def _format_reason(config, failure):
    if not config.format_weight:
        return "not rewarded"
    return failure or "well-formed"


def _map_reason(config, gate_open, task, drawn_score, failure):
    if drawn_score is None:
        return "map: the row has none"
    if not gate_open:
        closed = "off" if config.map_gate == "off" else f"shut (task {task:.3g})"
        return f"map: gate {closed}"
    return f"map: {failure or f'{drawn_score:.3g} by {config.map_scorer}'}"


def _length_bonus(config, task, right, token_count):
    """(bonus, why)."""
    if config.length_window is None:
        return 0.0, "no bonus set"
    if token_count is None:
        return 0.0, "tokens not counted"
    if not (right or (config.length_rule == "released" and task > 0.1)):
        return 0.0, f"not for a task reward of {task:.3g}"
    low, high = config.length_window
    inside = low <= token_count <= high
    where = "in" if inside else "not in"
    bonus = config.length_bonus if inside else 0.0
    return bonus, f"{token_count} tokens, {where} {low} to {high}"


def _task_reward(answer, truth):
    """(reward in [0, 1], failure or ``None``)."""
    if not answer:
        return 0.0, None  # the completion's failure says why
    if len(answer) > MAX_ANSWER_CHARS:
        return 0.0, "answer_too_long"
    return truth.judge(answer)


def _choice_task(item, truth, config):
    options = _from_json(item, "options")
    listed = isinstance(options, (list, tuple)) and all(
        isinstance(option, str) for option in options
    )
    if options is not None and not listed:
        raise _bad_truth(item, options, "options as a list of texts")
    letter = read_choice(truth, options)
    if letter is None:
        raise _bad_truth(item, truth, f"one of the options {options}")

    def judge(answer):
        chosen = read_choice(answer, options)
        return float(chosen == letter), None if chosen else "not_an_option"

    return judge


def _number_task(item, truth, config):
    true_number, failure = read_number(truth)
    if failure:
        raise _bad_truth(item, truth, f"one number ({failure})")
    measure = regression_score
    if item["problem_type"] == "numerical":
        measure = _NUMBER_SCORES[config.number_score]
    unit = unit_of(item.get("question") or "") if config.read_units else None

    def judge(answer):
        number, failure = read_number(answer, unit)
        return (0.0, failure) if failure else (measure(number, true_number), None)

    return judge


def _text_task(measure):
    def task(item, truth, config):
        return lambda answer: (measure(answer, truth), None)

    return task


def _ocr_score(answer, truth):
    return max(0.0, 1 - word_error_rate(answer, truth))


_TASKS = {
    "multiple choice": _choice_task,
    "numerical": _number_task,
    "regression": _number_task,
    "option-free": _text_task(exact_match),
    "ocr": _text_task(_ocr_score),
    "free-form": _text_task(rouge_f1),
}
PROBLEM_TYPES = tuple(_TASKS)


def _bad_truth(item, got, expected):
    return SpacerError(
        f"row {item.get('id', '(no id)')}: ground truth",
        got=repr(got),
        expected=expected,
        remedy="write the question file again",
    )


def _from_json(item, key):
    """A column's value, which may be JSON text; ``None`` if it is absent."""
    value = item.get(key)
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise _bad_truth(item, value, f"{key} as JSON") from error


def _true_map(item, grid_size):
    """The row's map, checked; ``None`` if it has none, or none with an object in it."""
    cells = _from_json(item, "map")
    if cells is None:
        return None
    if not isinstance(cells, dict):
        raise _bad_truth(item, cells, "a map: {category: [[x, y], …]}")
    cells = {name: spots for name, spots in cells.items() if spots}
    for name, spots in cells.items():
        on_grid = isinstance(spots, (list, tuple)) and all(
            isinstance(cell, (list, tuple))
            and [type(v) for v in cell] == [int, int]
            and 0 <= min(cell) <= max(cell) < grid_size
            for cell in spots
        )
        if not on_grid:
            expected = f"map cells as two integers in [0, {grid_size - 1}]"
            raise _bad_truth(item, f"{name}: {spots}", expected)
    return cells or None
