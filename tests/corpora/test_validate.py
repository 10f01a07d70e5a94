from __future__ import annotations

import csv
import logging
import os
import random
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import LIBRISPEECH, needs

from asr_lstm.corpora.validate import (
    DUPLICATE,
    MISSING,
    NO_TEXT,
    NOT_UTF8,
    UNREADABLE,
    UNTRUE_DURATION,
    Dropped,
    measure_audio,
    report_dropped,
    validate_utterances,
    write_dropped,
)
from asr_lstm.errors import AudioError
from asr_lstm.manifest import Utterance, read_manifest, write_manifest


def _write(path: Path, seconds: float = 1.0, *, rate: int = 16000) -> Path:
    noise = np.random.default_rng(len(path.name)).normal(scale=0.1, size=round(seconds * rate))
    soundfile.write(path, noise, rate)
    return path


def _utterance(path: Path, *, text: str = "A WORD", duration: float = 0.0, **fields: object) -> Utterance:
    return Utterance(path=path, text=text, duration=duration, **fields)  # type: ignore[arg-type]


def _kind(item: Dropped) -> str:
    return item.reason.partition(":")[0]


def test_every_fault_is_named_and_the_rest_is_kept_in_order(tmp_path: Path) -> None:
    sound = [_write(tmp_path / f"{name}.flac", seconds) for name, seconds in (("a", 0.5), ("z", 1.25))]
    cut = _write(tmp_path / "cut.flac")
    cut.write_bytes(cut.read_bytes()[:9000])
    (tmp_path / "text.flac").write_text("no audio\n" * 50)
    (tmp_path / "nothing.flac").touch()
    (tmp_path / "folder.flac").mkdir()
    soundfile.write(tmp_path / "zero.wav", np.zeros(0), 16000)
    _write(tmp_path / "short.wav", 0.01)
    candidates = [
        _utterance(sound[1], speaker="7", lang="en"),
        _utterance(tmp_path / "gone.flac"),
        _utterance(cut),
        _utterance(tmp_path / "text.flac"),
        _utterance(tmp_path / "nothing.flac"),
        _utterance(tmp_path / "folder.flac"),
        _utterance(tmp_path / "zero.wav"),
        _utterance(tmp_path / "short.wav"),
        _utterance(sound[0], text=" \t", id="silent"),
        _utterance(sound[0], duration=3.0, id="liar"),
        _utterance(sound[0]),
        _utterance(sound[0], id="z"),
    ]
    kept, dropped = validate_utterances(iter(candidates))
    assert [(item.id, item.duration, item.speaker, item.lang) for item in kept] == [
        ("z", 1.25, "7", "en"),
        ("a", 0.5, "", ""),
    ]
    assert [(item.id, _kind(item)) for item in dropped] == [
        ("gone", MISSING),
        ("cut", UNREADABLE),
        ("text", UNREADABLE),
        ("nothing", UNREADABLE),
        ("folder", MISSING),
        ("zero", UNREADABLE),
        ("short", UNREADABLE),
        ("silent", NO_TEXT),
        ("liar", UNTRUE_DURATION),
        ("z", DUPLICATE),
    ]
    for item in dropped:
        assert "\n" not in item.reason
        assert len(item.reason) > len(_kind(item)) + 2
    assert "3.00" in dropped[8].reason
    assert "0.50" in dropped[8].reason
    assert str(sound[1]) in dropped[9].reason


@pytest.mark.parametrize("keep", [-1, -2, -17, -700, 0.5, 0.02, 100])
def test_a_cut_flac_is_found_though_its_header_is_whole(tmp_path: Path, keep: float) -> None:
    path = _write(tmp_path / "a.flac", 2.0)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)])
    assert soundfile.info(path).frames == 32000
    with pytest.raises(AudioError, match=r"a\.flac"):
        measure_audio(path)


@needs(LIBRISPEECH)
def test_real_flac_cut_at_random_places_is_found(tmp_path: Path) -> None:
    source = sorted(LIBRISPEECH.glob("*/*/*/*.flac"))[0]
    data = source.read_bytes()
    path = tmp_path / source.name
    path.write_bytes(data)
    assert measure_audio(path) == soundfile.info(source).duration
    chance = random.Random(3)
    for cut in [1, 2, 3, *(chance.randrange(4, len(data) - 100) for _ in range(60))]:
        path.write_bytes(data[:-cut])
        with pytest.raises(AudioError):
            measure_audio(path)


