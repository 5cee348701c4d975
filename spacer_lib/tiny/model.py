"""A Qwen2.5-VL of under a million weights, with its own tokenizer and processor.

``FAMILIES`` has two more: Qwen2-VL, and Qwen3-VL with a mixture of experts. Classes and
files are those of transformers: a saved model loads through ``AutoProcessor`` and
``AutoModelForImageTextToText``, and takes video. Only the sizes are ours.
``initializer_range`` is 0.08: with the usual 0.02 so narrow a net learns very slowly.
"""

import spacer_lib.models  # noqa: F401  # isort: skip  (before transformers)

from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from spacer_lib.errors import SpacerError, nearest

PATCH, MERGE, TEMPORAL = 7, 2, 2
FRAME_SIZE, FRAME_COUNT = 56, 4  # 4 frames of 56 x 56 → 2 x 4 x 4 = 32 video tokens

# Configuration, model, processor and video processor.
FAMILIES: dict[str, tuple[Any, ...]] = {
    "qwen2_vl": (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    ),
    "qwen2_5_vl": (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLVideoProcessor,
    ),
    "qwen3_vl_moe": (
        Qwen3VLMoeConfig,
        Qwen3VLMoeForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    ),
}

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# One token each, but the decoder keeps them: rewards read them in the completion.
TAG_TOKENS = ("<think>", "</think>", "<map>", "</map>", "<answer>", "</answer>")

CHAT_TEMPLATE = (
    "{%- for message in messages -%}<|im_start|>{{ message.role }}{{ '\\n' }}"
    "{%- if message.content is string -%}{{ message.content }}{%- else -%}"
    "{%- for part in message.content -%}"
    "{%- if part.type == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>"
    "{%- elif part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}<|im_end|>{{ '\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant{{ '\\n' }}{%- endif -%}"
)


def build_tokenizer(corpus: Iterable[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which every word of ``corpus`` is one token.

    Each digit is one token, so coordinates are read digit by digit. Any other text can
    be encoded too (bytes are in the alphabet).

    Parameters
    ----------
    corpus : iterable of str
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        min_frequency=2,
        show_progress=False,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([line for line in corpus for _ in (0, 1)], trainer)
    tokenizer.add_tokens([AddedToken(tag, special=False) for tag in TAG_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        additional_special_tokens=[
            t for t in SPECIAL_TOKENS if t not in ("<|im_end|>", "<|endoftext|>")
        ],
    )


def _family(name: str) -> tuple[Any, ...]:
    if name not in FAMILIES:
        raise SpacerError(
            "tiny family",
            kind="tiny.no-such-family",
            got=name,
            expected=", ".join(FAMILIES),
            remedy=nearest(name, FAMILIES),
        )
    return FAMILIES[name]


def build_processor(
    tokenizer: PreTrainedTokenizerFast,
    family: str = "qwen2_5_vl",
    frames: int = FRAME_COUNT,
    temporal: int = TEMPORAL,
) -> Any:
    """Processor of one of ``FAMILIES``: frames of 56 x 56 pixels, patches of 7 x 7.

    ``temporal`` frames become one patch: 1 where frames are far apart in time.
    """
    _, _, processor_type, video_processor_type = _family(family)
    size = {
        "shortest_edge": FRAME_SIZE * FRAME_SIZE,
        "longest_edge": FRAME_SIZE * FRAME_SIZE * frames,
    }
    sizes: dict[str, Any] = dict(
        size=size, patch_size=PATCH, temporal_patch_size=temporal, merge_size=MERGE
    )
    return processor_type(
        image_processor=Qwen2VLImageProcessor(**sizes),
        video_processor=video_processor_type(
            **sizes, do_sample_frames=False, cap_pixels_per_frame=False
        ),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )


def build_config(
    tokenizer: PreTrainedTokenizerFast,
    family: str = "qwen2_5_vl",
    hidden: int = 128,
    layers: int = 3,
    vision_hidden: int = 96,
    vision_depth: int = 1,
    temporal: int = TEMPORAL,
    tokens_per_second: int = 2,
) -> Any:
    """Configuration of the tiny model (0.9 million weights at the defaults)."""
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL_TOKENS}
    text: dict[str, Any] = dict(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 1000.0,
            "mrope_section": [4, 6, 6],  # sums to head_dim / 2 = 16
        },
        initializer_range=0.08,
        bos_token_id=None,
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<|endoftext|>"],
        tie_word_embeddings=True,
    )
    vision: dict[str, Any] = dict(
        depth=vision_depth,
        num_heads=2,
        patch_size=PATCH,
        temporal_patch_size=temporal,
        spatial_merge_size=MERGE,
        initializer_range=0.08,
    )
    if family == "qwen2_vl":
        text |= dict(max_window_layers=layers)
        vision |= dict(embed_dim=vision_hidden, mlp_ratio=2, hidden_size=hidden)
    else:
        vision |= dict(
            hidden_size=vision_hidden,
            intermediate_size=2 * vision_hidden,
            out_hidden_size=hidden,
        )
    if family == "qwen2_5_vl":
        text |= dict(max_window_layers=layers)
        vision |= dict(
            window_size=2 * PATCH * MERGE * 2,
            fullatt_block_indexes=list(range(vision_depth)),
            tokens_per_second=tokens_per_second,
        )
    elif family == "qwen3_vl_moe":
        text["rope_parameters"]["mrope_interleaved"] = True
        text |= dict(
            num_experts=4, num_experts_per_tok=2, moe_intermediate_size=hidden * 3 // 4
        )
        vision |= dict(
            num_position_embeddings=(FRAME_SIZE // PATCH) ** 2,
            deepstack_visual_indexes=[vision_depth - 1],
        )
    return _family(family)[0](
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
        initializer_range=0.08,
    )


def build_model(
    tokenizer: PreTrainedTokenizerFast, family: str = "qwen2_5_vl", **sizes: int
) -> Any:
    """Freshly initialised model (seed torch first) that ends at ``<|im_end|>``.

    Parameters
    ----------
    tokenizer : of ``build_tokenizer``
    family : str
        One of ``FAMILIES``.
    **sizes
        See ``build_config``.

    Raises
    ------
    SpacerError
        For an unknown family.
    """
    model = _family(family)[1](build_config(tokenizer, family, **sizes))
    model.generation_config.eos_token_id = [
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    ]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
