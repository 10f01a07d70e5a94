"""Text normalisation and output units: what a transcript becomes before a network may learn it, and back."""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from typing_extensions import Self

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.files import atomic_write

BLANK = 0  # CTC's "nothing new here": unit 0 everywhere in the toolkit
BLANK_SYMBOL = "<blank>"
WORD_MARK = "\u2581"  # sentencepiece's sign for the space before a piece, and before a word that is a unit
SPACE_SYMBOL = "<space>"  # how a space is written in the units' file, where it could not be seen

_JOINERS = "\u200c\u200d"  # invisible, but spelling in Persian and in the scripts of India
_ZERO_WIDTH_SPACE = "\u200b"  # parts words in Khmer and Thai, though Python does not call it a space
_APOSTROPHES = "'\u2019\u2018\uff07"
_INNER_MARKS = "'\u00b7\u05f3\u05f4"  # apostrophe, Catalan middle dot, Hebrew geresh and gershayim
_QUOTES = re.compile(f"[{_INNER_MARKS}]{{2,}}")
_OUTER_MARKS = re.compile(rf"(?<!\S)[{_INNER_MARKS}]+|[{_INNER_MARKS}]+(?!\S)")


class _Table(dict[int, str]):
    """For `str.translate`: decides on each character when it is first met."""

    def __init__(self, *, remove_punctuation: bool) -> None:
        super().__init__()
        self._remove_punctuation = remove_punctuation

    def __missing__(self, code: int) -> str:
        self[code] = self._replacement(chr(code))
        return self[code]

    def _replacement(self, character: str) -> str:
        category = unicodedata.category(character)
        if character.isspace() or character == _ZERO_WIDTH_SPACE:
            return " "
        if category in ("Cc", "Cf", "Cs") and character not in _JOINERS:
            return ""  # byte order marks, direction marks, soft hyphens: nobody hears them
        if self._remove_punctuation:
            if character in _APOSTROPHES:
                return "'"
            if category[0] in "PS" and character not in _INNER_MARKS:
                return " "
        return character


_CASINGS: dict[str, Callable[[str], str]] = {"lower": str.lower, "upper": str.upper, "keep": str}
_TABLES = {
    "keep": _Table(remove_punctuation=False),
    "remove": _Table(remove_punctuation=True),
}


@dataclass(frozen=True)
class Normaliser:
    """One form for text that says the same, in training, in evaluation and in what is printed.

    Invisible format characters go (but not the joiners of Persian and Indic spelling) and white space becomes
    single spaces, none at the ends. Normalising twice changes nothing more.

    Attributes:
        unicode: NFC composes accents; NFKC also makes full-width letters, ligatures and the like plain.
        casing: "lower", "upper" or "keep". Casing knows no language: Turkish wants "keep" and its own rule.
        punctuation: "remove" turns punctuation and symbols into spaces, except for apostrophes inside words
            (don't, l'eau; curly ones become straight), the dot of Catalan l·l and the Hebrew geresh; "keep"
            leaves them for the network to learn.
    """

    unicode: Literal["NFC", "NFKC"] = "NFC"
    casing: Literal["lower", "upper", "keep"] = "lower"
    punctuation: Literal["keep", "remove"] = "remove"

    def __post_init__(self) -> None:
        for name, known in (
            ("unicode", ("NFC", "NFKC")),
            ("casing", ("lower", "upper", "keep")),
            ("punctuation", ("keep", "remove")),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name}: {getattr(self, name)!r} is not one of {', '.join(known)}")

    def __call__(self, text: str) -> str:
        """The text in its one form; it may be empty."""
        text = unicodedata.normalize(self.unicode, text).translate(_TABLES[self.punctuation])
        # Cased after punctuation, because a Greek sigma's form depends on where its word ends; composed
        # again, because both steps may leave a letter and its accent apart.
        text = unicodedata.normalize(self.unicode, self._cased(text))
        plain = text.isascii()  # most texts of a million are, and need less done to them
        if self.punctuation == "remove" and not (plain and "'" not in text):
            text = _OUTER_MARKS.sub(" ", _QUOTES.sub(" ", text))
        if plain and "  " not in text:
            return text.strip(" ")
        return " ".join(text.split())

    def _cased(self, text: str) -> str:
        return _CASINGS[self.casing](text)


