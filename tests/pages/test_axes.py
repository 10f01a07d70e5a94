"""Tick values that people would choose."""

from __future__ import annotations

import math

import numpy as np
import pytest

from asr_lstm.pages.axes import linear_axis, log_axis, number, round_step


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 97, [0, 20, 40, 60, 80, 100]),
        (-3.2, 4.1, [-4, -2, 0, 2, 4, 6]),
        (5, 5, [5, 6, 7, 8, 9, 10]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 0.0012, [0, 0.00025, 0.0005, 0.00075, 0.001, 0.00125]),
    ],
)
def test_linear_ticks(low: float, high: float, ticks: list[float]) -> None:
    assert linear_axis(low, high, start=0, stop=1).ticks == pytest.approx(ticks)


def test_counts_have_whole_ticks() -> None:
    assert linear_axis(0, 3, start=0, stop=1, whole=True).ticks == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(20))
def test_any_range_is_covered_by_few_round_ticks(seed: int) -> None:
    random = np.random.default_rng(seed)
    low = float(random.normal() * 10 ** random.uniform(-6, 6))
    span = float(10 ** random.uniform(-6, 6))
    axis = linear_axis(low, low + span, start=10, stop=110)
    step = axis.ticks[1] - axis.ticks[0]
    slack = 1e-6 * (abs(low) + span)
    assert axis.ticks[0] <= low + slack
    assert axis.ticks[-1] >= low + span - slack
    assert 2 <= len(axis.ticks) <= 7
    assert min(abs(step / round_step(span, count=5) - 1), 1) < 1e-6
    assert 10 <= axis(low) <= axis(low + span) <= 110


def test_log_ticks_and_places() -> None:
    axis = log_axis(0.02, 3, start=0, stop=30)
    assert axis.ticks == pytest.approx([0.01, 0.1, 1, 10])
    assert axis(0.1) == pytest.approx(10)
    assert axis(math.sqrt(10)) == pytest.approx(25)
    assert axis(-1) == 0  # below all: at the end
    narrow = log_axis(1.5, 4, start=0, stop=1)
    assert narrow.ticks == pytest.approx([1, 2, 5])
    assert log_axis(1, 1, start=0, stop=1).high > 1
    assert len(log_axis(1e-30, 1e10, start=0, stop=1).ticks) <= 9


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12, "12"),
        (1234.5, "1,234"),
        (9.14159, "9.142"),
        (0.05, "0.05"),
        (-30, "\u221230"),
        (1e-6, "1e\u22126"),
        (2.5e9, "2.5e9"),
        (100000, "100,000"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text
