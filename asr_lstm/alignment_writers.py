"""Alignments as text: NIST's CTM, Praat's TextGrid, and JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr_lstm.alignment import Alignment, TimedSpan

_PLACES = 3  # milliseconds: finer than any frame
_CONFIDENCE_PLACES = 4


def ctm_name(id: str) -> str:
    """An utterance's id as one field, since spaces part them."""
    return "_".join(id.split())


def ctm(alignment: Alignment) -> str:
    """A line a word, `ID 1 START DURATION WORD CONFIDENCE` in seconds, as NIST's sclite reads it."""
    name = ctm_name(alignment.id)
    return "".join(
        f"{name} 1 {word.start:.{_PLACES}f} {word.end - word.start:.{_PLACES}f} "
        f"{word.text} {word.confidence:.{_CONFIDENCE_PLACES}f}\n"
        for word in alignment.words
    )


def json_line(alignment: Alignment) -> str:
    """An object on one line: `id`, `duration` (s), `words` and `units`, each with times (s) and confidence."""
    row = {
        "id": alignment.id,
        "duration": round(alignment.duration, _PLACES),
        "words": [_row("word", span) for span in alignment.words],
        "units": [_row("unit", span) for span in alignment.units],
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


def textgrid(alignment: Alignment) -> str:
    """Praat's long text format with a tier of words and one of units, as its manual describes it.

    https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html
    """
    end = max([alignment.duration, *(span.end for span in alignment.units)])
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end:.{_PLACES}f}",
        "tiers? <exists>",
        "size = 2",
        "item []:",
    ]
    for number, (name, spans) in enumerate((("words", alignment.words), ("units", alignment.units)), start=1):
        intervals = list(_intervals(spans, end=end))
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f'        name = "{name}"',
            "        xmin = 0",
            f"        xmax = {end:.{_PLACES}f}",
            f"        intervals: size = {len(intervals)}",
        ]
        for index, (start, stop, text) in enumerate(intervals, start=1):
            quoted = text.replace('"', '""')
            lines += [
                f"        intervals [{index}]:",
                f"            xmin = {start:.{_PLACES}f}",
                f"            xmax = {stop:.{_PLACES}f}",
                f'            text = "{quoted}"',
            ]
    return "\n".join(lines) + "\n"


def _intervals(spans: Sequence[TimedSpan], *, end: float) -> Iterator[tuple[float, float, str]]:
    """The spans and, so that the tier has no holes, empty intervals between them."""
    position = 0.0
    for span in spans:
        start, stop = round(span.start, _PLACES), round(span.end, _PLACES)
        if start > position:
            yield position, start, ""
        yield start, stop, span.text
        position = stop
    if round(end, _PLACES) > position:
        yield position, end, ""


def _row(name: str, span: TimedSpan) -> dict[str, str | float]:
    return {
        name: span.text,
        "start": round(span.start, _PLACES),
        "end": round(span.end, _PLACES),
        "confidence": round(span.confidence, _CONFIDENCE_PLACES),
    }
