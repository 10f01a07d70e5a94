"""The warp against the paper's equation, the filters against torchaudio's, and what training hears of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor

from asr_lstm.augment import AugmentConfig
from asr_lstm.features import FeatureConfig, LogMel
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.vocal_tract import mel_filters, warp_frequencies

CONFIG = FeatureConfig(mels=40, centre_seconds=0, stack=1)
CONFIGS = [CONFIG, FeatureConfig(rate=8000, mels=40), FeatureConfig(rate=22050, mels=64, high_hz=9000.0)]


def papers_warp(hertz: float, alpha: float) -> float:
    """Jaitly and Hinton's equation as printed, at 16 kHz."""
    s, f_hi = 16_000, 4800
    if hertz <= f_hi * min(alpha, 1) / alpha:
        return hertz * alpha
    slope = (s / 2 - f_hi * min(alpha, 1)) / (s / 2 - f_hi * min(alpha, 1) / alpha)
    return s / 2 - slope * (s / 2 - hertz)


@pytest.mark.parametrize("alpha", [0.8, 0.9, 1.0, 1.05, 1.2])
def test_the_warp_is_the_papers(alpha: float) -> None:
    hertz = torch.linspace(0, 8000, 801)
    warped = warp_frequencies(hertz, factor=alpha, rate=16_000)
    expected = [papers_warp(float(value), alpha) for value in hertz]
    np.testing.assert_allclose(warped.numpy(), expected, rtol=1e-5, atol=1e-2)
    assert (warped.diff() > 0).all()
    assert warped[[0, -1]].tolist() == [0, 8000]


@pytest.mark.parametrize("config", CONFIGS)
def test_filters_without_a_warp_are_torchaudios(config: FeatureConfig) -> None:
    high = config.high_hz or config.rate / 2
    own = mel_filters(bins=513, mels=config.mels, low_hz=20.0, high_hz=high, rate=config.rate, factor=1.0)
    theirs = torchaudio.functional.melscale_fbanks(513, 20.0, high, config.mels, config.rate)
    torch.testing.assert_close(own, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_a_warped_tone_stands_in_the_warped_band(factor: float) -> None:
    plain, warped = (
        mel_filters(bins=4097, mels=40, low_hz=20.0, high_hz=8000.0, rate=16_000, factor=value)
        for value in (1.0, factor)
    )
    centres = plain.argmax(0) * 8000 / 4096
    expected = warp_frequencies(centres, factor=factor, rate=16_000)
    np.testing.assert_allclose(warped.argmax(0) * 8000 / 4096, expected, atol=4)


def hear(module: LogMel, audio: Tensor, seeds: list[int] | None) -> Tensor:
    lengths = torch.full((len(audio),), audio.shape[1])
    return module(audio, lengths, seeds=None if seeds is None else torch.tensor(seeds))[0]


@pytest.fixture
def audio() -> Tensor:
    return 0.1 * torch.randn(6, 4000, generator=torch.Generator().manual_seed(0))


def test_only_training_with_seeds_hears_a_warp(audio: Tensor) -> None:
    plain, module = LogMel(CONFIG), LogMel(CONFIG, vocal_tract=0.1)
    seeds = list(range(6))
    expected = hear(plain, audio, None)
    assert torch.equal(hear(module, audio, None), expected)
    assert torch.equal(hear(module.eval(), audio, seeds), expected)
    assert torch.equal(hear(plain, audio, seeds), expected)
    assert not torch.allclose(hear(module.train(), audio, seeds), expected, atol=0.1)


def test_the_warp_is_a_function_of_the_seed_alone(audio: Tensor) -> None:
    module = LogMel(CONFIG, vocal_tract=0.1)
    seeds = [3, 2**62, 7, 8, 9, 10]
    together = hear(module, audio, seeds)
    assert torch.equal(hear(module, audio, seeds), together)
    for row, seed, expected in zip(audio, seeds, together, strict=True):
        torch.testing.assert_close(hear(module, row[None], [seed])[0], expected, rtol=0, atol=1e-5)
    same = hear(module, audio[:1].expand(300, -1), list(range(300)))
    assert len({tuple(row.flatten().tolist()) for row in same}) == 21


def test_the_spread_is_the_one_asked_for() -> None:
    """A tone of 1 kHz is found where filters between 0.8 and 1.2 times as high have it, and at all places between."""
    module = LogMel(FeatureConfig(centre_seconds=0, stack=1), vocal_tract=0.2)
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(1600) / 16_000)[None]
    bands = hear(module, tone.expand(200, -1), list(range(200)))[:, 5].argmax(-1)
    centres = 700 * (10 ** ((31.75 + 34.67 * (bands + 1)) / 2595) - 1)
    assert centres.min() == pytest.approx(1000 / 1.2, rel=0.03)
    assert centres.max() == pytest.approx(1000 / 0.8, rel=0.03)
    assert bands.unique().tolist() == list(range(int(bands.min()), int(bands.max()) + 1))


def test_a_model_saves_the_same_with_and_without() -> None:
    encoder = EncoderConfig(layers=1, hidden=8)
    plain, warping = (
        Recogniser(CONFIG, encoder, units=5, augment=AugmentConfig(vocal_tract=spread))
        for spread in (0.0, 0.1)
    )
    plain.load_state_dict(warping.state_dict())
    audio, lengths = torch.randn(2, 3000), torch.tensor([3000, 2000])
    assert torch.equal(plain.eval()(audio, lengths)[0], warping.eval()(audio, lengths)[0])


def test_the_recogniser_hands_the_seeds_on() -> None:
    augment = AugmentConfig(vocal_tract=0.2, frequency_masks=0, time_masks=0)
    encoder = EncoderConfig(layers=1, hidden=8, layer_dropout=0.0, state_dropout=0.0)
    model = Recogniser(CONFIG, encoder, units=5, augment=augment).train()
    audio, lengths = torch.randn(1, 3000), torch.tensor([3000])
    first, same, other = (model(audio, lengths, seeds=torch.tensor([seed]))[0] for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.allclose(first, other, atol=1e-3)
