from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asr_lstm.lstm import lstm_cell
from asr_lstm.lstm.equations import variant_cell

DIMS, HIDDEN, BATCH, STEPS = 5, 7, 4, 6


def random(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.double, generator=generator).requires_grad_()


def torch_cell() -> nn.LSTMCell:
    cell = nn.LSTMCell(DIMS, HIDDEN, dtype=torch.double)
    with torch.no_grad():
        for seed, parameter in enumerate(cell.parameters()):
            parameter.copy_(random(*parameter.shape, seed=seed))
    return cell


def test_outputs_and_gradients_are_those_of_torch() -> None:
    theirs = torch_cell()
    weight_ih = theirs.weight_ih.detach().clone().requires_grad_()
    weight_hh = theirs.weight_hh.detach().clone().requires_grad_()
    bias = (theirs.bias_ih + theirs.bias_hh).detach().requires_grad_()

    # A few steps, so that gradients flow through state and cell; from states that are not zero.
    inputs = [random(STEPS, BATCH, DIMS, seed=10) for _ in range(2)]
    states = [random(BATCH, HIDDEN, seed=11) for _ in range(2)]
    cells = [random(BATCH, HIDDEN, seed=12) for _ in range(2)]
    ours_state, ours_cell = states[0], cells[0]
    torch_state, torch_cell_state = states[1], cells[1]
    total_ours, total_torch = torch.zeros(()), torch.zeros(())
    for step in range(STEPS):
        ours_state, ours_cell = lstm_cell(
            inputs[0][step], ours_state, ours_cell, weight_ih=weight_ih, weight_hh=weight_hh, bias=bias
        )
        torch_state, torch_cell_state = theirs(inputs[1][step], (torch_state, torch_cell_state))
        torch.testing.assert_close(ours_state, torch_state, rtol=0, atol=1e-12)
        torch.testing.assert_close(ours_cell, torch_cell_state, rtol=0, atol=1e-12)
        pull = random(2, BATCH, HIDDEN, seed=20 + step).detach()
        total_ours = total_ours + (pull[0] * ours_state + pull[1] * ours_cell).sum()
        total_torch = total_torch + (pull[0] * torch_state + pull[1] * torch_cell_state).sum()
    total_ours.backward()
    total_torch.backward()

    pairs = {
        "inputs": (inputs[0], inputs[1]),
        "state": (states[0], states[1]),
        "cell": (cells[0], cells[1]),
        "weight_ih": (weight_ih, theirs.weight_ih),
        "weight_hh": (weight_hh, theirs.weight_hh),
        "bias": (bias, theirs.bias_ih),
    }
    for name, (ours, other) in pairs.items():
        assert other.grad is not None, name
        assert other.grad.abs().max() > 0, name
        torch.testing.assert_close(
            ours.grad, other.grad, rtol=0, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_a_gate_that_is_open_or_shut_does_what_its_name_says() -> None:
    """Biases of +-30 open and shut gates to 1e-13: each gate is told from the others by what it does."""
    zeros = torch.zeros(4, 1, dtype=torch.double)
    cell = torch.tensor([[0.3]], dtype=torch.double)

    def run(*, input_gate: float, forget_gate: float, candidate: float, output_gate: float) -> list[float]:
        bias = torch.tensor([input_gate, forget_gate, candidate, output_gate], dtype=torch.double)
        nothing = torch.zeros(1, 1, dtype=torch.double)
        state, after = lstm_cell(nothing, nothing, cell, weight_ih=zeros, weight_hh=zeros, bias=bias)
        return [round(state.item(), 9), round(after.item(), 9)]

    tanh = torch.tanh
    keeps = run(input_gate=-30, forget_gate=30, candidate=1, output_gate=30)
    assert keeps == [round(tanh(cell).item(), 9), 0.3]
    forgets = run(input_gate=-30, forget_gate=-30, candidate=1, output_gate=30)
    assert forgets == [0.0, 0.0]
    takes = run(input_gate=30, forget_gate=-30, candidate=30, output_gate=30)
    assert takes == [round(tanh(torch.ones((), dtype=torch.double)).item(), 9), 1.0]
    hides = run(input_gate=-30, forget_gate=30, candidate=1, output_gate=-30)
    assert hides == [0.0, 0.3]


def variant_arguments(*, recurrent: int = HIDDEN) -> dict[str, Tensor]:
    return {
        "weight_ih": random(4 * HIDDEN, DIMS, seed=1),
        "weight_hh": random(4 * HIDDEN, recurrent, seed=2),
        "bias": random(4 * HIDDEN, seed=3),
    }


def test_without_variants_the_variant_cell_is_the_plain_one() -> None:
    given = random(BATCH, DIMS, seed=4), random(BATCH, HIDDEN, seed=5), random(BATCH, HIDDEN, seed=6)
    plain, variant = lstm_cell(*given, **variant_arguments()), variant_cell(*given, **variant_arguments())
    for one, other in zip(plain, variant, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_a_projection_is_that_of_torch() -> None:
    theirs = nn.LSTM(DIMS, HIDDEN, proj_size=3, dtype=torch.double)
    inputs, state, cell = (
        random(1, BATCH, DIMS, seed=4),
        random(1, BATCH, 3, seed=5),
        random(1, BATCH, HIDDEN, seed=6),
    )
    _, (next_state, next_cell) = theirs(inputs, (state, cell))
    ours = variant_cell(
        inputs[0],
        state[0],
        cell[0],
        weight_ih=theirs.weight_ih_l0,
        weight_hh=theirs.weight_hh_l0,
        bias=theirs.bias_ih_l0 + theirs.bias_hh_l0,
        projection=theirs.weight_hr_l0,
    )
    torch.testing.assert_close(ours[0], next_state[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(ours[1], next_cell[0], rtol=0, atol=1e-12)


def by_numbers(**options: Any) -> list[float]:
    """State and cell of one unit: gates' inputs 0.1, 0.2, 0.3 and 0.4, x_t and h_{t-1} 0, c_{t-1} 0.5."""
    cell, state = torch.tensor([[0.5]]).double(), torch.tensor([[0.0]]).double()
    zeros = torch.zeros(4, 1).double()
    bias = options.pop("bias", torch.tensor([0.1, 0.2, 0.3, 0.4]).double())
    weights = zeros[: len(bias)]
    return [
        value.item()
        for value in variant_cell(
            state, state, cell, weight_ih=weights, weight_hh=weights, bias=bias, **options
        )
    ]


def test_each_variant_by_its_formula_in_numbers() -> None:
    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    tanh = math.tanh
    fresh = sigmoid(0.2) * 0.5 + sigmoid(0.1) * tanh(0.3)
    shown = sigmoid(0.4) * tanh(fresh)
    assert by_numbers() == pytest.approx([shown, fresh])
    dropped = sigmoid(0.2) * 0.5
    assert by_numbers(candidate_mask=0.0) == pytest.approx([sigmoid(0.4) * tanh(dropped), dropped])
    assert by_numbers(cell_kept=1.0) == pytest.approx([shown, 0.5])
    assert by_numbers(cell_kept=0.25) == pytest.approx([shown, 0.25 * 0.5 + 0.75 * fresh])
    assert by_numbers(state_kept=1.0) == pytest.approx([0.0, fresh])
    peeping = sigmoid(0.2 + 2 * 0.5) * 0.5 + sigmoid(0.1 + 1 * 0.5) * tanh(0.3)
    peepholes = torch.tensor([[1.0], [2.0], [3.0]]).double()
    assert by_numbers(peepholes=peepholes) == pytest.approx(
        [sigmoid(0.4 + 3 * peeping) * tanh(peeping), peeping]
    )
    coupled = sigmoid(0.2) * 0.5 + (1 - sigmoid(0.2)) * tanh(0.3)
    three = torch.tensor([0.2, 0.3, 0.4]).double()
    assert by_numbers(bias=three) == pytest.approx([sigmoid(0.4) * tanh(coupled), coupled])


def test_layer_normalisation_inside_the_cell_is_that_of_the_paper() -> None:
    """Ba et al. 2016, equations 29 to 31, gate by gate, with torch.nn.LayerNorm."""
    arguments = variant_arguments()
    inputs, state, cell = (
        random(BATCH, DIMS, seed=4),
        random(BATCH, HIDDEN, seed=5),
        random(BATCH, HIDDEN, seed=6),
    )
    gains = [
        random(4 * HIDDEN, seed=7),
        random(4 * HIDDEN, seed=8),
        random(HIDDEN, seed=9),
        random(HIDDEN, seed=10),
    ]
    norms = [nn.LayerNorm(len(gain), dtype=torch.double) for gain in gains[:3]]
    with torch.no_grad():
        for norm, gain in zip(norms, gains, strict=False):
            norm.weight.copy_(gain)
        norms[2].bias.copy_(gains[3])
    summed = norms[0](inputs @ arguments["weight_ih"].T) + norms[1](state @ arguments["weight_hh"].T)
    gates = summed + arguments["bias"]
    into, forget, candidate, output = gates.chunk(4, dim=1)
    expected_cell = forget.sigmoid() * cell + into.sigmoid() * candidate.tanh()
    expected = output.sigmoid() * norms[2](expected_cell).tanh()
    found = variant_cell(inputs, state, cell, **arguments, norm=tuple(gains))  # type: ignore[arg-type]
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1], expected_cell, rtol=0, atol=1e-12)