@pytest.mark.parametrize("suffix", ["flac", "wav", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_sound_files_of_other_formats_have_their_length(tmp_path: Path, suffix: str, rate: int) -> None:
    for seconds in (0.3, 0.5, 1.7):
        path = _write(tmp_path / f"a.{suffix}", seconds, rate=rate)
        assert measure_audio(path) == pytest.approx(seconds, abs=1 / rate)


@pytest.mark.parametrize(
    ("declared", "good"),
    [
        (1.0, True),
        (1.04, True),
        (0.96, True),
        (1.06, False),
        (0.94, False),
        (-1.0, False),
        (float("nan"), False),
    ],
)
def test_a_declared_duration_must_be_true(tmp_path: Path, declared: float, good: bool) -> None:
    path = _write(tmp_path / "a.wav")
    kept, dropped = validate_utterances([_utterance(path, duration=declared)])
    assert [item.duration for item in kept] == ([1.0] if good else [])
    assert [_kind(item) for item in dropped] == ([] if good else [UNTRUE_DURATION])


def test_the_tolerance_is_an_option(tmp_path: Path) -> None:
    utterances = [_utterance(_write(tmp_path / "a.wav"), duration=1.2)]
    assert len(validate_utterances(utterances, duration_tolerance=0.25)[0]) == 1
    assert len(validate_utterances(utterances, duration_tolerance=0.1)[0]) == 0
    for wrong in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="duration_tolerance"):
            validate_utterances(utterances, duration_tolerance=wrong)


@pytest.mark.parametrize(
    ("offset", "declared", "stretches", "duration"),
    [
        (0.25, 0.5, False, 0.5),
        (0.25, 0.0, False, 0.75),
        (0.25, 0.78, False, 0.75),  # within the tolerance, and never beyond the end
        (0.25, 0.9, False, None),
        (1.0, 0.0, False, None),
        (2.0, 0.5, False, None),
        (-0.5, 0.5, False, None),
        (0.0, 0.5, False, None),
        (0.0, 0.5, True, 0.5),
        (0.0, 1.5, True, None),
    ],
)
def test_stretches_of_a_recording(
    tmp_path: Path, offset: float, declared: float, stretches: bool, duration: float | None
) -> None:
    utterance = _utterance(_write(tmp_path / "a.wav"), duration=declared, offset=offset)
    kept, dropped = validate_utterances([utterance], stretches=stretches)
    assert [item.duration for item in kept] == ([] if duration is None else [duration])
    assert [_kind(item) for item in dropped] == ([UNTRUE_DURATION] if duration is None else [])


def test_the_first_sound_one_of_an_id_stays(tmp_path: Path) -> None:
    good = [_write(tmp_path / f"{name}.wav", 0.5) for name in "bc"]
    candidates = [_utterance(path, id="same") for path in (tmp_path / "a.wav", *good)]
    kept, dropped = validate_utterances(candidates)
    assert [item.path.stem for item in kept] == ["b"]
    assert [(item.path.stem, _kind(item)) for item in dropped] == [("a", MISSING), ("c", DUPLICATE)]


def test_what_a_manifest_cannot_hold_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")  # a name from an old file system
    _write(tmp_path / "a.wav").rename(path)
    kept, dropped = validate_utterances([_utterance(path), _utterance(_write(tmp_path / "café.wav"))])
    assert [_kind(item) for item in dropped] == [NOT_UTF8]
    write_dropped(tmp_path / "dropped.tsv", dropped)
    assert "caf\\udce9.wav" in (tmp_path / "dropped.tsv").read_text(encoding="utf-8")
    write_manifest(tmp_path / "m.jsonl", kept)
    assert read_manifest(tmp_path / "m.jsonl")[0].path.samefile(tmp_path / "café.wav")


def test_many_keep_their_order_though_threads_overtake_each_other(tmp_path: Path) -> None:
    slow, quick = tmp_path / "slow.npz", tmp_path / "quick.npz"
    slow.touch()
    quick.touch()
    overtaken = threading.Event()
    asked = []

    def measure(path: Path) -> float:  # another loader than that of audio
        asked.append(path)
        if path == slow:
            assert overtaken.wait(20)
        elif len(asked) > 900:
            overtaken.set()
        return 2.5

    candidates = [_utterance(quick if number else slow, id=str(number)) for number in range(3000)]
    kept, dropped = validate_utterances(candidates, measure=measure)
    assert [item.id for item in kept] == [str(number) for number in range(3000)]
    assert {item.duration for item in kept} == {2.5}
    assert dropped == []
    assert len(asked) == 3000


def test_an_error_that_is_no_fault_of_the_data_is_not_swallowed(tmp_path: Path) -> None:
    def broken(path: Path) -> float:
        raise ZeroDivisionError

    path = _write(tmp_path / "a.wav")
    with pytest.raises(ZeroDivisionError):
        validate_utterances([_utterance(path, id=str(number)) for number in range(600)], measure=broken)


def test_nothing_to_validate() -> None:
    assert validate_utterances([]) == ([], [])


def test_the_table_of_the_dropped(tmp_path: Path) -> None:
    dropped = [
        Dropped("a", tmp_path / "a b.flac", "no text: it is empty"),
        Dropped("tab\tid", Path("x\ny.flac"), "audio unreadable: says\n\ttwo lines"),
    ]
    path = tmp_path / "new" / "dropped.tsv"
    write_dropped(path, dropped)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert rows == [
        ["id", "path", "reason"],
        ["a", str(tmp_path / "a b.flac"), "no text: it is empty"],
        ["tab id", "x y.flac", "audio unreadable: says two lines"],
    ]
    assert [item.name for item in path.parent.iterdir()] == ["dropped.tsv"]


def test_the_report_counts_the_reasons(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "dropped.tsv"
    dropped = [Dropped(f"u{number}", Path("x"), f"{MISSING}: no such file") for number in range(4)]
    dropped.append(Dropped("u9", Path("y"), f"{NO_TEXT}: empty"))
    with caplog.at_level(logging.INFO):
        report_dropped(dropped, path=path, total=20)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    for part in ("5 of 20", f"{MISSING} 4", f"{NO_TEXT} 1", str(path), "u0", "u2"):
        assert part in message
    assert "u3" not in message
    assert len(path.read_text().splitlines()) == 6
    caplog.clear()
    report_dropped([], path=path, total=20)
    assert not path.exists()
    assert caplog.records == []


def test_a_table_without_rows_has_its_heading(tmp_path: Path) -> None:
    write_dropped(tmp_path / "dropped.tsv", [])
    assert (tmp_path / "dropped.tsv").read_text() == "id\tpath\treason\n"
