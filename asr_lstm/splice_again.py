"""Words found again while a model is trained, so that what it learns by being spliced is cut where words end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback

from asr_lstm import parallel
from asr_lstm.averaging import WeightAverage
from asr_lstm.bundle import Bundle
from asr_lstm.data import SpeechData
from asr_lstm.errors import DataError
from asr_lstm.files import atomic_write
from asr_lstm.splice import Places, Splicer, find_words

log = logging.getLogger(__name__)


class SpliceAgain(Callback):
    """Finds the words of the training utterances again, after some epochs, by the weights of then.

    A model that has only heard synthetic speech makes one cut in seven a tenth of a second too soon or too late, and
    what is spliced then lacks a sound of its transcript, or has one too many.

    Args:
        data: whose splicer learns where words are.
        bundle: the model in training with its units.
        epochs: after which.
        folder: where it is kept what was found, so that a run which goes on splices as it would have.
        average: of the weights, which then listens in their place.
    """

    def __init__(
        self,
        data: SpeechData,
        bundle: Bundle,
        *,
        epochs: Sequence[int],
        folder: Path,
        average: WeightAverage | None = None,
    ) -> None:
        self.data = data
        self.bundle = bundle
        self.epochs = sorted(epochs)
        self.folder = folder
        self.average = average
        self._renewed = 0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Renew the places of words, if that many epochs are learned, or were before this run went on."""
        last = max((epochs for epochs in self.epochs if epochs <= self.data.sampler.epoch), default=0)
        splicer = self.data.train_set.splice
        if last == self._renewed or not isinstance(splicer, Splicer):
            return
        self._renewed = last
        path = self.folder / f"words-{last}.npy"
        if (kept := _read(path, like=splicer.places)) is not None:
            splicer.places = kept
            return
        averaged = self.average.applied() if self.average else nullcontext()
        with averaged, trainer.precision_plugin.forward_context():
            words = find_words(
                self.data.train_set.utterances,
                model=self.bundle,
                load=self.data.train_set.load,
                device=str(pl_module.device),
                show=False,
            )
        splicer.renew(words)
        if parallel.rank() == 0:
            _write(path, splicer.places)


def _read(path: Path, *, like: Places) -> Places | None:
    try:
        places: Places = np.load(path, allow_pickle=False)
    except (OSError, ValueError):  # not there, or damaged
        return None
    return places if places.shape == like.shape and places.dtype == like.dtype else None


def _write(path: Path, places: Places) -> None:
    """Where it cannot be written, training is worth more."""
    try:
        with atomic_write(path, "wb") as file:
            np.save(file, places)
    except (OSError, DataError) as error:
        log.warning("%s: cannot be written (%s); a run that goes on would find the words anew", path, error)
