"""A checkpoint behind OpenAI's chat completions: small, for one machine.

It answers exactly as ``LocalModel`` does, one request at a time. It serves to test the
way through HTTP, and to try other harnesses on any checkpoint that loads here. For
speed, serve with vLLM.

A request holds one user turn: texts and ``image_url`` parts, or one ``video_url`` of
the form ``data:video/jpeg;base64,<frame>,<frame>…`` with the places of the frames in
``media_io_kwargs``, as in vLLM. Media come as ``data:`` addresses only; nothing is
fetched. A final open turn of the assistant is continued if the request says so.
"""

import base64
import binascii
import io
import json
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, cast

import numpy as np
from PIL import Image

from spacer_lib.errors import SpacerError
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.prompts import PromptStyle
from spacer_lib.models.generation import Response, respond
from spacer_lib.models.inputs import Clip, MediaError, read_image
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rows import Question

MAX_BODY = 2**29  # bytes of one request: 32 large frames fit several times


def make_server(
    model: Any,
    processor: Any,
    name: str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    max_pixels: int | None = None,
) -> ThreadingHTTPServer:
    """A server that is bound and not yet running: ``serve_forever`` runs it.

    Parameters
    ----------
    model, processor : of ``backends.load``
    name : str
        What the model is called in requests.
    host : str
        By default only this machine can connect: there is no key.
    port : int
        0: any free one; see ``server_address``.
    max_pixels : int, optional
        Pixel budget per frame or image, in place of the processor's own.

    Returns
    -------
    http.server.ThreadingHTTPServer

    Raises
    ------
    SpacerError
        If the port is taken.
    """
    one_at_a_time = threading.Lock()

    class Handler(_Handler):
        def reply(self, body: Any) -> dict[str, Any]:
            asked = _read_request(body, name, max_pixels)
            row = cast(Question, {"id": "request", "turn": asked.turn})
            with one_at_a_time:
                (made,) = respond(
                    model, processor, [row], asked.settings, prefixes=[asked.prefix]
                )
            cut = made.tokens >= asked.settings.max_new_tokens
            return _completion(made, asked.prefix, name, "length" if cut else "stop")

        def models(self) -> dict[str, Any]:
            return {"object": "list", "data": [{"id": name, "object": "model"}]}

    try:
        return _Server((host, port), Handler)
    except OSError as error:
        raise SpacerError(
            f"{host}:{port}",
            kind="evaluation.port-taken",
            got=error.strerror,
            expected="a free port",
            remedy="choose another --port",
        ) from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show what went wrong, unless a client closed the connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _AsSent(PromptStyle):
    """Puts a turn as it came."""

    def messages(self, row: Any) -> list[dict[str, Any]]:
        return [row["turn"]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, body: Any) -> dict[str, Any]:
        raise AssertionError("make_server defines it")

    def models(self) -> dict[str, Any]:
        raise AssertionError("make_server defines it")

    def do_GET(self) -> None:
        if self.path.endswith("/models"):
            return self._send(200, self.models())
        if self.path == "/health":
            return self._send(200, {})
        return self._refuse(404, f"no {self.path} here")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self.close_connection = True  # the body stays unread
            return self._refuse(413, f"more than {MAX_BODY} bytes")
        body = self.rfile.read(length)
        if not self.path.endswith("/chat/completions"):
            return self._refuse(404, f"no {self.path} here: /v1/chat/completions")
        try:
            made = self.reply(json.loads(body))
        except MediaError as error:
            return self._refuse(400, f"a video or image of the request: {error.got}")
        except (SpacerError, json.JSONDecodeError, UnicodeDecodeError) as error:
            return self._refuse(400, str(error))
        return self._send(200, made)

    def _refuse(self, status: int, message: str) -> None:
        self._send(status, {"error": {"message": message, "code": status}})

    def _send(self, status: int, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Nothing: a library does not print."""


def _completion(made: Response, prefix: str, name: str, reason: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": made.text[len(prefix) :]}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": name,
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"completion_tokens": made.tokens},
    }


# ---------------------------------------------------------------- requests


class _Request(NamedTuple):
    turn: dict[str, Any]
    prefix: str
    settings: AskSettings


def _read_request(body: Any, name: str, max_pixels: int | None) -> _Request:
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise SpacerError(
            "request",
            kind="evaluation.bad-request",
            got="no messages",
            expected="chat completions",
        )
    if body.get("model") not in (name, None):
        raise SpacerError(
            "model", kind="evaluation.bad-request", got=body["model"], expected=name
        )
    if body.get("stream") or body.get("n", 1) != 1:
        raise SpacerError(
            "request",
            kind="evaluation.bad-request",
            got="stream or n",
            expected="one whole answer",
        )
    turns, prefix = list(body["messages"]), ""
    if body.get("continue_final_message"):
        last = turns.pop() if turns else None
        prefix = _get(last, "content")
        if _get(last, "role") != "assistant" or not isinstance(prefix, str):
            raise SpacerError(
                "final message",
                kind="evaluation.bad-request",
                expected="an assistant's text",
            )
    if len(turns) != 1 or _get(turns[0], "role") != "user":
        raise SpacerError(
            "messages",
            kind="evaluation.bad-request",
            got=[_get(turn, "role") for turn in turns],
            expected="one user turn",
        )
    timing = _get(body.get("media_io_kwargs"), "video") or {}
    content, frames = _read_content(_get(turns[0], "content"), timing)
    most = _number(body, "max_tokens", 1024, 1)
    settings = AskSettings(
        _AsSent("direct"),
        VideoSettings(size=None, max_pixels=max_pixels, frames=frames),
        max_new_tokens=_number(body, "max_completion_tokens", most, 1),
        temperature=_number(body, "temperature", 1.0, 0),
        top_p=_number(body, "top_p", 1.0, 0),
        seed=_number(body, "seed", 0, 0),
        batch_size=1,
    )
    return _Request({"role": "user", "content": content}, prefix, settings)


def _get(value: Any, key: Any) -> Any:
    whole = isinstance(value, dict) and isinstance(key, str)
    return value.get(key) if whole else None


def _number(body: Mapping[str, Any], key: str, default: Any, least: float) -> Any:
    value = body.get(key)
    if value is None:
        return default
    kind = type(default)
    whole = kind is float or isinstance(value, int)
    if isinstance(value, bool) or not isinstance(value, int | float) or not whole:
        raise SpacerError(
            key, kind="evaluation.bad-request", got=value, expected=kind.__name__
        )
    if not least <= value < 2**32:
        raise SpacerError(
            key,
            kind="evaluation.bad-request",
            got=value,
            expected=f"at least {least}",
        )
    return kind(value)


def _read_content(
    content: Any, timing: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], int]:
    """(parts of a turn with their media, number of frames of the video or 1)."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise SpacerError(
            "content",
            kind="evaluation.bad-request",
            got=type(content).__name__,
            expected="parts",
        )
    parts: list[dict[str, Any]] = []
    frames = 1
    for part in content:
        kind = _get(part, "type")
        address = _get(_get(part, kind), "url") if kind != "text" else None
        if kind == "text" and isinstance(part.get("text"), str):
            parts.append({"type": "text", "text": part["text"]})
        elif kind == "image_url" and isinstance(address, str):
            (data,) = _data(address, "image/", single=True)
            parts.append({"type": "image", "image": _picture(data)})
        elif kind == "video_url" and isinstance(address, str):
            clip = _clip(_data(address, "video/jpeg"), timing)
            frames = len(clip.frames)
            parts.append({"type": "video", "video": clip})
        else:
            raise SpacerError(
                "part of a message",
                kind="evaluation.bad-request",
                got=kind,
                expected="text, image_url or video_url",
            )
    kinds = [part["type"] for part in parts if part["type"] != "text"]
    if "video" in kinds and len(kinds) > 1:
        raise SpacerError(
            "message",
            kind="evaluation.bad-request",
            got=", ".join(kinds),
            expected="images or a video",
        )
    return parts, frames


