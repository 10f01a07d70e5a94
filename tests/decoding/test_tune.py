from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from asr_lstm.decoding.beam import BeamConfig, BeamDecoder
from asr_lstm.decoding.tune import Tuning, tune, tune_beam
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.units import CharacterUnits

REFERENCES = ["w " * 99 + "w"]


def bowl(point: Mapping[str, float]) -> list[str]:
    """Errors by the distance from alpha 0.7 and beta -0.4."""
    errors = round(30 * abs(point["alpha"] - 0.7) + 20 * abs(point["beta"] + 0.4))
    return [" ".join(["x"] * errors + ["w"] * (100 - errors))]


def run(refinements: int) -> Tuning:
    grid = {"alpha": (0.0, 0.5, 1.0), "beta": (-1.0, 0.0, 1.0)}
    return tune(bowl, REFERENCES, grid, refinements=refinements)


def test_the_grid() -> None:
    tuning = run(0)
    assert [row.weights for row in tuning.rows] == [
        {"alpha": alpha, "beta": beta} for alpha in (0.0, 0.5, 1.0) for beta in (-1.0, 0.0, 1.0)
    ]
    assert tuning.best.weights == {"alpha": 0.5, "beta": 0.0}
    assert tuning.best.wer == 0.14
    assert tuning.best in tuning.rows


def test_finer_grids_come_closer() -> None:
    rates = [run(refinements).best.wer for refinements in range(4)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.04
    tuning = run(3)
    points = [tuple(row.weights.values()) for row in tuning.rows]
    assert len(set(points)) == len(points) < 9 + 3 * 9
    assert tuning.best.weights["alpha"] == pytest.approx(0.7, abs=0.1)
    assert tuning.best.weights["beta"] == pytest.approx(-0.4, abs=0.15)


def test_a_weight_with_one_value_stays() -> None:
    tuning = tune(bowl, REFERENCES, {"alpha": (0.6,), "beta": (-1.0, 1.0)}, refinements=2)
    assert {row.weights["alpha"] for row in tuning.rows} == {0.6}
    assert len(tuning.rows) == 2 + 2 + 2


def test_of_points_with_as_many_word_errors_that_with_fewer_character_errors() -> None:
    tuning = tune(
        lambda point: ["wxyz" if point["alpha"] > 0 else "w"], ["wx"], {"alpha": (0.5, 0.0)}, refinements=0
    )
    assert [row.wer for row in tuning.rows] == [1.0, 1.0]
    assert [row.cer for row in tuning.rows] == [1.0, 0.5]
    assert tuning.best.weights == {"alpha": 0.0}


def test_of_equal_points_the_first() -> None:
    tuning = tune(lambda point: ["w"], ["w"], {"alpha": (0.3, 0.1)}, refinements=1)
    assert tuning.best.weights == {"alpha": 0.3}
    assert tuning.best.wer == 0.0


@pytest.mark.parametrize("grid", [{}, {"alpha": ()}])
def test_an_empty_grid(grid: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match="grid: give at least one value"):
        tune(bowl, REFERENCES, grid)


def test_the_weights_of_a_search() -> None:
    # Each "b" sounds a little more like an "a"; the language model knows that it is "ab".
    units = CharacterUnits([" ", "a", "b"])
    logits = torch.tensor([[0.0, 0.0, 9.0, 0.0], [0.0, 0.0, 1.0, 0.0], [9.0, 0.0, 0.0, 0.0]])
    logits[1] = torch.tensor([-9.0, -9.0, 2.0, 1.5])
    utterances = [logits, torch.cat([logits, logits])]
    decoder = BeamDecoder(
        units, config=BeamConfig(nbest=4), word_model=train_ngram(["ab", "ab a b ab"], order=1)
    )
    tuning = tune_beam(decoder, utterances, ["ab", "abab"], grid={"alpha": (0.0, 1.0)}, refinements=0)
    assert [row.weights for row in tuning.rows] == [{"alpha": 0.0}, {"alpha": 1.0}]
    texts = [nbest[0].text for nbest in decoder.with_config(alpha=1.0).decode_each(utterances)]
    wrong = sum(text != said for text, said in zip(texts, ["ab", "abab"], strict=True))
    assert tuning.rows[1].wer == wrong / 2
    assert tuning.rows[1].wer < tuning.rows[0].wer
