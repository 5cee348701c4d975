"""The warm start's chain at two steps a stage: it ends in a loadable model, once."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import time

import psutil
import pytest
import torch
from support import refused

from spacer_lib.artifacts import PROJECT_ROOT, read_json, read_jsonl
from spacer_lib.evaluation.backends import load
from spacer_lib.tiny import stages, warmstart

CONFIG = warmstart.WarmstartConfig(
    vision_steps=2,
    vision_batch=4,
    text_steps=2,
    text_batch=4,
    align_steps=2,
    align_batch=4,
    joint_steps=2,
    joint_batch=4,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain")
    warmstart.run(folder, CONFIG, evaluate=lambda model: {"model": model.name})
    return folder


def test_every_stage_ran_and_the_model_loads(folder):
    rows = read_jsonl(folder / "metrics.jsonl")
    assert {row["stage"] for row in rows} == set(warmstart.STAGES)
    record = read_json(folder / "provenance.json")
    assert record["metrics"] == {"model": "model"}
    assert len(set(record["first_room_seeds"].values())) == len(warmstart.STAGES)
    model, processor = load(folder / "model")
    assert len(processor.tokenizer) == model.config.text_config.vocab_size


def test_alignment_leaves_the_tower_alone_up_to_its_scale(folder):
    seen = torch.load(folder / "vision.pt", weights_only=True)["tower"]
    aligned = torch.load(folder / "align.pt", weights_only=True)["tower"]
    changed = {name for name in seen if not torch.equal(seen[name], aligned[name])}
    assert changed == {"merger.mlp.2.weight", "merger.mlp.2.bias"}


def test_a_second_call_runs_nothing(folder, monkeypatch):
    monkeypatch.setattr(stages, "_side_by_side", lambda left, *rest: left and 1 / 0)
    assert warmstart.run(folder, CONFIG) == folder / "model"


def test_another_configuration_is_refused(folder):
    other = dataclasses.replace(CONFIG, seed=1)
    with refused("tiny.other-configuration"):
        warmstart.run(folder, other)


SLOW = """
import os, time

def train_slow(config, out_dir):
    (out_dir / "pid").write_text(str(os.getpid()))
    time.sleep(600)
"""
START = """
import sys
from slow import train_slow
from spacer_lib.tiny import stages, warmstart

chain = [{"model": train_slow}]
stages.run_chain(sys.argv[1], warmstart.WarmstartConfig(), chain, about={})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the signal is Linux's")
def test_a_killed_warm_start_leaves_no_stage_behind(tmp_path):
    """A stage that ran on would write beside the next run, which has its lock."""
    (tmp_path / "slow.py").write_text(SLOW)
    path = os.pathsep.join([str(tmp_path), str(PROJECT_ROOT)])
    command = [sys.executable, "-c", START, str(tmp_path)]
    started = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path})
    try:
        wait_until((tmp_path / "pid").exists)
    finally:
        started.kill()
        started.wait()
    stage = int((tmp_path / "pid").read_text())
    wait_until(lambda: is_over(stage))


def is_over(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def wait_until(true, seconds=300):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
