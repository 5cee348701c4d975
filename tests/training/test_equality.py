"""The same run on one worker or two, under any launch, killed or not: same numbers.

Rollouts are keyed by their place (``models.sampling``), so every kind of launch learns
from the same ones, and what is left to differ is the order of sums.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import dotted

from spacer_lib.artifacts import PROJECT_ROOT, read_json, read_jsonl
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.checkpoints import complete_checkpoints
from spacer_lib.training.processes.launch import launch
from spacer_lib.training.recipe import dump_config, load_config

needs_cpu_only = pytest.mark.skipif(
    torch.cuda.is_available(), reason="with GPUs, 2 workers are 2 GPUs"
)
BONUS = "rewards/counterfactual/mean"  # where it is switched on
# Most answers are cut off at 96 tokens before they can be right.
BONUS_PAID = {"counterfactual_bonus": 2.0, "max_completion_length": 170}
COMPARED = ("loss", "grad_norm", "reward", "kl", "completions/mean_length", BONUS)


@pytest.fixture
def recipe(mixed):
    """The shipped tiny model on 4 mixed prompts x 4, two updates a generation."""

    def make(**changes):
        values = {
            "data_path": str(mixed),
            "prompts_per_step": 4,
            "num_generations": 4,
            "max_completion_length": 96,  # most maps end by then
            "max_steps": 4,
            "num_iterations": 2,
            "beta": 0.04,
            "save_steps": 2,
            "learning_rate": 1e-4,
            "frozen": None,
        }
        return load_config("tiny", dotted(values | changes))

    return make


def numbers(run, key):
    return np.array([row[key] for row in run.metrics() if key in row], dtype=float)


@needs_cpu_only
@pytest.mark.slow
def test_every_kind_of_launch_computes_the_same(recipe, tmp_path):
    """Prompts of a group computed once, on two workers; and apart, on one and two."""
    kinds = {
        "one": {"gpus": 1, "shared_prefix": "off"},
        "ddp": {"gpus": 2, "zero_stage": 0},
        "zero2": {"gpus": 2, "zero_stage": 2},
        "zero3": {"gpus": 2, "zero_stage": 3, "shared_prefix": "on"},
        "zero3 apart": {"gpus": 2, "zero_stage": 3, "shared_prefix": "off"},
    }
    runs = {
        name: launch(recipe(**change), tmp_path / name)
        for name, change in kinds.items()
    }
    worlds = {name: read_json(run.out_dir / "run.json") for name, run in runs.items()}
    assert [worlds[name]["workers"] for name in kinds] == [1, 2, 2, 2, 2]
    tokens = {name: numbers(run, "tokens/computed") for name, run in runs.items()}
    for name in ("ddp", "zero2", "zero3"):
        assert (tokens[name] < tokens["one"] / 1.5).all(), name
        np.testing.assert_array_equal(tokens[name], tokens["zero3"])
    for name, run in runs.items():
        # Old and new scores of the first pass are the same numbers, to the last bit.
        change = numbers(run, "logp_change/max")
        assert (change[::2] == 0).all() and (change[1::2] > 0).all(), name
        for key in COMPARED:
            ours, theirs = numbers(runs["one"], key), numbers(run, key)
            np.testing.assert_allclose(
                theirs, ours, rtol=2e-3, atol=2e-6, err_msg=f"{name} {key}"
            )
        assert numbers(run, "grad_norm").min() > 1e-3  # something was learnt from


def test_exchanged_media_of_a_mixed_batch_are_noticed(recipe, tmp_path):
    """Negative control of the invariant, for each kind of row."""
    config = recipe()
    trainer = build_trainer(config, tmp_path)
    batch = trainer.roll_out([0, 1, 2, 3])  # video, picture, video, text
    _, own = trainer.score(batch)
    assert trainer._metrics["train"]["logp_change/max"] == [0.0]
    media = batch["media"]
    _, other = trainer.score(
        batch, [*media[8:12], *media[4:8], *media[:4], *media[12:]]
    )
    moved = (own - other).abs().view(4, -1).amax(dim=1)
    assert (moved[[0, 2]] > 1e-4).all() and (moved[[1, 3]] == 0).all()
    picture = {**media[4], "pixel_values": -media[4]["pixel_values"]}
    _, other = trainer.score(batch, [*media[:4], *[picture] * 4, *media[8:]])
    moved = (own - other).abs().view(4, -1).amax(dim=1)
    assert moved[1] > 1e-4 and (moved[[0, 2, 3]] == 0).all()


def kill_at(config, out_dir, step):
    """Start a run in a process of its own and kill it, and all it started, hard."""
    path = out_dir.with_suffix(".yaml")
    path.write_text(dump_config(config))
    command = [
        sys.executable,
        "-m",
        "spacer_lib",
        "train",
        "--config",
        str(path),
        "--out",
        str(out_dir),
    ]
    process = subprocess.Popen(
        command, cwd=PROJECT_ROOT, start_new_session=True, stdout=subprocess.DEVNULL
    )
    metrics = out_dir / "metrics.jsonl"
    try:
        while (
            not metrics.exists()
            or len(read_jsonl(metrics)) < step
            # A step's line is written before its checkpoint is.
            or not complete_checkpoints(out_dir / "checkpoints")
        ):
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@needs_cpu_only
@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"per_device_batch": 8},  # gradient accumulation 2
        {"lora.rank": 4, **BONUS_PAID},
        {"gpus": 2, "per_device_batch": 4, "lora.rank": 4},
    ],
    ids=["accumulation", "lora-counterfactual", "zero2-accumulation-lora"],
)
def test_killed_and_resumed_is_the_run_that_went_through(recipe, tmp_path, change):
    config = recipe(max_steps=8, **change)  # 12 rows: step 7 begins the second epoch
    straight = launch(config, tmp_path / "straight")
    step = random.SystemRandom().randint(2, 7)
    kill_at(config, tmp_path / "killed", step)
    resumed = launch(config, tmp_path / "killed", resume=True)
    log = (resumed.out_dir / "train.log").read_text()
    assert "resuming from checkpoint-" in log
    assert (numbers(straight, BONUS) > 0).any() == ("counterfactual_bonus" in change)
    # One process repeats itself to the last bit; two may add their sums in either
    # order.
    loose = config.gpus > 1
    within = {"rtol": 1e-3 * loose, "atol": 1e-6 * loose}
    for key in COMPARED:
        ours, theirs = numbers(straight, key), numbers(resumed, key)
        np.testing.assert_allclose(
            theirs, ours, **within, err_msg=f"killed at {step}: {key}"
        )
    ours, theirs = (
        load_file(run.model_dir / "model.safetensors") for run in (straight, resumed)
    )
    for name in ours:
        torch.testing.assert_close(theirs[name], ours[name], **within)


@needs_cpu_only
@pytest.mark.slow
def test_one_worker_goes_on_where_two_were_stopped(recipe, tmp_path):
    """The rows and rollouts of each step are those of two workers all along."""
    changes = {"rollouts_per_step": 16, "zero_stage": 0}
    two = launch(recipe(gpus=2, **changes), tmp_path / "two")
    moved = tmp_path / "moved"
    shutil.copytree(two.out_dir, moved)  # as if it had been stopped after step 2
    shutil.rmtree(moved / "checkpoints" / "checkpoint-4")
    (moved / "run.json").unlink()
    one = launch(recipe(gpus=1, **changes), moved, resume=True)
    assert (one.workers, one.steps) == (1, 4)
    assert "resuming from checkpoint-2" in (moved / "train.log").read_text()
    assert [row["step"] for row in one.metrics()] == [1, 2, 3, 4]
    ours, theirs = (
        [(row["step"], row["id"], row["completion"]) for row in run.rollouts()]
        for run in (two, one)
    )
    assert ours == theirs and {step for step, *_ in ours} == {1, 3}
    for key in COMPARED:
        np.testing.assert_allclose(
            numbers(one, key), numbers(two, key), rtol=2e-3, atol=2e-6, err_msg=key
        )


@needs_cpu_only
@pytest.mark.slow
def test_a_group_on_two_workers_earns_the_bonus_of_one(recipe, tmp_path):
    """Of three groups the second lies on both, and so does its control."""
    shape = {"prompts_per_step": 3, "rollouts_per_step": 12, "max_steps": 2}
    changes = shape | BONUS_PAID | {"num_iterations": 1, "zero_stage": 0}
    paid = []
    for workers in (1, 2):
        run = launch(recipe(gpus=workers, **changes), tmp_path / str(workers))
        paid.append([(row["completion"], row["rewards"]) for row in run.rollouts()])
    assert paid[0] == paid[1]
    bonuses = [rewards["counterfactual"] for _, rewards in paid[0]]
    assert len({*bonuses} - {None}) > 1  # something was paid, and not to all alike
