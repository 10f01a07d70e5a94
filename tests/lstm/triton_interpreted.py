"""Layers run by the Triton kernel under Triton's interpreter, in a process of its own: `triton_interpreted.py OUT`.

The interpreter must be asked for before Triton is first imported, which other tests may have done long ago.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lstm_reference import by_kernel, converted, leaves, make_arguments, make_inputs, pull
from torch import Tensor
from triton_compiled import make_call

from asr_lstm.lstm.kernels import native, triton_graphs, triton_layer, triton_norm, triton_steps
from asr_lstm.lstm.kernels.call import Call, Leaves
from asr_lstm.lstm.kernels.triton_launch import ONE_BY_ONE, PERSISTENT, Launch, ways
from asr_lstm.lstm.kernels.triton_proof import proved

MIXED = (2, 4, 1, 4)  # unsorted, with a tie and a single frame
SHORT = (2, 1, 2, 1)
WAITING = (2, 4, 1, 3)  # the second of two slices of these has nothing to do in the last step


@dataclass(frozen=True)
class Case:
    """A layer to run: parts as `lstm_reference.VARIANTS` has them; how it is launched, by way or in full."""

    parts: tuple[str, ...]
    lengths: tuple[int, ...] = MIXED
    directions: int = 2
    hidden: int = 20  # two programs, the second with units to spare
    way: str = ONE_BY_ONE
    launch: Launch | None = None

    def choose(self, call: Call, leaves: Leaves) -> Launch:
        """As `triton_layer.choose_launch`."""
        return self.launch or ways(call, leaves)[self.way]


ALL = ("mask", "states", "candidate", "zoneout", "peepholes")
COUPLED = (*ALL, "coupled")
HELD = Launch(units=16, tile=16, held=True, piece=16, slices=2)
REPLAYED = Launch(units=16, tile=32, replayed=True)
CASES: dict[str, Case] = {
    "step by step": Case(()),
    "step by step, all": Case(ALL),
    "step by step, one direction": Case(("mask", "zoneout"), directions=1),
    "step by step, more sequences than a tile": Case(("mask",), (2, *[1] * 32, 2), directions=1, hidden=16),
    "replayed": Case((), directions=1, launch=REPLAYED),
    "replayed, all": Case(ALL, launch=REPLAYED),
    "replayed, coupled": Case(COUPLED, launch=REPLAYED),
    # Faster to interpret, and of the same parts:
    "state mask": Case(("mask",), way=PERSISTENT),
    "initial states": Case(("states", "mask"), way=PERSISTENT),
    "candidate dropout": Case(("candidate",), way=PERSISTENT),
    "zoneout": Case(("zoneout",), way=PERSISTENT),
    "zoneout expected": Case(("expected",), way=PERSISTENT),
    "peepholes": Case(("peepholes",), way=PERSISTENT),
    "at once, all": Case(ALL, way=PERSISTENT),
    "at once, coupled": Case(COUPLED, way=PERSISTENT),
    "at once, one direction": Case(("candidate", "states"), directions=1, way=PERSISTENT),
    "at once, more sequences than a tile": Case(
        (), (2, *[1] * 17, 2), launch=Launch(units=32, tile=16, held=True, piece=16, at_once=True, slices=1)
    ),
    "weights held by parts": Case(ALL, SHORT, hidden=40, launch=HELD),
    "weights held by parts, coupled": Case(COUPLED, SHORT, launch=HELD),
    # Normalised inside the cell: two launches a step.
    "norm": Case(("norm",), directions=1),
    "norm, all that goes with it": Case(("norm", "mask", "states", "candidate", "zoneout")),
    "norm, coupled": Case(("norm", "coupled", "mask", "zoneout"), SHORT),
    "norm, zoneout expected": Case(("norm", "expected", "states"), directions=1),
    # Eight programs that wait for each other, which the interpreter runs in as many processes.
    "at a barrier": Case(ALL, WAITING, launch=dataclasses.replace(HELD, at_once=True)),
}


class Together:
    """Stands for a kernel: each of its programs runs in a process of its own, all of them at once.

    The interpreter runs programs one after another, so that one which waits for the next would wait forever.
    """

    seconds = 120  # a process is killed after them: they take four

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int, int, int]) -> Any:
        return functools.partial(self.launch, grid)

    def launch(self, grid: tuple[int, int, int], *given: Any, **settings: Any) -> None:
        assert settings["BARRIER"]
        for tensor in given:
            if isinstance(tensor, Tensor):
                tensor.untyped_storage().share_memory_()
        processes = [
            self.start(grid, index, given, settings) for index in itertools.product(*map(range, grid))
        ]
        ended = [os.waitpid(process, 0)[1] for process in processes]
        assert not any(ended), ended

    def start(
        self, grid: tuple[int, int, int], index: tuple[int, int, int], given: Any, settings: Any
    ) -> int:
        from triton.runtime.interpreter import GridExecutor, interpreter_builder

        process = os.fork()
        if process:
            return process
        signal.alarm(self.seconds)
        try:
            set_size, set_index = interpreter_builder.set_grid_dim, interpreter_builder.set_grid_idx
            interpreter_builder.set_grid_dim = lambda *_: set_size(*grid)
            interpreter_builder.set_grid_idx = lambda *_: set_index(*index)
            # Copies from a GPU's memory and back, which would here undo what others wrote meanwhile.
            GridExecutor._restore_args_dev = lambda *_: None
            self.kernel[(1, 1, 1)](*given, **settings)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)


class Warmed:
    """Stands for what makes a graph's launches: runs them over a table of zeros first, as before a recording."""

    def __init__(self) -> None:
        self.make = triton_graphs._launcher

    def __call__(self, name: str, grid: tuple[int, int, int], table: Tensor, settings: Any) -> Any:
        self.make(name, grid, torch.zeros_like(table), settings)()
        return self.make(name, grid, table, settings)


