"""Batches of equal seconds, of utterances of similar length, in an order that seed and epoch fix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Sampler

from asr_lstm.batch_plan import Durations, count_batches, plan_batches
from asr_lstm.fading import Fading
from asr_lstm.shard_groups import ShardGroups


@dataclass(frozen=True)
class DataConfig:
    """How utterances become batches.

    Attributes:
        batch_seconds: length of a batch, padding included; small data wants many updates, so keep it small.
        eval_seconds: the same where nothing is learned.
        shortest_first: share of the first epoch in which the shortest utterances come in order of length: CTC
            learns to align on them sooner. More than a tenth does harm: what follows is all of one length.
        workers: processes that load; 0 loads in the training process, best on two cores with the cache.
        cache_gib: decoded audio kept in memory (16 bits a sample), so that files are decoded once; with workers, by
            each of them, those of training and as many of dev.
        shards_at_once: of a manifest whose audio is in shards (`asr-lstm shard`), make batches within so many of
            them, and then within the next, which are read ahead meanwhile from end to end; 0 draws from all.
    """

    batch_seconds: float = 60.0
    eval_seconds: float = 240.0
    shortest_first: float = 0.1
    workers: int = 0
    cache_gib: float = 1.0
    shards_at_once: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_seconds", "eval_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"data.{name} must be above 0, not {getattr(self, name)}")
        for name in ("shortest_first", "workers", "cache_gib", "shards_at_once"):
            if getattr(self, name) < 0:
                raise ValueError(f"data.{name} must not be below 0, but is {getattr(self, name)}")


@dataclass(frozen=True)
class Draw:
    """One utterance in one epoch: its index and a seed for everything random that happens to it."""

    index: int
    seed: int


class EpochSampler(Sampler[list[Draw]]):
    """The batches of one epoch after another; a DataLoader's `batch_sampler`, whose place can be saved.

    The place is that of batches *consumed*, which the training loop reports, not of batches drawn: a loader
    draws ahead. It has no length on purpose, because epochs differ by a batch or two.

    Several processes have the same plan and the same place: each takes every `world`-th batch. Where the plan does
    not divide evenly, the last ones get an empty batch, so that all take equally many.

    Args:
        durations: seconds of each utterance.
        max_seconds: as in `plan_batches`.
        seed: of the run; a draw's own seed is a function of it, the epoch and the utterance.
        shortest_first: so many epochs, or such a share of the first, begin with the shortest utterances.
        group: batches of one update, over all processes; a multiple of `world`.
        rank: of this process, from 0.
        world: how many processes there are.
        shards: that the epoch goes through, some at a time; None for utterances that are drawn from all.
        fading: of synthetic speech among the utterances; None where each epoch hears all. It does not go with shards.

    Raises:
        ValueError: both shards and fading.

    Attributes:
        epoch: the epoch under way, from 0.
        position: batches of it already consumed, by all processes together.
    """

    def __init__(
        self,
        durations: Durations,
        *,
        max_seconds: float,
        seed: int,
        shortest_first: float = 0.0,
        group: int = 1,
        rank: int = 0,
        world: int = 1,
        shards: ShardGroups | None = None,
        fading: Fading | None = None,
    ) -> None:
        if shards and fading:
            raise ValueError("shards and fading: give one of them")
        self.durations = np.asarray(durations, np.float64)
        self.max_seconds = max_seconds
        self.seed = seed
        self.shortest_first = shortest_first
        self.group = group
        self.rank = rank
        self.world = world
        self.shards = shards
        self.fading = fading
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
            group=self.group,
            parts=self._parts(epoch),
        )

    def _parts(self, epoch: int) -> list[NDArray[np.int64]]:
        if self.fading:
            return [self.fading.rows(epoch)]
        return self.shards.rows(epoch) if self.shards else []

    def updates(self, epoch: int) -> int:
        """How many updates an epoch has."""
        batches = count_batches(
            self.durations,
            max_seconds=self.max_seconds,
            seed=self.seed,
            epoch=epoch,
            parts=self._parts(epoch),
        )
        return -(-batches // self.group)

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch = self.epoch
        plan = self.plan(epoch)
        reading = self.shards.reading(epoch, plan) if self.shards else None
        for start in range(self.position, len(plan), self.world):
            if reading:
                reading.go_on(start, start + self.world)
            own = start + self.rank
            batch = plan[own] if own < len(plan) else []
            yield [Draw(index, draw_seed(self.seed, epoch, index)) for index in batch]

    def consume(self) -> None:
        """Count a batch of each process as used in training."""
        self.position += self.world

    @property
    def at_update(self) -> bool:
        """Whether what is consumed ends with a whole update; that of an epoch's end may be a smaller one."""
        return self.position % self.group == 0

    def next_epoch(self) -> None:
        """Begin a new epoch."""
        self.epoch += 1
        self.position = 0

    def state_dict(self) -> dict[str, int]:
        """The place, for a checkpoint, which is one between two updates."""
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
        phones: int64 phone ids of all utterances, one after the other.
        phone_lengths: (batch,) int64 phones of each, 0 where they are not known.
        unreadable: those of its draws that are missing, for they could not be read.
    """

    inputs: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    seeds: Tensor
    indices: Tensor
    phones: Tensor
    phone_lengths: Tensor
    unreadable: list[Unreadable] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class Unreadable:
    """An utterance that could not be read, by its index, and why."""

    index: int
    reason: str


@dataclass
class Example:
    """One utterance, loaded: inputs (samples,) or (frames, dims), ids of its units, its draw, ids of its phones."""

    inputs: Tensor
    units: list[int]
    draw: Draw
    phones: list[int] = field(default_factory=list)


def pad_inputs(inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pad (samples,) or (frames, dims) tensors with zeros to one length; return their lengths (batch,) too."""
    return pad_sequence(list(inputs), batch_first=True), torch.tensor([len(row) for row in inputs])


def collate(loaded: Sequence[Example | Unreadable]) -> Batch:
    """Join examples into a batch, of no utterance where none could be read."""
    examples = [example for example in loaded if isinstance(example, Example)]
    # Of nothing pad_sequence makes nothing.
    inputs, lengths = pad_inputs([example.inputs for example in examples] or [torch.zeros(0)])
    return Batch(
        inputs=inputs[: len(examples)],
        lengths=lengths[: len(examples)],
        targets=torch.tensor([unit for example in examples for unit in example.units], dtype=torch.long),
        target_lengths=torch.tensor([len(example.units) for example in examples], dtype=torch.long),
        seeds=torch.tensor([example.draw.seed for example in examples], dtype=torch.long),
        indices=torch.tensor([example.draw.index for example in examples], dtype=torch.long),
        phones=torch.tensor([phone for example in examples for phone in example.phones], dtype=torch.long),
        phone_lengths=torch.tensor([len(example.phones) for example in examples], dtype=torch.long),
        unreadable=[failed for failed in loaded if isinstance(failed, Unreadable)],
    )
