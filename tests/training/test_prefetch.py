"""Media read ahead of their step: the same run, and the same errors at their time."""

import subprocess
import sys
import threading
import time

import pytest
import torch

from spacer_lib.artifacts import PROJECT_ROOT
from spacer_lib.models import inputs
from spacer_lib.rooms.video import RecentlyUsed
from spacer_lib.training import assembly
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.prefetch import Prefetch

DEADLINE_S = 60


def test_results_are_those_of_the_calls_and_each_is_made_once():
    calls = []

    def make(numbers):
        calls.append((numbers, threading.current_thread()))
        return sum(numbers)

    ahead = Prefetch(make)
    for numbers in ([1, 1], [1, 1], [2, 2], [2, 2]):
        ahead.start(numbers)
    assert ahead.take([3]) is None
    assert [ahead.take([2, 2]), ahead.take([1, 1]), ahead.take([1, 1])] == [4, 2, None]
    assert [numbers for numbers, _ in calls] == [[1, 1], [2, 2]]
    assert all(thread is not threading.main_thread() for _, thread in calls)


def test_an_error_waits_for_its_taker():
    def make(numbers):
        raise ZeroDivisionError(numbers)

    ahead = Prefetch(make)
    ahead.start([1])
    with pytest.raises(ZeroDivisionError):
        ahead.take([1])


def test_batches_nobody_takes_are_let_go():
    ahead = Prefetch(list)
    for number in range(5):
        ahead.start([number])
    assert [ahead.take([number]) for number in range(5)] == [None] * 3 + [[3], [4]]


@pytest.fixture
def rewarded(monkeypatch):
    """A reward that an untrained model's noise earns."""

    def variety(completions, **_):
        return [float(len(set(chat[0]["content"]))) for chat in completions]

    monkeypatch.setattr(assembly, "trl_reward_functions", lambda *a, **k: [variety])


@pytest.fixture
def where(monkeypatch):
    """Empty caches; sources and whether the main thread encoded them."""
    monkeypatch.setattr(inputs, "_KEPT", RecentlyUsed(inputs._size, inputs.KEPT_BYTES))
    found, show = [], inputs._show

    def noted(processor, parts, settings):
        main = threading.current_thread() is threading.main_thread()
        found.extend((part[part["type"]], main) for part in parts)
        return show(processor, parts, settings)

    monkeypatch.setattr(inputs, "_show", noted)
    return found


def metrics(trainer):
    keys = "loss", "grad_norm", "reward", "completions/mean_length", "media_skipped"
    return [
        {key: log.get(key) for key in keys}
        for log in trainer.state.log_history
        if "loss" in log
    ]


@pytest.mark.usefixtures("rewarded")
@pytest.mark.parametrize("uses", [1, 2])
def test_a_run_with_and_without_is_the_same(
    small, rows, tmp_path, where, uses, monkeypatch
):
    config = small(max_steps=4, num_iterations=uses, per_device_batch=4)
    runs, weights = [], []
    for looks in (True, False):
        trainer = build_trainer(config, tmp_path / f"{looks}", rows=rows)
        if not looks:
            trainer.data_collator = list
        monkeypatch.setattr(
            inputs, "_KEPT", RecentlyUsed(inputs._size, inputs.KEPT_BYTES)
        )
        where.clear()
        trainer.train()
        runs.append(metrics(trainer))
        weights.append([p.detach().clone() for p in trainer.model.parameters()])
        # The row that is asked whether the loss sees its video comes before the loop.
        on_main = [main for _, main in where[1:]]
        assert any(on_main) != looks and len(on_main) >= 8 // uses - 1
    assert runs[0] == runs[1] and len(runs[0]) == 4
    assert all(step["grad_norm"] > 0 for step in runs[0])
    assert all(map(torch.equal, *weights))


def test_an_unreadable_video_is_replaced_as_ever(small, rows, tmp_path, where, capsys):
    rows = [dict(row) for row in rows]
    rows[5]["video"] = str(tmp_path / "absent.mp4")
    runs = []
    for looks in (True, False):
        trainer = build_trainer(small(max_steps=6), tmp_path / f"{looks}", rows=rows)
        if not looks:
            trainer.data_collator = list
        trainer.train()
        runs.append(metrics(trainer))
        assert capsys.readouterr().out.count("skipped from now on: video") == 1
    assert runs[0] == runs[1] and runs[0][-1]["media_skipped"] == 1


def test_a_process_that_ends_does_not_wait_for_what_is_begun(tmp_path):
    """As training processes end: at once."""
    code = (
        "import os, time; from spacer_lib.training.prefetch import Prefetch\n"
        f"ahead = Prefetch(lambda numbers: time.sleep({DEADLINE_S}))\n"
        "ahead.start([1]); os._exit(7)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=False)
    assert done.returncode == 7 and time.perf_counter() - start < DEADLINE_S
