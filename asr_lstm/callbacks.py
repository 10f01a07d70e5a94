"""What happens around training: progress on the console, and an interrupt that leaves a usable checkpoint."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from asr_lstm.errors import TrainingInterrupted

log = logging.getLogger(__name__)

# The loss is shown as a running mean over about this many updates.
_SMOOTHING = 50


class InterruptSaver(Callback):
    """Ends training after the update under way when SIGINT or SIGTERM comes, and saves a checkpoint first.

    A second signal does what it would have done without this callback.

    Args:
        path: of the checkpoint.

    Raises:
        TrainingInterrupted: out of `Trainer.fit`, once the checkpoint stands.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._previous: dict[int, Any] = {}
        self._asked = False

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Listen for signals; only the main thread of a process may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any, **kwargs: Any) -> None:
        """Save and stop if asked to; not after an epoch's last batch, whose validation is still to come."""
        if self._asked and not trainer.is_last_batch:
            trainer.save_checkpoint(self.path)
            raise TrainingInterrupted(
                f"interrupted; saved to {self.path}: the same command goes on from there"
            )

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Asked in the very last batch: training is whole, and what would come after it waits."""
        if self._asked:
            raise TrainingInterrupted(
                "interrupted when training had ended: the same command goes on from there"
            )

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._restore()


class ProgressReport(Callback):
    """Shows epoch, loss, dev WER and time left: a bar on a terminal, a line an epoch elsewhere.

    Args:
        total_updates: of the whole run.
        console: where to; standard error by default.
    """

    def __init__(self, total_updates: int, *, console: Console | None = None) -> None:
        self.total = total_updates
        self.console = console or Console(file=sys.stderr)
        self.loss = float("nan")
        self._seen = 0
        self._started = 0.0
        self._first = 0
        self._bar: Progress | None = None
        self._task: Any = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin; a resumed run begins where it stands."""
        self._started, self._first = time.monotonic(), trainer.global_step
        if self.console.is_terminal:
            columns = (
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=None),
                TextColumn("loss {task.fields[loss]}  dev WER {task.fields[wer]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task(
                "", total=self.total, completed=trainer.global_step, epoch="1", loss="-", wer="-"
            )
            self._bar.start()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Follow the loss."""
        self._seen += 1
        share = max(1 / self._seen, 1 / _SMOOTHING)
        value = float(outputs["loss"])
        self.loss = value if self._seen == 1 else (1 - share) * self.loss + share * value
        if self._bar:
            epoch = f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
            self._bar.update(self._task, completed=trainer.global_step, loss=f"{self.loss:.3f}", epoch=epoch)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """One line an epoch."""
        if trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics
        wer = f"{100 * float(metrics['dev_wer']):.1f} %"
        if self._bar:
            self._bar.update(self._task, wer=wer)
        done = max(1, trainer.global_step - self._first)
        left = (time.monotonic() - self._started) / done * (self.total - trainer.global_step)
        self.console.print(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: loss {self.loss:.3f}, "
            f"dev loss {float(metrics['dev_loss']):.3f}, dev WER {wer}, "
            f"CER {100 * float(metrics['dev_cer']):.1f} %, at most {max(0, left) / 60:.1f} min left",
            highlight=False,
            soft_wrap=True,
        )

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()
            self._bar = None
