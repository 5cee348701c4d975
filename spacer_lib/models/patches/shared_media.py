"""Run the vision tower once per forward, on each distinct video or image of a batch.

The completions of a group share one video. Without this module the tower would encode
it once per completion. Features, log-probabilities and gradients equal those of the
plain call (``tests/training/test_media.py``).

A frozen tower returns the same features each time. ``keep_features`` keeps them between
forwards, with the pixels (``inputs.Media``) and as long as these.

The tower runs exactly once whatever the batch contains: under ZeRO-3 all ranks must run
the same modules in the same order, otherwise they wait for each other without end.
"""

import contextlib
import functools
import itertools
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch

from spacer_lib.errors import SpacerError
from spacer_lib.models.inputs import Media

Model = TypeVar("Model", bound=torch.nn.Module)
Rows = Sequence[Mapping[str, torch.Tensor]]  # the media of each

# ``core_of(model)`` of the models that keep features; no copy of a model is among them.
_KEEPERS: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()

GRIDS = {"image": "image_grid_thw", "video": "video_grid_thw"}
PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}


def core_of(model: torch.nn.Module) -> Any:
    """The module that holds vision tower and language model, inside any wrappers.

    Parameters
    ----------
    model : Qwen-VL model, bare or wrapped (DeepSpeed, DDP, PEFT)

    Raises
    ------
    SpacerError
        If no module has both ``visual`` and ``language_model``.
    """
    for module in model.modules():
        if {"visual", "language_model"} <= dict(module.named_children()).keys():
            return module
    raise SpacerError(
        "vision tower and language model",
        kind="models.no-vision-tower",
        got=type(model).__name__,
        expected="a Qwen-VL model, such as Qwen2.5-VL",
    )


@contextlib.contextmanager
def media_once(
    model: torch.nn.Module,
    media: Rows,
    device: torch.device | str,
    *,
    touch_vision: bool = False,
) -> Iterator[dict[str, torch.Tensor]]:
    """A context in which ``model`` encodes each distinct video or image once.

    Parameters
    ----------
    model : Qwen-VL model, bare or wrapped (DeepSpeed, DDP, PEFT)
    media : list of dict of tensors
        One per row, as ``encode_prompts`` returns them. Rows with the same media share
        one dictionary **object**.
    device : torch.device
    touch_vision : bool
        If no row has media, run the tower on one blank picture and multiply the result
        by 0. The rank then runs the same modules as ranks with media. The tower's
        gradients are 0 instead of absent.

    Yields
    ------
    dict of tensors
        Keyword arguments for the model's forward or ``generate``: pixels of the
        distinct media, grids and time steps of all rows.

    Raises
    ------
    SpacerError
        If this is no Qwen-VL model.
    """
    core = core_of(model)  # inside the wrappers, which see an ordinary forward
    distinct = list({id(one): one for one in media}.values())
    tensors: dict[str, torch.Tensor] = {}
    for key in dict.fromkeys(key for one in distinct for key in one):
        part = distinct if key in PIXELS.values() else media
        tensors[key] = torch.cat([one[key] for one in part if key in one]).to(device)
    opened: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if tensors:
        opened = _encoding_once(core, media, distinct, tensors)
    elif touch_vision:
        opened = _touching(core)
    with opened:
        yield tensors


@contextlib.contextmanager
def _encoding_once(
    core: Any, media: Rows, distinct: Rows, tensors: dict[str, torch.Tensor]
) -> Iterator[None]:
    kinds = [kind for kind in GRIDS if GRIDS[kind] in tensors]
    encode = core.get_image_features
    waiting: dict[str, Any] = {}  # kind -> output of the tower for it
    # Where the features of each source are in the tower's output.
    place: dict[tuple[str, int], range] = {}
    parts: list[torch.Tensor] = []
    for kind in kinds:
        for one in distinct:
            if GRIDS[kind] in one:
                start, count = sum(map(len, parts)), len(one[GRIDS[kind]])
                place[kind, id(one)] = range(start, start + count)
                parts.append(one[GRIDS[kind]])
    order = {
        kind: [i for one in media for i in place.get((kind, id(one)), ())]
        for kind in kinds
    }
    grids = torch.cat(parts).to(tensors[GRIDS[kinds[0]]].device)
    recall = _recall(core, distinct, kinds, grids.device)

    def encoder(kind: str) -> Callable[..., Any]:
        # All families encode videos and images alike, so one function serves both.
        # ``generate`` reads the signature, which ``wraps`` keeps.
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


