"""States in and out: streams, language models, and nn.LSTM's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr_lstm.lstm import States, VariationalLSTM

LENGTHS = torch.tensor([4, 11, 1, 9, 11, 6])
BATCH, FRAMES, DIMS, HIDDEN, LAYERS = 6, 11, 7, 5, 2
VARIANTS: list[dict[str, Any]] = [
    {},
    {"peepholes": True, "coupled_gates": True},
    {"projection": 3},
    {"cell_norm": True, "layer_norm": True, "shortcut": "residual"},
    {"zoneout_cell": 0.2, "zoneout_state": 0.3},
]


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def make_stack(**options: Any) -> VariationalLSTM:
    torch.manual_seed(0)
    return VariationalLSTM(DIMS, HIDDEN, layers=LAYERS, **options).double().eval()


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("projection", [0, 3])
def test_initial_and_final_states_are_those_of_torch(
    projection: int, bidirectional: bool, dtype: torch.dtype
) -> None:
    theirs = nn.LSTM(
        DIMS, HIDDEN, LAYERS, bidirectional=bidirectional, batch_first=True, proj_size=projection, dtype=dtype
    )
    ours = VariationalLSTM.from_torch(theirs)
    directions, size = 1 + bidirectional, projection or HIDDEN
    state, cell = random(LAYERS, directions, BATCH, size), random(LAYERS, directions, BATCH, HIDDEN, seed=2)
    inputs = random(BATCH, FRAMES, DIMS, seed=3).to(dtype)
    mine, reference = (
        [t.to(dtype).clone().requires_grad_() for t in (inputs, state, cell)] for _ in range(2)
    )

    outputs, states = ours.forward_with_states(mine[0], LENGTHS, states=States(mine[1], mine[2]))
    packed = pack_padded_sequence(reference[0], LENGTHS, batch_first=True, enforce_sorted=False)
    given = reference[1].flatten(0, 1), reference[2].flatten(0, 1)
    expected, (last_state, last_cell) = theirs(packed, given)
    expected = pad_packed_sequence(expected, batch_first=True)[0]
    tolerance = {"rtol": 0, "atol": 1e-5 if dtype == torch.float else 1e-12}
    torch.testing.assert_close(outputs, expected, **tolerance)
    torch.testing.assert_close(states.states.flatten(0, 1), last_state, **tolerance)
    torch.testing.assert_close(states.cells.flatten(0, 1), last_cell, **tolerance)
    assert torch.equal(ours(mine[0], LENGTHS, states=States(mine[1], mine[2])), outputs)

    (outputs.sum() + states.states.square().sum() + states.cells.square().sum()).backward()
    (expected.sum() + last_state.square().sum() + last_cell.square().sum()).backward()
    for one, other in zip(mine, reference, strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, other.grad, **tolerance)


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: " ".join(options) or "plain")
@pytest.mark.parametrize("sizes", [[1] * FRAMES, [4, 1, 6], [FRAMES]], ids=str)
@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_a_stream_in_parts_is_the_whole(
    dtype: torch.dtype, sizes: list[int], options: dict[str, Any]
) -> None:
    stack = make_stack(bidirectional=False, **options).to(dtype)
    inputs = random(BATCH, FRAMES, DIMS).to(dtype)
    whole, final = stack.forward_with_states(inputs)
    states, parts = None, []
    for part in inputs.split(sizes, dim=1):
        outputs, states = stack.forward_with_states(part, states=states)
        parts.append(outputs)
    assert states is not None
    tolerance = {"rtol": 0, "atol": 1e-6 if dtype == torch.float else 1e-12}
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, **tolerance)
    torch.testing.assert_close(states.states, final.states, **tolerance)
    torch.testing.assert_close(states.cells, final.cells, **tolerance)


def test_sequences_of_a_beam_can_be_chosen() -> None:
    """Hypotheses that live on are some of the sequences, some of them twice."""
    stack = make_stack(bidirectional=False)
    inputs = random(BATCH, 3, DIMS)
    _, states = stack.forward_with_states(inputs)
    chosen = torch.tensor([4, 0, 4])
    follow = random(3, 2, DIMS, seed=5)
    outputs, _ = stack.forward_with_states(follow, states=states.select(chosen))
    whole = stack(torch.cat([inputs[chosen], follow], dim=1), torch.full((3,), 5))
    torch.testing.assert_close(outputs, whole[:, 3:], rtol=0, atol=1e-12)


def test_lengths_given_and_not_are_the_same_where_all_frames_are_valid() -> None:
    stack = make_stack()
    inputs = random(BATCH, FRAMES, DIMS)
    full = torch.full((BATCH,), FRAMES)
    assert torch.equal(stack.forward_with_states(inputs)[0], stack(inputs, full))


def test_a_pyramid_hands_states_on_between_whole_groups_of_frames() -> None:
    torch.manual_seed(0)
    stack = VariationalLSTM(DIMS, HIDDEN, layers=3, bidirectional=False, time_reduction=(2, 3)).double()
    inputs = random(2, 18, DIMS)
    whole = stack(inputs, torch.tensor([18, 18]))
    first, states = stack.forward_with_states(inputs[:, :12])
    last = stack(inputs[:, 12:], torch.tensor([6, 6]), states=states)
    torch.testing.assert_close(torch.cat([first, last], dim=1), whole, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"^lengths must be multiples of 6"):
        stack.forward_with_states(inputs[:, :9])


def test_a_step_taken_in_inference_does_not_hinder_training_later() -> None:
    """Plans of single steps are kept: they must not be tensors of inference mode."""
    torch.manual_seed(0)
    stack = VariationalLSTM(DIMS, HIDDEN, layers=2, bidirectional=False, layer_dropout=0.2, cell_norm=True)
    inputs = random(23, 1, DIMS).float()  # a batch size that no other test has
    with torch.inference_mode():
        stack.forward_with_states(inputs)
    stack.forward_with_states(inputs)[0].sum().backward()
    assert all(parameter.grad is not None for parameter in stack.parameters())


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [
        (((1, 1, BATCH, HIDDEN), (1, 1, BATCH, HIDDEN)), "^states must hold those of 2 layers, not of 1"),
        (((2, 2, BATCH, HIDDEN), (2, 1, BATCH, HIDDEN)), "^states does not fit"),
        (((2, 1, BATCH - 1, HIDDEN), (2, 1, BATCH, HIDDEN)), "^states does not fit"),
        (((2, 1, BATCH, HIDDEN), (2, 1, BATCH, HIDDEN + 1)), "^cells of states does not fit"),
    ],
)
def test_states_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], ...], complaint: str) -> None:
    stack = make_stack(bidirectional=False)
    states = States(*(torch.zeros(shape, dtype=torch.double) for shape in shapes))
    with pytest.raises(ValueError, match=complaint):
        stack.forward_with_states(random(BATCH, 2, DIMS), states=states)


def test_a_bare_pair_is_refused_with_what_is_wanted() -> None:
    pair: Any = (torch.zeros(2, 1, BATCH, HIDDEN), torch.zeros(2, 1, BATCH, HIDDEN))
    with pytest.raises(ValueError, match=r"^states must be States\(states, cells\), not a tuple"):
        make_stack(bidirectional=False).forward_with_states(random(BATCH, 2, DIMS), states=pair)


def test_states_of_another_type_are_refused() -> None:
    stack = make_stack(bidirectional=False)
    states = States(*(torch.zeros(2, 1, BATCH, HIDDEN) for _ in range(2)))
    with pytest.raises(ValueError, match=r"^states must be torch.float64 on cpu as the weights are"):
        stack.forward_with_states(random(BATCH, 2, DIMS), states=states)
