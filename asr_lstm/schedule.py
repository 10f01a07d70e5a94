"""How a model is trained: the settings, the learning rate over time, the precision that suits a machine.

The rule for the learning rate, instead of a search for it: 2e-3 at the end of the warm-up, for batches of about a
minute. For batches k times as long take sqrt(k) times as much, which keeps the noise of Adam's updates (Malladi et al.
2022, "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms", arXiv 2205.10287). Small models bear
more: 3e-3 to 5e-3 below 100 units a direction. Where the loss jumps up and stays there, halve it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.optim import AdamW

from asr_lstm.errors import ConfigError


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
        patience: stop after so many epochs without fewer errors on dev: the sum of WER and CER.
        precision: Lightning's word: `32-true`, or `bf16-mixed` for bfloat16 products with float32 CTC; `auto`
            takes the latter where the processor or GPU has instructions for it.
        device: Lightning's accelerator: `cpu`, `gpu` or `auto`.
        deterministic: make a GPU come to the same weights each time, more slowly: CTC is then computed on the CPU. A
            CPU always does.
        devices: processes on each machine, each with a GPU of its own, or a share of the cores. A batch of each of
            them makes an update.
        num_nodes: machines; from two up `torchrun` starts the processes, see docs/training.md.
        accumulate: batches of each process that make an update. Four of one process, two of two and one of four
            are the same training.
        recompute: compute each layer twice instead of keeping what its backward pass needs; for long utterances.
        tolerate_share: of the utterances drawn so far that may have become unreadable; more end training.
        stop_after_nonfinite: updates in a row whose loss or gradient is not finite that end training; until then
            they are skipped.
        init: folder of a trained bundle to begin from, its encoder and the units that it shares; "" for chance.
            The normalisation of the front end is fitted anew.
        checkpoint_minutes: how often to save within an epoch what a killed run goes on from.
        average: share of a moving average of the weights that an update leaves, such as 0.999; what is then
            judged and kept is the average. 0 for none.
        average_best: so many of the best epochs are averaged at the end, if that is no worse on dev.
        max_minutes: of training, the judging on dev included; the schedule is planned to end on time, from the
            measured speed. 0 for as long as the epochs take; they remain the most.
        dropout_epochs: over so many epochs dropout of every kind rises from none to the encoder's rates, a step each
            epoch; 0 for these from the first update on. What was heard a few times is not yet learned by heart, so
            that it is epochs that count, whether there is time for more or not. Zoneout does not rise.
        errors: share of the last layer's loss that is, towards the end, the errors which its text may be expected to
            have, such as 0.9; the rest is CTC. 0 for CTC alone.
        errors_from: share of all updates after which they count: a model has to know much by then.
        intermediate: share of the loss that is the CTC loss of the middle layer, through the same output layer, such
            as 0.3; 0 for none. Nothing is added to the model.
        consistency: weight of the divergence between two views of each utterance, which differ in their masks and in
            their dropout, such as 0.2 (CR-CTC); 0 for one view. Two take up to twice the time and memory; more
            `augment.time_masks` than usual go with it.
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
    deterministic: bool = False
    devices: int = 1
    num_nodes: int = 1
    accumulate: int = 1
    recompute: bool = False
    tolerate_share: float = 0.01
    stop_after_nonfinite: int = 10
    init: str = ""
    checkpoint_minutes: float = 5.0
    average: float = 0.0
    average_best: int = 1
    max_minutes: float = 0.0
    dropout_epochs: int = 0
    errors: float = 0.0
    errors_from: float = 0.8
    intermediate: float = 0.0
    consistency: float = 0.0

    def __post_init__(self) -> None:
        for name in (
            "epochs",
            "patience",
            "average_best",
            "accumulate",
            "devices",
            "num_nodes",
            "stop_after_nonfinite",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be at least 1, not {getattr(self, name)}")
        for name in ("learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"training.{name} must be above 0, not {getattr(self, name)}")
        for name in ("final_share", "warmup", "tolerate_share", "errors"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"training.{name} must lie in 0 .. 1, not {getattr(self, name)}")
        for name in ("weight_decay", "checkpoint_minutes", "max_minutes", "consistency", "dropout_epochs"):
            if getattr(self, name) < 0:
                raise ValueError(f"training.{name} must not be below 0, but is {getattr(self, name)}")
        for name in ("average", "errors_from", "intermediate"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be at least 0 and below 1, not {getattr(self, name)}")

    @property
    def views(self) -> int:
        """How often each utterance of a batch is run, each time with other masks."""
        return 2 if self.consistency else 1


def choose_precision(config: TrainingConfig) -> Literal["32-true", "bf16-mixed"]:
    """What `auto` stands for on this machine."""
    if config.precision != "auto":
        return config.precision
    if torch_device(config) == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    # torch tells what the processor has in functions that are not yet public: where they are gone, float32.
    tests = [getattr(torch.cpu, f"_is_{name}_supported", bool) for name in ("avx512_bf16", "amx_tile")]
    return "bf16-mixed" if any(test() for test in tests) else "32-true"


def torch_device(config: TrainingConfig) -> str:
    """Torch's name of the device that the settings mean on this machine.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    if config.device == "gpu" and not torch.cuda.is_available():
        raise ConfigError("training.device is gpu, but torch finds none here; say cpu or auto")
    return "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"


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


