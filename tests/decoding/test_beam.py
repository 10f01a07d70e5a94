from __future__ import annotations

import functools
import itertools
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from asr_lstm.decoding.beam import BeamConfig, BeamDecoder
from asr_lstm.decoding.greedy import greedy_decode
from asr_lstm.decoding.hypothesis import Hypothesis
from asr_lstm.decoding.ngram_words import NgramWords
from asr_lstm.decoding.prefix_search import find_letter
from asr_lstm.decoding.spelling import spell_units
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
WEIGHTS = {"alpha": 0.7, "beta": 0.9, "unknown_score": -1.3}
TEXT = ["a b", "b a ab", "ab ab b", "ba a", "a a b", "b", "aab b a", "ab a b", "a b b a", "bb a b"]


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
    with np.errstate(divide="ignore"):
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

    @torch.no_grad()
    def start(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        state = torch.ones(1, self.hidden)
        return self.head(state).log_softmax(-1), (state,)

    @torch.no_grad()
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
    config = replace(EVERYTHING, **WEIGHTS)

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
    config = replace(EVERYTHING, **WEIGHTS)

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
    config = replace(EVERYTHING, unit_alpha=0.6)
    symbols = ["", "<space>", "a", "b"]

    def sentence(labelling: tuple[int, ...]) -> float:
        if isinstance(model, NgramModel):
            return model.log_prob([symbols[unit] for unit in labelling])
        return model.sentence(labelling)

    found = decode(BeamDecoder(UNITS, config=config, unit_model=model), logits)
    assert_same(found, best_texts(logits, UNITS, lambda labelling: 0.6 * sentence(labelling)))
    for one in found[:20]:
        assert one.unit_language == pytest.approx(sentence(one.units), abs=1e-4)


class Pieces:
    """Word pieces as sentencepiece has them: `\u2581` begins a word, and stands alone for a space."""

    kind = "sentencepiece"
    normaliser = UNITS.normaliser
    symbols = ("\u2581a", "b", "\u2581", "ab")

    def __len__(self) -> int:
        return 5

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join("".join(self.symbols[unit - 1] for unit in ids).replace("\u2581", " ").split())

    def encode(self, text: str, where: str = "") -> list[int]:
        raise NotImplementedError

    def unknown(self, text: str) -> list[str]:
        raise NotImplementedError

    def known(self, text: str) -> str:
        raise NotImplementedError

    def save(self, path: object) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_word_pieces(seed: int, closed: bool) -> None:
    logits = random_logits(seed, frames=2 + seed % 4, units=5)
    units, model = Pieces(), word_ngram()
    lexicon = ["ab", "a", "bab"] if closed else None

    def rest(labelling: tuple[int, ...]) -> float | None:
        words = units.decode(labelling).split()
        if lexicon is not None and not set(words) <= set(lexicon):
            return None
        unknown = sum(word not in model for word in words)
        return 0.7 * model.log_prob(words) + 0.9 * len(words) - 1.3 * unknown

    config = replace(EVERYTHING, **WEIGHTS, beam=1500)
    decoder = BeamDecoder(units, config=config, word_model=model, lexicon=lexicon)
    found = decode(decoder, logits)
    assert_same(found, best_texts(logits, units, rest))
    assert all([word.word for word in one.words] == one.text.split() for one in found)


HOTWORDS = {"ab": 2.0, "b a": 1.5, "a b": 1.0, "a": -0.7, "bb": 0.4}


@pytest.mark.parametrize("seed", range(15))
def test_hotwords_count_where_they_stand_as_whole_words(seed: int) -> None:
    logits = random_logits(seed, frames=1 + seed % 6)

    def rest(labelling: tuple[int, ...]) -> float:
        text = f" {UNITS.decode(labelling)} "
        return sum(
            weight * sum(text.startswith(f" {phrase} ", at) for at in range(len(text)))
            for phrase, weight in HOTWORDS.items()
        )

    decoder = BeamDecoder(UNITS, config=EVERYTHING, hotwords=HOTWORDS)
    assert_same(decode(decoder, logits), best_texts(logits, UNITS, rest))


@pytest.mark.parametrize("seed", range(6))
def test_hotwords_of_a_script_without_spaces_count_anywhere(seed: int) -> None:
    logits = random_logits(seed)
    hotwords = {"ab": 2.0, "bc": 1.5, "abca": 1.0, "c": 0.3, "aa": -0.5}

    def rest(labelling: tuple[int, ...]) -> float:
        text = LETTERS.decode(labelling)
        return sum(
            weight * sum(text.startswith(phrase, at) for at in range(len(text)))
            for phrase, weight in hotwords.items()
        )

    decoder = BeamDecoder(LETTERS, config=EVERYTHING, hotwords=hotwords)
    assert_same(decode(decoder, logits), best_texts(logits, LETTERS, rest))


def test_a_hotword_turns_the_balance() -> None:
    logits = torch.full((2, 4), -9.0)
    logits[:, 2], logits[:, 3] = 1.0, 0.5  # "a" is a little likelier than "b"
    assert decode(BeamDecoder(UNITS), logits)[0].text == "a"
    (best,) = decode(BeamDecoder(UNITS, hotwords={"b": 2.0}), logits)
    assert (best.text, best.bonus) == ("b", pytest.approx(2.0))


def test_all_together() -> None:
    logits = random_logits(3, frames=5)
    words, units, lexicon = word_ngram(), Network(4), ["a", "b", "ab"]
    config = replace(EVERYTHING, **WEIGHTS, unit_alpha=0.4)

    def rest(labelling: tuple[int, ...]) -> float | None:
        text = UNITS.decode(labelling)
        said = text.split()
        if not set(said) <= set(lexicon):
            return None
        hot = 0.8 * said.count("ab")
        return 0.7 * words.log_prob(said) + 0.4 * units.sentence(labelling) + 0.9 * len(said) + hot

    decoder = BeamDecoder(
        UNITS, config=config, word_model=words, unit_model=units, lexicon=lexicon, hotwords={"ab": 0.8}
    )
    assert_same(decode(decoder, logits), best_texts(logits, UNITS, rest))


@pytest.mark.parametrize("seed", range(20))
def test_a_beam_of_one_is_greedy_where_each_frame_is_sure(seed: int) -> None:
    # Each frame's best unit has a probability above 1 / sqrt(2): then neither sums nor repeats can overturn it.
    generator = torch.Generator().manual_seed(seed)
    frames, units = 40, 4
    best = torch.randint(0, units, (frames,), generator=generator)
    rest = torch.rand(frames, units, generator=generator)
    rest[torch.arange(frames), best] = 0
    sure = 1 / math.sqrt(2) + 1e-4 + 0.29 * torch.rand(frames, 1, generator=generator) ** 4
    probabilities = (1 - sure) * rest / rest.sum(dim=1, keepdim=True)
    probabilities[torch.arange(frames), best] = sure[:, 0]
    logits = probabilities.log()
    (one,) = decode(BeamDecoder(UNITS, config=BeamConfig(beam=1)), logits)
    assert [list(one.units)] == greedy_decode(logits[None], torch.tensor([frames]))


def test_a_beam_of_one_may_find_likelier_units_than_greedy() -> None:
    # After a sure "a", "b" is the likeliest unit, but to add nothing has two ways, a blank and another "a".
    logits = torch.tensor([[0.0, 1.0, 0.0], [0.35, 0.25, 0.4]]).log()
    units = CharacterUnits(["a", "b"])
    assert greedy_decode(logits[None], torch.tensor([2])) == [[1, 2]]
    (one,) = decode(BeamDecoder(units, config=BeamConfig(beam=1)), logits)
    assert (one.text, math.exp(one.acoustic)) == ("a", pytest.approx(0.6))


@pytest.mark.parametrize("beam", [1, 2, 3, 5, 9])
def test_a_narrow_beam_never_claims_more_than_there_is(beam: int) -> None:
    for seed in range(8):
        logits = random_logits(seed, spread=1.0)
        known = by_brute_force(logits)
        found = decode(BeamDecoder(UNITS, config=BeamConfig(beam=beam, nbest=beam)), logits)
        assert len(found) <= beam
        for one in found:
            assert one.acoustic <= known[one.units] + 1e-9
        assert [one.total for one in found] == sorted((one.total for one in found), reverse=True)
        assert len({one.text for one in found}) == len(found)


@pytest.mark.parametrize("changes", [{"units_tried": 1}, {"unit_margin": 2.0}, {"score_margin": 3.0}])
def test_what_is_pruned_is_what_is_unlikely(changes: dict[str, float]) -> None:
    logits = random_logits(1, spread=4.0)
    exact = decode(BeamDecoder(UNITS, config=EVERYTHING), logits)
    found = decode(BeamDecoder(UNITS, config=replace(EVERYTHING, **changes)), logits)
    assert found[0].text == exact[0].text
    assert exact[0].acoustic - 0.5 < found[0].acoustic <= exact[0].acoustic
    assert len(found) < len(exact) / 3


def batch_of_many() -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([30, 1, 17, 30, 8, 23, 12, 29])
    generator = torch.Generator().manual_seed(5)
    return 2 * torch.randn(len(lengths), 30, 4, generator=generator), lengths


@pytest.mark.parametrize("with_model", [False, True])
def test_a_text_depends_neither_on_batch_nor_padding_nor_threads(with_model: bool) -> None:
    logits, lengths = batch_of_many()
    decoder = BeamDecoder(
        UNITS, config=BeamConfig(beam=8, nbest=8, threads=1), word_model=word_ngram() if with_model else None
    )
    together = decoder.decode(logits, lengths)
    for index, length in enumerate(lengths.tolist()):
        logits[index, length:] = math.nan
    assert decoder.decode(logits, lengths) == together
    assert decoder.with_config(threads=4).decode(logits, lengths) == together
    assert decoder.decode(logits.flip(0), lengths.flip(0)) == together[::-1]
    for index, length in enumerate(lengths.tolist()):
        assert decoder.decode_each([logits[index, :length]]) == [together[index]]


def test_outside_models_see_many_prefixes_at_once_and_say_the_same() -> None:
    logits, lengths = batch_of_many()
    config = BeamConfig(beam=6, nbest=6)
    decoder = BeamDecoder(UNITS, config=config, word_model=Remembering(), unit_model=Network(4))
    together = decoder.decode(logits, lengths)
    for index, length in enumerate(lengths.tolist()):
        (alone,) = decoder.decode_each([logits[index, :length]])
        assert [one.text for one in alone] == [one.text for one in together[index]]
        # A wider matrix product may round in another way.
        assert [one.total for one in alone] == pytest.approx([one.total for one in together[index]], abs=1e-4)


def test_of_equal_scores_the_same_wins_each_time() -> None:
    logits = torch.zeros(12, 4)
    decoder = BeamDecoder(UNITS, config=BeamConfig(beam=5, nbest=5))
    assert decode(decoder, logits) == decode(decoder, logits.clone())


def test_any_precision_and_layout() -> None:
    logits = random_logits(2)
    expected = decode(BeamDecoder(UNITS), logits)
    turned = logits.T.contiguous().T
    assert not turned.is_contiguous()
    assert decode(BeamDecoder(UNITS), turned) == decode(BeamDecoder(UNITS), logits.double()) == expected
    assert decode(BeamDecoder(UNITS), logits.bfloat16())[0].text == expected[0].text


def test_a_lexicon_and_too_narrow_a_beam_leave_out_the_unfinished_word() -> None:
    # "ab" is the only word, and of a second one only its "a" is heard.
    path = [2, 3, 1, 2]
    logits = torch.full((4, 4), -20.0)
    logits[range(4), path] = 0.0
    decoder = BeamDecoder(UNITS, config=BeamConfig(beam=1), lexicon=["ab"])
    (one,) = decode(decoder, logits)
    assert (one.text, one.units) == ("ab", (2, 3, 1))
    assert one.acoustic == pytest.approx(by_brute_force(logits)[2, 3, 1], abs=1e-4)
    assert one.total == one.acoustic
    (wide,) = decode(decoder.with_config(beam=50), logits)
    assert wide.text == "ab"


def test_words_have_the_frames_of_the_likeliest_path() -> None:
    path = [0, 2, 2, 0, 3, 1, 1, 0, 2]
    logits = torch.nn.functional.one_hot(torch.tensor(path), 4) * 9.0
    (one,) = decode(BeamDecoder(UNITS), logits)
    assert one.text == "ab a"
    assert [(word.word, word.start, word.end) for word in one.words] == [("ab", 1, 5), ("a", 8, 9)]
    posterior = float(logits.double().softmax(-1)[0].max())
    assert [word.confidence for word in one.words] == pytest.approx([posterior] * 2, abs=1e-6)


def test_the_configuration_can_be_changed_without_new_tables() -> None:
    logits = random_logits(4)
    decoder = BeamDecoder(UNITS, word_model=word_ngram())
    changed = decoder.with_config(alpha=0.0, nbest=3)
    assert decoder.config.nbest == 1
    assert len(decode(changed, logits)) == 3
    assert (
        decode(changed, logits)[0].text
        == decode(BeamDecoder(UNITS, word_model=word_ngram()).with_config(alpha=0.0), logits)[0].text
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"beam": 0}, "beam must be at least 1, not 0"),
        ({"units_tried": 0}, "units_tried must be at least 1"),
        ({"nbest": 0}, "nbest must be at least 1"),
        ({"threads": -1}, "threads must be at least 0"),
        ({"unit_margin": -1.0}, "unit_margin must not be below 0"),
        ({"score_margin": math.nan}, "score_margin must not be below 0"),
        ({"alpha": math.inf}, "alpha must be a finite number"),
        ({"unknown_score": math.nan}, "unknown_score must be a finite number"),
    ],
)
def test_numbers_that_make_no_sense(changes: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        BeamConfig(**changes)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_logits_that_are_no_distribution(poison: float) -> None:
    logits = torch.zeros(2, 5, 4)
    logits[1, 3, 2] = poison
    with pytest.raises(DataError, match=r"^utterance 1, frame 3: the logits are NaN or infinite; "):
        BeamDecoder(UNITS).decode(logits, torch.tensor([5, 5]))
    assert BeamDecoder(UNITS).decode(logits, torch.tensor([5, 3]))


def test_units_may_be_masked() -> None:
    logits = random_logits(0)
    logits[:, 2] = -math.inf
    found = decode(BeamDecoder(UNITS, config=EVERYTHING), logits)
    assert_same(found, best_texts(logits, UNITS, lambda labelling: 0.0))
    logits[:, :3] = -math.inf  # "b" alone is left, which the lexicon forbids
    (one,) = decode(BeamDecoder(UNITS, lexicon=["a"]), logits)
    assert (one.text, one.total) == ("", -math.inf)


def test_no_frames() -> None:
    with pytest.raises(DataError, match="utterance 1 has no frames"):
        BeamDecoder(UNITS).decode(torch.zeros(2, 5, 4), torch.tensor([5, 0]))
    assert BeamDecoder(UNITS).decode(torch.zeros(0, 5, 4), torch.zeros(0, dtype=torch.int64)) == []
    assert BeamDecoder(UNITS, unit_model=Network(4)).decode_each([]) == []


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"lengths must lie in 0 \.\. 5"):
        BeamDecoder(UNITS).decode(torch.zeros(1, 5, 4), torch.tensor([6]))
    with pytest.raises(ValueError, match=r"logits must be \(frames, 4\) for these units, not \(5, 3\)"):
        BeamDecoder(UNITS).decode(torch.zeros(1, 5, 3), torch.tensor([5]))


