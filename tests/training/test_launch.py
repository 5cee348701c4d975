"""Training in processes of its own, on 1 and 2 workers: start, fail, kill, resume."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.machinery import ModuleSpec
from pathlib import Path

import psutil
import pytest
import torch
from support import refused

from spacer_lib.artifacts import (
    PROJECT_ROOT,
    folder_sizes,
    read_json,
    read_jsonl,
    sole_writer,
    write_json,
    write_jsonl,
)
from spacer_lib.training.checkpoints import COMPLETE, complete_checkpoints
from spacer_lib.training.processes import extensions, monitor
from spacer_lib.training.processes import launch as launching
from spacer_lib.training.processes.failures import first_error
from spacer_lib.training.processes.launch import (
    TrainingInterrupted,
    launch,
    resolve_workers,
)
from spacer_lib.training.processes.monitor import LiveFigure
from spacer_lib.training.processes.plan import workers_lock
from spacer_lib.training.recipe import config_from_dict, dump_config

needs_cpu_only = pytest.mark.skipif(
    torch.cuda.is_available(), reason="with GPUs, 2 workers are 2 GPUs"
)


# ---------------------------------------------------------------- workers


@pytest.mark.parametrize(
    ("found", "asked", "workers", "device"),
    [
        (0, 1, 1, "cpu"),
        (0, 2, 2, "cpu"),
        (0, 8, 2, "cpu"),
        (8, 8, 8, "cuda"),
        (4, 1, 1, "cuda"),
    ],
)
def test_resolve_workers(monkeypatch, found, asked, workers, device):
    monkeypatch.setattr(launching, "count_gpus", lambda: found)
    got = resolve_workers(config_from_dict({"gpus": asked}))
    assert got[:2] == (workers, device)
    assert ("NO GPU HERE: 8 GPUs were asked for" in got[2]) == (workers < asked)


def test_too_few_gpus_are_an_error(monkeypatch):
    monkeypatch.setattr(launching, "count_gpus", lambda: 2)
    with refused("training.too-few-gpus", says="2 visible; expected gpus = 8"):
        resolve_workers(config_from_dict({"gpus": 8}))


def test_counting_gpus_does_not_start_cuda():
    code = (
        "import torch; from spacer_lib.training.processes.launch import count_gpus; "
        "count_gpus(); assert not torch.cuda.is_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_ROOT)


def test_no_compiler_is_one_clear_message(monkeypatch, small, tmp_path):
    monkeypatch.setattr(launching, "count_gpus", lambda: 0)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with refused("training.no-compiler", says="no-such-compiler"):
        launch(small(gpus=2), tmp_path / "run")


def test_a_folder_has_one_run_at_a_time(small, tmp_path):
    folder = tmp_path / "run"
    with sole_writer(folder), refused("artifacts.folder-in-use", says=str(folder)):
        launch(small(), folder)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["deepspeed_shm_comm", "cpu_adam"])
def test_stale_build_locks_are_removed_and_live_ones_kept(tmp_path, name):
    lock = tmp_path / "py311_cpu" / name / "lock"
    lock.parent.mkdir(parents=True)
    environment, lines = {**os.environ, "TORCH_EXTENSIONS_DIR": str(tmp_path)}, []
    with lock.open("w"):
        extensions.ready_extensions([name], environment, lines.append)
        assert lock.exists()
    extensions.ready_extensions([name], environment, lines.append)
    assert not lock.exists() and name in lines[0]


def test_each_environment_compiles_extensions_in_a_folder_of_its_own(monkeypatch):
    folders, versions = [], {"torch": "2.0", "deepspeed": "0.19"}
    monkeypatch.setattr(extensions.importlib.metadata, "version", versions.get)
    for prefix, torch_version in [("/a", "2.0"), ("/b", "2.0"), ("/a", "2.1")] * 2:
        monkeypatch.setattr(sys, "prefix", prefix)
        versions["torch"] = torch_version
        folders.append(extensions.extensions_folder({}))
    assert folders[:3] == folders[3:] and len(set(folders)) == 3
    assert not any(" " in folder.name for folder in folders)
    chosen = {"TORCH_EXTENSIONS_DIR": "/chosen"}
    assert extensions.extensions_folder(chosen) == Path("/chosen")


def test_workers_get_the_folder_of_their_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(extensions.Path, "home", lambda: tmp_path)
    environment, lines = {"PATH": os.environ["PATH"]}, []
    extensions.ready_extensions(["cpu_adam"], environment, lines.append)
    folder = environment["TORCH_EXTENSIONS_DIR"]
    assert folder == str(extensions.extensions_folder({})) and len(lines) == 1
    # What another environment has compiled does not count.
    built = tmp_path / ".cache" / "torch_extensions" / "other" / "cpu_adam"
    built.mkdir(parents=True)
    (built / "cpu_adam.so").touch()
    extensions.ready_extensions(["cpu_adam"], environment, lines.append)
    assert len(lines) == 2


# ---------------------------------------------------------------- failures


def test_the_first_traceback_of_a_log_is_the_cause():
    log = """\
