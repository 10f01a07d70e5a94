from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from asr_lstm.decoding.beam import BeamConfig, BeamDecoder
from asr_lstm.decoding.greedy import greedy_decode
from asr_lstm.decoding.hypotheses import Hypothesis
from asr_lstm.errors import DataError
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.lm.ngram import NgramModel
from asr_lstm.units import CharacterUnits

UNITS = CharacterUnits([" ", "a", "b"])
LETTERS = CharacterUnits(["a", "b", "c"])  # no space: a script without
# A beam that holds every prefix of six frames and three units, and nothing else pruned.
EVERYTHING = BeamConfig(
    beam=1100, units_tried=9, unit_margin=math.inf, score_margin=math.inf, nbest=10_000, threads=1
)
TEXT = ["a b", "b a ab", "ab ab b", "ba a", "a a b", "b", "aab b a", "ab a b", "a b b a", "bb a b"]
SMALL = [1, 2, 3]


def random_logits(seed: int, *, frames: int = 6, units: int = 4, spread: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(frames, units, generator=generator)


@functools.cache
def labellings(frames: int, units: int) -> tuple[np.ndarray, np.ndarray, list[tuple[int, ...]]]:
    """All paths, the number of the labelling of each, and the labellings."""
    paths = np.array(list(itertools.product(range(units), repeat=frames)))
    found: dict[tuple[int, ...], int] = {}
    numbers = []
    for path in paths.tolist():
        labelling = tuple(unit for unit, _ in itertools.groupby(path) if unit)
        numbers.append(found.setdefault(labelling, len(found)))
    return paths, np.array(numbers), list(found)


def by_brute_force(logits: Tensor) -> dict[tuple[int, ...], float]:
    """log p of each labelling, summed over all paths that write it."""
    log_probs = logits.double().log_softmax(-1).numpy()
    paths, numbers, found = labellings(*logits.shape)
    probabilities = np.exp(log_probs[np.arange(len(logits)), paths].sum(axis=1))
    return dict(zip(found, np.log(np.bincount(numbers, probabilities)).tolist(), strict=True))


def best_texts(
    logits: Tensor, units: CharacterUnits, rest: Callable[[tuple[int, ...]], float | None]
) -> list[tuple[str, float]]:
    """Text and score of the best labelling of each text, best first; `rest` is what is added to log p_ctc."""
    best: dict[str, float] = {}
    for labelling, acoustic in by_brute_force(logits).items():
        more = rest(labelling)
        if more is not None and acoustic > -math.inf:
            text = units.decode(labelling)
            best[text] = max(best.get(text, -math.inf), acoustic + more)
    return sorted(best.items(), key=lambda item: -item[1])


def assert_same(found: list[Hypothesis], expected: list[tuple[str, float]]) -> None:
    assert [one.total for one in found] == pytest.approx([score for _, score in expected], abs=1e-6)
    assert {one.text: one.total for one in found} == pytest.approx(dict(expected), abs=1e-6)


def decode(decoder: BeamDecoder, logits: Tensor) -> list[Hypothesis]:
    (found,) = decoder.decode(logits[None], torch.tensor([len(logits)]))
    return found


@functools.cache
def word_ngram() -> NgramModel:
    return train_ngram(TEXT, order=3)


@functools.cache
def unit_ngram() -> NgramModel:
    return train_ngram([" ".join(text).replace("   ", " <space> ") for text in TEXT], order=3)


class Remembering:
    """A word model of no arrays: p depends on all words before, in a way that no n-gram could."""

    start = 0
    words = ("a", "b", "ab", "ba")

    def __init__(self) -> None:
        self._states: dict[tuple[int, int], int] = {}
        self._pasts: list[tuple[int, ...]] = [()]

    def word_id(self, word: str) -> int:
        return self.words.index(word) if word in self.words else len(self.words)

    def log_prob(self, past: tuple[int, ...], word: int) -> float:
        return -1.0 - 0.37 * ((7 * word + 3 * sum(past) + 5 * len(past)) % 11)

    def score(self, states: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        following = []
        for state, word in zip(states.tolist(), words.tolist(), strict=True):
            if (state, word) not in self._states:
                self._states[state, word] = len(self._pasts)
                self._pasts.append((*self._pasts[state], word))
            following.append(self._states[state, word])
        scores = [
            self.log_prob(self._pasts[state], word)
            for state, word in zip(states.tolist(), words.tolist(), strict=True)
        ]
        return np.array(scores, np.float32), np.array(following, np.int64)

    def finish(self, states: np.ndarray) -> np.ndarray:
        return np.array([-0.1 * len(self._pasts[state]) for state in states.tolist()], np.float32)

    def sentence(self, words: Sequence[str]) -> float:
        ids = [self.word_id(word) for word in words]
        return sum(self.log_prob(tuple(ids[:i]), ids[i]) for i in range(len(ids))) - 0.1 * len(ids)


@dataclass
class Network:
    """A small recurrent unit model with random weights."""

    units: int
    hidden: int = 5
    cell: torch.nn.GRUCell = field(init=False)
    head: torch.nn.Linear = field(init=False)

    def __post_init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.cell = torch.nn.GRUCell(self.units, self.hidden)
            self.head = torch.nn.Linear(self.hidden, self.units)
            for parameter in (*self.cell.parameters(), *self.head.parameters()):
                torch.nn.init.normal_(parameter)

    def start(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        state = torch.ones(1, self.hidden)
        return self.head(state).log_softmax(-1), (state,)

    def step(self, units: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        hot = torch.nn.functional.one_hot(units, self.units).float()
        after = self.cell(hot, state[0])
        return self.head(after).log_softmax(-1), (after,)

    def sentence(self, labelling: Sequence[int]) -> float:
        log_probs, state = self.start()
        total = 0.0
        for unit in labelling:
            total += float(log_probs[0, unit])
            log_probs, state = self.step(torch.tensor([unit]), state)
        return total + float(log_probs[0, 0])


@pytest.mark.parametrize("seed", range(40))
def test_without_models_it_is_the_sum_over_all_paths(seed: int) -> None:
    frames = 1 + seed % 6
    logits = random_logits(seed, frames=frames, units=2 + seed % 3)
    units = CharacterUnits(["a", "b", "c"][: logits.shape[1] - 1])
    found = decode(BeamDecoder(units, config=EVERYTHING), logits)
    assert_same(found, best_texts(logits, units, lambda labelling: 0.0))
    assert [one.acoustic for one in found] == [one.total for one in found]
    known = by_brute_force(logits)
    assert [one.acoustic for one in found] == pytest.approx([known[one.units] for one in found], abs=1e-6)


@pytest.mark.parametrize("kind", ["arrays", "outside"])
@pytest.mark.parametrize("seed", range(15))
def test_with_a_word_model(seed: int, kind: str) -> None:
    logits = random_logits(seed, frames=1 + seed % 6)
    model = word_ngram() if kind == "arrays" else Remembering()
    sentence = model.log_prob if isinstance(model, NgramModel) else model.sentence
    config = BeamConfig(**(vars(EVERYTHING) | {"alpha": 0.7, "beta": 0.9, "unknown_score": -1.3}))

    def rest(labelling: tuple[int, ...]) -> float:
        words = UNITS.decode(labelling).split()
        unknown = sum(word not in model.words for word in words)
        return 0.7 * sentence(words) + 0.9 * len(words) - 1.3 * unknown

    found = decode(BeamDecoder(UNITS, config=config, word_model=model), logits)
    assert_same(found, best_texts(logits, UNITS, rest))
    for one in found:
        assert one.language == pytest.approx(sentence(one.text.split()), abs=1e-5)
        assert one.total == pytest.approx(one.acoustic + 0.7 * one.language + one.bonus)


@pytest.mark.parametrize("model", ["none", "arrays", "outside"])
@pytest.mark.parametrize("seed", range(10))
def test_with_a_lexicon(seed: int, model: str) -> None:
    logits = random_logits(seed, frames=1 + seed % 6)
    lexicon = ["a", "ab", "bab"]  # the last is unknown to both models
    models = {"none": None, "arrays": word_ngram(), "outside": Remembering()}
    word_model = models[model]
    config = BeamConfig(**(vars(EVERYTHING) | {"alpha": 0.7, "beta": 0.9, "unknown_score": -1.3}))

    def rest(labelling: tuple[int, ...]) -> float | None:
        words = UNITS.decode(labelling).split()
        if not set(words) <= set(lexicon):
            return None
        if word_model is None:
            return 0.9 * len(words)
        sentence = word_model.log_prob if isinstance(word_model, NgramModel) else word_model.sentence
        return 0.7 * sentence(words) + 0.9 * len(words) - 1.3 * words.count("bab")

    decoder = BeamDecoder(UNITS, config=config, word_model=word_model, lexicon=lexicon)
    assert_same(decode(decoder, logits), best_texts(logits, UNITS, rest))


@pytest.mark.parametrize("kind", ["arrays", "network"])
@pytest.mark.parametrize("seed", range(8))
def test_with_a_unit_model(seed: int, kind: str) -> None:
    logits = random_logits(seed, frames=1 + seed % 5)
    model = unit_ngram() if kind == "arrays" else Network(4)
    config = BeamConfig(**(vars(EVERYTHING) | {"unit_alpha": 0.6}))
    symbols = ["", "<space>", "a", "b"]

    def sentence(labelling: tuple[int, ...]) -> float:
        if isinstance(model, NgramModel):
            return model.log_prob([symbols[unit] for unit in labelling])
        return model.sentence(labelling)

    found = decode(BeamDecoder(UNITS, config=config, unit_model=model), logits)
    assert_same(found, best_texts(logits, UNITS, lambda labelling: 0.6 * sentence(labelling)))
    for one in found[:20]:
        assert one.unit_language == pytest.approx(sentence(one.units), abs=1e-4)
