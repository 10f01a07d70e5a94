"""What several tests share: where the real speech lies, and a tiny recogniser of synthetic tones."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recordings import LIBRISPEECH, absent
from sung_speech import LETTERS, RATE, Samples, random_text, sing

from asr_lstm.batching import pad_inputs
from asr_lstm.bundle import Bundle, save_bundle
from asr_lstm.features import FeatureConfig
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.units import CharacterUnits

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"

_STEPS = 110


@pytest.fixture(scope="session")
def librispeech_excerpt() -> Path:
    """The folder LibriSpeech with 100 real utterances of test-other."""
    if not LIBRISPEECH.is_dir():
        pytest.skip(absent(LIBRISPEECH))
    return LIBRISPEECH


@pytest.fixture(scope="session")
def synthetic_speech() -> Callable[..., Samples]:
    """`sing`: text to the tones that the tiny recogniser knows."""
    return sing


@pytest.fixture(scope="session")
def synthetic_texts() -> list[str]:
    """50 texts of 1 to 6 words for the tiny recogniser, none of them trained on."""
    random = np.random.default_rng(50)
    return [random_text(random, words=1 + index % 6) for index in range(50)]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices are faster, and sums the same everywhere, on one core; the same for a test alone as among all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws of torch without a seed of its own is the same each time, and whatever ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a recogniser (1 layer of 16 a direction, 8 kHz) trained in seconds to read synthetic tones.

    The same on each run; it gets nearly every letter right.
    """
    features = FeatureConfig(rate=RATE, mels=16, stack=2)
    encoder = EncoderConfig(layers=1, hidden=16, layer_dropout=0.0, state_dropout=0.0)
    units = CharacterUnits.from_texts([f" {LETTERS} a"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Recogniser(features, encoder, units=len(units))
    _train(model, units)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_bundle(folder, Bundle(model, units, features, encoder, loader="asr_lstm.audio.load_utterance"))
    return folder


def _train(model: Recogniser, units: CharacterUnits) -> None:
    random = np.random.default_rng(0)
    model.front_end.fit(torch.from_numpy(sing(random_text(random, words=3), seed=i)) for i in range(8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.03, total_steps=_STEPS)
    for step in range(_STEPS):
        texts = [random_text(random, words=1 if step < _STEPS // 3 else 3) for _ in range(16)]
        noises = 10 ** random.uniform(-4, -1.5, size=len(texts))
        audio = [
            torch.from_numpy(sing(text, seed=1000 * step + i, noise=noise))
            for i, (text, noise) in enumerate(zip(texts, noises, strict=True))
        ]
        targets = [units.encode(text) for text in texts]
        logits, lengths = model(*pad_inputs(audio))
        loss = torch.nn.functional.ctc_loss(
            logits.log_softmax(-1).transpose(0, 1),
            torch.tensor([unit for target in targets for unit in target]),
            lengths,
            torch.tensor([len(target) for target in targets]),
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()


@pytest.fixture(scope="module")
def tools_path() -> Iterator[Path]:
    """The folder of the scripts, which import each other from beside themselves; they are forgotten afterwards."""
    sys.path.insert(0, str(TOOLS))
    yield TOOLS
    sys.path.remove(str(TOOLS))
    for script in TOOLS.glob("*.py"):
        sys.modules.pop(script.stem, None)


@pytest.fixture
def no_sentencepiece(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the package is not installed."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "sentencepiece":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
