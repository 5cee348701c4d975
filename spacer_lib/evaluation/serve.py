"""A checkpoint behind OpenAI's chat completions: small, for one machine.

It answers exactly as ``LocalModel`` does, one request at a time. It serves to test the
way through HTTP, and to try other harnesses on any checkpoint that loads here. For
speed, serve with vLLM.

``chat_requests`` says what a request may hold. One client cannot hold the server up:
bytes, pictures, tokens, seconds and the queue are bounded, and generation ends when the
client has left. Pages of a browser cannot use the server: ``Host`` and ``Origin`` must
name it.
"""

import asyncio
import contextlib
import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from urllib.parse import urlsplit

import h11
import torch
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from transformers import StoppingCriteria
from uvicorn.protocols.http.h11_impl import H11Protocol

from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.chat_requests import (
    Asked,
    ServeLimits,
    check_template,
    read_request,
)
from spacer_lib.models.generation import respond
from spacer_lib.models.inputs import MediaError
from spacer_lib.rows import Question

LOOPBACK = ("localhost", "127.0.0.1", "::1")
DEFAULT_TOKENS = 1024  # new tokens of a request that names no number
LEFT = 499  # status of an answer that nobody waits for
CONNECTIONS = 500
# A body up to this many times too large is read and dropped: most clients see the
# refusal only once all is sent.
READ_ON = 4
_log = logging.getLogger(__name__)


class Server:
    """A server that is bound and not yet running.

    Attributes
    ----------
    server_address : tuple
        ``(host, port)``.
    """

    def __init__(self, app: Starlette, bound: socket.socket, wait: float) -> None:
        self.server_address = bound.getsockname()[:2]
        self._socket, self._over = bound, threading.Event()
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=_protocol(wait),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=2,
            )
        )

    def serve_forever(self) -> None:
        """Answer until ``shutdown``, or until a signal ends the process."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._over.set()

    def shutdown(self) -> None:
        """Let ``serve_forever``, in another thread, end; returns when it has."""
        self._server.should_exit = True
        self._over.wait()

    def server_close(self) -> None:
        """Free the port."""
        self._socket.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exception: object) -> None:
        self.server_close()


def make_server(
    model: Any,
    processor: Any,
    name: str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    max_pixels: int | None = None,
    limits: ServeLimits | None = None,
    allow_hosts: Sequence[str] = (),
) -> Server:
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
    limits : ServeLimits, optional
    allow_hosts : list of str
        Names of this machine that clients may use, beside ``host`` and those of the
        loopback.

    Returns
    -------
    Server

    Raises
    ------
    SpacerError
        If the address cannot be bound.
    """
    limits = limits or ServeLimits()
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise SpacerError(
            f"{host}:{port}",
            kind="evaluation.port-taken",
            got=error.strerror,
            expected="a free port",
            remedy="choose another --port",
        ) from error
    desk = _Desk(model, processor, name, max_pixels, limits)

    def models(request: Request) -> Response:
        data = [{"id": name, "object": "model"}]
        return JSONResponse({"object": "list", "data": data})

    routes = [
        Route("/health", lambda request: JSONResponse({})),
        *(Route(path, models) for path in ("/models", "/v1/models")),
        *(
            Route(path, desk.answer, methods=["POST"])
            for path in ("/chat/completions", "/v1/chat/completions")
        ),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refusal})
    app.add_middleware(_Gate, names=(*LOOPBACK, host, *allow_hosts))
    return Server(app, bound, limits.header_seconds)


