"""Pieces of words as output units: fewer to write than characters, and any word can still be spelt.

Which pieces there are is learned from the training transcripts by sentencepiece (Kudo 2018, "Subword regularization",
arXiv 1804.10959: a unigram model of pieces). Its log probabilities are kept with the pieces, so that a model can be
used where sentencepiece is not installed.
"""

from __future__ import annotations

import io
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from typing_extensions import Self

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.units import WORD_MARK, ListedUnits, Normaliser

# Of what no piece writes, as sentencepiece has it: so far below the unlikeliest piece that any other spelling wins.
_UNKNOWN_PENALTY = 10.0
_REMEMBERED = 100_000  # words whose spelling is kept; text repeats them
_NOT_A_WORD = "\u2585"  # sentencepiece passes over each sentence with this block
_LONGEST = 1 << 24  # bytes of a sentence; by default sentencepiece passes over those above 4192


@dataclass(frozen=True)
class PieceUnits(ListedUnits):
    """One unit for each piece, after the blank; one that begins a word begins with `WORD_MARK`, which is also a piece.

    A text is written by those pieces of each word whose log probabilities add up to most.

    Attributes:
        scores: the natural logarithm of each piece's probability, in the order of `symbols`.

    Raises:
        ConfigError: as `ListedUnits`, or there are not as many scores as pieces.
    """

    kind: ClassVar[str] = "pieces"
    one: ClassVar[str] = "piece"

    scores: Sequence[float] = ()
    _score: dict[str, float] = field(init=False, repr=False, compare=False)
    _spellings: dict[str, list[str]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.scores) != len(self.symbols):
            raise ConfigError(f"{len(self.symbols)} pieces have {len(self.scores)} log probabilities")
        object.__setattr__(self, "scores", tuple(self.scores))
        object.__setattr__(self, "_score", dict(zip(self.symbols, self.scores, strict=True)))

    @classmethod
    def from_texts(
        cls, texts: Iterable[str], normaliser: Normaliser | None = None, *, size: int
    ) -> PieceUnits:
        """Pieces of the normalised texts, the likeliest first; each character that occurs is one of them.

        A text counts once, however often it occurs: the pieces of speech that says the same sentences many times,
        as synthetic speech does, are the same as of the sentences. The same texts give the same pieces.

        Args:
            texts: transcripts.
            normaliser: applied to each.
            size: how many pieces there shall be; few and short texts have fewer.

        Raises:
            ConfigError: sentencepiece is not installed, or there are more characters than pieces.
            DataError: there is no text.
        """
        normaliser = normaliser or Normaliser()
        distinct = sorted({" ".join(_words(normaliser(text))) for text in texts} - {""})
        if not distinct:
            raise DataError("the transcripts hold no text to take units from; check the manifest's `text`")
        characters = {WORD_MARK, *"".join(distinct)} - {" "}
        if len(characters) > size:
            raise ConfigError(
                f"units.size: {size} pieces cannot write the {len(characters) - 1} different characters of the "
                f"transcripts; say at least {len(characters)}, better several times as many"
            )
        scores = _train(distinct, size)
        least = min(scores.values(), default=0.0)
        scores |= {character: least for character in sorted(characters - scores.keys())}
        return cls(list(scores), normaliser, scores=list(scores.values()))

    def _split(self, text: str) -> Sequence[str]:
        pieces = []
        for word in _words(text):
            if word not in self._spellings:
                if len(self._spellings) >= _REMEMBERED:
                    self._spellings.clear()
                self._spellings[word] = self._spell(WORD_MARK + word)
            pieces += self._spellings[word]
        return pieces

    def _spell(self, word: str) -> list[str]:
        """The likeliest pieces of a word; a character that no piece writes stands by itself."""
        longest = max(map(len, self.symbols))
        unknown = min(self.scores) - _UNKNOWN_PENALTY
        best, begins = (
            [0.0],
            [0],
        )  # of the word's first n characters: their score, and where the last piece begins
        for end in range(1, len(word) + 1):
            score, begin = -math.inf, 0
            for first in range(max(0, end - longest), end):
                piece = self._score.get(word[first:end], unknown if first == end - 1 else -math.inf)
                if best[first] + piece > score:
                    score, begin = best[first] + piece, first
            best.append(score)
            begins.append(begin)
        pieces: list[str] = []
        end = len(word)
        while end:
            pieces.append(word[begins[end] : end])
            end = begins[end]
        return pieces[::-1]

    def _join(self, symbols: Sequence[str]) -> str:
        # A network may emit a letter and its accent in two pieces; references have them composed.
        text = "".join(symbols).replace(WORD_MARK, " ")
        return " ".join(unicodedata.normalize(self.normaliser.unicode, text).split())

    def _fits(self, symbol: str) -> bool:
        return symbol.split() == [symbol] and WORD_MARK not in symbol[1:]

    def _lines(self) -> list[str]:
        return [f"{symbol}\t{score!r}" for symbol, score in zip(self.symbols, self.scores, strict=True)]

    @classmethod
    def _parse(cls, lines: Sequence[str], normaliser: Normaliser) -> Self:
        symbols, scores = [], []
        for number, line in enumerate(lines, start=1):
            symbol, _, score = line.partition("\t")
            try:
                scores.append(float(score))
            except ValueError:
                raise ConfigError(f"unit {number}: {line!r} is not a piece, a tab and a number") from None
            symbols.append(symbol)
        return cls(symbols, normaliser, scores=scores)


def import_sentencepiece() -> Any:
    """The package, which only training asks for.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import sentencepiece
    except ImportError as error:
        raise ConfigError(
            "word pieces need sentencepiece, which is not installed: pip install 'asr_lstm[sentencepiece]'"
        ) from error
    return sentencepiece


def _words(text: str) -> list[str]:
    """The words of a normalised text; the mark of a word's beginning would be read as a space, so it is one."""
    return text.replace(WORD_MARK, " ").split()


def _train(texts: Sequence[str], size: int) -> dict[str, float]:
    """The pieces of a unigram model, each with its log probability, the likeliest first."""
    package = import_sentencepiece()
    model = io.BytesIO()
    try:
        package.SentencePieceTrainer.Train(
            sentence_iterator=(text.replace(_NOT_A_WORD, " ") for text in texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=size + 1,  # its unknown piece is none of ours
            hard_vocab_limit=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            max_sentence_length=_LONGEST,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,  # sums in the same order each time
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1].rpartition("] ")[2]
        raise ConfigError(
            f"units.size: {size} pieces cannot be made of the transcripts ({reason})"
        ) from error
    processor = package.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model.getvalue())
    return {
        processor.IdToPiece(number): round(processor.GetScore(number), 6)  # it has seven digits
        for number in range(processor.GetPieceSize())
        if not processor.IsUnknown(number)
    }