step 1/4
[rank1]: Traceback (most recent call last):
[rank1]:   File "reward.py", line 3, in reward
[rank1]:     raise ValueError("reward exploded")
[rank1]: ValueError: reward exploded
Traceback (most recent call last):
  File "c10d.py", line 9, in wait
RuntimeError: Connection closed by peer
"""
    assert first_error(log) == "ValueError: reward exploded"
    assert first_error("step 1/4\nstep 2/4\n") is None


def test_uneven_batches_are_refused_before_anything_starts(small, tmp_path):
    with refused("training.uneven-shares"):
        launch(small(per_device_batch=3), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def instant(monkeypatch):
    """Replace the worker processes by one line: the run's result file."""

    def finish(command, environment, log_path, say):
        run = read_json(command[-1])
        result = {
            "steps": 2,
            "seconds": 1.5,
            "peak_memory_gb": [0.5, 0.25],
            "workers": run["workers"],
            "on_cpu": run["on_cpu"],
        }
        log_path.with_name("run.json").write_text(json.dumps(result))

    monkeypatch.setattr(launching, "_watch", finish)
    monkeypatch.setattr(launching, "count_gpus", lambda: 0)


def test_workers_of_a_killed_launch_are_waited_for(small, tmp_path, instant):
    """They may still save a checkpoint, by names below the same folder."""
    out_dir, order = tmp_path / "run", []
    launch(small(), out_dir)

    def again():
        launch(small(), out_dir, resume=False)
        order.append("launched")

    with sole_writer(workers_lock(out_dir)):
        thread = threading.Thread(target=again)
        thread.start()
        time.sleep(0.5)
        assert not (tmp_path / "run.old").exists()
        order.append("ended")
    thread.join()
    assert order == ["ended", "launched"] and (tmp_path / "run.old").exists()


def test_a_run_whose_model_was_shortened_is_not_finished(small, tmp_path, instant):
    out_dir = tmp_path / "run"
    launch(small(), out_dir)
    (out_dir / "model").mkdir()
    (out_dir / "model" / "model.safetensors").write_text("0123456789")
    run = read_json(out_dir / "run.json")
    write_json(
        out_dir / "run.json", run | {"model_files": folder_sizes(out_dir / "model")}
    )
    (tmp_path / ".spacer-lock.run").touch()  # of a launch killed at its end
    assert launch(small(), out_dir, resume=True).skipped
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    os.truncate(out_dir / "model" / "model.safetensors", 9)
    assert not launch(small(), out_dir, resume=True).skipped


def test_a_finished_run_is_skipped_or_set_aside_but_never_mixed(
    small, tmp_path, instant
):
    out_dir, lines = tmp_path / "run", []
    result = launch(small(), out_dir, on_line=lines.append)
    assert (result.steps, result.seconds, result.skipped) == (2, 1.5, False)
    assert result.peak_memory_gb == 0.75 and result.model_dir == out_dir / "model"
    assert lines[0] == "1 CPU worker" and lines[1].startswith("disk: a checkpoint")
    assert launch(small(), out_dir, resume=True).skipped
    with refused(
        "training.other-run", says="config.seed = 5; expected config.seed = 0"
    ):
        launch(small(seed=5), out_dir, resume=True)
    assert not (tmp_path / "run.old").exists()
    launch(small(seed=5), out_dir)
    assert read_json(out_dir / "run_config.json")["config"]["seed"] == 5
    assert read_json(tmp_path / "run.old/run_config.json")["config"]["seed"] == 0


