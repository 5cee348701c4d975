"""Question rows as requests to another program: vLLM's prompts, and chat completions.

The frames, their places in the video and the pixel budget are those of
``models.inputs``, so that the other program shows its model the same.
"""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from spacer_lib.language.asking import AskSettings
from spacer_lib.language.prompts import PromptStyle
from spacer_lib.models.inputs import MediaError, fit_pixels, read_clip, read_image
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rows import Question

# Frames of a time step, in all Qwen-VL models.
STEP_FRAMES = 2


def shown_media(
    part: dict[str, Any],
    video: VideoSettings,
    multiple: int = 28,
    tokens_per_second: float | None = None,
) -> tuple[str, list[Any], dict[str, float]]:
    """A video or image part of a turn as pixels within the budget.

    Parameters
    ----------
    part : dict
        Of ``prompts.media_parts``.
    video : VideoSettings
    multiple : int
        See ``models.inputs.fit_pixels``.
    tokens_per_second : float, optional
        Of the vision tower of Qwen2.5-VL: the rate is given so that vLLM numbers the
        time steps as transformers does (``equal_times``).

    Returns
    -------
    kind : str
        ``video``, or ``image`` (of a video shown as images, too).
    shown : list
        Images as PIL images; or one video as ``(frames, metadata)``.
    timing : dict
        Of a video: ``fps`` of the frames shown.

    Raises
    ------
    MediaError
        If it cannot be read.
    """
    if part["type"] == "image":
        picture = np.array(read_image(part["image"], video.size))[None]
        (fitted,) = _fit(picture, part["image"], video, multiple)
        return "image", [Image.fromarray(fitted)], {}
    clip = read_clip(part["video"], video)
    frames = _fit(clip.frames, part["video"], video, multiple)
    if video.as_images:
        return "image", [Image.fromarray(frame) for frame in frames], {}
    fps = len(clip.indices) / clip.total * clip.fps
    if tokens_per_second:
        steps = -(-len(frames) // STEP_FRAMES)
        fps = STEP_FRAMES / equal_times(STEP_FRAMES / fps, steps, tokens_per_second)
    metadata = {
        "total_num_frames": clip.total,
        "fps": fps * clip.total / len(clip.indices) if tokens_per_second else clip.fps,
        "frames_indices": list(clip.indices),
        "do_sample_frames": False,
    }
    return "video", [(frames, metadata)], {"fps": fps}


def tokens_per_second(config: Any) -> float | None:
    """By which Qwen2.5-VL numbers time steps; ``None`` in other families."""
    return getattr(config.vision_config, "tokens_per_second", None)


def equal_times(seconds: float, steps: int, tokens_per_second: float) -> float:
    """Seconds of a time step from which vLLM numbers the steps as transformers does.

    A step's number is the whole part of a product. transformers multiplies in fp32 and
    vLLM in fp64: where the product is a whole number, one may get the number below.

    Parameters
    ----------
    seconds : float
        Of a time step, as transformers has it.
    steps : int
        Of the video.
    tokens_per_second : float
        Of the model's vision tower.

    Returns
    -------
    float
        ``seconds`` or a number nearest to it in fp32.

    Examples
    --------
    >>> from math import floor
    >>> [floor(float(np.float32(10 / 3)) * 2 * step) for step in (2, 3)]
    [13, 19]
    >>> [floor(equal_times(10 / 3, 6, 2) * 2 * step) for step in (2, 3)]
    [13, 20]
    """
    number = np.arange(steps)
    exact = np.float32(seconds)
    interval = np.float32(tokens_per_second) * exact
    wanted = (number.astype(np.float32) * interval).astype(np.int64)
    tried = exact
    for _ in range(4):
        there = np.floor(number * (float(tried) * tokens_per_second))
        if np.array_equal(there, wanted):
            return float(tried)
        tried = np.nextafter(tried, np.float32(np.inf))
    return seconds


def _fit(
    frames: np.ndarray, source: object, video: VideoSettings, multiple: int
) -> np.ndarray:
    try:
        return fit_pixels(frames, video.max_pixels, multiple, video.min_pixels)
    except MediaError as error:
        error.source = source
        raise


def data_url(picture: Image.Image, form: str = "png") -> str:
    """A PIL image as a ``data:`` address; ``jpeg`` is smaller and not lossless."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **({"quality": 95} if form == "jpeg" else {}))
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def chat_request(
    row: Question,
    settings: AskSettings,
    *,
    blind: bool = False,
    prefix: str = "",
    form: str = "png",
    multiple: int = 28,
    tokens_per_second: float | None = None,
) -> dict[str, Any]:
    """A row as the body of a request, without model and sampling.

    Parameters
    ----------
    row : Question
    settings : AskSettings
    blind : bool
        Leave videos and images out.
    prefix : str
        Forced start of the response: an open turn of the assistant, which vLLM and
        ``spacer serve`` continue.
    form : str
        ``png``, or ``jpeg``.
    multiple, tokens_per_second
        See ``shown_media``.

    Returns
    -------
    dict
        ``messages`` and, where needed, ``media_io_kwargs``, ``add_generation_prompt``
        and ``continue_final_message``, which are vLLM's names.

    Raises
    ------
    MediaError
        If a video or image cannot be read.
    """
    (turn,) = settings.style.messages(row)
    content: list[dict[str, Any]] = []
    body: dict[str, Any] = {}
    for part in turn["content"]:
        if part["type"] == "text":
            content.append(part)
            continue
        if blind:
            continue
        kind, shown, _ = shown_media(part, settings.video, multiple, tokens_per_second)
        if kind == "image":
            urls = [data_url(picture, form) for picture in shown]
            content += [{"type": "image_url", "image_url": {"url": u}} for u in urls]
            continue
        ((frames, metadata),) = shown
        urls = [data_url(Image.fromarray(frame), form) for frame in frames]
        joined = ",".join(url.partition(",")[2] for url in urls)
        url = f"data:video/jpeg;base64,{joined}"
        content.append({"type": "video_url", "video_url": {"url": url}})
        body["media_io_kwargs"] = {"video": {"num_frames": len(frames), **metadata}}
    body["messages"] = [{**turn, "content": content}]
    if prefix:
        body["messages"].append({"role": "assistant", "content": prefix})
        body.update(add_generation_prompt=False, continue_final_message=True)
    return body


def vllm_prompt(
    processor: Any,
    row: Question,
    style: PromptStyle,
    video: VideoSettings,
    *,
    blind: bool = False,
    prefix: str = "",
    multiple: int = 28,
    tokens_per_second: float | None = None,
) -> dict[str, Any]:
    """A row as a prompt of ``vllm.LLM.generate``, with frames and their rate.

    The text is the checkpoint's own chat template. vLLM's ``LLM.chat`` cannot take a
    rate.

    Parameters
    ----------
    processor : processor of a Qwen-VL model
    row : Question
    style : PromptStyle
    video : VideoSettings
    blind : bool
        Leave videos and images out.
    prefix : str
        Forced start of the response.
    multiple, tokens_per_second
        See ``shown_media``.

    Raises
    ------
    MediaError
        If a video or image cannot be read.
    """
    (turn,) = style.messages(row)
    parts: list[Mapping[str, Any]] = []
    media: dict[str, list[Any]] = {}
    rate: dict[str, float] = {}
    for part in turn["content"]:
        if part["type"] == "text":
            parts.append(part)
        elif not blind:
            kind, shown, timing = shown_media(part, video, multiple, tokens_per_second)
            parts += [{"type": kind}] * len(shown)
            media.setdefault(kind, []).extend(shown)
            rate.update(timing)
    text = processor.apply_chat_template(
        [{**turn, "content": parts}], tokenize=False, add_generation_prompt=True
    )
    prompt: dict[str, Any] = {"prompt": text + prefix}
    if media:
        prompt["multi_modal_data"] = media
    if rate:
        prompt["mm_processor_kwargs"] = rate
    return prompt
