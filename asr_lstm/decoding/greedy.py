"""Best-path CTC decoding: the likeliest unit of each frame, repeats merged, blanks dropped.

Graves et al. 2006, "Connectionist temporal classification", ICML, section 3.2 (best path decoding).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asr_lstm.units import BLANK


@dataclass(frozen=True)
class UnitSpan:
    """A unit and the run of frames in which it was the likeliest.

    Attributes:
        unit: its id.
        start: first frame.
        end: the frame after the last.
        posterior: the mean over these frames of its probability.
    """

    unit: int
    start: int
    end: int
    posterior: float


def greedy_decode(logits: Tensor, lengths: Tensor) -> list[list[int]]:
    """The units of the best path of each sequence.

    Args:
        logits: `(batch, frames, units)`, of any scale; unit 0 is the blank.
        lengths: `(batch,)`, frames of each sequence; what lies beyond is never looked at.

    Returns:
        For each sequence its unit ids, without blanks.

    Raises:
        ValueError: shapes that do not fit, or a length beyond the frames.
    """
    valid = valid_frames(logits, lengths)
    best = logits.argmax(dim=-1)
    kept = valid & (best != BLANK)
    kept[:, 1:] &= best[:, 1:] != best[:, :-1]
    return [part.tolist() for part in best[kept].cpu().split(kept.sum(dim=1).tolist())]


def greedy_units(logits: Tensor, lengths: Tensor) -> list[list[UnitSpan]]:
    """The units of `greedy_decode` with their frames and mean posteriors; arguments and errors as there."""
    valid = valid_frames(logits, lengths)
    sequence, frame = (index.cpu() for index in valid.nonzero(as_tuple=True))
    chosen = logits[valid].float()  # (all frames, units): padding is left out before it can do harm
    best = chosen.argmax(dim=-1)
    posterior = chosen.softmax(dim=-1).gather(1, best[:, None]).squeeze(1).double().cpu()
    best = best.cpu()
    begins = torch.ones(len(best), dtype=torch.bool)
    begins[1:] = (best[1:] != best[:-1]) | (sequence[1:] != sequence[:-1])
    run = begins.cumsum(0) - 1  # of each frame
    size = torch.bincount(run)
    mean = torch.zeros(len(size), dtype=torch.float64).index_add_(0, run, posterior) / size
    spans: list[list[UnitSpan]] = [[] for _ in range(len(logits))]
    columns = (sequence[begins], best[begins], frame[begins], size, mean)
    for index, unit, start, count, value in zip(*(column.tolist() for column in columns), strict=True):
        if unit != BLANK:
            spans[index].append(UnitSpan(unit=unit, start=start, end=start + count, posterior=value))
    return spans


def valid_frames(logits: Tensor, lengths: Tensor) -> Tensor:
    """True `(batch, frames)` where a frame belongs to its sequence."""
    if logits.dim() != 3 or logits.shape[2] == 0:
        raise ValueError(f"logits must be (batch, frames, units), not of shape {tuple(logits.shape)}")
    if lengths.shape != logits.shape[:1]:
        raise ValueError(f"lengths must be (batch,) = ({len(logits)},), not of shape {tuple(lengths.shape)}")
    frames = logits.shape[1]
    if len(lengths) and (int(lengths.min()) < 0 or int(lengths.max()) > frames):
        raise ValueError(
            f"lengths must lie in 0 .. {frames}, not {int(lengths.min())} .. {int(lengths.max())}"
        )
    return torch.arange(frames, device=logits.device) < lengths.to(logits.device)[:, None]
