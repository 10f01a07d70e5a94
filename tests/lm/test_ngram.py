from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr_lstm.lm.arpa import read_arpa
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.lm.ngram import BEGIN, END, UNKNOWN, NgramModel

LN10 = math.log(10)
TEXTS = {"pruned.arpa": "heldout.txt", "gaps.arpa": "gaps.txt"}


def log10_scores(model: NgramModel, line: str) -> list[float]:
    return [float(value) / LN10 for value in model.score_texts([*model.ids(line.split()), END])]


@pytest.mark.parametrize("arpa", TEXTS)
def test_scores_are_kenlms(arpa: str, ngram_assets: Path, kenlm_says: dict[str, Any]) -> None:
    model = read_arpa(ngram_assets / arpa)
    lines = (ngram_assets / TEXTS[arpa]).read_text(encoding="utf-8").splitlines()
    for line, expected in zip(lines, kenlm_says["scores"][arpa]["words"], strict=True):
        assert log10_scores(model, line) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("arpa", TEXTS)
def test_scores_are_those_of_kenlm_itself(arpa: str, ngram_assets: Path) -> None:
    kenlm = pytest.importorskip("kenlm", reason="kenlm is not installed; the table of its scores is tested")
    model, peer = read_arpa(ngram_assets / arpa), kenlm.Model(str(ngram_assets / arpa))
    random = np.random.default_rng(0)
    for _ in range(200):
        line = " ".join(random.choice([*model.words[3:], "unheard-of"], size=random.integers(1, 12)))
        expected = [prob for prob, _, _ in peer.full_scores(line)]
        assert log10_scores(model, line) == pytest.approx(expected, abs=1e-4)
        without_begin = model.score_texts([*model.ids(line.split())])  # begin_state, so from <s> too
        assert without_begin.sum() / LN10 == pytest.approx(peer.score(line, eos=False), abs=1e-4)


@pytest.fixture(scope="module")
def model() -> NgramModel:
    return train_ngram(["to be or not to be", "to do is to be", "do be do be do"], order=3)


def test_words_have_numbers(model: NgramModel) -> None:
    assert model.words[:5] == ["<unk>", "<s>", "</s>", "to", "be"]
    assert model.ids(["be", "bee", "<s>"]).tolist() == [4, UNKNOWN, BEGIN]
    assert model.unknown(["be", "bee", "wasp", "bee"]) == ["bee", "wasp"]
    assert "be" in model
    assert "bee" not in model
    assert len(model) == len(model.words) == model.counts[0]


def test_states_hold_what_was_heard(model: NgramModel) -> None:
    assert model.state(["to"], start=model.begin_state) == model.state(["<s>", "to"])
    assert model.state(["to"]) != model.state(["<s>", "to"])
    by_steps, state = 0.0, model.begin_state
    for word in ["to", "be", "</s>"]:
        log_probs, states = model.score([state], model.ids([word]))
        by_steps, state = by_steps + float(log_probs[0]), int(states[0])
    assert by_steps == pytest.approx(model.log_prob(["to", "be"]), abs=1e-5)


def test_many_states_and_words_are_scored_at_once(model: NgramModel) -> None:
    states = [model.begin_state, model.null_state, model.state(["to"])]
    log_probs, following = model.score(states, 4)
    assert (log_probs.dtype, following.dtype) == (np.float32, np.int32)
    for i, state in enumerate(states):
        alone, next_state = model.score([state], [4])
        assert (alone[0], next_state[0]) == (log_probs[i], following[i])
    nothing, nowhere = model.score(np.empty(0, np.int32), np.empty(0, np.int32))
    assert nothing.shape == nowhere.shape == (0,)


def test_an_ngram_is_what_its_file_would_say(ngram_assets: Path) -> None:
    model = read_arpa(ngram_assets / "gaps.arpa")
    assert model.ngram(["a", "b"]) == pytest.approx((-0.6, -0.15))
    assert model.ngram(["a", "b", "c"]) == pytest.approx((-0.22, 0.0))
    for absent in (["b", "c"], ["a", "b", "z"], ["a", "b", "c", "a"], []):
        assert model.ngram(absent) is None


@pytest.mark.parametrize(
    ("states", "words", "named"),
    [
        ([10_000], [0], "states"),
        ([-1], [0], "states"),
        ([0], [99], "words"),
        ([0], [0.5], "words"),
        ([[0]], [0], "states"),
    ],
)
def test_numbers_that_are_none_are_refused(
    model: NgramModel, states: list[Any], words: list[Any], named: str
) -> None:
    with pytest.raises(ValueError, match=f"^{named}: "):
        model.score(states, words)


def test_texts_may_be_of_one_word_only() -> None:
    model = train_ngram(["a"], order=3)
    probs = np.exp(model.score_all([model.begin_state])[0][0].astype(float))
    assert probs[[UNKNOWN, END, 3]].sum() == pytest.approx(1, abs=1e-5)
