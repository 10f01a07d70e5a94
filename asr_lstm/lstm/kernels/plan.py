"""Where each frame of a padded batch stands once padding is left out: the packing shared by the kernels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PackingPlan:
    """Index tables that take a padded batch to packed rows and back; made once a batch, used by each layer.

    Sequences are ordered from longest to shortest, so those still running at step t are the first
    `active[t]`, and the rows of a step are contiguous. A *row* is one step of one sequence; there is one
    for each valid frame. At its step t the forward direction meets frame t, the backward direction
    frame length - 1 - t: it begins at a sequence's last valid frame, so no direction ever sees padding.
    The state buffers hold `batch` rows of initial states before the first step.

    Attributes:
        batch: number of sequences.
        frames: length of the padded batch.
        active: sequences still running at each step, non-increasing.
        order: (batch,) sequences from longest to shortest.
        frame: (directions, rows) index of the frame each row meets, in the flattened (batch * frames) input.
        previous: (rows,) index of the state before each row, in the state buffers.
        sequence: (rows,) index of each row's sequence, longest first.
    """

    batch: int
    frames: int
    active: list[int]
    order: Tensor
    frame: Tensor
    previous: Tensor
    sequence: Tensor

    @property
    def directions(self) -> int:
        """1 (forward) or 2 (forward and backward)."""
        return len(self.frame)


def plan_packing(lengths: Tensor, *, frames: int, directions: int) -> PackingPlan:
    """Make the plan of a batch.

    Args:
        lengths: (batch,) valid frames of each sequence, 1 .. frames; on the device of the batch.
        frames: frames of the padded batch.
        directions: 1 (forward) or 2 (forward and backward).

    Raises:
        ValueError: `directions` is neither 1 nor 2, or `lengths` is empty, not one-dimensional, or holds a
            value outside 1 .. frames.
    """
    if directions not in (1, 2):
        raise ValueError(f"directions must be 1 or 2, not {directions}")
    if lengths.ndim != 1 or len(lengths) == 0:
        raise ValueError(f"lengths must be a non-empty vector (batch,), not of shape {tuple(lengths.shape)}")
    if int(lengths.min()) < 1 or int(lengths.max()) > frames:
        raise ValueError(
            f"lengths must lie in 1 .. {frames}, not {int(lengths.min())} .. {int(lengths.max())}"
        )
    device = lengths.device
    batch = len(lengths)
    lengths, order = torch.sort(lengths.long(), descending=True, stable=True)
    steps = torch.arange(int(lengths[0]), device=device)
    running = steps[:, None] < lengths  # (steps, batch), each row True up to active[t]
    active = running.sum(dim=1)
    step, sequence = running.nonzero(as_tuple=True)  # (rows,), ordered by step and then by sequence
    first_row = torch.cumsum(active, 0) - active

    before = batch + first_row[(step - 1).clamp(min=0)] + sequence
    met = torch.stack([step, lengths[sequence] - 1 - step])[:directions]
    return PackingPlan(
        batch=batch,
        frames=frames,
        active=active.tolist(),
        order=order,
        frame=order[sequence] * frames + met,
        previous=torch.where(step == 0, sequence, before),
        sequence=sequence,
    )
