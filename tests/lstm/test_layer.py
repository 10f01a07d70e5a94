from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr_lstm.lstm import LSTMLayer, VariationalLSTM
from asr_lstm.lstm import layer as layer_module
from asr_lstm.lstm.kernels import plan_packing

# Unsorted, with a tie, a single frame and a full one.
LENGTHS = torch.tensor([4, 11, 1, 9, 11, 6])
FRAMES = 11
DIMS, HIDDEN = 7, 5
# How many standard deviations a count may be off: 5 of them are missed once in 1.7 million draws.
SIGMAS = 5.0


def random_inputs(dtype: torch.dtype = torch.float, *, frames: int = FRAMES) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(LENGTHS), frames, DIMS, generator=generator, dtype=torch.double).to(dtype)


def padding_of(lengths: Tensor, frames: int = FRAMES) -> Tensor:
    return torch.arange(frames) >= lengths[:, None]


def torch_lstm(*, layers: int, bidirectional: bool, dtype: torch.dtype = torch.float) -> nn.LSTM:
    torch.manual_seed(0)
    return nn.LSTM(
        DIMS, HIDDEN, num_layers=layers, bidirectional=bidirectional, batch_first=True, dtype=dtype
    )


def run_packed(lstm: nn.LSTM, inputs: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=inputs.shape[1])[0]


def weights_by_name(ours: VariationalLSTM, lstm: nn.LSTM) -> dict[str, tuple[Tensor, Tensor]]:
    """Gradients side by side: ours, and torch's of the same name."""
    pairs = {}
    for index, layer in enumerate(ours.layers):
        for direction, suffix in enumerate(("", "_reverse")[: layer.directions]):
            for name in ("weight_ih", "weight_hh", "bias"):
                theirs = getattr(lstm, f"{'bias_hh' if name == 'bias' else name}_l{index}{suffix}")
                pairs[f"{name} {index}{suffix}"] = (getattr(layer, name).grad[direction], theirs.grad)
    return pairs


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float, 1e-5), (torch.double, 1e-10)])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_equal_to_torch_on_packed_sequences(
    layers: int, bidirectional: bool, dtype: torch.dtype, tolerance: float
) -> None:
    theirs = torch_lstm(layers=layers, bidirectional=bidirectional, dtype=dtype)
    ours = VariationalLSTM.from_torch(theirs)
    assert ours.output_size == HIDDEN * (1 + bidirectional)
    one, other = (random_inputs(dtype).requires_grad_() for _ in range(2))
    outputs, expected = ours(one, LENGTHS), run_packed(theirs, other, LENGTHS)
    assert outputs.dtype == dtype
    torch.testing.assert_close(outputs, expected, rtol=0, atol=tolerance)

    pull = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    outputs.backward(pull)
    expected.backward(pull)
    pairs = weights_by_name(ours, theirs) | {"inputs": (one.grad, other.grad)}
    assert len(pairs) == 3 * layers * (1 + bidirectional) + 1
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


def test_the_backward_direction_is_the_forward_one_of_the_reversed_sequence() -> None:
    torch.manual_seed(0)
    layer = LSTMLayer(DIMS, HIDDEN).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter[1] = parameter[0]
    inputs = random_inputs(torch.double)
    mirrored = inputs.clone()
    for row, length in enumerate(LENGTHS.tolist()):
        mirrored[row, :length] = inputs[row, :length].flip(0)
    plan = plan_packing(LENGTHS, frames=FRAMES, directions=2)
    backward = layer(inputs, plan)[..., HIDDEN:]
    forward = layer(mirrored, plan)[..., :HIDDEN]
    for row, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(backward[row, :length], forward[row, :length].flip(0), rtol=0, atol=1e-12)


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


def test_from_torch_without_biases_and_with_a_projection() -> None:
    theirs = nn.LSTM(DIMS, HIDDEN, bias=False, batch_first=True, bidirectional=True)
    expected = run_packed(theirs, random_inputs(), LENGTHS)
    torch.testing.assert_close(
        VariationalLSTM.from_torch(theirs)(random_inputs(), LENGTHS), expected, rtol=0, atol=1e-5
    )
    with pytest.raises(ValueError, match="proj_size"):
        VariationalLSTM.from_torch(nn.LSTM(DIMS, HIDDEN, proj_size=2))


