"""What a decoder finds: a text with its scores and the frames of its words."""

from __future__ import annotations

from dataclasses import dataclass

from asr_lstm.decoding.words import WordSpan


@dataclass(frozen=True)
class Hypothesis:
    """A text that the search found; all scores are natural logarithms.

    Attributes:
        text: as the units write it.
        units: their ids.
        acoustic: log p_ctc of these units, over all their alignments.
        language: log p of the text with its end by the word model; 0 without one.
        unit_language: the same by the unit model.
        bonus: what the number of words, unknown words and hotwords add.
        total: acoustic + alpha language + unit_alpha unit_language + bonus.
        words: each with its frames on the likeliest path of these units.
    """

    text: str
    units: tuple[int, ...]
    acoustic: float
    language: float
    unit_language: float
    bonus: float
    total: float
    words: tuple[WordSpan, ...]
