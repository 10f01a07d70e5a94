"""The LSTM cell as its equations stand, a line a gate: slow, and what everything else is tested against."""

from __future__ import annotations

from torch import Tensor, sigmoid, tanh


def lstm_cell(
    inputs: Tensor,
    state: Tensor,
    cell: Tensor,
    *,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
) -> tuple[Tensor, Tensor]:
    """One step of a long short-term memory.

    With x the input, h the state and c the cell:

        f_t = sigmoid(W_f x_t + U_f h_{t-1} + b_f)          what to keep of the cell
        i_t = sigmoid(W_i x_t + U_i h_{t-1} + b_i)          what to let in
        z_t = tanh   (W_z x_t + U_z h_{t-1} + b_z)          what might come in: the candidate
        c_t = f_t * c_{t-1} + i_t * z_t                     the cell, changed by addition alone
        o_t = sigmoid(W_o x_t + U_o h_{t-1} + b_o)          what to show
        h_t = o_t * tanh(c_t)

    Source: Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", Neural Computation 9(8), with the
    forget gate of Gers, Schmidhuber & Cummins 2000, "Learning to Forget"; no peepholes.

    Args:
        inputs: (batch, dims), x_t.
        state: (batch, hidden), h_{t-1}. A variational mask on the recurrent state is applied by the
            caller, to what is passed here.
        cell: (batch, hidden), c_{t-1}.
        weight_ih: (4 * hidden, dims), the rows W_i, W_f, W_z, W_o one below the other, torch's order.
        weight_hh: (4 * hidden, hidden), the rows U_i, U_f, U_z, U_o.
        bias: (4 * hidden), b_i, b_f, b_z, b_o.

    Returns:
        (batch, hidden) state h_t and (batch, hidden) cell c_t.
    """
    w_input, w_forget, w_candidate, w_output = weight_ih.chunk(4)
    u_input, u_forget, u_candidate, u_output = weight_hh.chunk(4)
    b_input, b_forget, b_candidate, b_output = bias.chunk(4)

    forget_gate = sigmoid(inputs @ w_forget.T + state @ u_forget.T + b_forget)
    input_gate = sigmoid(inputs @ w_input.T + state @ u_input.T + b_input)
    candidate = tanh(inputs @ w_candidate.T + state @ u_candidate.T + b_candidate)
    next_cell = forget_gate * cell + input_gate * candidate
    output_gate = sigmoid(inputs @ w_output.T + state @ u_output.T + b_output)
    next_state = output_gate * tanh(next_cell)
    return next_state, next_cell
