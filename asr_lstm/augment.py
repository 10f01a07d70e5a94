"""Augmentation of training data; each draw is a function of a seed, not of workers or batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to training data, and to nothing else.

    Attributes:
        speed: how far the playing speed strays from 1 either way (0.1: 0.9 to 1.1); pitch moves with it.
        frequency_masks: bands hidden in each utterance (SpecAugment).
        frequency_width: the widest such band, as a share of all bands.
        time_masks: stretches hidden in each utterance.
        time_width: the longest such stretch, in frames of the encoder.
        time_share: at most this share of an utterance in one stretch.
    """

    speed: float = 0.1
    frequency_masks: int = 2
    frequency_width: float = 0.2
    time_masks: int = 2
    time_width: int = 10
    time_share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.speed < 0.5:
            raise ValueError(f"augment.speed must be at least 0 and below 0.5, not {self.speed}")
        for name in ("frequency_masks", "time_masks", "time_width"):
            if getattr(self, name) < 0:
                raise ValueError(f"augment.{name} must not be below 0, but is {getattr(self, name)}")
        for name in ("frequency_width", "time_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} must lie in 0 .. 1, not {getattr(self, name)}")


def change_speed(audio: NDArray[np.float32], *, factor: float) -> NDArray[np.float32]:
    """Play audio (samples,) `factor` times as fast, as a tape would: its pitch rises by the factor.

    Source: Ko et al. 2015, "Audio Augmentation for Speech Recognition".
    """
    if factor == 1:
        return audio
    import soxr

    # Only the ratio of the two rates counts. Medium quality keeps the speech band clean at half the time.
    return np.asarray(soxr.resample(audio, factor, 1.0, quality="MQ"), dtype=np.float32)


def draw_speed(seed: int, *, spread: float) -> float:
    """A speed uniform in 1 - spread .. 1 + spread, a function of the seed."""
    return float(np.random.default_rng(seed).uniform(1 - spread, 1 + spread)) if spread else 1.0


class SpecAugment(nn.Module):
    """Hides random bands and stretches of the features of each utterance; in evaluation the identity.

    Source: Park et al. 2019, "SpecAugment" (arXiv 1904.08779), section 2, without time warping. What is
    hidden becomes 0, the mean of normalised features.

    Args:
        config: how much.
        bands: dims of an unstacked frame; a band is hidden in all frames stacked into one.
    """

    def __init__(self, config: AugmentConfig, *, bands: int) -> None:
        super().__init__()
        self.config = config
        self.bands = bands

    def forward(self, features: Tensor, lengths: Tensor, seeds: Tensor) -> Tensor:
        """Mask features (batch, frames, dims) of these lengths (batch,), each by its own seed (batch,)."""
        masks = self.config.frequency_masks + self.config.time_masks
        if not self.training or masks == 0:
            return features
        keep = torch.ones(*features.shape[:2], 1, self.bands)
        for row, length, seed in zip(keep, lengths.tolist(), seeds.tolist(), strict=True):
            draws = torch.rand(masks, 2, generator=torch.Generator().manual_seed(seed)).tolist()
            widest = self.config.frequency_width * self.bands
            for width, place in draws[: self.config.frequency_masks]:
                first, last = _stretch(width * widest, place, self.bands)
                row[:, :, first:last] = 0
            longest = min(self.config.time_width, self.config.time_share * length)
            for width, place in draws[self.config.frequency_masks :]:
                first, last = _stretch(width * longest, place, length)
                row[first:last] = 0
        stacked = features.view(*features.shape[:2], -1, self.bands)
        return (stacked * keep.to(features)).view_as(features)


def _stretch(width: float, place: float, size: int) -> tuple[int, int]:
    """A stretch of `width`, rounded, at the share `place` of the room it has within `size`."""
    whole = min(round(width), size)
    first = int(place * (size - whole + 1))
    return first, first + whole
