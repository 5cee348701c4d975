"""Rewards as TRL calls them: adapters, and T-GRPO's bonus."""

import numpy as np

from spacer_lib.errors import SpacerError
from spacer_lib.maps.scores import SCORERS
from spacer_lib.maps.scores import score as map_score
from spacer_lib.rewards.config import COMPONENTS
from spacer_lib.rewards.score import score_batch


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
