"""How a language model is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LMTrainingConfig:
    """How a language model is trained.

    Attributes:
        updates: at most so many.
        max_minutes: end training after this time; the learning rate falls with the time, too, so that it ends well.
            0 for no limit.
        batch: places at which the text is read at once.
        window: units from each place to an update; what came before is remembered, but no gradient reaches it.
        learning_rate: at the end of the warm-up.
        final_share: of that learning rate, at the very end; a cosine leads there.
        warmup: share of the run over which the learning rate rises.
        weight_decay: of AdamW.
        gradient_clip: largest norm of the gradient of all weights together.
        dev_every: updates between two looks at the dev text.
        patience: stop after so many looks without a better one.
        precision: Lightning's word: `32-true`, `bf16-mixed`, or `auto` for what suits the machine.
        device: Lightning's accelerator: `cpu`, `gpu` or `auto`.
    """

    updates: int = 4000
    max_minutes: float = 0.0
    batch: int = 32
    window: int = 128
    learning_rate: float = 3e-3
    final_share: float = 0.01
    warmup: float = 0.05
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    dev_every: int = 250
    patience: int = 10
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    device: Literal["cpu", "gpu", "auto"] = "cpu"

    def __post_init__(self) -> None:
        for name in ("updates", "batch", "window", "dev_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be at least 1, not {getattr(self, name)}")
        for name in ("learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"training.{name} must be above 0, not {getattr(self, name)}")
        for name in ("final_share", "warmup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"training.{name} must lie in 0 .. 1, not {getattr(self, name)}")
        for name in ("weight_decay", "max_minutes"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"training.{name} must not be below 0, but is {getattr(self, name)}")
