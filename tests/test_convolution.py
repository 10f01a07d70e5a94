"""The convolution before the layers, against one written out for a single utterance."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from scipy.signal import correlate2d
from torch import Tensor, nn

from asr_lstm.batching import pad_inputs
from asr_lstm.bundle import CONFIG_NAME, Bundle, load_bundle, save_bundle
from asr_lstm.convolution import Convolution, ResidualBlock, round_up, time_strides
from asr_lstm.decoding.montecarlo import sample_log_probs
from asr_lstm.features import FeatureConfig
from asr_lstm.gradients import gradient_reach
from asr_lstm.lstm import States
from asr_lstm.model import EncoderConfig, Recogniser, make_encoder
from asr_lstm.units import CharacterUnits, Normaliser

BANDS, CHANNELS = 7, 3
STACKS = {1: (1, 1), 2: (2, 1), 3: (3, 1), 4: (2, 2), 6: (3, 2), 9: (3, 3)}


def correlated(layer: nn.Conv2d, maps: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Maps (frames, bands) to what a layer hears in them, zeros around them."""
    weights, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()  # type: ignore[union-attr]
    return [
        shift
        + sum(correlate2d(np.pad(one, 1), kernel, "valid") for one, kernel in zip(maps, row, strict=True))
        for row, shift in zip(weights, bias, strict=True)
    ]


def normed(rows: NDArray[np.float64], eps: float) -> NDArray[np.float64]:
    """By the last axis."""
    mean, variance = rows.mean(-1, keepdims=True), rows.var(-1, keepdims=True)
    return np.asarray((rows - mean) / np.sqrt(variance + eps))


def by_hand(module: Convolution, features: Tensor, strides: tuple[int, int]) -> NDArray[np.float64]:
    """One utterance (frames, dims) to (frames, output_size), by correlations in numpy."""
    maps = [features.reshape(-1, BANDS).numpy()]
    for layer, stride in zip((module.first, module.second), strides, strict=True):
        maps = [np.maximum(one, 0)[::stride, ::2] for one in correlated(layer, maps)]
    for block in module.blocks:
        assert isinstance(block, ResidualBlock)
        heard = list(np.moveaxis(normed(np.stack(maps, axis=-1), block.norm.eps), -1, 0))
        heard = [np.maximum(one, 0) for one in correlated(block.first, heard)]
        maps = [one + added for one, added in zip(maps, correlated(block.second, heard), strict=True)]
    rows = np.maximum(np.stack(maps, axis=-1), 0)  # (frames, bands, channels)
    return normed(rows.reshape(len(rows), -1), module.norm.eps)


def make_convolution(stack: int, *, blocks: int) -> Convolution:
    """One whose blocks do something, as they do once they have learned."""
    torch.manual_seed(0)
    module = Convolution(stack * BANDS, CHANNELS, stack=stack, blocks=blocks).double()
    for block in module.blocks:
        assert isinstance(block, ResidualBlock)
        nn.init.normal_(block.second.weight, std=0.3)
        nn.init.normal_(cast("Tensor", block.second.bias))
    return module


@pytest.mark.parametrize(("stack", "blocks"), [*((stack, 0) for stack in STACKS), (1, 1), (2, 3), (4, 2)])
def test_it_is_layers_of_correlations_whatever_stands_in_the_padding(stack: int, blocks: int) -> None:
    module = make_convolution(stack, blocks=blocks)
    assert time_strides(stack) == STACKS[stack]
    lengths = torch.tensor([5, 1, 8, 2])
    features = torch.randn(4, 8, stack * BANDS, dtype=torch.double)
    for row, length in zip(features, lengths.tolist(), strict=True):
        row[length:] = torch.nan
    with torch.no_grad():
        together = module(features, lengths)
    assert together.shape == (4, 8, module.output_size)
    for row, features_alone, length in zip(together, features, lengths.tolist(), strict=True):
        expected = by_hand(module, features_alone[:length], STACKS[stack])
        assert np.ptp(expected) > 1
        np.testing.assert_allclose(row[:length].numpy(), expected, rtol=0, atol=1e-10)
        assert not row[length:].any()


