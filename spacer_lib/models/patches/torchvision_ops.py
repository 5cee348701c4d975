"""Make a CUDA build of torchvision importable beside a CPU build of torch.

Such a torchvision cannot load its compiled operators. Its import then fails where it
registers shapes for ``torchvision::nms``, an operator that this project never calls.
Two declared schemas are enough for the import. Where torchvision loads its own
operators, nothing is declared here.
"""

import importlib.util
import sys
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_LIBRARY: torch.library.Library | None = None  # the schemas live as long as it does


def define_missing() -> None:
    """Declare ``torchvision::nms`` and ``qnms`` where torchvision cannot do so."""
    global _LIBRARY
    if _LIBRARY is not None or "torchvision" in sys.modules:
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or torch.version.cuda:
        return
    if "+cu" not in (Path(spec.origin).parent / "version.py").read_text():
        return
    _LIBRARY = torch.library.Library("torchvision", "DEF")
    _LIBRARY.define(f"nms{_SCHEMA}")
    _LIBRARY.define(f"qnms{_SCHEMA}")