def test_models_that_do_not_match_the_units() -> None:
    upper = train_ngram(["A B", "B A"], order=2)
    with pytest.raises(DataError, match=r"spell none of the language model's 5 words .*normalised"):
        BeamDecoder(UNITS, word_model=upper)
    with pytest.raises(DataError, match="the unit model has 7 units and the recogniser 4"):
        BeamDecoder(UNITS, unit_model=Network(7))
    with pytest.raises(DataError, match=r"does not know 3 of the recogniser's 3 units \(' <|'<space>'"):
        BeamDecoder(UNITS, unit_model=upper)
    for given in ({"word_model": word_ngram()}, {"lexicon": ["a"]}):
        with pytest.raises(DataError, match="the units have no space"):
            BeamDecoder(LETTERS, **given)


def test_importing_it_costs_no_compiler() -> None:
    command = "import sys, asr_lstm.decoding.beam; print('numba' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize("beam", [2, 3, 5])
def test_what_is_left_out_early_would_have_been_pruned(beam: int) -> None:
    """Candidates below all that the beam holds are left out, but for what words and hotwords may add to them yet."""
    config = BeamConfig(beam=beam, nbest=beam, threads=1, alpha=0.7, beta=2.0, unknown_score=1.5)
    decoder = BeamDecoder(UNITS, config=config, word_model=word_ngram(), hotwords={"ab": 3.0, "b": 2.0})
    weights = BeamConfig.weights

    def careful(self: BeamConfig, **options: float) -> Any:
        return weights(self, **options)._replace(most_added=math.inf)

    logits = [random_logits(seed, frames=12, spread=1.0) for seed in range(40)]
    found = decoder.decode_each(logits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BeamConfig, "weights", careful)
        whole = BeamDecoder(
            UNITS, config=config, word_model=word_ngram(), hotwords={"ab": 3.0, "b": 2.0}
        ).decode_each(logits)
    for one, other in zip(found, whole, strict=True):
        assert_same(one, [(text.text, text.total) for text in other])


