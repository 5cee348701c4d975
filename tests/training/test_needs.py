"""What a run needs: bytes as they are written, refusals, hours by phase."""

import shutil
from collections import namedtuple

import pytest
from support import refused

from spacer_lib import cli
from spacer_lib.models.shapes import sizes_of
from spacer_lib.training import needs as needing
from spacer_lib.training.needs import require_disk, run_needs, step_seconds
from spacer_lib.training.processes import launch as launching
from spacer_lib.training.processes.launch import launch
from spacer_lib.training.recipe import load_config

ROWS = 151_000  # of SpaceR-151k
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def disk(monkeypatch):
    """``disk(free)`` pretends a disk with so many free bytes."""

    def pretend(free):
        usage = Usage(1e15, 0, free)
        monkeypatch.setattr(needing.shutil, "disk_usage", lambda path: usage)

    return pretend


def of_recipe(name, *changes, workers=8):
    return run_needs(load_config(name, list(changes)), workers, rows=ROWS)


def bytes_in(folder, *names):
    found = [p for name in names for p in folder.rglob(name) if p.is_file()]
    return sum(path.stat().st_size for path in found)


# ---------------------------------------------------------------- bytes


def test_parameters_are_those_of_the_published_models():
    """8.29 billion with the tower, as the files on the hub have them."""
    sizes = sizes_of("Qwen/Qwen2.5-VL-7B-Instruct")
    assert sizes.all == 8_292_166_656 and sizes.head == 3584 * 152_064
    assert (sizes.depth, sizes.pixels, sizes.frames) == (28, 28, 2)
    assert sizes_of("Qwen/Qwen2.5-VL-3B-Instruct").all == 3_754_622_976
    assert sizes_of("nobody/unknown") is None


def test_a_checkpoint_of_7b_is_116_gb_and_three_are_there_at_once():
    found = of_recipe("spacer_7b")
    assert found.optimizer == pytest.approx(99.5e9, rel=1e-3)
    assert found.weights == found.model == pytest.approx(16.6e9, rel=1e-2)
    assert (found.at_once, found.disk) == (3, pytest.approx(348e9, rel=1e-2))
    assert "116.1 GB" in found.disk_line() and "348.3 GB" in found.disk_line()
    one = of_recipe("spacer_7b", "advanced.keep_checkpoints=1", "max_steps=50")
    assert one.at_once == 1  # the only one is that of the last step
    assert one.disk == pytest.approx(one.checkpoint + one.model)
    adapter = of_recipe("spacer_7b", "lora.rank=16")
    assert adapter.checkpoint < 1e9 and adapter.model > 16e9


def test_offloaded_state_lies_in_cpu_memory():
    found = of_recipe("spacer_3b", "advanced.offload=optimizer", workers=1)
    assert found.cpu_memory == pytest.approx(45e9, rel=1e-2)
    assert "CPU memory" in "\n".join(found.lines())
    assert "CPU memory" not in "\n".join(of_recipe("spacer_3b").lines())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"lora.rank": 4}, marks=pytest.mark.slow),
        pytest.param({"zero_stage": 2}, marks=pytest.mark.slow),
    ],
)
def test_bytes_are_those_that_a_run_writes(small, tmp_path, changes):
    config = small(max_steps=1, save_steps=1, **changes)
    launch(config, tmp_path / "run")
    (written,) = (tmp_path / "run" / "checkpoints").glob("checkpoint-*")
    found = run_needs(config, 1)
    state = bytes_in(written, "optimizer.pt", "*optim_states.pt")
    weights = bytes_in(written, "*.safetensors", "*model_states.pt")
    model = bytes_in(tmp_path / "run" / "model", "*.safetensors")
    # Files have headers too, which count in a model this small.
    assert found.optimizer <= state <= found.optimizer * 1.1 + 60_000
    assert found.weights <= weights <= found.weights * 1.1 + 60_000
    assert found.model <= model <= found.model * 1.1 + 60_000


# ---------------------------------------------------------------- refusals


