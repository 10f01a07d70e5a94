from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from asr_lstm.augment import AugmentConfig, SpecAugment, change_speed, draw_speed

RATE = 16_000
BANDS, STACK = 20, 3


def tone(hertz: float, *, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def pitch(audio: np.ndarray) -> float:
    """The strongest frequency, to about 0.1 Hz."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), n=10 * RATE))
    return float(spectrum.argmax()) / 10


@pytest.mark.parametrize("factor", [0.8, 0.9, 0.97, 1.03, 1.1, 1.25])
def test_speed_changes_length_and_pitch_as_a_tape_would(factor: float) -> None:
    faster = change_speed(tone(440.0), factor=factor)
    assert faster.dtype == np.float32
    assert abs(len(faster) - RATE / factor) <= 1
    assert pitch(faster) == pytest.approx(440 * factor, abs=0.3)
    middle = slice(len(faster) // 4, -len(faster) // 4)
    assert np.sqrt(np.mean(faster[middle] ** 2)) == pytest.approx(np.sqrt(0.5), rel=0.01)


def test_speed_one_is_the_identity() -> None:
    audio = tone(440.0)
    assert change_speed(audio, factor=1.0) is audio


def test_faster_audio_holds_no_aliases() -> None:
    """A tone that a higher speed lifts above half the rate vanishes; it isn't folded down into the speech."""
    assert np.abs(change_speed(tone(7900.0), factor=1.25)[2000:-2000]).max() < 1e-2


def test_speeds_are_uniform_and_functions_of_the_seed() -> None:
    speeds = [draw_speed(seed, spread=0.1) for seed in range(2000)]
    assert speeds == [draw_speed(seed, spread=0.1) for seed in range(2000)]
    assert 0.9 <= min(speeds) < 0.901
    assert 1.099 < max(speeds) <= 1.1
    assert np.histogram(speeds, bins=4, range=(0.9, 1.1))[0].min() > 400
    assert draw_speed(3, spread=0.0) == 1.0


def augmented(
    module: SpecAugment, *, lengths: list[int], seeds: list[int], frames: int | None = None
) -> Tensor:
    """(batch, frames, STACK, BANDS), True where ones were hidden."""
    features = torch.ones(len(lengths), frames or max(lengths), STACK * BANDS)
    hidden = module(features, torch.tensor(lengths), torch.tensor(seeds))
    assert hidden.shape == features.shape
    assert set(hidden.unique().tolist()) <= {0.0, 1.0}
    return hidden.unflatten(-1, (STACK, BANDS)) == 0


def make(**options: float) -> SpecAugment:
    return SpecAugment(AugmentConfig(**options), bands=BANDS)  # type: ignore[arg-type]


def runs(hidden: Tensor) -> list[int]:
    """Lengths of the stretches of True in a vector."""
    return [len(run) for run in "".join("x" if value else " " for value in hidden.tolist()).split()]


def test_bands_are_hidden_throughout_and_in_each_stacked_frame() -> None:
    module = make(time_masks=0, frequency_masks=1, frequency_width=0.25)
    hidden = augmented(module, lengths=[7] * 300, seeds=list(range(300)))
    assert torch.equal(hidden, hidden[:, :1, :1].expand_as(hidden))
    widths = [runs(row[0, 0]) for row in hidden]
    assert {tuple(found) for found in widths} == {(), (1,), (2,), (3,), (4,), (5,)}
    assert hidden[:, 0, 0].any(0).all()  # each band is hidden in some utterance, the outermost too


def test_stretches_lie_within_the_utterance_and_their_bounds() -> None:
    lengths = [1, 5, 10, 30, 60, 200] * 50
    module = make(frequency_masks=0, time_masks=1, time_width=8, time_share=0.2)
    hidden = augmented(module, lengths=lengths, seeds=list(range(len(lengths))), frames=210)
    assert torch.equal(hidden, hidden[:, :, :1, :1].expand_as(hidden))
    longest = dict.fromkeys(lengths, 0)
    for row, length in zip(hidden[:, :, 0, 0], lengths, strict=True):
        assert not row[length:].any()
        found = runs(row)
        assert len(found) <= 1
        longest[length] = max([longest[length], *found])
    assert longest == {1: 0, 5: 1, 10: 2, 30: 6, 60: 8, 200: 8}
    places = torch.stack(
        [row for row, length in zip(hidden[:, :, 0, 0], lengths, strict=True) if length == 10]
    )
    assert places.any(0)[:10].sum() >= 8


def test_as_many_masks_as_asked_for() -> None:
    hidden = augmented(make(frequency_masks=2, time_masks=0), lengths=[5] * 100, seeds=list(range(100)))
    assert max(len(runs(row[0, 0])) for row in hidden) == 2
    hidden = augmented(make(frequency_masks=0, time_masks=3), lengths=[90] * 100, seeds=list(range(100)))
    assert max(len(runs(row[:, 0, 0])) for row in hidden) == 3


def test_the_seed_fixes_the_masks_whatever_the_company() -> None:
    module = make()
    lengths, seeds = [50, 80, 7, 33], [11, 2**62, 13, 0]
    together = augmented(module, lengths=lengths, seeds=seeds)
    assert len({tuple(row.flatten().tolist()) for row in together}) == 4
    torch.manual_seed(99)
    for row, length, seed in zip(together, lengths, seeds, strict=True):
        assert torch.equal(augmented(module, lengths=[length], seeds=[seed])[0], row[:length])
    reverse = augmented(module, lengths=lengths[::-1], seeds=seeds[::-1])
    assert torch.equal(reverse.flip(0), together)


def test_what_is_not_hidden_is_left_as_it_was_and_the_input_too() -> None:
    features = torch.randn(3, 40, STACK * BANDS, generator=torch.Generator().manual_seed(0))
    before = features.clone()
    result = make()(features, torch.tensor([40, 30, 20]), torch.tensor([1, 2, 3]))
    assert torch.equal(features, before)
    assert torch.equal(result[result != 0], features[result != 0])
    assert 0.02 < (result == 0).float().mean() < 0.6


def test_evaluation_and_no_masks_are_the_identity() -> None:
    features, lengths, seeds = torch.ones(2, 9, STACK * BANDS), torch.tensor([9, 4]), torch.tensor([1, 2])
    assert make().eval()(features, lengths, seeds) is features
    assert make(frequency_masks=0, time_masks=0)(features, lengths, seeds) is features


@pytest.mark.parametrize(
    ("name", "value"),
    [("speed", 0.5), ("speed", -0.1), ("frequency_width", 1.1), ("time_share", -0.1)],
)
def test_impossible_settings_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^augment\.{name} must"):
        AugmentConfig(**{name: value})  # type: ignore[arg-type]
