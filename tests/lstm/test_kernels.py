"""The layer, whichever kernel runs it, against the equations of its cell."""

from __future__ import annotations

import pytest
import torch
from lstm_reference import (
    DIMS,
    FRAMES,
    HIDDEN,
    LENGTHS,
    PLAIN,
    VARIANTS,
    assert_alike,
    by_cell,
    by_kernel,
    converted,
    leaves,
    make_arguments,
    make_inputs,
    pull,
    tensors_of,
    with_tensors,
)
from torch import Tensor

from asr_lstm.lstm.kernels import lstm_layer, plan_packing
from asr_lstm.lstm.kernels.loop import run_loop
from asr_lstm.lstm.kernels.rows import pack


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("lengths", "frames"),
    [(LENGTHS, FRAMES + 2), ([5], 5), ([1, 1, 1], 1)],
    ids=["mixed", "alone", "one frame"],
)
def test_each_variant_is_its_cell_run_over_each_sequence(
    directions: int, variant: str, lengths: list[int], frames: int
) -> None:
    arguments = make_arguments(VARIANTS[variant], directions=directions, batch=len(lengths))
    (one, ours), (other, reference) = leaves(arguments), leaves(arguments)
    ours["inputs"], reference["inputs"] = (
        make_inputs(len(lengths), frames).requires_grad_() for _ in range(2)
    )
    outcome = by_kernel(ours["inputs"], lengths, one)
    expected = by_cell(reference["inputs"], lengths, other)
    for value, wanted in zip(outcome, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-12)
    pull(outcome).backward()
    pull(expected).backward()
    assert_alike(ours, reference, tolerance=1e-10)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in ("plain", "zoneout expected")])
def test_each_variant_is_not_the_plain_layer(variant: str) -> None:
    inputs = make_inputs(len(LENGTHS), FRAMES)
    varied = make_arguments(VARIANTS[variant], directions=2, batch=len(LENGTHS))
    plain = by_cell(inputs, LENGTHS, make_arguments((), directions=2, batch=len(LENGTHS)))[0]
    outputs = by_kernel(inputs, LENGTHS, varied)[0]
    assert outputs.shape != plain.shape or not torch.allclose(outputs, plain)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradcheck(directions: int, variant: str) -> None:
    lengths = [2, 4, 1]
    arguments = make_arguments(VARIANTS[variant], directions=directions, batch=3, dims=2, hidden=2)
    tensors = tensors_of(arguments)

    def run(inputs: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        return by_kernel(inputs, lengths, with_tensors(arguments, dict(zip(tensors, values, strict=True))))

    values = [value.clone().requires_grad_() for value in tensors.values()]
    # Each gradient by each input where the backward pass is our own, along a random direction where it is torch's.
    fast = variant not in PLAIN
    assert torch.autograd.gradcheck(run, (make_inputs(3, 4, 2).requires_grad_(), *values), fast_mode=fast)


@pytest.mark.parametrize("variant", PLAIN)
def test_the_plain_kernel_and_the_loop_do_the_same(variant: str) -> None:
    """In double both run in torch: by a backward pass of our own, and by autograd."""
    arguments = make_arguments(VARIANTS[variant], directions=2, batch=len(LENGTHS))
    inputs = make_inputs(len(LENGTHS), FRAMES)
    plan = plan_packing(torch.tensor(LENGTHS), frames=FRAMES)
    fast = lstm_layer(pack(inputs, plan), plan=plan, **arguments)[0]
    arguments["norm"] = None
    seen = []

    def record(*args: object, **kwargs: object) -> object:
        seen.append(run_loop(*args, **kwargs))  # type: ignore[arg-type]
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "asr_lstm.lstm.kernels.run_layer", lambda kernel, call, leaves, rows: record(call, leaves, rows)
        )
        slow = lstm_layer(pack(inputs, plan), plan=plan, **arguments)[0]
    assert len(seen) == 1
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)


