"""Training with Lightning: the CTC module, its schedule, and callbacks that save, stop and show progress."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import lightning
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from asr_lstm.batching import Batch
from asr_lstm.data import SpeechData
from asr_lstm.decoding.greedy import greedy_decode
from asr_lstm.model import Recogniser
from asr_lstm.scoring import score
from asr_lstm.units import BLANK, Units

# Resampling is for intervals, which training does not show.
_NO_RESAMPLES = 1


@dataclass(frozen=True)
class TrainingConfig:
    """How the model is trained.

    Attributes:
        epochs: passes over the training data.
        learning_rate: at the end of the warm-up.
        final_share: of that learning rate, at the very end; a cosine leads there.
        warmup: share of all updates over which the learning rate rises.
        weight_decay: of AdamW.
        gradient_clip: largest norm of the gradient of all weights together.
        patience: stop after so many epochs without a better WER on dev.
        precision: Lightning's word: `32-true`, or `bf16-mixed` for bfloat16 products with float32 CTC; `auto`
            takes the latter where the processor or GPU has instructions for it.
        device: Lightning's accelerator: `cpu`, `gpu` or `auto`.
    """

    epochs: int = 10
    learning_rate: float = 2e-3
    final_share: float = 0.01
    warmup: float = 0.05
    weight_decay: float = 0.01
    gradient_clip: float = 5.0
    patience: int = 5
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    device: Literal["cpu", "gpu", "auto"] = "cpu"

    def __post_init__(self) -> None:
        for name in ("epochs", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be at least 1, not {getattr(self, name)}")
        for name in ("learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"training.{name} must be above 0, not {getattr(self, name)}")
        for name in ("final_share", "warmup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"training.{name} must lie in 0 .. 1, not {getattr(self, name)}")
        if self.weight_decay < 0:
            raise ValueError(f"training.weight_decay must not be below 0, but is {self.weight_decay}")


def choose_precision(config: TrainingConfig) -> Literal["32-true", "bf16-mixed"]:
    """What `auto` stands for on this machine."""
    if config.precision != "auto":
        return config.precision
    if config.device != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    # torch tells what the processor has in functions that are not yet public: where they are gone, float32.
    tests = [getattr(torch.cpu, f"_is_{name}_supported", bool) for name in ("avx512_bf16", "amx_tile")]
    return "bf16-mixed" if any(test() for test in tests) else "32-true"


def learning_rate_share(update: int, *, total: int, warmup: float, final_share: float) -> float:
    """Share of the peak learning rate at an update: a linear rise, then half a cosine.

    Source: Loshchilov & Hutter 2017, "SGDR" (arXiv 1608.03983), equation 5, without restarts.

    Args:
        update: from 0.
        total: updates of the whole run.
        warmup: share of the run in which it rises.
        final_share: what is left at the end.
    """
    rise = max(1, round(warmup * total))
    if update < rise:
        return (update + 1) / rise
    progress = min(1.0, (update - rise) / max(1, total - rise))
    return final_share + (1 - final_share) * (1 + math.cos(math.pi * progress)) / 2


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
    return total / target_lengths.sum()


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
