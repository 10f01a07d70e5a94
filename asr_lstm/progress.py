"""Progress of training on the console: where it stands, how fast it is and what it waits for."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# The loss is shown as a running mean over about this many updates.
_SMOOTHING = 50
_GIB = 2**30


class Pace:
    """How fast training goes, and which share of its time it waits for data.

    Waiting is the time from the end of a step to the beginning of the next, pauses taken out. Rates are of the time
    since the last `pause`, which forgets what was before.
    """

    def __init__(self) -> None:
        self.pause()

    def pause(self) -> None:
        """Begin anew, after something that is neither training nor waiting for its data."""
        self._began = self._ended = time.perf_counter()
        self._waited = 0.0
        self._audio = 0.0

    def begin_step(self) -> None:
        """The data are there."""
        self._waited += time.perf_counter() - self._ended

    def end_step(self, seconds: float) -> None:
        """So many seconds of speech are done."""
        self._ended = time.perf_counter()
        self._audio += seconds

    @property
    def data_share(self) -> float:
        """Of the time, what went by without data."""
        return self._waited / max(self._ended - self._began, 1e-9)

    @property
    def speed(self) -> float:
        """Seconds of speech learned from in a second, by all processes."""
        return self._audio / max(self._ended - self._began, 1e-9)

    def __str__(self) -> str:
        return f"{self.speed:.0f} s of speech a second, data {100 * self.data_share:.0f} %"


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
        self._pace = Pace()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin; a resumed run begins where it stands."""
        self._started, self._first = time.monotonic(), trainer.global_step
        self._pace.pause()
        if self.console.is_terminal:
            columns = (
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=None),
                TextColumn("loss {task.fields[loss]}  dev WER {task.fields[wer]}  {task.fields[pace]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task(
                "", total=self.total, completed=trainer.global_step, epoch="1", loss="-", wer="-", pace=""
            )
            self._bar.start()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """An epoch's figures are its own."""
        self._pace.pause()

    def on_train_batch_start(self, trainer: lightning.Trainer, *args: Any, **kwargs: Any) -> None:
        """The data have come."""
        self._pace.begin_step()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Follow the loss and the time."""
        value = float(outputs["loss"])  # first: what a GPU is waited for is no waiting for data
        # The batches of other processes are as long: the plan puts like lengths beside each other.
        self._pace.end_step(trainer.world_size * _speech_seconds(pl_module, batch))
        if math.isfinite(value):  # an update that was skipped has none
            self._seen += 1
            share = max(1 / self._seen, 1 / _SMOOTHING)
            self.loss = value if self._seen == 1 else (1 - share) * self.loss + share * value
        self.total = pl_module.total_updates  # a run of limited time plans it anew
        if self._bar:
            epoch = f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
            self._bar.update(
                self._task,
                total=self.total,
                completed=trainer.global_step,
                loss=f"{self.loss:.3f}",
                epoch=epoch,
                pace=self._load(),
            )

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
            f"CER {100 * float(metrics['dev_cer']):.1f} %, {self._load()}, "
            f"at most {max(0, left) / 60:.1f} min left",
            highlight=False,
            soft_wrap=True,
        )

    def _load(self) -> str:
        return f"{self._pace}, memory {peak_memory():.1f} GiB"

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()
            self._bar = None


def _speech_seconds(task: Any, batch: Any) -> float:
    """Seconds of speech in a batch, padding left out."""
    config = task.model.front_end.config
    rate: float = config.rate if config.kind == "log_mel" else 1000 / config.hop_ms
    return float(batch.lengths.sum()) / rate


def peak_memory() -> float:
    """GiB that this process had at most: of the GPU, where one is in use, else of the machine; 0 if unknown."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / _GIB
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GIB
