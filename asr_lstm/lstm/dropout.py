"""Variational dropout: one mask a sequence, held over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def sequence_mask(*shape: int, rate: float, like: Tensor) -> Tensor:
    """Draw an inverted-dropout mask: 0 with probability `rate`, else 1 / (1 - rate), so the mean is 1.

    Args:
        shape: of the mask; it has no time axis, which is what makes the dropout variational.
        rate: probability of a zero.
        like: a tensor whose device and type the mask takes.
    """
    return torch.empty(shape, device=like.device, dtype=like.dtype).bernoulli_(1 - rate).div_(1 - rate)


def check_rate(rate: float, *, name: str) -> float:
    """Return `rate`, or raise a ValueError naming it where it is not in [0, 1)."""
    if not 0 <= rate < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, not {rate}")
    return rate


class LockedDropout(nn.Module):
    """Dropout whose mask is the same at each frame of a sequence and differs between sequences.

    Source: Gal & Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks" (arXiv 1512.05287), section 4: the mask z_x on the inputs of a layer. In evaluation it is the
    identity.

    Args:
        rate: probability that a dimension of a sequence is zeroed.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = check_rate(rate, name="rate")

    def forward(self, inputs: Tensor) -> Tensor:
        """Mask inputs (batch, frames, dims)."""
        if not self.training or self.rate == 0:
            return inputs
        batch, _, dims = inputs.shape
        return inputs * sequence_mask(batch, 1, dims, rate=self.rate, like=inputs)

    def extra_repr(self) -> str:
        """The rate, for print(module)."""
        return f"rate={self.rate}"
