from __future__ import annotations

import logging
from pathlib import Path

import pytest

from asr_lstm.decoding.beam import BeamDecoder
from asr_lstm.decoding.lexicon import read_lexicon, split_spellable
from asr_lstm.errors import DataError
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.units import CharacterUnits

UNITS = CharacterUnits([" ", "'", "a", "b"])


def test_a_list_of_words_and_a_dictionary(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "words"
    path.write_text(
        ";;; comment\n# another\nREAD  R EH D\nread(2) R IY D\n\nREAD\na.b. AH B\n(paren P\n",
        encoding="utf-8",
    )
    with caplog.at_level(logging.INFO, logger="asr_lstm"):
        assert read_lexicon(path) == ["READ", "read", "a.b.", "(paren"]
    assert "of 4 lines, such as 'READ R EH D', only the first word is taken" in caplog.text


def test_words_are_normalised_as_the_units_say() -> None:
    good, bad = split_spellable(["A", "a", "Ab'A", "b\u2019a", "abc", "a b", "", "'"], UNITS)
    assert good == ["a", "ab'a", "b'a"]
    assert bad == ["abc", "a b", "", "'"]


@pytest.mark.parametrize("content", [None, b"", b"\n;;; nothing\n", b"\xff\xfe"])
def test_a_file_that_is_none_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "words"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_lexicon(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_empty_lexicon() -> None:
    with pytest.raises(DataError, match="the lexicon is empty; "):
        BeamDecoder(UNITS, lexicon=[])


def test_words_that_the_units_cannot_spell_are_named() -> None:
    words = ["a", "abc", "x", *(f"b{number}" for number in range(9))]
    with pytest.raises(DataError) as caught:
        BeamDecoder(UNITS, lexicon=words)
    assert str(caught.value) == (
        "lexicon: the units cannot spell 11 words ('abc', 'x', 'b0', 'b1', 'b2', ...); "
        "leave them out (`split_spellable` tells them apart)"
    )


def test_a_lexicon_of_which_the_model_knows_nothing() -> None:
    with pytest.raises(DataError, match=r"knows none of the lexicon's 1 word \('b'\); was its text"):
        BeamDecoder(UNITS, lexicon=["b"], word_model=train_ngram(["a a"], order=1))