def test_state_dict_round_trip() -> None:
    torch.manual_seed(0)
    one, other = (VariationalLSTM(DIMS, HIDDEN, layers=2, layer_norm=True) for _ in range(2))
    assert not torch.equal(one(random_inputs(), LENGTHS), other(random_inputs(), LENGTHS))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(random_inputs(), LENGTHS), other(random_inputs(), LENGTHS))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_it_begins_by_remembering_and_with_orthogonal_recurrence(bidirectional: bool) -> None:
    torch.manual_seed(0)
    stack = VariationalLSTM(DIMS, HIDDEN, layers=2, bidirectional=bidirectional)
    for layer, size in zip(stack.layers, (DIMS, stack.output_size), strict=True):
        assert layer.weight_ih.shape == (1 + bidirectional, 4 * HIDDEN, size)
        assert layer.bias.tolist() == [[0.0] * HIDDEN + [1.0] * HIDDEN + [0.0] * 2 * HIDDEN] * (
            1 + bidirectional
        )
        gates = layer.weight_hh.unflatten(1, (4, HIDDEN)).flatten(0, 1)
        torch.testing.assert_close(gates @ gates.mT, torch.eye(HIDDEN).expand_as(gates), rtol=0, atol=1e-5)
        assert len({tuple(gate.flatten().tolist()) for gate in gates}) == len(gates)
        bound = math.sqrt(6 / (size + HIDDEN))  # Glorot & Bengio 2010, equation 16, for each gate
        assert 0.8 * bound < layer.weight_ih.abs().max() <= bound


def gradcheck_stack(stack: VariationalLSTM) -> bool:
    """`gradcheck` on inputs and all weights, with the same masks at each call."""
    stack.double()
    lengths = torch.tensor([2, 3, 1])
    inputs = random_inputs(torch.double)[:3, :3, :2].clone().requires_grad_()
    names = [name for name, _ in stack.named_parameters()]

    def run(inputs: Tensor, *weights: Tensor) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(4)
            parameters = dict(zip(names, weights, strict=True))
            return torch.func.functional_call(stack, parameters, (inputs, lengths))

    return torch.autograd.gradcheck(run, (inputs, *stack.parameters()))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradcheck_with_every_dropout_on(bidirectional: bool) -> None:
    torch.manual_seed(0)
    stack = VariationalLSTM(
        2,
        2,
        layers=2,
        bidirectional=bidirectional,
        input_dropout=0.3,
        layer_dropout=0.3,
        state_dropout=0.3,
        layer_norm=True,
    )
    assert gradcheck_stack(stack)


def revealing(layer: LSTMLayer) -> None:
    """Give a layer weights under which its outputs show the mask on its recurrent state.

    Inputs count for nothing; input and output gate are open, the forget gate is shut, and the candidate is
    tanh(0.5 + mask * h): a unit whose state is hidden repeats its first output, another one grows.
    """
    hidden = layer.hidden_size
    with torch.no_grad():
        layer.weight_ih.zero_()
        layer.weight_hh.zero_()
        layer.weight_hh[:, 2 * hidden : 3 * hidden] = torch.eye(hidden)
        for gate, value in enumerate((40.0, -40.0, 0.5, 40.0)):
            layer.bias[:, gate * hidden : (gate + 1) * hidden] = value


def hidden_states(outputs: Tensor, *, rate: float) -> Tensor:
    """(batch, units), True where the state is masked; checks scale and constancy on the way."""
    first = math.tanh(math.tanh(0.5))
    torch.testing.assert_close(outputs[:, 0], torch.full_like(outputs[:, 0], first))
    hidden = (outputs[:, 1:] - first).abs() < 1e-4
    assert torch.equal(hidden, hidden[:, :1].expand_as(hidden)), "a mask changed within a sequence"
    expected = torch.full_like(outputs[:, 0], first)
    for step in range(1, outputs.shape[1]):
        expected = torch.tanh(torch.tanh(0.5 + expected / (1 - rate) * ~hidden[:, 0]))
        torch.testing.assert_close(outputs[:, step], expected)
    return hidden[:, 0]


def assert_share(hits: Tensor, share: float) -> None:
    spread = SIGMAS * math.sqrt(hits.numel() * share * (1 - share))
    assert abs(int(hits.sum()) - hits.numel() * share) < spread


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_state_dropout_seen_from_the_outside(rate: float) -> None:
    torch.manual_seed(0)
    batch, frames, hidden = 40, 6, 100
    stack = VariationalLSTM(1, hidden, layers=2, state_dropout=rate)
    for layer in stack.layers:
        revealing(layer)
    plan = plan_packing(torch.full((batch,), frames), frames=frames, directions=2)
    inputs = torch.zeros(batch, frames, 1)
    seen = []
    for layer in stack.layers:
        outputs = layer(inputs, plan)
        inputs = outputs
        backward = outputs[..., hidden:].flip(1)  # its first step is the last frame
        seen += [hidden_states(outputs[..., :hidden], rate=rate), hidden_states(backward, rate=rate)]
    alike = rate**2 + (1 - rate) ** 2  # how often two independent masks agree
    for place, mask in enumerate(seen):
        assert_share(mask, rate)
        assert_share(mask[0::2] == mask[1::2], alike)
        for other in seen[:place]:
            assert_share(mask == other, alike)


