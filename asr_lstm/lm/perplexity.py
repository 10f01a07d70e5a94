"""Perplexity: how many words a model hesitates between, on average, at each word of a text."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from asr_lstm.errors import DataError
from asr_lstm.lm.ngram import END, UNKNOWN, NgramModel
from asr_lstm.lm.trie import Ints

_CHUNK = 1 << 18  # words scored at a time


@dataclass(frozen=True)
class Perplexity:
    """How well a model predicts a text; each sentence's end counts as a word of it.

    Attributes:
        sentences: in the text; lines without a word are passed over.
        words: in the text, without the ends of sentences.
        unknown: how many of the words the model lacks.
        log_prob: natural log probability of everything.
        unknown_log_prob: the part of it that is the unknown words'.
    """

    sentences: int
    words: int
    unknown: int
    log_prob: float
    unknown_log_prob: float = 0.0

    @property
    def including_unknown(self) -> float:
        """With every unknown word as one of the model's <unk>: no model of fewer words may be compared by it."""
        return _exp(-self.log_prob / (self.words + self.sentences))

    @property
    def excluding_unknown(self) -> float:
        """Of the known words and the ends of sentences; unknown words still stand in the context of others."""
        known = self.words + self.sentences - self.unknown
        return _exp(-(self.log_prob - self.unknown_log_prob) / known)


def _exp(power: float) -> float:
    """Infinity where Python would refuse: of words that a model holds for next to impossible."""
    return math.exp(power) if power < math.log(sys.float_info.max) else math.inf


def perplexity(model: NgramModel, lines: Iterable[str]) -> Perplexity:
    """Measure a model on sentences.

    Args:
        model: of words or of what else the lines are made of.
        lines: a sentence each, words parted by white space.

    Raises:
        DataError: there are no words.
    """
    tokens = ends = unknown = 0
    log_prob = unknown_log_prob = 0.0
    for numbers in number_texts(model, lines):
        scores = model.score_texts(numbers).astype(np.float64)
        tokens += len(numbers)
        ends += int((numbers == END).sum())
        unknown += int((numbers == UNKNOWN).sum())
        log_prob += float(scores.sum())
        unknown_log_prob += float(scores[numbers == UNKNOWN].sum())
    if not tokens:
        raise DataError("the text holds no words; give one with a sentence a line")
    return Perplexity(ends, tokens - ends, unknown, log_prob, unknown_log_prob)


def number_texts(model: NgramModel, lines: Iterable[str]) -> Iterator[Ints]:
    """The numbers of the words of sentences, an END after each, many sentences at a time."""
    words: list[str] = []
    for line in lines:
        sentence = line.split()
        if sentence:
            words += sentence
            words.append(model.words[END])
        if len(words) >= _CHUNK:
            yield model.ids(words)
            words = []
    if words:
        yield model.ids(words)
