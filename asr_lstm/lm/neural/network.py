"""The network of a language model: embedding, stacked LSTMs, and the embedding again as output."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr_lstm.lstm import EmbeddingDropout, LockedDropout, States, VariationalLSTM
from asr_lstm.lstm.dropout import StepDropout


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and dropout of the network.

    Attributes:
        layers: how many LSTM layers.
        hidden: of each.
        embedding: size of a unit's vector; 0 for `hidden`. Where the two differ, a projection leads to the output.
        layer_norm: normalise the output of each layer.
        embedding_dropout: whole units dropped, one mask an update.
        input_dropout: locked dropout of the embedded units.
        layer_dropout: locked dropout between layers.
        output_dropout: locked dropout of the last layer's output.
        step_dropout: standard dropout in the same three places, redrawn at each step.
        state_dropout: dropout of the recurrent state, one mask a stretch of text.
        weight_dropout: weight drop on the recurrent matrices, one mask an update.
    """

    layers: int = 2
    hidden: int = 512
    embedding: int = 0
    layer_norm: bool = False
    embedding_dropout: float = 0.0
    input_dropout: float = 0.0
    layer_dropout: float = 0.2
    output_dropout: float = 0.2
    step_dropout: float = 0.0
    state_dropout: float = 0.0
    weight_dropout: float = 0.2

    def __post_init__(self) -> None:
        for name, least in (("layers", 1), ("hidden", 1), ("embedding", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"network.{name} must be at least {least}, not {getattr(self, name)}")
        for name in self.__dataclass_fields__:
            if name.endswith("dropout") and not 0 <= getattr(self, name) < 1:
                raise ValueError(f"network.{name} must be at least 0 and below 1, not {getattr(self, name)}")


class LanguageModel(nn.Module):
    """Units to the logits of the units that follow; output and embedding share one matrix.

    Source of the shared matrix: Press & Wolf 2017, "Using the Output Embedding to Improve Language Models"
    (arXiv 1608.05859), with the projection of their section 3.

    Args:
        config: sizes and dropout.
        units: how many units, the end of a line among them.
    """

    def __init__(self, config: NetworkConfig, *, units: int) -> None:
        super().__init__()
        size = config.embedding or config.hidden
        self.embedding = nn.Embedding(units, size)
        # One matrix for both ends, which want different sizes: small numbers where logits are sums of many, and
        # numbers about 1 where the LSTM reads (Vaswani et al. 2017, arXiv 1706.03762, section 3.4, scale alike).
        # Read as small as they are, they keep the LSTM at the frequencies of single units for its first 200 updates.
        nn.init.normal_(self.embedding.weight, std=size**-0.5)
        self.input_scale = math.sqrt(size)
        self.embedding_dropout = EmbeddingDropout(config.embedding_dropout)
        self.lstm = VariationalLSTM(
            size,
            config.hidden,
            layers=config.layers,
            bidirectional=False,
            input_dropout=config.input_dropout,
            layer_dropout=config.layer_dropout,
            step_dropout=config.step_dropout,
            state_dropout=config.state_dropout,
            weight_dropout=config.weight_dropout,
            layer_norm=config.layer_norm,
        )
        self.step_dropout = StepDropout(config.step_dropout)
        self.output_dropout = LockedDropout(config.output_dropout)
        self.projection: nn.Module = nn.Identity()
        if size != config.hidden:
            self.projection = nn.Linear(config.hidden, size, bias=False)
        self.bias = nn.Parameter(torch.zeros(units))

    def forward(
        self, units: Tensor, *, lengths: Tensor | None = None, states: States | None = None
    ) -> tuple[Tensor, States]:
        """Read units and say what may follow each.

        Args:
            units: `(batch, steps)` int64.
            lengths: `(batch,)` valid steps; all by default.
            states: what is remembered of what came before; nothing by default.

        Returns:
            `(batch, steps, units)` logits, and what is remembered after the last valid step.
        """
        vectors = self.step_dropout(self.input_scale * self.embedding_dropout(units, self.embedding))
        outputs, after = self.lstm.forward_with_states(vectors, lengths, states=states)
        outputs = self.projection(self.output_dropout(self.step_dropout(outputs)))
        return functional.linear(outputs, self.embedding.weight, self.bias), after
