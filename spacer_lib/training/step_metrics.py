"""The metrics of a GRPO step, under TRL's names, and the rollouts that are kept.

``training.record.METRICS`` explains the names.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from accelerate.utils import gather_object

from spacer_lib.artifacts import append_jsonl
from spacer_lib.errors import SpacerError
from spacer_lib.rows import ROLLOUT_QUESTION_KEYS, Rollout
from spacer_lib.training import grpo
from spacer_lib.training.batches import Batch, Completions, Earned, Trainer
from spacer_lib.training.scores import Scores

# From this number of rollouts on, it is no accident that all groups are identical.
ENOUGH_ROLLOUTS = 16


def log_tokens(
    trainer: Trainer, batch: Batch, completions: Completions, quiet: bool
) -> None:
    """Count the tokens seen; unless ``quiet``, log the lengths of completions."""
    gather, device = trainer.accelerator.gather, trainer.accelerator.device
    prompts = gather(torch.tensor([len(i) for i in batch.prompt_ids], device=device))
    lengths = gather(torch.tensor([len(i) for i in completions.ids], device=device))
    clipped = gather(torch.tensor(_cut_off(trainer, completions), device=device))
    if trainer.model.training:
        trainer.state.num_input_tokens_seen += (prompts.sum() + lengths.sum()).item()
    trainer.log_total("num_tokens", trainer.state.num_input_tokens_seen)
    if quiet:
        return
    ended = lengths[~clipped]
    ended = ended if len(ended) else torch.zeros(1, device=device)
    for kind, values in {"": lengths, "terminated_": ended}.items():
        values = values.float()
        trainer.log_metric(f"completions/mean_{kind}length", values.mean().item())
        trainer.log_metric(f"completions/min_{kind}length", values.min().item())
        trainer.log_metric(f"completions/max_{kind}length", values.max().item())
    trainer.log_metric("completions/clipped_ratio", clipped.float().mean().item())


def _cut_off(trainer: Trainer, completions: Completions) -> list[bool]:
    """Whether each completion ended at the limit of its length."""
    ends = [*trainer.eos_token_ids, trainer.processing_class.tokenizer.pad_token_id]
    return [ids[-1] not in ends for ids in completions.ids]


def log_rewards(trainer: Trainer, earned: Earned) -> None:
    """Means and standard deviations, by component and of the sum."""
    named = zip(trainer.reward_func_names, earned.components.T, strict=True)
    for name, values in named:
        trainer.log_metric(f"rewards/{name}/mean", values.nanmean().item())
        spread = grpo.standard_deviation(values[~values.isnan()], dim=0)
        trainer.log_metric(f"rewards/{name}/std", spread.item())
    trainer.log_metric("reward", earned.total.mean().item())
    trainer.log_metric(
        "reward_std", grpo.standard_deviation(earned.total, dim=0).item()
    )
    groups = earned.total.view(-1, trainer.group_size)
    spread = grpo.standard_deviation(groups, dim=1)
    alike = torch.isclose(spread, torch.zeros_like(spread))
    trainer.log_metric("frac_reward_zero_std", alike.float().mean().item())
    accelerator = trainer.accelerator
    # Sorted: all ranks gather the same metric at the same time.
    for name in sorted(set(gather_object(list(earned.metrics)))):
        values = earned.metrics.get(name, [])
        sums = torch.tensor([sum(values), len(values)], device=accelerator.device)
        total, count = accelerator.gather(sums.float()).view(-1, 2).sum(dim=0).tolist()
        trainer.log_metric(name, total / count)


def log_rollouts(
    trainer: Trainer, batch: Batch, completions: Completions, earned: Earned
) -> None:
    """Log the share of identical groups, and write some rollouts to a file.

    Raises
    ------
    SpacerError
        If all groups of the first step are identical. Sampling settings of a published
        checkpoint (a temperature near zero) would leave GRPO nothing to compare.
    """
    trainer.log_metric("media_skipped", float(len(trainer.source.broken)))
    numbers, texts = gather_object(batch.numbers), gather_object(completions.texts)
    size = trainer.group_size
    groups = [set(texts[i : i + size]) for i in range(0, len(texts), size)]
    identical = sum(len(group) == 1 for group in groups) / len(groups)
    trainer.log_metric("rollouts_identical", identical)
    if identical == 1 and trainer.first_step and len(texts) >= ENOUGH_ROLLOUTS:
        clipped = gather_object(_cut_off(trainer, completions))
        raise _identical(trainer, sum(clipped) / len(clipped))
    if not trainer.accelerator.is_main_process or trainer.rollouts_path is None:
        return
    names, shown = trainer.reward_func_names, trainer.rollouts_per_step
    rewards = earned.components[:shown].tolist()
    append_jsonl(
        trainer.rollouts_path,
        (
            _rollout(trainer, number, text, dict(zip(names, paid, strict=True)), gain)
            for number, text, paid, gain in zip(
                numbers[:shown],
                texts[:shown],
                rewards,
                earned.advantages[:shown].tolist(),
                strict=True,
            )
        ),
        sync=True,
    )


def _rollout(
    trainer: Trainer,
    number: int,
    text: str,
    rewards: dict[str, float | None],
    advantage: float,
) -> Rollout:
    row = trainer.source.row(number)
    kept: dict[str, Any] = {key: row.get(key) for key in ROLLOUT_QUESTION_KEYS}
    made = {
        "step": trainer.state.global_step + 1,
        **kept,
        "completion": text,
        "rewards": rewards,
        "advantage": advantage,
    }
    return cast(Rollout, made)


def log_loss(
    trainer: Trainer,
    made: Mapping[str, Any],
    scores: Scores,
    ratio: torch.Tensor,
    kl: torch.Tensor | None,
) -> None:
    """Means over tokens of KL and entropy, and shares of clipped or capped tokens."""
    accelerator, mask = trainer.accelerator, made["completion_mask"]

    def mean(values: torch.Tensor) -> float:
        """Over the tokens of all ranks, or over completions if there is one each."""
        weight = mask if values.shape[1] > 1 else torch.ones_like(values)
        sums = torch.stack([(values * weight).sum(), weight.sum().float()])
        total, count = accelerator.reduce(sums, reduction="sum")
        return (total / count.clamp(min=1)).item()

    def shares(clipped: torch.Tensor) -> torch.Tensor:
        """Of each completion of all ranks that is not masked."""
        weight = mask if clipped.shape[1] > 1 else torch.ones_like(clipped)
        found = accelerator.gather((clipped * weight).sum(dim=1) / weight.sum(dim=1))
        kept = found[~found.isnan()]
        return kept if kept.numel() else found[:1]

    if kl is not None:
        trainer.log_metric("kl", mean(kl))
    if scores.entropies is not None:
        trainer.log_metric("entropy", mean(scores.entropies))
    advantages = made["advantages"]
    if trainer.loss_type in grpo.CLIPPING:
        low, high = grpo.clipped_tokens(
            ratio, advantages, trainer.epsilon_low, trainer.epsilon_high
        )
        for name, clipped in {"low": low, "high": high, "region": low | high}.items():
            trainer.log_metric(f"clip_ratio/{name}_mean", mean(clipped.float()))
        trainer.log_metric("clip_ratio/low_min", shares(low).min().item())
        trainer.log_metric("clip_ratio/high_max", shares(high).max().item())
    elif trainer.loss_type == "cispo":
        capped = grpo.capped_tokens(ratio, advantages, trainer.epsilon_high)
        trainer.log_metric("cispo_clip_ratio", mean(capped.float()))
    if "old_per_token_logps" in made:
        # 0 at the first use of the completions, unless the two scores saw different
        # inputs; later the policy has moved.
        change = (scores.logps.detach() - made["old_per_token_logps"]).abs()
        largest = accelerator.gather((change * mask).max())
        trainer.log_metric("logp_change/max", largest.max().item())


def _identical(trainer: Trainer, cut: float) -> SpacerError:
    """Identical rollouts, by their likely cause: too short, or too certain."""
    if cut > 0.5:
        got = f"{cut:.0%} of them cut off at max_completion_length = "
        got += f"{trainer.max_completion_length} tokens"
        remedy = "raise max_completion_length"
    else:
        got = f"temperature {trainer.temperature}, top_p {trainer.top_p}"
        remedy = "raise temperature, or start from a less certain checkpoint"
    return SpacerError(
        "rollouts of every group are identical",
        kind="training.identical-rollouts",
        got=got,
        remedy=remedy,
    )
