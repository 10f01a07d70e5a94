from __future__ import annotations

import numpy as np
import pytest

from asr_lstm.corpora.rooms import SAMPLE_RATE, Acoustics, active_level, add_room, room_response


def test_room_response_decays_as_asked():
    response = room_response(np.random.default_rng(0), reverberation_time=0.4, direct_to_reverberant=6.0)
    assert response[0] == 1.0
    assert len(response) == 0.4 * SAMPLE_RATE
    assert 10 * np.log10(np.sum(response[1:] ** 2)) == pytest.approx(-6, abs=0.01)
    # Schroeder's backward integral from 50 to 300 ms falls 60 dB in 0.4 s, hence 37.5 dB.
    energy = 10 * np.log10(np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1])
    assert energy[800] - energy[4800] == pytest.approx(37.5, abs=2)


@pytest.mark.parametrize("snr", [10.0, 30.0])
def test_noise_and_level(snr):
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    acoustics = Acoustics((0.1, 0.1), (60, 60), (snr, snr), (0, 0), (-20, -20), (0.5, 0.5))
    wave = add_room(tone, acoustics, np.random.default_rng(3))
    assert len(wave) == 2 * SAMPLE_RATE
    noise = np.sqrt(np.mean(wave[:7000].astype(np.float64) ** 2))  # the half second before the tone
    level = active_level(wave[9000:23000])
    assert 10 * np.log10((level**2 - noise**2) / noise**2) == pytest.approx(snr, abs=0.4)
    assert 10 * np.log10(level**2 - noise**2) == pytest.approx(-20, abs=0.4)


@pytest.mark.parametrize(("colour", "slope"), [(0.0, 0.0), (1.0, -3.0), (2.0, -6.0)])
def test_noise_colour(colour, slope):
    click = np.zeros(4 * SAMPLE_RATE, np.float32)
    click[100:110] = 1e-3
    acoustics = Acoustics((0.1, 0.1), (60, 60), (-60, -60), (colour, colour), (-20, -20), (0.1, 0.1))
    spectrum = np.abs(np.fft.rfft(add_room(click, acoustics, np.random.default_rng(1)))) ** 2
    hertz = np.fft.rfftfreq(2 * len(spectrum) - 2, 1 / SAMPLE_RATE)
    low, high = (spectrum[(hertz >= f) & (hertz < 2 * f)].mean() for f in (400, 3200))
    assert 10 * np.log10(high / low) / 3 == pytest.approx(slope, abs=0.5)  # dB an octave


def test_loud_speech_is_not_clipped():
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[::4000] = 1.0
    acoustics = Acoustics(level=(-3, -3))
    wave = add_room(click, acoustics, np.random.default_rng(0))
    assert np.abs(wave).max() == pytest.approx(0.99, abs=1e-4)
