"""Noise for training data: synthetic colours or a folder of recordings, at a given signal-to-noise ratio."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr_lstm.audio import audio_info, read_audio
from asr_lstm.errors import AudioError, DataError

log = logging.getLogger(__name__)

# Power over frequency, as the exponent: 0 is an amplifier's hiss, -1 much of what nature makes, -2 wind and
# traffic through a wall, 1 a bad cable.
COLOURS = {"blue": 1.0, "white": 0.0, "pink": -1.0, "brown": -2.0}
# Below stands nothing of speech, but nearly all the power of brown noise: at 10 dB it would be no disturbance.
_LOWEST_HZ = 50.0
# Of each colour; a stretch begins at any sample of it and goes on round its end, which joins its beginning.
_COLOUR_SECONDS = 30.0

# What is kept of a folder's recordings, 58 MB at 16 kHz; of each at least a stretch as long as an utterance.
_FOLDER_SECONDS = 1800.0
_LEAST_SECONDS = 10.0
_SHOWN = 3  # of the files that cannot be used

_FULL_SCALE = 32767  # each clip's peak: 16 bits are enough, and only its shape counts

Samples = NDArray[np.float32]


class NoisePool:
    """Clips of noise in memory, from which stretches of any length are drawn.

    Args:
        clips: (samples,) each, not silent, at any level.
    """

    def __init__(self, clips: Sequence[Samples]) -> None:
        self._clips = [np.rint(clip * (_FULL_SCALE / np.abs(clip).max())).astype(np.int16) for clip in clips]

    def draw(self, random: np.random.Generator, *, samples: int) -> Samples:
        """A stretch (samples,) from a random place of a random clip, going on from its beginning where it ends."""
        clip = self._clips[random.integers(len(self._clips))]
        start = random.integers(len(clip))
        stretch = clip[start : start + samples]
        if len(stretch) < samples:
            stretch = np.concatenate([stretch, np.resize(clip, samples - len(stretch))])
        drawn: Samples = stretch.astype(np.float32)
        return drawn


def coloured_noise(colour: str, *, samples: int, rate: int, seed: int) -> Samples:
    """Gaussian noise (samples,) whose power rises or falls with frequency as `COLOURS` says; mean square 1.

    Its end joins its beginning without a seam, and below 50 Hz there is nothing.
    """
    white = np.random.default_rng([seed, *colour.encode()]).standard_normal(samples)
    frequencies = np.fft.rfftfreq(samples, 1 / rate)
    audible = frequencies >= _LOWEST_HZ
    shape = np.zeros_like(frequencies)
    shape[audible] = frequencies[audible] ** (COLOURS[colour] / 2)
    shaped = np.fft.irfft(np.fft.rfft(white) * shape, samples)
    noise: Samples = (shaped / np.sqrt(np.mean(shaped**2))).astype(np.float32)
    return noise


def synthetic_noise(*, rate: int, seed: int) -> NoisePool:
    """A pool of all colours."""
    samples = round(_COLOUR_SECONDS * rate)
    return NoisePool([coloured_noise(colour, samples=samples, rate=rate, seed=seed) for colour in COLOURS])


def recorded_noise(folder: str | Path, *, rate: int, seed: int) -> NoisePool:
    """A pool of the recordings in a folder and below, at most half an hour of them, each with its share.

    Files that cannot be read, and silent ones, are passed over and named in one warning.

    Args:
        folder: of audio files of any kind and rate.
        rate: of the pool, in Hz.
        seed: decides which stretches, and which files where there are more than the pool holds.

    Raises:
        DataError: the folder isn't there or holds no recording that can be used.
    """
    folder = Path(folder)
    paths = list(_files(folder))
    random = np.random.default_rng([seed, len(paths)])
    share = max(_LEAST_SECONDS, _FOLDER_SECONDS / max(1, len(paths)))
    clips: list[Samples] = []
    faults: list[str] = []
    room = _FOLDER_SECONDS
    for place in random.permutation(len(paths)):
        if room <= 0:
            break
        try:
            clips.append(_read_stretch(paths[place], random, seconds=share, rate=rate))
            room -= len(clips[-1]) / rate
        except AudioError as error:
            faults.append(str(error))
    if not clips:
        reason = f"{len(faults)} files, the first: {faults[0]}" if faults else "there is no file in it"
        raise DataError(f"{folder}: holds no audio that could serve as noise ({reason}); name another folder")
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        log.warning(
            "%d of %d files of noise are passed over: %s%s",
            len(faults),
            len(paths),
            "; ".join(faults[:_SHOWN]),
            more,
        )
    return NoisePool(clips)


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder in a fixed order, hidden ones left out; folders behind links aren't entered."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of noise; correct augment.noise_folder")
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith("."))


def _read_stretch(path: Path, random: np.random.Generator, *, seconds: float, rate: int) -> Samples:
    """A random stretch of at most `seconds`, or AudioError."""
    length = audio_info(path).seconds
    offset = random.uniform(0, length - seconds) if length > seconds else 0.0
    samples = read_audio(path, rate=rate, offset=offset, duration=min(length - offset, seconds))
    if not samples.any():
        raise AudioError(f"{path}: is silent")
    return samples


def add_noise(audio: Samples, noise: Samples, *, snr_db: float) -> Samples:
    """Audio and noise, (samples,) each, mixed so that the ratio of their mean powers is `snr_db` decibels.

    Pauses count in the power of the audio. Where either is silent there is no such ratio: the audio is returned.
    """
    energies = energy(audio), energy(noise)
    if not (energies[0] > 0 and energies[1] > 0):
        return audio
    return audio + noise * np.float32(math.sqrt(energies[0] / energies[1]) * 10 ** (-snr_db / 20))


def energy(audio: Samples) -> float:
    """The sum of squares; a dot product's last digits would depend on the number of threads."""
    return float(np.square(audio).sum())
