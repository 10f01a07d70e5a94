"""Where each frame of a padded batch stands once padding is left out: the packing shared by layers and kernels."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PackingPlan:
    """Index tables that take a padded batch to packed rows and back; made once a batch, used by each layer.

    Sequences are ordered from longest to shortest, so those still running at step t are the first
    `active[t]`. A *row* is one valid frame; rows stand frame by frame, and within a frame in that order.
    At its step t the forward direction meets frame t, the backward direction frame length - 1 - t: it begins
    at a sequence's last valid frame, so no direction ever sees padding.

    Attributes:
        batch: number of sequences.
        frames: length of the padded batch.
        active: sequences still running at each step, non-increasing.
        order: (batch,) sequences from longest to shortest.
        frame: (rows,) index of each row's frame in the flattened (batch * frames) input.
        sequence: (rows,) index of each row's sequence, longest first.
        step: (rows,) index of each row's frame within its sequence.
        starts: (steps + 1,) first row of each step, and their number; on the CPU.
        lengths: (batch,) in the order of `order`; on the CPU.
    """

    batch: int
    frames: int
    active: list[int]
    order: Tensor
    frame: Tensor
    sequence: Tensor
    step: Tensor
    starts: Tensor
    lengths: Tensor

    @functools.cached_property
    def trivial(self) -> bool:
        """Whether rows are the sequences in their own order, one frame each."""
        return self.frames == 1 and bool(
            (self.order == torch.arange(self.batch, device=self.order.device)).all()
        )

    @property
    def even(self) -> bool:
        """Whether all sequences are of one length."""
        return self.active[-1] == self.batch

    @functools.cached_property
    def slot(self) -> Tensor:
        """(rows,) each row's place in padded steps, (longest * batch), the longest sequence first in each step."""
        return self.step * self.batch + self.sequence

    @functools.cached_property
    def rank(self) -> Tensor:
        """(batch,) where each sequence stands in `order`."""
        return torch.argsort(self.order)

    @functools.cached_property
    def mirror(self) -> Tensor:
        """(rows,) the row that the backward direction meets where the forward one meets this row, and vice versa."""
        starts, lengths = self._beside(self.starts), self._beside(self.lengths)
        return starts[lengths[self.sequence] - 1 - self.step] + self.sequence

    @functools.cached_property
    def previous(self) -> Tensor:
        """(rows,) index of the state before each row, in buffers that begin with `batch` rows of initial states."""
        starts = self._beside(self.starts)
        before = self.batch + starts[(self.step - 1).clamp(min=0)] + self.sequence
        return torch.where(self.step == 0, self.sequence, before)

    @functools.cached_property
    def final(self) -> Tensor:
        """(batch,) the row of each sequence's last step, longest first."""
        return self._beside(self.starts[self.lengths - 1] + torch.arange(self.batch))

    @functools.cached_property
    def bounds(self) -> Tensor:
        """(steps + 2,) `starts` and twice their number, with the other tables: each step has two that follow it."""
        return self._beside(torch.cat([self.starts, self.starts[-1:]]))

    def _beside(self, table: Tensor) -> Tensor:
        """A table of the CPU's where the others are; nobody waits until a GPU has it."""
        return table.to(self.frame.device, non_blocking=True)

    def reduced(self, factor: int) -> PackingPlan:
        """The plan of the same batch with one frame for every `factor`, rounded up; sequences keep their order."""
        frames = -(-self.frames // factor)
        return _lay_out(-(-self.lengths // factor), self.order, frames=frames, device=self.frame.device)


def plan_packing(lengths: Tensor, *, frames: int, device: torch.device | str | None = None) -> PackingPlan:
    """Make the plan of a batch.

    Args:
        lengths: (batch,) valid frames of each sequence, 1 .. frames, integers.
        frames: frames of the padded batch.
        device: where its tables are needed; where `lengths` are by default.

    Raises:
        ValueError: `lengths` is empty, not one-dimensional, not of integers, or holds a value outside 1 .. frames.
    """
    if not isinstance(lengths, Tensor):
        raise ValueError(f"lengths must be a tensor of integers, not a {type(lengths).__name__}")
    device = lengths.device if device is None else torch.device(device)
    if lengths.ndim != 1 or len(lengths) == 0:
        raise ValueError(f"lengths must be a non-empty vector (batch,), not of shape {tuple(lengths.shape)}")
    if lengths.dtype.is_floating_point or lengths.dtype.is_complex or lengths.dtype == torch.bool:
        raise ValueError(f"lengths must be integers, not {lengths.dtype}")
    lengths, order = torch.sort(lengths.detach().long().cpu(), descending=True, stable=True)
    longest, shortest = int(lengths[0]), int(lengths[-1])
    if shortest < 1 or longest > frames:
        raise ValueError(f"lengths must lie in 1 .. {frames}, not {shortest} .. {longest}")
    return _lay_out(lengths, order, frames=frames, device=device)


@functools.lru_cache(maxsize=32)
def plan_single_step(batch: int, device: torch.device) -> PackingPlan:
    """The plan of `batch` sequences of one frame each: what a language model takes a token with."""
    with torch.inference_mode(False):  # it is kept, and may next be met where gradients are wanted
        plan = plan_packing(torch.ones(batch, dtype=torch.long), frames=1, device=device)
        for name in ("trivial", "rank", "mirror", "bounds", "previous", "final"):
            getattr(plan, name)
    return plan


def _lay_out(lengths: Tensor, order: Tensor, *, frames: int, device: torch.device) -> PackingPlan:
    """The plan for lengths, on the CPU, that stand in order, the longest first."""
    running = (
        torch.arange(int(lengths[0]))[:, None] < lengths
    )  # (steps, batch), each row True up to active[t]
    active = running.sum(dim=1)
    # (rows,), ordered by step and then by sequence
    step, sequence = (table.to(device, non_blocking=True) for table in running.nonzero(as_tuple=True))
    order = order.to(device, non_blocking=True)
    return PackingPlan(
        batch=len(lengths),
        frames=frames,
        active=active.tolist(),
        order=order,
        frame=order[sequence] * frames + step,
        sequence=sequence,
        step=step,
        starts=torch.nn.functional.pad(torch.cumsum(active, 0), (1, 0)),
        lengths=lengths,
    )