def run_case(case: Case) -> dict[str, Tensor]:
    """Outputs, final states and cells, and the gradients of everything that has one, by name."""
    batch, frames = len(case.lengths), max(case.lengths)
    arguments = make_arguments(case.parts, directions=case.directions, batch=batch, hidden=case.hidden)
    given, tensors = leaves(converted(arguments, torch.float))
    tensors["inputs"] = make_inputs(batch, frames).float().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_layer, "capable", lambda weights: True)
        patch.setattr(native, "usable", lambda *tensors: False)
        patch.setattr(triton_norm, "usable", lambda call, leaves: True)
        patch.setattr(triton_layer, "choose_launch", case.choose)
        patch.setattr(triton_graphs, "_launcher", Warmed())
        if case.launch is not None and case.launch.at_once and case.hidden > case.launch.units:
            for name in ("forward_steps", "backward_steps"):
                patch.setattr(triton_steps, name, Together(getattr(triton_steps, name)))
        outcome = by_kernel(tensors["inputs"], case.lengths, given)
        pull(outcome).backward()
    found = dict(zip(("outputs", "final states", "final cells"), outcome, strict=True))
    found |= {f"gradient of {name}": value.grad for name, value in tensors.items()}
    return {name: value.detach() for name, value in found.items()}


def run_proofs() -> dict[str, Tensor]:
    """1 or 0: whether kernels are found right, one of them made wrong."""
    call, leaves = make_call("zoneout", hidden=16, batch=3, kind=torch.float, device="cpu")

    def by(launch: Launch, name: str) -> Tensor:
        run = functools.partial(triton_layer.run_launched, launch)
        return torch.tensor(proved(name, run, call, leaves, steps=2))

    found = {name: by(launch, name) for name, launch in ways(call, leaves).items()}
    found["normalised"] = torch.tensor(
        proved("normalised", triton_norm.run_norm, call, leaves, norm=True, steps=2)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_steps, "tanh", triton_steps.sigmoid)
        found["wrong"] = by(ways(call, leaves)[ONE_BY_ONE], "wrong")
    return found


def main(path: Path) -> None:
    torch.set_num_threads(1)
    triton_graphs.GRAPH_STEPS = 3  # fewer than the sequences have
    # New memory is then filled with NaN, so that what is read before it is written shows.
    torch.use_deterministic_algorithms(True)
    found = {name: run_case(case) for name, case in CASES.items()}
    torch.save(found | {"proofs": run_proofs()}, path)


if __name__ == "__main__":
    assert os.environ["TRITON_INTERPRET"] == "1"
    main(Path(sys.argv[1]))
