"""Verifiable rewards of one completion, part by part, and their adapters for TRL.

    R = format + task + (map, if the gate opens) + (length, if the answer is right)

Source: SpaceR Eq. 5. The answer is read from its tag whether or not the rest of the
format is right, and a bad map never costs a right answer its reward (the released
code differs in both). A malformed *completion* scores 0 and says why; malformed
*ground truth* raises.
"""

import json
import math
from dataclasses import dataclass

from spacer_lib.cogmap import SCORERS, hits
from spacer_lib.cogmap import score as map_score
from spacer_lib.completions import (
    MAX_ANSWER_CHARS,
    read_choice,
    read_completion,
    read_number,
)
from spacer_lib.errors import SpacerError
from spacer_lib.metrics import (
    exact_match,
    mean_relative_accuracy,
    regression_score,
    rouge_f1,
    word_error_rate,
)

GATES = ("paper", "released", "off", "always")
COMPONENTS = ("format", "task", "map", "length")


@dataclass(frozen=True)
class RewardConfig:
    """How completions are rewarded. Defaults are SpaceR's.

    Attributes
    ----------
    format_weight : float
        Reward of a well-formed completion. Eq. 5: 1.
    map_weight : float
        Factor of the map score. Eq. 5: 1.
    map_gate : str
        When the map counts: ``paper``, task reward = 1; ``released``, task reward = 1
        or, for numbers, mean relative accuracy > 0.5; ``off``, never; ``always``.
    map_scorer : str
        One of ``cogmap.SCORERS``: ``released``, ``paper`` or ``decay``.
    length_window : (int, int) or None
        Least and most tokens, both inclusive, that earn the bonus; ``None``: no
        bonus. Paper: 360 to 512; released code: 320 to 512.
    length_bonus : float
        Paper: 0.2. Given only where the task reward is 1; the released code asks for
        more than 0.1 in two completions of the group.
    grid_size : int
        M of the map. Paper: 10.
    require_map : bool
        Whether the format reward of a row with a map needs a readable map too.
    """

    format_weight: float = 1.0
    map_weight: float = 1.0
    map_gate: str = "paper"
    map_scorer: str = "released"
    length_window: tuple | list | None = (360, 512)
    length_bonus: float = 0.2
    grid_size: int = 10
    require_map: bool = False

    def __post_init__(self):
        if self.length_window is not None:
            object.__setattr__(self, "length_window", tuple(self.length_window))
        for name in ("format_weight", "map_weight", "length_bonus"):
            value = getattr(self, name)
            self._require(name, 0 <= value < math.inf, "a finite number, 0 or more")
        self._require("map_gate", self.map_gate in GATES, ", ".join(GATES))
        self._require("map_scorer", self.map_scorer in SCORERS, ", ".join(SCORERS))
        self._require("grid_size", self.grid_size > 0, "more than 0")
        window = self.length_window
        ordered = window is None or (
            len(window) == 2
            and all(type(edge) is int for edge in window)
            and 0 <= window[0] <= window[1]
        )
        self._require("length_window", ordered, "two whole numbers, least first")

    def _require(self, name, holds, expected):
        if not holds:
            raise SpacerError(
                f"reward setting {name}",
                got=repr(getattr(self, name)),
                expected=expected,
            )


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
    truth = _true_map(item, config.grid_size)
    reading = read_completion(
        text, expect_map=truth is not None, grid_size=config.grid_size
    )
    task, answer_failure = _task_reward(reading.answer, item)
    if not reading.answer:
        answer_failure = reading.failure
    failure = answer_failure or reading.failure
    right = task > 1 - 1e-9
    well_formed = reading.format_ok
    gate_open, map_reward, drawn_score, hit, there = False, None, None, 0, 0
    if truth is not None:
        gate_open = _gate_opens(config.map_gate, item["problem_type"], task, right)
        drawn = reading.map or {}
        drawn_score = map_score(
            drawn, truth, config.grid_size, scorer=config.map_scorer
        )
        hit, there = hits(drawn, truth)
        map_reward = config.map_weight * drawn_score if gate_open else 0.0
        if config.require_map and reading.map is None:
            well_formed, failure = False, failure or reading.map_failure
    format_reward = config.format_weight if well_formed else 0.0
    length = _length_bonus(config, token_count) if right else 0.0
    return RewardBreakdown(
        format=format_reward, task=task, map=map_reward, length=length,
        total=format_reward + task + (map_reward or 0.0) + length,
        gate_open=gate_open, failure=failure, answer_failure=answer_failure,
        map_failure=reading.map_failure, map_score=drawn_score, map_hits=hit,
        map_total=there,
    )  # fmt: skip


def _gate_opens(gate, problem_type, task, right):
    if gate == "released" and problem_type == "numerical":
        return task > 0.5
    return gate == "always" or (gate != "off" and right)


def _length_bonus(config, token_count):
    if config.length_window is None or token_count is None:
        return 0.0
    low, high = config.length_window
    return config.length_bonus if low <= token_count <= high else 0.0


