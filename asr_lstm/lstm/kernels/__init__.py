"""The LSTM layer over a whole batch, behind one function."""

from __future__ import annotations

from torch import Tensor

from asr_lstm.lstm.kernels.autograd import LSTMFunction
from asr_lstm.lstm.kernels.plan import PackingPlan, plan_packing

__all__ = ["PackingPlan", "lstm_layer", "plan_packing"]


def lstm_layer(
    inputs: Tensor,
    *,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    plan: PackingPlan,
    state_mask: Tensor | None = None,
) -> Tensor:
    """Run one LSTM layer, one direction or both, over a padded batch; padding is neither read nor computed.

    The rows of the weights are torch's: input gate, forget gate, candidate, output gate.

    Args:
        inputs: (batch, frames, dims).
        weight_ih: (directions, 4 * hidden, dims).
        weight_hh: (directions, 4 * hidden, hidden).
        bias: (directions, 4 * hidden).
        plan: the batch's lengths, as `plan_packing` lays them out.
        state_mask: (directions, batch, hidden), multiplied with the state h_{t-1} before the recurrent
            product at each step: one mask a sequence, held over time (Gal & Ghahramani 2016, equation 7).

    Returns:
        (batch, frames, directions * hidden), zero in the padding. Initial states are zero.

    Raises:
        ValueError: an argument's shape does not fit the others.
    """
    directions, gate_rows, hidden = weight_hh.shape
    expected = {
        "inputs": (tuple(inputs.shape), (plan.batch, plan.frames, weight_ih.shape[-1])),
        "weight_ih": (tuple(weight_ih.shape), (directions, 4 * hidden, weight_ih.shape[-1])),
        "weight_hh": (gate_rows, 4 * hidden),
        "bias": (tuple(bias.shape), (directions, 4 * hidden)),
        "plan": (plan.directions, directions),
    }
    if state_mask is not None:
        expected["state_mask"] = (tuple(state_mask.shape), (directions, plan.batch, hidden))
    for name, (actual, wanted) in expected.items():
        if actual != wanted:
            raise ValueError(f"{name} does not fit: {actual} where {wanted} is needed")
    outputs: Tensor = LSTMFunction.apply(inputs, weight_ih, weight_hh, bias, state_mask, plan)
    return outputs
