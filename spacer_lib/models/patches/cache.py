"""A key-value cache that copies its tensors rarely instead of at every token.

transformers' ``DynamicCache`` appends the keys and values of a new token with
``torch.cat``, which copies the whole cache of every layer. Here the tensors of a layer
are views into larger buffers, and a new token is written into the free part. The
numbers are the same.
"""

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

ROOM = 128  # free tokens of a new buffer


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
