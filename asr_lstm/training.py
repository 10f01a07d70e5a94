"""The Lightning module that trains a recogniser by CTC."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import lightning
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from asr_lstm.batching import Batch
from asr_lstm.data import SpeechData
from asr_lstm.decoding.greedy import greedy_decode
from asr_lstm.model import Recogniser
from asr_lstm.schedule import TrainingConfig, learning_rate_share
from asr_lstm.scoring import score
from asr_lstm.units import BLANK, Units

# Resampling is for intervals, which training does not show.
_NO_RESAMPLES = 1


def ctc_loss(
    logits: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, *, skip_infeasible: bool = False
) -> Tensor:
    """Connectionist temporal classification: -log p(transcript), summed over the batch, in nats a unit.

    In float32 whatever the logits are, since float16 and bfloat16 cannot hold the forward variables.
    Source: Graves et al. 2006, "Connectionist Temporal Classification", equation 15.

    Args:
        logits: (batch, frames, units).
        lengths: (batch,) valid frames.
        targets: unit ids of all transcripts, one after the other.
        target_lengths: (batch,) units of each transcript.
        skip_infeasible: count utterances with fewer frames than CTC needs as 0 instead of infinity.
    """
    log_probabilities = functional.log_softmax(logits.float(), dim=-1).transpose(0, 1)
    total = functional.ctc_loss(
        log_probabilities,
        targets.to(logits.device),
        lengths,
        target_lengths,
        blank=BLANK,
        reduction="sum",
        zero_infinity=skip_infeasible,
    )
    return total / target_lengths.sum().clamp(min=1)


class CTCTraining(lightning.LightningModule):
    """Trains a recogniser by CTC and follows its error rates on the dev set.

    Args:
        model: the recogniser.
        units: its output units.
        config: the optimiser and its schedule.
        total_updates: of the whole run, for the schedule.
        references: normalised transcripts of the dev set, by index."""

    def __init__(
        self,
        model: Recogniser,
        units: Units,
        *,
        config: TrainingConfig,
        total_updates: int,
        references: Sequence[str],
    ) -> None:
        super().__init__()
        self.model = model
        self.units = units
        self.config = config
        self.total_updates = total_updates
        self.references = references
        self._hypotheses: dict[int, str] = {}
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
        """Keep the clock."""
        checkpoint["train_seconds"] = self.seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Set the clock on."""
        self._earlier_seconds = checkpoint["train_seconds"]

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of one batch."""
        logits, lengths = self.model(batch.inputs, batch.lengths, seeds=batch.seeds)
        # The preflight dropped what does not fit by its manifest; audio may be a trifle shorter than that says.
        loss = ctc_loss(logits, lengths, batch.targets, batch.target_lengths, skip_infeasible=True)
        self.log("loss", loss.detach(), batch_size=len(batch.lengths))
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        self._sampler.consume()
        return loss

    def on_train_epoch_end(self) -> None:
        """Move the data on before a checkpoint of the epoch's end is written."""
        self._sampler.next_epoch()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Recognise one dev batch."""
        logits, lengths = self.model(batch.inputs, batch.lengths)
        loss = ctc_loss(logits, lengths, batch.targets, batch.target_lengths, skip_infeasible=True)
        self.log("dev_loss", loss, batch_size=int(batch.target_lengths.sum()))
        for index, ids in zip(batch.indices.tolist(), greedy_decode(logits, lengths), strict=True):
            self._hypotheses[index] = self.units.decode(ids)

    def on_validation_epoch_end(self) -> None:
        """Score the dev set."""
        indices = sorted(self._hypotheses)
        scores = score(
            [self.references[index] for index in indices],
            [self._hypotheses[index] for index in indices],
            resamples=_NO_RESAMPLES,
        )
        self.log("dev_wer", scores.wer)
        self.log("dev_cer", scores.cer)
        self._hypotheses.clear()

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """Clip here: Lightning refuses to beside a fused optimiser, although only float16 would need that."""
        clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)

    def configure_optimizers(self) -> Any:
        """AdamW; biases and normalisation are not decayed."""
        decayed = [parameter for parameter in self.model.parameters() if parameter.ndim > 1]
        free = [parameter for parameter in self.model.parameters() if parameter.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.config.weight_decay},
            {"params": free, "weight_decay": 0.0},
        ]
        optimizer = AdamW(groups, lr=self.config.learning_rate, fused=True)

        def share(update: int) -> float:
            return learning_rate_share(
                update,
                total=self.total_updates,
                warmup=self.config.warmup,
                final_share=self.config.final_share,
            )

        schedule = {"scheduler": LambdaLR(optimizer, share), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    @property
    def _sampler(self) -> Any:
        data: SpeechData = self.trainer.datamodule  # type: ignore[attr-defined]
        return data.sampler
