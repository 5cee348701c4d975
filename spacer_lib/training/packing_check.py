"""Are packed log-probabilities those of separate rows? Asked in training, of its model.

Packed and separate rows add in different orders, so they differ by rounding. How much
rounding makes depends on the model, its depth, its number format and the machine. So
it is measured beside: the same completions one row to a forward and in one batch, both
by the stock path. The packed row may differ from a row by a few times that noise.
Compared are root mean squares over the tokens, not the largest difference, which only
tells of the least probable token.

Asked before the first step with a row of each kind of media, and again with real
rollouts whenever prompts or completions have grown.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch.nn.functional import pad
from transformers import TrainerCallback

from spacer_lib.rows import MEDIA_KEYS
from spacer_lib.training.prefix import refused
from spacer_lib.training.scores import Sequences, joined, score_apart

FACTOR = 4.0  # packed over noise, at most
DIGITS = 2.0  # last digits that may differ in any case
# A log-probability is a difference of logits, and rounds as they do: one near 0 too.
LOGIT = 8.0
GROWTH = 1.5  # of a length, after which the check is made again
PADDING = 13  # tokens, no multiple of a kernel's block
SIDES = "prompt", "completion"


class Gap(NamedTuple):
    """Root mean squares over tokens, in nats.

    Attributes
    ----------
    packed : float
        Packed against a row to a forward.
    noise : float
        One batch against a row to a forward.
    most : float
        Of ``packed``, if it is noise.
    """

    packed: float
    noise: float
    most: float

    @property
    def is_noise(self) -> bool:
        """Whether packed scores are as good as stock ones; not where one is no
        number."""
        return self.packed <= self.most

    def __str__(self) -> str:
        return (
            f"packed log-probabilities differ from separate ones by {self.packed:.2g}, "
            f"a batch's by {self.noise:.2g}"
        )


def gap_of(
    packed: torch.Tensor, row: torch.Tensor, batch: torch.Tensor, dtype: torch.dtype
) -> Gap:
    """Compare three ways to the same log-probabilities.

    Parameters
    ----------
    packed, row, batch : tensors of one shape
    dtype : torch.dtype
        In which the model computes.

    Returns
    -------
    Gap
        Row and batch may be equal by chance, so a difference in the last digits counts
        as noise in any case.
    """

    def size(values: torch.Tensor) -> float:
        return float(values.double().square().mean().sqrt())

    noise = size(batch - row)
    digit = torch.finfo(dtype).eps * max(size(row), LOGIT)
    return Gap(size(packed - row), noise, max(FACTOR * noise, DIGITS * digit))


def packing_gap(trainer: Any, sequences: Sequences) -> Gap:
    """The gap of completions of one prompt.

    Parameters
    ----------
    trainer : VideoGRPOTrainer
    sequences : Sequences
        Of one block (``scores.score_packed``).
    """
    model, config = trainer.model_wrapped, trainer.model.config
    with torch.no_grad():
        packed = trainer.scores_packed(model, sequences).logps
        row, batch = (
            score_apart(model, rows, trainer.accelerator, config, forward_rows=n).logps
            for rows, n in (
                (sequences, 1),
                (_padded(sequences), len(sequences.input_ids)),
            )
        )
    real = sequences.mask[:, -sequences.width :].bool()
    dtype = torch.bfloat16 if trainer.args.bf16 else trainer.model.dtype
    return gap_of(packed[real], row[real], batch[real], dtype)


def _padded(sequences: Sequences) -> Sequences:
    """The same with padding on the left, as a shorter prompt has in a batch. Without
    it some kernels compute a batch like its rows, and there is no noise to see."""
    shape = PADDING, 0
    return Sequences(
        pad(sequences.input_ids, shape),
        pad(sequences.mask, shape),
        sequences.width,
        sequences.media,
    )


def sample_rows(trainer: Any) -> list[int]:
    """Numbers of the first row with a video, with images and without either."""
    first: dict[str, int] = {}
    for number, row in enumerate(trainer.rows):
        kind = next((kind for kind in MEDIA_KEYS if row.get(kind)), "text")
        first.setdefault(kind, number)
    return list(first.values())


def longest_block(trainer: Any, batch: Mapping[str, Any]) -> Sequences:
    """The rows of a generation batch's longest block."""
    found = joined(batch)
    rows = len(found.input_ids)
    size = math.gcd(trainer.shared_prefix, trainer.group_size, rows)
    longest = int(found.mask.sum(dim=1).argmax()) // size * size
    part = slice(longest, longest + size)
    return Sequences(
        found.input_ids[part], found.mask[part], found.width, found.media[part]
    )


