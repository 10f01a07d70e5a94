"""Colours by their spectra, recordings from a folder, and the ratio in which they are mixed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_lstm import noise
from asr_lstm.errors import DataError
from asr_lstm.noise import COLOURS, NoisePool, add_noise, coloured_noise, recorded_noise, synthetic_noise

RATE = 8000


def tone(hertz: float, *, seconds: float, rate: int = RATE, height: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (height * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def pitch(audio: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(audio * np.hanning(len(audio)))).argmax() * RATE / len(audio))


def draws(pool: NoisePool, *, count: int, samples: int) -> list[np.ndarray]:
    return [pool.draw(np.random.default_rng(seed), samples=samples) for seed in range(count)]


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("colour", sorted(COLOURS))
def test_the_power_of_a_colour_follows_its_slope(colour: str, rate: int) -> None:
    samples = coloured_noise(colour, samples=20 * rate, rate=rate, seed=1)
    windows = samples.reshape(-1, rate // 10) * np.hanning(rate // 10)
    power = np.mean(np.abs(np.fft.rfft(windows)) ** 2, axis=0)
    hertz = np.fft.rfftfreq(rate // 10, 1 / rate)
    fitted = (hertz >= 100) & (hertz <= rate / 2 - 100)
    slope = np.polyfit(np.log10(hertz[fitted]), np.log10(power[fitted]), 1)[0]
    assert slope == pytest.approx({"blue": 1, "white": 0, "pink": -1, "brown": -2}[colour], abs=0.1)
    assert np.mean(samples**2) == pytest.approx(1, rel=1e-3)
    whole = np.abs(np.fft.rfft(samples)) ** 2
    assert whole[: 49 * 20].sum() < 1e-6 * whole.sum()


def test_colours_are_functions_of_their_seed_and_have_no_seam() -> None:
    one, same, other = (coloured_noise("brown", samples=RATE, rate=RATE, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.5
    assert abs(one[0] - one[-1]) < 5 * np.abs(np.diff(one)).mean()


def test_a_pool_draws_every_clip_from_any_place_and_goes_round_its_end() -> None:
    ramp, block = np.arange(1, 101, dtype=np.float32), np.full(50, -2, np.float32)
    pool = NoisePool([ramp / 1000, block])
    stretches = draws(pool, count=300, samples=40)
    ramps = [stretch / 32767 * 100 for stretch in stretches if stretch[0] > 0]
    assert 100 < len(ramps) < 200
    for stretch in ramps:
        place = np.rint(stretch[0] - 1 + np.arange(40)).astype(int)
        np.testing.assert_allclose(stretch, place % 100 + 1, atol=1e-2)
    assert len({round(float(stretch[0])) for stretch in ramps}) > 60
    assert all(np.all(stretch == -32767) for stretch in stretches if stretch[0] < 0)
    long = pool.draw(np.random.default_rng(3), samples=1234)
    assert long.shape == (1234,)
    assert long.dtype == np.float32


def test_synthetic_noise_has_all_colours_and_is_a_function_of_the_seeds() -> None:
    pool, same, other = (synthetic_noise(rate=RATE, seed=seed) for seed in (1, 1, 2))
    stretches = draws(pool, count=60, samples=RATE)
    assert all(
        np.array_equal(*pair) for pair in zip(stretches, draws(same, count=60, samples=RATE), strict=True)
    )
    assert not np.array_equal(stretches[0], other.draw(np.random.default_rng(0), samples=RATE))
    # The share of power below 500 Hz tells the colours apart.
    shares = []
    for stretch in stretches:
        power = np.abs(np.fft.rfft(stretch)) ** 2
        shares.append(power[:500].sum() / power.sum())
    assert np.histogram(shares, [0, 0.07, 0.3, 0.75, 1])[0].min() >= 5


@pytest.mark.parametrize("snr", [-5.0, 0.0, 12.5, 40.0])
def test_the_ratio_is_the_one_asked_for(snr: float) -> None:
    random = np.random.default_rng(0)
    audio = (0.05 * random.standard_normal(RATE)).astype(np.float32)
    hiss = (3000 * random.standard_normal(RATE)).astype(np.float32)
    before = audio.copy(), hiss.copy()
    noisy = add_noise(audio, hiss, snr_db=snr)
    assert noisy.dtype == np.float32
    added = noisy.astype(float) - audio
    assert 10 * np.log10(np.mean(audio**2) / np.mean(added**2)) == pytest.approx(snr, abs=0.01)
    assert np.corrcoef(added, hiss)[0, 1] > 0.999
    assert np.array_equal(audio, before[0])
    assert np.array_equal(hiss, before[1])


def test_silence_has_no_ratio() -> None:
    silence, hiss = np.zeros(10, np.float32), np.ones(10, np.float32)
    assert add_noise(silence, hiss, snr_db=3) is silence
    assert add_noise(hiss, silence, snr_db=3) is hiss


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tones of other rates and kinds, one of them in stereo and below; and four files that are no noise."""
    (tmp_path / "street").mkdir()
    soundfile.write(tmp_path / "fan.wav", tone(700, seconds=1.5, rate=44100), 44100)
    loud = tone(1900, seconds=2, rate=16000)
    soundfile.write(tmp_path / "street" / "tram stop.flac", np.stack([loud, loud], 1), 16000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE, np.float32), RATE)
    (tmp_path / "README.txt").write_text("where these come from")
    (tmp_path / "empty.wav").touch()
    os.symlink(tmp_path / "nowhere", tmp_path / "lost.wav")
    os.symlink(tmp_path, tmp_path / "street" / "loop")
    (tmp_path / ".hidden.wav").write_text("not noise")
    return tmp_path


