"""Asking: backends, the small server, conditions, and runs that go on after a stop."""

import http.server
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import openai
import pytest
from PIL import Image
from support import refused

from spacer_lib import cli
from spacer_lib.artifacts import (
    append_jsonl,
    read_json,
    read_jsonl,
    resume_journal,
    sole_writer,
    write_json,
    write_jsonl,
)
from spacer_lib.benchmarks import named
from spacer_lib.evaluation.ask import Journal
from spacer_lib.evaluation.ask import ask as ask_rows
from spacer_lib.evaluation.backends import LocalModel, load
from spacer_lib.evaluation.chat import Endpoint, chat_request
from spacer_lib.evaluation.conditions import condition_rows, condition_video
from spacer_lib.evaluation.config import EvaluationConfig, load_evaluation, new_tokens
from spacer_lib.evaluation.floors import Floor
from spacer_lib.evaluation.foreign import edits_of, read_predictions
from spacer_lib.evaluation.offline_vllm import OfflineVllm
from spacer_lib.evaluation.replies import Reply
from spacer_lib.evaluation.report import read_run
from spacer_lib.evaluation.runner import run
from spacer_lib.evaluation.serve import make_server
from spacer_lib.language.asking import AskSettings
from spacer_lib.models.inputs import MediaError, fit_pixels, read_clip
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rooms.synthetic.render import frames_from_uri
from spacer_lib.rooms.video import encode_jpegs
from spacer_lib.tiny.curriculum import draw_rows

ROOT = Path(__file__).resolve().parents[2]
TINY = AskSettings("tiny", VideoSettings(8), max_new_tokens=170, batch_size=8)
TINY_MODEL = ROOT / "checkpoints" / "tiny_warmstart"
VSI = named("vsi")


@pytest.fixture(scope="module")
def rows():
    return draw_rows(9_000_000, 20, "turn")


@pytest.fixture(scope="module")
def model():
    return load(ROOT / "checkpoints" / "tiny_warmstart")


@pytest.fixture(scope="module")
def local(model):
    return LocalModel(*model, name="tiny")


@pytest.fixture(scope="module")
def answers(local, rows):
    """What the model here says to the rows, greedily."""
    return dict(local.ask(rows, TINY))


@pytest.fixture(scope="module")
def picture_row(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    names = []
    for i in range(2):
        names.append(str(folder / f"{i}.png"))
        Image.fromarray(rng.integers(256, size=(60, 80, 3), dtype=np.uint8)).save(
            names[-1]
        )
    return {**rows[0], "id": "pictures", "video": None, "image": names}


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory):
    """An mp4 of a rendered room, 84 pixels square."""
    folder = tmp_path_factory.mktemp("clip")
    frames, *_ = frames_from_uri("room://seen/9000000", 12, 84)

    def jpegs():
        for i, frame in enumerate(frames):
            path = folder / f"{i}.jpg"
            Image.fromarray(frame).save(path, quality=95)
            yield path.read_bytes()

    encode_jpegs(jpegs(), folder / "room.mp4")
    return folder / "room.mp4"


