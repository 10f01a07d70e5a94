"""Synthetic speech for tests: each letter a tone, sung without a pause between words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 8000
LETTERS = "abcde"
_PITCHES = {
    letter: 300.0 * 1.5**index for index, letter in enumerate(f" {LETTERS}")
}  # Hz, each its own mel band
_LETTER_SECONDS = 0.08
_GAP_SECONDS = 0.04  # after each letter, so that two equal ones are two
_SILENCE_SECONDS = 0.16  # before and after

Samples = NDArray[np.float32]


def sing(text: str, *, rate: int = RATE, seed: int = 0, noise: float = 1e-3) -> Samples:
    """Synthetic speech for the tiny recogniser, (samples,): each letter, and the space, a tone.

    A `noise` (deviation) of 0.1 makes it err.
    """
    tone = np.arange(round(rate * _LETTER_SECONDS)) / rate
    gap = np.zeros(round(rate * _GAP_SECONDS))
    silence = np.zeros(round(rate * _SILENCE_SECONDS))
    parts = [part for letter in text for part in (0.4 * np.sin(2 * np.pi * _PITCHES[letter] * tone), gap)]
    samples = np.concatenate([silence, *parts, silence])
    samples += np.random.default_rng(seed).normal(scale=noise, size=len(samples))
    return samples.astype(np.float32)


def random_text(random: np.random.Generator, *, words: int) -> str:
    """Some words of 1 to 4 letters."""
    return " ".join("".join(random.choice(list(LETTERS), size=random.integers(1, 5))) for _ in range(words))
