"""Windows computed together are windows computed one by one: features, gradients."""

import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as library

from spacer_lib.models.patches import windows
from spacer_lib.models.patches.windows import use_batched_windows

# Frames of 128 and 448 tokens of 28 x 28 pixels, as trained and evaluated; a side that
# windows of 112 pixels do not divide.
GRIDS = {
    "16 frames of 128 tokens": (8, 16, 32),
    "32 frames of 448 tokens": (16, 32, 56),
    "uneven sides": (2, 18, 26),
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    tower = {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_heads": 2,
        "window_size": 112,
        "fullatt_block_indexes": [2],
        "out_hidden_size": 16,
    }
    text = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 32,
    }
    config = Qwen2_5_VLConfig(vision_config=tower, text_config=text)
    return Qwen2_5_VLForConditionalGeneration._from_config(
        config, attn_implementation="sdpa"
    )


def graded(model, grid, dtype=torch.float32):
    """Features, and gradients of the tower's weights."""
    tower = model.model.visual.to(dtype)
    tower.zero_grad(set_to_none=True)
    generator = torch.Generator().manual_seed(1)
    rows = grid[0] * grid[1] * grid[2]
    pixels = torch.randn(rows, 1176, generator=generator).to(dtype)
    features = tower(pixels, torch.tensor([grid])).pooler_output
    weights = torch.randn(features.shape, generator=generator).to(dtype)
    (features * weights).sum().backward()
    return [features.detach(), *(weight.grad for weight in tower.parameters())]


@pytest.fixture
def calls(monkeypatch):
    """Numbers of attention calls, of either way."""
    seen = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def counted(*args, **kwargs):
        seen.append(args[0].shape)
        return attend(*args, **kwargs)

    monkeypatch.setattr(windows, "scaled_dot_product_attention", counted)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    return seen


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_windows_together_are_the_stock_tower(model, grid, calls):
    tower = model.model.visual
    tower.config._attn_implementation = "sdpa"
    stock = graded(model, grid)
    before = len(calls)
    use_batched_windows(model)
    assert tower.config._attn_implementation == windows.WINDOWS
    ours = graded(model, grid)
    assert before > 5 * (len(calls) - before)
    assert len(calls) - before <= 3 * 4  # a layer has at most four sizes of windows
    for found, right in zip(ours, stock, strict=True):
        assert (found - right).abs().max() <= 1e-5 * right.abs().max() + 1e-7


def test_in_double_precision_they_are_equal(model):
    tower = model.model.visual
    tower.config._attn_implementation = "sdpa"
    stock = graded(model, GRIDS["uneven sides"], torch.float64)
    found = graded(use_batched_windows(model), GRIDS["uneven sides"], torch.float64)
    model.float()
    # Norms and rotary positions compute in float32 whatever the model is in.
    for ours, right in zip(found, stock, strict=True):
        assert (ours - right).abs().max() <= 1e-6 * right.abs().max()


def test_windows_do_not_see_each_other():
    states = [torch.randn(1, 2, 9, 4, requires_grad=True) for _ in range(3)]
    edges = torch.tensor([0, 2, 5, 5, 7, 9])
    output, _ = windows.window_attention(None, *states, None, cu_seq_lens_q=edges)
    of = [0, 0, 1, 1, 1, 2, 2, 3, 3]
    for row in range(9):
        (gradient,) = torch.autograd.grad(
            output[0, row].sum(), states[2], retain_graph=True
        )
        seen = gradient[0].abs().sum(dim=(0, 2)) > 0
        assert seen.tolist() == [window == of[row] for window in of]


def test_a_tower_with_flash_attention_stays(model):
    config = model.model.visual.config
    config._attn_implementation = "flash_attention_2"
    use_batched_windows(model)
    assert config._attn_implementation == "flash_attention_2"
    config._attn_implementation = "sdpa"


def test_the_library_still_hands_windows_over_by_name():
    assert library.is_flash_attention_requested is windows.is_flash_attention_requested
    assert windows.is_flash_attention_requested(
        requested_attention_implementation=windows.WINDOWS
    )
