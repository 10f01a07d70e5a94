"""What makes no sense is a ValueError that names the argument, never a wrong number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from asr_lstm.lstm import VariationalLSTM
from asr_lstm.lstm.kernels import native

BATCH, FRAMES, DIMS, HIDDEN = 3, 5, 4, 6
LENGTHS = torch.tensor([5, 2, 4])


def make_stack() -> VariationalLSTM:
    torch.manual_seed(0)
    return VariationalLSTM(DIMS, HIDDEN, layers=2)


def make_inputs() -> Tensor:
    return torch.randn(BATCH, FRAMES, DIMS, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("lengths", "complaint"),
    [
        (torch.tensor([5, 0, 4]), r"^lengths must lie in 1 \.\. 5, not 0 \.\. 5"),
        (torch.tensor([5, 2, 6]), r"^lengths must lie in 1 \.\. 5, not 2 \.\. 6"),
        (torch.tensor([5, -2, 4]), r"^lengths must lie in 1 \.\. 5, not -2 \.\. 5"),
        (torch.tensor([5, 2]), "^lengths must be as many as the inputs, 3, not 2"),
        (torch.tensor([5, 2, 4, 1]), "^lengths must be as many as the inputs, 3, not 4"),
        (torch.tensor([[5, 2, 4]]), r"^lengths must be a non-empty vector \(batch,\)"),
        (torch.tensor(5), r"^lengths must be a non-empty vector \(batch,\)"),
        (torch.tensor([], dtype=torch.long), r"^lengths must be a non-empty vector \(batch,\)"),
        (torch.tensor([5.0, 2.0, 4.0]), "^lengths must be integers, not torch.float32"),
        (torch.tensor([True, True, True]), "^lengths must be integers, not torch.bool"),
    ],
)
def test_impossible_lengths(lengths: Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make_stack()(make_inputs(), lengths)


def test_what_is_no_tensor_is_refused_by_name() -> None:
    numbers: Any = [5, 2, 4]
    with pytest.raises(ValueError, match=r"^lengths must be a tensor of integers, not a list"):
        make_stack()(make_inputs(), numbers)
    nested: Any = make_inputs().tolist()
    with pytest.raises(ValueError, match=r"^inputs must be a tensor \(batch, frames, 4\), not a list"):
        make_stack()(nested, LENGTHS)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_lengths_of_any_integer_type_serve(dtype: torch.dtype) -> None:
    stack = make_stack()
    assert torch.equal(stack(make_inputs(), LENGTHS.to(dtype)), stack(make_inputs(), LENGTHS))


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        (
            torch.zeros(0, FRAMES, DIMS),
            r"^inputs must be \(batch, frames, 4\) with a sequence and a frame at least",
        ),
        (torch.zeros(BATCH, 0, DIMS), r"not of shape \(3, 0, 4\)"),
        (
            torch.zeros(BATCH, FRAMES, DIMS + 1),
            r"^inputs must be \(batch, frames, 4\).* not of shape \(3, 5, 5\)",
        ),
        (torch.zeros(FRAMES, DIMS), r"^inputs must be \(batch, frames, 4\)"),
        (
            torch.zeros(BATCH, FRAMES, DIMS).double(),
            "^inputs must be torch.float32 on cpu as the weights are, not torch.float64",
        ),
        (torch.zeros(BATCH, FRAMES, DIMS).half(), "^inputs must be torch.float32"),
        (torch.zeros(BATCH, FRAMES, DIMS).bfloat16(), "^inputs must be torch.float32"),
        (torch.zeros(BATCH, FRAMES, DIMS).long(), "^inputs must be torch.float32 .* not torch.int64"),
        (torch.zeros(BATCH, FRAMES, DIMS, device="meta"), "^inputs must be torch.float32 on cpu .* on meta"),
    ],
)
def test_impossible_inputs(inputs: Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make_stack()(inputs, LENGTHS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_refused_with_the_way_out(dtype: torch.dtype) -> None:
    with pytest.raises(
        ValueError, match=f"^weights must be float32 or float64, not {dtype}; for less use torch.autocast"
    ):
        make_stack().to(dtype)(make_inputs().to(dtype), LENGTHS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_runs_in_either_half_precision(dtype: torch.dtype) -> None:
    stack = make_stack()
    exact = stack(make_inputs(), LENGTHS)
    with torch.autocast("cpu", dtype=dtype):
        rounded = stack(make_inputs(), LENGTHS)
    assert rounded.dtype == torch.float
    assert 0 < (rounded - exact).abs().max() < 0.01


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layer_norm": True},
        {"time_reduction": (2,)},
        {"shortcut": "highway"},
        {"projection": 3},
        {"cell_norm": True},
        {"peepholes": True, "coupled_gates": True},
        {"zoneout_cell": 0.2, "zoneout_state": 0.2},
        {"candidate_dropout": 0.2, "step_dropout": 0.2, "weight_dropout": 0.2},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
@pytest.mark.parametrize("native_kernel", [True, False])
@pytest.mark.parametrize("low", [False, True])
def test_nan_in_one_sequence_reaches_no_other(
    options: dict[str, Any], native_kernel: bool, low: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native_kernel:
        monkeypatch.setattr(native, "usable", lambda *tensors: False)
    torch.manual_seed(0)
    stack = VariationalLSTM(DIMS, HIDDEN, layers=2, layer_dropout=0.2, state_dropout=0.2, **options)
    clean, soiled = make_inputs(), make_inputs()
    soiled[0, 1] = torch.nan
    found = []
    for inputs in (clean, soiled):
        torch.manual_seed(3)
        inputs.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            outputs = stack(inputs, LENGTHS)
        (gradient,) = torch.autograd.grad(outputs[1:].sum(), inputs)
        found.append([outputs[1:], gradient[1:]])
    assert bool(outputs[0].isnan().any())
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
