"""Odd replies against ``evaluate`` and odd requests against ``serve``, as one table.

``python -m benches.http_faults`` prints what became of each: its outcome, its seconds,
and whether it left a traceback. Everything is seeded; the tests run the same cases.
"""

import base64
import contextlib
import functools
import http.client
import http.server
import io
import json
import logging
import random
import socket
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from spacer_lib.artifacts import PROJECT_ROOT, read_json
from spacer_lib.benchmarks import named
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.backends import load
from spacer_lib.evaluation.chat import Endpoint
from spacer_lib.evaluation.chat_requests import ServeLimits
from spacer_lib.evaluation.runner import run
from spacer_lib.evaluation.serve import Server, make_server
from spacer_lib.language.asking import AskSettings
from spacer_lib.rows import Question
from spacer_lib.tiny.curriculum import draw_rows

SEED = 18
DEADLINE = 1.0  # seconds for a row
MOST_BYTES = 2**20  # of a reply


class Case(NamedTuple):
    """What became of one reply or request.

    Attributes
    ----------
    name : str
    outcome : str
        ``answered``, ``refused`` or the kind of the error that ended the run; for a
        request its status.
    seconds : float
    said : str
        One line for the user.
    """

    name: str
    outcome: str
    seconds: float
    said: str


# ---------------------------------------------------------------- replies


def completion(content: object = "3", **changes: Any) -> dict[str, Any]:
    """A whole chat completion, with changes."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "x", "choices": [choice], "usage": {"completion_tokens": 1}} | changes


def _choice(**parts: Any) -> dict[str, Any]:
    return completion(choices=[{"index": 0, "finish_reason": "stop", **parts}])


# name: (status, body as JSON or bytes, further headers)
PLAIN: dict[str, tuple[int, Any, dict[str, str]]] = {
    "ok": (200, completion(), {}),
    "content a list": (200, completion([{"type": "text", "text": "3"}]), {}),
    "content null": (200, completion(None), {}),
    "usage a text": (200, completion(usage="x"), {}),
    "usage lots": (200, completion(usage={"completion_tokens": "lots"}), {}),
    "usage negative": (200, completion(usage={"completion_tokens": -3}), {}),
    "surrogate": (200, completion("\ud800 3 \0"), {}),
    "refusal": (200, _choice(message={"content": None, "refusal": "no"}), {}),
    "filtered": (200, _choice(message=None, finish_reason="content_filter"), {}),
    "no JSON": (200, b"this is no JSON", {}),
    "empty": (200, b"", {}),
    "HTML": (200, b"<html>Login</html>", {"Content-Type": "text/html"}),
    "a list": (200, [1, 2], {}),
    "null": (200, None, {}),
    "a string": (200, "hello", {}),
    "a number": (200, 12, {}),
    "error in 200": (200, {"error": {"message": "quota", "code": 500}}, {}),
    "no choices": (200, {"id": "x"}, {}),
    "choices null": (200, completion(choices=None), {}),
    "choices empty": (200, completion(choices=[]), {}),
    "choices [null]": (200, completion(choices=[None]), {}),
    "choices an object": (200, completion(choices={"a": 1}), {}),
    "choices a string": (200, completion(choices="abc"), {}),
    "error in a choice": (200, _choice(error={"message": "overloaded"}), {}),
    "message null": (200, _choice(message=None), {}),
    "message missing": (200, _choice(), {}),
    "content missing": (200, _choice(message={"role": "assistant"}), {}),
    "content a number": (200, completion(3), {}),
    "content an object": (200, completion({"a": 3}), {}),
    "Latin-1": (200, '{"id":"é"}'.encode("latin-1"), {}),
    "deep": (200, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}),
    "digits": (200, b'{"a":' + b"9" * 10_000 + b"}", {}),
    "events": (200, b'data: {"choices":[]}\n\n', {"Content-Type": "text/event-stream"}),
    "broken gzip": (200, b"xxxx", {"Content-Encoding": "gzip"}),
    "other coding": (200, b"xxxx", {"Content-Encoding": "br"}),
    "204": (204, b"", {}),
    "redirect": (302, b"", {"Location": "file:///etc/passwd"}),
    "401": (401, {"error": {"message": "bad key"}}, {}),
    "404": (404, {"error": {"message": "no model"}}, {}),
    "429": (429, {"error": {"message": "slow down"}}, {"Retry-After": "86400"}),
    "500": (500, b"<h1>boom</h1>\n\n<p>", {}),
}
# Replies that are not sent at once, or not whole.
SPECIAL = ("cut", "reset", "garbage", "drip", "hang", "huge", "gzip bomb")
REPLIES = (*PLAIN, *SPECIAL)
ANSWERED = (
    "ok",
    "content a list",
    "content null",
    "usage a text",
    "usage lots",
    "usage negative",
    "surrogate",
    "refusal",
    "filtered",
)


class _Odd(http.server.BaseHTTPRequestHandler):
    """Replies by the name in the path: ``/<number in REPLIES>/chat/completions``."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        name = REPLIES[int(self.path.split("/")[1])]
        self.close_connection = name in SPECIAL
        if name in PLAIN:
            status, body, headers = PLAIN[name]
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self._head(status, len(content), headers)
            self.wfile.write(content)
        else:
            getattr(self, "_" + name.replace(" ", "_"))()

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(key, value)
        self.end_headers()

    def _cut(self) -> None:
        self._head(200, 1000, {})
        self.wfile.write(b'{"id":')

    def _reset(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)

    def _garbage(self) -> None:
        self.wfile.write(random.Random(SEED).randbytes(500))

    def _drip(self) -> None:
        body = json.dumps(completion()).encode()
        self._head(200, len(body), {})
        for at in range(len(body)):
            self.wfile.write(body[at : at + 1])
            time.sleep(0.1)

    def _hang(self) -> None:
        time.sleep(5 * DEADLINE)

    def _huge(self) -> None:
        self._head(200, 200 * 2**20, {})
        self.wfile.write(b'{"id":"')
        for _ in range(200):
            self.wfile.write(b"3" * 2**20)

    def _gzip_bomb(self) -> None:
        start, block = _bomb()
        self._head(200, len(start) + 100 * len(block), {"Content-Encoding": "gzip"})
        self.wfile.write(start)
        for _ in range(100):  # 0.8 GB
            self.wfile.write(block)


