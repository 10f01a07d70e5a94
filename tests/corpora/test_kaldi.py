from __future__ import annotations

from pathlib import Path

import pytest

from asr_lstm.corpora.kaldi import read_kaldi
from asr_lstm.errors import DataError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A Kaldi directory of two recordings."""
    folder = tmp_path / "data"
    (folder / "audio files").mkdir(parents=True)
    for name in ("one.wav", "audio files/two.wav"):
        (folder / name).touch()
    (folder / "wav.scp").write_text(f"rec1 {folder}/one.wav\nrec2\taudio files/two.wav  \n")
    (folder / "text").write_text("rec1 HELLO  WORLD\n\nrec2\n")
    return folder


def _segments(data: Path, text: str) -> None:
    (data / "segments").write_text(text)
    (data / "text").write_text("".join(f"u{number} WORD {number}\n" for number in range(1, 7)))


def test_each_recording_is_an_utterance(data: Path) -> None:
    (data / "utt2spk").write_text("rec1 anna\n")
    rows = read_kaldi(data).rows
    assert [(row.id, row.path, row.text, row.speaker, row.offset, row.duration) for row in rows] == [
        ("rec1", data / "one.wav", "HELLO  WORLD", "anna", 0.0, 0.0),
        ("rec2", data / "audio files" / "two.wav", "", "", 0.0, 0.0),
    ]


def test_segments_are_stretches_of_recordings(data: Path) -> None:
    _segments(data, "u1 rec1 0 1.5\nu2 rec1 1.5 2.25\nu3 rec2 4 -1\nu4 rec9 0 1\nu5 rec1 3 2\n")
    listing = read_kaldi(data)
    assert [(row.id, row.path.name, row.offset, row.duration, row.text) for row in listing.rows] == [
        ("u1", "one.wav", 0.0, 1.5, "WORD 1"),
        ("u2", "one.wav", 1.5, 0.75, "WORD 2"),
        ("u3", "two.wav", 4.0, 0.0, "WORD 3"),
    ]
    assert [(item.id, item.reason) for item in listing.dropped] == [
        ("u4", "audio missing: wav.scp lacks the recording"),
        ("u5", "untrue duration: from 3 to 2 s"),
        ("u6", "audio missing: no recording of this name"),
    ]


def test_a_recording_that_is_not_there_is_listed(data: Path) -> None:
    (data / "one.wav").unlink()
    listing = read_kaldi(data)
    assert [row.id for row in listing.rows] == ["rec2"]
    assert [(item.id, item.path.name) for item in listing.dropped] == [("rec1", "one.wav")]


def test_of_two_lines_of_one_name_the_first_counts_and_the_second_is_listed(data: Path) -> None:
    for name, line in (("wav.scp", "rec1 audio files/two.wav"), ("text", "rec1 SOMETHING ELSE")):
        with (data / name).open("a") as file:
            file.write(f"{line}\n")
    (data / "utt2spk").write_text("rec1 anna\nrec1 anna\nrec1 bob\n")
    listing = read_kaldi(data)
    assert next((row.path.name, row.text, row.speaker) for row in listing.rows) == (
        "one.wav",
        "HELLO  WORLD",
        "anna",
    )
    assert [(item.id, item.path.name) for item in listing.dropped] == [
        ("rec1", "wav.scp"),
        ("rec1", "text"),
        ("rec1", "utt2spk"),
    ]
    assert listing.dropped[0].reason == "duplicate id: wav.scp has this name twice, the first line counts"


def test_relative_names_may_begin_at_the_current_folder(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    (data / "wav.scp").write_text("rec1 data/one.wav\n")
    assert read_kaldi(data).rows[0].path.samefile(data / "one.wav")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "wav.scp",
            "rec1 flac -c -d -s one.flac |\n",
            "wav.scp: 'flac -c -d -s one.flac |' is a command, and none is run",
        ),
        ("wav.scp", "rec1 one.wav\nrec2\n", "wav.scp:2: only 'rec2'"),
        ("segments", "u1 rec1 0\n", "segments: 'u1' is followed by 'rec1 0'"),
        ("segments", "u1 rec1 0 long\n", "segments: 'u1' is followed by"),
        ("text", "", "text: not there"),
    ],
)
def test_what_is_wrong_is_one_line(data: Path, file: str, text: str, said: str) -> None:
    if text:
        (data / file).write_text(text)
    else:
        (data / file).unlink()
    with pytest.raises(DataError) as caught:
        read_kaldi(data)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_encodings_are_refused(data: Path) -> None:
    (data / "text").write_bytes("rec1 café\n".encode("latin-1"))
    with pytest.raises(DataError, match="text:1: not UTF-8"):
        read_kaldi(data)
