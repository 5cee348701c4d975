"""Before the first step: does the loss look at the video?

A trainer that drops the pixels on the way to its loss trains without an error, and
without a video. So the ground truth of a row is scored twice, beside its own frames
and beside grey ones; a trainer that sees them gives two answers.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import torch
from transformers import TrainerCallback

from spacer_lib.errors import SpacerError

KINDS = ("video", "image")


def check_sight(trainer):
    """Refuse to train blind.

    Parameters
    ----------
    trainer
        With ``rows`` and ``truth_scores(number, change)``.

    Returns
    -------
    dict
        ``{"video": largest change of a log-probability, "image": …}`` for the kinds
        that rows have.

    Raises
    ------
    SpacerError
        If grey pixels change nothing.
    """
    found = {}
    for kind in KINDS:
        numbers = (n for n, row in enumerate(trainer.rows) if row.get(kind))
        number = next(numbers, None)
        if number is None:
            continue
        own = trainer.truth_scores(number)
        blank = trainer.truth_scores(number, torch.zeros_like)
        found[kind] = float((own - blank).abs().max())
        if found[kind] == 0:
            raise SpacerError(
                f"the loss does not see the {kind}",
                got=f"the same scores beside a grey {kind}",
                expected="scores that depend on the pixels",
                remedy="check the model class and the versions of transformers and trl",
            )
    return found


def with_pixels(media, change):
    """A row's media with ``change`` done to its pixels; grids and times stay."""
    return {key: change(v) if "pixel" in key else v for key, v in media.items()}


class SightCheck(TrainerCallback):
    """``check_sight`` at every start, on all ranks together."""

    def __init__(self, trainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        """Check, and say what was found."""
        found = check_sight(self.trainer)
        if self.trainer.accelerator.is_main_process:
            for kind, change in found.items():
                moved = f"grey pixels change a log-probability by {change:.2g}"
                print(f"the loss sees the {kind}: {moved}", flush=True)
