"""Attention in pieces is attention under the dense mask: output and gradients.

The oracle is torch's attention with the full mask (``visible``) and the key heads
repeated, in double precision. What the same oracle gives in the tested precision is the
noise to compare with.
"""

import shutil
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from benches import attention as bench
from spacer_lib.training import attention
from spacer_lib.training.attention import Group

HEADS, KEY_HEADS, WIDTH = 28, 4, 128  # Qwen2.5-VL-7B
LAYOUTS = {
    "one group": (Group(40, (9, 9, 9)),),
    "ragged": (Group(40, (9, 9, 1, 14)),),
    "several groups": (Group(17, (3, 8)), Group(0, (2, 5)), Group(30, (4, 4, 1))),
    "prompt alone in front": (Group(1, (1,)),),
}
KERNELS = ["found", "in blocks", "products"]


@pytest.fixture(params=KERNELS)
def kernel(request, monkeypatch):
    if request.param == "products":
        monkeypatch.setattr(attention, "kernel_for", lambda _: attention._Products)
    if request.param == "in blocks":
        monkeypatch.setattr(attention._CpuFlash, "block", 4)


def states_of(layout, dtype, heads=(HEADS, KEY_HEADS, KEY_HEADS), width=WIDTH):
    generator = torch.Generator().manual_seed(3)
    rows = sum(group.size for group in layout)
    return [  # in memory as a layer makes them
        torch.randn(1, rows, count, width, generator=generator)
        .to(dtype)
        .transpose(1, 2)
        .requires_grad_()
        for count in heads
    ]


def graded(attend, states, weights):
    output = attend(*states)
    return [output.detach(), *torch.autograd.grad(output, states, weights)]


def dense(layout):
    def attend(query, key, value):
        repeats = query.shape[1] // key.shape[1]
        key, value = (one.repeat_interleave(repeats, dim=1) for one in (key, value))
        mask = attention.visible(layout)
        return scaled_dot_product_attention(query, key, value, attn_mask=mask)

    return attend


def in_pieces(layout):
    def attend(query, key, value):
        found = attention.branch_attention(
            None, query, key, value, None, branches=layout
        )
        return found[0].transpose(1, 2)

    return attend


def errors(found, right):
    return [float((a - b).abs().max()) for a, b in zip(found, right, strict=True)]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_pieces_are_the_dense_picture(layout, dtype, kernel):
    states = states_of(layout, dtype)
    weights = torch.randn_like(states[0])
    exact = [one.detach().double().requires_grad_() for one in states]
    right = graded(dense(layout), exact, weights.double())
    ours = errors(graded(in_pieces(layout), states, weights), right)
    noise = errors(graded(dense(layout), states, weights), right)
    for error, usual, size in zip(ours, noise, right, strict=True):
        if dtype == torch.float64:  # the oracle itself: no noise to compare with
            usual = 1e-14
        # In a layout of two tokens the noise may be small by chance.
        rounding = 8 * torch.finfo(dtype).eps * float(size.abs().max())
        assert error <= 3 * max(usual, rounding)


@pytest.mark.parametrize("heads", [(4, 4, 4), (4, 2, 2), (6, 1, 1)])
def test_any_number_of_heads_may_share_keys(heads, kernel):
    layout = LAYOUTS["several groups"]
    states = states_of(layout, torch.float32, heads, 16)
    weights = torch.randn_like(states[0])
    found = graded(in_pieces(layout), states, weights)
    assert max(errors(found, graded(dense(layout), states, weights))) < 1e-5


def test_branches_see_the_prompt_and_themselves():
    """Which positions a packed row's attention reads, by their gradients."""
    layout = (Group(3, (2, 1)), Group(1, (2,)))
    states = states_of(layout, torch.float32, (2, 2, 2), 4)
    output = in_pieces(layout)(*states)
    seen = []
    for row in range(output.shape[2]):
        (gradient,) = torch.autograd.grad(
            output[0, :, row].sum(), states[2], retain_graph=True
        )
        seen.append((gradient[0].abs().sum(dim=(0, 2)) > 0).int().tolist())
    assert seen == [
        [1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 1, 1, 1],
    ]
    assert seen == attention.visible(layout).int().tolist()


def test_branches_of_equal_length_share_a_call():
    calls = attention.pieces((Group(5, (3, 3, 3, 1, 3)),))
    assert [piece.queries.rows for piece in calls] == [1, 1, 3, 1, 1]


# ---------------------------------------------------------------- FlexAttention


def by_flex(layout):
    def attend(query, key, value):
        found = attention.branch_attention(
            None, query, key, value, None, branches=layout, flex=True
        )
        return found[0].transpose(1, 2)

    return attend