def test_what_is_expected_of_a_word_is_the_best_it_can_become() -> None:
    """By brute force: the greatest unigram log probability of all words that begin as the prefix does."""
    model = NgramWords(word_ngram())
    tables = BeamDecoder(UNITS, word_model=word_ngram())._tables
    letters = spell_units(UNITS).letters
    words = [word for word in word_ngram().words if set(word) <= set("ab")]
    trie, places = tables.trie, {}
    for word in words:
        node = np.int64(0)
        for end, letter in enumerate(word, start=1):
            node = find_letter(trie, node, np.int64(letters[letter]))
            assert node >= 0
            places[word[:end]] = int(node)
    log_probs = model.unigrams()
    for prefix, node in places.items():
        best = max(log_probs[model.word_id(word)] for word in words if word.startswith(prefix))
        assert tables.ahead[node] == pytest.approx(float(best), abs=1e-6)


def test_a_narrow_beam_keeps_the_word_that_its_letters_promise() -> None:
    """One letter is a little less likely than another at first: only what it will become keeps it in the beam."""
    model = train_ngram(["ab"] * 50 + ["ba"], order=1)
    logits = torch.tensor([[-9.0, -9.0, 1.0, 1.6], [-9.0, -9.0, 0.0, 3.0], [3.0, -9.0, -9.0, -9.0]])
    config = BeamConfig(beam=1, alpha=1.0, threads=1)
    (best, *_) = decode(BeamDecoder(UNITS, config=config, word_model=model), logits)
    assert best.text == "ab"
