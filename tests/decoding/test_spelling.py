from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from asr_lstm.decoding.spelling import spell_units
from asr_lstm.units import CharacterUnits, Normaliser


@dataclass
class Pieces:
    symbols: tuple[str, ...]
    kind: str = "sentencepiece"
    normaliser: Normaliser = field(default_factory=Normaliser)

    def __len__(self) -> int:
        return len(self.symbols) + 1

    def encode(self, text: str, where: str = "") -> list[int]:
        raise NotImplementedError

    decode = unknown = known = save = encode


def test_characters() -> None:
    spelling = spell_units(CharacterUnits([" ", "a", "'", "\u2581"]))
    assert spelling.texts == ("", "", "a", "'", "\u2581")
    assert spelling.begins == (False, True, False, False, False)
    assert spelling.parts_words
    assert spelling.can_write("a'a")
    assert not spelling.can_write("ab")
    assert not spelling.can_write("")
    letters = spelling.letters
    assert spelling.encode("a '") == [letters["a"], spelling.space, letters["'"]]
    assert spelling.array().tolist() == [
        [0, -1],
        [1, -1],
        [0, letters["a"]],
        [0, letters["'"]],
        [0, letters["\u2581"]],
    ]


def test_word_pieces() -> None:
    spelling = spell_units(Pieces(("\u2581", "\u2581the", "re", "\u2581a")))
    assert spelling.texts == ("", "", "the", "re", "a")
    assert spelling.begins == (False, True, True, False, True)
    assert sorted(spelling.letters) == ["a", "e", "h", "r", "t"]
    row = spelling.array()[3].tolist()
    assert row == [0, spelling.letters["r"], spelling.letters["e"], -1]


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([], []),
        ([1], []),
        ([2], [(0, 1)]),
        ([3, 3], [(0, 2)]),
        ([1, 2, 3, 1, 3, 1], [(1, 3), (4, 5)]),
        ([2, 2, 3, 4], [(0, 1), (1, 3), (3, 4)]),
        ([1, 1, 3], [(2, 3)]),
    ],
)
def test_words_begin_at_their_marks(ids: list[int], words: list[tuple[int, int]]) -> None:
    assert spell_units(Pieces(("\u2581", "\u2581the", "re", "\u2581a"))).words(ids) == words


def test_units_without_spaces_are_one_word() -> None:
    spelling = spell_units(CharacterUnits(["a", "b"]))
    assert not spelling.parts_words
    assert spelling.words([1, 2, 1]) == [(0, 3)]


def test_units_that_do_not_say_what_they_write() -> None:
    with pytest.raises(ValueError, match="units: object has no `symbols`"):
        spell_units(object())  # type: ignore[arg-type]