def test_a_disk_that_is_too_small_is_one_error_before_anything_starts(
    small, tmp_path, disk, monkeypatch, capsys
):
    monkeypatch.setattr(launching, "_run", lambda *_: pytest.fail("started"))
    config, lines = small(max_steps=9, save_steps=1), []
    wanted = run_needs(config, 1).disk
    disk(wanted - 1)
    with refused("training.disk-too-small", says="keep_checkpoints=1"):
        launch(config, tmp_path / "run", on_line=lines.append)
    assert not (tmp_path / "run").exists() and "disk: a checkpoint" in lines[1]
    # The measured run is short and writes one checkpoint; the whole run writes three.
    changes = ["save_steps=1", "max_steps=9"]
    disk(run_needs(load_config("tiny", changes), 1).checkpoint * 2.5)
    out = ["--out", str(tmp_path / "x")]
    assert cli.main(["train", "--estimate", "--set", *changes, *out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "3 checkpoints of" in line and "free" in line
    disk(run_needs(config, 1).disk)
    require_disk(run_needs(config, 1), tmp_path / "run")


def test_earlier_checkpoints_of_the_run_count_as_room(disk, tmp_path):
    found = of_recipe("spacer_7b")
    disk(found.disk - 1000)
    with refused("training.disk-too-small", says="348.3 GB"):
        require_disk(found, tmp_path)
    kept = tmp_path / "checkpoints" / "checkpoint-100"
    kept.mkdir(parents=True)
    (kept / "model.safetensors").write_bytes(bytes(1000))
    require_disk(found, tmp_path)


def test_the_disk_is_that_of_the_nearest_folder(tmp_path):
    there = shutil.disk_usage(tmp_path).total
    assert 0 < needing.free_bytes(tmp_path / "a" / "b") <= there


# ---------------------------------------------------------------- hours


def test_hours_of_the_published_run_go_to_decoding():
    found = of_recipe("spacer_7b")
    assert found.steps == 18_875
    assert list(found.seconds) == ["decode", "prefill", "scores", "update", "gathers"]
    low, high = found.seconds["decode"]
    assert low == pytest.approx(1024 * 25e-3) and high == pytest.approx(1024 * 30e-3)
    step, hours = found.step_seconds(), found.hours()
    assert low / step[0] > 0.9 and 140 < hours[0] < hours[1] < 180
    quick = of_recipe("spacer_7b", "advanced.vllm=colocate")
    token = [1000 * s / 1024 for s in quick.seconds["decode"]]
    assert 5.5 < token[0] < token[1] < 7.2  # ms
    assert "days" in "\n".join(found.lines()) and quick.hours()[1] < 60


def test_operations_are_those_that_were_counted():
    """146 TFLOP of reference scores and 526 of an update, at 10,491 positions."""
    sizes = sizes_of("Qwen/Qwen2.5-VL-7B-Instruct")
    # 2,300 tokens: as many pixels as make 2,200 of them video.
    pixels = 2200 // 8 * 28 * 28
    config = load_config("spacer_7b", [f"max_pixels={pixels}"])
    assert needing.video_tokens(config, sizes) == 2200
    rates = needing.Rates(matrix=1e12, share=1.0)
    found = step_seconds(config, 8, sizes, rates)
    tower = 2 * 4 * 2200 * sizes.tower / 1e12  # was left out of the count
    assert found["scores"][0] - tower == pytest.approx(146, rel=0.02)
    assert found["update"][0] - 4 * tower == pytest.approx(526, rel=0.1)


def test_unknown_sizes_are_said_to_be_unknown(tmp_path):
    config = load_config("spacer_7b", ["max_pixels=null"])
    found = run_needs(config, 8)
    assert found.seconds is None and found.hours() is None and found.disk > 3e11
    unknown = load_config("spacer_7b", ["model_path=nobody/unknown"])
    lines = []
    needing.say_needs(unknown, 8, tmp_path, lines.append)
    assert lines == ["disk: not known before config.json of nobody/unknown is here"]
