"""Where synthetic speech is heard: a random room, background noise, a level. Numpy alone, quick to import."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz of what is written; espeak-ng itself speaks at 22 050
Wave = NDArray[np.float32]


@dataclass(frozen=True)
class Acoustics:
    """The ranges from which each utterance draws its room, noise and level, uniformly.

    Attributes:
        reverberation_time: seconds in which the room's sound falls by 60 dB.
        direct_to_reverberant: dB of the direct sound over everything the room adds.
        signal_to_noise: dB of the speech (where it is not silent) over the background noise.
        noise_colour: exponent a of the noise's power spectrum 1 / f^a: 0 is white, 1 pink, 2 brown.
        level: dBFS of the speech where it is not silent.
        silence: seconds of background before and after the speech.
    """

    reverberation_time: tuple[float, float] = (0.1, 0.3)
    direct_to_reverberant: tuple[float, float] = (8.0, 20.0)
    signal_to_noise: tuple[float, float] = (20.0, 40.0)
    noise_colour: tuple[float, float] = (0.5, 2.0)
    level: tuple[float, float] = (-30.0, -16.0)
    silence: tuple[float, float] = (0.1, 0.3)


def resample(wave: Wave, source: int, target: int = SAMPLE_RATE) -> Wave:
    """Change the sampling rate of `wave` (samples,) from `source` to `target` Hz by soxr."""
    # soxr comes with librosa and, unlike it or scipy.signal, is imported in no time.
    import soxr

    return np.asarray(soxr.resample(wave, source, target), dtype=np.float32)


def room_response(
    rng: np.random.Generator, *, reverberation_time: float, direct_to_reverberant: float
) -> Wave:
    """Return a random room's impulse response (samples,) at 16 kHz; the direct sound is 1 at sample 0.

    Polack's statistical model (J.-D. Polack, La transmission de l'énergie sonore dans les salles, 1988):
    white noise under an exponential that falls by 60 dB in `reverberation_time` seconds. Before the mixing
    time a real response is sparse, so the first 20 ms keep only a few of their samples, as reflections.
    `direct_to_reverberant` is in dB.
    """
    size = max(2, round(reverberation_time * SAMPLE_RATE))
    time = np.arange(size) / SAMPLE_RATE
    tail = rng.standard_normal(size) * np.exp(-3 * np.log(10) * time / reverberation_time)
    early = time < 0.02
    tail[early] *= rng.random(int(early.sum())) < 0.05
    tail[: round(0.001 * SAMPLE_RATE)] = 0.0  # no wall stands within 17 cm of the direct path
    tail *= 10 ** (-direct_to_reverberant / 20) / max(float(np.linalg.norm(tail)), 1e-9)
    tail[0] = 1.0
    response: Wave = tail.astype(np.float32)
    return response


def add_room(wave: Wave, acoustics: Acoustics, rng: np.random.Generator) -> Wave:
    """Return `wave` (samples,) at 16 kHz as heard in a random room with noise; never clipped."""
    draw = {name: float(rng.uniform(*limits)) for name, limits in asdict(acoustics).items()}
    before, after = (round(float(rng.uniform(*acoustics.silence)) * SAMPLE_RATE) for _ in range(2))
    response = room_response(
        rng,
        reverberation_time=draw["reverberation_time"],
        direct_to_reverberant=draw["direct_to_reverberant"],
    )
    size = before + len(wave) + after
    length = _fast_length(size + len(response))
    padded = np.zeros(length, np.float32)
    padded[before : before + len(wave)] = wave
    spectrum = np.fft.rfft(padded) * np.fft.rfft(response, length)
    speech = np.fft.irfft(spectrum, length)[:size]
    # Coloured noise: a white spectrum times f^(-a/2), flat below 50 Hz so that no energy hides down there.
    white = rng.standard_normal(length + 2, dtype=np.float32).view(np.complex64)
    frequency = np.maximum(np.fft.rfftfreq(length, 1 / SAMPLE_RATE), 50.0).astype(np.float32)
    noise = np.fft.irfft(white * frequency ** np.float32(-draw["noise_colour"] / 2), length)[:size]
    loudness = active_level(speech)
    noise *= loudness * 10 ** (-draw["signal_to_noise"] / 20) / float(np.sqrt(np.mean(noise**2)))
    mixed = (speech + noise) * (10 ** (draw["level"] / 20) / loudness)
    return (mixed * min(1.0, 0.99 / float(np.abs(mixed).max()))).astype(np.float32)


def active_level(wave: NDArray[Any]) -> float:
    """Return the root mean square of those 20 ms blocks of `wave` that are within 30 dB of the loudest."""
    block = round(0.02 * SAMPLE_RATE)
    count = max(1, len(wave) // block)
    power = np.mean(np.resize(wave, count * block).reshape(count, block).astype(np.float64) ** 2, axis=1)
    return float(np.sqrt(power[power >= 1e-3 * power.max()].mean()))


def _fast_length(size: int) -> int:
    """Return the smallest 2^a or 3 * 2^a from `size` up: lengths at which the FFT is fast."""
    power = 1 << max(0, (size - 1).bit_length())
    return power * 3 // 4 if power * 3 // 4 >= size else power
