"""Attention of a packed row, without copies of the prompt.

A packed row holds groups: a prompt, then branches that go on from it (``prefix``). Its
attention is computed in pieces. Each piece is a run of queries over a run of keys:

    prompt over prompt (causal) | all branches over the prompt | a branch over itself

A branch's token is in two pieces or more. Their outputs are merged by the logarithms of
their softmax sums, so the prompt's keys are read where they are and never copied for a
branch. Query heads that share a key head read the same keys. Branches keep their own
lengths. A long causal piece is cut into blocks where the kernel would compute pairs
that are not seen.

The backward pass of a piece gets the merged output and the merged sums: with these it
gives the piece's part of the whole gradient.

Source: merging, FlashAttention §3.1 (https://arxiv.org/abs/2205.14135); its backward
pass over pieces, Ring Attention (https://arxiv.org/abs/2310.01889).
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import functools
import itertools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.nn.attention.flex_attention import (
    BlockMask,
    create_block_mask,
    flex_attention,
)
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from spacer_lib.models.patches.shared_media import core_of

BRANCHES, FLEX_BRANCHES = "spacer_branches", "spacer_flex_branches"
CPU_TYPES = torch.float32, torch.float64, torch.bfloat16, torch.float16
HALVES = torch.bfloat16, torch.float16


class Group(NamedTuple):
    """A part of a packed row: a prompt without its last token, then its branches.

    Attributes
    ----------
    before : int
        Tokens of the prompt without its last.
    lengths : tuple of int
        Tokens of each branch, at least 1.
    """

    before: int
    lengths: tuple[int, ...]

    @property
    def size(self) -> int:
        """Positions of the group."""
        return self.before + sum(self.lengths)


Layout = tuple[Group, ...]


class Run(NamedTuple):
    """Equally long sequences of a row, each as far from the next.

    Attributes
    ----------
    start, length : int
        First position of the first sequence; tokens of each.
    rows, step : int
        Number of sequences; positions from one's first token to the next one's.
    """

    start: int
    length: int
    rows: int = 1
    step: int = 0

    def part(self, start: int, length: int) -> "Run":
        """The same tokens of every sequence."""
        return self._replace(start=self.start + start, length=length)

    def of(self, states: torch.Tensor) -> torch.Tensor:
        """(1, h, S, …) → (rows, h, length, …), a view."""
        end = self.start + (self.rows - 1) * self.step + self.length
        cut = states[0, :, self.start : end]
        return cut.unfold(1, self.length, max(self.step, 1)).movedim((1, -1), (0, 2))


class Piece(NamedTuple):
    """Queries that attend to keys in one call.

    Attributes
    ----------
    queries, keys : Run
    causal : bool
        Within each sequence. Each key is in one causal piece, before all others.
    first : bool
        Whether no piece before had these queries.
    """

    queries: Run
    keys: Run
    causal: bool
    first: bool


def pieces(layout: Layout, block: int | None = None) -> Iterator[Piece]:
    """The pieces that together are the attention of a packed row.

    Parameters
    ----------
    layout : tuple of Group
    block : int, optional
        Most tokens of a causal piece. A longer one is cut in two, and its second part
        also attends to its first.
    """
    start = 0
    for group in layout:
        at = start + group.before
        prompt = Run(start, group.before)
        if group.before:
            yield from _causal(prompt, block, True)
            yield Piece(Run(at, sum(group.lengths)), prompt, False, True)
        for length, alike in itertools.groupby(group.lengths):
            own = Run(at, length, len(list(alike)), length)
            yield from _causal(own, block, not group.before)
            at += own.rows * length
        start = at


def _causal(run: Run, block: int | None, first: bool) -> Iterator[Piece]:
    """Pieces in which sequences attend to themselves."""
    if block is None or run.length <= block:
        yield Piece(run, run, True, first)
        return
    half = block
    while 2 * half < run.length:
        half *= 2
    left, right = run.part(0, half), run.part(half, run.length - half)
    yield from _causal(left, block, first)
    yield from _causal(right, block, first)
    yield Piece(right, left, False, False)


def visible(layout: Layout) -> torch.Tensor:
    """What each position of a packed row attends to: (S, S) bool, rows to columns.

    ``branch_attention`` computes the same in pieces; this is for pictures and tests.
    """
    own, prompt = _numbers(layout)
    seen = (own[:, None] == own) | (prompt[:, None] == own)
    return seen & torch.ones(len(own), len(own), dtype=torch.bool).tril()


def _numbers(layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each position the number of its sequence, and that of its prompt: (S,) int."""
    numbers, prompts, number = [], [], 0
    for group in layout:
        numbers += [number] * group.before
        prompts += [number] * group.size
        for length in group.lengths:
            number += 1
            numbers += [number] * length
        number += 1
    return torch.tensor(numbers), torch.tensor(prompts)


