"""Verifiable rewards: what one completion earns, part by part, and why.

    R = format + task + (map, if the gate opens) + (length, if the answer is right)
        + (assertions, boxes, relations, if the gate opens) + consistency

The second line is ours, and 0 unless a weight switches a part on. ``score`` takes a
completion and its question, ``score_batch`` many at once.

Departures from the released code, unless ``code`` is ``spacer``. The answer is read
from its tag whether or not the rest of the format is right. A bad map never costs a
right answer its task reward. Each completion is scored by the type, options and map of
its own question, not by those of the batch's first. A malformed completion scores 0 and
says why; a malformed ground truth raises.

Source: SpaceR §4.1, §4.2 and Eq. 1 to 5, https://arxiv.org/abs/2504.01805.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from spacer_lib.artifacts import config_hash, parse_json
from spacer_lib.errors import SpacerError
from spacer_lib.language.answers import Reading, read_figure, read_letter
from spacer_lib.language.choices import MAX_ANSWER_CHARS, read_choice
from spacer_lib.language.numbers import read_number, unit_of
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.boxes import are_boxes
from spacer_lib.maps.scores import hits
from spacer_lib.maps.scores import score as map_score
from spacer_lib.rewards import released
from spacer_lib.rewards.added import Said, added_parts, read_boxes
from spacer_lib.rewards.config import COMPONENTS, RewardConfig
from spacer_lib.rewards.consistency import Part
from spacer_lib.rewards.metrics import (
    SPATIAL_R1_THRESHOLDS,
    exact_match,
    mean_relative_accuracy,
    regression_score,
    relative_cost_score,
    rouge_f1,
    word_error_rate,
)
from spacer_lib.rows import Boxes, CognitiveMap, Question

_UNPAID_THINKING = ("empty_think", "template_think")  # of ``Completion.flags``


@dataclass(frozen=True)
class RewardBreakdown:
    """What one completion earned, and why.

    Attributes
    ----------
    format, task, length, total : float
    map : float or None
        Map reward after gate and weight; ``None`` if the question has no map.
    gate_open : bool
        Whether the map was allowed to count.
    failure : str or None
        ``answer_failure``, else what is wrong with the format.
    answer_failure : str or None
        Why no answer was read: a failure of the answer tag, ``not_an_option``,
        ``answer_too_long``, or one of ``language.numbers.NUMBER_FAILURES``.
    map_failure : str or None
        Why no map was read; see ``language.tags.Completion``.
    map_score : float or None
        The map's own score in [0, 1], whether or not the gate is open.
    map_hits, map_total : int
        True instances drawn within 1.5 cells, and true instances.
    consistency, assertions, boxes, relations : float or None
        Added components after gate and weight; ``None`` if one has no weight or does
        not apply to the question.
    reasons : tuple of str
        Why each of ``RewardConfig.components`` is what it is, such as ``map: gate shut
        (task 0.4)``.
    drawn_map, true_map : dict or None
        The two maps compared: ``{category: [(x_col, y_row), …]}``.
    answer : str or None
        What was read: a letter, a number in digits and the question's unit, or a text.
    how : str or None
        How it was read, one of ``language.answers.HOWS``.
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
    reasons: tuple[str, ...] = ()
    drawn_map: CognitiveMap | None = None
    true_map: CognitiveMap | None = None
    answer: str | None = None
    how: str | None = None
    consistency: float | None = None
    assertions: float | None = None
    boxes: float | None = None
    relations: float | None = None


def score(
    text: str, item: Question, config: RewardConfig, token_count: int | None = None
) -> RewardBreakdown:
    """Reward one completion.

    Parameters
    ----------
    text : str
        The completion.
    item : Question
        Its ``problem_type``, ``ground_truth``, ``options``, ``map`` and, for units,
        ``question`` are read; for added components also ``question_type``,
        ``categories`` and ``boxes``. Options, map and boxes may be JSON text;
        a category without cells or boxes is left out.
    config : RewardConfig
    token_count : int, optional
        Length of the completion in tokens. Without it there is no length bonus.

    Raises
    ------
    SpacerError
        If the question's type, options, ground truth or map is malformed.

    Source: SpaceR Eq. 5, https://arxiv.org/abs/2504.01805.
    """
    return _score(text, _truth(item, config), config, token_count)