def test_padding_is_not_computed() -> None:
    """What is convolved is as long as the sequences, however uneven they are."""
    module, strips = make_convolution(2, blocks=1), []
    module.second.register_forward_hook(lambda *call: strips.append(call[2].shape[2]))
    lengths = torch.tensor([40, 3, 5, 7])
    module(torch.randn(4, 40, 2 * BANDS, dtype=torch.double), lengths)
    assert strips == [round_up(40 + 3 + 5 + 7 + 4)]


def test_blocks_begin_as_if_they_were_not_there() -> None:
    torch.manual_seed(0)
    plain, deep = (Convolution(2 * BANDS, CHANNELS, stack=2, blocks=blocks) for blocks in (0, 3))
    assert not deep.load_state_dict(plain.state_dict(), strict=False).unexpected_keys
    features, lengths = torch.randn(2, 6, 2 * BANDS), torch.tensor([6, 4])
    assert torch.equal(deep(features, lengths), plain(features, lengths))


@pytest.mark.parametrize("blocks", [0, 2])
def test_gradients_do_not_come_from_the_padding(blocks: int) -> None:
    module = make_convolution(4, blocks=blocks)
    features = torch.randn(2, 3, 4 * BANDS, dtype=torch.double, requires_grad=True)
    lengths = torch.tensor([3, 2])

    def valid(features: Tensor) -> tuple[Tensor, Tensor]:
        outputs = module(features, lengths)
        return outputs[0], outputs[1, :2]

    assert torch.autograd.gradcheck(valid, (features,), fast_mode=True)
    sum(part.square().sum() for part in valid(features)).backward()  # type: ignore[union-attr]
    assert features.grad is not None
    assert not features.grad[1, 2:].any()
    assert features.grad[1, :2].any(dim=1).all()


def test_frames_and_their_times_stay_what_stacking_makes_them() -> None:
    features = FeatureConfig(mels=20, stack=4)
    plain = Recogniser(features, EncoderConfig(layers=2, hidden=4), units=5)
    convolved = Recogniser(features, EncoderConfig(layers=2, hidden=4, convolution=3), units=5)
    inputs, lengths = pad_inputs([torch.randn(size) for size in (9000, 1, 12_345)])
    assert convolved.time_factor == plain.time_factor == 1
    assert convolved(inputs, lengths)[1].tolist() == plain(inputs, lengths)[1].tolist()


@pytest.mark.parametrize("blocks", [0, 2])
def test_bfloat16_products_follow_float32(blocks: int) -> None:
    torch.manual_seed(0)
    config = EncoderConfig(layers=2, hidden=8, convolution=4, convolution_blocks=blocks)
    encoder = make_encoder(4 * 20, config, stack=4).eval()
    for name, weight in encoder.named_parameters():
        if name.endswith("second.weight") and "blocks" in name:
            nn.init.normal_(weight, std=0.05)
    features, lengths = torch.randn(2, 12, 80), torch.tensor([12, 7])
    with torch.no_grad():
        full = encoder(features, lengths)
        with torch.autocast("cpu", torch.bfloat16):
            low = encoder(features, lengths).float()
    torch.testing.assert_close(low, full, rtol=0, atol=0.1)
    assert not torch.equal(low, full)


def test_bfloat16_gradients_of_the_normalisations_follow_float32() -> None:
    torch.manual_seed(0)
    module = Convolution(2 * 40, 8, stack=2, blocks=2)
    for block in module.blocks:
        nn.init.normal_(cast("ResidualBlock", block).second.weight, std=0.05)
    features, lengths = torch.randn(8, 250, 80), torch.tensor([250] * 8)
    wanted = torch.randn(8, 250, module.output_size).abs() * torch.linspace(-1, 1, module.output_size)
    gains = [weight for name, weight in module.named_parameters() if "norm" in name]
    found = []
    for low in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            heard = module(features, lengths)
        found.append(torch.autograd.grad((heard.float() * wanted).sum(), gains))
    assert len(gains) == 6
    for full, half in zip(*found, strict=True):
        assert (half - full).norm() < 0.05 * full.norm()


