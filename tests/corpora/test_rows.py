from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from asr_lstm.corpora.rows import (
    UNKNOWN_SPLIT,
    Listing,
    Row,
    join_listings,
    read_text,
    split_name,
    use_splits,
)
from asr_lstm.errors import DataError

SENTENCE = "Příliš žluťoučký kůň, één café, नमस्ते दुनिया, שלום"


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        (" Training ", "train"),
        ("train-clean-100", "train"),
        ("TRAIN_other", "train"),
        ("validation", "dev"),
        ("dev_2", "dev"),
        ("Val", "dev"),
        ("test", "test"),
        ("evaluation", "test"),
        ("test-other", "test-other"),
        ("test other/../x", "test-other-x"),
        ("validated", ""),
        ("other", ""),
        ("trainer", ""),
        ("", ""),
    ],
)
def test_the_names_that_splits_go_by(name: str, split: str) -> None:
    assert split_name(name) == split


def test_rows_without_a_known_split_are_dropped_only_where_others_have_one() -> None:
    rows = [Row(Path(f"{name}.wav"), "x", split=name) for name in ("train", "valid", "other", "")]
    used = use_splits(Listing(rows, [], "a table"))
    assert [row.split for row in used.rows] == ["train", "dev"]
    assert [(item.path.name, item.reason.partition(":")[0]) for item in used.dropped] == [
        ("other.wav", UNKNOWN_SPLIT),
        (".wav", UNKNOWN_SPLIT),
    ]
    unused = use_splits(Listing(rows[2:], [], "a table"))
    assert [row.split for row in unused.rows] == ["", ""]
    assert unused.dropped == []


def test_joined_listings_have_the_split_of_their_part() -> None:
    part = Listing([Row(Path("a.wav"), "x", split="own")], [], "a table")
    joined = join_listings([("train", part), ("test", part)])
    assert [row.split for row in joined.rows] == ["train", "test"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_of_any_script_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(SENTENCE.encode(encoding))
    assert read_text(path) == SENTENCE


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("één\ncafé".encode("latin-1"), "a.txt:1: not UTF-8 text (byte 0xE9)"),
        ("ok\nok\ncafé".encode("latin-1"), "a.txt:3: not UTF-8"),
        ("hello".encode("utf-16-le"), "zero bytes"),
        ("één café".encode("utf-16-le"), "zero bytes"),
        (codecs.BOM_UTF32_LE + "hello".encode("utf-32-le"), "zero bytes"),
        (codecs.BOM_UTF16_LE + b"h\x00e", "not UTF-8"),
    ],
)
def test_another_encoding_is_said_and_not_guessed(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_text(path)
    assert said in str(caught.value)
    assert "save it as UTF-8" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    for name in ("pipe.txt", "absent.txt"):
        with pytest.raises(DataError, match=name):
            read_text(tmp_path / name)
