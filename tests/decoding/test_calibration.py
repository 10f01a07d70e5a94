from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from asr_lstm.decoding.calibration import (
    Calibration,
    error_auc,
    error_auc_interval,
    expected_calibration_error,
    fit_calibration,
    reliability,
)
from asr_lstm.errors import DataError


def overconfident(seed: int, words: int = 5000, temperature: float = 3.0) -> tuple[NDArray, NDArray]:
    """Confidences whose log-odds are three times too large, and what was right."""
    random = np.random.default_rng(seed)
    odds = random.normal(1.0, 1.2, size=words)
    correct = random.random(words) < 1 / (1 + np.exp(-odds))
    return 1 / (1 + np.exp(-temperature * odds)), correct


def test_temperature_is_found_and_the_error_shrinks() -> None:
    confidences, correct = overconfident(0)
    calibration = fit_calibration(confidences, correct)
    assert 1 / calibration.weights[0] == pytest.approx(3.0, rel=0.1)
    assert calibration.bias == pytest.approx(0.0, abs=0.1)
    unseen, right = overconfident(1)
    before = expected_calibration_error(unseen, right)
    after = expected_calibration_error(calibration(unseen), right)
    assert before > 0.1
    assert after < 0.03
    # The order stays, but for those at the ends, which become equal.
    assert error_auc(calibration(unseen), right) == pytest.approx(error_auc(unseen, right), abs=1e-3)


def test_the_fit_is_where_the_likelihood_is_greatest() -> None:
    confidences, correct = overconfident(2, words=300)

    def likelihood(weight: float, bias: float) -> float:
        guess = Calibration((weight,), bias)(confidences)
        return float(np.log(np.where(correct, guess, 1 - guess)).sum())

    calibration = fit_calibration(confidences, correct)
    best = likelihood(calibration.weights[0], calibration.bias)
    for step in (-0.03, 0.03):
        assert likelihood(calibration.weights[0] + step, calibration.bias) < best
        assert likelihood(calibration.weights[0], calibration.bias + step) < best


def test_of_two_scores_the_better_one_weighs_more() -> None:
    confidences, correct = overconfident(3)
    noise = np.random.default_rng(0).random(len(correct))
    calibration = fit_calibration(np.column_stack([noise, confidences]), correct)
    assert abs(calibration.weights[0]) < 0.05 < calibration.weights[1]
    with pytest.raises(ValueError, match="scores: 1 of each word, the calibration has 2 weights"):
        calibration(confidences)


def test_scores_that_part_right_from_wrong_without_a_fault() -> None:
    calibration = fit_calibration([0.0, 0.1, 0.9, 1.0], [False, False, True, True])
    values = calibration([0.0, 0.1, 0.9, 1.0])
    assert np.isfinite(values).all()
    assert (values[:2] < 0.1).all()
    assert (values[2:] > 0.9).all()


def test_reliability_by_hand() -> None:
    confidences = [0.05, 0.15, 0.45, 0.55, 0.95, 1.0]
    correct = [False, True, False, True, True, True]
    low, middle, high = reliability(confidences, correct, bins=3)
    assert (low.low, low.high, low.words, low.accuracy) == (0.0, pytest.approx(1 / 3), 2, 0.5)
    assert low.confidence == pytest.approx(0.1)
    assert (middle.words, middle.accuracy, middle.confidence) == (2, 0.5, pytest.approx(0.5))
    assert (high.words, high.accuracy, high.confidence) == (2, 1.0, pytest.approx(0.975))
    expected = (2 * 0.4 + 2 * 0.0 + 2 * 0.025) / 6
    assert expected_calibration_error(confidences, correct, bins=3) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_the_share_of_pairs_in_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    confidences = random.integers(0, 6, size=40) / 5  # with ties
    correct = random.random(40) < 0.5
    pairs = [
        1.0 if good > bad else 0.5 if good == bad else 0.0
        for good in confidences[correct]
        for bad in confidences[~correct]
    ]
    assert error_auc(confidences, correct) == pytest.approx(np.mean(pairs))


def test_the_interval_of_the_area() -> None:
    confidences, correct = overconfident(4, words=600)
    parts, truths = np.split(confidences, 60), np.split(correct, 60)
    low, high = error_auc_interval(parts, truths, resamples=300)
    area = error_auc(confidences, correct)
    assert low < area < high
    assert high - low < 0.15
    assert error_auc_interval(parts, truths, resamples=300) == (low, high)
    wide = error_auc_interval(parts[:6], truths[:6], resamples=300)
    assert wide[1] - wide[0] > high - low


@pytest.mark.parametrize("correct", [[True, True], [False, False]])
def test_nothing_to_learn_from(correct: list[bool]) -> None:
    for use in (fit_calibration, error_auc):
        with pytest.raises(DataError, match="where all words are right or all wrong"):
            use([0.2, 0.8], correct)
    with pytest.raises(DataError, match="where all words are right or all wrong"):
        error_auc_interval([[0.2, 0.8]], [correct])


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"correct must be \(words,\) = \(2,\)"):
        fit_calibration([0.1, 0.2], [True])
    with pytest.raises(ValueError, match="confidences and correct must both be"):
        reliability([], [])
    with pytest.raises(ValueError, match=r"confidences must lie in 0 \.\. 1"):
        reliability([math.nan, 0.5], [True, False])
    with pytest.raises(ValueError, match="bins must be at least 1"):
        reliability([0.5], [True], bins=0)
