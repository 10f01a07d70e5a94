"""What a neural language model counts in: characters, words or word pieces, and the end of a line."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.files import atomic_write

# Unit 0 ends a line and so begins the next one. A recogniser has its blank there, which no text contains: the
# columns of both are the same.
END = 0
UNKNOWN_WORD = "<unk>"
UNITS_NAME = "units.json"
# So many of the characters that a model lacks are named.
_NAMED = 8

UnitKind = Literal["characters", "words", "sentencepiece"]
Ids = NDArray[np.int64]


class TextUnits(Protocol):
    """What the network, scoring and generation ask of units; unit 0 is the end of a line.

    Attributes:
        kind: "characters", "words" or "sentencepiece".
        symbols: symbol 0 is unit 1.
        unknown: the unit that stands for what the others cannot write, or None.
    """

    @property
    def kind(self) -> UnitKind:
        """The name in a bundle."""

    @property
    def symbols(self) -> Sequence[str]:
        """What each unit after the first stands for."""

    @property
    def unknown(self) -> int | None:
        """The unknown unit, where there is one."""

    def __len__(self) -> int:
        """How many there are, the end of a line among them."""

    def encode(self, text: str) -> Ids:
        """The units of a text, `(n,)`; each line end is an `END`. `DataError` where they cannot write it."""

    def write(self, unit: int, *, after: int) -> str:
        """What a unit adds to a text that ends with the unit `after`."""

    def save(self, folder: Path) -> None:
        """Write what `load_units` reads."""


class _Symbols:
    """Units that are a list of symbols."""

    kind: UnitKind

    def __init__(self, symbols: Iterable[str]) -> None:
        self.symbols: Sequence[str] = tuple(symbols)
        self._ids = {symbol: number for number, symbol in enumerate(self.symbols, start=1)}
        if not self.symbols or len(self._ids) != len(self.symbols) or "" in self._ids:
            raise ConfigError("the units must be different and not empty; train the model anew")

    def __len__(self) -> int:
        return len(self.symbols) + 1

    def save(self, folder: Path) -> None:
        """Write the symbols as JSON."""
        write_json(folder, {"kind": self.kind, "symbols": list(self.symbols)})


class CharacterTextUnits(_Symbols):
    """Each character (Unicode code point) is a unit; others are refused."""

    kind: UnitKind = "characters"
    unknown: int | None = None

    def __init__(self, symbols: Iterable[str]) -> None:
        super().__init__(symbols)
        if wrong := [symbol for symbol in self.symbols if len(symbol) != 1 or symbol == "\n"]:
            raise ConfigError(f"the unit {wrong[0]!r} is not a single character of a line")

    def encode(self, text: str) -> Ids:
        """The units of a text, `(n,)`.

        Raises:
            DataError: a character that the units lack.
        """
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        known = np.array([ord("\n"), *map(ord, self.symbols)], np.uint32)
        order = np.argsort(known)
        found: Ids = order[np.searchsorted(known, codes, sorter=order).clip(max=len(known) - 1)].astype(
            np.int64
        )
        if (known[found] != codes).any():
            lacking = dict.fromkeys(text).keys() - {*self.symbols, "\n"}
            names = ", ".join(_name(character) for character in sorted(lacking)[:_NAMED])
            more = f" and {len(lacking) - _NAMED} others" if len(lacking) > _NAMED else ""
            raise DataError(
                f"the language model has no {names}{more}; take it out of the text, or train with it"
            )
        return found

    def write(self, unit: int, *, after: int) -> str:
        """The character."""
        return "\n" if unit == END else self.symbols[unit - 1]


class WordTextUnits(_Symbols):
    """Each word is a unit, unit 1 stands for all that are not among them; the first symbol must be "<unk>"."""

    kind: UnitKind = "words"
    unknown: int | None = 1

    def __init__(self, symbols: Iterable[str]) -> None:
        super().__init__(symbols)
        if self.symbols[0] != UNKNOWN_WORD:
            raise ConfigError(f"the first of the words must be {UNKNOWN_WORD}; train the model anew")

    def encode(self, text: str) -> Ids:
        """The units of a text, `(n,)`, words parted by white space."""
        get = self._ids.get
        return join_lines([get(word, 1) for word in line.split()] for line in text.split("\n"))

    def write(self, unit: int, *, after: int) -> str:
        """The word, and a space before it within a line."""
        if unit == END:
            return "\n"
        return self.symbols[unit - 1] if after == END else " " + self.symbols[unit - 1]


def join_lines(lines: Iterable[list[int]]) -> Ids:
    """The units of all lines, `(n,)`, with an end between each and the next."""
    ids: list[int] = []
    for number, line in enumerate(lines):
        ids += [END, *line] if number else line
    return np.array(ids, np.int64)


def character_units(*texts: str) -> CharacterTextUnits:
    """Units for every character of the texts, sorted by code point.

    Raises:
        DataError: there are none.
    """
    characters = sorted(set().union(*map(set, texts)) - {"\n"})
    if not characters:
        raise DataError("the text is empty; there is nothing to learn")
    return CharacterTextUnits(characters)


def word_units(text: str, vocabulary: int | Iterable[str] | None = None) -> WordTextUnits:
    """Units for the words of a text, the most frequent first.

    Args:
        text: to learn from.
        vocabulary: the words to keep, or how many of the most frequent; all that occur twice or more by default,
            so that the others teach what stands around an unknown word.

    Raises:
        DataError: no words are left.
    """
    counts = Counter(text.split())
    if isinstance(vocabulary, int):
        words = [word for word, _ in counts.most_common(vocabulary)]
    elif vocabulary is not None:
        words = sorted(set(vocabulary), key=lambda word: (-counts[word], word))
    else:
        words = [word for word, count in counts.most_common() if count > 1]
    words = [word for word in words if word != UNKNOWN_WORD]
    if not words:
        raise DataError("no words are left to learn; give more text, or another vocabulary")
    return WordTextUnits([UNKNOWN_WORD, *words])


def load_units(folder: Path) -> TextUnits:
    """Read the units of a bundle.

    Raises:
        ConfigError: they cannot be read.
    """
    path = folder / UNITS_NAME
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["kind"] == "sentencepiece":
            from asr_lstm.lm.neural.pieces import PIECES_NAME, PieceTextUnits

            return PieceTextUnits((folder / PIECES_NAME).read_bytes())
        if stored["kind"] == "words":
            return WordTextUnits(stored["symbols"])
        if stored["kind"] != "characters":
            raise ValueError(stored["kind"])
        return CharacterTextUnits(stored["symbols"])
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot read the units ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not the units of a language model; train it anew") from error


def write_json(folder: Path, content: dict[str, Any]) -> None:
    """Write what `load_units` reads first."""
    with atomic_write(folder / UNITS_NAME) as file:
        json.dump(content, file, ensure_ascii=False)


def _name(character: str) -> str:
    shown = f"\u25cc{character}" if unicodedata.combining(character) else character
    return f"{shown!r} (U+{ord(character):04X})"
