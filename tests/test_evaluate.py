from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jiwer
import pytest
import soundfile

from asr_lstm.bundle import load_bundle
from asr_lstm.decoding.options import DecodingConfig
from asr_lstm.errors import AudioError, ConfigError, DataError
from asr_lstm.evaluate import device_name, evaluate, evaluate_command, score_recognitions
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.lm.load import save_ngram
from asr_lstm.manifest import Utterance, write_manifest
from asr_lstm.recognise import Recognition, Recognitions
from asr_lstm.report import read_results
from asr_lstm.units import Normaliser

RATE = 8000

# audioread's reader of WAV imports modules that Python 3.13 drops (it then brings its own).
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:audioread")


@pytest.fixture
def rows(tmp_path: Path, synthetic_speech: Callable, synthetic_texts: list[str]) -> list[Utterance]:
    """12 utterances of synthetic tones, 3 of them noisy."""
    utterances = []
    for index, text in enumerate(synthetic_texts[:12]):
        samples = synthetic_speech(text, seed=index, noise=0.2 if index % 4 == 3 else 1e-3)
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, samples, RATE)
        utterances.append(Utterance(path, text, len(samples) / RATE))
    return utterances


def manifest_of(rows: list[Utterance]) -> Path:
    path = rows[0].path.parent / "held-out.jsonl"
    write_manifest(path, rows)
    return path


def recognitions(*texts: str | None) -> Recognitions:
    """None stands for an utterance that could not be loaded."""
    items = [
        Recognition(index, text or "", AudioError("x.wav: broken; mend it") if text is None else None)
        for index, text in enumerate(texts)
    ]
    return Recognitions(items, seconds=1.0, audio_seconds=4.0)


def said(*texts: str, speakers: str = "") -> list[Utterance]:
    return [
        Utterance(Path(f"{index}.wav"), text, 1.0, speaker=speakers[index : index + 1])
        for index, text in enumerate(texts)
    ]


def test_the_rates_are_jiwers(tiny_bundle: Path, rows: list[Utterance]) -> None:
    evaluation = evaluate(model=tiny_bundle, manifest=manifest_of(rows))
    split = evaluation.split
    result = evaluation.results.splits["held-out"]["greedy"]
    assert result is split.result
    references = [row.text for row in rows]
    assert split.references == references
    assert result.wer == pytest.approx(jiwer.wer(references, split.hypotheses))
    assert result.cer == pytest.approx(jiwer.cer(references, split.hypotheses))
    assert 0 < result.wer < 0.6
    assert result.wer_low <= result.wer <= result.wer_high
    assert (result.utterances, result.words) == (12, sum(len(text.split()) for text in references))
    assert result.rtf is not None
    assert result.rtf > 0


def test_results_json(tiny_bundle: Path, rows: list[Utterance], tmp_path: Path) -> None:
    output = tmp_path / "new" / "results.json"
    manifest = manifest_of(rows)
    evaluation = evaluate(model=tiny_bundle, manifest=manifest, output=output)
    results = read_results(output)
    assert results == evaluation.results
    assert results.command == (
        f"asr-lstm evaluate --model {tiny_bundle} --manifest {manifest} --output {output}"
    )
    assert results.parameters == load_bundle(tiny_bundle).parameters
    assert (results.recipe, results.device, results.notes) == (str(tiny_bundle), device_name(), [])
    assert list(json.loads(output.read_text(encoding="utf-8"))["splits"]) == ["held-out"]


def test_a_file_that_cannot_be_read_counts_and_the_command_fails(
    tiny_bundle: Path, rows: list[Utterance], capsys: pytest.CaptureFixture[str]
) -> None:
    rows[1].path.write_text("not audio")
    manifest = manifest_of(rows)
    assert evaluate_command(model=tiny_bundle, manifest=manifest) == 1
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith(f"{rows[1].path}: ")
    assert "1 of 12 utterances could not be loaded" in " ".join(printed.out.split())
    result = evaluate(model=tiny_bundle, manifest=manifest).results.splits["held-out"]["greedy"]
    assert result.utterances == 12
    assert result.words == sum(len(row.text.split()) for row in rows)


