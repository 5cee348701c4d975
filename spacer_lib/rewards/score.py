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
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from spacer_lib.errors import SpacerError
from spacer_lib.language.completions import (
    MAX_ANSWER_CHARS,
    SHAPES,
    read_choice,
    read_completion,
    read_number,
    unit_of,
)
from spacer_lib.maps.grid import SCORERS, hits
from spacer_lib.maps.grid import score as map_score
from spacer_lib.rewards.metrics import (
    SPATIAL_R1_THRESHOLDS,
    exact_match,
    mean_relative_accuracy,
    regression_score,
    relative_cost_score,
    rouge_f1,
    word_error_rate,
)

GATES = ("paper", "released", "off", "always")
LENGTH_RULES = ("right", "released")
COMPONENTS = ("format", "task", "map", "length")

_NUMBER_SCORES = {
    "mra": mean_relative_accuracy,
    "mra-11": functools.partial(
        mean_relative_accuracy, thresholds=SPATIAL_R1_THRESHOLDS
    ),
    "relative-cost": relative_cost_score,
}
NUMBER_SCORES = tuple(_NUMBER_SCORES)
_UNPAID_THINKING = ("empty_think", "template_think")  # of ``Completion.flags``


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
        One of ``cogmap.SCORERS``: ``released``, ``paper``, ``decay`` or ``aligned``.
    length_window : (int, int) or None
        Least and most tokens, both inclusive, that earn the bonus; ``None``: no
        bonus. Paper: 360 to 512; released code: 320 to 512.
    length_bonus : float
        Released script: 0.2; the paper prints no value.
    grid_size : int
        M of the map. Paper: 10.
    require_map : bool
        Whether the format reward of a row with a map needs a readable map too.
    length_rule : str
        Who may earn the length bonus: ``right``, a task reward of 1 (paper);
        ``released``, one above 0.1, if two completions of the group have that.
        Groups are known to ``score_batch`` alone.
    number_score : str
        How a number is judged: ``mra``, mean relative accuracy over ten thresholds
        (SpaceR Eq. 3); ``mra-11``, over Spatial-R1's eleven; ``relative-cost``,
        vsGRPO's. Regression rows keep their own rule.
    shape : str
        One of ``completions.SHAPES``: ``think``, ``observe`` or ``vanilla``.
    strict_think : bool
        Whether an empty or template think block loses the format reward.
    read_units : bool
        Whether a unit in a numerical answer is converted to the question's.
    """

    format_weight: float = 1.0
    map_weight: float = 1.0
    map_gate: str = "paper"
    map_scorer: str = "released"
    length_window: tuple | list | None = (360, 512)
    length_bonus: float = 0.2
    grid_size: int = 10
    require_map: bool = False
    length_rule: str = "right"
    number_score: str = "mra"
    shape: str = "think"
    strict_think: bool = False
    read_units: bool = False

    def __post_init__(self):
        if self.length_window is not None:
            object.__setattr__(self, "length_window", tuple(self.length_window))
        for name in ("format_weight", "map_weight", "length_bonus"):
            value = getattr(self, name)
            self._require(name, 0 <= value < math.inf, "a finite number, 0 or more")
        for name, known in (
            ("map_gate", GATES),
            ("map_scorer", SCORERS),
            ("shape", SHAPES),
            ("length_rule", LENGTH_RULES),
            ("number_score", NUMBER_SCORES),
        ):
            self._require(name, getattr(self, name) in known, ", ".join(known))
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


_VSGRPO = RewardConfig(
    number_score="relative-cost",  # vsGRPO §4.2: |Δ| over the smaller of the two
    map_gate="off",  # it draws no map
    length_window=None,  # tried against hacks and dropped: §4.3.3
)
# Weights of 1 are Eq. 5's, and what the others print. T-GRPO's bonus, which SpaceR's
# script adds, needs rollouts of shuffled frames: ``tgrpo_bonus``.
PRESETS = {
    "spacer-paper": RewardConfig(
        map_gate="paper",  # Eq. 5: R_map where R_task = 1
        map_scorer="released",  # Eq. 4 leaves the pairing open: its code's
        length_window=(360, 512),  # §5.1: l_min and l_max
        length_rule="right",  # §4.2: a correct answer alone
        length_bonus=0.2,  # released script; the paper prints no value
    ),
    "spacer-released": RewardConfig(
        map_gate="released",  # numbers: mean relative accuracy > 0.5 is enough
        map_scorer="released",
        length_window=(320, 512),  # not the paper's 360
        length_rule="released",  # two of the group above 0.1
        length_bonus=0.2,
        # Left out: there, a bad map may cost a right answer its task reward.
    ),
    "spatial-r1": RewardConfig(
        number_score="mra-11",  # Eq. 7: N = (e - s) / δ + 2
        map_gate="off",  # no map, and no length reward, in §3
        length_window=None,
    ),
    "vsgrpo-think": _VSGRPO,
    "vsgrpo-observe": dataclasses.replace(_VSGRPO, shape="observe"),
    "vsgrpo-vanilla": dataclasses.replace(
        _VSGRPO,
        shape="vanilla",
        format_weight=0.0,  # §4.2: omitted
    ),
    "ours": RewardConfig(
        map_gate="paper",
        map_scorer="aligned",  # chance earns 0, in whichever frame it was drawn
        length_window=None,  # words are worth nothing by themselves
        strict_think=True,
        read_units=True,
    ),
}


def get_preset(name):
    """The ``RewardConfig`` of that name in ``PRESETS``.

    Raises
    ------
    SpacerError
        For an unknown name.
    """
    if name not in PRESETS:
        raise SpacerError("reward preset", got=name, expected=", ".join(PRESETS))
    return PRESETS[name]


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


def tgrpo_bonus(ordered_task, shuffled_task, value=0.3, ratio=0.8, least=0.1):
    """T-GRPO's bonus for completions that use the order of the frames.

    With p and p̃ the mean task rewards of a group with ordered and with shuffled
    frames: if p ≥ ``ratio`` p̃, each ordered completion with a task reward above
    ``least`` earns ``value``. Shuffled completions earn nothing and never enter a
    loss. No preset adds it.

    Parameters
    ----------
    ordered_task : (G,) array of float
        Task rewards in [0, 1].
    shuffled_task : (H,) array of float
        H = G / 2 in Video-R1.

    Returns
    -------
    (G,) array of float

    Raises
    ------
    SpacerError
        If a side is empty or leaves [0, 1].

    Source: Video-R1 (arXiv 2503.21776) §3; SpaceR's script switches it on, its paper
    does not mention it.

    Examples
    --------
    >>> tgrpo_bonus([1, 0.5, 0, 0], [0, 0.5])
    array([0.3, 0.3, 0. , 0. ])
    >>> tgrpo_bonus([1, 0, 0, 0], [1, 0])
    array([0., 0., 0., 0.])
    """
    sides = [np.asarray(side, dtype=float) for side in (ordered_task, shuffled_task)]
    for side in sides:
        if side.ndim != 1 or not side.size or not ((side >= 0) & (side <= 1)).all():
            raise SpacerError(
                "task rewards of T-GRPO",
                got=side.tolist(),
                expected="one or more numbers in [0, 1]",
            )
    ordered, shuffled = sides
    earned = ordered.mean() >= ratio * shuffled.mean()
    return value * (earned & (ordered > least))


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
                for metric, value in _batch_metrics(scored, config.grid_size).items():
                    log_metric(metric, value)
            return [getattr(breakdown, name) for breakdown in scored]

        reward.__name__ = name
        return reward

    return [component(name) for name in COMPONENTS]


class _BatchScorer:
    """Scores a batch, and remembers the last one for the other components."""

    COLUMNS = ("id", "problem_type", "ground_truth", "options", "map", "question")

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
        texts, items, counts = [], [], []
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
            # TRL repeats a row for each completion of its group: one object for all.
            items.append(items[-1] if items and items[-1] == item else item)
            texts.append(text)
            counts.append(count)
        return score_batch(texts, items, self.config, counts)


def _batch_metrics(scored, grid_size):
    """Shares and mean map scores over a batch, which TRL logs beside the rewards."""
    unread = sum(b.answer_failure is not None for b in scored)
    metrics = {"answer_failures": unread / len(scored)}
    mapped = [b for b in scored if b.map_total]
    if mapped:
        there = sum(b.map_total for b in mapped)
        unmapped = sum(b.map_failure is not None for b in mapped)
        for name in SCORERS:
            metrics[f"map_{name}"] = sum(
                map_score(b.drawn_map, b.true_map, grid_size, scorer=name)
                for b in mapped
            ) / len(mapped)
        metrics["map_hit_rate"] = sum(b.map_hits for b in mapped) / there
        metrics["map_failures"] = unmapped / len(mapped)
    return metrics
