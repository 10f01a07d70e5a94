"""A layer as one function of autograd: large products outside of the loops over time, which a kernel runs.

What makes it fast: the input products of all frames and directions are one matrix product, and so are the weight
gradients; padding is packed away, so that sequences which have ended cost nothing. Under torch.autocast the products
outside of the loop are taken in its type; the native kernel then takes those inside of it in bfloat16 too, and keeps
gates so, where cells, states, sums and all gradients it carries stay in float32.
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr_lstm.lstm.kernels.call import Call, Leaves, Result, ResultGradients


class LSTMFunction(torch.autograd.Function):
    """One LSTM layer, all directions, by a kernel that has a backward pass of its own.

    Equations: `asr_lstm.lstm.equations`. Backward: back-propagation through time (Graves 2012, "Supervised
    Sequence Labelling with Recurrent Neural Networks", section 4.6).
    """

    @staticmethod
    def forward(
        ctx: Any, kernel: ModuleType | SimpleNamespace, call: Call, keep: bool, rows: Tensor, *leaves: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (rows, dims) and what `Leaves` holds to what `Result` holds."""
        with torch.autocast(rows.device.type, enabled=False):
            result, kept = kernel.forward(call, Leaves(*leaves), rows, keep=keep)
        ctx.kernel, ctx.call = kernel, call
        ctx.save_for_backward(*leaves, *kept)
        ctx.set_materialize_grads(False)
        return result.outputs, result.states, result.cells

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor | None, grad_states: Tensor | None, grad_cells: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Gradients with respect to rows and leaves."""
        count = len(Leaves._fields)
        saved = ctx.saved_tensors  # once: where a layer is recomputed, that happens here
        leaves, kept = Leaves(*saved[:count]), saved[count:]
        if grad is None:
            directions, _, recurrent = leaves.weight_hh.shape
            grad = leaves.weight_hh.new_zeros(len(ctx.call.plan.frame), directions, recurrent)
        gradients = ResultGradients(grad, grad_states, grad_cells)
        with torch.autocast(grad.device.type, enabled=False):
            return (
                None,
                None,
                None,
                *ctx.kernel.backward(ctx.call, leaves, kept, gradients, need_rows=ctx.needs_input_grad[3]),
            )


def run_layer(kernel: ModuleType | SimpleNamespace, call: Call, leaves: Leaves, rows: Tensor) -> Result:
    """Run a layer by a kernel with a backward pass of its own; what that needs is kept where gradients are on."""
    return Result(*LSTMFunction.apply(kernel, call, torch.is_grad_enabled(), rows, *leaves))
