"""The vision tower's windows in one attention call for each window size.

transformers runs its ``sdpa`` attention once for every window and every frame: 64 calls
a layer at 16 frames of 128 tokens, thousands at evaluation size. Windows of equal
length are independent rows of a batch, so one call takes them all. The numbers are the
same up to rounding.

No code of the tower is replaced. It already hands over all windows at once, with their
boundaries, if the name of its attention contains ``flash``; such a name is registered.

Source: ``Qwen2_5_VLVisionAttention`` of transformers, ``models/qwen2_5_vl``.
"""

from typing import Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.weak import WeakIdKeyDictionary
from transformers import AttentionInterface
from transformers.utils.generic import is_flash_attention_requested

from spacer_lib.models.patches.shared_media import Model, core_of

WINDOWS = "spacer_flash_windows"


class Sizes(NamedTuple):
    """Windows sorted by length.

    Attributes
    ----------
    counts : list of (int, int)
        Length and number of windows of each length.
    order, back : (S,) int tensor or None
        Places in the row, window by window, and its inverse; ``None`` where all
        windows have one length.
    """

    counts: list[tuple[int, int]]
    order: torch.Tensor | None
    back: torch.Tensor | None


# Boundaries -> their sizes: all layers of a forward get the same tensor.
_SIZES: Any = WeakIdKeyDictionary()


def sizes_of(boundaries: torch.Tensor) -> Sizes:
    """Sort windows by length.

    Parameters
    ----------
    boundaries : (windows + 1,) int tensor
        Where windows begin; the last entry is the end.
    """
    found: Sizes | None = _SIZES.get(boundaries)
    if found is None:
        edges = boundaries.cpu()
        lengths = edges.diff()
        counts = list(zip(*_counted(lengths), strict=True))
        order = back = None
        if len(counts) > 1:
            places = torch.arange(int(edges[-1]))
            order = places[
                torch.repeat_interleave(lengths, lengths).argsort(stable=True)
            ]
            back = order.argsort().to(boundaries.device)
            order = order.to(boundaries.device)
        found = _SIZES[boundaries] = Sizes(counts, order, back)
    return found


def _counted(lengths: torch.Tensor) -> tuple[list[int], list[int]]:
    values, counts = lengths[lengths > 0].unique(return_counts=True)
    return values.tolist(), counts.tolist()


def window_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each window.

    Parameters
    ----------
    query, key, value : (1, heads, S, d) tensor
    cu_seq_lens_q : (windows + 1,) int tensor
        Boundaries of windows.

    Returns
    -------
    (1, S, heads, d) tensor, None
    """
    sizes = sizes_of(cu_seq_lens_q)
    states = [one[0].transpose(0, 1) for one in (query, key, value)]  # (S, h, d)
    if sizes.order is not None:
        states = [one.index_select(0, sizes.order) for one in states]
    made, start = [], 0
    for length, count in sizes.counts:
        part = slice(start, start + length * count)
        batch = [one[part].unflatten(0, (count, length)) for one in states]
        q, k, v = (one.transpose(1, 2) for one in batch)  # (windows, h, length, d)
        found = scaled_dot_product_attention(q, k, v, scale=scaling, dropout_p=dropout)
        made.append(found.transpose(1, 2).flatten(0, 1))
        start = part.stop
    output = torch.cat(made) if len(made) > 1 else made[0]
    if sizes.back is not None:
        output = output.index_select(0, sizes.back)
    return output[None], None


AttentionInterface.register(WINDOWS, window_attention)


def use_batched_windows(model: Model) -> Model:
    """Let the vision tower compute its windows together, in place of one by one.

    A tower whose attention takes windows already (flash attention) stays.

    Parameters
    ----------
    model : Qwen-VL model, bare or wrapped (DeepSpeed, DDP, PEFT)

    Returns
    -------
    model
        The same object.
    """
    config = core_of(model).visual.config
    if not is_flash_attention_requested(config):
        config._attn_implementation = WINDOWS
    return model
