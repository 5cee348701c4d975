"""Models that are tiny in all dimensions but the one under test.

The values are those of Qwen2.5-VL-7B (its ``config.json`` and tokenizer) and of the
recipe ``spacer_7b``.
"""

import io
import itertools
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_qwen2_vl import (
    Qwen2VLImageProcessor,
)
from transformers.models.qwen2_vl.video_processing_qwen2_vl import (
    Qwen2VLVideoProcessor,
)

from spacer_lib.rooms.video import encode_jpegs
from spacer_lib.tiny import model as tiny

VOCABULARY = 152_064  # rows of the embedding; the last 399 have no token
REGULAR = 151_643  # tokens below the added ones
HEADS, KEY_HEADS, HEAD_SIZE = 28, 4, 128
LAYERS = 28
MROPE = [16, 24, 24]
PATCH, WINDOW, TOKENS_PER_SECOND = 14, 112, 2
PROMPT, COMPLETION = 2_300, 1_024  # tokens
TRAINING_FRAMES, TRAINING_PIXELS = 16, 128 * 28 * 28
EVALUATION_FRAMES, EVALUATION_PIXELS = 32, 448 * 28 * 28

# From id 151,643 on, in this order; those of tool calls are no special tokens.
ADDED = (
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> "
    "<|box_start|> <|box_end|> <|quad_start|> <|quad_end|> <|vision_start|> "
    "<|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> <tool_call> "
    "</tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> "
    "<|repo_name|> <|file_sep|>"
).split()


def stand_in_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with as many tokens as the published one, at the same ids.

    The words are other ones: all pairs of bytes, then triples. The published file is
    in no package.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = list(itertools.product(alphabet, alphabet))
    triples = ((a + b, c) for a, b in pairs for c in alphabet)
    merges = pairs + list(
        itertools.islice(triples, REGULAR - len(alphabet) - len(pairs))
    )
    words = [*alphabet, *(a + b for a, b in merges)]
    tokenizer = Tokenizer(BPE(dict(zip(words, range(REGULAR), strict=True)), merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [AddedToken(word, special=word.startswith("<|")) for word in ADDED]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
    )


def write_model(folder: Path, tokenizer, text=None, vision=None, **sizes) -> Path:
    """A random Qwen2.5-VL with its processor in ``folder``.

    Parameters
    ----------
    text, vision : dict, optional
        Attributes of the two configurations, set over those of the tiny model.
    **sizes
        Of ``tiny.build_config``.
    """
    config = tiny.build_config(tokenizer, **sizes)
    for part, changes in ((config.text_config, text), (config.vision_config, vision)):
        for name, value in (changes or {}).items():
            assert hasattr(part, name), name
            setattr(part, name, value)
    torch.manual_seed(0)
    model = tiny.Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = [
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    ]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor = tiny.build_processor(tokenizer)
    if vision:  # the published patches
        shape = dict(
            size={"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 16384},
            patch_size=config.vision_config.patch_size,
            temporal_patch_size=2,
            merge_size=2,
        )
        processor.image_processor = Qwen2VLImageProcessor(**shape)
        processor.video_processor = Qwen2VLVideoProcessor(
            **shape, do_sample_frames=False, cap_pixels_per_frame=False
        )
    processor.save_pretrained(folder)
    return folder


def tower(depth: int = 2) -> dict:
    """The vision tower's published geometry: patches, windows, full attention last."""
    return dict(
        patch_size=PATCH,
        window_size=WINDOW,
        fullatt_block_indexes=[depth - 1],
        tokens_per_second=TOKENS_PER_SECOND,
    )


def write_clip(path: Path, frames: int, width: int, height: int) -> Path:
    """An mp4 of a moving pattern."""
    x, y = np.meshgrid(np.linspace(0, 6, width), np.linspace(0, 6, height))

    def jpeg(number: int) -> bytes:
        waves = [np.sin(x + number), np.cos(y - number), np.sin(x * y)]
        pixels = (127 + 127 * np.stack(waves, axis=-1)).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG")
        return file.getvalue()

    encode_jpegs(map(jpeg, range(frames)), path)
    return path
