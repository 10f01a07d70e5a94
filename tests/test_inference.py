from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr_lstm.bundle import Bundle, load_bundle
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.features import FeatureConfig
from asr_lstm.inference import broken_logits, default_loader, find_device, load_inputs, log_logits
from asr_lstm.manifest import Utterance
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.units import CharacterUnits

RATE = 8000

# audioread's reader of WAV imports modules that Python 3.13 drops (it then brings its own).
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:audioread")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


def frames_bundle(loader: str, *, dims: int = 3) -> Bundle:
    features = FeatureConfig(kind="frames", dims=dims, stack=1)
    encoder = EncoderConfig(layers=1, hidden=4)
    units = CharacterUnits("ab")
    return Bundle(Recogniser(features, encoder, units=len(units)), units, features, encoder, loader)


def test_what_is_no_input_of_the_model_is_refused() -> None:
    row = Utterance(Path("5.ink"), "", 1.0)
    frames = frames_bundle("anything.load")
    assert load_inputs(frames, row, load=lambda _: np.ones((5, 3))).dtype == torch.float32
    with pytest.raises(
        ConfigError, match=r"^5\.ink: the loader gave shape \(5, 4\), the model takes \(time, 3\);"
    ):
        load_inputs(frames, row, load=lambda _: np.ones((5, 4)))
    with pytest.raises(DataError, match=r"^5\.ink: holds nothing to recognise"):
        load_inputs(frames, row, load=lambda _: np.ones((0, 3)))


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), ValueError("no pickle"), EOFError("short")])
def test_whatever_a_loader_of_ones_own_says_of_a_bad_file_is_an_error_of_that_file(error: Exception) -> None:
    def load(_: Utterance) -> np.ndarray:
        raise error

    with pytest.raises(DataError, match=r"^5\.ink: cannot be loaded \((gone|no pickle|short)\)"):
        load_inputs(frames_bundle("anything.load"), Utterance(Path("5.ink"), "", 1.0), load=load)


def test_the_first_frame_that_holds_no_distribution_is_named() -> None:
    logits = torch.zeros(4, 3)
    assert broken_logits(logits, Path("a.wav")) is None
    logits[2, 1] = torch.nan
    assert "a.wav: the network gives NaN or infinity from frame 2 on" in str(
        broken_logits(logits, Path("a.wav"))
    )


def test_logits_of_several_lengths(bundle: Bundle) -> None:
    cpu = torch.device("cpu")
    inputs = [
        torch.randn(samples, generator=torch.Generator().manual_seed(samples)) for samples in (4000, 9000)
    ]
    together = log_logits(bundle, inputs, device=cpu)
    for row, alone in zip(together, inputs, strict=True):
        (expected,) = log_logits(bundle, [alone], device=cpu)
        assert row.shape == expected.shape
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-4)
    assert log_logits(bundle, [], device=cpu) == []


@pytest.mark.parametrize(
    "name",
    ["no_such_module.load", "asr_lstm.audio.no_such_function", "load", "", "asr_lstm.audio.SAMPLE_RATE", 5],
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


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_one_clear_line(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^device '{name}' cannot be used here \([^\n]+\); use cpu$"):
        find_device(name)
