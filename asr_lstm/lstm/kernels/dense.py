"""The plain layer by torch's own fused LSTM, on a GPU cuDNN's: all sequences padded to the longest, one call a layer.

Nothing is packed and no direction is reversed, for the padding *holds the state*: where lengths differ, one more
column of the inputs is 1 in the padding and 0 elsewhere. Its weights shut the input gate and open the forget gate:

    c_t = 1 * c_{t-1} + 0 * z_t,    h_t = o_t * tanh(c_t)

to the bit, since a sigmoid that far out is 0 or 1 in every float type. A direction that meets the padding after a
sequence ends with that sequence's own cell; one that meets it before begins with the zeros that it was given, as
tanh(0) is 0. Gates that stand still have no derivative either, so that gradients are those of the frames alone.

Of an initial state h_0 other than zero the padding before a sequence would leave nothing: `fits` says so, and other
kernels serve.

Weights are passed as they come, dropped or not. They are laid out anew in each call as cuDNN wants them, a copy of
some megabytes; where they lie otherwise, torch complains and copies them as well.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.backends.cudnn import rnn

from asr_lstm.lstm.kernels.call import Call, Leaves, Result
from asr_lstm.lstm.kernels.rows import take_rows

# exp(-10000) is 0 in float64 too; what else enters a gate is far smaller, and float16 ends at 65504.
_SHUT = 1e4
# Columns added for the one that is needed: 16 bytes of bfloat16, below which tensor cores lose their alignment.
_COLUMNS = 8
# cuDNN's recurrent layers take bfloat16 from here on (pytorch/pytorch pull request 164411).
_BFLOAT16_SINCE = 91300


def usable(call: Call, leaves: Leaves) -> bool:
    """Whether cuDNN can serve: a plain layer on a GPU, in a type that it takes.

    Plain is one without state mask, noise, peepholes and coupled gates; of projection and normalisation nothing is
    known here.
    """
    weight = leaves.weight_hh
    return (
        weight.is_cuda
        and fits(call, leaves)
        and torch.backends.cudnn.enabled
        and (call.kind != torch.bfloat16 or (torch.backends.cudnn.version() or 0) >= _BFLOAT16_SINCE)
    )


def fits(call: Call, leaves: Leaves) -> bool:
    """Whether `run_dense` computes this layer, on whatever device."""
    directions, gate_rows, hidden = leaves.weight_hh.shape
    plain = call.mask is None and leaves.peepholes is None and gate_rows == 4 * hidden and call.noise.quiet
    return plain and (directions == 1 or leaves.states is None or call.plan.even)


def run_dense(call: Call, leaves: Leaves, rows: Tensor) -> Result:
    """Run a layer that `fits`; under torch.autocast states at the end are rounded to its type, as all others are."""
    with torch.autocast(rows.device.type, enabled=False):
        return _run(call, leaves, rows)


def _run(call: Call, leaves: Leaves, rows: Tensor) -> Result:
    plan, kind, exact = call.plan, call.kind, leaves.weight_hh.dtype
    directions, _, hidden = leaves.weight_hh.shape
    columns = 0 if plan.even else _COLUMNS
    steps: Tensor = Padded.apply(rows.to(kind), plan.slot, len(plan.active) * plan.batch, columns)
    zeros = steps.new_zeros(directions, plan.batch, hidden)
    state, cell = (
        zeros if first is None else first.to(kind).contiguous() for first in (leaves.states, leaves.cells)
    )
    shown, state, cell = torch.lstm(
        steps.view(len(plan.active), plan.batch, -1),
        (state, cell),
        _laid_out(leaves, kind, columns=columns),
        True,  # with biases
        1,  # layer
        0.0,  # dropout
        torch.is_grad_enabled(),  # "train": keep what the backward pass needs
        directions == 2,
        False,  # frames first
    )
    outputs = take_rows(shown.flatten(0, 1), plan.slot).to(exact)
    # Forwards the padding comes last, and shows something else than the last frame does.
    last = take_rows(outputs[:, :hidden], plan.final)
    states = last[None] if directions == 1 else torch.stack([last, state[1].to(exact)])
    return Result(outputs.view(-1, directions, hidden), states, cell.to(exact))


class Padded(torch.autograd.Function):
    """Rows to padded steps, with columns that tell padding from frames: 1 in the first of them, and zeros."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, slot: Tensor, size: int, columns: int) -> Tensor:
        """(rows, dims) and (rows,) to (size, dims + columns)."""
        ctx.save_for_backward(slot)
        ctx.dims = rows.shape[1]
        steps = rows.new_zeros(size, ctx.dims + columns)
        if columns:
            steps[:, ctx.dims] = 1
            steps[:, ctx.dims].index_fill_(0, slot, 0)
        steps[:, : ctx.dims].index_copy_(0, slot, rows)
        return steps

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """What stands in the padding does not count."""
        return take_rows(grad[:, : ctx.dims], *ctx.saved_tensors), None, None, None


def _laid_out(leaves: Leaves, kind: torch.dtype, *, columns: int) -> list[Tensor]:
    """W_ih, W_hh and two biases of each direction, torch's order, as views of one buffer in cuDNN's order.

    There are two biases where one would do: ours is the first, and the second is zero.
    """
    weight_ih, weight_hh, bias = (leaf.to(kind) for leaf in leaves[:3])
    hidden = weight_hh.shape[2]
    if columns:
        holding = weight_ih.new_zeros(*weight_ih.shape[:2], columns)
        holding[:, :hidden, 0], holding[:, hidden : 2 * hidden, 0] = -_SHUT, _SHUT
        weight_ih = torch.cat([weight_ih, holding], dim=2)
    parts = [
        part for own in zip(weight_ih, weight_hh, bias, torch.zeros_like(bias), strict=True) for part in own
    ]
    order = _order(weight_ih.shape[2], hidden, len(weight_ih), kind, weight_ih.device)
    sizes = [size if place is None else parts[place].numel() for place, size in order]
    pieces = [parts[0].new_zeros(size) if place is None else parts[place].flatten() for place, size in order]
    views = torch.cat(pieces).split(sizes)
    found = {place: view for (place, _), view in zip(order, views, strict=True) if place is not None}
    return [found[place].view_as(part) for place, part in enumerate(parts)]


@functools.lru_cache(maxsize=64)
def _order(
    dims: int, hidden: int, directions: int, kind: torch.dtype, device: torch.device
) -> list[tuple[int | None, int]]:
    """Which of the weights comes when in cuDNN's buffer, and how many numbers: (None, n) is a gap.

    cuDNN itself is asked, by laying out weights of no use. Elsewhere any order does.
    """
    shapes = [(4 * hidden, dims), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,)] * directions
    sizes = [torch.Size(shape).numel() for shape in shapes]
    if device.type != "cuda":
        return list(enumerate(sizes))
    weights = [torch.empty(shape, dtype=kind, device=device) for shape in shapes]
    with torch.no_grad(), torch.cuda.device(device):
        mode = rnn.get_cudnn_mode("LSTM")
        buffer = torch._cudnn_rnn_flatten_weight(weights, 4, dims, mode, hidden, 0, 1, False, directions == 2)
    starts = [(weight.data_ptr() - buffer.data_ptr()) // buffer.element_size() for weight in weights]
    order: list[tuple[int | None, int]] = []
    end = 0
    for place in sorted(range(len(starts)), key=starts.__getitem__):
        if starts[place] > end:
            order.append((None, starts[place] - end))
        order.append((place, sizes[place]))
        end = starts[place] + sizes[place]
    return order if buffer.numel() == end else [*order, (None, buffer.numel() - end)]
