from __future__ import annotations

import math
from pathlib import Path

import pytest

from asr_lstm.preflight.expectation import CLOSED_POINTS, OPEN_POINTS, expected_wer


def test_at_the_measured_points_it_is_what_was_measured() -> None:
    for point in OPEN_POINTS:
        if point.ranged:
            expected = expected_wer(point.hours, words=5000)
            assert (expected.low, expected.high) == (pytest.approx(point.low), pytest.approx(point.high))
            assert not expected.beyond


def test_between_two_points_it_is_their_geometric_mean_at_the_mean_of_the_logarithms() -> None:
    left, right = [point for point in OPEN_POINTS if point.ranged][:2]
    expected = expected_wer(math.sqrt(left.hours * right.hours), words=5000)
    assert expected.low == pytest.approx(math.sqrt(left.low * right.low))
    assert expected.high == pytest.approx(math.sqrt(left.high * right.high))


def test_more_speech_never_makes_it_worse_and_it_stays_a_rate() -> None:
    hours = [0.01 * 1.5**step for step in range(35)]
    expected = [expected_wer(value, words=5000) for value in hours]
    for low_or_high in ("low", "high"):
        rates = [getattr(item, low_or_high) for item in expected]
        assert rates == sorted(rates, reverse=True)
        assert all(0 < rate <= 1 for rate in rates)
    assert all(item.low < item.high for item in expected)


@pytest.mark.parametrize(("hours", "said"), [(0.5, "less than 2.52 h"), (5000, "more than 960 h")])
def test_beyond_the_points_it_says_so(hours: float, said: str) -> None:
    assert said in expected_wer(hours, words=5000).beyond


def test_few_words_have_points_of_their_own() -> None:
    closed = expected_wer(0.1, words=150, rare=15)
    assert closed.closed
    assert closed.points == CLOSED_POINTS
    assert closed.high < expected_wer(0.1, words=151).low


def test_few_words_that_are_seldom_heard_are_open_text() -> None:
    assert not expected_wer(0.05, words=140, rare=120).closed


def test_each_point_has_a_source() -> None:
    for point in (*OPEN_POINTS, *CLOSED_POINTS):
        assert 0 <= point.low <= point.high <= 1
        assert point.source
        assert point.system


def test_no_hours_are_a_programmers_mistake() -> None:
    with pytest.raises(ValueError, match="hours"):
        expected_wer(0, words=10)


def test_what_was_measured_here_stands_in_the_results_and_is_named_as_synthetic_where_it_is() -> None:
    recipes = Path(__file__).parents[2] / "recipes"
    own = [point for point in OPEN_POINTS if point.system.startswith("this toolkit")]
    assert len(own) > 1
    for point in own:
        results = (recipes / point.source.partition(",")[0].removeprefix("recipes/")).read_text("utf-8")
        synthetic = "librispeech" in point.source
        assert ("SYNTHETIC" in point.system) == synthetic
        assert point.ranged != synthetic
        assert f"{point.hours:g} h" in results
        assert all(f"{100 * rate:.1f}" in results for rate in (point.low, point.high))
