"""Augmentation of training data; each draw is a function of a seed, not of workers or batches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asr_lstm.acoustics import Filters, Law, draw_room, telephone
from asr_lstm.errors import ConfigError
from asr_lstm.features import FeatureConfig
from asr_lstm.noise import NoisePool, add_noise, energy, recorded_noise, synthetic_noise

# Rooms of a run, made in half a second: far more than there are utterances in a batch.
_ROOMS = 100
# In seconds: a padded booth, and a church, where no word stays whole.
_SHORTEST_DECAY, _LONGEST_DECAY = 0.05, 2.0
# Which random numbers of an utterance's seed an effect takes, so that switching one on leaves the others as they
# were. 0 is the speed's; `asr_lstm.vocal_tract` has 5.
_ROOM, _NOISE, _GAIN, _TELEPHONE = 1, 2, 3, 4
_EDGES, _EQUALISER = 6, 7
# What stands before and after a recording that was cut less tightly: its own noise, so many decibels below the speech.
_PAUSE_DB = (25.0, 50.0)
# Cosines over the frequencies of a random equaliser: level, slope and slow bends, as microphones differ, but no notch.
_EQUALISER_TERMS = 6
_LAWS: tuple[Law, ...] = ("mu", "a")

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to training data, and to nothing else.

    In this order: splice, edges (trim and pause), speed, equaliser, room, noise, gain, telephone, vocal tract, masks.
    All but the masks are for audio.

    Attributes:
        splice: share of utterances put together anew from runs of words of the same speaker, so that sentences are not
            learned by heart. Where words are, the model says that training begins from; of no effect without one,
            but after `splice_again`.
        splice_again: after so many epochs, one number or several, the words are found again by what has been learned
            until then, which knows better. It takes some hundredth of the speech's length each time.
        trim: at most this share is cut from each end, as in recordings that begin or end too late or too soon.
            Where the rest is too short for the transcript, CTC passes over it.
        pause: at most so many seconds of faint noise are put before and after.
        speed: how far the playing speed strays from 1 either way (0.1: 0.9 to 1.1); pitch moves with it.
        vocal_tract: how far the mel filters stray from their place either way (0.1: factors of 0.9 to 1.1), as
            if by a longer or shorter throat.
        equaliser_db: standard deviation, in decibels, of each term of a smooth random change of the spectrum, as
            between microphones. Where the features are centred by band (`features.centre`) it would be taken away.
        room: share of utterances heard in a simulated room.
        room_seconds: shortest and longest time in which the sound of these rooms falls by 60 dB.
        noise: share of utterances with noise added.
        noise_db: least and greatest ratio of speech to noise, in decibels of mean power, pauses included.
        noise_folder: recordings to take the noise from, any kind and rate; "" for synthetic noise of four colours.
        gain: share of utterances made louder or softer.
        gain_db: by how much, least and most; what then goes beyond full scale is clipped, as in a recording
            made too loud.
        telephone: share of utterances heard through a telephone (300 to 3400 Hz, G.711 in either law).
        frequency_masks: bands hidden in each utterance (SpecAugment).
        frequency_width: the widest such band, as a share of all bands.
        time_masks: stretches hidden in each utterance.
        time_width_seconds: the longest such stretch.
        time_share: at most this share of an utterance in one stretch.
    """

    splice: float = 0.0
    splice_again: tuple[int, ...] = ()
    trim: float = 0.0
    pause: float = 0.0
    speed: float = 0.1
    equaliser_db: float = 0.0
    vocal_tract: float = 0.0
    room: float = 0.0
    room_seconds: tuple[float, float] = (0.2, 0.8)
    noise: float = 0.0
    noise_db: tuple[float, float] = (5.0, 30.0)
    noise_folder: str = ""
    gain: float = 0.0
    gain_db: tuple[float, float] = (-15.0, 5.0)
    telephone: float = 0.0
    frequency_masks: int = 2
    frequency_width: float = 0.2
    time_masks: int = 2
    time_width_seconds: float = 0.4
    time_share: float = 0.1

    def __post_init__(self) -> None:
        for name in ("speed", "vocal_tract", "trim"):
            if not 0 <= getattr(self, name) < 0.5:
                raise ValueError(
                    f"augment.{name} must be at least 0 and below 0.5, not {getattr(self, name)}"
                )
        for name in ("frequency_masks", "time_masks", "time_width_seconds", "pause", "equaliser_db"):
            if getattr(self, name) < 0:
                raise ValueError(f"augment.{name} must not be below 0, but is {getattr(self, name)}")
        for name in ("splice", "room", "noise", "gain", "telephone", "frequency_width", "time_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} must lie in 0 .. 1, not {getattr(self, name)}")
        for name in ("room_seconds", "noise_db", "gain_db"):
            low, high = getattr(self, name)
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ValueError(f"augment.{name} must be two numbers, the lower first, not {low}, {high}")
        if not _SHORTEST_DECAY <= self.room_seconds[0] <= self.room_seconds[1] <= _LONGEST_DECAY:
            raise ValueError(
                f"augment.room_seconds must lie in {_SHORTEST_DECAY} .. {_LONGEST_DECAY}, not {self.room_seconds}"
            )
        if any(epochs < 1 for epochs in self.splice_again):
            raise ValueError(f"augment.splice_again must be 1 or more, not {min(self.splice_again)}")
        if self.noise_folder and not self.noise:
            raise ValueError("augment.noise must say in which share of utterances noise_folder is heard")

    @property
    def beyond_speed(self) -> list[str]:
        """The effects on audio that are switched on, but for the speed, which is on unless switched off."""
        names = (
            "splice",
            "trim",
            "pause",
            "equaliser_db",
            "vocal_tract",
            "room",
            "noise",
            "gain",
            "telephone",
        )
        return [name for name in names if getattr(self, name)]


