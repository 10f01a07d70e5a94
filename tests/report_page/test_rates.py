"""Levels of signals that are known."""

from __future__ import annotations

import numpy as np
import pytest

from asr_lstm.report_page.rates import signal_levels

RATE = 8000


def tone(level: float, seconds: float = 1.0) -> np.ndarray:
    """A sine of so many dB of full scale, where a full-scale square wave has 0 dB."""
    time = np.arange(round(RATE * seconds)) / RATE
    return (10 ** (level / 20) * np.sqrt(2) * np.sin(2 * np.pi * 400 * time)).astype(np.float32)


def test_a_steady_tone_has_its_level_and_no_contrast() -> None:
    assert signal_levels(tone(-20), rate=RATE) == pytest.approx((-20, 0), abs=0.1)


def test_half_speech_half_noise() -> None:
    loudness, ratio = signal_levels(np.concatenate([tone(-50), tone(-15)]), rate=RATE)
    assert loudness == pytest.approx(-15, abs=0.1)
    assert ratio == pytest.approx(35, abs=0.1)


@pytest.mark.parametrize("size", [1, 150, 200, 201, 8000])
def test_silence_of_any_length_is_finite(size: int) -> None:
    loudness, ratio = signal_levels(np.zeros(size, np.float32), rate=RATE)
    assert loudness == pytest.approx(-100)
    assert ratio == 0
