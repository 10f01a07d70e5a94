"""From what a loader gives to what the encoder takes: log-mel features of audio, or features that came ready.

A front end is one nn.Module, the same in training, evaluation, serving and export: lengths go in and come out,
and an utterance gives the same features alone as padded in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from asr_lstm.vocal_tract import VocalTract

# Energies below this are taken for digital silence; it is about -100 dB of a full-scale sine in a mel band.
LOG_FLOOR = 1e-6
# A band that never varies in the training data is left unscaled instead of being divided by nearly 0.
MIN_DEVIATION = 1e-2


@dataclass(frozen=True)
class FeatureConfig:
    """What the features are.

    Attributes:
        kind: `log_mel` of audio; `frames` for a loader that gives (frames, dims) itself.
        rate: sampling rate of the audio in Hz; files of other rates are resampled.
        mels: mel bands.
        window_ms: length of the analysis window.
        hop_ms: from one frame to the next.
        low_hz: lower edge of the lowest band; below it stand hum and handling noise.
        high_hz: upper edge of the highest band; 0 stands for half the rate.
        dims: of the frames that the loader gives (kind `frames`).
        centre_seconds: from each band its mean over so many seconds around the frame is taken away, which removes
            the loudness and the microphone; 0 leaves them in. A window, not the whole utterance, so that long and
            live audio can have it too. Kind `log_mel` only.
        centre: `bands` takes away each band's own mean; `level` that of all bands together, which leaves the slope of
            the spectrum: a single short word has little else to be known by. Kind `log_mel` only.
        floor_db: energies are filled up to so many decibels below the mean energy of all bands within
            `centre_seconds`, so that a quiet room and a noisy one sound alike; 0 leaves them. Kind `log_mel` only.
        stack: frames joined into one; with a hop of 10 ms, 3 gives the encoder 33 frames a second.
    """

    kind: Literal["log_mel", "frames"] = "log_mel"
    rate: int = 16_000
    mels: int = 80
    window_ms: float = 25.0
    hop_ms: float = 10.0
    low_hz: float = 20.0
    high_hz: float = 0.0
    dims: int = 0
    centre_seconds: float = 3.0
    centre: Literal["bands", "level"] = "bands"
    floor_db: float = 0.0
    stack: int = 3

    def __post_init__(self) -> None:
        if self.centre not in ("bands", "level"):
            raise ValueError(f"features.centre must be bands or level, not {self.centre!r}")
        if self.kind == "frames" and self.dims < 1:
            raise ValueError("features.dims must say how many dims the loader's frames have (kind `frames`)")
        for name in ("rate", "mels", "window_ms", "hop_ms", "stack"):
            if getattr(self, name) <= 0:
                raise ValueError(f"features.{name} must be above 0, not {getattr(self, name)}")
        if self.centre_seconds < 0:
            raise ValueError(f"features.centre_seconds must not be below 0, but is {self.centre_seconds}")
        if self.floor_db < 0 or (self.floor_db and not self.centre_seconds):
            raise ValueError(
                f"features.floor_db must not be below 0, and needs centre_seconds, but is {self.floor_db}"
            )
        if self.hop_samples < 1:
            raise ValueError(
                f"features.hop_ms must be at least one sample of {self.rate} Hz, not {self.hop_ms}"
            )
        top = self.high_hz or self.rate / 2
        if not 0 <= self.low_hz < top <= self.rate / 2:
            raise ValueError(
                f"features.low_hz and high_hz must rise within 0 .. {self.rate / 2:g}, not {self.low_hz} .. {top}"
            )

    @property
    def bands(self) -> int:
        """Dims of one unstacked frame."""
        return self.mels if self.kind == "log_mel" else self.dims

    @property
    def frame_seconds(self) -> float:
        """From one frame that the encoder is given to the next."""
        return self.hop_ms * self.stack / 1000

    @property
    def centre_frames(self) -> int:
        """Frames before and after each one over which `centre_seconds` reaches."""
        return round(500 * self.centre_seconds / self.hop_ms) if self.kind == "log_mel" else 0

    @property
    def centred_by_band(self) -> bool:
        """Whether each band's own mean is taken away."""
        return self.centre == "bands" and self.centre_frames > 0

    @property
    def hop_samples(self) -> int:
        """Samples from one unstacked frame to the next; 1 where the loader gives frames."""
        return round(self.rate * self.hop_ms / 1000) if self.kind == "log_mel" else 1


