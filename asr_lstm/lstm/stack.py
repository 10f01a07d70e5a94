"""Stacked LSTM layers with variational dropout over padded batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from asr_lstm.lstm.between import Shortcut, TimeReduction
from asr_lstm.lstm.dropout import LockedDropout, StepDropout, check_rate
from asr_lstm.lstm.kernels import PackingPlan, plan_packing, plan_single_step
from asr_lstm.lstm.kernels.rows import pack, unpack
from asr_lstm.lstm.layer import LSTMLayer


class States(NamedTuple):
    """What a stack remembers: (layers, directions, batch, state_size) states, (..., hidden_size) cells."""

    states: Tensor
    cells: Tensor

    def select(self, sequences: Tensor) -> States:
        """Those of some sequences, (count,), in that order, as a beam search needs."""
        return States(self.states.index_select(2, sequences), self.cells.index_select(2, sequences))


class VariationalLSTM(nn.Module):
    """A stack of LSTM layers with variational dropout; without it, `torch.nn.LSTM` on packed sequences.

    Lengths are handled without packed sequences: a sequence gives the same output alone as in any batch. The kinds
    of dropout are described in `asr_lstm.lstm.dropout`, the variants of a layer's cell at `LSTMLayer`; any of them
    go together but where a ValueError says otherwise.

    Args:
        input_size: dims of the input.
        hidden_size: of each direction of each layer.
        layers: how many.
        bidirectional: run both directions, each from its own end of the sequence.
        input_dropout: locked dropout on the input of the first layer.
        layer_dropout: locked dropout between layers.
        step_dropout: standard dropout between layers, redrawn at each frame.
        state_dropout: dropout of the recurrent state h_{t-1} in each layer and direction, one mask a sequence.
        candidate_dropout: recurrent dropout without memory loss, redrawn at each step.
        weight_dropout: weight drop on the recurrent matrices, one mask a forward pass.
        zoneout_cell: zoneout of the cells.
        zoneout_state: zoneout of the hidden states.
        layer_norm: normalise the output of each layer (Ba et al. 2016), which lets deep stacks train sooner.
        cell_norm: layer normalisation inside the cells.
        peepholes: let the gates see the cell.
        projection: size that the states are projected to; 0 for none.
        coupled_gates: the input gate is 1 - forget gate.
        shortcut: what leads past each layer but the first: "none", "residual" or "highway", see `Shortcut`.
        time_reduction: frames made one after each layer but the last, (2, 2) for a pyramid of three; what is left out
            is 1, and all of it is by default.
        reduction: "concat" puts such frames side by side, "take" takes the first of them, see `TimeReduction`.

    Attributes:
        output_size: dims of the output.
        recompute: compute each layer a second time in the backward pass, in training, instead of keeping its states:
            a third more time, and a fraction of the memory (Chen et al. 2016, arXiv 1604.06174).

    Raises:
        ValueError: an argument is out of its range, or does not go with another.
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
        step_dropout: float = 0.0,
        state_dropout: float = 0.0,
        candidate_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout_cell: float = 0.0,
        zoneout_state: float = 0.0,
        layer_norm: bool = False,
        cell_norm: bool = False,
        peepholes: bool = False,
        projection: int = 0,
        coupled_gates: bool = False,
        shortcut: Literal["none", "residual", "highway"] = "none",
        time_reduction: Sequence[int] = (),
        reduction: Literal["concat", "take"] = "concat",
    ) -> None:
        super().__init__()
        factors = _factors(layers, time_reduction, shortcut=shortcut, reduction=reduction)
        check_rate(layer_dropout, name="layer_dropout")  # also where a single layer has none after it
        self.recompute = False
        self.output_size = (projection or hidden_size) * (2 if bidirectional else 1)
        self.reductions = nn.ModuleList(TimeReduction(factor, reduction) for factor in factors)
        sizes = [input_size] + [
            cast(TimeReduction, reduce).width(self.output_size) for reduce in list(self.reductions)[:-1]
        ]
        self.dropouts = nn.ModuleList(
            [LockedDropout(input_dropout, name="input_dropout")]
            + [LockedDropout(layer_dropout) for _ in range(layers - 1)]
        )
        self.step_dropout = StepDropout(step_dropout, name="step_dropout")
        self.layers = nn.ModuleList(
            LSTMLayer(
                size,
                hidden_size,
                bidirectional=bidirectional,
                state_dropout=state_dropout,
                candidate_dropout=candidate_dropout,
                weight_dropout=weight_dropout,
                zoneout_cell=zoneout_cell,
                zoneout_state=zoneout_state,
                peepholes=peepholes,
                projection=projection,
                cell_norm=cell_norm,
                coupled_gates=coupled_gates,
            )
            for size in sizes
        )
        self.shortcuts = nn.ModuleList(
            Shortcut(shortcut if index or layers == 1 else "none", self.output_size)
            for index in range(layers)
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(self.output_size) if layer_norm else nn.Identity() for _ in range(layers)
        )

    def forward(self, inputs: Tensor, lengths: Tensor, *, states: States | None = None) -> Tensor:
        """Run the stack.

        Args:
            inputs: (batch, frames, input_size); what stands in the padding does not matter.
            lengths: (batch,) valid frames of each sequence, 1 .. frames.
            states: what is remembered at the beginning; zeros by default.

        Returns:
            (batch, frames, output_size), zeros in the padding. With `time_reduction` there are fewer frames:
            those of a sequence are `output_lengths(lengths)`.

        Raises:
            ValueError: an argument's shape, type or device, or a length outside 1 .. frames.
        """
        return self._run(inputs, self._plan(inputs, lengths), states)[0]

    def forward_with_states(
        self, inputs: Tensor, lengths: Tensor | None = None, *, states: States | None = None
    ) -> tuple[Tensor, States]:
        """As `forward`, with what is remembered at each sequence's end, to go on from: streams, language models.

        Args:
            inputs: (batch, frames, input_size).
            lengths: (batch,); all frames are valid by default. With `time_reduction`, multiples of its product:
                frames that make one must not be parted.
            states: those of the call before.

        Returns:
            The outputs, and the states: the backward direction's are those after each sequence's first frame.

        Raises:
            ValueError: as `forward`.
        """
        plan = self._plan(inputs, lengths)
        whole = self.time_factor
        if whole > 1 and bool((plan.lengths % whole).any()):
            raise ValueError(
                f"lengths must be multiples of {whole}, the time reduction, where states are handed on"
            )
        return self._run(inputs, plan, states)

    def forward_with_layer(
        self, inputs: Tensor, lengths: Tensor, *, layer: int, feed: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, with what one of the layers gives, for a loss of its own.

        Args:
            inputs: (batch, frames, input_size).
            lengths: (batch,) valid frames.
            layer: from 0; frames are not yet reduced after it.
            feed: makes of what this layer gives (valid frames of all sequences, output_size) what is added to it
                for the layers after it, of the same shape.

        Returns:
            The outputs; those of the layer (batch, frames, output_size), zeros in the padding; and (batch,) the valid
            frames of the latter.

        Raises:
            ValueError: as `forward`, or there is no such layer.
        """
        if not 0 <= layer < len(self.layers):
            raise ValueError(f"layer must lie in 0 .. {len(self.layers) - 1}, not {layer}")
        met: list[tuple[Tensor, PackingPlan]] = []

        def meet(index: int, rows: Tensor, plan: PackingPlan) -> Tensor:
            if index != layer:
                return rows
            met.append((rows, plan))
            return rows if feed is None else rows + feed(rows).to(rows.dtype)

        outputs, _ = self._run(inputs, self._plan(inputs, lengths), None, meet=meet)
        [(rows, plan)] = met
        return outputs, unpack(rows, plan), plan.lengths[plan.rank.cpu()].to(lengths)

    @property
    def time_factor(self) -> int:
        """Input frames to one of the output."""
        factor = 1
        for reduce in self.reductions:
            factor *= cast(TimeReduction, reduce).factor
        return factor

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """(batch,) valid frames of the output for those of the input."""
        return -(-lengths // self.time_factor)

    def _plan(self, inputs: Tensor, lengths: Tensor | None) -> PackingPlan:
        """Check what is given and lay it out."""
        weight = cast(LSTMLayer, self.layers[0]).weight_ih
        size = weight.shape[-1]
        if not isinstance(inputs, Tensor):
            raise ValueError(
                f"inputs must be a tensor (batch, frames, {size}), not a {type(inputs).__name__}"
            )
        device = inputs.device
        if inputs.ndim != 3 or inputs.shape[-1] != size or 0 in inputs.shape:
            raise ValueError(
                f"inputs must be (batch, frames, {size}) with a sequence and a frame at least, "
                f"not of shape {tuple(inputs.shape)}"
            )
        halves = (torch.float16, torch.bfloat16) if torch.is_autocast_enabled(weight.device.type) else ()
        if device != weight.device or inputs.dtype not in (weight.dtype, *halves):
            raise ValueError(
                f"inputs must be {weight.dtype} on {weight.device} as the weights are, "
                f"not {inputs.dtype} on {device}"
            )
        batch, frames, _ = inputs.shape
        if lengths is None:
            if frames == 1:
                return plan_single_step(batch, device)
            lengths = torch.full((batch,), frames)
        plan = plan_packing(lengths, frames=frames, device=device)
        if plan.batch != batch:
            raise ValueError(f"lengths must be as many as the inputs, {batch}, not {plan.batch}")
        return plan

    def _run(
        self,
        inputs: Tensor,
        plan: PackingPlan,
        states: States | None,
        *,
        meet: Callable[[int, Tensor, PackingPlan], Tensor] | None = None,
    ) -> tuple[Tensor, States]:
        """Run all layers; `meet` is given each one's number, rows and plan, and says what those after it hear."""
        if not isinstance(states, States | None):
            raise ValueError(f"states must be States(states, cells), not a {type(states).__name__}")
        if states is not None and not len(states.states) == len(states.cells) == len(self.layers):
            raise ValueError(
                f"states must hold those of {len(self.layers)} layers, not of {len(states.states)}"
            )
        rows, last = pack(inputs, plan), []
        parts = zip(self.dropouts, self.layers, self.shortcuts, self.norms, self.reductions, strict=True)
        for index, (dropout, layer, shortcut, norm, reduce) in enumerate(parts):
            rows = cast(LockedDropout, dropout).on_rows(rows, plan)
            if index:
                rows = self.step_dropout(rows)
            before = None if states is None else (states.states[index], states.cells[index])
            if self.recompute and self.training:  # random numbers are drawn the second time as the first
                outputs, after = checkpoint(layer, rows, plan, before, use_reentrant=False)
            else:
                outputs, after = layer(rows, plan, before)
            last.append(after)
            rows = norm(shortcut(rows, outputs))
            if meet is not None:
                rows = meet(index, rows, plan)
            rows, plan = cast(TimeReduction, reduce)(rows, plan)
        state, cell = zip(*last, strict=True)
        return unpack(rows, plan), States(torch.stack(state), torch.stack(cell))

    @classmethod
    def from_torch(cls, lstm: nn.LSTM) -> VariationalLSTM:
        """Copy the weights of a `torch.nn.LSTM`; its two biases are added up."""
        copy = cls(
            lstm.input_size,
            lstm.hidden_size,
            layers=lstm.num_layers,
            bidirectional=lstm.bidirectional,
            projection=lstm.proj_size,
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
                    if lstm.proj_size:
                        cast(Tensor, layer.projection)[direction] = getattr(lstm, f"weight_hr_{name}")
        return copy


def _factors(layers: int, time_reduction: Sequence[int], *, shortcut: str, reduction: str) -> list[int]:
    """Frames made one after each layer, or a ValueError on what does not go together."""
    if layers < 1:
        raise ValueError(f"layers must be at least 1, not {layers}")
    if len(time_reduction) >= layers:
        raise ValueError(
            f"time_reduction must hold at most {layers - 1} numbers for {layers} layers, not {time_reduction}"
        )
    factors = [*time_reduction, *[1] * (layers - len(time_reduction))]
    if shortcut in ("residual", "highway"):
        if layers == 1:
            raise ValueError(f"shortcut {shortcut!r} leads past later layers than the first, but layers is 1")
        if reduction == "concat" and max(factors) > 1:
            raise ValueError(f"shortcut {shortcut!r} needs reduction 'take': 'concat' widens a layer's input")
    return factors
