"""One training process: ``python -m spacer_lib.training.processes.worker RUN.json``.

``launch`` starts it through ``accelerate launch``; every worker process runs it.
``RUN.json`` is the record of a ``RunPlan``.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import contextlib
import dataclasses
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from transformers import TrainerCallback

from spacer_lib.artifacts import (
    PathLike,
    folder_sizes,
    listing,
    provenance,
    remove_folder,
    sole_writer,
    write_json,
)
from spacer_lib.errors import SpacerError
from spacer_lib.jobs import die_with_parent
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.baselines import build_dpo, build_sft
from spacer_lib.training.card import model_card
from spacer_lib.training.checkpoints import complete_checkpoints, save_model
from spacer_lib.training.memory import peak_memory_gb
from spacer_lib.training.processes.failures import error_line, note_failure
from spacer_lib.training.processes.plan import (
    GRACE_S,
    STOP,
    RunPlan,
    read_plan,
    workers_lock,
)
from spacer_lib.training.record import (
    MetricsLog,
    RolloutTable,
    dataset_record,
    drop_later_steps,
    last_means,
)
from spacer_lib.training.trackers import tracker_callbacks

BUILDERS = {"grpo": build_trainer, "sft": build_sft, "dpo": build_dpo}


def main(path: PathLike) -> int:
    """Train as ``path`` says; returns the process's exit status."""
    die_with_parent()
    plan = read_plan(path)
    with contextlib.ExitStack() as stack:
        if os.environ.get("RANK", "0") == "0":
            # A worker may outlive a launch that was killed, to save a checkpoint.
            stack.enter_context(sole_writer(workers_lock(plan.out_dir), wait=True))
        return _train(plan)


def _train(plan: RunPlan) -> int:
    config, out_dir = plan.config, plan.out_dir
    in_use = dataclasses.replace(config, zero_stage=plan.zero_stage)
    build = BUILDERS[config.method]
    trainer: Any = build(in_use, out_dir, workers=plan.workers, on_cpu=plan.on_cpu)
    accelerator = trainer.accelerator
    check_world(accelerator, plan)
    # Process 0 finds the checkpoint for all: others might see the folder change.
    found: list[Any] = [None, 0.0]
    if accelerator.is_main_process:
        found = list(prepare_folder(out_dir, plan.resume))
    checkpoint, before = broadcast_object_list(found)
    stop = CleanStop(accelerator, out_dir, config.advanced.num_iterations)
    trainer.add_callback(stop)
    log = MetricsLog(out_dir / "metrics.jsonl", before)
    if accelerator.is_main_process:
        trainer.add_callback(RolloutTable(out_dir, config.reward))
        trainer.add_callback(log)
        for tracker in tracker_callbacks(config, trainer.args, out_dir):
            trainer.add_callback(tracker)
        if checkpoint:
            print(f"resuming from {checkpoint.name}", flush=True)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    signal.alarm(0)
    if stop.stopped and trainer.state.global_step < trainer.state.max_steps:
        if accelerator.is_main_process:
            print(f"stopped at step {trainer.state.global_step}", flush=True)
        return 128 + signal.SIGTERM
    save_results(plan, trainer, log)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return 0


def check_world(accelerator: Any, plan: RunPlan) -> None:
    """Refuse another number or kind of processes than the plan's.

    Some launchers start one process, or train without DeepSpeed, and return 0.

    Raises
    ------
    SpacerError
    """
    asked = f"{plan.workers} of kind {plan.distributed_type}"
    found = f"{accelerator.num_processes} of kind {accelerator.distributed_type.value}"
    if found != asked:
        raise SpacerError(
            "worker processes",
            kind="training.other-world",
            got=found,
            expected=asked,
            remedy="start through spacer_lib.training.processes.launch",
        )


def prepare_folder(out_dir: Path, resume: bool) -> tuple[Path | None, float]:
    """Find the checkpoint to go on from; cut the logs back to it.

    Called by process 0 alone. Incomplete checkpoints are removed.

    Returns
    -------
    checkpoint : Path or None
    seconds : float
        Training time contained in the checkpoint.
    """
    folder = out_dir / "checkpoints"
    complete = complete_checkpoints(folder) if resume else []
    checkpoint = complete[-1] if complete else None
    for path in listing(folder, "checkpoint-*"):
        if path not in complete:
            remove_folder(path)
    step = int(checkpoint.name.split("-")[1]) if checkpoint else 0
    drop_later_steps(out_dir / "rollouts.jsonl", step)
    return checkpoint, drop_later_steps(out_dir / "metrics.jsonl", step)


