"""The layer with normalisation inside its cell on a GPU: a product and a launch of triton_norm_steps.py for each step.

The loop in torch launches some thirty operations a step, and records them for the way back. State masks, dropout of
the candidate, zoneout and coupled gates go with it, forward and backward, in float32 or under torch.autocast with
products and gates in bfloat16; sums, means and variances are float32. Normalising the input products is left to
autograd, as they are all there at once.

For its backward pass it keeps what triton_layer.py keeps; recurrent products are taken again, all in one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from asr_lstm.lstm.kernels import triton_layer
from asr_lstm.lstm.kernels.build import switched_off
from asr_lstm.lstm.kernels.call import Call, Leaves, Result
from asr_lstm.lstm.kernels.loop import CellNorm
from asr_lstm.lstm.kernels.triton_launch import layer_settings, padded
from asr_lstm.lstm.kernels.triton_layer import edges
from asr_lstm.lstm.kernels.triton_proof import proved

_LARGEST = 2048  # units of all whose gates one program keeps in registers
_UNITS_OF_A_WARP = 128


def usable(call: Call, leaves: Leaves) -> bool:
    """Whether this kernel runs the layer."""
    hidden = leaves.weight_hh.shape[-1]
    fits = leaves.peepholes is None and hidden <= _LARGEST and call.kind in (torch.float32, torch.bfloat16)
    able = fits and not switched_off() and triton_layer.capable(leaves.weight_hh)
    return able and proved("normalised", run_norm, call, leaves, norm=True)


def run_norm(call: Call, leaves: Leaves, rows: Tensor, norm: CellNorm) -> Result:
    """As `loop.run_loop`."""
    with torch.autocast(rows.device.type, enabled=False):
        directions, wide, _ = leaves.weight_hh.shape
        products = rows.to(call.kind) @ leaves.weight_ih.flatten(0, 1).to(call.kind).t()
        products = functional.layer_norm(products.view(-1, directions, wide), (wide,))
        products = products * norm.inputs.to(call.kind) + leaves.bias.to(call.kind)
        others = (leaves.weight_hh, norm.recurrent, norm.cell, norm.shift, leaves.states, leaves.cells)
        return Result(*_Steps.apply(call, torch.is_grad_enabled(), products, *others))


class _Steps(torch.autograd.Function):
    """All that follows the input products."""

    @staticmethod
    def forward(
        ctx: Any,
        call: Call,
        keep: bool,
        products: Tensor,
        weight_hh: Tensor,
        gains: Tensor,
        cell_gains: Tensor,
        cell_shifts: Tensor,
        states: Tensor | None,
        cells: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Products (rows, directions, gates * hidden), what `Leaves` and `CellNorm` hold to what `Result` holds."""
        from asr_lstm.lstm.kernels.triton_norm_steps import forward_norm_step

        plan = call.plan
        directions, _, hidden = weight_hh.shape
        norms = tuple(tensor.contiguous() for tensor in (gains, cell_gains, cell_shifts))
        all_states = weight_hh.new_empty(plan.batch + len(products), directions, hidden)
        all_cells = torch.empty_like(all_states)
        for buffer, first in ((all_states, states), (all_cells, cells)):
            buffer[: plan.batch] = 0 if first is None else first.transpose(0, 1)
        begin = all_states[: plan.batch].transpose(0, 1)
        upcoming = (begin if call.mask is None else begin * call.mask).to(call.kind).contiguous()
        seen = products.new_empty(len(products), directions, hidden)
        first_rows, last_rows = edges(plan, directions)
        seen[first_rows] = upcoming
        gates, onto = torch.empty_like(products), weight_hh.to(call.kind).mT
        given, settings = _given(call, weight_hh)
        with torch.cuda.device_of(products):
            for step, active in enumerate(plan.active):
                recurrent = torch.bmm(upcoming[:, :active], onto)
                tensors = (products, recurrent, gates, all_cells, all_states, seen, upcoming, *norms, *given)
                forward_norm_step[directions, active](*tensors, step, **settings)
        outputs = all_states[plan.batch :]
        ctx.call, ctx.given = call, (states is not None, cells is not None)
        if keep:
            ctx.save_for_backward(weight_hh, *norms, gates, all_cells, seen)
        ctx.set_materialize_grads(False)
        return outputs, outputs[last_rows], all_cells[plan.batch :][last_rows]

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor | None, grad_states: Tensor | None, grad_cells: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Gradients with respect to what `forward` was given."""
        from asr_lstm.lstm.kernels.triton_norm_steps import backward_norm_step

        call, plan = ctx.call, ctx.call.plan
        weight_hh, gains, cell_gains, cell_shifts, gates, cells, seen = ctx.saved_tensors
        directions, wide, hidden = weight_hh.shape
        weights = weight_hh.to(call.kind)
        recurrent = torch.stack([seen[:, d] @ weights[d].t() for d in range(directions)], 1)
        grad = seen.new_zeros(seen.shape) if grad is None else grad.contiguous()
        none = weight_hh.new_zeros(directions, plan.batch, hidden)
        stayed, grad_cells = (
            none.clone() if last is None else last.clone(memory_format=torch.contiguous_format)
            for last in (grad_states, grad_cells)
        )
        grad_norms = weight_hh.new_zeros(directions, plan.batch, 2, hidden)
        grad_gates, grad_products = torch.empty_like(gates), torch.empty_like(gates)
        upcoming = gates.new_empty(directions, plan.batch, wide)
        given, settings = _given(call, weight_hh)
        fixed = (grad_norms, grad, recurrent, gates, cells, gains, cell_gains, cell_shifts, *given)
        with torch.cuda.device_of(gates):
            for step, going_on in reversed(list(enumerate([*plan.active[1:], 0]))):
                returned = torch.bmm(upcoming[:, :going_on], weights)
                tensors = (grad_gates, grad_products, upcoming, returned, grad_cells, stayed, *fixed)
                backward_norm_step[directions, plan.active[step]](*tensors, step, **settings)
        into_states = None
        if ctx.given[0]:
            into_states = torch.bmm(upcoming, weights).float()
            into_states = stayed + (into_states if call.mask is None else into_states * call.mask)
        even = functional.layer_norm(recurrent, (wide,))
        into_weights = torch.stack([grad_products[:, d].t() @ seen[:, d] for d in range(directions)])
        return (
            None,
            None,
            grad_gates,
            into_weights.float(),
            (grad_gates * even).sum(0, dtype=torch.float32),
            *grad_norms.sum(1).unbind(1),
            into_states,
            grad_cells if ctx.given[1] else None,
        )


def _given(call: Call, weight_hh: Tensor) -> tuple[tuple[Tensor | None, ...], dict[str, Any]]:
    """What each step is given besides, in their order and by name."""
    plan, hidden = call.plan, weight_hh.shape[-1]
    mask = None if call.mask is None else call.mask.contiguous()
    units = padded(hidden)
    warps = min(max(units // _UNITS_OF_A_WARP, 1), 16)
    settings = layer_settings(call, weight_hh.shape) | {"UNITS": units, "num_warps": warps}
    return (mask, plan.mirror, plan.bounds), settings
