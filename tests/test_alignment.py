from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch

from asr_lstm.alignment import Alignment, AlignmentFailure, align_command, align_manifest
from asr_lstm.bundle import Bundle, load_bundle
from asr_lstm.decoding.align import align_units
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.features import FeatureConfig
from asr_lstm.inference import default_loader, load_inputs, run_batch
from asr_lstm.manifest import Utterance, write_manifest
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.transcribe import Transcript, transcribe
from asr_lstm.units import CharacterUnits

RATE = 8000
# The tiny recogniser's tones: letters of 0.08 s with gaps of 0.04 s, after 0.16 s of silence.
LETTER, SILENCE = 0.12, 0.16
FRAME = 0.02

# audioread's reader of WAV imports modules that Python 3.13 drops (it then brings its own).
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:audioread")


@pytest.fixture
def rows(tmp_path: Path, synthetic_speech: Callable, synthetic_texts: list[str]) -> list[Utterance]:
    utterances = []
    for index, text in enumerate(synthetic_texts[:6]):
        path = tmp_path / f"{index}.wav"
        samples = synthetic_speech(text, seed=index)
        soundfile.write(path, samples, RATE)
        utterances.append(Utterance(path, text, len(samples) / RATE))
    return utterances


def manifest_of(rows: list[Utterance]) -> Path:
    path = rows[0].path.parent / "said.jsonl"
    write_manifest(path, rows)
    return path


def test_each_word_is_where_it_was_sung(tiny_bundle: Path, rows: list[Utterance]) -> None:
    results = align_manifest(model=tiny_bundle, utterances=rows)
    for row, result in zip(rows, results, strict=True):
        assert isinstance(result, Alignment)
        assert (result.id, result.duration) == (row.id, row.duration)
        assert [word.text for word in result.words] == row.text.split()
        assert "".join(unit.text for unit in result.units) == row.text.replace(" ", "")
        sung = SILENCE
        for word in result.words:
            assert sung - FRAME < word.start < word.end < sung + LETTER * len(word.text) + 2 * FRAME
            assert 0.3 < word.confidence <= 1
            sung += LETTER * (len(word.text) + 1)


def test_times_are_those_of_transcription(tiny_bundle: Path, rows: list[Utterance]) -> None:
    bundle = load_bundle(tiny_bundle)
    heard = [result for result in transcribe(model=bundle, paths=[row.path for row in rows])]
    said = [
        replace(row, text=result.text)
        for row, result in zip(rows, heard, strict=True)
        if isinstance(result, Transcript)
    ]
    for result, transcript in zip(align_manifest(model=bundle, utterances=said), heard, strict=True):
        assert isinstance(result, Alignment)
        assert isinstance(transcript, Transcript)
        for one, other in zip(result.words, transcript.words, strict=True):
            assert (one.start, one.end) == pytest.approx((other.start, other.end))


def test_words_of_a_pyramid_are_timed_by_its_own_frames(rows: list[Utterance]) -> None:
    """Half a second that is cut into frames of 40 ms: what is found in frame n begins 40 n - 5 ms in."""
    features = FeatureConfig(rate=RATE, mels=16, stack=2)
    encoder = EncoderConfig(layers=2, hidden=16, time_reduction=(2,))
    units = CharacterUnits.from_texts(["ab c"])
    torch.manual_seed(0)
    bundle = Bundle(
        Recogniser(features, encoder, units=len(units)).eval(),
        units,
        features,
        encoder,
        loader="asr_lstm.audio.load_utterance",
    )
    (result,) = align_manifest(model=bundle, utterances=[replace(rows[0], text="ab")])
    assert isinstance(result, Alignment)
    audio = load_inputs(bundle, rows[0], load=default_loader(bundle))
    logits, lengths = run_batch(bundle, [audio], device=torch.device("cpu"))
    spans = align_units(logits[0, : int(lengths)], units.encode("ab", where="here"))
    step = 2 * encoder.time_factor * features.hop_samples / RATE
    half = features.hop_samples / RATE / 2
    for unit, span in zip(result.units, spans, strict=True):
        assert unit.start == pytest.approx(max(0.0, span.start * step - half))
        assert unit.end == pytest.approx(min(rows[0].duration, span.end * step - half))
    assert step == pytest.approx(0.04)


def test_the_batch_does_not_matter(tiny_bundle: Path, rows: list[Utterance]) -> None:
    bundle = load_bundle(tiny_bundle)
    together = align_manifest(model=bundle, utterances=rows)
    for row, result in zip(rows, together, strict=True):
        (alone,) = align_manifest(model=bundle, utterances=[row])
        assert isinstance(alone, Alignment)
        assert isinstance(result, Alignment)
        assert [(w.text, w.start, w.end) for w in alone.words] == [
            (w.text, w.start, w.end) for w in result.words
        ]


