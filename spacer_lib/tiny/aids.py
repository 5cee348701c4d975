"""Training aids of the warm start: dense targets and taught attention.

Neither changes the model's classes, and the saved model has none of their weights.

*Dense targets*: for every video token, linear heads ask the vision tower what the token
shows relative to the camera, and the language model's second layer where that is on the
map. The tower sees frames one by one and cannot know the heading of a frame.

*Taught attention*: in the third layer, four heads are taught where a word of the
thought is read from, and in the second one head whose cell a digit is part of
(``thoughts.Pointer``).
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import rotate_half

from spacer_lib.rooms.synthetic.layout import STYLES
from spacer_lib.tiny.shown import ShownRoom
from spacer_lib.tiny.thoughts import FIRST, NAME, QUESTION, SECOND, VIDEO

CATEGORIES = STYLES["home"].categories
GRID = 10
MAP_LAYERS = 2  # of the language model; after them a token knows its cell
# Kind of pointer → (layer, head) that is taught it.
TAUGHT = {
    **{kind: (MAP_LAYERS, kind) for kind in (VIDEO, FIRST, SECOND, QUESTION)},
    NAME: (MAP_LAYERS - 1, 0),
}
# Of the tower's targets: lower end of the first bin, width of a bin, number of bins.
BINS = {
    "bearing_deg": (-60.0, 5.0, 24),
    "distance_m": (0.0, 0.35, 16),
    "longest_m": (0.0, 0.12, 24),
    "depth_m": (0.4, 0.3, 16),
}
SIDE_M = (3.0, 0.2, 25)  # of the floor's sides
WEIGHTS = {
    "category": 1.0,
    "bearing_deg": 0.5,
    "distance_m": 0.5,
    "longest_m": 0.3,
    "depth_m": 0.5,
    "map_category": 1.0,
    "column": 1.0,
    "row": 1.0,
    "new": 1.0,
    "sides": 0.3,
}


def _binned(values: Any, bins: tuple[float, float, int]) -> Any:
    low, width, count = bins
    return np.clip((np.asarray(values) - low) // width, 0, count - 1).astype(np.int64)


def dense_targets(rooms: Sequence[ShownRoom]) -> dict[str, Tensor]:
    """Target classes of rooms: name → (rooms, tokens), ``sides`` (rooms, 2).

    ``category`` is ``len(CATEGORIES)`` where a token shows no object; targets of
    objects are -100 there. ``new``: the object was in no earlier frame.
    """
    made: dict[str, list[np.ndarray]] = {}
    for room in rooms:
        tokens = room.tokens.reshape(len(room.frames), -1).astype(int)  # (frames, 16)
        on, index = tokens >= 0, np.maximum(tokens, 0)
        place, instances = room.places, room.scene.instances
        view = np.arange(len(room.frames))[:, None]
        names = np.array([CATEGORIES.index(i.category) for i in instances])
        longest = np.array([max(i.axes_lengths_m) for i in instances])
        category = np.where(on, names[index], len(CATEGORIES))
        seen = {
            "bearing_deg": place.bearing_deg[index, view],
            "distance_m": place.distance_m[index, view],
            "longest_m": longest[index],
        }
        targets = {k: np.where(on, _binned(v, BINS[k]), -100) for k, v in seen.items()}
        targets["depth_m"] = _binned(
            room.depth_m.reshape(tokens.shape), BINS["depth_m"]
        )
        first = np.array(room.first_views)
        targets["new"] = np.where(on, first[index] == view, -100)
        targets["column"] = np.where(on, place.cells[index, 0], -100)
        targets["row"] = np.where(on, place.cells[index, 1], -100)
        targets["category"] = targets["map_category"] = category
        low, high = room.room.floor_bounds_m
        targets["sides"] = _binned(high - low, SIDE_M)
        for name, values in targets.items():
            made.setdefault(name, []).append(values.ravel())
    return {k: torch.from_numpy(np.stack(v)).long() for k, v in made.items()}


class Heads(nn.Module):
    """Linear heads of the dense targets; ``hidden`` is the width of video tokens."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        kinds = len(CATEGORIES) + 1
        camera = {"category": kinds, **{k: bins[2] for k, bins in BINS.items()}}
        self.camera = self._linears(hidden, camera)
        self.map = self._linears(
            hidden, {"map_category": kinds, "column": GRID, "row": GRID, "new": 2}
        )
        self.sides = self._linears(hidden, {"sides": 2 * SIDE_M[2]})["sides"]

    @staticmethod
    def _linears(hidden: int, sizes: Mapping[str, int]) -> nn.ModuleDict:
        linears = {name: nn.Linear(hidden, size) for name, size in sizes.items()}
        for linear in linears.values():
            nn.init.normal_(linear.weight, std=0.05)
            nn.init.zeros_(linear.bias)
        return nn.ModuleDict(linears)

    def logits(self, features: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        """Name → (rooms, tokens, classes); ``sides`` (rooms, 2, classes).

        Parameters
        ----------
        features : (rooms, tokens, hidden)
            Video tokens as the tower makes them.
        hidden : (rooms, tokens, hidden)
            The same after ``MAP_LAYERS`` of the language model.
        """
        made = {name: head(features) for name, head in self.camera.items()}
        made |= {name: head(hidden) for name, head in self.map.items()}
        # The tokens of the last frame have all frames before them.
        sides = self.sides(hidden[:, -16:]).mean(dim=1)
        return {**made, "sides": sides.unflatten(-1, (2, SIDE_M[2]))}

    def losses(
        self, features: Tensor, hidden: Tensor, targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Name → cross-entropy; arguments as of ``logits`` and ``dense_targets``."""
        return {
            name: F.cross_entropy(logits.flatten(0, -2), targets[name].flatten())
            for name, logits in self.logits(features, hidden).items()
        }


class Taught:
    """Remembers the inputs of attention layers, and says what their heads look at.

    Used as a context around a forward pass; ``loss`` may be called after it.

    Parameters
    ----------
    layers : sequence of modules
        Of the language model.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        self._layers = layers
        self._inputs: dict[int, tuple[Tensor, ...]] = {}

    def __enter__(self) -> "Taught":
        def keep(number: int, module: Any, args: Any, kwargs: Any) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            self._inputs[number] = (hidden, *kwargs["position_embeddings"])

        self._hooks = [
            self._layers[number].register_forward_pre_hook(
                functools.partial(keep, number), with_kwargs=True
            )
            for number in {layer for layer, _ in TAUGHT.values()}
        ]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    @property
    def hidden(self) -> Tensor:
        """(B, L, hidden) after ``MAP_LAYERS``."""
        return self._inputs[MAP_LAYERS][0]

    def loss(
        self,
        pointers: Mapping[int, tuple[Tensor, Tensor, Tensor]],
        visible: Tensor,
    ) -> Tensor:
        """Mean of -log of the attention on the right tokens.

        Parameters
        ----------
        pointers : dict
            Key of ``TAUGHT`` → (batch row (n,), position (n,), right tokens (n, L)
            bool).
        visible : (B, L, L) bool
            Which keys a query may see.
        """
        normed = {
            number: self._layers[number].input_layernorm(hidden)
            for number, (hidden, *_) in self._inputs.items()
        }
        losses = []
        for name, (rows, at, right) in pointers.items():
            if not len(rows):
                continue
            number, head = TAUGHT[name]
            _, cos, sin = self._inputs[number]
            attention, states = self._layers[number].self_attn, normed[number]
            size, share = attention.head_dim, attention.num_key_value_groups
            mine = slice(size * head, size * (head + 1))
            group = slice(size * (head // share), size * (head // share + 1))
            query = F.linear(
                states[rows, at],
                attention.q_proj.weight[mine],
                attention.q_proj.bias[mine],
            )
            key = F.linear(
                states, attention.k_proj.weight[group], attention.k_proj.bias[group]
            )
            query = query * cos[rows, at] + rotate_half(query) * sin[rows, at]
            key = key * cos + rotate_half(key) * sin
            scores = torch.einsum("nd,nld->nl", query, key[rows]) * attention.scaling
            scores = scores.masked_fill(~visible[rows, at], -torch.inf)
            on_right = scores.masked_fill(~right, -torch.inf).logsumexp(dim=1)
            losses.append((scores.logsumexp(dim=1) - on_right).mean())
        return torch.stack(losses).mean()
