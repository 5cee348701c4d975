"""What must hold before ``transformers``, ``trl`` or DeepSpeed is imported.

Every module of ``training`` that imports one of them imports this one first:

- ``spacer_lib.models`` declares the operators that a CUDA build of torchvision misses
  beside a CPU build of torch (``models.patches.torchvision_ops``);
- without CUDA, DeepSpeed would look for a GPU and warn in every process.
"""

import os

import torch

import spacer_lib.models  # noqa: F401

if not torch.version.cuda:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
