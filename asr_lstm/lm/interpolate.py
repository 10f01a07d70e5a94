"""Two n-gram models in one: their linear mixture, its weight found on text.

p(w | h) = weight p1(w | h) + (1 - weight) p2(w | h) for every n-gram "h w" that either model has, and back-off
weights under which each context's probabilities sum to 1, as SRILM's `ngram -mix-lm` does it (A. Stolcke 2002,
"SRILM - an extensible language modeling toolkit", ICSLP). What neither model has is backed off to, where a mixture
asked of both models at each word would mix again; the difference is small, and the result is one model with
one state, which every search, file and bundle takes.

A word that only one of the models has gets probability 0 from the other, not that of its <unk>.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.lm.ngram import UNKNOWN, NgramModel
from asr_lstm.lm.perplexity import number_texts
from asr_lstm.lm.trie import MAX_NGRAMS, Ints, Trie, TrieBuilder, ngram_parents, score_pairs

_TOLERANCE = 1e-6  # of the weight, at which the search for it ends
_MAX_ITERATIONS = 1000
_SMALLEST = 1e-9  # mass of a context taken for none: below what float32 probabilities sum to

_LEAST_PROB = 1e-99  # in place of 0, of a word that a model of weight 0 alone has


def tune_weight(first: NgramModel, second: NgramModel, lines: Iterable[str]) -> float:
    """The weight of the first model under which the mixture finds a text likeliest.

    Expectation maximisation (F. Jelinek and R. Mercer 1980, "Interpolated estimation of Markov source
    parameters from sparse data"), which ends at the only maximum there is. Words unknown to both models say
    nothing about the weight and are passed over.

    Args:
        first: a model.
        second: another one.
        lines: sentences that neither was trained on.

    Raises:
        DataError: the text holds no words.
    """
    likelihoods = []
    texts = list(lines)
    for mine, other in zip(number_texts(first, texts), number_texts(second, texts), strict=True):
        both = np.exp(np.stack([first.score_texts(mine), second.score_texts(other)]).astype(np.float64))
        known = np.stack([mine, other]) != UNKNOWN
        likelihoods.append((both * known)[:, known.any(axis=0)])
    if not likelihoods:
        raise DataError("the text holds no words; give one like what is to be recognised")
    mixed = np.concatenate(likelihoods, axis=1)
    mixed = mixed[:, mixed.sum(axis=0) > 0]  # a probability may be smaller than any number
    weight = 0.5
    for _ in range(_MAX_ITERATIONS):
        share = weight * mixed[0] / (weight * mixed[0] + (1 - weight) * mixed[1])
        weight, before = float(share.mean()), weight
        if abs(weight - before) < _TOLERANCE:
            break
    return weight


class _Part:
    """One of the models, walked along with the mixture.

    Attributes:
        places: the numbers of this model's words in the mixture.
        numbers: the numbers of the mixture's words in this model, -1 for one that it lacks.
        states: the model's state at each node of the mixture.
        nodes: the mixture's node for each of the model's.
    """

    def __init__(self, model: NgramModel, words: list[str]) -> None:
        self.model = model
        places = {word: number for number, word in enumerate(words)}
        self.places = np.array([places[word] for word in model.words], np.int32)
        self.numbers = np.full(len(words), -1, np.int32)
        self.numbers[self.places] = np.arange(len(model), dtype=np.int32)
        self.nodes = np.zeros(len(model.trie.backoffs), np.int32)
        self.states = np.full(1, model.null_state, np.int32)

    def ngrams(self, order: int) -> tuple[NDArray[np.int64], Ints, Ints]:
        """The model's n-grams of an order: their numbers, and in the mixture their contexts and last words."""
        if order > self.model.order:
            return np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int32)
        first = sum(self.model.counts[: order - 1])
        rows = np.arange(first, first + self.model.counts[order - 1])
        contexts = self.nodes[ngram_parents(self.model.trie.begin, rows)]
        return rows, contexts, self.places[self.model.trie.words[rows]]

    def score(self, contexts: Ints, words: Ints) -> tuple[NDArray[np.float64], Ints]:
        """Probabilities of the mixture's words at its nodes, 0 for a word the model lacks; and the next states."""
        numbers = self.numbers[words]
        log_probs, following = self.model.score(self.states[contexts], np.maximum(numbers, UNKNOWN))
        return np.where(numbers < 0, 0.0, np.exp(log_probs.astype(np.float64))), following


