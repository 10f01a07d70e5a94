from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from asr_lstm.lstm import lstm_cell
from asr_lstm.lstm.dropout import sequence_mask
from asr_lstm.lstm.kernels import lstm_layer, plan_packing

# Unsorted, with ties, a single frame and a full one.
LENGTHS = [4, 9, 1, 9, 6, 1, 7]
FRAMES = 9
DIMS, HIDDEN = 5, 3


class Problem(NamedTuple):
    inputs: Tensor
    weight_ih: Tensor
    weight_hh: Tensor
    bias: Tensor

    def leaves(self) -> Problem:
        return Problem(*(tensor.detach().clone().requires_grad_() for tensor in self))


def make_problem(directions: int, *, batch: int, frames: int, dtype: torch.dtype = torch.double) -> Problem:
    generator = torch.Generator().manual_seed(directions * 100 + frames)
    shapes = [
        (batch, frames, DIMS),
        (directions, 4 * HIDDEN, DIMS),
        (directions, 4 * HIDDEN, HIDDEN),
        (directions, 4 * HIDDEN),
    ]
    return Problem(
        *(torch.randn(*shape, generator=generator, dtype=torch.double).to(dtype) for shape in shapes)
    )


def make_mask(directions: int, *, batch: int) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return sequence_mask(directions, batch, HIDDEN, rate=0.4, like=torch.empty(0, dtype=torch.double))


def by_kernel(
    problem: Problem,
    lengths: Sequence[int],
    state_mask: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
) -> Tensor:
    plan = plan_packing(
        torch.tensor(lengths), frames=problem.inputs.shape[1], directions=len(problem.weight_hh)
    )
    return lstm_layer(
        problem.inputs if inputs is None else inputs,
        weight_ih=problem.weight_ih,
        weight_hh=problem.weight_hh,
        bias=problem.bias,
        plan=plan,
        state_mask=state_mask,
    )


def by_cell(problem: Problem, lengths: Sequence[int], state_mask: Tensor | None = None) -> Tensor:
    """The same one sequence, one direction and one frame at a time."""
    rows = []
    for place, length in enumerate(lengths):
        directions = []
        for direction in range(len(problem.weight_hh)):
            forward = direction == 0
            state = cell = problem.inputs.new_zeros(1, HIDDEN)
            outputs = []
            for frame in range(length) if forward else reversed(range(length)):
                state, cell = lstm_cell(
                    problem.inputs[place, frame][None],
                    state if state_mask is None else state * state_mask[direction, place],
                    cell,
                    weight_ih=problem.weight_ih[direction],
                    weight_hh=problem.weight_hh[direction],
                    bias=problem.bias[direction],
                )
                outputs.append(state)
            directions.append(torch.cat(outputs if forward else outputs[::-1]))
        row = torch.cat(directions, dim=1)
        rows.append(torch.nn.functional.pad(row, (0, 0, 0, problem.inputs.shape[1] - length)))
    return torch.stack(rows)


def pull(outputs: Tensor) -> Tensor:
    """What stands in for the gradient of a loss: random numbers."""
    generator = torch.Generator().manual_seed(11)
    return torch.randn(outputs.shape, generator=generator, dtype=torch.double).to(outputs.dtype)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("dropout", [False, True], ids=["without mask", "with mask"])
@pytest.mark.parametrize(
    ("lengths", "frames"),
    [(LENGTHS, FRAMES), (LENGTHS, FRAMES + 4), ([5], 5), ([1, 1, 1], 1), ([8] * 3, 8)],
    ids=["mixed", "frames that nobody fills", "alone", "one frame", "equal"],
)
def test_the_kernel_is_the_cell_run_over_each_sequence(
    directions: int, dropout: bool, lengths: list[int], frames: int
) -> None:
    problem = make_problem(directions, batch=len(lengths), frames=frames)
    mask = make_mask(directions, batch=len(lengths)) if dropout else None
    ours, reference = problem.leaves(), problem.leaves()
    outputs, expected = by_kernel(ours, lengths, mask), by_cell(reference, lengths, mask)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)
    outputs.backward(pull(outputs))
    expected.backward(pull(expected))
    for name, one, other in zip(Problem._fields, ours, reference, strict=True):
        torch.testing.assert_close(
            one.grad, other.grad, rtol=0, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
        )
    if dropout:
        assert not torch.allclose(by_kernel(problem, lengths), expected) or max(lengths) == 1


