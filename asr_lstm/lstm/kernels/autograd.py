"""An LSTM layer as one function of autograd: large products here, the loops over time in a kernel.

What makes it fast: the input products of all frames are one matrix product a direction, and so are the weight
gradients; padding is packed away, so that sequences which have ended cost nothing. Under torch.autocast the
products outside of the loop are taken in its type (bfloat16 is about twice as fast where the processor has it)
while the recurrence, gates, cells and states stay as they are.

For its backward pass it keeps, for each valid frame, the inputs of each direction and 6 * hidden numbers a
direction (four gates, cell, output): in float32 4 * directions * (dims + 6 * hidden) bytes a frame.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr_lstm.lstm.kernels import native, portable
from asr_lstm.lstm.kernels.plan import PackingPlan

# Buffers are (rows, directions, ...): a step is one contiguous block, and each direction's rows are a matrix
# that a product can write into with a stride.


class LSTMFunction(torch.autograd.Function):
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
        mask = None if state_mask is None else state_mask.index_select(1, plan.order).to(gates.dtype)
        cells, states = _kernel(gates, weight_hh).through_time(
            gates, plan=plan, weight_hh=weight_hh, mask=mask
        )

        outputs: Tensor = states.new_zeros(plan.batch * plan.frames, directions, hidden)
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
        grad_gates = _kernel(gates, weight_hh).back_through_time(
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


def _kernel(*tensors: Tensor) -> ModuleType:
    """The fastest kernel that runs on these tensors."""
    return native if native.usable(*tensors) else portable


def _affine(inputs: Tensor, weight: Tensor, bias: Tensor, *, out: Tensor) -> None:
    """inputs @ weight + bias into `out`, the sum in the type of `out`."""
    if inputs.dtype == out.dtype:
        torch.addmm(bias, inputs, weight, out=out)
    else:
        torch.add(inputs @ weight.to(inputs.dtype), bias, out=out)
