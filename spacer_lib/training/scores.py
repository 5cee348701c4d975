"""Log-probabilities of completions beside their prompt and media.

Two ways give the same numbers: one row for each completion (``score_apart``), or one
packed row for each group (``score_packed``, see ``training.prefix``).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad

from spacer_lib.models.inputs import token_types
from spacer_lib.models.patches.shared_media import media_once
from spacer_lib.training.prefix import (
    IGNORED,
    PromptGroup,
    packed_scores,
    require_one_prompt,
    scored_positions,
)

# On a CPU the activations of more rows do not fit its caches: a third slower.
CPU_FORWARD_ROWS = 16


@dataclass(frozen=True)
class Sequences:
    """Prompts and their completions as model inputs.

    Attributes
    ----------
    input_ids, mask : (b, p + t) int tensor
        Prompts padded on the left, completions on the right; ``mask`` is 0 at padding.
    width : int
        t, the columns of completions.
    media : list of dict
        One entry for each row (``encode_prompts``).
    """

    input_ids: torch.Tensor
    mask: torch.Tensor
    width: int
    media: Sequence[Mapping[str, torch.Tensor]]


@dataclass(frozen=True)
class Scores:
    """What a forward says about completions.

    Attributes
    ----------
    logps : (b, t) tensor
        Log-probability of each token; 0 at padding.
    entropies : (b, t) tensor or None
        Of the distribution at each token, in nats.
    balance : scalar tensor or None
        Load-balancing loss of a mixture of experts.
    positions : int
        Token positions that were computed, padding included.
    """

    logps: torch.Tensor
    entropies: torch.Tensor | None
    balance: torch.Tensor | None
    positions: int


def joined(batch: Mapping[str, Any]) -> Sequences:
    """The sequences of a generation batch (``training.step``)."""
    sides = "prompt", "completion"
    return Sequences(
        torch.cat([batch[f"{side}_ids"] for side in sides], dim=1),
        torch.cat([batch[f"{side}_mask"] for side in sides], dim=1),
        batch["completion_ids"].shape[1],
        batch["media"],
    )


def score_apart(
    model: Any,
    sequences: Sequences,
    accelerator: Any,
    config: Any,
    *,
    forward_rows: int | None = None,
    trim: bool = False,
    balance: bool = False,
) -> Scores:
    """Scores with one row for each completion, as TRL computes them.

    Rows are put in order of length and prompt, so that a forward encodes few videos
    and holds little padding.

    Parameters
    ----------
    model
        Qwen-VL model with TRL's fused head, bare or wrapped.
    sequences : Sequences
    accelerator : accelerate.Accelerator
    config
        Of the bare model.
    forward_rows : int, optional
        Rows of a forward, at most; all, if left out.
    trim : bool
        Cut columns that are padding in all rows of a forward. The width of a row
        changes sums in the last bit; old and new scores are equal to the last bit only
        if a row has the same width both times.
    balance : bool
        Ask a mixture of experts for its load-balancing loss.
    """
    device, width = accelerator.device, sequences.width
    rows = forward_rows or len(sequences.input_ids)
    if device.type == "cpu":
        rows = min(rows, CPU_FORWARD_ROWS)
    lengths = sequences.mask[:, :-width].sum(dim=1).tolist()
    # By their tokens: a run repeated adds in the same order, and rows of one prompt,
    # which share a video, stand together.
    tokens = sequences.input_ids.tolist()
    order = sorted(range(len(tokens)), key=lambda i: (lengths[i], tokens[i]))
    experts = {"output_router_logits": True} if balance else {}
    logps, entropies, losses, positions = [], [], [], 0
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        ids, mask = sequences.input_ids[chosen], sequences.mask[chosen]
        first = int(mask.argmax(dim=1).min()) if trim else 0
        ids, mask = ids[:, first:], mask[:, first:]
        labels = ids.masked_fill(mask == 0, IGNORED)[:, -width - 1 :]
        positions += ids.numel()
        with (
            accelerator.autocast(),
            media_once(
                model,
                [sequences.media[i] for i in chosen],
                device,
                touch_vision=_touches_vision(accelerator),
            ) as tensors,
            scored_positions(model, slice(-width - 1, None)),
        ):
            output = model(
                input_ids=ids,
                attention_mask=mask,
                labels=labels,
                mm_token_type_ids=token_types(ids, config),
                fused_lm_head=True,
                **tensors,
                **experts,
            )
        logps.append(output.log_probs[:, -width:])
        if output.entropy is not None:  # the reference's head does not compute it
            entropies.append(output.entropy[:, -width:])
        if balance:
            losses.append(output.aux_loss)
    back = torch.tensor(order).argsort().to(device)
    return Scores(
        torch.cat(logps)[back],
        torch.cat(entropies)[back] if entropies else None,
        torch.stack(losses).mean() if balance else None,
        positions,
    )


def score_packed(
    model: Any,
    sequences: Sequences,
    accelerator: Any,
    size: int,
    *,
    groups_per_forward: int = 1,
) -> Scores:
    """Scores of rows that come in blocks of one prompt.

    Every rank has the same number of blocks, so under ZeRO-3 all ranks make the same
    number of forwards.

    Parameters
    ----------
    model, sequences, accelerator
        See ``score_apart``.
    size : int
        Rows of a block, at most: a block has the largest common divisor of this and
        the number of rows.
    groups_per_forward : int
        Blocks of a forward. They are put in order of length and tokens, so that the
        same blocks stand together however they come.

    Raises
    ------
    SpacerError
        If a block holds several prompts or media.
    """
    size = math.gcd(size, len(sequences.input_ids))
    blocks = _blocks(sequences, size)
    order = list(range(len(blocks)))
    if groups_per_forward > 1:
        order.sort(key=lambda i: (len(blocks[i].prompt), _tokens(blocks[i])))
    found: list[tuple[torch.Tensor, torch.Tensor | None]] = [
        (torch.empty(0), None)
    ] * len(blocks)
    positions, width = 0, sequences.width
    for start in range(0, len(order), groups_per_forward):
        chosen = order[start : start + groups_per_forward]
        groups = [blocks[i] for i in chosen]
        with accelerator.autocast():
            logps, entropy = packed_scores(
                model,
                groups,
                accelerator.device,
                touch_vision=_touches_vision(accelerator),
            )
        positions += sum(
            len(group.prompt) - 1 + sum(max(1, len(c)) for c in group.completions)
            for group in groups
        )
        gap = 0, width - logps.shape[1]
        for place, block in enumerate(chosen):
            rows = slice(place * size, (place + 1) * size)
            found[block] = (
                pad(logps[rows], gap),
                entropy if entropy is None else pad(entropy[rows], gap),
            )
    entropies = [entropy for _, entropy in found if entropy is not None]
    return Scores(
        torch.cat([logps for logps, _ in found]),
        torch.cat(entropies) if entropies else None,
        None,
        positions,
    )


def _blocks(sequences: Sequences, size: int) -> list[PromptGroup]:
    """Each ``size`` rows as the completions of their one prompt."""
    ids, real, width = sequences.input_ids, sequences.mask.bool(), sequences.width
    made = []
    for start in range(0, len(ids), size):
        rows = range(start, start + size)
        prompts = [ids[i, :-width][real[i, :-width]] for i in rows]
        media = sequences.media[start : start + size]
        require_one_prompt(prompts, media)
        completions = [ids[i, -width:][real[i, -width:]] for i in rows]
        made.append(PromptGroup(prompts[0], completions, media[0]))
    return made


def _tokens(group: PromptGroup) -> list[list[int]]:
    return [part.tolist() for part in (group.prompt, *group.completions)]


def _touches_vision(accelerator: Any) -> bool:
    """A rank whose rows are all text must run the vision tower with the others."""
    return accelerator.num_processes > 1
