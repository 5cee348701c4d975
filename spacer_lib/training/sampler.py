"""The order of rows: the same for a run that was stopped and resumed.

TRL's sampler draws the order of every epoch from one generator, one after the other: a
run resumed after the first epoch would begin with the first order again.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import Sampler
from transformers import Trainer
from trl.trainer.utils import RepeatSampler

from spacer_lib.models.sampling import sequence_key


class EpochSampler(RepeatSampler):
    """``RepeatSampler`` whose order depends on the seed and the epoch only.

    Parameters
    ----------
    epoch : callable
        Returns the number of the epoch that begins, from 0.
    seed : int
    **kwargs
        As for ``RepeatSampler``.
    """

    def __init__(self, epoch: Callable[[], int], seed: int, **kwargs: Any) -> None:
        super().__init__(seed=seed, **kwargs)
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(sequence_key(self.seed, self.epoch()) % 2**63)
        return super().__iter__()


class EpochOrder(Trainer):
    """Mixin for a trainer of ``transformers`` or TRL that uses ``EpochSampler``."""

    def _get_train_sampler(self, dataset: Any = None) -> Sampler:
        dataset = self.train_dataset if dataset is None else dataset
        group, _, uses = _shape(self)
        steps = _steps_an_epoch(self, len(dataset))
        return _sampler(
            self,
            lambda: self.state.global_step // steps,
            dataset,
            mini_repeat_count=group,
            repeat_count=uses * self.args.gradient_accumulation_steps
            if group > 1
            else 1,
        )

    def asked(self) -> Iterator[int]:
        """Numbers of the rows that the steps to come show, in order; of all ranks.

        A row stands there once for all completions and all uses of them.
        """
        args, done, dataset = self.args, self.state.global_step, self.train_dataset
        _, prompts, uses = _shape(self)
        steps = _steps_an_epoch(self, len(dataset))
        if not steps:  # fewer rows than a step shows
            return
        last = args.max_steps
        if last <= 0:
            last = math.ceil(args.num_train_epochs * steps)
        for epoch in range(done // steps, -(-last // steps)):
            order = _sampler(self, functools.partial(int, epoch), dataset)
            for place, number in enumerate(order):
                step = epoch * steps + place // prompts * uses
                if done <= step < last:
                    yield number


def _sampler(
    trainer: Any,
    epoch: Callable[[], int],
    dataset: Any,
    mini_repeat_count: int = 1,
    repeat_count: int = 1,
) -> EpochSampler:
    group, prompts, _ = _shape(trainer)
    return EpochSampler(
        epoch,
        data_source=dataset,
        seed=trainer.args.data_seed or trainer.args.seed,
        mini_repeat_count=mini_repeat_count,
        batch_size=prompts if group > 1 else 1,
        repeat_count=repeat_count,
    )


def _shape(trainer: Any) -> tuple[int, int, int]:
    """Completions of a row, rows of a batch (all ranks), and steps that use it."""
    args, world = trainer.args, trainer.accelerator.num_processes
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
    group = getattr(trainer, "num_generations", 1)
    uses = getattr(trainer, "num_iterations", 1) if group > 1 else 1
    return group, rows * world // group, uses


def _steps_an_epoch(trainer: Any, rows: int) -> int:
    group, prompts, uses = _shape(trainer)
    # The last batch of a baseline may be short.
    return rows // prompts * uses if group > 1 else -(-rows // prompts)