def dropout_share(epoch: int, *, rise: int) -> float:
    """Share of the dropout rates in an epoch: a linear rise from none.

    That dropout should grow as training goes on is Morerio et al. 2017, "Curriculum Dropout" (arXiv 1703.06229), who
    let it approach its rate exponentially (equation 4).

    Args:
        epoch: from 0.
        rise: epochs in which it rises; 0 for none.
    """
    return min(1.0, epoch / rise) if rise else 1.0


# Tells the seeds of batches from those of utterances (`asr_lstm.batching.draw_seed`).
_DROPOUT = 1
# Updates after which the speed is known well enough to plan by it.
_MEASURED_UPDATES = 10
# Of the time, kept back for judging the last weights on dev, as long as that was never measured.
_JUDGING_SHARE = 0.05


def updates_in_time(
    updates: int, *, most: int, seconds: float, judging_seconds: float | None, budget_seconds: float
) -> int:
    """How many updates a run of limited time will have had at its end.

    Args:
        updates: done so far.
        most: what the epochs ask for.
        seconds: that these took, judging on dev included.
        judging_seconds: what judging took the last time; None before the first.
        budget_seconds: for the whole run.

    Returns:
        a number from 1 to `most`; at or below `updates` when the time is over.
    """
    reserve = _JUDGING_SHARE * budget_seconds if judging_seconds is None else judging_seconds
    left = budget_seconds - reserve - seconds
    if left <= 0:
        return max(1, min(updates, most))
    if updates < _MEASURED_UPDATES:
        return most
    return max(1, min(most, updates + int(left / seconds * updates)))


def step_seed(seed: int, epoch: int, position: int) -> int:
    """A 63-bit seed for the dropout of one batch, so that a run gone on with draws what it would have drawn.

    Args:
        seed: of the run.
        epoch: from 0.
        position: of the batch within the epoch.
    """
    words = np.random.SeedSequence([seed, epoch, position, _DROPOUT]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def seed_dropout(seed: int) -> None:
    """Seed the generators that dropout draws from, as `torch.manual_seed` does.

    That function also notes, for each kind of device that is not in use, who called it: half a millisecond a batch.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def make_optimiser(model: nn.Module, *, learning_rate: float, weight_decay: float) -> AdamW:
    """AdamW for all parameters of a model; those of one dimension (biases, normalisation) are not decayed.

    The LSTM layers' own biases, peepholes and gains inside the cell, which have one for each direction, are.
    """
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    free = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=learning_rate, fused=True)