class WaveformAugmentation:
    """What happens to the audio of a training utterance, a function of its seed.

    The rooms, and the noise, are made or read once, here, as the run's seed says.

    Args:
        config: what, how often and how much.
        rate: of the audio, in Hz.
        seed: of the run.

    Raises:
        DataError: `noise_folder` isn't there or holds no recording that can be used.
    """

    def __init__(self, config: AugmentConfig, *, rate: int, seed: int) -> None:
        self.config = config
        self._rate = rate
        self._rooms = _make_rooms(config.room_seconds, rate=rate, seed=seed) if config.room else None
        self._noise: NoisePool | None = None
        if config.noise_folder:
            self._noise = recorded_noise(config.noise_folder, rate=rate, seed=seed)
        elif config.noise:
            self._noise = synthetic_noise(rate=rate, seed=seed)

    def __call__(self, audio: Samples, seed: int) -> Samples:
        """Augment audio (samples,) in [-1, 1], which itself is left as it was.

        Edges and speed change its length. Rooms keep its level; with room or noise it is scaled down where it would
        go beyond full scale. Silence stays silence.
        """
        if self.config.trim or self.config.pause:
            audio = self._cut_anew(audio, np.random.default_rng([seed, _EDGES]))
        audio = change_speed(audio, factor=draw_speed(seed, spread=self.config.speed))
        if not audio.any():
            return audio
        if self.config.equaliser_db:
            audio = self._equalised(audio, np.random.default_rng([seed, _EQUALISER]))
        if self._rooms is not None and (random := _chance(seed, _ROOM, share=self.config.room)):
            audio = _within_full_scale(_in_a_room(audio, self._rooms, random))
        if self._noise is not None and (random := _chance(seed, _NOISE, share=self.config.noise)):
            noise = self._noise.draw(random, samples=len(audio))
            audio = add_noise(audio, noise, snr_db=random.uniform(*self.config.noise_db))
            audio = _within_full_scale(audio)
        if random := _chance(seed, _GAIN, share=self.config.gain):
            factor = np.float32(10 ** (random.uniform(*self.config.gain_db) / 20))
            audio = np.clip(audio * factor, -1.0, 1.0)
        if random := _chance(seed, _TELEPHONE, share=self.config.telephone):
            audio = telephone(audio, rate=self._rate, law=_LAWS[random.integers(len(_LAWS))])
        return audio

    def _equalised(self, audio: Samples, random: np.random.Generator) -> Samples:
        """As if heard by another microphone."""
        deviation = self.config.equaliser_db
        return _within_full_scale(equalise(audio, random, deviation_db=deviation, rate=self._rate))

    def _cut_anew(self, audio: Samples, random: np.random.Generator) -> Samples:
        """As if someone else had cut the recording: more off its ends, or pauses at them."""
        first, last = (int(share * len(audio)) for share in random.uniform(0, self.config.trim, 2))
        audio = audio[first : len(audio) - last]
        level = math.sqrt(energy(audio) / max(len(audio), 1)) * 10 ** (-random.uniform(*_PAUSE_DB) / 20)
        before, after = (round(part * self._rate) for part in random.uniform(0, self.config.pause, 2))
        pauses = np.float32(level) * random.standard_normal(before + after, dtype=np.float32)
        return np.concatenate([pauses[:before], audio, pauses[before:]])


