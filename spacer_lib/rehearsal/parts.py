"""Stages about parts: rates, equality of devices and number formats, attention."""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from spacer_lib.artifacts import PROJECT_ROOT
from spacer_lib.errors import SpacerError
from spacer_lib.models.sampling import gumbel_noise, sequence_key
from spacer_lib.rehearsal.machine import versions
from spacer_lib.rehearsal.readings import Readings
from spacer_lib.training.prefix import pack

VOCABULARY = 152_064  # of 7B


def bench() -> ModuleType:
    """``benches.step``, which lies beside the package in a checkout.

    Raises
    ------
    SpacerError
        Without a checkout.
    """
    if not (PROJECT_ROOT / "benches" / "step.py").exists():
        raise SpacerError(
            "benches/step.py",
            kind="rehearsal.no-checkout",
            got=f"none in {PROJECT_ROOT}",
            expected="a checkout of the repository",
            remedy="run the command in a clone, or install it with pip install -e",
        )
    if str(PROJECT_ROOT) not in sys.path:
        sys.path.insert(0, str(PROJECT_ROOT))
    return importlib.import_module("benches.step")


def env(readings: Readings) -> None:
    """Versions, matrix rate, copy bandwidth."""
    found = {one.name: one.installed for one in versions()}
    readings.add("versions", cuda=torch.version.cuda, **found)
    if readings.cuda:
        card = torch.cuda.get_device_properties(0)
        readings.add(
            "card",
            gpu=card.name,
            memory_gib=round(card.total_memory / 2**30, 1),
            capability=f"{card.major}.{card.minor}",
        )
    readings.attempt(
        "matrix rate",
        lambda: readings.add(
            "matrix rate",
            tflop_per_s=readings.matrix_rate() / 1e12,
            predicted="800 TFLOP/s on an H100",
        ),
    )
    readings.attempt(
        "copy",
        lambda: readings.add(
            "copy",
            tb_per_s=readings.copy_rate() / 1e12,
            predicted="3.0 TB/s on an H100",
        ),
    )


# ---------------------------------------------------------------- equality


def device(readings: Readings) -> None:
    """Sampler, scores and gradients here against fp64 on the CPU."""
    readings.attempt("sampler", lambda: _sampler(readings))
    step = bench()
    shape = step.StepShape("tiny", 200, 40, 4) if readings.big else None
    shape = shape or step.StepShape("tiny", 60, 8, 3)
    exact = _results(_moved(step, shape, "cpu", torch.float64), step.BATCH)
    for dtype in (torch.float32, torch.bfloat16):
        for checkpointed in (False, True):
            for form in step.FORMS:
                name = f"scores, {str(dtype)[6:]}, {form}"
                readings.attempt(
                    name + ", checkpointed" * checkpointed,
                    _compare,
                    readings,
                    step,
                    shape,
                    exact,
                    dtype,
                    checkpointed,
                    form,
                )
    readings.attempt("autocast", lambda: _autocast(readings, step, shape))


def _sampler(readings: Readings) -> None:
    keys = torch.tensor([sequence_key("rehearsal", i) for i in range(8)])
    positions = 200 if readings.big else 4
    infinite, gap = 0, 0.0
    for position in range(positions):
        there = gumbel_noise(keys.to(readings.device), position, VOCABULARY)
        infinite += int((~torch.isfinite(there)).any(dim=1).sum())
        if position < 4:
            here = gumbel_noise(keys, position, VOCABULARY)
            gap = max(gap, float((there.cpu() - here).abs().max()))
    readings.add(
        "sampler",
        draws=8 * positions,
        infinite=infinite,
        largest_gap_to_cpu=gap,
        predicted="0 infinite, gap below 1e-5",
    )


def _moved(step: Any, shape: Any, device: Any, dtype: torch.dtype) -> Any:
    """A ``Step`` with the weights of the CPU's fp32 model, elsewhere or otherwise."""
    made = step.Step(shape, "cpu")
    made.device, made.dtype = torch.device(device), dtype
    made.model.to(made.device)
    for weight in made.model.parameters():  # not the angles of the positions
        weight.data = weight.data.to(dtype)
    made.prompt, made.weights = made.prompt.to(device), made.weights.to(device)
    made.completions = [one.to(device) for one in made.completions]
    made.media = {
        key: value.to(device, dtype if key.startswith("pixel") else value.dtype)
        for key, value in made.media.items()
    }
    return made


