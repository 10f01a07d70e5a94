from __future__ import annotations

import itertools
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
from asr_lstm.decoding.decoders import make_decoders
from asr_lstm.decoding.options import DecodingConfig
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.features import FeatureConfig
from asr_lstm.manifest import Utterance
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.recognise import recognise, recognise_each
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
    clock = itertools.count(100.0, 1.5)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    found = recognise(bundle, [replace(spoken[0])], load=load_utterance_at_8_khz)
    assert found.seconds == 4.5  # loading, network and search, a tick each
    assert found.rtf == 4.5 / spoken[0].duration


def test_draws_of_dropout_are_timed_in_place_of_the_one_pass(
    spoken: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    features, encoder = FeatureConfig(rate=RATE, mels=16, stack=2), EncoderConfig(layers=1, hidden=8)
    units = CharacterUnits(" abcde")
    model = Recogniser(features, encoder, units=len(units)).eval()
    bundle = Bundle(model, units, features, encoder, "asr_lstm.audio.load_utterance")
    clock = itertools.count(100.0, 1.5)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    decoders = make_decoders(DecodingConfig(mc=2), units)
    found = recognise_each(bundle, [replace(spoken[0])], decoders, load=load_utterance_at_8_khz)
    # Loading and the search, with the draws in it; the pass that greedy decoding had is not counted.
    assert [found[name].seconds for name in ("greedy", "greedy+mc")] == [4.5, 3.0]


def test_the_network_runs_once_for_all_decoders(
    bundle: Bundle, spoken: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    forward = bundle.model.forward
    monkeypatch.setattr(bundle.model, "forward", lambda *inputs: runs.append(1) or forward(*inputs))
    decoders = make_decoders(DecodingConfig(decoder="beam", hotwords={"aa": 1.0}), bundle.units)
    found = recognise_each(bundle, spoken[:10], decoders, batch_seconds=1000.0)
    assert list(found) == ["greedy", "beam", "beam+hotwords"]
    assert len(runs) == 1
    assert found["greedy"].texts == recognise(bundle, spoken[:10]).texts
    assert all(one.seconds > 0 for one in found.values())


def test_confidences_are_kept_where_they_are_asked_for(bundle: Bundle, spoken: list[Utterance]) -> None:
    decoders = make_decoders(DecodingConfig(decoder="beam", nbest=3), bundle.units)
    plain = recognise_each(bundle, spoken[:6], decoders)["beam"]
    full = recognise_each(bundle, spoken[:6], decoders, confidences=True)["beam"]
    assert plain.texts == full.texts
    assert {item.nbest for item in plain.items} == {()}
    for item in full.items:
        assert item.nbest[0].text == item.text == " ".join(word.word for word in item.words)
        assert len(item.confidences) == len(item.words)
        assert item.scores is not None
        assert item.scores.shape == (len(item.words), 2)


def test_a_search_says_the_same_in_any_batch(bundle: Bundle, spoken: list[Utterance]) -> None:
    decoders = make_decoders(DecodingConfig(decoder="beam"), bundle.units)
    texts = [
        recognise_each(bundle, spoken[:20], decoders, batch_seconds=seconds)["beam"].texts
        for seconds in (0.1, 7.0, 1000.0)
    ]
    assert texts[0] == texts[1] == texts[2]


def test_logits_that_are_no_numbers_are_the_utterances_failure(
    bundle: Bundle, spoken: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = bundle.model.forward

    def poisoned(inputs: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, lengths = forward(inputs, lengths)
        logits = logits.clone()
        logits[lengths.argmax(), 5] = torch.nan
        return logits, lengths

    monkeypatch.setattr(bundle.model, "forward", poisoned)
    rows = sorted(spoken[:5], key=lambda row: row.duration)
    decoders = make_decoders(DecodingConfig(decoder="beam"), bundle.units)
    for found in recognise_each(bundle, rows, decoders, batch_seconds=1000.0).values():
        (failure,) = found.failures
        assert failure.index == 4
        assert str(failure.error) == (
            f"{rows[4].path}: the network gives NaN or infinity from frame 5 on; "
            "the model is damaged: train it again"
        )
        assert all(found.texts[:4])


def test_draws_of_dropout(bundle: Bundle, spoken: list[Utterance]) -> None:
    with pytest.raises(ConfigError, match="trained without dropout"):
        recognise_each(bundle, spoken[:2], make_decoders(DecodingConfig(mc=2), bundle.units))
    encoder = replace(bundle.encoder, layer_dropout=0.1, state_dropout=0.1)
    model = Recogniser(bundle.features, encoder, units=len(bundle.units))
    model.load_state_dict(bundle.model.state_dict())
    dropping = replace(bundle, model=model, encoder=encoder)
    decoders = make_decoders(DecodingConfig(mc=4), bundle.units)
    found = [
        recognise_each(dropping, spoken[:8], decoders, batch_seconds=seconds, confidences=True)["greedy+mc"]
        for seconds in (0.1, 1000.0)
    ]
    assert found[0].texts == found[1].texts
    for item, other in zip(found[0].items, found[1].items, strict=True):
        assert item.confidences == pytest.approx(other.confidences)
        assert set(item.confidences) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert len({sure for item in found[0].items for sure in item.confidences}) > 1


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


def test_real_speech_flows_through(bundle: Bundle, librispeech_excerpt: Path) -> None:
    utterances = read_subset(librispeech_excerpt / "test-other")[:20]
    utterances = [
        replace(utterance, duration=soundfile.info(utterance.path).duration) for utterance in utterances
    ]
    found = recognise(bundle, utterances, batch_seconds=60.0)
    assert found.failures == []
    assert any(found.texts)
    assert found.audio_seconds == pytest.approx(sum(utterance.duration for utterance in utterances))
