"""Question rows as inputs of a Qwen-VL model's forward and ``generate``.

One function encodes prompts for the warm start, rollouts, log-probabilities and
evaluation, so all of them use the same pixels, grids and time steps. A row shows a
video, images or nothing. A batch may mix the three.

Source: Qwen2.5-VL, https://arxiv.org/abs/2502.13923; Qwen3-VL,
https://arxiv.org/abs/2511.21631.
"""

import contextlib
import functools
import struct
import weakref
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as tvF
from transformers.models.qwen2_vl.video_processing_qwen2_vl import smart_resize
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.video_utils import VideoMetadata

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.language.prompts import PromptStyle, media_parts
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rooms.video import ROOM_SCHEME, RecentlyUsed, file_identity, read_frames
from spacer_lib.rows import Question

KEPT_BYTES = 512 * 2**20  # of encoded media

_IMAGE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)


class MediaError(SpacerError):
    """A video or image that cannot be read. Its row can be left out.

    Attributes
    ----------
    source : object
        The path, address or picture, as the row has it.
    """

    def __init__(self, what: object, *, source: object = None, **parts: Any) -> None:
        super().__init__(what, **parts)
        self.source = source

    def __reduce__(self) -> tuple:
        make, arguments = super().__reduce__()
        return functools.partial(make, source=self.source), arguments


@dataclass(frozen=True, eq=False)
class Clip:
    """Sampled frames of a video. A row may hold a clip in place of a video's path.

    Attributes
    ----------
    frames : (n, height, width, 3) uint8
        RGB.
    indices : (n,) tuple of int
        Of the frames in the full video.
    total : int
        Frames of the full video.
    fps : float
        Frame rate of the full video.
    """

    frames: npt.NDArray[np.uint8]
    indices: tuple[int, ...]
    total: int
    fps: float

    def __str__(self) -> str:
        return f"clip {id(self)}"  # names the clip as a path names a file


