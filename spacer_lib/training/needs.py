"""What a run will need, known before it starts: disk, memory and hours.

Bytes are counted from the model's configuration and the recipe. Seconds come from
stated rates of one kind of GPU: they tell days from hours, and which part of a step
they go to. ``training.estimate`` measures instead.
"""

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from spacer_lib.artifacts import PROJECT_ROOT, PathLike, listing
from spacer_lib.errors import SpacerError
from spacer_lib.models.shapes import Sizes, sizes_of
from spacer_lib.training.gpu_needs import (
    GIB,
    GpuNeeds,
    gpu_needs,
    require_gpu_memory,
)
from spacer_lib.training.recipe import TrainConfig

GB = 1e9
TEXT_TOKENS = 100  # of a prompt, beside its video
# Kernels of a token with adapters on all seven products of a layer, over those
# without: counted as torch dispatches them (tests/training/test_needs.py).
ADAPTED = 1.94
Range = tuple[float, float]  # the least and the most


@dataclass(frozen=True)
class Rates:
    """Speeds that predictions are made with; the defaults are an H100's.

    Attributes
    ----------
    device : str
    matrix : float
        Floating-point operations a second of large bf16 products.
    share : float
        Of that rate, which scoring and updates reach.
    memory : float
        Bytes a second between the GPU and its own memory.
    links : float
        Bytes a second at which weights are gathered from other GPUs.
    eager_layer : (float, float)
        Seconds a token of one layer without CUDA graphs: kernels are started one by
        one. 25 to 30 ms a token of 28 layers.
    reading : (float, float)
        Decoding over the time that reading the weights takes: with CUDA graphs or
        vLLM, or where starting kernels takes less. 6 to 7 ms a token of 7B.
    size : float
        Bytes of the GPU's memory.
    """

    device: str = "H100"
    matrix: float = 800e12
    share: float = 0.45
    memory: float = 3.0e12
    links: float = 130e9
    eager_layer: Range = (25e-3 / 28, 30e-3 / 28)
    reading: Range = (1.25, 1.5)
    size: float = 79 * GIB


H100 = Rates()
# As printed, but not by measurement: https://www.nvidia.com/en-us/data-center/l4/. The
# page has twice the rate, that of sparse products.
L4 = Rates("L4", matrix=121e12, memory=300e9, size=22.4 * GIB)


