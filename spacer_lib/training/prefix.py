"""Shared prefix: each prompt of a group is computed once, exactly.

A group is one video prompt with many completions. Stock trainers run the prompt again
for every completion. Here one packed row holds

    prompt without its last token | branch 1 | branch 2 | … | branch k

where a branch is the prompt's last token and then the completion without *its* last
token, so that every position's target is the next token of its own completion. A
branch sees the prompt and itself, never a sibling, and its positions go on from the
prompt's. Log-probabilities and gradients are those of k separate rows, for P + kC
tokens in place of k(P + C). Branches keep their own lengths, without padding. A row may
hold several groups, one after another; a group sees nothing of the others.

The attention of such a row (``training.attention``) is registered in transformers under
``BRANCHES`` and does what ``sdpa`` does wherever a forward brings no ``branches``, so
the same model generates, saves and evaluates as before. It has to stay set between
forward and backward: activation checkpointing runs layers again then.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicCache

from spacer_lib.errors import SpacerError
from spacer_lib.models.inputs import pad_batch, token_types
from spacer_lib.models.patches.shared_media import core_of, media_once
from spacer_lib.training.attention import Group, Layout
from spacer_lib.training.recipe import TrainConfig

FAMILIES = ("qwen2_vl", "qwen2_5_vl")
IGNORED = -100  # label of a position that is not scored


class PromptGroup(NamedTuple):
    """A prompt, its completions and its media.

    Attributes
    ----------
    prompt : (P,) int tensor
    completions : list of (c,) int tensors
        Without padding.
    media : dict
        Of the prompt (``encode_prompts``).
    """

    prompt: torch.Tensor
    completions: Sequence[torch.Tensor]
    media: Mapping[str, torch.Tensor]


class Packed(NamedTuple):
    """Prompts and their completions as a single row of S tokens.

    Attributes
    ----------
    input_ids : (1, S) int tensor
    labels : (1, T) int tensor
        Next token of each position of the branches, all groups one after another;
        ``IGNORED`` where a completion has none.
    branches : tuple of Group
        What the attention needs to know.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    branches: Layout

    def scored(self) -> torch.Tensor | slice:
        """The T positions of the branches."""
        if len(self.branches) == 1:
            return slice(self.branches[0].before, None)
        places, start = [], 0
        for group in self.branches:
            end = start + group.size
            places.append(torch.arange(start + group.before, end))
            start = end
        return torch.cat(places).to(self.input_ids.device)


def pack(prompt: torch.Tensor, completions: Sequence[torch.Tensor]) -> Packed:
    """Lay out a prompt and its completions.

    Parameters
    ----------
    prompt : (P,) int tensor
    completions : list of (c,) int tensors
        Without padding. An empty one, wholly masked, takes a position all the same, so
        that there is always something to run.

    Returns
    -------
    Packed
    """
    inputs, labels = [prompt[:-1]], []
    for completion in completions:
        inputs += [prompt[-1:], completion[:-1]]
        labels.append(
            completion if len(completion) else completion.new_tensor([IGNORED])
        )
    return Packed(
        torch.cat(inputs)[None],
        torch.cat(labels)[None],
        (Group(len(prompt) - 1, tuple(map(len, labels))),),
    )


def pack_groups(groups: Sequence[PromptGroup]) -> Packed:
    """Lay out several groups in one row."""
    packed = [pack(group.prompt, group.completions) for group in groups]
    return Packed(
        torch.cat([one.input_ids for one in packed], dim=1),
        torch.cat([one.labels for one in packed], dim=1),
        tuple(group for one in packed for group in one.branches),
    )


def packed_positions(
    model: Any,
    prompt: torch.Tensor,
    media: Mapping[str, torch.Tensor],
    group: Group,
) -> torch.Tensor:
    """Rotary positions of a group: the model's own on the prompt, then each branch
    from the prompt's last position on.

    Returns
    -------
    (3, 1, S) int tensor
        Time, row, column.
    """
    core, ids = core_of(model), prompt[None]
    grids = {k: v.to(prompt.device) for k, v in media.items() if "grid" in k}
    if grids:
        positions, _ = core.get_rope_index(
            ids, token_types(ids, core.config).to(prompt.device), **grids
        )
    else:
        positions = torch.arange(len(prompt), device=prompt.device).expand(3, 1, -1)
    steps = torch.cat([torch.arange(length) for length in group.lengths])
    branches = positions[:, :, -1:] + steps.to(prompt.device)
    return torch.cat([positions[:, :, : group.before], branches], dim=2)


