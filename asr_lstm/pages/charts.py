"""Charts as pictures within a page (inline SVG), their colours from the style sheet, their figures as tooltips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.cells import cell_len

from asr_lstm.pages import drawing as draw
from asr_lstm.pages.axes import Axis, linear_axis, log_axis, number, round_step
from asr_lstm.pages.markup import Markup, joined

MAX_POINTS = 400  # of a line: more cannot be told apart in a picture this wide
MAX_DOTS = 40  # a line of no more points shows each; of a longer one only the last
_ROW = 22  # height of a bar with its gap
# Lines differ in dashes as well as in colour.
_LINES = (("--data1", None), ("--data2", "7 3"), ("--data3", "2 3"), ("--data4", "9 3 2 3"))
# A histogram's last bin takes all that lies beyond this many times its 99th percentile: a three-hour file beside
# one-second ones would leave a single bar otherwise.
_OUTLYING = 3.0

Values = NDArray[np.float64]


def bar_chart(
    labels: Sequence[str],
    values: Sequence[float],
    *,
    title: str = "",
    unit: str = "",
    caption: str = "",
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
    notes: Sequence[str] | None = None,
) -> Markup:
    """Horizontal bars, a label before and the value after each.

    Args:
        labels: of the bars, from the top.
        values: their lengths, 0 or more.
        title: above the chart.
        unit: of the values, such as "%".
        caption: smaller, below the title.
        low: lower ends of the values' intervals, drawn as whiskers.
        high: upper ends.
        notes: what to write behind each value, such as the number of words it rests on.

    Raises:
        ValueError: arguments of different lengths, or a value below 0.
    """
    lows, highs = values if low is None else low, values if high is None else high
    notes = [""] * len(values) if notes is None else notes
    if not len(labels) == len(values) == len(lows) == len(highs) == len(notes):
        raise ValueError("labels, values, low, high and notes must be of one length")
    if not all(value >= 0 for value in values):
        raise ValueError("values must be 0 or more")
    if not labels:
        return draw.empty_figure(title, caption=caption)
    whiskers = low is not None or high is not None
    ends = [
        _figure(value, unit) + (f" · {note}" if note else "")
        for value, note in zip(values, notes, strict=True)
    ]
    left = 8 + draw.LETTER * max(cell_len(draw.shortened(text)) for text in labels)
    right = 10 + draw.LETTER * max(map(cell_len, ends))
    axis = linear_axis(0, max([*highs, *values]), start=left, stop=max(left + 40, draw.WIDTH - right))
    height = 22 + _ROW * len(values)
    parts = [draw.grid_down(axis, bottom=height - 18)]
    for index, value in enumerate(values):
        middle = 4 + _ROW * (index + 0.5)
        interval = [draw.whisker(axis(lows[index]), axis(highs[index]), middle)] if whiskers else []
        tip = f"{labels[index]}: {ends[index]}"
        if whiskers:
            tip += f" (interval {_figure(lows[index])} to {_figure(highs[index], unit)})"
        drawn = [
            draw.label(left - 6, middle + 4, draw.shortened(labels[index]), anchor="end"),
            draw.bar(left, middle - 7, axis(value) - left, 14),
            *interval,
            draw.label(axis(max(value, highs[index])) + 6, middle + 4, ends[index]),
        ]
        parts.append(draw.tipped(tip, *drawn))
    return draw.figure(title, parts, height=height, caption=caption)


def histogram(
    values: ArrayLike,
    *,
    bins: int = 24,
    unit: str = "",
    title: str = "",
    caption: str = "",
    count: str = "count",
) -> Markup:
    """How often values fall into bins of one round width; a last bin takes far outliers together.

    Args:
        values: numbers; those that are not finite are left out.
        bins: how many there are at most.
        unit: of the values, such as "s".
        title: above the chart.
        caption: smaller, below the title.
        count: what is counted, such as "utterances".

    Raises:
        ValueError: `bins` is below 1.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    finite = np.asarray(values, np.float64).ravel()
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return draw.empty_figure(title, caption=caption)
    edges, beyond = _bin_edges(finite, bins)
    step = edges[1] - edges[0]
    counts = np.histogram(finite, edges)[0].tolist() + ([beyond] if beyond else [])
    upwards = linear_axis(0, max(counts), start=draw.FLOOR, stop=10, whole=True)
    left = draw.room_for_values(upwards)
    rounded = linear_axis(edges[0], edges[-1], start=0, stop=1).ticks
    ticks = [tick for tick in rounded if edges[0] <= tick <= edges[-1]]
    # What lies beyond stands a bin's width apart.
    along = Axis(edges[0], edges[-1] + (2 * step if beyond else 0.0), left, draw.RIGHT, ticks)
    parts = [draw.grid_across(upwards, left=left), draw.values_below(along)]
    for index, amount in enumerate(counts):
        start = edges[0] + index * step
        tip = f"{number(start)} to {number(start + step)}"
        if index == len(edges) - 1:
            start += step
            tip = f"more than {number(edges[-1])}, up to {number(float(finite.max()))}"
            where = along(start + step / 2)
            parts.append(draw.label(where, draw.FLOOR + 16, "more", anchor="middle", style="axis"))
        if amount:
            top, width = upwards(amount), along(start + step) - along(start)
            box = draw.bar(along(start), top, max(1.0, width - 1), draw.FLOOR - top)
            parts.append(draw.tipped(f"{tip} {unit}".rstrip() + f": {number(amount)} {count}", box))
    parts.append(draw.axis_names(unit, count, left=left))
    return draw.figure(title, parts, height=draw.HEIGHT, caption=caption)