def _task_reward(answer, item):
    """(reward in [0, 1], failure or ``None``); the truth is checked in any case."""
    kind = item.get("problem_type")
    if kind not in _TASKS:
        raise SpacerError("problem type", got=kind, expected=", ".join(_TASKS))
    truth = item.get("ground_truth")
    if not isinstance(truth, str) or not truth.strip():
        raise _bad_truth(item, truth, "text that is not empty")
    judge = _TASKS[kind](item, truth)
    if not answer:
        return 0.0, None  # the completion's failure says why
    if len(answer) > MAX_ANSWER_CHARS:
        return 0.0, "answer_too_long"
    return judge(answer)


def _choice_task(item, truth):
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


def _number_task(measure):
    def task(item, truth):
        true_number, failure = read_number(truth)
        if failure:
            raise _bad_truth(item, truth, f"one number ({failure})")

        def judge(answer):
            number, failure = read_number(answer)
            return (0.0, failure) if failure else (measure(number, true_number), None)

        return judge

    return task


def _text_task(measure):
    def task(item, truth):
        return lambda answer: (measure(answer, truth), None)

    return task


def _ocr_score(answer, truth):
    return max(0.0, 1 - word_error_rate(answer, truth))


_TASKS = {
    "multiple choice": _choice_task,
    "numerical": _number_task(mean_relative_accuracy),
    "regression": _number_task(regression_score),
    "option-free": _text_task(exact_match),
    "ocr": _text_task(_ocr_score),
    "free-form": _text_task(rouge_f1),
}


def _bad_truth(item, got, expected):
    return SpacerError(
        f"row {item.get('id', '(no id)')}: ground truth",
        got=repr(got), expected=expected, remedy="write the question file again",
    )  # fmt: skip


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


def trl_reward_functions(config, tokenizer=None):
    """One reward function per component, as TRL's ``GRPOTrainer`` calls them.

    Each is named after its component, so that TRL logs ``rewards/map/mean`` and so
    on; weights are already applied, so TRL's ``reward_weights`` stay 1. Every
    completion is scored once per batch, by its own row's type, options and map.
    ``map`` gives 0.0 where the gate is shut and ``None`` where the row has no map.

    Parameters
    ----------
    config : RewardConfig
    tokenizer : optional
        Counts tokens where a caller passes no ``completion_ids``.

    Returns
    -------
    list of callable
        ``f(prompts, completions, completion_ids=…, <columns>, log_metric=…)``;
        ``completions`` are texts or chats of one assistant turn.
    """
    batch_scores = _BatchScorer(config, tokenizer)

    def component(name):
        def reward(
            prompts, completions, completion_ids=None, log_metric=None, **columns
        ):
            scored = batch_scores(completions, completion_ids, columns)
            if name == "task" and log_metric is not None:
                for metric, value in _batch_metrics(scored).items():
                    log_metric(metric, value)
            return [getattr(breakdown, name) for breakdown in scored]

        reward.__name__ = name
        return reward

    return [component(name) for name in COMPONENTS]


class _BatchScorer:
    """Scores a batch, and remembers the last one for the other components."""

    COLUMNS = ("id", "problem_type", "ground_truth", "options", "map")

    def __init__(self, config, tokenizer):
        self.config, self.tokenizer = config, tokenizer
        self._inputs, self._scores = (), []

    def __call__(self, completions, completion_ids, columns):
        named = {key: columns[key] for key in self.COLUMNS if key in columns}
        # The lists themselves are held, so an identity cannot be used twice.
        inputs = (completions, completion_ids, *named.values())
        same = len(inputs) == len(self._inputs) and all(
            new is old for new, old in zip(inputs, self._inputs, strict=True)
        )
        if not same:
            self._scores = self._score(completions, completion_ids, named)
            self._inputs = inputs
        return self._scores

    def _score(self, completions, completion_ids, named):
        scores = []
        for i, completion in enumerate(completions):
            text = completion
            if not isinstance(completion, str):
                text = completion[-1]["content"]
            count = None
            if completion_ids is not None:
                count = len(completion_ids[i])
            elif self.tokenizer is not None:
                encoded = self.tokenizer(text, add_special_tokens=False)
                count = len(encoded["input_ids"])
            item = {key: column[i] for key, column in named.items()}
            scores.append(score(text, item, self.config, count))
        return scores


def _batch_metrics(scored):
    """Shares over a batch that TRL logs beside the rewards."""
    unread = sum(b.answer_failure is not None for b in scored)
    metrics = {"answer_failures": unread / len(scored)}
    mapped = [b for b in scored if b.map_total]
    if mapped:
        there = sum(b.map_total for b in mapped)
        unmapped = sum(b.map_failure is not None for b in mapped)
        metrics["map_hit_rate"] = sum(b.map_hits for b in mapped) / there
        metrics["map_failures"] = unmapped / len(mapped)
    return metrics
