"""How the recogniser's units write words: the text of each unit, and where words part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from asr_lstm.units import WORD_MARK, Units


@runtime_checkable
class SpelledUnits(Units, Protocol):
    """Units that say what each of them writes.

    Attributes:
        symbols: symbol 0 is unit 1. Of `characters` a space parts words; of other kinds a symbol that begins with
            U+2581, as sentencepiece writes it, begins a word (and alone is a space).
    """

    @property
    def symbols(self) -> Sequence[str]:
        """What each unit writes."""


@dataclass(frozen=True)
class Spelling:
    """What each unit writes.

    Attributes:
        texts: of each unit, without the mark of a word's beginning; "" for the blank and for a space.
        begins: whether a word begins with the unit.
        letters: number of each character that occurs in the texts; `len(letters)` stands for the space.
    """

    texts: tuple[str, ...]
    begins: tuple[bool, ...]
    letters: dict[str, int]

    @property
    def parts_words(self) -> bool:
        """Whether the units can write spaces; those of scripts without spaces cannot."""
        return any(self.begins)

    @property
    def space(self) -> int:
        """The letter that stands for a space."""
        return len(self.letters)

    def encode(self, text: str) -> list[int]:
        """The letters of a text.

        Raises:
            KeyError: a character that the units cannot write.
        """
        return [self.space if character == " " else self.letters[character] for character in text]

    def can_write(self, word: str) -> bool:
        """Whether each of the word's characters occurs in some unit."""
        return word != "" and all(character in self.letters for character in word)

    def words(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """Begin and end within `ids` of each word; spaces belong to none."""
        spans: list[tuple[int, int]] = []
        begin = 0
        for index, unit in enumerate(ids):
            if self.begins[unit]:
                spans.append((begin, index))
                begin = index if self.texts[unit] else index + 1
        spans.append((begin, len(ids)))
        return [(first, end) for first, end in spans if any(self.texts[unit] for unit in ids[first:end])]

    def array(self) -> NDArray[np.int32]:
        """The same for compiled code: (units, 1 + most letters), 1 where a word begins, letters, and -1 for none."""
        letters = [self.encode(text) for text in self.texts]
        table = np.full((len(letters), 1 + max(map(len, letters))), -1, np.int32)
        table[:, 0] = self.begins
        for row, numbers in zip(table, letters, strict=True):
            row[1 : 1 + len(numbers)] = numbers
        return table


def spell_units(units: Units) -> Spelling:
    """What each unit of a recogniser writes.

    Raises:
        ValueError: the units don't have `symbols`.
    """
    if not isinstance(units, SpelledUnits):
        raise ValueError(f"units: {type(units).__name__} has no `symbols`, which say what each unit writes")
    mark = " " if units.kind == "characters" else WORD_MARK
    texts, begins = [""], [False]
    for symbol in units.symbols:
        begins.append(symbol.startswith(mark))
        texts.append(symbol.removeprefix(mark))
    if len(texts) != len(units):
        raise ValueError(f"units: {len(units)} of them, but {len(texts) - 1} symbols beside the blank")
    characters = sorted(set("".join(texts)))
    return Spelling(tuple(texts), tuple(begins), {letter: number for number, letter in enumerate(characters)})
