from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from asr_lstm.augment import AugmentConfig
from asr_lstm.batching import pad_inputs
from asr_lstm.features import FeatureConfig
from asr_lstm.model import EncoderConfig, OutputLayer, Recogniser

UNITS = 29
FEATURES = FeatureConfig(mels=40)
ENCODER = EncoderConfig(layers=2, hidden=48, input_dropout=0.1)


def make_model(
    features: FeatureConfig = FEATURES,
    encoder: EncoderConfig = ENCODER,
    *,
    augment: AugmentConfig | None = None,
) -> Recogniser:
    torch.manual_seed(0)
    return Recogniser(features, encoder, units=UNITS, augment=augment)


def utterances(count: int, *, shortest: int = 1, longest: int = 24_000) -> list[Tensor]:
    """Noise of many lengths whose colour changes, so that outputs do too."""
    generator = torch.Generator().manual_seed(3)
    sizes = torch.randint(shortest, longest, (count,), generator=generator).tolist()
    rows = [torch.randn(size, generator=generator) * 0.2 for size in sizes]
    return [row * torch.sin(torch.arange(len(row)) / (50 + 7 * place)) for place, row in enumerate(rows)]


def logits_in_batches(model: Recogniser, rows: list[Tensor], size: int) -> Iterator[Tensor]:
    for first in range(0, len(rows), size):
        logits, lengths = model(*pad_inputs(rows[first : first + size]))
        yield from (row[:length] for row, length in zip(logits, lengths.tolist(), strict=True))


@pytest.mark.parametrize(
    "options", [{"layer_norm": True}, {"layer_norm": False}, {"convolution": 8}], ids=str
)
def test_the_batch_an_utterance_stands_in_does_not_matter(options: dict[str, Any]) -> None:
    model = make_model(encoder=EncoderConfig(layers=2, hidden=48, **options)).eval()
    rows = utterances(50)
    model.front_end.fit(rows)
    with torch.no_grad():
        alone = list(logits_in_batches(model, rows, 1))
        # A winner that never changes would prove nothing.
        assert len({unit for logits in alone for unit in logits.argmax(1).tolist()}) > 10
        for size in (2, 7, 16, 50):
            for one, other in zip(alone, logits_in_batches(model, rows, size), strict=True):
                torch.testing.assert_close(other, one, rtol=0, atol=1e-5)
                assert torch.equal(one.argmax(1), other.argmax(1))


