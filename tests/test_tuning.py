from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_dev import make_dev, make_lm

from asr_lstm.bundle import Bundle, load_bundle, save_bundle
from asr_lstm.decoding.calibration import Calibration
from asr_lstm.decoding.decoders import make_decoders
from asr_lstm.decoding.options import DecodingConfig
from asr_lstm.decoding.tuned import TUNED_NAME, Tuned
from asr_lstm.errors import ConfigError
from asr_lstm.manifest import Utterance
from asr_lstm.model import Recogniser
from asr_lstm.tuning import TuningReport, tune_bundle

# audioread's reader of WAV imports modules that Python 3.13 drops (it then brings its own).
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:audioread")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, synthetic_speech: Callable) -> list[Utterance]:
    return make_dev(tmp_path_factory.mktemp("dev"), synthetic_speech)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lm(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="module")
def decoding(lm: Path) -> DecodingConfig:
    return DecodingConfig(decoder="beam", lm=lm, beam=8)


@pytest.fixture(scope="module")
def report(tiny_bundle: Path, rows: list[Utterance], decoding: DecodingConfig) -> TuningReport:
    return tune_bundle(load_bundle(tiny_bundle), rows, decoding)


def test_the_best_point_is_kept(report: TuningReport) -> None:
    assert list(report.surfaces) == ["beam+ngram"]
    tuning = report.surfaces["beam+ngram"]
    assert tuning.best.wer == min(row.wer for row in tuning.rows)
    assert len({row.wer for row in tuning.rows}) > 2
    assert report.tuned.weights == {"beam+ngram": tuning.best.weights}
    assert set(tuning.best.weights) == {"alpha", "beta"}
    assert min(row.weights["alpha"] for row in tuning.rows) >= 0


def test_every_decoder_is_calibrated(report: TuningReport) -> None:
    assert report.notes == report.failures == []
    columns = {name: len(one.weights) for name, one in report.tuned.calibrations.items()}
    assert columns == {"greedy": 1, "beam": 2, "beam+ngram": 2}
    for one in report.reliabilities.values():
        assert 0 <= one.calibrated_error <= 1
        assert {row.words > 0 for rows in one.bins.values() for row in rows} == {True}
    # Posteriors of so small a network in noise are far from honest.
    assert report.reliabilities["greedy"].calibrated_error < report.reliabilities["greedy"].error


def test_what_was_tuned_for_other_decoders_stays(
    tiny_bundle: Path, rows: list[Utterance], report: TuningReport
) -> None:
    bundle = load_bundle(tiny_bundle)
    bundle.tuned = Tuned({"beam+lstm": {"lstm_weight": 0.1}}, report.tuned.calibrations)
    tuned = tune_bundle(bundle, rows[:6], DecodingConfig()).tuned
    assert tuned.weights == {"beam+lstm": {"lstm_weight": 0.1}}
    assert tuned.calibrations["beam"] == report.tuned.calibrations["beam"]
    assert tuned.calibrations["greedy"] != report.tuned.calibrations["greedy"]


def test_a_calibration_of_other_scores_is_refused_and_tuning_makes_it_anew(
    tiny_bundle: Path, rows: list[Utterance], report: TuningReport
) -> None:
    bundle = load_bundle(tiny_bundle)
    bundle.tuned = Tuned({}, {"greedy": Calibration((1.0, 1.0), 0.0)})
    with pytest.raises(
        ConfigError, match=r"the calibration of greedy has 2 weights for 1 .*run `asr-lstm tune`"
    ):
        make_decoders(DecodingConfig(), bundle.units, bundle.tuned)
    tuned = tune_bundle(bundle, rows, DecodingConfig()).tuned
    assert tuned.calibrations == {"greedy": report.tuned.calibrations["greedy"]}


def test_training_anew_forgets_what_was_tuned(
    tiny_bundle: Path, report: TuningReport, tmp_path: Path
) -> None:
    bundle = load_bundle(tiny_bundle)
    save_bundle(tmp_path, replace(bundle, tuned=report.tuned))
    assert load_bundle(tmp_path).tuned == report.tuned
    save_bundle(tmp_path, bundle)
    assert load_bundle(tmp_path).tuned == Tuned()
    assert not (tmp_path / TUNED_NAME).exists()


def test_draws_of_dropout_are_calibrated_too(tiny_bundle: Path, rows: list[Utterance]) -> None:
    plain = load_bundle(tiny_bundle)
    encoder = replace(plain.encoder, layer_dropout=0.1, state_dropout=0.1)
    model = Recogniser(plain.features, encoder, units=len(plain.units))
    model.load_state_dict(plain.model.state_dict())
    bundle = Bundle(model.eval(), plain.units, plain.features, encoder, plain.loader)
    report = tune_bundle(bundle, rows[:12], DecodingConfig(mc=3))
    assert len(report.tuned.calibrations["greedy+mc"].weights) == 2
    assert report.surfaces == {}


def test_words_that_are_all_right_are_not_calibrated(tiny_bundle: Path, rows: list[Utterance]) -> None:
    report = tune_bundle(load_bundle(tiny_bundle), rows[:1], DecodingConfig())
    assert report.tuned.calibrations == report.reliabilities == {}
    (note,) = report.notes
    assert note.startswith("greedy: confidences cannot be calibrated")
