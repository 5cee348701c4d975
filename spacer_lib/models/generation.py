"""Question rows → completions, with every sampling setting spelled out.

Evaluation and sample selection ask a model through here, so a published
``generation_config.json`` (near-zero temperature, repetition penalty) wins nowhere.
"""

import contextlib
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from spacer_lib.artifacts import config_hash
from spacer_lib.errors import SpacerError
from spacer_lib.language.asking import AskSettings
from spacer_lib.models.inputs import encode_prompts, pad_batch, token_types
from spacer_lib.models.patches.rope import position_rule
from spacer_lib.models.patches.shared_media import media_once
from spacer_lib.rows import Question


class Response(NamedTuple):
    """A completion and what it took.

    Attributes
    ----------
    text : str
        Without special tokens; begins with its forced prefix.
    tokens : int
        Generated, the one that ends it included, a forced prefix not.
    """

    text: str
    tokens: int


def generate(model, processor, rows, settings, **options):
    """The texts of ``respond``."""
    return [made.text for made in respond(model, processor, rows, settings, **options)]


def respond(
    model: Any,
    processor: Any,
    rows: Sequence[Question],
    settings: AskSettings,
    *,
    blind: bool = False,
    prefixes: Sequence[str] | None = None,
) -> list[Response]:
    """One completion per row, with its number of tokens.

    Parameters
    ----------
    model, processor : Qwen-VL model and its processor
    rows : list of Question
        With a video, images or text alone. Of rows with the same media the media are
        encoded once a batch.
    settings : AskSettings
    blind : bool
        Leave videos and images out.
    prefixes : list of str, optional
        Forced start of each response.

    Returns
    -------
    list of Response
    """
    if prefixes is not None and len(prefixes) != len(rows):
        raise SpacerError(
            "prefixes",
            kind="models.uneven-prefixes",
            got=len(prefixes),
            expected=f"{len(rows)}",
        )
    responses: list[Response] = []
    was_training = model.training
    model.eval()
    for start in range(0, len(rows), settings.batch_size):
        batch = rows[start : start + settings.batch_size]
        forced = [""] * len(batch)
        if prefixes is not None:
            forced = list(prefixes[start : start + settings.batch_size])
        with (
            _inputs(model, processor, batch, settings, blind, forced) as inputs,
            _seeded(settings.seed, batch),
            torch.inference_mode(),
        ):
            output = model.generate(
                **inputs,
                **sampling_settings(model, settings.temperature, settings.top_p),
                max_new_tokens=settings.max_new_tokens,
            )
        new = output[:, inputs["input_ids"].shape[1] :]
        made = processor.tokenizer.batch_decode(
            new, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        whole = [start + text for start, text in zip(forced, made, strict=True)]
        responses.extend(map(Response, whole, _lengths(model, new)))
    model.train(was_training)
    return responses


def _lengths(model, new):
    """Tokens of each row up to the first that ends it, or all of them."""
    ends = model.generation_config.eos_token_id
    ends = torch.as_tensor([] if ends is None else ends, device=new.device)
    ended = torch.isin(new, ends).cumsum(dim=1) > 0
    return (new.shape[1] - ended[:, :-1].sum(dim=1)).tolist()


@contextlib.contextmanager
def _inputs(model, processor, batch, settings, blind, forced):
    tokenizer = processor.tokenizer
    ids, media = encode_prompts(
        processor, batch, settings.style, settings.video, blind=blind
    )
    starts = tokenizer(forced, add_special_tokens=False)["input_ids"]
    joined = [prompt + start for prompt, start in zip(ids, starts, strict=True)]
    input_ids, mask = pad_batch(joined, tokenizer.pad_token_id, "left")
    inputs = {"input_ids": input_ids, "attention_mask": mask}
    if any(media):
        inputs["mm_token_type_ids"] = token_types(input_ids, model.config)
    inputs = {key: tensor.to(model.device) for key, tensor in inputs.items()}
    with media_once(model, media, model.device) as tensors:
        yield {**inputs, **tensors}


def sampling_settings(model, temperature, top_p):
    """Keyword arguments of ``generate`` that leave nothing to the checkpoint."""
    # Spelled out in full: a published generation_config.json carries a near-zero
    # temperature and a repetition penalty that would win in silence.
    pads = [model.config.image_token_id, model.config.video_token_id]
    common = {"suppress_tokens": pads, "repetition_penalty": 1.0}
    if temperature == 0:  # the rest at transformers' defaults, or it warns
        greedy = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
        return {**common, **greedy}
    sampled = {"do_sample": True, "temperature": temperature, "top_p": top_p}
    return {**common, **sampled, "top_k": 0}


@contextlib.contextmanager
def _seeded(seed, batch):
    ids = "\n".join(str(row["id"]) for row in batch)
    # Mixed down to 32 bits: torch's CPU generator ignores the bits above.
    mixed = np.random.SeedSequence([seed, zlib.crc32(ids.encode())]).generate_state(1)
    with torch.random.fork_rng():
        torch.manual_seed(int(mixed[0]))
        yield


def weights_fingerprint(model):
    """Twelve hex digits of a sample of every weight tensor (64 values each).

    Enough to tell two checkpoints of a training run apart, quick at any size. A rule
    of positions that is not the library's counts as a part of the weights.
    """
    rule = position_rule(model)
    sample = {} if rule == "library" else {"positions": rule}
    for name, weight in model.state_dict().items():
        flat = weight.detach().flatten()
        some = flat[:: max(1, len(flat) // 64)].float().cpu()
        sample[name] = some.tolist()
    return config_hash(sample)
