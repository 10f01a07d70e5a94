"""A step of an LSTM layer normalised inside its cell, on a GPU, in Triton: all but its product, in one launch.

Imported only where Triton is; kernels/triton_norm.py launches these. To normalise takes all gates of a sequence, so
that a program serves one sequence of one direction and all units (UNITS, a power of two, holds them), and the product
of states and weights comes before it, a launch of its own, by torch. Equations: lstm/equations.py.

What they are given, beside what triton_steps.py names:

    products   (rows, directions, gates * hidden): input products, normalised, and biases
    recurrent  (directions, active, gates * hidden): the product of this step, not normalised; in the backward pass
               (rows, directions, gates * hidden), of all steps
    gains      (directions, gates * hidden), of the recurrent product; cell_gains and cell_shifts (directions, hidden)
    upcoming   (directions, batch, hidden): the masked states that the next product takes

and in the backward pass

    returned       (directions, going on, hidden): gradients of the masked states, from the step after
    grad_products  (rows, directions, gates * hidden): of the recurrent product; upcoming the same, of this step
    grad_norms     (directions, batch, 2, hidden): sums of the gradients of the cell's gains and shifts
"""
# mypy: ignore-errors
# Triton has no types, and what it compiles has a grammar of its own.

from __future__ import annotations

import triton
import triton.language as tl

from asr_lstm.lstm.kernels.triton_cell import (
    bounds_of,
    candidate_factor,
    gate_gradients,
    get,
    get_gates,
    offset,
    put_gates,
    rows_of,
    share_kept,
    sigmoid,
    tanh,
)

_VALUES = ["step", "batch", "steps", "seed", "candidate_below", "cell_below", "state_below"]
_EPSILON = tl.constexpr(1e-5)  # that of torch.nn.functional.layer_norm


@triton.jit
def normal(numbers, inside, HIDDEN: tl.constexpr):
    """Numbers over all units, with mean 0 and variance 1, and what they were multiplied by."""
    numbers = tl.where(inside, numbers - tl.sum(numbers, 1)[:, None] / HIDDEN, 0)
    scale = 1 / tl.sqrt(tl.sum(numbers * numbers, 1)[:, None] / HIDDEN + _EPSILON)
    return numbers * scale, scale


@triton.jit
def normal_gates(enter, forget, candidate, output, inside, GATES: tl.constexpr, HIDDEN: tl.constexpr):
    """The same over all units of all gates; where gates are coupled, the first of them are zeros and stay so."""
    mean = tl.sum(enter + forget + candidate + output, 1)[:, None] / (GATES * HIDDEN)
    if GATES == 4:
        enter = tl.where(inside, enter - mean, 0)
    forget = tl.where(inside, forget - mean, 0)
    candidate = tl.where(inside, candidate - mean, 0)
    output = tl.where(inside, output - mean, 0)
    squares = enter * enter + forget * forget + candidate * candidate + output * output
    scale = 1 / tl.sqrt(tl.sum(squares, 1)[:, None] / (GATES * HIDDEN) + _EPSILON)
    return enter * scale, forget * scale, candidate * scale, output * scale, scale