class Media(dict[str, torch.Tensor]):
    """Pixels, grids and times of what a row shows: keyword arguments of the model.

    Attributes
    ----------
    features : dict or None
        The vision tower's output for them, where ``shared_media.keep_features`` keeps
        it. It lasts as long as they do.
    """

    __slots__ = ("features",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.features: Any = None


class _Shown(NamedTuple):
    """What one row shows, encoded."""

    parts: list[dict[str, Any]]  # of the chat turn
    images: list[str]  # text that replaces the placeholder of each image
    videos: list[str]  # the same for the video
    tensors: Media


def _size(shown: _Shown) -> int:
    return sum(tensor.nbytes for tensor in shown.tensors.values())


_KEPT = RecentlyUsed(_size, KEPT_BYTES)


def encode_prompts(
    processor: Any,
    rows: Sequence[Question],
    mode: PromptStyle | str,
    video: VideoSettings,
    *,
    blind: bool = False,
    ready: Mapping[Hashable, Any] | None = None,
) -> tuple[list[list[int]], list[Media]]:
    """Tokenise prompts with their videos and images, without padding.

    The most recently used encoded media are kept, up to ``KEPT_BYTES``; who knows
    which are not asked for again drops them (``MediaUses``). A file that changed is
    read and encoded again.

    Parameters
    ----------
    processor : processor of a Qwen-VL model
    rows : list of Question
        ``prompts.media_parts`` says which media a row shows.
    mode : PromptStyle or str
        A string is an answer mode with the default frame and template.
    video : VideoSettings
    blind : bool
        Leave videos and images out (the blind floor).
    ready : dict, optional
        Result of ``encode_media`` for these rows.

    Returns
    -------
    input_ids : list of list of int
    media : list of Media
        One per row; rows that show the same share one object. A video has
        ``pixel_values_videos`` (patches, channels), ``video_grid_thw`` (1, 3) and, for
        Qwen2.5-VL, ``second_per_grid_ts`` (1,). Images have ``pixel_values`` (patches,
        channels) and ``image_grid_thw`` (images, 3). Text alone has no tensor.

    Raises
    ------
    MediaError
        If a video or image cannot be read.
    SpacerError
        If the text of a question contains the model's placeholder of an image or
        video.
    """
    style = PromptStyle(mode) if isinstance(mode, str) else mode
    encode = functools.partial(
        _encoded, processor, _settings(processor), video, dict(ready or {})
    )
    encoded: dict[Hashable, _Shown] = {}
    texts, media = [], []
    for row in rows:
        *earlier, turn = style.messages(row)
        parts = [part for part in turn["content"] if part["type"] != "text"]
        words = [part for part in turn["content"] if part["type"] == "text"]
        # The rows of a group show the same media, which is encoded once.
        key = () if blind else tuple((p["type"], str(p[p["type"]])) for p in parts)
        if key not in encoded:
            encoded[key] = encode([] if blind else parts)
        shown = encoded[key]
        text = processor.apply_chat_template(
            [*earlier, {**turn, "content": [*shown.parts, *words]}],
            tokenize=False,
            add_generation_prompt=True,
        )
        found = text.count(processor.image_token), text.count(processor.video_token)
        if found != (len(shown.images), len(shown.videos)):
            raise SpacerError(
                f"question {row.get('id')}",
                kind="models.placeholder-in-text",
                got="a placeholder of media in its text",
                expected=f"no {processor.image_token} or {processor.video_token}",
                remedy="remove it from the question or its options",
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
    rows: Sequence[Question],
    mode: PromptStyle | str,
    video: VideoSettings,
) -> dict[Hashable, Any]:
    """Encode the videos and images of rows ahead, for ``encode_prompts``.

    Media that cannot be read are left out; ``encode_prompts`` then raises the error.
    This function uses no tokenizer, so it may run in a second thread.

    Parameters
    ----------
    processor, rows, mode, video
        As for ``encode_prompts``.

    Returns
    -------
    dict
        Argument ``ready`` of ``encode_prompts``.
    """
    style = PromptStyle(mode) if isinstance(mode, str) else mode
    owner = _settings(processor)
    ready: dict[Hashable, Any] = {}
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
    ready: dict[Hashable, Any],
    parts: list[dict[str, Any]],
) -> _Shown:
    """The encoded parts, from ``ready`` or ``_KEPT`` if there; added to ``ready``."""
    make = functools.partial(_show, processor, parts, settings)
    key = _key(owner, settings, parts)
    if key is None:
        return make()  # of a missing file it raises a MediaError that names it
    if key not in ready:
        ready[key] = _KEPT.recall(key, make) if parts else make()
    return ready[key]


def _key(
    owner: tuple, settings: VideoSettings, parts: Sequence[Mapping[str, Any]]
) -> Hashable | None:
    """By which encoded parts are found; ``None`` for frames in memory, which have no
    name, and for missing files."""
    if not all(isinstance(part[part["type"]], (str, Path)) for part in parts):
        return None
    try:
        sources = [(part["type"], _identity(part[part["type"]])) for part in parts]
    except OSError:
        return None
    return owner, settings, *sources


class MediaUses:
    """Uses of media that are still to come. After the last, they are not kept.

    Media that are used more often are encoded again for each use.

    Parameters
    ----------
    processor : processor of a Qwen-VL model
    rows : iterable of Question
        A row stands there once for each use.
    video : VideoSettings
    """

    def __init__(
        self,
        processor: Any,
        rows: Iterable[Question],
        video: VideoSettings,
    ) -> None:
        self.processor, self.video = processor, video
        self._left = Counter(map(_names, rows))

    def used(self, rows: Iterable[Question], uses: int = 1) -> None:
        """Count one use of each of these rows, or none of those still to come."""
        owner = _settings(self.processor)
        for row in rows:
            names = _names(row)
            self._left[names] -= uses
            if names and self._left[names] <= 0:
                _KEPT.forget(_key(owner, self.video, media_parts(row)))


