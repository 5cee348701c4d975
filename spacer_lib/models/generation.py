"""Question rows → completions, with every sampling setting spelled out.

Evaluation and sample selection ask a model through here. Nothing is left to a published
``generation_config.json`` (near-zero temperature, repetition penalty).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from spacer_lib.artifacts import config_hash
from spacer_lib.errors import SpacerError
from spacer_lib.language.asking import AskSettings
from spacer_lib.models.inputs import encode_prompts, pad_batch, token_types
from spacer_lib.models.patches.rope import position_rule
from spacer_lib.models.patches.shared_media import media_once
from spacer_lib.models.sampling import KeyedSampling, sequence_key
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


def generate(
    model: Any,
    processor: Any,
    rows: Sequence[Question],
    settings: AskSettings,
    **options: Any,
) -> list[str]:
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
    most_tokens: Callable[[int], int] | None = None,
    stopping: Sequence[StoppingCriteria] = (),
) -> list[Response]:
    """One completion for each row, with its number of tokens.

    Parameters
    ----------
    model, processor : Qwen-VL model and its processor
    rows : list of Question
        With a video, images or text alone. A row that stands here several times is
        sampled each time anew; a batch encodes its media once.
    settings : AskSettings
        A completion depends on ``settings.seed``, the row's id and how often the id
        stood before it, not on its batch (up to rounding).
    blind : bool
        Leave videos and images out.
    prefixes : list of str, optional
        Forced start of each response.
    most_tokens : callable, optional
        From the number of tokens of a batch's prompt to the most new tokens, in place
        of ``settings.max_new_tokens``. It may raise.
    stopping : list of StoppingCriteria
        Of ``generate``.

    Returns
    -------
    list of Response
    """
    if prefixes is None:
        prefixes = [""] * len(rows)
    if len(prefixes) != len(rows):
        raise SpacerError(
            "prefixes",
            kind="models.uneven-prefixes",
            got=len(prefixes),
            expected=len(rows),
        )
    keys = _sequence_keys(settings.seed, rows)
    responses: list[Response] = []
    was_training = model.training
    model.eval()
    for start in range(0, len(rows), settings.batch_size):
        batch = slice(start, start + settings.batch_size)
        forced = prefixes[batch]
        inputs = _inputs(model, processor, rows[batch], settings, blind, forced)
        with inputs as tensors, torch.inference_mode():
            width = tensors["input_ids"].shape[1]
            sampler = None
            if settings.temperature > 0:
                sampler = KeyedSampling(
                    keys[batch], width, settings.temperature, settings.top_p
                )
            limit = most_tokens(width) if most_tokens else settings.max_new_tokens
            output = model.generate(
                **tensors,
                **generation_settings(model, sampler),
                max_new_tokens=limit,
                stopping_criteria=StoppingCriteriaList(stopping),
            )
        new = output[:, width:]
        made = processor.tokenizer.batch_decode(
            new, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        whole = [start + text for start, text in zip(forced, made, strict=True)]
        responses.extend(map(Response, whole, _lengths(model, new)))
    model.train(was_training)
    return responses


def _sequence_keys(seed: int, rows: Sequence[Question]) -> list[int]:
    """A key for each row, of the seed, its id and how often the id stood before it."""
    seen: Counter[str] = Counter()
    keys = []
    for row in rows:
        name = str(row["id"])
        keys.append(sequence_key(seed, name, seen[name]))
        seen[name] += 1
    return keys


def _lengths(model: Any, new: torch.Tensor) -> list[int]:
    """Tokens of each row up to the first that ends it, or all of them."""
    ends = model.generation_config.eos_token_id
    ends = torch.as_tensor([] if ends is None else ends, device=new.device)
    ended = torch.isin(new, ends).cumsum(dim=1) > 0
    return (new.shape[1] - ended[:, :-1].sum(dim=1)).tolist()


@contextmanager
def _inputs(
    model: Any,
    processor: Any,
    batch: Sequence[Question],
    settings: AskSettings,
    blind: bool,
    forced: Sequence[str],
) -> Iterator[Mapping[str, torch.Tensor]]:
    tokenizer = processor.tokenizer
    ids, media = encode_prompts(
        processor, batch, settings.style, settings.video, blind=blind
    )
    starts = tokenizer(list(forced), add_special_tokens=False)["input_ids"]
    joined = [prompt + start for prompt, start in zip(ids, starts, strict=True)]
    input_ids, mask = pad_batch(joined, tokenizer.pad_token_id, "left")
    inputs = {"input_ids": input_ids, "attention_mask": mask}
    if any(media):
        inputs["mm_token_type_ids"] = token_types(input_ids, model.config)
    inputs = {key: tensor.to(model.device) for key, tensor in inputs.items()}
    with media_once(model, media, model.device) as tensors:
        yield {**inputs, **tensors}


def generation_settings(
    model: Any, sampler: KeyedSampling | None = None
) -> dict[str, Any]:
    """Keyword arguments of ``generate`` that leave nothing to the checkpoint.

    A published ``generation_config.json`` carries a near-zero temperature and a
    repetition penalty, which would be used without a word. The largest score is taken;
    ``sampler`` makes it a sample.
    """
    settings = {
        "suppress_tokens": [model.config.image_token_id, model.config.video_token_id],
        "repetition_penalty": 1.0,
        "do_sample": False,
        # At transformers' defaults, or it warns.
        **{"temperature": 1.0, "top_p": 1.0, "top_k": 50},
    }
    if sampler is not None:
        settings["logits_processor"] = [sampler]
    return settings


def weights_fingerprint(model: Any) -> str:
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
