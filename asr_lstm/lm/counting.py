"""Counts of all n-grams of a text up to an order, in one pass, with time and memory linear in the text.

Each n-gram is a node of a trie (its parent is the n-gram without its last word), found by a hash table from
(parent, word). What is kept is 17 bytes for each distinct n-gram and at most 16 for the table; the text itself
is not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_lstm.errors import DataError
from asr_lstm.lm.jit import compiled
from asr_lstm.lm.ngram import BEGIN, END, SPECIAL_WORDS
from asr_lstm.lm.trie import MAX_NGRAMS, Ints

_CHUNK = 1 << 18  # words counted at a time
_FIRST_CAPACITY = 1 << 16


@dataclass(frozen=True)
class OrderCounts:
    """The distinct n-grams of one order, in the order in which they first appear.

    Attributes:
        parents: `(n,)`, which n-gram of the order below is this one without its last word; 0 for 1-grams.
        suffixes: `(n,)`, which n-gram of the order below is this one without its first word; 0 for 1-grams.
        words: `(n,)`, the last word.
        counts: `(n,)`, how often it occurs.
    """

    parents: Ints
    suffixes: Ints
    words: Ints
    counts: Ints


class _Vocabulary(dict[str, int]):
    """Numbers words as they are first met."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


def count_ngrams(lines: Iterable[str], order: int) -> tuple[list[str], list[OrderCounts]]:
    """Count the n-grams of lines of words.

    Each line is a sentence: <s> stands before it and </s> behind it. <s> is never counted itself, and a
    sentence's first n-grams of each order begin with one <s>. Lines without a word are passed over.

    Args:
        lines: words parted by white space.
        order: length of the longest n-grams, from 1.

    Returns:
        The words in the order of their numbers, the three special ones first, then as they first appear; and
        the counts of each order, shortest first. The 1-grams are in the order of the words' numbers.

    Raises:
        DataError: no words, a special word in the text, or more n-grams than a model can hold.
    """
    vocabulary = _Vocabulary({word: number for number, word in enumerate(SPECIAL_WORDS)})
    counter = _Counter(order)
    for tokens in _chunks(lines, vocabulary):
        counter.add(tokens)
    if len(vocabulary) == len(SPECIAL_WORDS):
        raise DataError("the text holds no words; give one with a sentence a line")
    return list(vocabulary), counter.finish()


def _chunks(lines: Iterable[str], vocabulary: _Vocabulary) -> Iterator[Ints]:
    """The numbers of the words, an END after each sentence, some sentences at a time."""
    numbers: list[int] = []
    for line in lines:
        words = line.split()
        if not words:
            continue
        sentence = [vocabulary[word] for word in words]
        if min(sentence) <= END:
            word = words[int(np.argmin(sentence))]
            raise DataError(f"the text holds the special word {word}, in `{line.strip()[:60]}`; take it out")
        numbers += sentence
        numbers.append(END)
        if len(numbers) >= _CHUNK:
            yield np.array(numbers, np.int32)
            numbers = []
    yield np.array(numbers, np.int32)


class _Counter:
    """The trie of counts while it grows. Nodes are numbered as they are made; node 0 is the root."""

    def __init__(self, order: int) -> None:
        self.order = order
        self.parents, self.words, self.counts, self.suffixes = (
            np.zeros(_FIRST_CAPACITY, np.int32) for _ in range(4)
        )
        self.orders = np.zeros(_FIRST_CAPACITY, np.uint8)
        self.slots = np.zeros(2 * _FIRST_CAPACITY, np.int32)
        self.nodes = 1
        for word in range(len(SPECIAL_WORDS)):  # the 1-grams are in the order of the words' numbers
            self._insert(np.array([word], np.int32), 1)
        self.counts[:] = 0

    def add(self, tokens: Ints) -> None:
        """Count sentences, each with its END."""
        self._insert(tokens, self.order)

    def _insert(self, tokens: Ints, order: int) -> None:
        self._make_room(self.nodes + order * len(tokens))
        self.nodes = _count(
            tokens,
            order,
            1 + BEGIN,
            self.nodes,
            self.slots,
            self.parents,
            self.words,
            self.counts,
            self.suffixes,
            self.orders,
        )

    def _make_room(self, nodes: int) -> None:
        """Double the arrays and the table until they hold so many nodes, the table half filled at most."""
        capacity = len(self.parents)
        if nodes <= capacity:
            return
        while capacity < nodes:
            capacity *= 2
        if self.nodes > MAX_NGRAMS // 2:
            raise DataError(
                f"the text has more than {MAX_NGRAMS // 2} n-grams; take a lower order or less text"
            )
        for name in ("parents", "words", "counts", "suffixes", "orders"):
            array = getattr(self, name)
            grown = np.zeros(capacity, array.dtype)
            grown[: self.nodes] = array[: self.nodes]
            setattr(self, name, grown)
        self.slots = np.zeros(2 * capacity, np.int32)
        _rehash(self.slots, self.parents, self.words, self.nodes)

    def finish(self) -> list[OrderCounts]:
        """The nodes by order, with links by rank in the order below."""
        ranks = np.zeros(self.nodes, np.int32)
        found = []
        for order in range(1, self.order + 1):
            nodes = np.flatnonzero(self.orders[: self.nodes] == order)
            counts = OrderCounts(
                parents=ranks[self.parents[nodes]],
                suffixes=ranks[self.suffixes[nodes]],
                words=self.words[nodes],
                counts=self.counts[nodes],
            )
            ranks[nodes] = np.arange(len(nodes), dtype=np.int32)
            found.append(counts)
        return found


@compiled
def _slot(slots: Ints, parents: Ints, words: Ints, parent: int, word: int) -> int:
    """The slot that holds the node of (parent, word), else the free one where it belongs."""
    mask = len(slots) - 1
    # Multiplicative hashing by primes near 2^31; the sum's high bits are folded into the low ones that count.
    mixed = parent * 2654435761 + word * 2246822519
    slot = (mixed ^ (mixed >> 17) ^ (mixed >> 34)) & mask
    while slots[slot] != 0 and (parents[slots[slot]] != parent or words[slots[slot]] != word):
        slot = (slot + 1) & mask
    return slot


@compiled
def _rehash(slots: Ints, parents: Ints, words: Ints, nodes: int) -> None:
    for node in range(1, nodes):
        slots[_slot(slots, parents, words, parents[node], words[node])] = node


@compiled
def _count(
    tokens: Ints,
    order: int,
    begin_node: int,
    nodes: int,
    slots: Ints,
    parents: Ints,
    words: Ints,
    counts: Ints,
    suffixes: Ints,
    orders: NDArray[np.uint8],
) -> int:
    """Count each token after the up to `order` - 1 words before it; the number of nodes after that."""
    history = np.zeros(order + 1, np.int32)  # history[k]: the node of the last k words
    history[1] = begin_node
    known = min(1, order - 1)
    fresh = np.zeros(order + 1, np.int32)
    for word in tokens:
        for length in range(known + 1):
            slot = _slot(slots, parents, words, history[length], word)
            if slots[slot] == 0:
                slots[slot] = nodes
                parents[nodes], words[nodes], orders[nodes] = history[length], word, length + 1
                suffixes[nodes] = fresh[length]
                nodes += 1
            node = slots[slot]
            counts[node] += 1
            fresh[length + 1] = node
        known = min(known + 1, order - 1)
        history[1 : known + 1] = fresh[1 : known + 1]
        if word == END:
            history[1] = begin_node
            known = min(1, order - 1)
    return nodes
