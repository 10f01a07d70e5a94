from __future__ import annotations

import pytest
import torch
from torch import Tensor

from asr_lstm.lstm.between import Shortcut, TimeReduction
from asr_lstm.lstm.kernels import plan_packing
from asr_lstm.lstm.kernels.rows import pack, unpack

LENGTHS = torch.tensor([4, 9, 1, 9, 6, 1, 7])
FRAMES, DIMS = 9, 3


def make_inputs() -> Tensor:
    return torch.randn(7, FRAMES, DIMS, generator=torch.Generator().manual_seed(1), dtype=torch.double)


@pytest.mark.parametrize("factor", [1, 2, 3, 10])
@pytest.mark.parametrize("kind", ["concat", "take"])
def test_frames_are_put_together_sequence_by_sequence(kind: str, factor: int) -> None:
    inputs = make_inputs().requires_grad_()
    plan = plan_packing(LENGTHS, frames=FRAMES)
    reduce = TimeReduction(factor, kind)
    rows, reduced = reduce(pack(inputs, plan), plan)
    outputs = unpack(rows, reduced)
    assert outputs.shape == (7, -(-FRAMES // factor), reduce.width(DIMS))
    expected = torch.zeros_like(outputs)
    for place, length in enumerate(LENGTHS.tolist()):
        for index, start in enumerate(range(0, length, factor)):
            group = inputs[place, start : min(start + factor, length)]
            whole = torch.cat([group, group.new_zeros(factor - len(group), DIMS)]).flatten()
            expected[place, index] = whole if kind == "concat" else group[0]
    assert torch.equal(outputs, expected)
    weights = torch.randn_like(outputs)
    (ours,) = torch.autograd.grad((outputs * weights).sum(), inputs)
    (reference,) = torch.autograd.grad((expected * weights).sum(), inputs)
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)


def test_ties_that_rounding_up_makes_do_not_swap_sequences() -> None:
    """4 and 3 frames become 2 each: the longer stands second, and stays with its own frames."""
    inputs = torch.arange(8.0).view(2, 4, 1)
    plan = plan_packing(torch.tensor([3, 4]), frames=4)
    rows, reduced = TimeReduction(2, "take")(pack(inputs, plan), plan)
    assert unpack(rows, reduced)[..., 0].tolist() == [[0.0, 2.0], [4.0, 6.0]]


def test_shortcuts_by_their_formulas() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(5, 4), torch.randn(5, 4)
    assert Shortcut("none", 4)(x, y) is y
    torch.testing.assert_close(Shortcut("residual", 4)(x, y), x + y)
    highway = Shortcut("highway", 4)
    assert highway.gate is not None
    assert set(highway.gate.bias.tolist()) == {-1.0}  # it begins by carrying
    gate = torch.sigmoid(x @ highway.gate.weight.T + highway.gate.bias)
    torch.testing.assert_close(highway(x, y), gate * y + (1 - gate) * x)
