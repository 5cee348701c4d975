"""One GRPO step as functions that pass values.

``generation_batch``: rows -> prompts -> completions -> rewards -> advantages -> scores.
``policy_loss``: the same completions, scored again by the policy in training -> loss.

The trainer (``training.trainer``) supplies model, accelerator and settings; the
formulas are in ``training.grpo``.

Source: SpaceR §4 and Eq. 5 to 7, https://arxiv.org/abs/2504.01805.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from transformers.integrations import is_deepspeed_zero3_enabled
from trl.models import unwrap_model_for_generation
from trl.models.utils import disable_gradient_checkpointing

from spacer_lib.models.inputs import pad_batch, token_types
from spacer_lib.models.patches.cache import as_static, decoding_by, with_room
from spacer_lib.models.patches.shared_media import media_once
from spacer_lib.models.sampling import KeyedSampling, sequence_key
from spacer_lib.training import grpo
from spacer_lib.training.batches import Batch, Completions, Earned, Trainer
from spacer_lib.training.controls import Reply
from spacer_lib.training.prefix import prefill
from spacer_lib.training.scores import Scores, joined
from spacer_lib.training.step_metrics import (
    log_loss,
    log_rewards,
    log_rollouts,
    log_tokens,
)


def generation_batch(
    trainer: Trainer, numbers: list[int], extra_round: int = 0
) -> dict[str, Any]:
    """Completions of rows with everything that the loss needs.

    Parameters
    ----------
    trainer : VideoGRPOTrainer
    numbers : list of int
        Of rows; each stands there once for each completion.
    extra_round : int
        0, or the number of a refill, which logs nothing.

    Returns
    -------
    dict
        ``prompt_ids``, ``prompt_mask`` (b, p), padded on the left; ``completion_ids``,
        ``completion_mask`` (b, t), padded on the right; ``advantages`` (b,); ``media``,
        a list of b; ``num_items_in_batch``, completion tokens of all ranks; where they
        are needed ``old_per_token_logps``, ``ref_per_token_logps`` (b, t) and
        ``sampler_weights`` (b, 1). The keys are TRL's.
    """
    with trainer.clock("data"):
        batch = trainer.source.load(numbers)
    trainer.source.shown(batch)
    control = None
    if trainer.bonus is not None:
        control = control_replies(trainer, batch, extra_round)
    with trainer.clock("generate"):
        completions = draw(trainer, batch, "rollout", extra_round)
    with trainer.clock("score"):
        made = padded(trainer, batch, completions)
        if trainer.packing_check is not None:
            trainer.packing_check.on_lengths(made)
        made |= scored_before(trainer, made, completions, quiet=extra_round > 0)
        earned = reward(trainer, batch, completions, control)
        first = trainer.accelerator.process_index * len(numbers)
        made["advantages"] = earned.advantages[first : first + len(numbers)]
        log_tokens(trainer, batch, completions, quiet=extra_round > 0)
        if not extra_round:
            log_rewards(trainer, earned)
            log_rollouts(trainer, batch, completions, earned)
    return made


# ---------------------------------------------------------------- completions


def draw(
    trainer: Trainer, batch: Batch, purpose: str, extra_round: int = 0
) -> Completions:
    """Sample one completion for each entry of a batch.

    Random choices are keyed by seed, step, round, purpose and the place among the
    completions of all ranks (``models.sampling``).
    """
    place = trainer.args.seed, trainer.state.global_step, extra_round, purpose
    first = trainer.accelerator.process_index * len(batch.rows)
    keys = [sequence_key(*place, first + i) for i in range(len(batch.rows))]
    logps = None
    if trainer.vllm is None:
        ids = _sampled(trainer, batch, keys)
    else:
        ids, logps = trainer.vllm.draw(batch, keys)
    texts = trainer.processing_class.batch_decode(ids, skip_special_tokens=True)
    return Completions(ids, texts, logps)


def _sampled(trainer: Trainer, batch: Batch, keys: list[int]) -> list[list[int]]:
    width = max(map(len, batch.prompt_ids))
    noise = KeyedSampling(keys, width, trainer.temperature, trainer.top_p)
    gathered = trainer.args.ds3_gather_for_generation
    with (
        unwrap_model_for_generation(
            trainer.model_wrapped,
            trainer.accelerator,
            gather_deepspeed3_params=gathered,
            generation_kwargs=trainer.generation_kwargs,
        ) as model,
        torch.no_grad(),
        _prompt_inputs(trainer, model, batch) as inputs,
    ):
        output = model.generate(
            **inputs,
            generation_config=decoding_by(
                trainer.generation_config, trainer.decode, trainer.accelerator.device
            ),
            logits_processor=[noise],
            # With all weights gathered a rank needs no other rank to decode.
            synced_gpus=is_deepspeed_zero3_enabled() and not gathered,
        )
    ends = set(trainer.eos_token_ids)
    return [_until_end(row, ends) for row in output[:, width:].tolist()]


@contextmanager
def _prompt_inputs(
    trainer: Trainer, model: Any, batch: Batch
) -> Iterator[dict[str, Any]]:
    """Keyword arguments of ``generate`` for a batch of prompts."""
    device = trainer.accelerator.device
    pad_id = trainer.processing_class.tokenizer.pad_token_id
    if trainer.shared_prefix:
        made = prefill(model, batch.prompt_ids, batch.media, pad_id, device)
        cache = made["past_key_values"]
        if trainer.decode == "eager":
            cache = with_room(cache)
        else:
            length = made["input_ids"].shape[1] + trainer.max_completion_length
            cache = as_static(cache, model.config.get_text_config(), length)
        yield made | {"past_key_values": cache}
        return
    input_ids, mask = pad_batch(batch.prompt_ids, pad_id, "left")
    with media_once(model, batch.media, device) as tensors:
        yield {
            "input_ids": input_ids.to(device),
            "attention_mask": mask.to(device),
            "mm_token_type_ids": token_types(input_ids, model.config).to(device),
            **({} if trainer.decode == "eager" else {"cache_implementation": "static"}),
            **tensors,
        }


def _until_end(ids: list[int], ends: set[int]) -> list[int]:
    """``ids`` up to and with the first end token."""
    stops = (i + 1 for i, token in enumerate(ids) if token in ends)
    return ids[: next(stops, len(ids))]


def padded(trainer: Trainer, batch: Batch, completions: Completions) -> dict[str, Any]:
    """Prompts and completions as tensors, with the media and the count of tokens."""
    pad_id = trainer.processing_class.tokenizer.pad_token_id
    device, made = trainer.accelerator.device, {}
    prompts, answers = (batch.prompt_ids, "left"), (completions.ids, "right")
    for name, (ids, side) in {"prompt": prompts, "completion": answers}.items():
        tensors = pad_batch(ids, pad_id, side)
        made[f"{name}_ids"], made[f"{name}_mask"] = (t.to(device) for t in tensors)
    tokens = made["completion_mask"].sum()
    made["num_items_in_batch"] = trainer.accelerator.gather(tokens).sum()
    return {**made, "media": batch.media}


# ---------------------------------------------------------------- rewards


def reward(
    trainer: Trainer,
    batch: Batch,
    completions: Completions,
    control: list[Reply] | None = None,
) -> Earned:
    """Call every reward function; rewards and advantages of all ranks."""
    metrics: dict[str, list[float]] = defaultdict(list)
    # Media stay out: a reward is about the text.
    names = sorted(set().union(*batch.rows) - {"video", "image"})
    columns = {name: [row.get(name) for row in batch.rows] for name in names}
    chats = [[{"role": "assistant", "content": text}] for text in completions.texts]
    found = [
        function(
            prompts=batch.numbers,
            completions=chats,
            completion_ids=completions.ids,
            log_metric=lambda name, value: metrics[name].append(value),
            control=control,
            **columns,
        )
        for function in trainer.reward_funcs
    ]
    # ``None``: this reward does not apply to the row. NaN is no reward.
    given = [value for values in found for value in values if value is not None]
    grpo.require_finite("rewards", torch.tensor(given, dtype=torch.float32))
    numbers = [
        [float("nan") if value is None else value for value in values]
        for values in zip(*found, strict=True)
    ]
    device = trainer.accelerator.device
    components = torch.tensor(numbers, dtype=torch.float32, device=device)
    components = trainer.accelerator.gather(components)
    total = components.nansum(dim=1)
    groups = total.view(-1, trainer.group_size)
    advantages = grpo.group_advantages(groups, trainer.args.scale_rewards)
    return Earned(components, total, advantages.flatten(), metrics)


def control_replies(
    trainer: Trainer, batch: Batch, extra_round: int = 0
) -> list[Reply]:
    """Completions of half of a batch, shown something else; of all ranks.

    Returns
    -------
    list of Reply
        G / 2 for each group.
    """
    bonus = trainer.bonus
    first = trainer.accelerator.process_index * len(batch.numbers)
    half = [n for i, n in enumerate(batch.numbers) if (first + i) % 2]
    with trainer.clock("data"):
        control = trainer.source.load(
            half,
            row=lambda number: bonus.shown(number).row,
            video=bonus.video(trainer.state.global_step),
        )
    trainer.source.shown(control, uses=0)
    with trainer.clock("generate"):
        texts = draw(trainer, control, bonus.__name__, extra_round).texts
    return bonus.replies(texts, [bonus.shown(number) for number in half])


# ---------------------------------------------------------------- scores


def scored_before(
    trainer: Trainer,
    made: Mapping[str, Any],
    completions: Completions,
    quiet: bool = False,
) -> dict[str, torch.Tensor]:
    """Log-probabilities at the old policy and the reference, where the loss needs them.

    Without a second use of the completions the old policy is the policy itself, and
    its log-probabilities come with the loss.
    """
    args, model, found = trainer.args, trainer.model, {}
    uses = args.steps_per_generation * trainer.num_iterations
    corrected = trainer.vllm is not None
    rows, sequences = trainer.forward_rows, joined(made)
    with (
        torch.no_grad(),
        disable_gradient_checkpointing(model, args.gradient_checkpointing_kwargs),
    ):
        if args.gradient_accumulation_steps % uses or corrected:
            old = trainer.log_probs(model, sequences, forward_rows=rows).logps
            found["old_per_token_logps"] = old
        if corrected:
            found["sampler_weights"] = _sampler_weights(
                trainer, old, completions, made["completion_mask"], quiet
            )
        if trainer.beta != 0:
            reference, without = trainer.ref_model, nullcontext()
            if reference is None:  # LoRA: the policy without its adapter
                reference = model
                without = trainer.accelerator.unwrap_model(model).disable_adapter()
            with without:
                scores = trainer.log_probs(reference, sequences, forward_rows=rows)
            found["ref_per_token_logps"] = scores.logps
    return found


def _sampler_weights(
    trainer: Trainer,
    old: torch.Tensor,
    completions: Completions,
    mask: torch.Tensor,
    quiet: bool,
) -> torch.Tensor:
    """Weights of completions that vLLM sampled; unless ``quiet``, logs how far its
    log-probabilities are from the trainer's."""
    there = torch.full_like(old, float("nan"))
    for row, logps in enumerate(completions.logps or []):
        known = [float("nan") if value is None else value for value in logps]
        there[row, : len(known)] = torch.tensor(known).to(there)
    weights = grpo.sampler_weights(old, there, mask)
    if quiet:
        return weights
    change = (old - there).abs()[mask.bool()]
    change = change[~change.isnan()]
    change = change if change.numel() else change.new_zeros(1)
    found = {
        "sampling_logp_difference/mean": change.mean(),
        "sampling_logp_difference/max": change.max(),
        "importance_sampling_ratio/min": weights.min(),
        "importance_sampling_ratio/mean": weights.mean(),
        "importance_sampling_ratio/max": weights.max(),
    }
    for name, value in found.items():
        over_ranks = getattr(trainer.accelerator.gather(value), name.rsplit("/")[-1])
        trainer.log_metric(f"sampling/{name}", over_ranks().item())
    return weights


