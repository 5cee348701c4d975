"""The parts of a GRPO step, with each prompt computed once and as stock trainers do.

Stock means TRL: the model computes video and prompt again for every completion. Either
each forward takes one row, as with batch size 1 per device, or one padded batch holds
the whole group. All forms score the same completions and must agree before they are
timed. Models have published shapes and random weights, and the video has random pixels:
what is computed, and how fast, does not depend on training.

The optimiser's step is the same in all forms and is left out.
"""

import argparse
import contextlib
import math
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from transformers import LogitsProcessor

from benches.timing import BenchRow, main, parser, show
from spacer_lib.artifacts import PROJECT_ROOT
from spacer_lib.errors import SpacerError
from spacer_lib.models.inputs import join_media, token_types
from spacer_lib.models.shapes import SHAPES, shape_config
from spacer_lib.tiny.model import FAMILIES
from spacer_lib.training.attention import use_branches
from spacer_lib.training.packing_check import Gap, gap_of
from spacer_lib.training.prefix import (
    IGNORED,
    PromptGroup,
    packed_scores,
    prefill,
)

NAMES = ("tiny", *SHAPES)
CONFIG, MODEL = FAMILIES["qwen2_5_vl"][:2]
CHECKPOINTED = ("3b", "7b")  # layers run again in backward, as their recipes have it
TEXT_TOKENS = 24  # of a prompt, at least; the rest of it is video
TIME_STEPS = 8  # of the video: 16 frames, as in the paper
BEFORE_VIDEO = 4  # tokens of text
ONE_ROW, BATCH, SHARED = "a row to a forward", "stock batch", "shared"
FORMS = (SHARED, ONE_ROW, BATCH)
# What is timed, and in which forms; generation in two phases, prefill (to the first
# token) and decode. Old and reference log-probabilities take "log-probs" each.
WORKS = {"generation": (SHARED, BATCH), "log-probs": FORMS, "update": FORMS}


@dataclass(frozen=True)
class StepShape:
    """The sizes of a step.

    Attributes
    ----------
    model : str
        One of ``NAMES``.
    prompt, completion : int
        Tokens. Of the longest completion; each next one is a token shorter.
    group : int
        Completions of the prompt.
    decode : int or None
        Tokens generated; ``None``: as many as ``completion``.
    """

    model: str = "small"
    prompt: int = 1100
    completion: int = 400
    group: int = 8
    decode: int | None = None

    def __post_init__(self) -> None:
        if self.model not in NAMES:
            raise SpacerError(
                "bench model",
                kind="benches.unknown-model",
                got=self.model,
                expected=", ".join(NAMES),
            )
        if self.prompt < 2 * TEXT_TOKENS or min(self.completion, self.group) < 1:
            raise SpacerError(
                "bench shape",
                kind="benches.shape",
                got=f"{self.prompt}, {self.completion} and {self.group}",
                expected=f"a prompt of {2 * TEXT_TOKENS} tokens, and completions",
            )

    @property
    def generated(self) -> int:
        """Tokens that each completion is generated to."""
        return self.decode or self.completion

    def lengths(self) -> list[int]:
        """Tokens of each completion."""
        return [max(1, self.completion - row) for row in range(self.group)]

    def tokens(self) -> dict[str, dict[str, int]]:
        """Positions that the language model runs, by phase and form."""
        rows = self.group
        scored = {
            SHARED: self.prompt - 1 + sum(self.lengths()),
            ONE_ROW: rows * self.prompt + sum(self.lengths()),
            BATCH: rows * (self.prompt + self.completion),
        }
        decoded = rows * (self.generated - 1)
        return {
            "prefill": {SHARED: self.prompt - 1 + rows, BATCH: rows * self.prompt},
            "decode": {SHARED: decoded, BATCH: decoded},
            "log-probs": scored,
            "update": scored,
        }


def law(prompt: int, completion: int, group: int) -> float:
    """Stock tokens over shared ones in scoring.

    Examples
    --------
    >>> round(law(1100, 400, 8), 2)
    2.79
    """
    return group * (prompt + completion) / (prompt + group * completion)


