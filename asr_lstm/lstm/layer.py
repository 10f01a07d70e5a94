"""Stacked LSTM layers with variational dropout over padded batches."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from asr_lstm.lstm.dropout import LockedDropout, check_rate, sequence_mask
from asr_lstm.lstm.kernels import PackingPlan, lstm_layer, plan_packing

# Gers et al. 2000 and Jozefowicz et al. 2015 ("An Empirical Exploration of Recurrent Network
# Architectures", section 5): a cell that begins by remembering learns long spans sooner.
FORGET_BIAS = 1.0


class LSTMLayer(nn.Module):
    """One LSTM layer, in one direction or both, with one dropout mask a sequence on the recurrent state.

    Args:
        input_size: dims of the input.
        hidden_size: of each direction.
        bidirectional: run a second direction from the last valid frame to the first.
        state_dropout: probability that a unit of h_{t-1} is hidden from the gates, all through a sequence.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, bidirectional: bool = True, state_dropout: float = 0.0
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, not {size}")
        directions = 2 if bidirectional else 1
        self.hidden_size = hidden_size
        self.state_dropout = check_rate(state_dropout, name="state_dropout")
        self.weight_ih = nn.Parameter(torch.empty(directions, 4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(directions, 4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(directions, 4 * hidden_size))
        self.reset_parameters()

    @property
    def directions(self) -> int:
        """1 or 2."""
        return len(self.weight_ih)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Glorot-uniform input weights, an orthogonal recurrent matrix for each gate, forget bias 1."""
        for direction in range(self.directions):
            for gate in self.weight_ih[direction].chunk(4):
                nn.init.xavier_uniform_(gate)
            for gate in self.weight_hh[direction].chunk(4):
                nn.init.orthogonal_(gate)
        self.bias.zero_()
        self.bias[:, self.hidden_size : 2 * self.hidden_size] = FORGET_BIAS

    def forward(self, inputs: Tensor, plan: PackingPlan) -> Tensor:
        """Map (batch, frames, input_size) to (batch, frames, directions * hidden_size), 0 in the padding."""
        mask = None
        if self.training and self.state_dropout > 0:
            shape = (self.directions, len(inputs), self.hidden_size)
            mask = sequence_mask(*shape, rate=self.state_dropout, like=self.weight_hh)
        return lstm_layer(
            inputs,
            weight_ih=self.weight_ih,
            weight_hh=self.weight_hh,
            bias=self.bias,
            plan=plan,
            state_mask=mask,
        )


class VariationalLSTM(nn.Module):
    """A stack of LSTM layers with variational dropout; without it, `torch.nn.LSTM` on packed sequences.

    Each mask is drawn once a sequence and held over time (Gal & Ghahramani 2016, arXiv 1512.05287). Lengths
    are handled without packed sequences: a sequence gives the same output alone as in any batch.

    Args:
        input_size: dims of the input.
        hidden_size: of each direction of each layer.
        layers: how many.
        bidirectional: run both directions, each from its own end of the sequence.
        input_dropout: locked dropout on the input of the first layer.
        layer_dropout: locked dropout between layers.
        state_dropout: dropout of the recurrent state h_{t-1} in each layer and direction.
        layer_norm: normalise the output of each layer (Ba et al. 2016), which lets deep stacks train sooner.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        layers: int = 1,
        bidirectional: bool = True,
        input_dropout: float = 0.0,
        layer_dropout: float = 0.0,
        state_dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers must be at least 1, not {layers}")
        check_rate(layer_dropout, name="layer_dropout")
        self.output_size = hidden_size * (2 if bidirectional else 1)
        sizes = [input_size] + [self.output_size] * (layers - 1)
        rates = [check_rate(input_dropout, name="input_dropout")] + [layer_dropout] * (layers - 1)
        self.dropouts = nn.ModuleList(LockedDropout(rate) for rate in rates)
        self.layers = nn.ModuleList(
            LSTMLayer(size, hidden_size, bidirectional=bidirectional, state_dropout=state_dropout)
            for size in sizes
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(self.output_size) if layer_norm else nn.Identity() for _ in range(layers)
        )

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Run the stack.

        Args:
            inputs: (batch, frames, input_size); what stands in the padding does not matter.
            lengths: (batch,) valid frames of each sequence, 1 .. frames.

        Returns:
            (batch, frames, directions * hidden_size); the padding holds zeros (with `layer_norm`, constants).

        Raises:
            ValueError: a length outside 1 .. frames.
        """
        first = cast(LSTMLayer, self.layers[0])
        plan = plan_packing(lengths.to(inputs.device), frames=inputs.shape[1], directions=first.directions)
        outputs = inputs
        for dropout, layer, norm in zip(self.dropouts, self.layers, self.norms, strict=True):
            outputs = norm(layer(dropout(outputs), plan))
        return outputs

    @classmethod
    def from_torch(cls, lstm: nn.LSTM) -> VariationalLSTM:
        """Copy the weights of a `torch.nn.LSTM`; its two biases are added up.

        Raises:
            ValueError: it has a projection, which this stack has not.
        """
        if lstm.proj_size:
            raise ValueError("lstm has proj_size > 0, which is not supported")
        copy = cls(
            lstm.input_size, lstm.hidden_size, layers=lstm.num_layers, bidirectional=lstm.bidirectional
        )
        copy.to(cast(Tensor, lstm.weight_ih_l0))
        suffixes = ("", "_reverse") if lstm.bidirectional else ("",)
        with torch.no_grad():
            for index, module in enumerate(copy.layers):
                layer = cast(LSTMLayer, module)
                for direction, suffix in enumerate(suffixes):
                    name = f"l{index}{suffix}"
                    layer.weight_ih[direction] = getattr(lstm, f"weight_ih_{name}")
                    layer.weight_hh[direction] = getattr(lstm, f"weight_hh_{name}")
                    layer.bias[direction] = 0
                    if lstm.bias:
                        layer.bias[direction] = getattr(lstm, f"bias_ih_{name}") + getattr(
                            lstm, f"bias_hh_{name}"
                        )
        return copy
