"""What the steps in triton_steps.py are made of: draws, rows, products, gates and the barrier, in Triton.

(sequences, units) below is the block of numbers that a program works on; numbers in capitals are compiled in.
"""
# mypy: ignore-errors
# Triton has no types, and what it compiles has a grammar of its own.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sigmoid(x):
    """1 at most, 0 at least, whatever x is."""
    return 1 / (1 + tl.exp(-x))


@triton.jit
def tanh(x):
    """By the sigmoid: Triton has none of its own."""
    return 2 * sigmoid(2 * x) - 1


@triton.jit
def drawn(seed, place, unit, below):
    """(sequences, units): `drawn_at` of kernels/noise.py."""
    key = seed.to(tl.uint64) + place.to(tl.uint64) * 0x9E3779B97F4A7C15
    key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9
    key = (key ^ (key >> 27)) * 0x94D049BB133111EB
    key = (key ^ (key >> 31))[:, None]
    bits = unit.to(tl.uint32)[None, :] * 0x9E3779B9 + key.to(tl.uint32)
    bits = (bits ^ (bits >> 16)) * 0x85EBCA6B
    bits = (bits ^ (bits >> 13)) * 0xC2B2AE35
    return (bits ^ (bits >> 16) ^ (key >> 32).to(tl.uint32)) < below.to(tl.uint32)


@triton.jit
def share_kept(seed, place, unit, below, share, HOW: tl.constexpr):
    """The share of an old value that zoneout leaves in place: none, drawn (1) or the mean of draws (2)."""
    if HOW == 0:
        return 0.0
    elif HOW == 1:
        return tl.where(drawn(seed, place, unit, below), 1.0, 0.0)
    else:
        return share


@triton.jit
def offset(row, unit, SIZE: tl.constexpr):
    """(sequences, units) in rows of SIZE."""
    return row[:, None] * SIZE + unit[None, :]


@triton.jit
def row_of(mirror, start, sequence, here, direction, DIRECTIONS: tl.constexpr):
    """The row, of (rows, directions), that each sequence meets at the step whose rows begin at `start`."""
    row = start + sequence
    if direction == 1:
        row = tl.load(mirror + row, mask=here, other=0)
    return row * DIRECTIONS + direction


@triton.jit
def row_before(mirror, earlier, sequence, here, direction, batch, step, DIRECTIONS: tl.constexpr):
    """The row, of (batch + rows, directions), that each sequence met a step ago, when rows began at `earlier`."""
    row = sequence * DIRECTIONS + direction
    if step > 0:
        row = batch * DIRECTIONS + row_of(mirror, earlier, sequence, here, direction, DIRECTIONS)
    return row


@triton.jit
def bounds_of(starts, step):
    """Where a step's rows begin and those of the next do, how many they are, and where those of a step ago began."""
    start, after = tl.load(starts + step), tl.load(starts + step + 1)
    active, going_on = after - start, tl.load(starts + step + 2) - after
    return start, after, active, going_on, tl.load(starts + tl.maximum(step - 1, 0))


@triton.jit
def rows_of(
    mirror, start, after, earlier, sequence, here, goes_on, direction, batch, step, DIRECTIONS: tl.constexpr
):  # fmt: skip
    """The rows that each sequence meets at a step, met a step ago (as `row_before` counts), and meets at the next."""
    row = row_of(mirror, start, sequence, here, direction, DIRECTIONS)
    row_ago = row_before(mirror, earlier, sequence, here, direction, batch, step, DIRECTIONS)
    return row, row_ago, row_of(mirror, after, sequence, goes_on, direction, DIRECTIONS)


@triton.jit
def candidate_factor(seed, place, unit, below, scale, CANDIDATE: tl.constexpr):
    """What the candidate is multiplied by."""
    if CANDIDATE:
        return tl.where(drawn(seed, place, unit, below), 0.0, scale)
    else:
        return 1.0


@triton.jit
def arrive(arrivals, BARRIER: tl.constexpr):
    """Say that this program, all of its threads, has written what the others of its group wait for."""
    tl.debug_barrier()
    if BARRIER:
        tl.atomic_add(arrivals, 1, sem="release")


@triton.jit
def wait(arrivals, target, BARRIER: tl.constexpr):
    """Wait until the programs of a group have arrived `target` times in all, and see what they wrote before.

    One thread of each program releases and acquires; the program's own barriers extend that to its other threads.
    """
    if BARRIER:
        while tl.atomic_add(arrivals, 0, sem="acquire") < target:
            pass
        tl.debug_barrier()


