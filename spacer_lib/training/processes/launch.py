"""Start a training run in processes of its own and watch it.

A notebook kernel must not become a rank: GPU memory would stay taken and one crash
would take the notebook along. So the run goes through ``accelerate launch``, its
output into ``train.log``, and every exit is accounted for.

On several nodes each runs ``launch`` with its own ``node_rank``, all with the same
``out_dir`` on a file system they share. Node 0 prepares the folder and opens the port;
the others start once it answers.
"""

import contextlib
import importlib.util
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from spacer_lib.artifacts import read_json, read_jsonl, to_jsonable
from spacer_lib.errors import SpacerError
from spacer_lib.jobs import die_with_parent
from spacer_lib.training.processes.failures import (
    clear_failures,
    find_cause,
    first_error,
    killed_by,
    note_failure,
    noted_failures,
    was_asked_to_stop,
)
from spacer_lib.training.processes.world import (
    PORT,
    STOP,
    await_port,
    extensions_of,
    node_name,
    ready_extensions,
    worker_environment,
    write_node_file,
    write_run_files,
)

MAX_CPU_WORKERS = 2  # enough to exercise every collective on a laptop
STOP_S = 30  # what workers get to end, a checkpoint saved if there is time
POLL_S = 0.2
SHARED_S = 30  # until what one node wrote is seen by another
# After a noted failure: what processes get to end by themselves, then on request.
# Workers that wait for a lost one in NCCL would wait for minutes.
SETTLE_S, HURRY_S = 10, 5
TELL_S = 2  # for another node to say what it knows of a failure


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