def test_the_command_prints_the_table_and_the_five_worst(
    tiny_bundle: Path, rows: list[Utterance], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [replace(row, text=f"{row.text} never sung") for row in rows]
    assert evaluate_command(model=tiny_bundle, manifest=manifest_of(rows)) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "held-out" in printed.out
    assert "greedy" in printed.out
    assert printed.out.count("REF:") == printed.out.count("HYP:") == 5


def test_missing_words_of_a_lost_utterance_are_errors() -> None:
    scored = score_recognitions(said("a b", "c d"), recognitions("a b", None), normaliser=Normaliser())
    assert scored.result.wer == 0.5
    assert scored.hypotheses == ["a b", ""]
    assert [failure.index for failure in scored.failures] == [1]
    assert scored.notes == ["1 of 2 utterances could not be loaded; all their words count as missed."]
    assert scored.result.rtf == 0.25


def test_both_sides_are_normalised() -> None:
    scored = score_recognitions(
        said("Don't, STOP!", "naïve"), recognitions("don't stop'", "naive"), normaliser=Normaliser()
    )
    assert scored.references == ["don't stop", "naïve"]
    assert scored.hypotheses == ["don't stop", "naive"]
    assert scored.result.wer == pytest.approx(1 / 3)
    assert scored.notes == []


def test_ten_speakers_widen_the_interval() -> None:
    # The errors of a speaker go together: two of ten speakers have every word wrong.
    texts = ["w"] * 100
    heard = recognitions(*(["x"] * 20 + ["w"] * 80))
    speakers = "".join(letter * 10 for letter in "abcdefghij")
    known = score_recognitions(said(*texts, speakers=speakers), heard, normaliser=Normaliser()).result
    unknown = score_recognitions(said(*texts), heard, normaliser=Normaliser()).result
    assert known.wer == unknown.wer == 0.2
    assert known.wer_high - known.wer_low > 2 * (unknown.wer_high - unknown.wer_low)


@pytest.fixture
def lm(rows: list[Utterance], tmp_path: Path) -> Path:
    path = tmp_path / "lm.arpa"
    save_ngram(path, train_ngram([row.text for row in rows], order=2))
    return path


def test_all_decoders_stand_in_one_results_json(
    tiny_bundle: Path, rows: list[Utterance], lm: Path, tmp_path: Path
) -> None:
    decoding = DecodingConfig(decoder="beam", lm=lm, hotwords={"ab c": 2.0}, alpha=0.8, nbest=5)
    output, manifest = tmp_path / "results.json", manifest_of(rows)
    evaluation = evaluate(model=tiny_bundle, manifest=manifest, output=output, decoding=decoding)
    results = read_results(output)
    assert results == evaluation.results
    names = ["greedy", "beam", "beam+ngram", "beam+ngram+hotwords"]
    assert list(results.splits["held-out"]) == list(evaluation.splits) == names
    assert evaluation.split is evaluation.splits[names[-1]]
    assert results.splits["held-out"]["beam+ngram"].wer < results.splits["held-out"]["greedy"].wer
    for result in results.splits["held-out"].values():
        assert result.rtf is not None
        assert result.rtf > 0
    assert results.command == (
        f"asr-lstm evaluate --model {tiny_bundle} --manifest {manifest} --decoder beam --lm {lm} "
        f"--hotwords '{{\"ab c\": 2.0}}' --alpha 0.8 --nbest 5 --output {output}"
    )


def test_what_results_json_says_of_errors(tiny_bundle: Path, rows: list[Utterance], lm: Path) -> None:
    decoding = DecodingConfig(decoder="beam", lm=lm)
    evaluation = evaluate(model=tiny_bundle, manifest=manifest_of(rows), decoding=decoding)
    for name, figures in evaluation.results.metrics["decoders"]["held-out"].items():
        split = evaluation.splits[name]
        errors = figures["errors"]
        total = errors["substitutions"] + errors["deletions"] + errors["insertions"]
        assert total / split.result.words == pytest.approx(split.result.wer)
        assert figures["oracle_wer"] <= split.result.wer
        assert "error_auc" in figures["confidence"] or split.result.wer == 0
    figures = evaluation.results.metrics["decoders"]["held-out"]
    assert figures["greedy"]["oracle_wer"] == evaluation.splits["greedy"].result.wer
    assert figures["beam"]["oracle_wer"] < evaluation.splits["beam"].result.wer


def test_the_command_shows_the_commonest_errors(
    tiny_bundle: Path, rows: list[Utterance], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [replace(row, text=f"{row.text} never") for row in rows]
    assert evaluate_command(model=tiny_bundle, manifest=manifest_of(rows), decoder="beam", beam=5) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "beam: " in printed
    assert "most confused (said > heard): " in printed
    assert "confidence: calibration error" in printed


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"decoder": "beam", "beam": 0}, "beam must be at least 1, not 0"),
        ({"lm": Path("lm.arpa")}, "lm: greedy decoding has no use for it"),
        ({"decoder": "beam", "lm": Path("no.arpa")}, "no.arpa: cannot read the language model"),
        ({"decoder": "beam", "lexicon": Path("no.txt")}, "no.txt: cannot read the lexicon"),
        ({"decoder": "beam", "hotwords": {"xyz": 1.0}}, "hotword 'xyz': the units lack 'x', 'y', 'z'"),
        ({"decoder": "beam", "lstm": Path("no")}, "no: no language model"),
        ({"mc": 4}, "the model was trained without dropout"),
    ],
)
def test_options_that_make_no_sense_are_one_line_and_write_nothing(
    options: dict[str, Any], complaint: str, tiny_bundle: Path, rows: list[Utterance], tmp_path: Path
) -> None:
    output = tmp_path / "results.json"
    with pytest.raises((ConfigError, DataError), match=complaint) as caught:
        evaluate_command(model=tiny_bundle, manifest=manifest_of(rows), output=output, **options)
    assert "\n" not in str(caught.value)
    assert not output.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot read the manifest"),
        ("", "the manifest is empty"),
        ('{"audio_filepath": "a.wav", "text": "a", "duration": 1}\n{"audio', "2: not JSON"),
    ],
)
def test_a_manifest_that_is_none_is_one_line(
    content: str | None, reason: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "test.jsonl"
    if content is not None:
        manifest.write_text(content)
    with pytest.raises(DataError) as caught:
        evaluate_command(model=tiny_bundle, manifest=manifest)
    assert str(caught.value).startswith(f"{manifest}:")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_is_none_is_one_line(rows: list[Utterance], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        evaluate_command(model=tmp_path, manifest=manifest_of(rows))
    assert str(caught.value).startswith(f"{tmp_path}: not a model")


@pytest.mark.parametrize("place", ["below-a-file", "folder"])
def test_an_output_that_cannot_be_written_is_found_before_the_work(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "results.json" if place == "below-a-file" else tmp_path
    # The model is missing too, which would be found next.
    with pytest.raises(DataError) as caught:
        evaluate(model=tmp_path / "missing", manifest=tmp_path / "missing", output=output)
    assert str(caught.value).startswith(f"{output}: ")
    assert "\n" not in str(caught.value)
