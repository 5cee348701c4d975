"""A key-value cache that does not copy itself at every token.

transformers' ``DynamicCache`` puts each new token's keys and values behind the old
ones with ``torch.cat``: for one token all of the cache is written anew, in every layer.
Here layers are views into buffers with room to spare; the numbers are the same.
"""

from transformers.cache_utils import DynamicLayer

ROOM = 128  # tokens a buffer grows by


class RoomyLayer(DynamicLayer):
    """``DynamicLayer`` without autograd whose tensors lie in larger buffers."""

    def __init__(self, layer):
        super().__init__()
        vars(self).update(vars(layer))
        self._held = {}  # name → buffer and the view of it that is in use

    def update(self, key_states, value_states, *args, **kwargs):
        """Put keys and values (rows, heads, new tokens, d) behind the old ones."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._appended("keys", key_states)
        self.values = self._appended("values", value_states)
        return self.keys, self.values

    def _appended(self, name, new):
        old = getattr(self, name)
        count = old.shape[-2] if old.numel() else 0
        end = count + new.shape[-2]
        buffer, view = self._held.get(name, (None, None))
        # Whoever selects, repeats or crops rows puts another tensor in our place.
        if view is not old or end > buffer.shape[-2]:
            buffer = new.new_empty(*new.shape[:-2], end + ROOM, new.shape[-1])
            if count:
                buffer[..., :count, :] = old
        buffer[..., count:end, :] = new
        view = buffer[..., :end, :]
        self._held[name] = buffer, view
        return view


def with_room(cache):
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