def resolve_workers(config):
    """How many processes a recipe's ``gpus`` and ``nodes`` really get here.

    Parameters
    ----------
    config : TrainConfig

    Returns
    -------
    workers : int
        Over all nodes, each taken to be like this one.
    device : str
        ``cuda`` or ``cpu``.
    message : str
        One line that says what will run, loudly where it is not what was asked.

    Raises
    ------
    SpacerError
        If there are some GPUs, but fewer than asked for; or none, and the recipe
        needs them.
    """
    gpus, nodes, found = config.gpus, config.advanced.nodes, count_gpus()
    on_each = f" on each of {nodes} nodes" if nodes > 1 else ""
    if found >= gpus:
        return gpus * nodes, "cuda", f"{gpus} of {found} GPUs{on_each}"
    if found:
        raise SpacerError(
            "not enough GPUs",
            got=f"{found} visible",
            expected=f"gpus = {gpus}",
            remedy=f"ask for {found}, or check CUDA_VISIBLE_DEVICES",
        )
    if config.advanced.needs_gpu:
        raise SpacerError(
            f"recipe {config.recipe} needs GPUs",
            got="none here",
            expected=f"{gpus}{on_each}",
            remedy="run it on such a machine, or take recipe tiny, which runs anywhere",
        )
    share = min(gpus, max(1, MAX_CPU_WORKERS // nodes))
    message = f"{share} CPU worker" + "s" * (share > 1) + on_each
    if share < gpus:
        message = f"NO GPU HERE: {gpus} GPUs were asked for, training on {message}"
    return share * nodes, "cpu", message


def require_trackers(names):
    """Complain about trackers whose package is not installed.

    Raises
    ------
    SpacerError
    """
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    if absent:
        raise SpacerError(
            "setting advanced.trackers",
            got=f"{', '.join(absent)}, not installed here",
            remedy=f"pip install {' '.join(absent)}, or leave it out: TensorBoard's "
            "files are written in any case",
        )


def launch(
    config,
    out_dir,
    *,
    node_rank=0,
    main_process_ip=None,
    main_process_port=None,
    on_line=None,
    resume=False,
):
    """Train ``config`` in ``out_dir`` and return when it is done.

    Parameters
    ----------
    config : TrainConfig
    out_dir : path
        Receives ``run_config.json``, ``train.log``, ``metrics.jsonl``,
        ``rollouts.jsonl``, ``rollouts.parquet``, ``tensorboard/``, ``checkpoints/``,
        and at the end ``model/`` and ``run.json``. An earlier run in it is kept as
        ``<out_dir>.old`` (the one before that is deleted) unless ``resume``. Other
        nodes than the first only add files such as ``train.node1.log``.
    node_rank : int
        Of this node, from 0, where ``advanced.nodes`` is more than 1.
    main_process_ip : str, optional
        Name or address of node 0; several nodes need it.
    main_process_port : int, optional
        Port of node 0 that the others can reach; 29500 if not given.
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
        If the machine lacks something, or ``resume`` or another node meets another
        configuration.
    TrainingFailed
        If a worker failed, on whichever node.
    """
    say = on_line or (lambda line: None)
    out_dir = Path(out_dir).absolute()
    workers, device, message = resolve_workers(config)
    address = _meeting_point(
        config.advanced.nodes, node_rank, main_process_ip, main_process_port
    )
    _check_vllm(config, device)
    config.batch_shape(workers)  # complain here rather than in a worker
    run = {
        "config": to_jsonable(config),
        "out_dir": str(out_dir),
        "workers": workers,
        "nodes": config.advanced.nodes,
        "on_cpu": device == "cpu",
        "zero_stage": config.zero_stage_for(workers),
        "resume": resume,
    }
    require_trackers(config.advanced.trackers)
    if resume:
        _require_same_run(run)
        if (out_dir / "run.json").exists():
            return _result(out_dir, skipped=True)
    environment, extensions = worker_environment(run), extensions_of(run)
    if run["zero_stage"]:
        message += f", DeepSpeed ZeRO-{run['zero_stage']}"
    elif workers > 1:
        message += ", DDP"
    say(message)
    if extensions:
        ready_extensions(extensions, environment, say)
    if node_rank == 0:
        if not resume:
            _set_aside(out_dir)
        write_run_files(run, out_dir)
        clear_failures(out_dir)
        (out_dir / STOP).unlink(missing_ok=True)
    with _told_to_other_nodes(out_dir, node_rank, config.advanced.nodes):
        if node_rank:
            say(f"node {node_rank} waits for node 0 at {address[0]}:{address[1]}")
            await_port(address)
            _join(run)
        command = write_node_file(run, out_dir, node_rank, address)
        log_path = out_dir / node_name("train.log", node_rank)
        start = log_path.stat().st_size if log_path.exists() else 0
        code = _watch(command, environment, log_path, say)
    if code:
        raise _failure(log_path, start, code, config.advanced.nodes)
    return _result(out_dir)


def _meeting_point(nodes, node_rank, ip, port):
    """``(ip, port)`` of node 0, or None on a single node."""
    if not 0 <= node_rank < nodes:
        raise SpacerError(
            "node_rank",
            got=node_rank,
            expected=f"0 to {nodes - 1} with nodes = {nodes}",
            remedy="count nodes from 0; set nodes to how many there are",
        )
    if nodes == 1:
        return None
    if not ip:
        raise SpacerError(
            "main_process_ip",
            got="none",
            expected=f"the address of node 0 with nodes = {nodes}",
            remedy="give every node the same main_process_ip",
        )
    return ip, port or PORT


def _check_vllm(config, device):
    if config.advanced.vllm is None:
        return
    if importlib.util.find_spec("vllm") is None:
        raise SpacerError(
            f"vllm: {config.advanced.vllm}",
            got="no package vllm here",
            remedy="pip install vllm, or set vllm to null",
        )
    if config.advanced.vllm == "colocate" and device == "cpu":
        raise SpacerError(
            "vllm: colocate", got="no GPU here", remedy="set vllm to null or server"
        )


def _result(out_dir, skipped=False):
    path = out_dir / "run.json"
    _await_file(path)
    run = read_json(path)
    return RunResult(
        out_dir,
        out_dir / "model",
        run["steps"],
        run["seconds"],
        run["workers"],
        run["on_cpu"],
        round(sum(run["peak_memory_gb"]), 2),
        skipped,
    )


def _await_file(path):
    """Until a file that another node has written is seen here, or ``SHARED_S``."""
    end = time.monotonic() + SHARED_S
    while not path.exists() and time.monotonic() < end:
        time.sleep(POLL_S)


def _join(run):
    """On other nodes than the first: is this the run that node 0 prepared?"""
    out_dir = Path(run["out_dir"])
    _await_file(out_dir / "run_config.json")
    if not (out_dir / "run_config.json").exists():
        raise SpacerError(
            f"{out_dir} of this node",
            got="no run_config.json",
            expected="what node 0 wrote there",
            remedy="put out_dir on a file system that all nodes share",
        )
    _require_same_run(run)


@contextlib.contextmanager
def _told_to_other_nodes(out_dir, node_rank, nodes):
    """What ends this node's part early ends the others' too: they read of it."""
    try:
        yield
    except BaseException as error:
        if nodes > 1 and out_dir.is_dir():
            what = str(error) or type(error).__name__
            note_failure(out_dir, f"{what} (node {node_rank})")
        raise


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


# ---------------------------------------------------------------- the process


def _watch(command, environment, log_path, say):
    """Run to the end, output into ``log_path`` and line by line to ``say``.

    The log is a file rather than a pipe: nothing is lost, and no worker dies of a
    broken pipe, if this process goes first. Returns the exit status.

    An interrupt once there are steps waits for a checkpoint of the one at work, a
    second one does not.
    """
    start = log_path.stat().st_size if log_path.exists() else 0
    with (
        open(log_path, "ab") as sink,
        open(log_path, encoding="utf-8", errors="replace") as source,
    ):
        source.seek(start)
        process = subprocess.Popen(
            command,
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        folder, grace_s = log_path.parent, STOP_S
        try:
            try:
                return _follow(process, source, folder, say)
            except KeyboardInterrupt:
                if not (folder / "metrics.jsonl").exists():
                    raise
            grace_s = HURRY_S
            (folder / STOP).touch()
            say("a checkpoint after this step; interrupt again to end at once")
            code = _follow(process, source, folder, say)
            if code and not noted_failures(folder):
                raise KeyboardInterrupt
            return code
        except BaseException:
            stop_tree(process, grace_s=grace_s)
            raise


def _follow(process, source, folder, say):
    """``say`` what is logged until the process ends; returns its exit status."""
    patience = None  # until when, once somewhere a worker has failed
    while True:
        ended = process.poll() is not None
        for line in _whole_lines(source):
            say(line)
        if ended:
            return process.returncode
        if patience is None and noted_failures(folder):
            patience = time.monotonic() + SETTLE_S
        if patience is not None and time.monotonic() > patience:
            stop_tree(process, grace_s=HURRY_S)
            return -signal.SIGTERM  # psutil has taken the real one
        time.sleep(POLL_S)


def _whole_lines(source):
    """Lines that ended since the last call; what has begun is left for the next."""
    while True:
        start = source.tell()
        line = source.readline()
        if not line.endswith("\n"):
            source.seek(start)
            return
        yield line.removesuffix("\n")


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


def _failure(log_path, start, code, nodes):
    with open(log_path, encoding="utf-8", errors="replace") as file:
        file.seek(start)
        log = file.read()
    if nodes > 1:
        killed = killed_by(log)
        if killed:
            note_failure(log_path.parent, killed)
        time.sleep(TELL_S)  # another node may know better
    cause = find_cause(log_path.parent, log)
    asked = code in (128 + signal.SIGTERM, -signal.SIGTERM) or was_asked_to_stop(log)
    if asked and cause is None:
        return TrainingFailed(
            "training was stopped",
            got=f"SIGTERM, or a file {STOP}",
            remedy=f"start again with resume=True; the log is {log_path}",
        )
    cause = cause or first_error(log)
    return TrainingFailed(
        "training failed",
        got=cause or f"exit status {code} and no traceback",
        remedy=f"read {log_path}",
    )