def test_each_layer_draws_one_mask_a_sequence_and_direction_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []
    original = layer_module.sequence_mask

    def record(*shape: int, rate: float, like: Tensor) -> Tensor:
        drawn.append(original(*shape, rate=rate, like=like))
        return drawn[-1]

    monkeypatch.setattr(layer_module, "sequence_mask", record)
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


def test_where_the_locked_dropouts_stand() -> None:
    torch.manual_seed(0)
    stack = VariationalLSTM(DIMS, HIDDEN, layers=3, input_dropout=0.2, layer_dropout=0.4)
    seen: list[tuple[Tensor, Tensor]] = []
    for dropout in stack.dropouts:
        dropout.register_forward_hook(lambda _, given, result: seen.append((given[0], result)))
    final = stack(random_inputs(), torch.full_like(LENGTHS, FRAMES))
    assert [dropout.rate for dropout in stack.dropouts] == [0.2, 0.4, 0.4]
    assert torch.equal(seen[0][0], random_inputs())
    assert all(given.shape == final.shape for given, _ in seen[1:])
    assert (final != 0).all()  # nothing is dropped after the last layer
    masks = [result / given for given, result in seen]
    for mask, rate in zip(masks, (0.2, 0.4, 0.4), strict=True):
        torch.testing.assert_close(mask, mask[:, :1].expand_as(mask))
        assert {round(value, 4) for value in mask.flatten().tolist()} == {0.0, round(1 / (1 - rate), 4)}
    assert not torch.allclose(masks[1], masks[2])


def test_evaluation_knows_no_dropout() -> None:
    theirs = torch_lstm(layers=2, bidirectional=True)
    ours = VariationalLSTM(DIMS, HIDDEN, layers=2, input_dropout=0.5, layer_dropout=0.5, state_dropout=0.5)
    ours.load_state_dict(VariationalLSTM.from_torch(theirs).state_dict())
    expected = run_packed(theirs, random_inputs(), LENGTHS)
    torch.testing.assert_close(ours.eval()(random_inputs(), LENGTHS), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(ours.train()(random_inputs(), LENGTHS), expected, atol=1e-2)


@pytest.mark.parametrize("name", ["input_dropout", "layer_dropout", "state_dropout"])
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
@pytest.mark.parametrize("name", ["input_dropout", "layer_dropout", "state_dropout"])
def test_a_rate_outside_its_range_is_refused_by_name(name: str, rate: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be at least 0 and below 1"):
        VariationalLSTM(DIMS, HIDDEN, **{name: rate})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["input_size", "hidden_size", "layers"])
def test_a_size_below_one_is_refused_by_name(name: str) -> None:
    sizes = {"input_size": DIMS, "hidden_size": HIDDEN, "layers": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"^{name} must be at least 1, not 0"):
        VariationalLSTM(**sizes)


def test_impossible_lengths_are_refused() -> None:
    stack = VariationalLSTM(DIMS, HIDDEN)
    for lengths in (torch.tensor([0] * 6), LENGTHS + 1):
        with pytest.raises(ValueError, match=r"^lengths must lie in"):
            stack(random_inputs(), lengths)
    with pytest.raises(ValueError, match=r"^inputs does not fit"):
        stack(random_inputs(), LENGTHS[:-1])


def test_it_learns_to_remember_the_first_frame_with_every_dropout_on() -> None:
    """The sign of the first frame is to be told at the last one, 10 to 20 frames of noise later."""
    torch.manual_seed(0)
    stack = VariationalLSTM(
        2, 24, bidirectional=False, input_dropout=0.0, layer_dropout=0.1, state_dropout=0.1, layers=2
    )
    head = nn.Linear(stack.output_size, 1)
    optimiser = torch.optim.AdamW([*stack.parameters(), *head.parameters()], lr=0.01)

    def batch(size: int) -> tuple[Tensor, Tensor, Tensor]:
        lengths = torch.randint(10, 21, (size,))
        inputs = torch.randn(size, 20, 2) * 0.5
        bits = torch.randint(2, (size,)).float()
        inputs[:, 0] = torch.stack([2 * bits - 1, torch.full_like(bits, 3.0)], dim=1)
        return inputs, lengths, bits

    def loss_of(size: int) -> Tensor:
        inputs, lengths, bits = batch(size)
        last = stack(inputs, lengths)[torch.arange(size), lengths - 1]
        return nn.functional.binary_cross_entropy_with_logits(head(last)[:, 0], bits)

    assert loss_of(200).item() > 0.5
    for _ in range(100):
        optimiser.zero_grad()
        loss_of(32).backward()
        optimiser.step()
    stack.eval()
    with torch.no_grad():
        assert loss_of(200).item() < 0.05
