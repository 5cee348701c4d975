"""Let a CUDA-built torchvision import beside a CPU torch.

Such a wheel cannot load its compiled operators, and its Python code then fails while
registering shapes for ``torchvision::nms``, an operator we never call. Declaring the
two missing schemas is enough. Where torchvision's own operators load, they are
declared already and nothing is done.
"""

import importlib.util
import sys
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_LIBRARY: torch.library.Library | None = None  # keeps the definitions alive


def define_missing() -> None:
    """Declare ``torchvision::nms`` and ``qnms`` if torchvision cannot do it itself."""
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
