"""Batches of equal seconds, of utterances of similar length, in an order that seed and epoch fix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Sampler

from asr_lstm.errors import DataError

# Lengths are jittered by this share before sorting, so that an utterance meets other company in each epoch
# while the padding stays a few per cent.
LENGTH_JITTER = 0.1


@dataclass(frozen=True)
class DataConfig:
    """How utterances become batches.

    Attributes:
        batch_seconds: length of a batch, padding included; small data wants many updates, so keep it small.
        eval_seconds: the same where nothing is learned.
        shortest_first: share of the first epoch in which the shortest utterances come in order of length: CTC
            learns to align on them sooner. More than a tenth does harm: what follows is all of one length.
        workers: processes that load; 0 loads in the training process, best on two cores with the cache.
        cache_gib: decoded audio kept in memory (16 bits a sample), so that files are decoded once.
    """

    batch_seconds: float = 60.0
    eval_seconds: float = 240.0
    shortest_first: float = 0.1
    workers: int = 0
    cache_gib: float = 1.0

    def __post_init__(self) -> None:
        for name in ("batch_seconds", "eval_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"data.{name} must be above 0, not {getattr(self, name)}")
        for name in ("shortest_first", "workers", "cache_gib"):
            if getattr(self, name) < 0:
                raise ValueError(f"data.{name} must not be below 0, but is {getattr(self, name)}")


@dataclass(frozen=True)
class Draw:
    """One utterance in one epoch: its index and a seed for everything random that happens to it."""

    index: int
    seed: int


def plan_batches(
    durations: Sequence[float], *, max_seconds: float, seed: int, epoch: int, shortest_first: float = 0.0
) -> list[list[int]]:
    """Share all utterances out into batches of at most `max_seconds`, padding counted in.

    An utterance that is longer than that is a batch by itself.

    Args:
        durations: seconds of each utterance.
        max_seconds: number of utterances times the longest of them.
        seed: of the run.
        epoch: each one has its own plan.
        shortest_first: this share of the batches, the shortest ones, comes first and in order of length
            (after SortaGrad: Amodei et al. 2015, Deep Speech 2, section 3.3); the others are shuffled.

    Returns:
        indices into `durations`; each index occurs once.

    Raises:
        ValueError: `max_seconds` is not above 0.
    """
    if max_seconds <= 0:
        raise ValueError(f"max_seconds must be above 0, not {max_seconds}")
    random = np.random.default_rng([seed, epoch])
    lengths = np.asarray(durations, dtype=float)
    jittered = lengths * random.uniform(1 - LENGTH_JITTER, 1 + LENGTH_JITTER, size=len(lengths))
    batches: list[list[int]] = []
    current: list[int] = []
    longest = 0.0
    for index in np.argsort(jittered, kind="stable").tolist():
        longest = max(longest, lengths[index])
        if current and longest * (len(current) + 1) > max_seconds:
            batches.append(current)
            current, longest = [], lengths[index]
        current.append(index)
    if current:
        batches.append(current)
    first = round(shortest_first * len(batches))
    rest = batches[first:]
    return batches[:first] + [rest[place] for place in random.permutation(len(rest))]


class EpochSampler(Sampler[list[Draw]]):
    """The batches of one epoch after another; a DataLoader's `batch_sampler`, whose place can be saved.

    The place is that of batches *consumed*, which the training loop reports, not of batches drawn: a loader
    draws ahead. It has no length on purpose, because epochs differ by a batch or two.

    Args:
        durations: seconds of each utterance.
        max_seconds: as in `plan_batches`.
        seed: of the run; a draw's own seed is a function of it, the epoch and the utterance.
        shortest_first: so many epochs, or such a share of the first, begin with the shortest utterances.

    Attributes:
        epoch: the epoch under way, from 0.
        position: batches of it already consumed.
    """

    def __init__(
        self, durations: Sequence[float], *, max_seconds: float, seed: int, shortest_first: float = 0.0
    ) -> None:
        self.durations = durations
        self.max_seconds = max_seconds
        self.seed = seed
        self.shortest_first = shortest_first
        self.epoch = 0
        self.position = 0

    def plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch."""
        return plan_batches(
            self.durations,
            max_seconds=self.max_seconds,
            seed=self.seed,
            epoch=epoch,
            shortest_first=min(1.0, max(0.0, self.shortest_first - epoch)),
        )

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch = self.epoch
        for batch in self.plan(epoch)[self.position :]:
            yield [Draw(index, draw_seed(self.seed, epoch, index)) for index in batch]

    def consume(self) -> None:
        """Count one batch as used in training."""
        self.position += 1

    def next_epoch(self) -> None:
        """Begin a new epoch."""
        self.epoch += 1
        self.position = 0

    def state_dict(self) -> dict[str, int]:
        """The place, for a checkpoint."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a saved place."""
        self.epoch, self.position = state["epoch"], state["position"]


def draw_seed(seed: int, epoch: int, index: int) -> int:
    """A 63-bit seed for one utterance in one epoch."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass
class Batch:
    """Utterances padded to one length.

    Attributes:
        inputs: (batch, samples) or (batch, frames, dims), zero in the padding.
        lengths: (batch,) int64, valid samples or frames.
        targets: the unit ids of all transcripts, one after the other; int64.
        target_lengths: (batch,) int64, units of each transcript.
        seeds: (batch,) int64, for augmentation.
        indices: (batch,) int64, where each utterance stands in its data set.
    """

    inputs: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    seeds: Tensor
    indices: Tensor


@dataclass
class Example:
    """One utterance, loaded: inputs (samples,) or (frames, dims), the ids of its units, and its draw."""

    inputs: Tensor
    units: list[int]
    draw: Draw


def pad_inputs(inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pad (samples,) or (frames, dims) tensors with zeros to one length; return their lengths (batch,) too."""
    return pad_sequence(list(inputs), batch_first=True), torch.tensor([len(row) for row in inputs])


def collate(loaded: Sequence[Example | None]) -> Batch:
    """Join examples into a batch; those that could not be loaded are None and left out.

    Raises:
        DataError: none could be loaded.
    """
    examples = [example for example in loaded if example is not None]
    if not examples:
        raise DataError(
            f"not one of {len(loaded)} utterances of a batch could be read; see the warnings before"
        )
    inputs, lengths = pad_inputs([example.inputs for example in examples])
    return Batch(
        inputs=inputs,
        lengths=lengths,
        targets=torch.tensor([unit for example in examples for unit in example.units], dtype=torch.long),
        target_lengths=torch.tensor([len(example.units) for example in examples]),
        seeds=torch.tensor([example.draw.seed for example in examples]),
        indices=torch.tensor([example.draw.index for example in examples]),
    )
