"""Online refill: zero-advantage groups are replaced by groups of other rows.

A group whose completions all earn the same changes nothing; a refill asks another
question in its place.

Source: dynamic sampling of DAPO §3.2, https://arxiv.org/abs/2503.14476; here the number
of extra rounds is bounded.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad

from spacer_lib.training import grpo
from spacer_lib.training.batches import Trainer


def refilled(
    trainer: Trainer,
    made: dict[str, Any],
    generate: Callable[[list[int], int], dict[str, Any]],
) -> dict[str, Any]:
    """A generation batch, its zero-advantage groups replaced where possible.

    Parameters
    ----------
    trainer : VideoGRPOTrainer
    made : dict
        Of ``step.generation_batch``.
    generate : callable
        Makes another batch from row numbers and the number of the round. Every rank
        calls it equally often.

    Returns
    -------
    dict
        After ``trainer.refill`` rounds at most. Metrics of the step stay those of the
        rows that it drew first.
    """
    accelerator, size = trainer.accelerator, trainer.group_size
    replaced = rounds = 0
    for number in range(1, trainer.refill + 1):
        empty = _zero_advantage(made, size)
        count = torch.tensor(len(empty), device=accelerator.device)
        most = int(accelerator.gather(count).max())
        if most == 0:
            break
        rounds = number
        # The same draw on all ranks, each of which takes its share.
        seed = trainer.args.seed, trainer.state.global_step, number
        shape = accelerator.num_processes, most
        drawn = np.random.default_rng(seed).integers(len(trainer.rows), size=shape)
        mine = drawn[accelerator.process_index]
        extra = generate([int(n) for n in mine for _ in range(size)], number)
        useful = sorted(set(range(most)) - set(_zero_advantage(extra, size)))
        pairs = list(zip(empty, useful, strict=False))
        replaced += len(pairs)
        taken = {
            old * size + i: new * size + i for old, new in pairs for i in range(size)
        }
        pad_id = trainer.processing_class.tokenizer.pad_token_id
        made = replace_rows(made, extra, taken, pad_id)
    tokens = made["completion_mask"].sum()
    made["num_items_in_batch"] = accelerator.gather(tokens).sum()
    total = torch.tensor(float(replaced), device=accelerator.device)
    total = accelerator.reduce(total, reduction="sum").item()
    trainer.log_metric("refill/groups", total)
    trainer.log_metric("refill/rounds", float(rounds))
    return made


def _zero_advantage(made: Mapping[str, Any], size: int) -> list[int]:
    """Numbers of this rank's groups without any advantage."""
    groups = grpo.zero_advantage_groups(made["advantages"].view(-1, size))
    return groups.nonzero().flatten().tolist()


def replace_rows(
    batch: Mapping[str, Any],
    extra: Mapping[str, Any],
    taken: Mapping[int, int],
    pad_id: int,
) -> dict[str, Any]:
    """``batch`` with some rows replaced by rows of ``extra``.

    Parameters
    ----------
    batch, extra : dict
        Of ``step.generation_batch``: prompts are padded on the left, completions on
        the right.
    taken : dict
        ``{row of batch: row of extra}``.
    pad_id : int
        Fills ``prompt_ids`` and ``completion_ids``; other tensors are filled with 0.

    Returns
    -------
    dict
        ``num_items_in_batch`` is left as it was.
    """
    merged = dict(batch)
    rows = len(batch["media"])
    index = [rows + taken[i] if i in taken else i for i in range(rows)]
    for key, values in batch.items():
        if key == "media":
            both = [*values, *extra[key]]
            merged[key] = [both[i] for i in index]
        elif isinstance(values, torch.Tensor) and values.dim():
            both = [values, extra[key]]
            if values.dim() == 2:
                width = max(part.shape[1] for part in both)
                fill = pad_id if key in ("prompt_ids", "completion_ids") else 0
                both = [_widened(part, width, key, fill) for part in both]
            merged[key] = torch.cat(both)[index]
    return merged


def _widened(part: torch.Tensor, width: int, key: str, fill: int) -> torch.Tensor:
    gap = width - part.shape[1]
    side = (gap, 0) if key.startswith("prompt_") else (0, gap)
    return pad(part, side, value=fill)
