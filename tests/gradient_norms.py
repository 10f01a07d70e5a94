"""The norms of the gradients that steps are made with, for tests of clipping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


@contextmanager
def noted_norms() -> Iterator[list[float]]:
    """The norm over all gradients of each step within the block, whichever optimiser makes it."""
    norms: list[float] = []

    # After the step: Lightning runs what clips within it.
    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [weight.grad for group in optimizer.param_groups for weight in group["params"]]
        norms.append(float(torch.cat([one.flatten() for one in gradients if one is not None]).norm()))

    handle = register_optimizer_step_post_hook(note)
    try:
        yield norms
    finally:
        handle.remove()