def bench_config(name: str) -> Any:
    """The ``Qwen2_5_VLConfig`` of one of ``NAMES``."""
    if name == "tiny":
        folder = PROJECT_ROOT / "checkpoints" / "tiny_warmstart"
        return CONFIG.from_pretrained(folder)
    return shape_config(name)


def synthetic_prompt(
    config: Any, length: int, seed: int = 0
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A prompt of ``length`` tokens around one video of random pixels.

    Returns
    -------
    ids : (length,) int tensor
    media : dict
        As ``encode_prompts`` gives it.
    """
    vision, generator = config.vision_config, torch.Generator().manual_seed(seed)
    most = (length - TEXT_TOKENS) // TIME_STEPS
    rows = math.isqrt(most)
    columns = most // rows
    side = vision.spatial_merge_size
    grid = torch.tensor([[TIME_STEPS, rows * side, columns * side]])
    channels = 3 * vision.temporal_patch_size * vision.patch_size**2
    ids = random_words(config, length, generator)
    video = slice(BEFORE_VIDEO + 1, BEFORE_VIDEO + 1 + TIME_STEPS * rows * columns)
    ids[video.start - 1], ids[video.stop] = (
        config.vision_start_token_id,
        config.vision_end_token_id,
    )
    ids[video] = config.video_token_id
    return ids, {
        "pixel_values_videos": torch.randn(
            int(grid.prod()), channels, generator=generator
        ),
        "video_grid_thw": grid,
        "second_per_grid_ts": torch.tensor([1.0]),
    }


def random_words(config: Any, count: int, generator: torch.Generator) -> torch.Tensor:
    """(count,) int tensor of tokens that stand for no picture."""
    size = config.get_text_config().vocab_size
    special = [
        config.vision_start_token_id,
        config.vision_end_token_id,
        config.image_token_id,
        config.video_token_id,
    ]
    words = torch.arange(size)
    words = words[~torch.isin(words, torch.tensor(special))]
    return words[torch.randint(len(words), (count,), generator=generator)]


class _Clock(LogitsProcessor):
    """Records when the first token can be chosen."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.first = math.nan

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if math.isnan(self.first):
            self.first = self.now()
        return scores


@contextlib.contextmanager
def watched_memory(every_s: float = 0.002) -> Iterator[list[int]]:
    """Yield a list to which resident bytes are added until the end."""
    process, done = psutil.Process(), threading.Event()
    resident = [process.memory_info().rss]

    def watch() -> None:
        while not done.wait(every_s):
            resident.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield resident
    finally:
        done.set()
        watcher.join()


class Step:
    """A model, a prompt and its completions, and every way to compute with them.

    Parameters
    ----------
    shape : StepShape
    device : str or torch.device
    """

    def __init__(self, shape: StepShape, device: str | torch.device) -> None:
        # Only once `spacer_lib.models` has made torchvision importable.
        from trl.trainer.utils import add_fused_lm_head

        self.shape, self.device = shape, torch.device(device)
        config = bench_config(shape.model)
        half = self.device.type == "cuda"
        self.dtype = torch.bfloat16 if half else torch.float32
        torch.manual_seed(0)
        with self.device:
            self.model = MODEL._from_config(
                config, dtype=self.dtype, attn_implementation="sdpa"
            )
        self.model.train()
        add_fused_lm_head(self.model)
        use_branches(self.model)
        if shape.model in CHECKPOINTED:
            self.model.activation_checkpointing_enable()
        prompt, media = synthetic_prompt(config, shape.prompt)
        generator = torch.Generator().manual_seed(1)
        words = [random_words(config, n, generator) for n in shape.lengths()]
        self.prompt = prompt.to(self.device)
        self.media = {key: value.to(self.device) for key, value in media.items()}
        self.completions = [one.to(self.device) for one in words]
        self.weights = torch.randn(shape.group, 1, generator=generator).to(self.device)

    def now(self) -> float:
        """Seconds: of the clock once the GPU has done what it was given; on the CPU
        those of this process, which other jobs disturb least."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def _rows(self, completions: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        rows = [torch.cat([self.prompt, completion]) for completion in completions]
        ids, mask = (
            pad_sequence(found, batch_first=True)
            for found in (rows, [torch.ones_like(row) for row in rows])
        )
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "mm_token_type_ids": token_types(ids, self.model.config),
            **join_media([self.media] * len(ids)),
        }

    def scores(self, completions: Sequence[torch.Tensor], form: str) -> torch.Tensor:
        """(rows, tokens) log-probabilities; 0 at padding."""
        if form == SHARED:
            group = PromptGroup(self.prompt, completions, self.media)
            return packed_scores(self.model, [group], self.device)[0]
        rows = self._rows(completions)
        labels = rows["input_ids"].masked_fill(rows["attention_mask"] == 0, IGNORED)
        labels[:, : len(self.prompt)] = IGNORED
        output = self.model(**rows, labels=labels, fused_lm_head=True)
        return output.log_probs[:, len(self.prompt) - 1 :]

    def _parts(self, form: str) -> Iterator[tuple[torch.Tensor, list[torch.Tensor]]]:
        rows = 1 if form == ONE_ROW else self.shape.group
        for start in range(0, self.shape.group, rows):
            part = slice(start, start + rows)
            yield self.weights[part], self.completions[part]

    def log_probs(self, form: str) -> torch.Tensor:
        """Log-probabilities without gradients, one after another: old, or reference."""
        with torch.no_grad():
            made = [(part, self.scores(part, form)) for _, part in self._parts(form)]
        return torch.cat(
            [
                row[: len(completion)]
                for part, rows in made
                for completion, row in zip(part, rows, strict=True)
            ]
        )

    def update(self, form: str) -> None:
        """Forward and backward of a policy gradient."""
        self.model.zero_grad(set_to_none=True)
        for weights, part in self._parts(form):
            (weights * self.scores(part, form)).sum().backward()

    def generation(self, form: str) -> dict[str, float]:
        """Seconds until the first token, and of all that follow."""
        self.model.eval()  # checkpointed layers in training keep no cache
        start, clock = self.now(), _Clock(self.now)
        with torch.no_grad():
            if form == SHARED:
                count = self.shape.group
                inputs = prefill(
                    self.model,
                    [self.prompt.tolist()] * count,
                    [self.media] * count,
                    0,
                    self.device,
                )
            else:
                inputs = self._rows([one[:0] for one in self.completions])
            count = self.shape.generated
            self.model.generate(
                **inputs,
                do_sample=False,
                logits_processor=[clock],
                pad_token_id=0,
                max_new_tokens=count,
                min_new_tokens=count,
                eos_token_id=None,
            )
        end = self.now()
        self.model.train()
        return {"prefill": clock.first - start, "decode": end - clock.first}

    def timed(self, work: str, form: str) -> dict[str, float]:
        """``{phase: seconds}`` of one of ``WORKS``."""
        if work == "generation":
            return self.generation(form)
        start = self.now()
        {"log-probs": self.log_probs, "update": self.update}[work](form)
        return {work: self.now() - start}

    def peak_memory_gb(self, form: str) -> float:
        """GiB while one update runs: allocated on the GPU, or, of a process that did
        nothing else yet, resident above what it held before."""
        if self.device.type == "cuda":
            self.model.zero_grad(set_to_none=True)
            torch.cuda.reset_peak_memory_stats()
            self.update(form)
            return torch.cuda.max_memory_allocated() / 2**30
        with watched_memory() as resident:
            self.update(form)
        return (max(resident) - resident[0]) / 2**30


def bench_step(
    shape: StepShape, repeats: int = 5, on_line: Callable[[str], object] = print
) -> dict[str, Any]:
    """Time the phases of a step, stock and shared in turns.

    Parameters
    ----------
    shape : StepShape
    repeats : int
        At least 1; medians are over this many runs.
    on_line : callable
        Called with each line of text.

    Returns
    -------
    dict
        The shape, ``device``, ``dtype``, ``threads``, ``seconds`` (of the clock on a
        GPU, of the processor on a CPU) and ``tokens``
        ``{phase: {form: number}}``, ``peak_memory_gb`` ``{form: number}``,
        ``gap`` of log-probabilities, ``law`` and ``rows`` of ``BenchRow``.

    Raises
    ------
    SpacerError
        If the forms' log-probabilities differ.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    step = Step(shape, device)
    on_line(
        f"{shape.model} on {device}, {step.dtype}: a prompt of {shape.prompt} tokens, "
        f"{shape.group} completions of {shape.completion}"
    )
    gap = _checked_gap(step)
    seconds = _seconds(step, repeats, on_line)
    on_line("memory: one update of each form")
    memory = _peaks(shape, step)
    tokens = shape.tokens()
    for form in WORKS["generation"]:
        phases = ("prefill", "decode")
        seconds.setdefault("generation", {})[form] = sum(
            seconds[phase][form] for phase in phases
        )
        tokens.setdefault("generation", {})[form] = sum(
            tokens[phase][form] for phase in phases
        )
    rows = [
        _row(phase, form, seconds[phase], tokens[phase], repeats)
        for phase in ("prefill", "decode", *WORKS)
        for form in seconds[phase]
        if form != SHARED
    ]
    for row in rows:
        on_line(row.line())
    for form in FORMS:
        on_line(f"update, {form}: peak {memory[form]:.2f} GiB")
    return {
        **asdict(shape),
        "repeats": repeats,
        "device": _name_of(step.device),
        "dtype": str(step.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "gap": gap._asdict(),
        "law": law(shape.prompt, shape.completion, shape.group),
        "seconds": seconds,
        "tokens": tokens,
        "peak_memory_gb": memory,
        "rows": rows,
    }


def _checked_gap(step: Step) -> Gap:
    packed, row, batch = (step.log_probs(form).float() for form in FORMS)
    gap = gap_of(packed, row, batch, step.dtype)
    if not gap.is_noise:
        raise SpacerError(
            "bench step: log-probabilities of shared and stock differ",
            kind="benches.results-differ",
            got=f"{gap.packed:.3g}",
            expected=f"at most {gap.most:.3g}: stock forms differ by {gap.noise:.3g}",
        )
    return gap


def _seconds(
    step: Step, repeats: int, on_line: Callable[[str], object]
) -> dict[str, dict[str, float]]:
    """Medians ``{phase: {form: seconds}}``, the forms in turns."""
    found: dict[str, dict[str, float]] = {}
    for work, forms in WORKS.items():
        runs = []
        for number in range(1, repeats + 1):  # warm from the check
            on_line(f"{work}: run {number} of {repeats}")
            runs.append({form: step.timed(work, form) for form in forms})
        for phase in runs[0][SHARED]:
            found[phase] = {
                form: statistics.median(run[form][phase] for run in runs)
                for form in forms
            }
    return found


def _row(
    phase: str,
    form: str,
    seconds: dict[str, float],
    tokens: dict[str, int],
    repeats: int,
) -> BenchRow:
    ours, other = seconds[SHARED], seconds[form]
    counts = f"{tokens[SHARED]} tokens against {tokens[form]}"
    return BenchRow(phase, SHARED, form, ours, other, other / ours, repeats, counts)


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else "CPU"


def _peaks(shape: StepShape, step: Step) -> dict[str, float]:
    if step.device.type == "cuda":
        return {form: step.peak_memory_gb(form) for form in FORMS}
    # What a process once held it may keep: one of its own for each form.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn, max_tasks_per_child=1) as pool:
        found = pool.map(_peak_alone, [shape] * len(FORMS), FORMS)
        return dict(zip(FORMS, found, strict=True))


def _peak_alone(shape: StepShape, form: str) -> float:
    return Step(shape, "cpu").peak_memory_gb(form)


def options() -> argparse.Namespace:
    """The command line's shape and runs."""
    default, found = StepShape(), parser(__doc__)
    found.add_argument("--model", default=default.model, help=", ".join(NAMES))
    for name, text in (
        ("prompt", "tokens of the prompt"),
        ("completion", "tokens of the longest completion"),
        ("group", "completions of the prompt"),
        ("decode", "tokens to generate; as many as --completion without it"),
    ):
        value = getattr(default, name)
        found.add_argument(f"--{name}", type=int, default=value, help=text)
    return found.parse_args()


def run(given: argparse.Namespace) -> dict[str, Any]:
    """``bench_step`` of the shape on the command line."""
    shape = StepShape(
        given.model, given.prompt, given.completion, given.group, given.decode
    )
    return bench_step(shape, given.runs, show)


if __name__ == "__main__":
    sys.exit(main(run, options()))
