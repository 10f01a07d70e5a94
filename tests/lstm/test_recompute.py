"""Computing a layer twice gives the gradients of computing it once, dropout and all."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from asr_lstm.lstm import VariationalLSTM

DROPOUT = {
    "layer_dropout": 0.2,
    "step_dropout": 0.1,
    "state_dropout": 0.2,
    "candidate_dropout": 0.1,
    "weight_dropout": 0.1,
    "zoneout_cell": 0.1,
    "zoneout_state": 0.1,
}


def gradients(*, recompute: bool, **options: Any) -> tuple[torch.Tensor, list[torch.Tensor], int]:
    """Outputs, gradients, and how many numbers were kept for the backward pass."""
    torch.manual_seed(0)
    stack = VariationalLSTM(6, 16, layers=3, layer_norm=True, **options)
    stack.recompute = recompute
    inputs = torch.randn(4, 50, 6, requires_grad=True)
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = stack(inputs, torch.tensor([50, 40, 31, 7]))
    wanted = [inputs, *stack.parameters()]
    return outputs.detach(), list(torch.autograd.grad(outputs.square().sum(), wanted)), sum(kept.values())


@pytest.mark.parametrize("options", [{}, DROPOUT, {"projection": 8, "cell_norm": True}])
def test_gradients_are_equal_and_less_is_kept(options: dict[str, Any]) -> None:
    outputs, once, kept = gradients(recompute=False, **options)
    outputs_again, twice, kept_again = gradients(recompute=True, **options)
    assert torch.equal(outputs, outputs_again)
    for left, right in zip(once, twice, strict=True):
        assert torch.equal(left, right)
    assert kept_again < 0.6 * kept


def test_nothing_is_recomputed_where_nothing_is_learned() -> None:
    stack = VariationalLSTM(6, 8)
    stack.recompute = True
    inputs, lengths = torch.randn(2, 5, 6), torch.tensor([5, 3])
    with torch.no_grad():
        training = stack(inputs, lengths)
        assert torch.equal(stack.eval()(inputs, lengths), training)
