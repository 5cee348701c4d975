"""Typed recipes, warm start, SG-RLVR trainer and launcher: the only training floor.

Importing ``models`` first makes torchvision importable before ``transformers`` and
``trl`` ask for it, in every process that trains.
"""

import os

import torch

import spacer_lib.models  # noqa: F401

if not torch.version.cuda:
    # DeepSpeed would look for a GPU and warn that it found none, in every process.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
