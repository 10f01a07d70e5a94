"""Searching utterances side by side, frame by frame, with language models that are asked for many prefixes at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr_lstm.decoding.hypotheses import LastBeam
from asr_lstm.decoding.protocols import UnitModel, WordModel
from asr_lstm.decoding.search import NO_ROWS, Logits, Running, Search

Prefix = tuple[int, int]  # number of the utterance, and of the entry in its beam


@dataclass(frozen=True)
class OutsideModels:
    """Language models that are not arrays; at least one is given.

    Attributes:
        words: of words, or None.
        units: of units, or None.
    """

    words: WordModel | None
    units: UnitModel | None


class UnitMemory:
    """What a unit model knows of each prefix in the beams: its state, and its view of the next unit.

    Each beam has as many slots as it may have entries; a prefix keeps its slot while it stays in the beam.

    Args:
        model: of units.
        beams: how many.
        size: entries of a beam.

    Attributes:
        rows: (beams, size, units) float32 log-probabilities of the next unit.
    """

    def __init__(self, model: UnitModel, *, beams: int, size: int) -> None:
        first, state = model.start()
        self._model = model
        self._size = size
        self._state = tuple(part.new_zeros(beams * size, *part.shape[1:]) for part in state)
        for mine, part in zip(self._state, state, strict=True):
            mine[::size] = part
        self.rows: NDArray[np.float32] = np.zeros((beams, size, first.shape[-1]), np.float32)
        self.rows[:, 0] = _array(first)

    def extend(self, running: Sequence[Running], fresh: Sequence[Prefix]) -> None:
        """Give each new prefix a slot, and in it what the model says after its last unit."""
        sources = [n * self._size + int(running[n].beam["source"][k]) for n, k in fresh]
        units = [int(running[n].beam["last"][k]) for n, k in fresh]
        # Copied before anything is written: a source that has left the beam may be given away here.
        before = tuple(part[sources] for part in self._state)
        log_probs, after = self._model.step(torch.tensor(units), before)
        slots = self._give_slots(running, fresh)
        for mine, part in zip(self._state, after, strict=True):
            mine[slots] = part
        self.rows.reshape(-1, self.rows.shape[-1])[slots] = _array(log_probs)

    def _give_slots(self, running: Sequence[Running], fresh: Sequence[Prefix]) -> list[int]:
        slots = []
        spare: dict[int, list[int]] = {}
        for n, k in fresh:
            search = running[n]
            if n not in spare:
                taken = set(search.beam["slot"][: search.count].tolist())
                spare[n] = sorted(set(range(self._size)) - taken, reverse=True)
            search.beam["slot"][k] = spare[n].pop()
            slots.append(n * self._size + int(search.beam["slot"][k]))
        return slots


@torch.inference_mode()
def search_together(logits: Sequence[Logits], search: Search, models: OutsideModels) -> list[LastBeam]:
    """Search some utterances, each (frames, units), with outside models."""
    running = [Running(search, frames=len(rows)) for rows in logits]
    memory = None
    if models.units is not None:
        memory = UnitMemory(models.units, beams=len(running), size=search.weights.beam)
    for t in range(max(map(len, logits))):
        alive = [n for n, rows in enumerate(logits) if t < len(rows)]
        for n in alive:
            running[n].advance(logits[n][t], NO_ROWS if memory is None else memory.rows[n])
        fresh = [
            (n, int(k))
            for n in alive
            for k in np.flatnonzero(running[n].beam["slot"][: running[n].count] < 0)
        ]
        if fresh and models.words is not None:
            _score_words(running, fresh, search, models.words)
        if fresh and memory is not None:
            memory.extend(running, fresh)
        elif fresh:
            for n, k in fresh:
                running[n].beam["slot"][k] = 0
    lasts = [one.finish() for one in running]
    for n, last in enumerate(lasts):
        beam = last.beam[: last.count]
        if models.words is not None:
            beam["language"] += models.words.finish(beam["state"])
        if memory is not None:
            beam["unit_language"] += memory.rows[n, beam["slot"], 0]
    return lasts


def _score_words(
    running: Sequence[Running], fresh: Sequence[Prefix], search: Search, model: WordModel
) -> None:
    """Score the unfinished word of each new prefix as if it ended there."""
    from asr_lstm.decoding.prefix_search import word_number

    asked = [(n, k) for n, k in fresh if running[n].beam["open"][k]]
    if not asked:
        return
    entries = [running[n].beam[k] for n, k in asked]  # views: what is set below stands in the beams
    states = np.array([entry["state"] for entry in entries], np.int64)
    tables = search.tables
    words = np.array([word_number(entry["place"], tables.trie, tables.modes) for entry in entries], np.int64)
    for entry, log_prob, following in zip(entries, *model.score(states, words), strict=True):
        entry["word_language"], entry["word_state"] = log_prob, following


def _array(values: Tensor) -> NDArray[np.float32]:
    return values.detach().float().cpu().numpy()