def score_batch(
    texts: Sequence[str],
    items: Sequence[Question],
    config: RewardConfig,
    token_counts: Sequence[int | None] | None = None,
) -> list[RewardBreakdown]:
    """Reward completions, each by its own question.

    A question is checked once for all completions that come with the same object.
    Questions of one ``id`` form a group, which only ``length_rule="released"`` looks
    at: there a completion alone in its group is judged by its own task reward.

    Parameters
    ----------
    texts : sequence of str
        Completions.
    items : sequence of Question
        The question of each completion, as for ``score``.
    config : RewardConfig
    token_counts : sequence of (int or None), optional
        Length of each completion in tokens.

    Raises
    ------
    SpacerError
        If a question is malformed, or the lengths differ.

    Source: SpaceR Eq. 5, https://arxiv.org/abs/2504.01805; the group's part in the
    length bonus is the released code's.
    """
    counts = [None] * len(texts) if token_counts is None else token_counts
    if not len(texts) == len(items) == len(counts):
        raise SpacerError(
            "completions to score",
            kind="rewards.uneven-batch",
            got=f"{len(texts)} texts, {len(items)} questions, {len(counts)} token "
            "counts",
            expected="as many of each",
        )
    truths: dict[int, _Truth] = {}
    scored = []
    for text, item, count in zip(texts, items, counts, strict=True):
        if id(item) not in truths:
            truths[id(item)] = _truth(item, config)
        scored.append(_score(text, truths[id(item)], config, count))
    if config.length_rule == "released":
        scored = _without_lone_bonuses(scored, [item.get("id") for item in items])
    return scored


def check_item(item: Question, config: RewardConfig) -> None:
    """Raise what ``score`` raises for a malformed question, without a completion."""
    _truth(item, config)


def _score(
    text: str, truth: "_Truth", config: RewardConfig, token_count: int | None
) -> RewardBreakdown:
    if config.code == "spacer":
        return _released_score(text, truth, config, token_count)
    if config.code == "random":
        return _random_score(text, truth, config, token_count)
    reading = read_completion(
        text,
        expect_map=truth.map is not None,
        grid_size=config.grid_size,
        shape=config.shape,
    )
    task, said = _task_reward(reading.answer, truth)
    answer_failure = said.failure if reading.answer else reading.failure
    right = task > 1 - 1e-9
    form_failure = reading.failure
    if form_failure is None and config.strict_think:
        form_failure = next((f for f in reading.flags if f in _UNPAID_THINKING), None)
    boxes = read_boxes(reading, config)
    map_failure = reading.map_failure
    if boxes is not None and boxes.boxes is not None:
        map_failure = None  # the block holds boxes in place of cells
    gate_open, hit, there = False, 0, 0
    map_reward, drawn, drawn_score = None, None, None
    if truth.map is not None:
        gate_open = gate_opens(config.map_gate, truth.kind, task, right)
        drawn = reading.map or {}
        drawn_score = map_score(
            drawn, truth.map, config.grid_size, scorer=config.map_scorer
        )
        hit, there = hits(drawn, truth.map)
        map_reward = config.map_weight * drawn_score if gate_open else 0.0
        if config.require_map and reading.map is None:
            form_failure = form_failure or map_failure
    format_reward = config.format_weight if form_failure is None else 0.0
    length, length_reason = _length_bonus(config, task, right, token_count)
    added = added_parts(config, Said(truth.row, reading, said.answer, boxes))
    opened = gate_opens(config.map_gate, truth.kind, task, right)
    paid = {name: _paid(config, name, part, opened) for name, part in added.items()}
    reasons = (
        f"format: {_format_reason(config, form_failure)}",
        f"task: {answer_failure or ('right' if right else f'{task:.3g} of 1')}",
        _map_reason(config, gate_open, task, drawn_score, map_failure),
        f"length: {length_reason}",
        *(f"{name}: {part.reason}" for name, part in added.items()),
    )
    return RewardBreakdown(
        format=format_reward,
        task=task,
        map=map_reward,
        length=length,
        total=format_reward
        + task
        + (map_reward or 0.0)
        + length
        + sum(value or 0.0 for value in paid.values()),
        gate_open=gate_open,
        failure=answer_failure or form_failure,
        answer_failure=answer_failure,
        map_failure=map_failure,
        map_score=drawn_score,
        map_hits=hit,
        map_total=there,
        reasons=reasons,
        drawn_map=drawn,
        true_map=truth.map,
        answer=said.answer,
        how=said.how,
        **paid,
    )


