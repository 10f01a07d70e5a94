from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.lm.interpolate import interpolate, tune_weight
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.lm.ngram import BEGIN, END, NgramModel
from asr_lstm.lm.perplexity import perplexity


def sentences(seed: int, names: list[str], count: int) -> list[str]:
    """Texts in which each word prefers the one after it in `names`."""
    random = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        word = int(random.integers(len(names)))
        text = []
        for _ in range(int(random.integers(2, 10))):
            text.append(names[word])
            word = (word + 1) % len(names) if random.random() < 0.7 else int(random.integers(len(names)))
        texts.append(" ".join(text))
    return texts


FORWARD = list("abcdefgh")
BACKWARD = list("hgfedcbaxyz")


@pytest.fixture(scope="module")
def first() -> NgramModel:
    return train_ngram(sentences(1, FORWARD, 100), order=3)


@pytest.fixture(scope="module")
def second() -> NgramModel:
    return train_ngram(sentences(2, BACKWARD, 150), order=4, prune=(0, 0, 1))


@pytest.fixture(scope="module")
def mixture(first: NgramModel, second: NgramModel) -> NgramModel:
    return interpolate(first, second, weight=0.3)


def probs_after(model: NgramModel, history: tuple[str, ...]) -> dict[str, float]:
    log_probs, _ = model.score_all([model.state(history)])
    return dict(zip(model.words, np.exp(log_probs[0].astype(float)), strict=True))


def ngrams(model: NgramModel) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = {()}
    for length in range(model.order):
        longer = [(*ngram, word) for ngram in found if len(ngram) == length for word in model.words]
        found |= {ngram for ngram in longer if model.ngram(ngram) is not None}
    return found - {()}


def test_every_ngram_of_either_model_gets_the_mixed_probability(
    first: NgramModel, second: NgramModel, mixture: NgramModel
) -> None:
    union = ngrams(first) | ngrams(second)
    assert sum(mixture.counts) == len(union)
    assert set(mixture.words) == set(first.words) | set(second.words)
    by_context: dict[tuple[str, ...], tuple[dict[str, float], dict[str, float]]] = {}
    for *context, word in union:
        history = tuple(context)
        if history not in by_context:
            by_context[history] = probs_after(first, history), probs_after(second, history)
        one, other = by_context[history]
        found = mixture.ngram((*history, word))
        assert found is not None
        assert 10 ** found[0] == pytest.approx(0.3 * one.get(word, 0) + 0.7 * other.get(word, 0), rel=1e-4)


def test_probabilities_sum_to_one_after_every_context(mixture: NgramModel) -> None:
    probs: NDArray[np.float64] = np.exp(
        mixture.score_all(np.arange(len(mixture.trie.backoffs)))[0].astype(float)
    )
    probs[:, BEGIN] = 0
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_all_the_weight_on_one_model_is_that_model(
    first: NgramModel, second: NgramModel, weight: float
) -> None:
    alone = first if weight else second
    both = interpolate(first, second, weight=weight)
    text = [text for text in sentences(3, FORWARD, 20) if not alone.unknown(text.split())]
    assert text
    for line in text:
        assert both.log_prob(line.split()) == pytest.approx(alone.log_prob(line.split()), abs=1e-3)


def test_the_weight_found_is_the_likeliest(first: NgramModel, second: NgramModel) -> None:
    dev = sentences(4, FORWARD, 40) + sentences(5, BACKWARD, 40)
    weight = tune_weight(first, second, dev)

    def log_likelihood(share: float) -> float:
        total = 0.0
        for line in dev:
            pair = [np.exp(m.score_texts([*m.ids(line.split()), END]).astype(float)) for m in (first, second)]
            known = [[word in m for word in line.split()] + [True] for m in (first, second)]
            total += np.log(share * pair[0] * known[0] + (1 - share) * pair[1] * known[1]).sum()
        return total

    grid = np.linspace(0.01, 0.99, 99)
    best = grid[np.argmax([log_likelihood(share) for share in grid])]
    assert weight == pytest.approx(best, abs=0.011)
    assert 0.1 < weight < 0.9


def test_the_mixture_predicts_mixed_text_better_than_either(first: NgramModel, second: NgramModel) -> None:
    dev, test = (sentences(n, FORWARD, 60) + sentences(n + 1, BACKWARD[:8], 60) for n in (6, 8))
    mixture = interpolate(first, second, weight=tune_weight(first, second, dev))
    values = [perplexity(model, test).including_unknown for model in (mixture, first, second)]
    assert values[0] < 0.95 * min(values[1:])


def test_what_makes_no_sense_is_refused(first: NgramModel, second: NgramModel) -> None:
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match=r"weight: .* not from 0 to 1"):
            interpolate(first, second, weight=weight)
    for text in ([], [""]):
        with pytest.raises(DataError, match="holds no words"):
            tune_weight(first, second, text)
