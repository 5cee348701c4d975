"""Question rows → what Qwen2.5-VL's forward and generate take.

One function encodes prompts for the warm start, for rollouts, for log-probabilities
and for evaluation, so that all of them see the same pixels, grids and time steps.
"""

from dataclasses import dataclass

import torch
from transformers.video_utils import VideoMetadata

from spacer_lib.prompts import PromptStyle
from spacer_lib.video import read_frames


@dataclass(frozen=True)
class VideoSettings:
    """How a video becomes frames.

    Attributes
    ----------
    frames : int
        Frames sampled uniformly, first and last included.
    size : int or None
        Square side in pixels; ``None`` keeps the native size and leaves resizing to
        the processor's pixel budget.
    max_pixels : int or None
        Pixel budget per frame handed to the processor (the paper trains with
        128 x 28 x 28 and evaluates with 448 x 28 x 28); ``None`` keeps its own.
    """

    frames: int = 4
    size: int | None = 56
    max_pixels: int | None = None


def encode_prompts(processor, rows, mode, video, *, blind=False):
    """Tokenise prompts with their videos, unpadded.

    Parameters
    ----------
    processor : Qwen2_5_VLProcessor
    rows : list of dict
        Question rows; ``row["video"]`` is a path or a ``room://`` address.
    mode : str or PromptStyle
        Answer mode of ``prompts.messages``, with its frame and template if not ours.
    video : VideoSettings
    blind : bool
        Leave the video out (the no-video floor).

    Returns
    -------
    input_ids : list of list of int
    videos : list of dict or None
        Per row ``pixel_values_videos`` (patches, channels), ``video_grid_thw`` (1, 3)
        and ``second_per_grid_ts`` (1,); ``None`` when blind.
    """
    style = PromptStyle(mode) if isinstance(mode, str) else mode
    chats = [style.messages(row) for row in rows]
    if blind:
        for chat in chats:
            for message in chat:
                if not isinstance(message["content"], str):
                    parts = message["content"]
                    message["content"] = [p for p in parts if p["type"] != "video"]
    text = [
        processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        for chat in chats
    ]
    if blind:
        return processor.tokenizer(text, add_special_tokens=False)["input_ids"], None
    # Rows of a group share a video: decode and patch it once, then index.
    sources = list(dict.fromkeys(row["video"] for row in rows))
    tensors = {s: _video_tensors(processor, s, video) for s in sources}
    merge = processor.video_processor.merge_size**2
    pad = processor.video_token
    videos, filled = [], []
    for row, prompt in zip(rows, text, strict=True):
        tensor = tensors[row["video"]]
        videos.append(tensor)
        count = int(tensor["video_grid_thw"].prod()) // merge
        filled.append(prompt.replace(pad, pad * count, 1))
    ids = processor.tokenizer(filled, add_special_tokens=False)["input_ids"]
    return ids, videos


def _video_tensors(processor, source, video):
    frames, indices, total, fps = read_frames(source, video.frames, video.size)
    metadata = VideoMetadata(
        total_num_frames=total, fps=fps, frames_indices=list(indices)
    )
    kwargs = {}
    if video.max_pixels is not None:
        size = dict(processor.video_processor.size)
        kwargs["size"] = {**size, "longest_edge": video.max_pixels * video.frames}
    encoded = processor.video_processor(
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
        video_metadata=[metadata],
        do_sample_frames=False,
        return_tensors="pt",
        **kwargs,
    )  # fmt: skip
    seconds = processor.video_processor.temporal_patch_size / metadata.sampled_fps
    return {
        "pixel_values_videos": encoded["pixel_values_videos"],
        "video_grid_thw": encoded["video_grid_thw"],
        "second_per_grid_ts": torch.tensor([seconds]),
    }


def join_videos(videos):
    """Per-row video tensors → one batch's keyword arguments for the model."""
    if not videos:
        return {}
    return {key: torch.cat([video[key] for video in videos]) for key in videos[0]}


def token_types(input_ids, config):
    """(b, n) int: 2 at video tokens, 1 at image tokens, 0 elsewhere."""
    types = (input_ids == config.video_token_id).int() * 2
    return types + (input_ids == config.image_token_id).int()


def pad_batch(sequences, pad_id, side):
    """Lists of ids → ``(input_ids, attention_mask)`` (b, n), padded on one side."""
    width = max(len(ids) for ids in sequences)
    rows, mask = [], []
    for ids in sequences:
        gap, ones = [pad_id] * (width - len(ids)), [1] * len(ids)
        zeros = [0] * len(gap)
        rows.append(gap + ids if side == "left" else ids + gap)
        mask.append(zeros + ones if side == "left" else ones + zeros)
    return torch.tensor(rows), torch.tensor(mask)