@dataclass(frozen=True)
class Needs:
    """What a run needs; see the module.

    Attributes
    ----------
    recipe : str
    weights, optimizer : float
        Bytes of one checkpoint's weights, and of the optimiser's state in it.
    at_once : int
        Checkpoints on the disk at the same time.
    model : float
        Bytes of the model that the run ends with.
    cpu_memory : float
        Bytes of CPU memory on each node, for what is offloaded.
    steps : int or None
        ``None`` if the number of rows is not known.
    seconds : dict or None
        ``{phase: (least, most)}`` of a step at ``rates``; ``None`` for frames of
        unknown size.
    rates : Rates
    gpus : int
    gpu : GpuNeeds or None
        Memory of each GPU; ``None`` for frames of unknown size.
    """

    recipe: str
    weights: float
    optimizer: float
    at_once: int
    model: float
    cpu_memory: float
    steps: int | None
    seconds: dict[str, Range] | None
    rates: Rates
    gpus: int
    gpu: GpuNeeds | None

    @property
    def checkpoint(self) -> float:
        """Bytes of one checkpoint."""
        return self.weights + self.optimizer

    @property
    def disk(self) -> float:
        """Bytes at the fullest moment: when a checkpoint or the model is written."""
        kept = max(self.at_once - 1, 1) * self.checkpoint
        return max(self.at_once * self.checkpoint, kept + self.model)

    def step_seconds(self) -> Range | None:
        """Seconds of a step, by the rates."""
        if self.seconds is None:
            return None
        least, most = zip(*self.seconds.values(), strict=True)
        return sum(least), sum(most)

    def hours(self) -> Range | None:
        """Hours of all steps, by the rates."""
        step = self.step_seconds()
        if step is None or self.steps is None:
            return None
        return self.steps * step[0] / 3600, self.steps * step[1] / 3600

    def disk_line(self) -> str:
        """The disk that checkpoints and model take."""
        parts = f"optimiser {_size(self.optimizer)}, weights {_size(self.weights)}"
        together = _size(self.at_once * self.checkpoint)
        return (
            f"disk: a checkpoint is {_size(self.checkpoint)} ({parts}); "
            f"{self.at_once} at once {together}; then a model of {_size(self.model)}"
        )

    def memory_line(self) -> str | None:
        """The CPU memory that offloading takes, if there is any."""
        if not self.cpu_memory:
            return None
        free = psutil.virtual_memory().available
        warning = "" if free >= self.cpu_memory else " WARNING: that is too little."
        return (
            f"CPU memory for what is offloaded: {_size(self.cpu_memory)} a node; "
            f"{_size(free)} free here.{warning}"
        )

    def time_lines(self) -> Iterator[str]:
        """Seconds of a step by phase, and hours and days of all steps."""
        step, hours = self.step_seconds(), self.hours()
        if self.seconds is None or step is None:
            return
        where = f"{self.gpus} x {self.rates.device}"
        parts = ", ".join(f"{key} {_range(s)}" for key, s in self.seconds.items())
        yield f"predicted on {where}: a step of {_range(step)} s ({parts})"
        if hours is not None:
            days = hours[0] / 24, hours[1] / 24
            yield (
                f"predicted on {where}: {self.steps} steps in {_range(hours)} hours, "
                f"{_range(days)} days"
            )

    def lines(self, hours: bool = True) -> Iterator[str]:
        """Disk and CPU memory; GPU memory and hours if they are asked for."""
        yield self.disk_line()
        memory = self.memory_line()
        if memory:
            yield memory
        if hours:
            yield from self.gpu.lines() if self.gpu else ()
            yield from self.time_lines()

    def record(self) -> dict[str, Any]:
        """As plain values, with the sums."""
        made = {"checkpoint": self.checkpoint, "disk": self.disk}
        return asdict(self) | made | {"hours": self.hours()}


def _size(count: float) -> str:
    return f"{count / GB:.1f} GB" if count >= GB / 10 else f"{count / 1e6:.1f} MB"


def _range(found: Range) -> str:
    least, most = found
    digits = 0 if most >= 10 else 1 if most >= 1 else 2
    low, high = f"{least:.{digits}f}", f"{most:.{digits}f}"
    return low if low == high else f"{low}-{high}"


# ---------------------------------------------------------------- counting


def say_needs(
    config: TrainConfig,
    workers: int,
    out_dir: PathLike,
    say: Callable[[str], object],
    *,
    hours: bool = True,
    card: float | None = None,
) -> None:
    """Say what a run needs, and refuse it if the disk or the GPU cannot hold it.

    Parameters
    ----------
    config : TrainConfig
    workers : int
        Processes, over all nodes.
    out_dir : path
        The run's folder.
    say : callable
        Called with each line.
    hours : bool
        Also say what is predicted for GPUs.
    card : float, optional
        Bytes of the smallest GPU here.

    Raises
    ------
    SpacerError
        See ``require_disk`` and ``gpu_needs.require_gpu_memory``.
    """
    needs = run_needs(config, workers)
    if needs is None:
        say(unknown_needs(config))
        return
    for line in needs.lines(hours):
        say(line)
    require_disk(needs, out_dir)
    warning = require_gpu_memory(needs.gpu, card) if needs.gpu and card else None
    if warning:
        say(warning)


def unknown_needs(config: TrainConfig) -> str:
    """What is said in place of needs without the model's configuration."""
    missing = f"config.json of {config.model_path}"
    return f"disk, memory and hours: not known before {missing} is here"