@functools.cache
def _bomb() -> tuple[bytes, bytes]:
    """The start of a gzip stream, and a block of 8 MB that may follow many times."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    start = packer.compress(b'{"id":"') + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush the same bytes are packed the same way.
    return start, packer.compress(b"a" * 2**23) + packer.flush(zlib.Z_FULL_FLUSH)


class _Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments: Any) -> None:
        """Nothing: clients leave early here."""


@contextlib.contextmanager
def odd_server() -> Iterator[str]:
    """The address of a server that makes ``REPLIES``."""
    _bomb()
    server = _Quiet(("127.0.0.1", 0), _Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def text_rows(count: int) -> list[Question]:
    """Rows without a video."""
    return [{**row, "video": None} for row in draw_rows(9_000_000, count, "seen")]


def reply_case(url: str, name: str, rows: Sequence[Question], out: Path) -> Case:
    """Evaluate against a server that always replies in one way.

    Raises
    ------
    AssertionError
        If the run ends well without records of all rows, or badly with some.
    """
    address = f"{url}/{REPLIES.index(name)}"
    backend = Endpoint(
        address,
        "odd",
        concurrency=len(rows),
        retries=0,
        deadline=DEADLINE,
        max_reply_bytes=MOST_BYTES,
    )
    start = time.monotonic()
    settings = AskSettings("tiny", max_new_tokens=8)
    try:
        records = run(named("held-out"), rows, backend, out, settings)
    except SpacerError as error:
        seconds = time.monotonic() - start
        assert not (out / "scores.json").exists(), name
        return Case(name, error.kind, seconds, str(error))
    seconds = time.monotonic() - start
    assert len(records) == len(rows) == read_json(out / "scores.json")["n"], name
    failures = {str(one["failure"]) for one in records}
    refused = failures <= {"refused", "no_text"}
    return Case(name, "refused" if refused else "answered", seconds, "")


# ---------------------------------------------------------------- requests


def _picture() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (56, 56), (200, 0, 0)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def request(content: object = "hello", **changes: Any) -> dict[str, Any]:
    """A small valid request, with changes."""
    messages = [{"role": "user", "content": content}]
    return {"model": "tiny", "messages": messages, "max_tokens": 3, **changes}


def _shown(url: object, kind: str = "image_url", **changes: Any) -> dict[str, Any]:
    return request([{"type": kind, kind: {"url": url}}], **changes)


def requests() -> dict[str, Any]:
    """80 bodies: JSON values or bytes, by name."""
    video = {"frames_indices": [10**30], "total_num_frames": 10**30, "fps": 1e-300}
    turns = [{"role": "system", "content": "x"}, {"role": "user", "content": "x"}]
    film = _picture().replace("image/png", "video/jpeg")
    made: dict[str, Any] = {
        "ok": request(),
        "picture": _shown(_picture()),
        "system": {**request(), "messages": turns},
        "stop": request(stop=["a"]),
        "stop of numbers": request(stop=[1]),
        "logprobs": request(logprobs=True),
        "response_format": request(response_format={"type": "json_object"}),
        "tools": request(tools=[{"type": "function"}]),
        "stream": request(stream=True),
        "n": request(n=10_000),
        "unknown": request(best_of=3),
        "other model": request(model="../../x"),
        "file": _shown("file:///etc/passwd"),
        "web": _shown("http://127.0.0.1:22/x"),
        "no picture": _shown("data:image/png;base64,eHh4eA=="),
        "no base64": _shown("data:image/png;base64,@@@"),
        "not ASCII": _shown("data:image/png;base64,é"),
        "empty video": _shown("data:video/jpeg;base64,", "video_url"),
        "many frames": _shown(film + "," * 1000, "video_url"),
        "places": _shown(film, "video_url", media_io_kwargs={"video": video}),
        "places a list": _shown(film, "video_url", media_io_kwargs=[1]),
        "empty body": b"",
        "no JSON": b"hello",
        "null": b"null",
        "a list": [],
        "deep": b'{"a":' * 50_000,
        "deep list": b"[" * 200_000,
        "digits": b'{"seed":' + b"9" * 10_000 + b"}",
        "not UTF-8": b'{"a":"\xff"}',
        "NaN": request(temperature=float("nan")),
        "infinite": request(temperature=float("inf")),
        "cold": request(temperature=1e-300),
        "most tokens": request(max_tokens=2**31),
        "half a pair": request("\ud800"),
        "control word": request("<|video_pad|>"),
        "1 MB of text": request("hello " * 170_000),
        "no text": request(""),
        "no parts": request([]),
        "open turn": {**request(), "continue_final_message": True},
        "no messages": {**request(), "messages": []},
    }
    return {**made, **_mutants(80 - len(made))}


def _mutants(count: int) -> dict[str, Any]:
    """Valid requests in which one value is replaced by another kind of value."""
    rng = random.Random(SEED)
    odd: Any = (
        None,
        True,
        -1,
        1.5,
        2**70,
        "",
        "x",
        [],
        [[]],
        {},
        {"a": None},
        "\0",
        1e308,
    )
    made: dict[str, Any] = {}
    while len(made) < count:
        whole = _shown(_picture(), seed=1, temperature=1.0, top_p=0.9, stop="x")
        places = list(_places(whole))
        holder, key, name = rng.choice(places)
        value = rng.choice(odd)
        holder[key] = value
        made[f"{name} = {value!r:.12}"] = whole
    return made


def _places(value: Any, at: str = "") -> Iterator[tuple[Any, Any, str]]:
    keys = value if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        name = f"{at}.{key}".strip(".")
        yield value, key, name
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key], name)


@contextlib.contextmanager
def tiny_server(limits: ServeLimits | None = None, **options: Any) -> Iterator[Server]:
    """``spacer serve`` of the shipped checkpoint in this process."""
    checkpoint = PROJECT_ROOT / "checkpoints" / "tiny_warmstart"
    server = make_server(*load(checkpoint), "tiny", limits=limits, **options)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def post(
    server: Server, body: Any, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """``(status, JSON)`` of one request."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = {"Content-Type": "application/json", **(headers or {})}
    host, port = server.server_address
    link = http.client.HTTPConnection(host, port, timeout=30)
    with contextlib.closing(link):
        link.request("POST", "/v1/chat/completions", content, head)
        reply = link.getresponse()
        return reply.status, json.loads(reply.read())


