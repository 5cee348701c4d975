"""Run the vision tower once per forward, on each distinct video or image of a batch.

The rollouts of a group look at one video; encoding it for each row would repeat the
same work. Features, and so log-probabilities and gradients, are those of the plain
call (``tests/training/test_media.py``).

A frozen tower makes the same features each time: with ``keep_features`` they are made
once for as long as the media object lives.

The tower runs once whatever a batch holds: under ZeRO-3 all ranks must use the same
modules in the same order, or they wait for each other forever.
"""

import contextlib
import functools
import itertools
import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from spacer_lib.errors import SpacerError
from spacer_lib.rooms.video import RecentlyUsed

FEATURE_BYTES = 512 * 2**20  # of features kept for a model, their pixels included
# By ``core_of(model)``: copies of a model have none.
_FEATURES: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

# Tensors of one row's video or images by name (``models.inputs.encode_prompts``).
Media = Mapping[str, torch.Tensor]
GRIDS = {"image": "image_grid_thw", "video": "video_grid_thw"}
PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}


def core_of(model: Any) -> Any:
    """The module that holds vision tower and language model, inside any wrappers.

    Raises
    ------
    SpacerError
        If no part of the model has both, as Qwen-VL models have.
    """
    for module in model.modules():
        if {"visual", "language_model"} <= dict(module.named_children()).keys():
            return module
    raise SpacerError(
        "vision tower and language model",
        kind="models.no-qwen-vl",
        got=type(model).__name__,
        expected="a Qwen-VL model, such as Qwen2.5-VL",
    )


@contextlib.contextmanager
def media_once(
    model: Any,
    media: Sequence[Media],
    device: Any,
    *,
    touch_vision: bool = False,
) -> Iterator[dict[str, torch.Tensor]]:
    """While this is open, ``model`` takes each distinct video or image once.

    Parameters
    ----------
    model : Qwen-VL model, bare or wrapped (DeepSpeed, DDP, PEFT)
    media : list of dict
        Per row, as ``encode_prompts`` returns them: rows that share a source share the
        dictionary **object**.
    device : torch.device
    touch_vision : bool
        If no row has media, run the tower on one blank picture and add nothing of it
        to the text, so that this rank runs what ranks with media run; the tower's
        gradients are then 0 instead of absent.

    Yields
    ------
    dict
        Keyword arguments for the model's forward or ``generate``: pixels of the
        distinct sources, grids and time steps of every row.
    """
    core = core_of(model)  # inside, so that wrappers see one ordinary forward
    distinct = list({id(one): one for one in media}.values())
    tensors = {}
    for key in dict.fromkeys(key for one in distinct for key in one):
        part = distinct if key in PIXELS.values() else media
        tensors[key] = torch.cat([one[key] for one in part if key in one]).to(device)
    opened: contextlib.AbstractContextManager[None]
    if tensors:
        opened = _encoding_once(core, media, distinct, tensors)
    else:
        opened = _touching(core) if touch_vision else contextlib.nullcontext()
    with opened:
        yield tensors


@contextlib.contextmanager
def _encoding_once(
    core: Any,
    media: Sequence[Media],
    distinct: Sequence[Media],
    tensors: Media,
) -> Iterator[None]:
    kinds = [kind for kind in GRIDS if GRIDS[kind] in tensors]
    encode = core.get_image_features
    waiting: dict[str, Any] = {}
    place: dict[tuple[str, int], range] = {}  # of a source's features in the output
    parts: list[torch.Tensor] = []
    for kind in kinds:
        for one in distinct:
            if GRIDS[kind] in one:
                start = sum(len(part) for part in parts)
                count = len(one[GRIDS[kind]])
                place[kind, id(one)] = range(start, start + count)
                parts.append(one[GRIDS[kind]])
    order = {
        kind: [i for one in media for i in place.get((kind, id(one)), ())]
        for kind in kinds
    }
    grids = torch.cat(parts).to(tensors[GRIDS[kinds[0]]].device)
    recall = _recall(core, distinct, kinds, grids.device)

    def encoder(kind: str) -> Callable:
        # A video's features are made as an image's are, in all families; the
        # signature is kept because ``generate`` reads it.
        @functools.wraps(getattr(core, f"get_{kind}_features"))
        def features(*args: Any, **kwargs: Any) -> Any:
            if kind not in waiting:
                kwargs = {k: v for k, v in kwargs.items() if k not in tensors}
                if recall:
                    output = recall(functools.partial(encode, **kwargs))
                else:
                    pixels = torch.cat([tensors[PIXELS[kind]] for kind in kinds])
                    output = encode(pixels, grids, **kwargs)
                waiting.update({kind: _picked(output, order[kind]) for kind in kinds})
            return waiting.pop(kind)

        return features

    for kind in kinds:
        setattr(core, f"get_{kind}_features", encoder(kind))
    try:
        yield
    finally:
        for kind in kinds:
            delattr(core, f"get_{kind}_features")


