"""Question rows → what a Qwen-VL model's forward and generate take.

One function encodes prompts for the warm start, for rollouts, for log-probabilities
and for evaluation, so that all of them see the same pixels, grids and time steps. A
row shows a video, images, or nothing; a batch may mix them.
"""

import contextlib
import functools
import struct
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as tvF
from transformers.models.qwen2_vl.video_processing_qwen2_vl import smart_resize
from transformers.models.qwen3_vl.video_processing_qwen3_vl import (
    Qwen3VLVideoProcessor,
)
from transformers.video_utils import VideoMetadata

from spacer_lib.errors import SpacerError
from spacer_lib.language.prompts import PromptStyle
from spacer_lib.rooms.video import ROOM_SCHEME, RecentlyUsed, file_identity, read_frames
from spacer_lib.rows import Question

KEPT_BYTES = 512 * 2**20  # of encoded media

_KEPT = RecentlyUsed()
_IMAGE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class VideoSettings:
    """How a video becomes frames, and how large frames and images are.

    Attributes
    ----------
    frames : int
        Frames sampled uniformly, first and last included.
    size : int or None
        Square side in pixels, of frames and images; ``None`` keeps the native size and
        leaves resizing to the processor's pixel budget.
    max_pixels : int or None
        Pixel budget per frame or image handed to the processor (the paper trains with
        128 x 28 x 28 and evaluates with 448 x 28 x 28); ``None`` keeps its own.
    as_images : bool
        Hand the frames of a video over as single images: more tokens, and no time.
    shuffle : int or None
        Put a video's frames in an order drawn from this seed (T-GRPO's control).
    """

    frames: int = 4
    size: int | None = 56
    max_pixels: int | None = None
    as_images: bool = False
    shuffle: int | None = None


