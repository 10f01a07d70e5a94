from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchaudio
from recordings import LIBRISPEECH, needs
from torch import Tensor
from torch.nn import functional

from asr_lstm.features import (
    LOG_FLOOR,
    FeatureConfig,
    FrontEnd,
    LogMel,
    make_front_end,
    mask_padding,
    moving_mean,
)

CONFIGS = [
    FeatureConfig(),
    FeatureConfig(rate=8000, mels=40, window_ms=32.0, hop_ms=12.5, low_hz=0.0, stack=1),
    FeatureConfig(rate=22050, mels=64, high_hz=9000.0, stack=4),
]
# Around a hop, a window and a stack; 1 sample is the shortest that is audio at all.
SAMPLES = [1, 159, 160, 161, 400, 479, 480, 1600, 5000, 16000]


def noise(samples: int, *, seed: int = 0) -> Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def chirp(config: FeatureConfig, *, seconds: float = 1.0) -> Tensor:
    """Loud and silent, low and high: what speech is like, for a filter bank."""
    time = torch.arange(round(seconds * config.rate)) / config.rate
    sweep = 0.5 * torch.sin(2 * torch.pi * (100 + config.rate / 5 * time) * time)
    return sweep * (torch.sin(9 * time) > 0) + noise(len(time)) * 0.01


def pad_batch(rows: list[Tensor], *, filler: float) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows])
    longest = int(lengths.max()) + 333
    batch = torch.full((len(rows), longest, *rows[0].shape[1:]), filler)
    for place, row in enumerate(rows):
        batch[place, : len(row)] = row
    return batch, lengths


