"""The order of rows, the same however often a run was stopped.

TRL's sampler draws each epoch's order from one generator, in turn: a run resumed after
the first epoch would begin with the first order again.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler

from spacer_lib.models.sampling import sequence_key


class EpochOrder(RepeatSampler):
    """``RepeatSampler`` whose order is drawn from the seed and the epoch alone.

    Parameters
    ----------
    epoch : callable
        Number of the epoch that begins, from 0.
    seed : int
    **kwargs
        As for ``RepeatSampler``.
    """

    def __init__(self, epoch, seed, **kwargs):
        super().__init__(seed=seed, **kwargs)
        self.epoch = epoch

    def __iter__(self):
        self.generator.manual_seed(sequence_key(self.seed, self.epoch()) % 2**63)
        return super().__iter__()


class RowOrder:
    """Mixed into a trainer of ``transformers`` or TRL: rows come in ``EpochOrder``."""

    def _get_train_sampler(self, dataset=None) -> Sampler:
        dataset = self.train_dataset if dataset is None else dataset
        args, world = self.args, self.accelerator.num_processes
        rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
        group, uses = getattr(self, "num_generations", 1), 1
        steps = -(-len(dataset) // (rows * world))  # the last may be short
        if group > 1:
            uses = self.num_iterations
            steps = len(dataset) // (rows * world // group) * uses
        return EpochOrder(
            lambda: self.state.global_step // steps,
            data_source=dataset,
            seed=args.data_seed or args.seed,
            mini_repeat_count=group,
            batch_size=rows * world // group if group > 1 else 1,
            repeat_count=uses * args.gradient_accumulation_steps if group > 1 else 1,
        )
