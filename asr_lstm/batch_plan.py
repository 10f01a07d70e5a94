"""Which utterances make a batch, and in which order batches come: a function of seed and epoch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# Lengths are jittered by this share before sorting, so that an utterance meets other company in each epoch
# while the padding stays a few per cent.
LENGTH_JITTER = 0.1
# Tells the seeds of parts from those of epochs and of utterances (`asr_lstm.batching.draw_seed`).
_PART = 1

Durations = Sequence[float] | NDArray[np.float64]
Rows = NDArray[np.int64]


def plan_batches(
    durations: Durations,
    *,
    max_seconds: float,
    seed: int,
    epoch: int,
    shortest_first: float = 0.0,
    group: int = 1,
    parts: Sequence[Rows] = (),
) -> list[list[int]]:
    """Share all utterances out into batches of at most `max_seconds`, padding counted in.

    An utterance that is longer than that is a batch by itself.

    Args:
        durations: seconds of each utterance.
        max_seconds: number of utterances times the longest of them.
        seed: of the run.
        epoch: each one has its own plan.
        shortest_first: this share of the batches, the shortest ones, comes first and in order of length
            (after SortaGrad: Amodei et al. 2015, Deep Speech 2, section 3.3); the others are shuffled. Where there
            are parts it is a share of the first one.
        group: so many consecutive batches, counted from the first, are of like length: what one update takes,
            shared out between processes that must not wait for each other. The last group may be a smaller one; where
            one part meets the next, a group may have lengths of both.
        parts: indices of utterances that are shared out by themselves, one part after the other, such as those of
            some shards; each index once. All utterances are one part by default.

    Returns:
        indices into `durations`; each index occurs once.

    Raises:
        ValueError: `max_seconds` is not above 0.
    """
    plan: list[list[int]] = []
    for rows, lengths, random in _in_parts(durations, parts, max_seconds=max_seconds, seed=seed, epoch=epoch):
        order, starts = _by_length(lengths, max_seconds, random)
        lacking = min(-len(plan) % group, len(starts))  # of the group that the part before left unfinished
        lead, groups = _in_groups(len(starts), group, lacking, random)
        first = 0 if plan else round(shortest_first * len(groups))
        rest = groups[first:]
        arranged = groups[:first] + [rest[place] for place in random.permutation(len(rest)).tolist()]
        # Groups are counted off from the first batch: a smaller one stands last. Sorting is stable.
        arranged.sort(key=lambda members: len(members) < group)
        indices, bounds = rows[order].tolist(), [*starts, len(order)]
        plan += [
            indices[bounds[batch] : bounds[batch + 1]] for members in [lead, *arranged] for batch in members
        ]
    return plan


def count_batches(
    durations: Durations, *, max_seconds: float, seed: int, epoch: int, parts: Sequence[Rows] = ()
) -> int:
    """How many batches `plan_batches` makes, in less time."""
    return sum(
        len(_by_length(lengths, max_seconds, random)[1])
        for _, lengths, random in _in_parts(durations, parts, max_seconds=max_seconds, seed=seed, epoch=epoch)
    )


def _in_parts(
    durations: Durations, parts: Sequence[Rows], *, max_seconds: float, seed: int, epoch: int
) -> Iterator[tuple[Rows, NDArray[np.float64], np.random.Generator]]:
    """Of each part the indices, their lengths, and random numbers of its own."""
    if max_seconds <= 0:
        raise ValueError(f"max_seconds must be above 0, not {max_seconds}")
    lengths = np.asarray(durations, dtype=float)
    if not parts:
        yield np.arange(len(lengths)), lengths, np.random.default_rng([seed, epoch])
    for number, rows in enumerate(parts):
        yield rows, lengths[rows], np.random.default_rng([seed, epoch, number, _PART])


def _in_groups(batches: int, size: int, lead: int, random: np.random.Generator) -> tuple[range, list[range]]:
    """Batches in groups of neighbours, in order of length: `lead` of them apart, the others in groups of `size`.

    Where they do not divide evenly, one group is smaller. Where in that order it stands, and the lead, is random.
    """
    sizes = [size] * ((batches - lead) // size)
    if left := (batches - lead) % size:
        sizes.insert(int(random.integers(len(sizes) + 1)), left)
    place = int(random.integers(len(sizes) + 1)) if lead else 0
    sizes.insert(place, lead)
    groups = [range(end - count, end) for count, end in zip(sizes, itertools.accumulate(sizes), strict=True)]
    return groups.pop(place), groups


def _by_length(
    lengths: NDArray[np.float64], max_seconds: float, random: np.random.Generator
) -> tuple[Rows, list[int]]:
    """Utterances in order of their jittered lengths, and where in that order each batch begins."""
    jittered = lengths * random.uniform(1 - LENGTH_JITTER, 1 + LENGTH_JITTER, size=len(lengths))
    order = np.argsort(jittered, kind="stable")
    ends = _batch_ends(lengths[order], max_seconds).tolist()
    starts = []
    place = 0
    while place < len(ends):
        starts.append(place)
        place = ends[place]
    return order, starts


def _batch_ends(lengths: NDArray[np.float64], max_seconds: float) -> NDArray[np.int64]:
    """Where a batch ends that begins at each place and takes what fits: for all places at once, an utterance a round.

    A million take a quarter of a second at 60 s a batch.
    """
    ends = np.empty(len(lengths), np.int64)
    places = np.arange(len(lengths))
    longest = np.zeros(len(lengths))
    size = 0
    while len(places):
        nexts = np.minimum(places + size, len(lengths) - 1)
        longest = np.maximum(longest, lengths[nexts])
        size += 1
        full = (places + size > len(lengths)) | ((size > 1) & (longest * size > max_seconds))
        ends[places[full]] = places[full] + size - 1
        places, longest = places[~full], longest[~full]
    return ends
