"""What kenlm makes of small texts; see tests/assets/ngram/README.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from asr_lstm.lm.neural.bundle import NeuralLM
from asr_lstm.lm.neural.network import LanguageModel, NetworkConfig
from asr_lstm.lm.neural.text_units import CharacterTextUnits, TextUnits
from asr_lstm.units import Normaliser

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "ngram"


@pytest.fixture(scope="session")
def ngram_assets() -> Path:
    return ASSETS


@pytest.fixture(scope="session")
def kenlm_says() -> dict[str, Any]:
    """expected.json: what lmplz trained, and how kenlm scores."""
    return json.loads((ASSETS / "expected.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@pytest.fixture
def random_lm() -> Callable[..., NeuralLM]:
    """Makes a small LSTM language model with large random weights, of characters by default."""

    def make(
        units: TextUnits | str = "ab c", *, normaliser: Normaliser | None = None, **options: Any
    ) -> NeuralLM:
        network = NetworkConfig(**({"layers": 2, "hidden": 12, "embedding": 8} | options))
        known = CharacterTextUnits(units) if isinstance(units, str) else units
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = LanguageModel(network, units=len(known))
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.7)
        return NeuralLM(model.eval(), known, network, normaliser)

    return make