def _error(status: int, message: str, **headers: str) -> Response:
    """An error in OpenAI's form."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    line = " ".join(message.split())[:500]
    error = {"message": line, "type": kind, "param": None, "code": status}
    return JSONResponse({"error": error}, status, headers)


async def _refusal(request: Request, error: Exception) -> Response:
    known = cast(HTTPException, error)
    message = known.detail
    if known.status_code in (404, 405):
        message = f"no {request.method} {request.url.path[:80]} here: "
        message += "POST /v1/chat/completions, GET /v1/models"
    return _error(known.status_code, message, **dict(known.headers or {}))


# ---------------------------------------------------------------- who may ask


class _Gate:
    """Refuses requests whose ``Host`` or ``Origin`` is not this server's.

    A page on the web can make a browser send requests to this machine, under a name of
    its own that it lets point here (DNS rebinding).
    """

    def __init__(self, app: Any, names: Sequence[str]) -> None:
        self.app, self.names = app, {name.lower() for name in names}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope)
        here = {*self.names, str((scope.get("server") or [""])[0])}
        host = _hostname(f"//{request.headers.get('host', '')}")
        origin = request.headers.get("origin")
        reply = None
        if host not in here:
            shown = str(host)[:60]
            message = f"Host {shown} is not this server's: see --allow-host"
            reply = _error(403, message, connection="close")
        elif origin is not None and _hostname(origin) not in here:
            message = f"Origin {origin[:60]} is not this server's: see --allow-host"
            reply = _error(403, message, connection="close")
        await (reply or self.app)(scope, receive, send)


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # half of an IPv6 address
        return None


def _protocol(wait: float) -> type[H11Protocol]:
    """uvicorn's protocol, with a limit on time for heads and on connections."""

    class Impatient(H11Protocol):
        clock: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > CONNECTIONS:
                transport.abort()
            self._watch()

        def data_received(self, data: bytes) -> None:
            try:
                super().data_received(data)
            except (UnicodeDecodeError, h11.LocalProtocolError):
                self.transport.abort()  # no text, or no HTTP after a reply
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._watch(over=True)

        def send_400_response(self, msg: str) -> None:
            if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
                return self.transport.abort()
            content = bytes(_error(400, msg).body)
            head = [(b"content-type", b"application/json"), (b"connection", b"close")]
            events = (
                h11.Response(status_code=400, headers=head),
                h11.Data(data=content),
                h11.EndOfMessage(),
            )
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

        def _watch(self, over: bool = False) -> None:
            """Run the clock while the head of a request is not there."""
            waits = not over and self.conn.their_state is h11.IDLE
            if waits and self.clock is None:
                self.clock = self.loop.call_later(wait, self.transport.abort)
            elif not waits and self.clock is not None:
                self.clock.cancel()
                self.clock = None

    return Impatient


# ---------------------------------------------------------------- answers


class _Left(Exception):
    """The client of the request in work has left, or its time is over."""


