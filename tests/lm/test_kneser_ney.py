from __future__ import annotations

import itertools
import logging
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.lm.kneser_ney import FALLBACK_DISCOUNTS, train_ngram
from asr_lstm.lm.ngram import BEGIN, NgramModel

CASES: dict[str, dict[str, Any]] = {
    "order 1": {"order": 1},
    "order 2": {"order": 2},
    "order 3": {"order": 3},
    "order 5": {"order": 5},
    "order 4, prune 0 0 1": {"order": 4, "prune": [0, 0, 1]},
    "order 3, prune 1 1 2": {"order": 3, "prune": [1, 1, 2]},
    "order 2, words.txt": {"order": 2, "vocabulary": "words.txt"},
}


@pytest.mark.parametrize("case", CASES)
def test_models_are_those_of_lmplz(case: str, ngram_assets: Path, kenlm_says: dict[str, Any]) -> None:
    options = dict(CASES[case])
    if "vocabulary" in options:
        options["vocabulary"] = (ngram_assets / options["vocabulary"]).read_text(encoding="utf-8").split()
    model = train_ngram((ngram_assets / "text.txt").read_text(encoding="utf-8").splitlines(), **options)
    expected = kenlm_says["training"][case]
    assert list(model.counts) == expected["counts"]
    assert expected["ngrams"]
    for words, prob, backoff in expected["ngrams"]:
        assert model.ngram(words.split()) == pytest.approx((prob, backoff), abs=2e-6), words


def textbook(
    texts: list[str], order: int
) -> tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], float]]:
    """Probabilities and back-off weights by Chen and Goodman's equations, from sets and dictionaries."""
    occurrences: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        sentence = ["<s>", *text.split(), "</s>"]
        for length in range(1, order + 1):
            occurrences.update(zip(*(sentence[i:] for i in range(length)), strict=False))
    del occurrences[("<s>",)]
    predecessors: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for ngram in occurrences:
        predecessors[ngram[1:]].add(ngram[0])
    adjusted = {
        ngram: count if len(ngram) == order or ngram[0] == "<s>" else len(predecessors[ngram])
        for ngram, count in occurrences.items()
    }
    discounts = {}
    for length in range(1, order + 1):
        of = Counter(count for ngram, count in adjusted.items() if len(ngram) == length)
        discounts[length] = FALLBACK_DISCOUNTS
        if of[1] and of[2] and of[3]:
            y = of[1] / (of[1] + 2 * of[2])
            found = tuple(j - (j + 1) * y * of[j + 1] / of[j] for j in (1, 2, 3))
            if all(0 <= discount <= j for discount, j in zip(found, (1, 2, 3), strict=True)):
                discounts[length] = found  # type: ignore[assignment]
    followers: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for ngram, count in adjusted.items():
        followers[ngram[:-1]].append(count)
    backoffs = {
        context: sum(discounts[len(context) + 1][min(count, 3) - 1] for count in counts) / sum(counts)
        for context, counts in followers.items()
    }
    words = {ngram[0] for ngram in adjusted if len(ngram) == 1} | {"<unk>"}
    probs = {("<unk>",): backoffs[()] / len(words)}
    for ngram, count in sorted(adjusted.items(), key=lambda item: len(item[0])):
        own = (count - discounts[len(ngram)][min(count, 3) - 1]) / sum(followers[ngram[:-1]])
        shorter = probs[ngram[1:]] if len(ngram) > 1 else 1 / len(words)
        probs[ngram] = own + backoffs[ngram[:-1]] * shorter
    return probs, backoffs


def random_texts(seed: int, *, words: int, sentences: int) -> list[str]:
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, words + 1)
    names = [f"w{number}" for number in range(words)]
    return [
        " ".join(random.choice(names, size=random.integers(1, 9), p=shares / shares.sum()))
        for _ in range(sentences)
    ]


@pytest.mark.parametrize(
    ("order", "words", "sentences"), [(1, 6, 9), (2, 4, 5), (3, 30, 60), (4, 12, 40), (6, 5, 20), (3, 1, 1)]
)
def test_models_are_those_of_the_textbook(order: int, words: int, sentences: int) -> None:
    texts = random_texts(order, words=words, sentences=sentences)
    model = train_ngram(texts, order=order)
    probs, backoffs = textbook(texts, order)
    assert sum(model.counts) == len(probs) + 1  # <s>
    for ngram, prob in probs.items():
        found = model.ngram(ngram)
        assert found is not None, ngram
        assert 10 ** found[0] == pytest.approx(prob, rel=1e-5)
        if ngram in backoffs and len(ngram) < order:
            assert 10 ** found[1] == pytest.approx(backoffs[ngram], rel=1e-5)