@pytest.mark.parametrize("config", CONFIGS)
def test_log_mel_is_torchaudios_of_audio_among_silence(config: FeatureConfig) -> None:
    audio = chirp(config)
    window = round(config.rate * config.window_ms / 1000)
    size = next(2**power for power in range(20) if 2**power >= window)
    torchaudios = torchaudio.transforms.MelSpectrogram(
        sample_rate=config.rate,
        n_fft=size,
        win_length=window,
        hop_length=config.hop_samples,
        f_min=config.low_hz,
        f_max=config.high_hz or config.rate / 2,
        n_mels=config.mels,
        center=False,
    )
    among_silence = functional.pad(audio, (size // 2, size // 2))
    expected = torch.log(torchaudios(among_silence).T + LOG_FLOOR)
    frames, lengths = LogMel(config).raw(audio[None], torch.tensor([len(audio)]))
    assert lengths.tolist() == [len(expected)]
    torch.testing.assert_close(frames[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS)
def test_log_mel_is_librosas_within_tolerance(config: FeatureConfig) -> None:
    import librosa

    audio = chirp(config)
    window = round(config.rate * config.window_ms / 1000)
    energies = librosa.feature.melspectrogram(
        y=audio.double().numpy(),
        sr=config.rate,
        n_fft=next(2**power for power in range(20) if 2**power >= window),
        win_length=window,
        hop_length=config.hop_samples,
        n_mels=config.mels,
        fmin=config.low_hz,
        fmax=config.high_hz or None,
        htk=True,
        norm=None,
        center=True,
        pad_mode="constant",
    )
    frames, _ = LogMel(config).raw(audio[None], torch.tensor([len(audio)]))
    np.testing.assert_allclose(frames[0].numpy(), np.log(energies.T + LOG_FLOOR), atol=2e-3)


@pytest.mark.parametrize("stack", [1, 2, 3])
@pytest.mark.parametrize("kind", ["log_mel", "frames"])
def test_the_same_alone_as_padded_with_anything(kind: str, stack: int) -> None:
    config = FeatureConfig(kind=kind, dims=6 if kind == "frames" else 0, stack=stack)  # type: ignore[arg-type]
    rows = [noise(samples, seed=samples) for samples in SAMPLES]
    if kind == "frames":
        rows = [
            torch.randn(count, 6, generator=torch.Generator().manual_seed(count)) for count in (1, 5, 6, 11)
        ]
    front_end = make_front_end(config)
    front_end.fit(rows)
    padded, lengths = pad_batch(rows, filler=torch.nan)
    together, counts = front_end(padded, lengths)
    assert together.shape == (
        len(rows),
        int(front_end.output_lengths(torch.tensor(padded.shape[1]))),
        front_end.dims,
    )
    for row, features, count in zip(rows, together, counts.tolist(), strict=True):
        alone, (own,) = front_end(row[None], torch.tensor([len(row)]))
        assert count == own == alone.shape[1]
        torch.testing.assert_close(features[:count], alone[0], rtol=0, atol=1e-5)
        assert not features[count:].any()


@pytest.mark.parametrize("stack", [1, 3, 4])
@pytest.mark.parametrize("kind", ["log_mel", "frames"])
def test_lengths_are_those_of_what_comes_out(kind: str, stack: int) -> None:
    config = FeatureConfig(kind=kind, dims=2 if kind == "frames" else 0, stack=stack)  # type: ignore[arg-type]
    front_end = make_front_end(config)
    counts = SAMPLES if kind == "log_mel" else range(1, 10)
    for count in counts:
        inputs = torch.zeros(1, count) if kind == "log_mel" else torch.zeros(1, count, 2)
        features, lengths = front_end(inputs, torch.tensor([count]))
        frames = count // 160 + 1 if kind == "log_mel" else count
        assert lengths.tolist() == [features.shape[1]] == [-(-frames // stack)]
        assert front_end.output_lengths(torch.tensor([count])).tolist() == lengths.tolist()
        assert lengths.dtype == torch.long


def test_a_single_sample_of_audio_is_one_frame_of_numbers() -> None:
    features, lengths = LogMel(FeatureConfig())(torch.full((1, 1), 0.5), torch.tensor([1]))
    assert lengths.tolist() == [1]
    assert features.shape == (1, 1, 240)
    assert features.isfinite().all()


def test_digital_silence_is_the_floor() -> None:
    frames, _ = LogMel(FeatureConfig()).raw(torch.zeros(1, 1600), torch.tensor([1600]))
    torch.testing.assert_close(frames, torch.full_like(frames, np.log(LOG_FLOOR)))


def test_frames_stand_in_order_in_the_stack() -> None:
    front_end = FrontEnd(FeatureConfig(kind="frames", dims=2, stack=3))
    frames = torch.arange(1.0, 11.0).view(1, 5, 2)
    features, lengths = front_end(frames, torch.tensor([5]))
    assert features.tolist() == [[[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 0, 0]]]
    assert lengths.tolist() == [2]


@pytest.mark.parametrize("kind", ["log_mel", "frames"])
def test_fit_gives_mean_zero_and_variance_one(kind: str) -> None:
    config = FeatureConfig(kind=kind, dims=4 if kind == "frames" else 0, stack=1)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    if kind == "frames":
        spread, shift = torch.tensor([0.1, 1.0, 30.0, 4.0]), torch.tensor([0.0, -5.0, 1000.0, 2.0])
        rows = [torch.randn(count, 4, generator=generator) * spread + shift for count in (3, 50, 20)]
    else:
        rows = [noise(4000) * 0.5, noise(2000, seed=1), chirp(config)]
    front_end = make_front_end(config)
    front_end.fit(iter(rows))
    frames = torch.cat([front_end(row[None], torch.tensor([len(row)]))[0][0] for row in rows]).double()
    torch.testing.assert_close(frames.mean(0), torch.zeros(config.bands).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        frames.var(0, correction=0), torch.ones(config.bands).double(), rtol=0, atol=1e-4
    )


def test_fit_leaves_a_band_that_never_varies_unscaled() -> None:
    front_end = FrontEnd(FeatureConfig(kind="frames", dims=2, stack=1))
    front_end.fit([torch.tensor([[7.0, 1.0], [7.0, 3.0]])])
    features, _ = front_end(torch.tensor([[[7.5, 2.0]]]), torch.tensor([1]))
    assert features.tolist() == [[[0.5, 0.0]]]


def test_fit_travels_with_the_state_dict() -> None:
    fitted, other = (LogMel(FeatureConfig()) for _ in range(2))
    fitted.fit([noise(1600)])
    other.load_state_dict(fitted.state_dict())
    one, two = (module(noise(800)[None], torch.tensor([800]))[0] for module in (fitted, other))
    assert torch.equal(one, two)


def test_fit_on_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="examples"):
        LogMel(FeatureConfig()).fit([])


def test_features_are_float32_under_autocast_and_from_doubles() -> None:
    front_end = LogMel(FeatureConfig())
    audio, lengths = noise(1600)[None], torch.tensor([1600])
    expected = front_end.raw(audio, lengths)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(front_end.raw(audio, lengths)[0], expected)
    assert torch.equal(front_end.raw(audio.double(), lengths)[0], expected)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"kind": "frames"}, "dims"),
        ({"rate": 0}, "rate"),
        ({"mels": 0}, "mels"),
        ({"window_ms": -1.0}, "window_ms"),
        ({"hop_ms": 0.0}, "hop_ms"),
        ({"stack": 0}, "stack"),
    ],
)
def test_impossible_settings_are_refused_by_name(options: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^features\.{name} must"):
        FeatureConfig(**options)  # type: ignore[arg-type]


def test_mask_padding_zeroes_whatever_stands_there() -> None:
    values = torch.tensor([[1.0, torch.nan], [2.0, 3.0]])
    assert mask_padding(values, torch.tensor([1, 2])).tolist() == [[1.0, 0.0], [2.0, 3.0]]
    assert mask_padding(values[..., None], torch.tensor([1, 2])).tolist() == [[[1.0], [0.0]], [[2.0], [3.0]]]


@needs(LIBRISPEECH)
def test_real_speech_is_the_same_alone_as_in_a_batch() -> None:
    import soundfile

    paths = sorted(LIBRISPEECH.rglob("*.flac"))[:4]
    rows = [torch.from_numpy(soundfile.read(path, dtype="float32")[0][:64000]) for path in paths]
    rows = [row[: len(row) - 1000 * place] for place, row in enumerate(rows)]
    front_end = LogMel(FeatureConfig())
    front_end.fit(rows)
    together, lengths = front_end(*pad_batch(rows, filler=1.0))
    for row, features, length in zip(rows, together, lengths.tolist(), strict=True):
        alone, _ = front_end(row[None], torch.tensor([len(row)]))
        torch.testing.assert_close(features[:length], alone[0], rtol=0, atol=1e-5)


def test_moving_mean_is_the_mean_of_the_valid_frames_around() -> None:
    frames = torch.randn(3, 50, 4, generator=torch.Generator().manual_seed(5))
    lengths = torch.tensor([50, 20, 1])
    means = moving_mean(frames, lengths, reach=7)
    for row, length in enumerate(lengths.tolist()):
        for place in range(length):
            around = frames[row, max(0, place - 7) : min(length, place + 8)]
            torch.testing.assert_close(means[row, place], around.mean(0), rtol=1e-4, atol=1e-5)


def test_features_do_not_depend_on_the_loudness() -> None:
    audio = 0.1 * torch.randn(1, 32000, generator=torch.Generator().manual_seed(6))
    lengths = torch.tensor([32000])
    centred, plain = (make_front_end(FeatureConfig(centre_seconds=seconds)) for seconds in (3.0, 0.0))
    torch.testing.assert_close(centred(4 * audio, lengths)[0], centred(audio, lengths)[0], rtol=0, atol=1e-2)
    louder = plain(4 * audio, lengths)[0] - plain(audio, lengths)[0]
    assert float(louder.median()) == pytest.approx(2 * math.log(4), abs=0.01)


def test_centring_by_level_leaves_the_slope_of_the_spectrum() -> None:
    noise = torch.randn(1, 8000, generator=torch.Generator().manual_seed(3))
    steep = torch.cumsum(noise, 1) * 0.01  # 6 dB an octave less
    length = torch.tensor([8000])
    config = FeatureConfig(rate=8000, mels=20, stack=1, centre="level")
    level, bands = make_front_end(config), make_front_end(replace(config, centre="bands"))
    plain, _ = make_front_end(replace(config, centre_seconds=0))(steep, length)
    out, _ = level(steep, length)
    assert out.mean().abs() < 0.1
    assert torch.allclose(out.mean((0, 1)) - out.mean(), plain.mean((0, 1)) - plain.mean(), atol=1e-4)
    assert bands(steep, length)[0].mean((0, 1)).abs().max() < 0.2
    # Loudness is gone either way.
    assert torch.allclose(level(0.1 * steep, length)[0], out, atol=0.05)


def test_a_centre_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"features\.centre must be bands or level"):
        FeatureConfig(centre="speaker")  # type: ignore[arg-type]


