"""Memory of each rank in each phase of a step, and the peak of the whole run."""

import gc

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from transformers import TrainerCallback

from spacer_lib.models import inputs
from spacer_lib.models.inputs import MediaUses
from spacer_lib.rooms.video import RecentlyUsed
from spacer_lib.tiny.curriculum import DEMONSTRATED, SEEDS, draw_rows
from spacer_lib.training import memory
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.processes.worker import BUILDERS
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


# ------------------------------------------------------------ nothing accumulates

STEPS, WARM = 14, 4
VIDEO_BYTES = 2 * 16 * 1176 * 4  # 2 time steps of 4 x 4 patches


class Alive(TrainerCallback):
    """Bytes of all tensors, and objects, after the warm-up and at the end."""

    def __init__(self):
        self.tensors, self.objects = [], []

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step not in (WARM, STEPS):
            return
        gc.collect()
        found = gc.get_objects()
        self.objects.append(len(found))
        # Of other types are the pretended tensors of other tests, without a storage.
        stores = [
            one.untyped_storage() for one in found if type(one) in (Tensor, Parameter)
        ]
        self.tensors.append(sum({s.data_ptr(): s.nbytes() for s in stores}.values()))


@pytest.fixture(scope="module")
def shown_once():
    """As many questions as a run of ``STEPS`` steps asks, each about its own room."""
    return draw_rows(SEEDS["develop"], 2 * STEPS, DEMONSTRATED)


FREES = (True, False)


@pytest.mark.parametrize(
    ("method", "bonus", "frees"),
    [
        *((name, 0.0, frees) for name in ("grpo", "sft", "dpo") for frees in FREES),
        ("grpo", 2.0, True),
    ],
)
def test_a_run_keeps_nothing_of_the_steps_behind_it(
    small, shown_once, tmp_path, monkeypatch, method, bonus, frees
):
    """Where uses are not counted, every video stays, and the same check sees it."""
    if not frees:
        monkeypatch.setattr(MediaUses, "used", lambda *_: None)
    monkeypatch.setattr(inputs, "_KEPT", RecentlyUsed(inputs._size, inputs.KEPT_BYTES))
    config = small(
        method=method,
        max_steps=STEPS,
        save_steps=STEPS + 1,
        beta=0.1 if method == "dpo" else 0.0,
        counterfactual_bonus=bonus,
    )
    alive = Alive()
    trainer = BUILDERS[method](config, tmp_path, rows=shown_once)
    trainer.add_callback(alive)
    trainer.train()
    tensors, objects = (b - a for a, b in (alive.tensors, alive.objects))
    assert (tensors < 2 * VIDEO_BYTES, objects < 100 * (STEPS - WARM)) == (frees, True)
    assert frees or tensors > 1.5 * (STEPS - WARM) * VIDEO_BYTES
