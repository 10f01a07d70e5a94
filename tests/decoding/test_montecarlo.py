from __future__ import annotations

import pytest
import torch
from torch import Tensor

from asr_lstm.decoding.montecarlo import mean_log_probs, sample_log_probs
from asr_lstm.errors import ConfigError
from asr_lstm.features import FeatureConfig
from asr_lstm.model import EncoderConfig, Recogniser


def recogniser(**encoder: float) -> Recogniser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = EncoderConfig(layers=2, hidden=6, **encoder)  # type: ignore[arg-type]
        return Recogniser(FeatureConfig(kind="frames", dims=3, stack=1), config, units=4).eval()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 9, 3, generator=generator), torch.tensor([9, 4, 7])


@pytest.mark.parametrize(
    "kind",
    [
        *(f"{name}_dropout" for name in ("input", "layer", "state", "step", "candidate", "weight")),
        "zoneout_cell",
        "zoneout_state",
    ],
)
def test_each_kind_of_dropout_makes_draws_differ(kind: str) -> None:
    rates = {"input_dropout": 0.0, "layer_dropout": 0.0, "state_dropout": 0.0} | {kind: 0.3}
    draws = sample_log_probs(recogniser(**rates), *batch(), samples=5)
    assert [tuple(part.shape) for part in draws] == [(5, 9, 4), (5, 4, 4), (5, 7, 4)]
    for part in draws:
        assert part.exp().sum(-1).allclose(torch.ones(()))
        assert (part[0] - part[1]).abs().max() > 1e-4


def test_an_utterance_has_the_same_draws_alone_as_in_a_batch() -> None:
    model = recogniser(layer_dropout=0.2, state_dropout=0.2)
    inputs, lengths = batch()
    together = sample_log_probs(model, inputs, lengths, samples=4, seed=3)
    for index, length in enumerate(lengths.tolist()):
        (alone,) = sample_log_probs(
            model, inputs[index : index + 1, :length], lengths[index : index + 1], samples=4, seed=3
        )
        assert alone.allclose(together[index], atol=1e-6)
    (other, *_) = sample_log_probs(model, inputs, lengths, samples=4, seed=4)
    assert not other.allclose(together[0], atol=1e-3)


def test_the_mean_of_many_draws_settles() -> None:
    model = recogniser(layer_dropout=0.2, state_dropout=0.2)
    inputs, lengths = batch()
    one, other = (
        mean_log_probs(sample_log_probs(model, inputs, lengths, samples=400, seed=seed)[0]).exp()
        for seed in (0, 1)
    )
    assert one.sum(-1).allclose(torch.ones(()))
    assert (one - other).abs().max() < 0.02


def test_the_mean_is_of_probabilities() -> None:
    draws = torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]).log()
    assert mean_log_probs(draws).exp().allclose(torch.tensor([[0.7, 0.3]]))


def test_neither_the_modes_nor_the_random_numbers_outside_are_touched() -> None:
    model = recogniser(layer_dropout=0.2)
    model.head.train()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    sample_log_probs(model, *batch(), samples=2)
    assert torch.rand(3).equal(expected)
    assert model.head.training
    assert not model.encoder.training
    assert not any(dropout.training for dropout in model.encoder.dropouts)


def test_a_model_without_dropout() -> None:
    with pytest.raises(ConfigError, match="trained without dropout"):
        sample_log_probs(recogniser(layer_dropout=0.0, state_dropout=0.0), *batch())
    with pytest.raises(ValueError, match="samples must be at least 1"):
        sample_log_probs(recogniser(), *batch(), samples=0)
