"""Notebook 10's GRPO against the trainer: its cells are run as they stand."""

from pathlib import Path

import jupytext
import pytest
import torch

from spacer_lib.training.assembly import build_trainer

BOOK = Path(__file__).resolve().parents[2] / "notebooks" / "10_write_grpo.py"
TAG = "in-100-lines"


def cells(tagged):
    return [
        cell.source
        for cell in jupytext.read(BOOK).cells
        if cell.cell_type == "code" and (TAG in cell.metadata.get("tags", [])) == tagged
    ]


@pytest.fixture(scope="module")
def page():
    """The names that the hundred lines define, and the page's reader of a batch."""
    names = {}
    reader = [source for source in cells(False) if "def groups_of" in source]
    exec("\n".join([*cells(True), *reader]), names)
    return names


def test_there_are_a_hundred_lines():
    lines = "\n".join(cells(True)).splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 100


@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_loss_and_gradient_are_the_trainers(page, small, rows, tmp_path, beta):
    """Same rollouts, at weights that moved since: clip and KL both act."""
    config = small(beta=beta, num_iterations=2)
    trainer = build_trainer(config, tmp_path, rows=rows)
    batch = trainer.roll_out([0, 4])
    batch["advantages"] = torch.linspace(-2, 2, len(batch["advantages"]))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in trainer.model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight += 0.2 * weight.std(unbiased=False) * noise
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    theirs = trainer._compute_loss(trainer.model, batch)
    theirs.backward()
    expected = [w.grad.clone() for w in trainer.model.parameters() if w.requires_grad]
    trainer.model.zero_grad()
    batch.setdefault("ref_per_token_logps", batch["old_per_token_logps"])
    groups = list(page["groups_of"](batch, trainer.num_generations))
    ours = sum(page["loss_of"](trainer.model, g, beta) for g in groups) / len(groups)
    ours.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    found = [w.grad for w in trainer.model.parameters() if w.requires_grad]
    length = torch.stack([g.norm() for g in expected]).norm()
    gap = torch.stack([(a - b).norm() for a, b in zip(found, expected, strict=True)])
    assert length > 1e-3 and gap.norm() < 1e-3 * length


def test_sampling_stops_at_the_first_end(page, small, rows, tmp_path):
    """A group has its own advantages, and no token after an end counts."""
    config = small()
    trainer = build_trainer(config, tmp_path, rows=rows)
    model, end = trainer.model, trainer.model.generation_config.eos_token_id
    group = page["roll_out"](
        model,
        model,
        trainer.processing_class,
        rows[0],
        config,
        lambda text, row: float(len(text)),
        4,
    )
    for made, mask in zip(group["made"].tolist(), group["mask"].tolist(), strict=True):
        ends = [i for i, t in enumerate(made) if t in torch.as_tensor(end).view(-1)]
        assert sum(mask) == (ends[0] + 1 if ends else len(made))
    assert abs(group["advantages"].sum()) < 1e-3
    assert torch.equal(group["old"], group["reference"])
