"""What happens around training: checkpoints, the choice of the best epochs, an end on time or when asked to."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from asr_lstm import parallel
from asr_lstm.averaging import WeightAverage
from asr_lstm.checkpoints import CheckpointFolder, Judged, RunState, Snapshot, check_weights
from asr_lstm.data import SpeechData
from asr_lstm.errors import DataError, TrainingInterrupted
from asr_lstm.schedule import TrainingConfig, updates_in_time
from asr_lstm.training import CTCTraining

log = logging.getLogger(__name__)


class Interrupts:
    """Notes SIGINT and SIGTERM instead of dying of them.

    A second signal does what it would have done without.

    Attributes:
        asked: whether one has come.
    """

    def __init__(self) -> None:
        self.asked = False
        self._previous: dict[int, Any] = {}

    def listen(self) -> None:
        """Begin; only the main thread of a process may, and in others nothing happens."""
        if threading.current_thread() is threading.main_thread() and not self._previous:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self.release()

    def release(self) -> None:
        """Give the signals back."""
        while self._previous:
            signal.signal(*self._previous.popitem())


class Checkpointer(Callback):
    """Saves what a run goes on from, judges the weights after each epoch, and stops when it is enough.

    A run that was killed goes on from the last checkpoint and comes to the very weights that it would have come to:
    the place in the data is that of batches consumed, and all that is drawn at random is a function of that place.

    Args:
        folder: of this run's checkpoints.
        data: whose place is saved.
        config: how often, patience, averages, time.
        snapshot: to go on from, given to `restore` already.

    Raises:
        TrainingInterrupted: out of `Trainer.fit`, once a checkpoint stands.
        DataError: the last checkpoint, or the weights of a best epoch, cannot be written.
    """

    def __init__(
        self,
        folder: CheckpointFolder,
        data: SpeechData,
        *,
        config: TrainingConfig,
        snapshot: Snapshot | None = None,
    ) -> None:
        self.folder = folder
        self.data = data
        self.config = config
        self.state = snapshot.state if snapshot else RunState()
        self.average: WeightAverage | None = None
        self._snapshot = snapshot
        self._interrupts = Interrupts()
        self._saved = time.monotonic()
        self._judging_started = 0.0
        self._most_updates: int | None = None

    def restore(self, task: CTCTraining) -> None:
        """Put weights, averages, the place in the data and the task's memory back, where there is a snapshot.

        Raises:
            ConfigError: the snapshot is of another model.
        """
        if self._snapshot is not None:
            check_weights(self._snapshot.weights, task.model.state_dict(), where=self.folder.folder)
            task.model.load_state_dict(self._snapshot.weights)
            self.data.load_state_dict({"epoch": self.state.epoch, "position": self.state.position})
            task.on_load_checkpoint(self.state.task)
            self.state.resumed += 1
        if self.config.average:
            self.average = WeightAverage(task.model, self.config.average)
            if self._snapshot is not None:
                self.average.load_state_dict(self._snapshot.average, updates=self.state.average_updates)

    @property
    def judging_is_due(self) -> bool:
        """Was the run stopped after an epoch's last batch and before its weights were judged?"""
        return self.state.position >= len(self.data.sampler.plan(self.state.epoch)) and not self.state.ended

    def judge(self, task: CTCTraining, metrics: Mapping[str, Any]) -> bool:
        """Take in the error rates of the weights that the model has now.

        Args:
            task: the training.
            metrics: `dev_wer` and `dev_cer`.

        Returns:
            whether to go on: False when the best epoch is `patience` epochs past.
        """
        epoch = self.data.sampler.epoch
        wer, cer = float(metrics["dev_wer"]), float(metrics["dev_cer"])
        judged = Judged(epoch, wer, cer, f"best-{epoch + 1}.safetensors")
        better = not self.state.best or judged.errors < self.state.best[0].errors
        # Of equals, as on a dev set of a few words, the one that has learned longer.
        best = sorted([*self.state.best, judged], key=lambda entry: (entry.errors, -entry.epoch))
        self.state.best = best[: self.config.average_best]
        self.state.since_best = 0 if better else self.state.since_best + 1
        if judged in self.state.best and task.global_rank == 0:
            self.folder.keep_weights(judged.file, task.model.state_dict())
        return self.state.since_best < self.config.patience

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Restore what Lightning has made only now."""
        if self._snapshot is not None:
            trainer.optimizers[0].load_state_dict(self._snapshot.optimiser["optimiser"])
            trainer.lr_scheduler_configs[0].scheduler.load_state_dict(self._snapshot.optimiser["schedule"])
            _count_on(trainer, epoch=self.data.sampler.epoch, updates=self.state.updates)
            self._snapshot = None  # frees the copy of everything
        if self.average is not None:
            self.average.to(pl_module.device)
        self._saved = time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Listen for signals: not sooner, since Lightning remembers what it finds and would put that back."""
        self._interrupts.listen()
        if self.state.updates:  # what goes on has a speed to plan by before its first update
            self._plan(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After an update: follow the average, mind the time, save if it is due or asked for."""
        if not (self.data.sampler.at_update or trainer.is_last_batch):
            return  # gradients are gathered that no checkpoint would hold
        if pl_module.fault is not None:
            self.save(trainer, pl_module)
            raise pl_module.fault
        if self.average is not None:
            self.average.update()
        self._mind_the_time(trainer, pl_module)
        if trainer.is_last_batch or trainer.should_stop:
            return  # the epoch's judging comes first
        if parallel.any_process(self._interrupts.asked):
            self._interrupt(trainer, pl_module)
        self._save_if_due(trainer, pl_module)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save if it is due: an epoch of a single batch has no other moment between two updates."""
        self._save_if_due(trainer, pl_module)

    def _save_if_due(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if time.monotonic() - self._saved < 60 * self.config.checkpoint_minutes:
            return
        try:
            self.save(trainer, pl_module)
        except DataError as error:
            log.warning("%s", error)
            self._saved = time.monotonic()  # training is worth more than a checkpoint: try again later

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Judge the averaged weights, where there are some."""
        self._judging_started = time.monotonic()
        if self.average is not None:
            self.average.swap()

    def on_validation_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *args: Any) -> None:
        """Stop if asked to; among several processes after the judging, since they have other numbers of batches."""
        if self._interrupts.asked and trainer.world_size == 1:
            if self.average is not None:
                self.average.swap()
            self._interrupt(trainer, pl_module)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Note how good the epoch was; what was judged on a dev set that went bad is not noted."""
        if pl_module.fault is None and not self.judge(pl_module, trainer.callback_metrics):
            trainer.should_stop = True
        if self.average is not None:
            self.average.swap()
        if pl_module.fault is not None:
            self.save(trainer, pl_module)
            raise pl_module.fault
        self.state.judging_seconds = time.monotonic() - self._judging_started

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Save that training is whole."""
        self.state.ended = True
        self.save(trainer, pl_module)
        self._interrupts.release()
        if parallel.any_process(self._interrupts.asked):
            raise TrainingInterrupted(
                "interrupted when training had ended: the same command goes on from there"
            )

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Give the signals back: `teardown` would be later than Lightning, which then has put back its own."""
        self._interrupts.release()

    def save(self, trainer: lightning.Trainer, task: CTCTraining) -> None:
        """Write a checkpoint of this moment, which must be one between two updates.

        Raises:
            DataError: it cannot be written.
        """
        place = self.data.state_dict()
        self.state.epoch, self.state.position = place["epoch"], place["position"]
        self.state.updates = trainer.global_step
        self.state.task = {}
        task.on_save_checkpoint(self.state.task)
        average: dict[str, Tensor] = {}
        if self.average is not None:
            average, self.state.average_updates = self.average.state_dict(), self.average.updates
        if trainer.is_global_zero:
            optimiser = {
                "optimiser": trainer.optimizers[0].state_dict(),
                "schedule": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
            }
            self.folder.save(Snapshot(self.state, task.model.state_dict(), average, optimiser))
        self._saved = time.monotonic()

    def _interrupt(self, trainer: lightning.Trainer, task: CTCTraining) -> None:
        self.save(trainer, task)
        raise TrainingInterrupted(
            f"interrupted; saved in {self.folder.folder}: the same command goes on from there"
        )

    def _mind_the_time(self, trainer: lightning.Trainer, task: CTCTraining) -> None:
        """Plan the schedule's end by the speed so far, and stop there."""
        self._plan(trainer, task)
        if self.config.max_minutes and task.total_updates <= trainer.global_step:
            trainer.should_stop = True

    def _plan(self, trainer: lightning.Trainer, task: CTCTraining) -> None:
        if not self.config.max_minutes:
            return
        self._most_updates = self._most_updates or task.total_updates
        planned = updates_in_time(
            trainer.global_step,
            most=self._most_updates,
            seconds=task.seconds,
            judging_seconds=self.state.judging_seconds,
            budget_seconds=60 * self.config.max_minutes,
        )
        task.total_updates = parallel.gather(planned)[0]  # processes have other clocks, and must agree


def _count_on(trainer: lightning.Trainer, *, epoch: int, updates: int) -> None:
    """Set the trainer's counters of epochs and updates, for logs and its end; all that decides is kept by us."""
    current: Any = trainer.fit_loop.epoch_progress.current
    current.ready = current.started = current.processed = current.completed = epoch
    loop = trainer.fit_loop.epoch_loop
    loop.manual_optimization.optim_step_progress.total.completed = updates
    loop._batches_that_stepped = updates
