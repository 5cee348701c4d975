"""What a machine can run, and the stages of the rehearsal at sizes of a CPU."""

import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from packaging.specifiers import SpecifierSet
from support import refused

from spacer_lib import cli
from spacer_lib.artifacts import PROJECT_ROOT, read_json
from spacer_lib.models.checkpoints import load_checkpoint
from spacer_lib.rehearsal import machine, parts, readings, runs
from spacer_lib.rehearsal.machine import (
    gpu_facts,
    package_facts,
    recipe_line,
    recipe_table,
    tool_facts,
    versions,
)
from spacer_lib.rehearsal.readings import Readings
from spacer_lib.rehearsal.stages import STAGES, rehearse
from spacer_lib.training.data import training_rows
from spacer_lib.training.needs import H100, L4
from spacer_lib.training.recipe import load_config

QUICK = ("env", "attention", "step", "decode", "evaluate")  # device: below


def missing(facts):
    return {one.name: one for one in facts if not one.good}


# ---------------------------------------------------------------- the rehearsal


@pytest.mark.parametrize("stage", QUICK)
def test_a_stage_runs_alone_and_says_what_gave_its_readings(stage, tmp_path, capsys):
    words = ["doctor", "--rehearse", stage, "--small", "--out", str(tmp_path)]
    assert cli.main([*words, "--json", str(tmp_path / "end.json")]) == 0
    found = read_json(tmp_path / f"{stage}.json")
    assert found["failed"] == [] == read_json(tmp_path / "end.json")["failed"]
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    assert (found["stage"], found["device"], found["small"]) == (stage, name, True)
    assert any("predicted" in one for one in found["readings"]) or stage == "step"
    numbers = [
        value
        for one in found["readings"]
        for value in one.values()
        if isinstance(value, float)
    ]
    assert numbers and all(map(math.isfinite, numbers))
    said = capsys.readouterr().out
    assert all(one["name"] in said for one in found["readings"])


def test_each_stage_is_a_function_that_says_what_it_settles():
    for stage, (module, words) in STAGES.items():
        __import__(f"spacer_lib.rehearsal.{module}")
        function = getattr(sys.modules[f"spacer_lib.rehearsal.{module}"], stage)
        assert function.__doc__ and words
    with refused("rehearsal.unknown-stage", says="attention"):
        rehearse("atention", "nowhere", print)


def test_devices_differ_by_rounding_alone(tmp_path):
    rehearse("device", tmp_path, lambda line: None, small=True)
    found = {
        one["name"]: one for one in read_json(tmp_path / "device.json")["readings"]
    }
    assert found["sampler"]["infinite"] == 0
    exact = [one for name, one in found.items() if "float32" in name]
    assert len(exact) == 6 and max(one["score_gap"] for one in exact) < 1e-4
    assert max(one["gradient_gap"] for one in exact) < 1e-4
    rounded = [one for name, one in found.items() if "bfloat16" in name]
    assert all(1e-4 < one["score_gap"] < 0.5 for one in rounded)


def test_a_sampler_with_infinite_noise_is_seen(tmp_path, monkeypatch):
    noise = torch.zeros(8, parts.VOCABULARY)
    noise[3, 7] = torch.inf
    monkeypatch.setattr(parts, "gumbel_noise", lambda *_: noise)
    found = Readings("device", tmp_path, lambda line: None, small=True)
    parts._sampler(found)
    assert found.found[0]["infinite"] == 4  # one row at each of four positions


def test_attention_that_sees_other_branches_is_far_from_dense(tmp_path, monkeypatch):
    rehearse("attention", tmp_path, lambda line: None, small=True)
    (right,) = read_json(tmp_path / "attention.json")["readings"]
    assert right["gap_to_dense"] < 1e-5 and any("flash" in k for k in right["kernels"])

    def causal(module, query, key, value, mask, **options):
        groups = module.num_key_value_groups
        key, value = (one.repeat_interleave(groups, dim=1) for one in (key, value))
        attend = torch.nn.functional.scaled_dot_product_attention
        return attend(query, key, value, is_causal=True).transpose(1, 2), None

    monkeypatch.setitem(parts.ALL_ATTENTION_FUNCTIONS, "spacer_branches", causal)
    rehearse("attention", tmp_path, lambda line: None, small=True)
    (wrong,) = read_json(tmp_path / "attention.json")["readings"]
    assert wrong["gap_to_dense"] > 0.05


def test_a_part_that_fails_costs_no_other_and_ends_in_one_line(
    tmp_path, monkeypatch, capsys
):
    def broken(self):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Readings, "matrix_rate", broken)
    words = ["doctor", "--rehearse", "env", "--small", "--out", str(tmp_path)]
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "1 failed: matrix rate" in line
    found = read_json(tmp_path / "env.json")
    assert found["failed"] == ["matrix rate"]
    names = [one["name"] for one in found["readings"]]
    assert names[-2:] == ["matrix rate", "copy"]
    assert "out of memory" in found["readings"][-2]["error"]
    monkeypatch.setattr(readings, "STAGE_S", 0)
    late = rehearse("env", tmp_path, lambda line: None, small=True)
    assert late["failed"] == ["matrix rate", "copy"]


# ---------------------------------------------------------------- its runs


