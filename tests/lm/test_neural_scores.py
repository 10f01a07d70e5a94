from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.lm.neural import scores
from asr_lstm.lm.neural.bundle import NeuralLM, load_neural, save_neural
from asr_lstm.lm.neural.network import LanguageModel, NetworkConfig
from asr_lstm.lm.neural.scores import NeuralScorer, figures, measure, score_lines, score_stream
from asr_lstm.lm.neural.text_units import WordTextUnits
from asr_lstm.units import Normaliser

RandomLM = Callable[..., NeuralLM]


def step_by_step(lm: NeuralLM, ids: list[int]) -> list[float]:
    """log p of each unit, one step of the network after the other."""
    states, unit, found = None, 0, []
    for following in ids:
        logits, states = lm.model(torch.tensor([[unit]]), states=states)
        found.append(float(logits[0, 0].detach().double().log_softmax(-1)[following]))
        unit = following
    return found


def test_the_network_is_torchs_lstm_with_one_matrix_at_both_ends(random_lm: RandomLM) -> None:
    model = random_lm().model
    lstm = nn.LSTM(8, 12, 2, batch_first=True)
    with torch.no_grad():
        for index, layer in enumerate(model.lstm.layers):
            getattr(lstm, f"weight_ih_l{index}").copy_(layer.weight_ih[0])
            getattr(lstm, f"weight_hh_l{index}").copy_(layer.weight_hh[0])
            getattr(lstm, f"bias_ih_l{index}").copy_(layer.bias[0])
            getattr(lstm, f"bias_hh_l{index}").zero_()
        units = torch.tensor([[0, 3, 1, 4], [2, 2, 0, 1]])
        outputs, (state, _) = lstm(8**0.5 * functional.embedding(units, model.embedding.weight))
        expected = outputs @ model.projection.weight.T @ model.embedding.weight.T + model.bias
        logits, after = model(units)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after.states[:, 0], state, rtol=1e-4, atol=1e-4)
    assert "output" not in {name.split(".")[0] for name, _ in model.named_parameters()}


def test_without_a_projection_sizes_are_the_same(random_lm: RandomLM) -> None:
    model = random_lm(embedding=0).model
    assert isinstance(model.projection, nn.Identity)
    assert model.embedding.weight.shape == (5, 12)


def test_scores_are_those_of_single_steps(random_lm: RandomLM) -> None:
    lm = random_lm()
    ids = lm.units.encode("ab c\n\ncab a\nb")
    np.testing.assert_allclose(score_stream(lm.model, ids), step_by_step(lm, ids.tolist()), atol=1e-4)


