"""Evaluation by several processes: the bytes of one, deaths, and what runs a model."""

import functools
import os
import re
import signal
import subprocess
import sys
import time
from importlib.machinery import ModuleSpec

import psutil
import pytest
from support import refused
from told import Told, absent

from spacer_lib import cli
from spacer_lib.artifacts import PROJECT_ROOT, read_json, read_jsonl, write_jsonl
from spacer_lib.benchmarks import named
from spacer_lib.evaluation import workers as processes
from spacer_lib.evaluation.runner import run
from spacer_lib.evaluation.workers import Workers, choose_backend, devices_of
from spacer_lib.language.asking import AskSettings
from spacer_lib.tiny.curriculum import draw_rows

TINY = AskSettings("tiny", batch_size=2)
VSI = named("vsi")
COMMAND = ["evaluate", "--benchmark", "vsi", "--config", "tiny", "--batch-size", "3"]
COMMAND += ["--model", "checkpoints/tiny_warmstart", "--temperature", "1"]


def numbered(count, **special):
    """Rows with ids of their own, but for ``special`` ones: ``{name: place}``."""
    (row,) = draw_rows(9_000_000, 1, "turn")
    rows = [{**row, "id": f"r{i}"} for i in range(count)]
    for name, place in special.items():
        rows[place] = {**row, "id": name}
    return rows


# ---------------------------------------------------------------- the choice


@pytest.mark.parametrize(
    ("asked", "positions", "gpus", "there", "name", "reason"),
    [
        ("auto", None, 8, True, "vllm", "continuously"),
        ("auto", "original", 1, True, "vllm", "continuously"),
        ("auto", None, 8, False, "transformers", "not installed"),
        ("auto", "library", 8, True, "transformers", "positions"),
        ("auto", None, 0, True, "transformers", "no GPU"),
        ("vllm", None, 0, True, "vllm", "asked for"),
        ("transformers", None, 8, True, "transformers", "asked for"),
    ],
)
def test_auto_takes_vllm_where_its_answers_are_the_models(
    monkeypatch, asked, positions, gpus, there, name, reason
):
    spec = ModuleSpec("vllm", None) if there else None
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda _: spec)
    found = choose_backend(asked, positions, gpus)
    assert found[0] == name and reason in found[1]


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices_of(2, 8) == ["0", "1"] and devices_of(3, 0) == [None] * 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert devices_of(2, 2) == ["3", "5"]
    with refused("evaluation.too-few-gpus", says="at most 2"):
        devices_of(3, 2)
    with refused("evaluation.unknown-backend", says="jax"):
        choose_backend("jax", None, 0)


# ---------------------------------------------------------------- processes


def test_rows_go_out_in_the_batches_of_one_process():
    rows, prefixes = numbered(11), list("abcdefghijk")
    alone = {}
    for start in range(0, 11, 2):
        part = slice(start, start + 2)
        for i, reply in Told().ask(rows[part], TINY, prefixes=prefixes[part]):
            alone[start + i] = reply
    with Workers(Told, [None] * 3) as several:
        assert several.name == "told" and several.batched
        found = list(several.ask(rows, TINY, prefixes=prefixes))
        assert dict(found) == alone and len(found) == 11
        assert dict(several.ask(rows[:3], TINY, prefixes=prefixes)) != {}  # and again
        pids = [process.pid for process in several._processes]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_processes_that_hold_different_models_are_refused():
    with refused("evaluation.unequal-workers", says="2 different"):
        Workers(Told, ["0", "1"])  # the GPU is a part of this one's identity


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("die", "evaluation.worker-died", "SIGKILL"),
        ("fail", "evaluation.worker-died", "exit status 1"),
        ("refuse", "tests.refused", "a reason"),
    ],
)
def test_one_end_is_one_error_and_what_was_answered_stays(tmp_path, name, kind, says):
    rows = numbered(12, **{name: 9})
    with refused(kind, says=says), Workers(Told, [None] * 2) as several:
        run(VSI, rows, several, tmp_path, TINY)
    kept = read_jsonl(tmp_path / "predictions.jsonl")
    assert 0 < len(kept) < 12 and name not in {row["id"] for row in kept}
    assert not (tmp_path / "scores.json").exists()


def test_a_model_that_cannot_be_opened_is_its_own_error():
    with refused("tests.absent", says="none"):
        Workers(absent, [None] * 2)


# ---------------------------------------------------------------- the command


def evaluate(*options):
    return cli.main([*COMMAND, *map(str, options)])


@pytest.mark.slow
def test_bytes_are_those_of_one_process_also_after_a_kill_of_all(tmp_path, capsys):
    """Sampled, under a condition that looks at all rows; the last batch is short."""
    rows = draw_rows(9_200_000, 20, "turn")
    write_jsonl(tmp_path / "test.jsonl", rows)
    common = ["--data", tmp_path, "--condition", "other"]
    for count in (1, 3):
        out = tmp_path / str(count)
        assert evaluate(*common, "--out", out, "--workers", count) == 0
    bytes_of = {
        name: (tmp_path / name / "predictions.jsonl").read_bytes() for name in "13"
    }
    assert bytes_of["1"] == bytes_of["3"] and bytes_of["1"].count(b"\n") == 20
    headers = [read_json(tmp_path / name / "evaluation.json") for name in "13"]
    assert headers[0]["config"] == headers[1]["config"]
    scores = [(tmp_path / name / "scores.json").read_bytes() for name in "13"]
    assert scores[0] == scores[1]
    assert re.search("backend transformers: vLLM is not", capsys.readouterr().out)
    out = tmp_path / "killed"
    kept = killed(out, [*common, "--out", out, "--workers", 2])
    assert evaluate(*common, "--out", out, "--workers", 3) == 0
    assert (out / "predictions.jsonl").read_bytes() == bytes_of["1"]
    assert read_json(out / "evaluation.json")["finished"]["answered"] == 20 - kept


def killed(out, options):
    """Answers that stay after a kill -9 of the command; its processes end with it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "spacer_lib", *COMMAND, *map(str, options)],
        cwd=PROJECT_ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    path, limit = out / "predictions.jsonl", time.monotonic() + 180
    while not path.exists() or path.read_bytes().count(b"\n") < 3:
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.005)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert children and psutil.wait_procs(children, timeout=20)[1] == []
    found = path.read_bytes().count(b"\n")
    assert found < 20
    return found


def test_open_model_is_importable_by_name():
    make = functools.partial(
        processes.open_model, "transformers", "checkpoints/tiny_warmstart", None, 4
    )
    assert make().identity()["positions"] == "library"
