from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile

from asr_lstm.bundle import Bundle, load_bundle, save_bundle
from asr_lstm.decoding.options import DecodingConfig
from asr_lstm.decoding.tuned import TUNED_NAME, Tuned
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.evaluate import evaluate
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.lm.load import save_ngram
from asr_lstm.manifest import Utterance, write_manifest
from asr_lstm.model import Recogniser
from asr_lstm.transcribe import Transcript, transcribe
from asr_lstm.tuning import PAGE_NAME, TuningReport, tune_bundle, tune_command

RATE = 8000
# So alike that a language model cannot tell all of them apart.
WORDS = ["".join(letters) for letters in itertools.product("abde", "ae", "bcd")]

# audioread's reader of WAV imports modules that Python 3.13 drops (it then brings its own).
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:audioread")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, synthetic_speech: Callable) -> list[Utterance]:
    """24 utterances of 24 words, most so noisy that the recogniser errs."""
    folder = tmp_path_factory.mktemp("dev")
    random = np.random.default_rng(7)
    utterances = []
    for index in range(24):
        text = " ".join(random.choice(WORDS, size=3))
        path = folder / f"{index:02}.wav"
        samples = synthetic_speech(text, seed=index, noise=(1e-3, 0.16, 0.25)[index % 3])
        soundfile.write(path, samples, RATE, subtype="FLOAT")
        utterances.append(Utterance(path, text, len(samples) / RATE))
    write_manifest(folder / "dev.jsonl", utterances)
    return utterances


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    save_ngram(path, train_ngram([" ".join(WORDS), " ".join(WORDS[::-1]), *WORDS], order=2))
    return path


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


def test_the_command_writes_the_bundle_and_the_others_use_it(
    tiny_bundle: Path,
    rows: list[Utterance],
    decoding: DecodingConfig,
    report: TuningReport,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = copytree(tiny_bundle, tmp_path / "model")
    manifest = rows[0].path.parent / "dev.jsonl"
    before = evaluate(model=model, manifest=manifest, decoding=decoding).results
    options = {"decoder": "beam", "lm": decoding.lm, "beam": decoding.beam}
    assert tune_command(model=model, manifest=manifest, **options) == 0
    printed = capsys.readouterr().out
    best = report.surfaces["beam+ngram"].best
    assert "beam+ngram: WER %" in printed
    assert f"{100 * best.wer:.2f} *" in printed
    assert f"alpha {best.weights['alpha']:g}, beta {best.weights['beta']:g}" in printed
    kept = json.loads((model / TUNED_NAME).read_text())
    assert kept["source"]["manifest"] == "dev.jsonl"
    assert kept["source"]["lm"] == "lm.arpa"

    after = evaluate(model=model, manifest=manifest, decoding=decoding).results
    figures = after.metrics["decoders"]["dev"]["beam+ngram"]
    assert {name: figures["weights"][name] for name in best.weights} == best.weights
    assert after.splits["dev"]["beam+ngram"].wer == pytest.approx(best.wer)
    assert after.splits["dev"]["beam+ngram"].wer <= before.splits["dev"]["beam+ngram"].wer
    assert figures["confidence"]["ece"] < 0.2

    path = rows[1].path
    (plain,) = transcribe(model=tiny_bundle, paths=[path])
    (calibrated,) = transcribe(model=model, paths=[path])
    assert isinstance(plain, Transcript)
    assert isinstance(calibrated, Transcript)
    assert plain.text == calibrated.text
    calibration = report.tuned.calibrations["greedy"]
    expected = calibration([word.confidence for word in plain.words]).tolist()
    assert [word.confidence for word in calibrated.words] == pytest.approx(expected)


def test_the_page_has_a_picture_for_each_decoder(
    tiny_bundle: Path, rows: list[Utterance], tmp_path: Path
) -> None:
    model = copytree(tiny_bundle, tmp_path / "model")
    assert tune_command(model=model, manifest=rows[0].path.parent / "dev.jsonl", decoder="greedy") == 0
    text = (model / PAGE_NAME).read_text(encoding="utf-8")
    root = ElementTree.fromstring(text.replace("<!DOCTYPE html>", ""))
    assert [heading.text for heading in root.iter("h2")] == ["greedy"]
    assert len(list(root.iter("svg"))) == 1
    assert "Expected calibration error" in text


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


def test_what_cannot_be_read_is_left_out_and_the_command_fails(
    tiny_bundle: Path, rows: list[Utterance], lm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = copytree(tiny_bundle, tmp_path / "model")
    lost = Utterance(tmp_path / "missing.wav", "bad", 1.0)
    write_manifest(tmp_path / "dev.jsonl", [*rows[:6], lost])
    assert tune_command(model=model, manifest=tmp_path / "dev.jsonl", decoder="beam", lm=lm, beam=4) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{lost.path}: ")
    write_manifest(tmp_path / "dev.jsonl", [lost])
    with pytest.raises(DataError, match="none of the dev set's utterances could be loaded"):
        tune_command(model=model, manifest=tmp_path / "dev.jsonl", decoder="beam", lm=lm)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"beam": 0}, "beam must be at least 1"),
        ({"mc": 2}, "the model was trained without dropout"),
    ],
)
def test_what_makes_no_sense_writes_nothing(
    options: dict[str, int], complaint: str, tiny_bundle: Path, rows: list[Utterance], tmp_path: Path
) -> None:
    model = copytree(tiny_bundle, tmp_path / "model")
    before = sorted(path.name for path in model.iterdir())
    with pytest.raises(ConfigError, match=complaint):
        tune_command(model=model, manifest=rows[0].path.parent / "dev.jsonl", **options)
    assert sorted(path.name for path in model.iterdir()) == before