def test_a_long_text_is_read_in_windows_and_places(
    random_lm: RandomLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = random_lm()
    ids = np.random.default_rng(0).integers(0, 5, 103)
    monkeypatch.setattr(scores, "_NUMBERS", 5 * 7)  # windows of 7 steps, or fewer with more places
    np.testing.assert_allclose(score_stream(lm.model, ids), step_by_step(lm, ids.tolist()), atol=1e-4)
    monkeypatch.setattr(scores, "_PLACE_UNITS", 50)
    found = score_stream(lm.model, ids)
    second = step_by_step(lm, ids.tolist()[:52])
    np.testing.assert_allclose(found[:52], second, atol=1e-4)
    # The second place begins after the unit before it, with nothing else remembered.
    with torch.inference_mode():
        logits, _ = lm.model(torch.tensor([[ids[51]]]))
    assert float(found[52]) == pytest.approx(float(logits[0, 0].log_softmax(-1)[ids[52]]), abs=1e-4)
    assert len(found) == 103


def test_lines_are_scored_alone_the_same_in_any_batch(
    random_lm: RandomLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = random_lm()
    lines = [lm.units.encode(line) for line in ("ab", "", "c ab ab", "b", "aaaa")]
    together = score_lines(lm.model, lines)
    monkeypatch.setattr(scores, "_NUMBERS", 1)
    for line, scored, alone in zip(lines, together, score_lines(lm.model, lines), strict=True):
        np.testing.assert_allclose(scored, step_by_step(lm, [*line.tolist(), 0]), atol=1e-4)
        np.testing.assert_allclose(scored, alone, atol=1e-4)


def test_a_scorer_gives_a_text_with_its_end(random_lm: RandomLM) -> None:
    lm = random_lm(normaliser=Normaliser())
    found = NeuralScorer(lm)(["Ab,  c", "", "b"])
    for text, value in zip(["ab c", "", "b"], found, strict=True):
        expected = sum(step_by_step(lm, [*lm.units.encode(text).tolist(), 0]))
        assert value == pytest.approx(expected, abs=1e-3)


def uniform(lm: NeuralLM, log_probs: list[float]) -> NeuralLM:
    """The model made to give the same distribution whatever it reads."""
    with torch.no_grad():
        lm.model.embedding.weight.zero_()
        lm.model.bias.copy_(torch.tensor(log_probs))
    return lm


def test_measures_of_a_known_distribution(random_lm: RandomLM) -> None:
    probs = {"\n": 0.5, " ": 0.125, "a": 0.25, "b": 0.125}
    lm = uniform(random_lm(" ab"), [math.log(p) for p in probs.values()])
    found = measure(lm, "ab a\nb\n")
    bits = 2 + 3 + 3 + 2 + 1 + 3 + 1
    assert (found.lines, found.characters, found.words, found.unknown) == (2, 7, 3, 0)
    assert found.bits == pytest.approx(bits / 7, rel=1e-5)
    assert found.nats == pytest.approx(bits / 7 * math.log(2), rel=1e-5)
    assert found.perplexity() == pytest.approx(2 ** (bits / 5), rel=1e-5)
    assert found.perplexity(alone=True) == pytest.approx(2 ** (bits / 5), rel=1e-5)
    assert figures(found, kind="characters")["bits a character"] == found.bits


def test_unknown_words_can_be_left_out(random_lm: RandomLM) -> None:
    lm = uniform(
        random_lm(WordTextUnits(["<unk>", "a", "b"])), [math.log(p) for p in (0.5, 0.25, 0.125, 0.125)]
    )
    found = measure(lm, "a mouse\nb\n")
    assert (found.words, found.unknown, found.lines) == (3, 1, 2)
    assert found.perplexity() == pytest.approx(2 ** ((3 + 2 + 1 + 3 + 1) / 5), rel=1e-5)
    assert found.perplexity(unknown=False) == pytest.approx(2 ** ((3 + 1 + 3 + 1) / 4), rel=1e-5)
    assert found.perplexity(alone=True, unknown=False) == pytest.approx(2 ** ((3 + 1 + 3 + 1) / 4), rel=1e-5)


def test_memory_is_carried_over_lines_but_for_each_alone(random_lm: RandomLM) -> None:
    lm = random_lm()
    found = measure(lm, "ab\nc a\n")
    assert found.log_prob == pytest.approx(
        sum(step_by_step(lm, lm.units.encode("ab\nc a\n").tolist())), abs=1e-3
    )
    alone = sum(sum(step_by_step(lm, [*lm.units.encode(line).tolist(), 0])) for line in ("ab", "c a"))
    assert found.alone == pytest.approx(alone, abs=1e-3)
    assert abs(found.alone - found.log_prob) > 1e-2


def test_texts_that_cannot_be_measured(random_lm: RandomLM) -> None:
    with pytest.raises(DataError, match="the text is empty"):
        measure(random_lm(), "\n")
    with pytest.raises(DataError, match="has no 'x'"):
        measure(random_lm(), "axb\n")


def test_a_saved_model_is_the_same_when_loaded(random_lm: RandomLM, tmp_path: Path) -> None:
    for normaliser in (None, Normaliser(casing="upper")):
        lm = random_lm(normaliser=normaliser)
        save_neural(tmp_path / "model", lm, card="# a card\n")
        loaded = load_neural(tmp_path / "model")
        ids = lm.units.encode("ab c\n")
        torch.testing.assert_close(score_stream(loaded.model, ids), score_stream(lm.model, ids))
        assert (loaded.normaliser, loaded.network) == (normaliser, lm.network)
    assert (tmp_path / "model" / "README.md").read_text() == "# a card\n"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("config.yaml", None, "no language model"),
        ("config.yaml", "format: 2", "not the configuration"),
        ("config.yaml", "{", "not YAML"),
        ("model.safetensors", "", "cannot be loaded"),
        ("units.json", '{"kind": "characters", "symbols": ["a"]}', "cannot be loaded"),
    ],
)
def test_a_damaged_model_is_one_line(
    random_lm: RandomLM, tmp_path: Path, name: str, content: str | None, problem: str
) -> None:
    save_neural(tmp_path, random_lm(), card="")
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=problem) as raised:
        load_neural(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "options", [{"layers": 0}, {"hidden": 0}, {"weight_dropout": 1.0}, {"step_dropout": -0.1}]
)
def test_sizes_and_rates_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"network.{next(iter(options))}"):
        NetworkConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "embedding_dropout",
        "input_dropout",
        "layer_dropout",
        "output_dropout",
        "step_dropout",
        "state_dropout",
        "weight_dropout",
    ],
)
def test_each_kind_of_dropout_is_drawn_in_training_alone(name: str) -> None:
    quiet = {"layer_dropout": 0.0, "output_dropout": 0.0, "weight_dropout": 0.0}
    model = LanguageModel(NetworkConfig(layers=2, hidden=16, **(quiet | {name: 0.5})), units=60)  # type: ignore[arg-type]
    units = torch.arange(1, 60).expand(2, -1)  # whole units may be dropped: of a few, the same ones twice
    assert not torch.equal(model(units)[0], model(units)[0])
    model.eval()
    assert torch.equal(model(units)[0], model(units)[0])
