"""Back-off n-gram models, scored by state.

p(w | h) is the model's own where it has the n-gram "h w", else backoff(h) p(w | h less its first word), as in
every ARPA file (S. Katz 1987, "Estimation of probabilities from sparse data ...", IEEE Trans. ASSP 35).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asr_lstm.lm.trie import ROOT, Floats, Ints, Trie, child, score_all_words, score_pairs, score_sequence

UNKNOWN, BEGIN, END = 0, 1, 2
UNKNOWN_WORD, BEGIN_WORD, END_WORD = SPECIAL_WORDS = ("<unk>", "<s>", "</s>")  # words 0, 1 and 2

_LN10 = math.log(10.0)  # files and tries keep log10; everything else in the toolkit is in natural logarithms


class NgramModel:
    """An n-gram model whose states are numbers, so that many can be scored at once.

    A state stands for the words heard so far, as many of them as can still matter. Words are numbers too: 0 is
    the unknown word, 1 begins and 2 ends a sentence.

    Args:
        trie: the n-grams.
        words: in the order of their numbers, the three special ones first.
        counts: how many n-grams there are of each order, shortest first.

    Attributes:
        trie: for compiled searches, which call `asr_lstm.lm.trie.step` on it.
        words: as above.
        counts: as above.
        order: length of the longest n-grams.
        null_state: the state in which no word has been heard.
        begin_state: the state at the beginning of a sentence.
    """

    def __init__(self, trie: Trie, words: Sequence[str], counts: Sequence[int]) -> None:
        self.trie = trie
        self.words = words
        self.counts = tuple(counts)
        self.order = len(self.counts)
        self.null_state = ROOT
        self.begin_state = int(trie.following[BEGIN])

    def __len__(self) -> int:
        """Number of words, the special ones among them."""
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def ids(self, words: Iterable[str]) -> Ints:
        """The numbers of words, `(n,)` int32; that of <unk> for a word that the model lacks."""
        get = self._ids.get
        return np.array([get(word, UNKNOWN) for word in words], np.int32)

    def unknown(self, words: Iterable[str]) -> list[str]:
        """Those of the words that the model lacks, each once."""
        return [word for word in dict.fromkeys(words) if word not in self._ids]

    def score(self, states: ArrayLike, words: ArrayLike) -> tuple[Floats, Ints]:
        """Score a word after each state.

        Args:
            states: `(n,)`, from `begin_state`, `null_state` or an earlier call.
            words: `(n,)`, their numbers. Either may be a single number for all.

        Returns:
            Natural log probabilities `(n,)` float32, and the next states `(n,)` int32.

        Raises:
            ValueError: no such state or word.
        """
        states, words = np.broadcast_arrays(self._states(states), self._words(words))
        log_probs, following = np.empty(len(states), np.float32), np.empty(len(states), np.int32)
        score_pairs(
            self.trie,
            np.ascontiguousarray(states),
            np.ascontiguousarray(words),
            log_probs,
            following,
            _LN10,
        )
        return log_probs, following

    def score_all(self, states: ArrayLike) -> tuple[Floats, Ints]:
        """Score every word after each state: for models over output units, which are few.

        Args:
            states: `(n,)`, as in `score`.

        Returns:
            Natural log probabilities `(n, words)` float32, and the next states `(n, words)` int32.

        Raises:
            ValueError: no such state.
        """
        states = self._states(states)
        shape = (len(states), len(self))
        log_probs, following = np.empty(shape, np.float32), np.empty(shape, np.int32)
        score_all_words(self.trie, self.order, states, log_probs, following, _LN10)
        return log_probs, following

    def score_texts(self, words: ArrayLike) -> Floats:
        """Score whole sentences, one after the other.

        Args:
            words: `(n,)`, numbers of the sentences' words, an `END` after each sentence.

        Returns:
            Natural log probabilities `(n,)` float32, each word given its sentence up to it.

        Raises:
            ValueError: no such word.
        """
        words = self._words(words)
        log_probs = np.empty(len(words), np.float32)
        score_sequence(self.trie, words, self.begin_state, END, log_probs, _LN10)
        return log_probs

    def log_prob(self, words: Sequence[str]) -> float:
        """Natural log probability of one sentence, its end included."""
        return float(self.score_texts([*self.ids(words), END]).sum(dtype=np.float64))

    def state(self, words: Iterable[str], *, start: int = ROOT) -> int:
        """The state after some words, from `start` on."""
        for word in self.ids(words):
            start = int(self.score([start], [word])[1][0])
        return start

    def ngram(self, words: Sequence[str]) -> tuple[float, float] | None:
        """What an ARPA file says of an n-gram: log10 probability and log10 back-off weight; None if it is in none.

        Args:
            words: 1 to `order` of them.
        """
        if not 0 < len(words) <= self.order or self.unknown(words):
            return None
        node = ROOT
        for word in self.ids(words):
            found = child(self.trie.begin, self.trie.words, node, word)
            if found < 0:
                return None
            node = found + 1
        backoff = float(self.trie.backoffs[node]) if node < len(self.trie.backoffs) else 0.0
        return float(self.trie.probs[node - 1]), backoff

    def _states(self, states: ArrayLike) -> Ints:
        return _checked(states, "states", len(self.trie.backoffs))

    def _words(self, words: ArrayLike) -> Ints:
        return _checked(words, "words", len(self))


def _checked(numbers: ArrayLike, name: str, bound: int) -> NDArray[np.int32]:
    """As `(n,)` int32; the compiled functions would read beyond their arrays otherwise."""
    array = np.atleast_1d(np.asarray(numbers))
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise ValueError(f"{name}: one row of whole numbers, not {array.dtype} of shape {array.shape}")
    if array.size and not (array.min() >= 0 and array.max() < bound):
        raise ValueError(f"{name}: numbers from 0 to {bound - 1}, not {array.min()} to {array.max()}")
    return np.ascontiguousarray(array, np.int32)
