"""The order of rows: the same for a run that was stopped and resumed.

TRL's sampler draws the order of every epoch from one generator, one after the other: a
run resumed after the first epoch would begin with the first order again.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

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

    @property
    def epochs(self) -> int:
        """Epochs that the run begins, so uses of a row at most."""
        if self.args.max_steps > 0:
            return -(-self.args.max_steps // self._steps_an_epoch(self.train_dataset))
        return math.ceil(self.args.num_train_epochs)

    def _steps_an_epoch(self, dataset: Any) -> int:
        args = self.args
        rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
        rows *= self.accelerator.num_processes
        group = getattr(self, "num_generations", 1)
        if group > 1:
            return len(dataset) // (rows // group) * getattr(self, "num_iterations", 1)
        return -(-len(dataset) // rows)  # the last may be short

    def _get_train_sampler(self, dataset: Any = None) -> Sampler:
        dataset = self.train_dataset if dataset is None else dataset
        args, world = self.args, self.accelerator.num_processes
        rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
        group = getattr(self, "num_generations", 1)
        uses = getattr(self, "num_iterations", 1) if group > 1 else 1
        steps = self._steps_an_epoch(dataset)
        return EpochSampler(
            lambda: self.state.global_step // steps,
            data_source=dataset,
            seed=args.data_seed or args.seed,
            mini_repeat_count=group,
            batch_size=rows * world // group if group > 1 else 1,
            repeat_count=uses * args.gradient_accumulation_steps if group > 1 else 1,
        )
