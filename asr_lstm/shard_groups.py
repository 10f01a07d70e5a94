"""Going through shards a few at a time, in another order each epoch, and reading ahead those that come next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr_lstm.shards import Shards, read_ahead

# Tells the seeds of their order from those of plans (`asr_lstm.batch_plan`) and of utterances (`asr_lstm.batching`).
_ORDER = 2


@dataclass(frozen=True)
class ShardGroups:
    """Shards in groups, in an order that seed and epoch fix.

    Attributes:
        shards: in which each utterance lies.
        at_once: shards of a group; the last one may have fewer.
        seed: of the run.
    """

    shards: Shards
    at_once: int
    seed: int

    def groups(self, epoch: int) -> list[NDArray[np.int64]]:
        """The numbers of the shards of each group, in the epoch's order."""
        random = np.random.default_rng([self.seed, epoch, 0, _ORDER])
        order = random.permutation(np.unique(self.shards.numbers))
        return np.split(order, range(self.at_once, len(order), self.at_once))

    def rows(self, epoch: int) -> list[NDArray[np.int64]]:
        """The places of the utterances of each group, in the epoch's order."""
        group_of_shard = np.zeros(len(self.shards.paths), np.int64)
        groups = self.groups(epoch)
        for place, numbers in enumerate(groups):
            group_of_shard[numbers] = place
        group_of_row = group_of_shard[self.shards.numbers]
        ends = np.cumsum(np.bincount(group_of_row, minlength=len(groups)))
        return np.split(np.argsort(group_of_row, kind="stable"), ends[:-1])

    def reading(self, epoch: int, plan: Sequence[Sequence[int]]) -> Reading:
        """What is to be read ahead while the batches of an epoch are drawn."""
        groups = [*self.groups(epoch), self.groups(epoch + 1)[0]]
        group_of_shard = {
            number: place for place, numbers in enumerate(groups[:-1]) for number in numbers.tolist()
        }
        of_batch = np.array([group_of_shard[int(self.shards.numbers[batch[0]])] for batch in plan])
        paths = [[self.shards.paths[number] for number in sorted(numbers.tolist())] for numbers in groups]
        return Reading(paths, of_batch)


class Reading:
    """Reads ahead the shards of the coming group, in step with the batches of the one before.

    A group is asked for piece by piece, from its first byte to its last: the disk reads in order, and is never asked
    for more than training is about to use.

    Args:
        paths: the shards of each group, and of the group that begins the next epoch.
        of_batch: (batches,) the group of each batch, in order.
    """

    def __init__(self, paths: Sequence[Sequence[Path]], of_batch: NDArray[np.int64]) -> None:
        self._paths = paths
        self._of_batch = of_batch

    def go_on(self, start: int, end: int) -> None:
        """The batches from `start` to before `end` are drawn now."""
        group = int(self._of_batch[start])
        first, last = np.searchsorted(self._of_batch, [group, group + 1]).tolist()
        read_ahead(
            self._paths[group + 1],
            (start - first) / (last - first),
            min(1.0, (end - first) / (last - first)),
        )