def keep_features(model: Any) -> Any:
    """Let ``media_once`` keep what this model's tower makes, while the tower is frozen.

    They are made anew when a weight of the tower changes. Nothing is kept while one of
    its weights learns, nor under ZeRO-3, where all ranks have to run the tower
    together. Copies of the model keep nothing.

    Returns
    -------
    model
        The same object.
    """
    _FEATURES.setdefault(core_of(model), RecentlyUsed())
    return model


def _recall(
    core: Any, distinct: Sequence[Media], kinds: Sequence[str], device: torch.device
) -> Callable | None:
    """``(encode) → output`` of all sources by way of what is kept, or ``None``."""
    kept, weights = _FEATURES.get(core), list(core.visual.parameters())
    # Tensors of inference mode could not serve in training later.
    if kept is None or torch.is_inference_mode_enabled():
        return None
    if any(w.requires_grad or hasattr(w, "ds_id") for w in weights):
        return None
    half = torch.is_autocast_enabled(device.type)
    state = (
        half and torch.get_autocast_dtype(device.type),
        *((w.data_ptr(), w._version, w.dtype) for w in weights),
    )

    # With its features the object itself is kept: no other has its id.
    sources = {
        (kind, id(one), state): (one, kind)
        for kind in kinds
        for one in distinct
        if GRIDS[kind] in one
    }

    def recall(encode: Callable) -> Any:
        entries = {key: kept.get(key) for key in sources}
        missing = [key for key, entry in entries.items() if entry is None]
        if missing:
            shown = [
                [one[names[kind]] for one, kind in (sources[key] for key in missing)]
                for names in (PIXELS, GRIDS)
            ]
            with torch.no_grad():
                output = encode(*(torch.cat(parts).to(device) for parts in shown))
            end = 0
            for key, grid in zip(missing, shown[1], strict=True):
                start, end = end, end + len(grid)
                entries[key] = sources[key][0], _picked(output, range(start, end))
        for key, entry in entries.items():
            kept.recall(key, lambda entry=entry: entry, _bytes, FEATURE_BYTES)
        return _chained([output for _, output in entries.values()])

    return recall


def _bytes(entry: tuple[Media, Any]) -> int:
    one, output = entry
    layers = [output.pooler_output, *output.get("deepstack_features", ())]
    features = (feature for layer in layers for feature in layer)
    return sum(tensor.nbytes for tensor in (*one.values(), *features))


def _chained(outputs: Sequence[Any]) -> Any:
    """Outputs of several runs of the tower as of one run."""
    chain = itertools.chain.from_iterable
    parts: dict[str, Any] = {
        "pooler_output": tuple(chain(o.pooler_output for o in outputs))
    }
    if "deepstack_features" in outputs[0]:
        layers = zip(*(o.deepstack_features for o in outputs), strict=True)
        parts["deepstack_features"] = [tuple(chain(layer)) for layer in layers]
    return type(outputs[0])(**parts)


def _picked(output: Any, order: Iterable[int]) -> Any:
    """The tower's output with features (one per image or video) in another order."""
    picked: dict[str, Any] = {
        "pooler_output": tuple(output.pooler_output[i] for i in order)
    }
    if "deepstack_features" in output:  # Qwen3-VL: one list per layer fed
        picked["deepstack_features"] = [
            tuple(layer[i] for i in order) for layer in output.deepstack_features
        ]
    return type(output)(**picked)


@contextlib.contextmanager
def _touching(core: Any) -> Iterator[None]:
    patches, side = core.visual.patch_embed.proj, core.visual.spatial_merge_size

    def add_nothing(module: Any, args: Any, embeddings: torch.Tensor) -> torch.Tensor:
        shape = side**2, patches.in_channels * math.prod(patches.kernel_size)
        output = core.get_image_features(
            embeddings.new_zeros(shape),
            torch.tensor([[1, side, side]], device=embeddings.device),
            return_dict=True,
        )
        layers = [output.pooler_output, *output.get("deepstack_features", ())]
        seen = sum(feature.mean() for layer in layers for feature in layer)
        return embeddings + 0 * seen.to(embeddings)

    # Behind the embedding of tokens, where the tower runs if there is media.
    hook = core.get_input_embeddings().register_forward_hook(add_nothing)
    try:
        yield
    finally:
        hook.remove()
