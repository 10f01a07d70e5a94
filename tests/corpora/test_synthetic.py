from __future__ import annotations

import builtins
import hashlib
import json
import math
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_lstm.corpora import synthetic
from asr_lstm.corpora.espeak import Voice
from asr_lstm.corpora.synthetic import Reading, make_speakers, prepare_synthetic, read_marker, synthesise
from asr_lstm.errors import ConfigError, DataError

TINY = {"hours": 0.01, "speakers": 5, "dev_sentences": 2, "test_sentences": 3}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    pytest.importorskip("espeakng_loader")
    return prepare_synthetic(tmp_path_factory.mktemp("synthetic"), workers=1, **TINY)


def transcripts(corpus: Path) -> dict[str, dict[str, str]]:
    """Read the layout as LibriSpeech has it: split -> id -> text."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted(corpus.glob("*/*/*/*.trans.txt")):
        subset, speaker, chapter = file.parts[-4:-1]
        assert file.name == f"{speaker}-{chapter}.trans.txt"
        rows = dict(line.split(" ", 1) for line in file.read_text().splitlines())
        assert list(rows) == [f"{speaker}-{chapter}-{index:04d}" for index in range(len(rows))]
        assert {f"{name}.flac" for name in rows} == {path.name for path in file.parent.glob("*.flac")}
        found.setdefault(subset, {}).update(rows)
    return found


def test_layout(corpus):
    assert corpus.name == "LibriSpeech"
    found = transcripts(corpus)
    assert sorted(found) == ["dev-synthetic", "test-synthetic", "train-synthetic"]
    assert [len(found[f"{split}-synthetic"]) for split in ("dev", "test")] == [2, 3]
    texts = [text for rows in found.values() for text in rows.values()]
    assert all(re.fullmatch(r"[A-Z' ]+", text) for text in texts)
    assert len({text for rows in found.values() for text in set(rows.values())}) == sum(
        len(set(rows.values())) for rows in found.values()
    )  # no sentence in two splits
    for split, readers in (("dev", 1), ("test", 1), ("train", 2)):
        speakers = defaultdict(list)
        for name, text in found[f"{split}-synthetic"].items():
            speakers[text].append(name.split("-")[0])
        assert all(len(heard) == len(set(heard)) <= readers for heard in speakers.values())
        assert len(speakers) == math.ceil(len(found[f"{split}-synthetic"]) / readers)
    speakers = [{name.split("-")[0] for name in rows} for rows in found.values()]
    assert [len(ids) for ids in speakers] == [1, 1, 3]
    assert len(set.union(*speakers)) == 5


def test_everything_says_synthetic(corpus):
    assert "SYNTHETIC" in (corpus / "README.TXT").read_text()
    assert "espeak-ng (1." in (corpus / "README.TXT").read_text()
    assert read_marker(corpus)["synthetic"] is True
    lines = (corpus / "SPEAKERS.TXT").read_text().splitlines()
    assert "SYNTHETIC" in lines[0]
    rows = [[cell.strip() for cell in line.split("|", 4)] for line in lines if not line.startswith(";")]
    assert sorted(row[0] for row in rows) == sorted(path.name for path in corpus.glob("*-synthetic/*"))
    for number, sex, subset, minutes, name in rows:
        files = list((corpus / subset / number).rglob("*.flac"))
        assert sex in ("F", "M")
        assert name.startswith("Synthetic ")
        assert float(minutes) == pytest.approx(
            sum(soundfile.info(file).duration for file in files) / 60, abs=0.006
        )


def test_audio_is_speech(corpus):
    texts = {name: text for rows in transcripts(corpus).values() for name, text in rows.items()}
    paths = list(corpus.rglob("*.flac"))
    assert len(paths) == len(texts) > 0
    for path in paths:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        wave, _ = soundfile.read(path)
        assert np.abs(wave).max() < 0.995  # not clipped
        assert -36 < 20 * np.log10(wave.std()) < -12
        # Blocks of 50 ms: speech moves up and down, and the end is background, not a word cut off.
        blocks = wave[: len(wave) // 800 * 800].reshape(-1, 800).std(axis=1)
        assert blocks.max() > 3 * np.median(blocks[-2:])
        assert 7 < len(texts[path.stem]) / (info.duration - 0.4) < 26  # characters a second


def test_same_bytes_with_two_workers_and_other_bytes_with_another_seed(corpus, tmp_path):
    again = prepare_synthetic(tmp_path / "again", workers=2, **TINY)
    assert digests(again) == digests(corpus)
    other = prepare_synthetic(tmp_path / "other", workers=2, seed=2, **TINY)
    assert not set(digests(other).values()) & set(digests(corpus).values())


def test_a_complete_corpus_is_kept_and_another_replaced(corpus, tmp_path, monkeypatch):
    made = []

    def fake(readings, folder, **_):
        made.append(folder)
        for reading in readings:
            for name in reading.files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).touch()
        return {name: 1.0 for reading in readings for name in reading.files}

    monkeypatch.setattr(synthetic, "synthesise", fake)
    assert prepare_synthetic(corpus.parent, **TINY) == corpus
    assert not made
    first = prepare_synthetic(tmp_path, **TINY)
    (first / "stale").touch()
    assert prepare_synthetic(tmp_path, **TINY) == first
    assert (first / "stale").exists()
    prepare_synthetic(tmp_path, seed=9, **TINY)
    assert read_marker(first)["seed"] == 9
    assert not (first / "stale").exists()
    assert len(made) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["LibriSpeech"]


def test_an_interrupted_run_starts_over(tmp_path, monkeypatch):
    real = synthetic.synthesise
    (tmp_path / ".LibriSpeech.partial").mkdir()
    (tmp_path / ".LibriSpeech.partial" / "left by a killed run").touch()

    def interrupted(readings, folder, **_):
        (folder / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "synthesise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_synthetic(tmp_path, **TINY)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(synthetic, "synthesise", real)
    pytest.importorskip("espeakng_loader")
    corpus = prepare_synthetic(tmp_path, hours=0.001, speakers=3, dev_sentences=1, test_sentences=1)
    assert len(list(corpus.rglob("*.flac"))) == 3


def test_a_real_corpus_is_never_replaced(tmp_path):
    precious = tmp_path / "LibriSpeech" / "train-clean-100"
    precious.mkdir(parents=True)
    with pytest.raises(DataError, match="not synthetic"):
        prepare_synthetic(tmp_path, **TINY)
    assert precious.exists()


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="choose another folder"):
        prepare_synthetic(tmp_path / "file", **TINY)


def test_not_installed(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'asr_lstm\[synthetic\]'"):
        prepare_synthetic(tmp_path, **TINY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", [1, 2])
def test_default_speakers(seed):
    cast = make_speakers(76, seed=seed)
    assert len({speaker.voice for speaker in cast}) == 76
    assert len({speaker.id for speaker in cast}) == 76
    counts = {split: [s for s in cast if s.split == split] for split in ("train", "dev", "test")}
    assert [len(members) for members in counts.values()] == [58, 9, 9]
    # No accent and variant together twice, so none in two splits; each accent is heard in training.
    assert len({(s.voice.language, s.voice.variant) for s in cast}) == 76
    assert {s.voice.language for s in counts["train"]} == set(synthetic.ACCENTS)
    assert {s.sex for s in counts["test"]} == {"F", "M"}


def test_every_variant_and_accent_exists():
    pytest.importorskip("espeakng_loader")
    from asr_lstm.corpora.espeak import Espeak

    waves = {}
    for variant in (*synthetic.FEMALE_VARIANTS, *synthetic.MALE_VARIANTS):
        waves[variant] = Espeak(Voice("en", variant)).speak("tomorrow").tobytes()
    for accent in set(synthetic.ACCENTS):
        waves[f"accent {accent}"] = Espeak(Voice(accent)).speak("the bath is not far over there").tobytes()
    assert len(set(waves.values())) == len(waves)


def test_impossible_arguments(tmp_path):
    with pytest.raises(ValueError, match="speakers"):
        make_speakers(2, seed=1)
    with pytest.raises(ValueError, match="speakers"):
        make_speakers(10_000, seed=1)
    with pytest.raises(ValueError, match="hours"):
        prepare_synthetic(tmp_path, hours=0)


def test_synthesise_any_text_and_language(tmp_path):
    pytest.importorskip("espeakng_loader")
    readings = [
        Reading(Voice("de"), {"de/1.flac": "Guten Morgen", "de/2.flac": "schöne Grüße"}),
        Reading(Voice("cy", "f2"), {"cy/1.flac": "bore da"}),
    ]
    seconds = synthesise(readings, tmp_path, acoustics=None, workers=1)
    assert sorted(seconds) == ["cy/1.flac", "de/1.flac", "de/2.flac"]
    assert all(soundfile.info(tmp_path / name).duration == length for name, length in seconds.items())


def test_a_file_does_not_depend_on_the_others(tmp_path):
    pytest.importorskip("espeakng_loader")
    one = Reading(Voice("en"), {"one.flac": "good morning"})
    two = Reading(Voice("en", "f1"), {"two.flac": "good evening"})
    synthesise([one, two], tmp_path / "both")
    synthesise([two], tmp_path / "alone")
    assert (tmp_path / "both/two.flac").read_bytes() == (tmp_path / "alone/two.flac").read_bytes()


def test_a_bad_voice_or_text_is_named(tmp_path):
    pytest.importorskip("espeakng_loader")
    with pytest.raises(ConfigError, match="no variant 'nobody'"):
        synthesise([Reading(Voice("en", "nobody"), {"x.flac": "yes"})], tmp_path)
    with pytest.raises(DataError, match="nothing to speak"):
        synthesise([Reading(Voice("en"), {"x.flac": " "})], tmp_path)


def test_a_worker_that_dies_is_reported(tmp_path, monkeypatch):
    pytest.importorskip("espeakng_loader")
    monkeypatch.setattr(synthetic, "asdict", lambda _: {"language": "en", "unknown": 1})
    with pytest.raises(DataError, match="espeak-ng process ended with status 1: TypeError"):
        synthesise([Reading(Voice("en"), {"x.flac": "yes"})], tmp_path)


def test_the_marker_may_be_broken(tmp_path):
    (tmp_path / synthetic.MARKER).write_text("{")
    assert read_marker(tmp_path) is None
    (tmp_path / synthetic.MARKER).write_text(json.dumps([1]))
    assert read_marker(tmp_path) is None