@pytest.mark.parametrize("prune", [(), (0, 0, 1), (1,), (0, 2, 3)])
@pytest.mark.parametrize("vocabulary", [None, 8, ["w0", "w3", "w5"]])
def test_probabilities_sum_to_one_after_every_context(prune: tuple[int, ...], vocabulary: Any) -> None:
    model = train_ngram(random_texts(0, words=20, sentences=80), order=4, prune=prune, vocabulary=vocabulary)
    probs = np.exp(model.score_all(np.arange(len(model.trie.backoffs)))[0].astype(np.float64))
    probs[:, BEGIN] = 0  # never predicted
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)


def test_pruning_leaves_out_what_is_rare() -> None:
    texts = random_texts(1, words=20, sentences=80)
    occurrences = Counter(
        ngram for text in texts for ngram in itertools.pairwise(["<s>", *text.split(), "</s>"])
    )
    model = train_ngram(texts, order=2, prune=(0, 2))
    assert model.counts[1] == sum(count > 2 for count in occurrences.values()) > 0
    for ngram, count in occurrences.items():
        assert (model.ngram(ngram) is not None) == (count > 2)


def test_the_vocabulary_keeps_the_most_frequent_words() -> None:
    model = train_ngram(["a a a b b c", "b c d"], order=2, vocabulary=2)
    assert sorted(model.words[3:]) == ["a", "b"]
    assert model.ngram(["b", "c"]) is None
    assert sorted(train_ngram(["a b c"], order=2, vocabulary={"b", "unseen"}).words[3:]) == ["b"]


def test_the_sentence_begin_is_certain_and_never_predicted(ngram_assets: Path) -> None:
    model = train_ngram(["a b", "b"], order=3)
    assert model.ngram(["<s>"]) is not None
    assert model.ngram(["<s>"])[0] == 0  # type: ignore[index]
    assert model.ngram(["a", "<s>"]) is None


def test_what_is_artificial_gets_the_fallback_discounts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        model = train_ngram(["a b c"], order=2)
    assert "1-grams are too few" in caplog.text
    assert "2-grams are too few" in caplog.text
    found = model.ngram(["a", "b"])
    assert found is not None
    unigram = 10 ** model.ngram(["b"])[0]  # type: ignore[index]
    assert 10 ** found[0] == pytest.approx(0.5 + 0.5 * unigram)


def test_lines_without_a_word_are_no_sentences() -> None:
    with_gaps = train_ngram(["", "a b\n", " \t\n", "b\n"], order=2)
    without = train_ngram(["a b", "b"], order=2)
    assert same(with_gaps, without)


def same(one: NgramModel, other: NgramModel) -> bool:
    arrays = zip(one.trie, other.trie, strict=True)
    return one.words == other.words and all(np.array_equal(mine, its) for mine, its in arrays)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"order": 0}, "order: 0 is too low"),
        ({"order": -1}, "order: -1 is too low"),
        ({"order": 2, "prune": (0, 0, 1)}, "prune: 3 numbers for orders 1 to 2"),
        ({"order": 3, "prune": (0, 2, 1)}, "prune: .* never fall"),
        ({"order": 3, "prune": (-1,)}, "prune: .* begin at 0"),
        ({"order": 2, "vocabulary": 0}, "vocabulary: "),
        ({"order": 2, "vocabulary": []}, "vocabulary: "),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        train_ngram(["a b"], **options)


@pytest.mark.parametrize("texts", [[], ["", " \n"]])
def test_empty_text_is_refused(texts: list[str]) -> None:
    with pytest.raises(DataError, match="holds no words"):
        train_ngram(texts, order=2)


@pytest.mark.parametrize("word", ["<s>", "</s>", "<unk>"])
def test_special_words_in_the_text_are_refused(word: str) -> None:
    with pytest.raises(DataError, match=f"special word {word}, in `a {word} b`"):
        train_ngram(["b a", f"a {word} b\n"], order=2)


def test_the_text_is_read_once_as_a_stream(ngram_assets: Path) -> None:
    lines = (ngram_assets / "text.txt").read_text(encoding="utf-8").splitlines()
    assert same(train_ngram(iter(lines), order=3), train_ngram(lines, order=3))
    assert math.isfinite(train_ngram(lines, order=3).log_prob(["alice"]))