def _results(made: Any, form: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities, and the gradient of all weights, as fp64 on the CPU."""
    scores = made.log_probs(form).double().cpu()
    made.update(form)
    gradients = [p.grad for p in made.model.parameters() if p.grad is not None]
    return scores, torch.cat([g.double().flatten().cpu() for g in gradients])


def _compare(
    readings: Readings,
    step: Any,
    shape: Any,
    exact: tuple[torch.Tensor, torch.Tensor],
    dtype: torch.dtype,
    checkpointed: bool,
    form: str,
) -> None:
    made = _moved(step, shape, readings.device, dtype)
    if checkpointed:
        made.model.activation_checkpointing_enable()
    scores, gradient = _results(made, form)
    readings.add(
        f"scores, {str(dtype)[6:]}, {form}" + ", checkpointed" * checkpointed,
        score_gap=float((scores - exact[0]).abs().max()),
        gradient_gap=float((gradient - exact[1]).norm() / exact[1].norm()),
        predicted="below 1e-3 (CPU: 1.1e-5 and 3.5e-7)"
        if dtype == torch.float32
        else "0.19 and 7e-3, as on the CPU; shared no worse than batch",
    )


def _autocast(readings: Readings, step: Any, shape: Any) -> None:
    """bf16 without DeepSpeed: fp32 weights under autocast."""
    made = _moved(step, shape, readings.device, torch.float32)
    plain = made.log_probs(step.SHARED)
    with torch.autocast(readings.device.type, torch.bfloat16):
        gaps = {
            form: float((made.log_probs(form) - plain).abs().max())
            for form in step.FORMS
        }
    readings.add("autocast", gaps=gaps, predicted="below 0.5 in each form")


# ---------------------------------------------------------------- attention


def attention(readings: Readings) -> None:
    """The attention of packed rows: kernels by name, time, memory, error."""
    shapes = [(2300, 8, 1024, torch.bfloat16), (1100, 8, 400, torch.bfloat16)]
    heads = 28, 4, 128
    if not readings.big:
        shapes, heads = [(60, 3, 16, torch.float32)], (28, 4, 128)
    for prompt, group, completion, dtype in shapes:
        name = f"prompt {prompt}, {group} completions of {completion}"
        readings.attempt(
            name,
            _attention,
            readings,
            name,
            (prompt, group, completion),
            heads,
            dtype,
        )


def _attention(
    readings: Readings,
    name: str,
    sizes: tuple[int, int, int],
    heads: tuple[int, int, int],
    dtype: torch.dtype,
) -> None:
    prompt, group, completion = sizes
    words = torch.zeros(prompt, dtype=torch.long)
    branches = pack(words, [words.new_zeros(completion)] * group).branches
    many, few, width = heads
    size = prompt - 1 + group * completion
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, count, size, width, generator=generator)
        .to(readings.device, dtype)
        .requires_grad_()
        for count in (many, few, few)
    )
    layer = SimpleNamespace(num_key_value_groups=many // few, is_causal=True)
    attend: Any = ALL_ATTENTION_FUNCTIONS["spacer_branches"]

    def forward() -> Any:
        made: torch.Tensor = attend(layer, query, key, value, None, branches=branches)[
            0
        ]
        return made

    def both() -> None:
        forward().sum().backward()

    gap = _gap(forward().detach(), query, key, value, sizes)
    readings.add(
        name,
        dtype=str(dtype)[6:],
        forward_ms=1e3 * readings.timed(forward),
        both_ms=1e3 * readings.timed(both),
        peak_gib=readings.peak_gib(both),
        kernels=_kernels(readings, both),
        gap_to_dense=gap,
        predicted="flash alone, a gap below 1e-2, 1.5 GiB or less",
    )


def _gap(
    output: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    sizes: tuple[int, int, int],
) -> float:
    """Distance from dense fp32 attention at some positions, over its length."""
    prompt, group, completion = sizes
    before = prompt - 1
    place = torch.arange(query.shape[2])
    branch = (place - before).div(completion, rounding_mode="floor").clamp(min=-1)
    some = torch.randint(len(place), (64,), generator=torch.Generator().manual_seed(1))
    seen = (place[some, None] >= place) & (
        (branch[some, None] == branch) | (branch == -1)
    )
    groups = query.shape[1] // key.shape[1]
    keys, values = (
        states.detach().float().repeat_interleave(groups, dim=1)
        for states in (key, value)
    )
    rows = query.detach()[:, :, some.to(query.device)].float()
    scores = rows @ keys.mT / query.shape[-1] ** 0.5
    scores = scores.masked_fill(~seen.to(scores.device), -torch.inf)
    dense = scores.softmax(dim=-1) @ values
    found = output.transpose(1, 2)[:, :, some.to(query.device)].float()
    return float((found - dense).norm() / dense.norm())


def _kernels(readings: Readings, work: Any) -> list[str]:
    """Names of the attention kernels that ran, on a GPU; of torch's functions else."""
    kinds = torch.profiler.ProfilerActivity
    kind = kinds.CUDA if readings.cuda else kinds.CPU
    with torch.profiler.profile(activities=[kind]) as profile:
        work()
        readings.wait()
    words = "flash", "fmha", "attention", "softmax"
    found = [event.key[:60] for event in profile.key_averages()]
    return [key for key in found if any(word in key.lower() for word in words)][:8]