# ---------------------------------------------------------------- loss


def policy_loss(
    trainer: Trainer, model: Any, made: Mapping[str, Any]
) -> tuple[torch.Tensor, Scores]:
    """The loss of a part of a generation batch, and the policy's scores.

    It is divided so that the sum over the forwards of a step is the step's loss. The
    metrics of TRL's loss are logged under TRL's names.
    """
    args, training = trainer.args, trainer.model.training
    forwards = trainer.current_gradient_accumulation_steps if training else 1
    tokens = made["num_items_in_batch"].clamp(min=1) / trainer.accelerator.num_processes
    if training:
        tokens = tokens * forwards / args.steps_per_generation
    experts = trainer.aux_loss_enabled
    scores = trainer.log_probs(model, joined(made), balance=experts)
    old = made.get("old_per_token_logps")
    loss, ratio, kl = grpo.loss(
        scores.logps,
        scores.logps.detach() if old is None else old,
        made["advantages"],
        made["completion_mask"],
        ref_logps=made.get("ref_per_token_logps"),
        beta=trainer.beta,
        epsilon=trainer.epsilon_low,
        epsilon_high=trainer.epsilon_high,
        level=trainer.importance_sampling_level,
        variant=trainer.loss_type,
        temperatures=(args.sapo_temperature_pos, args.sapo_temperature_neg),
        weights=made.get("sampler_weights"),
        max_length=trainer.max_completion_length,
        token_count=tokens,
        kl_limit=trainer.kl_limit,
    )
    if trainer.loss_type not in grpo.WHOLE_STEP:  # they count tokens of all forwards
        loss = loss / forwards
    if experts:
        loss = loss + trainer.router_aux_loss_coef * scores.balance / forwards
        balance = trainer.accelerator.gather_for_metrics(scores.balance)
        trainer.log_metric("aux_loss", balance.mean().item())
    log_loss(trainer, made, scores, ratio, kl)
    return loss, scores
