"""Memory of each rank in each phase of a step, and the peak of the whole run."""

import pytest
import torch

from spacer_lib.training import memory
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.record import MetricsLog, meaning_of, read_journal
from spacer_lib.training.trainer import PHASES, UPDATE, StepClock


class Card:
    """A GPU whose memory is set by hand, GiB."""

    def __init__(self, monkeypatch):
        self.now = self.peak = 0.0
        monkeypatch.setattr(memory, "_EARLIER", 0.0)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(
            torch.cuda, "max_memory_allocated", lambda: int(self.peak * 2**30)
        )
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", self.reset)

    def reset(self):
        self.peak = self.now

    def use(self, most, then):
        """Rise to ``most``, then stay at ``then``."""
        self.peak, self.now = max(self.peak, most), then


def test_each_phase_has_its_own_peak_and_the_run_keeps_the_largest(monkeypatch):
    card, clock = Card(monkeypatch), StepClock()
    card.use(20, 15)  # the weights, and the optimiser of the step before
    with clock("step"):
        with clock("data"):
            card.use(15, 15)
        with clock("generate"):
            card.use(33, 16)
        with clock("score"):
            card.use(18, 16)
        card.use(28, 15)
    assert clock.memory == {"update": 28, "data": 15, "generate": 33, "score": 18}
    assert memory.peak_memory_gb()[1] == 33
    card.use(40, 15)
    assert memory.peak_memory_gb()[1] == 40
    after = StepClock()
    with after("step"):
        pass
    assert after.memory == {"update": 40}  # of the optimiser, between two steps
    assert memory.peak_memory_gb()[1] == 40


@pytest.mark.skipif(torch.cuda.is_available(), reason="resident memory is the CPU's")
def test_a_run_logs_every_phase(small, rows, tmp_path):
    trainer = build_trainer(small(num_iterations=2), tmp_path, rows=rows)
    trainer.add_callback(MetricsLog(tmp_path / "metrics.jsonl"))
    trainer.train()
    first, again = read_journal(tmp_path / "metrics.jsonl")
    names = {phase: f"memory_gb/{phase}/rank0" for phase in (*PHASES, UPDATE)}
    assert all(meaning_of(name) for name in names.values())
    for name in names.values():
        assert 0.1 < first[name] <= first["peak_memory_gb"] + 0.01
    # The second update draws no rollouts.
    assert names[UPDATE] in again and names["generate"] not in again