def _paid(config: RewardConfig, name: str, part: Part, opened: bool) -> float | None:
    """An added part after gate and weight; consistency is for right answers anyway."""
    if part.score is None:
        return None
    weight: float = getattr(config, f"{name}_weight")
    return weight * part.score if opened or name == "consistency" else 0.0


def _released_score(
    text: str, truth: "_Truth", config: RewardConfig, token_count: int | None
) -> RewardBreakdown:
    """``rewards.released`` as a breakdown."""
    maps = config.map_gate != "off"
    found = released.judge(
        text, truth.kind, truth.text, truth.map, config.grid_size, maps
    )
    right = found.task > 1 - 1e-9
    length, length_reason = _length_bonus(config, found.task, right, token_count)
    map_reward, drawn_score, hit, there = None, None, 0, 0
    if truth.map is not None:
        drawn_score = found.map_score or 0.0
        paid = found.gate_open and maps
        map_reward = config.map_weight * drawn_score if paid else 0.0
        hit, there = hits(found.drawn, truth.map)
    # The code says no reason; ours are clearer, where our form is broken too.
    form_failure = None
    if not found.format:
        form_failure = read_completion(text).failure or "outer_text"
    task_reason = found.failure or ("right" if right else f"{found.task:.3g} of 1")
    if found.taken_back:
        task_reason = "taken back: the map is worth 0"
    return RewardBreakdown(
        format=config.format_weight if found.format else 0.0,
        task=found.task,
        map=map_reward,
        length=length,
        total=config.format_weight * found.format
        + found.task
        + (map_reward or 0.0)
        + length,
        gate_open=found.gate_open,
        failure=found.failure or form_failure,
        answer_failure=found.failure,
        map_failure="no_map" if truth.map and found.map_score is None else None,
        map_score=drawn_score,
        map_hits=hit,
        map_total=there,
        reasons=(
            f"format: {_format_reason(config, form_failure)}",
            f"task: {task_reason}",
            _map_reason(
                config,
                found.gate_open,
                found.task,
                drawn_score,
                None if found.map_score is not None else "no_map",
            ),
            f"length: {length_reason}",
        ),
        drawn_map=found.drawn if truth.map is not None else None,
        true_map=truth.map,
        answer=found.answer,
        how="text" if found.answer is not None else None,
    )


def _random_score(
    text: str, truth: "_Truth", config: RewardConfig, token_count: int | None
) -> RewardBreakdown:
    """As under ``ours``, with a reward that depends on nothing that was asked for.

    The number is drawn from question and completion, so a resumed run earns the same.
    """
    ours = dataclasses.replace(config, code="ours")
    read = _score(text, truth, ours, token_count)
    drawn = int(config_hash([truth.row.get("question"), text]), 16) / 16**12
    return dataclasses.replace(
        read,
        format=0.0,
        task=drawn,
        map=None if read.map is None else 0.0,
        length=0.0,
        total=drawn,
        reasons=tuple(f"{part}: chance alone decides" for part in COMPONENTS),
    )


# ---------------------------------------------------------------- format, map, length


def _format_reason(config: RewardConfig, failure: str | None) -> str:
    if not config.format_weight:
        return "not rewarded"
    return failure or "well-formed"


def gate_opens(gate: str, problem_type: str, task: float, right: bool) -> bool:
    """Whether the map reward counts.

    Source: SpaceR Eq. 5, https://arxiv.org/abs/2504.01805, and its released code.
    """
    if gate == "released" and problem_type == "numerical":
        return task > 0.5
    return gate == "always" or (gate != "off" and right)


