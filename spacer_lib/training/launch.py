"""Start a training run in processes of its own and watch it.

A notebook kernel must not become a rank: GPU memory would stay taken and one crash
would take the notebook along. So the run goes through ``accelerate launch``, its
output into ``train.log``, and every exit is accounted for.
"""

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
import yaml

from spacer_lib.artifacts import (
    PROJECT_ROOT,
    make_folder,
    read_json,
    read_jsonl,
    to_jsonable,
    write_json,
    write_text,
)
from spacer_lib.errors import SpacerError
from spacer_lib.jobs import die_with_parent

MAX_CPU_WORKERS = 2  # enough to exercise every collective on a laptop
STOP_S = 30  # what workers get to save a checkpoint before they are killed
POLL_S = 0.2


class TrainingFailed(SpacerError):
    """A worker process ended with an error; the message carries the first one."""


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes
    ----------
    out_dir, model_dir : Path
    steps : int
    seconds : float
        Training time, start-up of processes left out, resumed sessions added up.
    workers : int
    on_cpu : bool
    peak_memory_gb : float
        Resident, summed over workers.
    skipped : bool
        The same run had been finished before.
    """

    out_dir: Path
    model_dir: Path
    steps: int
    seconds: float
    workers: int
    on_cpu: bool
    peak_memory_gb: float
    skipped: bool = False

    def metrics(self):
        """Rows of ``metrics.jsonl``."""
        return read_jsonl(self.out_dir / "metrics.jsonl")

    def rollouts(self):
        """Rows of ``rollouts.jsonl``."""
        return read_jsonl(self.out_dir / "rollouts.jsonl")


def count_gpus():
    """Visible CUDA devices, counted without touching CUDA in this process."""
    if not torch.version.cuda:
        return 0
    code = "import torch; print(torch.cuda.device_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise SpacerError("counting GPUs failed", got=done.stderr.strip()[-300:])
    return int(done.stdout)


def resolve_workers(gpus):
    """How many processes a request for ``gpus`` workers really gets here.

    Returns
    -------
    workers : int
    device : str
        ``cuda`` or ``cpu``.
    message : str
        One line that says what will run, loudly where it is not what was asked.

    Raises
    ------
    SpacerError
        If there are some GPUs, but fewer than asked for.
    """
    if gpus < 1:
        raise SpacerError("gpus", got=gpus, expected="1 or more")
    found = count_gpus()
    if found >= gpus:
        return gpus, "cuda", f"{gpus} of {found} GPUs"
    if found:
        raise SpacerError(
            "not enough GPUs",
            got=f"{found} visible",
            expected=f"gpus = {gpus}",
            remedy=f"ask for {found}, or check CUDA_VISIBLE_DEVICES",
        )
    workers = min(gpus, MAX_CPU_WORKERS)
    message = f"{workers} CPU worker" + "s" * (workers > 1)
    if workers < gpus:
        message = f"NO GPU HERE: {gpus} GPUs were asked for, training on {message}"
    return workers, "cpu", message


def require_trackers(names):
    """Complain about trackers whose package is not installed.

    Raises
    ------
    SpacerError
    """
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    if absent:
        raise SpacerError(
            "setting trackers",
            got=f"{', '.join(absent)}, not installed here",
            remedy=f"pip install {' '.join(absent)}, or leave it out: TensorBoard's "
            "files are written in any case",
        )


def launch(config, out_dir, *, on_line=None, resume=False):
    """Train ``config`` in ``out_dir`` and return when it is done.

    Parameters
    ----------
    config : TrainConfig
    out_dir : path
        Receives ``run_config.json``, ``train.log``, ``metrics.jsonl``,
        ``rollouts.jsonl``, ``rollouts.parquet``, ``tensorboard/``, ``checkpoints/``,
        and at the end ``model/`` and ``run.json``. An earlier run in it is kept as
        ``<out_dir>.old`` (the one before that is deleted) unless ``resume``.
    on_line : callable, optional
        Called with every line the workers print.
    resume : bool
        Go on from the last complete checkpoint; a finished run is returned as it is.

    Returns
    -------
    RunResult

    Raises
    ------
    SpacerError
        If the machine lacks something, or ``resume`` meets another configuration.
    TrainingFailed
        If a worker failed.
    """
    say = on_line or (lambda line: None)
    out_dir = Path(out_dir).absolute()
    workers, device, message = resolve_workers(config.gpus)
    run = {
        "config": to_jsonable(config),
        "out_dir": str(out_dir),
        "workers": workers,
        "on_cpu": device == "cpu",
        "zero_stage": config.zero_stage_for(workers),
        "resume": resume,
    }
    config.batch_shape(workers)  # complain here rather than in a worker
    require_trackers(config.trackers)
    if resume:
        _require_same_run(run)
        if (out_dir / "run.json").exists():
            return _result(out_dir, skipped=True)
    else:
        _set_aside(out_dir)
    command, environment = _write_launch_files(run)
    if run["zero_stage"]:
        message += f", DeepSpeed ZeRO-{run['zero_stage']}"
        if workers > 1 and run["on_cpu"]:
            _ready_cpu_extension(environment, say)
    say(message)
    _watch(command, environment, out_dir / "train.log", say)
    return _result(out_dir)


def _result(out_dir, skipped=False):
    run = read_json(out_dir / "run.json")
    return RunResult(
        out_dir, out_dir / "model", run["steps"], run["seconds"], run["workers"],
        run["on_cpu"], round(sum(run["peak_memory_gb"]), 2), skipped,
    )  # fmt: skip


def _require_same_run(run):
    path = Path(run["out_dir"]) / "run_config.json"
    if not path.exists():
        return  # nothing to resume: a first start
    before = read_json(path)
    ignored = ("out_dir", "resume")
    old, new = (
        _flat({key: value for key, value in r.items() if key not in ignored})
        for r in (before, to_jsonable(run))
    )
    changed = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
    if changed:
        key = changed[0]
        raise SpacerError(
            f"{run['out_dir']} holds a run with other settings",
            got=f"{key} = {new.get(key)}",
            expected=f"{key} = {old.get(key)}",
            remedy="use the same settings, another out_dir, or resume=False",
        )


def _flat(values, prefix=""):
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _set_aside(out_dir):
    if not (out_dir / "run_config.json").exists():
        return  # not a run: nothing of ours to move
    old = out_dir.with_name(out_dir.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    out_dir.rename(old)


# ---------------------------------------------------------------- what accelerate reads


def _write_launch_files(run):
    """Write the run's JSON, accelerate's YAML and DeepSpeed's JSON.

    Returns the command and the environment to run it in.
    """
    out_dir = make_folder(run["out_dir"])
    workers, stage = run["workers"], run["zero_stage"]
    write_json(out_dir / "run_config.json", run)
    settings = {
        "compute_environment": "LOCAL_MACHINE",
        # MULTI_CPU would quietly start a single process; run.py checks the world.
        "distributed_type": "DEEPSPEED" if stage else "NO",
        "num_machines": 1,
        "machine_rank": 0,
        "num_processes": workers,
        "main_process_ip": "127.0.0.1",
        "main_process_port": _free_port(),
        "use_cpu": run["on_cpu"],
    }
    if stage:
        path = out_dir / "deepspeed.json"
        write_json(path, deepspeed_settings(stage, run["on_cpu"]))
        settings["deepspeed_config"] = {
            "deepspeed_config_file": str(path),
            "zero3_init_flag": stage == 3,
        }
    else:
        settings["mixed_precision"] = "bf16" if run["config"]["bf16"] else "no"
    write_text(out_dir / "accelerate.yaml", yaml.safe_dump(settings))
    command = [
        sys.executable, "-m", "accelerate.commands.launch",
        "--config_file", str(out_dir / "accelerate.yaml"),
        "-m", "spacer_lib.training.run", str(out_dir / "run_config.json"),
    ]  # fmt: skip
    return command, _environment(run)


def deepspeed_settings(stage, on_cpu):
    """DeepSpeed's configuration; ``auto`` values are filled in by the trainer."""
    zero = {
        "stage": stage,
        "overlap_comm": not on_cpu,
        "contiguous_gradients": True,
        "reduce_bucket_size": "auto",
    }
    if stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": "auto"},
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "zero_allow_untested_optimizer": True,
    }


