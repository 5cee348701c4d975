"""Run the vision tower once per distinct video of a batch, not once per row.

The rollouts of a group look at one video; encoding it for every row would be most of
the vision work for nothing. The rows' features, and so log-probabilities and
gradients, are those of the plain call (``tests/training/test_trainer.py``).
"""

import contextlib

import torch
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel


def core_of(model):
    """The ``Qwen2_5_VLModel`` (everything but the head) inside any wrappers."""
    return next(m for m in model.modules() if isinstance(m, Qwen2_5_VLModel))


@contextlib.contextmanager
def videos_once(model, videos, device):
    """While this is open, ``model`` takes each distinct video once.

    Parameters
    ----------
    model : Qwen2.5-VL model, bare or wrapped (DeepSpeed, DDP, PEFT)
    videos : list of dict
        Per row, as ``encode_prompts`` returns them: rows that share a video share the
        dictionary **object**.
    device : torch.device

    Yields
    ------
    dict
        Keyword arguments for the model's forward or ``generate``: pixels of the
        distinct videos, grids and time steps of every row.
    """
    core = core_of(model)  # inside, so that wrappers see one ordinary forward
    encode = core.get_video_features
    first_row = {}
    for row, video in enumerate(videos):
        first_row.setdefault(id(video), row)
    rows = list(first_row.values())
    place = {key: i for i, key in enumerate(first_row)}
    order = [place[id(video)] for video in videos]

    def encode_once(pixel_values_videos, video_grid_thw=None, **kwargs):
        output = encode(pixel_values_videos, video_grid_thw[rows], **kwargs)
        output.pooler_output = tuple(output.pooler_output[i] for i in order)
        return output

    inputs = {
        key: torch.cat([video[key] for video in part]).to(device)
        for key, part in (
            ("pixel_values_videos", [videos[row] for row in rows]),
            ("video_grid_thw", videos),
            ("second_per_grid_ts", videos),
        )
    }
    core.get_video_features = encode_once
    try:
        yield inputs
    finally:
        del core.get_video_features
