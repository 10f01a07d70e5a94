"""A GPU that is not there: tensors that say they stand on it, hold numbers on the CPU, and refuse those of the CPU.

What would be an error on a GPU is one here: an operation over tensors of both devices, `numpy()` of one on the GPU.
What makes the CPU wait for the GPU is noted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda", 0)

aten = torch.ops.aten
# Lengths of CTC are read by the CPU, and indices may come from there.
_CTC = (aten._ctc_loss.Tensor, aten._ctc_loss_backward.Tensor)
_INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


class MixedDevices(AssertionError):
    """An operation that a real GPU would refuse."""


class OnGPU(Tensor):
    """A tensor on the GPU; for torch itself it is one of the CPU, so that its autograd runs."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGPU:
        wrapper: OnGPU = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            requires_grad=held.requires_grad,
        )
        wrapper.held = held.detach()
        return wrapper

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnGPU({tuple(self.shape)}, {self.dtype})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        _refuse_others(func, args, kwargs or {})
        owners: dict[int, OnGPU] = {}

        def unwrapped(value: Any) -> Any:
            if not isinstance(value, OnGPU):
                return value
            owners[id(value.held)] = value
            return value.held

        result = func(*tree_map(unwrapped, args), **tree_map(unwrapped, kwargs or {}))
        if func is aten._local_scalar_dense.default:
            PretendedGPU.waits.append(str(func))

        def wrapped(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return owners[id(value)] if id(value) in owners else OnGPU(value)

        return tree_map(wrapped, result)


def _refuse_others(func: Any, args: Any, kwargs: Any) -> None:
    if func is aten.copy_.default:
        return
    given = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    if func in _CTC:
        given = given[: 3 if func is _CTC[1] else 2]
    elif func in _INDEXING:
        given = given[:1]
    strange = [value for value in given if not isinstance(value, OnGPU) and value.dim() > 0]
    if strange:
        shapes = ", ".join(str(tuple(value.shape)) for value in strange)
        raise MixedDevices(f"{func}: {shapes} on the CPU, the rest on the GPU")


class PretendedGPU(TorchFunctionMode):
    """Within the block `device="cuda"` is understood."""

    waits: ClassVar[list[str]] = []

    def __init__(self) -> None:
        super().__init__()
        self.waits.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return _moved(func, *args, **kwargs)
        if func is torch.autograd.grad:
            with self:  # the backward passes of our own functions understand it too
                return _gradients(*args)
        if func in (Tensor.tolist, Tensor.item) and isinstance(args[0], OnGPU):
            self.waits.append(func.__name__)
            return func(args[0].held)
        if func is Tensor.numpy and isinstance(args[0], OnGPU):
            raise MixedDevices("numpy() of a tensor on the GPU")
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "cuda":
            made = func(*args, **kwargs | {"device": "cpu"})
            return made if isinstance(made, OnGPU) else OnGPU(made)
        return func(*args, **kwargs)


def _moved(func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    kwargs.pop("non_blocking", None)
    if func is Tensor.to and args and isinstance(args[0], Tensor):
        args = (args[0].device, args[0].dtype)
    device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs) if func is Tensor.to else (None, None)
    device = {Tensor.cpu: torch.device("cpu"), Tensor.cuda: GPU}.get(func, device)
    if dtype is not None:
        tensor = Tensor.to(tensor, dtype)
    if device is None or device.type == tensor.device.type:
        return tensor
    if device.type == "cuda":
        return OnGPU(tensor)
    PretendedGPU.waits.append("to the CPU")
    return tensor.held  # type: ignore[attr-defined]


def _gradients(totals: Sequence[Tensor], tensors: Sequence[Tensor], *_: Any) -> tuple[Tensor, ...]:
    """As torch.autograd.grad, which a mode would be called for once more."""
    found = torch.autograd.graph._engine_run_backward(  # type: ignore[attr-defined]
        tuple(totals),
        tuple(map(torch.ones_like, totals)),
        False,
        False,
        tuple(tensors),
        True,
        accumulate_grad=False,
    )
    pairs = zip(found, tensors, strict=True)
    return tuple(torch.zeros_like(tensor) if grad is None else grad for grad, tensor in pairs)


def to_gpu(module: nn.Module) -> None:
    """Move a module, as `module.to("cuda")` would."""
    for part in module.modules():
        for name, value in list(part._parameters.items()):
            if value is not None:
                part._parameters[name] = nn.Parameter(OnGPU(value.detach()))
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = OnGPU(buffer)


def numbers(value: Tensor) -> Tensor:
    """What a tensor holds, wherever it stands."""
    return value.held if isinstance(value, OnGPU) else value.detach()