class MediaError(SpacerError):
    """A video or image that cannot be read: its row can be left out.

    Attributes
    ----------
    source : str
        The path or address, as the row has it.
    """

    def __init__(self, what: object, *, source: Any = None, **parts: Any) -> None:
        super().__init__(what, **parts)
        self.source = source

    def __reduce__(self) -> tuple:
        make, arguments = super().__reduce__()
        return functools.partial(make, source=self.source), arguments


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames already sampled; may stand in a row where a video's path would.

    Attributes
    ----------
    frames : (n, height, width, 3) uint8, RGB
    indices : (n,) tuple of int into the full video
    total, fps : int, float of the full video
    """

    frames: np.ndarray
    indices: tuple[int, ...]
    total: int
    fps: float

    def __str__(self) -> str:
        return f"clip {id(self)}"  # as good as a path: rows may share a clip


class _Shown(NamedTuple):
    """One source: its parts of a chat turn, their words, and its tensors."""

    parts: list[dict[str, Any]]
    images: list[str]
    videos: list[str]
    tensors: dict[str, torch.Tensor]


def encode_prompts(
    processor: Any,
    rows: Sequence[Question],
    mode: str | PromptStyle,
    video: VideoSettings,
    *,
    blind: bool = False,
    ready: dict | None = None,
) -> tuple[list[list[int]], list[dict[str, torch.Tensor]]]:
    """Tokenise prompts with their videos and images, unpadded.

    What was encoded lately is kept, up to ``KEPT_BYTES``; a file that changed is read
    and encoded again.

    Parameters
    ----------
    processor : processor of a Qwen-VL model
    rows : list of dict
        Question rows; see ``prompts.media_parts`` for what they show.
    mode : str or PromptStyle
        Answer mode of ``prompts.messages``, with its frame and template if not ours.
    video : VideoSettings
    blind : bool
        Leave videos and images out (the no-video floor).
    ready : dict, optional
        Of ``encode_media``, which then need not be done here.

    Returns
    -------
    input_ids : list of list of int
    media : list of dict
        Per row, and the same object for rows that show the same:
        ``pixel_values_videos`` (patches, channels), ``video_grid_thw`` (1, 3) and,
        for Qwen2.5-VL, ``second_per_grid_ts`` (1,); or ``pixel_values`` (patches,
        channels) and ``image_grid_thw`` (images, 3); or nothing.

    Raises
    ------
    MediaError
        If a video or image cannot be read.
    SpacerError
        If a question holds the model's own placeholder of an image or video.
    """
    style = PromptStyle(mode) if isinstance(mode, str) else mode
    encode = functools.partial(
        _encoded, processor, _settings(processor), video, dict(ready or {})
    )
    encoded: dict[tuple, _Shown] = {}
    texts, media = [], []
    for row in rows:
        (turn,) = style.messages(row)
        parts = [part for part in turn["content"] if part["type"] != "text"]
        words = [part for part in turn["content"] if part["type"] == "text"]
        # Rows of a group share a source: decode and patch it once.
        key = () if blind else tuple((p["type"], str(p[p["type"]])) for p in parts)
        if key not in encoded:
            encoded[key] = encode([] if blind else parts)
        shown = encoded[key]
        text = processor.apply_chat_template(
            [{**turn, "content": [*shown.parts, *words]}],
            tokenize=False,
            add_generation_prompt=True,
        )
        found = text.count(processor.image_token), text.count(processor.video_token)
        if found != (len(shown.images), len(shown.videos)):
            raise SpacerError(
                f"question {row.get('id')}",
                kind="models.placeholder",
                got="a placeholder among its words",
                expected=f"no {processor.image_token} or {processor.video_token}",
            )
        (text,), _ = processor.get_text_with_replacements(
            [text], shown.images, shown.videos
        )
        texts.append(text)
        media.append(shown.tensors)
    ids = processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids, media


def encode_media(
    processor: Any,
    rows: Iterable[Question],
    mode: str | PromptStyle,
    video: VideoSettings,
) -> dict:
    """The videos and images of rows, without their words, for ``encode_prompts``.

    What cannot be read is left out: ``encode_prompts`` will say so. Tokenizers, which
    two threads must not use at once, are left alone.

    Returns
    -------
    dict
    """
    style = PromptStyle(mode) if isinstance(mode, str) else mode
    owner = _settings(processor)
    ready: dict = {}
    for row in rows:
        (turn,) = style.messages(row)
        parts = [part for part in turn["content"] if part["type"] != "text"]
        with contextlib.suppress(MediaError):
            _encoded(processor, owner, video, ready, parts)
    return ready


def _encoded(
    processor: Any,
    owner: tuple,
    settings: VideoSettings,
    ready: dict,
    parts: list[dict[str, Any]],
) -> _Shown:
    """What parts show: one of ``ready``, kept from before, or made and added there."""
    make = functools.partial(_show, processor, parts, settings)
    if not all(isinstance(part[part["type"]], (str, Path)) for part in parts):
        return make()  # frames in memory have no name to keep them by
    try:
        sources = [(part["type"], _identity(part[part["type"]])) for part in parts]
    except OSError:
        return make()  # says what is wrong with it
    key = owner, settings, *sources
    if key not in ready:
        ready[key] = _KEPT.recall(key, make, _size, KEPT_BYTES) if parts else make()
    return ready[key]


def _identity(source: Any) -> Any:
    if str(source).startswith(ROOM_SCHEME):
        return str(source)
    return str(source), *file_identity(source)


def _settings(processor: Any) -> tuple:
    """Identifies this processor with its present settings."""
    encoders = processor.image_processor, processor.video_processor
    # A weak reference equals no other once its processor is gone.
    return weakref.ref(processor), *(str(vars(encoder)) for encoder in encoders)


def _size(shown: _Shown) -> int:
    return sum(tensor.nbytes for tensor in shown.tensors.values())


def _show(
    processor: Any, parts: list[dict[str, Any]], settings: VideoSettings
) -> _Shown:
    if not parts:
        return _Shown([], [], [], {})
    if parts[0]["type"] == "image":
        names = [part["image"] for part in parts]
        pictures = [read_image(name, settings.size) for name in names]
        return _show_images(processor, names, pictures, settings)
    source = parts[0]["video"]
    clip = read_clip(source, settings)
    if settings.as_images:
        pictures = [Image.fromarray(frame) for frame in clip.frames]
        return _show_images(processor, [source] * len(pictures), pictures, settings)
    return _show_video(processor, source, clip, settings)


def _show_video(
    processor: Any, source: Any, clip: Clip, settings: VideoSettings
) -> _Shown:
    metadata = VideoMetadata(
        total_num_frames=clip.total, fps=clip.fps, frames_indices=list(clip.indices)
    )
    encoder = processor.video_processor
    encoded = _encode(
        encoder,
        source,
        _budget(encoder, settings),
        videos=[torch.from_numpy(clip.frames).permute(0, 3, 1, 2)],
        video_metadata=[metadata],
        do_sample_frames=False,
    )
    tensors = {key: encoded[key] for key in ("pixel_values_videos", "video_grid_thw")}
    if "second_per_grid_ts" in processor.model_input_names:
        seconds = encoder.temporal_patch_size / metadata.sampled_fps
        tensors["second_per_grid_ts"] = torch.tensor([seconds])
    words = processor.replace_video_token(
        {**tensors, "video_metadata": [metadata]}, video_idx=0
    )
    return _Shown([{"type": "video", "video": source}], [], [words], tensors)


def _show_images(
    processor: Any,
    names: Sequence[Any],
    pictures: Sequence[Image.Image],
    settings: VideoSettings,
) -> _Shown:
    encoder = processor.image_processor
    encoded = _encode(encoder, names[0], _budget(encoder, settings), images=pictures)
    tensors = {key: encoded[key] for key in ("pixel_values", "image_grid_thw")}
    words = [
        processor.replace_image_token(tensors, image_idx=i)
        for i in range(len(pictures))
    ]
    parts = [{"type": "image", "image": name} for name in names]
    return _Shown(parts, words, [], tensors)


def read_clip(source: Any, settings: VideoSettings) -> Clip:
    """A video's frames as the settings have them, before any pixel budget.

    Parameters
    ----------
    source : path, str or Clip
        A clip is taken as it is.
    settings : VideoSettings

    Returns
    -------
    Clip

    Raises
    ------
    MediaError
        If it cannot be read.
    """
    if isinstance(source, Clip):
        return source
    try:
        clip = Clip(*read_frames(source, settings.frames, settings.size))
    except SpacerError as error:
        raise MediaError(
            error.what,
            kind=error.kind,
            source=source,
            got=error.got,
            expected=error.expected,
            remedy=error.remedy,
        ) from error
    if settings.shuffle is None:
        return clip
    rng = np.random.default_rng([settings.shuffle, *str(source).encode()])
    return replace(clip, frames=clip.frames[rng.permutation(len(clip.frames))])


def fit_pixels(
    frames: np.ndarray, max_pixels: int | None, multiple: int = 28
) -> np.ndarray:
    """Frames resized as Qwen-VL's processors resize them to a pixel budget.

    Such a processor leaves the result unchanged, so a server gets the same frames as a
    model here.

    Parameters
    ----------
    frames : (n, height, width, 3) uint8
    max_pixels : int or None
        Of one frame; ``None`` leaves the frames alone.
    multiple : int
        Sides become multiples of it: patch size times merge size, 28 of Qwen2.5-VL,
        32 of Qwen3-VL.

    Raises
    ------
    MediaError
        If one side is 200 times the other.
    """
    if max_pixels is None:
        return frames
    try:
        size = smart_resize(
            *frames.shape[1:3],
            factor=multiple,
            max_pixels=max_pixels,
            min_pixels=min(56 * 56, max_pixels),
        )
    except ValueError as error:
        raise MediaError(
            "frames cannot be shown to a model", kind="models.media-shape", got=error
        ) from error
    fitted = tvF.resize(
        torch.from_numpy(frames).permute(0, 3, 1, 2),
        list(size),
        interpolation=tvF.InterpolationMode.BICUBIC,
        antialias=True,
    )
    return fitted.permute(0, 2, 3, 1).numpy()


def read_image(source: Any, size: int | None = None) -> Image.Image:
    """An image file, upright and in RGB, as a PIL image; ``size`` squares it.

    A PIL image in place of a path counts as read.

    Raises
    ------
    MediaError
        If it cannot be read.
    """
    if isinstance(source, Image.Image):
        return source
    try:
        with Image.open(source) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
    except _IMAGE_ERRORS as error:
        raise MediaError(
            f"image {source} cannot be read",
            kind="models.image",
            source=source,
            got=str(error) or type(error).__name__,
            expected="a whole image",
            remedy="download it again, or drop the row",
        ) from error
    return image if size is None else image.resize((size, size))


def _encode(encoder: Any, source: Any, budget: dict, **inputs: Any) -> Any:
    try:
        return encoder(**inputs, **budget, return_tensors="pt")
    except ValueError as error:  # such as a side 200 times the other
        raise MediaError(
            f"{source} cannot be shown to the model",
            kind="models.media-shape",
            source=source,
            got=error,
        ) from error


def _budget(encoder: Any, settings: VideoSettings) -> dict[str, Any]:
    if settings.max_pixels is None:
        return {}
    # Qwen3-VL's budget is for a whole video, its elders' for each frame or image.
    whole = isinstance(encoder, Qwen3VLVideoProcessor)
    most = settings.max_pixels * (settings.frames if whole else 1)
    least = min(encoder.size["shortest_edge"], most)
    return {"size": {"shortest_edge": least, "longest_edge": most}}


def join_media(media: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Per-row tensors → one batch's keyword arguments for the model."""
    keys = dict.fromkeys(key for one in media for key in one)
    return {key: torch.cat([one[key] for one in media if key in one]) for key in keys}


def token_types(input_ids: torch.Tensor, config: Any) -> torch.Tensor:
    """(b, n) int: 2 at video tokens, 1 at image tokens, 0 elsewhere."""
    types = (input_ids == config.video_token_id).int() * 2
    return types + (input_ids == config.image_token_id).int()


def pad_batch(
    sequences: Sequence[Sequence[int]], pad_id: int, side: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lists of ids → ``(input_ids, attention_mask)`` (b, n), padded on one side."""
    width = max(len(ids) for ids in sequences)
    rows, mask = [], []
    for ids in sequences:
        gap, ones = [pad_id] * (width - len(ids)), [1] * len(ids)
        zeros = [0] * len(gap)
        rows.append([*gap, *ids] if side == "left" else [*ids, *gap])
        mask.append(zeros + ones if side == "left" else ones + zeros)
    return torch.tensor(rows), torch.tensor(mask)