def test_shapes_and_lengths() -> None:
    rows = utterances(5)
    inputs, lengths = pad_inputs(rows)
    model = make_model()
    logits, counts = model(inputs, lengths)
    assert logits.shape == (5, int(counts.max()), UNITS)
    assert counts.tolist() == [-(-(len(row) // 160 + 1) // 3) for row in rows]
    assert counts.tolist() == model.front_end.output_lengths(lengths).tolist()


PYRAMIDS = [
    EncoderConfig(layers=3, hidden=24, time_reduction=(2, 2)),
    EncoderConfig(layers=2, hidden=24, time_reduction=(3,), reduction="take", shortcut="residual"),
]


@pytest.mark.parametrize("encoder", PYRAMIDS, ids=lambda encoder: encoder.reduction)
def test_a_pyramid_has_fewer_frames_and_the_batch_does_not_matter(encoder: EncoderConfig) -> None:
    model = make_model(encoder=encoder).eval()
    assert model.time_factor == encoder.time_factor == {"concat": 4, "take": 3}[encoder.reduction]
    rows = utterances(20)
    model.front_end.fit(rows)
    with torch.no_grad():
        inputs, lengths = pad_inputs(rows)
        logits, counts = model(inputs, lengths)
        assert logits.shape[1] == int(counts.max())
        before = model.front_end.output_lengths(lengths)
        assert counts.tolist() == [-(-frames // model.time_factor) for frames in before.tolist()]
        alone = list(logits_in_batches(model, rows, 1))
        assert [len(row) for row in alone] == counts.tolist()
        for size in (2, 7, 20):
            for one, other in zip(alone, logits_in_batches(model, rows, size), strict=True):
                torch.testing.assert_close(other, one, rtol=0, atol=1e-5)


def test_a_pyramid_is_read_from_a_list_as_yaml_has_it() -> None:
    listed: Any = [2, 1]
    encoder = EncoderConfig(layers=3, hidden=8, time_reduction=listed)
    assert encoder == EncoderConfig(layers=3, hidden=8, time_reduction=(2,))  # written in one way only
    assert EncoderConfig().time_factor == make_model().time_factor == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"layers": 1, "time_reduction": (2,)},
            r"^encoder\.time_reduction must hold at most 0 numbers for 1 l",
        ),
        ({"layers": 2, "time_reduction": (0,)}, r"^encoder\.time_reduction must hold numbers of at least 1"),
        ({"convolution": -1}, r"^encoder\.convolution must not be below 0"),
        ({"convolution": 2, "convolution_blocks": -1}, r"^encoder\.convolution_blocks must not be below 0"),
        ({"convolution_blocks": 2}, r"^encoder\.convolution_blocks needs channels"),
        ({"layers": 2, "reduction": "mean"}, r"^encoder\.reduction must be one of concat, take"),
        (
            {"layers": 2, "time_reduction": (2,), "shortcut": "residual"},
            r"^encoder\.shortcut 'residual' needs reduction 'take'",
        ),
    ],
)
def test_an_impossible_encoder_is_refused_at_construction(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        EncoderConfig(**options)


@pytest.mark.parametrize("convolution", [0, 4])
@pytest.mark.parametrize("kind", ["log_mel", "frames"])
def test_gradients_reach_every_parameter(kind: str, convolution: int) -> None:
    features = FEATURES if kind == "log_mel" else FeatureConfig(kind="frames", dims=6, stack=1)
    encoder = EncoderConfig(layers=3, hidden=8, convolution=convolution)
    model = make_model(features, encoder, augment=AugmentConfig(time_share=0.2))
    rows = utterances(3, shortest=9000)
    if kind == "frames":
        rows = [row[:240].view(40, 6) for row in rows]
    logits, lengths = model(*pad_inputs(rows), seeds=torch.tensor([1, 2, 3]))
    targets, target_lengths = torch.tensor([1, 2, 3]), torch.tensor([1, 1, 1])
    torch.nn.functional.ctc_loss(
        logits.log_softmax(2).transpose(0, 1), targets, lengths, target_lengths
    ).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_spec_augment_works_in_training_with_seeds_alone() -> None:
    quiet = EncoderConfig(layers=1, hidden=8, input_dropout=0.0, layer_dropout=0.0, state_dropout=0.0)
    model = make_model(encoder=quiet, augment=AugmentConfig())
    inputs, lengths = pad_inputs(utterances(3, shortest=9000))
    seeds = torch.tensor([1, 2, 3])
    plain = model(inputs, lengths)[0]
    masked = model(inputs, lengths, seeds=seeds)[0]
    assert not torch.equal(masked, plain)
    assert torch.equal(model(inputs, lengths, seeds=seeds)[0], masked)
    assert torch.equal(model.eval()(inputs, lengths, seeds=seeds)[0], plain)


QUIET = EncoderConfig(layers=3, hidden=8, layer_dropout=0.0, state_dropout=0.0, time_reduction=(2, 1))


def test_views_are_the_same_frames_with_masks_of_their_own() -> None:
    model = make_model(encoder=QUIET, augment=AugmentConfig(vocal_tract=0.1))
    inputs, lengths = pad_inputs(utterances(3, shortest=9000))
    seeds = torch.tensor([1, 2, 3])
    ((logits, counts),) = model.training_outputs(inputs, lengths, seeds=seeds, views=2)
    first, second = logits.chunk(2)
    alone, alone_counts = model(inputs, lengths, seeds=seeds)
    torch.testing.assert_close(first, alone)
    assert counts.tolist() == alone_counts.tolist() * 2
    assert all(not torch.allclose(*pair, atol=1e-3) for pair in zip(first, second, strict=True))
    # But for the masks they are the same: so are frames that one filter bank made, whatever its warp.
    model.spec_augment = None
    first, second = model.training_outputs(inputs, lengths, seeds=seeds, views=2)[0][0].chunk(2)
    torch.testing.assert_close(first, second)


def test_views_differ_in_their_dropout() -> None:
    model = make_model(encoder=EncoderConfig(layers=2, hidden=8))
    inputs, lengths = pad_inputs(utterances(3, shortest=9000))
    first, second = model.training_outputs(inputs, lengths, views=2)[0][0].chunk(2)
    assert all(not torch.allclose(*pair, atol=1e-3) for pair in zip(first, second, strict=True))


@pytest.mark.parametrize(("layers", "middle"), [(2, 0), (3, 1), (4, 1), (5, 2), (12, 5)])
def test_the_middle_layer_goes_through_the_same_output_layer(layers: int, middle: int) -> None:
    model = make_model(encoder=replace(QUIET, layers=layers, time_reduction=(2,) + (1,) * (layers - 2)))
    inputs, lengths = pad_inputs(utterances(3, shortest=9000))
    last, lower = model.training_outputs(inputs, lengths, middle=True)
    torch.testing.assert_close(last, model(inputs, lengths))
    shorter = make_model(
        encoder=replace(QUIET, layers=middle + 1, time_reduction=((2,) + (1,) * middle)[:middle])
    )
    shorter.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(lower, shorter(inputs, lengths))


def test_a_single_layer_has_none_in_its_middle() -> None:
    model = make_model(encoder=EncoderConfig(layers=1, hidden=8))
    with pytest.raises(ValueError, match=r"training\.intermediate .* encoder\.layers"):
        model.training_outputs(*pad_inputs(utterances(2)), middle=True)


def test_dropout_is_off_in_evaluation_and_on_in_training() -> None:
    model = make_model()
    inputs, lengths = pad_inputs(utterances(2, shortest=9000))
    assert not torch.equal(model(inputs, lengths)[0], model(inputs, lengths)[0])
    model.eval()
    assert torch.equal(model(inputs, lengths)[0], model(inputs, lengths)[0])


def test_the_encoder_is_what_its_configuration_says() -> None:
    encoder = EncoderConfig(
        layers=4,
        hidden=6,
        bidirectional=False,
        layer_norm=False,
        input_dropout=0.1,
        layer_dropout=0.2,
        state_dropout=0.3,
        time_reduction=(1, 2, 1),
        reduction="take",
    )
    model = make_model(encoder=encoder)
    assert [(reduce.factor, reduce.kind) for reduce in model.encoder.reductions] == [
        (factor, "take") for factor in (1, 2, 1, 1)
    ]
    assert len(model.encoder.layers) == 4
    assert model.encoder.output_size == model.head.in_features == 6
    assert [dropout.rate for dropout in model.encoder.dropouts] == [0.1, 0.2, 0.2, 0.2]
    assert {layer.state_dropout for layer in model.encoder.layers} == {0.3}
    assert model.dropout.rate == 0.2
    assert not [module for module in model.encoder.modules() if isinstance(module, torch.nn.LayerNorm)]


def test_augmentation_leaves_no_trace_in_the_weights() -> None:
    """What a bundle saves must load into a model made without augmentation."""
    trained, loaded = make_model(augment=AugmentConfig()), make_model()
    loaded.load_state_dict(trained.state_dict())
    assert set(loaded.state_dict()) == set(trained.state_dict())


def test_output_layers_multiply_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    layer, frames = OutputLayer(40, 9), torch.randn(7, 40)
    expected = torch.nn.functional.linear(frames, layer.weight, layer.bias)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(frames), expected)
        lowered = layer(frames.bfloat16())
    assert lowered.dtype == torch.float32
    torch.testing.assert_close(lowered, expected, rtol=0, atol=0.02)
