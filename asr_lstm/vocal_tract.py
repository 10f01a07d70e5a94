"""Vocal-tract-length perturbation: training utterances heard through mel filters of a longer or shorter throat."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

# One warp more would be heard by no one: with a spread of 0.1 they lie 1 % apart.
_WARPS = 21
# Share of half the rate up to which frequencies are simply multiplied, the paper's 4800 Hz at 16 kHz: it covers
# the formants that tell vowels apart.
_STRAIGHT_SHARE = 0.6
_STREAM = 5  # of an utterance's seed; `asr_lstm.augment` uses those before


def warp_frequencies(hertz: Tensor, *, factor: float, rate: float) -> Tensor:
    """Where frequencies (Hz) stand after the warp; 0 and half the rate stay in place.

    Source: Jaitly and Hinton 2013, "Vocal Tract Length Perturbation (VTLP) improves speech recognition",
    section 3: f * factor up to F min(factor, 1) / factor, and straight on from there to half the rate.
    """
    top = rate / 2
    bend = _STRAIGHT_SHARE * top * min(factor, 1.0)
    above = top - (top - bend) / (top - bend / factor) * (top - hertz)
    return torch.where(hertz <= bend / factor, hertz * factor, above)


def mel_filters(*, bins: int, mels: int, low_hz: float, high_hz: float, rate: int, factor: float) -> Tensor:
    """Triangular filters (bins, mels), evenly spaced in mels (HTK) before their corners are warped by `factor`."""
    corners = torch.linspace(_mel(low_hz), _mel(high_hz), mels + 2)
    corners = warp_frequencies(700.0 * (10.0 ** (corners / 2595.0) - 1.0), factor=factor, rate=rate)
    distances = corners[None] - torch.linspace(0, rate // 2, bins)[:, None]
    widths = corners.diff()
    falling = -distances[:, :-2] / widths[:-1]
    rising = distances[:, 2:] / widths[1:]
    return torch.minimum(falling, rising).clamp(min=0)


def _mel(hertz: float) -> float:
    return 2595.0 * math.log10(1.0 + hertz / 700.0)


class VocalTract(nn.Module):
    """Mel energies by filters whose frequencies are warped by a factor of each utterance's own.

    Args:
        spread: factors lie within 1 - spread .. 1 + spread.
        bins: of the spectrum.
        mels: bands.
        low_hz: lower edge of the lowest band, before the warp.
        high_hz: upper edge of the highest band, before the warp.
        rate: of the audio, in Hz.
    """

    filters: Tensor

    def __init__(
        self, spread: float, *, bins: int, mels: int, low_hz: float, high_hz: float, rate: int
    ) -> None:
        super().__init__()
        factors = np.linspace(1 - spread, 1 + spread, _WARPS).tolist()
        filters = [
            mel_filters(bins=bins, mels=mels, low_hz=low_hz, high_hz=high_hz, rate=rate, factor=factor)
            for factor in factors
        ]
        # Not persistent: a trained model hears without them.
        self.register_buffer("filters", torch.stack(filters), persistent=False)

    def forward(self, spectrum: Tensor, seeds: Tensor) -> Tensor:
        """Power spectra (batch, frames, bins) to (batch, frames, mels), each by its own seed (batch,)."""
        warps = [int(np.random.default_rng([seed, _STREAM]).integers(_WARPS)) for seed in seeds.tolist()]
        return torch.bmm(spectrum, self.filters[warps])
