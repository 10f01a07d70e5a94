"""The Lightning module that trains a language model, with the memory carried on from stretch to stretch."""

from __future__ import annotations

import time
from typing import Any

import lightning
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR

from asr_lstm.lm.neural.network import LanguageModel
from asr_lstm.lm.neural.scores import float_states, score_stream
from asr_lstm.lm.neural.text_units import Ids
from asr_lstm.lm_training.config import LMTrainingConfig
from asr_lstm.lm_training.stretches import Position, Stretch
from asr_lstm.lstm import States
from asr_lstm.schedule import learning_rate_share, make_optimiser, seed_dropout, step_seed


class LanguageTraining(lightning.LightningModule):
    """Trains a language model by truncated backpropagation through time and follows its loss on the dev text.

    Args:
        model: the network.
        config: the optimiser and its schedule.
        dev: the units of the dev text.
        position: counts the updates, for the data.
        seed: of dropout.
    """

    def __init__(
        self, model: LanguageModel, *, config: LMTrainingConfig, dev: Ids, position: Position, seed: int
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.position = position
        self.seed = seed
        self._dev = dev
        self._states: States | None = None
        self._earlier_seconds = 0.0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall clock of training so far, looks at the dev text included."""
        return self._earlier_seconds + time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """Share of the run that is over, in 0 .. 1, by updates or by time, whichever is further."""
        shares = [self.position.update / self.config.updates]
        if self.config.max_minutes:
            shares.append(self.seconds / (60 * self.config.max_minutes))
        return min(1.0, max(shares))

    def on_train_start(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the place, the clock and the memory."""
        checkpoint["update"], checkpoint["train_seconds"] = self.position.update, self.seconds
        checkpoint["memory"] = None if self._states is None else list(self._states)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there."""
        self.position.update, self._earlier_seconds = checkpoint["update"], checkpoint["train_seconds"]
        memory = checkpoint["memory"]
        self._states = None if memory is None else States(*memory)

    def training_step(self, batch: Stretch, batch_index: int) -> Tensor:
        """The loss of one stretch, in nats a unit."""
        # By the update, so that a run gone on with drops what it would have dropped.
        seed_dropout(step_seed(self.seed, 0, self.position.update))
        logits, states = self.model(batch.inputs, states=self._remembered(batch.remembers))
        self._states = float_states(States(states.states.detach(), states.cells.detach()))
        loss = functional.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten())
        self.log("loss", loss.detach(), batch_size=batch.inputs.numel())
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        self.position.update += 1
        if self.config.max_minutes and self.seconds >= 60 * self.config.max_minutes:
            self.trainer.should_stop = True
        return loss

    def _remembered(self, remembers: Tensor) -> States | None:
        if self._states is None:
            return None
        mask = remembers.view(-1, 1)
        return States(*(part.to(mask.device) * mask for part in self._states))

    def validation_step(self, batch: Any, batch_index: int) -> None:
        """Read the whole dev text."""
        self.log("dev_loss", -score_stream(self.model, self._dev).double().mean().float(), batch_size=1)

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """Clip here: Lightning refuses to beside a fused optimiser, although only float16 would need that."""
        clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule."""
        config = self.config
        optimizer = make_optimiser(
            self.model, learning_rate=config.learning_rate, weight_decay=config.weight_decay
        )

        def share(update: int) -> float:
            return learning_rate_share(
                round(self.progress * config.updates),
                total=config.updates,
                warmup=config.warmup,
                final_share=config.final_share,
            )

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, share), "interval": "step"},
        }
