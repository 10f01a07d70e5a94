"""Making the search's tables of what a user gives: models, lexicon, hotwords."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar, cast

import numpy as np

from asr_lstm.decoding.hotwords import build_hotwords
from asr_lstm.decoding.lexicon import lexicon_trie, vocabulary_trie
from asr_lstm.decoding.ngram_words import NgramWords
from asr_lstm.decoding.protocols import UNKNOWN_WORD, Float32, UnitModel, WordModel
from asr_lstm.decoding.search_arrays import ARCS, NO_MODEL, OUTSIDE, Int64, Modes, Tables, WordArcs, no_arcs
from asr_lstm.decoding.spelling import SpelledUnits, Spelling
from asr_lstm.decoding.trie import VALUE, Trie, empty_trie, greatest_below
from asr_lstm.errors import DataError
from asr_lstm.units import SPACE_SYMBOL, Units

# A unit model of a small text may lack rare units; one that lacks most was made for others.
MOST_UNKNOWN_UNITS = 0.5

Table = TypeVar("Table", bound=tuple[Any, ...])


def make_tables(
    units: Units,
    spelling: Spelling,
    *,
    word_model: WordModel | None,
    unit_model: UnitModel | NgramWords | None,
    lexicon: Collection[str] | None,
    hotwords: Mapping[str, float] | None,
) -> Tables:
    """The tables of a search; arguments and errors as of `BeamDecoder`."""
    if (word_model is not None or lexicon is not None) and not spelling.parts_words:
        raise DataError(
            "the units have no space, so that words cannot be told apart; "
            "take a language model of its characters (--lstm) instead of one of words or a lexicon"
        )
    if lexicon is not None:
        trie = lexicon_trie(lexicon, units, spelling, word_model)
    else:
        trie = empty_trie() if word_model is None else vocabulary_trie(word_model, spelling)
    if unit_model is not None and not isinstance(unit_model, NgramWords):
        _check_width(unit_model, units)
    hot = build_hotwords(hotwords or {}, units, spelling)
    modes = Modes(
        closed=lexicon is not None,
        words=_mode(word_model),
        units=_mode(unit_model),
        unknown=-1 if word_model is None else word_model.word_id(UNKNOWN_WORD),
        space=hot.space,
    )
    return _frozen(
        Tables(
            modes=modes,
            spelled=spelling.array(),
            trie=trie,
            ahead=_look_ahead(trie, word_model),
            hotwords=hot,
            words=_arcs(word_model),
            units=_arcs(unit_model),
            unit_words=_unit_words(unit_model, units)
            if isinstance(unit_model, NgramWords)
            else np.zeros(0, np.int64),
        )
    )


def _mode(model: object) -> int:
    if model is None:
        return NO_MODEL
    return ARCS if isinstance(model, NgramWords) else OUTSIDE


def _arcs(model: object) -> WordArcs:
    return model.arcs() if isinstance(model, NgramWords) else no_arcs()


def _look_ahead(trie: Trie, model: object) -> Float32:
    """`Tables.ahead`; nothing is expected of models that are not arrays."""
    if not isinstance(model, NgramWords):
        return np.zeros(len(trie), np.float32)
    log_probs, numbers = model.unigrams(), trie[:-1, VALUE]
    ends = np.where(numbers >= 0, log_probs[numbers], -np.inf).astype(np.float32)
    return np.append(greatest_below(trie, ends), log_probs[model.word_id(UNKNOWN_WORD)])


def _check_width(model: UnitModel, units: Units) -> None:
    columns = model.start()[0].shape[-1]
    if columns != len(units):
        raise DataError(
            f"the unit model has {columns} units and the recogniser {len(units)}; train it on the same units"
        )


def _unit_words(model: WordModel, units: Units) -> Int64:
    """The unit model's number of each unit (the blank's is never looked up)."""
    symbols = [SPACE_SYMBOL if symbol == " " else symbol for symbol in cast(SpelledUnits, units).symbols]
    unknown = model.word_id(UNKNOWN_WORD)
    numbers = [model.word_id(symbol) for symbol in symbols]
    lacking = [symbol for symbol, number in zip(symbols, numbers, strict=True) if number == unknown]
    if len(lacking) > MOST_UNKNOWN_UNITS * len(symbols):
        raise DataError(
            f"the unit model does not know {len(lacking)} of the recogniser's {len(symbols)} units "
            f"({', '.join(map(repr, lacking[:5]))}, ...); its text must be these units, parted by spaces"
        )
    return np.array([unknown, *numbers], np.int64)


def _frozen(table: Table) -> Table:
    """The same tables, never to be written to: one type for arrays in memory and in mapped files."""
    parts: list[Any] = []
    for part in table:
        if isinstance(part, np.ndarray):
            part = np.ascontiguousarray(part).view(np.ndarray)
            part.flags.writeable = False
        parts.append(_frozen(part) if isinstance(part, tuple) else part)
    return type(table)(*parts)