def _names(row: Question) -> Hashable:
    """What a row shows: rows of the same video share their encoded media."""
    return tuple((part["type"], str(part[part["type"]])) for part in media_parts(row))


def _identity(source: PathLike) -> Hashable:
    if str(source).startswith(ROOM_SCHEME):
        return str(source)
    return str(source), *file_identity(source)


def _settings(processor: Any) -> tuple:
    """A key of this processor with its present settings."""
    encoders = processor.image_processor, processor.video_processor
    # Not id(): a later processor may get the same one. A dead weak reference equals
    # only itself.
    return weakref.ref(processor), *(str(vars(encoder)) for encoder in encoders)


def _show(
    processor: Any, parts: list[dict[str, Any]], settings: VideoSettings
) -> _Shown:
    if not parts:
        return _Shown([], [], [], Media())
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
    processor: Any, source: object, clip: Clip, settings: VideoSettings
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
    names = "pixel_values_videos", "video_grid_thw"
    tensors = Media((name, encoded[name]) for name in names)
    if "second_per_grid_ts" in processor.model_input_names:
        seconds = encoder.temporal_patch_size / metadata.sampled_fps
        tensors["second_per_grid_ts"] = torch.tensor([seconds])
    words = processor.replace_video_token(
        {**tensors, "video_metadata": [metadata]}, video_idx=0
    )
    return _Shown([{"type": "video", "video": source}], [], [words], tensors)


def _show_images(
    processor: Any,
    names: Sequence[object],
    pictures: list[Image.Image],
    settings: VideoSettings,
) -> _Shown:
    encoder = processor.image_processor
    encoded = _encode(encoder, names[0], _budget(encoder, settings), images=pictures)
    kinds = "pixel_values", "image_grid_thw"
    tensors = Media((kind, encoded[kind]) for kind in kinds)
    words = [
        processor.replace_image_token(tensors, image_idx=i)
        for i in range(len(pictures))
    ]
    parts = [{"type": "image", "image": name} for name in names]
    return _Shown(parts, words, [], tensors)


def read_clip(source: PathLike | Clip, settings: VideoSettings) -> Clip:
    """Sample the frames of a video. The pixel budget is applied later.

    Parameters
    ----------
    source : path, str or Clip
        A clip is returned unchanged.
    settings : VideoSettings
        Its ``frames``, ``sampler``, ``size`` and ``shuffle`` are used.

    Returns
    -------
    Clip

    Raises
    ------
    MediaError
        If the video cannot be read; its kind is that of ``video.read_frames``.
    """
    if isinstance(source, Clip):
        return source
    try:
        clip = Clip(
            *read_frames(source, settings.frames, settings.size, settings.sampler)
        )
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
    frames: npt.NDArray[np.uint8],
    max_pixels: int | None,
    multiple: int = 28,
    min_pixels: int | None = None,
) -> npt.NDArray[np.uint8]:
    """Resize frames to a pixel budget by the rule of Qwen-VL's processors.

    A processor with the same budget leaves the result unchanged. A model behind a
    server therefore gets the pixels that a local model gets.

    Parameters
    ----------
    frames : (n, height, width, 3) uint8
    max_pixels : int or None
        Budget of one frame. ``None``: the frames are returned unchanged.
    multiple : int
        Each side becomes a multiple of this number of pixels: patch size times merge
        size, 28 for Qwen2.5-VL and 32 for Qwen3-VL.
    min_pixels : int, optional
        Smaller frames are enlarged to this; 56 x 56 without it, as in the processors.

    Returns
    -------
    (n, new height, new width, 3) uint8

    Raises
    ------
    MediaError
        If one side is more than 200 times the other.

    Source: ``smart_resize`` of transformers, ``models/qwen2_vl``.
    """
    if max_pixels is None:
        return frames
    try:
        size = smart_resize(
            *frames.shape[1:3],
            factor=multiple,
            max_pixels=max_pixels,
            min_pixels=min(min_pixels or 56 * 56, max_pixels),
        )
    except ValueError as error:
        raise MediaError(
            "frames cannot be encoded", kind="models.not-encodable", got=error
        ) from error
    fitted = tvF.resize(
        torch.from_numpy(frames).permute(0, 3, 1, 2),
        list(size),
        interpolation=tvF.InterpolationMode.BICUBIC,
        antialias=True,
    )
    return fitted.permute(0, 2, 3, 1).numpy()


