"""A step on a device that is not the CPU: nothing in it is made on the CPU by mistake.

The device is pretended (``pretended.py``), its numbers are real: they are those of the
CPU.
"""

import pytest
import torch
from pretended import GPU, Pretended, move, pretended_gpu

from spacer_lib.language.asking import AskSettings
from spacer_lib.models import sampling
from spacer_lib.models.checkpoints import load_checkpoint
from spacer_lib.models.generation import respond
from spacer_lib.models.sampling import gumbel_noise
from spacer_lib.training import step
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.packing_check import packing_gap

SETTINGS = {
    "num_generations": 4,
    "beta": 0.04,
    "num_iterations": 2,
    "max_completion_length": 8,
    "top_p": 0.95,
}


@pytest.fixture
def make(small, mixed, tmp_path):
    """``make(**changes)``: a trainer on a video, a picture, a video and a text."""

    def build(**changes):
        values = SETTINGS | {"data_path": str(mixed), "prompts_per_step": 4} | changes
        return build_trainer(small(**values), tmp_path)

    return build


@pytest.fixture
def on_gpu(monkeypatch):
    """``on_gpu(trainer)``: the trainer, with all that it holds on ``cuda:0``."""

    def moved(trainer):
        kind = type(trainer.accelerator)
        monkeypatch.setattr(kind, "device", property(lambda self: GPU))
        for model in (trainer.model, trainer.ref_model):
            if model is not None:
                move(model)
        return trainer

    return moved


def rolled_and_scored(trainer):
    """A generation batch of four rows, its loss and its log-probabilities."""
    batch = trainer.roll_out([0, 1, 2, 3])
    return batch, *trainer.score(batch)


CHANGES = [
    {"shared_prefix": "on", "refill": 1},
    {"shared_prefix": "off", "loss_type": "dapo", "importance_level": "sequence"},
    {"lora": {"rank": 4}, "temporal_bonus": 0.3},
    {"loss_type": "cispo", "epsilon_high": 5.0},
    {"loss_type": "sapo", "counterfactual_bonus": 2.0},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_a_step_makes_nothing_on_the_cpu(make, on_gpu, changes):
    expected, loss, logps = rolled_and_scored(make(**changes))
    with pretended_gpu():
        trainer = on_gpu(make(**changes))
        batch, same_loss, same_logps = rolled_and_scored(trainer)
        tensors = {k: v for k, v in batch.items() if isinstance(v, torch.Tensor)}
        assert all(isinstance(value, Pretended) for value in tensors.values())
        assert len(tensors) >= 8 and same_logps.device == GPU
    for name, value in tensors.items():
        torch.testing.assert_close(value.held, expected[name], msg=name)
    assert same_loss == pytest.approx(loss, abs=1e-6)
    torch.testing.assert_close(same_logps.held, logps)


@pytest.mark.parametrize("settings", ["on", "off"])
def test_the_checks_at_the_start_run_there(make, on_gpu, settings):
    trainer = make(shared_prefix=settings)
    with pretended_gpu():
        on_gpu(trainer)
        made_up = trainer.made_up(0)
        assert made_up.input_ids.device == GPU
        if settings == "on":
            gap = packing_gap(trainer, made_up)
            assert gap.is_noise and gap.packed < 1e-4
        own = trainer.truth_scores(0)
        grey = trainer.truth_scores(0, torch.zeros_like)
        assert (own - grey).abs().max().item() > 0


def a_mask_of_the_cpu(monkeypatch):
    padded = step.padded

    def wrong(*args):
        made = padded(*args)
        return {**made, "completion_mask": torch.ones(made["completion_mask"].shape)}

    monkeypatch.setattr(step, "padded", wrong)


def noise_of_the_cpu(monkeypatch):
    def wrong(keys, position, size):
        return gumbel_noise(keys.cpu(), position, size)

    monkeypatch.setattr(sampling, "gumbel_noise", wrong)


@pytest.mark.parametrize("fault", [a_mask_of_the_cpu, noise_of_the_cpu])
def test_a_tensor_of_the_cpu_among_them_raises(make, on_gpu, monkeypatch, fault):
    """Negative controls: the CPU itself notices nothing."""
    fault(monkeypatch)
    trainer = make()
    rolled_and_scored(trainer)
    with pretended_gpu(), pytest.raises(RuntimeError, match="same device"):
        rolled_and_scored(on_gpu(trainer))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_evaluation_makes_nothing_on_the_cpu(model_dir, rows, temperature, monkeypatch):
    # A tensor of inference mode has no room for what a pretended one holds.
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)
    settings = AskSettings("tiny", max_new_tokens=8, temperature=temperature, seed=1)
    expected = respond(*load_checkpoint(model_dir), rows[:3], settings)
    model, processor = load_checkpoint(model_dir)
    with pretended_gpu():
        assert move(model).device == GPU
        assert respond(model, processor, rows[:3], settings) == expected
