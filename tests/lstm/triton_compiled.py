"""Layers of real sizes for the Triton kernels: compiled without a GPU, or run on one."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from lstm_reference import VARIANTS, converted, make_arguments
from torch import Tensor

from asr_lstm.lstm.kernels import CellNorm, plan_packing
from asr_lstm.lstm.kernels.call import Call, Leaves, Result

FRAMES = 24


def make_call(
    variant: str,
    *,
    hidden: int,
    batch: int,
    kind: torch.dtype,
    device: str,
    dtype: torch.dtype = torch.float,
    frames: int = FRAMES,
) -> tuple[Call, Leaves]:
    """A layer of two directions and the call of it, lengths from half of its frames to all of them."""
    arguments = make_arguments(VARIANTS[variant], directions=2, batch=batch, dims=40, hidden=hidden)
    arguments = converted(arguments, dtype)
    lengths = torch.randint(
        frames // 2, frames + 1, (batch,), generator=torch.Generator().manual_seed(hidden)
    )
    plan = plan_packing(lengths, frames=frames, device=device)

    def given(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(device)

    states = arguments.get("states", (None, None))
    call = Call(plan, given(arguments.get("state_mask")), arguments["noise"], kind)
    names = ("weight_ih", "weight_hh", "bias", "peepholes")
    return call, Leaves(*(given(arguments.get(name)) for name in names), *map(given, states))  # type: ignore[arg-type]


class Recorder:
    """Stands for a kernel: keeps what it is first launched with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> None:
        self.kernel = getattr(module, name)
        self.given: dict[str, Any] = {}
        monkeypatch.setattr(module, name, self)

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return self.launch

    def launch(self, *args: Any, **settings: Any) -> None:
        self.given = self.given or dict(zip(self.kernel.arg_names, args, strict=False)) | settings

    def compile(self) -> Any:
        """For an H100, as Triton would with a GPU at hand."""
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        names = list(self.kernel.arg_names)
        assert set(names) <= set(self.given)
        types, constants, aligned = {}, {}, {}
        for place, name in enumerate(names):
            value = self.given[name]
            if value is None or name.isupper():
                types[name], constants[(place,)] = "constexpr", value
            else:
                types[name] = triton.runtime.jit.mangle_type(value)
            if isinstance(value, Tensor):
                aligned[(place,)] = [["tt.divisibility", 16]]
        source = ASTSource(self.kernel, types, constants, aligned)
        options = {
            name: self.given[name] for name in ("num_warps", "launch_cooperative_grid") if name in self.given
        }
        return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def make_norm(like: Tensor) -> CellNorm:
    """Gains and shifts for the normalisation of a layer with such recurrent weights."""
    generator = torch.Generator().manual_seed(7)
    directions, wide, hidden = like.shape
    sizes = (wide, wide, hidden, hidden)
    return CellNorm(*(torch.randn(directions, size, generator=generator).to(like) for size in sizes))


def run_call(
    run: Callable[..., Result], call: Call, leaves: Leaves, rows: Tensor, norm: CellNorm | None = None
) -> dict[str, Tensor]:
    """Outputs and the gradients of everything, by name; `run` is given call, leaves, rows and what norm there is."""
    given = leaves._asdict() | {"rows": rows} | ({} if norm is None else vars(norm))
    tensors = {
        name: tensor.detach().clone().requires_grad_() for name, tensor in given.items() if tensor is not None
    }
    own = Leaves(*(tensors.get(name) for name in Leaves._fields))  # type: ignore[arg-type]
    norms = {} if norm is None else {"norm": CellNorm(*(tensors[name] for name in vars(norm)))}
    outcome = run(call, own, tensors["rows"], **norms)
    pulled = torch.randn(outcome.outputs.shape, generator=torch.Generator().manual_seed(5)).to(rows)
    ((outcome.outputs * pulled).sum() + outcome.states.sum() + outcome.cells.sum()).backward()
    found = dict(zip(("outputs", "final states", "final cells"), outcome, strict=True))
    found |= {f"gradient of {name}": tensor.grad for name, tensor in tensors.items()}
    return {name: value.detach() for name, value in found.items()}
