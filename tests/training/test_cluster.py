"""Worlds of several processes and nodes: DDP, two launchers, and how they end."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from support import nested, refused
from transformers import TrainerControl, TrainerState

from spacer_lib import cli
from spacer_lib.artifacts import PROJECT_ROOT, read_json, read_jsonl, write_json
from spacer_lib.training.processes import failures
from spacer_lib.training.processes import launch as launching
from spacer_lib.training.processes.launch import launch, resolve_workers
from spacer_lib.training.processes.plan import (
    RunPlan,
    accelerate_settings,
    deepspeed_settings,
    extensions_of,
    node_name,
    read_plan,
    worker_environment,
)
from spacer_lib.training.processes.worker import CleanStop, check_world
from spacer_lib.training.recipe import config_from_dict, dump_config

cpu_only = pytest.mark.skipif(
    torch.cuda.is_available(), reason="with GPUs, each worker takes one"
)


def make(**values):
    return config_from_dict(nested(values))


# ---------------------------------------------------------------- who gets what


@pytest.mark.parametrize(
    ("found", "gpus", "nodes", "workers"),
    [(0, 1, 2, 2), (0, 8, 2, 2), (0, 8, 3, 3), (8, 8, 2, 16), (8, 4, 3, 12)],
)
def test_workers_are_counted_over_nodes(monkeypatch, found, gpus, nodes, workers):
    monkeypatch.setattr(launching, "count_gpus", lambda: found)
    got = resolve_workers(make(gpus=gpus, nodes=nodes))
    assert got[0] == workers and f"on each of {nodes} nodes" in got[2]
    assert ("NO GPU HERE" in got[2]) == (gpus > workers // nodes)


def test_a_large_recipe_refuses_a_machine_without_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(launching, "count_gpus", lambda: 0)
    config = make(recipe="spacer_7b", gpus=8, needs_gpu=True)
    with refused("training.no-gpu", says="spacer_7b"):
        resolve_workers(config)
    with refused("training.no-gpu", says="spacer_7b"):
        launch(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(launching, "count_gpus", lambda: 8)
    assert resolve_workers(config) == (8, "cuda", "8 of 8 GPUs")


@pytest.mark.parametrize(
    ("nodes", "rank", "ip", "kind", "fact"),
    [
        (2, 0, None, "no-address", "nodes = 2"),
        (2, 1, "", "no-address", "nodes = 2"),
        (2, 2, "10.0.0.1", "node-rank", "0 to 1"),
        (1, 1, None, "node-rank", "0 to 0"),
        (2, -1, "10.0.0.1", "node-rank", "-1"),
    ],
)
def test_a_node_must_know_its_place(small, tmp_path, nodes, rank, ip, kind, fact):
    with refused(f"training.{kind}", says=fact):
        launch(small(nodes=nodes), tmp_path / "run", node_rank=rank, main_process_ip=ip)
    assert not (tmp_path / "run").exists()


def test_vllm_is_looked_for_before_anything_starts(monkeypatch, small, tmp_path):
    monkeypatch.setattr(launching, "count_gpus", lambda: 0)
    found = {"vllm": None}
    monkeypatch.setattr(launching.importlib.util, "find_spec", found.get)
    with refused("training.no-vllm"):
        launch(small(vllm="server"), tmp_path / "run")
    found["vllm"] = object()
    with refused("training.vllm-without-gpu"):
        launch(small(vllm="colocate"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- what is written


def a_run(workers=2, nodes=1, on_cpu=True, stage=0, **config):
    config = make(nodes=nodes, zero_stage=stage, **config)
    return RunPlan(config, Path("/run"), workers, on_cpu)


@pytest.mark.parametrize(
    ("run", "kind", "precision"),
    [
        (a_run(), "MULTI_GPU", "no"),
        (a_run(workers=1), "NO", "no"),
        (a_run(on_cpu=False, bf16=True), "MULTI_GPU", "bf16"),
    ],
)
def test_without_deepspeed_accelerate_starts_every_process(run, kind, precision):
    settings = accelerate_settings(run, 0, ("127.0.0.1", 29500))
    assert settings["distributed_type"] == kind  # MULTI_CPU would start only one
    assert settings["mixed_precision"] == precision
    assert settings["num_processes"] == run.workers


def test_each_node_has_a_file_of_its_own():
    run = a_run(workers=16, nodes=2, on_cpu=False, stage=3)
    for rank, name in enumerate(["accelerate.yaml", "accelerate.node1.yaml"]):
        assert node_name("accelerate.yaml", rank) == name
        settings = accelerate_settings(run, rank, ("10.0.0.1", 29500))
        assert settings["machine_rank"] == rank
        assert settings["num_machines"] == 2 and settings["num_processes"] == 16
        assert settings["main_process_ip"] == "10.0.0.1"
        # accelerate's default would log in on the other nodes by ssh.
        deepspeed = settings["deepspeed_config"]
        assert deepspeed["deepspeed_multinode_launcher"] == "standard"


def test_a_plan_survives_its_file(tmp_path):
    plan = a_run(workers=4, nodes=2, on_cpu=False, stage=3, refill=2)
    write_json(tmp_path / "run_config.json", plan.record())
    assert read_plan(tmp_path / "run_config.json") == plan
    assert plan.record()["zero_stage"] == 3 and plan.record()["nodes"] == 2


@pytest.mark.parametrize("on_cpu", [True, False])
def test_offload_settings(on_cpu):
    where = {"device": "cpu", "pin_memory": not on_cpu}
    zero = deepspeed_settings(2, on_cpu, "optimizer")["zero_optimization"]
    assert zero["offload_optimizer"] == where and "offload_param" not in zero
    zero = deepspeed_settings(3, on_cpu, "all")["zero_optimization"]
    assert zero["offload_optimizer"] == zero["offload_param"] == where
    zero = deepspeed_settings(3, on_cpu)["zero_optimization"]
    assert not any(key.startswith("offload") for key in zero)
    run = a_run(workers=1, on_cpu=on_cpu, stage=2, offload="optimizer")
    assert extensions_of(run) == ["cpu_adam"]


def test_workers_keep_what_the_user_set_for_the_network(monkeypatch):
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("PMI_SIZE", "16")
    monkeypatch.setenv("LOCAL_RANK", "3")
    got = worker_environment(a_run(), os.environ)
    assert got["NCCL_SOCKET_IFNAME"] == "ib0" and got["GLOO_SOCKET_IFNAME"] == "eth0"
    assert not {"ACCELERATE_USE_CPU", "PMI_SIZE", "LOCAL_RANK"} & set(got)


@pytest.mark.parametrize(
    ("visible", "workers", "nodes", "seen"),
    [
        ("5,3,1", 1, 1, "5"),
        ("5,3,1", 4, 2, "5,3"),
        (None, 1, 1, "0"),
        (None, 16, 2, "0,1,2,3,4,5,6,7"),
        ("GPU-a,GPU-b", 1, 1, "GPU-a"),
    ],
)
def test_workers_see_the_gpus_they_use_and_no_more(
    monkeypatch, visible, workers, nodes, seen
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    got = worker_environment(a_run(workers, nodes, on_cpu=False), os.environ)
    assert got["CUDA_VISIBLE_DEVICES"] == seen


def test_gpu_workers_grow_their_memory_in_segments():
    def seen(outer=None, vllm=None, **changes):
        run = a_run(**changes)
        advanced = dataclasses.replace(run.config.advanced, vllm=vllm)
        run = dataclasses.replace(
            run, config=dataclasses.replace(run.config, advanced=advanced)
        )
        return worker_environment(run, outer or {}).get("PYTORCH_ALLOC_CONF")

    assert seen(on_cpu=False) == seen(on_cpu=False, vllm="server")
    assert seen(on_cpu=False) == "expandable_segments:True"
    assert seen(on_cpu=False, vllm="colocate") is seen(on_cpu=True) is None
    assert seen({"PYTORCH_ALLOC_CONF": "own"}, on_cpu=False) == "own"


@pytest.mark.parametrize(
    ("run", "count", "kind"),
    [
        (a_run(1), 1, "NO"),
        (a_run(2), 2, "MULTI_CPU"),
        (a_run(2, on_cpu=False), 2, "MULTI_GPU"),
        (a_run(2, stage=2), 2, "DEEPSPEED"),
        (a_run(1, stage=3), 1, "DEEPSPEED"),
    ],
)
def test_workers_check_the_world(run, count, kind):
    kinds = [DistributedType(name) for name in ("NO", "MULTI_CPU", "DEEPSPEED")]
    right = SimpleNamespace(num_processes=count, distributed_type=DistributedType(kind))
    check_world(right, run)
    for other in {*kinds} - {right.distributed_type}:
        wrong = SimpleNamespace(num_processes=count, distributed_type=other)
        with refused("training.other-world", says=f"{count} of kind {kind}"):
            check_world(wrong, run)
    alone = SimpleNamespace(
        num_processes=count + 1, distributed_type=right.distributed_type
    )
    with refused("training.other-world"):
        check_world(alone, run)


# ---------------------------------------------------------------- causes


def test_the_first_note_is_the_cause_unless_a_worker_was_killed(tmp_path):
    assert failures.find_cause(tmp_path, "") is None
    failures.clear_failures(tmp_path)
    failures.note_failure(tmp_path, "ValueError: reward\nexploded (rank 1)")
    failures.note_failure(tmp_path, "RuntimeError: Connection closed (rank 0)")
    assert failures.find_cause(tmp_path, "") == "ValueError: reward exploded (rank 1)"
    summary = "  traceback : Signal 9 (SIGKILL) received by PID 7"
    killed = failures.find_cause(tmp_path, summary)
    assert killed == "worker killed by signal 9 (out of memory?)"
    # The agent itself kills what does not end: then the note stands.
    late = "Unable to shutdown process 7, forcefully exiting via SIGKILL\n" + summary
    assert failures.find_cause(tmp_path, late).startswith("ValueError")
    failures.note_failure(tmp_path, f"{killed} (node 1)")
    assert failures.find_cause(tmp_path, "") == f"{killed} (node 1)"
    assert failures.killed_by("process died with <Signals.SIGSEGV: 11>.").endswith("11")
    assert failures.killed_by("Signal 15 (SIGTERM) received by PID 7") is None


@pytest.mark.parametrize("how", ["signal", "file"])
def test_a_clean_stop_waits_for_the_last_use_of_rollouts(how, tmp_path):
    class Alone:
        device = "cpu"

        def reduce(self, flag, reduction):
            return flag

    before = signal.getsignal(signal.SIGTERM)
    stop = CleanStop(Alone(), tmp_path, num_iterations=3)
    signal.signal(signal.SIGTERM, before)
    control = TrainerControl()
    stop.on_step_end(None, TrainerState(global_step=3), control)
    assert not control.should_training_stop
    if how == "signal":
        stop.asked = True
    else:
        (tmp_path / "stop").touch()
    stopped = []
    for step in (4, 5, 6):
        control = TrainerControl()
        stop.on_step_end(None, TrainerState(global_step=step), control)
        stopped.append((control.should_save, control.should_training_stop))
    assert stopped == [(False, False), (False, False), (True, True)]


# ---------------------------------------------------------------- commands


def test_the_command_line_hands_the_node_on(monkeypatch, tmp_path):
    seen = {}

    def launch(config, out, **options):
        seen.update(nodes=config.advanced.nodes, **options)
        return SimpleNamespace(model_dir="model", steps=3, seconds=1.0)

    monkeypatch.setattr("spacer_lib.training.processes.launch.launch", launch)
    arguments = [
        "train",
        "--nodes",
        "2",
        "--node-rank",
        "1",
        "--main-process-ip",
        "10.0.0.1",
        "--set",
        "gpus=8",
        "--out",
        str(tmp_path),
    ]
    assert cli.main(arguments) == 0
    assert (seen["nodes"], seen["node_rank"]) == (2, 1)
    assert seen["main_process_ip"] == "10.0.0.1"
    assert seen["main_process_port"] is None


def test_the_slurm_example_is_sound():
    path = PROJECT_ROOT / "scripts" / "train_slurm.sbatch"
    subprocess.run(["bash", "-n", str(path)], check=True)
    text = path.read_text()
    assert "--ntasks-per-node=1" in text and "SLURM_NODEID" in text


# ---------------------------------------------------------------- real processes


CHILD = """
import json, sys
from spacer_lib.training.processes import launch as launching
from spacer_lib.training.recipe import load_config
recipe, out_dir, options = sys.argv[1:]
result = launching.launch(load_config(recipe), out_dir, **json.loads(options))
print(json.dumps([result.steps, result.workers, str(result.model_dir)]))
"""


class Node:
    """One launching process of a run over several nodes."""

    def __init__(self, config, out_dir, rank, port, **options):
        self.rank, self.out_dir = rank, out_dir
        recipe = out_dir.with_name(f"recipe{rank}.yaml")
        recipe.write_text(dump_config(config))
        options |= {
            "node_rank": rank,
            "main_process_ip": "127.0.0.1",
            "main_process_port": port,
        }
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                CHILD,
                str(recipe),
                str(out_dir),
                json.dumps(options),
            ],
            cwd=PROJECT_ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, seconds):
        """(exit status, last line of output, last line of errors)."""
        try:
            out, error = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            launching.stop_tree(self.process, grace_s=1)
            raise
        last = [(text.strip().splitlines() or [""])[-1] for text in (out, error)]
        return self.process.returncode, *last

    def log(self):
        path = self.out_dir / node_name("train.log", self.rank)
        return path.read_text() if path.exists() else ""


def two_nodes(config, out_dir, other=None, **options):
    port = launching.free_port()
    return [
        Node(config, out_dir, 0, port, **options),
        Node(other or config, out_dir, 1, port, **options),
    ]


def wait_for_step(nodes, step, seconds=120):
    path, end = nodes[0].out_dir / "metrics.jsonl", time.monotonic() + seconds
    while not path.exists() or path.read_text().count("\n") < step:
        assert all(node.process.poll() is None for node in nodes), "ended early"
        assert time.monotonic() < end, "no progress"
        time.sleep(0.05)


def ranks_of(process):
    """Worker processes below a launching process."""
    family = psutil.Process(process.pid).children(recursive=True)
    return [p for p in family if "RANK" in p.environ()]


@pytest.mark.slow
@cpu_only
def test_two_launchers_train_one_model(small, tmp_path):
    """Two nodes of one CPU worker, ZeRO-2: same world, one model; then resumed."""
    config = small(nodes=2, max_steps=2)
    out_dir = tmp_path / "run"
    out_dir.mkdir()
    write_json(out_dir / "run_config.json", {"old": True})
    results = [node.end(300) for node in two_nodes(config, out_dir)]
    expected = json.dumps([2, 2, str(out_dir / "model")])
    assert [result[:2] for result in results] == [(0, expected), (0, expected)]
    run = read_json(out_dir / "run.json")
    assert (run["world_size"], run["nodes"], run["workers"]) == (2, 2, 2)
    assert run["distributed_type"] == "DEEPSPEED" and run["zero_stage"] == 2
    assert (out_dir / "train.node1.log").exists()
    assert read_json(tmp_path / "run.old/run_config.json") == {"old": True}
    steps = [row["step"] for row in read_jsonl(out_dir / "metrics.jsonl")]
    assert steps == [1, 2]

    # Finished but for its result, as after a kill: resuming trains no further step.
    model = load_file(out_dir / "model" / "model.safetensors")
    (out_dir / "run.json").unlink()
    again = [node.end(300) for node in two_nodes(config, out_dir, resume=True)]
    assert [result[:2] for result in again] == [(0, expected), (0, expected)]
    assert "resuming from checkpoint-2" in (out_dir / "train.log").read_text()
    resumed = load_file(out_dir / "model" / "model.safetensors")
    assert all(torch.equal(resumed[name], value) for name, value in model.items())


class Strike:
    """An ``on_line`` that signals one rank after the first step."""

    def __init__(self, rank, number):
        self.rank, self.number, self.at = rank, number, None

    def __call__(self, line):
        if line.startswith("step 1/") and self.at is None:
            ranks = ranks_of(psutil.Process())
            (one,) = [p for p in ranks if p.environ()["RANK"] == str(self.rank)]
            one.send_signal(self.number)
            self.at = time.monotonic()


@pytest.mark.slow
@cpu_only
def test_ddp_starts_both_processes(small, tmp_path):
    lines = []
    config = small(gpus=2, zero_stage=0)
    result = launch(config, tmp_path / "run", on_line=lines.append)
    assert "2 CPU workers, DDP" in lines and result.workers == 2
    run = read_json(tmp_path / "run" / "run.json")
    assert (run["distributed_type"], run["world_size"]) == ("MULTI_CPU", 2)
    assert not (tmp_path / "run" / "deepspeed.json").exists()


@pytest.mark.slow
@cpu_only
def test_a_killed_worker_ends_the_run_and_is_named(small, tmp_path):
    strike = Strike(1, signal.SIGKILL)
    config = small(gpus=2, zero_stage=0, max_steps=400)
    with refused("training.failed", says="killed by signal 9 (out of memory"):
        launch(config, tmp_path / "run", on_line=strike)
    assert time.monotonic() - strike.at < 30
    assert ranks_of(psutil.Process()) == []


# The signal plants the error and the next step meets it. An exception that the
# handler itself raised could fall into a finaliser, where Python drops it.
PLANTED = """
import os, signal, sys
def explode(*values):
    raise ValueError("reward exploded")
