"""Rewards in the form that TRL's ``GRPOTrainer`` calls, and T-GRPO's bonus.

Reads TRL's batch: completions and one list per column of the training set. Questions
are rebuilt from those columns, so that each completion is scored by its own.

Source: TRL's reward functions, https://huggingface.co/docs/trl/grpo_trainer.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from spacer_lib.errors import SpacerError
from spacer_lib.maps.scores import SCORERS
from spacer_lib.maps.scores import score as map_score
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import RewardBreakdown, score_batch
from spacer_lib.rows import QUESTION_KEYS, Question

Completions = Sequence[str | list[dict[str, Any]]]  # texts, or chats of one turn
RewardFunction = Callable[..., list[float | None]]


def trl_reward_functions(
    config: RewardConfig, tokenizer: Any = None
) -> list[RewardFunction]:
    """One reward function per component, as TRL calls them.

    Each is named after its component, so TRL logs ``rewards/map/mean`` and so on.
    Weights are already applied: TRL's ``reward_weights`` stay 1. Every completion is
    scored once per batch. ``map`` gives 0.0 where the gate is shut and ``None`` where
    the question has no map; added components likewise.

    Parameters
    ----------
    config : RewardConfig
    tokenizer : optional
        Counts tokens where TRL passes no ``completion_ids``.

    Returns
    -------
    list of callable
        ``f(prompts, completions, completion_ids=…, <columns>, log_metric=…)``;
        ``completions`` are texts or chats of one assistant turn.
    """
    batch_scores = _BatchScorer(config, tokenizer)

    def component(name: str) -> RewardFunction:
        def reward(
            prompts: Sequence[Any],
            completions: Completions,
            completion_ids: Sequence[Sequence[int]] | None = None,
            log_metric: Callable[[str, float], None] | None = None,
            **columns: Any,
        ) -> list[float | None]:
            scored = batch_scores(completions, completion_ids, columns)
            if name == "task" and log_metric is not None:
                for metric, value in _batch_metrics(scored, config.grid_size).items():
                    log_metric(metric, value)
            return [getattr(breakdown, name) for breakdown in scored]

        reward.__name__ = name
        return reward

    return [component(name) for name in config.components]


class _BatchScorer:
    """Scores a batch once for all components: the last one is remembered."""

    def __init__(self, config: RewardConfig, tokenizer: Any) -> None:
        self.config, self.tokenizer = config, tokenizer
        self._inputs: tuple[Any, ...] = ()
        self._scores: list[RewardBreakdown] = []

    def __call__(
        self,
        completions: Completions,
        completion_ids: Sequence[Sequence[int]] | None,
        columns: Mapping[str, Any],
    ) -> list[RewardBreakdown]:
        named = {key: columns[key] for key in QUESTION_KEYS if key in columns}
        # Holding the lists keeps their identities from being used again.
        inputs = (completions, completion_ids, *named.values())
        same = len(inputs) == len(self._inputs) and all(
            new is old for new, old in zip(inputs, self._inputs, strict=True)
        )
        if not same:
            self._scores = self._score(completions, completion_ids, named)
            self._inputs = inputs
        return self._scores

    def _score(
        self,
        completions: Completions,
        completion_ids: Sequence[Sequence[int]] | None,
        named: Mapping[str, Sequence[Any]],
    ) -> list[RewardBreakdown]:
        texts: list[str] = []
        items: list[Question] = []
        counts: list[int | None] = []
        for i, completion in enumerate(completions):
            text = _said(completion)
            count = None
            if completion_ids is not None:
                count = len(completion_ids[i])
            elif self.tokenizer is not None:
                encoded = self.tokenizer(text, add_special_tokens=False)
                count = len(encoded["input_ids"])
            item = cast(Question, {key: column[i] for key, column in named.items()})
            # TRL repeats a row for each completion of its group: one object for all.
            items.append(items[-1] if items and items[-1] == item else item)
            texts.append(text)
            counts.append(count)
        return score_batch(texts, items, self.config, counts)


def _said(completion: str | list[dict[str, Any]]) -> str:
    return completion if isinstance(completion, str) else completion[-1]["content"]


def _batch_metrics(
    scored: Sequence[RewardBreakdown], grid_size: int
) -> dict[str, float]:
    """Shares of failures and mean map scores over a batch, logged with the rewards."""
    unread = sum(b.answer_failure is not None for b in scored)
    metrics: dict[str, float] = {"answer_failures": unread / len(scored)}
    mapped = [b for b in scored if b.map_total]
    if mapped:
        there = sum(b.map_total for b in mapped)
        unmapped = sum(b.map_failure is not None for b in mapped)
        for name in SCORERS:
            metrics[f"map_{name}"] = sum(
                map_score(b.drawn_map or {}, b.true_map or {}, grid_size, scorer=name)
                for b in mapped
            ) / len(mapped)
        metrics["map_hit_rate"] = sum(b.map_hits for b in mapped) / there
        metrics["map_failures"] = unmapped / len(mapped)
    return metrics


def tgrpo_bonus(
    ordered_task: npt.ArrayLike,
    shuffled_task: npt.ArrayLike,
    value: float = 0.3,
    ratio: float = 0.8,
    least: float = 0.1,
) -> npt.NDArray[np.float64]:
    """T-GRPO's bonus for completions that use the order of the frames.

    p and p̃ are the mean task rewards of a group with ordered and with shuffled frames.
    If p ≥ ``ratio`` p̃, each ordered completion with a task reward above ``least``
    earns ``value``. Shuffled completions earn nothing and never enter a loss.

    Parameters
    ----------
    ordered_task : (G,) array of float
        Task rewards in [0, 1].
    shuffled_task : (H,) array of float
        H = G / 2 in Video-R1.
    value, ratio, least : float

    Returns
    -------
    (G,) array of float

    Raises
    ------
    SpacerError
        If a side is empty or leaves [0, 1].

    Source: Video-R1 §3, https://arxiv.org/abs/2503.21776. SpaceR's script switches it
    on; its paper does not mention it.

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
                kind="rewards.tgrpo-task-rewards",
                got=side.tolist(),
                expected="one or more numbers in [0, 1]",
            )
    ordered, shuffled = sides
    earned = ordered.mean() >= ratio * shuffled.mean()
    return value * (earned & (ordered > least))
