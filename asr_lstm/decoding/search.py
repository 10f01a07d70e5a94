"""Running the compiled search over one utterance, at once or frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_lstm.decoding.hypotheses import LastBeam
from asr_lstm.decoding.search_arrays import (
    Tables,
    Weights,
    new_beam,
    new_room,
    new_trace,
)

Logits = NDArray[np.float32]
NO_ROWS = np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class Search:
    """What the utterances of a search share.

    Attributes:
        tables: of units, words and models.
        weights: of the scores.
        word_start: the word model's state before the first word.
        unit_start: the unit model's state before the first unit, where it is one of arrays.
    """

    tables: Tables
    weights: Weights
    word_start: int = 0
    unit_start: int = 0


class Running:
    """The search of one utterance.

    Args:
        search: its tables.
        frames: how many the utterance has.

    Attributes:
        beam: the prefixes after the frames so far.
        count: how many they are.
    """

    def __init__(self, search: Search, *, frames: int) -> None:
        tables, weights = search.tables, search.weights
        self._search = search
        self._frames = 0
        start = {"hot": tables.hotwords.start, "state": search.word_start, "unit_state": search.unit_start}
        self.beam, self._spare = (new_beam(weights.beam, **start) for _ in range(2))
        self.count = 1
        self._room = new_room(weights, len(tables.spelled))
        self._trace = new_trace(weights, frames)
        self._log_probs = np.empty(len(tables.spelled))

    def run(self, logits: Logits) -> None:
        """Search all frames (frames, units), with language models of arrays or none."""
        from asr_lstm.decoding.prefix_search import search

        tables, weights = self._search.tables, self._search.weights
        rooms = (self.beam, self._spare)
        self.count = search(logits, *rooms, tables, weights, NO_ROWS, self._room, self._trace)

    def advance(self, logits: Logits, rows: Logits = NO_ROWS) -> None:
        """Search one frame (units,); `rows` (slots, units) is what an outside unit model says of each slot."""
        from asr_lstm.decoding.prefix_search import advance, log_softmax

        log_softmax(logits, self._log_probs)
        self._frames += 1
        self.count = advance(
            self.beam,
            self._spare,
            self.count,
            self._log_probs,
            self._frames,
            self._search.tables,
            self._search.weights,
            rows,
            self._room,
            self._trace,
        )
        self.beam, self._spare = self._spare, self.beam

    def finish(self) -> LastBeam:
        """The last beam, with the scores of whole texts as far as its models are arrays."""
        from asr_lstm.decoding.prefix_search import finish

        complete = np.zeros(self._search.weights.beam, np.bool_)
        finish(self.beam, self.count, self._search.tables, self._search.weights, complete)
        return LastBeam(self.beam, self.count, complete, self._trace)
