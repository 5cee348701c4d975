"""The checkpoint that a run starts from: loaded, frozen in part, adapted."""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import importlib.util
import re
from typing import Any

import torch
from peft import LoraConfig
from transformers import BitsAndBytesConfig

from spacer_lib.errors import SpacerError
from spacer_lib.models.checkpoints import adapt, find_checkpoint, load_checkpoint
from spacer_lib.models.patches.shared_media import keep_features
from spacer_lib.training.recipe import TrainConfig


def load_start(config: TrainConfig) -> tuple[Any, Any]:
    """``(model, processor)`` that a run starts from, ``frozen`` parts frozen.

    Raises
    ------
    SpacerError
        See ``load_checkpoint``; also if 4-bit weights or the chosen attention cannot be
        had here, or if ``frozen`` fits no parameter or all.
    """
    attention = _attention(config.advanced.attention)
    if config.advanced.remote_code:
        path = find_checkpoint(config.model_path)
        print(f"WARNING: running Python code that comes with {path}", flush=True)
    # DeepSpeed keeps fp32 masters of bf16 weights; nothing else does.
    half = config.bf16 and (config.zero_stage or config.lora.rank)
    model, processor = load_checkpoint(
        config.model_path,
        remote_code=config.advanced.remote_code,
        dtype=torch.bfloat16 if half else torch.float32,
        quantization_config=_four_bit(config),
        attn_implementation=attention,
    )
    _freeze(model, config.advanced.frozen)
    return model, processor


def _attention(name: str) -> str | None:
    """What transformers is asked for when it loads; ``None``: the choice is its own."""
    flash = name == "flash_attention_2"
    expected = "a GPU, as FlexAttention has no backward pass on a CPU"
    remedy = "set advanced.attention=sdpa"
    missing = [] if torch.cuda.is_available() else ["no GPU"]
    if flash:
        expected = "a GPU and the package flash-attn"
        remedy += ", or pip install flash-attn on a machine with a GPU"
        if importlib.util.find_spec("flash_attn") is None:
            missing.append("no package flash-attn")
    if name != "sdpa" and missing:
        raise SpacerError(
            "setting advanced.attention",
            kind="training.no-attention",
            got=f"{name}, but {' and '.join(missing)}",
            expected=expected,
            remedy=remedy,
        )
    return name if flash else None  # flex is for packed rows alone


def _four_bit(config: TrainConfig) -> BitsAndBytesConfig | None:
    """Settings of QLoRA's frozen weights."""
    if not config.lora.four_bit:
        return None
    found = importlib.util.find_spec("bitsandbytes")
    if found is None or not torch.cuda.is_available():
        raise SpacerError(
            "4-bit weights (lora.four_bit)",
            kind="training.no-four-bit",
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


def lora_config(config: TrainConfig) -> LoraConfig | None:
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


def adapt_models(trainer: Any, rule: str) -> None:
    """``models.checkpoints.adapt`` policy and reference, before they are wrapped, and
    keep features that cannot change.
    """
    # TRL loads the reference by itself; SFT has none.
    reference = getattr(trainer, "ref_model", None)
    if reference is not None:
        reference.requires_grad_(False)
    for model in (trainer.model, reference):
        if model is not None:
            adapt(keep_features(model), rule)


def _freeze(model: Any, pattern: str | None) -> None:
    """Leave the parameters whose names ``pattern`` is found in as they are."""
    if pattern is None:
        return
    found = [p for name, p in model.named_parameters() if re.search(pattern, name)]
    if not 0 < len(found) < sum(1 for _ in model.parameters()):
        raise SpacerError(
            "setting advanced.frozen",
            kind="training.frozen",
            got=f"{pattern!r}, which fits {len(found)} parameters",
            expected="a pattern that fits some, not all",
            remedy="look at model.named_parameters()",
        )
    for parameter in found:
        parameter.requires_grad_(False)