def _environment(run):
    environment = dict(os.environ)
    # ninja and the interpreter's own tools are looked up on PATH.
    here = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([here, environment.get("PATH", "")])
    known = filter(None, [str(PROJECT_ROOT), environment.get("PYTHONPATH")])
    environment["PYTHONPATH"] = os.pathsep.join(known)
    environment["PYTHONUNBUFFERED"] = "1"
    environment["TOKENIZERS_PARALLELISM"] = "false"
    environment["TQDM_DISABLE"] = "1"  # the log is read line by line
    # Left over from a notebook or an outer launch, these overrule the YAML.
    for name in list(environment):
        if name.startswith(("ACCELERATE_", "FSDP_")) or name in (
            "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
        ):  # fmt: skip
            del environment[name]
    if run["on_cpu"]:
        # Two threads per process fight over the cores with everything else.
        environment.setdefault("OMP_NUM_THREADS", "1")
    return environment


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _ready_cpu_extension(environment, say):
    """DeepSpeed compiles one extension for CPU ranks: check that it can."""
    compiler = environment.get("CXX", "c++")
    if not shutil.which(compiler, path=environment["PATH"]):
        raise SpacerError(
            "training on several CPU workers needs a C++ compiler",
            got=f"no {compiler} on PATH",
            remedy="install one (Debian: apt-get install g++), or set gpus to 1",
        )
    default = Path.home() / ".cache" / "torch_extensions"
    folder = Path(environment.get("TORCH_EXTENSIONS_DIR", default))
    for lock in folder.glob("**/deepspeed_shm_comm/lock"):
        # A build that was killed leaves its lock, and the next one waits forever.
        if not _held(lock):
            lock.unlink(missing_ok=True)
    _avoid_spaces(environment, folder)
    if not any(folder.glob("**/deepspeed_shm_comm/*.so")):
        say("first start: DeepSpeed compiles its CPU communication (about 90 s, once)")


