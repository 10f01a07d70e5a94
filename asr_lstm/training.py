"""The Lightning module that trains a recogniser by CTC."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.lr_scheduler import LambdaLR

from asr_lstm import parallel
from asr_lstm.batching import Batch, Unreadable
from asr_lstm.corpora.validate import Dropped
from asr_lstm.data import SpeechData
from asr_lstm.errors import DataError
from asr_lstm.faults import NonFinite, UnreadableFiles, to_blame
from asr_lstm.judging import DevShare
from asr_lstm.loss import training_losses
from asr_lstm.lstm import scale_dropout
from asr_lstm.manifest import Utterance
from asr_lstm.model import Recogniser
from asr_lstm.schedule import (
    TrainingConfig,
    dropout_share,
    learning_rate_share,
    make_optimiser,
    seed_dropout,
    step_seed,
)
from asr_lstm.units import Units
from asr_lstm.updates import GradientSum, split_if_need_be


class CTCTraining(lightning.LightningModule):
    """Trains a recogniser by CTC and follows its error rates on the dev set.

    A batch adds to the update under way (`asr_lstm.updates`), and the last one of an update makes it, over all
    processes together. Optimisation is "manual" in Lightning's words for that reason.

    Args:
        model: the recogniser.
        units: its output units.
        config: the optimiser and its schedule.
        phones: share of the loss that is the phones'.
        total_updates: of the whole run, for the schedule.
        references: normalised transcripts of the dev set, by index.
        unreadable: where utterances are listed that cannot be read any more; None for nowhere.

    Attributes:
        fault: set after an update with which training has to end; None while all is well.
    """

    def __init__(
        self,
        model: Recogniser,
        units: Units,
        *,
        config: TrainingConfig,
        phones: float = 0.0,
        total_updates: int,
        references: Sequence[str],
        unreadable: Path | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.model.encoder.recompute = config.recompute
        self.units = units
        self.config = config
        self.phones = phones
        self.total_updates = total_updates
        self.references = references
        self.fault: DataError | None = None
        self._unreadable = UnreadableFiles(unreadable, tolerate=config.tolerate_share)
        self._non_finite = NonFinite(config.stop_after_nonfinite)
        self._sum = GradientSum([weight for weight in model.parameters() if weight.requires_grad])
        self._norm = torch.zeros(())
        self._dev = DevShare()
        self._earlier_seconds = 0.0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall clock of training so far."""
        return self._earlier_seconds + time.monotonic() - self._started

    def on_train_start(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the clock, and what was noted."""
        checkpoint["train_seconds"] = self.seconds
        checkpoint["unreadable"] = self._unreadable.state_dict()
        checkpoint["non_finite"] = self._non_finite.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Set the clock on."""
        self._earlier_seconds = checkpoint["train_seconds"]
        self._unreadable.load_state_dict(checkpoint["unreadable"])
        self._non_finite.load_state_dict(checkpoint["non_finite"])

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Add a batch to the update, and make it if it is the last one; the loss of what it then holds."""
        place = self._data.sampler
        # The dropout of a batch is a function of its place in the plan, whichever process has it.
        seed_dropout(step_seed(place.seed, place.epoch, place.position + place.rank))
        self._sum.drawn += len(batch) + len(batch.unreadable)
        self._sum.unreadable += batch.unreadable
        if len(batch):
            split_if_need_be(self._learn, batch, name=self._train_id)
        place.consume()
        if place.at_update or self.trainer.is_last_batch:
            return self._update()
        return self._sum.loss

    def _learn(self, batch: Batch) -> None:
        config = self.config
        if rise := config.dropout_epochs:
            scale_dropout(self.model, dropout_share(self._data.sampler.epoch, rise=rise))
        losses = training_losses(
            self.model,
            batch,
            errors=config.errors if self._late else 0.0,
            intermediate=config.intermediate,
            phones=self.phones,
            consistency=config.consistency,
        )
        self._sum.add(batch, losses)

    @property
    def _late(self) -> bool:
        """Whether expected errors count by now."""
        return self.global_step >= self.config.errors_from * self.total_updates

    def _update(self) -> Tensor:
        """Make the update that all processes have gathered; where it is not finite, none."""
        gradients, totals = self._sum.over_processes()
        self._norm = get_total_norm(gradients) / totals[1].clamp(min=1)
        loss, units, drawn, lacking = totals.tolist()
        unreadable = parallel.gather(self._sum.unreadable) if lacking else []
        self._note_unreadable(int(drawn), [*chain(*unreadable)], self._data.train_set.utterances)
        if not math.isfinite(loss) or not math.isfinite(self._norm):
            blamed = to_blame(self._sum.indices, self._sum.losses, self._sum.gradients)
            names = [self._train_id(index) for index in blamed]
            self.fault = self._non_finite.skipped(names, update=self.global_step + 1) or self.fault
        elif units:
            torch._foreach_div_(gradients, units)
            self._step(gradients, loss=loss / units)
        self._sum.clear()
        return torch.tensor(loss / max(1.0, units))

    def _step(self, gradients: Sequence[Tensor], *, loss: float) -> None:
        self._non_finite.sound()
        for weight, gradient in zip(self._sum.parameters, gradients, strict=True):
            weight.grad = gradient
        optimizer: Any = self.optimizers()
        # Not by Lightning's `log`, which takes a millisecond each time, shown or not.
        if self.logger is not None and self.global_step % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            figures = {"loss": loss, "learning_rate": optimizer.param_groups[0]["lr"]}
            self.logger.log_metrics(figures, step=self.global_step)
        optimizer.step()
        optimizer.zero_grad()
        schedule: Any = self.lr_schedulers()
        schedule.step()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Clip, after callbacks have seen what the gradients were."""
        clip_grads_with_norm_(self._sum.parameters, self.config.gradient_clip, self._norm)

    def on_train_end(self) -> None:
        """Leave the dropout rates what the encoder says."""
        scale_dropout(self.model, 1.0)

    def on_train_epoch_end(self) -> None:
        """Move the data on before a checkpoint of the epoch's end is written."""
        self._data.sampler.next_epoch()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Recognise one dev batch of this process's share."""
        self._dev.count(batch)
        if len(batch):
            self._dev.add(batch, *self.model(batch.inputs, batch.lengths), units=self.units)

    def on_validation_epoch_end(self) -> None:
        """Score the dev set, each utterance once, whichever process recognised it."""
        dev = DevShare.joined(parallel.gather(self._dev))
        self._dev = DevShare()
        self._note_unreadable(dev.drawn, dev.unreadable, self._data.dev_set.utterances)
        self.log_dict(dev.metrics(self.references))

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule."""
        config = self.config
        optimizer = make_optimiser(
            self.model, learning_rate=config.learning_rate, weight_decay=config.weight_decay
        )

        def share(update: int) -> float:
            return learning_rate_share(
                update,
                total=self.total_updates,
                warmup=self.config.warmup,
                final_share=self.config.final_share,
            )

        schedule = {"scheduler": LambdaLR(optimizer, share), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _note_unreadable(
        self, drawn: int, unreadable: Sequence[Unreadable], utterances: Sequence[Utterance]
    ) -> None:
        """Count what all processes drew, and list what they could not read."""
        rows = [(utterances[item.index], item.reason) for item in unreadable]
        lacking = [Dropped(utterance.id, utterance.path, reason) for utterance, reason in rows]
        size = len(self._data.train_set) + len(self._data.dev_set)
        self.fault = self._unreadable.count(drawn, lacking, size=size) or self.fault

    def _train_id(self, index: int) -> str:
        return self._data.train_set.utterances[index].id

    @property
    def _data(self) -> SpeechData:
        data: SpeechData = self.trainer.datamodule  # type: ignore[attr-defined]
        return data