@pytest.fixture(params=["eager", "compiled"])
def flex(request, monkeypatch):
    """FlexAttention as a CPU runs it, and compiled as for a GPU."""
    if request.param == "compiled":
        if shutil.which("c++") is None:
            pytest.skip("torch.compile wants a C++ compiler here")
        compiled = attention._flex_kernel("cuda")
        monkeypatch.setattr(attention, "_flex_kernel", lambda _: compiled)
        yield
        torch._dynamo.reset()
    else:
        yield


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.usefixtures("flex")
def test_flex_is_the_pieces():
    for layout in LAYOUTS.values():
        states = [one.detach() for one in states_of(layout, torch.float32)]
        right = in_pieces(layout)(*states)
        assert (by_flex(layout)(*states) - right).abs().max() < 1e-5


def test_gradients_of_flex_are_those_of_the_pieces():
    if not torch.cuda.is_available():
        pytest.skip("FlexAttention has no backward pass on a CPU")
    layout = LAYOUTS["several groups"]
    states = [
        one.detach().to("cuda", torch.bfloat16).requires_grad_()
        for one in states_of(layout, torch.float32)
    ]
    weights = torch.randn_like(states[0])
    found = graded(by_flex(layout), states, weights)
    for ours, right in zip(
        found, graded(in_pieces(layout), states, weights), strict=True
    ):
        assert (ours - right).abs().max() <= 0.03 * right.abs().max()


# ---------------------------------------------------------------- pieces


def positions(run):
    return torch.stack(
        [
            run.start + number * run.step + torch.arange(run.length)
            for number in range(run.rows)
        ]
    )


@pytest.mark.parametrize("block", [None, 1, 3, 4, 128])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_each_pair_is_in_one_piece(layout, block):
    seen = attention.visible(layout)
    times = torch.zeros_like(seen, dtype=torch.long)
    queries, keys = set(), set()  # that a piece before had
    for piece in attention.pieces(layout, block):
        rows, columns = positions(piece.queries), positions(piece.keys)
        assert piece.first == (not queries & {*rows.flatten().tolist()})
        assert piece.causal == (not keys & {*columns.flatten().tolist()})
        queries |= {*rows.flatten().tolist()}
        keys |= {*columns.flatten().tolist()}
        assert not piece.causal or rows.shape[1] <= (block or rows.shape[1])
        for of, over in zip(rows, columns, strict=True):
            pairs = torch.ones(len(of), len(over), dtype=torch.long)
            times[of[:, None], over] += pairs.tril() if piece.causal else pairs
    assert torch.equal(times, seen.long())


def test_blocks_of_the_published_lengths_are_small():
    """A causal piece is computed whole: what is not seen, over what is."""
    layout = (Group(2299, (1024,) * 8),)
    block = attention._CpuFlash.block
    whole = sum(
        piece.queries.rows * piece.queries.length * piece.keys.length
        for piece in attention.pieces(layout, block)
    )
    pairs = 2299 * 2300 / 2 + 8 * (1024 * 2299 + 1024 * 1025 / 2)
    assert whole < 1.03 * pairs


def test_a_device_without_flash_attention_is_named(monkeypatch):
    def kernel(dtype, device="cpu", width=128):
        told = SimpleNamespace(
            device=SimpleNamespace(type=device), dtype=dtype, shape=(1, 2, 3, width)
        )
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = attention.kernel_for(told)
        return found, [str(one.message) for one in said]

    assert kernel(torch.bfloat16) == (attention._CpuFlash, [])
    found, (message,) = kernel(torch.float32, "cuda")
    assert found is attention._Products
    assert "no flash attention for torch.float32 on cuda" in message
    cuda = torch.backends.cuda
    monkeypatch.setattr(cuda, "is_flash_attention_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.version, "hip", None)
    assert kernel(torch.bfloat16, "cuda") == (attention._CudaFlash, [])
    assert kernel(torch.bfloat16, "cuda", 100)[0] is attention._Products


def test_the_gpu_kernels_take_what_they_are_given():
    """Without a GPU: their declared arguments and results, in this order."""
    operators = torch.ops.aten
    forward = operators._scaled_dot_product_flash_attention.default._schema
    backward = operators._scaled_dot_product_flash_attention_backward.default._schema
    assert [one.name for one in forward.returns][2:8] == [
        *("cum_seq_q", "cum_seq_k", "max_q", "max_k", "rng_state", "unused")
    ]
    assert [one.name for one in backward.arguments] == [
        *("grad_out", "query", "key", "value", "out", "logsumexp"),
        *("cum_seq_q", "cum_seq_k", "max_q", "max_k", "dropout_p", "is_causal"),
        *("philox_seed", "philox_offset", "scale"),
    ]


@pytest.mark.parametrize("ragged", [False, True])
def test_the_bench_compares_equal_ways(ragged):
    shape = bench.AttentionShape(4, 2, 16, 20, 6, 3, ragged)
    layer = bench.Layer(shape)
    gap = bench.largest_gap(*map(layer.run, (bench.PIECES, bench.COPIES)))
    assert gap < 1e-5
    assert layer.layout.lengths == ((6, 3, 6) if ragged else (6, 6, 6))