@triton.jit
def weights_in(weights, k, unit, GATES: tl.constexpr, HIDDEN: tl.constexpr, UNITS: tl.constexpr):
    """(k, 4 * units): the weights into each gate; those into the input gate are zeros where gates are coupled."""
    column = tl.arange(0, 4 * UNITS)
    gate, unit = column // UNITS - (4 - GATES), column % UNITS + unit
    inside = (k[:, None] < HIDDEN) & ((unit < HIDDEN) & (gate >= 0))[None, :]
    return tl.load(weights + (gate * HIDDEN + unit)[None, :] * HIDDEN + k[:, None], mask=inside, other=0.0)


@triton.jit
def weights_back(weights, k, unit, HIDDEN: tl.constexpr):
    """(k, units): the weights on the way back from one gate, to whose rows `weights` point."""
    inside = (k[:, None] < HIDDEN) & (unit < HIDDEN)[None, :]
    return tl.load(weights + k[:, None] * HIDDEN + unit[None, :], mask=inside, other=0.0)


@triton.jit
def pieces(PASS: tl.constexpr, GATES: tl.constexpr, DEPTH: tl.constexpr, PIECE: tl.constexpr):
    """(8, piece) each: gate, below 0 where it is coupled, and place in it of what one pass of `product_back` takes.

    Warps share out eight pieces of two a gate; one product as deep as four gates would have them wait for each other.
    """
    piece = tl.arange(0, 8)[:, None]
    place = (piece % 2) * (DEPTH // 2) + PASS * PIECE + tl.arange(0, PIECE)[None, :]
    return piece // 2 - (4 - GATES) + tl.zeros_like(place), place


@triton.jit
def held_back(
    weights, unit, GATES: tl.constexpr, HIDDEN: tl.constexpr, DEPTH: tl.constexpr, PIECE: tl.constexpr
):
    """The weights of each pass of `product_back`: (8, piece, units)."""
    held = ()
    for turn in tl.static_range(DEPTH // 2 // PIECE):
        gate, place = pieces(turn, GATES, DEPTH, PIECE)
        inside = ((gate >= 0) & (place < HIDDEN))[:, :, None] & (unit < HIDDEN)[None, None, :]
        rows = (gate * HIDDEN + place)[:, :, None] * HIDDEN
        held += (tl.load(weights + rows + unit[None, None, :], mask=inside, other=0.0),)
    return held


@triton.jit
def passed_on(numbers, row, here, k, SIZE: tl.constexpr, HIDDEN: tl.constexpr):
    """(sequences, k) of the first HIDDEN numbers in rows of SIZE, which other programs wrote."""
    inside = here[:, None] & (k < HIDDEN)[None, :]
    return tl.load(numbers + row[:, None] * SIZE + k[None, :], mask=inside, other=0.0, cache_modifier=".cg")


@triton.jit
def product_in(
    seen, row, here, held, weights, begin, depth, GATES: tl.constexpr, HIDDEN: tl.constexpr, TILE: tl.constexpr,
    UNITS: tl.constexpr, DEPTH: tl.constexpr, HELD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(sequences, units) into input gate, forget gate, candidate and output gate: masked states times weights."""
    total = tl.zeros((TILE, 4 * UNITS), tl.float32)
    if HELD:
        left = passed_on(seen, row, here, depth, HIDDEN, HIDDEN)
        total = tl.dot(left, held, total, input_precision=PRECISION)
    else:
        for k in range(0, HIDDEN, DEPTH):
            left = passed_on(seen, row, here, k + depth, HIDDEN, HIDDEN)
            right = weights_in(weights, k + depth, begin, GATES, HIDDEN, UNITS)
            total = tl.dot(left, right, total, input_precision=PRECISION)
    even, odd = total.reshape(TILE, 2, 2, UNITS).permute(0, 3, 1, 2).split()
    enter, candidate = even.split()
    forget, output = odd.split()
    return enter, forget, candidate, output


@triton.jit
def product_back(
    grad_gates, row, here, held, weights, unit, depth, GATES: tl.constexpr, HIDDEN: tl.constexpr, TILE: tl.constexpr,
    UNITS: tl.constexpr, DEPTH: tl.constexpr, PIECE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(sequences, units): gradients of all gates times weights, which are `held` where there are pieces of them."""
    if PIECE:
        parts = tl.zeros((8, TILE, UNITS), tl.float32)
        for turn in tl.static_range(DEPTH // 2 // PIECE):
            gate, place = pieces(turn, GATES, DEPTH, PIECE)
            inside = ((gate >= 0) & (place < HIDDEN))[:, None, :] & here[None, :, None]
            numbers = grad_gates + (gate * HIDDEN + place)[:, None, :] + row[None, :, None] * (GATES * HIDDEN)
            left = tl.load(numbers, mask=inside, other=0.0, cache_modifier=".cg")
            parts = tl.dot(left, held[turn], parts, input_precision=PRECISION)
        # By halves: tl.sum would leave its result, and all that is made of it, in each of the warps.
        even, odd = parts.permute(1, 2, 0).reshape(TILE, UNITS, 4, 2).split()
        even, odd = (even + odd).reshape(TILE, UNITS, 2, 2).split()
        even, odd = (even + odd).split()
        total = even + odd
    else:
        total = tl.zeros((TILE, UNITS), tl.float32)
        for gate in tl.static_range(GATES):
            for k in range(0, HIDDEN, DEPTH):
                left = passed_on(grad_gates + gate * HIDDEN, row, here, k + depth, GATES * HIDDEN, HIDDEN)
                right = weights_back(weights + gate * HIDDEN * HIDDEN, k + depth, unit, HIDDEN)
                total = tl.dot(left, right, total, input_precision=PRECISION)
    return total


@triton.jit
def get(numbers, inside):
    """In float32; zeros outside."""
    return tl.load(numbers, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def get_gates(numbers, inside, GATES: tl.constexpr, HIDDEN: tl.constexpr):
    """Those of input (zeros where it is coupled), forget gate, candidate and output gate."""
    forget = get(numbers + (GATES - 3) * HIDDEN, inside)
    candidate = get(numbers + (GATES - 2) * HIDDEN, inside)
    enter = tl.zeros_like(forget)
    if GATES == 4:
        enter = get(numbers, inside)
    return enter, forget, candidate, get(numbers + (GATES - 1) * HIDDEN, inside)


@triton.jit
def put_gates(numbers, enter, forget, candidate, output, inside, GATES: tl.constexpr, HIDDEN: tl.constexpr):
    """What `get_gates` gets."""
    if GATES == 4:
        tl.store(numbers, enter, mask=inside)
    tl.store(numbers + (GATES - 3) * HIDDEN, forget, mask=inside)
    tl.store(numbers + (GATES - 2) * HIDDEN, candidate, mask=inside)
    tl.store(numbers + (GATES - 1) * HIDDEN, output, mask=inside)


@triton.jit
def get_looks(peepholes, direction, unit, GATES: tl.constexpr, HIDDEN: tl.constexpr):
    """(1, units) each: the peepholes of input, forget and output gate, or zeros."""
    forget = tl.zeros_like(unit)[None, :].to(tl.float32)
    enter, output = forget, forget
    if peepholes is not None:
        inside, look = (unit < HIDDEN)[None, :], peepholes + direction * (GATES - 1) * HIDDEN + unit[None, :]
        forget, output = get(look + (GATES - 3) * HIDDEN, inside), get(look + (GATES - 2) * HIDDEN, inside)
        if GATES == 4:
            enter = get(look, inside)
    return enter, forget, output


@triton.jit
def add_looks(sums, enter, forget, output, inside, GATES: tl.constexpr, HIDDEN: tl.constexpr):
    """Add to the sums of the peepholes' gradients, which no other program has in hand."""
    forget += get(sums + (GATES - 3) * HIDDEN, inside)
    output += get(sums + (GATES - 2) * HIDDEN, inside)
    if GATES == 4:
        enter += get(sums, inside)
    tl.debug_barrier()
    tl.store(sums + (GATES - 3) * HIDDEN, forget, mask=inside)
    tl.store(sums + (GATES - 2) * HIDDEN, output, mask=inside)
    if GATES == 4:
        tl.store(sums, enter, mask=inside)


@triton.jit
def gate_gradients(into_cell, enter, forget, candidate, cell_before, factor, GATES: tl.constexpr):
    """From the gradient of the new cell those of input gate, forget gate and candidate, before activation."""
    entering = candidate * factor
    forgotten = cell_before
    if GATES == 3:
        forgotten -= entering
    into_enter = into_cell * entering * enter * (1 - enter)
    into_forget = into_cell * forgotten * forget * (1 - forget)
    return into_enter, into_forget, into_cell * enter * factor * (1 - candidate * candidate)
