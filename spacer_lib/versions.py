"""The oldest versions of the packages that training and evaluation work with.

An installation beside other packages may have older ones. Their errors would name a
missing argument, minutes after the start.
"""

import importlib.metadata
import re
from collections.abc import Mapping

from spacer_lib.errors import SpacerError

# As in pyproject.toml. transformers 5.23 is the first with
# ``TrainingArguments.activation_checkpointing``; of TRL, private parts are used
# (``training.seam``).
TRAINING = {
    "accelerate": "1.15",
    "datasets": "5.2",
    "deepspeed": "0.19",
    "peft": "0.21",
    "torch": "2.11",
    "transformers": "5.23",
    "trl": "1.16",
}
# vLLM may bring transformers 5.19.
EVALUATION = {"torch": "2.11", "transformers": "5.19"}


def require_versions(oldest: Mapping[str, str]) -> None:
    """Refuse an installation with older packages, or without one.

    Parameters
    ----------
    oldest : dict
        Package → version: ``TRAINING`` or ``EVALUATION``.

    Raises
    ------
    SpacerError
        It names every such package.
    """
    found = {name: _installed(name) for name in oldest}
    old = [name for name in oldest if _parts(found[name]) < _parts(oldest[name])]
    if not old:
        return
    wanted = [f"{name}>={oldest[name]}" for name in old]
    raise SpacerError(
        "installed packages are too old",
        kind="versions.too-old",
        got=", ".join(f"{name} {found[name] or 'absent'}" for name in old),
        expected=", ".join(wanted),
        remedy="make setup, or pip install " + " ".join(f"'{one}'" for one in wanted),
    )


def _installed(name: str) -> str:
    """The version, or nothing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _parts(version: str) -> list[int]:
    """Numbers of the release: those of ``5.23.0.dev0+cu130`` are 5, 23, 0."""
    release = re.match(r"[\d.]*", version)
    return [int(part) for part in re.findall(r"\d+", release[0] if release else "")]
