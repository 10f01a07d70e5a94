"""The layer on a GPU with what cuDNN's lacks: steps in Triton (triton_steps.py), large products around them in torch.

It runs state masks, dropout of the candidate, zoneout, peepholes and coupled gates, forward and backward, in float32,
or under torch.autocast with products and gates in bfloat16 (cells, states and sums stay in float32). Steps are
launched one by one, with programs for the sequences that still run. ASR_LSTM_KERNEL=persistent asks for one launch for
all steps of a layer, where the layer is small enough: programs then keep their weights on the chip and meet at a
barrier after each step. That barrier has not run on a GPU yet, which is why it must be asked for.

For its backward pass it keeps, for each valid frame, its inputs and, for each direction and hidden unit, four gates,
the cell and the masked state before; what is drawn is drawn again. Nothing is summed in an order that may change.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from asr_lstm.lstm.kernels.call import Call, Gradients, Leaves, Result, ResultGradients
from asr_lstm.lstm.kernels.noise import threshold
from asr_lstm.lstm.kernels.plan import PackingPlan

log = logging.getLogger(__name__)

_UNITS = 16  # of a program: the narrowest product that tensor cores take, so that many share a step
_ALONE = 32  # units up to which one program holds a whole layer, and waits for no other
_TILES = 16, 32  # sequences of one product; rows beyond the batch are computed in vain
_DEPTH = 64  # of a product's chunk
_PARTS, _IN_FLIGHT = (
    8,
    2**15,
)  # of a product on the way back, one a warp; numbers that all of them read at a time
_INTERPRETED = 16, 2**17  # what Triton's interpreter, which runs programs one after another, is taken for
_CAPABILITY = (8, 0)  # the first GPUs to multiply bfloat16


def usable(*tensors: Tensor) -> bool:
    """Whether this kernel runs on these tensors: float32 on an NVIDIA GPU that multiplies bfloat16, with Triton."""
    return all(t.dtype == torch.float32 and t.is_cuda and _capable(t.device) for t in tensors)


@functools.cache
def _capable(device: torch.device) -> bool:
    if torch.version.cuda is None or torch.cuda.get_device_capability(device) < _CAPABILITY:
        return False
    # Triton compiles what launches its kernels with a C compiler, which it finds so.
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    missing = "C compiler" if compiler is None else "Triton" if find_spec("triton") is None else None
    if missing is not None:
        log.info("no %s found: state dropout and variants of LSTM layers run in plain torch, slowly", missing)
    return missing is None


@dataclass(frozen=True)
class Launch:
    """How the steps of a layer are shared out.

    Attributes:
        units: hidden units of a program.
        tile: sequences of a product.
        held: each program reads its weights once a launch, and keeps them.
        piece: numbers of each gate that one product on the way back takes of held weights.
        at_once: all steps in one launch.
        slices: parts of the batch; 0 for as many as the running sequences have tiles.
        replayed: launches are recorded and played again; see triton_graphs.py.
    """

    units: int
    tile: int
    held: bool = False
    piece: int = 0
    at_once: bool = False
    slices: int = 0
    replayed: bool = False


def choose_launch(call: Call, leaves: Leaves) -> Launch:
    """One by one, unless another way is asked for; the persistent kernel if all of its programs run at once."""
    asked = os.environ.get("ASR_LSTM_KERNEL")
    by_one = Launch(units=_UNITS, tile=_TILES[1], replayed=asked == "graphs")
    if asked != "persistent":
        return by_one
    directions, _, hidden = leaves.weight_hh.shape
    alone = hidden <= _ALONE
    if call.kind != torch.bfloat16 and not alone:
        return by_one
    units, depth = padded(hidden) if alone else _UNITS, _held_depth(hidden)
    multiprocessors, memory = _chip(leaves.weight_hh.device)
    slices = min(multiprocessors // (directions * -(-hidden // units)), -(-call.plan.batch // _TILES[0]))
    if slices < 1:
        return by_one
    tile = _TILES[0] if -(-call.plan.batch // slices) <= _TILES[0] else _TILES[1]
    piece = min(depth // 2, _IN_FLIGHT // _PARTS // tile)
    # A program holds its units' weights from and to all four gates, and what it multiplies them with.
    needed = (4 * units * depth + tile * max(depth, _PARTS * piece)) * call.kind.itemsize
    if needed > memory:
        return by_one
    return Launch(units=units, tile=tile, piece=piece, held=True, at_once=True, slices=slices)


def _held_depth(hidden: int) -> int:
    """Numbers of a held product: halves of them, which warps share out, are no narrower than a product may be."""
    return max(32, padded(hidden))


def forward(call: Call, leaves: Leaves, rows: Tensor, *, keep: bool) -> tuple[Result, tuple[Tensor, ...]]:
    """As `portable.forward`."""
    plan, kind, weight_hh = call.plan, call.kind, leaves.weight_hh
    directions, wide, hidden = weight_hh.shape
    rows = rows.to(kind)
    gates = (rows @ leaves.weight_ih.flatten(0, 1).to(kind).t()).view(len(rows), directions, wide)
    states = weight_hh.new_empty(plan.batch + len(rows), directions, hidden)
    cells = torch.empty_like(states)
    for buffer, first in ((states, leaves.states), (cells, leaves.cells)):
        buffer[: plan.batch] = 0 if first is None else first.transpose(0, 1)
    begin = states[: plan.batch].transpose(0, 1)
    seen = gates.new_empty(len(rows), directions, hidden)
    first_rows, last_rows = edges(plan, directions)
    seen[first_rows] = (begin if call.mask is None else begin * call.mask).to(kind)
    _run("forward", call, leaves, gates, cells, states, seen)
    outputs = states[plan.batch :]
    result = Result(outputs, outputs[last_rows], cells[plan.batch :][last_rows])
    return result, (rows, gates, cells, seen) if keep else ()


def backward(
    call: Call, leaves: Leaves, kept: tuple[Tensor, ...], grad: ResultGradients, *, need_rows: bool
) -> Gradients:
    """As `portable.backward`."""
    rows, gates, cells, seen = kept
    directions, _, hidden = leaves.weight_hh.shape
    weight_ih, weight_hh = (
        weight.to(call.kind) for weight in (leaves.weight_ih.flatten(0, 1), leaves.weight_hh)
    )
    grad_gates = torch.empty_like(gates)
    stayed, grad_cells = (
        leaves.weight_hh.new_zeros(directions, call.plan.batch, hidden)
        if last is None
        else last.clone(memory_format=torch.contiguous_format)
        for last in (grad.states, grad.cells)
    )
    peepholes = leaves.peepholes
    looks = (
        None if peepholes is None else peepholes.new_zeros(directions, call.plan.batch, *peepholes.shape[1:])
    )
    outputs = grad.outputs.contiguous()
    _run("backward", call, leaves, grad_gates, grad_cells, stayed, looks, outputs, gates, cells)
    flat = grad_gates.flatten(1)
    grad_weight_hh = torch.stack([grad_gates[:, d].t() @ seen[:, d] for d in range(directions)])
    grad_states = None
    if leaves.states is not None:
        grad_states = torch.bmm(grad_gates[edges(call.plan, directions)[0]], weight_hh).float()
        grad_states = stayed + (grad_states if call.mask is None else grad_states * call.mask)
    return Gradients(
        (flat @ weight_ih).float() if need_rows else None,
        (flat.t() @ rows).view(leaves.weight_ih.shape).float(),
        grad_weight_hh.float(),
        grad_gates.sum(0, dtype=torch.float32),
        None if looks is None else looks.sum(1),
        grad_states,
        None if leaves.cells is None else grad_cells,
    )


def edges(plan: PackingPlan, directions: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Of rows (rows, directions, ...) the first that each direction meets, and the last: (directions, batch, ...)."""
    edges = torch.stack([plan.sequence[: plan.batch], plan.final])
    direction = torch.arange(directions, device=edges.device)[:, None]
    return (edges[:directions], direction), (edges.flip(0)[:directions], direction)