def run_needs(
    config: TrainConfig,
    workers: int,
    rates: Rates | None = None,
    rows: int | None = None,
) -> Needs | None:
    """What a recipe needs on so many processes; ``None`` without the model's config.

    Parameters
    ----------
    config : TrainConfig
    workers : int
        Processes, over all nodes.
    rates : Rates, optional
        An H100's if not given; an L4's if it holds the run and one process is enough.
    rows : int, optional
        Of the training set; counted if not given.
    """
    lora = config.lora
    sizes = sizes_of(config.model_path, config.advanced.frozen, lora.rank, lora.targets)
    if sizes is None:
        return None
    stage = config.zero_stage_for(workers)
    half = bool(config.bf16 and (stage or lora.rank))
    byte = 2 if half else 4
    # DeepSpeed keeps fp32 masters beside Adam's two moments.
    state = (12 if stage else 8) * sizes.trainable
    saved = 4 * sizes.adapter if lora.rank else byte * sizes.all
    if stage == 2:  # DeepSpeed's own copy, beside the one that others can read
        saved += byte * (sizes.adapter if lora.rank else sizes.all)
    steps = _steps(config, rows)
    saves = math.ceil(steps / config.save_steps) if steps else math.inf
    offloaded = {"none": 0, "optimizer": 12, "all": 12 + byte}
    spread = offloaded[config.advanced.offload] / config.advanced.nodes
    video = video_tokens(config, sizes)
    gpu = None
    if video is not None:
        gpu = gpu_needs(config, workers, sizes, video, TEXT_TOKENS)
    if rates is None:
        fits = workers == 1 and gpu is not None and gpu.peak <= L4.size
        rates = L4 if fits else H100
    return Needs(
        recipe=config.recipe,
        weights=saved,
        optimizer=state,
        at_once=int(min(config.advanced.keep_checkpoints + 1, saves)),
        model=byte * sizes.all + 4 * sizes.adapter,
        cpu_memory=spread * sizes.trainable,
        steps=steps,
        seconds=step_seconds(config, workers, sizes, rates),
        rates=rates,
        gpus=workers,
        gpu=gpu,
    )


def _steps(config: TrainConfig, rows: int | None) -> int | None:
    if config.max_steps:
        return config.max_steps
    rows = rows or count_rows(config)
    return None if rows is None else steps_of_run(config, rows)


def steps_of_run(config: TrainConfig, rows: int) -> int:
    """Optimiser steps of a run on ``rows`` rows, counted as its trainer does.

    TRL leaves out the last rows of an epoch that do not fill a batch of rollouts. The
    last step of a baseline is smaller instead.
    """
    if config.max_steps:
        return config.max_steps
    if config.method == "grpo":
        epoch = rows // config.prompts_per_step * config.advanced.num_iterations
    else:
        epoch = math.ceil(rows / config.prompts_per_step)
    return math.ceil(config.epochs * max(epoch, 1))


def count_rows(config: TrainConfig) -> int | None:
    """Rows of a recipe's file, unread; at most so many serve. ``None``: not known.

    Parameters
    ----------
    config : TrainConfig
    """
    path = Path(config.data_path or "")
    path = path if path.exists() else PROJECT_ROOT / path
    path = path / "train.jsonl" if path.is_dir() else path
    if not config.data_path or not path.is_file() or path.suffix != ".jsonl":
        return config.data_rows
    with open(path, "rb") as file:
        count = sum(1 for _ in file)
    return min(count, config.data_rows or count)


