"""The stages of a rehearsal, in order of value; each is a command of minutes."""

import importlib
from collections.abc import Callable
from typing import Any

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError, nearest
from spacer_lib.rehearsal.readings import Readings

# Modules and what each stage settles.
STAGES = {
    "env": ("parts", "versions, matrix rate, copy bandwidth"),
    "device": ("parts", "sampler, scores and gradients against fp64 on the CPU"),
    "attention": ("parts", "kernels by name, time, memory, error"),
    "step": ("models", "log-probabilities, update and generation at 3B and 7B"),
    "decode": ("models", "milliseconds a token by cache, sampler and engine"),
    "train": ("runs", "launcher and notebook on one GPU"),
    "lora7b": ("runs", "LoRA of 7B, and 3B with its optimiser in CPU memory"),
    "evaluate": ("models", "prefill and tokens at the settings of evaluation"),
}


def rehearse(
    stage: str,
    out_dir: PathLike,
    say: Callable[[str], object],
    *,
    small: bool = False,
) -> dict[str, Any]:
    """Run one stage; ``out_dir/STAGE.json`` grows with each reading.

    Parameters
    ----------
    stage : str
        A key of ``STAGES``.
    out_dir : path
    say : callable
        Called with a line for each reading.
    small : bool
        Sizes of seconds on a CPU; what a machine without a GPU runs anyway.

    Returns
    -------
    dict
        ``file``, ``seconds`` and ``failed``: names of what failed.

    Raises
    ------
    SpacerError
        For an unknown stage, or outside a checkout.
    """
    if stage not in STAGES:
        raise SpacerError(
            "stage of the rehearsal",
            kind="rehearsal.unknown-stage",
            got=stage,
            expected=", ".join(STAGES),
            remedy=nearest(stage, STAGES),
        )
    module = importlib.import_module(f"spacer_lib.rehearsal.{STAGES[stage][0]}")
    readings = Readings(stage, out_dir, say, small)
    getattr(module, stage)(readings)
    readings.write()
    return {
        "file": readings.path,
        "seconds": round(readings.seconds, 1),
        "failed": readings.failed(),
    }
