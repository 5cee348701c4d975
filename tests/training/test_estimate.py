"""Five steps, and what they say of the whole run."""

import dataclasses

import pytest
from support import refused

from spacer_lib import cli
from spacer_lib.artifacts import PROJECT_ROOT, read_json, write_jsonl
from spacer_lib.training import estimate as estimating
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.baselines import build_sft, sft_responses
from spacer_lib.training.estimate import estimate, extrapolate
from spacer_lib.training.needs import steps_of_run
from spacer_lib.training.processes import launch as launching
from spacer_lib.training.recipe import dump_config


def short_run(**changes):
    """What the ``run.json`` of five steps says, on eight GPUs."""
    return {
        "rows": 1000,
        "workers": 8,
        "on_cpu": False,
        "device": "NVIDIA H200",
        "duration": {"training": 700.0, "checkpoints": [60.0]},
        "peak_memory_gb": [10.0] * 8,
        "peak_gpu_memory_gb": [90.0, 95.5] * 4,
    } | changes


def test_hours_are_steps_checkpoints_and_the_start(small):
    config = small(gpus=8, prompts_per_step=8, max_steps=0, epochs=2.0, save_steps=100)
    found = extrapolate(
        config, short_run(), [300.0, 90.0, 110.0, 100.0, 100.0], 820.0, 2.5
    )
    assert found.steps == 250 and found.checkpoints == 3  # the last one is the end's
    assert found.seconds_per_step == 100.0 and found.start_seconds == 120.0
    assert found.hours == pytest.approx((120 + 250 * 100 + 3 * 60) / 3600)
    assert found.gpu_hours == pytest.approx(8 * found.hours)
    assert found.cost == pytest.approx(2.5 * found.gpu_hours)
    assert (found.peak_memory_gb, found.peak_gpu_memory_gb) == (80.0, 95.5)
    text = "\n".join(found.lines())
    assert "5 steps on 8 x NVIDIA H200" in text and "GPU hours: 56.22, cost" in text
    unpriced = extrapolate(config, short_run(), [300.0, 90.0], 820.0)
    assert unpriced.cost is None and "cost" not in "\n".join(unpriced.lines())


def test_further_passes_over_the_same_rollouts_are_cheaper(small):
    config = small(num_iterations=2, max_steps=1000)
    seconds = [90.0, 1.0, 30.0, 10.0, 30.0, 10.0, 36.0, 10.0, 30.0, 10.0]
    assert extrapolate(config, short_run(), seconds, 800.0).seconds_per_step == 20.0


def test_cpu_workers_say_nothing_of_gpus(small):
    run = short_run(workers=2, on_cpu=True, device="CPU", peak_gpu_memory_gb=[0, 0])
    found = extrapolate(small(gpus=8), run, [2.0], 710.0, gpu_hour_price=2.5)
    assert found.measured_on == "2 CPU workers, not 8 GPUs"
    assert found.gpu_hours is found.cost is None and found.hours > 0
    *_, hours, last = found.lines()
    assert "hours on 2 CPU workers, not 8 GPUs" in hours and "no GPU" in last
    assert found.seconds_per_step == 2.0  # a single step is all there is


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 1.5},
        {"epochs": 2.0, "per_device_batch": 2},
        {"num_iterations": 3},
        {"method": "sft"},
        {"method": "sft", "epochs": 2.5, "per_device_batch": 1},
        {"max_steps": 7},
    ],
)
def test_steps_are_counted_as_the_trainer_does(changes, small, rows, tmp_path):
    """Five rows, two a step."""
    rows = [row for row, _ in sft_responses(rows, small().prompt_style)][:5]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    config = small(
        **{"max_steps": 0, "data_path": str(tmp_path / "rows.jsonl")} | changes
    )
    build = build_sft if config.method == "sft" else build_trainer
    trainer = build(config, tmp_path, rows=rows)
    counted = trainer.set_initial_training_values(
        trainer.args, trainer.get_train_dataloader()
    )
    assert counted[-1] == steps_of_run(config, len(rows))


def test_a_run_over_several_nodes_is_refused(small):
    with refused("training.estimate-on-nodes", says="nodes = 2"):
        estimate(small(nodes=2))


def test_the_command_measures_five_steps_and_leaves_nothing(
    small, tmp_path, capsys, monkeypatch
):
    """The recipe itself has twelve steps, saves often and would report elsewhere."""
    monkeypatch.setattr(estimating, "PROJECT_ROOT", tmp_path)
    config = small(max_steps=12, save_steps=5, trackers=["trackio"])
    recipe = tmp_path / "quick.yaml"
    recipe.write_text(dump_config(dataclasses.replace(config, recipe="quick")))
    arguments = ["train", "--config", str(recipe), "--estimate"]
    out = tmp_path / "estimate.json"
    stale = tmp_path / "runs" / "quick__estimate" / "run_config.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")
    assert cli.main([*arguments, "--gpu-hour-price", "2", "--json", str(out)]) == 0
    shown, found = capsys.readouterr().out, read_json(out)
    assert "step 5/5" in shown and "step 6" not in shown
    assert found["steps_measured"] == 5 and found["steps"] == 12
    assert found["checkpoints"] == 3 and found["checkpoint_seconds"] > 0
    assert found["seconds_per_step"] > 0 and found["start_seconds"] > 1
    spent = found["start_seconds"] + 12 * found["seconds_per_step"]
    spent += 3 * found["checkpoint_seconds"]
    assert found["hours"] == pytest.approx(spent / 3600)
    assert f"whole run: {found['hours']:.2f} hours on {found['measured_on']}" in shown
    if not launching.count_gpus():
        assert found["measured_on"] == "1 CPU worker" and found["gpu_hours"] is None
        assert "no GPU was measured" in shown
    assert list((tmp_path / "runs").iterdir()) == []
    assert not (PROJECT_ROOT / "runs" / "quick__estimate").exists()
