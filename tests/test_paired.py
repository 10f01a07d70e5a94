"""Paired tests against brute force, closed forms and their own promise under the null hypothesis."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from asr_lstm.paired import paired_test


def test_resamples_are_those_of_brute_force() -> None:
    first, second, lengths = np.array([3, 1, 4]), np.array([1, 2, 2]), np.array([5, 3, 8])
    test = paired_test(first, second, lengths, resamples=40_000)
    gaps = second - first
    every = [
        gaps[list(drawn)].sum() / lengths[list(drawn)].sum()
        for drawn in itertools.product(range(3), repeat=3)
    ]
    assert test.difference == gaps.sum() / 16
    far = min(np.mean(np.array(every) <= 0), np.mean(np.array(every) >= 0))
    assert test.p == pytest.approx(2 * far, abs=0.01)
    assert (test.low, test.high) == pytest.approx((min(every), max(every)))  # 1 / 27 is more than 2.5 %


def test_many_utterances_follow_the_normal_distribution() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.poisson(2.0, 2000), rng.poisson(1.9, 2000)
    lengths = np.full(2000, 10)
    test = paired_test(first, second, lengths)
    reference = stats.ttest_rel(second, first)
    assert test.z == pytest.approx(reference.statistic)
    assert test.z_p == pytest.approx(reference.pvalue, abs=1e-3)  # t of 1999 degrees is nearly normal
    assert test.p == pytest.approx(reference.pvalue, abs=0.02)
    error = np.std(second - first, ddof=1) / math.sqrt(2000) / 10
    assert test.low == pytest.approx(test.difference - 1.96 * error, abs=0.1 * error)
    assert test.high == pytest.approx(test.difference + 1.96 * error, abs=0.1 * error)


def test_p_values_are_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(11)
    found = []
    for seed in range(300):
        difficulty = rng.gamma(2.0, 1.0, 120)  # some utterances are hard for both
        first, second = rng.poisson(difficulty), rng.poisson(difficulty)
        found.append(paired_test(first, second, rng.integers(5, 15, 120), seed=seed, resamples=500))
    for values in ([test.p for test in found], [test.z_p for test in found]):
        assert stats.kstest(values, "uniform").pvalue > 0.01
        assert 0.02 < np.mean(np.array(values) < 0.05) < 0.09


def test_a_small_but_constant_gain_is_found_that_unpaired_intervals_hide() -> None:
    rng = np.random.default_rng(5)
    first = rng.poisson(rng.gamma(2.0, 2.0, 400)) + 1
    second = first - (rng.random(400) < 0.1)
    test = paired_test(first, second, np.full(400, 10))
    assert test.high < 0
    assert test.p < 0.001


def test_speakers_drawn_together_make_it_less_sure() -> None:
    rng = np.random.default_rng(6)
    speakers = np.repeat(np.arange(15), 20)
    second = rng.poisson(np.repeat(rng.gamma(2.0, 1.0, 15), 20))
    first = rng.poisson(2.0, 300)
    apart = paired_test(first, second, np.full(300, 8))
    together = paired_test(first, second, np.full(300, 8), clusters=[f"s{number}" for number in speakers])
    assert together.clusters == 15
    assert together.difference == pytest.approx(apart.difference)
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_direction_and_seed() -> None:
    rng = np.random.default_rng(7)
    first, second, lengths = rng.poisson(2, 50), rng.poisson(2, 50), np.full(50, 9)
    one, other = paired_test(first, second, lengths), paired_test(second, first, lengths)
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert one.p == other.p
    assert one == paired_test(first, second, lengths)
    assert one != paired_test(first, second, lengths, seed=1)


@pytest.mark.parametrize(
    ("first", "second", "p", "z"),
    [
        ([1, 0, 2], [1, 0, 2], 1.0, 0.0),
        ([1], [0], 1.0, 0.0),
        ([1, 1], [0, 0], 0.5, -math.inf),
        ([1] * 10, [0] * 10, 2 / 101, -math.inf),
    ],
)
def test_what_cannot_vary(first: list[int], second: list[int], p: float, z: float) -> None:
    test = paired_test(first, second, [4] * len(first), resamples=100)
    assert test.p == pytest.approx(p)
    assert test.z == z


@pytest.mark.parametrize(
    ("first", "second", "lengths", "resamples"),
    [([], [], [], 10), ([1], [1, 2], [3], 10), ([1, 1], [1, 2], [3], 10), ([1], [1], [3], 0)],
)
def test_wrong_arguments(first: list[int], second: list[int], lengths: list[int], resamples: int) -> None:
    with pytest.raises(ValueError, match="must"):
        paired_test(first, second, lengths, resamples=resamples)