@runtime_checkable
class Units(Protocol):
    """What training, decoding and bundles ask of output units; unit 0 is the CTC blank."""

    @property
    def kind(self) -> str:
        """The name in a bundle's configuration: "characters", ..."""

    @property
    def normaliser(self) -> Normaliser:
        """What `encode` and `unknown` do to a text first, and an evaluation to its reference."""

    def __len__(self) -> int:
        """How many units there are, the blank among them: the width of the logits."""

    def encode(self, text: str, where: str = "") -> list[int]:
        """The ids of a text, normalised first; `DataError` naming `where` if the units cannot write it."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids without blanks, repeats already merged."""

    def unknown(self, text: str) -> list[str]:
        """What of the normalised text the units lack, each once."""

    def known(self, text: str) -> str:
        """The normalised text without what the units lack."""

    def save(self, path: str | Path) -> None:
        """Write the units to one file."""


@dataclass(frozen=True)
class ListedUnits(ABC):
    """Units that stand in a list, the blank before them: what all kinds have in common.

    Attributes:
        symbols: in order; symbol 0 is unit 1.
        normaliser: applied to each text before it is encoded.

    Raises:
        ConfigError: no symbols, one that occurs twice, or one that can be no unit of this kind.
    """

    symbols: Sequence[str]
    normaliser: Normaliser = field(default_factory=Normaliser)
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    kind: ClassVar[str]  # the name in a bundle's configuration
    one: ClassVar[str]  # what a unit is, in messages

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbols", tuple(self.symbols))
        object.__setattr__(
            self, "_ids", {symbol: index for index, symbol in enumerate(self.symbols, start=1)}
        )
        if not self.symbols:
            raise ConfigError(f"the units are empty; give at least one {self.one}")
        for index, symbol in enumerate(self.symbols, start=1):
            if not self._fits(symbol):
                raise ConfigError(f"unit {index}: {symbol!r} is not a single {self.one}")
            if self._ids[symbol] != index:
                raise ConfigError(f"unit {index}: {self._name(symbol)} stands there twice; leave it once")

    def __len__(self) -> int:
        """Number of units with the blank."""
        return len(self.symbols) + 1

    def encode(self, text: str, where: str = "") -> list[int]:
        """The ids of a text, normalised first.

        Args:
            text: as it stands in the transcript.
            where: file and line of the transcript, for the error.

        Raises:
            DataError: a symbol that the units lack.
        """
        try:
            return [self._ids[symbol] for symbol in self._split(self.normaliser(text))]
        except KeyError:
            lacking = ", ".join(self._name(symbol) for symbol in self.unknown(text))
            raise DataError(
                f"{where + ': ' if where else ''}the units lack {lacking}; "
                f"correct the transcript, leave it out, or add the {self.one} to the units"
            ) from None

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids (no blanks, repeats merged), with single spaces between words.

        Raises:
            ValueError: an id that is the blank or no unit.
        """
        for unit in ids:
            if not BLANK < unit < len(self):
                raise ValueError(f"ids: {unit} is not a unit from 1 to {len(self) - 1}")
        return self._join([self.symbols[unit - 1] for unit in ids])

    def unknown(self, text: str) -> list[str]:
        """What of the normalised text the units lack, each once, in order of appearance."""
        split = self._split(self.normaliser(text))
        return [symbol for symbol in dict.fromkeys(split) if symbol not in self._ids]

    def known(self, text: str) -> str:
        """The normalised text without what the units lack."""
        split = self._split(self.normaliser(text))
        return self._join([symbol for symbol in split if symbol in self._ids])

    def save(self, path: str | Path) -> None:
        """Write one symbol a line, the blank first, so that a line's number less one is the unit's id."""
        with atomic_write(path) as file:
            file.writelines(f"{line}\n" for line in (BLANK_SYMBOL, *self._lines()))

    @classmethod
    def load(cls, path: str | Path, normaliser: Normaliser | None = None) -> Self:
        """Read what `save` wrote; the normaliser's settings are kept elsewhere (in a bundle's config.yaml).

        Raises:
            ConfigError: the file cannot be read or is no file of units.
        """
        try:
            lines = Path(path).read_bytes().decode("utf-8").removesuffix("\n").split("\n")
        except OSError as error:
            raise ConfigError(f"{path}: cannot read the units ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not a file of units: it is not UTF-8 text") from error
        lines = [line.removesuffix("\r") for line in lines]
        if lines[0] != BLANK_SYMBOL:
            raise ConfigError(f"{path}:1: not a file of units: the first line must be {BLANK_SYMBOL}")
        try:
            return cls._parse(lines[1:], normaliser or Normaliser())
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def _lines(self) -> list[str]:
        """What `save` writes of each symbol."""
        return [SPACE_SYMBOL if symbol == " " else symbol for symbol in self.symbols]

    @classmethod
    def _parse(cls, lines: Sequence[str], normaliser: Normaliser) -> Self:
        """The units of such lines."""
        return cls([" " if line == SPACE_SYMBOL else line for line in lines], normaliser)

    @abstractmethod
    def _split(self, text: str) -> Sequence[str]:
        """The symbols that write a normalised text."""

    @abstractmethod
    def _join(self, symbols: Sequence[str]) -> str:
        """The text that symbols write."""

    @abstractmethod
    def _fits(self, symbol: str) -> bool:
        """Whether this can be a unit."""

    def _name(self, symbol: str) -> str:
        """A symbol in messages."""
        return repr(symbol)


@dataclass(frozen=True)
class CharacterUnits(ListedUnits):
    """One unit for each character (Unicode code point), after the blank; see `ListedUnits`.

    A letter and its combining mark are two units where Unicode has no composed form, as in Devanagari.
    """

    kind: ClassVar[str] = "characters"
    one: ClassVar[str] = "character"

    @classmethod
    def from_texts(cls, texts: Iterable[str], normaliser: Normaliser | None = None) -> CharacterUnits:
        """Units for every character that occurs in the normalised texts, sorted by code point.

        Raises:
            DataError: there is no text.
        """
        normaliser = normaliser or Normaliser()
        characters: set[str] = set()
        for text in texts:
            characters.update(normaliser(text))
        return cls.from_characters(characters, normaliser)

    @classmethod
    def from_characters(cls, characters: Iterable[str], normaliser: Normaliser) -> CharacterUnits:
        """Units for characters that were counted already in normalised texts, sorted by code point.

        Raises:
            DataError: there is none.
        """
        symbols = sorted(characters)
        if not symbols:
            raise DataError("the transcripts hold no text to take units from; check the manifest's `text`")
        return cls(symbols, normaliser)

    def _split(self, text: str) -> Sequence[str]:
        return text

    def _join(self, symbols: Sequence[str]) -> str:
        # A network may emit a letter and its accent one after the other; references have them composed.
        return " ".join(unicodedata.normalize(self.normaliser.unicode, "".join(symbols)).split())

    def _fits(self, symbol: str) -> bool:
        return len(symbol) == 1 and (symbol == " " or not symbol.isspace())

    def _name(self, symbol: str) -> str:
        return _name(symbol)


def _name(character: str) -> str:
    """A character as an error shows it: combining marks and look-alikes are told apart by their code."""
    shown = f"\u25cc{character}" if unicodedata.combining(character) else character
    return f"'{shown}' (U+{ord(character):04X})"
