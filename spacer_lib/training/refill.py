"""Rows of one rollout batch put in place of rows of another (online refill).

Groups whose answers all earn the same have no advantage and teach nothing; a refill
asks another question instead.

Source: dynamic sampling of DAPO, https://arxiv.org/abs/2503.14476 §3.2, bounded here.
"""

import torch
from torch.nn.functional import pad


def replace_rows(batch, extra, taken, pad_id):
    """``batch`` with rows of ``extra`` in it.

    Parameters
    ----------
    batch, extra : dict
        As TRL's ``_generate_and_score_completions`` returns them, and ``media``: keys
        of prompts are padded on the left, of completions on the right.
    taken : dict
        ``{row of batch: row of extra}``.
    pad_id : int
        Of ``prompt_ids`` and ``completion_ids``; other tensors are padded with 0.

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


def _widened(part, width, key, fill):
    gap = width - part.shape[1]
    side = (gap, 0) if key.startswith("prompt_") else (0, gap)
    return pad(part, side, value=fill)