def test_float32_stays_near_float64() -> None:
    exact = make_arguments(("mask",), directions=2, batch=7)
    outputs = by_kernel(make_inputs(7, FRAMES).float(), LENGTHS, converted(exact, torch.float))[0]
    assert outputs.dtype == torch.float
    torch.testing.assert_close(
        outputs.double(), by_kernel(make_inputs(7, FRAMES), LENGTHS, exact)[0], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_autocast_rounds_the_products_and_keeps_the_types(variant: str) -> None:
    arguments = converted(make_arguments(VARIANTS[variant], directions=2, batch=7), torch.float)
    (one, rounded), (other, exact) = leaves(arguments), leaves(arguments)
    inputs = make_inputs(7, FRAMES).float()
    expected = by_kernel(inputs, LENGTHS, other)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outcome = by_kernel(inputs, LENGTHS, one)
        assert torch.equal(outcome[0], by_kernel(inputs.bfloat16(), LENGTHS, one)[0])
    for value, wanted in zip(outcome, expected, strict=True):
        assert value.dtype == torch.float
        assert 1e-4 < (value - wanted).abs().max() < 0.1  # bfloat16 has 8 bits
    pull(expected).backward()
    pull(outcome).backward()
    for name, value in rounded.items():
        assert value.grad is not None, name
        assert value.grad.dtype == torch.float, name
        assert exact[name].grad is not None
        # To normalise over three units blows up any rounding where they are nearly equal.
        share = 0.5 if "norm" in VARIANTS[variant] else 0.05
        assert (value.grad - exact[name].grad).norm() < share * exact[name].grad.norm(), name  # type: ignore[operator]


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_is_neither_read_nor_written(variant: str, dtype: torch.dtype) -> None:
    arguments = converted(make_arguments(VARIANTS[variant], directions=2, batch=7), dtype)
    padding = torch.arange(FRAMES) >= torch.tensor(LENGTHS)[:, None]
    found = []
    for filler in (0.0, torch.nan):
        given, tensors = leaves(arguments)
        inputs = make_inputs(7, FRAMES).to(dtype).masked_fill(padding[..., None], filler).requires_grad_()
        outputs = by_kernel(inputs, LENGTHS, given)[0]
        assert not outputs[padding].any()
        assert (outputs[~padding] != 0).any(-1).all()
        outputs.backward(torch.ones_like(outputs).masked_fill(padding[..., None], filler))
        assert inputs.grad is not None
        assert not inputs.grad[padding].any()
        found.append([outputs, inputs.grad, *(value.grad for value in tensors.values())])
    for clean, soiled in zip(*found, strict=True):
        assert torch.equal(clean, soiled)


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sequence_of_nan_leaves_the_others_alone(variant: str, dtype: torch.dtype) -> None:
    arguments = converted(make_arguments(VARIANTS[variant], directions=2, batch=7), dtype)
    others = torch.arange(7) != 1  # the second is one of the longest, and first in the order
    found = []
    for filler in (0.5, torch.nan):
        inputs = make_inputs(7, FRAMES).to(dtype)
        inputs[1, 3] = filler
        inputs.requires_grad_()
        outputs, states, cells = by_kernel(inputs, LENGTHS, arguments)
        (gradient,) = torch.autograd.grad(outputs[others].sum(), inputs)
        found.append([outputs[others], states[:, others], cells[:, others], gradient[others]])
        assert bool(outputs[1].isnan().any()) == (filler != 0.5)
    for clean, soiled in zip(*found, strict=True):
        assert torch.equal(clean, soiled)


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_layout_of_inputs_and_gradient_does_not_matter(dtype: torch.dtype) -> None:
    arguments = converted(make_arguments(("mask", "states"), directions=2, batch=7), dtype)
    (one, plain), (other, odd) = leaves(arguments), leaves(arguments)
    inputs = make_inputs(7, FRAMES).to(dtype)
    strided = inputs.transpose(0, 1).contiguous().transpose(0, 1)
    assert not strided.is_contiguous()
    for name in ("weight_ih", "weight_hh"):
        other[name] = odd[name].mT.contiguous().mT
        assert not other[name].is_contiguous()
    outputs, again = by_kernel(inputs, LENGTHS, one)[0], by_kernel(strided, LENGTHS, other)[0]
    torch.testing.assert_close(outputs, again, rtol=0, atol=1e-6 if dtype == torch.float else 1e-14)
    outputs.backward(torch.ones_like(outputs))
    again.sum().backward()  # an expanded gradient, of one number in memory
    assert_alike(odd, plain, tolerance=1e-5 if dtype == torch.float else 1e-12)


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_a_second_backward_pass_finds_what_the_first_one_found(dtype: torch.dtype) -> None:
    given, tensors = leaves(converted(make_arguments(("mask", "states"), directions=2, batch=7), dtype))
    total = pull(by_kernel(make_inputs(7, FRAMES).to(dtype), LENGTHS, given))
    first, second = (torch.autograd.grad(total, list(tensors.values()), retain_graph=True) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_a_derivative_of_the_gradient_is_refused() -> None:
    given, tensors = leaves(make_arguments((), directions=2, batch=7))
    outputs = by_kernel(make_inputs(7, FRAMES), LENGTHS, given)[0]
    (gradient,) = torch.autograd.grad(outputs.square().sum(), tensors["weight_hh"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
@pytest.mark.parametrize("wanted", ["inputs", "weight_ih", "weight_hh", "bias", "states", "cells"])
def test_each_gradient_can_be_had_alone(wanted: str, dtype: torch.dtype) -> None:
    arguments = converted(make_arguments(("states",), directions=2, batch=7), dtype)
    given, tensors = leaves(arguments)
    tensors["inputs"] = make_inputs(7, FRAMES).to(dtype).requires_grad_()
    by_kernel(tensors["inputs"], LENGTHS, given)[0].sum().backward()

    single = {name: value.detach().clone() for name, value in tensors.items()}
    single[wanted].requires_grad_()
    by_kernel(single["inputs"], LENGTHS, with_tensors(arguments, single))[0].sum().backward()
    assert single[wanted].grad is not None
    assert torch.equal(single[wanted].grad, tensors[wanted].grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["outputs", "states", "cells"])
def test_a_gradient_may_come_from_any_result_alone(which: int, dtype: torch.dtype) -> None:
    arguments = make_arguments(("mask",), directions=2, batch=7)
    (one, ours), (other, reference) = leaves(converted(arguments, dtype)), leaves(arguments)
    inputs = make_inputs(7, FRAMES)
    by_kernel(inputs.to(dtype), LENGTHS, one)[which].sum().backward()
    by_cell(inputs, LENGTHS, other)[which].sum().backward()
    for name, value in ours.items():
        torch.testing.assert_close(value.grad.double(), reference[name].grad, rtol=1e-4, atol=1e-4)  # type: ignore[union-attr]


def test_nothing_is_kept_where_no_gradient_is_wanted() -> None:
    arguments = converted(make_arguments(("mask",), directions=2, batch=7), torch.float)
    given, _ = leaves(arguments)
    inputs = make_inputs(7, FRAMES).float()
    with_graph = by_kernel(inputs, LENGTHS, given)[0]
    with torch.no_grad():
        without = by_kernel(inputs, LENGTHS, given)[0]
    assert with_graph.requires_grad
    assert not without.requires_grad
    assert torch.equal(with_graph, without)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("rows", (sum(LENGTHS) + 1, DIMS)),
        ("rows", (sum(LENGTHS), DIMS + 1)),
        ("rows", (7, FRAMES, DIMS)),
        ("weight_ih", (2, 4 * HIDDEN + 4, DIMS)),
        ("weight_ih", (1, 4 * HIDDEN, DIMS)),
        ("weight_hh", (2, 4 * HIDDEN + 4, HIDDEN)),
        ("bias", (2, 4 * HIDDEN + 1)),
        ("bias", (4 * HIDDEN,)),
        ("state_mask", (2, 7, HIDDEN + 1)),
        ("state_mask", (7, HIDDEN)),
        ("peepholes", (2, 2, HIDDEN)),
    ],
)
def test_a_shape_that_does_not_fit_is_refused_by_name(name: str, shape: tuple[int, ...]) -> None:
    arguments = make_arguments(("mask", "peepholes"), directions=2, batch=7)
    plan = plan_packing(torch.tensor(LENGTHS), frames=FRAMES)
    arguments["rows"] = pack(make_inputs(7, FRAMES), plan)
    arguments[name] = torch.zeros(shape, dtype=torch.double)
    with pytest.raises(ValueError, match=rf"^{name} does not fit"):
        lstm_layer(arguments.pop("rows"), plan=plan, **arguments)
