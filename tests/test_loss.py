"""CTC against the sum over all paths and against torch; what may be added to it against its definition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional

from asr_lstm.batching import Batch, Draw, Example, collate
from asr_lstm.expected_errors import expected_errors
from asr_lstm.loss import consistency_losses, ctc_losses, training_losses
from asr_lstm.model import Recogniser


def test_ctc_loss_is_the_sum_over_all_paths() -> None:
    logits = torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    probabilities = logits[0].softmax(-1)
    total = 0.0
    for path in np.ndindex(3, 3, 3):
        merged = [unit for place, unit in enumerate(path) if place == 0 or unit != path[place - 1]]
        if [unit for unit in merged if unit] == [1, 2]:
            total += math.prod(float(probabilities[frame, unit]) for frame, unit in enumerate(path))
    (loss,) = ctc_losses(logits, torch.tensor([3]), torch.tensor([1, 2]), torch.tensor([2]))
    assert float(loss) == pytest.approx(-math.log(total), rel=1e-5)


def test_an_infeasible_row_is_infinite_unless_skipped() -> None:
    arguments = (torch.zeros(1, 2, 3), torch.tensor([2]), torch.tensor([1, 1]), torch.tensor([2]))
    assert math.isinf(float(ctc_losses(*arguments)))
    assert float(ctc_losses(*arguments, skip_infeasible=True)) == 0


def test_bfloat16_logits_are_summed_in_float32() -> None:
    logits = torch.randn(2, 20, 5, generator=torch.Generator().manual_seed(1))
    rest = (torch.tensor([20, 15]), torch.tensor([1, 2, 3, 4]), torch.tensor([2, 2]))
    low = ctc_losses(logits.bfloat16(), *rest)
    assert low.dtype == torch.float32
    log_probabilities = functional.log_softmax(logits.bfloat16().float(), -1).transpose(0, 1)
    expected = functional.ctc_loss(log_probabilities, *[rest[1], rest[0], rest[2]], reduction="none")
    assert torch.allclose(low, expected)


class Given:
    """In a recogniser's place: logits that are given."""

    def __init__(self, *outputs: tuple[Tensor, Tensor]) -> None:
        self.outputs = outputs
        self.asked: dict[str, Any] = {}

    def training_outputs(
        self, inputs: Tensor, lengths: Tensor, **options: Any
    ) -> list[tuple[Tensor, Tensor]]:
        self.asked = options
        return list(self.outputs)


TEXTS = [[1, 2], [3], [2, 2, 1]]


def random_outputs(views: int, *, frames: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3 * views, frames, 4, generator=generator, dtype=torch.double)
    return logits, torch.tensor([frames, frames - 2, frames - 1]).repeat(views)


# Of the second utterance nobody knows the phones.
PHONES = [[3, 1, 2], [], [1, 3, 3, 2]]


def batch() -> Batch:
    pairs = zip(TEXTS, PHONES, strict=True)
    return collate(
        [Example(torch.zeros(1), text, Draw(row, row), phones) for row, (text, phones) in enumerate(pairs)]
    )


def ctc_by_torch(logits: Tensor, lengths: Tensor, row: int, texts: Sequence[Sequence[int]] = TEXTS) -> float:
    """Of utterance `row` of a view's, by `torch.nn.CTCLoss` alone and without padding."""
    text = texts[row % 3]
    log_probabilities = logits[row, : lengths[row]].log_softmax(-1)
    loss = torch.nn.CTCLoss(reduction="sum")(
        log_probabilities, torch.tensor(text), lengths[row], torch.tensor(len(text))
    )
    return float(loss)


def divergence_by_torch(logits: Tensor, lengths: Tensor, row: int) -> float:
    """Between the views of utterance `row`, half the sum of both directions, frame by frame."""
    total = 0.0
    for frame in range(int(lengths[row])):
        one, other = (Categorical(logits=logits[place, frame]) for place in (row, row + 3))
        total += float(kl_divergence(one, other) + kl_divergence(other, one)) / 2
    return total


def test_the_loss_is_ctc_by_default() -> None:
    last = random_outputs(1, frames=8, seed=0)
    model = Given(last)
    losses = training_losses(cast(Recogniser, model), batch())
    assert losses.tolist() == pytest.approx([ctc_by_torch(*last, row) for row in range(3)], rel=1e-5)
    assert (model.asked["views"], model.asked["middle"], model.asked["phones"]) == (1, False, False)