def test_rows_of_moving_boxes_can_be_trained_on(tmp_path):
    data = runs.moving_boxes(tmp_path, 4)
    config = load_config("tiny", [f"data_path={data}", "prompts_per_step=4"])
    assert training_rows(config).report["kept"] == 4


def test_a_random_checkpoint_loads_as_a_published_one_does(tmp_path):
    runs.random_checkpoint("tiny", tmp_path, torch.device("cpu"))
    model, processor = load_checkpoint(tmp_path)
    assert model.config.video_token_id == processor.tokenizer.convert_tokens_to_ids(
        "<|video_pad|>"
    )


@pytest.mark.slow
def test_a_run_through_the_launcher_is_read(tmp_path):
    found = Readings("train", tmp_path, lambda line: None, small=True)
    data = runs.moving_boxes(tmp_path, 4)
    runs.train_run(found, "fp32", data, {"max_steps": 1})
    runs.train_run(found, "refused", data, {"num_generations": 1})
    good, bad = read_json(tmp_path / "train.json")["readings"]
    assert len(good["steps"]) == 1 and good["steps"][0]["seconds/step"] > 0
    assert good["steps"][0]["reward"] > 0 and good["steps"][0]["grad_norm"] > 0
    assert "num_generations" in bad["error"] and found.failed() == ["refused"]


def test_no_renderer_is_needed():
    code = (
        "import sys\n"
        "for name in 'open3d alphashape rtree plyfile shapely matplotlib'.split():\n"
        "    sys.modules[name] = None\n"
        "import spacer_lib.rehearsal.doctor, spacer_lib.rehearsal.parts\n"
        "import spacer_lib.rehearsal.models, spacer_lib.rehearsal.runs\n"
        "spacer_lib.rehearsal.parts.bench()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_ROOT)


# ---------------------------------------------------------------- the machine


def test_versions_are_held_against_bounds_and_tested_ones(monkeypatch):
    found = {one.name: one for one in versions()}
    assert found["torch"].fits and found["torch"].tested
    assert found["torch"].installed == torch.__version__
    bounds = {"torch": SpecifierSet(">=99"), "trl": SpecifierSet("<0.5")}
    monkeypatch.setattr(machine, "_bounds", lambda: (bounds, ">=3.99", {}))
    monkeypatch.setattr(machine, "PACKAGES", ("torch", "trl", "peft", "no-such-thing"))
    faults = missing(package_facts())
    assert set(faults) == {"python", "torch", "trl", "no-such-thing"}
    assert "pip install 'torch>=99'" in faults["torch"].line()
    assert "not installed" in faults["no-such-thing"].line()


def test_tools_that_are_missing_or_do_not_fit_say_what_to_do(tmp_path, monkeypatch):
    assert "c++" not in missing(tool_facts())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.delenv("CXX", raising=False)
    faults = missing(tool_facts())
    assert {"c++", "nvcc", "ffmpeg"} <= set(faults)
    assert "apt-get install ffmpeg" in faults["ffmpeg"].line()
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 11.8, V11.8'\n")
    nvcc.chmod(0o755)
    assert "12.8" in missing(tool_facts())["nvcc"].line()
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.4, V12.4'\n")
    assert "nvcc" not in missing(tool_facts())


def test_gpus_are_named_with_memory_and_capability(monkeypatch):
    cards = [
        SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30, major=9, minor=0),
        SimpleNamespace(name="Tesla T4", total_memory=15 * 2**30, major=7, minor=5),
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_device_properties", cards.__getitem__)
    first, second, *_ = gpu_facts()
    assert first.good and "80 GiB, compute capability 9.0" in first.found
    assert not second.good and "bf16" in second.line()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "GPU" in missing(gpu_facts())


def test_recipes_say_their_seconds_and_what_stops_them(tmp_path, monkeypatch):
    def table(gpus, free, rates=H100):
        monkeypatch.setattr(machine, "free_bytes", lambda _: free)
        rows = recipe_table(rates, gpus, tmp_path)
        return {row["recipe"]: row for row in rows}

    here = table(0, 1e12)
    assert here["tiny"]["obstacle"] is None
    assert here["spacer_7b"]["obstacle"] == "8 GPUs wanted, 0 here"
    assert here["spacer_7b"]["seconds"][0] == pytest.approx(28, abs=1)
    full = table(8, 300e9)["spacer_7b"]
    assert full["obstacle"] == "disk: 348 GB needed" and "348" in recipe_line(full)
    assert table(8, 400e9)["spacer_7b"]["obstacle"] is None
    small = table(8, 400e9, L4)
    assert small["spacer_7b"]["obstacle"] == "GPU memory: 33 GiB predicted"
    assert small["spacer_3b_lora"]["obstacle"] is None


def test_the_command_says_all_of_it(tmp_path, capsys):
    assert cli.main(["doctor", "--json", str(tmp_path / "doctor.json")]) == 0
    said, found = capsys.readouterr().out, read_json(tmp_path / "doctor.json")
    names = {one["name"] for one in found["facts"]}
    assert {"torch", "ffmpeg", "CPU cores", "disk of runs"} <= names
    assert set(found["missing"]) <= names
    assert all(f"{one['name']}:" in said for one in found["facts"])
    assert "spacer_7b " in said and len(found["recipes"]) > 20
