"""Position numbers of text after an image or a video: two rules and a switch.

Qwen2-VL and Qwen2.5-VL number tokens on three axes: time, row and column. The rules
differ in where text continues after a vision block.

*original*: at the largest number of the block plus one, on all axes. The published
checkpoints were trained under this rule.

*library*: at the start of the block plus its longer spatial side. transformers uses
this rule since 5.3. The text after a long video then gets numbers from the middle of
the video. A published checkpoint runs without an error, but it was not trained on such
numbers.

A checkpoint needs the rule that it was trained under: a published one ``original``, one
trained in this project the rule of its recipe. A loaded model follows ``library``. The
four small frames of the tiny model get the same numbers by both rules.

From Qwen3-VL on, a video is one block per time step with its time as text before it.
The two rules agree there, so these families have no switch.

Published checkpoints do not say their rule; state it at each load. Models that this
project saves say it in ``config.json`` (``models.checkpoints.RULE_KEY``).

Source: https://github.com/huggingface/transformers/pull/35569 (Qwen's own code and
worked example); https://github.com/huggingface/transformers/issues/45381 (the change).
"""

import functools
from collections.abc import Callable
from typing import Any

import torch

from spacer_lib.errors import SpacerError
from spacer_lib.models.patches.shared_media import Model, core_of

# Families in which a video is one block, of any length.
ONE_BLOCK_FAMILIES = ("qwen2_vl", "qwen2_5_vl")


def use_original_positions(model: Model) -> Model:
    """Switch this model to the rule ``original``.

    A model that already follows it is left unchanged. Copies of the model follow the
    same rule. Models that are loaded separately do not; a trainer's reference model is
    one of them.

    Parameters
    ----------
    model : Qwen2-VL or Qwen2.5-VL model, bare or wrapped (DeepSpeed, DDP, PEFT)

    Returns
    -------
    model
        The same object.

    Raises
    ------
    SpacerError
        If this is no Qwen-VL model, or its family has one rule only.
    """
    core = core_of(model)
    if core.config.model_type not in ONE_BLOCK_FAMILIES:
        raise SpacerError(
            "original positions",
            kind="models.one-position-rule",
            got=core.config.model_type,
            expected=" or ".join(ONE_BLOCK_FAMILIES),
            remedy="set positions: library",
        )
    if position_rule(model) != "original":
        # A deep copy copies the module inside a partial; a closure would keep the old
        # one.
        core.get_rope_index = functools.partial(_original_rope_index, core)
    return model


def use_library_positions(model: Model) -> Model:
    """Undo ``use_original_positions``; returns the same object."""
    vars(core_of(model)).pop("get_rope_index", None)
    return model


# Name of the rule in a recipe -> function that switches a model to it.
POSITION_RULES: dict[str, Callable[[Any], Any]] = {
    "library": use_library_positions,
    "original": use_original_positions,
}


def position_rule(model: torch.nn.Module) -> str:
    """The rule that a model follows: ``original`` or ``library``.

    The model numbers a video of three time steps, so the result holds for every version
    of transformers. Families with one rule only return ``library``.

    Raises
    ------
    SpacerError
        If this is no Qwen-VL model.
    """
    core = core_of(model)
    if core.config.model_type not in ONE_BLOCK_FAMILIES:
        return "library"
    side = core.config.vision_config.spatial_merge_size  # one token per time step
    on_cpu = functools.partial(torch.tensor, device="cpu")
    positions, _ = core.get_rope_index(
        input_ids=torch.zeros(1, 4, dtype=torch.long, device="cpu"),
        mm_token_type_ids=on_cpu([[2, 2, 2, 0]]),
        video_grid_thw=on_cpu([[3, side, side]]),
        second_per_grid_ts=on_cpu([1.0]),
    )
    *video, text = positions[0, 0].tolist()
    return "original" if text == max(video) + 1 else "library"


def _original_rope_index(
    core: Any,
    input_ids: torch.Tensor,
    mm_token_type_ids: torch.Tensor,
    *,
    attention_mask: torch.Tensor | None = None,
    **grids: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The class's ``get_rope_index`` with the start of each block moved.

    A block starts one above the largest position of the block before it.

    Returns
    -------
    positions : (3, b, n) int tensor
        Time, row, column; zeros at padding.
    deltas : (b, 1) int tensor
        A row's next position minus its number of tokens. Generation adds it to the
        number of cached tokens.
    """
    positions, _ = type(core).get_rope_index(
        core, input_ids, mm_token_type_ids, attention_mask=attention_mask, **grids
    )
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    deltas = []
    for row, real in enumerate(attention_mask.bool()):
        types = mm_token_type_ids[row, real]
        _, lengths = types.unique_consecutive(return_counts=True)
        moved: list[torch.Tensor] = []
        start: torch.Tensor | int = 0
        for block in positions[:, row, real].split(lengths.tolist(), dim=1):
            moved.append(block - block.min() + start)
            start = moved[-1].max() + 1
        positions[:, row, real] = torch.cat(moved, dim=1)
        deltas.append(start - real.sum())
    return positions, torch.stack(deltas)[:, None]
