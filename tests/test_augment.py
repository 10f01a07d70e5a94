from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from asr_lstm.augment import (
    AugmentConfig,
    SpecAugment,
    WaveformAugmentation,
    change_speed,
    draw_speed,
    equalise,
    make_augmentation,
)
from asr_lstm.config import load_recipe
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.features import FeatureConfig

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
    return SpecAugment(AugmentConfig(**options), bands=BANDS, frame_seconds=0.05)  # type: ignore[arg-type]


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
    module = make(frequency_masks=0, time_masks=1, time_width_seconds=0.4, time_share=0.2)
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
    [
        ("speed", 0.5),
        ("speed", -0.1),
        ("vocal_tract", 0.5),
        ("frequency_width", 1.1),
        ("time_share", -0.1),
        ("room", 1.1),
        ("noise", -0.1),
        ("gain", 2),
        ("telephone", float("nan")),
        ("noise_db", (20.0, 5.0)),
        ("gain_db", (-6.0, float("inf"))),
        ("room_seconds", (0.0, 0.5)),
        ("room_seconds", (0.5, 3.0)),
    ],
)
def test_impossible_settings_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^augment\.{name} must"):
        AugmentConfig(**{name: value})  # type: ignore[arg-type]


ON = {"room": 1.0, "noise": 1.0, "gain": 1.0, "telephone": 1.0}
EDGES = {"trim": 0.2, "pause": 0.2}
EFFECTS = [
    {"speed": 0.1},
    {"trim": 0.2},
    {"pause": 0.2},
    {"equaliser_db": 3.0},
    *({name: value} for name, value in ON.items()),
    {"speed": 0.1, "equaliser_db": 3.0, **EDGES, **ON},
]


def waveform(
    *, rate: int = RATE, run: int = 1, speed: float = 0.0, **options: object
) -> WaveformAugmentation:
    return WaveformAugmentation(AugmentConfig(speed=speed, **options), rate=rate, seed=run)  # type: ignore[arg-type]


