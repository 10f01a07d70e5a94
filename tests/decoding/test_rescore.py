from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from asr_lstm.decoding.beam import BeamConfig, BeamDecoder
from asr_lstm.decoding.hypothesis import Hypothesis
from asr_lstm.decoding.rescore import rescore
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.units import CharacterUnits


def hypothesis(text: str, total: float) -> Hypothesis:
    return Hypothesis(text, (), total, 0.0, 0.0, 0.0, total, ())


def test_the_order_is_that_of_the_new_totals() -> None:
    nbests = [
        [hypothesis("a", -1.0), hypothesis("b", -2.0), hypothesis("c", -3.0)],
        [],
        [hypothesis("b", -4.0)],
    ]
    asked: list[Sequence[str]] = []

    def score(texts: Sequence[str]) -> list[float]:
        asked.append(texts)
        return [{"a": -10.0, "b": -2.0, "c": -4.0}[text] for text in texts]

    rescored = rescore(nbests, score, weight=0.5)
    assert asked == [["a", "b", "c"]]
    assert [[(one.text, one.total) for one in nbest] for nbest in rescored] == [
        [("b", -3.0), ("c", -5.0), ("a", -6.0)],
        [],
        [("b", -5.0)],
    ]
    assert [one.acoustic for one in rescored[0]] == [-2.0, -3.0, -1.0]
    assert [one.text for one in rescore(nbests, score, weight=0.0)[0]] == ["a", "b", "c"]


def test_of_equal_totals_the_first_pass_decides() -> None:
    nbest = [hypothesis("b", -1.0), hypothesis("a", -1.0)]
    assert rescore([nbest], lambda texts: [0.0] * len(texts), weight=1.0) == [nbest]


def test_a_second_pass_over_all_texts_is_as_good_as_a_first_with_the_model() -> None:
    model = train_ngram(["a b", "b a ab", "ab ab b", "ba a"], order=2)
    units = CharacterUnits([" ", "a", "b"])
    logits = [2 * torch.randn(5, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(5)]
    config = BeamConfig(beam=400, units_tried=9, unit_margin=math.inf, score_margin=math.inf, nbest=400)
    first = BeamDecoder(units, config=config).decode_each(logits)
    rescored = rescore(first, lambda texts: [model.log_prob(text.split()) for text in texts], weight=0.5)
    once = BeamDecoder(
        units, config=BeamConfig(**vars(config) | {"alpha": 0.5, "unknown_score": 0.0}), word_model=model
    )
    for two, one in zip(rescored, once.decode_each(logits), strict=True):
        assert two[0].text == one[0].text
        assert two[0].total == pytest.approx(one[0].total, abs=1e-5)


def test_nothing_to_rescore() -> None:
    assert rescore([], lambda texts: [], weight=1.0) == []
    assert rescore([[]], lambda texts: [], weight=1.0) == [[]]


def test_scores_that_are_none() -> None:
    with pytest.raises(ValueError, match="score: 0 scores for 1 texts"):
        rescore([[hypothesis("a", 0.0)]], lambda texts: [], weight=1.0)
    with pytest.raises(ValueError, match="score: NaN for the text 'a'"):
        rescore([[hypothesis("a", 0.0)]], lambda texts: [math.nan], weight=1.0)
