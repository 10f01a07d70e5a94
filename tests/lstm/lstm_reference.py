"""Layers with random weights in every variant, run by the kernels and by the cell's equations one frame at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from asr_lstm.lstm.dropout import sequence_mask
from asr_lstm.lstm.equations import variant_cell
from asr_lstm.lstm.kernels import CellNorm, PackingPlan, StepNoise, lstm_layer, plan_packing
from asr_lstm.lstm.kernels.noise import CANDIDATE, CELL, STATE, drawn
from asr_lstm.lstm.kernels.rows import pack, unpack

# Unsorted, with ties, a single frame and a full one.
LENGTHS = [4, 9, 1, 9, 6, 1, 7]
FRAMES = 9
DIMS, HIDDEN, PROJECTION = 5, 3, 2

NOISE = StepNoise(seed=2**62 + 12345, candidate=0.3, cell=0.25, state=0.4)
# What makes each variant: names that `make_arguments` knows.
VARIANTS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "state mask": ("mask",),
    "initial states": ("states",),
    "candidate dropout": ("candidate",),
    "zoneout": ("zoneout",),
    "zoneout expected": ("expected",),
    "peepholes": ("peepholes",),
    "coupled gates": ("coupled",),
    "coupled gates with peepholes": ("coupled", "peepholes"),
    "all that is native": ("mask", "states", "candidate", "zoneout", "peepholes", "coupled"),
    "all that is native, uncoupled": ("mask", "states", "candidate", "zoneout", "peepholes"),
    "projection": ("projection",),
    "projection with masks": ("projection", "mask", "states", "candidate", "zoneout", "peepholes"),
    "cell norm": ("norm",),
    "cell norm with the rest": ("norm", "coupled", "projection", "mask", "states", "candidate", "zoneout"),
}
NATIVE = [name for name, parts in VARIANTS.items() if not {"projection", "norm"} & set(parts)]
PLAIN = ["plain", "state mask", "initial states"]


def make_arguments(
    parts: Iterable[str], *, directions: int, batch: int, dims: int = DIMS, hidden: int = HIDDEN
) -> dict[str, Any]:
    """Random arguments of `lstm_layer`, all but rows and plan, in float64."""
    parts = set(parts)
    generator = torch.Generator().manual_seed(directions * 100 + batch + hidden)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(directions, *shape, generator=generator, dtype=torch.double)

    recurrent = min(PROJECTION, hidden) if "projection" in parts else hidden
    gates = 3 if "coupled" in parts else 4
    arguments: dict[str, Any] = {
        "weight_ih": random(gates * hidden, dims, scale=2 * dims**-0.5),
        "weight_hh": random(gates * hidden, recurrent, scale=1.5 * hidden**-0.5),
        "bias": random(gates * hidden),
    }
    if "mask" in parts:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            arguments["state_mask"] = sequence_mask(directions, batch, recurrent, rate=0.4, like=random(1))
    if "states" in parts:
        arguments["states"] = random(batch, recurrent), random(batch, hidden)
    if "peepholes" in parts:
        arguments["peepholes"] = random(gates - 1, hidden)
    if "projection" in parts:
        arguments["projection"] = random(recurrent, hidden)
    if "norm" in parts:
        arguments["norm"] = CellNorm(
            random(gates * hidden), random(gates * hidden), random(hidden), random(hidden)
        )
    noise = NOISE
    arguments["noise"] = StepNoise(
        seed=noise.seed,
        candidate=noise.candidate if "candidate" in parts else 0.0,
        cell=noise.cell if {"zoneout", "expected"} & parts else 0.0,
        state=noise.state if {"zoneout", "expected"} & parts else 0.0,
        expected="expected" in parts,
    )
    return arguments


def make_inputs(batch: int, frames: int, dims: int = DIMS) -> Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.randn(batch, frames, dims, generator=generator, dtype=torch.double)


def tensors_of(arguments: dict[str, Any]) -> dict[str, Tensor]:
    """The arguments that have a gradient, by name."""
    found = {}
    for name, value in arguments.items():
        if name == "states":
            found |= {"states": value[0], "cells": value[1]}
        elif name == "norm":
            found |= {
                f"norm.{part}": getattr(value, part) for part in ("inputs", "recurrent", "cell", "shift")
            }
        elif isinstance(value, Tensor) and name != "state_mask":
            found[name] = value
    return found


def with_tensors(arguments: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The arguments with those tensors in place of their own."""
    changed = {name: tensors.get(name, value) for name, value in arguments.items()}
    if "states" in arguments:
        changed["states"] = tensors["states"], tensors["cells"]
    if "norm" in arguments:
        changed["norm"] = CellNorm(
            *(tensors[f"norm.{part}"] for part in ("inputs", "recurrent", "cell", "shift"))
        )
    return changed


