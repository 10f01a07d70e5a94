"""Round tick values for the axes of charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


def round_step(span: float, *, count: int) -> float:
    """The smallest 1, 2, 2.5 or 5 times a power of ten that covers `span` in at most `count` steps."""
    if not span > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    return next(
        (power * factor for factor in _ROUND if power * factor * count >= span * (1 - 1e-9)), 10 * power
    )


@dataclass(frozen=True)
class Axis:
    """One axis: which values lie where.

    Attributes:
        low: value at its beginning.
        high: value at its end.
        start: position of `low` in the picture.
        stop: position of `high`; less than `start` where the axis runs upwards.
        ticks: the values to write at it.
        log: whether equal distances are equal ratios.
    """

    low: float
    high: float
    start: float
    stop: float
    ticks: Sequence[float]
    log: bool = False

    def __call__(self, value: float) -> float:
        """Position of a value; values beyond the ends stand at the ends."""
        low, high, value = (
            (math.log(self.low), math.log(self.high), math.log(max(value, self.low)))
            if self.log
            else (self.low, self.high, value)
        )
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return self.start + share * (self.stop - self.start)


def linear_axis(
    low: float, high: float, *, start: float, stop: float, count: int = 5, whole: bool = False
) -> Axis:
    """An axis from a round value at or below `low` to one at or above `high`; `whole` for counts."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    step = round_step(high - low, count=count)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [index * step for index in range(first, last + 1)]
    return Axis(ticks[0], ticks[-1], start, stop, ticks)


def log_axis(low: float, high: float, *, start: float, stop: float) -> Axis:
    """A logarithmic axis over positive values: powers of ten, with 2 and 5 between them where these are few."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    factors = (1.0, 2.0, 5.0) if last - first <= 1 else (1.0,)
    marks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    below = [mark for mark in marks if mark <= low * (1 + 1e-9)]
    above = [mark for mark in marks if mark >= high * (1 - 1e-9)]
    low, high = below[-1] if below else low, above[0] if above else high
    if not high > low:
        high = 10 * low
    ticks = [mark for mark in marks if low <= mark <= high]
    step = math.ceil(len(ticks) / 8)  # 20 decades need not all be named
    return Axis(low, high, start, stop, ticks[::step], log=True)


def number(value: float, *, digits: int = 4) -> str:
    """A number as people write it: thousands apart, no trailing zeros, powers of ten where it is tiny or huge."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
        return f"{float(mantissa):g}e{int(power)}".replace("-", "\u2212")
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "\u2212")
