from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from asr_lstm.lm import counting
from asr_lstm.lm.counting import OrderCounts, count_ngrams


def spelled(words: list[str], tables: list[OrderCounts]) -> list[list[tuple[str, ...]]]:
    """The n-grams of each order, told by their parents."""
    orders: list[list[tuple[str, ...]]] = [[()]]
    for table in tables:
        pairs = zip(table.parents, table.words, strict=True)
        orders.append([(*orders[-1][parent], words[word]) for parent, word in pairs])
    return orders[1:]


def random_lines(sentences: int) -> list[str]:
    random = np.random.default_rng(0)
    return [" ".join(random.choice(list("abcdefg"), size=random.integers(1, 9))) for _ in range(sentences)]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("chunk", [7, 1 << 18])
def test_counts_are_those_of_a_dictionary(order: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_CHUNK", chunk)
    monkeypatch.setattr(counting, "_FIRST_CAPACITY", 16)  # so that everything grows several times
    lines = random_lines(60)
    words, tables = count_ngrams(lines, order)
    orders = spelled(words, tables)
    for length, (ngrams, table) in enumerate(zip(orders, tables, strict=True), start=1):
        expected: Counter[tuple[str, ...]] = Counter()
        for line in lines:
            sentence = ["<s>", *line.split(), "</s>"]
            expected.update(zip(*(sentence[i:] for i in range(length)), strict=False))
        if length == 1:
            expected |= {("<unk>",): 0}
            expected["<s>",] = expected["<unk>",] = 0
        assert dict(zip(ngrams, table.counts.tolist(), strict=True)) == dict(expected)


def test_suffixes_are_the_ngrams_without_their_first_word() -> None:
    words, tables = count_ngrams(random_lines(40), 4)
    orders = spelled(words, tables)
    for shorter, ngrams, table in zip(orders, orders[1:], tables[1:], strict=False):
        assert [shorter[suffix] for suffix in table.suffixes] == [ngram[1:] for ngram in ngrams]


def test_words_are_numbered_as_they_appear() -> None:
    words, tables = count_ngrams(["the cat", "a cat sat"], 2)
    assert words == ["<unk>", "<s>", "</s>", "the", "cat", "a", "sat"]
    assert tables[0].words.tolist() == list(range(len(words)))
    assert tables[0].counts.tolist() == [0, 0, 2, 1, 2, 1, 1]
