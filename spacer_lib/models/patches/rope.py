"""Two rules for the positions of text after an image or a video, and the switch.

Qwen2-VL and Qwen2.5-VL number tokens on three axes: time, row, column. *Original*: text
after a vision block starts at the block's largest number plus one, on all axes;
published checkpoints were trained so. *Library*: transformers since 5.3 starts at the
block's first number plus its longer spatial side, so after a long video the text gets
numbers that lie inside the video. Nothing fails, but a published checkpoint meets
numbers that it was not trained on. A checkpoint keeps the rule that it was trained
under: published ones the original, the tiny one the library's, which is the default.
(The tiny one's four small frames get the same numbers by both.) From Qwen3-VL on a
video is one block for each time step, with its time in words before it: the rules
agree, and there is no switch.

The rule is not part of the weights or of ``config.json``: whoever loads a checkpoint
has to name it.

Source: https://github.com/huggingface/transformers/pull/35569 (Qwen's own code and
worked example); https://github.com/huggingface/transformers/issues/45381 (the change).
"""

import functools
from typing import Any

import torch

from spacer_lib.errors import SpacerError
from spacer_lib.models.patches.shared_media import core_of

# Families in which a video is one block, however long.
ONE_BLOCK_FAMILIES = ("qwen2_vl", "qwen2_5_vl")


def use_original_positions(model: Any) -> Any:
    """Start text at a vision block's largest position + 1, in this model only.

    Does nothing if the model already does so, by an earlier call or because the
    installed transformers does. Copies of the model follow the same rule. Models loaded
    elsewhere do not, such as a trainer's reference model.

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
        If there is no Qwen-VL inside, or one of a family without such a rule.
    """
    core = core_of(model)
    if core.config.model_type not in ONE_BLOCK_FAMILIES:
        raise SpacerError(
            "original positions",
            kind="models.one-rule",
            got=core.config.model_type,
            expected=" or ".join(ONE_BLOCK_FAMILIES),
            remedy="set positions: library",
        )
    if position_rule(model) != "original":
        # A partial, not a method or a closure: a deep copy then refers to itself.
        core.get_rope_index = functools.partial(_original_rope_index, core)
    return model


def use_library_positions(model: Any) -> Any:
    """Undo ``use_original_positions``: number as the installed transformers does.

    Returns the same model.
    """
    vars(core_of(model)).pop("get_rope_index", None)
    return model


# By the names of the rules in recipes.
POSITION_RULES = {"library": use_library_positions, "original": use_original_positions}


def position_rule(model: Any) -> str:
    """``"original"`` or ``"library"``: how this model numbers a three-step video.

    The model itself is asked, so the answer stays true when transformers changes. For a
    family without such a rule it is always ``"library"``.
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
    """The class's ``get_rope_index``, each block moved to one above the block before.

    Returns
    -------
    positions : (3, b, n) int tensor
        Time, row, column; zeros at padding.
    deltas : (b, 1) int tensor
        A row's next position minus its number of tokens; cached generation needs it.
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
        moved, start = [], 0
        for block in positions[:, row, real].split(lengths.tolist(), dim=1):
            moved.append(block - block.min() + start)
            start = moved[-1].max() + 1
        positions[:, row, real] = torch.cat(moved, dim=1)
        deltas.append(start - real.sum())
    return positions, torch.stack(deltas)[:, None]
