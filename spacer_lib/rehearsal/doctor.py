"""``spacer doctor``: one screen about a machine."""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from spacer_lib.artifacts import PROJECT_ROOT, scratch_folder
from spacer_lib.rehearsal.machine import (
    gpu_facts,
    package_facts,
    recipe_line,
    recipe_table,
    record,
    resource_facts,
    tool_facts,
)
from spacer_lib.rehearsal.readings import Readings
from spacer_lib.training.needs import H100, Rates


def examine(say: Callable[[str], object]) -> dict[str, Any]:
    """Say what there is, what is missing, and what each recipe would take.

    Parameters
    ----------
    say : callable
        Called with each line.

    Returns
    -------
    dict
        ``facts``, ``missing`` (names), ``rates`` and ``recipes``.
    """
    folder = PROJECT_ROOT / "runs"
    facts = [*package_facts(), *gpu_facts(), *tool_facts(), *resource_facts(folder)]
    for one in facts:
        say(one.line())
    rates = measured_rates()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    say("")
    say(
        f"a step of each recipe, predicted for {rates.device} at "
        f"{rates.matrix / 1e12:.4g} TFLOP/s and {rates.memory / 1e12:.2g} TB/s"
    )
    say(f"{'recipe':26}{'seconds a step':>16}{'disk':>14}  starts here?")
    table = recipe_table(rates, gpus, folder)
    for row in table:
        say(recipe_line(row))
    say("`spacer train --config RECIPE --estimate` measures a recipe here")
    return {
        "facts": record(facts),
        "missing": [one.name for one in facts if not one.good],
        "rates": rates,
        "recipes": table,
    }


def measured_rates() -> Rates:
    """The H100's rates, with the matrix and copy rates of the GPU here, if any."""
    if not torch.cuda.is_available():
        return H100
    with scratch_folder() as folder:
        readings = Readings("rates", folder, lambda line: None)
        return replace(
            H100,
            device=torch.cuda.get_device_name(),
            matrix=readings.matrix_rate(),
            memory=readings.copy_rate(),
            size=torch.cuda.get_device_properties(0).total_memory,
        )
