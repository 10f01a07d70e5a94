"""The plain layer by torch's fused LSTM, here the one on the CPU, against the equations of its cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from lstm_reference import (
    FRAMES,
    LENGTHS,
    Outcome,
    assert_alike,
    by_cell,
    by_kernel,
    converted,
    leaves,
    make_arguments,
    make_inputs,
    pull,
)
from torch import Tensor

from asr_lstm.lstm import VariationalLSTM
from asr_lstm.lstm.kernels import StepNoise, dense, lstm_layer, plan_packing
from asr_lstm.lstm.kernels.call import Call, Leaves
from asr_lstm.lstm.kernels.rows import pack


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """`lstm_layer` takes the kernel wherever it fits, on the CPU too; the calls that it was given."""
    calls: list[Call] = []
    run = dense.run_dense
    monkeypatch.setattr(dense, "usable", dense.fits)
    monkeypatch.setattr(dense, "run_dense", lambda call, *rest: (calls.append(call), run(call, *rest))[1])
    return calls


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(
    ("lengths", "frames"),
    [(LENGTHS, FRAMES + 2), ([5], 5), ([3, 3, 3], 3), ([1, 1], 1), ([1, 40], 40)],
    ids=["mixed", "alone", "even", "one frame", "mostly padding"],
)
@pytest.mark.parametrize("states", [False, True], ids=["from zero", "from states"])
def test_it_is_the_cell_run_over_each_sequence(
    as_on_a_gpu: list[Call], directions: int, lengths: list[int], frames: int, states: bool
) -> None:
    arguments = make_arguments(("states",) if states else (), directions=directions, batch=len(lengths))
    (one, ours), (other, reference) = leaves(arguments), leaves(arguments)
    ours["inputs"], reference["inputs"] = (
        make_inputs(len(lengths), frames).requires_grad_() for _ in range(2)
    )
    outcome = by_kernel(ours["inputs"], lengths, one)
    expected = by_cell(reference["inputs"], lengths, other)
    # What the padding would lose is left to the other kernels, and so is a single step.
    served = not states or directions == 1 or len(set(lengths)) == 1
    assert bool(as_on_a_gpu) == (served and max(lengths) > 1)
    for value, wanted in zip(outcome, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-12)
    pull(outcome).backward()
    pull(expected).backward()
    assert_alike(ours, reference, tolerance=1e-10)


@pytest.mark.parametrize("directions", [1, 2])
def test_gradcheck(as_on_a_gpu: list[Call], directions: int) -> None:
    lengths = [2, 4, 1]
    arguments = make_arguments((), directions=directions, batch=3, dims=2, hidden=2)
    names = ("weight_ih", "weight_hh", "bias")

    def run(inputs: Tensor, *values: Tensor) -> Outcome:
        return by_kernel(inputs, lengths, arguments | dict(zip(names, values, strict=True)))

    values = [arguments[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(run, (make_inputs(3, 4, 2).requires_grad_(), *values), fast_mode=True)
    assert as_on_a_gpu


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float, 1e-6), (torch.double, 1e-14)])
def test_padding_holds_the_state(as_on_a_gpu: list[Call], dtype: torch.dtype, rounding: float) -> None:
    """Beside a sequence 400 frames long another gives what it gives beside one of four.

    To the bit, but that some processors round a product of more rows otherwise. What 397 steps forget would be more.
    """
    arguments = converted(make_arguments((), directions=2, batch=2), dtype)
    found = []
    for longer in (4, 400):
        given, _ = leaves(arguments)
        inputs = make_inputs(2, 400).to(dtype)[:, :longer].requires_grad_()
        outputs, states, cells = by_kernel(inputs, [3, longer], given)
        (gradient,) = torch.autograd.grad((outputs[0].sum() + cells[:, 0].sum()), inputs)
        found.append([outputs[0, :3], states[:, 0], cells[:, 0], gradient[0, :3]])
        assert not gradient[0, 3:].any()
        assert not gradient[1].any()
    for near, far in zip(*found, strict=True):
        torch.testing.assert_close(far, near, rtol=rounding, atol=rounding)


def test_a_sequence_of_nan_leaves_the_others_alone(as_on_a_gpu: list[Call]) -> None:
    arguments = make_arguments((), directions=2, batch=7)
    others = torch.arange(7) != 4
    found = []
    for filler in (0.5, torch.nan):
        inputs = make_inputs(7, FRAMES)
        inputs[4, 3] = filler
        outputs, _, cells = by_kernel(inputs.requires_grad_(), LENGTHS, arguments)
        (gradient,) = torch.autograd.grad(outputs[others].sum(), inputs)
        found.append([outputs[others], cells[:, others], gradient[others]])
    for clean, soiled in zip(*found, strict=True):
        assert torch.equal(clean, soiled)


def test_autocast_rounds_the_products_and_keeps_the_types(as_on_a_gpu: list[Call]) -> None:
    arguments = make_arguments((), directions=2, batch=7)
    (one, rounded), (other, exact) = leaves(converted(arguments, torch.float)), leaves(arguments)
    inputs = make_inputs(7, FRAMES)
    with torch.autocast("cpu", torch.bfloat16):
        outcome = by_kernel(inputs.float(), LENGTHS, one)
    expected = by_cell(inputs, LENGTHS, other)
    assert [call.kind for call in as_on_a_gpu] == [torch.bfloat16]
    for value, wanted in zip(outcome, expected, strict=True):
        assert value.dtype == torch.float
        torch.testing.assert_close(value.double(), wanted, rtol=0, atol=0.06)
    pull(outcome).backward()
    pull(expected).backward()
    for name, value in rounded.items():
        assert value.grad is not None
        assert value.grad.dtype == torch.float
        assert (value.grad - exact[name].grad).norm() < 0.05 * exact[name].grad.norm(), name  # type: ignore[operator,union-attr]


@pytest.mark.parametrize(
    "rates", [{"weight_dropout": 0.3}, {"input_dropout": 0.3, "layer_dropout": 0.3}, {"step_dropout": 0.3}]
)
def test_a_stack_with_dropout_it_has_no_part_in_is_that_of_the_other_kernels(
    as_on_a_gpu: list[Call], rates: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    stack = VariationalLSTM(5, 4, layers=2, **rates).double()  # type: ignore[arg-type]
    inputs, lengths = make_inputs(7, FRAMES), torch.tensor(LENGTHS)
    found = []
    for usable in (dense.fits, lambda call, leaves: False):
        monkeypatch.setattr(dense, "usable", usable)
        torch.manual_seed(1)
        outputs = stack(inputs, lengths)
        gradients = torch.autograd.grad(outputs.square().sum(), list(stack.parameters()))
        found.append([outputs, *gradients])
    assert len(as_on_a_gpu) == 2
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_what_cudnn_cannot_do_is_left_to_others() -> None:
    arguments: dict[str, dict[str, Any]] = {
        "plain": {},
        "mask": {"mask": torch.ones(2, 7, 3)},
        "noise": {"noise": StepNoise(cell=0.1, expected=True)},
    }
    plan = plan_packing(torch.tensor(LENGTHS), frames=FRAMES)
    made = make_arguments(("peepholes",), directions=2, batch=7)
    weights = [made[name] for name in ("weight_ih", "weight_hh", "bias")]

    def fits(leaves: Leaves, **changes: Any) -> bool:
        call = {"mask": None, "noise": StepNoise(), "kind": torch.double} | changes
        return dense.fits(Call(plan=plan, **call), leaves)

    plain = Leaves(*weights, None, None, None)
    assert {name: fits(plain, **changes) for name, changes in arguments.items()} == {
        "plain": True,
        "mask": False,
        "noise": False,
    }
    assert not fits(plain._replace(peepholes=made["peepholes"]))
    assert not fits(plain._replace(weight_hh=weights[1][:, :9]))
    states = torch.zeros(2, 7, 3)
    assert not fits(plain._replace(states=states, cells=states))
    assert not dense.usable(Call(plan, None, StepNoise(), torch.double), plain)  # on the CPU native serves


def test_weights_are_one_buffer_in_the_order_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN's order, gaps and all, is met: what lies where, and the gradient of each weight."""
    made = make_arguments((), directions=2, batch=1)
    weights = [made[name].requires_grad_() for name in ("weight_ih", "weight_hh", "bias")]
    plain = dense._laid_out(Leaves(*weights, None, None, None), torch.double, columns=0)
    sizes = [part.numel() for part in plain]
    order: Sequence[tuple[int | None, int]] = [(None, 3)]
    order = [*order, *((place, sizes[place]) for place in (0, 1, 4, 5, 2, 3, 6, 7)), (None, 5)]
    monkeypatch.setattr(dense, "_order", lambda *args: order)
    parts = dense._laid_out(Leaves(*weights, None, None, None), torch.double, columns=0)
    start = parts[0].untyped_storage().data_ptr()
    place = {number: (part.data_ptr() - start) // 8 for number, part in enumerate(parts)}
    assert len(parts[0].untyped_storage()) // 8 == sum(sizes) + 8
    assert sorted(place, key=place.__getitem__) == [0, 1, 4, 5, 2, 3, 6, 7]
    assert place[0] == 3
    for part, other in zip(parts, plain, strict=True):
        assert torch.equal(part, other)
    torch.stack([part.sum() * number for number, part in enumerate(parts)]).sum().backward()
    assert [weight.grad[direction].unique().tolist() for weight in weights for direction in range(2)] == [  # type: ignore[index]
        [0.0],
        [4.0],
        [1.0],
        [5.0],
        [2.0],
        [6.0],
    ]


def test_nothing_is_kept_where_no_gradient_is_wanted(
    as_on_a_gpu: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuDNN is told whether a backward pass comes, not whether the module trains."""
    arguments = make_arguments((), directions=2, batch=7)
    plan = plan_packing(torch.tensor(LENGTHS), frames=FRAMES)
    asked: list[bool] = []
    lstm = torch.lstm
    monkeypatch.setattr(torch, "lstm", lambda *args: (asked.append(args[6]), lstm(*args))[1])
    rows = pack(make_inputs(7, FRAMES), plan)
    lstm_layer(rows, plan=plan, **arguments)
    with torch.no_grad():
        lstm_layer(rows, plan=plan, **arguments)
    assert asked == [True, False]