def test_noise_is_read_from_a_folder_and_what_cannot_be_is_said_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool = recorded_noise(folder, rate=RATE, seed=1)
    pitches = {round(pitch(stretch), -2) for stretch in draws(pool, count=30, samples=RATE // 2)}
    assert pitches == {700, 1900}
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("4 of 6 files of noise are passed over: ")
    assert line.endswith("; and 1 more")
    assert sum(name in line for name in ("silent.wav", "README.txt", "empty.wav", "lost.wav")) == 3
    assert "\n" not in line
    again = recorded_noise(folder, rate=RATE, seed=1)
    for one, two in zip(draws(pool, count=5, samples=99), draws(again, count=5, samples=99), strict=True):
        assert np.array_equal(one, two)


def test_a_large_folder_gives_a_share_of_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "_FOLDER_SECONDS", 6.0)
    monkeypatch.setattr(noise, "_LEAST_SECONDS", 1.0)
    for index in range(10):
        soundfile.write(tmp_path / f"{index}.wav", tone(200 * (index + 1), seconds=3), RATE)

    def pitches(seed: int) -> set[float]:
        pool = recorded_noise(tmp_path, rate=RATE, seed=seed)
        return {round(pitch(stretch), -2) for stretch in draws(pool, count=100, samples=RATE // 2)}

    assert len(pitches(1)) == 6  # of a second each
    assert pitches(1) == pitches(1)
    assert set.union(*(pitches(seed) for seed in range(8))) == {200.0 * (index + 1) for index in range(10)}


def test_a_folder_without_noise_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent: no such folder.*augment\.noise_folder"):
        recorded_noise(tmp_path / "absent", rate=RATE, seed=1)
    with pytest.raises(DataError, match=r"no file in it.*another folder"):
        recorded_noise(tmp_path, rate=RATE, seed=1)
    (tmp_path / "notes.txt").write_text("nothing to hear")
    with pytest.raises(DataError, match=r"1 files, the first: .*notes\.txt") as caught:
        recorded_noise(tmp_path, rate=RATE, seed=1)
    assert "\n" not in str(caught.value)
