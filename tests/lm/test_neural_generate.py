from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.lm.neural.bundle import NeuralLM, save_neural
from asr_lstm.lm.neural.command import generate_command
from asr_lstm.lm.neural.generate import generate, sampling_distribution
from asr_lstm.lm.neural.text_units import WordTextUnits
from asr_lstm.units import Normaliser

RandomLM = Callable[..., NeuralLM]


def by_brute_force(logits: list[float], *, temperature: float, top_k: int, top_p: float) -> list[float]:
    """Of all sets of units: the k likeliest, and of these the smallest likeliest set that holds top_p."""
    weights = [math.exp(value / temperature) for value in logits]
    allowed = sorted(range(len(weights)), key=lambda unit: -weights[unit])[: top_k or None]
    probs = {unit: weights[unit] / sum(weights[other] for other in allowed) for unit in allowed}
    sets = [
        chosen
        for size in range(1, len(allowed) + 1)
        for chosen in itertools.combinations(allowed, size)
        if sum(probs[unit] for unit in chosen) >= top_p - 1e-12
    ]
    size = min(map(len, sets))
    kept = max((one for one in sets if len(one) == size), key=lambda one: sum(probs[unit] for unit in one))
    total = sum(probs[unit] for unit in kept)
    return [probs[unit] / total if unit in kept else 0.0 for unit in range(len(logits))]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [0, 1, 3, 20])
@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.9, 1.0])
def test_what_is_drawn_from(temperature: float, top_k: int, top_p: float) -> None:
    for seed in range(3):
        logits = 2 * torch.randn(7, generator=torch.Generator().manual_seed(seed))
        found = sampling_distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        expected = by_brute_force(logits.tolist(), temperature=temperature, top_k=top_k, top_p=top_p)
        assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_of_equal_units_no_more_are_kept_than_asked_for() -> None:
    assert (sampling_distribution(torch.zeros(5), top_k=2) > 0).sum() == 2
    assert (sampling_distribution(torch.zeros(5), top_p=0.5) > 0).sum() == 3
    assert sampling_distribution(torch.tensor([1.0, 3.0, 2.0]), temperature=0.0).tolist() == [0, 1, 0]


def test_a_seed_writes_the_same_text_again(random_lm: RandomLM) -> None:
    lm = random_lm()
    texts = ["".join(generate(lm, prompt="ab", length=60, seed=seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 60
    assert set("".join(texts)) <= set("ab c\n")


def test_the_likeliest_text_is_that_of_single_steps(random_lm: RandomLM) -> None:
    lm = random_lm()
    ids = [0, *lm.units.encode("ca").tolist()]
    for _ in range(20):
        ids.append(int(lm.model(torch.tensor([ids]))[0][0, -1].argmax()))
    expected = "".join(lm.units.write(unit, after=0) for unit in ids[3:])
    assert "".join(generate(lm, prompt="ca", length=20, temperature=0)) == expected


def test_how_often_units_are_drawn(random_lm: RandomLM) -> None:
    lm = random_lm("ab")
    with torch.no_grad():
        lm.model.embedding.weight.zero_()
        lm.model.bias.copy_(torch.tensor([0.2, 0.5, 0.3]).log())
    text = "".join(generate(lm, length=500, seed=3))
    shares = [text.count(character) / len(text) for character in "\nab"]
    assert shares == pytest.approx([0.2, 0.5, 0.3], abs=0.07)


def test_words_are_parted_and_never_unknown(random_lm: RandomLM) -> None:
    lm = random_lm(WordTextUnits(["<unk>", "the", "cat"]), normaliser=Normaliser())
    with torch.no_grad():
        lm.model.bias[1] = 50.0
    text = "".join(generate(lm, prompt="The  dog", length=50))
    assert text[0] in " \n"
    assert "<unk>" not in text
    assert set(text.split()) <= {"the", "cat"}
    assert "  " not in text


def test_it_goes_on_without_end_and_as_it_is_asked(random_lm: RandomLM) -> None:
    drawn = generate(random_lm(), length=0)
    assert len("".join(itertools.islice(drawn, 100))) == 100


@pytest.mark.parametrize(
    ("error", "problem", "options"),
    [
        (ConfigError, "temperature: -1", {"temperature": -1.0}),
        (ConfigError, "temperature: nan", {"temperature": math.nan}),
        (ConfigError, "top_k: -2", {"top_k": -2}),
        (ConfigError, "top_p: 0", {"top_p": 0.0}),
        (ConfigError, "top_p: 1.5", {"top_p": 1.5}),
        (ConfigError, "length: -1", {"length": -1}),
        (DataError, "has no 'x'", {"prompt": "axb"}),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_printed(
    random_lm: RandomLM,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    error: type[Exception],
    problem: str,
    options: dict,
) -> None:
    save_neural(tmp_path, random_lm(), card="")
    with pytest.raises(error, match=problem) as raised:
        generate_command(lm=tmp_path, **options)
    assert "\n" not in str(raised.value)
    assert capsys.readouterr().out == ""


def test_the_command_prints_prompt_and_text(
    random_lm: RandomLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = random_lm(normaliser=Normaliser())
    save_neural(tmp_path, lm, card="")
    options = {"prompt": "AB", "length": 30, "temperature": 0.7, "top_k": 3, "top_p": 0.9, "seed": 5}
    assert generate_command(lm=tmp_path, **options) == 0
    text = "ab" + "".join(generate(lm, **options))
    assert capsys.readouterr().out == (text if text.endswith("\n") else text + "\n")


def test_ctrl_c_ends_the_line(
    random_lm: RandomLM, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> object:
        yield "b"
        raise KeyboardInterrupt

    save_neural(tmp_path, random_lm(), card="")
    monkeypatch.setattr("asr_lstm.lm.neural.generate.generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_command(lm=tmp_path, prompt="a", length=0)
    assert capsys.readouterr().out == "ab\n"
