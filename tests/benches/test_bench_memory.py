"""The watch over memory: it follows a command's steps, and a growing one fails."""

import argparse
import re
import sys

import numpy as np
import pytest
from support import refused

from benches import memory

STEPS = 40
GROWS = """
import sys, time
kept = []
for step in range({steps}):
    kept.append(bytearray({size}))
    with open(sys.argv[1], "a") as file:
        file.write("done\\n")
    time.sleep(0.05)
"""


def work(folder, size):
    """A command of ``STEPS`` steps that keeps ``size`` bytes at each."""
    done = folder / "done"
    code = GROWS.format(steps=STEPS, size=size)
    command = [sys.executable, "-c", code, str(done)]
    return memory.Work(command, memory.lines_of(done), 20)


def asked(folder, size, monkeypatch):
    monkeypatch.setattr(memory, "POLL_S", 0.01)
    monkeypatch.setattr(memory, "work_of", lambda *_: work(folder, size))
    return argparse.Namespace(names=["sft"], steps=STEPS, rooms=1, set=[])


def test_a_command_that_keeps_two_megabytes_a_step_is_refused(tmp_path, monkeypatch):
    options = asked(tmp_path, 2 * memory.MB, monkeypatch)
    with refused("benches.memory-grows", says="sft"):
        memory.measure(options)


def test_a_flat_command_is_not(tmp_path, monkeypatch, capsys):
    (growth,) = memory.measure(asked(tmp_path, 100, monkeypatch))["growths"]
    assert abs(growth.slope_mb) < memory.LIMIT_MB
    assert growth.steps[-1] <= STEPS and growth.steps == sorted(set(growth.steps))
    said = capsys.readouterr().out
    assert re.match(r"sft \d+: \d+ MB\n", said)
    assert "MB a step after the warm-up" in said


def test_the_slope_leaves_the_warm_up_out():
    steps = np.arange(1, 101)
    resident = 1000 + np.minimum(steps, 20) * 9.0 + steps * 0.5
    growth = memory.Growth("x", steps.tolist(), resident.tolist(), 1099.0, 1.0)
    assert growth.slope_mb == pytest.approx(0.5)
    assert "x: +0.500 MB a step" in growth.line()
    with refused("benches.short-run"):
        memory.Growth("x", [1, 2], [1.0, 2.0], 2.0, 1.0).line()


def test_a_command_that_fails_says_so(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('no room left')"]
    with refused("benches.command-failed", says="no room left"):
        memory.watch("x", memory.Work(command, lambda: 0))


def test_every_run_has_a_command(tmp_path):
    for name in memory.NAMES:
        made = memory.work_of(name, tmp_path, 500, 5)
        assert made.done() == 0 and str(tmp_path / name) in made.command
