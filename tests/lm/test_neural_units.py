from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.lm.neural.pieces import piece_units
from asr_lstm.lm.neural.text_units import (
    CharacterTextUnits,
    TextUnits,
    WordTextUnits,
    character_units,
    load_units,
    word_units,
)

TEXT = "the cat sat\nthe dog sat\n\nthe end\n"


def written(units: TextUnits, ids: np.ndarray) -> str:
    before, text = 0, ""
    for unit in ids.tolist():
        text += units.write(unit, after=before)
        before = unit
    return text


def test_characters_and_line_ends_are_units() -> None:
    units = character_units("ba\n", "c b")
    assert (units.symbols, len(units), units.unknown) == ((" ", "a", "b", "c"), 5, None)
    assert units.encode("cab \n\na").tolist() == [4, 2, 3, 1, 0, 0, 2]
    assert units.encode("").tolist() == []


@pytest.mark.parametrize("text", [TEXT, "a \u00e9\U0001f600\u0301\tb\n", "no end of line"])
def test_characters_write_what_they_read(text: str) -> None:
    units = character_units(text)
    assert written(units, units.encode(text)) == text


def test_an_unknown_character_is_named_once() -> None:
    with pytest.raises(DataError, match=r"has no 'Z' \(U\+005A\), 'x' \(U\+0078\); take it out") as raised:
        character_units("abc").encode("xaZ\nbxx")
    assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match=r"U\+DCFF"):  # what Python makes of an argument that is not UTF-8
        character_units("abc").encode("a\udcff")
    with pytest.raises(DataError, match="and 18 others"):
        character_units("\n ").encode("abcdefghijklmnopqrstuvwxyz")


def test_words_are_those_that_occur_twice_the_most_frequent_first() -> None:
    units = word_units(TEXT)
    assert units.symbols == ("<unk>", "the", "sat")
    assert units.encode("the  cat sat\nend").tolist() == [2, 1, 3, 0, 1]
    assert written(units, units.encode("the sat\nsat")) == "the sat\nsat"
    assert word_units(TEXT, 1).symbols == ("<unk>", "the")
    assert word_units(TEXT, ["sat", "mouse", "the"]).symbols == ("<unk>", "the", "sat", "mouse")


def test_pieces_write_what_they_read() -> None:
    pytest.importorskip("sentencepiece")
    text = "the cat sat on the mat\nthe dog sat on the cat\n" * 20
    units = piece_units(text, 16)
    assert len(units) <= 16
    ids = units.encode("the dog sat\n\non the mat\n")
    assert (ids == 0).sum() == 3
    assert written(units, ids) == "the dog sat\n\non the mat\n"
    assert units.unknown in units.encode("the \u00df").tolist()
    with pytest.raises(ConfigError, match="vocabulary: 5000 word pieces cannot be made") as raised:
        piece_units(text, 5000)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["characters", "words", "sentencepiece"])
def test_saved_units_are_the_same_when_loaded(kind: str, tmp_path: Path) -> None:
    if kind == "sentencepiece":
        pytest.importorskip("sentencepiece")
    text = "the cat sat on the mat\n" * 20
    units: TextUnits = {
        "characters": character_units,
        "words": word_units,
        "sentencepiece": lambda text: piece_units(text, 13),
    }[kind](text)
    units.save(tmp_path)
    loaded = load_units(tmp_path)
    assert (loaded.kind, tuple(loaded.symbols), loaded.unknown) == (kind, tuple(units.symbols), units.unknown)
    assert loaded.encode(text).tolist() == units.encode(text).tolist()


@pytest.mark.usefixtures("no_sentencepiece")
def test_without_sentencepiece_one_line_says_how_to_get_it() -> None:
    with pytest.raises(ConfigError, match=r"pip install .*sentencepiece"):
        piece_units("the cat", 10)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not the units"),
        ('{"kind": "phones", "symbols": ["a"]}', "not the units"),
        ('{"kind": "characters", "symbols": ["ab"]}', "'ab' is not a single character"),
        ('{"kind": "characters", "symbols": ["a", "a"]}', "different"),
        ('{"kind": "words", "symbols": ["a"]}', "must be <unk>"),
        (None, "cannot read the units"),
    ],
)
def test_damaged_units_are_one_line(content: str | None, problem: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "units.json").write_text(content)
    with pytest.raises(ConfigError, match=problem) as raised:
        load_units(tmp_path)
    assert "units.json" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_units_of_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="the text is empty"):
        character_units("\n\n")
    with pytest.raises(DataError, match="no words are left"):
        word_units("each word once")
    with pytest.raises(ConfigError):
        CharacterTextUnits([])
    with pytest.raises(ConfigError):
        WordTextUnits(["the", "<unk>"])
