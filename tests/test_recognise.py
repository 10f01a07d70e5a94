from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr_lstm.audio import load_utterance
from asr_lstm.bundle import Bundle, load_bundle
from asr_lstm.corpora.librispeech import read_subset
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.features import FeatureConfig
from asr_lstm.manifest import Utterance
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.recognise import default_loader, find_device, recognise
from asr_lstm.scoring import score
from asr_lstm.units import CharacterUnits

RATE = 8000

# audioread's reader of WAV imports modules that Python 3.13 drops (it then brings its own).
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:audioread")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def spoken(
    tmp_path_factory: pytest.TempPathFactory, synthetic_speech: Callable, synthetic_texts: list[str]
) -> list[Utterance]:
    """50 utterances of synthetic tones, every other one so noisy that the recogniser errs."""
    folder = tmp_path_factory.mktemp("spoken")
    utterances = []
    for index, text in enumerate(synthetic_texts):
        samples = synthetic_speech(text, seed=index, noise=0.12 if index % 2 else 1e-3)
        path = folder / f"{index:02}.wav"
        soundfile.write(path, samples, RATE, subtype="FLOAT")
        utterances.append(Utterance(path, text, len(samples) / RATE))
    return utterances


def frames_bundle(loader: str, *, dims: int = 3) -> Bundle:
    features = FeatureConfig(kind="frames", dims=dims, stack=1)
    encoder = EncoderConfig(layers=1, hidden=4)
    units = CharacterUnits("ab")
    return Bundle(Recogniser(features, encoder, units=len(units)), units, features, encoder, loader)


def load_frames(utterance: Utterance) -> np.ndarray:
    """A loader by its dotted name: as many frames as the file's name says."""
    return np.ones((int(utterance.path.stem), 3), np.float32)


def test_what_was_sung_is_recognised(bundle: Bundle, spoken: list[Utterance]) -> None:
    clean = spoken[::2]
    found = recognise(bundle, clean, batch_seconds=10.0)
    assert score([utterance.text for utterance in clean], found.texts).cer < 0.03


def test_the_text_of_50_utterances_is_the_same_in_5_batch_sizes(
    bundle: Bundle, spoken: list[Utterance]
) -> None:
    longest = max(utterance.duration for utterance in spoken)
    # 0.1: each alone, as it is longer than a batch; the last: all together.
    texts = [
        recognise(bundle, spoken, batch_seconds=seconds).texts
        for seconds in (0.1, 2.0, 7.0, 20.0, longest * len(spoken))
    ]
    assert all(other == texts[0] for other in texts)
    noisy = score([utterance.text for utterance in spoken[1::2]], texts[0][1::2])
    assert noisy.cer > 0.05  # texts that are all right would hide small differences
    assert len(set(texts[0])) > 40


def test_a_model_that_hears_words_in_silence_says_the_same_in_5_batch_sizes(spoken: list[Utterance]) -> None:
    # Unlike the trained one it does not answer padding with blanks, so that padding which is heard shows.
    features = FeatureConfig(rate=RATE, mels=16, stack=2)
    encoder = EncoderConfig(layers=2, hidden=8)
    units = CharacterUnits(" abcde")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Recogniser(features, encoder, units=len(units)).eval()
    with torch.no_grad():
        for parameter in model.encoder.layers.parameters():
            parameter *= 3
        model.head.bias[0] = -1.0
    bundle = Bundle(model, units, features, encoder, "asr_lstm.audio.load_utterance")
    texts = [
        recognise(bundle, spoken, batch_seconds=seconds).texts for seconds in (0.1, 2.0, 7.0, 20.0, 1000.0)
    ]
    assert all(other == texts[0] for other in texts)
    assert len(set(texts[0])) > 40


def test_results_stand_in_the_inputs_order(bundle: Bundle, spoken: list[Utterance]) -> None:
    forward = recognise(bundle, spoken[:10])
    backward = recognise(bundle, spoken[:10][::-1])
    assert forward.texts == backward.texts[::-1]
    assert [item.index for item in backward.items] == list(range(10))


