"""The errors that a recogniser may be expected to make, as a loss: what greedy decoding gets wrong, not what CTC sums.

CTC makes the reference likelier among all texts; an error rate asks only how far the text that is written is from it.
What it was worth here stands in docs/training.md.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr_lstm.features import mask_padding
from asr_lstm.lm.jit import compiled
from asr_lstm.units import BLANK

# Paths drawn of each utterance. Each is looked at with every other unit in every frame, so that few will do.
DRAWS = 4

Ids = NDArray[np.int64]
Errors = NDArray[np.float32]


def expected_errors(
    logits: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, *, draws: int = DRAWS
) -> Tensor:
    """Units wrong, missing or too many in a text drawn from the posteriors, in the mean: (batch,).

    With the probability y_t(k) of unit k in frame t and paths z drawn from these, the gradient by y_t(k) is the mean
    over paths of the edit distance between the reference and what z writes with unit k in frame t. That is unbiased,
    and all units of all frames are compared within each path. Source: Graves & Jaitly 2014, "Towards End-to-End
    Speech Recognition with Recurrent Neural Networks", section 4 (their expected transcription loss, with the edit
    distance of units for the word error rate).

    Paths are drawn by torch's generator of the CPU.

    Args:
        logits: (batch, frames, units).
        lengths: (batch,) valid frames.
        targets: unit ids of all references, one after the other.
        target_lengths: (batch,) units of each reference.
        draws: paths of each utterance.

    Raises:
        ValueError: no draws.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")
    probabilities = mask_padding(logits.float().softmax(-1), lengths)
    errors, means = [], []
    given = probabilities.detach().cpu()
    for row, reference in enumerate(targets.cpu().split(target_lengths.tolist())):
        frames = int(lengths[row])
        if not bool(given[row, :frames].isfinite().all()):  # nothing can be drawn; the update will be skipped
            means.append(float("nan"))
            errors.append(torch.zeros_like(given[row]))
            continue
        paths = torch.multinomial(given[row, :frames], draws, replacement=True).T.contiguous()
        found = np.zeros((given.shape[1], given.shape[2]), np.float32)
        means.append(errors_with_changes(paths.numpy(), reference.numpy(), found[:frames]))
        errors.append(torch.from_numpy(found))
    weighted = (probabilities * torch.stack(errors).to(logits.device)).sum((1, 2))
    # The gradient is that of the errors of changed paths; the value is that of the paths themselves.
    return weighted - weighted.detach() + torch.tensor(means, device=logits.device)


@compiled
def errors_with_changes(paths: Ids, reference: Ids, errors: Errors) -> float:
    """Add up, over paths (draws, frames), the edit distance with each unit in each frame: errors (frames, units).

    The sums are means over the draws; what is returned is the mean edit distance of the paths as they are.
    """
    draws: int = len(paths)
    frames, units = errors.shape
    most = len(reference)
    named = np.zeros(units, np.bool_)
    for unit in reference:
        named[unit] = True
    hypothesis = np.zeros(frames, np.int64)
    counts = np.zeros(frames + 1, np.int64)
    heads = np.zeros((frames + 1, most + 1), np.int64)
    tails = np.zeros((frames + 1, most + 1), np.int64)
    total = 0.0
    for draw in range(draws):
        count = _write(paths[draw], hypothesis, counts)
        _measure(hypothesis[:count], reference, heads, tails)
        total += heads[count, most]
        _change(paths[draw], counts, heads, tails, reference, named, 1 / draws, errors)
    return total / draws


@compiled
def _write(path: Ids, hypothesis: Ids, counts: Ids) -> int:
    """The units that a path writes, how many its first so many frames write, and how many there are."""
    count = 0
    for frame in range(len(path)):
        unit = path[frame]
        if unit != BLANK and (frame == 0 or path[frame - 1] != unit):
            hypothesis[count] = unit
            count += 1
        counts[frame + 1] = count
    return count


@compiled
def _measure(hypothesis: Ids, reference: Ids, heads: Ids, tails: Ids) -> None:
    """Edit distances between all beginnings of two texts, and between all their ends."""
    count, most = len(hypothesis), len(reference)
    for place in range(most + 1):
        heads[0, place] = place
        tails[count, place] = most - place
    for index in range(count):
        _next_row(heads[index], hypothesis[index], reference, heads[index + 1])
    for index in range(count - 1, -1, -1):
        _row_before(tails[index + 1], hypothesis[index], reference, tails[index])


@compiled
def _change(
    path: Ids,
    counts: Ids,
    heads: Ids,
    tails: Ids,
    reference: Ids,
    named: NDArray[np.bool_],
    share: float,
    errors: Errors,
) -> None:
    """Add a share of the edit distance of a path with each unit in each frame; `named` are the reference's units."""
    frames, units = errors.shape
    row = np.zeros(len(reference) + 1, np.int64)
    for frame in range(frames):
        left = path[frame - 1] if frame else BLANK
        right = path[frame + 1] if frame + 1 < frames else BLANK
        before = counts[frame]
        # The units that the frames after this one would write by themselves.
        after = counts[min(frame + 2, frames)] - (1 if right != BLANK else 0)
        joined = _joined(heads[before], tails[after])
        _next_row(heads[before], -1, reference, row)  # of any unit that the reference lacks
        foreign = _joined(row, tails[after])
        for unit in range(units):
            if unit == BLANK or (unit == left) != (unit == right):
                distance = joined
            elif unit == left:  # and right: three frames of one unit
                distance = _joined(heads[before], tails[after + 1])
            elif not named[unit]:
                distance = foreign
            else:
                _next_row(heads[before], unit, reference, row)
                distance = _joined(row, tails[after])
            errors[frame, unit] += distance * share


@compiled
def _next_row(before: Ids, unit: int, reference: Ids, row: Ids) -> None:
    """Distances of a beginning that is one unit longer."""
    row[0] = before[0] + 1
    for place in range(len(reference)):
        changed = before[place] + (reference[place] != unit)
        row[place + 1] = min(changed, before[place + 1] + 1, row[place] + 1)


@compiled
def _row_before(after: Ids, unit: int, reference: Ids, row: Ids) -> None:
    """Distances of an end that is one unit longer."""
    row[len(reference)] = after[len(reference)] + 1
    for place in range(len(reference) - 1, -1, -1):
        changed = after[place + 1] + (reference[place] != unit)
        row[place] = min(changed, after[place] + 1, row[place + 1] + 1)


@compiled
def _joined(head: Ids, tail: Ids) -> int:
    """The distance of a beginning and an end together."""
    least: int = head[0] + tail[0]
    for place in range(1, len(head)):
        least = min(least, head[place] + tail[place])
    return least
