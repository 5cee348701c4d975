"""The checkpoint a run starts from: found, loaded, frozen in part, numbered."""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import importlib.util
import re
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    BitsAndBytesConfig,
)

from spacer_lib.errors import SpacerError
from spacer_lib.models.patches.patch_embedding import use_linear_patches
from spacer_lib.models.patches.rope import POSITION_RULES
from spacer_lib.models.patches.shared_media import keep_features
from spacer_lib.training.data import locate


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
    """``(model, processor)`` that a run starts from, ``frozen`` parts frozen.

    Raises
    ------
    SpacerError
        If there is no such model, its files are broken, it needs code of its own that
        was not allowed, 4-bit weights cannot be had here, or ``frozen`` fits nothing
        or everything.
    """
    path = find_model(config.model_path)
    if config.advanced.remote_code:
        print(f"WARNING: running Python code that comes with {path}", flush=True)
    # DeepSpeed keeps fp32 masters of bf16 weights; nobody else does.
    half = config.bf16 and (config.zero_stage or config.lora.rank)
    options = {"trust_remote_code": config.advanced.remote_code}
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            path,
            dtype=torch.bfloat16 if half else torch.float32,
            quantization_config=_four_bit(config),
            **options,
        )
        processor = AutoProcessor.from_pretrained(path, padding_side="left", **options)
    except (OSError, SafetensorError) as error:
        raise SpacerError(
            f"model {path} cannot be loaded",
            got=str(error).splitlines()[0],
            remedy="fix model_path, or download the checkpoint again",
        ) from error
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise SpacerError(
            f"model {path}",
            got="a checkpoint that brings Python code of its own",
            remedy="read that code; then allow it with advanced.remote_code=true",
        ) from error
    _freeze(model, config.advanced.frozen)
    return model, processor


def _four_bit(config):
    """Settings of QLoRA's frozen weights, or ``None``."""
    if not config.lora.four_bit:
        return None
    found = importlib.util.find_spec("bitsandbytes")
    if found is None or not torch.cuda.is_available():
        raise SpacerError(
            "4-bit weights (lora.four_bit)",
            got="no bitsandbytes, or no GPU",
            remedy="pip install bitsandbytes on a machine with a GPU, or set "
            "lora.four_bit=false (LoRA alone runs anywhere)",
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    )


def lora_config(config):
    """PEFT's configuration of ``config.lora``, or ``None`` at rank 0.

    The reference model is then the policy with its adapter switched off.
    """
    lora = config.lora
    if not lora.rank:
        return None
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type="CAUSAL_LM",
    )


def adapt_models(trainer, rule):
    """Let policy and reference follow a rule of ``models.rope``, before wrapping, embed
    patches by a matrix product, and keep features that cannot change.
    """
    # TRL loads the reference by itself; SFT has none.
    reference = getattr(trainer, "ref_model", None)
    if reference is not None:
        reference.requires_grad_(False)
    for model in (trainer.model, reference):
        if model is not None:
            POSITION_RULES[rule](use_linear_patches(keep_features(model)))


def _freeze(model, pattern):
    """Leave the parameters whose names ``pattern`` is found in as they are."""
    if pattern is None:
        return
    found = [p for name, p in model.named_parameters() if re.search(pattern, name)]
    if not 0 < len(found) < sum(1 for _ in model.parameters()):
        raise SpacerError(
            "setting advanced.frozen",
            got=f"{pattern!r}, which fits {len(found)} parameters",
            expected="a pattern that fits some, not all",
            remedy="look at model.named_parameters()",
        )
    for parameter in found:
        parameter.requires_grad_(False)
