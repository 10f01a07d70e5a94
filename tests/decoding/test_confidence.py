from __future__ import annotations

import math

import pytest

from asr_lstm.decoding.confidence import agreement, draw_confidences, nbest_confidences, word_scores
from asr_lstm.decoding.hypothesis import Hypothesis
from asr_lstm.decoding.words import WordSpan


def hypothesis(text: str, probability: float, confidence: float = 0.5) -> Hypothesis:
    words = tuple(WordSpan(word, i, i + 1, confidence) for i, word in enumerate(text.split()))
    total = math.log(probability) - 100.0  # a constant that normalising takes away
    return Hypothesis(text, (), total, 0.0, 0.0, 0.0, total, words)


def test_a_word_has_the_mass_of_the_texts_that_hold_it_in_its_place() -> None:
    nbest = [
        hypothesis("the cat sat", 0.4),
        hypothesis("the cat sad", 0.3),
        hypothesis("a the cat sat", 0.2),
        hypothesis("sat", 0.1),
    ]
    assert nbest_confidences(nbest) == pytest.approx([0.9, 0.9, 0.7])


def test_a_word_elsewhere_is_another() -> None:
    nbest = [hypothesis("a b a", 0.6), hypothesis("a c b", 0.4)]
    assert nbest_confidences(nbest) == pytest.approx([1.0, 0.6, 0.6])
    # Which of two equal words another text left out cannot be told, but it left out one.
    assert sum(nbest_confidences([hypothesis("a a", 0.6), hypothesis("a", 0.4)])) == pytest.approx(1.6)


def test_a_single_text_is_sure_of_itself_and_an_empty_one_has_no_words() -> None:
    assert nbest_confidences([hypothesis("a b", 1e-9)]) == pytest.approx([1.0, 1.0])
    assert nbest_confidences([hypothesis("", 0.6), hypothesis("a", 0.4)]) == []
    assert word_scores([hypothesis("", 0.6)]).shape == (0, 2)
    with pytest.raises(ValueError, match="nbest: there is no text"):
        nbest_confidences([])


def test_draws_vote() -> None:
    nbest = [hypothesis("a b", 0.9), hypothesis("a", 0.1)]
    draws = [
        [hypothesis("a b", 0.3)],
        [hypothesis("a c", 0.2)],
        [hypothesis("a b", 0.3), hypothesis("x b", 0.1)],
    ]
    assert draw_confidences(nbest, draws) == pytest.approx([(1 + 1 + 0.75) / 3, (1 + 0 + 1) / 3])
    for wrong in ([], [[]]):
        with pytest.raises(ValueError, match="there is no text, or a draw has none"):
            draw_confidences(nbest, wrong)


def test_both_scores_of_each_word() -> None:
    nbest = [hypothesis("a b", 0.6, confidence=0.7), hypothesis("a", 0.4)]
    assert word_scores(nbest).tolist() == [pytest.approx([0.7, 1.0]), pytest.approx([0.7, 0.6])]


@pytest.mark.parametrize(
    ("words", "others", "expected"),
    [
        ("a b c", "a b c", [True, True, True]),
        ("a b c", "a x c", [True, False, True]),
        ("a b c", "a c", [True, False, True]),
        ("a c", "a b c d", [True, True]),
        ("a", "", [False]),
        ("", "a b", []),
        ("x y", "a", [False, False]),
    ],
)
def test_agreement(words: str, others: str, expected: list[bool]) -> None:
    assert agreement(words.split(), others.split()) == expected
