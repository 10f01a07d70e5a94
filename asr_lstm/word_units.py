"""Whole words as output units: for small closed vocabularies, such as digits and commands.

A network that spells can misspell: of a few hundred recordings of ten words it learns the letters of each, and
answers an unknown voice with "feven". With a unit a word it can only choose. It can never write a word that
training lacked, though, and each word must be heard often, so that open text wants characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.units import WORD_MARK, ListedUnits, Normaliser

# A vocabulary beyond this has been heard too little of each word; characters are the better choice by far.
MOST_WORDS = 2000


@dataclass(frozen=True)
class WordUnits(ListedUnits):
    """One unit for each word, after the blank; each symbol begins with `WORD_MARK`, as decoders expect."""

    kind: ClassVar[str] = "words"
    one: ClassVar[str] = "word"

    @property
    def words(self) -> Sequence[str]:
        """The words in order; word 0 is unit 1."""
        return [symbol.removeprefix(WORD_MARK) for symbol in self.symbols]

    def unknown(self, text: str) -> list[str]:
        """The words of the normalised text that the units lack, each once, in order of appearance."""
        return [symbol.removeprefix(WORD_MARK) for symbol in super().unknown(text)]

    @classmethod
    def from_texts(cls, texts: Iterable[str], normaliser: Normaliser | None = None) -> WordUnits:
        """Units for every word that occurs in the normalised texts, in alphabetical order.

        Raises:
            ConfigError: there are more than `MOST_WORDS`.
            DataError: there is no text.
        """
        normaliser = normaliser or Normaliser()
        words = {word for text in texts for word in normaliser(text).split()}
        if not words:
            raise DataError("the transcripts hold no text to take units from; check the manifest's `text`")
        if len(words) > MOST_WORDS:
            raise ConfigError(
                f"units.kind: the transcripts have {len(words)} different words, and words as units are for at most "
                f"{MOST_WORDS}; use characters"
            )
        return cls([WORD_MARK + word for word in sorted(words)], normaliser)

    def _split(self, text: str) -> Sequence[str]:
        return [WORD_MARK + word for word in text.split()]

    def _join(self, symbols: Sequence[str]) -> str:
        return " ".join(symbol.removeprefix(WORD_MARK) for symbol in symbols)

    def _fits(self, symbol: str) -> bool:
        return symbol.startswith(WORD_MARK) and symbol[1:].split() == [symbol[1:]]
