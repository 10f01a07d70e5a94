"""An LSTM language model behind `--lstm` and `--rescore`: what the options make is what is made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from asr_lstm.decoding.beam import BeamConfig, BeamDecoder
from asr_lstm.decoding.decoders import Parts, make_decoders
from asr_lstm.decoding.hypothesis import Hypothesis
from asr_lstm.decoding.options import DecodingConfig
from asr_lstm.decoding.rescore import rescore
from asr_lstm.decoding.tune_weights import (
    ALPHA_SHARES,
    LSTM_BETAS,
    LSTM_WEIGHTS,
    RESCORE_WEIGHTS,
    tune_decoder,
)
from asr_lstm.decoding.tuned import Tuned
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.lm.load import save_ngram
from asr_lstm.lm.neural.bundle import NeuralLM, load_neural, save_neural
from asr_lstm.lm.neural.fusion import NeuralUnits
from asr_lstm.lm.neural.scores import NeuralScorer
from asr_lstm.scoring import score
from asr_lstm.units import CharacterUnits

UNITS = CharacterUnits([" ", "a", "b"])
LOGITS = [2 * torch.randn(12, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
REFERENCES = ["ab a", "b", "aab b", "ba", "a b a", "bb", "ab", "b aa"]


@pytest.fixture
def lstm(random_lm: Callable[..., NeuralLM], tmp_path: Path) -> Path:
    save_neural(tmp_path / "lstm", random_lm(" ab"), card="")
    return tmp_path / "lstm"


@pytest.fixture
def ngram(tmp_path: Path) -> Path:
    save_ngram(tmp_path / "lm.arpa", train_ngram(REFERENCES, order=2))
    return tmp_path / "lm.arpa"


def last(config: DecodingConfig, tuned: Tuned | None = None) -> list[list[Hypothesis]]:
    """What the last of the decoders finds."""
    return make_decoders(config, UNITS, tuned)[-1].search.decode_each(LOGITS)


def told(found: list[list[Hypothesis]]) -> list[list[tuple[str, float]]]:
    return [[(one.text, pytest.approx(one.total, abs=1e-4)) for one in nbest] for nbest in found]


def by_hand(lstm: Path, *, weight: float, **options: Any) -> list[list[Hypothesis]]:
    config = BeamConfig(beam=6, nbest=3, unit_alpha=weight)
    return BeamDecoder(
        UNITS, config=config, unit_model=NeuralUnits(load_neural(lstm), UNITS), **options
    ).decode_each(LOGITS)


def test_the_lstm_searches_with_its_weight(lstm: Path) -> None:
    config = DecodingConfig(decoder="beam", beam=6, nbest=3, lstm=lstm, lstm_weight=0.7)
    found = told(last(config))
    assert found == told(by_hand(lstm, weight=0.7))
    assert found != told(by_hand(lstm, weight=0.5))
    assert told(last(replace(config, lstm_weight=None))) == told(by_hand(lstm, weight=0.5))
    tuned = Tuned({"beam+lstm": {"lstm_weight": 0.3}})
    assert told(last(replace(config, lstm_weight=None), tuned)) == told(by_hand(lstm, weight=0.3))


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_lstm_rescores_with_its_weight(lstm: Path, weight: float) -> None:
    config = DecodingConfig(decoder="beam", beam=6, nbest=3, rescore=lstm, lstm_weight=weight)
    first = BeamDecoder(UNITS, config=BeamConfig(beam=6, nbest=3)).decode_each(LOGITS)
    scorer = NeuralScorer(load_neural(lstm), UNITS)
    expected = rescore(first, scorer, weight=weight)
    assert told(last(config)) == told(expected)
    assert (told(expected) == told(first)) == (weight == 0)


def transcribed(config: DecodingConfig, weights: dict[str, dict[str, float]]) -> float:
    """The WER of the last decoder with these weights."""
    found = last(config, Tuned(weights))
    return score(REFERENCES, [nbest[0].text for nbest in found]).wer


def test_tuning_tries_the_weights_of_a_search(lstm: Path, ngram: Path) -> None:
    config = DecodingConfig(decoder="beam", beam=6, lm=ngram, lstm=lstm)
    before = {"beam+ngram": {"alpha": 0.8, "beta": 0.25}}
    tuning = tune_decoder("beam+ngram+lstm", Parts(config, UNITS), Tuned(before), LOGITS, REFERENCES)
    grid = [row.weights for row in tuning.rows[: len(LSTM_WEIGHTS) * len(ALPHA_SHARES)]]
    expected = [
        {"lstm_weight": weight, "beta": 0.25, "alpha": share * 0.8}
        for weight in LSTM_WEIGHTS
        for share in ALPHA_SHARES
    ]
    assert sorted(grid, key=str) == sorted(expected, key=str)
    assert all(row.weights["beta"] == 0.25 for row in tuning.rows)
    for row in tuning.rows[::3]:
        assert row.wer == transcribed(config, before | {"beam+ngram+lstm": dict(row.weights)})
    assert tuning.best.wer == min(row.wer for row in tuning.rows)


def test_without_an_ngram_the_bonus_of_a_word_is_tried(lstm: Path) -> None:
    config = DecodingConfig(decoder="beam", beam=6, lstm=lstm)
    tuning = tune_decoder("beam+lstm", Parts(config, UNITS), Tuned(), LOGITS, REFERENCES)
    grid = {(row.weights["lstm_weight"], row.weights["beta"]) for row in tuning.rows}
    assert {(weight, beta) for weight in LSTM_WEIGHTS for beta in LSTM_BETAS} <= grid


def test_tuning_tries_the_weights_of_a_second_pass(lstm: Path) -> None:
    config = DecodingConfig(decoder="beam", beam=6, rescore=lstm)
    tuning = tune_decoder("beam+rescore", Parts(config, UNITS), Tuned(), LOGITS, REFERENCES)
    assert {row.weights["lstm_weight"] for row in tuning.rows} >= set(RESCORE_WEIGHTS)
    rates = {}
    for row in tuning.rows:
        rates[row.weights["lstm_weight"]] = row.wer
        assert row.wer == transcribed(config, {"beam+rescore": dict(row.weights)})
    assert len(set(rates.values())) > 1
