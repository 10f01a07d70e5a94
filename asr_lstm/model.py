"""The recogniser: front end, encoder of stacked LSTMs, and a linear head whose units CTC aligns."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from asr_lstm.augment import AugmentConfig, SpecAugment
from asr_lstm.convolution import ConvolvedLSTM
from asr_lstm.features import FeatureConfig, make_front_end
from asr_lstm.lstm import LockedDropout, VariationalLSTM

# Turns the seed of an utterance's masks into that of its second view. Generators take the lower 32 bits of a seed.
_OTHER_VIEW = 0x5BD1E995


@dataclass(frozen=True)
class EncoderConfig:
    """The stack of LSTM layers.

    Attributes:
        layers: how many.
        hidden: of each direction.
        bidirectional: hear the utterance from both ends.
        layer_norm: normalise the output of each layer.
        input_dropout: locked dropout of the features.
        layer_dropout: locked dropout between layers and before the head.
        state_dropout: dropout of the recurrent state, one mask a sequence.
        step_dropout: standard dropout between layers, redrawn at each frame.
        candidate_dropout: recurrent dropout without memory loss, redrawn at each step.
        weight_dropout: weight drop on the recurrent matrices, one mask a forward pass.
        zoneout_cell: zoneout of the cells.
        zoneout_state: zoneout of the hidden states.
        cell_norm: layer normalisation inside the cells.
        peepholes: let the gates see the cell.
        projection: size that the states are projected to; 0 for none.
        coupled_gates: the input gate is 1 - forget gate.
        shortcut: what leads past each layer but the first: none, residual or highway.
        time_reduction: frames made one after each layer but the last, such as [2, 2] for a pyramid of three layers, or
            [2] for one reduction after the first of however many; none by default. The head then has fewer frames to
            spell an utterance in: CTC needs one a unit.
        reduction: `concat` puts such frames side by side, `take` takes the first of them.
        convolution: channels of two layers of 3 x 3 convolution over time and bands, such as 16, that hear the frames
            which `features.stack` joined, instead of the first LSTM layer; 0 for none.
        convolution_blocks: pairs of further such layers, each pair with a shortcut past it.
        self_conditioning: let the layers above the middle one hear which phones it believes in, or units where
            there are no phones. Needs their loss in training, `phones.share` or `training.intermediate`.
    """

    layers: int = 3
    hidden: int = 256
    bidirectional: bool = True
    layer_norm: bool = True
    input_dropout: float = 0.0
    layer_dropout: float = 0.1
    state_dropout: float = 0.1
    step_dropout: float = 0.0
    candidate_dropout: float = 0.0
    weight_dropout: float = 0.0
    zoneout_cell: float = 0.0
    zoneout_state: float = 0.0
    cell_norm: bool = False
    peepholes: bool = False
    projection: int = 0
    coupled_gates: bool = False
    shortcut: Literal["none", "residual", "highway"] = "none"
    time_reduction: tuple[int, ...] = ()
    reduction: Literal["concat", "take"] = "concat"
    convolution: int = 0
    convolution_blocks: int = 0
    self_conditioning: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "time_reduction", tuple(self.time_reduction))  # YAML gives a list
        for name in ("layers", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"encoder.{name} must be at least 1, not {getattr(self, name)}")
        for name in ("convolution", "convolution_blocks"):
            if getattr(self, name) < 0:
                raise ValueError(f"encoder.{name} must not be below 0, but is {getattr(self, name)}")
        if self.convolution_blocks and not self.convolution:
            raise ValueError("encoder.convolution_blocks needs channels: say encoder.convolution 16")
        try:
            with torch.device("meta"):  # nothing is computed: the stack itself says what does not go together
                make_encoder(1, self)
            if self.self_conditioning:
                middle_layer(self.layers, needed_by="self_conditioning")
        except ValueError as error:
            raise ValueError(f"encoder.{error}") from None
        object.__setattr__(self, "time_reduction", _without_trailing_ones(self.time_reduction))

    @property
    def time_factor(self) -> int:
        """Frames of the front end to one of the logits."""
        return math.prod(self.time_reduction)


def _without_trailing_ones(factors: tuple[int, ...]) -> tuple[int, ...]:
    """The one way to write a time reduction, so that bundles of the same model agree."""
    while factors and factors[-1] == 1:
        factors = factors[:-1]
    return factors


def make_encoder(dims: int, encoder: EncoderConfig, *, stack: int = 1) -> VariationalLSTM:
    """The stack of a configuration, over features of so many dims, `stack` frames joined into one."""
    options: dict[str, Any] = asdict(encoder)
    hidden, channels = options.pop("hidden"), options.pop("convolution")
    blocks = options.pop("convolution_blocks")
    options.pop("self_conditioning")  # which the recogniser does: it has the phones
    if channels:
        return ConvolvedLSTM(dims, hidden, channels=channels, stack=stack, blocks=blocks, **options)
    return VariationalLSTM(dims, hidden, **options)


class OutputLayer(nn.Linear):
    """A linear layer over frames, whose products a CPU takes in float32, under autocast too.

    They are small, and torch compiles those of bfloat16 anew for each number of frames, which takes longer.
    """

    def forward(self, frames: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        if frames.device.type != "cpu":
            return super().forward(frames)
        with torch.autocast("cpu", enabled=False):
            return super().forward(frames.to(self.weight.dtype))


class Recogniser(nn.Module):
    """Audio or ready features to the logits of the output units; unit 0 is the CTC blank.

    Args:
        features: the front end.
        encoder: the stack.
        units: how many output units, the blank included.
        phones: how many phones the middle layer learns in training, the blank included; 0 for none.
        augment: SpecAugment between front end and encoder, and the warped filters of the front end, in training;
            none by default.
    """

    def __init__(
        self,
        features: FeatureConfig,
        encoder: EncoderConfig,
        *,
        units: int,
        phones: int = 0,
        augment: AugmentConfig | None = None,
    ) -> None:
        super().__init__()
        self.front_end = make_front_end(features, vocal_tract=augment.vocal_tract if augment else 0.0)
        self.spec_augment = (
            SpecAugment(augment, bands=features.bands, frame_seconds=features.frame_seconds)
            if augment
            else None
        )
        self.encoder = make_encoder(self.front_end.dims, encoder, stack=features.stack)
        self.dropout = LockedDropout(encoder.layer_dropout)
        self.head = OutputLayer(self.encoder.output_size, units)
        self.phone_head = OutputLayer(self.encoder.output_size, phones) if phones else None
        self.conditioning: OutputLayer | None = None
        if encoder.self_conditioning:
            self.conditioning = OutputLayer(phones or units, self.encoder.output_size, bias=False)
            nn.init.zeros_(self.conditioning.weight)  # at first nothing is said

    @property
    def time_factor(self) -> int:
        """Frames of the front end to one of the logits, 1 where the encoder reduces none."""
        return self.encoder.time_factor

    def forward(
        self, inputs: Tensor, lengths: Tensor, *, seeds: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run a padded batch.

        Args:
            inputs: (batch, samples) audio, or (batch, frames, dims) where the loader gives frames.
            lengths: (batch,) valid samples or frames.
            seeds: (batch,) one an utterance, for augmentation in training.

        Returns:
            (batch, frames, units) logits and (batch,) their lengths: of n frames of the front end
            n / `time_factor`, rounded up.
        """
        return self.training_outputs(inputs, lengths, seeds=seeds)[0]

    def training_outputs(
        self,
        inputs: Tensor,
        lengths: Tensor,
        *,
        seeds: Tensor | None = None,
        views: int = 1,
        middle: bool = False,
        phones: bool = False,
    ) -> list[tuple[Tensor, Tensor]]:
        """Run a padded batch for what losses are made of.

        Args:
            inputs: (batch, samples) audio, or (batch, frames, dims) where the loader gives frames.
            lengths: (batch,) valid samples or frames.
            seeds: (batch,) one an utterance, for augmentation.
            views: 2 runs each utterance twice, with other masks of SpecAugment and of dropout, from the same frames.
            middle: the logits of the middle layer, too, through the same output layer.
            phones: the logits of its phones, too, through an output layer of their own.

        Returns:
            (views * batch, frames, units) logits, all utterances of the first view and then of the second, and their
            lengths; first of the last layer, then of the middle one, which may have more frames, and of its phones.

        Raises:
            ValueError: phones of a model that has none.
        """
        if phones and self.phone_head is None:
            raise ValueError("phones: the model was made without any")
        features, lengths = self.front_end(inputs, lengths, seeds=seeds)
        features, lengths = features.expand(views, -1, -1, -1).flatten(0, 1), lengths.repeat(views)
        if self.spec_augment is not None and seeds is not None:
            seeds = torch.cat([seeds ^ (view * _OTHER_VIEW) for view in range(views)])
            features = self.spec_augment(features, lengths, seeds)
        counts = self.encoder.output_lengths(lengths)
        if not middle and not phones:
            return [(self._logits(self.encode(features, lengths)), counts)]
        last, lower, lower_counts = self._encode_with_middle(features, lengths)
        outputs = [(self._logits(last), counts)]
        lower = self.dropout(lower)
        heads = [head for head, asked in ((self.head, middle), (self.phone_head, phones)) if asked and head]
        return outputs + [(head(lower), lower_counts) for head in heads]

    def encode(self, features: Tensor, lengths: Tensor) -> Tensor:
        """What the last layer gives, with `encoder.self_conditioning` after it was told of the middle one's beliefs.

        With the outputs x of the middle layer, and Y of phones (or units) by an output layer, later layers hear

            x + W softmax(Y x)

        Source: Nozaki & Komatsu 2021, "Relaxing the Conditional Independence Assumption of CTC-based ASR by
        Conditioning on Intermediate Predictions" (arXiv 2104.02724), section 3, for units; with smaller units below
        larger ones Higuchi et al. 2022, "Hierarchical Conditional End-to-End ASR with CTC" (arXiv 2110.04109).

        Args:
            features: (batch, frames, dims) of the front end.
            lengths: (batch,) valid frames.

        Returns:
            (batch, frames, encoder.output_size), of n valid frames n / `time_factor`, rounded up; zeros beyond.
        """
        if self.conditioning is None:
            hidden: Tensor = self.encoder(features, lengths)
            return hidden
        return self._encode_with_middle(features, lengths)[0]

    def _encode_with_middle(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.encoder.forward_with_layer(
            features,
            lengths,
            layer=middle_layer(len(self.encoder.layers)),
            feed=None if self.conditioning is None else self._beliefs,
        )

    def _beliefs(self, rows: Tensor) -> Tensor:
        """(frames, output_size) of the middle layer to what is added to them."""
        assert self.conditioning is not None
        head = self.head if self.phone_head is None else self.phone_head
        added: Tensor = self.conditioning(head(rows).float().softmax(-1))
        return added

    def _logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(hidden))
        return logits


def middle_layer(layers: int, *, needed_by: str = "training.intermediate and phones.share") -> int:
    """The layer, from 0, that a loss of its own helps: the middle one; of an even number the lower.

    Args:
        layers: of the encoder.
        needed_by: the settings that ask, for the error.

    Raises:
        ValueError: there is but one.
    """
    if layers < 2:
        raise ValueError(f"{needed_by}: encoder.layers must be at least 2, for one below the last")
    return (layers - 1) // 2