class PackingCheck(TrainerCallback):
    """Gives up shared prompts, or refuses, where packed scores are not the stock ones.

    Parameters
    ----------
    trainer : VideoGRPOTrainer
    setting : str
        ``auto`` goes on without shared prompts where scores differ or packing fails.

    Raises
    ------
    SpacerError
        If scores differ or packing fails, and the setting is ``on``.
    """

    def __init__(self, trainer: Any, setting: str) -> None:
        self.trainer, self.setting = trainer, setting
        self.checked = torch.zeros(2)  # longest prompt and completion so far

    def on_train_begin(
        self, args: Any, state: Any, control: Any, **kwargs: Any
    ) -> None:
        """Check on all ranks together, and print the result."""
        trainer = self.trainer
        if trainer.shared_prefix:
            self._check([trainer.made_up(number) for number in sample_rows(trainer)])

    def on_lengths(self, batch: Mapping[str, Any]) -> None:
        """Check again if prompts or completions are longer than any that were checked.

        Parameters
        ----------
        batch : dict
            Prompts, completions and media of a generation batch, of this rank.
        """
        trainer = self.trainer
        if not trainer.shared_prefix or not trainer.model.training:
            return
        longest = [batch[f"{side}_mask"].sum(dim=1).max() for side in SIDES]
        seen = trainer.accelerator.gather(torch.stack(longest)[None]).amax(dim=0).cpu()
        if (seen <= GROWTH * self.checked).all():
            return
        self.checked = torch.maximum(seen.float(), self.checked)
        prompt, completion = seen.tolist()
        where = f" (prompts of up to {prompt} tokens, completions of up to {completion}"
        self._check([longest_block(trainer, batch)], f"{where})")

    def _check(self, parts: Iterable[Sequences], where: str = "") -> None:
        gaps, failure = _measured(self.trainer, parts)
        worst = _over_workers(self.trainer, gaps)
        found = f"{worst}{where}"
        if not worst.is_noise:
            reason = f"{found}, more than {worst.most:.2g}"
            if failure is not None:
                lines = str(failure).splitlines() or [""]
                reason = f"packing fails: {type(failure).__name__}: {lines[0]}"
            elif math.isinf(worst.packed):
                reason = "packing fails on another worker"
            if self.setting == "on":
                raise refused(reason) from failure
            self.trainer.shared_prefix = None
            found = f"PROMPTS ARE COMPUTED APART for each completion: {reason}"
        if self.trainer.accelerator.is_main_process:
            print(found, flush=True)


def _measured(
    trainer: Any, parts: Iterable[Sequences]
) -> tuple[list[Gap], Exception | None]:
    """The gap of each part, or what the check raised. A model, kernel or device may
    fail in any way here; the stock path does not need what failed."""
    try:
        return [packing_gap(trainer, part) for part in parts], None
    except Exception as raised:
        return [Gap(math.inf, 0.0, 0.0)], raised


def _over_workers(trainer: Any, gaps: Iterable[Gap]) -> Gap:
    """The worst gap of all workers, so that all decide alike."""
    accelerator = trainer.accelerator
    own = torch.tensor(list(gaps), device=accelerator.device)
    found = [Gap(*row) for row in accelerator.gather(own).tolist()]

    return max(found, key=lambda gap: (not gap.is_noise, gap.packed / (gap.most or 1)))