def test_the_middle_layer_has_its_share_whatever_its_frames() -> None:
    last, lower = random_outputs(1, frames=8, seed=0), random_outputs(1, frames=15, seed=1)
    model = Given(last, lower)
    losses = training_losses(cast(Recogniser, model), batch(), intermediate=0.3)
    expected = [0.7 * ctc_by_torch(*last, row) + 0.3 * ctc_by_torch(*lower, row) for row in range(3)]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)
    assert model.asked["middle"]


def test_expected_errors_have_their_share_of_the_last_layer() -> None:
    last, lower = random_outputs(1, frames=8, seed=0), random_outputs(1, frames=15, seed=1)
    torch.manual_seed(5)
    targets, counts = torch.tensor([unit for text in TEXTS for unit in text]), torch.tensor([2, 1, 3])
    errors = expected_errors(*last, targets, counts).tolist()
    torch.manual_seed(5)
    losses = training_losses(cast(Recogniser, Given(last, lower)), batch(), errors=0.9, intermediate=0.3)
    expected = [
        0.7 * (0.1 * ctc_by_torch(*last, row) + 0.9 * errors[row]) + 0.3 * ctc_by_torch(*lower, row)
        for row in range(3)
    ]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)


def test_two_views_share_the_loss_and_pay_for_their_divergence() -> None:
    last, lower = random_outputs(2, frames=8, seed=2), random_outputs(2, frames=15, seed=3)
    model = Given(last, lower)
    losses = training_losses(cast(Recogniser, model), batch(), intermediate=0.3, consistency=0.2)
    expected = []
    for row in range(3):
        both = (row, row + 3)
        ctc = sum(0.7 * ctc_by_torch(*last, view) + 0.3 * ctc_by_torch(*lower, view) for view in both) / 2
        expected.append(ctc + 0.2 * divergence_by_torch(*last, row))
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)
    assert model.asked["views"] == 2


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("intermediate", [0.0, 0.3])
def test_phones_have_their_share_where_they_are_known(views: int, intermediate: float) -> None:
    outputs = [random_outputs(views, frames=frames, seed=frames) for frames in (8, 15, 14)]
    last, lower, spoken = outputs
    model = Given(*(outputs if intermediate else (last, spoken)))
    consistency = 0.2 if views == 2 else 0.0
    losses = training_losses(
        cast(Recogniser, model), batch(), intermediate=intermediate, phones=0.4, consistency=consistency
    )
    assert model.asked["phones"]
    expected = []
    for row in range(3):
        total = 0.0
        for view in range(row, 3 * views, 3):
            loss = (1 - intermediate) * ctc_by_torch(*last, view) + intermediate * ctc_by_torch(*lower, view)
            total += 0.6 * loss + 0.4 * ctc_by_torch(*spoken, view, PHONES) if PHONES[row] else loss
        divergence = divergence_by_torch(*last, row) if views == 2 else 0.0
        expected.append(total / views + consistency * divergence)
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)


def test_phones_are_not_asked_for_where_no_utterance_has_any() -> None:
    last = random_outputs(1, frames=8, seed=0)
    model, unknown = Given(last), replace(batch(), phone_lengths=torch.zeros(3, dtype=torch.long))
    losses = training_losses(cast(Recogniser, model), unknown, phones=0.4)
    assert losses.equal(training_losses(cast(Recogniser, model), batch()))
    assert not model.asked["phones"]


def test_each_view_is_drawn_to_the_other_as_to_a_constant() -> None:
    """The derivative of D(q || softmax(z)) with respect to z is softmax(z) - q; in the padding there is none."""
    logits, lengths = random_outputs(2, frames=6, seed=4)
    logits.requires_grad_()
    consistency_losses(logits, lengths).sum().backward()
    first, second = logits.detach().softmax(-1).chunk(2)
    valid = (torch.arange(6) < lengths[:3, None])[:, :, None]
    expected = torch.cat([(first - second) * valid, (second - first) * valid]) / 2
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected, rtol=1e-5, atol=1e-6)
    assert not consistency_losses(logits[:3].repeat(2, 1, 1), lengths).any()
