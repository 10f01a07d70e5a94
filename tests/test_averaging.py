"""The moving average of weights."""

from __future__ import annotations

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from asr_lstm.averaging import WeightAverage, average_weights


def learn(model: torch.nn.Linear, step: int) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step)))


def test_long_after_the_start_it_is_torchs_own_average() -> None:
    model = torch.nn.Linear(3, 2)
    average = WeightAverage(model, 0.9)
    average.update()
    average.load_state_dict(average.state_dict(), updates=10**6)
    peer = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    peer.update_parameters(model)
    for step in range(20):
        learn(model, step)
        average.update()
        peer.update_parameters(model)
    with average.applied():
        assert torch.allclose(model.weight, peer.module.weight, atol=1e-6)
        assert torch.allclose(model.bias, peer.module.bias, atol=1e-6)


def test_the_first_updates_weigh_more() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, 0.999)
    values = [0.0, 1.0, 1.0]
    expected = None
    for count, value in enumerate(values):
        torch.nn.init.constant_(model.weight, value)
        average.update()
        decay = (1 + count) / (10 + count)
        expected = value if expected is None else decay * expected + (1 - decay) * value
    assert expected is not None
    with average.applied():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 1.0  # its own again


def test_it_goes_on_from_what_was_saved() -> None:
    first, second = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    second.load_state_dict(first.state_dict())
    whole, cut = WeightAverage(first, 0.9), WeightAverage(second, 0.9)
    for step in range(6):
        learn(first, step)
        whole.update()
        if step == 3:
            resumed = WeightAverage(second, 0.9)
            resumed.load_state_dict(cut.state_dict(), updates=cut.updates)
            cut = resumed
        learn(second, step)
        cut.update()
    assert torch.equal(whole.state_dict()["weight"], cut.state_dict()["weight"])
    assert not torch.equal(whole.state_dict()["weight"], first.weight)


def test_the_mean_of_weights() -> None:
    first = {"a": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)}
    second = {"a": torch.tensor([2.0, 5.0]), "n": torch.tensor(9)}
    mean = average_weights([first, second])
    assert torch.equal(mean["a"], torch.tensor([1.5, 3.5]))
    assert int(mean["n"]) == 3
    assert mean["a"].dtype == torch.float32