def test_float32_stays_near_float64() -> None:
    exact = make_problem(2, batch=7, frames=FRAMES)
    rounded = make_problem(2, batch=7, frames=FRAMES, dtype=torch.float)
    outputs = by_kernel(rounded, LENGTHS)
    assert outputs.dtype == torch.float
    torch.testing.assert_close(outputs.double(), by_kernel(exact, LENGTHS), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dropout", [False, True], ids=["without mask", "with mask"])
def test_autocast_rounds_the_products_and_keeps_the_types(dropout: bool) -> None:
    exact, rounded = (make_problem(2, batch=7, frames=FRAMES, dtype=torch.float).leaves() for _ in range(2))
    mask = make_mask(2, batch=7).float() if dropout else None
    expected = by_kernel(exact, LENGTHS, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = by_kernel(rounded, LENGTHS, mask)
        assert torch.equal(outputs, by_kernel(rounded, LENGTHS, mask, inputs=rounded.inputs.bfloat16()))
    assert outputs.dtype == torch.float
    assert 1e-4 < (outputs - expected).abs().max() < 0.05  # bfloat16 has 8 bits
    expected.backward(pull(expected))
    outputs.backward(pull(expected))
    for name, one, other in zip(Problem._fields, rounded, exact, strict=True):
        assert one.grad is not None, name
        assert one.grad.dtype == torch.float, name
        assert (one.grad - other.grad).norm() < 0.05 * other.grad.norm(), name


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("dropout", [False, True], ids=["without mask", "with mask"])
def test_gradcheck(directions: int, dropout: bool) -> None:
    lengths = [2, 5, 1, 3]
    problem = make_problem(directions, batch=4, frames=5).leaves()
    mask = make_mask(directions, batch=4) if dropout else None
    assert torch.autograd.gradcheck(
        lambda *tensors: by_kernel(Problem(*tensors), lengths, mask), tuple(problem)
    )


@pytest.mark.parametrize("directions", [1, 2])
def test_padding_is_neither_read_nor_written(directions: int) -> None:
    clean, soiled = (make_problem(directions, batch=7, frames=FRAMES).leaves() for _ in range(2))
    padding = torch.arange(FRAMES) >= torch.tensor(LENGTHS)[:, None]
    with torch.no_grad():
        soiled.inputs[padding] = torch.nan
    mask = make_mask(directions, batch=7)
    outputs, again = by_kernel(clean, LENGTHS, mask), by_kernel(soiled, LENGTHS, mask)
    assert torch.equal(outputs, again)
    assert not outputs[padding].any()
    assert (outputs[~padding] != 0).all()

    gradient = pull(outputs)
    outputs.backward(gradient)
    again.backward(gradient.masked_fill(padding[..., None], torch.nan))
    for one, other in zip(clean, soiled, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0)
    assert clean.inputs.grad is not None
    assert not clean.inputs.grad[padding].any()


def test_layout_of_inputs_and_gradient_does_not_matter() -> None:
    plain, odd = (make_problem(2, batch=7, frames=FRAMES).leaves() for _ in range(2))
    strided = odd.inputs.transpose(0, 1).contiguous().transpose(0, 1)
    assert not strided.is_contiguous()
    outputs, again = by_kernel(plain, LENGTHS), by_kernel(odd, LENGTHS, inputs=strided)
    assert torch.equal(outputs, again)
    outputs.backward(torch.ones_like(outputs))
    again.sum().backward()  # an expanded gradient, of one number in memory
    for one, other in zip(plain, odd, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-12)


def test_a_second_backward_pass_finds_what_the_first_one_found() -> None:
    problem = make_problem(2, batch=7, frames=FRAMES).leaves()
    outputs = by_kernel(problem, LENGTHS, make_mask(2, batch=7))
    first, second = (
        torch.autograd.grad(outputs, problem, pull(outputs), retain_graph=True) for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_a_derivative_of_the_gradient_is_refused() -> None:
    problem = make_problem(2, batch=7, frames=FRAMES).leaves()
    outputs = by_kernel(problem, LENGTHS)
    (gradient,) = torch.autograd.grad(outputs.square().sum(), problem.weight_hh, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("wanted", Problem._fields)
def test_each_gradient_can_be_had_alone(wanted: str) -> None:
    full = make_problem(2, batch=7, frames=FRAMES).leaves()
    by_kernel(full, LENGTHS).sum().backward()
    problem = make_problem(2, batch=7, frames=FRAMES)
    getattr(problem, wanted).requires_grad_()
    by_kernel(problem, LENGTHS).sum().backward()
    assert torch.equal(getattr(problem, wanted).grad, getattr(full, wanted).grad)


@pytest.mark.parametrize("directions", [1, 2])
def test_a_plan_meets_each_valid_frame_once_and_never_padding(directions: int) -> None:
    plan = plan_packing(torch.tensor(LENGTHS), frames=FRAMES + 2, directions=directions)
    valid = [row * (FRAMES + 2) + frame for row, length in enumerate(LENGTHS) for frame in range(length)]
    assert plan.directions == directions
    for met in plan.frame:
        assert sorted(met.tolist()) == valid
    assert plan.active == [sum(length > step for length in LENGTHS) for step in range(FRAMES)]
    assert sum(plan.active) == len(valid)
    assert [LENGTHS[place] for place in plan.order.tolist()] == sorted(LENGTHS, reverse=True)


@pytest.mark.parametrize(
    ("lengths", "complaint"),
    [
        (torch.tensor([], dtype=torch.long), "non-empty vector"),
        (torch.tensor([[3]]), "non-empty vector"),
        (torch.tensor(3), "non-empty vector"),
        (torch.tensor([3, 0]), r"1 \.\. 5, not 0 \.\. 3"),
        (torch.tensor([-1, 2]), r"1 \.\. 5, not -1 \.\. 2"),
        (torch.tensor([3, 6]), r"1 \.\. 5, not 3 \.\. 6"),
    ],
)
def test_impossible_lengths_are_refused(lengths: Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=rf"^lengths must .*{complaint}"):
        plan_packing(lengths, frames=5, directions=2)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("inputs", (7, FRAMES + 1, DIMS)),
        ("inputs", (6, FRAMES, DIMS)),
        ("inputs", (7, FRAMES, DIMS + 1)),
        ("inputs", (7, FRAMES)),
        ("weight_ih", (2, 4 * HIDDEN + 4, DIMS)),
        ("weight_ih", (1, 4 * HIDDEN, DIMS)),
        ("weight_hh", (2, 4 * HIDDEN + 4, HIDDEN)),
        ("bias", (2, 4 * HIDDEN + 1)),
        ("bias", (4 * HIDDEN,)),
        ("state_mask", (2, 7, HIDDEN + 1)),
        ("state_mask", (7, HIDDEN)),
    ],
)
def test_a_shape_that_does_not_fit_is_refused_by_name(name: str, shape: tuple[int, ...]) -> None:
    arguments = make_problem(2, batch=7, frames=FRAMES)._asdict() | {"state_mask": make_mask(2, batch=7)}
    arguments[name] = torch.zeros(shape, dtype=torch.double)
    plan = plan_packing(torch.tensor(LENGTHS), frames=FRAMES, directions=2)
    with pytest.raises(ValueError, match=rf"^{name} does not fit"):
        lstm_layer(arguments.pop("inputs"), **arguments, plan=plan)


def test_a_plan_of_other_directions_is_refused() -> None:
    problem = make_problem(2, batch=7, frames=FRAMES)
    plan = plan_packing(torch.tensor(LENGTHS), frames=FRAMES, directions=1)
    with pytest.raises(ValueError, match=r"^plan does not fit"):
        lstm_layer(
            problem.inputs,
            weight_ih=problem.weight_ih,
            weight_hh=problem.weight_hh,
            bias=problem.bias,
            plan=plan,
        )