def line_chart(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    caption: str = "",
    log_y: bool = False,
) -> Markup:
    """Lines over a common pair of axes, at most four; a line of many points shows means of stretches of it.

    Args:
        series: name to (xs, ys), xs rising; what is not finite (nor above 0 where `log_y`) is left out.
        x_label: of the axis below.
        y_label: of the axis to the left.
        title: above the chart.
        caption: smaller, below the title.
        log_y: whether the left axis is logarithmic.

    Raises:
        ValueError: more than four lines, or xs and ys of different lengths.
    """
    if len(series) > len(_LINES):
        raise ValueError(f"series: {len(series)} lines in one chart; the most is {len(_LINES)}")
    points = {name: _points(name, xs, ys, positive=log_y) for name, (xs, ys) in series.items()}
    shown = {name: pairs for name, pairs in points.items() if pairs.size}
    if not shown:
        return draw.empty_figure(title, caption=caption)
    along, upwards = _axes(np.concatenate(list(shown.values()), axis=1), named=len(shown) > 1, log_y=log_y)
    left = along.start
    parts = [draw.grid_across(upwards, left=left), draw.values_below(along)]
    key = left
    for (name, pairs), (colour, dashes) in zip(shown.items(), _LINES, strict=False):
        places = [(along(x), upwards(y)) for x, y in pairs.T.tolist()]
        x, y = pairs[:, -1].tolist()
        line = draw.stroke(places, colour=colour, dashes=dashes)
        tip = f"{name}: {number(y)} at {number(x)}"
        dots = places if len(places) <= MAX_DOTS else places[-1:]
        parts.append(draw.tipped(tip, line, *(draw.dot(*where, colour=colour) for where in dots)))
        if len(shown) > 1:
            sample = draw.stroke([(key, 12), (key + 24, 12)], colour=colour, dashes=dashes)
            parts.append(joined([sample, draw.label(key + 30, 16, name)]))
            key += 48 + draw.LETTER * cell_len(name)
    parts.append(draw.axis_names(x_label, y_label, left=left))
    return draw.figure(title, parts, height=draw.HEIGHT, caption=caption)


def _axes(points: Values, *, named: bool, log_y: bool) -> tuple[Axis, Axis]:
    """The axes along and upwards that hold all points, (2, points); `named` where names stand above."""
    (x_low, y_low), (x_high, y_high) = points.min(axis=1).tolist(), points.max(axis=1).tolist()
    if 0 < x_low <= x_high / 2:  # so that what began at 0 is seen to
        x_low = 0.0
    top = 30 if named else 10
    if log_y:
        upwards = log_axis(y_low, y_high, start=draw.FLOOR, stop=top)
    else:
        upwards = linear_axis(min(0.0, y_low), y_high, start=draw.FLOOR, stop=top)
    left = draw.room_for_values(upwards)
    rounded = linear_axis(x_low, x_high, start=left, stop=draw.RIGHT)
    if not x_high > x_low:
        return rounded, upwards
    ticks = [tick for tick in rounded.ticks if x_low <= tick <= x_high]
    return Axis(x_low, x_high, left, draw.RIGHT, ticks), upwards


def _points(name: str, xs: ArrayLike, ys: ArrayLike, *, positive: bool) -> Values:
    """What is drawn of a line, (2, points)."""
    x, y = np.asarray(xs, np.float64).ravel(), np.asarray(ys, np.float64).ravel()
    if len(x) != len(y):
        raise ValueError(f"series {name!r}: {len(x)} xs and {len(y)} ys")
    keep = np.isfinite(x) & np.isfinite(y) & ((y > 0) | (not positive))
    pairs = np.stack([x[keep], y[keep]])
    if pairs.shape[1] <= MAX_POINTS:
        return pairs
    starts = np.linspace(0, pairs.shape[1], MAX_POINTS, endpoint=False).astype(int)
    means: Values = np.add.reduceat(pairs, starts, axis=1) / np.diff([*starts, pairs.shape[1]])
    return means


def _bin_edges(values: Values, bins: int) -> tuple[list[float], int]:
    """Edges at round values, and how many values lie beyond the last one."""
    low, high = float(values.min()), float(values.max())
    usual = float(np.quantile(values, 0.99))
    if low >= 0 and usual > 0 and high > _OUTLYING * usual:
        high = usual
    first, last = 0, bins + 1
    count = bins
    while last - first > bins:  # round edges on both sides may need a bin more than the span alone
        step = round_step((high - low) or abs(high) or 1.0, count=count)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if count == 1:
            break
        count -= 1
    edges = [index * step for index in range(first, max(last, first + 1) + 1)]
    return edges, int((values > edges[-1]).sum())


def _figure(value: float, unit: str = "") -> str:
    return f"{number(value, digits=3)} {unit}".rstrip()
