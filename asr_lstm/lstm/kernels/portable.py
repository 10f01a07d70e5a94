"""The LSTM layer over a batch in plain torch: runs wherever torch does, in any float type.

What makes it fast: the input products of all frames are one matrix product a direction, and so are the weight
gradients; in the time loop the directions share one batched product a step and the gate arithmetic is done in
place; padding is packed away, so that sequences which have ended cost nothing. Under torch.autocast the
products outside of the loop are taken in its type (bfloat16 is about twice as fast where the processor has
it) while the recurrence, gates, cells and states stay as they are.

For its backward pass it keeps, for each valid frame, the inputs of each direction and 6 * hidden numbers a
direction (four gates, cell, output): in float32 4 * directions * (dims + 6 * hidden) bytes a frame.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr_lstm.lstm.kernels.plan import PackingPlan

# Buffers are (rows, directions, ...): a step is one contiguous block, and each direction's rows are a matrix
# that a product can write into with a stride.


class PortableLSTM(torch.autograd.Function):
    """One LSTM layer, all directions; call it through `asr_lstm.lstm.kernels.lstm_layer`.

    Equations: `asr_lstm.lstm.equations`. Backward: back-propagation through time (Graves 2012, "Supervised
    Sequence Labelling with Recurrent Neural Networks", section 4.6, without peepholes).
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias: Tensor,
        state_mask: Tensor | None,
        plan: PackingPlan,
    ) -> Tensor:
        """See `lstm_layer`; inputs (batch, frames, dims) to outputs (batch, frames, directions * hidden)."""
        directions, gate_rows, hidden = weight_hh.shape
        device = inputs.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_hh.dtype
        flat = inputs.reshape(plan.batch * plan.frames, -1)
        rows = [flat.index_select(0, frame).to(kind) for frame in plan.frame]
        gates = weight_hh.new_empty(len(rows[0]), directions, gate_rows)
        for direction, weight in enumerate(weight_ih):
            _affine(rows[direction], weight.t(), bias[direction], out=gates[:, direction])
        mask = None if state_mask is None else state_mask.index_select(1, plan.order)
        cells, states = _through_time(gates, plan=plan, weight_hh=weight_hh, mask=mask)

        outputs = states.new_zeros(plan.batch * plan.frames, directions, hidden)
        for direction, frame in enumerate(plan.frame):
            outputs[:, direction].index_copy_(0, frame, states[plan.batch :, direction])
        ctx.save_for_backward(*rows, weight_ih, weight_hh, mask, gates, cells, states)
        ctx.plan = plan
        return outputs.view(plan.batch, plan.frames, directions * hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients with respect to inputs, weight_ih, weight_hh and bias."""
        plan: PackingPlan = ctx.plan
        *rows, weight_ih, weight_hh, mask, gates, cells, states = ctx.saved_tensors
        directions, _, hidden = weight_hh.shape
        kind = rows[0].dtype
        grad_outputs = grad_outputs.reshape(plan.batch * plan.frames, directions, hidden)
        grad_states = torch.stack([grad_outputs[frame, d] for d, frame in enumerate(plan.frame)], dim=1)
        grad_gates = _back_through_time(
            grad_states, plan=plan, weight_hh=weight_hh, mask=mask, gates=gates, cells=cells
        )
        grad_bias = grad_gates.sum(0)
        grad_gates = grad_gates.to(kind)

        previous = states.index_select(0, plan.previous)
        if mask is not None:
            previous.mul_(mask.transpose(0, 1)[plan.sequence])
        previous = previous.to(kind)
        grad_weight_ih, grad_weight_hh = torch.empty_like(weight_ih), torch.empty_like(weight_hh)
        for direction in range(directions):
            transposed = grad_gates[:, direction].t()
            grad_weight_ih[direction] = transposed @ rows[direction]
            grad_weight_hh[direction] = transposed @ previous[:, direction]
        grad_inputs = None
        if ctx.needs_input_grad[0]:
            grad_inputs = weight_ih.new_zeros(plan.batch * plan.frames, weight_ih.shape[-1])
            for direction, frame in enumerate(plan.frame):
                product = grad_gates[:, direction] @ weight_ih[direction].to(kind)
                grad_inputs.index_add_(0, frame, product.to(weight_ih.dtype))
            grad_inputs = grad_inputs.view(plan.batch, plan.frames, -1)
        return grad_inputs, grad_weight_ih, grad_weight_hh, grad_bias, None, None


def _affine(inputs: Tensor, weight: Tensor, bias: Tensor, *, out: Tensor) -> None:
    """inputs @ weight + bias into `out`, the sum in the type of `out`."""
    if inputs.dtype == out.dtype:
        torch.addmm(bias, inputs, weight, out=out)
    else:
        torch.add(inputs @ weight.to(inputs.dtype), bias, out=out)


def _through_time(
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


def _back_through_time(
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
