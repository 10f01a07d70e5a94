from __future__ import annotations

import torch
from torch import Tensor, nn

from asr_lstm.lstm import lstm_cell

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