class CleanStop(TrainerCallback):
    """Ends training after a step, with a checkpoint: on SIGTERM or a file ``stop``.

    The file lies in the run's folder. The ranks agree on the step by a sum over their
    flags. If rollouts serve for several updates, all of these are made first, since a
    resumed run draws new rollouts. After a file there is no time limit. After a
    SIGTERM, which may mean that another rank was lost, ``SIGALRM`` ends a process that
    is stuck for ``GRACE_S`` seconds.
    """

    def __init__(
        self, accelerator: Any, out_dir: PathLike, num_iterations: int = 1
    ) -> None:
        self.accelerator, self.num_iterations = accelerator, num_iterations
        self.file = Path(out_dir) / STOP
        self.asked = self.stopped = False
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.alarm(GRACE_S)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop on all ranks if any was asked to."""
        if state.global_step % self.num_iterations:
            return
        asked = self.asked or self.file.exists()
        flag = torch.tensor(float(asked), device=self.accelerator.device)
        if self.accelerator.reduce(flag, reduction="sum") > 0:
            self.stopped = control.should_save = control.should_training_stop = True


def save_results(plan: RunPlan, trainer: Any, log: MetricsLog) -> None:
    """Write ``model/`` with its card, and ``run.json``; all ranks call it."""
    accelerator = trainer.accelerator
    record: dict[str, Any] = {}
    card = ""  # rank 0 alone writes it
    if accelerator.is_main_process:
        record = run_record(plan, trainer, log)
        card = str(model_card(plan.config, record))
    start = time.perf_counter()
    save_model(trainer, plan.out_dir / "model", card)
    memory = gather_object([peak_memory_gb()])
    if accelerator.is_main_process:
        record["model_files"] = folder_sizes(plan.out_dir / "model")
        record["duration"]["model"] = round(time.perf_counter() - start, 2)
        record["world_size"] = accelerator.num_processes
        record["distributed_type"] = accelerator.distributed_type.value
        record["peak_memory_gb"] = [resident for resident, _ in memory]
        record["peak_gpu_memory_gb"] = [gpu for _, gpu in memory]
        write_json(plan.out_dir / "run.json", record)


def run_record(plan: RunPlan, trainer: Any, log: MetricsLog) -> dict[str, Any]:
    """What ``run.json`` says about a run whose training is over.

    ``duration`` has the parts of this session in seconds: ``start`` (of the process,
    until the first step), ``training`` with its ``checkpoints`` (seconds of each) and,
    added later, ``model``. ``uncommitted_changes``: the code differs from the commit.
    """
    made = provenance()
    return {
        "config_hash": plan.config.hash,
        "config": plan.config,
        "steps": trainer.state.global_step,
        "rows": len(trainer.rows),
        "dataset": dataset_record(plan.config, trainer.rows),
        "seconds": log.seconds(),
        "duration": log.duration(),
        "last_steps": last_means(log.path),
        "workers": plan.workers,
        "nodes": plan.nodes,
        "on_cpu": plan.on_cpu,
        "zero_stage": plan.zero_stage,
        "device": "CPU" if plan.on_cpu else torch.cuda.get_device_name(),
        "uncommitted_changes": made["commit"].endswith("-dirty"),
        "provenance": made,
    }


def _end_at_once(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """For ``sys.excepthook``: note the error first, then close all connections.

    The usual end of an interpreter may wait for messages of the other ranks.
    """
    rank = os.environ.get("RANK", "0")
    note_failure(Path(sys.argv[1]).parent, f"{error_line(kind, error)} (rank {rank})")
    traceback.print_exception(kind, error, trace)
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    sys.excepthook = _end_at_once
    status = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: native threads of the communication libraries sometimes abort while
    # the interpreter ends, and a finished run would fail.
    os._exit(status)
