"""Tensors that say they are on a GPU: real numbers, and CUDA's rule of devices.

A ``Pretended`` tensor holds its numbers in an ordinary tensor and names ``cuda:0`` as
its device. While ``PretendedGpu`` is open, an operator that mixes it with a tensor of
the CPU raises, as CUDA would, and ``device="cuda:0"`` makes such tensors. Forward
passes only: autograd's backward wants a real device.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.nn.attention.bias import CausalBias
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda:0")
META = torch.device("meta")  # what torch itself is told: it needs no driver
aten = torch.ops.aten

# What CUDA allows between devices: copies, and indices that lie on the CPU.
ACROSS = {aten._to_copy.default, aten.copy_.default}
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}
ATTENTION = torch.nn.functional.scaled_dot_product_attention


class Pretended(torch.Tensor):
    """A tensor on ``cuda:0``, by its own account."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, real: torch.Tensor) -> "Pretended":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            real.size(),
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            device=META,
        )
        made.held = real
        return made

    @property
    def device(self) -> torch.device:
        return GPU

    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    def __repr__(self) -> str:
        return f"Pretended({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} outside of PretendedGpu")


def own(value: Any) -> Any:
    return value.held if isinstance(value, Pretended) else value


def on_gpu(value: Any) -> Any:
    plain = isinstance(value, torch.Tensor) and not isinstance(value, Pretended)
    return Pretended(value) if plain else value


class _Operators(TorchDispatchMode):
    """Below torch's own functions: every operator, on the real numbers."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        flat, _ = tree_flatten((args, kwargs))
        tensors = [value for value in flat if isinstance(value, torch.Tensor)]
        pretended = any(isinstance(value, Pretended) for value in tensors)
        if func not in ACROSS:
            _require_one_device(func, args, tensors)
        device = kwargs.get("device")
        if device is not None:
            pretended = torch.device(device) == META
            kwargs["device"] = torch.device("cpu")
        elif func is aten.copy_.default:
            pretended = isinstance(args[0], Pretended)
        made = func(*tree_map(own, args), **tree_map(own, kwargs))
        if not pretended:
            return made
        if args and made is own(args[0]):  # in place
            return args[0]
        return tree_map(on_gpu, made)


def _require_one_device(func: Any, args: Any, tensors: list[torch.Tensor]) -> None:
    if func in INDEXED:
        value, indices = args[:2]
        given = [index for index in indices if index is not None]
        if isinstance(value, Pretended):
            return
        tensors = [value, *given]
    there = [t for t in tensors if isinstance(t, Pretended)]
    here = [t for t in tensors if not isinstance(t, Pretended) and t.ndim]
    if there and here:
        raise RuntimeError(
            f"Expected all tensors to be on the same device: {func} mixes cuda:0 "
            f"{tuple(there[0].shape)} and cpu {tuple(here[0].shape)}"
        )


class _Functions(TorchFunctionMode):
    """Above torch's functions: devices by name, and what never meets an operator."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        wanted = device is not None and torch.device(device).type == "cuda"
        if func in (torch.tensor, torch.as_tensor) and wanted:
            return on_gpu(func(*tree_map(own, args), **{**kwargs, "device": "cpu"}))
        if func is torch.Tensor.tolist:
            return own(args[0]).tolist()
        if func is torch.Tensor.numpy and isinstance(args[0], Pretended):
            raise TypeError("can't convert a cuda:0 tensor to numpy")
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            args = args[0], _indices(args[1]), *args[2:]
        if func is ATTENTION and isinstance(args[0], Pretended):
            named = {name: kwargs.get(name) for name in ("key", "value")}
            _require_one_device(func, args, [*args[:3], *filter(_is, named.values())])
            return on_gpu(func(*map(own, args), **tree_map(own, kwargs)))
        args, kwargs = tree_map(_told, (args, kwargs))
        return func(*args, **kwargs)


def _indices(index: Any) -> Any:
    """Lists as tensors: torch would make them by itself, of nothing."""
    if isinstance(index, tuple):
        return tuple(map(_indices, index))
    return torch.tensor(index) if isinstance(index, list) else index


def _is(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _told(value: Any) -> Any:
    """Names of the GPU as torch is told them."""
    if isinstance(value, str) and value.split(":")[0] == "cuda":
        return META
    if isinstance(value, torch.device) and value.type == "cuda":
        return META
    return value


def _new_bias(kind: type, *sizes: Any) -> torch.Tensor:
    with _disable_current_modes():
        return torch.Tensor._make_subclass(kind, torch.empty(0))


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """While open, ``cuda:0`` is there."""
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_Operators())
        stack.enter_context(_Functions())
        # Its constructor cannot run below a dispatch mode.
        stack.enter_context(patch.object(CausalBias, "__new__", _new_bias))
        yield


def move(model: torch.nn.Module) -> torch.nn.Module:
    """Put all parameters and buffers of a model on the pretended GPU, in place."""
    moved: dict[int, torch.Tensor] = {}  # tied weights stay tied

    def one(tensor: torch.Tensor) -> torch.Tensor:
        return moved.setdefault(id(tensor), Pretended(tensor.detach()))

    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = one(value)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = one(value)
    return model
