"""Checkpoints: load a published one, or build the tiny Qwen2.5-VL.

Import this package before ``transformers`` or ``trl``: it makes torchvision
importable beside a CPU build of torch (see ``torchvision_ops``).
"""

from spacer_lib.models.patches import torchvision_ops

torchvision_ops.define_missing()
