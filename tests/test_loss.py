"""CTC against the sum over all paths, and against torch in float32."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from asr_lstm.loss import ctc_losses


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
