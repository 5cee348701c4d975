"""What several test files use."""

import dataclasses
from typing import Any

import pytest

from spacer_lib.errors import SpacerError
from spacer_lib.settings import apply_changes

# What a GPU node may lack: a renderer (it wants libGL), parsers of scans, plots.
ABSENT = [
    "alphashape",
    "dash",
    "matplotlib",
    "open3d",
    "plotly",
    "plyfile",
    "rtree",
    "seaborn",
    "shapely",
    "trimesh",
]


# Unlike None in sys.modules, it does not disturb those who look for a package.
_WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in {}:
            return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
"""


def not_installed(packages: list[str]) -> str:
    """Code after which a Python that loaded none of the packages lacks them."""
    return _WITHOUT.format(packages)


def refused(kind: str, *, says: str | None = None) -> Any:
    """``pytest.raises`` for a ``SpacerError`` of one kind.

    Parameters
    ----------
    kind : str
        ``<wing>.<fault>``, exactly.
    says : str, optional
        A fact that the message must hold, such as a file's name or a number. Not its
        wording: that is free to change.
    """

    def fits(error: SpacerError) -> bool:
        return error.kind == kind and (says is None or says in str(error))

    return pytest.raises(SpacerError, check=fits)


def dotted(changes: dict[str, Any]) -> dict[str, Any]:
    """Changes of a recipe; advanced ones get their full key, ``advanced.refill``."""
    from spacer_lib.training.recipe import AdvancedSettings

    advanced = {field.name for field in dataclasses.fields(AdvancedSettings)}
    return {f"advanced.{k}" if k in advanced else k: v for k, v in changes.items()}


def nested(changes: dict[str, Any]) -> dict[str, Any]:
    """``dotted(changes)`` as values of ``config_from_dict``."""
    values: dict[str, Any] = {}
    apply_changes(values, dotted(changes))
    return values