def packed_scores(
    model: Any,
    groups: Sequence[PromptGroup],
    device: Any,
    *,
    touch_vision: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probabilities of the completions of one or several prompts, in one forward.

    Parameters
    ----------
    model
        With TRL's fused head, after ``use_branches``; bare or wrapped.
    groups : list of PromptGroup
    touch_vision : bool
        See ``media_once``.

    Returns
    -------
    logps, entropies : (k, C) tensor, (k, C) tensor or None
        A row for each completion, in the order of the groups, C tokens of the longest;
        0 at padding.
    """
    packed = pack_groups(groups)
    positions = [
        packed_positions(model, one.prompt, one.media, layout)
        for one, layout in zip(groups, packed.branches, strict=True)
    ]
    media = [one.media for one in groups]
    with (
        media_once(model, media, device, touch_vision=touch_vision) as tensors,
        scored_positions(model, packed.scored()),
    ):
        output = model(
            input_ids=packed.input_ids,
            # Made, and empty: a mask would be over the row as if it were one text.
            attention_mask={"full_attention": None},
            position_ids=torch.cat(positions, dim=2),
            shift_labels=packed.labels,
            branches=packed.branches,
            fused_lm_head=True,
            **tensors,
        )
    lengths = [length for group in packed.branches for length in group.lengths]

    def by_completion(values: torch.Tensor) -> torch.Tensor:
        return pad_sequence(values[0].split(lengths), batch_first=True)

    entropy = output.entropy
    return (
        by_completion(output.log_probs),
        entropy if entropy is None else by_completion(entropy),
    )


@contextlib.contextmanager
def scored_positions(model: Any, positions: torch.Tensor | slice) -> Iterator[None]:
    """While open, the head sees these positions of each row only.

    Off the GPU, TRL's fused head would score the whole prompt and discard it.
    """

    def cut(module: Any, args: Any, output: Any) -> Any:
        states = output.last_hidden_state
        if isinstance(positions, slice):
            output.last_hidden_state = states[:, positions]
        else:
            output.last_hidden_state = states.index_select(1, positions)
        return output

    hook = core_of(model).register_forward_hook(cut)
    try:
        yield
    finally:
        hook.remove()


def distinct_rows(
    ids: Sequence[Sequence[int]], media: Sequence[Mapping[str, torch.Tensor]]
) -> tuple[list[int], list[int]]:
    """Rows that differ in tokens or media.

    Returns
    -------
    first : list of int
        The first row of each kind, in order.
    which : list of int
        For every row, its place in ``first``.
    """
    places: dict[tuple, int] = {}
    first: list[int] = []
    which: list[int] = []
    for row, (tokens, shown) in enumerate(zip(ids, media, strict=True)):
        key = tuple(tokens), id(shown)
        if key not in places:
            places[key] = len(first)
            first.append(row)
        which.append(places[key])
    return first, which


def require_one_prompt(
    prompts: Sequence[torch.Tensor], media: Sequence[Mapping[str, torch.Tensor]]
) -> None:
    """Refuse to pack rows of several prompts.

    Raises
    ------
    SpacerError
        If token ids or media differ: a group would be scored beside the wrong video.
    """
    same = all(torch.equal(ids, prompts[0]) for ids in prompts)
    if not same or any(shown is not media[0] for shown in media):
        raise SpacerError(
            "rows of a packed forward",
            kind="training.several-prompts",
            got="different videos" if same else "different prompts",
            expected="completions of one prompt",
            remedy="set advanced.shared_prefix=off",
        )


def permuted_blocks(batch: Mapping[str, Any], size: int) -> dict[str, Any]:
    """A batch with its blocks of rows in a random order; a block keeps its order.

    Parameters
    ----------
    batch : dict
        Of tensors and lists with one entry a row; scalars and ``None`` pass through.
    size : int
        Rows of a block.
    """
    rows = len(batch["completion_ids"])
    order = torch.randperm(rows // size)
    index = (order[:, None] * size + torch.arange(size)).flatten()

    def moved(value: Any) -> Any:
        if value is None or isinstance(value, torch.Tensor) and not value.ndim:
            return value
        if isinstance(value, torch.Tensor):
            return value[index.to(value.device)]
        return [value[i] for i in index.tolist()]

    return {key: moved(value) for key, value in batch.items()}


def completions_per_forward(
    config: TrainConfig, model: Any, workers: int
) -> tuple[int | None, str | None]:
    """How many completions of one prompt a forward takes, or the reason for one.

    Parameters
    ----------
    config : TrainConfig
    model
        As it was loaded.
    workers : int

    Returns
    -------
    count : int or None
    reason : str or None
        Why ``count`` is ``None``.

    Raises
    ------
    SpacerError
        If ``shared_prefix`` is on and cannot be.
    """
    if config.advanced.shared_prefix == "off":
        return None, "switched off"
    batch, forwards = config.batch_shape(workers)
    count = math.gcd(config.num_generations, batch)
    reason = _obstacle(config, model.config, count, forwards)
    if reason and config.advanced.shared_prefix == "on":
        raise refused(reason)
    return (None, reason) if reason else (count, None)


def refused(reason: str) -> SpacerError:
    """Shared prompts were asked for and cannot be."""
    return SpacerError(
        "setting advanced.shared_prefix",
        kind="training.shared-prefix",
        got=f"on, but {reason}",
        expected="auto or off",
    )


def _obstacle(
    config: TrainConfig, architecture: Any, count: int, forwards: int
) -> str | None:
    """Why packed rows would not be what the stock path computes, or ``None``."""
    text = architecture.get_text_config()
    if architecture.model_type not in FAMILIES:
        return f"{architecture.model_type} is none of {', '.join(FAMILIES)}"
    if "sliding_attention" in (getattr(text, "layer_types", None) or ()):
        return "the model has sliding-window layers"
    if config.lora.rank and config.lora.dropout:
        return "LoRA's dropout would differ between completions"
    if text.attention_dropout:
        return "attention dropout would differ between completions"
    if config.advanced.loss_type == "bnpo" and forwards > 1:
        return "bnpo's loss depends on which rows share a forward"
    if count == 1 and config.advanced.completions_per_forward != 1:
        return (
            f"per_device_batch cuts groups of {config.num_generations} into single "
            "completions"
        )
    return None


def prefill(
    model: Any,
    prompt_ids: Sequence[list[int]],
    media: Sequence[Mapping[str, torch.Tensor]],
    pad_token_id: int,
    device: Any,
) -> dict[str, Any]:
    """Each distinct prompt run once; keys and values copied to the rows that share it.

    Parameters
    ----------
    prompt_ids : list of list of int
    media : list of dict
        Rows that share a source share the object.

    Returns
    -------
    dict
        For ``model.generate`` in place of pixels: ``input_ids`` and
        ``attention_mask`` (rows, P) padded on the left, and ``past_key_values`` that
        hold all but the last token. The model's ``rope_deltas`` are set to go with it.
    """
    core = core_of(model)
    first, which = distinct_rows(prompt_ids, media)
    few, mask = pad_batch([prompt_ids[i] for i in first], pad_token_id, "left")
    few, mask = few.to(device), mask.to(device)
    cache = DynamicCache(config=core.config.get_text_config())
    types = token_types(few, core.config).to(device)
    with media_once(model, [media[i] for i in first], device) as tensors:
        model(
            input_ids=few[:, :-1],
            attention_mask=mask[:, :-1],
            mm_token_type_ids=types[:, :-1],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **tensors,
        )
    if not tensors:  # text alone: the class leaves the deltas of the batch before
        core.rope_deltas = torch.zeros(len(first), 1, dtype=torch.long, device=device)
    rows = torch.tensor(which, device=device)
    cache.batch_select_indices(rows)
    core.rope_deltas = core.rope_deltas[rows]
    return {
        "input_ids": few[rows],
        "attention_mask": mask[rows],
        "past_key_values": cache,
    }
