"""What happens around the training of a language model: an interrupt that leaves a checkpoint, and progress."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from rich.console import Console

from asr_lstm.callbacks import Interrupts
from asr_lstm.errors import TrainingInterrupted


class InterruptSaver(Callback):
    """Ends training after the update under way when SIGINT or SIGTERM comes, and saves a checkpoint first.

    Args:
        path: of the checkpoint.

    Raises:
        TrainingInterrupted: out of `Trainer.fit`, once the checkpoint stands.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._interrupts = Interrupts()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Listen for signals: not sooner, since Lightning remembers what it finds and would put that back."""
        self._interrupts.listen()

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any, **kwargs: Any) -> None:
        """Save and stop if asked to; where a look at the dev text is due, after that."""
        if self._interrupts.asked and not trainer.is_last_batch:
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Asked at the last update before a look, or during it."""
        if self._interrupts.asked and pl_module.progress < 1:
            self._stop(trainer)

    def _stop(self, trainer: lightning.Trainer) -> None:
        trainer.save_checkpoint(self._path)
        raise TrainingInterrupted(f"interrupted; saved to {self._path}: the same command goes on from there")

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Give the signals back: `teardown` would be later than Lightning, which then has put back its own."""
        self._interrupts.release()

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """The same where training ends early."""
        self._interrupts.release()


class LookReport(Callback):
    """A line on standard error at each look at the dev text."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        self._started, self._first = 0.0, 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Begin; a resumed run begins where it stands."""
        self._started, self._first = time.monotonic(), pl_module.progress

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """One line."""
        done = max(1e-9, pl_module.progress - self._first)
        left = (time.monotonic() - self._started) / done * (1 - pl_module.progress)
        loss = float(trainer.callback_metrics.get("loss", float("nan")))
        dev = float(trainer.callback_metrics["dev_loss"])
        self._console.print(
            f"update {pl_module.position.update}: loss {loss:.3f}, dev {dev:.4f} "
            f"nats a unit, at most {left / 60:.1f} min left",
            highlight=False,
            soft_wrap=True,
        )
