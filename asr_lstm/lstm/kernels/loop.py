"""The layer as a plain loop over time that autograd records: every variant, exactly, and not fast."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from asr_lstm.lstm.kernels.call import Call, Leaves, Result
from asr_lstm.lstm.kernels.noise import CANDIDATE, CELL, STATE, drawn
from asr_lstm.lstm.kernels.rows import take_rows


@dataclass(frozen=True)
class CellNorm:
    """Gains of layer normalisation inside the cell, and the shift of the cell's; one row a direction.

    Attributes:
        inputs: (directions, gates * hidden), of the input product.
        recurrent: (directions, gates * hidden), of the recurrent product.
        cell: (directions, hidden).
        shift: (directions, hidden), added to the normalised cell.
    """

    inputs: Tensor
    recurrent: Tensor
    cell: Tensor
    shift: Tensor


def run_loop(
    call: Call,
    leaves: Leaves,
    rows: Tensor,
    *,
    projection: Tensor | None = None,
    norm: CellNorm | None = None,
) -> Result:
    """Run a layer; arguments beyond those of the other kernels are `projection` and `norm`, see `lstm_layer`."""
    with torch.autocast(rows.device.type, enabled=False):
        return _run(call, leaves, rows, projection, norm)


def _run(
    call: Call, leaves: Leaves, rows: Tensor, projection: Tensor | None, norm: CellNorm | None
) -> Result:
    plan, kind = call.plan, leaves.weight_hh.dtype
    directions, _, recurrent = leaves.weight_hh.shape
    hidden = recurrent if projection is None else projection.shape[-1]
    products = torch.einsum("rd,kgd->krg", rows.to(call.kind), leaves.weight_ih.to(call.kind)).to(kind)
    if norm is not None:
        products = _normal(products) * norm.inputs[:, None]
    products = _in_steps(products + leaves.bias[:, None], plan.mirror)
    factor, cell_kept, state_kept = _noise(call, leaves.weight_hh, hidden, recurrent)

    state = products.new_zeros(directions, plan.batch, recurrent) if leaves.states is None else leaves.states
    cell = products.new_zeros(directions, plan.batch, hidden) if leaves.cells is None else leaves.cells
    states, cells, row = [], [], 0
    for count in plan.active:
        here = slice(row, row + count)
        row += count
        state, cell = state[:, :count], cell[:, :count]
        seen = state if call.mask is None else state * call.mask[:, :count]
        product = seen @ leaves.weight_hh.mT
        if norm is not None:
            product = _normal(product) * norm.recurrent[:, None]
        gates = (products[:, here] + product).split(hidden, dim=-1)
        fresh, shown = _cell(leaves, gates, cell, factor[:, here], norm)
        if projection is not None:
            shown = shown @ projection.mT
        cell = fresh + cell_kept[:, here] * (cell - fresh)
        state = shown + state_kept[:, here] * (state - shown)
        states.append(state)
        cells.append(cell)
    outputs, all_cells = torch.cat(states, 1), torch.cat(cells, 1)
    return Result(
        _in_steps(outputs, plan.mirror).transpose(0, 1),
        outputs.index_select(1, plan.final),
        all_cells.index_select(1, plan.final),
    )


def _cell(
    leaves: Leaves, gates: tuple[Tensor, ...], cell: Tensor, factor: Tensor, norm: CellNorm | None
) -> tuple[Tensor, Tensor]:
    """The new cell, before zoneout, and the state, before projection and zoneout."""
    *into_input, into_forget, into_candidate, into_output = gates
    # (directions, 1, hidden) each: of the input gate, where there is one, the forget gate and the output gate.
    *look_input, look_forget, look_output = (
        [0.0] * (len(gates) - 1) if leaves.peepholes is None else leaves.peepholes[:, :, None].unbind(1)
    )
    forget = torch.sigmoid(into_forget + look_forget * cell)
    let_in = torch.sigmoid(into_input[0] + look_input[0] * cell) if into_input else 1 - forget
    fresh = forget * cell + let_in * torch.tanh(into_candidate) * factor
    into_output = into_output + look_output * fresh
    shown = fresh if norm is None else _normal(fresh) * norm.cell[:, None] + norm.shift[:, None]
    return fresh, torch.sigmoid(into_output) * torch.tanh(shown)


def _noise(call: Call, like: Tensor, hidden: int, recurrent: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the candidate is multiplied by, and the shares of old cell and state: (directions, rows, size) or ones."""
    noise, plan, directions = call.noise, call.plan, len(like)
    one = like.new_ones(1, 1, 1).expand(1, len(plan.step), 1)

    def draw(stream: int, rate: float, size: int) -> Tensor:
        hits = drawn(noise.seed, stream, rate, plan=plan, directions=directions, hidden=size)
        return hits.transpose(0, 1).to(like.dtype)

    def kept(stream: int, rate: float, size: int) -> Tensor:
        return one * rate if noise.expected or not rate else draw(stream, rate, size)

    factor = one
    if noise.candidate:
        factor = (1 - draw(CANDIDATE, noise.candidate, hidden)) / (1 - noise.candidate)
    return factor, kept(CELL, noise.cell, hidden), kept(STATE, noise.state, recurrent)


def _in_steps(rows: Tensor, mirror: Tensor) -> Tensor:
    """(directions, rows, size) with the backward direction's rows in the other order: frames to steps and back."""
    if len(rows) == 1:
        return rows
    return torch.stack([rows[0], take_rows(rows[1], mirror)])


def _normal(numbers: Tensor) -> Tensor:
    return functional.layer_norm(numbers, numbers.shape[-1:])
