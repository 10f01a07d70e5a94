"""Steps of an LSTM layer on a GPU, in Triton: the recurrent product and all that follows it, in one launch.

Imported only where Triton is; kernels/triton_layer.py launches these. The equations are those of lstm/equations.py,
the loops those of native.cpp. A program serves one direction, a slice of the batch (every `slices`-th sequence, so
that each slice has long and short ones) and a block of UNITS hidden units with all their gates. It runs the steps
`first` up to `last`, either way:

- one step a launch: programs meet at its end, and weights are read in chunks of DEPTH rows;
- all steps in one launch (HELD): a program reads its weights once, and those of one direction and slice meet at a
  barrier between steps (BARRIER), for which they must all be running at once; a block of all units needs none. Before
  it waits there, a program reads all that it needs and no other writes.

What they are given:

    gates      (rows, directions, gates * hidden): input products, then activations
    cells      (batch + rows, directions, hidden), the initial ones first; states the same
    seen       (rows, directions, hidden): the masked state before each row, which the weights are multiplied by
    weights    (directions, gates * hidden, hidden); bias (directions, gates * hidden)
    mask       (directions, batch, hidden) or None; peepholes (directions, gates - 1, hidden) or None
    seed, ...  of what is drawn: kernels/noise.py; its streams are `stream` places apart
    mirror     (rows,): the row of the backward direction where the forward one meets that row, as in kernels/plan.py
    starts     (steps + 2,): the first row of each step, and twice their number
    arrivals   (directions, slices): zeros

and in the backward pass

    grad_gates    as gates, before activation; grad_outputs (rows, directions, hidden)
    grad_cells    (directions, batch, hidden), carried: those of the final cells in, of the initial ones out
    grad_stayed   the same, of states, past the gates: those of the final states in
    grad_looks    (directions, batch, gates - 1, hidden): sums of the peepholes' gradients, or None

What programs pass on to each other is read past the first cache (".cg"), and in `while` loops: a `for` loop Triton may
pipeline, so that numbers were read before they are there.
"""
# mypy: ignore-errors
# Triton has no types, and what it compiles has a grammar of its own.

from __future__ import annotations

import triton
import triton.language as tl

from asr_lstm.lstm.kernels.triton_cell import (
    add_looks,
    arrive,
    bounds_of,
    candidate_factor,
    gate_gradients,
    get,
    get_gates,
    get_looks,
    held_back,
    offset,
    product_back,
    product_in,
    put_gates,
    rows_of,
    share_kept,
    sigmoid,
    tanh,
    wait,
    weights_in,
)

# Numbers that no kernel is compiled anew for.
_VALUES = ["first", "last", "batch", "steps", "seed", "candidate_below", "cell_below", "state_below"]