class Stub:
    """A chat server that answers by a function of the question's text.

    It counts how often it was asked each question, and how often it answered.
    """

    def __init__(self, answer):
        self.asked, self.answered, self.bodies, self.keys = Counter(), Counter(), [], []
        counting = threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(handler):
                size = int(handler.headers["Content-Length"])
                body = json.loads(handler.rfile.read(size))
                (question,) = [
                    part["text"]
                    for part in body["messages"][0]["content"]
                    if part["type"] == "text"
                ]
                with counting:
                    self.asked[question] += 1
                    self.bodies.append(body)
                    self.keys.append(handler.headers["Authorization"])
                status, made = answer(question)
                content = json.dumps(made).encode()
                handler.send_response(status)
                handler.send_header("Content-Type", "application/json")
                handler.send_header("Content-Length", str(len(content)))
                handler.end_headers()
                handler.wfile.write(content)
                with counting:
                    self.answered[question] += 1

            def log_message(handler, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # clients are killed here
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def endpoint(self, **changes):
        return Endpoint(self.url, "stub", **{"retries": 0, "deadline": 20, **changes})


def said(text, **changes):
    message = {"role": "assistant", "content": text, **changes}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return 200, {"choices": [choice], "usage": {"completion_tokens": 3}}


def declined(status, message="no"):
    return status, {"error": {"message": message, "code": status}}


@pytest.fixture
def stub():
    made = []

    def start(answer):
        made.append(Stub(answer))
        return made[-1]

    yield start
    for one in made:
        one.server.shutdown()
        one.server.server_close()


def numbered(rows):
    """Rows whose questions differ, so that a server can tell them apart."""
    return [
        {**row, "question": f"{i}: {row['question']}"} for i, row in enumerate(rows)
    ]


def texts_of(rows):
    return ["\n".join([row["question"], *(row["options"] or ())]) for row in rows]


# ---------------------------------------------------------------- through HTTP


@pytest.fixture(scope="module")
def server(model):
    server = make_server(*model, "tiny")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_server_gives_the_answers_of_the_model_here(server, rows, answers):
    there = dict(Endpoint(server, "tiny").ask(rows, TINY))
    assert len(there) == 20 and there == answers  # texts and numbers of tokens
    assert len({reply.text for reply in there.values()}) > 15


@pytest.mark.parametrize(
    "video",
    [
        VideoSettings(as_images=True),
        VideoSettings(frames=6, size=84, max_pixels=60 * 60, shuffle=3),
    ],
    ids=["frames as images", "resized and shuffled"],
)
def test_all_that_settings_do_to_frames_reaches_the_server(server, local, rows, video):
    settings = replace(TINY, video=video, max_new_tokens=40)
    here = dict(local.ask(rows[:6], settings))
    there = Endpoint(server, "tiny", multiple=14).ask(rows[:6], settings)
    assert dict(there) == here


def test_files_pictures_text_blindness_and_prefixes_reach_it_too(
    server, local, rows, picture_row, clip_path
):
    asked = [
        {**rows[0], "id": "file", "video": str(clip_path)},
        picture_row,
        {**rows[1], "id": "text", "video": None},
    ]
    settings = replace(
        TINY, video=VideoSettings(size=None, max_pixels=80 * 80), max_new_tokens=30
    )
    endpoint = Endpoint(server, "tiny", multiple=14)
    for options in (
        {},
        {"blind": True},
        {"prefixes": ['<think><map>{"', "", "<think>"]},
    ):
        here = dict(local.ask(asked, settings, **options))
        assert dict(endpoint.ask(asked, settings, **options)) == here
        for i, prefix in enumerate(options.get("prefixes", ())):
            assert here[i].text.startswith(prefix) and here[i].text != prefix


def test_sampling_at_a_server_follows_seed_and_row(server, rows):
    settings = replace(TINY, temperature=1.0, max_new_tokens=20)
    endpoint = Endpoint(server, "tiny")
    first = dict(endpoint.ask(rows[:4], settings))
    assert dict(endpoint.ask(rows[:4], settings)) == first
    assert dict(endpoint.ask(rows[:4], replace(settings, seed=1))) != first
    backwards = dict(endpoint.ask(rows[3::-1], settings))
    assert [backwards[i] for i in (3, 2, 1, 0)] == [first[i] for i in range(4)]


@pytest.mark.parametrize(
    "content, words",
    [
        ([{"type": "image_url", "image_url": {"url": "http://x/y.png"}}], "data:image"),
        (
            [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
            "video or image",
        ),
        (
            [{"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}],
            "data:video/jpeg",
        ),
        ([{"type": "input_audio"}], "input_audio"),
        (7, "int"),
    ],
)
def test_the_server_refuses_what_it_cannot_show(server, content, words):
    client = openai.OpenAI(api_key="none", base_url=f"{server}/v1", max_retries=0)
    assert [one.id for one in client.models.list()] == ["tiny"]
    with pytest.raises(openai.BadRequestError, match=words):
        client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": content}]
        )
    with pytest.raises(openai.BadRequestError, match="got other; expected tiny"):
        client.chat.completions.create(
            model="other", messages=[{"role": "user", "content": "x"}]
        )


def test_a_request_holds_frames_as_vllm_takes_them(rows, clip_path):
    row = {**rows[0], "video": str(clip_path)}
    settings = AskSettings("direct", VideoSettings(frames=3, size=None))
    body = chat_request(row, settings, prefix="<think>")
    video, text = body["messages"][0]["content"]
    url = video["video_url"]["url"]
    assert url.startswith("data:video/jpeg;base64,iVBOR") and url.count(",") == 3
    assert body["media_io_kwargs"]["video"] == {
        "num_frames": 3,
        "total_num_frames": 12,
        "fps": 24.0,
        "frames_indices": [0, 6, 11],
        "do_sample_frames": False,
    }
    assert "Answer at once" in text["text"]
    assert body["messages"][1] == {"role": "assistant", "content": "<think>"}
    assert body["continue_final_message"] and not body["add_generation_prompt"]
    jpeg = chat_request(
        row,
        replace(settings, video=VideoSettings(3, None, as_images=True)),
        form="jpeg",
    )
    kinds = [part["type"] for part in jpeg["messages"][0]["content"]]
    assert kinds == ["image_url"] * 3 + ["text"] and set(jpeg) == {"messages"}
    first = jpeg["messages"][0]["content"][0]["image_url"]["url"]
    assert first.startswith("data:image/jpeg;base64,/9j/")
    blind = chat_request(row, settings, blind=True)["messages"][0]["content"]
    assert blind == [text]


def test_fitted_frames_are_multiples_within_the_budget():
    frames = np.zeros((2, 300, 500, 3), np.uint8)
    fitted = fit_pixels(frames, 100 * 28 * 28)
    count, height, width, _ = fitted.shape
    assert count == 2 and height % 28 == width % 28 == 0
    assert height * width <= 100 * 28 * 28
    assert fit_pixels(frames, None) is frames
    with pytest.raises(MediaError):
        fit_pixels(np.zeros((1, 2, 600, 3), np.uint8), 9999)


# ---------------------------------------------------------------- servers that fail


def test_order_of_answers_does_not_matter(rows, stub, tmp_path):
    asked = numbered(rows)

    def slow_then_fast(question):
        time.sleep(0.02 * (20 - int(question.split(":")[0])) % 0.1)
        return said(f"<answer>{question[0]}</answer>")

    made = []
    for concurrency in (1, 6):
        backend = stub(slow_then_fast).endpoint(concurrency=concurrency)
        out = tmp_path / str(concurrency)
        made.append(run(VSI, asked, backend, out, TINY))
        assert read_jsonl(out / "predictions.jsonl") == made[-1]
    first, second = (
        [{**r, "config": None, "chain": None} for r in records] for records in made
    )
    assert first == second
    assert [record["id"] for record in first] == [row["id"] for row in rows]
    assert {record["tokens"] for record in first} == {3}


def test_a_row_that_a_server_refuses_is_wrong_and_listed(rows, stub, tmp_path):
    asked = numbered(rows[:5])
    said_to = {
        "0": declined(400, "content policy"),
        "1": said("A", refusal="I cannot"),
        "2": said(None),
        "3": declined(413),
    }
    server = stub(lambda question: said_to.get(question[0], said("1")))
    made = run(VSI, asked, server.endpoint(), tmp_path, TINY)
    assert [record["failure"] for record in made[:4]] == [
        "request_failed: 400",
        "refused",
        "no_text",
        "request_failed: 413",
    ]
    assert [record["score"] for record in made[:4]] == [0] * 4
    found = read_json(tmp_path / "scores.json")
    assert found["failures"]["request_failed"] == 2
    assert found["failed"][asked[3]["id"]] == "request_failed: 413"
    run(VSI, asked, server.endpoint(), tmp_path, TINY)
    assert set(server.asked.values()) == {1}  # a refusal is an answer


def test_a_server_that_takes_no_places_of_frames_stops_the_run(rows, stub, tmp_path):
    """vLLM's own words; two rows, fewer than refusals end a run otherwise."""
    said = (
        "Per-request media_io_kwargs are disabled by default because they can change "
        "multimodal media loading resource usage."
    )
    server = stub(lambda question: declined(400, said))
    with refused("evaluation.untrusting-server", says="--trust-request-mm-kwargs"):
        list(Endpoint(server.url, "x").ask(rows[:2], TINY))


def test_when_nothing_but_refusals_comes_the_run_stops(rows, stub, tmp_path):
    server = stub(lambda question: declined(400, "unknown field media_io_kwargs"))
    with refused("evaluation.endpoint-failed", says="unknown field"):
        run(VSI, numbered(rows), server.endpoint(), tmp_path, TINY)
    assert not (tmp_path / "predictions.jsonl").exists()


def test_a_wrong_key_stops_the_run_names_the_variable_and_stays_secret(
    rows, stub, tmp_path, monkeypatch
):
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    asked = numbered(rows)
    valid = threading.Event()
    valid.set()

    def until_revoked(question):
        if int(question.split(":")[0]) >= 8:
            valid.clear()
        return said("1") if valid.is_set() else declined(401, "bad key sk-very-secret")

    server = stub(until_revoked)
    backend = server.endpoint(key_variable="SOME_KEY", concurrency=1)
    with refused("evaluation.key-refused") as raised:
        run(VSI, asked, backend, tmp_path, TINY)
    message = str(raised.value)
    assert "401" in message and "$SOME_KEY" in message and "\n" not in message
    assert set(server.keys) == {"Bearer sk-very-secret"}
    kept = read_jsonl(tmp_path / "predictions.jsonl")
    assert [record["id"] for record in kept] == [row["id"] for row in asked[:8]]
    written = [path.read_text() for path in tmp_path.iterdir()]
    assert "very-secret" not in "".join([message, *written])
    again = stub(lambda question: said("1"))
    other = again.endpoint()
    other.url = backend.url  # the same server, mended
    assert len(run(VSI, asked, other, tmp_path, TINY)) == 20
    assert len(again.asked) == 12


def test_no_server_and_no_address_are_one_clear_line(rows, tmp_path):
    gone = Endpoint("http://127.0.0.1:9", "x", retries=0)
    with refused("evaluation.endpoint-failed", says="x at 127.0.0.1:9"):
        run(VSI, rows, gone, tmp_path, TINY)
    with refused("evaluation.bad-address", says="localhost:8000"):
        Endpoint("localhost:8000", "x")


def test_a_page_that_is_no_chat_is_named(rows, stub, tmp_path):
    server = stub(lambda question: (200, ["hello"]))
    with refused("evaluation.no-chat-completions", says="hello"):
        run(VSI, rows, server.endpoint(), tmp_path, TINY)


def test_addresses_are_written_without_names_and_keys():
    address = "http://me:secret@host:1/api/v1/chat/completions?key=secret"
    endpoint = Endpoint(address, "x")
    assert endpoint.url == "http://host:1/api/v1" and endpoint.name == "x at host:1"
    assert "secret" not in json.dumps(endpoint.identity())
    assert Endpoint("http://host:1/", "x").url == "http://host:1/v1"


# ---------------------------------------------------------------- missing, broken


def with_lost_media(rows, folder):
    """Six rows; the 2nd, 4th and 5th show nothing that can be read."""
    broken = folder / "broken.mp4"
    broken.write_bytes(b"\0" * 999)
    png = folder / "broken.png"
    png.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50)
    changes = {
        1: {"video": str(folder / "gone.mp4")},
        3: {"video": str(broken)},
        4: {"video": None, "image": [str(png)]},
    }
    return [{**row, **changes.get(i, {})} for i, row in enumerate(rows[:6])]


def test_lost_media_fail_alone_and_are_listed(
    local, server, rows, answers, tmp_path, capsys
):
    asked = with_lost_media(rows, tmp_path)
    expected = [
        None,
        "missing_media: {}/gone.mp4",
        None,
        "broken_media: {}/broken.mp4",
        "broken_media: {}/broken.png",
        None,
    ]
    expected = [failure and failure.format(tmp_path) for failure in expected]
    for name, backend in (("here", local), ("there", Endpoint(server, "tiny"))):
        made = run(VSI, asked, backend, tmp_path / name, replace(TINY, batch_size=4))
        assert [record["failure"] for record in made] == expected
        for i in (0, 2, 5):  # the others of their batches answer as ever
            assert made[i]["prediction"] == answers[i].text
        lost = [made[i] for i in (1, 3, 4)]
        assert {(r["score"], r["prediction"], r["tokens"]) for r in lost} == {
            (0.0, "", None)
        }
        found = read_json(tmp_path / name / "scores.json")
        assert found["n"] == 6
        assert found["failures"] == {"broken_media": 2, "missing_media": 1}
        printed = cli.evaluation._scores_text(VSI, name, found)
        assert f"{asked[1]['id']}: {expected[1]}" in printed
    blind = run(VSI, asked, local, tmp_path / "blind", TINY, condition="blind")
    assert not any(re.match("missing|broken", r["failure"] or "") for r in blind)


# ---------------------------------------------------------------- going on


class Counting:
    """A backend that counts what it is asked, and may stop after some rows."""

    name = "counting"

    def __init__(self, batched=False, stop_after=None):
        self.batched, self.stop_after, self.asked = batched, stop_after, []

    def identity(self):
        return {"backend": "counting"}

    def ask(self, rows, settings, *, prefixes=None, blind=False):
        for i, row in enumerate(rows):
            if len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(row["id"])
            yield i, Reply(f"<answer>{row['ground_truth']}</answer>", 5)


@pytest.mark.parametrize("torn", [b"", b'{"id":"scene90', b'{"id":"\xc3'])
def test_a_stopped_run_goes_on_where_it_was(rows, tmp_path, torn):
    first = Counting(stop_after=7)
    with pytest.raises(KeyboardInterrupt):
        run(VSI, rows, first, tmp_path, TINY)
    path = tmp_path / "predictions.jsonl"
    assert len(read_jsonl(path)) == 7
    assert "finished" not in read_json(tmp_path / "evaluation.json")
    with open(path, "ab") as file:
        file.write(torn)
    second = Counting()
    made = run(VSI, rows, second, tmp_path, TINY)
    assert first.asked + second.asked == [row["id"] for row in rows]
    assert read_jsonl(path) == made and len(made) == 20
    assert all(record["score"] == 1 for record in made)
    assert read_json(tmp_path / "evaluation.json")["finished"]["answered"] == 13
    before = path.read_bytes()
    third = Counting()
    assert run(VSI, rows, third, tmp_path, TINY) == made
    assert third.asked == [] and path.read_bytes() == before


def test_batches_are_asked_again_whole_and_written_once(rows, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(VSI, rows, Counting(True, 6), tmp_path, replace(TINY, batch_size=4))
    again = Counting(True)
    made = run(VSI, rows, again, tmp_path, replace(TINY, batch_size=4))
    assert again.asked == [row["id"] for row in rows[4:]]
    assert [r["id"] for r in read_jsonl(tmp_path / "predictions.jsonl")] == [
        row["id"] for row in rows
    ]
    assert len(made) == 20


def test_a_sampled_run_ends_the_same_with_and_without_a_stop(local, rows, tmp_path):
    settings = replace(TINY, temperature=1.0, max_new_tokens=12, batch_size=2)
    whole = run(VSI, rows[:6], local, tmp_path / "whole", settings)
    part = tmp_path / "part"
    run(VSI, rows[:6], local, part, settings)
    path = part / "predictions.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    again = run(VSI, rows[:6], local, part, settings, accept_edited=True)
    assert again == whole
    assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()


@pytest.mark.parametrize(
    "change, options, words",
    [
        ({"seed": 1}, {}, "settings.seed 0, now 1"),
        ({}, {"rows": 5}, "rows.count 20, now 5"),
        ({}, {"condition": "blind"}, "condition own, now blind"),
        ({}, {"extraction": "official"}, "extraction strict, now official"),
        ({"video": VideoSettings(4)}, {}, "settings.video.frames 8, now 4"),
    ],
)
def test_other_settings_do_not_mix_into_a_folder(
    rows, tmp_path, change, options, words
):
    run(VSI, rows, Counting(), tmp_path, TINY)
    kept = (tmp_path / "predictions.jsonl").read_bytes()
    asked, settings = rows[: options.pop("rows", 20)], replace(TINY, **change)
    with refused("evaluation.other-run", says=words):
        run(VSI, asked, Counting(), tmp_path, settings, **options)
    assert (tmp_path / "predictions.jsonl").read_bytes() == kept
    options["overwrite"] = True
    made = run(VSI, asked, Counting(), tmp_path, settings, **options)
    assert read_jsonl(tmp_path / "predictions.jsonl") == made


def test_answers_of_unknown_origin_and_a_second_writer_are_refused(rows, tmp_path):
    write_jsonl(tmp_path / "predictions.jsonl", [{"id": "x"}])
    with refused("evaluation.other-run", says="no evaluation.json"):
        run(VSI, rows, Counting(), tmp_path, TINY)
    with (
        sole_writer(tmp_path),
        refused("artifacts.folder-in-use", says=str(tmp_path)),
    ):
        run(VSI, rows, Counting(), tmp_path, TINY)


def test_a_batch_size_is_no_setting_of_a_server(rows, tmp_path):
    run(VSI, rows, Counting(), tmp_path, replace(TINY, batch_size=3))
    again = run(VSI, rows, Counting(), tmp_path, replace(TINY, batch_size=5))
    assert len(again) == 20


@pytest.mark.parametrize(
    "fault, mode, options",
    [
        ("evaluation.unknown-extraction", "tiny", {"extraction": "fuzzy"}),
        ("evaluation.mode-without-map", "direct", {"condition": "oracle"}),
        ("evaluation.unknown-condition", "tiny", {"condition": "mine"}),
    ],
)
def test_bad_arguments_are_named(rows, tmp_path, fault, mode, options):
    (bad,) = options.values()
    settings = replace(TINY, mode=mode)
    with refused(fault, says=bad):
        run(VSI, rows, Counting(), tmp_path, settings, **options)
    with refused("evaluation.id-twice", says=rows[0]["id"]):
        run(VSI, [rows[0], rows[0]], Counting(), tmp_path, TINY)


def test_samples_of_a_row_come_together_under_ids_of_their_own(rows, tmp_path):
    backend = Counting(True)
    configs = {row["id"]: "hash" for row in rows[:3]}
    journal = Journal(tmp_path / "x.jsonl", configs)
    settings = replace(TINY, batch_size=2)
    journal.add({"id": rows[2]["id"]})
    for row, replies in ask_rows(rows[:3], backend, settings, journal, samples=2):
        assert [r.text for r in replies] == [
            f"<answer>{row['ground_truth']}</answer>"
        ] * 2
        journal.add({"id": row["id"], "replies": len(replies)})
    names = [row["id"] for row in rows[:2]]
    assert backend.asked == [name + end for name in names for end in ("", "/1")]
    assert [line["id"] for line in journal.finish()] == list(configs)


def test_a_journal_refuses_or_replaces_answers_of_another_hash(tmp_path):
    path = tmp_path / "folder" / "x.jsonl"
    journal = Journal(path, {"a": "1", "b": "1"})
    journal.add({"id": "a", "text": "A"})
    assert Journal(path, {"b": "2"}).done == {}  # not about these rows
    with refused("evaluation.other-run", says="a"):
        Journal(path, {"a": "2"})
    fresh = Journal(path, {"a": "2", "b": "2"}, fresh=True)
    assert fresh.done == {} and read_jsonl(path) == []
    fresh.add({"id": "b"})
    fresh.add({"id": "a"})
    assert [line["id"] for line in read_jsonl(path)] == ["b", "a"]
    assert [line["id"] for line in fresh.finish()] == ["a", "b"]
    assert [line["id"] for line in read_jsonl(path)] == ["a", "b"]


def test_journals_are_cut_where_a_line_was_torn(tmp_path):
    path = tmp_path / "x.jsonl"
    assert resume_journal(path) == []
    append_jsonl(path, [{"a": 1}], sync=True)
    append_jsonl(path, [{"a": float("nan")}])
    with open(path, "ab") as file:
        file.write(b'{"a": 2')
    assert resume_journal(path) == [{"a": 1}, {"a": None}]
    append_jsonl(path, [{"a": 3}])
    assert read_jsonl(path)[-1] == {"a": 3}


# ---------------------------------------------------------------- edited answers


def changed(lines):
    lines[2] = lines[2].replace(b'"score":1.0', b'"score":0.0')
    assert b'"score":0.0' in lines[2]
    return lines


EDITS = {
    "line 3 (": changed,
    "line 4 (": lambda lines: lines[:3] + lines[4:],
    "line 5 (": lambda lines: lines[:4] + lines[3:],
    "line 1 (": lambda lines: [lines[1], lines[0], *lines[2:]],
    "19 lines in place of 20": lambda lines: lines[:19],
    "line 20 (": lambda lines: [
        *lines[:19],
        re.sub(b',"chain":"[0-9a-f]*"', b"", lines[19]),
    ],
    "and 17 more": lambda lines: [
        re.sub(b',"chain":"[0-9a-f]*"', b"", line) for line in lines
    ],
}


@pytest.mark.parametrize("says", EDITS)
def test_an_edited_file_of_answers_is_noticed(rows, tmp_path, says):
    made = run(VSI, rows, Counting(), tmp_path, TINY)
    path = tmp_path / "predictions.jsonl"
    lines = EDITS[says](path.read_bytes().splitlines(keepends=True))
    path.write_bytes(b"".join(lines))
    for read in (
        lambda: read_run(tmp_path),
        lambda: read_run(path),
        lambda: read_predictions(tmp_path),
        lambda: run(VSI, rows, Counting(), tmp_path, TINY),
    ):
        with refused("evaluation.edited-answers", says=says):
            read()
    with pytest.warns(UserWarning, match="edited after it was written"):
        (edit,) = read_run(tmp_path, accept_edited=True).edited
    assert str(path) in edit and says in edit and says in edits_of(path)[0]
    with pytest.warns(UserWarning, match="edited after it was written"):
        run(VSI, rows, Counting(), tmp_path, TINY, accept_edited=True)
    # From here on the file is as it was written; what was accepted stays said.
    assert len(read_run(tmp_path).records) == len(made)
    assert says in read_run(tmp_path).edited[0] and says in edits_of(tmp_path)[0]


@pytest.mark.parametrize(
    "same",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace('":', '": ') + "\n",
        lambda text: "".join(
            json.dumps(dict(reversed(json.loads(line).items()))) + "\n"
            for line in text.splitlines()
        ),
    ],
    ids=["line ends", "spaces", "order of keys"],
)
def test_another_layout_of_the_same_records_is_no_edit(rows, tmp_path, same):
    rows = rows[:4]
    made = run(VSI, rows, Counting(), tmp_path, TINY)
    path = tmp_path / "predictions.jsonl"
    path.write_text(same(path.read_text()), newline="")
    assert read_run(tmp_path).records == made
    assert run(VSI, rows, Counting(), tmp_path, TINY) == made


def test_a_stopped_run_is_not_an_edited_one(rows, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(VSI, rows, Counting(stop_after=7), tmp_path, TINY)
    path = tmp_path / "predictions.jsonl"
    whole = path.read_bytes()
    for end in (b'{"id":"scene90', b'{"id":"\xc3'):
        path.write_bytes(whole + end)
        for read in (read_run, read_predictions):
            with refused("evaluation.cut-off", says=str(path)):
                read(tmp_path)
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:5]))
    assert len(read_run(tmp_path).records) == len(read_predictions(tmp_path)) == 5
    assert read_run(tmp_path).edited == ()
    assert len(run(VSI, rows, Counting(), tmp_path, TINY)) == 20