def voice(*, seconds: float = 1.0, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Loud and soft noise, as syllables and pauses are."""
    count = round(seconds * rate)
    syllables = np.sin(2 * np.pi * 4 * np.arange(count) / rate) ** 2
    return (0.1 * syllables * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def decibels(left: np.ndarray, right: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(left.astype(float) ** 2) / np.mean(right.astype(float) ** 2)))


def test_by_default_the_speed_alone_changes() -> None:
    augment = WaveformAugmentation(AugmentConfig(), rate=RATE, seed=1)
    audio = voice()
    for seed in range(5):
        assert np.array_equal(augment(audio, seed), change_speed(audio, factor=draw_speed(seed, spread=0.1)))
    assert waveform()(audio, 1) is audio
    assert AugmentConfig().beyond_speed == []


def test_an_end_is_cut_off_by_at_most_the_share() -> None:
    audio = voice()
    cut = [waveform(trim=0.2)(audio, seed) for seed in range(50)]
    assert min(map(len, cut)) >= 0.6 * len(audio)
    assert max(map(len, cut)) <= len(audio)
    assert all(
        part.tobytes() in audio.tobytes() for part in cut
    )  # what is left is untouched, and in one piece
    firsts = {audio.tobytes().index(part.tobytes()) for part in cut}
    assert len(firsts) > 40


def test_pauses_are_faint_and_short() -> None:
    audio = voice()
    longer = [waveform(pause=0.2)(audio, seed) for seed in range(50)]
    assert {part.tobytes().count(audio.tobytes()) for part in longer} == {1}
    added = np.array([len(part) - len(audio) for part in longer]) / RATE
    assert 0.1 < added.mean() < 0.3
    assert added.max() <= 0.4
    for part in longer:
        pause = part[: part.tobytes().index(audio.tobytes()) // 4]
        if len(pause) > 100:
            assert -51.5 < decibels(pause, audio) < -23.5


def test_an_equaliser_is_a_filter_without_delay_and_smooth() -> None:
    impulse = np.zeros(2001, np.float32)
    impulse[1000] = 0.5
    gains = []
    evenly = 700 * (10 ** (np.linspace(0, 2840, 500) / 2595) - 1)  # in mels
    for seed in range(200):
        heard = equalise(impulse, np.random.default_rng(seed), deviation_db=2.0, rate=RATE)
        assert np.argmax(np.abs(heard)) == 1000
        assert np.allclose(heard[:1000], heard[1001:][::-1], atol=1e-5)  # symmetric: no phase
        gain = 20 * np.log10(np.abs(np.fft.rfft(heard)) / 0.5)
        gains.append(np.interp(evenly, np.linspace(0, RATE / 2, len(gain)), gain))
    spread = np.std(gains, axis=0)
    # Six independent terms of 2 dB, and cosines whose mean square is a half but for the constant one.
    assert np.isclose(np.sqrt(np.mean(np.square(gains))), 2.0 * np.sqrt(1 + 5 / 2), rtol=0.1)
    assert np.isclose(spread[0], 2.0 * np.sqrt(6), rtol=0.2)  # at 0 Hz all cosines are 1
    assert np.abs(np.diff(gains, axis=1)).max() < 0.4  # dB from one of 500 steps to the next


def test_what_centring_takes_away_again_is_refused() -> None:
    config = AugmentConfig(equaliser_db=2.0)
    with pytest.raises(ConfigError, match=r"augment\.equaliser_db: .* say features\.centre level"):
        make_augmentation(config, FeatureConfig(rate=8000), seed=1)
    assert make_augmentation(config, FeatureConfig(rate=8000, centre="level"), seed=1) is not None
    assert make_augmentation(config, FeatureConfig(rate=8000, centre_seconds=0), seed=1) is not None


@pytest.mark.parametrize("options", EFFECTS)
def test_each_effect_is_a_function_of_the_seed(options: dict[str, float]) -> None:
    audio = voice()
    one, same = waveform(**options), waveform(**options)
    results = [one(audio, seed) for seed in range(6)]
    for seed in reversed(range(6)):
        assert np.array_equal(same(audio, seed), results[seed])
    distinct = {result.tobytes() for result in results}
    assert len(distinct) == (2 if options == {"telephone": 1.0} else 6)  # the telephone has but two laws
    assert audio.tobytes() not in distinct


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("options", EFFECTS)
def test_any_audio_is_safe_in_any_effect(options: dict[str, float], rate: int) -> None:
    augment = waveform(rate=rate, **options)
    shapes = [voice(rate=rate), np.zeros(rate, np.float32), np.ones(rate, np.float32)]
    shapes += [np.full(rate, 1e-30, np.float32), -np.sign(voice(rate=rate))]
    for audio in [shape[:count] for shape in shapes for count in (1, 2, rate // 100, rate)]:
        before = audio.copy()
        for seed in range(3):
            heard = augment(audio, seed)
            assert heard.dtype == np.float32
            assert np.isfinite(heard).all()
            if not {"speed", *EDGES} & set(options):
                assert heard.shape == audio.shape
            if options != {"speed": 0.1}:  # resampling alone may ring a little beyond full scale
                assert np.abs(heard).max(initial=0) <= 1
            if not audio.any():
                assert not heard.any()
        assert np.array_equal(audio, before)


def test_nothing_makes_audio_shorter_than_the_fastest_speed() -> None:
    """What the preflight counts on where it looks for transcripts that don't fit."""
    augment = waveform(speed=0.25, **ON)
    lengths = [len(augment(voice(seconds=0.2), seed)) for seed in range(200)]
    assert 3200 / 1.25 - 1 <= min(lengths) < 3200 / 1.24


def test_noise_has_the_ratio_drawn_from_its_range() -> None:
    augment = waveform(noise=1.0, noise_db=(4.0, 20.0))
    audio = voice()
    ratios = [decibels(audio, augment(audio, seed) - audio) for seed in range(300)]
    assert 3.99 < min(ratios) < 4.5
    assert 19.5 < max(ratios) < 20.01
    assert np.histogram(ratios, bins=4, range=(4, 20))[0].min() > 50


def test_noise_too_loud_for_full_scale_takes_the_voice_down_with_it() -> None:
    audio = voice() * 9
    assert np.abs(audio).max() > 0.9
    augment = waveform(noise=1.0, noise_db=(0.0, 0.0))
    for seed in range(10):
        noisy = augment(audio, seed)
        assert np.abs(noisy).max() <= 1
        share = np.dot(noisy, audio) / np.dot(audio, audio)  # noise and voice have nothing in common
        assert decibels(share * audio, noisy - share * audio) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("effect", sorted(ON))
def test_as_many_utterances_as_asked_for(effect: str) -> None:
    augment = waveform(**{effect: 0.3})
    audio = voice(seconds=0.1)
    changed = sum(augment(audio, seed) is not audio for seed in range(1000))
    assert changed == pytest.approx(300, abs=60)


def test_one_effect_leaves_the_draws_of_the_others_alone() -> None:
    audio = voice()
    noise, gain = waveform(noise=0.5), waveform(gain=0.5, gain_db=(-9.0, -3.0))
    both = waveform(noise=0.5, gain=0.5, gain_db=(-9.0, -3.0))
    for seed in range(30):
        factor = float(np.sqrt(np.mean(gain(audio, seed) ** 2) / np.mean(audio**2)))
        np.testing.assert_allclose(both(audio, seed), noise(audio, seed) * factor, rtol=0, atol=1e-6)


def test_gain_is_drawn_from_its_range_and_clips() -> None:
    augment = waveform(gain=1.0, gain_db=(-10.0, 6.0))
    audio = voice()
    gains = [decibels(augment(audio, seed), audio) for seed in range(200)]
    assert -10.01 < min(gains) < -9.5
    assert 5.5 < max(gains) < 6.01
    loud = waveform(gain=1.0, gain_db=(20.0, 20.0))(audio, 1)
    np.testing.assert_allclose(loud, np.clip(audio * 10, -1, 1), rtol=1e-5)
    assert (np.abs(loud) == 1).any()


def test_rooms_keep_the_level_and_the_place_and_ring_on() -> None:
    click = np.zeros(RATE, np.float32)
    click[4000] = 0.5
    augment = waveform(room=1.0, room_seconds=(0.2, 0.4))
    for seed in range(10):
        heard = augment(click, seed)
        assert decibels(heard, click) == pytest.approx(0, abs=0.01)
        assert np.abs(heard[:4000]).max() < 1e-5
        assert heard[4000] > 0.01
        assert decibels(heard[4000:4400], heard[6000:6400]) > 10  # 125 ms later
        assert heard[6000:6400].any()
    assert waveform(room=1.0, run=1)(click, 1).tobytes() != waveform(room=1.0, run=2)(click, 1).tobytes()


def test_noise_comes_from_the_folder_where_one_is_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hum.wav", 0.1 * tone(1234.0, seconds=5), RATE)
    augment = waveform(noise=1.0, noise_folder=str(tmp_path))
    audio = voice()
    for seed in range(5):
        assert pitch(augment(audio, seed) - audio) == pytest.approx(1234, abs=0.2)
    with pytest.raises(DataError, match="no such folder"):
        waveform(noise=1.0, noise_folder=str(tmp_path / "absent"))


def test_a_folder_of_noise_that_is_never_heard_is_refused() -> None:
    with pytest.raises(ValueError, match=r"augment\.noise must say in which share"):
        AugmentConfig(noise_folder="somewhere")


def test_frames_take_no_effects_on_audio() -> None:
    frames = FeatureConfig(kind="frames", dims=3)
    assert make_augmentation(AugmentConfig(), frames, seed=1) is None
    for name in ("trim", "pause", "equaliser_db", "vocal_tract", "room", "noise", "gain", "telephone"):
        with pytest.raises(ConfigError, match=rf"augment\.{name} is for audio"):
            make_augmentation(AugmentConfig(**{name: 0.1}), frames, seed=1)  # type: ignore[arg-type]
    augment = make_augmentation(AugmentConfig(), FeatureConfig(rate=8000), seed=1)
    assert augment is not None


def test_a_recipe_and_its_options_set_shares_and_ranges(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "name: mine\ncorpus: {prepare: my_corpus.prepare}\n"
        "augment: {noise: 0.5, noise_db: [0, 20], noise_folder: noises, room: 0.3, vocal_tract: 0.1}\n"
    )
    recipe = load_recipe(tmp_path, options=["--augment.room_seconds", "[0.1, 0.3]"], environment={})
    expected = AugmentConfig(
        noise=0.5, noise_db=(0, 20), noise_folder="noises", room=0.3, vocal_tract=0.1, room_seconds=(0.1, 0.3)
    )
    assert dataclasses.asdict(recipe.augment) == dataclasses.asdict(expected)
    with pytest.raises(ConfigError, match=r"augment\.noise_db"):
        load_recipe(tmp_path, options=["--augment.noise_db", "[20, 0]"], environment={})
