"""Bodies of chat completions, read: what is asked, or one error that names the field.

A request holds turns of text. The last one, a user turn, may also hold ``image_url``
parts, or one ``video_url`` of the form ``data:video/jpeg;base64,<frame>,<frame>…`` with
the places of the frames in ``media_io_kwargs``, as in vLLM. Media come as ``data:``
addresses only; nothing is fetched. A final open turn of the assistant is continued if
the request says so. A field is obeyed or refused, never ignored.
"""

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image

from spacer_lib.errors import SpacerError, nearest
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.prompts import PromptStyle, control_words
from spacer_lib.models.inputs import Clip, MediaError, read_image
from spacer_lib.rooms.frames import VideoSettings

OBEYED = (
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "media_io_kwargs",
    "add_generation_prompt",
    "continue_final_message",
)
# Fields that are refused unless they ask for nothing: these values, null or [].
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "stream": (False,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "tools": (),
    "tool_choice": ("none", "auto"),
    "functions": (),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
}
UNHEARD = ("user", "metadata", "store")  # they concern the sender's books alone
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MOST_STOPS, LONGEST_STOP = 16, 200
COLDEST, HOTTEST = 1e-3, 100.0
LONGEST_VIDEO = 10**7  # frames


@dataclass(frozen=True)
class ServeLimits:
    """Bounds of a request and of the requests under way.

    Attributes
    ----------
    context : int or None
        Most tokens of prompt and answer; the model's own number if ``None``.
    request_bytes : int
        Of one body.
    pictures : int
        Images or frames of one request.
    seconds : float
        From a request's arrival to its answer.
    queue : int
        Requests that wait or are answered. The next ones are refused.
    memory : int
        Bytes of all bodies and decoded pictures at once.
    header_seconds : float
        For the head of a request, and between two pieces of its body.
    """

    context: int | None = None
    request_bytes: int = 64 * 2**20
    pictures: int = 256
    seconds: float = 600.0
    queue: int = 64
    memory: int = 2**30
    header_seconds: float = 10.0


class Asked(NamedTuple):
    """A request that can be put to the model.

    Attributes
    ----------
    turns : list of dict
        Of a chat; the last is the user's and its content is a list of parts.
    prefix : str
        Forced start of the answer.
    settings : AskSettings
    tokens : int or None
        Most new tokens, if the request says so.
    stop : tuple of str
        Texts before which the answer ends.
    """

    turns: list[dict[str, Any]]
    prefix: str
    settings: AskSettings
    tokens: int | None
    stop: tuple[str, ...]


class AsSent(PromptStyle):
    """Puts turns as they came."""

    def messages(self, row: Any) -> list[dict[str, Any]]:
        """The row's ``turns``."""
        return row["turns"]


