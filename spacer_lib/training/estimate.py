"""What a recipe will take, from its first steps: hours, GPU hours, memory.

Rollouts grow or shrink as a model learns, and a step with them: early steps say what
the run costs if it goes on as it begins.
"""

import dataclasses
import math
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from spacer_lib.artifacts import PROJECT_ROOT, read_json
from spacer_lib.errors import SpacerError
from spacer_lib.training.processes.launch import launch

BATCHES = 5  # of rollouts that are measured; the first one warms up and is left out


@dataclass(frozen=True)
class Estimate:
    """A recipe's cost on this machine.

    Attributes
    ----------
    recipe : str
    device : str
        The GPUs' name, or ``CPU``.
    workers, gpus : int
        Processes that were measured, and GPUs that the recipe asks for.
    steps_measured, steps : int
        Optimiser steps, here and in the whole run.
    seconds_per_step : float
        Median over the measured batches of rollouts, the first left out.
    start_seconds : float
        All of the short run that is not training: imports, loading, saving the model.
    checkpoint_seconds, checkpoints : float, int
        Seconds of one, and how many the whole run writes.
    hours : float
        Of the whole run on what was measured.
    gpu_hours : float or None
        ``None`` on CPU workers, which say nothing of GPUs.
    cost : float or None
        GPU hours times the price given, in its currency.
    peak_memory_gb, peak_gpu_memory_gb : float
        GiB: resident memory of all workers together; the fullest GPU (0 without).
    """

    recipe: str
    device: str
    workers: int
    gpus: int
    steps_measured: int
    steps: int
    seconds_per_step: float
    start_seconds: float
    checkpoint_seconds: float
    checkpoints: int
    hours: float
    gpu_hours: float | None
    cost: float | None
    peak_memory_gb: float
    peak_gpu_memory_gb: float

    @property
    def measured_on(self):
        """Such as ``8 x NVIDIA H200``, or ``2 CPU workers, not 8 GPUs``."""
        if self.gpu_hours is not None:
            return f"{self.workers} x {self.device}"
        workers = f"{self.workers} CPU worker" + "s" * (self.workers > 1)
        return workers + f", not {self.gpus} GPUs" * (self.gpus > self.workers)

    def lines(self):
        """What the command line prints."""
        again = f"{self.checkpoints} checkpoints of {self.checkpoint_seconds:.1f} s"
        yield f"{self.recipe}: {self.steps_measured} steps on {self.measured_on}"
        yield f"{self.seconds_per_step:.2f} s a step, {self.steps} steps, {again}"
        memory = f"{self.peak_memory_gb:.1f} GiB of memory"
        if self.peak_gpu_memory_gb:
            memory += f", {self.peak_gpu_memory_gb:.1f} GiB on the fullest GPU"
        yield f"start and end {self.start_seconds:.0f} s; at most {memory}"
        yield f"whole run: {self.hours:.2f} hours on {self.measured_on}"
        if self.gpu_hours is None:
            yield "no GPU was measured, so nothing is said about GPU hours or cost"
        else:
            cost = "" if self.cost is None else f", cost {self.cost:.2f}"
            yield f"GPU hours: {self.gpu_hours:.2f}{cost}"


def estimate(config, out_dir=None, on_line=None, gpu_hour_price=None):
    """Run the first steps of a recipe as it is and extrapolate.

    Parameters
    ----------
    config : TrainConfig
    out_dir : path, optional
        Keeps the short run; by default it is deleted once it has been read.
    on_line : callable, optional
        Called with every line the workers print.
    gpu_hour_price : float, optional
        Of one GPU for an hour, in any currency.

    Returns
    -------
    Estimate

    Raises
    ------
    SpacerError
        If the recipe spans several nodes, or cannot start here.
    """
    if config.advanced.nodes > 1:
        raise SpacerError(
            "an estimate is measured on one node",
            got=f"nodes = {config.advanced.nodes}",
            expected="nodes = 1",
            remedy="set advanced.nodes=1 and divide prompts_per_step by the nodes; "
            "what they exchange over the network comes on top",
        )
    folder = Path(out_dir or PROJECT_ROOT / "runs" / f"{config.recipe}__estimate")
    if out_dir is None:
        shutil.rmtree(folder, ignore_errors=True)  # of an estimate that failed
    passes = passes_per_batch(config)
    steps = min(BATCHES * passes, config.max_steps or math.inf)
    # One checkpoint, at the end: it is timed by itself.
    quiet = dataclasses.replace(config.advanced, trackers=())
    short = dataclasses.replace(
        config, max_steps=steps, save_steps=steps, advanced=quiet
    )
    start = time.perf_counter()
    result = launch(short, folder, on_line=on_line)
    wall = time.perf_counter() - start
    seconds = [row["seconds/step"] for row in result.metrics()]
    run = read_json(folder / "run.json")
    if out_dir is None:
        shutil.rmtree(folder)
    return extrapolate(config, run, seconds, wall, gpu_hour_price)


def extrapolate(config, run, seconds, wall, gpu_hour_price=None):
    """The cost of a whole run from its beginning.

    Parameters
    ----------
    config : TrainConfig
        Of the whole run.
    run : dict
        ``run.json`` of the short one.
    seconds : list of float
        Of each measured step.
    wall : float
        Seconds of the short run, processes started and ended.
    gpu_hour_price : float, optional

    Returns
    -------
    Estimate
    """
    passes = passes_per_batch(config)
    # Of several passes over the same rollouts only the first pays for drawing them.
    batches = [seconds[i : i + passes] for i in range(0, len(seconds), passes)]
    means = [statistics.fmean(batch) for batch in batches]
    per_step = statistics.median(means[1:] or means)
    steps = steps_of_run(config, run["rows"])
    saves = math.ceil(steps / config.save_steps)
    per_save = statistics.fmean(run["duration"]["checkpoints"])
    start = wall - run["duration"]["training"]
    hours = (start + steps * per_step + saves * per_save) / 3600
    gpu_hours = None if run["on_cpu"] else hours * run["workers"]
    priced = None not in (gpu_hours, gpu_hour_price)
    return Estimate(
        recipe=config.recipe,
        device=run["device"],
        workers=run["workers"],
        gpus=config.gpus,
        steps_measured=len(seconds),
        steps=steps,
        seconds_per_step=per_step,
        start_seconds=start,
        checkpoint_seconds=per_save,
        checkpoints=saves,
        hours=hours,
        gpu_hours=gpu_hours,
        cost=gpu_hours * gpu_hour_price if priced else None,
        peak_memory_gb=sum(run["peak_memory_gb"]),
        peak_gpu_memory_gb=max(run["peak_gpu_memory_gb"]),
    )


def passes_per_batch(config):
    """Optimiser steps on the same rollouts; a baseline draws none."""
    return config.advanced.num_iterations if config.method == "grpo" else 1


def steps_of_run(config, rows):
    """Optimiser steps of a run on so many rows, counted as its trainer does.

    TRL leaves out the rows of an epoch that fill no whole batch of rollouts; a
    baseline's last step is smaller instead.
    """
    if config.max_steps:
        return config.max_steps
    if config.method == "grpo":
        epoch = rows // config.prompts_per_step * config.advanced.num_iterations
    else:
        epoch = math.ceil(rows / config.prompts_per_step)
    return math.ceil(config.epochs * max(epoch, 1))