def test_answers_from_before_the_chain_are_read_and_said_once(rows, tmp_path):
    made = run(VSI, rows, Counting(), tmp_path, TINY)
    path, about = tmp_path / "predictions.jsonl", tmp_path / "evaluation.json"
    whole = path.read_bytes()
    old = [{k: v for k, v in record.items() if k != "chain"} for record in made]
    write_jsonl(path, old[:9])
    write_json(about, {k: v for k, v in read_json(about).items() if k != "answers"})
    with pytest.warns(UserWarning, match="before answers covered") as said:
        assert read_run(tmp_path).records == old[:9]
        assert len(read_predictions(tmp_path)) == 9
    assert len({str(one.message) for one in said}) == 1
    with pytest.warns(UserWarning, match="before answers covered"):
        run(VSI, rows, Counting(), tmp_path, TINY)
    assert path.read_bytes() == whole


def test_files_joined_end_to_end_are_no_edit(rows, tmp_path):
    for name, part in (("a", rows[:9]), ("b", rows[9:])):
        run(VSI, part, Counting(), tmp_path / name, TINY)
    parts = [(tmp_path / name / "predictions.jsonl").read_bytes() for name in "ab"]
    path = tmp_path / "both.jsonl"
    path.write_bytes(b"".join(parts))
    assert len(read_run(path).records) == len(read_predictions(path)) == 20
    path.write_bytes(parts[0] + b"".join(parts[1].splitlines(keepends=True)[1:]))
    with refused("evaluation.edited-answers", says="line 10"):
        read_run(path)


