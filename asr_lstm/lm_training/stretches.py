"""A long text, read at many places at once: what truncated backpropagation through time learns from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from asr_lstm.errors import DataError
from asr_lstm.lm.neural.text_units import Ids

# How often a place forgets what it has read, so that the model also learns to begin with nothing, as each
# utterance of a recogniser does.
FORGETTING = 0.02


class Stretch(NamedTuple):
    """What one update learns from.

    Attributes:
        inputs: (batch, window) units.
        targets: (batch, window), the units that follow each.
        remembers: (batch,) 1 where the stretch goes on from the one before, 0 where the memory begins anew.
    """

    inputs: Tensor
    targets: Tensor
    remembers: Tensor


class Stretches:
    """The stretches of a text, by the number of the update alone: nothing else need be kept to go on.

    Each pass over the text begins a little later in it than any other might, so that windows are not always the same.

    Args:
        ids: the text's units, `(n,)`.
        batch: places; fewer where the text is short.
        window: units of a stretch; fewer where the text is shorter.
        seed: of where passes begin, and of what is forgotten.

    Raises:
        DataError: there are not even two units.
    """

    def __init__(self, ids: Ids, *, batch: int, window: int, seed: int) -> None:
        if len(ids) < 2:
            raise DataError("the text has one unit, and there is nothing that follows it; give more text")
        self.window = min(window, len(ids) - 1)
        self.batch = max(1, min(batch, (len(ids) - 1) // self.window))
        self.seed = seed
        self.passes = max(1, ((len(ids) - 1) // self.batch) // self.window)
        self._span = self.passes * self.window
        self._ids = ids

    def __getitem__(self, update: int) -> Stretch:
        epoch, place = divmod(update, self.passes)
        spare = len(self._ids) - 1 - self.batch * self._span
        first = int(np.random.default_rng([self.seed, epoch]).integers(spare + 1)) + place * self.window
        rows = first + np.arange(self.batch)[:, None] * self._span + np.arange(self.window + 1)
        units = torch.from_numpy(self._ids[rows])
        remembers = np.random.default_rng([self.seed, epoch, place]).random(self.batch) >= FORGETTING
        if place == 0:
            remembers[:] = False
        return Stretch(units[:, :-1], units[:, 1:], torch.from_numpy(remembers).float())


class Position:
    """How many updates were made; shared by training, which counts, and the data, which goes on from there."""

    def __init__(self) -> None:
        self.update = 0


class Round(IterableDataset[Stretch]):
    """The stretches up to the next look at the dev text.

    Args:
        stretches: all of them.
        position: updates made so far.
        every: updates between two looks.
        total: of the whole run.
    """

    def __init__(self, stretches: Stretches, position: Position, *, every: int, total: int) -> None:
        self.stretches, self.position, self.every, self.total = stretches, position, every, total

    def __iter__(self) -> Iterator[Stretch]:
        start = self.position.update
        end = min(self.total, (start // self.every + 1) * self.every)
        return (self.stretches[update] for update in range(start, end))
