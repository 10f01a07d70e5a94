"""Whole words as output units: for small closed vocabularies, such as digits and commands.

A network that spells can misspell: of a few hundred recordings of ten words it learns the letters of each, and
answers an unknown voice with "feven". With a unit a word it can only choose. It can never write a word that
training lacked, though, and each word must be heard often, so that open text wants characters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.files import atomic_write
from asr_lstm.units import BLANK, BLANK_SYMBOL, Normaliser

# Sentencepiece's sign for the beginning of a word; each unit begins with it, as decoders expect of words.
WORD_MARK = "\u2581"
# Words that need this many units have seen too little of each; characters are the better choice by far.
MOST_WORDS = 2000


@dataclass(frozen=True)
class WordUnits:
    """One unit for each word, after the blank.

    Attributes:
        words: in order; word 0 is unit 1.
        normaliser: applied to each text before it is encoded.

    Raises:
        ConfigError: no words, one that occurs twice, or one that is not a single word.
    """

    words: Sequence[str]
    normaliser: Normaliser = field(default_factory=Normaliser)
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))
        object.__setattr__(self, "_ids", {word: index for index, word in enumerate(self.words, start=1)})
        if not self.words:
            raise ConfigError("the units are empty; give at least one word")
        for index, word in enumerate(self.words, start=1):
            if word.split() != [word]:
                raise ConfigError(f"unit {index}: {word!r} is not a single word")
            if self._ids[word] != index:
                raise ConfigError(f"unit {index}: {word!r} stands there twice; leave it once")

    @property
    def kind(self) -> str:
        """The name in a bundle's configuration."""
        return "words"

    @property
    def symbols(self) -> Sequence[str]:
        """What each unit writes, symbol 0 being unit 1: the words, each with the mark of a word's beginning."""
        return tuple(WORD_MARK + word for word in self.words)

    def __len__(self) -> int:
        """Number of units with the blank."""
        return len(self.words) + 1

    def encode(self, text: str, where: str = "") -> list[int]:
        """The ids of a text, normalised first.

        Args:
            text: as it stands in the transcript.
            where: file and line of the transcript, for the error.

        Raises:
            DataError: a word that the units lack.
        """
        try:
            return [self._ids[word] for word in self.normaliser(text).split()]
        except KeyError:
            lacking = ", ".join(map(repr, self.unknown(text)))
            raise DataError(
                f"{where + ': ' if where else ''}the units lack {lacking}; "
                "correct the transcript, leave it out, or use characters as units"
            ) from None

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids (no blanks, repeats merged), with single spaces between words.

        Raises:
            ValueError: an id that is the blank or no unit.
        """
        for unit in ids:
            if not BLANK < unit < len(self):
                raise ValueError(f"ids: {unit} is not a unit from 1 to {len(self) - 1}")
        return " ".join(self.words[unit - 1] for unit in ids)

    def unknown(self, text: str) -> list[str]:
        """The words of the normalised text that the units lack, each once, in order of appearance."""
        return [word for word in dict.fromkeys(self.normaliser(text).split()) if word not in self._ids]

    @classmethod
    def from_texts(cls, texts: Iterable[str], normaliser: Normaliser | None = None) -> WordUnits:
        """Units for every word that occurs in the normalised texts, in alphabetical order.

        Raises:
            ConfigError: there are more than `MOST_WORDS`.
            DataError: there is no text.
        """
        normaliser = normaliser or Normaliser()
        counts = Counter(word for text in texts for word in normaliser(text).split())
        if not counts:
            raise DataError("the transcripts hold no text to take units from; check the manifest's `text`")
        if len(counts) > MOST_WORDS:
            raise ConfigError(
                f"units.kind: the transcripts have {len(counts)} different words, and words as units are for at most "
                f"{MOST_WORDS}; use characters"
            )
        return cls(sorted(counts), normaliser)

    def save(self, path: str | Path) -> None:
        """Write one word a line, the blank first, so that a line's number less one is the unit's id."""
        with atomic_write(path) as file:
            file.writelines(symbol + "\n" for symbol in (BLANK_SYMBOL, *self.words))

    @classmethod
    def load(cls, path: str | Path, normaliser: Normaliser | None = None) -> WordUnits:
        """Read what `save` wrote; the normaliser's settings are kept elsewhere (in a bundle's config.yaml).

        Raises:
            ConfigError: the file cannot be read or is no file of units.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except OSError as error:
            raise ConfigError(f"{path}: cannot read the units ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not a file of units: it is not UTF-8 text") from error
        if lines[0] != BLANK_SYMBOL:
            raise ConfigError(f"{path}: not a file of units: its first line must be {BLANK_SYMBOL}")
        try:
            return cls(lines[1:], normaliser or Normaliser())
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
