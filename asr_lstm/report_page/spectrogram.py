"""The features of an utterance as a picture, and over it where in time the model was sure of which unit."""

from __future__ import annotations

import math
import unicodedata

from rich.cells import cell_len

from asr_lstm.bundle import Bundle
from asr_lstm.decoding.greedy import UnitSpan
from asr_lstm.pages import Markup, attributes, escape, joined
from asr_lstm.pages.axes import number, round_step
from asr_lstm.pages.drawing import label, place
from asr_lstm.report_page.hearing import Hearing
from asr_lstm.report_page.pictures import data_url, encode_picture

WIDTH = 990  # units of a row, about pixels: what fits the page; longer utterances go on in a second row
_SECOND = 160.0  # units: a letter of the style sheet for each of the 25 frames that a model often has
_LEAST_FRAME = 8.0  # units of a frame of the model where inputs are not audio
_TOP, _HEIGHT = 62.0, 100.0  # of the picture
_POSTERIORS = 28.0  # height of a posterior of 1, above the picture; above that stand the letters in two lines
_LINE = 13.0  # of letters
_BELOW = 18.0  # for the seconds
_LETTER = 6.4  # units that a letter takes
_SURE = 0.5  # letters below this posterior are underlined
_FAINTEST = 0.05  # posteriors below are not drawn
_FEW_BANDS = 40  # so few are shown as plain boxes, more as a smooth picture


def spectrogram(hearing: Hearing, bundle: Bundle) -> Markup:
    """Rows of the picture, each with its letters above and seconds below."""
    frame_seconds = hearing.frame_seconds * hearing.stack
    step = frame_seconds * _SECOND if bundle.features.kind == "log_mel" else _LEAST_FRAME
    total = len(hearing.sureness)
    lines = math.ceil(total * step / WIDTH)
    count = max(1, math.ceil(total / lines))  # rows of about one length
    rows = [
        _row(hearing, bundle, first=start, last=min(start + count, total), step=step)
        for start in range(0, total, count)
    ]
    return Markup(f'<div class="scroll spectrogram">\n{joined(rows)}</div>\n')


def unit_label(bundle: Bundle, unit: int) -> str:
    """What a unit is called over the picture."""
    text = bundle.units.decode([unit])
    if not text:
        return "\u2423"  # the open box that stands for a space
    return f"\u25cc{text}" if unicodedata.combining(text[0]) else text


def _row(hearing: Hearing, bundle: Bundle, *, first: int, last: int, step: float) -> Markup:
    """One row: frames of the model from `first` to before `last`, each `step` units wide."""
    stack = hearing.stack
    features = hearing.features[first * stack : last * stack]
    width = len(features) / stack * step
    spans = [span for span in hearing.spans if first <= _middle(span) < last]
    picture = attributes(
        href=data_url(encode_picture(features), "image/png"),
        y=place(_TOP),
        width=place(width),
        height=place(_HEIGHT),
        preserveAspectRatio="none",
        class_="boxes" if features.shape[1] < _FEW_BANDS else None,
    )
    letters, lines = _letters(spans, bundle, first, step)
    top = _LINE * (2 - lines)  # what lies above the letters is left out
    height = _TOP + _HEIGHT + _BELOW - top
    heard = "".join(unit_label(bundle, span.unit) for span in spans)
    size = attributes(
        viewBox=f"0 {place(top)} {place(width)} {place(height)}",
        width=place(width),
        height=place(height),
        role="img",
        aria_label=f"features, and the units that the model heard: {heard}",
    )
    stems = _stems(hearing, first=first, last=last, step=step)
    below = _seconds(hearing, first, step, width)
    return Markup(f"<svg{size}>{joined([Markup(f'<image{picture}/>'), stems, *letters, below])}</svg>\n")


def _middle(span: UnitSpan) -> float:
    return (span.start + span.end - 1) / 2


def _stems(hearing: Hearing, *, first: int, last: int, step: float) -> Markup:
    """For each frame of the model a bar as high as its surest unit's posterior, and a thread down to the picture."""
    shares = enumerate(hearing.sureness[first:last].tolist())
    sure = [((index + 0.5) * step, share) for index, share in shares if share >= _FAINTEST]
    bars = "".join(f"M{place(x)} {place(_TOP)}v{place(-share * _POSTERIORS)}" for x, share in sure)
    threads = "".join(f"M{place(x)} {place(_TOP)}v{place(_HEIGHT)}" for x, share in sure if share >= _SURE)
    width = place(max(1.0, step - 1.5))
    return joined(
        Markup(f"<path{attributes(class_=style, d=path, stroke_width=wide)}/>")
        for style, path, wide in (("posterior", bars, width), ("thread", threads, None))
        if path
    )


def _letters(spans: list[UnitSpan], bundle: Bundle, first: int, step: float) -> tuple[list[Markup], int]:
    """The units over their places, in the upper of two lines where the lower one is full; and how many lines."""
    parts, free = [], [-math.inf, -math.inf]
    for span in spans:
        text = unit_label(bundle, span.unit)
        x, half = (_middle(span) - first + 0.5) * step, _LETTER * cell_len(text) / 2
        line = 0 if x - half >= free[0] - 1 else 1
        free[line] = x + half
        style = "unit" if span.posterior >= _SURE else "unit unsure"
        tip = f"<title>{escape(f'{text}, posterior {span.posterior:.2f}')}</title>"
        where = attributes(
            x=place(x), y=place(_TOP - _POSTERIORS - 5 - _LINE * line), text_anchor="middle", class_=style
        )
        parts.append(Markup(f"<text{where}>{tip}{escape(text)}</text>"))
    return parts, 2 if free[1] > -math.inf else 1


def _seconds(hearing: Hearing, first: int, step: float, width: float) -> Markup:
    """The time below the picture."""
    seconds = hearing.frame_seconds * hearing.stack
    distance = round_step(width / step * seconds, count=max(2, int(width / 90)))
    start, end = first * seconds, first * seconds + width / step * seconds
    marks = range(math.ceil(start / distance - 1e-9), math.floor(end / distance + 1e-9) + 1)
    places = [(mark * distance, (mark * distance - start) / seconds * step) for mark in marks]
    return joined(
        label(max(x, 1.0), _TOP + _HEIGHT + 14, f"{number(time)} s", anchor=anchor, style="axis")
        for time, x in places
        if x < width - 12
        for anchor in ["middle" if x > 12 else "start"]
    )