def _map_reason(
    config: RewardConfig,
    gate_open: bool,
    task: float,
    drawn_score: float | None,
    failure: str | None,
) -> str:
    if drawn_score is None:
        return "map: the row has none"
    if not gate_open:
        closed = "off" if config.map_gate == "off" else f"shut (task {task:.3g})"
        return f"map: gate {closed}"
    return f"map: {failure or f'{drawn_score:.3g} by {config.map_scorer}'}"


def _length_bonus(
    config: RewardConfig, task: float, right: bool, token_count: int | None
) -> tuple[float, str]:
    """Bonus and reason of one completion; its group is not looked at.

    Source: SpaceR §4.2 and §5.1, https://arxiv.org/abs/2504.01805; ``released``: its
    code.
    """
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


def _without_lone_bonuses(
    scored: Sequence[RewardBreakdown], ids: Sequence[Hashable]
) -> list[RewardBreakdown]:
    """Take back length bonuses in groups where one task reward alone exceeds 0.1."""
    sizes = Counter(ids)
    earning = Counter(k for k, b in zip(ids, scored, strict=True) if b.task > 0.1)
    return [
        _without_length(b)
        if b.length and key is not None and sizes[key] > 1 and earning[key] < 2
        else b
        for key, b in zip(ids, scored, strict=True)
    ]


def _without_length(breakdown: RewardBreakdown) -> RewardBreakdown:
    reason = "length: no other of the group has a task reward above 0.1"
    return dataclasses.replace(
        breakdown,
        length=0.0,
        total=breakdown.total - breakdown.length,
        reasons=(*breakdown.reasons[:-1], reason),
    )


# ---------------------------------------------------------------- task

_Judge = Callable[[str], tuple[float, Reading]]  # answer → (reward, what was read)
_NUMBER_SCORES: dict[str, Callable[[float, float], float]] = {
    "mra": mean_relative_accuracy,
    "mra-11": functools.partial(
        mean_relative_accuracy, thresholds=SPATIAL_R1_THRESHOLDS
    ),
    "relative-cost": relative_cost_score,
}


def _task_reward(answer: str | None, truth: "_Truth") -> tuple[float, Reading]:
    """Reward in [0, 1], and what was read."""
    if not answer:
        return 0.0, Reading(None)  # the completion's failure says why
    if len(answer) > MAX_ANSWER_CHARS:
        return 0.0, Reading(None, failure="answer_too_long")
    return truth.judge(answer)


def _choice_task(item: Question, truth: str, config: RewardConfig) -> _Judge:
    """1 for the right option, else 0.

    Source: SpaceR Eq. 2, https://arxiv.org/abs/2504.01805.
    """
    options = _from_json(item, "options")
    listed = isinstance(options, (list, tuple)) and all(
        isinstance(option, str) for option in options
    )
    if options is not None and not listed:
        raise _malformed(item, "options", options, "a list of texts")
    letter = read_choice(truth, options)
    if letter is None:
        raise _malformed(
            item,
            "ground truth",
            truth,
            f"one of the options {options}",
            "not-an-option",
        )

    def judge(answer: str) -> tuple[float, Reading]:
        chosen = read_letter(answer, options, config.answer_grammar)
        return float(chosen.answer == letter), chosen

    return judge


def _number_task(item: Question, truth: str, config: RewardConfig) -> _Judge:
    """The config's score for a numerical question, the regression score for another.

    Source: SpaceR Eq. 3 and §4.1, https://arxiv.org/abs/2504.01805; see
    ``rewards.metrics`` for the other papers' scores.
    """
    true_number, failure = read_number(truth)
    if true_number is None:
        expected = f"one number ({failure})"
        raise _malformed(item, "ground truth", truth, expected, "not-a-number")
    numerical = item["problem_type"] == "numerical"
    measure = _NUMBER_SCORES[config.number_score] if numerical else regression_score
    unit = unit_of(item.get("question") or "") if config.read_units else None

    def judge(answer: str) -> tuple[float, Reading]:
        stated = read_figure(answer, unit, config.answer_grammar)
        number = stated.value
        return 0.0 if number is None else measure(number, true_number), stated

    return judge


