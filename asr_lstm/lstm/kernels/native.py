"""The layer in C++ (native.cpp), compiled on first use; where there is no compiler the portable kernel serves.

On a CPU, with weights in float32. Under torch.autocast to bfloat16 the recurrent products are bfloat16 too where the
processor multiplies it (AVX512-BF16, AMX), and gates are kept in it: cells, states and sums stay in float32.

For its backward pass it keeps, for each valid frame, its inputs and 6 * hidden numbers a direction (four gates, cell,
output): 4 * (dims + 6 * directions * hidden) bytes a frame in float32, and under bfloat16
2 * dims + 16 * directions * hidden. Dropout by step and zoneout are drawn again, and keep nothing.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from asr_lstm.lstm.kernels.build import Layer, thread_pool
from asr_lstm.lstm.kernels.build import library as _library
from asr_lstm.lstm.kernels.call import Call, Gradients, Leaves, Result, ResultGradients
from asr_lstm.lstm.kernels.noise import threshold


def usable(*tensors: Tensor) -> bool:
    """Whether this kernel runs on these tensors: float32 on the CPU, and the library is there."""
    return (
        all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors) and _library() is not None
    )


def forward(call: Call, leaves: Leaves, rows: Tensor, *, keep: bool) -> tuple[Result, tuple[Tensor, ...]]:
    """As `portable.forward`."""
    directions, gate_rows, hidden = leaves.weight_hh.shape
    rows = rows.to(call.kind).contiguous()
    gates = rows.new_empty(len(rows), directions, gate_rows)
    _product(rows, leaves.weight_ih.flatten(0, 1).t(), out=gates.flatten(1))
    states = leaves.weight_hh.new_empty(len(rows), directions, hidden)
    cells = torch.empty_like(states) if keep else None
    final_states, final_cells = states.new_empty(2, directions, call.plan.batch, hidden)
    _run("lstm_forward", call, leaves, gates, cells, states, final_states, final_cells)
    kept = () if cells is None else (rows, gates, cells, states)
    return Result(states, final_states, final_cells), kept


def backward(
    call: Call, leaves: Leaves, kept: tuple[Tensor, ...], grad: ResultGradients, *, need_rows: bool
) -> Gradients:
    """As `portable.backward`."""
    rows, gates, cells, states = kept
    weight_ih = leaves.weight_ih.flatten(0, 1)
    grad_gates, previous = torch.empty_like(gates), torch.empty_like(states, dtype=gates.dtype)
    grad_bias = torch.zeros_like(leaves.bias)
    grad_peepholes, grad_states, grad_cells = (
        None if leaf is None else torch.zeros_like(leaf, memory_format=torch.contiguous_format)
        for leaf in (leaves.peepholes, leaves.states, leaves.cells)
    )
    _run(
        "lstm_backward",
        call,
        leaves,
        *(_plain(grad.outputs), gates, cells, states, _plain(grad.states), _plain(grad.cells)),
        *(grad_gates, previous, grad_bias, grad_peepholes, grad_states, grad_cells),
    )
    flat = grad_gates.flatten(1)
    grad_weight_ih = _product(flat.t(), rows, out=weight_ih.new_empty(weight_ih.shape))
    grad_weight_hh = leaves.weight_hh.new_empty(leaves.weight_hh.shape)
    for direction, out in enumerate(grad_weight_hh):
        _product(grad_gates[:, direction].t(), previous[:, direction], out=out)
    grad_rows = _product(flat, weight_ih, out=weight_ih.new_empty(rows.shape)) if need_rows else None
    return Gradients(
        grad_rows,
        grad_weight_ih.view(leaves.weight_ih.shape),
        grad_weight_hh,
        grad_bias,
        grad_peepholes,
        grad_states,
        grad_cells,
    )


def mask_rows(rows: Tensor, mask: Tensor, sequence: Tensor) -> Tensor:
    """Rows (rows, dims) times mask (batch, dims) at each row's sequence (rows,)."""
    rows, mask, sequence = rows.contiguous(), mask.contiguous(), sequence.contiguous()
    out = torch.empty_like(rows)
    _loaded().lstm_mask_rows(
        *map(_address, (rows, mask, sequence, out)), *rows.shape, torch.get_num_threads(), thread_pool()
    )
    return out


def drop(numbers: Tensor, seed: int, rate: float) -> Tensor:
    """Numbers (rows, size), dropped as `kernels.noise.drawn_at` says of the rows' places."""
    numbers = numbers.contiguous()
    out = torch.empty_like(numbers)
    _loaded().lstm_drop(
        *(_address(numbers), _address(out), seed, threshold(rate), 1 / (1 - rate)),
        *(*numbers.shape, torch.get_num_threads(), thread_pool()),
    )
    return out


def _product(left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
    """left @ right into `out`: float32 here, a tenth faster than torch on some processors.

    Bfloat16 here too where there are tiles, which pack what torch would convert and copy; else by torch.
    """
    if left.dtype != torch.float32 and not _loaded().lstm_has_tiles():
        right = right.to(left.dtype)
        return torch.mm(left, right, out=out) if out.dtype == left.dtype else out.copy_(left @ right)
    given = (
        *(_address(left), *left.stride()),
        *(_address(right), *right.stride()),
        *(_address(out), out.stride(0)),
        *(*out.shape, left.shape[1]),
        *(torch.get_num_threads(), thread_pool()),
    )
    if left.dtype == torch.float32:
        _loaded().lstm_product(*given)
    else:
        halved = (tensor.dtype == torch.bfloat16 for tensor in (right, out))
        _loaded().lstm_product_in_tiles(*given, *halved)
    return out


def _run(name: str, call: Call, leaves: Leaves, *tensors: Tensor | None) -> None:
    """Call a loop with the layer, and the tensors that its own struct names in order."""
    plan, noise = call.plan, call.noise
    _, weight_hh, bias, peepholes, states, cells = leaves
    directions, gate_rows, hidden = weight_hh.shape
    given = [_plain(tensor) for tensor in (weight_hh, bias, call.mask, peepholes, states, cells)]
    layer = Layer(
        *map(_address, (plan.starts, plan.lengths, *given)),
        *(len(plan.active), plan.batch, directions, hidden, gate_rows // hidden),
        *(torch.get_num_threads(), thread_pool()),
        noise.seed,
        *(threshold(rate) for rate in (noise.candidate, noise.cell, noise.state)),
        *(1 / (1 - noise.candidate), noise.cell, noise.state),
        noise.expected,
    )
    # Results are written where the pointers lead, so that a copy made contiguous would lose them.
    assert all(tensor is None or tensor.is_contiguous() for tensor in tensors)
    pointers = (ctypes.c_void_p * len(tensors))(*map(_address, tensors))
    getattr(_loaded(), name)(ctypes.byref(layer), pointers, call.kind == torch.bfloat16)


def _plain(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _loaded() -> ctypes.CDLL:
    loaded = _library()
    assert loaded is not None  # `usable` came first
    return loaded