def make_augmentation(
    config: AugmentConfig, features: FeatureConfig, *, seed: int
) -> WaveformAugmentation | None:
    """What training does to the waveforms that these features are of; None where a loader gives frames.

    Raises:
        ConfigError: frames, but effects on audio are asked for.
        DataError: as `WaveformAugmentation`.
    """
    if config.equaliser_db and features.kind == "log_mel" and features.centred_by_band:
        raise ConfigError(
            "augment.equaliser_db: features centred by band do not hear it; say features.centre level"
        )
    if features.kind == "log_mel":
        return WaveformAugmentation(config, rate=features.rate, seed=seed)
    if config.beyond_speed:
        raise ConfigError(
            f"augment.{config.beyond_speed[0]} is for audio, but features.kind is `{features.kind}`; leave it out"
        )
    return None


def equalise(audio: Samples, random: np.random.Generator, *, deviation_db: float, rate: int) -> Samples:
    """Audio (samples,) through a smooth random filter without delay; its gain in dB is a sum of a few cosines.

    Args:
        audio: at least one sample.
        random: draws the weights of the cosines, which have from none to two and a half periods over all frequencies
            in mels, so that they bend most where formants lie.
        deviation_db: standard deviation of each weight.
        rate: of the audio, in Hz.
    """
    points = 2 ** math.ceil(math.log2(2 * len(audio)))  # twice as long, so that nothing wraps around
    spectrum = np.fft.rfft(audio, points)
    gain_db = random.normal(0.0, deviation_db, _EQUALISER_TERMS) @ _mel_cosines(len(spectrum), rate)
    changed = np.fft.irfft(spectrum * 10 ** (gain_db / 20), points)[: len(audio)]
    return np.asarray(changed, dtype=np.float32)


@cache  # for each power of two that recordings come to: most of the time of an equaliser
def _mel_cosines(bins: int, rate: int) -> NDArray[np.float64]:
    """(terms, bins), over frequencies from 0 to half the rate."""
    place = math.pi * np.log1p(np.linspace(0, rate / 2, bins) / 700) / math.log1p(rate / 2 / 700)
    return np.cos(np.arange(_EQUALISER_TERMS)[:, None] * place)


def _chance(seed: int, effect: int, *, share: float) -> np.random.Generator | None:
    """The random numbers of one effect on one utterance, or None where its turn does not come."""
    if not share:
        return None
    random = np.random.default_rng([seed, effect])
    return random if random.random() < share else None


def _make_rooms(decay_seconds: tuple[float, float], *, rate: int, seed: int) -> Filters:
    random = np.random.default_rng([seed, _ROOM])
    return Filters(
        [draw_room(random, decay_seconds=random.uniform(*decay_seconds), rate=rate) for _ in range(_ROOMS)]
    )


def _in_a_room(audio: Samples, rooms: Filters, random: np.random.Generator) -> Samples:
    """Through the response of one room, at the level of before."""
    heard = rooms(audio, int(random.integers(len(rooms))))
    before, after = energy(audio), energy(heard)
    return heard * np.float32(math.sqrt(before / after)) if after > 0 else audio


def _within_full_scale(audio: Samples) -> Samples:
    peak = np.abs(audio).max()
    return audio / peak if peak > 1 else audio


def change_speed(audio: Samples, *, factor: float) -> Samples:
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
        frame_seconds: from one stacked frame to the next.
    """

    def __init__(self, config: AugmentConfig, *, bands: int, frame_seconds: float) -> None:
        super().__init__()
        self.config = config
        self.bands = bands
        self.frame_seconds = frame_seconds

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
            longest = min(
                self.config.time_width_seconds / self.frame_seconds, self.config.time_share * length
            )
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