@triton.jit(do_not_specialize=_VALUES)
def forward_norm_step(
    products, recurrent, gates, cells, states, seen, upcoming, gains, cell_gains, cell_shifts, mask, mirror, starts,
    step, batch, steps,
    seed, candidate_below, candidate_scale, cell_below, cell_share, state_below, state_share,
    DIRECTIONS: tl.constexpr, GATES: tl.constexpr, HIDDEN: tl.constexpr, CANDIDATE: tl.constexpr, CELL: tl.constexpr,
    STATE: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Run one step; all names are above."""
    direction, unit = tl.program_id(0), tl.arange(0, UNITS)
    sequence = (tl.program_id(1) + tl.arange(0, 1)).to(tl.int64)
    start, after, active, going_on, earlier = bounds_of(starts, step)
    here, goes_on = sequence < active, sequence < going_on
    inside = here[:, None] & (unit < HIDDEN)[None, :]
    row, row_ago, row_next = rows_of(
        mirror, start, after, earlier, sequence, here, goes_on, direction, batch, step, DIRECTIONS
    )
    before = offset(row_ago, unit, HIDDEN)
    at, own = offset(row, unit, GATES * HIDDEN), offset(direction * batch + sequence, unit, HIDDEN)
    one = direction + tl.zeros_like(sequence)  # the direction's row of gains

    from_enter, from_forget, from_candidate, from_output = get_gates(
        recurrent + offset(direction * active + sequence, unit, GATES * HIDDEN), inside, GATES, HIDDEN
    )
    from_enter, from_forget, from_candidate, from_output, _ = normal_gates(
        from_enter, from_forget, from_candidate, from_output, inside, GATES, HIDDEN
    )
    gain = gains + offset(one, unit, GATES * HIDDEN)
    gain_enter, gain_forget, gain_candidate, gain_output = get_gates(gain, inside, GATES, HIDDEN)
    enter, forget, candidate, output = get_gates(products + at, inside, GATES, HIDDEN)
    forget = sigmoid(forget + from_forget * gain_forget)
    candidate = tanh(candidate + from_candidate * gain_candidate)
    enter = sigmoid(enter + from_enter * gain_enter)
    if GATES == 3:
        enter = 1 - forget
    place = (direction * batch + sequence) * steps + step
    stream = DIRECTIONS * batch.to(tl.int64) * steps
    factor = candidate_factor(seed, place, unit, candidate_below, candidate_scale, CANDIDATE)
    cell_before = get(cells + before, inside)
    cell = forget * cell_before + enter * candidate * factor
    output = sigmoid(output + from_output * gain_output)
    shown, _ = normal(tl.where(inside, cell, 0), inside, HIDDEN)
    shown = shown * get(cell_gains + offset(one, unit, HIDDEN), inside)
    state = output * tanh(shown + get(cell_shifts + offset(one, unit, HIDDEN), inside))
    cell += share_kept(seed, place + stream, unit, cell_below, cell_share, CELL) * (cell_before - cell)
    if STATE:
        kept = share_kept(seed, place + 2 * stream, unit, state_below, state_share, STATE)
        state += kept * (get(states + before, inside) - state)

    put_gates(gates + at, enter, forget, candidate, output, inside, GATES, HIDDEN)
    now = offset(batch * DIRECTIONS + row, unit, HIDDEN)
    tl.store(cells + now, cell, mask=inside)
    tl.store(states + now, state, mask=inside)
    if mask is not None:
        state *= get(mask + own, inside)
    tl.store(upcoming + own, state, mask=inside)
    tl.store(seen + offset(row_next, unit, HIDDEN), state, mask=inside & goes_on[:, None])


@triton.jit(do_not_specialize=_VALUES)
def backward_norm_step(
    grad_gates, grad_products, upcoming, returned, grad_cells, grad_stayed, grad_norms, grad_outputs, recurrent, gates,
    cells, gains, cell_gains, cell_shifts, mask, mirror, starts, step, batch, steps,
    seed, candidate_below, candidate_scale, cell_below, cell_share, state_below, state_share,
    DIRECTIONS: tl.constexpr, GATES: tl.constexpr, HIDDEN: tl.constexpr, CANDIDATE: tl.constexpr, CELL: tl.constexpr,
    STATE: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Run one step back; all names are above."""
    direction, unit = tl.program_id(0), tl.arange(0, UNITS)
    sequence = (tl.program_id(1) + tl.arange(0, 1)).to(tl.int64)
    start, after, active, going_on, earlier = bounds_of(starts, step)
    here, goes_on = sequence < active, sequence < going_on
    inside = here[:, None] & (unit < HIDDEN)[None, :]
    row, row_ago, _ = rows_of(
        mirror, start, after, earlier, sequence, here, goes_on, direction, batch, step, DIRECTIONS
    )
    at, own = offset(row, unit, GATES * HIDDEN), offset(direction * batch + sequence, unit, HIDDEN)
    one = direction + tl.zeros_like(sequence)

    into_state = get(
        returned + offset(direction * going_on + sequence, unit, HIDDEN), inside & goes_on[:, None]
    )
    if mask is not None:
        into_state *= get(mask + own, inside)
    into_state += get(grad_stayed + own, inside) + get(grad_outputs + offset(row, unit, HIDDEN), inside)
    into_cell = get(grad_cells + own, inside)
    cell_before = get(cells + offset(row_ago, unit, HIDDEN), inside)
    enter, forget, candidate, output = get_gates(gates + at, inside, GATES, HIDDEN)
    if GATES == 3:
        enter = 1 - forget
    place = (direction * batch + sequence) * steps + step
    stream = DIRECTIONS * batch.to(tl.int64) * steps
    factor = candidate_factor(seed, place, unit, candidate_below, candidate_scale, CANDIDATE)
    state_stayed = share_kept(seed, place + 2 * stream, unit, state_below, state_share, STATE) * into_state
    cell_stayed = share_kept(seed, place + stream, unit, cell_below, cell_share, CELL) * into_cell
    into_state -= state_stayed
    into_cell -= cell_stayed

    fresh = tl.where(inside, forget * cell_before + enter * candidate * factor, 0)
    even, scale = normal(fresh, inside, HIDDEN)
    cell_gain = get(cell_gains + offset(one, unit, HIDDEN), inside)
    tangent = tanh(even * cell_gain + get(cell_shifts + offset(one, unit, HIDDEN), inside))
    into_output = into_state * tangent * output * (1 - output)
    into_shown = tl.where(inside, into_state * output * (1 - tangent * tangent), 0)
    sums = grad_norms + offset(direction * batch + sequence, unit, 2 * HIDDEN)
    into_gain, into_shift = get(sums, inside) + into_shown * even, get(sums + HIDDEN, inside) + into_shown
    into_even = into_shown * cell_gain
    mean = tl.sum(into_even, 1)[:, None] / HIDDEN
    along = tl.sum(into_even * even, 1)[:, None] / HIDDEN
    into_cell += scale * (into_even - mean - even * along)
    into_enter, into_forget, into_candidate = gate_gradients(
        into_cell, enter, forget, candidate, cell_before, factor, GATES
    )
    tl.debug_barrier()  # several threads may read a number that one replaces: first all read
    put_gates(grad_gates + at, into_enter, into_forget, into_candidate, into_output, inside, GATES, HIDDEN)
    tl.store(sums, into_gain, mask=inside)
    tl.store(sums + HIDDEN, into_shift, mask=inside)
    tl.store(grad_cells + own, into_cell * forget + cell_stayed, mask=inside)
    tl.store(grad_stayed + own, state_stayed, mask=inside)

    enter, forget, candidate, output = get_gates(recurrent + at, inside, GATES, HIDDEN)
    enter, forget, candidate, output, scale = normal_gates(
        enter, forget, candidate, output, inside, GATES, HIDDEN
    )
    gain = gains + offset(one, unit, GATES * HIDDEN)
    gain_enter, gain_forget, gain_candidate, gain_output = get_gates(gain, inside, GATES, HIDDEN)
    into_enter = tl.where(inside, into_enter * gain_enter, 0)
    into_forget = tl.where(inside, into_forget * gain_forget, 0)
    into_candidate = tl.where(inside, into_candidate * gain_candidate, 0)
    into_output = tl.where(inside, into_output * gain_output, 0)
    mean = tl.sum(into_enter + into_forget + into_candidate + into_output, 1)[:, None] / (GATES * HIDDEN)
    along = into_enter * enter + into_forget * forget + into_candidate * candidate + into_output * output
    along = tl.sum(along, 1)[:, None] / (GATES * HIDDEN)
    into_enter = scale * (into_enter - mean - enter * along)
    into_forget = scale * (into_forget - mean - forget * along)
    into_candidate = scale * (into_candidate - mean - candidate * along)
    into_output = scale * (into_output - mean - output * along)
    put_gates(grad_products + at, into_enter, into_forget, into_candidate, into_output, inside, GATES, HIDDEN)
    now = upcoming + offset(direction * batch + sequence, unit, GATES * HIDDEN)
    put_gates(now, into_enter, into_forget, into_candidate, into_output, inside, GATES, HIDDEN)
