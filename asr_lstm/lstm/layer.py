"""One LSTM layer over packed rows: its weights, its dropout, and the variants of its cell."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr_lstm.lstm.dropout import (
    CandidateDropout,
    Dropout,
    StateDropout,
    WeightDrop,
    Zoneout,
    draw_noise,
)
from asr_lstm.lstm.kernels import CellNorm, PackingPlan, lstm_layer

# Gers et al. 2000 and Jozefowicz et al. 2015 ("An Empirical Exploration of Recurrent Network
# Architectures", section 5): a cell that begins by remembering learns long spans sooner.
FORGET_BIAS = 1.0


class LSTMLayer(nn.Module):
    """One LSTM layer, in one direction or both.

    Args:
        input_size: dims of the input.
        hidden_size: of each direction.
        bidirectional: run a second direction from the last valid frame to the first.
        state_dropout: `StateDropout`, one mask a sequence on the recurrent state.
        candidate_dropout: `CandidateDropout`, redrawn at each step.
        weight_dropout: `WeightDrop` on the recurrent matrix.
        zoneout_cell: `Zoneout` of the cell.
        zoneout_state: `Zoneout` of the hidden state.
        peepholes: let the gates see the cell (Gers, Schraudolph & Schmidhuber 2002).
        projection: size that the state is projected to (LSTMP: Sak, Senior & Beaufays 2014); 0 for none.
        cell_norm: layer normalisation inside the cell (Ba, Kiros & Hinton 2016, equations 29 to 31).
        coupled_gates: the input gate is 1 - forget gate (Greff et al. 2017, "LSTM: A Search Space Odyssey", CIFG).

    Raises:
        ValueError: an argument is out of its range, or does not go with another.
    """

    peepholes: nn.Parameter | None
    projection: nn.Parameter | None
    norm_inputs: nn.Parameter | None
    norm_recurrent: nn.Parameter
    norm_cell: nn.Parameter
    norm_shift: nn.Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bidirectional: bool = True,
        state_dropout: float = 0.0,
        candidate_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout_cell: float = 0.0,
        zoneout_state: float = 0.0,
        peepholes: bool = False,
        projection: int = 0,
        cell_norm: bool = False,
        coupled_gates: bool = False,
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, not {size}")
        if not 0 <= projection < hidden_size:
            raise ValueError(
                f"projection must be at least 0 and below hidden_size, {hidden_size}, not {projection}"
            )
        if peepholes and cell_norm:
            raise ValueError("peepholes do not go with cell_norm, whose paper has none")
        directions, gates = 2 if bidirectional else 1, 3 if coupled_gates else 4
        self.hidden_size = hidden_size
        self.state_size = projection or hidden_size
        self._state_dropout = StateDropout(state_dropout)
        self._candidate_dropout = CandidateDropout(candidate_dropout)
        self._weight_drop = WeightDrop(weight_dropout)
        self._zoneout = Zoneout(zoneout_cell, zoneout_state)

        def weights(*shape: int, wanted: bool = True) -> nn.Parameter | None:
            return nn.Parameter(torch.empty(directions, *shape)) if wanted else None

        self.weight_ih = nn.Parameter(torch.empty(directions, gates * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(directions, gates * hidden_size, self.state_size))
        self.bias = nn.Parameter(torch.empty(directions, gates * hidden_size))
        self.register_parameter("peepholes", weights(gates - 1, hidden_size, wanted=peepholes))
        self.register_parameter("projection", weights(projection, hidden_size, wanted=projection > 0))
        self.register_parameter("norm_inputs", weights(gates * hidden_size, wanted=cell_norm))
        self.register_parameter("norm_recurrent", weights(gates * hidden_size, wanted=cell_norm))
        self.register_parameter("norm_cell", weights(hidden_size, wanted=cell_norm))
        self.register_parameter("norm_shift", weights(hidden_size, wanted=cell_norm))
        self.reset_parameters()

    @property
    def directions(self) -> int:
        """1 or 2."""
        return len(self.weight_ih)

    @property
    def state_dropout(self) -> float:
        """The rate."""
        return self._state_dropout.rate

    def scale_dropout(self, share: float) -> None:
        """Use this share of the rates of all that is dropped within the cell; zoneout keeps its own."""
        for dropped in (self._state_dropout, self._candidate_dropout, self._weight_drop):
            dropped.share = share

    @property
    def rates(self) -> dict[str, float]:
        """The rates of all that is drawn within the cell in training, by the names of the arguments."""
        return {
            "state_dropout": self._state_dropout.rate,
            "candidate_dropout": self._candidate_dropout.rate,
            "weight_dropout": self._weight_drop.rate,
            "zoneout_cell": self._zoneout.cell,
            "zoneout_state": self._zoneout.state,
        }

    @property
    def output_size(self) -> int:
        """Dims of the output."""
        return self.directions * self.state_size

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Glorot-uniform input weights, an orthogonal recurrent matrix for each gate, forget bias 1.

        Peepholes begin at 0, gains of the normalisation at 1, a projection Glorot-uniform.
        """
        # Where only sizes are asked for: a QR decomposition of nothing takes a second.
        if self.weight_ih.is_meta:
            return
        hidden = self.hidden_size
        for direction in range(self.directions):
            for gate in self.weight_ih[direction].split(hidden):
                nn.init.xavier_uniform_(gate)
            for gate in self.weight_hh[direction].split(hidden):
                nn.init.orthogonal_(gate)
        self.bias.zero_()
        self.bias[:, -3 * hidden : self.bias.shape[1] - 2 * hidden] = FORGET_BIAS
        if self.peepholes is not None:
            self.peepholes.zero_()
        if self.norm_inputs is not None:
            self.norm_shift.zero_()
            for gain in (self.norm_inputs, self.norm_recurrent, self.norm_cell):
                gain.fill_(1)
        if self.projection is not None:
            for direction in self.projection:
                nn.init.xavier_uniform_(direction)

    def forward(
        self, rows: Tensor, plan: PackingPlan, states: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map packed rows (rows, input_size) to (rows, output_size).

        Args:
            rows: the valid frames of a batch.
            plan: how they are packed.
            states: initial states (directions, batch, state_size) and cells (directions, batch, hidden_size).

        Returns:
            The outputs, and states and cells after each sequence's last step.
        """
        mask, norm = None, None
        weight_hh: Tensor = self.weight_hh
        if self.training:
            mask = self._state_dropout.draw(self.directions, plan.batch, self.state_size, like=weight_hh)
            weight_hh = self._weight_drop.apply(weight_hh)
        if self.norm_inputs is not None:
            norm = CellNorm(self.norm_inputs, self.norm_recurrent, self.norm_cell, self.norm_shift)
        return lstm_layer(
            rows,
            weight_ih=self.weight_ih,
            weight_hh=weight_hh,
            bias=self.bias,
            plan=plan,
            state_mask=mask,
            states=states,
            noise=draw_noise(self._candidate_dropout, self._zoneout, training=self.training),
            peepholes=self.peepholes,
            projection=self.projection,
            norm=norm,
        )

    def extra_repr(self) -> str:
        """Sizes and rates above 0, for print(module)."""
        sizes = f"{self.weight_ih.shape[-1]}, {self.hidden_size}, directions={self.directions}"
        return ", ".join([sizes, *(f"{name}={rate}" for name, rate in self.rates.items() if rate)])


def scale_dropout(module: nn.Module, share: float) -> None:
    """Use this share of all dropout rates in a module; zoneout, which evaluation knows, keeps its own.

    Args:
        module: such as a recogniser.
        share: 0 drops nothing, 1 what the rates say.

    Raises:
        ValueError: a share outside 0 .. 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in 0 .. 1, not {share}")
    for part in module.modules():
        if isinstance(part, LSTMLayer):
            part.scale_dropout(share)
        elif isinstance(part, Dropout):
            part.share = share