class FrontEnd(nn.Module):
    """Normalises frames by the mean and deviation of the training data and joins `stack` of them into one.

    The statistics are global, not an utterance's own, so that long and live audio get the same features.

    Attributes:
        dims: of one frame that comes out.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.dims = config.bands * config.stack
        self.register_buffer("mean", torch.zeros(config.bands))
        self.register_buffer("deviation", torch.ones(config.bands))

    def raw(self, inputs: Tensor, lengths: Tensor, *, seeds: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frames before normalisation; here the inputs (batch, frames, dims) themselves."""
        return inputs, lengths

    def raw_lengths(self, lengths: Tensor) -> Tensor:
        """How many frames `raw` makes of inputs of these lengths."""
        return lengths

    def forward(
        self, inputs: Tensor, lengths: Tensor, *, seeds: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Turn a padded batch into features.

        Args:
            inputs: (batch, samples) audio, or (batch, frames, dims) where the loader gives frames.
            lengths: (batch,) valid samples or frames; what stands beyond them does not matter.
            seeds: (batch,) one an utterance, for what `LogMel` varies in training.

        Returns:
            (batch, frames, dims) features, zero in the padding, and (batch,) their lengths.
        """
        frames, lengths = self._centred(*self.raw(inputs, lengths, seeds=seeds))
        frames = mask_padding((frames - self.mean) / self.deviation, lengths)
        batch, count, bands = frames.shape
        stack = self.config.stack
        frames = functional.pad(frames, (0, 0, 0, -count % stack))
        return frames.view(batch, -1, stack * bands), self._stacked(lengths)

    def _centred(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if not self.config.centre_frames:
            return frames, lengths
        mean = moving_mean(frames, lengths, reach=self.config.centre_frames)
        if not self.config.centred_by_band:
            mean = mean.mean(-1, keepdim=True)
        return frames - mean, lengths

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """How many frames `forward` gives for inputs of these lengths (samples or frames)."""
        return self._stacked(self.raw_lengths(lengths))

    def _stacked(self, lengths: Tensor) -> Tensor:
        return torch.div(lengths + self.config.stack - 1, self.config.stack, rounding_mode="floor")

    @torch.no_grad()
    def fit(self, examples: Iterable[Tensor]) -> None:
        """Set mean and deviation from examples, each (samples,) or (frames, dims).

        Raises:
            ValueError: `examples` is empty.
        """
        total = torch.zeros(self.config.bands, dtype=torch.double)
        squares = torch.zeros_like(total)
        count = 0
        for example in examples:
            frames, _ = self._centred(*self.raw(example[None], torch.tensor([len(example)])))
            total += frames[0].double().sum(0)
            squares += frames[0].double().square().sum(0)
            count += frames.shape[1]
        if count == 0:
            raise ValueError("examples must hold at least one")
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        self.mean.copy_(mean)
        self.deviation.copy_(variance.sqrt().where(variance.sqrt() > MIN_DEVIATION, torch.ones_like(mean)))


class LogMel(FrontEnd):
    """Audio to log-mel features; the mel filters are torchaudio's (HTK scale, no area normalisation).

    A frame stands at each multiple of the hop, its window centred there; before the beginning and after the
    end lies silence. (torchaudio's default mirrors the audio there instead, which in a batch mirrors padding.)

    Args:
        config: what the features are.
        vocal_tract: how far the filters of a training utterance stray from their place, when it has a seed.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: FeatureConfig, *, vocal_tract: float = 0.0) -> None:
        super().__init__(config)
        length = round(config.rate * config.window_ms / 1000)
        self.points = 2 ** math.ceil(math.log2(length))  # of the Fourier transform
        before = (self.points - length) // 2
        window = functional.pad(torch.hann_window(length), (before, self.points - length - before))
        filters = torchaudio.functional.melscale_fbanks(
            self.points // 2 + 1,
            f_min=config.low_hz,
            f_max=config.high_hz or config.rate / 2,
            n_mels=config.mels,
            sample_rate=config.rate,
        )
        # Not persistent: they follow from the configuration.
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)
        self.vocal_tract: VocalTract | None = None
        if vocal_tract:
            self.vocal_tract = VocalTract(
                vocal_tract,
                bins=self.points // 2 + 1,
                mels=config.mels,
                low_hz=config.low_hz,
                high_hz=config.high_hz or config.rate / 2,
                rate=config.rate,
            )

    def raw(self, inputs: Tensor, lengths: Tensor, *, seeds: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(batch, samples) audio in [-1, 1] to (batch, frames, mels) log energies, always in float32."""
        with torch.autocast(inputs.device.type, enabled=False):
            power = self.power(mask_padding(inputs.float(), lengths))
            if self.training and self.vocal_tract is not None and seeds is not None:
                energies = self.vocal_tract(power, seeds)
            else:
                energies = power @ self.filters
            lengths = self.raw_lengths(lengths)
            if self.config.floor_db:
                around = moving_mean(
                    energies.mean(-1, keepdim=True), lengths, reach=self.config.centre_frames
                )
                energies = energies + 10 ** (-self.config.floor_db / 10) * around
            return energies.add(LOG_FLOOR).log(), lengths

    def power(self, audio: Tensor) -> Tensor:
        """Power spectra (batch, frames, points / 2 + 1) of audio (batch, samples).

        By a plain Fourier transform of all frames at once and sums of squares: on a CPU about three times as
        fast as torch.stft and the square of its modulus, and equal to it.
        """
        framed = functional.pad(audio, (self.points // 2, self.points // 2))
        framed = framed.unfold(1, self.points, self.config.hop_samples) * self.window
        spectrum = torch.fft.rfft(framed)
        return torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)

    def raw_lengths(self, lengths: Tensor) -> Tensor:
        """One frame at each multiple of the hop, the first at sample 0."""
        return torch.div(lengths, self.config.hop_samples, rounding_mode="floor") + 1


def make_front_end(config: FeatureConfig, *, vocal_tract: float = 0.0) -> FrontEnd:
    """The front end of a configuration; `vocal_tract` is for audio in training (see `LogMel`)."""
    return LogMel(config, vocal_tract=vocal_tract) if config.kind == "log_mel" else FrontEnd(config)


def moving_mean(frames: Tensor, lengths: Tensor, *, reach: int) -> Tensor:
    """The mean of each band over the valid frames from `reach` before to `reach` after each frame.

    Args:
        frames: (batch, frames, bands).
        lengths: (batch,) valid frames, at least 1.
        reach: frames to either side.

    Returns:
        (batch, frames, bands); in the padding it is of no use.
    """
    sums = functional.pad(mask_padding(frames, lengths).cumsum(1), (0, 0, 1, 0))
    place = torch.arange(frames.shape[1], device=frames.device)[None]
    lengths = lengths.to(frames.device)[:, None]
    first = torch.minimum((place - reach).clamp(min=0), lengths - 1)
    last = torch.minimum(place + reach + 1, lengths)  # beyond the last one
    rows = torch.arange(len(frames), device=frames.device)[:, None]
    return (sums[rows, last] - sums[rows, first]) / (last - first)[:, :, None]


def mask_padding(values: Tensor, lengths: Tensor) -> Tensor:
    """Zero what stands beyond each length, whatever it is, NaN too; values (batch, time) or (batch, time, dims)."""
    padding = torch.arange(values.shape[1], device=values.device) >= lengths.to(values.device)[:, None]
    return values.masked_fill(padding.view(*padding.shape, *[1] * (values.ndim - 2)), 0.0)
