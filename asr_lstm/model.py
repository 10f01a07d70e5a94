"""The recogniser: front end, encoder of stacked LSTMs, and a linear head whose units CTC aligns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from asr_lstm.augment import AugmentConfig, SpecAugment
from asr_lstm.features import FeatureConfig, make_front_end
from asr_lstm.lstm import LockedDropout, VariationalLSTM
from asr_lstm.lstm.dropout import check_rate


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
    """

    layers: int = 3
    hidden: int = 256
    bidirectional: bool = True
    layer_norm: bool = True
    input_dropout: float = 0.0
    layer_dropout: float = 0.1
    state_dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("layers", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"encoder.{name} must be at least 1, not {getattr(self, name)}")
        for name in ("input_dropout", "layer_dropout", "state_dropout"):
            check_rate(getattr(self, name), name=f"encoder.{name}")


class Recogniser(nn.Module):
    """Audio or ready features to the logits of the output units; unit 0 is the CTC blank.

    Args:
        features: the front end.
        encoder: the stack.
        units: how many output units, the blank included.
        augment: SpecAugment between front end and encoder, and the warped filters of the front end, in training;
            none by default.
    """

    def __init__(
        self,
        features: FeatureConfig,
        encoder: EncoderConfig,
        *,
        units: int,
        augment: AugmentConfig | None = None,
    ) -> None:
        super().__init__()
        self.front_end = make_front_end(features, vocal_tract=augment.vocal_tract if augment else 0.0)
        self.spec_augment = SpecAugment(augment, bands=features.bands) if augment else None
        self.encoder = VariationalLSTM(
            self.front_end.dims,
            encoder.hidden,
            layers=encoder.layers,
            bidirectional=encoder.bidirectional,
            input_dropout=encoder.input_dropout,
            layer_dropout=encoder.layer_dropout,
            state_dropout=encoder.state_dropout,
            layer_norm=encoder.layer_norm,
        )
        self.dropout = LockedDropout(encoder.layer_dropout)
        self.head = nn.Linear(self.encoder.output_size, units)

    def forward(
        self, inputs: Tensor, lengths: Tensor, *, seeds: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run a padded batch.

        Args:
            inputs: (batch, samples) audio, or (batch, frames, dims) where the loader gives frames.
            lengths: (batch,) valid samples or frames.
            seeds: (batch,) one an utterance, for augmentation in training.

        Returns:
            (batch, frames, units) logits and (batch,) their lengths.
        """
        features, lengths = self.front_end(inputs, lengths, seeds=seeds)
        if self.spec_augment is not None and seeds is not None:
            features = self.spec_augment(features, lengths, seeds)
        return self.head(self.dropout(self.encoder(features, lengths))), lengths