def test_values_that_are_no_json_are_covered_too(tmp_path):
    path = tmp_path / "x.jsonl"
    journal = Journal(path, {"a": "1", "b": "1"})
    journal.add({"id": "a", "score": math.nan, "deep": [{"x": -math.inf}], "t": (1,)})
    journal.add({"id": "b", "text": "\ud800 \u2028 é"})
    kept = Journal(path, {"a": "1", "b": "1"}).finish()
    assert [r["id"] for r in kept] == ["a", "b"] and kept[0]["score"] is None
    assert kept[0]["deep"] == [{"x": None}]
    assert Journal(path, {"a": "1", "b": "1"}).finish() == read_jsonl(path) == kept


# ---------------------------------------------------------------- the command

COMMAND = ["evaluate", "--benchmark", "VSI-Bench", "--config", "tiny"]


def evaluate(*arguments):
    return cli.main([*COMMAND, *map(str, arguments)])


@pytest.mark.slow
def test_kill_9_loses_no_row_and_asks_none_twice(rows, stub, tmp_path):
    asked = numbered(draw_rows(9_100_000, 60, "turn"))
    write_jsonl(tmp_path / "data" / "test.jsonl", asked)

    def slowly(question):
        time.sleep(0.1)
        return said("<answer>A</answer>")

    server, out = stub(slowly), tmp_path / "out"
    options = [
        "--data",
        tmp_path / "data",
        "--endpoint",
        server.url,
        "--model-name",
        "stub",
        "--out",
        out,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "spacer_lib", *COMMAND, *map(str, options)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    path = out / "predictions.jsonl"
    limit = time.monotonic() + 180
    while not path.exists() or path.read_bytes().count(b"\n") < 20:
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {record["id"] for record in resume_journal(path)}
    assert 20 <= len(kept) < 60
    time.sleep(0.5)  # what was under way
    before = server.asked.copy()
    assert evaluate(*options) == 0
    made = read_jsonl(path)
    assert [record["id"] for record in made] == [row["id"] for row in asked]
    texts = dict(zip(texts_of(asked), (row["id"] for row in asked), strict=True))
    for text, name in texts.items():
        # Asked again only what no answer was kept of: at most those under way.
        assert server.asked[text] == before[text] + (name not in kept)
    assert sum(count == 2 for count in server.asked.values()) <= 5
    assert max(server.asked.values()) <= 2


@pytest.mark.slow
def test_served_by_the_command_and_asked_by_the_command(rows, answers, tmp_path):
    write_jsonl(tmp_path / "test.jsonl", rows)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "spacer_lib",
            "serve",
            "--port",
            "0",
            "--model",
            "checkpoints/tiny_warmstart",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        name, _, url = process.stdout.readline().split()
        code = evaluate(
            "--data",
            tmp_path,
            "--out",
            tmp_path / "out",
            "--endpoint",
            url,
            "--model-name",
            name,
            "--frames-as",
            "video",
        )
    finally:
        process.kill()
        process.wait()
    made = read_jsonl(tmp_path / "out" / "predictions.jsonl")
    texts = [record["prediction"] for record in made]
    assert code == 0 and texts == [answers[i].text for i in range(20)]


def test_ctrl_c_says_that_the_same_command_goes_on(rows, tmp_path, capsys, monkeypatch):
    write_jsonl(tmp_path / "test.jsonl", rows)
    asked = []

    def interrupted(self, kind, row, seed=0):
        if len(asked) == 5:
            raise KeyboardInterrupt
        asked.append(row["id"])
        return "A"

    monkeypatch.setattr(Floor, "_answer", interrupted)
    out = tmp_path / "out"
    assert evaluate("--data", tmp_path, "--out", out, "--floor", "random") == 130
    assert f"{out}: stopped; the same command goes on" in capsys.readouterr().err
    assert [r["id"] for r in read_jsonl(out / "predictions.jsonl")] == asked


def test_the_command_asks_scores_and_prints(rows, tmp_path, capsys):
    write_jsonl(tmp_path / "test.jsonl", rows)
    options = ["--data", tmp_path, "--out", tmp_path / "out", "--limit", 12]
    assert evaluate(*options, "--model", ROOT / "checkpoints" / "tiny_warmstart") == 0
    printed = capsys.readouterr().out
    assert re.search(r"macro +12 +\d+\.\d +\[\d", printed)
    assert re.search(r"object_counting +2 ", printed)
    header = read_json(tmp_path / "out" / "evaluation.json")
    assert header["settings"]["mode"] == "tiny" and header["rows"]["count"] == 12
    assert header["backend"]["positions"] == "library" and "commit" in header
    found = read_json(tmp_path / "out" / "scores.json")
    made = read_jsonl(tmp_path / "out" / "predictions.jsonl")
    assert found["micro"] == pytest.approx(np.mean([r["score"] for r in made]))
    assert found["tokens"] == pytest.approx(np.mean([r["tokens"] for r in made]))
    assert {r["config"] for r in made} == {header["config"]}


def test_the_commands_mistakes_are_one_line(rows, tmp_path, capsys):
    write_jsonl(tmp_path / "test.jsonl", rows)
    data = ["--data", tmp_path, "--out", tmp_path / "out"]
    for options, words in (
        ([], "--floor KIND"),
        (["--model", "x", "--floor", "majority"], "none or several"),
        (["--endpoint", "http://x"], "--model-name"),
        (["--floor", "random", "--fallback-model", "x"], "--fallback-endpoint"),
        (["--floor", "median"], "strongest, majority, constant"),
        (["--floor", "majority", "--frames", "0"], "frames: got 0"),
        (["--model", TINY_MODEL, "--backend", "vllm"], "pip install vllm"),
        (["--model", TINY_MODEL, "--backend", "jax"], "auto, transformers, vllm"),
        (["--floor", "majority", "--workers", "2"], "1 without --model"),
        (["--model", tmp_path / "none"], "no config.json"),
    ):
        assert evaluate(*data, *options) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and words in lines[0]
    assert not (tmp_path / "out" / "predictions.jsonl").exists()


def test_settings_come_from_paper_file_and_options(tmp_path):
    paper = EvaluationConfig()
    asked = paper.settings("think_map")
    assert asked == AskSettings(
        "think_map", VideoSettings(32, None, 448 * 28 * 28), 1024, 0.01, batch_size=8
    )
    assert paper.settings("direct").max_new_tokens == new_tokens("direct") == 128
    tiny = load_evaluation("tiny", frames=8, seed=None)
    assert (tiny.mode, tiny.frames, tiny.size, tiny.seed) == ("tiny", 8, 56, 0)
    shown = tiny.settings("direct", "images")
    assert (shown.mode, shown.video.as_images) == ("tiny", True)
    assert not tiny.settings("direct").video.as_images
    file = tmp_path / "mine.yaml"
    for text, fault, fact in (
        ("frames: many", "settings.wrong-type", "frames"),
        ("temprature: 1", "settings.unknown-key", "temperature"),
        ("frames_as: film", "evaluation.setting-out-of-range", "film"),
        ("frames: 0", "evaluation.setting-out-of-range", "frames"),
        ("max_new_tokens: 0", "evaluation.setting-out-of-range", "max_new_tokens"),
        ("seed: -1", "evaluation.setting-out-of-range", "seed"),
        ("- 1", "settings.no-mapping", "mine.yaml"),
    ):
        file.write_text(text)
        with refused(fault, says=fact):
            load_evaluation(file)
    with refused("settings.no-such-file", says="tiny"):
        load_evaluation("none")
    for name in ("temperature", "top_p"):
        for value in (float("nan"), float("inf")):
            with refused("evaluation.setting-out-of-range", says=name):
                EvaluationConfig(**{name: value})


# ---------------------------------------------------------------- conditions, floors


def test_conditions_change_what_is_shown_and_nothing_else(
    local, rows, answers, tmp_path
):
    made = {
        condition: run(
            VSI, rows[:8], local, tmp_path / condition, TINY, condition=condition
        )
        for condition in ("own", "other", "blind", "shuffled", "oracle")
    }
    texts = {k: [r["prediction"] for r in records] for k, records in made.items()}
    assert texts["own"] == [answers[i].text for i in range(8)]
    for condition, records in made.items():
        assert {r["condition"] for r in records} == {condition}
        truths = [row["ground_truth"] for row in rows[:8]]
        assert [r["answer"] for r in records] == truths
        assert condition == "own" or texts[condition] != texts["own"]
    assert all(r["map_hits"] == r["map_total"] for r in made["oracle"])
    assert len({r["config"] for records in made.values() for r in records}) == 5


def test_shuffled_frames_are_the_same_frames(rows):
    video = condition_video(VideoSettings(frames=8), "shuffled", 5)
    assert video.shuffle == 5
    own = read_clip(rows[0]["video"], VideoSettings(frames=8))
    shuffled = read_clip(rows[0]["video"], video)
    assert not np.array_equal(own.frames, shuffled.frames)
    assert shuffled.indices == own.indices
    assert sorted(f.tobytes() for f in own.frames) == sorted(
        f.tobytes() for f in shuffled.frames
    )


def test_other_exchanges_videos_and_images_apart():
    def row(number, space, **media):
        return {"id": number, "scene_name": f"scene{space:04d}_00", **media}

    rows = [
        row(0, 0, video="a"),
        row(1, 1, image=["b", "c"]),
        row(2, 2, video="d"),
        row(3, 3, image="e"),
        row(4, 0, video="a"),
        row(5, 4),
    ]
    shown, _, _ = condition_rows(rows, "other")
    assert [r.get("video") for r in shown] == ["d", None, "a", None, "d", None]
    assert [r.get("image") for r in shown] == [None, "e", None, ["b", "c"], None, None]
    with refused("evaluation.one-room", says="1 room with images"):
        condition_rows(rows[:3], "other")
    with refused("evaluation.no-true-map", says="row 0"):
        condition_rows(rows, "oracle")


def test_floors_go_through_the_same_runner(rows, tmp_path):
    def task(number, answer, options=None):
        kind = "obj_appearance_order" if options else "object_counting"
        return {
            **rows[0],
            "id": f"q{number}",
            "question_type": kind,
            "map": None,
            "scene_name": f"scene{number:04d}_00",
            "options": options,
            "problem_type": "multiple choice" if options else "numerical",
            "ground_truth": answer,
        }

    asked = [task(i, a) for i, a in enumerate(["2"] * 6 + ["3"] * 3 + ["7"])]
    letters = ["A. x", "B. y", "C. z", "D. w"]
    asked += [task(i, "B", letters) for i in range(10, 410)]
    train = [task(900, "7"), task(901, "A", letters)]  # other rooms
    made = {
        kind: run(VSI, asked, Floor(kind, asked), tmp_path / kind, TINY)
        for kind in ("majority", "frequency", "random")
    }
    said_by = {k: [r["extracted"] for r in records] for k, records in made.items()}
    assert set(said_by["majority"][:10]) == {"2"}
    assert set(said_by["majority"][10:]) == set(said_by["frequency"][10:]) == {"B"}
    assert set(said_by["random"][:10]) <= {"2", "3", "7"}
    share = np.mean([r["score"] for r in made["random"][10:]])
    assert share == pytest.approx(0.25, abs=0.07)  # three standard errors
    assert not any(r["failure"] for records in made.values() for r in records)
    header = read_json(tmp_path / "majority" / "evaluation.json")
    assert header["name"] == "majority of other rooms"
    trained = Floor("majority", asked, train)
    assert trained.name == "majority of training rows"
    texts = [reply.text for _, reply in trained.ask(asked[:11], TINY)]
    assert texts == ["7"] * 10 + ["A"]
    with refused("evaluation.task-not-counted", says="obj_appearance_order"):
        Floor("majority", asked, train[:1])


def test_draws_of_a_floor_belong_to_the_row():
    rows = draw_rows(9_100_000, 60, "seen")
    floor = Floor("frequency", rows)
    forwards = [reply.text for _, reply in floor.ask(rows, TINY)]
    backwards = [reply.text for _, reply in floor.ask(rows[::-1], TINY)]
    assert backwards == forwards[::-1]
    other = [reply.text for _, reply in floor.ask(rows, replace(TINY, seed=1))]
    assert other != forwards


@pytest.mark.parametrize("word", ["<|video_pad|>", "<|im_end|>", "<|image_pad|>"])
def test_a_control_word_costs_its_question_alone(local, rows, tmp_path, word):
    asked = [dict(row) for row in rows[:3]]
    asked[1]["question"] += f" {word}"
    found = run(VSI, asked, local, tmp_path, TINY)
    assert found[1]["failure"] == f"control_word: {word}" and found[1]["score"] == 0
    assert all(found[i]["prediction"] for i in (0, 2))
    assert read_json(tmp_path / "scores.json")["failures"] == {"control_word": 1}
    assert run(VSI, asked, local, tmp_path, TINY) == found


# ---------------------------------------------------------------- a second reader


def test_a_fallback_reads_apart_and_counts_only_when_asked(rows, stub, tmp_path):
    counting = [r for r in rows if r["question_type"] == "object_counting"][:3]
    asked = numbered(counting)
    truth = asked[1]["ground_truth"]
    replies = {"0": "4", "1": f"I see 9, or rather {truth}", "2": "who knows, 1 or 2"}
    first = stub(lambda question: said(replies[question[0]]))
    spoken = {"1": truth, "2": "NONE"}
    second = stub(lambda text: said(spoken[re.search(r"Question: (\d)", text)[1]]))
    options = {"settings": TINY, "fallback": second.endpoint()}
    apart = run(VSI, asked, first.endpoint(), tmp_path, **options)
    assert "fallback_by" not in apart[0]
    assert (apart[1]["score"], apart[1]["extracted"]) == (0, None)
    assert (apart[1]["fallback_score"], apart[1]["fallback_extracted"]) == (1, truth)
    assert apart[2]["fallback_extracted"] is None and apart[2]["fallback_score"] == 0
    assert len(second.asked) == 2 and all(
        "who knows" in t or "rather" in t for t in second.asked
    )
    assert run(VSI, asked, first.endpoint(), tmp_path, **options) == apart
    assert set(second.asked.values()) == {1}  # nor twice
    options["extraction"] = "strict+fallback"
    mixed = run(VSI, asked, first.endpoint(), tmp_path / "mixed", **options)
    assert (mixed[1]["score"], mixed[1]["failure"]) == (1, None)
    assert mixed[1]["strict_failure"] == apart[1]["failure"]
    assert mixed[2]["failure"] and mixed[2]["score"] == 0
    del options["fallback"]
    with refused("evaluation.no-fallback"):
        run(VSI, asked, first.endpoint(), tmp_path, **options)


def test_the_fallback_reads_files_of_others(rows, stub, tmp_path):
    asked = numbered([r for r in rows if r["question_type"] == "object_counting"][:2])
    data, made = tmp_path / "data.jsonl", tmp_path / "made.jsonl"
    write_jsonl(data, asked)
    replies = [asked[0]["ground_truth"], f"9, or rather {asked[1]['ground_truth']}"]
    lines = [
        {"id": r["id"], "prediction": t} for r, t in zip(asked, replies, strict=True)
    ]
    write_jsonl(made, lines)
    judge = stub(lambda _: said(asked[1]["ground_truth"]))
    out = tmp_path / "scores.json"
    command = ["score", "--benchmark", "held-out", "--data", str(data)]
    command += ["--predictions", str(made), "--json", str(out)]
    assert cli.main(command) == 0
    alone = read_json(out)
    assert [row["score"] for row in alone["rows"]] == [1, 0] and not judge.asked
    command += ["--fallback-endpoint", judge.url, "--fallback-model", "judge"]
    assert cli.main(command) == 0
    helped = read_json(out)
    assert [row["score"] for row in helped["rows"]] == [1, 1]
    assert helped["extraction"] == "strict+fallback"
    assert len(judge.asked) == 1  # the answer that was read is not asked about
    assert cli.main(command[:-2]) == 2  # a server and no model


# ---------------------------------------------------------------- vLLM


def test_vllm_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with refused("evaluation.no-vllm"):
        OfflineVllm("x")


def test_vllm_gets_prompts_frames_and_settings(
    monkeypatch, rows, picture_row, clip_path, tmp_path
):
    class LLM:
        def __init__(self, **options):
            self.options, self.calls = options, []

        def generate(self, prompts, params, use_tqdm):
            self.calls.append((prompts, params))
            answer = types.SimpleNamespace(text="<answer>A</answer>", token_ids=[1, 2])
            return [types.SimpleNamespace(outputs=[answer]) for _ in prompts]

    stand_in = types.ModuleType("vllm")
    stand_in.LLM, stand_in.__version__ = LLM, "0"
    stand_in.SamplingParams = lambda **given: given
    monkeypatch.setitem(sys.modules, "vllm", stand_in)
    backend = OfflineVllm(
        ROOT / "checkpoints" / "tiny_warmstart", frames=40, max_model_len=4096
    )
    assert backend.llm.options["limit_mm_per_prompt"] == {"image": 40, "video": 1}
    asked = [
        {**rows[0], "video": str(clip_path)},
        picture_row,
        {**rows[1], "video": str(tmp_path / "gone.mp4")},
    ]
    settings = AskSettings(
        "think", VideoSettings(frames=4, size=None), 77, 0.5, 0.9, batch_size=2
    )
    replies = dict(backend.ask(asked, settings, prefixes=["<think>", "", ""]))
    assert replies[0] == Reply("<think><answer>A</answer>", 2)
    assert replies[2].failure == f"missing_media: {tmp_path}/gone.mp4"
    ((prompts, params),) = backend.llm.calls
    video, pictures = prompts
    ((frames, metadata),) = video["multi_modal_data"]["video"]
    assert frames.shape == (4, 84, 84, 3)
    assert metadata["frames_indices"] == [0, 4, 7, 11]
    # 4 of 12 frames at 24 a second
    assert video["mm_processor_kwargs"] == {"fps": 8.0}
    assert video["prompt"].count("<|video_pad|>") == 1
    assert video["prompt"].endswith("<think>")
    assert len(pictures["multi_modal_data"]["image"]) == 2
    assert pictures["prompt"].count("<|image_pad|>") == 2
    assert params[0]["max_tokens"] == 77 and params[0]["temperature"] == 0.5
    assert params[0]["seed"] != params[1]["seed"]
    assert params[0]["repetition_penalty"] == 1.0
    blind = dict(backend.ask(asked[2:], settings, blind=True))
    assert blind[0].failure is None
    assert "multi_modal_data" not in backend.llm.calls[-1][0][0]
