"""The n-grams of a back-off model as flat arrays, built in linear time and scored by state.

A node is a context: the empty one (node 0, the root) or an n-gram shorter than the model's order. The n-grams
lie sorted by order, then by context, then by word, so that

    the children of node s, the n-grams "s word", are numbers begin[s] to begin[s + 1], sorted by word;
    n-gram i, if shorter than the order, is itself node i + 1;
    word w as a 1-gram is n-gram w, since every word has one.

A node is useful if it has children or a back-off weight other than 0 (in log10). A useless one gives any word
the probability that its suffix gives, so that links lead past it: fewer states, the same scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr_lstm.lm.jit import compiled

ROOT = 0
MAX_NGRAMS = 2**31 - 2  # numbers of n-grams and nodes are int32

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


class Trie(NamedTuple):
    """A model's arrays, which compiled functions take as they are.

    Attributes:
        begin: `(nodes + 1,)` int32, where the children of each node begin.
        words: `(ngrams,)` int32, the last word of each n-gram.
        probs: `(ngrams,)` float32, log10 P(last word | the words before it).
        following: `(ngrams,)` int32, the state after the n-gram: its longest suffix that is a useful node.
        backoffs: `(nodes,)` float32, log10 of the back-off weight.
        suffixes: `(nodes,)` int32, the longest proper suffix of the node that is a useful node.
    """

    begin: Ints
    words: Ints
    probs: Floats
    following: Ints
    backoffs: Floats
    suffixes: Ints


class TrieBuilder:
    """Takes the n-grams of one order after the other, in any order of rows, and lays them out as a `Trie`.

    Args:
        counts: how many n-grams there will be of each order, shortest first.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts = tuple(counts)
        total, nodes = sum(counts), 1 + sum(counts[:-1])
        self._starts = np.concatenate([[0], np.cumsum(counts)])  # of each order's n-grams
        self.begin = np.zeros(nodes + 1, np.int32)
        self.words = np.empty(total, np.int32)
        self._probs = np.empty(total, np.float32)
        self._backoffs = np.zeros(nodes, np.float32)

    def add(self, order: int, contexts: Ints, words: Ints, probs: Floats, backoffs: Floats | None) -> Ints:
        """Lay out the n-grams of an order; all shorter ones must be there.

        Args:
            order: from 1.
            contexts: `(n,)`, the node of each n-gram without its last word.
            words: `(n,)`, the last word of each.
            probs: `(n,)`, log10.
            backoffs: `(n,)`, log10; None for the highest order.

        Returns:
            `(n,)`, which row lies at each place: row `rows[j]` is n-gram `first + j`, `first` the number of
            all shorter n-grams.

        Raises:
            DuplicateNgram: two rows are the same n-gram.
        """
        first = int(self._starts[order - 1])
        lowest = first + 1 - (self.counts[order - 2] if order > 1 else 1)  # of the contexts
        begin = np.zeros(first + 2 - lowest, np.int32)
        rows = _sort_rows(contexts, words, self.counts[0], lowest, begin)
        self.begin[lowest : first + 2] = begin + first
        place = slice(first, first + len(words))
        np.take(words, rows, out=self.words[place])
        twice = _find_twice(begin, self.words[place])
        if twice >= 0:
            raise DuplicateNgram(int(contexts[rows[twice]]), int(words[rows[twice]]))
        np.take(probs, rows, out=self._probs[place])
        if backoffs is not None:
            np.take(backoffs, rows, out=self._backoffs[first + 1 : first + 1 + len(words)])
        return rows

    def history(self, node: int) -> list[int]:
        """The words of a node."""
        words: list[int] = []
        while node != ROOT:
            words.insert(0, int(self.words[node - 1]))
            node = int(ngram_parents(self.begin, np.array([node - 1]))[0])
        return words

    def finish(self) -> Trie:
        """The trie with its links, once every order is there."""
        following, suffixes = np.zeros_like(self.words), np.zeros_like(self._backoffs, np.int32)
        trie = Trie(self.begin, self.words, self._probs, following, self._backoffs, suffixes)
        _link(*trie)
        return trie


class DuplicateNgram(Exception):
    """An n-gram that was given twice; for the caller, who knows its words."""

    def __init__(self, context: int, word: int) -> None:
        super().__init__(f"n-gram twice: node {context}, word {word}")
        self.context = context
        self.word = word


def _sort_rows(contexts: Ints, words: Ints, vocabulary: int, lowest: int, begin: Ints) -> Ints:
    """Rows sorted by context, then by word, in linear time; fills `begin` with where each context's rows begin."""
    by_word, rows = np.empty(len(words), np.int32), np.empty(len(words), np.int32)
    _counting_sort(
        words, 0, np.arange(len(words), dtype=np.int32), np.zeros(vocabulary + 1, np.int32), by_word
    )
    _counting_sort(contexts, lowest, by_word, begin, rows)
    return rows


