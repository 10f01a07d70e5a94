from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from asr_lstm.errors import DataError
from asr_lstm.lm.text import read_lines, read_sentences, spell, split_sentences


def test_lines_come_from_files_of_every_kind(tmp_path: Path) -> None:
    plain, zipped, manifest = tmp_path / "a.txt", tmp_path / "b.txt.gz", tmp_path / "c.jsonl"
    plain.write_bytes("\ufeffun été\r\ndeux\n".encode())
    zipped.write_bytes(gzip.compress(b"three\nfour"))
    manifest.write_text(json.dumps({"audio_filepath": "x.wav", "text": "five", "duration": 1}) + "\n")
    assert [line.strip() for line in read_lines(plain)] == ["un été", "deux"]
    found = [line.strip() for line in read_lines([plain, zipped, manifest])]
    assert found == ["un été", "deux", "three", "four", "five"]
    nemo = manifest.rename(tmp_path / "c.json")
    assert list(read_lines(nemo)) == ["five"]
    assert list(read_sentences(nemo, prose=False)) == ["five"]
    (tmp_path / "other.json").write_text('{"said": "six"}\n')
    assert list(read_lines(tmp_path / "other.json")) == ['{"said": "six"}\n']


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("gut\nschön".encode("latin-1"), r":2: not UTF-8 text"),
        (gzip.compress(b"text\n" * 1000)[:-8], "gz file is cut short"),
        (gzip.compress(b"text\n" * 1000)[:20] + b"x" * 30, "gz file is cut short or damaged"),
        (None, "cannot read the text"),
    ],
)
def test_unreadable_text_is_told(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path}.*{problem}"):
        list(read_lines(path))


def test_sentences_of_prose() -> None:
    prose = """[A Title]

    Mr. Knightley, a sensible
man, came. "Who is there?" she
asked. J. S. Bach wrote it ... and more. He said "No!" then "Été!" élan. Then
he left

Next paragraph! End"""
    assert list(split_sentences(prose.splitlines(keepends=True))) == [
        "[A Title]",
        "Mr. Knightley, a sensible man, came.",
        '"Who is there?" she asked.',
        "J. S. Bach wrote it ... and more.",
        'He said "No!" then "Été!" élan.',
        "Then he left",
        "Next paragraph!",
        "End",
    ]


def test_an_utterance_is_a_sentence_beside_prose(tmp_path: Path) -> None:
    book, manifest = tmp_path / "book.txt", tmp_path / "train.jsonl"
    book.write_text("He came. She\nleft")
    rows = [{"audio_filepath": f"{text}.wav", "text": text, "duration": 1} for text in ("ONE", "TWO")]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(read_sentences([manifest, book], prose=True)) == ["ONE", "TWO", "He came.", "She left"]
    found = [line.strip() for line in read_sentences([book, manifest], prose=False)]
    assert found == ["He came. She", "left", "ONE", "TWO"]


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("Alice was beginning to get very\ntired of sitting\nby her sister", True),
        ("Alice sat.\nShe was tired.\nWho came?", False),
        ("alice was tired\nshe sat\nwho came", False),
    ],
)
def test_broken_lines_taken_for_sentences_are_told(
    tmp_path: Path, text: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "text.txt"
    path.write_text(text)
    assert list(read_sentences(path, prose=False)) == list(read_lines(path))
    assert [record.getMessage().startswith(f"{path}: most lines") for record in caplog.records] == [
        True
    ] * warned


def test_characters_as_words() -> None:
    assert spell(" to  be\n") == "t o <space> b e"
    assert spell("") == ""