def keep_features(model: Model) -> Model:
    """Let ``media_once`` keep the features of this model's frozen vision tower.

    The tower runs again when one of its weights has changed. Nothing is kept while a
    weight of the tower is trained, in inference mode, or under ZeRO-3, where all ranks
    have to run the tower together. Copies of the model keep nothing.

    Parameters
    ----------
    model : Qwen-VL model, bare or wrapped (DeepSpeed, DDP, PEFT)

    Returns
    -------
    model
        The same object.
    """
    _KEEPERS.add(core_of(model))
    return model


def _recall(
    core: Any, distinct: Rows, kinds: list[str], device: torch.device
) -> Callable[[Callable[..., Any]], Any] | None:
    """A function that encodes the sources which are not kept and joins all outputs.

    ``None`` where nothing may be kept.
    """
    weights = list(core.visual.parameters())
    # Autograd does not accept tensors that were made in inference mode.
    if core not in _KEEPERS or torch.is_inference_mode_enabled():
        return None
    if any(w.requires_grad or hasattr(w, "ds_id") for w in weights):
        return None
    half = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if half else None
    state = [(w.data_ptr(), w._version, w.dtype) for w in weights]
    sources = [(one, kind) for kind in kinds for one in distinct if GRIDS[kind] in one]

    def recall(encode: Callable[..., Any]) -> Any:
        kept = [_features(one, core).get((kind, dtype)) for one, kind in sources]
        found = [entry[1] if entry and entry[0] == state else None for entry in kept]
        missing = [i for i, output in enumerate(found) if output is None]
        if missing:
            shown = [
                [sources[i][0][names[sources[i][1]]] for i in missing]
                for names in (PIXELS, GRIDS)
            ]
            with torch.no_grad():
                output = encode(*(torch.cat(parts).to(device) for parts in shown))
            end = 0
            for i, grid in zip(missing, shown[1], strict=True):
                start, end = end, end + len(grid)
                found[i] = _picked(output, range(start, end))
                one, kind = sources[i]
                _features(one, core)[kind, dtype] = state, found[i]
        return _chained(found)

    return recall


def _features(one: Mapping[str, torch.Tensor], core: Any) -> dict[Any, Any]:
    """``{(kind, autocast's type): (state of the tower, its output)}`` that is kept
    with some media."""
    if not isinstance(one, Media):
        return {}  # made for one call
    if one.features is None:
        one.features = weakref.WeakKeyDictionary()
    features: dict[Any, Any] = one.features.setdefault(core, {})
    return features


def _chained(outputs: list[Any]) -> Any:
    """The outputs of several runs of the tower, joined as if from one run."""
    chain = itertools.chain.from_iterable
    parts: dict[str, Any] = {
        "pooler_output": tuple(chain(o.pooler_output for o in outputs))
    }
    if "deepstack_features" in outputs[0]:
        layers = zip(*(o.deepstack_features for o in outputs), strict=True)
        parts["deepstack_features"] = [tuple(chain(layer)) for layer in layers]
    return type(outputs[0])(**parts)


def _picked(output: Any, order: Sequence[int]) -> Any:
    """The tower's output with the features of the images or videos ``order``."""
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

    # After the embedding of tokens, where the tower runs for a batch with media.
    hook = core.get_input_embeddings().register_forward_hook(add_nothing)
    try:
        yield
    finally:
        hook.remove()