# ---------------------------------------------------------------- kernels


class _CpuFlash:
    """torch's flash attention on a CPU."""

    block = 128  # it computes blocks of 512 keys whole, also where half is not seen

    @staticmethod
    def forward(q: Any, k: Any, v: Any, causal: bool, scale: float) -> tuple[Any, ...]:
        """Output, sums, and what ``backward`` gets as ``extra``."""
        run = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return (*run(q, k, v, 0.0, causal, scale=scale), ())

    @staticmethod
    def backward(
        gradient: Any, states: Any, causal: bool, scale: float, extra: Any
    ) -> Any:
        """Gradients of q, k and v; ``states``: q, k, v, output, sums."""
        run = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        return run(gradient, *states, 0.0, causal, scale=scale)


class _CudaFlash:
    """torch's flash attention on a GPU, for half precision."""

    block = None

    @staticmethod
    def forward(q: Any, k: Any, v: Any, causal: bool, scale: float) -> tuple[Any, ...]:
        """See ``_CpuFlash``."""
        run = torch.ops.aten._scaled_dot_product_flash_attention
        output, sums, *extra = run(q, k, v, 0.0, causal, False, scale=scale)
        return output, sums, extra[:6]

    @staticmethod
    def backward(
        gradient: Any, states: Any, causal: bool, scale: float, extra: Any
    ) -> Any:
        """See ``_CpuFlash``."""
        run = torch.ops.aten._scaled_dot_product_flash_attention_backward
        *states, sums = states
        places, random = extra[:4], extra[4:]
        return run(
            gradient,
            *states,
            sums.contiguous(),
            *places,
            0.0,
            causal,
            *random,
            scale=scale,
        )


class _Products:
    """Matrix products and a softmax: any device and type, and a dense matrix."""

    block = None

    @staticmethod
    def _scores(q: Any, k: Any, causal: bool, scale: float) -> Any:
        groups = q.shape[1] // k.shape[1]  # (b, key heads, groups, queries, keys)
        rows = q.unflatten(1, (-1, groups)).to(_exact(q))
        scores = rows @ k[:, :, None].to(rows).mT * scale
        if causal:
            seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device)
            scores = scores.masked_fill(~seen.tril(), -torch.inf)
        return scores

    @classmethod
    def forward(
        cls, q: Any, k: Any, v: Any, causal: bool, scale: float
    ) -> tuple[Any, ...]:
        """See ``_CpuFlash``."""
        scores = cls._scores(q, k, causal, scale)
        sums = scores.logsumexp(dim=-1)
        output = (scores - sums[..., None]).exp() @ v[:, :, None].to(scores)
        return output.flatten(1, 2).to(q), sums.flatten(1, 2), ()

    @classmethod
    def backward(
        cls, gradient: Any, states: Any, causal: bool, scale: float, extra: Any
    ) -> Any:
        """See ``_CpuFlash``."""
        q, k, v, output, sums = states
        groups = q.shape[1] // k.shape[1]
        scores = cls._scores(q, k, causal, scale)

        def split(states: torch.Tensor) -> torch.Tensor:
            return states.unflatten(1, (-1, groups)).to(scores)

        shares = (scores - split(sums)[..., None]).exp()
        wanted, rows = split(gradient), split(q)
        whole = (wanted * split(output)).sum(dim=-1, keepdim=True)
        inner = shares * (wanted @ v[:, :, None].to(scores).mT - whole) * scale
        return (
            (inner @ k[:, :, None].to(scores)).flatten(1, 2).to(q),
            (inner.mT @ rows).sum(dim=2).to(k),
            (shares.mT @ wanted).sum(dim=2).to(v),
        )


def kernel_for(query: torch.Tensor) -> Any:
    """The kernel that computes the pieces of these queries.

    Warns once where torch has no flash attention for them.
    """
    device, kind = query.device.type, query.dtype
    if device == "cpu" and kind in CPU_TYPES:
        return _CpuFlash
    usable = (
        device == "cuda"
        and kind in HALVES
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 256
        and torch.version.hip is None
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )
    if usable:
        return _CudaFlash
    warnings.warn(
        f"no flash attention for {kind} on {device} with heads of {query.shape[-1]}: "
        "packed rows are computed with dense matrices, slower and in more memory",
        stacklevel=2,
    )
    return _Products


def _exact(states: torch.Tensor) -> torch.dtype:
    """The type in which sums are kept: at least float32."""
    return torch.promote_types(states.dtype, torch.float32)


