"""An LSTM layer over a whole batch, behind one function that picks the kernel."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from asr_lstm.lstm.kernels import dense, native, portable, triton_layer, triton_norm
from asr_lstm.lstm.kernels.autograd import run_layer
from asr_lstm.lstm.kernels.build import switched_off
from asr_lstm.lstm.kernels.call import Call, Leaves, Result
from asr_lstm.lstm.kernels.loop import CellNorm, run_loop
from asr_lstm.lstm.kernels.noise import StepNoise
from asr_lstm.lstm.kernels.plan import PackingPlan, plan_packing, plan_single_step

__all__ = ["CellNorm", "PackingPlan", "StepNoise", "lstm_layer", "plan_packing", "plan_single_step"]

QUIET = StepNoise()


def lstm_layer(
    rows: Tensor,
    *,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    plan: PackingPlan,
    state_mask: Tensor | None = None,
    states: tuple[Tensor, Tensor] | None = None,
    noise: StepNoise = QUIET,
    peepholes: Tensor | None = None,
    projection: Tensor | None = None,
    norm: CellNorm | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Run one LSTM layer, one direction or both, over the valid frames of a batch.

    The rows of the weights are torch's: input gate, forget gate, candidate, output gate. Without the first, three
    gates in all, the input gate is what the forget gate leaves.

    Args:
        rows: (rows, dims), packed as the plan says (`kernels.rows.pack`).
        weight_ih: (directions, 4 * hidden, dims).
        weight_hh: (directions, 4 * hidden, recurrent), where recurrent is hidden or the size of the projection.
        bias: (directions, 4 * hidden).
        plan: the batch's lengths, as `plan_packing` lays them out.
        state_mask: (directions, batch, recurrent), multiplied with the state h_{t-1} before the recurrent product
            at each step: one mask a sequence, held over time (Gal & Ghahramani 2016, equation 7).
        states: initial states (directions, batch, recurrent) and cells (directions, batch, hidden); zeros by default.
        noise: what is drawn at each step.
        peepholes: (directions, 3, hidden), from the cell to input, forget and output gate; (directions, 2, hidden)
            where there are three gates.
        projection: (directions, recurrent, hidden), applied to each new state.
        norm: layer normalisation inside the cell.

    Returns:
        (rows, directions * recurrent), and states and cells after each sequence's last step, as `states`.

    Raises:
        ValueError: an argument's shape, type or device does not fit the others.
    """
    device = weight_hh.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_hh.dtype
    call = Call(plan=plan, mask=state_mask, noise=noise, kind=kind)
    leaves = Leaves(weight_ih, weight_hh, bias, peepholes, *(states or (None, None)))
    _check(call, leaves, rows, projection, norm)
    if not plan.trivial:
        call = dataclasses.replace(call, mask=_reordered(call.mask, plan.order))
        leaves = leaves._replace(
            states=_reordered(leaves.states, plan.order), cells=_reordered(leaves.cells, plan.order)
        )
    outputs, last_states, last_cells = _run(call, leaves, rows, projection, norm)
    if not plan.trivial:
        last_states, last_cells = (last.index_select(1, plan.rank) for last in (last_states, last_cells))
    return outputs.reshape(len(rows), -1), (last_states, last_cells)


def _reordered(tensor: Tensor | None, order: Tensor) -> Tensor | None:
    return None if tensor is None else tensor.index_select(1, order)


def _run(
    call: Call, leaves: Leaves, rows: Tensor, projection: Tensor | None, norm: CellNorm | None
) -> Result:
    """Which kernel runs what, decided here alone.

    On the CPU the native one runs all but projection and normalisation, in float32; a single step, as of a language
    model, is a product too small to repay packing its weights. On a GPU the dense one, cuDNN's, runs the layer without
    dropout of its state and variants, and Triton's what the native one runs on the CPU; a second one in Triton runs
    normalisation. The portable one runs the plain layer, with a state mask or without, in any type on
    any device. The loop runs everything.
    """
    if norm is not None and projection is None and triton_norm.usable(call, leaves):
        return triton_norm.run_norm(call, leaves, rows, norm)
    if projection is not None or norm is not None:
        return run_loop(call, leaves, rows, projection=projection, norm=norm)
    gate_rows, hidden = leaves.weight_hh.shape[1:]
    plain = call.noise.quiet and leaves.peepholes is None and gate_rows == 4 * hidden
    small = plain and len(call.plan.active) == 1
    asked = not (small or switched_off())
    if asked and dense.usable(call, leaves):
        return dense.run_dense(call, leaves, rows)
    if asked and call.kind in (torch.float32, torch.bfloat16) and native.usable(leaves.weight_hh):
        return run_layer(native, call, leaves, rows)
    if asked and (launch := triton_layer.choose_launch(call, leaves)) is not None:
        return triton_layer.run_launched(launch, call, leaves, rows)
    return run_layer(portable, call, leaves, rows) if plain else run_loop(call, leaves, rows)


def _check(
    call: Call, leaves: Leaves, rows: Tensor, projection: Tensor | None, norm: CellNorm | None
) -> None:
    """Refuse what would not fit, by name."""
    first, (directions, gate_rows, recurrent) = leaves.weight_ih, leaves.weight_hh.shape
    hidden = recurrent if projection is None else projection.shape[-1]
    gates = 3 if gate_rows == 3 * hidden else 4
    wide, batch = (directions, gates * hidden), call.plan.batch
    expected: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "weight_ih": (first, (*wide, first.shape[-1])),
        "weight_hh": (leaves.weight_hh, (*wide, recurrent)),
        "bias": (leaves.bias, wide),
        "rows": (rows, (len(call.plan.frame), first.shape[-1])),
        "state_mask": (call.mask, (directions, batch, recurrent)),
        "states": (leaves.states, (directions, batch, recurrent)),
        "cells of states": (leaves.cells, (directions, batch, hidden)),
        "peepholes": (leaves.peepholes, (directions, gates - 1, hidden)),
        "projection": (projection, (directions, recurrent, hidden)),
    }
    if norm is not None:
        sizes = {
            "inputs": wide,
            "recurrent": wide,
            "cell": (directions, hidden),
            "shift": (directions, hidden),
        }
        expected |= {f"norm.{name}": (getattr(norm, name), size) for name, size in sizes.items()}
    if first.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"weights must be float32 or float64, not {first.dtype}; for less use torch.autocast"
        )
    for name, (tensor, shape) in expected.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} does not fit: {tuple(tensor.shape)} where {shape} is needed")
        lowered = name == "rows" and tensor.dtype == call.kind
        if tensor.device != first.device or not (tensor.dtype == first.dtype or lowered):
            raise ValueError(
                f"{name} must be {first.dtype} on {first.device} as the weights are, "
                f"not {tensor.dtype} on {tensor.device}"
            )
