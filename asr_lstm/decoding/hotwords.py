"""Words and phrases to listen for: each that is heard whole adds its weight to the score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr_lstm.decoding.spelling import Spelling
from asr_lstm.decoding.trie import FIRST, LABEL, ROOT, VALUE, Trie, build_trie, empty_trie, find_child
from asr_lstm.errors import DataError
from asr_lstm.units import Units

# A third column beside a trie's first and label: the longest other beginning of a phrase that what was read ends
# with (-1 at the root).
FALL = VALUE
# Columns of the scores: what a path that is at a state has been given in advance, so that a phrase is not pruned
# before it is complete; and the weights of the phrases that end at the state.
AHEAD, ENDS = 0, 1


class Hotwords(NamedTuple):
    """An automaton that reads letters and knows which phrases they may be within (Aho & Corasick 1975).

    Attributes:
        links: (states + 1, 3) int32, a trie with `FALL` instead of values.
        scores: (states, 2) `AHEAD` and `ENDS`.
        start: the state at the beginning of an utterance.
        space: the letter read between words and at both ends; -1 where the units don't part words.
    """

    links: Trie
    scores: NDArray[np.float64]
    start: int
    space: int

    def most_added(self, letters: int) -> float:
        """A bound of what so many letters can add to a score."""
        return float(self.scores[:, AHEAD].max() + letters * max(self.scores[:, ENDS].max(), 0.0))


def build_hotwords(hotwords: Mapping[str, float], units: Units, spelling: Spelling) -> Hotwords:
    """The automaton of some phrases.

    Args:
        hotwords: phrase to weight, a natural logarithm: a weight of 2 makes it e^2 = 7.4 times as likely where it
            stands as whole words (anywhere, where the units don't part words); below 0 it is made less likely.
        units: of the recogniser; phrases are normalised as they say.
        spelling: of these units.

    Raises:
        DataError: an empty phrase, or characters that the units cannot write.
        ValueError: a weight that is no finite number.
    """
    weights: dict[tuple[int, ...], float] = {}
    for phrase, weight in hotwords.items():
        if not np.isfinite(weight):
            raise ValueError(f"hotwords: the weight of {phrase!r} must be a finite number, not {weight}")
        weights[_letters(phrase, units, spelling)] = float(weight)
    links = build_trie(list(weights), range(len(weights))) if weights else empty_trie()
    scores = _phrase_scores(links, weights, free=1 if spelling.parts_words else 0)
    _link(links, scores)
    space = spelling.space if spelling.parts_words else -1
    return Hotwords(links, scores, start=max(find_child(links, ROOT, space), ROOT), space=space)


def _letters(phrase: str, units: Units, spelling: Spelling) -> tuple[int, ...]:
    text = units.normaliser(phrase)
    lacking = [letter for letter in dict.fromkeys(text) if letter != " " and letter not in spelling.letters]
    if not text or lacking or (" " in text and not spelling.parts_words):
        reason = (
            f"the units lack {', '.join(map(repr, lacking or [' ']))}" if text else "nothing is left of it"
        )
        raise DataError(
            f"hotword {phrase!r}: {reason}; write it as the model's transcripts do, or leave it out"
        )
    return tuple(spelling.encode(f" {text} " if spelling.parts_words else text))


def _phrase_scores(trie: Trie, weights: Mapping[tuple[int, ...], float], *, free: int) -> NDArray[np.float64]:
    """Each phrase gives its weight little by little, but nothing for its first `free` letters, which any has."""
    scores = np.zeros((len(trie) - 1, 2))
    for letters, weight in weights.items():
        state = ROOT
        for depth, letter in enumerate(letters[:-1], start=1):
            state = find_child(trie, state, letter)
            ahead = weight * (depth - free) / (len(letters) - free)
            scores[state, AHEAD] = max(scores[state, AHEAD], ahead)
        scores[find_child(trie, state, letters[-1]), ENDS] += weight
    return scores


def _link(links: Trie, scores: NDArray[np.float64]) -> None:
    """Turn values into falls; a state also has the scores of those it falls to."""
    links[:, FALL] = -1
    for state in range(len(scores)):  # by depth: what a state falls to is done before it
        for child in range(links[state, FIRST], links[state + 1, FIRST]):
            back = int(links[state, FALL])
            while back >= 0 and find_child(links, back, links[child, LABEL]) < 0:
                back = int(links[back, FALL])
            fall = find_child(links, back, links[child, LABEL]) if back >= 0 else ROOT
            links[child, FALL] = fall
            scores[child, AHEAD] = max(scores[child, AHEAD], scores[fall, AHEAD])
            scores[child, ENDS] += scores[fall, ENDS]
