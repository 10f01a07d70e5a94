"""A recipe's training as a bench needs it: its own data and updates, for some batches at a time, with any model."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from asr_lstm.batching import Batch
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.manifest_index import open_manifest, take
from asr_lstm.model import Recogniser
from asr_lstm.recipe import RecipeRun
from asr_lstm.set_up import make_trainer, set_up
from asr_lstm.training import CTCTraining


@dataclass(frozen=True)
class Stretch:
    """Some batches of training, timed.

    Attributes:
        seconds: that they took: reading, augmentation, both passes, updates.
        speech: seconds of their recordings, as the manifest has them.
    """

    seconds: float
    speech: float


class RecipeTraining:
    """The training of a recipe, whose batches can be run, and timed, with one model after another.

    Args:
        folder: of the recipe.
        options: overrides such as `--training.precision 32-true`; environment variables count as well.
        manifest: to train on; by default the recipe prepares its own below exp/, if it is not there yet.

    Raises:
        ConfigError: no such recipe, or it is not one of audio.
        DataError: nothing to train on.
    """

    def __init__(self, folder: Path, *, options: list[str], manifest: Path | None = None) -> None:
        run = RecipeRun(folder, options=options)
        self.recipe = run.recipe
        if self.recipe.features.kind != "log_mel":
            kind = self.recipe.features.kind
            raise ConfigError(f"{folder}: its inputs are {kind}, and speed is told in seconds of speech")
        rows = open_manifest(manifest or run.prepare().manifests["train"], self.recipe.text)
        self._first, self._data, _ = set_up(
            self.recipe,
            train=rows,
            dev=take(rows, np.arange(1)),
            load=run.experiment.load,
            logs=run.experiment.folder / "logs",
        )

    @property
    def hours(self) -> float:
        """Of speech in an epoch."""
        return float(np.sum(self._data.sampler.durations)) / 3600

    def make_model(self) -> Recogniser:
        """A model as training begins with, the same each time."""
        return copy.deepcopy(self._first.model)

    def make_task(self, model: Recogniser) -> CTCTraining:
        """What trains a model."""
        first = self._first
        updates = first.total_updates
        return CTCTraining(
            model, first.units, config=first.config, total_updates=updates, references=first.references
        )

    def read(self, *, epoch: int, batches: int) -> None:
        """Read the first batches of an epoch once: a run's later epochs find them in memory, where they fit.

        Raises:
            DataError: an epoch has fewer.
        """
        plan = self._data.sampler.plan(epoch)
        if len(plan) < batches:
            seconds = self.recipe.data.batch_seconds
            raise DataError(
                f"an epoch has {len(plan)} batches of {seconds:g} s, and {batches} are to be timed; ask for fewer "
                "or give more data"
            )
        train = self._data.train_set
        for index in (index for batch in plan[:batches] for index in batch):
            train.load(train.utterances[index])

    def time(self, task: CTCTraining, *, precision: str, epoch: int, warmup: int, batches: int) -> Stretch:
        """Train over the first batches of an epoch, and time those after the warm-up.

        It is all that training does but for the judging on dev, checkpoints, logs and the watch on gradients.
        """
        self._data.sampler.load_state_dict({"epoch": epoch, "position": 0})
        clock = _Clock()
        trainer = make_trainer(
            self.recipe,
            clock,
            max_epochs=1,
            limit_train_batches=warmup + batches,
            limit_val_batches=0,
            precision=precision,
        )
        trainer.fit(task, datamodule=self._data)
        timed = [index for indices in clock.indices[warmup:] for index in indices]
        durations = np.asarray(self._data.sampler.durations)
        return Stretch(clock.ends[-1] - clock.ends[warmup - 1], float(durations[timed].sum()))


class _Clock(Callback):
    """Notes when each batch ends, and what was in it."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.indices: list[list[int]] = []

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Batch, batch_index: int
    ) -> None:
        self.ends.append(time.perf_counter())
        self.indices.append(batch.indices.tolist())
