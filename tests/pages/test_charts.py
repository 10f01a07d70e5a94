"""Charts, read back from their SVG: lengths stand to each other as the values do."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pytest

from asr_lstm.pages import bar_chart, histogram, line_chart
from asr_lstm.pages.charts import MAX_POINTS
from asr_lstm.pages.drawing import WIDTH


def picture(chart: str) -> Element:
    svg = ElementTree.fromstring(chart).find("svg")
    assert svg is not None
    assert svg.get("role") == "img"
    assert svg.get("aria-label")
    return svg


def tips(svg: Element) -> list[str]:
    return [str(title.text) for title in svg.iter("title")]


def tall(rectangles: list[Element], name: str) -> list[float]:
    return [float(rectangle.get(name, "nan")) for rectangle in rectangles]


def test_bars_are_as_long_as_their_values_and_whiskers_reach_the_interval() -> None:
    chart = bar_chart(
        ["<a>", "b", "c" * 90],
        [10, 5, 0],
        low=[8, 2, 0],
        high=[14, 6, 5],
        unit="%",
        notes=["3 words", "", "1 word"],
        title="WER",
        caption="small",
    )
    svg = picture(chart)
    widths = tall(list(svg.iter("rect")), "width")
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    assert widths[2] == 0
    assert tips(svg)[0] == "<a>: 10 % · 3 words (interval 8 to 14 %)"
    assert tips(svg)[2].startswith("c" * 90)  # the label is cut, its tooltip is not
    texts = [str(text.text) for text in svg.iter("text")]
    assert "<a>" in texts
    assert not any(len(text) > 40 for text in texts)
    paths = [re.findall(r"[-\d.]+", path.get("d", "")) for path in svg.iter("path")]
    left = float(svg.find("g/rect").get("x", "nan"))  # type: ignore[union-attr]
    assert (float(paths[0][0]) - left) / widths[0] == pytest.approx(0.8, abs=0.01)
    assert (float(paths[0][5]) - left) / widths[0] == pytest.approx(1.4, abs=0.01)
    assert ElementTree.fromstring(chart).findtext("figcaption/small") == "small"


def test_bars_without_intervals_have_no_whiskers() -> None:
    assert not list(picture(bar_chart(["a"], [1])).iter("path"))


def test_bars_refuse_what_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="one length"):
        bar_chart(["a"], [1, 2])
    with pytest.raises(ValueError, match="one length"):
        bar_chart(["a"], [1], low=[])
    with pytest.raises(ValueError, match="0 or more"):
        bar_chart(["a"], [float("nan")])


def test_bars_of_a_long_note_stay_within_the_picture() -> None:
    svg = picture(bar_chart(["x" * 50], [3], notes=["n" * 60]))
    assert all(0 <= width <= WIDTH for width in tall(list(svg.iter("rect")), "width"))


def test_a_histogram_counts_as_numpy_does() -> None:
    values = np.random.default_rng(0).gamma(4, 1.2, 1000)
    svg = picture(histogram([*values, np.nan, np.inf], unit="s", count="utterances", title="Lengths"))
    counted = [re.fullmatch(r"([\d.]+) to ([\d.]+) s: ([\d,]+) utterances", tip) for tip in tips(svg)]
    bins = [[float(part.replace(",", "")) for part in match.groups()] for match in counted if match]
    assert len(bins) == len(counted)
    assert sum(count for _, _, count in bins) == 1000
    for low, high, count in bins:
        assert count == ((values >= low) & (values < high)).sum()
    heights = tall(list(svg.iter("rect")), "height")
    assert heights == pytest.approx([h[2] * max(heights) / max(c for *_, c in bins) for h in bins], abs=0.1)
    assert len(bins) <= 24


def test_far_outliers_share_the_last_bin() -> None:
    values = [*np.linspace(1, 10, 1000), 3 * 3600]
    svg = picture(histogram(values, unit="s"))
    assert tips(svg)[-1] == "more than 10, up to 10,800 s: 1 count"
    assert len(tips(svg)) > 10


@pytest.mark.parametrize(
    "values", [[3.0], [0, 0, 0], [-1e9, 1e9], [1e-12, 2e-12], list(range(5)), [-5, 5, 5]]
)
@pytest.mark.parametrize("bins", [1, 2, 7])
def test_every_value_is_in_a_bin(values: list[float], bins: int) -> None:
    svg = picture(histogram(values, bins=bins))
    assert sum(int(tip.rsplit(" ", 2)[1]) for tip in tips(svg)) == len(values)
    assert len(tips(svg)) <= bins + 1  # where the values lie on both sides of a round edge, one is too few


def test_a_histogram_of_nothing_says_so() -> None:
    assert "nothing to show" in histogram([float("nan")])
    with pytest.raises(ValueError, match="bins"):
        histogram([1], bins=0)


def test_lines_go_through_their_points() -> None:
    chart = line_chart(
        {"up": ([0, 5, 10], [0, 1, 2]), "<n>": ([0, 10], [2, np.nan])}, x_label="x", y_label="y"
    )
    svg = picture(chart)
    lines = [
        [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
        for line in svg.findall("g/polyline")
    ]
    (x0, y0), (x1, y1), (x2, y2) = lines[0]
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y0 > y2  # upwards
    assert lines[1] == [(x0, y2)]
    assert tips(svg) == ["up: 2 at 10", "<n>: 2 at 0"]
    dashes = [line.get("stroke-dasharray") for line in svg.findall("g/polyline")]
    assert len(set(dashes)) == 2  # told apart without colour


def test_long_lines_are_thinned_to_means() -> None:
    xs = np.arange(10_000)
    svg = picture(line_chart({"a": (xs, np.full(10_000, 3.0))}, x_label="x", y_label="y"))
    points = str(svg.find("g/polyline").get("points")).split()  # type: ignore[union-attr]
    assert len(points) == MAX_POINTS
    assert len({point.split(",")[1] for point in points}) == 1


def test_a_logarithmic_axis_leaves_out_what_is_not_positive() -> None:
    svg = picture(line_chart({"a": ([1, 2, 3, 4], [0, 1, 10, 100])}, x_label="x", y_label="y", log_y=True))
    points = str(svg.find("g/polyline").get("points")).split()  # type: ignore[union-attr]
    heights = [float(point.split(",")[1]) for point in points]
    assert len(heights) == 3
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)


def test_lines_refuse_what_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="most is 4"):
        line_chart({str(n): ([1], [1]) for n in range(5)}, x_label="x", y_label="y")
    with pytest.raises(ValueError, match="2 xs and 1 ys"):
        line_chart({"a": ([1, 2], [1])}, x_label="x", y_label="y")
    assert "nothing to show" in line_chart({}, x_label="x", y_label="y")
