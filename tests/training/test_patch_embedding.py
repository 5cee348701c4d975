"""The patch embedding as a matrix product: the numbers of the convolution."""

import copy

import pytest
import torch
from support import refused
from transformers import AutoModelForImageTextToText

from spacer_lib.evaluation.backends import load
from spacer_lib.models.patches.patch_embedding import (
    use_convolved_patches,
    use_linear_patches,
)
from spacer_lib.tiny import model as tiny
from spacer_lib.tiny.warmstart import corpus
from spacer_lib.training.assembly import build_trainer


def convolution(model):
    return model.model.visual.patch_embed.proj


@pytest.fixture(params=tiny.FAMILIES)
def model(request):
    torch.manual_seed(0)
    made = tiny.build_model(tiny.build_tokenizer(corpus()), request.param)
    return made.eval()


def run(model, dtype):
    """Features of two pictures, and the gradients of the patch embedding."""
    model = model.to(dtype)
    conv, grid = convolution(model), torch.tensor([[1, 4, 2], [2, 2, 2]])
    patch = conv.in_channels * 2 * tiny.PATCH**2
    noise = torch.Generator().manual_seed(1)
    pixels = torch.randn(16, patch, generator=noise).to(dtype).requires_grad_()
    features = torch.cat(model.model.get_image_features(pixels, grid).pooler_output)
    weights = torch.randn(features.shape, generator=noise).to(dtype)
    parts = [pixels, *conv.parameters()]
    return [features, *torch.autograd.grad((features * weights).sum(), parts)]


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)]
)
def test_features_and_gradients_are_those_of_the_convolution(
    model, dtype, bound, monkeypatch
):
    expected = run(model, dtype)
    use_linear_patches(model)
    used = "torch.nn.Conv3d._conv_forward"
    monkeypatch.setattr(used, lambda *a: pytest.fail("the convolution ran"))
    for found, truth in zip(run(model, dtype), expected, strict=True):
        assert found.shape == truth.shape and found.dtype == dtype
        assert (found - truth).abs().max() <= bound * truth.abs().max()


def test_only_the_forward_changes(model, tmp_path):
    kept = dict(model.state_dict())
    use_linear_patches(use_linear_patches(model))
    assert all(torch.equal(w, kept.pop(n)) for n, w in model.state_dict().items())
    assert kept == {}
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    expected, found = (run(one, torch.float64) for one in (model, loaded))
    torch.testing.assert_close(found, expected)
    use_convolved_patches(model)
    assert "forward" not in vars(convolution(model))


def test_a_copy_uses_its_own_weights_and_hooks_run(model):
    twin = copy.deepcopy(use_linear_patches(model))
    with torch.no_grad():
        convolution(twin).weight.zero_()
    seen = []
    convolution(twin).register_forward_hook(lambda *a: seen.append(a[-1]))
    run(twin, torch.float32)
    bias = convolution(twin).bias
    rest = 0 if bias is None else bias[:, None, None, None]
    assert (seen[0] == rest).all() and seen[0].shape[2:] == (1, 1, 1)
    assert run(model, torch.float32)[0].abs().max() > 0


def test_a_larger_picture_is_still_convolved(model):
    conv = convolution(use_linear_patches(model))
    side = 3 * tiny.PATCH
    picture = torch.randn(1, conv.in_channels, 2, side, side)
    assert conv(picture).shape[2:] == (1, 3, 3)


def test_a_sliding_kernel_is_refused(model):
    convolution(model).stride = (1, 1, 1)
    with refused("models.sliding-kernel", says="Conv3d"):
        use_linear_patches(model)


def test_policy_reference_and_evaluation_use_it(small, rows, model_dir, tmp_path):
    trainer = build_trainer(small(beta=0.04), tmp_path, rows=rows)
    evaluated, _ = load(model_dir)
    for model in (trainer.model, trainer.ref_model, evaluated):
        assert "forward" in vars(convolution(model))