def _data(address: str, media_type: str, single: bool = False) -> list[bytes]:
    head, comma, data = address.partition(",")
    fits = head.startswith(f"data:{media_type}") and head.endswith(";base64")
    if not fits or not comma:
        raise SpacerError(
            "address of a video or image",
            kind="evaluation.bad-request",
            got=address[:40],
            expected=f"data:{media_type}…;base64,…",
        )
    try:
        return [
            base64.b64decode(piece, validate=True)
            for piece in ([data] if single else data.split(","))
        ]
    except binascii.Error as error:
        raise SpacerError(
            "base64 of a video or image", kind="evaluation.bad-request", got=error
        ) from error


def _picture(data: bytes) -> Image.Image:
    return read_image(io.BytesIO(data))


def _clip(pieces: Sequence[bytes], timing: Mapping[str, Any]) -> Clip:
    frames = [np.asarray(_picture(data)) for data in pieces]
    if len({frame.shape for frame in frames}) > 1:
        raise SpacerError(
            "frames of a video",
            kind="evaluation.bad-request",
            got="several sizes",
            expected="one",
        )
    count = len(frames)
    indices = timing.get("frames_indices", list(range(count)))
    total, fps = timing.get("total_num_frames", count), timing.get("fps", 1.0)
    if (
        not isinstance(indices, list)
        or len(indices) != count
        or not all(isinstance(i, int) for i in indices)
        or not isinstance(total, int)
        or not isinstance(fps, int | float)
        or total < 1
        or not 0 < fps < 1e6
    ):
        raise SpacerError(
            "media_io_kwargs of the video",
            kind="evaluation.bad-request",
            got=timing,
            expected=f"{count} frames_indices, total_num_frames and fps",
        )
    return Clip(np.stack(frames), tuple(indices), total, float(fps))