@compiled
def _counting_sort(keys: Ints, lowest: int, order: Ints, begin: Ints, sorted_rows: Ints) -> None:
    """Sort rows by key, equal ones as they stand in `order`; `begin`, zeros before, tells where each key begins."""
    for key in keys:
        begin[key - lowest + 1] += 1
    for i in range(1, len(begin)):
        begin[i] += begin[i - 1]
    for row in order:
        key = keys[row] - lowest
        sorted_rows[begin[key]] = row
        begin[key] += 1
    for i in range(len(begin) - 1, 0, -1):
        begin[i] = begin[i - 1]
    begin[0] = 0


@compiled
def _find_twice(begin: Ints, words: Ints) -> int:
    """A row that has the word and the context of the row before it, or -1."""
    for node in range(len(begin) - 1):
        for i in range(begin[node] + 1, begin[node + 1]):
            if words[i] == words[i - 1]:
                return i
    return -1


@compiled
def child(begin: Ints, words: Ints, node: int, word: int) -> int:
    """The number of the n-gram "node word", or -1."""
    if node == ROOT:
        return word
    low, high = begin[node], begin[node + 1]
    while low < high:
        middle = (low + high) >> 1
        if words[middle] < word:
            low = middle + 1
        else:
            high = middle
    return low if low < begin[node + 1] and words[low] == word else -1


@compiled
def _link(begin: Ints, words: Ints, probs: Floats, following: Ints, backoffs: Floats, suffixes: Ints) -> None:
    """Fill `following` and `suffixes`: shorter n-grams first, since longer ones' links build on theirs."""
    nodes = len(backoffs)
    for node in range(nodes):
        for ngram in range(begin[node], begin[node + 1]):
            target = ROOT
            if node != ROOT:
                shorter = suffixes[node]
                found = child(begin, words, shorter, words[ngram])
                while found < 0:
                    shorter = suffixes[shorter]
                    found = child(begin, words, shorter, words[ngram])
                target = following[found]
            if ngram + 1 < nodes:
                suffixes[ngram + 1] = target
                if begin[ngram + 2] > begin[ngram + 1] or backoffs[ngram + 1] != 0.0:
                    target = ngram + 1
            following[ngram] = target


def ngram_parents(begin: Ints, ngrams: NDArray[Any]) -> NDArray[np.int64]:
    """The nodes whose children the n-grams are."""
    # Of one type with `begin`: of another, all of that is converted at each call.
    return np.searchsorted(begin, np.asarray(ngrams, begin.dtype), side="right") - 1


def ngram_words(trie: Trie, ngrams: NDArray[np.int64], order: int) -> Ints:
    """The words `(n, order)` of n-grams `(n,)` of one order."""
    columns = np.empty((len(ngrams), order), np.int32)
    for place in range(order - 1, -1, -1):
        columns[:, place] = trie.words[ngrams]
        ngrams = ngram_parents(trie.begin, ngrams) - 1
    return columns


@compiled
def step(trie: Trie, state: int, word: int) -> tuple[float, int]:
    """Score one word after a state: (log10 probability, next state). For use within compiled searches.

    The longest n-gram that the state's words and `word` end in gives the probability; each word of context
    given up for it costs that context's back-off weight. Neither state nor word is checked.
    """
    log_prob = 0.0
    while True:
        ngram = child(trie.begin, trie.words, state, word)
        if ngram >= 0:
            return log_prob + trie.probs[ngram], trie.following[ngram]
        log_prob += trie.backoffs[state]
        state = trie.suffixes[state]


@compiled
def score_pairs(
    trie: Trie, states: Ints, words: Ints, log_probs: Floats, following: Ints, scale: float
) -> None:
    """`step` for each pair of state and word; log10 probabilities times `scale`."""
    for i in range(len(states)):
        log_prob, next_state = step(trie, states[i], words[i])
        log_probs[i] = log_prob * scale
        following[i] = next_state


@compiled
def score_all_words(
    trie: Trie, order: int, states: Ints, log_probs: Floats, following: Ints, scale: float
) -> None:
    """Each state with each word: rows `(words,)` are filled from the 1-grams, then by ever longer contexts."""
    chain = np.empty(order, np.int32)  # a state and its suffixes, but for the root
    for i in range(len(states)):
        length, state, backoff = 0, states[i], 0.0
        while state != ROOT:
            chain[length] = state
            length += 1
            backoff += trie.backoffs[state]
            state = trie.suffixes[state]
        for ngram in range(trie.begin[ROOT], trie.begin[ROOT + 1]):
            log_probs[i, ngram] = (backoff + trie.probs[ngram]) * scale
            following[i, ngram] = trie.following[ngram]
        for j in range(length - 1, -1, -1):
            node = chain[j]
            backoff -= trie.backoffs[node]
            for ngram in range(trie.begin[node], trie.begin[node + 1]):
                word = trie.words[ngram]
                log_probs[i, word] = (backoff + trie.probs[ngram]) * scale
                following[i, word] = trie.following[ngram]


@compiled
def score_sequence(
    trie: Trie, words: Ints, start: int, end_word: int, log_probs: Floats, scale: float
) -> None:
    """Texts one after the other, each from state `start` and up to its `end_word`."""
    state = start
    for i in range(len(words)):
        log_prob, state = step(trie, state, words[i])
        log_probs[i] = log_prob * scale
        if words[i] == end_word:
            state = start
