"""The visibility check: before the first step, does the loss depend on the pixels?

A trainer that loses the pixels on the way to its loss trains without an error, and
without the video. So the ground truth of a row is scored twice, beside its own frames
and beside grey ones; a trainer that sees the frames gives two different answers.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import TrainerCallback

from spacer_lib.errors import SpacerError
from spacer_lib.rows import MEDIA_KEYS


def check_visibility(trainer: Any) -> dict[str, float]:
    """Refuse a trainer whose loss does not depend on the pixels.

    Parameters
    ----------
    trainer
        With ``rows`` and ``truth_scores(number, change)``.

    Returns
    -------
    dict
        Largest change of a log-probability beside grey pixels, for ``video`` and
        ``image`` if rows have them.

    Raises
    ------
    SpacerError
        If grey pixels change nothing, or a score is not finite.
    """
    found = {}
    for kind in MEDIA_KEYS:
        numbers = (n for n, row in enumerate(trainer.rows) if row.get(kind))
        number = next(numbers, None)
        if number is None:
            continue
        own = trainer.truth_scores(number)
        grey = trainer.truth_scores(number, torch.zeros_like)
        found[kind] = float((own - grey).abs().max())
        if not 0 < found[kind] < math.inf:  # NaN, too, shows nothing
            raise SpacerError(
                f"the loss does not see the {kind}",
                kind="training.blind",
                got=f"log-probabilities that change by {found[kind]:g} beside a grey "
                f"{kind}",
                expected="a change above 0, finite",
                remedy="check the model class and the versions of transformers and trl",
            )
    return found


def with_pixels(
    media: Mapping[str, torch.Tensor], change: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """A row's media with ``change`` applied to its pixels; grids and times stay."""
    return {key: change(v) if "pixel" in key else v for key, v in media.items()}


class VisibilityCheck(TrainerCallback):
    """``check_visibility`` at every start, on all ranks together."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: Any, state: Any, control: Any, **kwargs: Any
    ) -> None:
        """Check, and print the result."""
        found = check_visibility(self.trainer)
        if self.trainer.accelerator.is_main_process:
            for kind, change in found.items():
                moved = f"grey pixels change a log-probability by {change:.2g}"
                print(f"the loss sees the {kind}: {moved}", flush=True)
