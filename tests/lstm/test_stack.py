"""The stack against `torch.nn.LSTM`, and how its parts go together."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr_lstm.lstm import LockedDropout, VariationalLSTM, scale_dropout
from asr_lstm.lstm import dropout as dropout_module
from asr_lstm.lstm.dropout import StepDropout
from asr_lstm.lstm.kernels import PackingPlan

# Unsorted, with a tie, a single frame and a full one.
LENGTHS = torch.tensor([4, 11, 1, 9, 11, 6])
FRAMES = 11
DIMS, HIDDEN = 7, 5
RATES = [
    *(
        "input_dropout",
        "layer_dropout",
        "step_dropout",
        "state_dropout",
        "candidate_dropout",
        "weight_dropout",
    ),
    *("zoneout_cell", "zoneout_state"),
]


def random_inputs(dtype: torch.dtype = torch.float, *, frames: int = FRAMES) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(LENGTHS), frames, DIMS, generator=generator, dtype=torch.double).to(dtype)


def padding_of(lengths: Tensor, frames: int = FRAMES) -> Tensor:
    return torch.arange(frames) >= lengths[:, None]


def torch_lstm(
    *, layers: int, bidirectional: bool, projection: int = 0, dtype: torch.dtype = torch.float
) -> nn.LSTM:
    torch.manual_seed(0)
    return nn.LSTM(
        DIMS,
        HIDDEN,
        num_layers=layers,
        bidirectional=bidirectional,
        proj_size=projection,
        batch_first=True,
        dtype=dtype,
    )


def run_packed_with_states(
    lstm: nn.LSTM, inputs: Tensor, lengths: Tensor, states: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    outputs, (state, cell) = lstm(packed, states)
    return pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])[0], state, cell


def run_packed(lstm: nn.LSTM, inputs: Tensor, lengths: Tensor) -> Tensor:
    return run_packed_with_states(lstm, inputs, lengths)[0]


def weights_by_name(ours: VariationalLSTM, lstm: nn.LSTM) -> dict[str, tuple[Tensor, Tensor]]:
    """Gradients side by side: ours, and torch's of the same name."""
    pairs = {}
    for index, layer in enumerate(ours.layers):
        for direction, suffix in enumerate(("", "_reverse")[: layer.directions]):
            for name in ("weight_ih", "weight_hh", "bias"):
                theirs = getattr(lstm, f"{'bias_hh' if name == 'bias' else name}_l{index}{suffix}")
                pairs[f"{name} {index}{suffix}"] = (getattr(layer, name).grad[direction], theirs.grad)
            if lstm.proj_size:
                theirs = getattr(lstm, f"weight_hr_l{index}{suffix}")
                pairs[f"projection {index}{suffix}"] = (layer.projection.grad[direction], theirs.grad)
    return pairs


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float, 1e-5), (torch.double, 1e-10)])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("projection", [0, 2])
def test_equal_to_torch_on_packed_sequences(
    projection: int, layers: int, bidirectional: bool, dtype: torch.dtype, tolerance: float
) -> None:
    theirs = torch_lstm(layers=layers, bidirectional=bidirectional, projection=projection, dtype=dtype)
    ours = VariationalLSTM.from_torch(theirs)
    assert ours.output_size == (projection or HIDDEN) * (1 + bidirectional)
    one, other = (random_inputs(dtype).requires_grad_() for _ in range(2))
    outputs, expected = ours(one, LENGTHS), run_packed(theirs, other, LENGTHS)
    assert outputs.dtype == dtype
    torch.testing.assert_close(outputs, expected, rtol=0, atol=tolerance)

    pull = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    outputs.backward(pull)
    expected.backward(pull)
    pairs = weights_by_name(ours, theirs) | {"inputs": (one.grad, other.grad)}
    assert len(pairs) == (3 + bool(projection)) * layers * (1 + bidirectional) + 1
    for name, (mine, reference) in pairs.items():
        assert reference.abs().max() > 0, name
        torch.testing.assert_close(
            mine, reference, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_random_lengths_give_what_torch_gives() -> None:
    theirs = torch_lstm(layers=2, bidirectional=True, dtype=torch.double)
    ours = VariationalLSTM.from_torch(theirs)
    generator = torch.Generator().manual_seed(5)
    for _ in range(20):
        batch, frames = (int(torch.randint(1, 10, (), generator=generator)) for _ in range(2))
        lengths = torch.randint(1, frames + 1, (batch,), generator=generator)
        inputs = torch.randn(batch, frames, DIMS, generator=generator, dtype=torch.double)
        torch.testing.assert_close(
            ours(inputs, lengths), run_packed(theirs, inputs, lengths), rtol=0, atol=1e-10
        )


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_sequence_gives_the_same_alone_as_among_padding(layer_norm: bool) -> None:
    torch.manual_seed(0)
    stack = VariationalLSTM(DIMS, HIDDEN, layers=3, layer_norm=layer_norm).double()
    inputs = random_inputs(torch.double, frames=FRAMES + 3)
    inputs[padding_of(LENGTHS, FRAMES + 3)] = torch.nan
    together = stack(inputs, LENGTHS)
    assert together.isfinite().all()
    for row, length in enumerate(LENGTHS.tolist()):
        alone = stack(inputs[row : row + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(together[row : row + 1, :length], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_nan_in_the_padding_reaches_neither_outputs_nor_gradients(dropout: float) -> None:
    torch.manual_seed(0)
    stack = VariationalLSTM(
        DIMS, HIDDEN, layers=2, input_dropout=dropout, layer_dropout=dropout, state_dropout=dropout
    )
    padding = padding_of(LENGTHS)
    found = []
    for filler in (0.0, torch.nan):
        inputs = random_inputs().masked_fill(padding[..., None], filler).requires_grad_()
        stack.zero_grad()
        torch.manual_seed(9)
        outputs = stack(inputs, LENGTHS)
        assert not outputs[padding].any()
        outputs.square().sum().backward()
        found.append([outputs, inputs.grad, *(parameter.grad for parameter in stack.parameters())])
    for clean, soiled in zip(*found, strict=True):
        assert torch.equal(clean, soiled)


def test_from_torch_without_biases() -> None:
    theirs = nn.LSTM(DIMS, HIDDEN, bias=False, batch_first=True, bidirectional=True)
    expected = run_packed(theirs, random_inputs(), LENGTHS)
    torch.testing.assert_close(
        VariationalLSTM.from_torch(theirs)(random_inputs(), LENGTHS), expected, rtol=0, atol=1e-5
    )


def test_state_dict_round_trip() -> None:
    torch.manual_seed(0)
    one, other = (VariationalLSTM(DIMS, HIDDEN, layers=2, layer_norm=True) for _ in range(2))
    assert not torch.equal(one(random_inputs(), LENGTHS), other(random_inputs(), LENGTHS))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(random_inputs(), LENGTHS), other(random_inputs(), LENGTHS))


def test_each_layer_draws_one_mask_a_sequence_and_direction_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []
    original = dropout_module.sequence_mask

    def record(*shape: int, rate: float, like: Tensor) -> Tensor:
        drawn.append(original(*shape, rate=rate, like=like))
        return drawn[-1]

    monkeypatch.setattr(dropout_module, "sequence_mask", record)
    torch.manual_seed(0)
    stack = VariationalLSTM(DIMS, HIDDEN, layers=3, state_dropout=0.5)
    for _ in range(2):
        stack(random_inputs(), LENGTHS)
    assert [tuple(mask.shape) for mask in drawn] == [(2, len(LENGTHS), HIDDEN)] * 6
    assert len({tuple(mask.flatten().tolist()) for mask in drawn}) == 6
    drawn.clear()
    stack.eval()(random_inputs(), LENGTHS)
    VariationalLSTM(DIMS, HIDDEN).train()(random_inputs(), LENGTHS)
    assert not drawn


def test_where_the_dropouts_between_layers_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first layer the input's, before the others the locked and then the standard one, none after."""
    seen: list[tuple[float, str]] = []
    locked, step = LockedDropout.on_rows, StepDropout.forward

    def on_rows(self: LockedDropout, rows: Tensor, plan: PackingPlan) -> Tensor:
        seen.append((self.rate, "locked"))
        return locked(self, rows, plan)

    def forward(self: StepDropout, inputs: Tensor) -> Tensor:
        seen.append((self.rate, "step"))
        return step(self, inputs)

    monkeypatch.setattr(LockedDropout, "on_rows", on_rows)
    monkeypatch.setattr(StepDropout, "forward", forward)
    stack = VariationalLSTM(DIMS, HIDDEN, layers=3, input_dropout=0.2, layer_dropout=0.4, step_dropout=0.3)
    assert [dropout.rate for dropout in stack.dropouts] == [0.2, 0.4, 0.4]
    final = stack(random_inputs(), torch.full_like(LENGTHS, FRAMES))
    assert seen == [(0.2, "locked"), (0.4, "locked"), (0.3, "step"), (0.4, "locked"), (0.3, "step")]
    assert (final != 0).all()


def test_a_share_of_dropout_is_dropout_at_that_share_of_the_rates() -> None:
    kinds = ("input", "layer", "step", "state", "candidate", "weight")
    inputs, lengths = (
        torch.randn(3, 9, 5, generator=torch.Generator().manual_seed(0)),
        torch.tensor([9, 4, 7]),
    )
    outputs = {}
    for rate, share in ((0.4, 0.5), (0.2, 1.0), (0.4, 0.0)):
        torch.manual_seed(1)
        rates: dict[str, Any] = {f"{kind}_dropout": rate for kind in kinds}
        stack = VariationalLSTM(5, 6, layers=2, **rates)
        scale_dropout(stack, share)
        torch.manual_seed(2)
        outputs[rate, share] = stack(inputs, lengths)
        still = stack.eval()(inputs, lengths)
    assert torch.equal(outputs[0.4, 0.5], outputs[0.2, 1.0])
    assert not torch.equal(outputs[0.4, 0.5], outputs[0.4, 0.0])
    torch.testing.assert_close(outputs[0.4, 0.0], still)
    with pytest.raises(ValueError, match="share"):
        scale_dropout(stack, 1.1)


def test_evaluation_knows_no_dropout() -> None:
    theirs = torch_lstm(layers=2, bidirectional=True)
    ours = VariationalLSTM(DIMS, HIDDEN, layers=2, input_dropout=0.5, layer_dropout=0.5, state_dropout=0.5)
    ours.load_state_dict(VariationalLSTM.from_torch(theirs).state_dict())
    expected = run_packed(theirs, random_inputs(), LENGTHS)
    torch.testing.assert_close(ours.eval()(random_inputs(), LENGTHS), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(ours.train()(random_inputs(), LENGTHS), expected, atol=1e-2)


@pytest.mark.parametrize("name", RATES)
def test_each_dropout_is_reproduced_by_its_seed_alone(name: str) -> None:
    torch.manual_seed(0)
    stack = VariationalLSTM(DIMS, HIDDEN, layers=2, **{name: 0.5})
    draws = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        draws.append(stack(random_inputs(), LENGTHS))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("rate", [-0.1, 1.0, math.nan])
@pytest.mark.parametrize("name", RATES)
def test_a_rate_outside_its_range_is_refused_by_name(name: str, rate: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be at least 0 and below 1"):
        VariationalLSTM(DIMS, HIDDEN, **{name: rate})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["input_size", "hidden_size", "layers"])
def test_a_size_below_one_is_refused_by_name(name: str) -> None:
    sizes = {"input_size": DIMS, "hidden_size": HIDDEN, "layers": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"^{name} must be at least 1, not 0"):
        VariationalLSTM(**sizes)


@pytest.mark.parametrize(
    "options",
    [
        {"layer_dropout": 0.1, "state_dropout": 0.1},
        {"step_dropout": 0.1, "candidate_dropout": 0.1, "weight_dropout": 0.1},
        {"zoneout_cell": 0.1, "zoneout_state": 0.1, "peepholes": True, "coupled_gates": True},
        {"projection": 12, "cell_norm": True, "shortcut": "residual"},
        {"layer_norm": True, "shortcut": "highway"},
        {"time_reduction": (2,)},
    ],
    ids=lambda options: " ".join(options),
)
def test_it_learns_to_remember_the_first_frame(options: dict[str, Any]) -> None:
    """The sign of the first frame is to be told at the last one, 6 to 12 frames of noise later."""
    torch.manual_seed(0)
    stack = VariationalLSTM(2, 24, bidirectional=False, layers=2, **options)
    head = nn.Linear(stack.output_size, 1)
    optimiser = torch.optim.AdamW([*stack.parameters(), *head.parameters()], lr=0.01)

    def batch(size: int) -> tuple[Tensor, Tensor, Tensor]:
        lengths = torch.randint(6, 13, (size,))
        inputs = torch.randn(size, 12, 2) * 0.5
        bits = torch.randint(2, (size,)).float()
        inputs[:, 0] = torch.stack([2 * bits - 1, torch.full_like(bits, 3.0)], dim=1)
        return inputs, lengths, bits

    def loss_of(size: int) -> Tensor:
        inputs, lengths, bits = batch(size)
        last = stack(inputs, lengths)[torch.arange(size), stack.output_lengths(lengths) - 1]
        return nn.functional.binary_cross_entropy_with_logits(head(last)[:, 0], bits)

    assert loss_of(200).item() > 0.5
    for _ in range(80):
        optimiser.zero_grad()
        loss_of(32).backward()
        optimiser.step()
    stack.eval()
    with torch.no_grad():
        assert loss_of(200).item() < 0.05


@pytest.mark.parametrize(
    "options",
    [
        {"peepholes": True, "coupled_gates": True, "shortcut": "residual"},
        {"projection": 3, "cell_norm": True, "shortcut": "highway", "layer_norm": True},
        {"time_reduction": (2, 3)},
        {"time_reduction": (2, 1), "reduction": "take", "shortcut": "residual"},
    ],
    ids=lambda options: " ".join(options),
)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_every_variant_gives_a_sequence_the_same_alone_as_among_padding(
    bidirectional: bool, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    stack = VariationalLSTM(DIMS, HIDDEN, layers=3, bidirectional=bidirectional, **options).double()
    inputs = random_inputs(torch.double, frames=FRAMES + 3)
    inputs[padding_of(LENGTHS, FRAMES + 3)] = torch.nan
    together = stack(inputs, LENGTHS)
    counts = stack.output_lengths(LENGTHS)
    assert together.shape[1] == int(stack.output_lengths(torch.tensor([FRAMES + 3])))
    assert not together[padding_of(counts, together.shape[1])].any()
    for row, (length, count) in enumerate(zip(LENGTHS.tolist(), counts.tolist(), strict=True)):
        alone = stack(inputs[row : row + 1, :length], torch.tensor([length]))
        assert alone.shape[1] == count
        torch.testing.assert_close(together[row : row + 1, :count], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_layer_gives_what_a_stack_of_the_layers_up_to_it_gives(layer: int) -> None:
    torch.manual_seed(0)
    stack = VariationalLSTM(DIMS, HIDDEN, layers=3, layer_norm=True, time_reduction=(2, 2)).double()
    inputs = random_inputs(torch.double)
    outputs, lower, counts = stack.forward_with_layer(inputs, LENGTHS, layer=layer)
    assert torch.equal(outputs, stack(inputs, LENGTHS))
    shorter = VariationalLSTM(
        DIMS, HIDDEN, layers=layer + 1, layer_norm=True, time_reduction=(2, 2)[:layer]
    ).double()
    shorter.load_state_dict(stack.state_dict(), strict=False)
    assert counts.tolist() == shorter.output_lengths(LENGTHS).tolist()
    assert torch.equal(lower, shorter(inputs, LENGTHS))


def test_a_layer_that_is_not_there_is_refused() -> None:
    stack = VariationalLSTM(DIMS, HIDDEN, layers=2)
    with pytest.raises(ValueError, match=r"^layer must lie in 0 \.\. 1, not 2"):
        stack.forward_with_layer(random_inputs(torch.float), LENGTHS, layer=2)


def test_gradcheck_with_all_that_stands_between_layers() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = dict.fromkeys(RATES, 0.3)
    stack = VariationalLSTM(
        2,
        2,
        layers=3,
        layer_norm=True,
        shortcut="highway",
        time_reduction=(2, 1),
        reduction="take",
        **options,
    ).double()
    lengths = torch.tensor([2, 3, 1])
    inputs = random_inputs(torch.double)[:3, :3, :2].clone().requires_grad_()
    names = [name for name, _ in stack.named_parameters()]

    def run(inputs: Tensor, *weights: Tensor) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(4)
            parameters = dict(zip(names, weights, strict=True))
            return torch.func.functional_call(stack, parameters, (inputs, lengths))

    assert torch.autograd.gradcheck(run, (inputs, *stack.parameters()), fast_mode=True)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"shortcut": "skip"}, "^shortcut must be one of none, residual, highway, not 'skip'"),
    ({"shortcut": "residual"}, "^shortcut 'residual' leads past later layers than the first"),
    (
        {"layers": 2, "shortcut": "highway", "time_reduction": (2,)},
        "^shortcut 'highway' needs reduction 'take'",
    ),
    (
        {"layers": 2, "time_reduction": (2, 2)},
        r"^time_reduction must hold at most 1 numbers for 2 layers, not \(2, 2\)",
    ),
    ({"layers": 2, "time_reduction": (0,)}, "^time_reduction must hold numbers of at least 1, not 0"),
    ({"reduction": "mean"}, "^reduction must be one of concat, take, not 'mean'"),
    ({"projection": HIDDEN}, "^projection must be at least 0 and below hidden_size"),
    ({"peepholes": True, "cell_norm": True}, "^peepholes do not go with cell_norm"),
]


@pytest.mark.parametrize(("options", "complaint"), REFUSED)
def test_what_does_not_go_together_is_refused_at_construction(
    options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        VariationalLSTM(DIMS, HIDDEN, **options)
