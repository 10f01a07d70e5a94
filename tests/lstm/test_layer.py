"""One layer: its weights, and what its kinds of dropout do, seen from the outside."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from asr_lstm.lstm import LSTMLayer
from asr_lstm.lstm.kernels import plan_packing
from asr_lstm.lstm.kernels.rows import pack, unpack

# Unsorted, with a tie, a single frame and a full one.
LENGTHS = torch.tensor([4, 11, 1, 9, 11, 6])
FRAMES = 11
DIMS, HIDDEN = 7, 5
# How many standard deviations a count may be off: 5 of them are missed once in 1.7 million draws.
SIGMAS = 5.0
KINDS = ["state_dropout", "candidate_dropout", "weight_dropout", "zoneout_cell", "zoneout_state"]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "peepholes": {"peepholes": True},
    "coupled": {"coupled_gates": True},
    "projection": {"projection": 3},
    "cell norm": {"cell_norm": True},
    "all but peepholes": {"coupled_gates": True, "projection": 3, "cell_norm": True},
}


def random_inputs(*, frames: int = FRAMES) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(LENGTHS), frames, DIMS, generator=generator)


def run(layer: LSTMLayer, inputs: Tensor, lengths: Tensor) -> Tensor:
    plan = plan_packing(lengths, frames=inputs.shape[1])
    return unpack(layer(pack(inputs, plan), plan)[0], plan)


def assert_share(hits: Tensor, share: float) -> None:
    spread = SIGMAS * math.sqrt(hits.numel() * share * (1 - share))
    assert abs(int(hits.sum()) - hits.numel() * share) < spread


def test_the_backward_direction_is_the_forward_one_of_the_reversed_sequence() -> None:
    torch.manual_seed(0)
    layer = LSTMLayer(DIMS, HIDDEN)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter[1] = parameter[0]
    inputs = random_inputs()
    mirrored = inputs.clone()
    for row, length in enumerate(LENGTHS.tolist()):
        mirrored[row, :length] = inputs[row, :length].flip(0)
    backward, forward = run(layer, inputs, LENGTHS)[..., HIDDEN:], run(layer, mirrored, LENGTHS)[..., :HIDDEN]
    for row, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(backward[row, :length], forward[row, :length].flip(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("coupled", [False, True])
def test_it_begins_by_remembering_and_with_orthogonal_recurrence(coupled: bool, bidirectional: bool) -> None:
    torch.manual_seed(0)
    layer = LSTMLayer(DIMS, HIDDEN, bidirectional=bidirectional, coupled_gates=coupled)
    gates = 3 if coupled else 4
    assert layer.weight_ih.shape == (1 + bidirectional, gates * HIDDEN, DIMS)
    biases = [0.0] * (gates - 3) * HIDDEN + [1.0] * HIDDEN + [0.0] * 2 * HIDDEN
    assert layer.bias.tolist() == [biases] * (1 + bidirectional)
    matrices = layer.weight_hh.unflatten(1, (gates, HIDDEN)).flatten(0, 1)
    torch.testing.assert_close(
        matrices @ matrices.mT, torch.eye(HIDDEN).expand_as(matrices), rtol=0, atol=1e-5
    )
    assert len({tuple(gate.flatten().tolist()) for gate in matrices}) == len(matrices)
    bound = math.sqrt(6 / (DIMS + HIDDEN))  # Glorot & Bengio 2010, equation 16, for each gate
    assert 0.8 * bound < layer.weight_ih.abs().max() <= bound


def test_what_variants_add_begins_without_effect() -> None:
    torch.manual_seed(0)
    plain = LSTMLayer(DIMS, HIDDEN)
    layer = LSTMLayer(DIMS, HIDDEN, peepholes=True)
    layer.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(
        run(layer, random_inputs(), LENGTHS), run(plain, random_inputs(), LENGTHS), rtol=0, atol=1e-6
    )
    norm = LSTMLayer(DIMS, HIDDEN, cell_norm=True)
    for name in ("norm_inputs", "norm_recurrent", "norm_cell"):
        assert bool((getattr(norm, name) == 1).all())
    assert not norm.norm_shift.any()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_save_and_load_in_every_variant_with_every_dropout(variant: str, bidirectional: bool) -> None:
    torch.manual_seed(0)
    options = VARIANTS[variant] | {"bidirectional": bidirectional}
    one, other = (
        LSTMLayer(DIMS, HIDDEN, **options),
        LSTMLayer(DIMS, HIDDEN, **options, **dict.fromkeys(KINDS, 0.3)),
    )
    other.eval()
    assert not torch.allclose(run(one, random_inputs(), LENGTHS), run(other, random_inputs(), LENGTHS))
    assert list(one.state_dict()) == list(other.state_dict())  # dropout adds nothing to it
    one.load_state_dict(other.state_dict())
    again = LSTMLayer(DIMS, HIDDEN, **options, **dict.fromkeys(KINDS, 0.3)).eval()
    again.load_state_dict(one.state_dict())
    assert torch.equal(run(other, random_inputs(), LENGTHS), run(again, random_inputs(), LENGTHS))
    assert torch.equal(
        run(copy.deepcopy(other), random_inputs(), LENGTHS), run(other, random_inputs(), LENGTHS)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_fixed_by_its_seed_and_drawn_anew_at_each_call(kind: str) -> None:
    layer = LSTMLayer(DIMS, HIDDEN, **{kind: 0.5})
    draws = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        draws.append(run(layer, random_inputs(), LENGTHS))
    draws.append(run(layer, random_inputs(), LENGTHS))
    assert torch.equal(draws[0], draws[1])
    assert not torch.allclose(draws[0], draws[2])
    assert not torch.allclose(draws[2], draws[3])


@pytest.mark.parametrize("kind", ["state_dropout", "candidate_dropout", "weight_dropout"])
def test_evaluation_knows_no_dropout(kind: str) -> None:
    torch.manual_seed(0)
    plain, dropping = LSTMLayer(DIMS, HIDDEN), LSTMLayer(DIMS, HIDDEN, **{kind: 0.5}).eval()
    dropping.load_state_dict(plain.state_dict())
    state = torch.get_rng_state()
    assert torch.equal(run(plain, random_inputs(), LENGTHS), run(dropping, random_inputs(), LENGTHS))
    assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn


@pytest.mark.parametrize("kind", ["zoneout_cell", "zoneout_state"])
def test_zoneout_takes_its_mean_in_evaluation(kind: str) -> None:
    """One step of a cell and a state that zoneout can keep: the mean over many draws is what evaluation gives."""
    torch.manual_seed(0)
    layer = LSTMLayer(3, 4, bidirectional=False, **{kind: 0.3})
    count = 40_000
    states = torch.randn(1, 1, 4).expand(1, count, 4), torch.randn(1, 1, 4).expand(1, count, 4)
    rows = torch.randn(1, 3).expand(count, 3)
    plan = plan_packing(torch.ones(count, dtype=torch.long), frames=1)
    with torch.no_grad():
        drawn, (drawn_state, drawn_cell) = layer(rows, plan, states)
        layer.eval()
        mean, (state, cell) = layer(rows, plan, states)
    for one, other in ((drawn, mean), (drawn_state[0], state[0]), (drawn_cell[0], cell[0])):
        if float(one.std(0).max()) > 1e-6:
            deviation = one.std(0) / math.sqrt(count)
            assert bool(((one.mean(0) - other[0]).abs() < SIGMAS * deviation).all())
        else:  # what this kind does not touch
            torch.testing.assert_close(one, other)
    assert float((drawn if kind == "zoneout_state" else drawn_cell[0]).std(0).max()) > 0.01


def open_layer(hidden: int, *, forget: float, **options: Any) -> LSTMLayer:
    """A layer whose input and output gates are open, and whose candidate is tanh(0.5 + h) of its own unit.

    Inputs count for nothing; the forget gate is shut at -40, open at 40.
    """
    layer = LSTMLayer(1, hidden, **options)
    with torch.no_grad():
        layer.weight_ih.zero_()
        layer.weight_hh.zero_()
        layer.weight_hh[:, 2 * hidden : 3 * hidden] = torch.eye(hidden)
        for gate, value in enumerate((40.0, forget, 0.5, 40.0)):
            layer.bias[:, gate * hidden : (gate + 1) * hidden] = value
    return layer


def by_direction(outputs: Tensor, hidden: int) -> list[Tensor]:
    """(batch, frames, hidden) in the order of each direction's steps."""
    return [outputs[..., :hidden], outputs[..., hidden:].flip(1)]


