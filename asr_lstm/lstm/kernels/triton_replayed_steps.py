"""The steps of triton_steps.py for a CUDA graph: what differs from batch to batch is read from a table on the GPU.

Imported only where Triton is; kernels/triton_graphs.py launches these. A graph keeps the numbers that its launches
were given, addresses among them, and plays them again. So a launch is given the address of one table of int64, which
is written before each play, and its place among the launches of the graph. The table holds the addresses of what
triton_steps.py names (0 for what there is not), in its order, and then

    done    steps that earlier plays have run
    batch, steps, seed
"""
# mypy: ignore-errors
# Triton has no types, and what it compiles has a grammar of its own.

from __future__ import annotations

import triton
import triton.language as tl

from asr_lstm.lstm.kernels.triton_steps import backward_steps, forward_steps

# Numbers that no kernel is compiled anew for.
_VALUES = ["place", "candidate_below", "cell_below", "state_below"]


@triton.jit
def address(table, index: tl.constexpr, TYPE: tl.constexpr):
    """What stands in the table as an address of numbers of a type, to a whole 16 bytes as torch's memory begins."""
    return tl.multiple_of(tl.load(table + index).to(tl.pointer_type(TYPE)), 16)


@triton.jit(do_not_specialize=_VALUES)
def forward_replayed(
    table, place, candidate_below, candidate_scale, cell_below, cell_share, state_below, state_share,
    KIND: tl.constexpr, MASKED: tl.constexpr, PEEPHOLES: tl.constexpr,
    DIRECTIONS: tl.constexpr, GATES: tl.constexpr, HIDDEN: tl.constexpr, CANDIDATE: tl.constexpr, CELL: tl.constexpr,
    STATE: tl.constexpr, TILE: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Run the step at this place after those that are done, where there is one."""
    mask, peepholes = None, None
    if MASKED:
        mask = address(table, 6, tl.float32)
    if PEEPHOLES:
        peepholes = address(table, 7, tl.float32)
    step, steps = tl.load(table + 10) + place, tl.load(table + 12)
    starts = address(table, 9, tl.int64)
    # Beyond the last step, and by a table of zeros, nothing may be read.
    if step < steps:
        forward_steps(
            address(table, 0, KIND), address(table, 1, tl.float32), address(table, 2, tl.float32),
            address(table, 3, KIND), address(table, 4, KIND), address(table, 5, tl.float32), mask, peepholes,
            address(table, 8, tl.int64), starts, starts, step, step + 1, tl.load(table + 11), steps,
            tl.load(table + 13), candidate_below, candidate_scale, cell_below, cell_share, state_below, state_share,
            DIRECTIONS, GATES, HIDDEN, CANDIDATE, CELL, STATE, TILE, UNITS, DEPTH, 0, False, False, PRECISION,
        )  # fmt: skip


@triton.jit(do_not_specialize=_VALUES)
def backward_replayed(
    table, place, candidate_below, candidate_scale, cell_below, cell_share, state_below, state_share,
    KIND: tl.constexpr, MASKED: tl.constexpr, PEEPHOLES: tl.constexpr,
    DIRECTIONS: tl.constexpr, GATES: tl.constexpr, HIDDEN: tl.constexpr, CANDIDATE: tl.constexpr, CELL: tl.constexpr,
    STATE: tl.constexpr, TILE: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Run back the step at this place before those that are done, where there is one."""
    mask, peepholes, looks = None, None, None
    if MASKED:
        mask = address(table, 8, tl.float32)
    if PEEPHOLES:
        looks, peepholes = address(table, 3, tl.float32), address(table, 9, tl.float32)
    steps, starts = tl.load(table + 14), address(table, 11, tl.int64)
    step = steps - 1 - tl.load(table + 12) - place
    if step >= 0:
        backward_steps(
            address(table, 0, KIND), address(table, 1, tl.float32), address(table, 2, tl.float32), looks,
            address(table, 4, tl.float32), address(table, 5, KIND), address(table, 6, tl.float32),
            address(table, 7, KIND), mask, peepholes, address(table, 10, tl.int64), starts, starts,
            step, step + 1, tl.load(table + 13), steps, tl.load(table + 15),
            candidate_below, candidate_scale, cell_below, cell_share, state_below, state_share,
            DIRECTIONS, GATES, HIDDEN, CANDIDATE, CELL, STATE, TILE, UNITS, DEPTH, 0, False, False, PRECISION,
        )  # fmt: skip
