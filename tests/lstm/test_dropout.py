"""The kinds of dropout that stand between modules; those within a cell are in test_layer.py."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from asr_lstm.lstm import EmbeddingDropout, LockedDropout
from asr_lstm.lstm.dropout import Dropout, StepDropout, sequence_mask
from asr_lstm.lstm.kernels import plan_packing
from asr_lstm.lstm.kernels.rows import pack

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


def test_packed_rows_meet_the_masks_of_the_padded_batch() -> None:
    lengths = torch.tensor([4, 9, 1, 9, 6])
    plan = plan_packing(lengths, frames=9)
    inputs, dropout = torch.randn(5, 9, 30), LockedDropout(0.4)
    torch.manual_seed(5)
    padded = dropout(inputs)
    torch.manual_seed(5)
    torch.testing.assert_close(dropout.on_rows(pack(inputs, plan), plan), pack(padded, plan))
    dropout.eval()
    rows = pack(inputs, plan)
    assert dropout.on_rows(rows, plan) is rows


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
@pytest.mark.parametrize("rate", RATES)
def test_step_dropout_is_redrawn_at_each_frame(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    inputs = torch.ones(20, 10, 300, dtype=dtype, requires_grad=True)
    outputs = StepDropout(rate)(inputs)
    dropped = outputs == 0
    assert_share(dropped, rate)
    torch.testing.assert_close(outputs[~dropped], torch.full_like(outputs[~dropped], 1 / (1 - rate)))
    alike = rate**2 + (1 - rate) ** 2
    assert_share(dropped[:, 0::2] == dropped[:, 1::2], alike)
    assert_share(dropped[0::2] == dropped[1::2], alike)
    assert_share(dropped[..., 0::2] == dropped[..., 1::2], alike)
    outputs.sum().backward()
    assert inputs.grad is not None
    assert torch.equal(inputs.grad, outputs.detach())


@pytest.mark.parametrize("rate", RATES)
def test_embedding_dropout_drops_a_word_everywhere_or_nowhere(rate: float) -> None:
    torch.manual_seed(2)
    embedding = nn.Embedding(3000, 4)
    words = torch.randint(3000, (50, 400))
    outputs = EmbeddingDropout(rate)(words, embedding)
    ratios = outputs / embedding(words)
    assert ratios.shape == (50, 400, 4)
    factors = torch.full((3000,), -1.0)
    factors[words] = ratios[..., 0].detach()
    torch.testing.assert_close(ratios, factors[words][..., None].expand_as(ratios), rtol=1e-4, atol=1e-5)
    met = factors[factors >= 0]
    assert len(met) > 2900
    assert_share(met < 0.5, rate)
    torch.testing.assert_close(
        met[met > 0.5], torch.full_like(met[met > 0.5], 1 / (1 - rate)), rtol=1e-4, atol=0
    )
    outputs.sum().backward()
    assert embedding.weight.grad is not None
    counts = torch.bincount(words.flatten(), minlength=3000)
    wanted = (counts * factors.clamp(min=0))[:, None].expand(-1, 4)
    torch.testing.assert_close(embedding.weight.grad, wanted, rtol=1e-3, atol=1e-3)


def call(dropout: Dropout, inputs: Tensor) -> Tensor:
    if isinstance(dropout, EmbeddingDropout):
        embedding = nn.Embedding.from_pretrained(torch.arange(1.0, 17)[:, None])
        return dropout(inputs.long()[..., 0] * torch.arange(inputs.shape[1]), embedding)
    return dropout(inputs)


@pytest.mark.parametrize("kind", [LockedDropout, StepDropout, EmbeddingDropout])
def test_evaluation_is_the_identity(kind: type[Dropout]) -> None:
    inputs = torch.ones(3, 4, 5)
    plain = call(kind(0.0).train(), inputs)
    assert torch.equal(call(kind(0.5).eval(), inputs), plain)
    assert not kind(0.5).state_dict()
    if kind is not EmbeddingDropout:
        assert kind(0.5).eval()(inputs) is inputs
        assert kind(0.0).train()(inputs) is inputs


@pytest.mark.parametrize("kind", [LockedDropout, StepDropout, EmbeddingDropout])
def test_the_seed_fixes_the_masks(kind: type[Dropout]) -> None:
    dropout, inputs = kind(0.5), torch.ones(8, 16, 16)
    draws = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        draws.append(call(dropout, inputs))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, math.nan])
@pytest.mark.parametrize("kind", [LockedDropout, StepDropout, EmbeddingDropout])
def test_a_rate_outside_its_range_is_refused_by_name(kind: type[Dropout], rate: float) -> None:
    with pytest.raises(ValueError, match=r"^rate must be at least 0 and below 1"):
        kind(rate)
    with pytest.raises(ValueError, match=r"^word_dropout must be at least 0 and below 1"):
        kind(rate, name="word_dropout")
