"""The checkpoint a run starts from: found, loaded, frozen in part, numbered."""

import re
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from spacer_lib.errors import SpacerError
from spacer_lib.models.rope import POSITION_RULES
from spacer_lib.training.rows import locate


def find_model(name):
    """A checkpoint folder (also relative to the repository), or a hub name.

    Raises
    ------
    SpacerError
        If it looks like a folder and is none.
    """
    path = locate(name)
    if path.is_dir():
        if not (path / "config.json").exists():
            raise SpacerError(f"model folder {path}", got="no config.json")
        return str(path)
    if Path(name).is_absolute() or name.startswith((".", "checkpoints/", "runs/")):
        raise SpacerError(
            f"model folder {name} is missing",
            remedy="fix model_path, or make the tiny one with `make warmstart`",
        )
    return name


def load_start(config):
    """``(model, processor)`` that a run starts from, ``config.frozen`` parts frozen.

    Raises
    ------
    SpacerError
        If there is no such model, or ``frozen`` fits nothing or everything.
    """
    path = find_model(config.model_path)
    # DeepSpeed keeps fp32 masters of bf16 weights; nobody else does.
    half = config.bf16 and config.zero_stage
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            path, dtype=torch.bfloat16 if half else torch.float32
        )
        processor = AutoProcessor.from_pretrained(path, padding_side="left")
    except OSError as error:
        raise SpacerError(
            f"model {path} cannot be loaded",
            got=str(error).splitlines()[0],
            remedy="fix model_path, or download the checkpoint first",
        ) from error
    _freeze(model, config.frozen)
    return model, processor


def number_positions(trainer, rule):
    """Let policy and reference follow a rule of ``models.rope``, before wrapping."""
    # TRL loads the reference by itself; SFT has none.
    for model in (trainer.model, getattr(trainer, "ref_model", None)):
        if model is not None:
            POSITION_RULES[rule](model)


def _freeze(model, pattern):
    """Leave the parameters whose names ``pattern`` is found in as they are."""
    if pattern is None:
        return
    found = [p for name, p in model.named_parameters() if re.search(pattern, name)]
    if not 0 < len(found) < sum(1 for _ in model.parameters()):
        raise SpacerError(
            "setting frozen",
            got=f"{pattern!r}, which fits {len(found)} parameters",
            expected="a pattern that fits some, not all",
            remedy="look at model.named_parameters()",
        )
    for parameter in found:
        parameter.requires_grad_(False)
