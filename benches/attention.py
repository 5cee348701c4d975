"""Attention of one packed row in one layer: in pieces, and with copies of the prompt.

*Copies* repeats the key heads for every query head and copies the prompt's keys and
values for every completion; that was the way before ``training.attention``. Both give
the same output and gradients before they are timed. The default shape is that of
Qwen2.5-VL-7B with 8 completions of 1,024 tokens; ``--ragged`` halves every second
completion, which *copies* pads.
"""

import argparse
import itertools
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import pad, scaled_dot_product_attention

from benches.timing import BenchRow, compare, main, parser, show
from spacer_lib.training.attention import Group, branch_attention

# Two orders of adding.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1}
PIECES, COPIES = "in pieces", "copies"


@dataclass(frozen=True)
class AttentionShape:
    """Sizes of one layer's attention and of the packed row.

    Attributes
    ----------
    heads, key_heads, width : int
        ``width`` is that of a head.
    prompt, completion, group : int
        Tokens, and completions.
    ragged : bool
        Every second completion has half the tokens.
    half : bool
        bfloat16.
    """

    heads: int = 28
    key_heads: int = 4
    width: int = 128
    prompt: int = 2300
    completion: int = 1024
    group: int = 8
    ragged: bool = False
    half: bool = False

    @property
    def layout(self) -> Group:
        """The row's group."""
        lengths = [self.completion] * self.group
        if self.ragged:
            lengths[1::2] = [max(1, self.completion // 2)] * (self.group // 2)
        return Group(self.prompt - 1, tuple(lengths))


def with_copies(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Group
) -> torch.Tensor:
    """(1, heads, S, d) output, each completion beside a copy of the prompt."""
    before, lengths = layout
    repeats = query.shape[1] // key.shape[1]
    key, value = (one.repeat_interleave(repeats, dim=1) for one in (key, value))
    longest = max(lengths)

    def own(states: torch.Tensor) -> torch.Tensor:  # (k, heads, longest, d)
        parts = states[0, :, before:].split(lengths, dim=1)
        return torch.stack([pad(p, (0, 0, 0, longest - p.shape[1])) for p in parts])

    def seen(states: torch.Tensor) -> torch.Tensor:
        shared = states[:, :, :before].expand(len(lengths), -1, -1, -1)
        return torch.cat([shared, own(states)], dim=2)

    inside = scaled_dot_product_attention(
        own(query),
        seen(key),
        seen(value),
        attn_mask=causal_lower_right(longest, before + longest),
    )
    kept = [one[:, :n] for one, n in zip(inside, lengths, strict=True)]
    prompt = [states[:, :, :before] for states in (query, key, value)]
    first = scaled_dot_product_attention(
        prompt[0], prompt[1], prompt[2], is_causal=True
    )
    return torch.cat([first[0], *kept], dim=1)[None]


class Layer:
    """Random queries, keys, values and weights of the output.

    Parameters
    ----------
    shape : AttentionShape
    """

    def __init__(self, shape: AttentionShape) -> None:
        self.layout = shape.layout
        self.dtype = torch.bfloat16 if shape.half else torch.float32
        device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(0)
        options: Any = {"device": device, "dtype": self.dtype}

        def states(heads: int) -> torch.Tensor:  # in memory as a layer makes them
            size = 1, self.layout.size, heads, shape.width
            return torch.randn(size, **options).transpose(1, 2)

        heads = shape.heads, shape.key_heads, shape.key_heads
        self.states = [states(count).requires_grad_() for count in heads]
        self.weights = states(shape.heads)

    def output(self, form: str) -> torch.Tensor:
        """(1, heads, S, d)."""
        query, key, value = self.states
        if form == COPIES:
            return with_copies(query, key, value, self.layout)
        made, _ = branch_attention(
            None, query, key, value, None, branches=(self.layout,)
        )
        return made.transpose(1, 2)

    def run(self, form: str) -> list[torch.Tensor]:
        """Output and gradients of a forward and a backward pass."""
        output = self.output(form)
        made = torch.autograd.grad(output, self.states, self.weights)
        if output.is_cuda:
            torch.cuda.synchronize()
        return [output.detach(), *made]

    def peak_memory_gb(self, form: str) -> float:
        """GiB above what the layer's inputs take, while ``run`` runs."""
        if self.weights.is_cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self.run(form)
            return (torch.cuda.max_memory_allocated() - before) / 2**30
        from benches.step import watched_memory

        with watched_memory() as resident:
            self.run(form)
        return (max(resident) - resident[0]) / 2**30


def largest_gap(ours: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    """Largest difference of output and gradients, each over its own largest value."""
    pairs = zip(ours, other, strict=True)
    return float(max((a - b).abs().max() / b.abs().max() for a, b in pairs))


def _peak_alone(shape: AttentionShape, form: str) -> float:
    return Layer(shape).peak_memory_gb(form)


def bench_attention(shape: AttentionShape, runs: int) -> dict[str, Any]:
    """Time and memory of both ways.

    Returns
    -------
    dict
        ``rows`` of ``BenchRow``, ``peak_memory_gb`` by form, and the ratios
        ``seconds`` and ``memory`` of *in pieces* over *copies*.
    """
    layer, row = Layer(shape), shape.layout
    on_gpu = layer.weights.is_cuda
    made: BenchRow = compare(
        f"attention, {shape.heads}/{shape.key_heads} heads x {shape.width}, "
        f"{layer.dtype}",
        (PIECES, lambda: layer.run(PIECES)),
        (COPIES, lambda: layer.run(COPIES)),
        runs=runs,
        tolerance=TOLERANCE[layer.dtype],
        gap=largest_gap,
        note=f"prompt {shape.prompt}, {len(row.lengths)} completions of "
        f"{min(row.lengths)} to {max(row.lengths)}",
        clock=time.perf_counter if on_gpu else time.process_time,
    )
    show(made.line())
    if on_gpu:
        peaks = {form: layer.peak_memory_gb(form) for form in (PIECES, COPIES)}
    else:  # a process keeps what it once held
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
            forms = PIECES, COPIES
            found = pool.map(_peak_alone, itertools.repeat(shape), forms)
            peaks = dict(zip(forms, found, strict=True))
    ratios = {
        "seconds": made.ours_s / made.other_s,
        "memory": peaks[PIECES] / peaks[COPIES],
    }
    show(
        f"peak memory: {PIECES} {peaks[PIECES]:.2f} GiB, {COPIES} "
        f"{peaks[COPIES]:.2f} GiB; {PIECES} takes {ratios['seconds']:.2f} of the "
        f"seconds and {ratios['memory']:.2f} of the memory"
    )
    return {"rows": [made], "peak_memory_gb": peaks, **ratios}


def options() -> argparse.Namespace:
    """The command line's shape and runs."""
    default, found = AttentionShape(), parser(__doc__)
    for name in ("heads", "key_heads", "width", "prompt", "completion", "group"):
        option = f"--{name.replace('_', '-')}"
        found.add_argument(option, type=int, default=getattr(default, name))
    for name in ("ragged", "half"):
        found.add_argument(f"--{name}", action="store_true")
    return found.parse_args()


def run(given: argparse.Namespace) -> dict[str, Any]:
    """``bench_attention`` of the shape on the command line."""
    values = {name: getattr(given, name) for name in AttentionShape.__annotations__}
    return bench_attention(AttentionShape(**values), given.runs)


if __name__ == "__main__":
    sys.exit(main(run, options()))