def _run(name: str, call: Call, leaves: Leaves, *tensors: Tensor | None) -> None:
    """Launch "forward" or "backward" steps over the tensors that those of triton_steps.py are given first."""
    from asr_lstm.lstm.kernels import triton_steps
    from asr_lstm.lstm.kernels.triton_graphs import replay

    launch = choose_launch(call, leaves)
    plan, (directions, _, hidden) = call.plan, leaves.weight_hh.shape
    blocks, steps = -(-hidden // launch.units), len(plan.active)
    starts = torch.cat([plan.starts, plan.starts[-1:]]).to(leaves.weight_hh.device, non_blocking=True)
    bias = () if name == "backward" else (leaves.bias.contiguous(),)
    weights = leaves.weight_hh.to(call.kind).contiguous()
    mask, peepholes = (None if t is None else t.contiguous() for t in (call.mask, leaves.peepholes))
    given = (*tensors, weights, *bias, mask, peepholes, plan.mirror, starts)
    settings = layer_settings(call, leaves.weight_hh.shape) | _launch_settings(launch, hidden)
    # Triton launches on the current device, which need not be the tensors'.
    with torch.cuda.device_of(starts):
        if launch.replayed:
            grid = (directions, -(-plan.batch // launch.tile), blocks)
            settings |= {"MASKED": mask is not None, "PEEPHOLES": peepholes is not None}
            return replay(f"{name}_replayed", given, grid, kind=call.kind, settings=settings)
        waiting = launch.at_once and hidden > launch.units
        settings |= {"HELD": launch.held, "PIECE": launch.piece, "BARRIER": waiting}
        settings["launch_cooperative_grid"] = waiting  # refused where not all programs would run at once
        kernel = getattr(triton_steps, f"{name}_steps")
        spans = [(0, steps)] if launch.at_once else [(step, step + 1) for step in range(steps)]
        arrivals = torch.zeros(directions, launch.slices, dtype=torch.int32, device=starts.device)
        for first, last in spans if bias else reversed(spans):
            grid = (directions, launch.slices or -(-plan.active[first] // launch.tile), blocks)
            kernel[grid](*given, arrivals, first, last, **settings)


def layer_settings(call: Call, shape: torch.Size) -> dict[str, Any]:
    """What steps are given by name of a layer whose recurrent weights have that shape, however they are launched."""
    plan, noise, (directions, wide, hidden) = call.plan, call.noise, shape
    zoneout = 2 if noise.expected else 1
    return {
        "batch": plan.batch,
        "steps": len(plan.active),
        "seed": noise.seed,
        "candidate_below": threshold(noise.candidate),
        "candidate_scale": 1 / (1 - noise.candidate),
        "cell_below": threshold(noise.cell),
        "cell_share": noise.cell,
        "state_below": threshold(noise.state),
        "state_share": noise.state,
        "DIRECTIONS": directions,
        "GATES": wide // hidden,
        "HIDDEN": hidden,
        "CANDIDATE": noise.candidate > 0,
        "CELL": zoneout if noise.cell else 0,
        "STATE": zoneout if noise.state else 0,
    }


def _launch_settings(launch: Launch, hidden: int) -> dict[str, Any]:
    """What they are given besides, whether launched or replayed."""
    return {
        "TILE": launch.tile,
        "UNITS": launch.units,
        "DEPTH": _held_depth(hidden) if launch.held else min(padded(hidden), _DEPTH),
        "PRECISION": "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
        "num_warps": 8 if launch.held else 4,
    }


def padded(size: int) -> int:
    """The power of two that Triton's blocks need, of 16 or more as its products do."""
    return max(16, 1 << (size - 1).bit_length())


@functools.cache
def _chip(device: torch.device) -> tuple[int, int]:
    """Multiprocessors, of which each runs a program, and the bytes of shared memory that a program may have."""
    if device.type != "cuda":
        return _INTERPRETED
    properties = torch.cuda.get_device_properties(device)
    memory: int = properties.shared_memory_per_block_optin  # type: ignore[attr-defined]
    return properties.multi_processor_count, memory
