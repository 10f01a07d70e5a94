from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any
from xml.etree import ElementTree

import pytest
from small_dev import make_dev, make_lm

from asr_lstm.bundle import load_bundle
from asr_lstm.decoding.options import DecodingConfig
from asr_lstm.decoding.tuned import TUNED_NAME
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.evaluate import evaluate
from asr_lstm.manifest import Utterance, write_manifest
from asr_lstm.report import read_results
from asr_lstm.transcribe import Transcript, transcribe
from asr_lstm.tuning import TuningReport, tune_bundle
from asr_lstm.tuning_command import PAGE_NAME, tune_command

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


def test_folds_measure_and_then_all_is_tuned(
    tiny_bundle: Path, rows: list[Utterance], lm: Path, report: TuningReport, tmp_path: Path
) -> None:
    model = copytree(tiny_bundle, tmp_path / "model")
    manifest, output = rows[0].path.parent / "dev.jsonl", tmp_path / "results.json"
    options = {"decoder": "beam", "lm": lm, "beam": 8}
    assert tune_command(model=model, manifest=manifest, folds=2, output=output, **options) == 0
    assert load_bundle(model).tuned.weights == report.tuned.weights
    results = read_results(output)
    assert list(results.splits["dev"]) == ["greedy", "beam", "beam+ngram"]
    assert results.splits["dev"]["beam+ngram"].utterances == len(rows)
    assert len(results.metrics["decoders"]["dev"]["beam+ngram"]["weights"]) == 2
    (note,) = results.notes
    assert note.startswith("dev: in 2 folds by speaker")
    assert results.command == (
        f"asr-lstm tune --model {model} --manifest {manifest} --folds 2 --decoder beam --lm {lm} --beam 8 "
        f"--output {output}"
    )


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"folds": 1}, ConfigError, "folds: must be 0, or 2 and more, not 1"),
        ({"output": Path("results.json")}, ConfigError, "output: nothing is measured without folds"),
        ({"folds": 2, "output": Path()}, DataError, "is a folder"),
        ({"folds": 7}, DataError, "6 speakers cannot be parted into 7 folds"),
    ],
)
def test_folds_that_make_no_sense(
    options: dict[str, Any], error: type[Exception], complaint: str, tiny_bundle: Path, rows: list[Utterance]
) -> None:
    with pytest.raises(error, match=complaint):
        tune_command(model=tiny_bundle, manifest=rows[0].path.parent / "dev.jsonl", **options)