class _InPieces(torch.autograd.Function):
    """(1, h, S, d) queries and (1, key heads, S, d) keys, values → (1, h, S, d)."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layout: Layout,
        scale: float,
    ) -> torch.Tensor:
        kernel = kernel_for(query)
        plan, extras = list(pieces(layout, kernel.block)), []
        output = torch.empty_like(query)
        sums = query.new_empty(query.shape[:3], dtype=_exact(query))
        for piece in plan:
            q, there, total = map(piece.queries.of, (query, output, sums))
            k, v = map(piece.keys.of, (key, value))
            found, own, extra = kernel.forward(q, k, v, piece.causal, scale)
            extras.append(extra)
            if piece.first:
                there.copy_(found)
                total.copy_(own)
                continue
            share = torch.sigmoid(own - total)[..., None]
            if there.dtype == share.dtype:
                there.lerp_(found, share)
            else:
                there.copy_(torch.lerp(there.to(share), found.to(share), share))
            total.copy_(torch.logaddexp(total, own))
        ctx.save_for_backward(query, key, value, output, sums)
        ctx.plan, ctx.extras, ctx.kernel, ctx.scale = plan, extras, kernel, scale
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, output, sums = ctx.saved_tensors
        made = [torch.empty_like(states) for states in (query, key, value)]
        for piece, extra in zip(ctx.plan, ctx.extras, strict=True):
            q, o, total, wanted = map(piece.queries.of, (query, output, sums, gradient))
            k, v = map(piece.keys.of, (key, value))
            found = ctx.kernel.backward(
                wanted, (q, k, v, o, total), piece.causal, ctx.scale, extra
            )
            places = piece.queries, piece.keys, piece.keys
            new = piece.first, piece.causal, piece.causal
            for whole, run, one, is_new in zip(made, places, found, new, strict=True):
                there = run.of(whole)
                if is_new:
                    there.copy_(one)
                else:
                    there.add_(one)
        return *made, None, None


# ---------------------------------------------------------------- FlexAttention


@functools.lru_cache(maxsize=4)
def _block_mask(layout: Layout, device: torch.device) -> BlockMask:
    """``visible`` as FlexAttention takes it; all layers of a forward share one."""
    own, prompt = (one.to(device) for one in _numbers(layout))

    def sees(row: Any, head: Any, query: torch.Tensor, key: torch.Tensor) -> Any:
        of_one_group = (own[query] == own[key]) | (prompt[query] == own[key])
        return (query >= key) & of_one_group

    size = len(own)
    return create_block_mask(sees, None, None, size, size, device=device)


@functools.cache
def _flex_kernel(kind: str) -> Any:
    """FlexAttention, compiled on a GPU; on a CPU it has a forward pass only."""
    return (
        torch.compile(flex_attention, dynamic=True)
        if kind == "cuda"
        else flex_attention
    )


def _by_flex(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
) -> torch.Tensor:
    """What ``_InPieces`` computes, in one call."""
    mask = _block_mask(layout, query.device)
    shared = key.shape[1] != query.shape[1]
    made: torch.Tensor = _flex_kernel(query.device.type)(
        query, key, value, block_mask=mask, scale=scale, enable_gqa=shared
    )
    return made


# ---------------------------------------------------------------- transformers


def branch_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    branches: Layout | None = None,
    flex: bool = False,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a packed row; without ``branches`` exactly transformers' ``sdpa``.

    Parameters
    ----------
    query : (1, heads, S, d) tensor
    key, value : (1, key heads, S, d) tensor
    branches : tuple of Group, optional
        The row's groups. There is no dropout then.
    flex : bool
        By FlexAttention instead of in pieces.

    Returns
    -------
    (1, S, heads, d) tensor, None
    """
    if branches is None:
        return sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            **kwargs,
        )
    query, key, value = map(_as_autocast, (query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attend = _by_flex if flex else _InPieces.apply
    output = attend(query, key, value, branches, scale)
    return output.transpose(1, 2), None


def _as_autocast(states: torch.Tensor) -> torch.Tensor:
    """Under autocast in its type: it casts no argument of an own function, and rotary
    positions leave queries and keys in float32."""
    device = states.device.type
    if not torch.is_autocast_enabled(device):
        return states
    return states.to(torch.get_autocast_dtype(device))


for _name, _flex in ((BRANCHES, False), (FLEX_BRANCHES, True)):
    AttentionInterface.register(_name, functools.partial(branch_attention, flex=_flex))
    AttentionMaskInterface.register(_name, sdpa_mask)


def use_branches(model: Any, attention: str = "sdpa") -> Any:
    """Let the language model's layers take packed rows; the tower stays as it is.

    Parameters
    ----------
    model
    attention : str
        Of the recipe. Packed rows are computed by FlexAttention with ``flex``, else in
        pieces. Rows without ``branches`` are computed by sdpa.

    Returns
    -------
    model
        The same object.
    """
    text = core_of(model).language_model
    flex = attention == "flex"
    text.config._attn_implementation = FLEX_BRANCHES if flex else BRANCHES
    return model
