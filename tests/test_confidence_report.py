from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from asr_lstm.confidence_report import calibrate, correct_words, measure_confidences, reliability_chart
from asr_lstm.decoding.calibration import error_auc, reliability
from asr_lstm.decoding.hypothesis import Hypothesis
from asr_lstm.decoding.words import WordSpan
from asr_lstm.errors import AudioError, DataError
from asr_lstm.recognise import Recognition, Recognitions


def heard(*texts: str, scores: Sequence[Sequence[Sequence[float]]]) -> Recognitions:
    items = []
    for index, (text, rows) in enumerate(zip(texts, scores, strict=True)):
        words = tuple(WordSpan(word, 0, 1, row[0]) for word, row in zip(text.split(), rows, strict=True))
        nbest = (Hypothesis(text, (), 0.0, 0.0, 0.0, 0.0, 0.0, words),)
        table = np.array(rows, np.float64).reshape(len(words), len(rows[0]) if rows else 1)
        items.append(Recognition(index, text, None, nbest, table, tuple(row[0] for row in rows)))
    return Recognitions(items, 1.0, 1.0)


LOST = Recognition(9, "", AudioError("x.wav: broken"))


def test_which_words_are_right() -> None:
    found = heard("a x c", "", scores=[[[0.9], [0.2], [0.8]], []])
    found.items.append(LOST)
    right = correct_words(found, ["a b c", "d", "e"])
    assert [words.tolist() for words in right] == [[True, False, True], [], []]


def test_scores_are_measured_one_by_one() -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(size=(40, 3, 2)).tolist()
    texts = ["a x c", "a b c"] * 20
    found = heard(*texts, scores=scores)
    found.items.append(LOST)
    figures = measure_confidences(found, ["a b c"] * 40 + ["lost"], score_names=["path", "nbest"], seed=0)
    right = np.array([word == said for text in texts for word, said in zip(text.split(), "abc", strict=True)])
    table = np.array(scores).reshape(-1, 2)
    assert list(figures["error_auc"]) == ["confidence", "path", "nbest"]
    for column, name in ((0, "confidence"), (0, "path"), (1, "nbest")):
        area = figures["error_auc"][name]
        assert area["auc"] == pytest.approx(error_auc(table[:, column], right))
        assert area["low"] < area["auc"] < area["high"]
    assert figures["words"] == 120
    assert sum(row["words"] for row in figures["reliability"]) == 120
    assert 0 < figures["ece"] < 1


def test_nothing_is_measured_without_errors() -> None:
    found = heard("a", scores=[[[0.5]]])
    assert measure_confidences(found, ["a"], score_names=["path"], seed=0) == {}
    assert measure_confidences(heard("", scores=[[]]), ["a"], score_names=["path"], seed=0) == {}


def test_each_word_is_judged_by_the_half_that_it_is_not_in() -> None:
    # In the first half of utterances high scores are right, in the other they are wrong: each fit misleads the other.
    scores = [[[0.9], [0.1]]] * 20
    texts = ["a x" if index % 2 == 0 else "x a" for index in range(20)]
    said = ["a b" if index % 2 == 0 else "b a" for index in range(20)]
    _, sure, right = calibrate(heard(*texts, scores=scores), said, columns=1)
    assert len(sure) == len(right) == 40
    assert error_auc(sure, right) == 0.0


def test_a_single_utterance_is_too_few() -> None:
    with pytest.raises(DataError, match="confidences cannot be calibrated"):
        calibrate(heard("a x", scores=[[[0.9], [0.1]]]), ["a b"], columns=1)


def test_the_picture() -> None:
    chart = reliability_chart({"plain": reliability([0.2, 0.9], [False, True])}, title="<honest>")
    assert "&lt;honest&gt;" in chart
    assert "plain" in chart
