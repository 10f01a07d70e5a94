"""Rooms against a loop and against Eyring's formula; G.711 against libsndfile's; the telephone's band."""

from __future__ import annotations

import io
import itertools
import math
from typing import get_args

import numpy as np
import pytest
import soundfile

from asr_lstm.acoustics import (
    SPEED_OF_SOUND,
    Filters,
    Law,
    compand,
    draw_room,
    room_response,
    telephone,
    wall_reflection,
)

RATE = 16_000
LAWS = get_args(Law)
SIZE, SOURCE, MICROPHONE = (4.0, 3.1, 2.5), (1.0, 2.2, 1.6), (2.9, 0.8, 1.1)


def noise(samples: int, *, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def image_loop(*, reflection: float, samples: int, rate: int) -> np.ndarray:
    """Equation 10 of Allen and Berkley and the filter of their appendix, term by term."""
    response = np.zeros(samples)
    most = 6
    for p in itertools.product((0, 1), repeat=3):
        for r in itertools.product(range(-most, most + 1), repeat=3):
            squared, gain = 0.0, 1.0
            for axis in range(3):
                image = (
                    SOURCE[axis] - MICROPHONE[axis] - 2 * p[axis] * SOURCE[axis] + 2 * r[axis] * SIZE[axis]
                )
                squared += image**2
                gain *= reflection ** (abs(r[axis] - p[axis]) + abs(r[axis]))
            arrival = round(math.sqrt(squared) / SPEED_OF_SOUND * rate)
            if arrival < samples:
                response[arrival] += gain / (4 * math.pi * math.sqrt(squared))
    w = 2 * math.pi * 100 / rate
    r1 = math.exp(-w)
    b1, b2, a1 = 2 * r1 * math.cos(w), -r1 * r1, -(1 + r1)
    y1 = y2 = 0.0
    filtered = []
    for x in response:
        y0 = b1 * y1 + b2 * y2 + x
        filtered.append(y0 + a1 * y1 + r1 * y2)
        y1, y2 = y0, y1
    return np.array(filtered)


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("reflection", [0.0, 0.6, 0.95])
def test_a_room_is_the_sum_over_all_images(reflection: float, rate: int) -> None:
    samples = rate // 16  # 21 m: six rooms to each side are more than enough
    own = room_response(SIZE, SOURCE, MICROPHONE, reflection=reflection, seconds=samples / rate, rate=rate)
    assert own.dtype == np.float32
    np.testing.assert_allclose(
        own, image_loop(reflection=reflection, samples=samples, rate=rate), rtol=0, atol=1e-7
    )


def decay_seconds(response: np.ndarray, *, rate: int) -> float:
    """Time to fall by 60 dB, from the slope between -5 and -25 dB of the energy still to come (Schroeder 1965)."""
    energy = np.cumsum(response[::-1].astype(float) ** 2)[::-1]
    level = 10 * np.log10(energy / energy[0])
    fitted = np.flatnonzero((level < -5) & (level > -25))
    return float(-60 / np.polyfit(fitted / rate, level[fitted], 1)[0])


@pytest.mark.parametrize("seconds", [0.2, 0.4, 0.8])
@pytest.mark.parametrize("size", [(3.0, 2.5, 2.4), (5.0, 4.0, 3.0), (9.0, 7.0, 3.5)])
def test_rooms_decay_as_eyring_says(size: tuple[float, float, float], seconds: float) -> None:
    """Within 40 %: equal walls hold sound that runs along the longest axis longer than a diffuse field would."""
    reflection = wall_reflection(size, decay_seconds=seconds)
    places = np.array(size) * [0.3, 0.4, 0.45], np.array(size) * [0.7, 0.35, 0.6]
    response = room_response(size, *places, reflection=reflection, seconds=1.2 * seconds, rate=RATE)
    assert 0.9 < decay_seconds(response, rate=RATE) / seconds < 1.4


def test_a_lively_room_decays_as_sabine_says_too() -> None:
    size, seconds = np.array([5.0, 4.0, 3.0]), 1.0
    absorption = 1 - wall_reflection(size, decay_seconds=seconds) ** 2
    surface = 2 * (size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
    assert 0.161 * size.prod() / (surface * absorption) == pytest.approx(seconds, rel=0.1)


def test_sound_cannot_be_outside_the_room() -> None:
    with pytest.raises(ValueError, match="in the room"):
        room_response(SIZE, (1.0, 3.2, 1.0), MICROPHONE, reflection=0.5, seconds=0.1, rate=RATE)


def test_drawn_rooms_begin_with_the_straight_sound_and_differ() -> None:
    random = np.random.default_rng(0)
    rooms = [draw_room(random, decay_seconds=0.3, rate=8000) for _ in range(30)]
    assert all(room[0] >= 1 / (4 * math.pi * 3.05) and np.isfinite(room).all() for room in rooms)
    assert len({room.tobytes() for room in rooms}) == len(rooms)
    assert 0.25 < np.median([decay_seconds(room, rate=8000) for room in rooms]) < 0.42
    again = draw_room(np.random.default_rng(0), decay_seconds=0.3, rate=8000)
    assert np.array_equal(again, rooms[0])


@pytest.mark.parametrize("delay", [0, 7])
@pytest.mark.parametrize("samples", [1, 99, 16384, 16385, 50_000])
def test_filters_convolve(samples: int, delay: int) -> None:
    audio = noise(samples)
    responses = [noise(50, seed=1), noise(9000, seed=2), np.array([0, 1, 0], np.float32)]
    filters = Filters(responses, delay=delay)
    assert len(filters) == 3
    before = audio.copy()
    for index, response in enumerate(responses):
        expected = np.convolve(np.pad(audio.astype(float), (0, delay)), response)[delay : delay + samples]
        filtered = filters(audio, index)
        assert filtered.dtype == np.float32
        np.testing.assert_allclose(filtered, expected, rtol=0, atol=1e-5)
    assert np.array_equal(audio, before)


@pytest.mark.parametrize(("law", "subtype"), [("mu", "ULAW"), ("a", "ALAW")])
def test_g711_is_libsndfiles_at_each_of_the_16_bit_levels(law: Law, subtype: str) -> None:
    levels = np.arange(-32767, 32768, dtype=np.int16)
    file = io.BytesIO()
    soundfile.write(file, levels, 8000, subtype=subtype, format="WAV")
    file.seek(0)
    expected, _ = soundfile.read(file, dtype="int16")
    assert np.array_equal(compand(levels / np.float32(32767), law=law) * 32768, expected)


@pytest.mark.parametrize(("law", "unit", "last", "first"), [("mu", 4, 8031, 0), ("a", 8, 4032, 1)])
def test_g711_has_256_values_and_the_published_outermost_ones(
    law: Law, unit: int, last: int, first: int
) -> None:
    """The decoder output values y128 and y1 of the tables 2a and 1a, in units of 14 and 13 bits."""
    values = np.unique(np.abs(compand(np.linspace(-2, 2, 200_001, dtype=np.float32), law=law)))
    assert len(values) == 128
    assert values[-1] * 32768 / unit == last
    assert values[0] * 32768 / unit == first


@pytest.mark.parametrize("law", LAWS)
def test_the_telephone_passes_its_band_and_nothing_else(law: Law) -> None:
    def level(hertz: float) -> float:
        tone = 0.5 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE).astype(np.float32)
        heard = telephone(tone, rate=RATE, law=law)[1000:-1000]
        return float(10 * np.log10(np.mean(heard**2) / np.mean(tone**2)))

    for hertz in (420, 1000, 2000, 3200):
        assert level(hertz) == pytest.approx(0, abs=0.5)
    for hertz in (300, 3400):
        assert level(hertz) == pytest.approx(-6, abs=1.5)
    for hertz in (60, 130, 3600, 4500, 7000):
        assert level(hertz) < -30


def test_the_telephone_keeps_everything_in_its_place() -> None:
    """What is in the band comes through with the noise of 8 bits, some 38 dB below, and without a delay."""
    spectrum = np.fft.rfft(noise(RATE))
    frequencies = np.fft.rfftfreq(RATE, 1 / RATE)
    spectrum[(frequencies < 450) | (frequencies > 3200)] = 0
    audio = np.fft.irfft(spectrum).astype(np.float32)
    for law in LAWS:
        error = telephone(audio, rate=RATE, law=law) - audio
        assert 10 * np.log10(np.mean(audio**2) / np.mean(error[500:-500] ** 2)) > 33


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("rate", [6000, 8000, 11025, 16000, 44100])
def test_the_telephone_takes_any_rate_and_length(rate: int, law: Law) -> None:
    for samples in (1, 2, 7, rate // 100, rate // 3 + 1):
        for audio in (noise(samples), np.zeros(samples, np.float32), np.ones(samples, np.float32)):
            before = audio.copy()
            heard = telephone(audio, rate=rate, law=law)
            assert heard.dtype == np.float32
            assert heard.shape == audio.shape
            assert np.isfinite(heard).all()
            assert np.abs(heard).max() <= 1
            assert np.array_equal(audio, before)