def plant(number, frame):
    sys.modules["spacer_lib.training.step"].reward = explode
if os.environ.get("RANK") == "1":
    signal.signal(signal.SIGUSR1, plant)
"""


@pytest.mark.slow
@cpu_only
def test_the_first_error_is_told_while_others_wait(small, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(PLANTED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    strike = Strike(1, signal.SIGUSR1)
    with refused("training.failed", says="ValueError: reward exploded (rank 1"):
        launch(small(gpus=2, max_steps=400), tmp_path / "run", on_line=strike)
    assert time.monotonic() - strike.at < 30


@pytest.mark.slow
@cpu_only
def test_what_happens_on_one_node_ends_both(small, tmp_path):
    nodes = two_nodes(small(nodes=2, max_steps=400), tmp_path / "run")
    wait_for_step(nodes, 1, seconds=300)
    ranks_of(nodes[1].process)[0].kill()
    struck = time.monotonic()
    for node in nodes:
        status, _, error = node.end(60)
        assert status == 1 and "worker killed by signal 9" in error
    assert time.monotonic() - struck < 30


@pytest.mark.slow
@cpu_only
def test_nodes_with_other_settings_do_not_train_together(small, tmp_path):
    config = small(nodes=2, max_steps=400)
    nodes = two_nodes(config, tmp_path / "run", other=small(nodes=2, seed=5))
    errors = [node.end(120)[2] for node in nodes]
    for error in errors:
        assert "got config.max_steps = 2" in error
