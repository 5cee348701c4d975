"""Trackers of a run: TensorBoard always, others if the recipe names them.

They are transformers' callbacks, in the main process alone. They come after
``MetricsLog`` and so get what it measures too.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import os
from pathlib import Path
from typing import Any

from transformers.integrations import (
    TensorBoardCallback,
    TrackioCallback,
    WandbCallback,
)

from spacer_lib.artifacts import PathLike
from spacer_lib.training.recipe import TrainConfig

PROJECT = "spacer"


class TensorBoard(TensorBoardCallback):
    """Event files in ``folder``; steps that a resumed run repeats are replaced."""

    def __init__(self, folder: PathLike) -> None:
        super().__init__()
        self.logging_dir = str(folder)

    def on_train_begin(
        self, args: Any, state: Any, control: Any, **kwargs: Any
    ) -> None:
        """Open the event file at the step after the checkpoint's."""
        self.tb_writer = self._SummaryWriter(
            self.logging_dir, purge_step=state.global_step + 1
        )
        super().on_train_begin(args, state, control, **kwargs)

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write all numbers but nulls."""
        there = {key: value for key, value in (logs or {}).items() if value is not None}
        super().on_log(args, state, control, logs=there, **kwargs)


class Wandb(WandbCallback):
    """Weights & Biases, closed after training: workers end without clean-up."""

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Send what is left."""
        super().on_train_end(args, state, control, **kwargs)
        self._wandb.finish()


_TRACKERS = {"wandb": Wandb, "trackio": TrackioCallback}


def tracker_callbacks(config: TrainConfig, args: Any, out_dir: Path) -> list[Any]:
    """Callbacks of TensorBoard and of ``advanced.trackers``.

    Parameters
    ----------
    config : TrainConfig
    args : TrainingArguments
        Of the trainer; receives the names that the trackers show.
    out_dir : Path
    """
    args.run_name, args.project = config.recipe, PROJECT
    os.environ.setdefault("WANDB_PROJECT", PROJECT)  # no argument sets it
    return [
        TensorBoard(out_dir / "tensorboard"),
        *(_TRACKERS[name]() for name in config.advanced.trackers),
    ]
