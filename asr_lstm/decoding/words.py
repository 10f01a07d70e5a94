"""From units with their frames to words with theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asr_lstm.decoding.greedy import UnitSpan
from asr_lstm.decoding.spelling import Spelling
from asr_lstm.units import Units


@dataclass(frozen=True)
class WordSpan:
    """A word and the frames in which its units were emitted.

    Attributes:
        word: as the units write it.
        start: first frame.
        end: the frame after the last; often sooner than the word's end, since CTC emits a unit in a frame or few.
        confidence: the mean posterior of its units, 0 to 1; not calibrated.
    """

    word: str
    start: int
    end: int
    confidence: float


def word_spans(spans: Sequence[UnitSpan], units: Units, spelling: Spelling) -> list[WordSpan]:
    """Join units to words; spaces belong to none."""
    words = []
    for begin, end in spelling.words([span.unit for span in spans]):
        run = [span for span in spans[begin:end] if spelling.texts[span.unit]]  # not a space piece before it
        words.append(
            WordSpan(
                units.decode([span.unit for span in run]),
                start=run[0].start,
                end=run[-1].end,
                confidence=sum(span.posterior for span in run) / len(run),
            )
        )
    return words