def _avoid_spaces(environment, folder):
    """Let workers import from a path the linker can read.

    PyTorch hands the linker its own folder unquoted, so an environment below a folder
    with a space cannot compile. Through a link elsewhere it can.
    """
    site = Path(torch.__file__).parents[1]
    if not re.search(r"\s", str(site)):
        return
    if re.search(r"\s", str(folder)):
        raise SpacerError(
            "compiling DeepSpeed's CPU communication",
            got=f"a space in {folder}",
            expected="a path without spaces",
            remedy="set TORCH_EXTENSIONS_DIR to such a folder, or set gpus to 1",
        )
    name = hashlib.sha256(str(site).encode()).hexdigest()[:12]
    link = make_folder(folder) / f"site-packages-{name}"
    with contextlib.suppress(FileExistsError):
        link.symlink_to(site)
    known = filter(None, [str(link), environment.get("PYTHONPATH")])
    environment["PYTHONPATH"] = os.pathsep.join(known)


def _held(path):
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(path) in (file.path for file in process.open_files()):
                return True
    return False


# ---------------------------------------------------------------- the process


def _watch(command, environment, log_path, say):
    """Run to the end, output into ``log_path`` and line by line to ``say``.

    The log is a file rather than a pipe: nothing is lost, and no worker dies of a
    broken pipe, if this process goes first.
    """
    start = log_path.stat().st_size if log_path.exists() else 0
    with open(log_path, "ab") as sink, open(log_path, encoding="utf-8",
                                            errors="replace") as source:  # fmt: skip
        source.seek(start)
        process = subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=environment, start_new_session=True, preexec_fn=die_with_parent,
        )  # fmt: skip
        try:
            unfinished = ""
            while True:
                ended = process.poll() is not None
                *lines, unfinished = (unfinished + source.read()).split("\n")
                for line in lines:
                    say(line)
                if ended:
                    break
                time.sleep(POLL_S)
        except BaseException:
            stop_tree(process)
            raise
    if process.returncode:
        raise _failure(log_path, start, process.returncode)


def stop_tree(process, grace_s=STOP_S):
    """SIGTERM to a process and all its descendants; SIGKILL to what outlives it.

    Workers of a distributed launch live in sessions of their own, so the process
    group is not enough.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        family = [*root.children(recursive=True), root]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=grace_s)
        for member in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait()


def _failure(log_path, start, code):
    with open(log_path, encoding="utf-8", errors="replace") as file:
        file.seek(start)
        cause = first_error(file.read())
    if code in (128 + signal.SIGTERM, -signal.SIGTERM):
        return TrainingFailed(
            "training was stopped by a signal",
            got=cause or "SIGTERM",
            remedy=f"start again with resume=True; the log is {log_path}",
        )
    return TrainingFailed(
        "training failed",
        got=cause or f"exit status {code} and no traceback",
        remedy=f"read {log_path}",
    )


def first_error(text):
    """The last line of the first traceback in a log of several ranks.

    Later tracebacks are mostly the other ranks' lost connections.
    """
    prefix = re.compile(r"^\[rank\d+\]:\s?")
    lines = [prefix.sub("", line) for line in text.splitlines()]
    for number, line in enumerate(lines):
        if line.startswith("Traceback (most recent call last)"):
            for below in lines[number + 1 :]:
                if below and not below[0].isspace():
                    return below
    return None