class _Desk:
    """Takes requests in, and lets the model answer one after another."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        name: str,
        max_pixels: int | None,
        limits: ServeLimits,
    ) -> None:
        self.model, self.processor, self.name = model, processor, name
        self.max_pixels, self.limits = max_pixels, limits
        own = model.config.get_text_config().max_position_embeddings
        self.context = min(own, limits.context or own)
        self.reader, self.worker = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self.waiting, self.held = 0, 0  # requests; bytes of bodies and pictures
        self.counting = threading.Lock()

    async def answer(self, request: Request) -> Response:
        """The reply to ``POST /v1/chat/completions``."""
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != (
            "application/json"
        ):
            raise HTTPException(415, "content-type: expected application/json")
        with self._memory() as take:
            try:
                async with asyncio.timeout(self.limits.seconds):
                    return await self._answer(request, take)
            except TimeoutError:
                message = f"no answer within {self.limits.seconds:g} s"
                return _error(503, message, connection="close")
            except ClientDisconnect:
                return Response(status_code=LEFT)

    async def _answer(self, request: Request, take: Callable[[int], None]) -> Response:
        content = await self._body(request, take)
        if self.waiting >= self.limits.queue:
            message = f"{self.waiting} requests wait already"
            return _error(429, message, **{"retry-after": "1"})
        self.waiting += 1
        stop = threading.Event()
        loop = asyncio.get_running_loop()

        def read() -> Asked:
            asked = read_request(content, self.name, self.limits, self.max_pixels, take)
            check_template(self.processor, asked.turns)
            return asked

        def work(asked: Asked) -> dict[str, Any]:
            with _leaving(self.model, stop):
                return self._complete(asked)

        left = asyncio.ensure_future(_left(request))
        try:
            step: asyncio.Future[Any] = loop.run_in_executor(self.reader, read)
            await asyncio.wait({step, left}, return_when="FIRST_COMPLETED")
            if step.done() and step.exception() is None:
                step = loop.run_in_executor(self.worker, work, step.result())
                await asyncio.wait({step, left}, return_when="FIRST_COMPLETED")
            if not step.done():
                return Response(status_code=LEFT)
            error = step.exception()
            return self._failure(error) if error else JSONResponse(step.result())
        finally:
            stop.set()
            left.cancel()
            step.cancel()
            self.waiting -= 1

    def _failure(self, error: BaseException) -> Response:
        """A reply for what went wrong, which is the request's fault or the model's."""
        if isinstance(error, HTTPException):
            return _error(error.status_code, error.detail)
        if isinstance(error, SpacerError):
            media = isinstance(error, MediaError)
            start = "a video or image of the request: " if media else ""
            return _error(400, f"{start}{error.got if media else error}")
        line = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        _log.error("a request failed: %s", line)
        return _error(500, f"the model failed: {type(error).__name__}")

    async def _body(self, request: Request, take: Callable[[int], None]) -> bytes:
        most, close = self.limits.request_bytes, {"connection": "close"}
        large = HTTPException(413, f"more than {most} bytes", close)
        said = int(request.headers.get("content-length", "0"))  # h11 has checked it
        if said > READ_ON * most:
            raise large
        content, size = bytearray(), 0
        pieces = request.stream()
        try:
            while True:
                async with asyncio.timeout(self.limits.header_seconds):
                    piece = await anext(pieces, None)
                if piece is None:
                    break
                size += len(piece)
                if size > READ_ON * most:
                    raise large
                if max(size, said) <= most:
                    take(len(piece))
                    content += piece
        except TimeoutError as error:
            message = "the rest of the body did not come"
            raise HTTPException(408, message, close) from error
        if size > most:
            raise large
        return bytes(content)

    @contextlib.contextmanager
    def _memory(self) -> Iterator[Callable[[int], None]]:
        """A function that takes bytes of the common budget until the block ends."""
        mine = 0

        def take(count: int) -> None:
            nonlocal mine
            with self.counting:
                if count > self.limits.memory:
                    raise HTTPException(413, f"a picture of {count} bytes")
                if self.held + count > self.limits.memory:
                    raise HTTPException(503, "other requests fill the memory")
                self.held += count
                mine += count

        try:
            yield take
        finally:
            with self.counting:
                self.held -= mine

    def _complete(self, asked: Asked) -> dict[str, Any]:
        """Ask the model; a chat completion."""
        row = cast(Question, {"id": "request", "turns": asked.turns})
        used: dict[str, int] = {}

        def most_tokens(prompt: int) -> int:
            room = self.context - prompt
            wanted = min(room, DEFAULT_TOKENS) if asked.tokens is None else asked.tokens
            if wanted > room or room < 1:
                raise SpacerError(
                    "tokens",
                    kind="evaluation.bad-request",
                    got=f"{prompt} of the prompt and {wanted} new ones",
                    expected=f"{self.context} at most",
                )
            used.update(prompt=prompt, most=wanted)
            return wanted

        stops = _Stops(self.processor.tokenizer, asked.stop, used)
        (made,) = respond(
            self.model,
            self.processor,
            [row],
            asked.settings,
            prefixes=[asked.prefix],
            most_tokens=most_tokens,
            stopping=[stops] if asked.stop else [],
        )
        text = made.text[len(asked.prefix) :]
        places = [at for one in asked.stop if (at := text.find(one)) >= 0]
        cut = made.tokens >= used["most"] and not places
        text = text[: min(places)] if places else text
        return _completion(text, made.tokens, used["prompt"], self.name, cut)


def _completion(
    text: str, tokens: int, prompt: int, name: str, cut: bool
) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    reason = "length" if cut else "stop"
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": name,
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": tokens,
            "total_tokens": prompt + tokens,
        },
    }


class _Stops(StoppingCriteria):
    """Ends an answer that holds one of some texts."""

    def __init__(
        self, tokenizer: Any, words: Sequence[str], used: dict[str, int]
    ) -> None:
        self.tokenizer, self.words, self.used = tokenizer, words, used

    def __call__(self, input_ids: Any, scores: Any, **rest: Any) -> Any:
        (new,) = input_ids[:, self.used["prompt"] :]
        text = self.tokenizer.decode(
            new, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        found = any(word in text for word in self.words)
        return torch.tensor([found], device=input_ids.device)


async def _left(request: Request) -> None:
    """Wait until the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@contextlib.contextmanager
def _leaving(model: Any, stop: threading.Event) -> Iterator[None]:
    """Raise ``_Left`` inside the model once ``stop`` is set, before its next layer.

    A prompt's first pass can take as long as an answer, so that a look between two
    tokens would come too late.
    """

    def look(*_: Any) -> None:
        if stop.is_set():
            raise _Left

    lists = (part for part in model.modules() if isinstance(part, torch.nn.ModuleList))
    hooks = [layer.register_forward_pre_hook(look) for one in lists for layer in one]
    try:
        look()
        yield
    finally:
        for hook in hooks:
            hook.remove()
