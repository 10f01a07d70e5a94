from __future__ import annotations

import numpy as np
import pytest

from asr_lstm.decoding.trie import ROOT, VALUE, build_trie, empty_trie, find_child, greatest_below

WORDS = ["a", "ab", "abc", "b", "bca", "cab", "cb"]


def spell(word: str) -> list[int]:
    return [ord(letter) - ord("a") for letter in word]


def walk(trie: np.ndarray, word: str) -> int:
    node = ROOT
    for letter in spell(word):
        node = find_child(trie, node, letter)
        if node < 0:
            return -1
    return node


@pytest.mark.parametrize("seed", range(20))
def test_it_holds_the_words_and_no_others(seed: int) -> None:
    random = np.random.default_rng(seed)
    known = {"".join(random.choice(list("abcz"), size=random.integers(1, 6))) for _ in range(seed + 1)}
    words = random.permutation(sorted(known)).tolist()
    trie = build_trie([spell(word) for word in words], range(len(words)))
    beginnings = {word[:end] for word in words for end in range(len(word) + 1)}
    assert len(trie) - 1 == len(beginnings)
    for word in beginnings:
        node = walk(trie, word)
        assert node >= 0
        assert trie[node, VALUE] == (words.index(word) if word in known else -1)
        for letter in "abcdz":
            assert (find_child(trie, node, *spell(letter)) >= 0) == (word + letter in beginnings)


def test_the_greatest_value_below() -> None:
    trie = build_trie([spell(word) for word in WORDS], range(len(WORDS)))
    values = np.full(len(trie) - 1, -np.inf, np.float32)
    for number, word in enumerate(WORDS):
        values[walk(trie, word)] = -float(number)
    greatest = greatest_below(trie, values)
    expected = {"": 0, "a": 0, "ab": -1, "abc": -2, "b": -3, "bc": -4, "c": -5, "ca": -5, "cab": -5, "cb": -6}
    assert {word: greatest[walk(trie, word)] for word in expected} == expected


def test_the_last_of_two_values_counts() -> None:
    trie = build_trie([[1, 2], [0], [1, 2]], [5, 6, 7])
    assert trie[walk(trie, "bc"), VALUE] == 7


def test_a_root_alone() -> None:
    trie = empty_trie()
    assert find_child(trie, ROOT, 0) == -1
    assert trie[ROOT, VALUE] == -1
    assert greatest_below(trie, np.zeros(1, np.float32)).tolist() == [0]


@pytest.mark.parametrize(("spellings", "values"), [([], []), ([[]], [1]), ([[1]], [1, 2])])
def test_what_cannot_be_a_trie(spellings: list[list[int]], values: list[int]) -> None:
    with pytest.raises(ValueError, match="spellings: "):
        build_trie(spellings, values)
