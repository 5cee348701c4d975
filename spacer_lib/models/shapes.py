"""Sizes of models without their weights: configurations, and numbers of parameters."""

import spacer_lib.models  # noqa: F401  # isort: skip  (before transformers)

import functools
import re
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, Qwen2_5_VLConfig

from spacer_lib.errors import SpacerError
from spacer_lib.models.checkpoints import find_checkpoint

# Text and vision parts of Qwen2.5-VL configurations. 3b and 7b are those of config.json
# in https://huggingface.co/Qwen/Qwen2.5-VL-3B-Instruct and …-7B-Instruct; small is
# ours, of a size that a CPU can train at the paper's shapes.
_TOKENS = {
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "image_token_id": 151655,
    "video_token_id": 151656,
}
_TOWER = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
}
SHAPES: dict[str, dict[str, Any]] = {
    "small": {
        "text_config": {
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 2048,
            "max_window_layers": 5,
            "mrope_section": [8, 12, 12],
        },
        "vision_config": {
            "depth": 3,
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_heads": 2,
            "window_size": 112,
            "fullatt_block_indexes": [2],
            "tokens_per_second": 2,
        },
        "tie_word_embeddings": True,
        "vision_start_token_id": 1,
        "vision_end_token_id": 2,
        "image_token_id": 3,
        "video_token_id": 4,
    },
    "3b": {
        "text_config": {
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "vocab_size": 151936,
            "max_window_layers": 36,
            "mrope_section": [16, 24, 24],
        },
        "vision_config": _TOWER,
        "tie_word_embeddings": True,
        **_TOKENS,
    },
    "7b": {
        "text_config": {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
            "max_window_layers": 28,
            "mrope_section": [16, 24, 24],
        },
        "vision_config": _TOWER,
        "tie_word_embeddings": False,
        **_TOKENS,
    },
}
# Where their files are not here.
PUBLISHED = {
    "Qwen/Qwen2.5-VL-3B-Instruct": "3b",
    "Qwen/Qwen2.5-VL-7B-Instruct": "7b",
}


def shape_config(name: str) -> Qwen2_5_VLConfig:
    """The configuration of one of ``SHAPES``."""
    parts = {
        key: dict(v) if isinstance(v, dict) else v for key, v in SHAPES[name].items()
    }
    text, vision = parts["text_config"], parts["vision_config"]
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 1e6,
        "mrope_section": text.pop("mrope_section"),
    }
    text.update(dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")))
    text["tie_word_embeddings"] = parts["tie_word_embeddings"]
    vision["out_hidden_size"] = text["hidden_size"]
    return Qwen2_5_VLConfig(**parts)


def config_of(name: Any) -> Any:
    """A checkpoint's configuration, or ``None`` if it is not on this machine.

    Parameters
    ----------
    name : path or str
        See ``checkpoints.find_checkpoint``. Of a published model whose files are not
        here, its shape in ``SHAPES``.
    """
    try:
        return AutoConfig.from_pretrained(find_checkpoint(name), local_files_only=True)
    except (OSError, ValueError, SpacerError):
        shape = PUBLISHED.get(str(name))
        return shape_config(shape) if shape else None


@dataclass(frozen=True)
class Stack:
    """The layers of a transformer: their number, width, and inner width."""

    depth: int
    hidden: int
    inner: int


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters; nothing here depends on their values.

    Attributes
    ----------
    all, trainable, adapter : int
        Of the model, tied ones once; those that learn; those of a LoRA adapter.
    layers, head, tower : int
        Those that work on each token: of the language model's layers (of experts only
        the active share), of its head, and of the vision tower, on each patch.
    pixels : int
        Side of the square that is one video token, in pixels.
    frames : int
        Frames of a time step.
    text, vision : Stack
        The language model's layers, and the tower's.
    words : int
        The vocabulary.
    cache : int
        Numbers that generation keeps of each token: keys and values of all layers.
    """

    all: int
    trainable: int
    adapter: int
    layers: int
    head: int
    tower: int
    pixels: int
    frames: int
    text: Stack
    vision: Stack
    words: int
    cache: int


@functools.lru_cache(maxsize=8)
def sizes_of(
    name: str, frozen: str | None = None, rank: int = 0, targets: str = ""
) -> Sizes | None:
    """Sizes of a checkpoint by its configuration alone; ``None`` without one.

    Parameters
    ----------
    name : str
        See ``config_of``.
    frozen : str, optional
        Parameters whose names hold this regular expression do not learn.
    rank : int
        Of a LoRA adapter; 0: none.
    targets : str
        Modules that the adapter is for: a regular expression of whole names.
    """
    config = config_of(name)
    if config is None:
        return None
    with torch.device("meta"):  # shapes without memory
        model = AutoModelForImageTextToText.from_config(config)
    text, vision = config.get_text_config(), config.vision_config
    counts = {key: value.numel() for key, value in model.named_parameters()}
    used = getattr(text, "num_experts_per_tok", 1) / getattr(text, "num_experts", 1)

    def total(pattern: str) -> int:
        found = [key for key in counts if re.search(pattern, key)]
        return round(
            sum(counts[key] * (used if ".experts." in key else 1) for key in found)
        )

    adapter = sum(
        rank * (module.in_features + module.out_features)
        for key, module in model.named_modules()
        if rank and isinstance(module, torch.nn.Linear) and re.fullmatch(targets, key)
    )
    learn = sum(
        count
        for key, count in counts.items()
        if not (frozen and re.search(frozen, key))
    )
    return Sizes(
        all=sum(counts.values()),
        trainable=adapter if rank else learn,
        adapter=adapter,
        layers=total(r"language_model\.layers\."),
        head=text.vocab_size * text.hidden_size,
        tower=total(r"(^|\.)visual\."),
        pixels=vision.patch_size * vision.spatial_merge_size,
        frames=vision.temporal_patch_size,
        text=Stack(text.num_hidden_layers, text.hidden_size, text.intermediate_size),
        vision=_tower_stack(vision),
        words=text.vocab_size,
        cache=_cache_of(text),
    )


def _tower_stack(vision: Any) -> Stack:
    # Qwen2-VL's `hidden_size` is that of the language model.
    hidden = getattr(vision, "embed_dim", None) or vision.hidden_size
    inner = getattr(vision, "intermediate_size", None)
    return Stack(vision.depth, hidden, inner or int(vision.mlp_ratio * hidden))


def _cache_of(text: Any) -> int:
    width = getattr(text, "head_dim", None)
    width = width or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers * text.num_key_value_heads * width
