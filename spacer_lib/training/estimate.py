"""Estimate a recipe's hours, GPU hours and memory from its first steps.

The length of rollouts changes as a model learns, and with it the time of a step: the
estimate holds if the run continues as it begins.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spacer_lib.artifacts import PROJECT_ROOT, PathLike, read_json, remove_folder
from spacer_lib.errors import SpacerError
from spacer_lib.training.needs import say_needs, steps_of_run
from spacer_lib.training.processes.launch import Say, launch
from spacer_lib.training.recipe import TrainConfig

BATCHES = 5  # of rollouts that run; the first is a warm-up and not measured


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
        The short run without training: imports, loading, saving the model.
    checkpoint_seconds, checkpoints : float, int
        Seconds of one checkpoint, and their number in the whole run.
    hours : float
        Of the whole run on the machine measured.
    gpu_hours : float or None
        ``None`` on CPU workers.
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
    def measured_on(self) -> str:
        """Such as ``8 x NVIDIA H200``, or ``2 CPU workers, not 8 GPUs``."""
        if self.gpu_hours is not None:
            return f"{self.workers} x {self.device}"
        workers = f"{self.workers} CPU worker" + "s" * (self.workers > 1)
        return workers + f", not {self.gpus} GPUs" * (self.gpus > self.workers)

    def lines(self) -> Iterator[str]:
        """The lines that the command prints."""
        again = f"{self.checkpoints} checkpoints of {self.checkpoint_seconds:.1f} s"
        yield f"{self.recipe}: {self.steps_measured} steps on {self.measured_on}"
        yield f"{self.seconds_per_step:.2f} s a step, {self.steps} steps, {again}"
        memory = f"{self.peak_memory_gb:.1f} GiB of memory"
        if self.peak_gpu_memory_gb:
            memory += f", {self.peak_gpu_memory_gb:.1f} GiB on the fullest GPU"
        yield f"start and end {self.start_seconds:.0f} s; at most {memory}"
        yield f"whole run: {self.hours:.2f} hours on {self.measured_on}"
        if self.gpu_hours is None:
            yield "no GPU was measured: GPU hours and cost are unknown"
        else:
            cost = "" if self.cost is None else f", cost {self.cost:.2f}"
            yield f"GPU hours: {self.gpu_hours:.2f}{cost}"


def estimate(
    config: TrainConfig,
    out_dir: PathLike | None = None,
    on_line: Say | None = None,
    gpu_hour_price: float | None = None,
) -> Estimate:
    """Run the first steps of a recipe and extrapolate.

    Parameters
    ----------
    config : TrainConfig
    out_dir : path, optional
        Keeps the short run; by default it is deleted afterwards.
    on_line : callable, optional
        Called with every line the workers print.
    gpu_hour_price : float, optional
        Of one GPU for an hour, in any currency.

    Raises
    ------
    SpacerError
        If the recipe needs several nodes, cannot start here, or writes checkpoints
        that the disk cannot hold.
    """
    if config.advanced.nodes > 1:
        raise SpacerError(
            "an estimate is measured on one node",
            kind="training.estimate-on-nodes",
            got=f"nodes = {config.advanced.nodes}",
            expected="nodes = 1",
            remedy="set advanced.nodes=1 and divide prompts_per_step by the nodes; "
            "add the time of their communication",
        )
    folder = Path(out_dir or PROJECT_ROOT / "runs" / f"{config.recipe}__estimate")
    say_needs(config, config.gpus, folder, on_line or (lambda line: None))
    if out_dir is None:
        remove_folder(folder)  # of an estimate that failed
    passes = passes_per_batch(config)
    steps = BATCHES * passes
    if config.max_steps:
        steps = min(steps, config.max_steps)
    # One checkpoint, at the end, is timed.
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
        remove_folder(folder)
    return extrapolate(config, run, seconds, wall, gpu_hour_price)


def extrapolate(
    config: TrainConfig,
    run: Mapping[str, Any],
    seconds: Sequence[float],
    wall: float,
    gpu_hour_price: float | None = None,
) -> Estimate:
    """The cost of a whole run from its first steps.

    Parameters
    ----------
    config : TrainConfig
        Of the whole run.
    run : dict
        ``run.json`` of the short one.
    seconds : list of float
        Of each measured step.
    wall : float
        Seconds of the short run, with the start and end of its processes.
    gpu_hour_price : float, optional
    """
    passes = passes_per_batch(config)
    # Of several passes over the same rollouts only the first includes sampling them.
    batches = [seconds[i : i + passes] for i in range(0, len(seconds), passes)]
    means = [statistics.fmean(batch) for batch in batches]
    per_step = statistics.median(means[1:] or means)
    steps = steps_of_run(config, run["rows"])
    saves = math.ceil(steps / config.save_steps)
    per_save = statistics.fmean(run["duration"]["checkpoints"])
    start = wall - run["duration"]["training"]
    hours = (start + steps * per_step + saves * per_save) / 3600
    gpu_hours = cost = None
    if not run["on_cpu"]:
        gpu_hours = hours * run["workers"]
        cost = None if gpu_hour_price is None else gpu_hours * gpu_hour_price
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
        cost=cost,
        peak_memory_gb=sum(run["peak_memory_gb"]),
        peak_gpu_memory_gb=max(run["peak_gpu_memory_gb"]),
    )


def passes_per_batch(config: TrainConfig) -> int:
    """Optimiser steps on the same rollouts; 1 for baselines, which have none."""
    return config.advanced.num_iterations if config.method == "grpo" else 1
