"""The patch embedding as a matrix product, exactly.

Qwen's towers get pixels already cut into patches and embed each with a ``Conv3d`` whose
kernel is the whole patch, so it has one position. Convolutions take slow paths for this
on CPUs and, in half precision, on GPUs; a matrix product gives the same sums in another
order, equal up to rounding.

Only the ``forward`` of this module is replaced. Its parameters keep their names and
shapes and its hooks still run, so checkpoints, adapters and DeepSpeed see no change.
"""

import functools
from typing import Any

import torch
from torch.nn.functional import linear

from spacer_lib.errors import SpacerError
from spacer_lib.models.patches.shared_media import core_of


def use_linear_patches(model: Any) -> Any:
    """Embed patches by a matrix product, in this model and in copies made of it.

    Parameters
    ----------
    model : Qwen-VL model, bare or wrapped (DeepSpeed, DDP, PEFT)

    Returns
    -------
    model
        The same object.

    Raises
    ------
    SpacerError
        If the embedding is no such convolution.
    """
    conv = core_of(model).visual.patch_embed.proj
    # Inside an adapter, if there is one.
    conv = getattr(conv, "base_layer", conv)
    plain = (
        conv.kernel_size == conv.stride
        and not any(conv.padding)
        and set(conv.dilation) == {1}
        and conv.groups == 1
    )
    if not plain:
        raise SpacerError(
            "patch embedding",
            kind="models.patch-embedding",
            got=conv,
            expected="a kernel as large as its stride",
        )
    # A partial, not a method or a closure: a deep copy then refers to itself.
    conv.forward = functools.partial(_linear_forward, conv)
    return model


def use_convolved_patches(model: Any) -> Any:
    """Undo ``use_linear_patches``. Returns the same model."""
    conv = core_of(model).visual.patch_embed.proj
    vars(getattr(conv, "base_layer", conv)).pop("forward", None)
    return model


def _linear_forward(conv: Any, patches: torch.Tensor) -> torch.Tensor:
    """(n, channels, time, rows, columns), a kernel each → (n, width, 1, 1, 1)."""
    if patches.shape[2:] != conv.kernel_size:  # larger: several positions
        return type(conv).forward(conv, patches)
    rows = linear(patches.flatten(1), conv.weight.flatten(1), conv.bias)
    return rows[:, :, None, None, None]
