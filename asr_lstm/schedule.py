"""How a model is trained: the settings, the learning rate over time, the precision that suits a machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

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
