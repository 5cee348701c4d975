"""The patch embedding of the vision tower as a matrix product.

Qwen's processors cut the pixels into patches. The vision tower embeds each patch with a
``Conv3d`` whose kernel covers the whole patch, so the kernel has one position. A matrix
product computes the same sums in another order: the results are equal up to rounding.
It is faster than the convolution on CPUs and, in half precision, on GPUs.

Only the ``forward`` of this one module is replaced. Its parameters keep their names and
shapes and its hooks still run, so checkpoints, adapters and DeepSpeed see no change.

Source: ``Qwen2_5_VisionPatchEmbed`` of transformers, ``models/qwen2_5_vl``.
"""

import functools
from typing import Any

import torch
from torch.nn.functional import linear

from spacer_lib.errors import SpacerError
from spacer_lib.models.patches.shared_media import Model, core_of


def use_linear_patches(model: Model) -> Model:
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
        If the model has no vision tower, or its convolution has more than one
        position in a patch.
    """
    conv = _convolution(model)
    plain = (
        conv.kernel_size == conv.stride
        and not any(conv.padding)
        and set(conv.dilation) == {1}
        and conv.groups == 1
    )
    if not plain:
        raise SpacerError(
            "patch embedding",
            kind="models.sliding-kernel",
            got=conv,
            expected="one group, a stride equal to the kernel, no padding or dilation",
        )
    # A deep copy copies the module inside a partial; a closure would keep the old one.
    conv.forward = functools.partial(_linear_forward, conv)
    return model


def use_convolved_patches(model: Model) -> Model:
    """Undo ``use_linear_patches``; returns the same object."""
    vars(_convolution(model)).pop("forward", None)
    return model


def _convolution(model: torch.nn.Module) -> Any:
    conv = core_of(model).visual.patch_embed.proj
    return getattr(conv, "base_layer", conv)  # an adapter wraps the convolution


def _linear_forward(conv: Any, patches: torch.Tensor) -> torch.Tensor:
    """(n, channels, time, rows, columns), one kernel each → (n, width, 1, 1, 1)."""
    if patches.shape[2:] != conv.kernel_size:  # larger: the kernel has to slide
        return type(conv).forward(conv, patches)
    rows = linear(patches.flatten(1), conv.weight.flatten(1), conv.bias)
    return rows[:, :, None, None, None]
