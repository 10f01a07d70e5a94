from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from asr_lstm.errors import ConfigError
from asr_lstm.transcribe import Alternative, Transcript, Word
from asr_lstm.writers import WRITERS, make_writer, show_path

FIRST = Transcript(
    Path("talks/first.wav"),
    "çok iyi",
    2.0004,
    [Word("çok", 0.11111, 0.5, 0.987654), Word("iyi", 0.6, 1.23456, 0.5)],
)
SILENT = Transcript(Path("silence.flac"), "", 1.0, [])


def written(name: str, *transcripts: Transcript, several: bool) -> str:
    file = io.StringIO()
    writer = make_writer(name, file, several=several, model="exp/m/model")
    for transcript in transcripts:
        writer.write(transcript)
    return file.getvalue()


def test_the_text_of_one_file_is_bare() -> None:
    assert written("text", FIRST, several=False) == "çok iyi\n"
    assert written("text", SILENT, several=False) == "\n"


def test_of_several_files_each_line_has_its_path() -> None:
    assert written("text", FIRST, SILENT, several=True) == "talks/first.wav\tçok iyi\nsilence.flac\t\n"


@pytest.mark.parametrize("several", [False, True])
def test_json_is_an_object_a_line(several: bool) -> None:
    text = written("json", FIRST, SILENT, several=several)
    assert "çok" in text
    first, silent = map(json.loads, text.splitlines())
    assert first == {
        "path": "talks/first.wav",
        "text": "çok iyi",
        "duration": 2.0,
        "words": [
            {"word": "çok", "start": 0.111, "end": 0.5, "confidence": 0.9877},
            {"word": "iyi", "start": 0.6, "end": 1.235, "confidence": 0.5},
        ],
        "model": "exp/m/model",
    }
    assert (silent["text"], silent["words"]) == ("", [])


def test_json_has_the_texts_of_a_search() -> None:
    found = replace(FIRST, nbest=[Alternative("çok iyi", -1.23456, -2.0, -3.23456)])
    row = json.loads(written("json", found, several=False))
    assert row["nbest"] == [{"text": "çok iyi", "acoustic": -1.2346, "language": -2.0, "total": -3.2346}]


def test_each_transcript_leaves_at_once(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("w", encoding="utf-8") as file:
        make_writer("text", file, several=False, model="").write(FIRST)
        assert path.read_text(encoding="utf-8") == "çok iyi\n"


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"^format: 'docx' is not one of text, json$"):
        make_writer("docx", io.StringIO(), several=False, model="")
    assert list(WRITERS) == ["text", "json"]


def test_a_path_that_is_not_utf8_can_be_printed() -> None:
    path = Path(os.fsdecode(b"caf\xe9.wav"))
    assert show_path(path) == r"caf\xe9.wav"
    assert show_path(Path("çok.wav")) == "çok.wav"
