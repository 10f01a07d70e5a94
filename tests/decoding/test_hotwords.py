from __future__ import annotations

import math

import numpy as np
import pytest

from asr_lstm.decoding.hotwords import AHEAD, ENDS, FALL, Hotwords, build_hotwords
from asr_lstm.decoding.spelling import spell_units
from asr_lstm.decoding.trie import find_child
from asr_lstm.errors import DataError
from asr_lstm.units import CharacterUnits

UNITS = CharacterUnits([" ", "a", "b", "c"])
PHRASES = {"ab": 2.0, "b a": 1.5, "a b a": 3.0, "a": -0.5, "c": 0.25}


def build(phrases: dict[str, float], units: CharacterUnits = UNITS) -> Hotwords:
    return build_hotwords(phrases, units, spell_units(units))


def read(hotwords: Hotwords, text: str) -> list[float]:
    """What has been given, in advance and for good, after each letter."""
    spelling = spell_units(UNITS)
    state, given = hotwords.start, [0.0]
    for letter in spelling.encode(text):
        before = hotwords.scores[state, AHEAD]
        while state and find_child(hotwords.links, state, letter) < 0:
            state = int(hotwords.links[state, FALL])
        state = max(find_child(hotwords.links, state, letter), 0)
        given.append(given[-1] + hotwords.scores[state, AHEAD] - before + hotwords.scores[state, ENDS])
    return [*given[:-1], given[-1] - hotwords.scores[state, AHEAD]]


@pytest.mark.parametrize("seed", range(50))
def test_what_is_left_at_the_end_are_the_whole_phrases(seed: int) -> None:
    random = np.random.default_rng(seed)
    words = ["".join(random.choice(list("abc"), size=random.integers(1, 3))) for _ in range(6)]
    text = f" {' '.join(words)} "
    expected = sum(
        weight * sum(text.startswith(f" {phrase} ", at) for at in range(len(text)))
        for phrase, weight in PHRASES.items()
    )
    assert read(build(PHRASES), text[1:])[-1] == pytest.approx(expected)


def test_a_phrase_is_given_its_weight_little_by_little() -> None:
    assert read(build({"abc": 4.0}), "abc b ") == [0, 1, 2, 3, 4, 4, 4]
    assert read(build({"abc": 4.0}), "abb ") == [0, 1, 2, 0, 0]
    assert read(build({"abc": -4.0}), "abc ") == [0, 0, 0, 0, -4]


def test_phrases_are_normalised() -> None:
    assert read(build({" AB! ": 1.0}), "ab ")[-1] == 1.0


def test_no_phrases() -> None:
    assert read(build({}), "abc ") == [0.0] * 5


@pytest.mark.parametrize(
    ("phrases", "units", "complaint"),
    [
        ({"na\u00efve": 1.0}, UNITS, r"^hotword 'na\u00efve': the units lack 'n', '\u00ef', 'v', 'e'; "),
        ({"  ?": 1.0}, UNITS, r"^hotword '  \?': nothing is left of it; "),
        ({"a b": 1.0}, CharacterUnits(["a", "b"]), "^hotword 'a b': the units lack ' '; "),
    ],
)
def test_phrases_that_cannot_be_written(
    phrases: dict[str, float], units: CharacterUnits, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        build(phrases, units)


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_weights_that_are_no_numbers(weight: float) -> None:
    with pytest.raises(ValueError, match="hotwords: the weight of 'a' must be a finite number"):
        build({"a": weight})
