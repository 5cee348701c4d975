"""Declare torchvision's missing operators in every process of the environment.

``scripts/vllm_environment.sh`` copies this file into site-packages, where a ``.pth``
file imports it. vLLM starts processes of its own, which import torchvision before
anything of this project. So the first import of torchvision imports
``spacer_lib.models``, which declares the operators.
"""

import importlib
import importlib.abc
import sys


class _BeforeTorchvision(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Find nothing; at ``torchvision`` declare its operators first."""
        if name == "torchvision":
            sys.meta_path.remove(self)
            importlib.import_module("spacer_lib.models")


sys.meta_path.insert(0, _BeforeTorchvision())
