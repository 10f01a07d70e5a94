from __future__ import annotations

from pathlib import Path

import pytest
from recordings import TEXTS, needs

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.lm.neural.texts import read_splits, read_text
from asr_lstm.units import Normaliser

SHAKESPEARE = TEXTS / "tinyshakespeare.txt"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("The cat\r\nsat.  A\n\ndog!\nran", newline="")
    return tmp_path / "text.txt"


def test_text_as_it_stands_and_normalised(text: Path) -> None:
    assert read_text(text, normaliser=None) == "The cat\nsat.  A\n\ndog!\nran\n"
    assert read_text(text, normaliser=Normaliser()) == "the cat\nsat a\ndog\nran\n"
    prose = read_text(text, normaliser=Normaliser(), sentences="prose")
    assert prose == "the cat sat\na\ndog ran\n"  # no sentence begins with a small letter


def test_texts_as_they_stand_are_cut_at_a_character(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0123456789abcdefghi\n")
    assert read_splits(tmp_path / "a.txt", normaliser=None) == ("0123456789abcdefgh", "i\n", "")
    splits = read_splits(tmp_path / "a.txt", normaliser=None, dev=0.25, test=0.5)
    assert splits == ("01234", "56789", "abcdefghi\n")


def test_other_texts_are_cut_at_line_ends_each_by_itself(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("".join(f"{name} {index}\n" for index in range(10)))
    splits = read_splits([tmp_path / "a.txt", tmp_path / "b.txt"], dev=0.2, test=0.1, normaliser=Normaliser())
    assert splits.dev == "a 7\na 8\nb 7\nb 8\n"
    assert splits.test == "a 9\nb 9\n"
    assert splits.train.count("\n") == 14


def test_dev_and_test_may_be_texts_of_their_own(text: Path, tmp_path: Path) -> None:
    (tmp_path / "dev.txt").write_text("A mouse")
    splits = read_splits(text, dev=tmp_path / "dev.txt", test=tmp_path / "dev.txt", normaliser=Normaliser())
    assert splits == ("the cat\nsat a\ndog\nran\n", "a mouse\n", "a mouse\n")


@needs(SHAKESPEARE)
def test_tinyshakespeare_is_parted_as_nanogpt_parts_it() -> None:
    whole = SHAKESPEARE.read_text()
    splits = read_splits(SHAKESPEARE, normaliser=None)
    # data/shakespeare_char/prepare.py of nanoGPT says: train has 1,003,854 tokens, val has 111,540
    assert (len(splits.train), len(splits.dev)) == (1_003_854, 111_540)
    assert splits.train + splits.dev == whole


@pytest.mark.parametrize(
    ("error", "problem", "options"),
    [
        (ConfigError, "must leave something", {"dev": 0.6, "test": 0.4}),
        (ConfigError, "must leave something", {"dev": -0.1}),
        (DataError, "too little text", {"dev": 0.0}),
        (DataError, "absent", {"dev": Path("absent")}),
    ],
)
def test_splits_that_make_no_sense(error: type[Exception], problem: str, options: dict, text: Path) -> None:
    with pytest.raises(error, match=problem) as raised:
        read_splits(text, normaliser=None, **options)
    assert "\n" not in str(raised.value)


def test_an_empty_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n ?!\n")
    with pytest.raises(DataError, match=r"empty\.txt: there is no text"):
        read_text(tmp_path / "empty.txt", normaliser=Normaliser())
