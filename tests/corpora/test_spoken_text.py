"""Speech from any text in any language."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import pytest
import soundfile

from asr_lstm.corpora import spoken_text
from asr_lstm.corpora.espeak import Voice
from asr_lstm.corpora.spoken_text import VARIANTS, deal, draw_voices, prepare_spoken_text
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.manifest import Utterance, read_manifest

CZECH = [
    "Dobrý den, jak se máte?",
    "Dnes je krásné počasí a jdeme do lesa.",
    "Kde je nádraží, prosím?",
    "Mám rád čerstvý chléb.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Zítra přijede moje sestra z Brna.",
]
TINY: dict[str, Any] = {"lang": "cs", "sentences": CZECH, "hours": 0.01, "speakers": 3}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("czech")
    prepare_spoken_text(folder, **TINY, workers=1)
    return folder


def rows_of(folder: Path, split: str = "train") -> list[Utterance]:
    return read_manifest(folder / f"{split}.jsonl")


def test_czech_is_spoken_and_says_that_it_is_synthetic(corpus: Path) -> None:
    rows = rows_of(corpus)
    assert 0.01 <= sum(row.duration for row in rows) / 3600 < 0.014
    assert len({row.speaker for row in rows}) == 3
    assert {row.text for row in rows} <= set(CZECH)
    assert len({row.text for row in rows}) >= 5
    for row in rows:
        assert row.extra["synthetic"] is True
        assert row.lang == "cs"
        assert row.extra["voice"].startswith("cs")
        info = soundfile.info(row.path)
        assert (info.samplerate, info.channels, info.duration) == (16000, 1, row.duration)
        assert 5 < len(row.text) / row.duration < 25


def test_the_same_bytes_from_two_workers_and_others_from_another_seed(corpus: Path, tmp_path: Path) -> None:
    prepare_spoken_text(tmp_path / "again", **TINY, workers=2)
    assert digests(tmp_path / "again") == digests(corpus)
    prepare_spoken_text(tmp_path / "other", **TINY, seed=2)
    audio = {value for name, value in digests(tmp_path / "other").items() if name.endswith(".flac")}
    assert not audio & set(digests(corpus).values())


def test_what_is_done_is_kept_and_what_is_not_is_made(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_spoken_text(tmp_path, **TINY)
    first, second, _ = sorted((tmp_path / "audio").iterdir())
    kept = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    (second / "seconds.json").unlink()  # as if it had been interrupted there
    (tmp_path / "audio" / "synthetic-cs-0001-0123456789ab").mkdir()  # of other arguments
    (tmp_path / "audio" / "mine").mkdir()
    prepare_spoken_text(tmp_path, **TINY)
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == kept
    (tmp_path / "audio" / "mine").rmdir()
    assert digests(tmp_path) == digests(corpus)
    assert len(list((tmp_path / "audio").iterdir())) == 3


def test_dev_has_voices_and_sentences_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("espeakng_loader")
    monkeypatch.setattr(spoken_text, "LEAST_SPEAKERS", 2)
    prepared = prepare_spoken_text(tmp_path, **TINY, dev=0.004, rate=8000, acoustics=None)
    assert list(prepared.manifests) == ["train", "dev"]
    train, dev = rows_of(tmp_path), rows_of(tmp_path, "dev")
    assert not {row.text for row in train} & {row.text for row in dev}
    assert not {row.speaker for row in train} & {row.speaker for row in dev}
    assert {row.text for row in train} | {row.text for row in dev} == set(CZECH)
    assert soundfile.info(dev[0].path).samplerate == 8000


def test_only_sentences_of_the_wanted_length(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    sentences = ["no", "good morning to all of you", "one two three four five " * 8]
    prepare_spoken_text(tmp_path, lang="en", sentences=sentences, hours=0.0001, speakers=2, max_seconds=5.0)
    assert {row.text for row in rows_of(tmp_path)} == {sentences[1]}


def test_too_little_text_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("espeakng_loader")
    with caplog.at_level(logging.WARNING):
        prepare_spoken_text(tmp_path, lang="nl", sentences=["goede morgen allemaal"], hours=0.5, speakers=2)
    assert "the text gave 0.00 of 0.5 hours" in caplog.text
    assert len(rows_of(tmp_path)) == 2


@pytest.mark.parametrize(
    ("voices", "most", "count", "uses"),
    [
        (1, 5, 3, {1}),  # a voice says nothing twice
        (3, 4, 12, {1}),  # nobody repeats another before all is read
        (3, 10, 12, {2, 3}),
        (5, 2, 3, {3, 4}),
        (4, 3, 0, set()),
        (0, 3, 5, {0}),
    ],
)
def test_dealing(voices: int, most: int, count: int, uses: set[int]) -> None:
    sentences = [str(number) for number in range(count)]
    hands = deal(sentences, voices=voices, most=most)
    assert len(hands) == (voices if count else 0)
    assert all(len(hand) == len(set(hand)) == min(most, count) for hand in hands)
    dealt = [sentence for hand in hands for sentence in hand]
    assert {dealt.count(sentence) for sentence in sentences} == uses


def test_each_variant_is_heard_before_any_comes_again() -> None:
    ranges: dict[str, Any] = {"pitch": (40, 60), "rate": (100, 120), "gap": (0, 3)}
    stream = draw_voices(["en-us", "en-029"], seed=1, **ranges)
    voices = [next(stream) for _ in range(2 * len(VARIANTS))]
    assert {voice.variant for voice in voices[: len(VARIANTS)]} == set(VARIANTS)
    assert {voice.language for voice in voices} == {"en-us", "en-029"}
    assert all(40 <= v.pitch <= 60 and 100 <= v.rate <= 120 and 0 <= v.gap <= 3 for v in voices)
    again = draw_voices(["en-us", "en-029"], seed=1, **ranges)
    assert [next(again) for _ in voices] == voices
    assert next(draw_voices(["en-us", "en-029"], seed=2, **ranges)) != voices[0]


def test_a_gap_between_words_takes_time() -> None:
    pytest.importorskip("espeakng_loader")
    from asr_lstm.corpora.espeak import Espeak

    lengths = [len(Espeak(Voice("en", gap=gap)).speak("one two three four")) for gap in (0, 20)]
    assert lengths[1] > lengths[0] + 3 * 0.1 * 22050


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"hours": 0.0}, ValueError, "hours"),
        ({"dev": -1.0}, ValueError, "dev"),
        ({"rate": 44100}, ValueError, "rate"),
        ({"min_seconds": 9.0}, ValueError, "max_seconds"),
        ({"pitch": (90, 20)}, ValueError, "pitch must .* not 90, 20"),
        ({"words_a_minute": (60, 90)}, ValueError, "words_a_minute must .* 80 .. 450"),
        ({"word_gap": (0, 200)}, ValueError, "word_gap"),
        ({"lang": "xx"}, ConfigError, "xx"),
        ({"sentences": ["1"]}, DataError, "nothing to speak"),
        ({"sentences": ["ano ano"], "dev": 0.1}, DataError, "too few to hold some out"),
        ({"sentences": ["ano"], "min_seconds": 7.0}, DataError, "takes 7 to 8 seconds"),
        ({"text": "absent.txt"}, DataError, "absent.txt"),
    ],
)
def test_what_makes_no_sense(
    options: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    pytest.importorskip("espeakng_loader")
    with pytest.raises(error, match=said):
        prepare_spoken_text(tmp_path, **TINY | options)
    assert not list(tmp_path.rglob("*.flac"))
    assert not list(tmp_path.glob("*.jsonl"))
