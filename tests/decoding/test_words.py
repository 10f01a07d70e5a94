from __future__ import annotations

import pytest

from asr_lstm.decoding.greedy import UnitSpan
from asr_lstm.decoding.spelling import spell_units
from asr_lstm.decoding.words import WordSpan, word_spans
from asr_lstm.units import CharacterUnits

UNITS = CharacterUnits([" ", "e", "\u0301", "b"])  # the third is a combining accent
SPACE, E, ACCENT, B = 1, 2, 3, 4


def test_units_are_joined_at_spaces() -> None:
    spans = [
        UnitSpan(SPACE, 0, 1, 0.1),
        UnitSpan(B, 2, 3, 0.5),
        UnitSpan(E, 3, 5, 0.7),
        UnitSpan(SPACE, 5, 6, 0.1),
        UnitSpan(SPACE, 7, 8, 0.1),
        UnitSpan(E, 9, 10, 0.4),
        UnitSpan(ACCENT, 11, 12, 0.8),
        UnitSpan(SPACE, 12, 13, 0.1),
    ]
    assert word_spans(spans, UNITS, spell_units(UNITS)) == [
        WordSpan("be", 2, 5, pytest.approx(0.6)),
        WordSpan("\u00e9", 9, 12, pytest.approx(0.6)),
    ]


def test_spaces_alone_are_no_word() -> None:
    assert word_spans([UnitSpan(SPACE, 0, 1, 0.9)], UNITS, spell_units(UNITS)) == []
    assert word_spans([], UNITS, spell_units(UNITS)) == []