def read_request(
    content: bytes,
    name: str,
    limits: ServeLimits,
    max_pixels: int | None = None,
    take: Callable[[int], None] = lambda _: None,
) -> Asked:
    """Read the body of a request.

    Parameters
    ----------
    content : bytes
    name : str
        The model's.
    limits : ServeLimits
    max_pixels : int, optional
        Pixel budget per frame or image, in place of the processor's own.
    take : callable
        Called with the bytes of each picture before it is decoded; may raise.

    Returns
    -------
    Asked

    Raises
    ------
    SpacerError
        If a field is unknown, cannot be obeyed or has a wrong value.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _bad("body", f"no JSON ({str(error)[:80]})", "a JSON object") from error
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise _bad("request", "no messages", "chat completions")
    if body.get("model") not in (name, None):
        raise _bad("model", str(body["model"])[:80], name)
    _check_fields(body)
    if not isinstance(body.get("media_io_kwargs"), dict | None):
        raise _bad("media_io_kwargs", body["media_io_kwargs"], "an object")
    open_turn = not body.get("continue_final_message")
    if body.get("add_generation_prompt") not in (None, open_turn):
        raise _bad("add_generation_prompt", not open_turn, open_turn)
    turns, prefix = _turns(body)
    content_of_last, frames = _read_content(
        turns[-1]["content"],
        _get(body.get("media_io_kwargs"), "video") or {},
        limits,
        take,
    )
    turns[-1]["content"] = content_of_last
    either = body.get("max_completion_tokens"), body.get("max_tokens")
    key = "max_tokens" if either[0] is None else "max_completion_tokens"
    tokens = _number(body, key, 1, 1) if any(x is not None for x in either) else None
    temperature = _number(body, "temperature", 1.0, 0, HOTTEST)
    if 0 < temperature < COLDEST:
        raise _bad("temperature", temperature, f"0, or at least {COLDEST:g}")
    top_p = _number(body, "top_p", 1.0, 1e-6, 1)
    settings = AskSettings(
        AsSent("direct"),
        VideoSettings(size=None, max_pixels=max_pixels, frames=frames),
        temperature=temperature,
        top_p=top_p,
        seed=_number(body, "seed", 0, 0),
        batch_size=1,
    )
    return Asked(turns, prefix, settings, tokens, _stops(body.get("stop")))


def check_template(processor: Any, turns: Sequence[Mapping[str, Any]]) -> None:
    """Refuse turns that the chat template refuses or leaves out.

    Raises
    ------
    SpacerError
        With the role of the turn.
    """
    if len(turns) == 1:
        return
    plain = [
        {"role": turn["role"], "content": [{"type": "text", "text": text}]}
        for turn in turns
        if (text := _text(turn["content"]))
    ]
    try:
        shown = processor.apply_chat_template(
            plain, tokenize=False, add_generation_prompt=True
        )
    except jinja2.TemplateError as error:
        raise _bad("messages", error, "turns of this chat template") from error
    for turn in plain:
        if turn["content"][0]["text"].strip() not in shown:
            got = f"a turn of role {turn['role']}, which this chat template leaves out"
            raise _bad("messages", got, "turns that it shows")


def _text(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _bad(what: str, got: object, expected: object) -> SpacerError:
    return SpacerError(
        what, kind="evaluation.bad-request", got=str(got)[:200], expected=expected
    )


def _check_fields(body: Mapping[str, Any]) -> None:
    known = *OBEYED, *NEUTRAL, *UNHEARD
    for key, value in body.items():
        if key not in known:
            raise SpacerError(
                str(key)[:40],
                kind="evaluation.bad-request",
                got="a field that this server does not know",
                expected="fields that it can obey",
                remedy=nearest(str(key)[:40], known),
            )
        if key in NEUTRAL and value not in (None, [], *NEUTRAL[key]):
            kept = ", ".join(map(json.dumps, NEUTRAL[key])) or "none"
            raise _bad(key, "something that this server cannot do", kept)


def _turns(body: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """(turns with their contents as they came, forced start of the answer)."""
    turns, prefix = list(body["messages"]), ""
    if body.get("continue_final_message"):
        last = turns.pop() if turns else None
        prefix = _get(last, "content")
        if _get(last, "role") != "assistant" or not isinstance(prefix, str):
            raise _bad("final message", "none to continue", "an assistant's text")
        _check_text(prefix)
    roles = [_get(turn, "role") for turn in turns]
    known = all(role in ("system", "user", "assistant") for role in roles)
    if not roles or not known or roles[-1] != "user":
        raise _bad("messages", f"roles {roles}", "turns that end with the user's")
    read: list[dict[str, Any]] = []
    for turn in turns[:-1]:
        content = turn.get("content")
        if isinstance(content, list):
            parts, _ = _read_content(content, {}, ServeLimits(pictures=0))
            content = _text(parts)
        if not isinstance(content, str):
            raise _bad("content", type(content).__name__, "text")
        _check_text(content)
        read.append({"role": turn["role"], "content": content})
    return [*read, {"role": "user", "content": turns[-1].get("content")}], prefix


def _check_text(text: str) -> str:
    words = control_words({"question": text})  # type: ignore[typeddict-item]
    if words:
        raise _bad("text", f"the control word {words[0]}", "no control words")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _bad("text", "half of a surrogate pair", "Unicode") from error
    return text


def _stops(stop: object) -> tuple[str, ...]:
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if (
        not isinstance(stops, list)
        or len(stops) > MOST_STOPS
        or not all(
            isinstance(one, str) and 0 < len(one) <= LONGEST_STOP for one in stops
        )
    ):
        raise _bad("stop", type(stop).__name__, f"a text or {MOST_STOPS} at most")
    return tuple(stops)


def _get(value: Any, key: Any) -> Any:
    whole = isinstance(value, dict) and isinstance(key, str)
    return value.get(key) if whole else None


def _number(
    body: Mapping[str, Any],
    key: str,
    default: Any,
    least: float,
    most: float = 2**32 - 1,
) -> Any:
    value = body.get(key)
    if value is None:
        return default
    kind = type(default)
    whole = kind is float or isinstance(value, int)
    if isinstance(value, bool) or not isinstance(value, int | float) or not whole:
        raise _bad(key, value, kind.__name__)
    if not least <= value <= most:
        raise _bad(key, value, f"{least} to {most}")
    return kind(value)


# ---------------------------------------------------------------- contents


def _read_content(
    content: Any,
    timing: Any,
    limits: ServeLimits,
    take: Callable[[int], None] = lambda _: None,
) -> tuple[list[dict[str, Any]], int]:
    """(parts of a turn with their media, number of frames of the video or 1)."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise _bad("content", type(content).__name__, "parts")
    parts: list[dict[str, Any]] = []
    shown, frames = 0, 1
    for part in content:
        kind = _get(part, "type")
        address = _get(_get(part, kind), "url") if kind != "text" else None
        if kind == "text" and isinstance(part.get("text"), str):
            parts.append({"type": "text", "text": _check_text(part["text"])})
            continue
        if kind not in ("image_url", "video_url") or not isinstance(address, str):
            raise _bad("part of a message", kind, "text, image_url or video_url")
        video = kind == "video_url"
        shown += address.count(",") if video else 1
        if shown > limits.pictures:
            raise _bad("pictures", f"{shown} or more", f"{limits.pictures} at most")
        if video:
            clip = _clip(_data(address, "video/jpeg"), timing, take)
            frames = len(clip.frames)
            parts.append({"type": "video", "video": clip})
        else:
            (data,) = _data(address, "image/", single=True)
            parts.append({"type": "image", "image": _picture(data, take)})
    kinds = [part["type"] for part in parts if part["type"] != "text"]
    if "video" in kinds and len(kinds) > 1:
        raise _bad("message", ", ".join(kinds), "images or a video")
    if not parts:
        raise _bad("content", "no parts", "at least one")
    return parts, frames


def _data(address: str, media_type: str, single: bool = False) -> list[bytes]:
    head, comma, data = address.partition(",")
    fits = head.startswith(f"data:{media_type}") and head.endswith(";base64")
    if not fits or not comma:
        raise _bad(
            "address of a video or image",
            address[:40],
            f"data:{media_type}…;base64,…",
        )
    try:
        return [
            base64.b64decode(piece, validate=True)
            for piece in ([data] if single else data.split(","))
        ]
    except ValueError as error:  # no base64, or not even ASCII
        raise _bad("base64 of a video or image", error, "base64") from error


def _picture(data: bytes, take: Callable[[int], None]) -> Image.Image:
    """A picture, whose size is looked at before it is decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            width, height = file.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError(
            "picture",
            kind="evaluation.bad-request",
            got=f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, or too large a one",
        ) from error
    take(3 * width * height)
    return read_image(io.BytesIO(data))


def _clip(pieces: Sequence[bytes], timing: Any, take: Callable[[int], None]) -> Clip:
    frames = [np.asarray(_picture(data, take)) for data in pieces]
    if len({frame.shape for frame in frames}) > 1:
        raise _bad("frames of a video", "several sizes", "one")
    count = len(frames)
    timing = timing if isinstance(timing, dict) else {"frames_indices": None}
    indices = timing.get("frames_indices", list(range(count)))
    total, fps = timing.get("total_num_frames", count), timing.get("fps", 1.0)
    if (
        not _whole(total)
        or not 1 <= total <= LONGEST_VIDEO
        or not isinstance(indices, list)
        or len(indices) != count
        or not all(_whole(i) and 0 <= i < total for i in indices)
        or not isinstance(fps, int | float)
        or not 1e-3 <= fps <= 1e4
    ):
        raise _bad(
            "media_io_kwargs of the video",
            timing,
            f"{count} frames_indices, total_num_frames and fps",
        )
    return Clip(np.stack(frames), tuple(indices), total, float(fps))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
