"""The strokes that charts are made of, as SVG; lengths in units of a picture `WIDTH` wide."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from asr_lstm.pages.axes import Axis, number
from asr_lstm.pages.markup import Markup, attributes, escape, joined

WIDTH = 480  # about pixels on a wide screen, and text is still legible when a phone makes it 340
HEIGHT = 240
FLOOR = HEIGHT - 40  # where an upward axis begins; below it stand tick values and the axis's name
RIGHT = WIDTH - 14  # where an axis ends: its last tick value reaches beyond it
LETTER = 7.5  # width of a letter at the style sheet's 12 units, in a wide font
LABEL_LETTERS = 22  # longer labels are cut; the tooltip has all of it


def figure(title: str, parts: Sequence[Markup], *, height: float, caption: str = "") -> Markup:
    """A picture under its title."""
    small = f"<small>{escape(caption)}</small>" if caption else ""
    head = f"<figcaption>{escape(title)}{small}</figcaption>\n" if title or caption else ""
    svg = attributes(viewBox=f"0 0 {WIDTH} {place(height)}", role="img", aria_label=title or "chart")
    return Markup(f"<figure>\n{head}<svg{svg}>{joined(parts)}</svg>\n</figure>\n")


def empty_figure(title: str, *, caption: str = "") -> Markup:
    """What stands where there is nothing to draw."""
    return figure(title, [label(8, 24, "nothing to show")], height=36, caption=caption)


def tipped(tip: str, *parts: Markup) -> Markup:
    """Parts that tell `tip` when pointed at, and to a screen reader."""
    return Markup(f"<g><title>{escape(tip)}</title>{joined(parts)}</g>")


def label(x: float, y: float, text: str, *, anchor: str | None = None, style: str | None = None) -> Markup:
    """Text whose baseline begins at (x, y), or is centred or ends there as `anchor` (middle, end) says."""
    where = attributes(x=place(x), y=place(y), text_anchor=anchor, class_=style)
    return Markup(f"<text{where}>{escape(text)}</text>")


def bar(x: float, y: float, width: float, height: float) -> Markup:
    """A filled box."""
    box = attributes(class_="bar", x=place(x), y=place(y), width=place(max(0.0, width)), height=place(height))
    return Markup(f"<rect{box}/>")


def whisker(low: float, high: float, y: float) -> Markup:
    """An interval from `low` to `high` at height `y`."""
    start, end, top = place(low), place(high), place(y - 4)
    path = f"M{start} {top}v8M{start} {place(y)}H{end}M{end} {top}v8"
    return Markup(f"<path{attributes(class_='whisker', d=path)}/>")


def stroke(points: Sequence[tuple[float, float]], *, colour: str, dashes: str | None = None) -> Markup:
    """A line through points, in the colour of this variable of the style sheet."""
    path = " ".join(f"{place(x)},{place(y)}" for x, y in points)
    line = attributes(class_="series", points=path, stroke_dasharray=dashes, style=f"stroke:var({colour})")
    return Markup(f"<polyline{line}/>")


def dot(x: float, y: float, *, colour: str) -> Markup:
    """A small filled circle."""
    return Markup(f"<circle{attributes(cx=place(x), cy=place(y), r=3, style=f'fill:var({colour})')}/>")


def grid_across(axis: Axis, *, left: float) -> Markup:
    """Lines from left to right at an upward axis's ticks, and their values."""
    parts = []
    for tick in axis.ticks:
        y = place(axis(tick))
        parts.append(Markup(f"<line{attributes(class_='grid', x1=place(left), x2=RIGHT, y1=y, y2=y)}/>"))
        parts.append(label(left - 6, axis(tick) + 4, number(tick), anchor="end", style="axis"))
    return joined(parts)


def grid_down(axis: Axis, *, bottom: float) -> Markup:
    """Lines from the top to `bottom` at the ticks of an axis to the right, and their values."""
    parts = []
    for tick in axis.ticks:
        x = place(axis(tick))
        parts.append(Markup(f"<line{attributes(class_='grid', x1=x, x2=x, y1=4, y2=place(bottom))}/>"))
        parts.append(label(axis(tick), bottom + 14, number(tick), anchor="middle", style="axis"))
    return joined(parts)


def values_below(axis: Axis) -> Markup:
    """The tick values of an axis to the right."""
    return joined(
        label(axis(tick), FLOOR + 16, number(tick), anchor="middle", style="axis") for tick in axis.ticks
    )


def axis_names(x_label: str, y_label: str, *, left: float) -> Markup:
    """The names of both axes."""
    turned = attributes(transform=f"translate(12 {place(FLOOR / 2 + 8)}) rotate(-90)")
    upwards = label(0, 0, y_label, anchor="middle", style="axis")
    below = label((left + RIGHT) / 2, HEIGHT - 6, x_label, anchor="middle", style="axis")
    return joined([below, Markup(f"<g{turned}>{upwards}</g>")])


def room_for_values(axis: Axis) -> float:
    """Where the picture begins beside an upward axis's name and tick values."""
    return 26 + LETTER * max(len(number(tick)) for tick in axis.ticks)


def shortened(text: str) -> str:
    """A label that is not too long to stand beside a bar."""
    if cell_len(text) <= LABEL_LETTERS:
        return text
    return set_cell_size(text, LABEL_LETTERS - 1).rstrip() + "\u2026"


def place(value: float) -> str:
    """A position, to a tenth of a unit."""
    return f"{value:.1f}".removesuffix(".0")
