from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from asr_lstm.lm.ngram import SPECIAL_WORDS, NgramModel
from asr_lstm.lm.trie import DuplicateNgram, TrieBuilder

Ngram = tuple[int, ...]
Table = dict[Ngram, tuple[float, float]]  # log10 probability, log10 back-off weight


def random_table(seed: int, *, order: int, words: int) -> Table:
    """N-grams with their contexts, but often without their suffixes, as SRILM's pruning leaves them."""
    random = np.random.default_rng(seed)
    table: Table = {(word,): (float(-random.random()), float(-random.random())) for word in range(words)}
    contexts = list(table)
    for length in range(2, order + 1):
        found = [(*context, word) for context in contexts for word in range(words) if random.random() < 0.4]
        for ngram in found:
            backoff = 0.0 if random.random() < 0.3 else float(-random.random())
            table[ngram] = (float(-random.random()), backoff if length < order else 0.0)
        contexts = found
    return table


def build(table: Table, *, order: int, words: int, seed: int = 0) -> NgramModel:
    """The model of a table, its rows given in random order."""
    random = np.random.default_rng(seed)
    by_order = [[ngram for ngram in table if len(ngram) == length] for length in range(1, order + 1)]
    builder = TrieBuilder([len(ngrams) for ngrams in by_order])
    nodes, first = {(): 0}, 1
    for length, ngrams in enumerate(by_order, start=1):
        ngrams = [ngrams[i] for i in random.permutation(len(ngrams))]
        values = np.array([table[ngram] for ngram in ngrams], np.float32).reshape(-1, 2)
        contexts = np.array([nodes[ngram[:-1]] for ngram in ngrams], np.int32)
        last = np.array([ngram[-1] for ngram in ngrams], np.int32)
        backoffs = values[:, 1] if length < order else None
        rows = builder.add(length, contexts, last, values[:, 0], backoffs)
        nodes |= {ngrams[row]: first + place for place, row in enumerate(rows)}
        first += len(ngrams)
    names = [*SPECIAL_WORDS, *(f"w{number}" for number in range(3, words))]
    return NgramModel(builder.finish(), names, builder.counts)


def reference(table: Table, history: Ngram, word: int) -> float:
    """log10 p(word | history), straight from the definition."""
    if (*history, word) in table:
        return table[(*history, word)][0]
    backoff = table[history][1] if history in table else 0.0
    return backoff + reference(table, history[1:], word)


@pytest.mark.parametrize(("order", "words", "length"), [(1, 4, 3), (2, 5, 4), (3, 4, 5), (4, 4, 6)])
def test_scores_by_state_are_those_of_the_definition(order: int, words: int, length: int) -> None:
    table = random_table(order, order=order, words=words)
    model = build(table, order=order, words=words)
    texts = list(itertools.product(range(words), repeat=length))[::3]
    states: NDArray[np.int32] = np.full(len(texts), model.null_state, np.int32)
    for place, column in enumerate(zip(*texts, strict=True)):
        log_probs, states = model.score(states, column)
        expected = [reference(table, text[max(0, place - order + 1) : place], text[place]) for text in texts]
        np.testing.assert_allclose(log_probs / math.log(10), expected, atol=1e-5)


def test_score_all_is_score_of_each_word() -> None:
    model = build(random_table(7, order=4, words=5), order=4, words=5)
    states = np.arange(len(model.trie.backoffs))
    log_probs, following = model.score_all(states)
    for word in range(len(model)):
        expected, next_states = model.score(states, word)
        np.testing.assert_allclose(log_probs[:, word], expected, atol=1e-5)
        np.testing.assert_array_equal(following[:, word], next_states)


def test_histories_that_can_no_longer_matter_share_a_state() -> None:
    table = {(word,): (-1.0, 0.0) for word in range(5)} | {(3, 4): (-0.5, 0.0), (3, 4, 3): (-0.2, 0.0)}
    model = build(table, order=3, words=5)
    after = [model.state(text) for text in (["w4"], ["w4", "w4"], ["w4", "<unk>"], [])]
    assert after == [model.null_state] * 4
    assert model.state(["w3"]) == model.state(["w4", "w3"]) != model.null_state
    assert model.state(["w3", "w4"]) not in (model.state(["w3"]), model.null_state)


def test_an_ngram_given_twice_is_found() -> None:
    builder = TrieBuilder([3, 4])
    zeros = np.zeros(3, np.float32)
    builder.add(1, np.zeros(3, np.int32), np.arange(3, dtype=np.int32), zeros, zeros)
    rows = np.array([2, 1, 1, 2], np.int32), np.array([2, 2, 0, 2], np.int32)
    with pytest.raises(DuplicateNgram) as error:
        builder.add(2, *rows, np.zeros(4, np.float32), None)
    assert (builder.history(error.value.context), error.value.word) == ([1], 2)
