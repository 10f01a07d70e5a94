"""Whole words as output units."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.manifest import Utterance
from asr_lstm.unit_kinds import UnitsConfig, load_units, make_units
from asr_lstm.units import Normaliser, Units
from asr_lstm.word_units import MOST_WORDS, WORD_MARK, WordUnits


def utterances(*texts: str) -> list[Utterance]:
    return [
        Utterance(id=str(row), path=Path("x.wav"), text=text, duration=1.0) for row, text in enumerate(texts)
    ]


def test_words_in_alphabetical_order_after_the_blank() -> None:
    units = WordUnits.from_texts(["Two one", "TWO, three!"])
    assert (list(units.words), len(units), units.kind) == (["one", "three", "two"], 4, "words")
    assert units.encode(" two  ONE two") == [3, 1, 3]
    assert units.decode([3, 1, 3]) == "two one two"
    assert units.decode([]) == ""
    assert isinstance(units, Units)


def test_an_unknown_word_is_named_with_its_place() -> None:
    units = WordUnits.from_texts(["yes no"])
    assert units.unknown("yes maybe no maybe") == ["maybe"]
    assert units.known("Yes, maybe no maybe") == "yes no"
    with pytest.raises(DataError, match=r"^a\.jsonl:3: the units lack 'maybe'; correct"):
        units.encode("maybe", where="a.jsonl:3")


@pytest.mark.parametrize("unit", [0, 3, -1])
def test_what_is_no_unit_cannot_be_decoded(unit: int) -> None:
    with pytest.raises(ValueError, match="ids"):
        WordUnits.from_texts(["yes no"]).decode([unit])


@pytest.mark.parametrize(
    ("symbols", "said"),
    [
        ([], "empty"),
        ([f"{WORD_MARK}a", f"{WORD_MARK}b", f"{WORD_MARK}a"], "unit 1: '\u2581a' stands there twice"),
        ([f"{WORD_MARK}a b"], "not a single word"),
        (["a"], "not a single word"),
    ],
)
def test_a_list_that_is_none(symbols: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        WordUnits(symbols)


def test_an_open_vocabulary_is_refused() -> None:
    texts = (f"word{number}" for number in range(MOST_WORDS + 1))
    with pytest.raises(
        ConfigError, match=rf"units\.kind: the transcripts have {MOST_WORDS + 1} different words"
    ):
        WordUnits.from_texts(texts)


@pytest.mark.parametrize("kind", ["characters", "words"])
def test_what_is_saved_is_loaded(tmp_path: Path, kind: str) -> None:
    normaliser = Normaliser(casing="upper")
    units = make_units(UnitsConfig(kind=kind), utterances("eins zwei", "für"), normaliser)  # type: ignore[arg-type]
    units.save(tmp_path / "units.txt")
    again = load_units(kind, tmp_path / "units.txt", normaliser)
    assert again == units
    assert again.decode(again.encode("für zwei")) == "FÜR ZWEI"


def test_a_kind_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"units\.kind must be one of characters, pieces, words, not 'phones'"
    ):
        UnitsConfig(kind="phones")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="units of kind 'phones'"):
        load_units("phones", tmp_path / "units.txt", Normaliser())


@pytest.mark.parametrize("content", [b"no blank\n", b"\xff\xfe"])
def test_a_file_that_holds_no_units(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "units.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=r"units\.txt(:1)?: not a file of units"):
        WordUnits.load(tmp_path / "units.txt")
    with pytest.raises(ConfigError, match=r"none\.txt: cannot read the units"):
        WordUnits.load(tmp_path / "none.txt")


def test_decoders_take_each_unit_for_a_word() -> None:
    from asr_lstm.decoding.spelling import spell_units

    units = WordUnits.from_texts(["no yes"])
    assert list(spell_units(units).words([2, 1, 1])) == [(0, 1), (1, 2), (2, 3)]
