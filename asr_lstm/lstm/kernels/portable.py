"""The loops over time in plain torch: wherever torch runs, in any float type.

The directions share one batched product a step, and the gate arithmetic is done in place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asr_lstm.lstm.kernels.plan import PackingPlan


def through_time(
    gates: Tensor, *, plan: PackingPlan, weight_hh: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Turn the input products in `gates` into activations, in place; return cells and states.

    Both are (batch + rows, directions, hidden): the initial, zero, states first.
    """
    directions, gate_rows, hidden = weight_hh.shape
    cells = gates.new_empty(plan.batch + len(gates), directions, hidden)
    states = torch.empty_like(cells)
    cell, state = cells[: plan.batch].zero_(), states[: plan.batch].zero_()
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
) -> Tensor:
    """Take the gradient of the states, (rows, directions, hidden), to that of the gates before activation."""
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

    carried_cell = grad_states.new_zeros(plan.batch, directions, hidden)
    carried_state = torch.zeros_like(carried_cell)
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
    return factors