def assert_independent(masks: list[Tensor], rate: float) -> None:
    """Each mask (batch, units) has its rate, and no two agree more often than by chance, nor do rows of one."""
    alike = rate**2 + (1 - rate) ** 2
    for place, mask in enumerate(masks):
        assert_share(mask, rate)
        assert_share(mask[0::2] == mask[1::2], alike)
        assert_share(mask[:, 0::2] == mask[:, 1::2], alike)
        for other in masks[:place]:
            assert_share(mask == other, alike)


def first_state() -> float:
    return math.tanh(math.tanh(0.5))


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_state_dropout_hides_a_unit_all_through_a_sequence(rate: float) -> None:
    """With the forget gate shut, a unit whose state is hidden repeats its first output; another one grows."""
    torch.manual_seed(0)
    hidden, frames = 100, 6
    layer = open_layer(hidden, forget=-40.0, state_dropout=rate)
    outputs = run(layer, torch.zeros(40, frames, 1), torch.full((40,), frames))
    masks = []
    for steps in by_direction(outputs, hidden):
        torch.testing.assert_close(steps[:, 0], torch.full_like(steps[:, 0], first_state()))
        dropped = (steps[:, 1:] - first_state()).abs() < 1e-4
        assert torch.equal(dropped, dropped[:, :1].expand_as(dropped)), "a mask changed within a sequence"
        expected = steps[:, 0]
        for step in range(1, frames):
            expected = torch.tanh(torch.tanh(0.5 + expected / (1 - rate) * ~dropped[:, 0]))
            torch.testing.assert_close(steps[:, step], expected)
        masks.append(dropped[:, 0])
    assert_independent(masks, rate)


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_candidate_dropout_is_redrawn_at_each_step_and_spares_the_cell(rate: float) -> None:
    """With the forget gate open and no recurrence, the cell counts the candidates that were kept."""
    torch.manual_seed(0)
    hidden, frames = 100, 5
    layer = open_layer(hidden, forget=40.0, candidate_dropout=rate)
    with torch.no_grad():
        layer.weight_hh.zero_()
    outputs = run(layer, torch.zeros(40, frames, 1), torch.full((40,), frames))
    masks = []
    for steps in by_direction(outputs, hidden):
        cells = torch.atanh(steps.double())
        gains = cells.diff(dim=1, prepend=torch.zeros_like(cells[:, :1]))
        kept = gains > 0.1
        expected = kept * (math.tanh(0.5) / (1 - rate))
        torch.testing.assert_close(gains, expected.double(), rtol=0, atol=2e-3)
        masks += list((~kept).unbind(1))
    assert_independent(masks, rate)


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_zoneout_of_the_cell_keeps_it_where_drawn(rate: float) -> None:
    torch.manual_seed(0)
    hidden, frames = 100, 5
    layer = open_layer(hidden, forget=40.0, zoneout_cell=rate)
    with torch.no_grad():
        layer.weight_hh.zero_()
    plan = plan_packing(torch.full((40,), frames), frames=frames)
    cells = layer(torch.zeros(40 * frames, 1), plan)[1][1].detach()
    steps = cells / math.tanh(0.5)
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)  # whole numbers of candidates
    for mask in cells < 1e-4:  # kept at 0 in every step
        assert_share(mask, rate**frames)
    mean = float(steps.mean())
    assert abs(mean - frames * (1 - rate)) < SIGMAS * math.sqrt(frames * rate * (1 - rate) / steps.numel())


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_zoneout_of_the_state_shows_the_old_one_where_drawn(rate: float) -> None:
    """With an open forget gate and no recurrence the new state always grows: where it doesn't, it was kept."""
    torch.manual_seed(0)
    hidden, frames = 100, 5
    layer = open_layer(hidden, forget=40.0, zoneout_state=rate)
    with torch.no_grad():
        layer.weight_hh.zero_()
    outputs = run(layer, torch.zeros(40, frames, 1), torch.full((40,), frames))
    masks = []
    for steps in by_direction(outputs, hidden):
        before = torch.zeros_like(steps[:, 0])
        for step in range(frames):
            kept = steps[:, step] == before
            fresh = torch.full_like(before, math.tanh((step + 1) * math.tanh(0.5)))
            torch.testing.assert_close(steps[:, step], torch.where(kept, before, fresh))
            masks.append(kept)
            before = steps[:, step]
    assert_independent(masks, rate)


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_weight_drop_drops_a_weight_for_all_steps_and_sequences(rate: float) -> None:
    """A unit that hears only itself: with its weight dropped, it repeats its first output in every sequence."""
    torch.manual_seed(0)
    hidden, frames = 400, 4
    layer = open_layer(hidden, forget=-40.0, weight_dropout=rate)
    before = layer.weight_hh.detach().clone()
    outputs = run(layer, torch.zeros(3, frames, 1), torch.full((3,), frames))
    assert torch.equal(layer.weight_hh, before)
    masks = []
    for steps in by_direction(outputs, hidden):
        dropped = (steps[:, 1:] - first_state()).abs() < 1e-4
        assert torch.equal(dropped, dropped[:1, :1].expand_as(dropped)), "the mask changed within a pass"
        expected = steps[:, 0]
        for step in range(1, frames):
            expected = torch.tanh(torch.tanh(0.5 + expected / (1 - rate) * ~dropped[:, 0]))
            torch.testing.assert_close(steps[:, step], expected)
        masks.append(dropped[0, 0].view(40, -1))
    assert_independent(masks, rate)