def interpolate(first: NgramModel, second: NgramModel, *, weight: float) -> NgramModel:
    """The mixture of two models as one.

    Args:
        first: a model.
        second: another one; orders and words may differ.
        weight: of the first model, from 0 to 1.

    Returns:
        A model of the higher order with the words of both, those of the first one first.

    Raises:
        ConfigError: a weight that is none.
        DataError: together they have more n-grams than a model can hold.
    """
    if not 0 <= weight <= 1:
        raise ConfigError(f"weight: {weight} is not from 0 to 1; it is the first model's share")
    if sum(first.counts) + sum(second.counts) > MAX_NGRAMS:
        raise DataError("the two language models are too large to be made one; prune them first")
    words = [*first.words, *(word for word in second.words if word not in first)]
    parts = ((_Part(first, words), weight), (_Part(second, words), 1 - weight))
    rows = []
    nodes = 1
    for order in range(1, max(first.order, second.order) + 1):
        contexts, last = _union(parts[0][0], parts[1][0], order=order, nodes=nodes)
        probs = np.zeros(len(last))
        for part, share in parts:
            likelihoods, states = part.score(contexts, last)
            probs += share * likelihoods
            part.states = np.concatenate([part.states, states])
        rows.append((contexts, last, np.log10(np.maximum(probs, _LEAST_PROB)).astype(np.float32)))
        nodes += len(last)
    builder = TrieBuilder([len(last) for _, last, _ in rows])
    for order, (contexts, last, log_probs) in enumerate(rows, start=1):
        builder.add(order, contexts, last, log_probs, None)
    trie = builder.finish()
    _fill_backoffs(trie, builder.counts)
    return NgramModel(trie, words, builder.counts)


def _union(first: _Part, second: _Part, *, order: int, nodes: int) -> tuple[Ints, Ints]:
    """Contexts and last words of the n-grams of an order that either model has, sorted as the trie has them.

    Tells each part which nodes they will be, the first of them number `nodes`.
    """
    found = [part.ngrams(order) for part in (first, second)]
    vocabulary = len(first.numbers)
    keys = [contexts.astype(np.int64) * vocabulary + last for _, contexts, last in found]
    distinct, places = np.unique(np.concatenate(keys), return_inverse=True)
    for part, (rows, _, _), own in zip((first, second), found, np.split(places, [len(keys[0])]), strict=True):
        if len(rows) and rows[-1] + 1 < len(part.nodes):
            part.nodes[rows + 1] = nodes + own
    contexts, last = np.divmod(distinct, vocabulary)
    return contexts.astype(np.int32), last.astype(np.int32)


def _fill_backoffs(trie: Trie, counts: tuple[int, ...]) -> None:
    """Weights by which what a context's n-grams leave over is shared by what the shorter context leaves over."""
    first = 1
    for count in counts[:-1]:
        begin = trie.begin[first : first + count + 1].astype(np.int64)
        own = np.repeat(np.arange(count), np.diff(begin))  # of each n-gram, which of the contexts it has
        rows = slice(begin[0], begin[-1])
        shorter, _ = _score(trie, trie.suffixes[first + own], trie.words[rows])
        left = 1 - np.bincount(own, 10.0 ** trie.probs[rows].astype(np.float64), count)
        shorter_left = 1 - np.bincount(own, 10.0**shorter, count)
        weights = np.maximum(left, _SMALLEST) / np.maximum(shorter_left, _SMALLEST)
        trie.backoffs[first : first + count] = np.where(np.diff(begin) > 0, np.log10(weights), 0.0)
        first += count


def _score(trie: Trie, states: Ints, words: Ints) -> tuple[NDArray[np.float64], Ints]:
    log_probs, following = np.empty(len(words), np.float32), np.empty(len(words), np.int32)
    score_pairs(trie, states, np.ascontiguousarray(words), log_probs, following, 1.0)
    return log_probs.astype(np.float64), following