def test_a_floor_hides_how_quiet_the_room_is() -> None:
    """Speech in two rooms whose noise lies 40 and 60 dB below it: with the floor above both they are the same."""
    random = torch.Generator().manual_seed(4)
    speech = torch.randn(1, 8000, generator=random) * (torch.arange(8000) // 2000 % 2)
    noise, length = torch.randn(1, 8000, generator=random), torch.tensor([8000])
    config = FeatureConfig(rate=8000, mels=20, stack=1)
    apart = {}
    for floor in (0.0, 25.0):
        front_end = make_front_end(replace(config, floor_db=floor))
        quiet, loud = (front_end(speech + share * noise, length)[0] for share in (1e-3, 1e-2))
        apart[floor] = float((quiet - loud).abs().mean())
        batched, _ = front_end(
            functional.pad(speech + 1e-3 * noise, (0, 4000)).expand(2, -1), torch.tensor([8000, 12000])
        )
        assert torch.allclose(batched[:1, : quiet.shape[1]], quiet, atol=1e-4)  # whatever it is padded to
    assert apart[0.0] > 1.0
    assert apart[25.0] < 0.1
    with pytest.raises(ValueError, match=r"features\.floor_db"):
        FeatureConfig(floor_db=-1.0)
    with pytest.raises(ValueError, match=r"features\.floor_db"):
        FeatureConfig(floor_db=20.0, centre_seconds=0)


@pytest.mark.parametrize("floor", [10.0, 25.0])
def test_a_floor_is_so_many_decibels_below_the_mean_energy_around(floor: float) -> None:
    audio, length = 10.0 * chirp(FeatureConfig(rate=8000))[None], torch.tensor([8000])
    config = FeatureConfig(rate=8000, mels=20, stack=1)
    plain, floored = (
        make_front_end(replace(config, floor_db=value)).raw(audio, length)[0].exp() - LOG_FLOOR
        for value in (0.0, floor)
    )
    # A second lies within the window wherever it stands: its mean is that of all frames and bands.
    expected = plain + plain.mean() / 10 ** (floor / 10)
    torch.testing.assert_close(floored, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("seconds", "hop"), [(3.0, 10.0), (1.0, 10.0), (3.0, 20.0)])
def test_the_centre_reaches_half_its_seconds_to_either_side(seconds: float, hop: float) -> None:
    """Noise that grows 20 dB louder at 5 s: features know of it half the window before, and no sooner."""
    audio = noise(10 * 8000)
    audio[5 * 8000 :] *= 10
    config = FeatureConfig(rate=8000, mels=20, stack=1, hop_ms=hop, centre_seconds=seconds)
    front_end = make_front_end(config)
    frames, quiet = (
        front_end(part[None], torch.tensor([len(part)]))[0][0].mean(1) for part in (audio, noise(10 * 8000))
    )
    first = int(((frames - quiet).abs() > 1e-3).nonzero()[0])
    assert first * hop / 1000 == pytest.approx(5 - seconds / 2, abs=0.03)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("low_hz", {"low_hz": -1.0}),
        ("low_hz", {"low_hz": 4000.0, "high_hz": 3000.0}),
        ("high_hz", {"high_hz": 9000.0}),
        ("centre_seconds", {"centre_seconds": -1.0}),
        ("hop_ms", {"hop_ms": 0.01}),
        ("stack", {"stack": 0}),
    ],
)
def test_settings_out_of_range_are_named(name: str, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"features.*{name}"):
        FeatureConfig(**options)  # type: ignore[arg-type]
