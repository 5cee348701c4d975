"""One training process: ``python -m spacer_lib.training.processes.worker RUN.json``.

Meant to be started by ``launch`` through ``accelerate launch``; every worker process
runs it. ``RUN.json`` holds ``config`` (a ``TrainConfig``), ``out_dir``, ``workers``,
``nodes``, ``on_cpu``, ``zero_stage`` (the one in use) and ``resume``.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import dataclasses
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list, gather_object
from transformers import TrainerCallback

from spacer_lib.artifacts import provenance, read_json, write_json
from spacer_lib.jobs import die_with_parent
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.baselines import build_dpo, build_sft
from spacer_lib.training.card import model_card
from spacer_lib.training.checkpoints import complete_checkpoints, save_model
from spacer_lib.training.processes.failures import error_line, note_failure
from spacer_lib.training.processes.world import GRACE_S, STOP, check_world
from spacer_lib.training.recipe import config_from_dict
from spacer_lib.training.record import (
    MetricsLog,
    RolloutTable,
    dataset_record,
    drop_later_steps,
    last_means,
    peak_memory_gb,
)
from spacer_lib.training.trackers import tracker_callbacks

BUILDERS = {"grpo": build_trainer, "sft": build_sft, "dpo": build_dpo}


class CleanStop(TrainerCallback):
    """Once there is a file ``stop`` in the run's folder, or on SIGTERM: finish the
    step, save a checkpoint, stop.

    The ranks agree on the step by a sum over their flags. Rollouts in use for several
    updates are used up first: a resumed run would draw new ones in their middle. The
    file leaves all the time that it takes. A SIGTERM may mean that another rank was
    lost, so ``SIGALRM``, which nobody handles, ends a process that is stuck then.
    """

    def __init__(self, accelerator, out_dir, num_iterations=1):
        self.accelerator, self.num_iterations = accelerator, num_iterations
        self.file = Path(out_dir) / STOP
        self.asked = self.stopped = False
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, number, frame):
        self.asked = True
        signal.alarm(GRACE_S)

    def on_step_end(self, args, state, control, **kwargs):
        """Stop on all ranks if any was asked to."""
        if state.global_step % self.num_iterations:
            return
        asked = self.asked or self.file.exists()
        flag = torch.tensor(float(asked), device=self.accelerator.device)
        if self.accelerator.reduce(flag, reduction="sum") > 0:
            self.stopped = control.should_save = control.should_training_stop = True


def prepare_folder(out_dir, resume):
    """What one process must do before the others look: cut logs, drop half-saves.

    Returns
    -------
    checkpoint : Path or None
    seconds : float
        Training time contained in the checkpoint.
    """
    folder = out_dir / "checkpoints"
    complete = complete_checkpoints(folder) if resume else []
    checkpoint = complete[-1] if complete else None
    for path in folder.glob("checkpoint-*"):
        if path not in complete:
            shutil.rmtree(path)
    step = int(checkpoint.name.split("-")[1]) if checkpoint else 0
    drop_later_steps(out_dir / "rollouts.jsonl", step)
    return checkpoint, drop_later_steps(out_dir / "metrics.jsonl", step)


def run_record(run, config, trainer, log):
    """What ``run.json`` says of a run whose training is over.

    ``duration`` has this session's parts in seconds: ``start`` (of this process, to
    the first step), ``training`` with its ``checkpoints`` (seconds of each) and, added
    later, ``model``. ``uncommitted_changes``: the commit alone does not tell the code.
    """
    made = provenance()
    return {
        "config_hash": config.hash,
        "config": config,
        "steps": trainer.state.global_step,
        "rows": len(trainer.rows),
        "dataset": dataset_record(config, trainer.rows),
        "seconds": log.seconds(),
        "duration": log.duration(),
        "last_steps": last_means(log.path),
        **{key: run[key] for key in ("workers", "nodes", "on_cpu", "zero_stage")},
        "device": "CPU" if run["on_cpu"] else torch.cuda.get_device_name(),
        "uncommitted_changes": made["commit"].endswith("-dirty"),
        "provenance": made,
    }


def main(path):
    """Train as ``path`` says; returns the process's exit status."""
    die_with_parent()
    run = read_json(path)
    config, out_dir = config_from_dict(run["config"]), Path(run["out_dir"])
    in_use = dataclasses.replace(config, zero_stage=run["zero_stage"])
    build = BUILDERS[config.method]
    trainer = build(in_use, out_dir, workers=run["workers"], on_cpu=run["on_cpu"])
    accelerator = trainer.accelerator
    check_world(accelerator, run)
    # Process 0 decides from where all go on: the others may see another moment.
    start = [None, 0.0]
    if accelerator.is_main_process:
        start = list(prepare_folder(out_dir, run["resume"]))
    checkpoint, before = broadcast_object_list(start)
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
    result = card = None
    if accelerator.is_main_process:
        result = run_record(run, config, trainer, log)
        card = str(model_card(config, result))
    start = time.perf_counter()
    save_model(trainer, out_dir / "model", card)
    memory = gather_object([peak_memory_gb()])
    if accelerator.is_main_process:
        result["duration"]["model"] = round(time.perf_counter() - start, 2)
        result["world_size"] = accelerator.num_processes
        result["distributed_type"] = accelerator.distributed_type.value
        result["peak_memory_gb"] = [resident for resident, _ in memory]
        result["peak_gpu_memory_gb"] = [gpu for _, gpu in memory]
        write_json(out_dir / "run.json", result)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return 0


def _end_at_once(kind, error, trace):
    """For ``sys.excepthook``: note the error first, then let go of all connections.

    Taken down in the usual way, an interpreter may wait for the other ranks' messages.
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
    # Not sys.exit: native threads of the communication libraries abort now and then
    # while the interpreter is taken down, which would fail a finished run.
    os._exit(status)
