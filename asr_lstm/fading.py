"""Synthetic speech that an epoch hears less of than the one before, until recordings are alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_lstm.errors import ConfigError
from asr_lstm.manifest import Utterance

# Tells the seeds of its draws from those of plans, of utterances, of dropout and of the order of shards.
_FADING = 3


@dataclass(frozen=True)
class Fading:
    """What each epoch hears: all recordings, and a share of the synthetic speech that falls evenly to none.

    Attributes:
        synthetic: (utterances,) whether each is.
        epochs: that hear any of it; from 0, epoch e of n hears 1 - e / n of it.
        seed: of the run.
    """

    synthetic: NDArray[np.bool_]
    epochs: int
    seed: int

    def rows(self, epoch: int) -> NDArray[np.int64]:
        """The places of the utterances of an epoch, in order; seed and epoch fix them."""
        candidates = np.flatnonzero(self.synthetic)
        count = round(len(candidates) * max(0, self.epochs - epoch) / self.epochs)
        random = np.random.default_rng([self.seed, epoch, 0, _FADING])
        heard = ~self.synthetic
        heard[random.permutation(candidates)[:count]] = True
        return np.flatnonzero(heard)


def fade_synthetic(utterances: Sequence[Utterance], *, epochs: int, seed: int) -> Fading:
    """The fading of those rows that say `"synthetic": true`.

    Raises:
        ConfigError: all of them do, so that nothing would be left to learn from.
    """
    synthetic = np.array([bool(utterance.extra.get("synthetic")) for utterance in utterances], np.bool_)
    if synthetic.all():
        raise ConfigError(
            "bootstrap.how: when the synthetic speech has faded nothing is left, for there are no recordings; say mix"
        )
    return Fading(synthetic, epochs, seed)
