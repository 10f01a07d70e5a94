from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from asr_lstm.corpora.pairs import UNREADABLE_FOLDER, UNREADABLE_TEXT, read_pairs, walk_files
from asr_lstm.corpora.validate import DUPLICATE, MISSING
from asr_lstm.errors import DataError


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"text of {name}\n")


def test_files_come_in_order_without_hidden_ones(tmp_path: Path) -> None:
    _touch(tmp_path, "b/2.wav", "a.wav", "b/1.wav", "c/d/x.wav", ".hidden.wav", ".git/y.wav")
    files, dropped = walk_files(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in files] == [
        "a.wav",
        "b/1.wav",
        "b/2.wav",
        "c/d/x.wav",
    ]
    assert dropped == []


def test_a_loop_of_links_ends_and_other_links_are_followed(tmp_path: Path) -> None:
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    _touch(source, "a/1.wav")
    _touch(elsewhere, "2.wav")
    for number in range(3):  # three loops: followed by name, they would double the way at each step
        (source / f"loop{number}").symlink_to(source)
        (source / "a" / f"up{number}").symlink_to("..")
    (source / "link").symlink_to(elsewhere)
    (source / "itself.wav").symlink_to("itself.wav")
    (source / "nowhere.wav").symlink_to("absent")
    files, _ = walk_files(source)
    assert sorted(path.name for path in files) == ["1.wav", "2.wav", "itself.wav", "nowhere.wav"]


def test_a_link_to_what_lies_above_is_not_followed(tmp_path: Path) -> None:
    source = tmp_path / "all" / "mine"
    _touch(source, "1.wav")
    _touch(tmp_path, "all/others/2.wav", "3.wav")
    (source / "up").symlink_to("..")
    (source / "far up").symlink_to(tmp_path)
    for folder in (source, source / "up" / "mine"):
        assert [path.name for path in walk_files(folder)[0]] == ["1.wav"]


def test_a_folder_that_cannot_be_read_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "a/1.wav", "shut/2.wav")
    real = os.listdir

    def refuse(path: Any) -> list[str]:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", refuse)
    files, dropped = walk_files(tmp_path)
    assert [path.name for path in files] == ["1.wav"]
    assert [(item.path.name, item.reason) for item in dropped] == [
        ("shut", f"{UNREADABLE_FOLDER}: Permission denied")
    ]
    with pytest.raises(DataError, match="shut: cannot read the folder"):
        walk_files(tmp_path / "shut")


def test_each_recording_with_the_text_beside_it(tmp_path: Path) -> None:
    _touch(
        tmp_path, "anna/1.wav", "anna/1.txt", "bob/1.MP3", "bob/1.TXT", "bob/2.wav", "c/x.1.ogg", "c/x.1.txt"
    )
    _touch(tmp_path, "README.txt", "c/notes.json")
    (tmp_path / "c" / "x.1.txt").write_text(" two\n lines \n")
    listing = read_pairs(tmp_path)
    assert [(row.path.relative_to(tmp_path).as_posix(), row.text) for row in listing.rows] == [
        ("anna/1.wav", "text of anna/1.txt"),
        ("bob/1.MP3", "text of bob/1.TXT"),
        ("bob/2.wav", ""),
        ("c/x.1.ogg", "two lines"),
    ]
    assert [(item.path.name, item.reason.partition(":")[0]) for item in listing.dropped] == [
        ("README.txt", MISSING)
    ]


def test_of_two_recordings_of_one_name_the_lossless_one_comes_first(tmp_path: Path) -> None:
    _touch(tmp_path, "a.mp3", "a.flac", "a.wav", "a.opus", "a.txt", "A.wav")
    assert [row.path.name for row in read_pairs(tmp_path).rows] == [
        "A.wav",
        "a.wav",
        "a.flac",
        "a.opus",
        "a.mp3",
    ]


@pytest.mark.parametrize(("audio", "text"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_match_whether_their_marks_are_composed_or_not(tmp_path: Path, audio: Any, text: Any) -> None:
    name = "kůň č. 1"
    _touch(tmp_path, f"{unicodedata.normalize(audio, name)}.wav", f"{unicodedata.normalize(text, name)}.txt")
    listing = read_pairs(tmp_path)
    assert [bool(row.text) for row in listing.rows] == [True]
    assert listing.dropped == []


def test_of_two_texts_of_one_name_the_second_is_listed(tmp_path: Path) -> None:
    _touch(tmp_path, "a.wav", "a.TXT", "a.txt")
    listing = read_pairs(tmp_path)
    assert [row.text for row in listing.rows] == ["text of a.TXT"]
    assert [(item.path.name, item.reason) for item in listing.dropped] == [
        ("a.txt", f"{DUPLICATE}: {tmp_path / 'a.TXT'} is the text of this name")
    ]


def test_a_transcript_in_another_encoding_is_listed(tmp_path: Path) -> None:
    _touch(tmp_path, "a.wav", "a.txt", "b.wav")
    (tmp_path / "b.txt").write_bytes("café".encode("latin-1"))
    listing = read_pairs(tmp_path)
    assert [row.path.name for row in listing.rows] == ["a.wav"]
    (item,) = listing.dropped
    assert item.path.name == "b.wav"
    assert item.reason.startswith(UNREADABLE_TEXT)
    assert "b.txt:1: not UTF-8" in item.reason


@pytest.mark.parametrize("names", [[], ["a.txt", "b/c.txt", "d.json"]])
def test_a_folder_without_recordings_is_an_error(tmp_path: Path, names: list[str]) -> None:
    _touch(tmp_path, *names)
    with pytest.raises(DataError) as caught:
        read_pairs(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: no recordings in it; give a folder")
    assert "\n" not in str(caught.value)