def leaves(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A copy whose tensors collect gradients, and these by name."""
    tensors = {name: value.detach().clone().requires_grad_() for name, value in tensors_of(arguments).items()}
    return with_tensors(arguments, tensors), tensors


def converted(arguments: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    changed = with_tensors(
        arguments, {name: value.to(dtype) for name, value in tensors_of(arguments).items()}
    )
    if "state_mask" in changed:
        changed["state_mask"] = changed["state_mask"].to(dtype)
    return changed


Outcome = tuple[Tensor, Tensor, Tensor]  # padded outputs, final states, final cells


def by_kernel(inputs: Tensor, lengths: Sequence[int], arguments: dict[str, Any]) -> Outcome:
    plan = plan_packing(torch.tensor(lengths), frames=inputs.shape[1])
    rows, (state, cell) = lstm_layer(pack(inputs, plan), plan=plan, **arguments)
    return unpack(rows, plan), state, cell


def by_cell(inputs: Tensor, lengths: Sequence[int], arguments: dict[str, Any]) -> Outcome:
    """The same by the equations: one sequence, one direction and one frame at a time."""
    arguments = dict(arguments)
    states, mask, norm = (arguments.pop(name, None) for name in ("states", "state_mask", "norm"))
    noise = arguments.pop("noise")
    directions, _, recurrent = arguments["weight_hh"].shape
    hidden = arguments["projection"].shape[-1] if "projection" in arguments else recurrent
    draws = Draws(
        noise, plan_packing(torch.tensor(lengths), frames=inputs.shape[1]), directions, hidden, recurrent
    )
    outputs, last_states, last_cells = [], [], []
    for place, length in enumerate(lengths):
        rows, state_row, cell_row = [], [], []
        for direction in range(directions):
            if states is None:
                state, cell = inputs.new_zeros(1, recurrent), inputs.new_zeros(1, hidden)
            else:
                state, cell = states[0][direction, place][None], states[1][direction, place][None]
            shown = []
            for step in range(length):
                state, cell = variant_cell(
                    inputs[place, step if direction == 0 else length - 1 - step][None],
                    state,
                    cell,
                    state_mask=1.0 if mask is None else mask[direction, place],
                    norm=None
                    if norm is None
                    else tuple(
                        getattr(norm, part)[direction] for part in ("inputs", "recurrent", "cell", "shift")
                    ),
                    **draws.at(place, direction, step),
                    **{name: value[direction] for name, value in arguments.items()},
                )
                shown.append(state)
            rows.append(torch.cat(shown if direction == 0 else shown[::-1]))
            state_row.append(state)
            cell_row.append(cell)
        outputs.append(pad(torch.cat(rows, dim=1), (0, 0, 0, inputs.shape[1] - length)))
        last_states.append(torch.cat(state_row))
        last_cells.append(torch.cat(cell_row))
    return torch.stack(outputs), torch.stack(last_states, 1), torch.stack(last_cells, 1)


class Draws:
    """What the noise draws, looked up by sequence, direction and step."""

    def __init__(
        self, noise: StepNoise, plan: PackingPlan, directions: int, hidden: int, recurrent: int
    ) -> None:
        self.noise = noise
        places = zip(plan.order[plan.sequence].tolist(), plan.step.tolist(), strict=True)
        self.row = {place: row for row, place in enumerate(places)}

        def hits(stream: int, rate: float, size: int) -> Tensor:
            return drawn(noise.seed, stream, rate, plan=plan, directions=directions, hidden=size).double()

        self.candidate = hits(CANDIDATE, noise.candidate, hidden)
        self.cell = hits(CELL, noise.cell, hidden)
        self.state = hits(STATE, noise.state, recurrent)

    def at(self, place: int, direction: int, step: int) -> dict[str, Tensor | float]:
        row, noise = self.row[place, step], self.noise
        factor = (1 - self.candidate[row, direction]) / (1 - noise.candidate)
        if noise.expected:
            return {"candidate_mask": factor, "cell_kept": noise.cell, "state_kept": noise.state}
        cell, state = self.cell[row, direction], self.state[row, direction]
        return {"candidate_mask": factor, "cell_kept": cell, "state_kept": state}


def pull(outcome: Outcome) -> Tensor:
    """A scalar that every output counts in: what stands for a loss."""
    generator = torch.Generator().manual_seed(11)
    total = outcome[0].new_zeros(())
    for value in outcome:
        weights = torch.randn(value.shape, generator=generator, dtype=torch.double)
        total = total + (value * weights.to(value.dtype)).sum()
    return total


def assert_alike(ours: dict[str, Tensor], reference: dict[str, Tensor], *, tolerance: float) -> None:
    """The gradients of two runs of the same layer, by name."""
    assert ours.keys() == reference.keys()
    for name, value in ours.items():
        assert value.grad is not None, name
        assert reference[name].grad is not None, name
        torch.testing.assert_close(
            value.grad,
            reference[name].grad,
            rtol=0,
            atol=tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )
