"""Odd replies against ``evaluate`` and odd requests against ``serve``: no traceback, no
hang, no wrong success."""

import contextlib
import http.server
import json
import logging
import resource
import signal
import socket
import threading
import time

import pytest
from support import refused

from benches.http_faults import (
    ANSWERED,
    REPLIES,
    Tracebacks,
    completion,
    odd_server,
    post,
    reply_case,
    request,
    request_case,
    requests,
    text_rows,
    tiny_server,
)
from spacer_lib import cli
from spacer_lib.artifacts import read_json, read_jsonl, write_jsonl
from spacer_lib.benchmarks import named
from spacer_lib.evaluation.chat import Endpoint
from spacer_lib.evaluation.chat_requests import ServeLimits, check_template
from spacer_lib.evaluation.outcomes import Outcome, read_reply
from spacer_lib.evaluation.replies import Reply
from spacer_lib.evaluation.runner import run, scores
from spacer_lib.language.asking import AskSettings

TINY = AskSettings("tiny", max_new_tokens=8)
HELD = named("held-out")
LONG = {"max_tokens": 4000, "temperature": 100.0, "seed": 12}  # 1,696 tokens: seconds


@pytest.fixture(scope="module")
def odd():
    with odd_server() as url:
        yield url


@pytest.fixture(scope="module")
def rows():
    return text_rows(6)


@pytest.fixture(scope="module")
def server():
    limits = ServeLimits(queue=2, header_seconds=0.5, request_bytes=2**21)
    with tiny_server(limits) as made:
        yield made


# ---------------------------------------------------------------- replies


def test_45_kinds_of_reply_end_in_records_or_in_one_line(odd, rows, tmp_path):
    assert len(REPLIES) >= 45
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i, name in enumerate(REPLIES):
        case = reply_case(odd, name, rows[:5], tmp_path / str(i))
        fits = case.outcome in ("answered", "refused")
        assert fits == (name in ANSWERED), case
        assert case.seconds < 10 and "\n" not in case.said, case
        assert fits or "odd at 127.0.0.1" in case.said, case
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 150 * 1024  # kB; the replies hold up to 0.8 GB


def judged(body):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_reply(200, {}, content, "<")


def test_a_reply_has_one_of_four_outcomes():
    assert judged(completion("3")) == Outcome("answer", Reply("<3", 1))
    parts = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "3"},
        {"type": "text", "text": " m"},
    ]
    assert judged(completion(parts)).reply.text == "<3 m"
    said = judged(completion(usage={"completion_tokens": "lots"}))
    assert said.reply == Reply("<3", None)
    refusal = judged(completion([{"type": "refusal", "refusal": "no"}]))
    assert refusal.kind == "refusal" and refusal.reply.failure == "refused"
    gateway = judged({"error": {"message": "quota"}})
    assert (gateway.kind, gateway.reply, gateway.got) == ("retryable", None, "quota")
    broken = judged(completion(7))
    assert (broken.kind, broken.reply) == ("broken", None)
    assert (broken.field, broken.got) == ("choices[0].message.content", "7")
    assert read_reply(503, {"retry-after": "2"}, b"").wait == 2
    assert read_reply(429, {"retry-after": "86400"}, b"").wait is None
    assert read_reply(413, {}, b"").reply.failure == "request_failed: 413"


