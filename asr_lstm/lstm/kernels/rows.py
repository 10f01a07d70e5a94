"""From padded batches to packed rows and back, and dropout over rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from asr_lstm.lstm.kernels import native
from asr_lstm.lstm.kernels.noise import drawn_at
from asr_lstm.lstm.kernels.plan import PackingPlan

# The derivative of indexing adds up; each row is met once here, so that copying does, and is several times faster.


class TakeRows(torch.autograd.Function):
    """source[index] for an index that names no row twice."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, index: Tensor) -> Tensor:
        """(n, dims) and (rows,) to (rows, dims)."""
        ctx.save_for_backward(index)
        ctx.size = len(source)
        return source.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Zero where no row was taken."""
        return put_rows(grad, *ctx.saved_tensors, size=ctx.size), None


class PutRows(torch.autograd.Function):
    """`size` rows, zero but for those that the index names."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, size: int) -> Tensor:
        """(rows, dims) and (rows,) to (size, dims)."""
        ctx.save_for_backward(index)
        return rows.new_zeros(size, *rows.shape[1:]).index_copy_(0, index, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """What stands elsewhere does not count."""
        return take_rows(grad, *ctx.saved_tensors), None, None


class MaskRows(torch.autograd.Function):
    """Each row times the mask of its sequence; keeps the small mask, not one of the rows' size."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, mask: Tensor, sequence: Tensor) -> Tensor:
        """(rows, dims), (batch, dims), (rows,) to (rows, dims)."""
        ctx.save_for_backward(mask, sequence)
        return _masked(rows, mask, sequence)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The same mask."""
        return mask_rows(grad, *ctx.saved_tensors), None, None


class DropNumbers(torch.autograd.Function):
    """Numbers dropped by counting: the mask is drawn again for the backward pass, and not kept."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, seed: int, rate: float) -> Tensor:
        """(rows, size) to the same."""
        ctx.drawn = seed, rate
        if native.usable(numbers):
            return native.drop(numbers, seed, rate)
        places = torch.arange(len(numbers), device=numbers.device)
        hits = drawn_at(places, seed, rate, size=numbers.shape[1])
        return numbers.masked_fill(hits, 0).mul_(1 / (1 - rate))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The same numbers dropped."""
        return drop_numbers(grad, *ctx.drawn), None, None


def take_rows(source: Tensor, index: Tensor) -> Tensor:
    """(n, dims) to (rows, dims): the rows that the index names, none of them twice."""
    rows: Tensor = TakeRows.apply(source, index)
    return rows


def put_rows(rows: Tensor, index: Tensor, *, size: int) -> Tensor:
    """(rows, dims) to (size, dims): each row where the index says, zeros elsewhere."""
    whole: Tensor = PutRows.apply(rows, index, size)
    return whole


def mask_rows(rows: Tensor, mask: Tensor, sequence: Tensor) -> Tensor:
    """rows (rows, dims) times mask (batch, dims), which is constant, at each row's sequence."""
    masked: Tensor = MaskRows.apply(rows, mask, sequence)
    return masked


def drop_numbers(numbers: Tensor, seed: int, rate: float) -> Tensor:
    """Numbers (rows, size), each 0 with probability `rate` and scaled by 1 / (1 - rate) otherwise."""
    kept: Tensor = DropNumbers.apply(numbers, seed, rate)
    return kept


def pack(inputs: Tensor, plan: PackingPlan) -> Tensor:
    """(batch, frames, dims) to (rows, dims)."""
    flat = inputs.reshape(plan.batch * plan.frames, inputs.shape[-1])
    return flat if plan.trivial else take_rows(flat, plan.frame)


def unpack(rows: Tensor, plan: PackingPlan) -> Tensor:
    """(rows, dims) to (batch, frames, dims), zeros in the padding."""
    flat = rows if plan.trivial else put_rows(rows, plan.frame, size=plan.batch * plan.frames)
    return flat.view(plan.batch, plan.frames, rows.shape[-1])


def _masked(rows: Tensor, mask: Tensor, sequence: Tensor) -> Tensor:
    if native.usable(rows, mask):
        return native.mask_rows(rows, mask, sequence)
    return rows * mask.index_select(0, sequence)
