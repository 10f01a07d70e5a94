"""The LSTM cell and its variants as their equations stand: slow, and what everything else is tested against."""

from __future__ import annotations

from torch import Tensor, sigmoid, tanh
from torch.nn.functional import layer_norm


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


def variant_cell(
    inputs: Tensor,
    state: Tensor,
    cell: Tensor,
    *,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    state_mask: Tensor | float = 1.0,
    candidate_mask: Tensor | float = 1.0,
    cell_kept: Tensor | float = 0.0,
    state_kept: Tensor | float = 0.0,
    peepholes: Tensor | None = None,
    projection: Tensor | None = None,
    norm: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM with any of its variants, in the terms of `lstm_cell`; without them it is the same.

        a   = W x_t + U (m_h * h_{t-1}) + b                 m_h a mask of the state (Gal & Ghahramani 2016)
        f_t = sigmoid(a_f + p_f * c_{t-1})                  p peepholes (Gers et al. 2002)
        i_t = sigmoid(a_i + p_i * c_{t-1})                  or 1 - f_t, coupled (Greff et al. 2017)
        c'  = f_t * c_{t-1} + i_t * m_z * tanh(a_z)         m_z a mask of the candidate (Semeniuta et al. 2016)
        o_t = sigmoid(a_o + p_o * c')
        h'  = P (o_t * tanh(c'))                            P a projection (Sak et al. 2014)
        c_t = d_c * c_{t-1} + (1 - d_c) * c'                d zoneout (Krueger et al. 2017)
        h_t = d_h * h_{t-1} + (1 - d_h) * h'

    Layer normalisation inside the cell (Ba, Kiros & Hinton 2016, arXiv 1607.06450, equations 29 to 31), with LN to
    mean 0 and variance 1 over all gates, or over the cell:

        a   = g_x * LN(W x_t) + g_h * LN(U (m_h * h_{t-1})) + b
        h'  = P (o_t * tanh(g_c * LN(c') + b_c))

    Args:
        inputs: (batch, dims).
        state: (batch, hidden), or the size of the projection.
        cell: (batch, hidden).
        weight_ih: (4 * hidden, dims), or 3 * hidden, without the input gate, where it is coupled.
        weight_hh: (4 * hidden, hidden or projection), as `weight_ih`.
        bias: (4 * hidden), as `weight_ih`.
        state_mask: m_h.
        candidate_mask: m_z.
        cell_kept: d_c.
        state_kept: d_h.
        peepholes: (3, hidden) p_i, p_f, p_o, or the last two.
        projection: (projection, hidden) P.
        norm: g_x, g_h (4 * hidden), g_c and b_c (hidden).

    Returns:
        State h_t and cell c_t.
    """
    from_inputs, from_state = inputs @ weight_ih.T, (state * state_mask) @ weight_hh.T
    if norm is not None:
        from_inputs, from_state = norm[0] * _normal(from_inputs), norm[1] * _normal(from_state)
    summed = from_inputs + from_state + bias
    *into_input, into_forget, into_candidate, into_output = summed.split(cell.shape[-1], dim=-1)
    if peepholes is not None:
        into_forget = into_forget + peepholes[-2] * cell
        into_input = [into + peepholes[0] * cell for into in into_input]
    forget_gate = sigmoid(into_forget)
    input_gate = sigmoid(into_input[0]) if into_input else 1 - forget_gate
    fresh = forget_gate * cell + input_gate * candidate_mask * tanh(into_candidate)
    if peepholes is not None:
        into_output = into_output + peepholes[-1] * fresh
    shown = fresh if norm is None else norm[2] * _normal(fresh) + norm[3]
    next_state = sigmoid(into_output) * tanh(shown)
    if projection is not None:
        next_state = next_state @ projection.T
    next_cell = cell_kept * cell + (1 - cell_kept) * fresh
    return state_kept * state + (1 - state_kept) * next_state, next_cell


def _normal(numbers: Tensor) -> Tensor:
    return layer_norm(numbers, numbers.shape[-1:])
