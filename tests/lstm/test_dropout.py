from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from asr_lstm.lstm import LockedDropout
from asr_lstm.lstm.dropout import sequence_mask

RATES = [0.1, 0.35, 0.7]
# How many standard deviations a count may be off: 5 of them are missed once in 1.7 million draws.
SIGMAS = 5.0


def binomial_bounds(count: int, share: float) -> tuple[float, float]:
    spread = SIGMAS * math.sqrt(count * share * (1 - share))
    return count * share - spread, count * share + spread


def assert_share(hits: Tensor, share: float) -> None:
    low, high = binomial_bounds(hits.numel(), share)
    assert low < int(hits.sum()) < high


@pytest.mark.parametrize("rate", RATES)
def test_a_mask_holds_zeros_in_the_given_share_and_has_mean_one(rate: float) -> None:
    torch.manual_seed(0)
    mask = sequence_mask(300, 400, rate=rate, like=torch.empty(0))
    assert_share(mask == 0, rate)
    kept = mask[mask != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)))
    deviation = math.sqrt(rate / (1 - rate) / mask.numel())
    assert abs(mask.mean().item() - 1) < SIGMAS * deviation


def test_a_mask_takes_the_type_of_what_it_is_for() -> None:
    assert sequence_mask(2, 3, rate=0.5, like=torch.empty(0, dtype=torch.double)).dtype == torch.double


@pytest.mark.parametrize("rate", RATES)
def test_locked_dropout_holds_its_mask_over_time(rate: float) -> None:
    torch.manual_seed(1)
    outputs = LockedDropout(rate)(torch.ones(50, 20, 60))
    assert torch.equal(outputs, outputs[:, :1].expand_as(outputs))
    assert_share(outputs[:, 0] == 0, rate)
    assert outputs.max().item() == pytest.approx(1 / (1 - rate))


def test_sequences_are_masked_independently_of_each_other() -> None:
    """Two independent masks agree in a unit with probability rate^2 + (1 - rate)^2."""
    torch.manual_seed(2)
    rate = 0.3
    dropped = LockedDropout(rate)(torch.ones(200, 1, 500))[:, 0] == 0
    assert_share(dropped[0::2] == dropped[1::2], rate**2 + (1 - rate) ** 2)
    dims = dropped.T
    assert_share(dims[0::2] == dims[1::2], rate**2 + (1 - rate) ** 2)


def test_locked_dropout_scales_what_it_keeps_and_its_gradient() -> None:
    torch.manual_seed(3)
    inputs = torch.randn(4, 9, 30, requires_grad=True)
    outputs = LockedDropout(0.25)(inputs)
    outputs.sum().backward()
    assert inputs.grad is not None
    torch.testing.assert_close(outputs, inputs * inputs.grad)
    assert inputs.grad.unique().tolist() == [0.0, pytest.approx(4 / 3)]


def test_evaluation_is_the_identity() -> None:
    inputs = torch.randn(3, 4, 5)
    assert LockedDropout(0.5).eval()(inputs) is inputs
    assert LockedDropout(0.0).train()(inputs) is inputs


def test_the_seed_fixes_the_masks() -> None:
    dropout = LockedDropout(0.5)
    inputs = torch.ones(8, 3, 16)
    draws = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        draws.append(dropout(inputs))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, math.nan])
def test_a_rate_outside_its_range_is_refused_by_name(rate: float) -> None:
    with pytest.raises(ValueError, match=r"^rate must be at least 0 and below 1"):
        LockedDropout(rate)