def test_the_gradient_of_weight_drop_passes_its_mask() -> None:
    torch.manual_seed(0)
    layer = LSTMLayer(DIMS, 40, weight_dropout=0.5)
    run(layer, random_inputs(), LENGTHS).square().sum().backward()
    assert layer.weight_hh.grad is not None
    assert_share(layer.weight_hh.grad == 0, 0.5)


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_gradcheck_with_each_kind_in_double(kind: str | None) -> None:
    torch.manual_seed(0)
    options = {kind: 0.4} if kind else dict.fromkeys(KINDS, 0.3) | {"peepholes": True}
    layer = LSTMLayer(2, 3, **options).double()  # type: ignore[arg-type]
    lengths = torch.tensor([2, 3, 1])
    inputs = torch.randn(3, 3, 2, dtype=torch.double, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def call(inputs: Tensor, *weights: Tensor) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(4)
            plan = plan_packing(lengths, frames=3)
            values = dict(zip(names, weights, strict=True))
            return torch.func.functional_call(layer, values, (pack(inputs, plan), plan))[0]

    assert torch.autograd.gradcheck(call, (inputs, *layer.parameters()), fast_mode=True)


REFUSED: list[tuple[dict[str, Any], str]] = [
    *[
        ({kind: rate}, f"^{kind} must be at least 0 and below 1")
        for kind in KINDS
        for rate in (-0.1, 1.0, math.nan)
    ],
    ({"input_size": 0}, "^input_size must be at least 1, not 0"),
    ({"hidden_size": 0}, "^hidden_size must be at least 1, not 0"),
    ({"projection": HIDDEN}, "^projection must be at least 0 and below hidden_size, 5, not 5"),
    ({"projection": -1}, "^projection must be at least 0"),
    ({"peepholes": True, "cell_norm": True}, "^peepholes do not go with cell_norm"),
]


@pytest.mark.parametrize(("options", "complaint"), REFUSED)
def test_what_makes_no_sense_is_refused_by_name(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        LSTMLayer(**({"input_size": DIMS, "hidden_size": HIDDEN} | options))


def test_its_printed_form_names_what_is_on() -> None:
    text = str(LSTMLayer(DIMS, HIDDEN, zoneout_cell=0.25))
    assert "zoneout_cell=0.25" in text
    assert "state_dropout" not in text
