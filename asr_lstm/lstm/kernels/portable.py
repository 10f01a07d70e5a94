"""The layer in plain torch: wherever torch runs, in any float type it has products for.

The directions share one batched product a step, and the gate arithmetic is done in place. Buffers are
(rows, directions, ...) in the order of steps, so that a step is one contiguous block: the backward direction's rows
are a mirrored copy of the inputs, `PackingPlan.mirror`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asr_lstm.lstm.kernels.call import Call, Gradients, Leaves, Result, ResultGradients
from asr_lstm.lstm.kernels.plan import PackingPlan


def forward(call: Call, leaves: Leaves, rows: Tensor, *, keep: bool) -> tuple[Result, tuple[Tensor, ...]]:
    """Run the layer over packed rows; return what it shows, and, to `keep`, what its backward pass needs."""
    plan, weight_ih, weight_hh = call.plan, leaves.weight_ih, leaves.weight_hh
    directions, gate_rows, _ = weight_hh.shape
    rows = rows.to(call.kind)
    met = [rows] if directions == 1 else [rows, rows.index_select(0, plan.mirror)]
    gates = weight_hh.new_empty(len(rows), directions, gate_rows)
    for direction, weight in enumerate(weight_ih):
        _affine(met[direction], weight.t(), leaves.bias[direction], out=gates[:, direction])
    cells, states = through_time(
        gates, plan=plan, weight_hh=weight_hh, mask=call.mask, initial=(leaves.states, leaves.cells)
    )
    result = Result(
        outputs=_mirrored(states[plan.batch :], plan),
        states=states.index_select(0, plan.batch + plan.final).transpose(0, 1),
        cells=cells.index_select(0, plan.batch + plan.final).transpose(0, 1),
    )
    return result, (*met, gates, cells, states) if keep else ()


def backward(
    call: Call, leaves: Leaves, kept: tuple[Tensor, ...], grad: ResultGradients, *, need_rows: bool
) -> Gradients:
    """Back-propagation through time; `grad` holds the gradients of what `forward` returned."""
    plan, weight_ih, weight_hh = call.plan, leaves.weight_ih, leaves.weight_hh
    *met, gates, cells, states = kept
    kind = met[0].dtype
    grad_gates, grad_state, grad_cell = back_through_time(
        _mirrored(grad.outputs, plan, copy=True),
        plan=plan,
        weight_hh=weight_hh,
        mask=call.mask,
        gates=gates,
        cells=cells,
        final=(grad.states, grad.cells),
    )
    grad_bias = grad_gates.sum(0)
    grad_gates = grad_gates.to(kind)
    previous = states.index_select(0, plan.previous)
    if call.mask is not None:
        previous.mul_(call.mask.transpose(0, 1)[plan.sequence])
    previous = previous.to(kind)
    grad_weight_ih, grad_weight_hh = torch.empty_like(weight_ih), torch.empty_like(weight_hh)
    grad_rows = None
    for direction, weight in enumerate(weight_ih):
        own = grad_gates[:, direction]
        grad_weight_ih[direction] = own.t() @ met[direction]
        grad_weight_hh[direction] = own.t() @ previous[:, direction]
        if need_rows:
            product = (own @ weight.to(kind)).to(weight.dtype)
            grad_rows = product if grad_rows is None else grad_rows.add_(product.index_select(0, plan.mirror))
    initial = (None, None) if leaves.states is None else (grad_state, grad_cell)
    return Gradients(grad_rows, grad_weight_ih, grad_weight_hh, grad_bias, None, *initial)


def through_time(
    gates: Tensor,
    *,
    plan: PackingPlan,
    weight_hh: Tensor,
    mask: Tensor | None,
    initial: tuple[Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor]:
    """Turn the input products in `gates` into activations, in place; return cells and states.

    Both are (batch + rows, directions, hidden): the initial ones first, (directions, batch, hidden) or zeros.
    """
    directions, gate_rows, hidden = weight_hh.shape
    cells = gates.new_empty(plan.batch + len(gates), directions, hidden)
    states = torch.empty_like(cells)
    for buffer, first in zip((states, cells), initial, strict=True):
        buffer[: plan.batch] = 0 if first is None else first.transpose(0, 1)
    cell, state = cells[: plan.batch], states[: plan.batch]
    recurrent = weight_hh.transpose(1, 2)
    products = gates.new_empty(directions * plan.batch * gate_rows)
    steps = zip(
        plan.active,
        gates.view(-1, directions, 4, hidden).split(plan.active),
        cells[plan.batch :].split(plan.active),
        states[plan.batch :].split(plan.active),
        strict=True,
    )
    for count, gate, next_cell, next_state in steps:
        previous = state[:count].transpose(0, 1)
        if mask is not None:
            previous = previous * mask[:, :count]
        # A batched product is several times faster into contiguous memory than into the gates' own rows.
        product = products[: directions * count * gate_rows].view(directions, count, gate_rows)
        torch.bmm(previous, recurrent, out=product)
        gate += product.view(directions, count, 4, hidden).transpose(0, 1)
        input_gate, forget_gate, candidate, output_gate = gate.unbind(2)
        # tanh(x) = 2 sigmoid(2 x) - 1: one vectorised pass over all four gates takes half the time of three.
        candidate *= 2
        gate.sigmoid_()
        candidate.mul_(2).sub_(1)
        cell = torch.mul(forget_gate, cell[:count], out=next_cell).addcmul_(input_gate, candidate)
        state = torch.tanh(cell, out=next_state).mul_(output_gate)
    return cells, states


def back_through_time(
    grad_states: Tensor,
    *,
    plan: PackingPlan,
    weight_hh: Tensor,
    mask: Tensor | None,
    gates: Tensor,
    cells: Tensor,
    final: tuple[Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor, Tensor]:
    """Take the gradients of the states, (rows, directions, hidden), to those of the gates before activation.

    `final` are the gradients of the final states and cells, (directions, batch, hidden) or None; those of the
    initial ones come second and third, in the same shape.
    """
    directions, _, hidden = weight_hh.shape
    input_gate, forget_gate, candidate, output_gate = gates.split(hidden, dim=-1)
    tanh_cell = torch.tanh(cells[plan.batch :])
    # What the gradients of cell and state are multiplied by on their way into each gate: one pass over all
    # steps here leaves a multiplication a step for the loop, and the products become the result.
    factors = torch.empty_like(gates)
    factor_input, factor_forget, factor_candidate, factor_output = factors.split(hidden, dim=-1)
    sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
    tanh_backward = torch.ops.aten.tanh_backward.grad_input
    sigmoid_backward(candidate, input_gate, grad_input=factor_input)
    sigmoid_backward(cells.index_select(0, plan.previous), forget_gate, grad_input=factor_forget)
    tanh_backward(input_gate, candidate, grad_input=factor_candidate)
    sigmoid_backward(tanh_cell, output_gate, grad_input=factor_output)
    into_cell = torch.ops.aten.tanh_backward(output_gate, tanh_cell)

    carried_state, carried_cell = (
        grad_states.new_zeros(plan.batch, directions, hidden)
        if grad is None
        else grad.transpose(0, 1).clone()
        for grad in final
    )
    products = grad_states.new_empty(directions * plan.batch * hidden)
    steps = zip(
        plan.active,
        grad_states.split(plan.active),
        factors.view(-1, directions, 4, hidden).split(plan.active),
        into_cell.split(plan.active),
        forget_gate.split(plan.active),
        strict=True,
    )
    for count, grad_state, factor, into, forget in reversed(list(steps)):
        grad_state += carried_state[:count]
        grad_cell = carried_cell[:count].addcmul_(grad_state, into)
        factor[:, :, :3] *= grad_cell[:, :, None]
        factor[:, :, 3] *= grad_state
        grad_cell *= forget
        product = products[: directions * count * hidden].view(directions, count, hidden)
        torch.bmm(factor.flatten(2).transpose(0, 1), weight_hh, out=product)
        if mask is not None:
            product *= mask[:, :count]
        carried_state[:count] = product.transpose(0, 1)
    return factors, carried_state.transpose(0, 1), carried_cell.transpose(0, 1)


def _mirrored(rows: Tensor, plan: PackingPlan, *, copy: bool = False) -> Tensor:
    """(rows, directions, hidden) with the backward direction's rows in the other order: frames to steps and back."""
    if rows.shape[1] == 1:
        return rows.clone() if copy else rows
    return torch.stack([rows[:, 0], rows[:, 1].index_select(0, plan.mirror)], dim=1)


def _affine(inputs: Tensor, weight: Tensor, bias: Tensor, *, out: Tensor) -> None:
    """inputs @ weight + bias into `out`, the sum in the type of `out`."""
    if inputs.dtype == out.dtype:
        torch.addmm(bias, inputs, weight, out=out)
    else:
        torch.add(inputs @ weight.to(inputs.dtype), bias, out=out)