@contextlib.contextmanager
def scripted(answer):
    """A server whose reply is ``(status, JSON)`` of a number, counted from 0."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        count = 0

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            number, Handler.count = Handler.count, Handler.count + 1
            status, made = answer(number, body["messages"][0]["content"][0]["text"])
            content = json.dumps(made).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_address[1]}", Handler
    made.shutdown()
    made.server_close()


GATEWAY = 200, {"error": {"message": "upstream timed out"}}


def test_a_failed_row_is_sent_again_and_else_stays_unanswered(rows, tmp_path):
    with scripted(lambda n, _: GATEWAY if n == 0 else (200, completion())) as (url, _):
        endpoint = Endpoint(url, "x", concurrency=1, retries=1)
        assert len(run(HELD, rows, endpoint, tmp_path / "again", TINY)) == 6
    mended = threading.Event()

    def but_one(number, question):
        bad = question.startswith(rows[2]["question"]) and not mended.is_set()
        return GATEWAY if bad else (200, completion())

    rows = [{**row, "question": f"{i} {row['question']}"} for i, row in enumerate(rows)]
    out = tmp_path / "out"
    with scripted(but_one) as (url, handler):
        endpoint = Endpoint(url, "x", retries=0)
        with refused("evaluation.endpoint-failed", says="1 of 6 rows") as raised:
            run(HELD, rows, endpoint, out, TINY)
        assert "error: got upstream timed out" in str(raised.value)
        kept = {one["id"] for one in read_jsonl(out / "predictions.jsonl")}
        assert kept == {row["id"] for row in rows} - {rows[2]["id"]}
        assert not (out / "scores.json").exists()
        mended.set()
        before = handler.count
        made = run(HELD, rows, endpoint, out, TINY)
        assert handler.count == before + 1 and len(made) == 6


def test_too_large_a_share_of_failures_stops_the_run(tmp_path):
    rows = [{**row, "id": f"{i}"} for i, row in enumerate(text_rows(6) * 10)]

    def every_other(number, question):
        return GATEWAY if number % 2 else (200, completion())

    for share, asked in ((0.1, 14), (1.0, 60)):
        with scripted(every_other) as (url, handler):
            endpoint = Endpoint(url, "x", concurrency=1, retries=0, max_failed=share)
            out = tmp_path / str(share)
            with refused("evaluation.endpoint-failed"):
                run(HELD, rows, endpoint, out, TINY)
            # The request under way when the seventh failure came counts too.
            assert asked <= handler.count <= asked + 2
            kept = len(read_jsonl(out / "predictions.jsonl"))
            assert kept == asked // 2


def test_refused_rows_are_asked_again_on_demand(rows, tmp_path, capsys):
    write_jsonl(tmp_path / "test.jsonl", rows)
    out = tmp_path / "out"
    state = {"bad": True}

    def first_refused(number, question):
        bad = state["bad"] and number == 5
        return (400, {"error": {"message": "busy"}}) if bad else (200, completion())

    with scripted(first_refused) as (url, handler):
        command = ["evaluate", "--benchmark", "held-out", "--data", str(tmp_path)]
        command += [
            "--set",
            "condition=blind",
            "--endpoint",
            url,
            "--model-name",
            "x",
            "--out",
            str(out),
        ]
        assert cli.main(command) == 0
        assert read_json(out / "scores.json")["failures"]["request_failed"] == 1
        state["bad"] = False
        assert cli.main(command) == 0 and handler.count == 6
        assert cli.main([*command, "--retry-failed"]) == 0 and handler.count == 7
    assert "request_failed" not in read_json(out / "scores.json")["failures"]


def test_numbers_of_tokens_that_are_texts_do_not_stop_the_scores(rows, tmp_path):
    with scripted(lambda *_: (200, completion())) as (url, _):
        made = run(HELD, rows, Endpoint(url, "x"), tmp_path, TINY)
    made[0]["tokens"] = "lots"
    assert scores(made, HELD)["tokens"] == 1


def test_leaving_a_hung_server_takes_no_time(odd, rows):
    endpoint = Endpoint(f"{odd}/{REPLIES.index('hang')}", "x", deadline=1000)
    asking = endpoint.ask(rows, TINY)

    def interrupt(*_):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            next(asking)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert time.monotonic() - start < 2


# ---------------------------------------------------------------- requests


def test_80_requests_get_an_answer_or_one_line(server):
    seen = Tracebacks()
    logging.getLogger().addHandler(seen)
    before = post(server, request())[1]["choices"]
    bodies = requests()
    assert len(bodies) == 80
    for name, body in bodies.items():
        case = request_case(server, name, body)
        assert case.seconds < 10, case
        assert not case.outcome.startswith("5"), case
    assert post(server, request())[1]["choices"] == before
    logging.getLogger().removeHandler(seen)
    assert seen.count == 0


def test_fields_are_obeyed_or_refused_by_name(server):
    whole = post(server, request(max_tokens=40))[1]
    text = whole["choices"][0]["message"]["content"]
    assert whole["choices"][0]["finish_reason"] in ("stop", "length")
    middle = text[3:5]
    cut = post(server, request(max_tokens=40, stop=[middle, "☃"]))[1]
    assert cut["choices"][0]["message"]["content"] == text[: text.index(middle)]
    assert cut["choices"][0]["finish_reason"] == "stop"
    assert cut["usage"]["completion_tokens"] < whole["usage"]["completion_tokens"]
    fewer = post(server, request(max_completion_tokens=2))[1]
    assert fewer["usage"]["completion_tokens"] == 2
    assert fewer["choices"][0]["finish_reason"] == "length"
    for key, value in (
        ("tools", [{}]),
        ("response_format", {"type": "json_object"}),
        ("logprobs", True),
        ("stream", True),
        ("n", 2),
        ("best_of", 2),
    ):
        status, made = post(server, request(**{key: value}))
        assert status == 400 and made["error"]["message"].startswith(f"{key}: ")
    assert post(server, request(tools=None, logprobs=False, n=1))[0] == 200
    first = {"role": "system", "content": "Name a room."}
    turns = [first, *request()["messages"]]
    status, made = post(server, {**request(), "messages": turns})
    assert status == 200 and made["usage"]["prompt_tokens"] > 16


def test_turns_that_a_template_refuses_or_leaves_out_are_refused():
    turns = [{"role": "system", "content": "A"}, {"role": "user", "content": "B"}]

    class Template:
        def __init__(self, shown):
            self.apply_chat_template = lambda turns, **_: shown(turns)

    last = Template(lambda turns: turns[-1]["content"][0]["text"])
    with refused("evaluation.bad-request", says="role system"):
        check_template(last, turns)
    check_template(last, turns[1:])


def test_bytes_seconds_and_queue_are_bounded(server):
    status, made = post(server, request("x" * 2**21))
    assert status == 413 and made["error"]["code"] == 413
    quick = ServeLimits(seconds=0.4, context=4050)
    with tiny_server(quick) as other:
        status, made = post(other, request(**LONG))
        assert status == 503 and "0.4 s" in made["error"]["message"]
        assert post(other, request())[0] == 200  # the model is free again
        assert post(other, request(max_tokens=4050))[0] == 400
    with leaving(server), leaving(server):
        time.sleep(0.5)
        assert post(server, request())[0] == 429


@contextlib.contextmanager
def leaving(server):
    """A client that asks for a long answer and closes the connection at the end."""
    body = json.dumps(request(**LONG)).encode()
    link = socket.create_connection(server.server_address)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    link.sendall(head.encode() + body)
    yield
    link.close()


def test_work_ends_when_the_client_has_left(server):
    with leaving(server):
        time.sleep(0.5)
    start = time.monotonic()
    status = 429
    while status == 429 and time.monotonic() - start < 5:
        status = post(server, request())[0]
    assert status == 200 and time.monotonic() - start < 1.5


def test_half_open_connections_are_closed(server):
    start = time.monotonic()
    whole = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    body = b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    links = []
    for sent in (b"", b"GET /v1/mod", whole, whole + body):
        links.append(socket.create_connection(server.server_address, timeout=5))
        links[-1].sendall(sent)
    said = [link.recv(20) if i == 3 else rest(link) for i, link in enumerate(links)]
    assert said[:3] == [b""] * 3 and said[3].startswith(b"HTTP/1.1 408")
    assert time.monotonic() - start < 4
    for link in links:
        link.close()


def rest(link):
    try:
        return link.recv(20)
    except ConnectionError:
        return b""


def test_pages_of_a_browser_cannot_use_the_server(server):
    for headers in (
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "[::1"},
    ):
        assert post(server, request(), headers)[0] == 403, headers
    assert post(server, request(), {"Content-Type": "text/plain"})[0] == 415
    for headers in ({"Host": "localhost:1"}, {"Origin": "http://127.0.0.1:8888"}):
        assert post(server, request(), headers)[0] == 200, headers
    with tiny_server(allow_hosts=["room.example"]) as other:
        assert post(other, request(), {"Host": "room.example"})[0] == 200


def test_an_error_of_the_model_is_one_json_error(server, monkeypatch, caplog):
    def fails(*arguments, **options):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr("spacer_lib.evaluation.serve.respond", fails)
    status, made = post(server, request())
    assert status == 500 and made["error"]["type"] == "server_error"
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "a request failed: RuntimeError: out of memory"
