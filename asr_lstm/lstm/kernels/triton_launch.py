"""How the steps of a layer are shared out among the programs of a GPU, and what each of these is given."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import torch

from asr_lstm.lstm.kernels.call import Call, Leaves
from asr_lstm.lstm.kernels.noise import threshold

PERSISTENT, GRAPHS, ONE_BY_ONE = "persistent", "graphs", "steps"  # what ASR_LSTM_KERNEL may ask for
GRAPH_STEPS = 64  # of a graph; a layer plays it until none is left

_UNITS = 16  # of a program: the narrowest product that tensor cores take, so that many share a step
_ALONE = 32  # units up to which one program holds a whole layer, and waits for no other
_TILES = 16, 32  # sequences of one product; rows beyond the batch are computed in vain
_DEPTH = 64  # of a product's chunk
_PARTS = 8  # of a product on the way back of held weights, one a warp
_READ = 2**15  # numbers that all of these parts take at a time
_INTERPRETED = 16, 2**17  # what Triton's interpreter, which runs programs one after another, is taken for


@dataclass(frozen=True)
class Launch:
    """How the steps of a layer are shared out.

    Attributes:
        units: hidden units of a program.
        tile: sequences of a product.
        held: each program reads its weights once a launch, and keeps them.
        piece: numbers of each gate that one product on the way back takes of held weights.
        at_once: all steps in one launch.
        slices: parts of the batch; 0 for as many as the running sequences have tiles.
        replayed: launches are recorded and played again; see triton_graphs.py.
    """

    units: int
    tile: int
    held: bool = False
    piece: int = 0
    at_once: bool = False
    slices: int = 0
    replayed: bool = False

    def __str__(self) -> str:
        return PERSISTENT if self.at_once else GRAPHS if self.replayed else ONE_BY_ONE


def ways(call: Call, leaves: Leaves) -> dict[str, Launch]:
    """All ways to launch a layer's steps that there are, the one that should be fastest first."""
    one_by_one = Launch(units=_UNITS, tile=_TILES[1])
    persistent = _persistent(call, leaves)
    first = {} if persistent is None else {PERSISTENT: persistent}
    return first | {GRAPHS: replace(one_by_one, replayed=True), ONE_BY_ONE: one_by_one}


def _persistent(call: Call, leaves: Leaves) -> Launch | None:
    """All steps in one launch, if all of its programs fit the chip at once: they wait for each other."""
    directions, _, hidden = leaves.weight_hh.shape
    alone = hidden <= _ALONE
    if call.kind != torch.bfloat16 and not alone:
        return None
    units, depth = padded(hidden) if alone else _UNITS, _held_depth(hidden)
    multiprocessors, memory = _chip(leaves.weight_hh.device)
    slices = min(multiprocessors // (directions * -(-hidden // units)), -(-call.plan.batch // _TILES[0]))
    if slices < 1:
        return None
    tile = _TILES[0] if -(-call.plan.batch // slices) <= _TILES[0] else _TILES[1]
    piece = min(depth // 2, _READ // _PARTS // tile)
    # A program holds its units' weights from and to all four gates, and what it multiplies them with.
    needed = (4 * units * depth + tile * max(depth, _PARTS * piece)) * call.kind.itemsize
    if needed > memory:
        return None
    return Launch(units=units, tile=tile, piece=piece, held=True, at_once=True, slices=slices)


def layer_settings(call: Call, shape: torch.Size) -> dict[str, Any]:
    """What steps are given by name of a layer whose recurrent weights have that shape, however they are launched."""
    plan, noise, (directions, wide, hidden) = call.plan, call.noise, shape
    zoneout = 2 if noise.expected else 1
    return {
        "batch": plan.batch,
        "steps": len(plan.active),
        "seed": noise.seed,
        "candidate_below": threshold(noise.candidate),
        "candidate_scale": 1 / (1 - noise.candidate),
        "cell_below": threshold(noise.cell),
        "cell_share": noise.cell,
        "state_below": threshold(noise.state),
        "state_share": noise.state,
        "DIRECTIONS": directions,
        "GATES": wide // hidden,
        "HIDDEN": hidden,
        "CANDIDATE": noise.candidate > 0,
        "CELL": zoneout if noise.cell else 0,
        "STATE": zoneout if noise.state else 0,
    }


def launch_settings(launch: Launch, hidden: int) -> dict[str, Any]:
    """What they are given besides, whether launched or replayed."""
    return {
        "TILE": launch.tile,
        "UNITS": launch.units,
        "DEPTH": _held_depth(hidden) if launch.held else min(padded(hidden), _DEPTH),
        "PRECISION": "tf32" if tf32() else "ieee",
        "num_warps": 8 if launch.held else 4,
    }


def tf32() -> bool:
    """Whether products in float32 may be taken in TF32, which both of torch's settings say."""
    return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")


def padded(size: int) -> int:
    """The power of two that Triton's blocks need, of 16 or more as its products do."""
    return max(16, 1 << (size - 1).bit_length())


def _held_depth(hidden: int) -> int:
    """Numbers of a held product: halves of them, which warps share out, are no narrower than a product may be."""
    return max(32, padded(hidden))


@functools.cache
def _chip(device: torch.device) -> tuple[int, int]:
    """Multiprocessors, of which each runs a program, and the bytes of shared memory that a program may have."""
    if device.type != "cuda":
        return _INTERPRETED
    properties = torch.cuda.get_device_properties(device)
    memory: int = properties.shared_memory_per_block_optin  # type: ignore[attr-defined]
    return properties.multi_processor_count, memory