def test_what_cannot_be_loaded_is_reported_and_stops_no_other(
    bundle: Bundle, spoken: list[Utterance], tmp_path: Path
) -> None:
    broken = tmp_path / "text.wav"
    broken.write_text("not audio at all")
    missing = tmp_path / "missing.wav"
    rows = [Utterance(missing, "a", 1.0), spoken[0], Utterance(broken, "a", 2.0), spoken[2]]
    found = recognise(bundle, rows)
    assert found.texts == ["", spoken[0].text, "", spoken[2].text]
    assert [item.index for item in found.failures] == [0, 2]
    for item, path in zip(found.failures, (missing, broken), strict=True):
        assert str(item.error).startswith(f"{path}: ")
        assert "\n" not in str(item.error)
    assert found.audio_seconds == spoken[0].duration + spoken[2].duration


def test_real_time_factor(bundle: Bundle, spoken: list[Utterance], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 103.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock, 0.0))
    found = recognise(bundle, [replace(spoken[0])], load=load_utterance_at_8_khz)
    assert found.seconds == 3.0
    assert found.rtf == 3.0 / spoken[0].duration


def load_utterance_at_8_khz(utterance: Utterance) -> np.ndarray:
    return load_utterance(utterance, rate=RATE)


def test_without_audio_there_is_no_real_time_factor(bundle: Bundle, tmp_path: Path) -> None:
    assert recognise(bundle, []).rtf is None
    assert recognise(bundle, [Utterance(tmp_path / "no.wav", "", 1.0)]).rtf is None


def test_dropout_sleeps_and_the_model_is_left_as_it_was(spoken: list[Utterance]) -> None:
    features = FeatureConfig(rate=RATE, mels=16, stack=2)
    encoder = EncoderConfig(layers=1, hidden=16, layer_dropout=0.5, state_dropout=0.5)
    units = CharacterUnits(" abcde")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Recogniser(features, encoder, units=len(units)).train()
    bundle = Bundle(model, units, features, encoder, "asr_lstm.audio.load_utterance")
    texts = [recognise(bundle, spoken[:5]).texts for _ in range(2)]
    assert texts[0] == texts[1]
    assert any(texts[0])
    assert all(module.training for module in model.modules())


def test_frames_come_from_the_loader_that_the_bundle_names() -> None:
    bundle = frames_bundle(f"{__name__}.load_frames")
    rows = [Utterance(Path(f"{count}.ink"), "", 1.0) for count in (5, 40, 1)]
    found = recognise(bundle, rows)
    assert [item.error for item in found.items] == [None] * 3


def test_a_loader_that_gives_nothing_fails_for_that_utterance_alone() -> None:
    bundle = frames_bundle(f"{__name__}.load_frames")
    rows = [Utterance(Path(f"{count}.ink"), "", 1.0) for count in (5, 0)]
    found = recognise(bundle, rows)
    assert [type(item.error) for item in found.items] == [type(None), DataError]
    assert str(found.items[1].error).startswith("0.ink: ")


def test_a_loader_of_another_shape_is_refused() -> None:
    bundle = frames_bundle(f"{__name__}.load_frames", dims=4)
    message = r"^5\.ink: the loader gave shape \(5, 3\), the model takes \(time, 4\); use the loader [^\n]+$"
    with pytest.raises(ConfigError, match=message):
        recognise(bundle, [Utterance(Path("5.ink"), "", 1.0)])


@pytest.mark.parametrize(
    "name",
    ["no_such_module.load", "asr_lstm.audio.no_such_function", "load", "", "asr_lstm.audio.SAMPLE_RATE"],
)
def test_a_loader_that_cannot_be_imported_is_one_clear_line(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        default_loader(frames_bundle(name))
    message = str(caught.value)
    assert message.startswith("the model's loader: ")
    assert repr(name) in message
    assert "\n" not in message


def test_audio_is_loaded_at_the_models_rate(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(44100, np.float32), 44100)
    assert len(default_loader(bundle)(Utterance(path, "", 1.0))) == RATE


@pytest.mark.parametrize("name", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_one_clear_line(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^device '{name}' cannot be used here \([^\n]+\); use cpu$"):
        find_device(name)


def test_real_speech_flows_through(bundle: Bundle, librispeech_excerpt: Path) -> None:
    utterances = read_subset(librispeech_excerpt / "test-other")[:20]
    utterances = [
        replace(utterance, duration=soundfile.info(utterance.path).duration) for utterance in utterances
    ]
    found = recognise(bundle, utterances, batch_seconds=60.0)
    assert found.failures == []
    assert any(found.texts)
    assert found.audio_seconds == pytest.approx(sum(utterance.duration for utterance in utterances))