def stopped_after(out_dir, small, **changes):
    """A folder whose run began with these settings and is not finished."""
    launch(small(**changes), out_dir)
    (out_dir / "run.json").unlink()


def test_another_number_of_workers_may_go_on(small, tmp_path, instant):
    stopped_after(tmp_path / "run", small, gpus=2, zero_stage=0)
    with refused("training.other-run", says="config.seed = 5"):
        launch(small(zero_stage=0, seed=5), tmp_path / "run", resume=True)
    assert launch(small(zero_stage=0), tmp_path / "run", resume=True).workers == 1
    plan = read_json(tmp_path / "run/run_config.json")
    assert (plan["workers"], plan["config"]["gpus"]) == (1, 1)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_deepspeeds_checkpoints_want_as_many_workers(
    small, tmp_path, instant, before, after
):
    stopped_after(tmp_path / "run", small, gpus=before)  # 2 workers use ZeRO-2
    with refused("training.other-workers", says=f"got {after} workers"):
        launch(small(gpus=after), tmp_path / "run", resume=True)
    plan = read_json(tmp_path / "run/run_config.json")
    assert plan["workers"] == before


def test_a_folder_that_is_no_run_is_left_alone(small, tmp_path, instant):
    (tmp_path / "mine.txt").write_text("keep")
    launch(small(), tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_several_cpu_workers_go_through_deepspeed(small, tmp_path, instant):
    lines = []
    launch(small(gpus=8), tmp_path / "run", on_line=lines.append)
    assert any("NO GPU HERE" in line and "ZeRO-2" in line for line in lines)
    text = (tmp_path / "run/accelerate.yaml").read_text()
    assert "distributed_type: DEEPSPEED" in text and "num_processes: 2" in text
    settings = read_json(tmp_path / "run/deepspeed.json")
    assert settings["zero_optimization"]["stage"] == 2


def test_an_unwritable_folder_is_one_clear_message(small, tmp_path, instant):
    (tmp_path / "file").write_text("")
    with refused("artifacts.unwritable", says=str(tmp_path / "file")):
        launch(small(), tmp_path / "file" / "run")


def test_live_figure_is_silent_outside_notebooks_and_skips_half_lines(tmp_path):
    drawn = []
    live = LiveFigure(tmp_path, lambda rows, axes: drawn.append(len(rows)), every_s=0)
    live("step 1/2")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    live("step 2/2")
    assert drawn == [] and [row["step"] for row in live._rows()] == [1, 2]


def test_live_figure_replaces_a_line_and_a_figure_until_the_run_fails(
    tmp_path, monkeypatch
):
    """What follows a traceback is for the log; the cell has its own error."""
    seen = []

    class Shown:
        def __init__(self, thing, display_id):
            self.number = len({number for number, _ in seen})
            self.update(thing)

        def update(self, thing):
            seen.append((self.number, getattr(thing, "data", thing)))

    monkeypatch.setattr(monitor, "display", Shown)
    monkeypatch.setattr(monitor, "_in_notebook", lambda: True)
    live = LiveFigure(tmp_path, draw_rewards, every_s=0)
    live("1 CPU worker")
    for step in (1, 2):
        write_jsonl(tmp_path / "metrics.jsonl", METRICS[:step])
        live(f"step {step}/2")
    live("stopped at step 2")
    live("Traceback (most recent call last):")
    live("CalledProcessError: 143")
    words = [thing for number, thing in seen if number == 0]
    pictures = [thing for number, thing in seen if number == 1]
    assert words == ["1 CPU worker", "step 1/2", "step 2/2", "stopped at step 2"]
    assert [picture[1:4] for picture in pictures] == [b"PNG", b"PNG"]
    assert len(words) + len(pictures) == len(seen)


METRICS = [{"step": 1, "reward": 1.0}, {"step": 2, "reward": 1.5}]


def draw_rewards(rows, axes):
    axes[0].plot([row["step"] for row in rows], [row["reward"] for row in rows])


def test_curves_of_one_step_are_dots_at_whole_steps(tmp_path):
    """A line of one point would be invisible."""
    live = LiveFigure(tmp_path, draw_rewards)
    (dot, _), (line, _) = live.drawn(METRICS[:1]).axes, live.drawn(METRICS).axes
    assert dot.lines[0].get_marker() == "o" and line.lines[0].get_marker() == "None"
    for ax in (dot, line):
        assert all(float(tick).is_integer() for tick in ax.get_xticks())


# ---------------------------------------------------------------- real processes


# Started from a script's background job, Python would ignore SIGINT.
CHILD = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from spacer_lib.training.recipe import load_config
from spacer_lib.training.processes.launch import launch
launch(load_config(sys.argv[1]), sys.argv[2])
"""


class Launched:
    """A launching process of its own, to be killed."""

    def __init__(self, config, out_dir, tmp_path):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(dump_config(config))
        command = [sys.executable, "-c", CHILD, str(recipe), str(out_dir)]
        self.process = subprocess.Popen(command, cwd=PROJECT_ROOT, stderr=-3)
        self.out_dir = Path(out_dir)

    def wait_for_step(self, step, seconds=240):
        """Until ``metrics.jsonl`` holds that step; returns the processes alive."""
        path, end = self.out_dir / "metrics.jsonl", time.monotonic() + seconds
        while not path.exists() or path.read_text().count("\n") < step:
            assert self.process.poll() is None, "the launch ended early"
            assert time.monotonic() < end, "no progress"
            time.sleep(0.05)
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]


def steps_of(out_dir):
    return [row["step"] for row in read_jsonl(out_dir / "metrics.jsonl")]


def test_the_linker_meets_no_space(tmp_path, monkeypatch):
    site, cache = tmp_path / "an environment" / "site-packages", tmp_path / "cache"
    (site / "torch").mkdir(parents=True)
    spec = ModuleSpec("torch", None, origin=str(site / "torch/__init__.py"))
    monkeypatch.setattr(extensions.importlib.util, "find_spec", lambda name: spec)
    environment = {"PYTHONPATH": "before"}
    for _ in range(2):  # the second launch finds the first one's link
        extensions.avoid_spaces(environment, cache)
    first, *_, last = environment["PYTHONPATH"].split(os.pathsep)
    assert " " not in first and Path(first).resolve() == site
    assert last == "before"
    with refused("training.space-in-path", says="a cache"):
        extensions.avoid_spaces(environment, tmp_path / "a cache")


@pytest.mark.slow
@needs_cpu_only
def test_two_workers_survive_a_power_cut(small, tmp_path):
    """ZeRO-2 on 2 CPU ranks, all killed at once, then resumed to the end.

    The untrained model earns no reward, so weight decay is what moves the weights
    between the first and the second pass over a batch (num_iterations = 2).
    """
    config = small(
        gpus=8,
        max_steps=12,
        save_steps=2,
        num_iterations=2,
        learning_rate=1e-2,
        weight_decay=1.0,
    )
    out_dir = tmp_path / "run with a space"
    launched = Launched(config, out_dir, tmp_path)
    family = launched.wait_for_step(3)
    assert len(family) >= 4  # launcher, accelerate, two ranks
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=20)
    launched.process.wait()
    last = complete_checkpoints(out_dir / "checkpoints")[-1]
    torn = out_dir / "checkpoints" / "checkpoint-11"
    torn.mkdir()  # as if the power had gone in the middle of a save

    lines = []
    result = launch(config, out_dir, on_line=lines.append, resume=True)
    assert f"resuming from {last.name}" in lines
    assert steps_of(out_dir) == list(range(1, 13)) and result.steps == 12
    assert result.workers == 2 and not torn.exists()
    changes = [r["logp_change/max"] for r in read_jsonl(out_dir / "metrics.jsonl")]
    assert [change == 0.0 for change in changes] == [True, False] * 6
    assert (result.model_dir / "model.safetensors").exists()
    run = read_json(out_dir / "run.json")
    assert run["config_hash"] == config.hash and len(run["peak_memory_gb"]) == 2
    steps = [row["step"] for row in read_jsonl(out_dir / "rollouts.jsonl")]
    assert steps == sorted(steps) and launch(config, out_dir, resume=True).skipped


@pytest.mark.slow
def test_an_interrupted_launch_saves_and_leaves_no_process(small, tmp_path):
    """Ctrl-C in the launching process: one more checkpoint, then nobody is left."""
    out_dir = tmp_path / "run"
    config = small(max_steps=400, save_steps=300)
    launched = Launched(config, out_dir, tmp_path)
    family = launched.wait_for_step(2)
    os.kill(launched.process.pid, signal.SIGINT)
    gone, alive = psutil.wait_procs(family, timeout=60)
    launched.process.wait()
    assert not alive and len(gone) >= 3
    (checkpoint,) = complete_checkpoints(out_dir / "checkpoints")
    assert checkpoint.name == f"checkpoint-{steps_of(out_dir)[-1]}"
    assert "stopped at step" in (out_dir / "train.log").read_text()
    assert not (out_dir / "run.json").exists()


def interrupted(folder, first):
    """What ``_watch`` raises if interrupts come with the lines of a process."""
    lines = []

    def say(line):
        lines.append(line)
        if len(lines) == 1 or line == "stopped":
            raise KeyboardInterrupt

    wait = f"print({first!r}, flush=True)\nwhile not os.path.exists('stop'): pass"
    code = f"import os, time; os.chdir({str(folder)!r})\n{wait}\nprint('stopped')"
    command = [sys.executable, "-c", f"{code}\ntime.sleep(600)"]
    with pytest.raises(TrainingInterrupted) as error:
        launching._watch(command, dict(os.environ), folder / "train.log", say)
    (shown,) = error.value._render_traceback_()
    assert shown == str(error.value) and "\n" not in shown
    return lines, shown


def test_an_interrupt_says_what_is_kept_and_how_to_go_on(tmp_path):
    lines, shown = interrupted(tmp_path, "starting")
    assert lines == ["starting"] and "before its first checkpoint" in shown
    write_jsonl(tmp_path / "metrics.jsonl", METRICS)
    write_json(tmp_path / "checkpoints" / "checkpoint-2" / COMPLETE, {"files": {}})
    (tmp_path / "checkpoints" / "checkpoint-3").mkdir()  # torn
    lines, shown = interrupted(tmp_path, "step 2/9")
    assert lines[1].endswith("interrupt again to end at once")
    assert "A checkpoint of step 2 is kept" in shown and "resume = True" in shown
    assert "--resume" in shown


@pytest.mark.slow
def test_a_second_interrupt_does_not_wait(small, tmp_path):
    """Rollouts that serve for many updates more are not waited for."""
    out_dir = tmp_path / "run"
    config = small(max_steps=4000, save_steps=4000, num_iterations=2000)
    launched = Launched(config, out_dir, tmp_path)
    family = launched.wait_for_step(2)
    os.kill(launched.process.pid, signal.SIGINT)
    while not (out_dir / "stop").exists():
        assert launched.process.poll() is None
        time.sleep(0.05)
    os.kill(launched.process.pid, signal.SIGINT)
    _, alive = psutil.wait_procs(family, timeout=60)
    launched.process.wait()
    assert not alive and steps_of(out_dir)[-1] < 2000
    assert "stopped at step" not in (out_dir / "train.log").read_text()


@pytest.mark.slow
def test_workers_end_when_the_launching_process_is_killed(small, tmp_path):
    launched = Launched(small(max_steps=400), tmp_path / "run", tmp_path)
    family = launched.wait_for_step(1)
    launched.process.kill()
    launched.process.wait()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive


@pytest.mark.slow
@needs_cpu_only
def test_a_worker_failure_carries_the_true_exception(small, tmp_path):
    config = small(gpus=2, model_path="checkpoints/absent")
    with refused("training.failed", says="folder checkpoints/absent") as error:
        launch(config, tmp_path / "run")
    assert "train.log" in str(error.value)
    assert "make warmstart" in str(error.value)
