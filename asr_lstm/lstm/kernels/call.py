"""What one call of a layer is given, and what comes back: the arguments that the kernels share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from asr_lstm.lstm.kernels.noise import StepNoise
from asr_lstm.lstm.kernels.plan import PackingPlan


class Leaves(NamedTuple):
    """The tensors, besides the rows, that gradients go to.

    Attributes:
        weight_ih: (directions, gates * hidden, dims); the gates are input, forget, candidate and output, or the
            last three where input and forget gate are coupled.
        weight_hh: (directions, gates * hidden, hidden), or in place of hidden the size of the projection.
        bias: (directions, gates * hidden).
        peepholes: (directions, gates - 1, hidden), from the cell to each gate but the candidate.
        states: (directions, batch, hidden or projection), initial; zeros by default.
        cells: (directions, batch, hidden), initial; given if `states` is.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias: Tensor
    peepholes: Tensor | None
    states: Tensor | None
    cells: Tensor | None


@dataclass(frozen=True)
class Call:
    """The rest. Kernels meet sequences in the order of the plan, from longest to shortest.

    Attributes:
        plan: the batch's lengths.
        mask: (directions, batch, hidden or projection) on the recurrent state.
        noise: what is drawn at each step.
        kind: the float type of the products outside of the loop.
    """

    plan: PackingPlan
    mask: Tensor | None
    noise: StepNoise
    kind: torch.dtype


class Result(NamedTuple):
    """Outputs (rows, directions, hidden or projection), final states and cells, as `Leaves` has the initial ones."""

    outputs: Tensor
    states: Tensor
    cells: Tensor


class ResultGradients(NamedTuple):
    """Those of a `Result`; None where nothing depends on the final ones."""

    outputs: Tensor
    states: Tensor | None
    cells: Tensor | None


class Gradients(NamedTuple):
    """Those of the rows and of `Leaves`; None where there is none."""

    rows: Tensor | None
    weight_ih: Tensor
    weight_hh: Tensor
    bias: Tensor
    peepholes: Tensor | None
    states: Tensor | None
    cells: Tensor | None
