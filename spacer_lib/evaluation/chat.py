"""Any server with OpenAI's chat completions: rows as requests, replies as answers.

OpenAI and Gemini take images, so that a video is sent as its frames
(``VideoSettings(as_images=True)``). vLLM and ``spacer serve`` also take a video: one
``video_url`` of the form ``data:video/jpeg;base64,<frame>,<frame>…``. The places of the
frames, from which the model knows the time, are in ``media_io_kwargs``.
"""

import base64
import io
import os
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import openai
from PIL import Image

from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.backends import media_failure
from spacer_lib.evaluation.replies import Replies, Reply, keyed
from spacer_lib.language.asking import AskSettings
from spacer_lib.models.inputs import MediaError, fit_pixels, read_clip, read_image
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rows import Question


def shown_media(
    part: dict[str, Any], video: VideoSettings, multiple: int = 28
) -> tuple[str, list[Any], dict[str, float]]:
    """A video or image part of a turn as pixels within the budget.

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
    metadata = {
        "total_num_frames": clip.total,
        "fps": clip.fps,
        "frames_indices": list(clip.indices),
        "do_sample_frames": False,
    }
    fps = len(clip.indices) / clip.total * clip.fps
    return "video", [(frames, metadata)], {"fps": fps}


def _fit(
    frames: np.ndarray, source: object, video: VideoSettings, multiple: int
) -> np.ndarray:
    try:
        return fit_pixels(frames, video.max_pixels, multiple)
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
    multiple : int
        See ``models.inputs.fit_pixels``.

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
        kind, shown, _ = shown_media(part, settings.video, multiple)
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


# This many refusals before a first answer: the fault is not in single rows.
REFUSALS = 5


@dataclass
class Endpoint:
    """A server's chat completions, asked from several threads.

    Attributes
    ----------
    url : str
        Such as ``http://localhost:8000`` or ``https://api.openai.com/v1``.
    model : str
        The server's name for it.
    key_variable : str
        Environment variable that holds the key; a local server needs none. The key
        itself is written nowhere.
    concurrency : int
        Requests under way at once.
    timeout, retries : float, int
        Seconds for one request, and further attempts, with growing pauses.
    form : str
        ``png`` (exactly what a model in this process would see) or ``jpeg``.
    multiple : int
        See ``models.inputs.fit_pixels``.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 4
    timeout: float = 300.0
    retries: int = 4
    form: str = "png"
    multiple: int = 28

    batched = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SpacerError(
                "endpoint",
                kind="evaluation.bad-address",
                got=self.url,
                expected="http://host:port, or with a path",
            )
        # Names and keys in an address are not kept: addresses are written to files.
        host = parts.netloc.rpartition("@")[2]
        path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
        self.url = urlunsplit((parts.scheme, host, path, "", ""))
        self.name = f"{self.model} at {host}"
        self._reading = threading.Lock()  # the cache of frames is for one thread
        self._client = openai.OpenAI(
            api_key=os.environ.get(self.key_variable) or "none",
            base_url=self.url,
            timeout=self.timeout,
            max_retries=self.retries,
        )

    def identity(self) -> dict[str, Any]:
        """Address, model, and how pictures are sent."""
        return {
            "backend": "endpoint",
            "url": self.url,
            "model": self.model,
            "form": self.form,
            "multiple": self.multiple,
        }

    def ask(
        self,
        rows: Sequence[Question],
        settings: AskSettings,
        *,
        prefixes: Sequence[str] | None = None,
        blind: bool = False,
    ) -> Replies:
        """Yield answers as they come in.

        If the server refuses a request because of its content, the row fails
        (``request_failed: <status>``). Any other error, such as a wrong key or no
        connection, ends the run after the requests under way.

        Raises
        ------
        SpacerError
            If the server cannot be asked.
        """
        prefixes = prefixes or [""] * len(rows)
        pool = ThreadPoolExecutor(self.concurrency)
        futures = {
            pool.submit(self._reply, row, settings, prefix, blind): i
            for i, (row, prefix) in enumerate(zip(rows, prefixes, strict=True))
        }
        problem: SpacerError | None = None
        held: list[tuple[int, openai.APIStatusError]] = []
        answered = False
        try:
            for future in as_completed(futures):
                try:
                    reply = future.result()
                except CancelledError:
                    continue
                except SpacerError as error:
                    problem = problem or error
                    for other in futures:
                        other.cancel()
                    continue
                if isinstance(reply, openai.APIStatusError):
                    held.append((futures[future], reply))
                    if not answered and len(held) >= REFUSALS:
                        raise self._problem(reply)
                else:
                    answered = answered or reply.text is not None
                    yield futures[future], reply
                if answered:
                    yield from map(_refused, held)
                    held = []
            if problem:
                raise problem
            yield from map(_refused, held)
        finally:
            pool.shutdown(cancel_futures=True)

    def _reply(
        self, row: Question, settings: AskSettings, prefix: str, blind: bool
    ) -> Any:
        """The reply to one row, or the error by which it was refused."""
        try:
            with self._reading:
                body = chat_request(
                    row,
                    settings,
                    blind=blind,
                    prefix=prefix,
                    form=self.form,
                    multiple=self.multiple,
                )
        except MediaError as error:
            return Reply(failure=media_failure(error.source))
        if settings.temperature > 0:
            body["seed"] = int(keyed(settings.seed, row["id"]).integers(2**31))
        try:
            made = self._client.chat.completions.create(
                model=self.model,
                messages=body.pop("messages"),
                max_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
                extra_body=body,
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return error
        except openai.APIError as error:
            if getattr(error, "status_code", None) == 413:  # too large
                return error
            raise self._problem(error) from error
        if not hasattr(made, "choices"):  # a page of something else
            raise SpacerError(
                f"{self.name} cannot be asked",
                kind="evaluation.no-chat-completions",
                got=str(made)[:80],
                expected="a chat completion",
                remedy="check the address",
            )
        return _read(made, prefix)

    def _problem(self, error: openai.APIError) -> SpacerError:
        """The error that stops a run, in one line and without the key."""
        key = os.environ.get(self.key_variable)
        said = str(error).splitlines()[0][:300]
        kind = "evaluation.endpoint-failed"
        remedy = "run the same command again: answered rows are kept"
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            kind = "evaluation.key-refused"
            remedy = f"put a valid key into ${self.key_variable}, then {remedy}"
        elif isinstance(error, openai.NotFoundError):
            kind = "evaluation.no-such-model"
            remedy = f"check address and model name, then {remedy}"
        return SpacerError(
            f"{self.name} cannot be asked",
            kind=kind,
            got=said.replace(key, "…") if key else said,
            remedy=remedy,
        )


def _refused(pair: tuple[int, openai.APIStatusError]) -> tuple[int, Reply]:
    index, error = pair
    return index, Reply(failure=f"request_failed: {error.status_code}")


def _read(made: Any, prefix: str) -> Reply:
    tokens = made.usage.completion_tokens if made.usage else None
    if not made.choices:
        return Reply(None, tokens, "no_text")
    choice = made.choices[0]
    message = choice.message
    if choice.finish_reason == "content_filter" or getattr(message, "refusal", None):
        return Reply(None, tokens, "refused")
    if message.content is None:
        return Reply(None, tokens, "no_text")
    return Reply(prefix + message.content, tokens)
