"""Forced alignment: when each unit of a known text is said, on the likeliest path of the CTC model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

import torch
from torch import Tensor
from torchaudio.functional import forced_align

from asr_lstm.decoding.greedy import UnitSpan
from asr_lstm.errors import DataError
from asr_lstm.units import BLANK


def align(
    logits: Tensor, lengths: Tensor, targets: Sequence[Sequence[int]]
) -> list[list[UnitSpan] | DataError]:
    """Align texts with what was said; one that cannot be aligned stops no other.

    The path is the likeliest of those that write the text (Viterbi; Graves et al. 2006, "Connectionist temporal
    classification", ICML, equation 5 has its lattice). CTC models emit a unit in a frame or few.

    Args:
        logits: `(batch, frames, units)`, of any scale; unit 0 is the blank.
        lengths: `(batch,)`, frames of each sequence; what lies beyond is never looked at.
        targets: the unit ids of each text, without blanks.

    Returns:
        For each sequence its units with their frames and posteriors, or why there are none.

    Raises:
        ValueError: not one target for each sequence.
    """
    if not len(logits) == len(lengths) == len(targets):
        raise ValueError(
            f"targets: {len(targets)} of them for {len(logits)} sequences and {len(lengths)} lengths"
        )
    results: list[list[UnitSpan] | DataError] = []
    for sequence, length, target in zip(logits, lengths.tolist(), targets, strict=True):
        try:
            results.append(align_units(sequence[:length], target))
        except DataError as error:
            results.append(error)
    return results


def align_units(logits: Tensor, target: Sequence[int]) -> list[UnitSpan]:
    """Align one text.

    Args:
        logits: `(frames, units)`.
        target: unit ids without blanks.

    Raises:
        DataError: an empty text, too few frames for it, or logits that give it no probability.
        ValueError: an id that is the blank or no unit.
    """
    if not target:
        raise DataError("the text is empty: there is nothing to align")
    if not all(BLANK < unit < logits.shape[1] for unit in target):
        raise ValueError(f"target: ids must be units from 1 to {logits.shape[1] - 1}, not {list(target)}")
    needed = frames_needed(target)
    if needed > len(logits):
        raise DataError(
            f"the text needs {needed} frames and there are {len(logits)}; is it this recording's?"
        )
    scores = logits.detach().float().cpu().log_softmax(-1)
    if bool(scores.isnan().any()):  # forced_align would answer with whatever lies in memory
        raise DataError("the logits are NaN or infinite; the model is damaged: train it again")
    path, chosen = forced_align(
        scores[None],
        torch.tensor([target]),
        torch.tensor([len(logits)]),
        torch.tensor([len(target)]),
        blank=BLANK,
    )
    if not bool(torch.isfinite(chosen).all()):
        raise DataError("the logits make the text impossible; is it this recording's?")
    return _spans(path[0].tolist(), chosen[0].double().exp().tolist())


def frames_needed(target: Sequence[int]) -> int:
    """The fewest frames that can write a text: one a unit, and a blank between two that are equal."""
    return len(target) + sum(one == other for one, other in pairwise(target))


def _spans(path: Sequence[int], posteriors: Sequence[float]) -> list[UnitSpan]:
    """Each run of a unit on a path with the mean of its posteriors."""
    spans, start = [], 0
    for unit, run in groupby(path):
        end = start + sum(1 for _ in run)
        if unit != BLANK:
            spans.append(UnitSpan(unit, start, end, sum(posteriors[start:end]) / (end - start)))
        start = end
    return spans