def request_case(server: Server, name: str, body: Any) -> Case:
    """Send one request; its reply is an answer, or one error in one line.

    Raises
    ------
    AssertionError
        If the reply is something else.
    """
    start = time.monotonic()
    status, made = post(server, body)
    seconds = time.monotonic() - start
    said = "" if status == 200 else made["error"]["message"]
    assert status == 200 or 400 <= status <= 503, name
    assert (status == 200) == ("choices" in made) and "\n" not in said, name
    return Case(name, str(status), seconds, said)


class Tracebacks(logging.Handler):
    """Counts log records with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count this one."""
        self.count += bool(record.exc_info)


def main() -> None:
    """Print the table."""
    seen = Tracebacks()
    logging.getLogger().addHandler(seen)
    rows, cases = text_rows(5), []
    with tempfile.TemporaryDirectory() as folder, odd_server() as url:
        for i, name in enumerate(REPLIES):
            cases.append(reply_case(url, name, rows, Path(folder) / str(i)))
    replies = len(cases)
    with tiny_server() as server:
        for name, body in requests().items():
            cases.append(request_case(server, name, body))
    shown = "{:34}{:34}{:5.1f} s  {:.90}"
    lines = [shown.format(*case) for case in cases]
    slowest = max(case.seconds for case in cases)
    lines.append(
        f"{replies} replies, {len(cases) - replies} requests: slowest {slowest:.1f} s, "
        f"{seen.count} tracebacks"
    )
    logging.getLogger().removeHandler(seen)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
