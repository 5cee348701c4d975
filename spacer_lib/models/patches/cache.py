"""A key-value cache that does not copy itself at every token.

transformers' ``DynamicCache`` appends each token's keys and values with ``torch.cat``,
which copies the whole cache, in every layer. Here layers are views into buffers with
free room; the numbers are the same.
"""

from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

ROOM = 128  # tokens a buffer grows by


class RoomyLayer(DynamicLayer):
    """``DynamicLayer`` without autograd whose tensors lie in larger buffers."""

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()
        self.__dict__.update(vars(layer))
        # By name: a buffer and the view of it that is in use.
        self._held: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put keys and values (rows, heads, new tokens, d) behind the old ones."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._appended("keys", key_states)
        self.values = self._appended("values", value_states)
        return self.keys, self.values

    def _appended(self, name: str, new: torch.Tensor) -> torch.Tensor:
        old = getattr(self, name)
        count = old.shape[-2] if old.numel() else 0
        end = count + new.shape[-2]
        buffer, view = self._held.get(name, (old, None))
        # Selecting, repeating or cropping rows replaces the tensor.
        if view is not old or end > buffer.shape[-2]:
            buffer = new.new_empty(*new.shape[:-2], end + ROOM, new.shape[-1])
            if count:
                buffer[..., :count, :] = old
        buffer[..., count:end, :] = new
        view = buffer[..., :end, :]
        self._held[name] = buffer, view
        return view


def with_room(cache: DynamicCache) -> DynamicCache:
    """Give the plain layers of a ``DynamicCache`` room to grow; for generation only.

    Returns
    -------
    cache
        The same object.
    """
    cache.layers = [
        RoomyLayer(layer) if type(layer) is DynamicLayer else layer
        for layer in cache.layers
    ]
    return cache