def _text_task(
    measure: Callable[[str, str], float],
) -> Callable[[Question, str, RewardConfig], _Judge]:
    def task(item: Question, truth: str, config: RewardConfig) -> _Judge:
        def judge(answer: str) -> tuple[float, Reading]:
            return measure(answer, truth), Reading(answer, how="text")

        return judge

    return task


def _ocr_score(answer: str, truth: str) -> float:
    """1 - word error rate, 0 or more. Source: SpaceR §4.1."""
    return max(0.0, 1 - word_error_rate(answer, truth))


_TASKS = {
    "multiple choice": _choice_task,
    "numerical": _number_task,
    "regression": _number_task,
    "option-free": _text_task(exact_match),  # vsGRPO: multiple choice without options
    "ocr": _text_task(_ocr_score),
    "free-form": _text_task(rouge_f1),
}
PROBLEM_TYPES = tuple(_TASKS)


# ---------------------------------------------------------------- ground truth


class _Truth(NamedTuple):
    """What a question says is right, checked."""

    kind: str  # problem type
    text: str  # ground truth
    judge: _Judge
    map: CognitiveMap | None
    row: Question  # with options, map and boxes read


def _truth(item: Question, config: RewardConfig) -> _Truth:
    cells = _true_map(item, config.grid_size)
    kind, truth = item.get("problem_type"), item.get("ground_truth")
    kind = kind.lower() if isinstance(kind, str) else kind
    if kind not in _TASKS:
        raise SpacerError(
            "problem type",
            kind="rewards.unknown-problem-type",
            got=kind,
            expected=", ".join(_TASKS),
        )
    if not isinstance(truth, str) or not truth.strip():
        raise _malformed(
            item, "ground truth", truth, "a text that is not empty", "empty"
        )
    read = {"problem_type": kind, "map": cells, "boxes": _true_boxes(item)}
    row = cast(Question, {**item, **read, "options": _from_json(item, "options")})
    return _Truth(kind, truth, _TASKS[kind](item, truth, config), cells, row)


def _malformed(
    item: Question, what: str, got: object, expected: str, fault: str = "malformed"
) -> SpacerError:
    return SpacerError(
        f"question {item.get('id', '(no id)')}: {what}",
        kind=f"rewards.{what.replace(' ', '-')}-{fault}",
        got=repr(got),
        expected=expected,
        remedy="correct the question file, or write it again",
    )


def _from_json(item: Question, key: str) -> Any:
    """A column's value, which may be JSON text; ``None`` if it is absent."""
    columns: Mapping[str, Any] = item
    value = columns.get(key)
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except ValueError as error:
        raise _malformed(item, key, value, "JSON", "not-json") from error


def _true_map(item: Question, grid_size: int) -> CognitiveMap | None:
    """The question's map, checked; ``None`` if it has none or an empty one."""
    cells = _from_json(item, "map")
    if cells is None:
        return None
    if not isinstance(cells, dict):
        raise _malformed(item, "map", cells, "a map: {category: [[x, y], …]}")
    # Columnar storage pads a map with the categories of other rows.
    cells = {name: spots for name, spots in cells.items() if spots}
    for name, spots in cells.items():
        on_grid = isinstance(spots, (list, tuple)) and all(
            isinstance(cell, (list, tuple))
            and [type(v) for v in cell] == [int, int]
            and 0 <= min(cell) <= max(cell) < grid_size
            for cell in spots
        )
        if not on_grid:
            expected = f"cells of two integers in [0, {grid_size - 1}]"
            raise _malformed(item, "map", f"{name}: {spots}", expected, "off-grid")
    return cells or None


def _true_boxes(item: Question) -> Boxes | None:
    """The question's boxes, checked; ``None`` if it has none."""
    boxes = _from_json(item, "boxes")
    if boxes is None:
        return None
    if not isinstance(boxes, dict):
        raise _malformed(item, "boxes", boxes, "boxes: {category: [[x, y, w, h], …]}")
    # Padded as maps are.
    boxes = {name: found for name, found in boxes.items() if found}
    for name, found in boxes.items():
        if not are_boxes(found):
            expected = "boxes of four numbers in metres, sides above 0"
            raise _malformed(item, "boxes", f"{name}: {found}", expected)
    return boxes or None
