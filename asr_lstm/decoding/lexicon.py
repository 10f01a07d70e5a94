"""The words that may be recognised, where they are a closed list."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from asr_lstm.decoding.protocols import SENTENCE_MARKS, UNKNOWN_WORD, WordModel
from asr_lstm.decoding.spelling import Spelling, spell_units
from asr_lstm.decoding.trie import Trie, build_trie
from asr_lstm.errors import DataError
from asr_lstm.units import Units

log = logging.getLogger(__name__)

_NAMED = 5  # words that an error shows
_COMMENTS = (";;;", "#")
_VARIANT = re.compile(r"\(\d+\)$")  # the second pronunciation of a word in the CMU dictionary: read(2)


def read_lexicon(path: str | Path) -> list[str]:
    """The words of a file, each once: the first field of each line.

    A list of words will do, and so will a dictionary of pronunciations such as CMU's, which are passed over. That
    this is done is logged, since it would be a mistake of a list of phrases.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or holds no word.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot read the lexicon ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a lexicon: it is not UTF-8 text") from error
    rows = [line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith(_COMMENTS)]
    words = list(dict.fromkeys(_VARIANT.sub("", row[0]) for row in rows))
    if not words:
        raise DataError(f"{path}: the lexicon is empty; give one word a line")
    if longer := [" ".join(row) for row in rows if len(row) > 1]:
        text = (
            "%s: of %d lines, such as %r, only the first word is taken: the rest is read as its pronunciation"
        )
        log.info(text, path, len(longer), longer[0])
    return words


def split_spellable(words: Iterable[str], units: Units) -> tuple[list[str], list[str]]:
    """Words that the units can write, normalised and each once, and those that they cannot, as they came."""
    spelling = spell_units(units)
    good: dict[str, None] = {}
    bad = []
    for word in words:
        normal = units.normaliser(word)
        if spelling.can_write(normal):
            good[normal] = None
        else:
            bad.append(word)
    return list(good), bad


def lexicon_trie(words: Collection[str], units: Units, spelling: Spelling, model: WordModel | None) -> Trie:
    """The trie of a closed lexicon, its values the numbers of the words in the model.

    Args:
        words: normalised here as the units say.
        units: of the recogniser.
        spelling: of these units.
        model: of words; without one the values are the words' places in the lexicon.

    Raises:
        DataError: no words, words that the units cannot write, or none that the model knows.
    """
    if not words:
        raise DataError("the lexicon is empty; give the words to recognise, or none at all for any word")
    good, bad = split_spellable(words, units)
    if bad:
        raise DataError(
            f"lexicon: the units cannot spell {_shown(bad)}; leave them out (`split_spellable` tells them apart)"
        )
    if model is None:
        return build_trie([spelling.encode(word) for word in good], range(len(good)))
    numbers = [model.word_id(word) for word in good]
    unknown = model.word_id(UNKNOWN_WORD)
    if all(number == unknown for number in numbers):
        raise DataError(
            f"the language model knows none of the lexicon's {_shown(good)}; was its text normalised in another way?"
        )
    return build_trie([spelling.encode(word) for word in good], numbers)


def vocabulary_trie(model: WordModel, spelling: Spelling) -> Trie:
    """The trie of all words of a model that the units can write; for any word to be recognised.

    Raises:
        DataError: the units can write none of them.
    """
    words = [word for word in model.words if word not in SENTENCE_MARKS and spelling.can_write(word)]
    if not words:
        raise DataError(
            f"the model's units can spell none of the language model's {_shown(model.words)}; "
            "was its text normalised in another way?"
        )
    return build_trie([spelling.encode(word) for word in words], [model.word_id(word) for word in words])


def _shown(words: Collection[str]) -> str:
    """How many words there are, and the first of them."""
    first = [repr(word) for word, _ in zip(words, range(_NAMED), strict=False)]
    more = ", ..." if len(words) > _NAMED else ""
    return f"{len(words)} word{'s' if len(words) != 1 else ''} ({', '.join(first)}{more})"
