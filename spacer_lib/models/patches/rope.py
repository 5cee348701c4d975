"""Where text goes on after an image or a video: two rules, and the switch between them.

Qwen2-VL and Qwen2.5-VL number tokens on three axes: time, row, column. *Original*: text
goes on one above the largest number of the vision block before it, on all axes. So it
was when the published checkpoints were trained. *Library*: transformers since 5.3 goes
on at the block's start plus its longer spatial side, so that after a long video text is
numbered as if it were spoken in the middle of it. Nothing fails; a published checkpoint
merely meets numbers it was not trained on. A checkpoint keeps the rule it was trained
under: a published one the original; ours, the tiny one, the library's, which is what a
model follows until told otherwise. (Its four small frames are numbered alike by both.)
From Qwen3-VL on a video is one block per time step, with its time in words before it:
the rules agree there, and there is nothing to switch.

The rule is no part of the weights or of ``config.json``: whoever loads a checkpoint
says it again.

Source: https://github.com/huggingface/transformers/pull/35569 (Qwen's own code and
worked example); https://github.com/huggingface/transformers/issues/45381 (the change).
"""

import functools

import torch

from spacer_lib.errors import SpacerError
from spacer_lib.models.patches.shared_media import core_of

# Families in which a video is one block, however long.
ONE_BLOCK_FAMILIES = ("qwen2_vl", "qwen2_5_vl")


def use_original_positions(model):
    """Let text go on at a vision block's largest position + 1, in this model only.

    Does nothing if the model already numbers so, by an earlier call or because the
    installed transformers does. Copies of the model follow the same rule; models loaded
    elsewhere do not, and a trainer's reference model is one of those.

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
            got=core.config.model_type,
            expected=" or ".join(ONE_BLOCK_FAMILIES),
            remedy="set positions: library",
        )
    if position_rule(model) != "original":
        # A partial, not a method or a closure: a deep copy then refers to itself.
        core.get_rope_index = functools.partial(_original_rope_index, core)
    return model


def use_library_positions(model):
    """Undo ``use_original_positions``: number as the installed transformers does."""
    vars(core_of(model)).pop("get_rope_index", None)
    return model


# What a recipe's word for the rule does to a model.
POSITION_RULES = {"library": use_library_positions, "original": use_original_positions}


def position_rule(model):
    """``"original"`` or ``"library"``: how this model numbers a three-step video.

    Asked of the model by a probe, so that it stays true when transformers changes. Of a
    family without such a rule always ``"library"``.
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
    core, input_ids, mm_token_type_ids, *, attention_mask=None, **grids
):
    """The class's ``get_rope_index``, each block moved to one above the block before.

    Returns
    -------
    positions : (3, b, n) int tensor
        Time, row, column; zeros at padding.
    deltas : (b, 1) int tensor
        What a row's next position exceeds its number of tokens by; cached generation
        steps count on from it.
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