def test_what_cannot_be_aligned_is_a_line_each_and_the_rest_is_done(
    tiny_bundle: Path, rows: list[Utterance], capsys: pytest.CaptureFixture[str]
) -> None:
    rows[0] = replace(rows[0], text="")
    rows[1] = replace(rows[1], text="xyz")
    rows[2] = replace(rows[2], text="a" * 500)
    rows[3].path.write_text("not audio")
    assert align_command(model=tiny_bundle, manifest=manifest_of(rows)) == 1
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 4
    assert lines[0] == "0: the text is empty: there is nothing to align"
    assert lines[1].startswith("1: the units lack 'x'")
    assert lines[2].startswith("2: the text needs 999 frames and there are ")
    assert lines[3].startswith(f"{rows[3].path}: ")
    assert {line.split()[0] for line in printed.out.splitlines()} == {"4", "5"}


def test_all_failing_is_no_crash(tiny_bundle: Path, rows: list[Utterance]) -> None:
    (result,) = align_manifest(model=tiny_bundle, utterances=[replace(rows[0], text="")])
    assert isinstance(result, AlignmentFailure)
    assert align_manifest(model=tiny_bundle, utterances=[]) == []


@pytest.mark.parametrize("format", ["ctm", "json"])
def test_one_file_for_all(format: str, tiny_bundle: Path, rows: list[Utterance], tmp_path: Path) -> None:
    output = tmp_path / "new" / "out"
    assert align_command(model=tiny_bundle, manifest=manifest_of(rows), format=format, output=output) == 0  # type: ignore[arg-type]
    lines = output.read_text(encoding="utf-8").splitlines()
    if format == "ctm":
        assert [line.split()[4] for line in lines] == [word for row in rows for word in row.text.split()]
    else:
        assert [json.loads(line)["id"] for line in lines] == [row.id for row in rows]


def test_a_textgrid_for_each(tiny_bundle: Path, rows: list[Utterance], tmp_path: Path) -> None:
    rows[0] = replace(rows[0], id="a/b")
    output = tmp_path / "grids"
    assert align_command(model=tiny_bundle, manifest=manifest_of(rows), format="textgrid", output=output) == 0
    names = sorted(path.name for path in output.iterdir())
    assert names == sorted(["a_b.TextGrid", *(f"{index}.TextGrid" for index in range(1, 6))])
    assert f'text = "{rows[1].text.split()[0]}"' in (output / "1.TextGrid").read_text(encoding="utf-8")


def test_names_that_no_disk_takes_cost_themselves_alone(
    tiny_bundle: Path, rows: list[Utterance], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows[:2] = [replace(rows[0], id="long" * 100), replace(rows[1], id="a\0b")]
    output = tmp_path / "grids"
    assert align_command(model=tiny_bundle, manifest=manifest_of(rows), format="textgrid", output=output) == 1
    assert {path.name for path in output.iterdir()} == {
        "a_b.TextGrid", *(f"{index}.TextGrid" for index in range(2, 6)),
    }  # fmt: skip
    (line,) = capsys.readouterr().err.splitlines()
    assert "longlong" in line


def test_ids_that_ctm_writes_alike_are_refused(tiny_bundle: Path, rows: list[Utterance]) -> None:
    manifest = manifest_of([replace(rows[0], id="a b"), replace(rows[1], id="a_b")])
    with pytest.raises(DataError, match="both 'a b' and 'a_b' would be written there"):
        align_command(model=tiny_bundle, manifest=manifest)


def test_a_failure_names_the_row_where_a_recording_has_several(
    tiny_bundle: Path, rows: list[Utterance], capsys: pytest.CaptureFixture[str]
) -> None:
    # 9 stands in the reason too, as a part of numbers.
    parts = [replace(rows[0], id=id, offset=99.0, duration=1.0) for id in ("part a", "9")]
    assert align_command(model=tiny_bundle, manifest=manifest_of([*parts, *rows[1:]])) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["part a", "9"]


def test_textgrids_without_a_place(tiny_bundle: Path, rows: list[Utterance], tmp_path: Path) -> None:
    manifest = manifest_of(rows)
    with pytest.raises(ConfigError, match=r"^output: a TextGrid is a file an utterance"):
        align_command(model=tiny_bundle, manifest=manifest, format="textgrid")
    with pytest.raises(ConfigError, match="this is a file; name a folder"):
        align_command(model=tiny_bundle, manifest=manifest, format="textgrid", output=manifest)
    manifest = manifest_of([replace(rows[0], id="a/b"), replace(rows[1], id="a_b")])
    with pytest.raises(DataError, match="both 'a/b' and 'a_b' would be written there"):
        align_command(model=tiny_bundle, manifest=manifest, format="textgrid", output=tmp_path / "grids")
    assert not (tmp_path / "grids").exists()