@pytest.mark.parametrize("stack", [0, 5, 7, 8, 12])
def test_frames_that_two_layers_cannot_join_are_refused(stack: int) -> None:
    with pytest.raises(
        ValueError, match=r"^features\.stack must be one of 1, 2, 3, 4, 6, 9 with encoder\.conv"
    ):
        time_strides(stack)


def test_states_are_refused() -> None:
    """Also where the dims of what is heard and of what the layers take are the same: 4 * 4 = 16."""
    encoder = make_encoder(16, EncoderConfig(layers=1, hidden=4, convolution=16), stack=4)
    inputs, lengths = torch.randn(1, 5, 16), torch.tensor([5])
    assert cast("Convolution", encoder.convolution).output_size == 16
    with pytest.raises(ValueError, match=r"encoder\.convolution"):
        encoder.forward_with_states(inputs, lengths)
    states = States(torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4))
    with pytest.raises(ValueError, match=r"encoder\.convolution"):
        encoder(inputs, lengths, states=states)


def make_bundle(encoder: EncoderConfig) -> Bundle:
    torch.manual_seed(0)
    units = CharacterUnits(list("abc"), Normaliser())
    features = FeatureConfig(kind="frames", dims=5, stack=2)
    model = Recogniser(features, encoder, units=len(units)).eval()
    return Bundle(model, units, features, encoder, loader="")


def test_what_looks_into_a_model_hears_through_it() -> None:
    model = make_bundle(EncoderConfig(layers=2, hidden=4, convolution=3)).model
    inputs, lengths = torch.randn(2, 12, 5), torch.tensor([12, 7])
    together = sample_log_probs(model, inputs, lengths, samples=2)
    assert [row.shape for row in together] == [(2, 6, 4), (2, 4, 4)]
    (alone,) = sample_log_probs(model, inputs[1:, :7], lengths[1:], samples=2)
    torch.testing.assert_close(together[1], alone)
    reach = gradient_reach(model, inputs[:1], lengths[:1])
    assert [len(norms) for norms in reach] == [6, 6]


def test_a_bundle_keeps_it(tmp_path: Path) -> None:
    saved = make_bundle(EncoderConfig(layers=1, hidden=4, convolution=3))
    save_bundle(tmp_path, saved)
    loaded = load_bundle(tmp_path)
    assert loaded.encoder.convolution == 3
    inputs, lengths = torch.randn(1, 6, 5), torch.tensor([6])
    assert torch.equal(loaded.model(inputs, lengths)[0], saved.model(inputs, lengths)[0])


def test_a_bundle_from_before_it_loads(tmp_path: Path) -> None:
    save_bundle(tmp_path, make_bundle(EncoderConfig(layers=1, hidden=4)))
    config = yaml.safe_load((tmp_path / CONFIG_NAME).read_text(encoding="utf-8"))
    assert config["encoder"].pop("convolution") == 0
    (tmp_path / CONFIG_NAME).write_text(yaml.safe_dump(config), encoding="utf-8")
    assert load_bundle(tmp_path).encoder.convolution == 0


def test_batches_unlike_in_length_meet_the_layers_in_few_shapes() -> None:
    """Else oneDNN compiles each layer anew for nearly every batch."""
    layers = Convolution(BANDS * 2, CHANNELS, stack=2)
    shapes = set()
    layers.second.register_forward_pre_hook(lambda _, given: shapes.add(tuple(given[0].shape)))
    generator = torch.Generator().manual_seed(0)
    batches = [
        torch.randint(100, 200, (int(size),), generator=generator) for size in torch.arange(8, 13).repeat(8)
    ]
    assert len({(len(lengths), int(lengths.max())) for lengths in batches}) > 30
    for lengths in batches:
        layers(torch.zeros(len(lengths), int(lengths.max()), BANDS * 2), lengths)
    assert len(shapes) <= 10


def test_lengths_are_rounded_up_by_an_eighth_at_most() -> None:
    sizes = range(1, 5000)
    assert all(size <= round_up(size) <= size + size // 8 for size in sizes)
    assert len({round_up(size) for size in sizes if 512 < size <= 4096}) == 3 * 8