def read_image(
    source: PathLike | IO[bytes] | Image.Image, size: int | None = None
) -> Image.Image:
    """Read an image file, turned upright by its EXIF orientation.

    Parameters
    ----------
    source : path, str, binary file or PIL image
        A PIL image is returned unchanged.
    size : int, optional
        Side in pixels of a square that the image is resized to.

    Returns
    -------
    PIL image
        RGB, if read from a file.

    Raises
    ------
    MediaError
        If the file is missing, broken or no image.
    """
    if isinstance(source, Image.Image):
        return source
    try:
        with Image.open(source) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
    except _IMAGE_ERRORS as error:
        raise MediaError(
            f"image {source} cannot be read",
            kind="models.unreadable-image",
            source=source,
            got=str(error) or type(error).__name__,
            expected="a whole image",
            remedy="download it again, or drop the row",
        ) from error
    return image if size is None else image.resize((size, size))


def _encode(
    encoder: Any, source: object, budget: dict[str, Any], **inputs: Any
) -> dict[str, torch.Tensor]:
    try:
        return encoder(**inputs, **budget, return_tensors="pt")
    except ValueError as error:  # such as one side more than 200 times the other
        raise MediaError(
            f"{source} cannot be encoded",
            kind="models.not-encodable",
            source=source,
            got=error,
        ) from error


def _budget(encoder: Any, settings: VideoSettings) -> dict[str, Any]:
    if settings.max_pixels is None:
        return {}
    # Qwen3-VL's video processor has one budget for all frames; the other processors
    # have a budget for each frame or image.
    whole = isinstance(encoder, Qwen3VLVideoProcessor)
    most = settings.max_pixels * (settings.frames if whole else 1)
    least = encoder.size["shortest_edge"]
    if settings.min_pixels is not None:
        least = settings.min_pixels * (settings.frames if whole else 1)
    least = min(least, most)
    return {"size": {"shortest_edge": least, "longest_edge": most}}


def join_media(media: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Concatenate the tensors of rows: keyword arguments of the model for one batch.

    Parameters
    ----------
    media : list of dict of tensors
        One per row, as ``encode_prompts`` returns them.
    """
    keys = dict.fromkeys(key for one in media for key in one)
    return {key: torch.cat([one[key] for one in media if key in one]) for key in keys}


def token_types(input_ids: torch.Tensor, config: Any) -> torch.Tensor:
    """Mark the tokens of media: 2 for video tokens, 1 for image tokens, else 0.

    Parameters
    ----------
    input_ids : (b, n) int tensor
    config : model configuration or processor
        Its ``video_token_id`` and ``image_token_id`` are used.

    Returns
    -------
    (b, n) int32 tensor
    """
    types = (input_ids == config.video_token_id).int() * 2
    return types + (input_ids == config.image_token_id).int()


def pad_batch(
    sequences: Sequence[list[int]], pad_id: int, side: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad lists of token ids to the longest one.

    Parameters
    ----------
    sequences : list of list of int
    pad_id : int
    side : str
        ``left`` or ``right``: where the padding goes.

    Returns
    -------
    input_ids, attention_mask : (b, n) int64 tensors
    """
    width = max(len(ids) for ids in sequences)
    rows, mask = [], []
    for ids in sequences:
        gap, ones = [pad_id] * (width - len(ids)), [1] * len(ids)
        zeros = [0] * len(gap)
        rows.append(gap + ids if side == "left" else ids + gap)
        mask.append(zeros + ones if side == "left" else ones + zeros)
    return torch.tensor(rows), torch.tensor(mask)