@triton.jit(do_not_specialize=_VALUES)
def forward_steps(
    gates, cells, states, seen, weights, bias, mask, peepholes, mirror, starts, arrivals, first, last, batch, steps,
    seed, candidate_below, candidate_scale, cell_below, cell_share, state_below, state_share,
    DIRECTIONS: tl.constexpr, GATES: tl.constexpr, HIDDEN: tl.constexpr, CANDIDATE: tl.constexpr, CELL: tl.constexpr,
    STATE: tl.constexpr, TILE: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PIECE: tl.constexpr,
    HELD: tl.constexpr, BARRIER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Run the steps from `first` on, those before `last`; all names are above."""
    direction, slice, slices = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    begin, depth = tl.program_id(2) * UNITS, tl.arange(0, DEPTH)
    unit = begin + tl.arange(0, UNITS)
    weights += direction * GATES * HIDDEN * HIDDEN
    bias += direction * GATES * HIDDEN + unit[None, :]
    arrivals += direction * slices + slice
    known = (unit < HIDDEN)[None, :]
    bias_enter, bias_forget, bias_candidate, bias_output = get_gates(bias, known, GATES, HIDDEN)
    look_enter, look_forget, look_output = get_looks(peepholes, direction, unit, GATES, HIDDEN)
    held = ()
    if HELD:
        held = weights_in(weights, depth, begin, GATES, HIDDEN, UNITS)
    arrived = 0
    step = first
    while step < last:
        start, after, active, going_on, earlier = bounds_of(starts, step)
        tile = slice
        while tile < active:
            sequence = (tile + tl.arange(0, TILE) * slices).to(tl.int64)
            here, goes_on = sequence < active, sequence < going_on
            inside = here[:, None] & (unit < HIDDEN)[None, :]
            row, row_ago, row_next = rows_of(
                mirror, start, after, earlier, sequence, here, goes_on, direction, batch, step, DIRECTIONS
            )
            before = offset(row_ago, unit, HIDDEN)
            at = gates + offset(row, unit, GATES * HIDDEN)
            enter, forget, candidate, output = get_gates(at, inside, GATES, HIDDEN)
            cell_before = get(cells + before, inside)
            if STATE:
                state_before = get(states + before, inside)
            if mask is not None:
                own = get(mask + offset(direction * batch + sequence, unit, HIDDEN), inside)

            if tile == slice:
                wait(arrivals, arrived, BARRIER)
            from_enter, from_forget, from_candidate, from_output = product_in(
                seen, row, here, held, weights, begin, depth,
                GATES, HIDDEN, TILE, UNITS, DEPTH, HELD, PRECISION,
            )  # fmt: skip
            forget = sigmoid(forget + from_forget + bias_forget + look_forget * cell_before)
            candidate = tanh(candidate + from_candidate + bias_candidate)
            enter = sigmoid(enter + from_enter + bias_enter + look_enter * cell_before)
            if GATES == 3:
                enter = 1 - forget
            place = (direction * batch + sequence) * steps + step
            stream = DIRECTIONS * batch.to(tl.int64) * steps
            factor = candidate_factor(seed, place, unit, candidate_below, candidate_scale, CANDIDATE)
            cell = forget * cell_before + enter * candidate * factor
            output = sigmoid(output + from_output + bias_output + look_output * cell)
            state = output * tanh(cell)
            cell += share_kept(seed, place + stream, unit, cell_below, cell_share, CELL) * (
                cell_before - cell
            )
            if STATE:
                kept = share_kept(seed, place + 2 * stream, unit, state_below, state_share, STATE)
                state += kept * (state_before - state)

            tl.debug_barrier()  # several threads may read a number that one replaces: first all read
            put_gates(at, enter, forget, candidate, output, inside, GATES, HIDDEN)
            now = offset(batch * DIRECTIONS + row, unit, HIDDEN)
            tl.store(cells + now, cell, mask=inside)
            tl.store(states + now, state, mask=inside)
            if mask is not None:
                state *= own
            tl.store(seen + offset(row_next, unit, HIDDEN), state, mask=inside & goes_on[:, None])
            tile += TILE * slices
        if slice < active:
            arrive(arrivals, BARRIER)
            arrived += tl.num_programs(2)
        step += 1


@triton.jit(do_not_specialize=_VALUES)
def backward_steps(
    grad_gates, grad_cells, grad_stayed, grad_looks, grad_outputs, gates, cells, weights, mask, peepholes, mirror,
    starts, arrivals, first, last, batch, steps,
    seed, candidate_below, candidate_scale, cell_below, cell_share, state_below, state_share,
    DIRECTIONS: tl.constexpr, GATES: tl.constexpr, HIDDEN: tl.constexpr, CANDIDATE: tl.constexpr, CELL: tl.constexpr,
    STATE: tl.constexpr, TILE: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PIECE: tl.constexpr,
    HELD: tl.constexpr, BARRIER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Run back the steps before `last`, down to `first`; all names are above."""
    direction, slice, slices = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    unit, depth = tl.program_id(2) * UNITS + tl.arange(0, UNITS), tl.arange(0, DEPTH)
    weights += direction * GATES * HIDDEN * HIDDEN
    arrivals += direction * slices + slice
    look_enter, look_forget, look_output = get_looks(peepholes, direction, unit, GATES, HIDDEN)
    held = ()
    if HELD:
        held = held_back(weights, unit, GATES, HIDDEN, DEPTH, PIECE)
    arrived = 0
    step = last - 1
    while step >= first:
        start, after, active, going_on, earlier = bounds_of(starts, step)
        tile = slice
        while tile < active:
            sequence = (tile + tl.arange(0, TILE) * slices).to(tl.int64)
            here, goes_on = sequence < active, sequence < going_on
            inside = here[:, None] & (unit < HIDDEN)[None, :]
            row, row_ago, row_next = rows_of(
                mirror, start, after, earlier, sequence, here, goes_on, direction, batch, step, DIRECTIONS
            )
            own = offset(direction * batch + sequence, unit, HIDDEN)
            at = offset(row, unit, GATES * HIDDEN)
            enter, forget, candidate, output = get_gates(gates + at, inside, GATES, HIDDEN)
            if GATES == 3:
                enter = 1 - forget
            cell_before = get(cells + offset(row_ago, unit, HIDDEN), inside)
            into_state = get(grad_outputs + offset(row, unit, HIDDEN), inside) + get(
                grad_stayed + own, inside
            )
            into_cell = get(grad_cells + own, inside)
            kept = 1.0
            if mask is not None:
                kept = get(mask + own, inside)

            if tile == slice:
                wait(arrivals, arrived, BARRIER)
            into_state += kept * product_back(
                grad_gates, row_next, goes_on, held, weights, unit, depth,
                GATES, HIDDEN, TILE, UNITS, DEPTH, PIECE, PRECISION,
            )  # fmt: skip
            place = (direction * batch + sequence) * steps + step
            stream = DIRECTIONS * batch.to(tl.int64) * steps
            factor = candidate_factor(seed, place, unit, candidate_below, candidate_scale, CANDIDATE)
            state_stayed = (
                share_kept(seed, place + 2 * stream, unit, state_below, state_share, STATE) * into_state
            )
            cell_stayed = share_kept(seed, place + stream, unit, cell_below, cell_share, CELL) * into_cell
            into_state -= state_stayed
            into_cell -= cell_stayed
            fresh = forget * cell_before + enter * candidate * factor
            tangent = tanh(fresh)
            into_output = into_state * tangent * output * (1 - output)
            into_cell += into_state * output * (1 - tangent * tangent) + into_output * look_output
            into_enter, into_forget, into_candidate = gate_gradients(
                into_cell, enter, forget, candidate, cell_before, factor, GATES
            )
            carried = into_cell * forget + into_enter * look_enter + into_forget * look_forget
            tl.debug_barrier()  # as in `forward_steps`
            put_gates(
                grad_gates + at, into_enter, into_forget, into_candidate, into_output, inside, GATES, HIDDEN
            )  # fmt: skip
            if peepholes is not None:
                sums = offset(direction * batch + sequence, unit, (GATES - 1) * HIDDEN)
                enter, forget, output = (
                    into_enter * cell_before,
                    into_forget * cell_before,
                    into_output * fresh,
                )
                add_looks(grad_looks + sums, enter, forget, output, inside, GATES, HIDDEN)
            tl.store(grad_cells + own, carried + cell_stayed, mask=inside)
            tl.store(grad_stayed + own, state_stayed, mask=inside)
            tile += TILE * slices
        if slice < active:
            arrive(arrivals, BARRIER)
            arrived += tl.num_programs(2)
        step -= 1