def video_tokens(config: TrainConfig, sizes: Sizes) -> int | None:
    """Tokens of a video at most; ``None`` if frames keep a size that is not known."""
    pixels = config.frame_size**2 if config.frame_size else config.max_pixels
    if pixels is None:
        return None
    return math.ceil(config.frames / sizes.frames) * (pixels // sizes.pixels**2)


def step_seconds(
    config: TrainConfig, workers: int, sizes: Sizes, rates: Rates = H100
) -> dict[str, Range] | None:
    """``{phase: (least, most)}`` seconds of a step with answers of full length.

    Parameters
    ----------
    config : TrainConfig
    workers : int
    sizes : Sizes
        Of its model.
    rates : Rates
    """
    video = video_tokens(config, sizes)
    if video is None:
        return None
    answer = config.max_completion_length
    completions = config.completions_per_step / workers
    prompts = max(config.prompts_per_step / workers, 1)
    prompt = video + TEXT_TOKENS
    grpo, advanced = config.method == "grpo", config.advanced
    # A control is drawn after the others. It has half as many rows and takes as long.
    draws = 1 + (grpo and advanced.has_control)
    apart = not grpo or advanced.shared_prefix == "off"
    positions = (completions if apart else prompts) * prompt + completions * answer
    patches = (completions if apart else prompts) * 4 * video
    answers = completions * answer
    # Twice the weights a token forward; twice that backward, or as much for frozen
    # weights, whose own gradients are left out; layers again, if checkpointed.
    forward = positions * sizes.layers
    back = 1 if config.lora.rank else 2
    passes = 1 + advanced.gradient_checkpointing + back
    update = 2 * (passes * forward + (1 + back) * answers * sizes.head)
    # Nothing below a frozen tower learns: it is run forward alone.
    update += 2 * patches * sizes.tower * (1 if config.lora.rank else passes)
    score = 2 * (forward + answers * sizes.head + patches * sizes.tower)
    stage, bytes_all = config.zero_stage_for(workers), 2 * sizes.all

    def computed(operations: float) -> Range:
        return (operations / rates.matrix / rates.share,) * 2

    found = {}
    if grpo:
        low, high = _decoding(config, answer, sizes, rates)
        found["decode"] = draws * low, draws * high
        media = prompts * (prompt * sizes.layers + 4 * video * sizes.tower)
        found["prefill"] = computed(2 * draws * media)
        passes = (config.beta > 0) + (
            advanced.num_iterations > 1 or bool(advanced.vllm)
        )
        found["scores"] = computed(passes * score)
    found["update"] = computed(update)
    if workers > 1:
        # Of ZeRO-3: generation, reference, forward and backward. Else gradients.
        times = (2 + draws + (config.beta > 0)) if stage == 3 else 2
        found["gathers"] = (times * bytes_all / rates.links,) * 2
    return found


def asking_hours(
    config: TrainConfig,
    questions: int,
    answer: int,
    batch: int,
    workers: int,
    rates: Rates = H100,
) -> Range | None:
    """Hours of asking a recipe's model questions, by the rates.

    Decoding alone is counted, with answers of full length: shorter ones take less.

    Parameters
    ----------
    config : TrainConfig
    questions : int
    answer : int
        Most tokens of an answer.
    batch : int
        Questions that one process asks at once.
    workers : int
        Processes, each with a GPU.
    rates : Rates

    Returns
    -------
    (float, float) or None
        ``None`` without the model's configuration.
    """
    sizes = sizes_of(config.model_path)
    if sizes is None:
        return None
    batches = math.ceil(questions / (batch * workers))
    low, high = _decoding(config, answer, sizes, rates)
    return batches * low / 3600, batches * high / 3600


def _decoding(config: TrainConfig, answer: int, sizes: Sizes, rates: Rates) -> Range:
    """Seconds of ``answer`` tokens, of all rows at once."""
    read = 2 * (sizes.layers + sizes.head) / rates.memory
    token = rates.reading[0] * read, rates.reading[1] * read
    if not config.advanced.vllm:
        kernels = sizes.text.depth * (ADAPTED if config.lora.rank else 1)
        low, high = rates.eager_layer
        token = max(token[0], kernels * low), max(token[1], kernels * high)
    return answer * token[0], answer * token[1]


# ---------------------------------------------------------------- the disk


def free_bytes(folder: PathLike) -> float:
    """Free bytes of the disk that ``folder`` is on, or will be."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def require_disk(needs: Needs, out_dir: PathLike) -> None:
    """Refuse a run whose checkpoints the disk cannot hold.

    Parameters
    ----------
    needs : Needs
    out_dir : path
        The run's folder. Checkpoints of an earlier start there count as room, since
        new ones replace them.

    Raises
    ------
    SpacerError
        With what is needed, what is free, and what to change.
    """
    kept = Path(out_dir) / "checkpoints"
    there = sum(p.stat().st_size for p in listing(kept, deep=True) if p.is_file())
    free = free_bytes(out_dir)
    if free + there >= needs.disk:
        return
    fewer = replace(needs, at_once=2)
    less = "set advanced.keep_checkpoints=1 (needs " + _size(fewer.disk) + "), or "
    raise SpacerError(
        f"the disk of {Path(out_dir).absolute()}",
        kind="training.disk-too-small",
        got=f"{_size(free)} free",
        expected=f"{_size(needs.disk)}: {needs.at_once} checkpoints of "
        f"{_size(needs.checkpoint)} at once",
        remedy=(less if needs.at_once > 2 else "")
        + "choose an --out on a larger disk, or free some space",
    )
