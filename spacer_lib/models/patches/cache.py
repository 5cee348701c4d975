"""A key-value cache that copies its tensors rarely instead of at every token.

transformers' ``DynamicCache`` appends the keys and values of a new token with
``torch.cat``, which copies the whole cache of every layer. Here the tensors of a layer
are views into larger buffers, and a new token is written into the free part. The
numbers are the same.
"""

import copy
from typing import Any

import torch
from transformers import CompileConfig, GenerationConfig
from transformers.cache_utils import DynamicLayer, StaticCache

ROOM = 128  # free tokens of a new buffer
# A static cache's length is a multiple of this: each length is compiled anew.
BLOCK = 256


class RoomyLayer(DynamicLayer):
    """``DynamicLayer`` with its tensors in larger buffers; not for autograd.

    Parameters
    ----------
    layer : DynamicLayer
        Its tensors and settings are taken over.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.__dict__.update(vars(layer))
        # Name -> its buffer, and the view of the part in use.
        self._held: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values (rows, heads, new tokens, d).

        Returns
        -------
        keys, values : (rows, heads, tokens, d) tensors
            Of all tokens so far.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._appended("keys", key_states)
        self.values = self._appended("values", value_states)
        return self.keys, self.values

    def _appended(self, name: str, new: torch.Tensor) -> torch.Tensor:
        old = getattr(self, name)
        count = old.shape[-2] if old.numel() else 0
        end = count + new.shape[-2]
        buffer, view = self._held.get(name, (None, None))
        # Selecting, repeating or cropping rows replaces our view by another tensor.
        if buffer is None or view is not old or end > buffer.shape[-2]:
            buffer = new.new_empty(*new.shape[:-2], end + ROOM, new.shape[-1])
            if count:
                buffer[..., :count, :] = old
        buffer[..., count:end, :] = new
        view = buffer[..., :end, :]
        self._held[name] = buffer, view
        return view


def with_room(cache: Any) -> Any:
    """Replace the plain layers of a cache by ``RoomyLayer``; for generation only.

    Parameters
    ----------
    cache : DynamicCache
        Changed in place. Layers of other types stay.

    Returns
    -------
    DynamicCache
        The same object.
    """
    cache.layers = [
        RoomyLayer(layer) if type(layer) is DynamicLayer else layer
        for layer in cache.layers
    ]
    return cache


def as_static(cache: Any, config: Any, length: int) -> StaticCache:
    """The keys and values of a cache in one of fixed length.

    Parameters
    ----------
    cache : DynamicCache
        Filled by a prefill. Its tensors are let go.
    config
        Of the language model.
    length : int
        Tokens that the new cache can hold, at least.
    """
    made = StaticCache(config=config, max_cache_len=-(-length // BLOCK) * BLOCK)
    for layer, old in zip(made.layers, cache.layers, strict=True):
        layer.update(old.keys, old.values)
        old.keys = old.values = None
    return made


def decoding_by(generation: GenerationConfig, decode: str, device: Any) -> Any:
    """A copy of generation settings with a way to decode.

    Parameters
    ----------
    generation : GenerationConfig
    decode : str
        ``eager``: a cache that grows; ``static``: of fixed length; ``compiled``: and a
        step compiled by torch.compile, on a GPU with CUDA graphs.
    device : torch.device
    """
    made = copy.deepcopy(generation)
    made.disable_compile = decode != "compiled"
    if decode == "compiled":
        made.compile_config = CompileConfig()
        if device.type != "cuda":
            made.compile_config.mode = "default"  # graphs are CUDA's
            made.compile_config._compile_all_devices = True
    return made
