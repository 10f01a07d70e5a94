"""The layer on a GPU with what cuDNN's lacks: steps in Triton (triton_steps.py), large products around them in torch.

It runs state masks, dropout of the candidate, zoneout, peepholes and coupled gates, forward and backward, in float32,
or under torch.autocast with products and gates in bfloat16 (cells, states and sums stay in float32). Steps are
launched in one of three ways:

- all steps of a layer at once, where the layer is small enough: programs keep their weights on the chip, and meet at a
  barrier between steps;
- one by one, with programs for the sequences that still run, replayed from a CUDA graph (triton_graphs.py);
- one by one.

The first of them that this GPU gets right (triton_proof.py) is used, or the one that ASR_LSTM_KERNEL names:
`persistent`, `graphs` or `steps`.

For its backward pass it keeps, for each valid frame, its inputs and, for each direction and hidden unit, four gates,
the cell and the masked state before; what is drawn is drawn again. Nothing is summed in an order that may change.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import shutil
from importlib.util import find_spec
from types import SimpleNamespace

import torch
from torch import Tensor

from asr_lstm.lstm.kernels.autograd import run_layer
from asr_lstm.lstm.kernels.call import Call, Gradients, Leaves, Result, ResultGradients
from asr_lstm.lstm.kernels.plan import PackingPlan
from asr_lstm.lstm.kernels.triton_launch import (
    GRAPH_STEPS,
    GRAPHS,
    ONE_BY_ONE,
    PERSISTENT,
    Launch,
    launch_settings,
    layer_settings,
    ways,
)
from asr_lstm.lstm.kernels.triton_proof import PROOF_STEPS, proved

log = logging.getLogger(__name__)

_CAPABILITY = (8, 0)  # the first GPUs to multiply bfloat16


def capable(weights: Tensor) -> bool:
    """Whether kernels in Triton can run on these: float32 on an NVIDIA GPU that multiplies bfloat16, with Triton."""
    return weights.dtype == torch.float32 and weights.is_cuda and _capable(weights.device)


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


def choose_launch(call: Call, leaves: Leaves) -> Launch | None:
    """The first way to launch that this GPU gets right, or None; one that is asked for by name needs no proof."""
    if call.kind not in (torch.float32, torch.bfloat16) or not capable(leaves.weight_hh):
        return None
    found, asked = ways(call, leaves), os.environ.get("ASR_LSTM_KERNEL")
    if asked in (PERSISTENT, GRAPHS, ONE_BY_ONE):
        return found.get(asked, found[ONE_BY_ONE])
    for launch in found.values():
        steps = PROOF_STEPS + GRAPH_STEPS * launch.replayed  # more than one play of a graph
        name = dataclasses.replace(launch, slices=0)  # which are not compiled in
        if proved(name, functools.partial(run_launched, launch), call, leaves, steps=steps):
            return launch
    return None


def run_launched(launch: Launch, call: Call, leaves: Leaves, rows: Tensor) -> Result:
    """As `autograd.run_layer`, launched that way."""
    kernel = SimpleNamespace(
        forward=functools.partial(forward, launch=launch), backward=functools.partial(backward, launch=launch)
    )
    return run_layer(kernel, call, leaves, rows)


def forward(
    call: Call, leaves: Leaves, rows: Tensor, *, keep: bool, launch: Launch
) -> tuple[Result, tuple[Tensor, ...]]:
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
    _run("forward", launch, call, leaves, gates, cells, states, seen)
    outputs = states[plan.batch :]
    result = Result(outputs, outputs[last_rows], cells[plan.batch :][last_rows])
    return result, (rows, gates, cells, seen) if keep else ()


def backward(
    call: Call,
    leaves: Leaves,
    kept: tuple[Tensor, ...],
    grad: ResultGradients,
    *,
    need_rows: bool,
    launch: Launch,
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
    _run("backward", launch, call, leaves, grad_gates, grad_cells, stayed, looks, outputs, gates, cells)
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


def _run(name: str, launch: Launch, call: Call, leaves: Leaves, *tensors: Tensor | None) -> None:
    """Launch "forward" or "backward" steps over the tensors that those of triton_steps.py are given first."""
    from asr_lstm.lstm.kernels import triton_steps
    from asr_lstm.lstm.kernels.triton_graphs import replay

    plan, (directions, _, hidden) = call.plan, leaves.weight_hh.shape
    blocks, steps = -(-hidden // launch.units), len(plan.active)
    bias = () if name == "backward" else (leaves.bias.contiguous(),)
    weights = leaves.weight_hh.to(call.kind).contiguous()
    mask, peepholes = (None if t is None else t.contiguous() for t in (call.mask, leaves.peepholes))
    given = (*tensors, weights, *bias, mask, peepholes, plan.mirror, plan.bounds)
    settings = layer_settings(call, leaves.weight_hh.shape) | launch_settings(launch, hidden)
    # Triton launches on the current device, which need not be the tensors'.
    with torch.cuda.device_of(weights):
        if launch.replayed:
            grid = (directions, -(-plan.batch // launch.tile), blocks)
            settings |= {"MASKED": mask is not None, "PEEPHOLES": peepholes is not None}
            return replay(f"{name}_replayed", given, grid, kind=call.kind, settings=settings)
        waiting = launch.at_once and hidden > launch.units
        settings |= {"HELD": launch.held, "PIECE": launch.piece, "BARRIER": waiting}
        settings["launch_cooperative_grid"] = waiting  # refused where not all programs would run at once
        kernel = getattr(triton_steps, f"{name}_steps")
        spans = [(0, steps)] if launch.at_once else [(step, step + 1) for step in range(steps)]
        arrivals = torch.zeros(directions, launch.slices, dtype=torch.int32, device=weights.device)
        for first, last in spans if bias else reversed(spans):
            grid = (directions, launch.slices or -(-plan.active[first] // launch.tile), blocks)
            kernel[grid](*given, arrivals, first, last, **settings)
