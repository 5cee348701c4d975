"""Where a run's numbers go beside ``metrics.jsonl``: TensorBoard always, others asked.

transformers' own callbacks, started by the main process alone. They are added after
``MetricsLog``, so that what it measures reaches them too.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import os

from transformers.integrations import (
    TensorBoardCallback,
    TrackioCallback,
    WandbCallback,
)

PROJECT = "spacer"


class TensorBoard(TensorBoardCallback):
    """Event files in ``folder``; what a resumed run repeats replaces the first try."""

    def __init__(self, folder):
        super().__init__()
        self.logging_dir = str(folder)

    def on_train_begin(self, args, state, control, **kwargs):
        """Open the event file at the step after the checkpoint's."""
        self.tb_writer = self._SummaryWriter(
            self.logging_dir, purge_step=state.global_step + 1
        )
        super().on_train_begin(args, state, control, **kwargs)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Write all numbers; a component that applied to no row has none."""
        there = {key: value for key, value in logs.items() if value is not None}
        super().on_log(args, state, control, logs=there, **kwargs)


class Wandb(WandbCallback):
    """Weights & Biases, closed with the training: the process ends without clean-up."""

    def on_train_end(self, args, state, control, **kwargs):
        """Send what is left."""
        super().on_train_end(args, state, control, **kwargs)
        self._wandb.finish()


TRACKERS = {"wandb": Wandb, "trackio": TrackioCallback}


def tracker_callbacks(config, args, out_dir):
    """Callbacks of TensorBoard and of ``advanced.trackers``.

    Parameters
    ----------
    config : TrainConfig
    args : TrainingArguments
        Of the trainer; told the names that the trackers show.
    out_dir : Path
    """
    args.run_name, args.project = config.recipe, PROJECT
    os.environ.setdefault("WANDB_PROJECT", PROJECT)  # the only way to say it
    return [
        TensorBoard(out_dir / "tensorboard"),
        *(TRACKERS[name]() for name in config.advanced.trackers),
    ]
