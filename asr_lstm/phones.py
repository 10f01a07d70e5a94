"""Phones of the training transcripts, which a lower layer may learn beside what the last one writes.

How a word is spelt takes much speech to learn, and in English more than elsewhere; how it sounds does not. See
`asr_lstm.loss.training_losses` for the loss and its source.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asr_lstm.corpora.accents import find_voice
from asr_lstm.corpora.pronounce import pronounce
from asr_lstm.errors import ConfigError
from asr_lstm.units import Normaliser

# Stress and length are no phones; a diphthong is the two letters that it is written in.
_NO_PHONES = "ˈˌː"
# espeak-ng's sign that a word is said as in another language, and that it is over: (en)wiːkˈɛnd(fr)
_LANGUAGE = re.compile(r"\([^)]*\)")
_FURTHER = re.compile(r".+\(\d+\)")  # WORD(1), a second pronunciation
_STRESSED = re.compile(r"^([A-Z]{2})[012]$")  # a vowel of CMU's dictionary
_NAMED = 5  # of the words without phones, in the log


@dataclass(frozen=True)
class PhonesConfig:
    """Phones that the middle layer learns, through an output layer of its own.

    Only training has use for it, but where `encoder.self_conditioning` lets later layers hear what it says.

    Attributes:
        share: of the loss that is the CTC loss of the phones, such as 0.3; 0 for none.
        lang: a language of espeak-ng that says how words sound, such as `en-us`.
        lexicon: instead, a file in the form of the CMU dictionary: a word and its phones a line.
    """

    share: float = 0.0
    lang: str = ""
    lexicon: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"phones.share must be at least 0 and below 1, not {self.share}")
        if self.share and bool(self.lang) == bool(self.lexicon):
            raise ValueError(
                "phones.share needs phones.lang or phones.lexicon, and not both, to know how words sound"
            )


@dataclass(frozen=True)
class Phones:
    """Phones as units: the ids of a transcript's, one word after the other; 0 is the CTC blank.

    Attributes:
        symbols: in order; symbol 0 is unit 1.
        words: the phones of each word of the training transcripts, where they are known.
        normaliser: of transcripts.
        lacking: the other words, and how often they occur.
    """

    symbols: Sequence[str]
    words: Mapping[str, Sequence[int]]
    normaliser: Normaliser
    lacking: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        """Number of units with the blank."""
        return len(self.symbols) + 1

    def encode(self, text: str) -> list[int]:
        """The ids of a transcript; none where one of its words has no known pronunciation."""
        said = [self.words.get(word, ()) for word in self.normaliser(text).split()]
        return [phone for word in said for phone in word] if all(said) else []

    @property
    def remark(self) -> str:
        """What a log should say of the words that are lacking; "" where none is."""
        if not self.lacking:
            return ""
        named = ", ".join(word for word, _ in self.lacking.most_common(_NAMED))
        return (
            f"phones: {len(self.lacking)} words ({self.lacking.total()} times in the transcripts) have no known "
            f"pronunciation, such as {named}; their utterances are learned from without phones"
        )


def make_phones(config: PhonesConfig, texts: Iterable[str], normaliser: Normaliser) -> Phones | None:
    """The phones of all words of the training transcripts; None where the recipe asks for none.

    Raises:
        ConfigError: as `check_phones`, or not one word has a known pronunciation.
        DataError: espeak-ng dies.
    """
    if not config.share:
        return None
    counts = Counter(word for text in texts for word in normaliser(text).split())
    said = _pronunciations(config, sorted(counts))
    symbols = sorted({phone for phones in said.values() for phone in phones})
    if not symbols:
        raise ConfigError(
            f"phones: {config.lexicon or config.lang} knows no word of the training transcripts; "
            "correct phones.lexicon or phones.lang, or say phones.share 0"
        )
    ids = {symbol: index for index, symbol in enumerate(symbols, start=1)}
    words = {word: tuple(ids[phone] for phone in phones) for word, phones in said.items()}
    lacking = Counter({word: count for word, count in counts.items() if word not in words})
    return Phones(symbols, words, normaliser, lacking)


def check_phones(config: PhonesConfig) -> None:
    """Find out early what `make_phones` will need.

    Raises:
        ConfigError: espeak-ng is not installed or has no such language, or the lexicon cannot be read.
        DataError: espeak-ng dies.
    """
    if config.share:
        _pronunciations(config, [])


def _pronunciations(config: PhonesConfig, words: Sequence[str]) -> dict[str, list[str]]:
    """The phones of those words that have any."""
    if config.lexicon:
        lexicon = read_lexicon(config.lexicon)
        return {word: lexicon[key] for word in words if (key := _key(word)) in lexicon}
    try:
        said = pronounce(words, lang=find_voice(config.lang))
    except ConfigError as error:
        raise ConfigError(f"phones.lang: {str(error).removeprefix('lang: ')}") from error
    return {word: found for word, ipa in zip(words, said, strict=True) if (found := split_ipa(ipa))}


def split_ipa(ipa: str) -> list[str]:
    """The phones of a pronunciation in the International Phonetic Alphabet as espeak-ng writes it: its letters.

    Stress, length and diacritics are left out: ˈsʌmθɪŋ is s ʌ m θ ɪ ŋ, and ˈeɪ is e ɪ.
    """
    letters = _LANGUAGE.sub(" ", ipa)
    return [sign for sign in letters if unicodedata.category(sign)[0] == "L" and sign not in _NO_PHONES]


def read_lexicon(path: str | Path) -> dict[str, list[str]]:
    """Read a pronouncing dictionary in the form of CMU's: `WORD  W ER1 D`.

    Of several pronunciations of a word the first is taken, stress is left out, and so are comments: lines that begin
    with `;;;`, and what follows ` #`.

    Returns:
        phones by word, casefolded.

    Raises:
        ConfigError: it cannot be read, or a word has no phones.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"phones.lexicon: {path}: cannot read it ({error.strerror})") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # as releases of CMU's up to 0.7b are
    lexicon: dict[str, list[str]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        word, *phones = line.partition(" #")[0].split() or [""]
        if not word or line.startswith(";;;") or _FURTHER.fullmatch(word):
            continue
        if not phones:
            raise ConfigError(f"phones.lexicon: {path}:{number}: {word!r} has no phones; complete the line")
        lexicon.setdefault(_key(word), [_STRESSED.sub(r"\1", phone) for phone in phones])
    return lexicon


def _key(word: str) -> str:
    """A word as it is looked up, whatever its case."""
    return unicodedata.normalize("NFC", word).casefold()
