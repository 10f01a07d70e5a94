"""Whether a kernel in Triton is right on the GPU at hand: asked once for each, before it first serves.

A kernel is compiled anew for each size, kind of noise and type, by a compiler that changes with each release, for GPUs
that nobody has tried it on. So each first runs a few steps of random numbers, forwards and backwards, beside the plain
loop in double; one that is wrong, or does not run at all, is not used, and a line says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import torch
from torch import Tensor

from asr_lstm.lstm.kernels.call import Call, Leaves, Result
from asr_lstm.lstm.kernels.loop import CellNorm, run_loop
from asr_lstm.lstm.kernels.plan import plan_packing
from asr_lstm.lstm.kernels.triton_launch import tf32

log = logging.getLogger(__name__)

PROOF_STEPS = 6  # that are tried; the longest sequence has as many
# Of the norm of each result, by how much it may differ: in bfloat16 it rounds to 8 digits, in TF32 to 11.
_TOLERANCE = {torch.bfloat16: 0.05, torch.float32: 1e-3}
_TOLERANCE_TF32 = 0.01
_DIMS, _FRAMES = 16, 512  # of what is tried: the loop in double keeps much for each frame

_answers: dict[Hashable, bool] = {}


def proved(
    name: Hashable,
    run: Callable[..., Result],
    call: Call,
    leaves: Leaves,
    *,
    norm: bool = False,
    steps: int = PROOF_STEPS,
) -> bool:
    """Whether a kernel gives what the loop does for a layer like this one, of random numbers.

    Args:
        name: of the kernel, and all that is compiled into it beside what this call asks of it.
        run: the kernel, given a call, leaves and rows, and `norm` where there is normalisation.
        call: its noise, mask and type are those of what is tried, and so is its batch as far as it is small.
        leaves: their sizes are.
        norm: whether the cell is normalised.
        steps: how many to try.
    """
    weights, noise = leaves.weight_hh, call.noise
    drawn = (noise.candidate > 0, noise.cell > 0, noise.state > 0, noise.expected)
    given = (call.mask is None, leaves.peepholes is None, norm)
    question = (name, weights.device, weights.shape, call.kind, drawn, given, tf32())
    if question not in _answers:
        fault = _fault(run, call, leaves, norm=norm, steps=steps)
        if fault:
            log.warning(
                "an LSTM kernel in Triton (%s, %s) is not used on this GPU: %s",
                name,
                tuple(weights.shape),
                fault,
            )
        _answers[question] = not fault
    return _answers[question]


def _fault(run: Callable[..., Result], call: Call, leaves: Leaves, *, norm: bool, steps: int) -> str:
    """What is wrong with it; nothing is an empty string."""
    tolerance = _TOLERANCE[call.kind]
    if call.kind == torch.float32 and tf32():
        tolerance = _TOLERANCE_TF32
    with _undisturbed(leaves.weight_hh.device):
        small, tensors, norms = _sample(call, leaves, norm=norm, steps=steps)
        try:
            found = _results(run, small, tensors, norms)
        except torch.OutOfMemoryError:
            raise  # which says nothing of the kernel
        except Exception as error:  # of a compiler and a driver, which have many
            return f"it does not run ({str(error).strip().partition(chr(10))[0] or type(error).__name__})"
        mask = None if small.mask is None else small.mask.double()
        exact = _results(
            run_loop,
            dataclasses.replace(small, kind=torch.double, mask=mask),
            {name: tensor.double() for name, tensor in tensors.items()},
            {name: tensor.double() for name, tensor in norms.items()},
        )
    for name, value in exact.items():
        away = float((found[name].double() - value).norm() / value.norm().clamp(min=1e-6))
        if not away < tolerance:
            return f"wrong by {away:.1%} in its {name}"
    return ""


@contextlib.contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Within the block no mode of the call that asks is on, nor are hooks that would record what it saves."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        # Those of torch.utils.checkpoint run the layer again on the way back.
        torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor),
    ):
        yield


def _sample(
    call: Call, leaves: Leaves, *, norm: bool, steps: int
) -> tuple[Call, dict[str, Tensor], dict[str, Tensor]]:
    """A call of few steps, and random leaves, rows and gains, by name; the global seeds stay as they are."""
    generator = torch.Generator().manual_seed(0)
    weights, batch = leaves.weight_hh, min(call.plan.batch, max(1, _FRAMES // steps))
    directions, wide, hidden = weights.shape

    def random(*sizes: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(directions, *sizes, generator=generator)).to(weights)

    # Unequal, and as unordered as those of a batch.
    lengths = steps - torch.arange(batch) * 7 % steps
    plan = plan_packing(lengths, frames=steps, device=weights.device)
    mask = None if call.mask is None else (random(batch, hidden) > -0.5) * 1.5
    tensors = {
        "weight_ih": random(wide, _DIMS, scale=_DIMS**-0.5),
        "weight_hh": random(wide, hidden, scale=hidden**-0.5),
        "bias": random(wide),
        "states": random(batch, hidden).tanh(),
        "cells": random(batch, hidden),
        "rows": random(len(plan.frame), _DIMS)[0],
    }
    if leaves.peepholes is not None:
        # Small, as large ones have a net make more and more of what is rounded.
        tensors["peepholes"] = random(wide // hidden - 1, hidden, scale=0.1)
    sizes = {"inputs": wide, "recurrent": wide, "cell": hidden, "shift": hidden} if norm else {}
    norms = {name: 1 + random(size, scale=0.1) for name, size in sizes.items()}
    return dataclasses.replace(call, plan=plan, mask=mask), tensors, norms


def _results(
    run: Callable[..., Result], call: Call, tensors: dict[str, Tensor], norms: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Outputs, final states and cells, and the gradients of all, by name."""
    given = {name: tensor.clone().requires_grad_() for name, tensor in (tensors | norms).items()}
    own = Leaves(*(given.get(name) for name in Leaves._fields))  # type: ignore[arg-type]
    others: dict[str, Any] = {"norm": CellNorm(*(given[name] for name in norms))} if norms else {}
    result = run(call, own, given["rows"], **others)
    generator = torch.Generator().manual_seed(1)
    pulls = [torch.randn(value.shape, generator=generator).to(value) for value in result]
    gradients = torch.autograd.grad(result, list(given.values()), pulls)
    found = {name: value.detach() for name, value in result._asdict().items()}
    return found | {f"gradient of {name}": value for name, value in zip(given, gradients, strict=True)}
