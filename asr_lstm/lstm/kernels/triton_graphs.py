"""Steps of a layer played from a CUDA graph, so that the processor need not launch each of them.

A launch costs the processor some microseconds, which bounds a layer of short steps; a graph of GRAPH_STEPS of them is
one. Batches differ in all that a launch is given, and a graph cannot be given anything: its launches read it from a
table (triton_replayed_steps.py). Their grid is that of the whole batch; programs whose sequences have ended stop at
once, and so do launches beyond the last step. A graph is recorded when first needed and then kept, one for each kind
of layer, count of tiles, way through time and stream. Imported only where Triton is.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from asr_lstm.lstm.kernels import triton_replayed_steps
from asr_lstm.lstm.kernels.triton_launch import GRAPH_STEPS

_KEPT = 64  # graphs
_one_at_a_time = threading.Lock()  # a table must be read before another thread writes to it
_COUNTED = ("batch", "steps", "seed")  # as the table has them, at its end


def replay(
    name: str,
    given: Sequence[Tensor | None],
    grid: tuple[int, int, int],
    *,
    kind: torch.dtype,
    settings: Mapping[str, Any],
) -> None:
    """Run all steps of a layer.

    Args:
        name: of the kernel in triton_replayed_steps.py.
        given: the tensors that its table names, in that order.
        grid: programs of a step, for the whole batch.
        kind: float32 or bfloat16, of the tensors that are of the products' type.
        settings: what is given by name; what changes with the batch goes into the table.
    """
    numbers = [settings[key] for key in _COUNTED]
    fixed = tuple((key, value) for key, value in settings.items() if key not in _COUNTED)
    fixed += (("KIND", {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16}[kind]),)
    given = [tensor if tensor is None else _aligned(tensor) for tensor in given]
    addresses = [0 if tensor is None else tensor.data_ptr() for tensor in given]
    values = torch.tensor([*addresses, 0, *numbers])
    device = next(tensor.device for tensor in given if tensor is not None)
    plays = -(-settings["steps"] // GRAPH_STEPS)
    if device.type != "cuda":
        launch = _launcher(name, grid, values, fixed)
        for _ in range(plays):
            launch()
        return
    stream = torch.cuda.current_stream(device).cuda_stream
    with _one_at_a_time, torch.inference_mode(False):
        table, graph = _recorded(name, grid, device, stream, len(values), fixed)
        table.copy_(values.pin_memory(), non_blocking=True)
        for _ in range(plays):
            graph.replay()


def _aligned(tensor: Tensor) -> Tensor:
    """It, or a copy that begins where 16 bytes do, as the kernels take for granted; a caller's own may not."""
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


def _launcher(
    name: str, grid: tuple[int, int, int], table: Tensor, settings: tuple[tuple[str, Any], ...]
) -> Callable[[], None]:
    """What launches the steps of one play, and counts them in the table."""
    kernel, by_name, done = getattr(triton_replayed_steps, name), dict(settings), -1 - len(_COUNTED)

    def launch() -> None:
        for place in range(GRAPH_STEPS):
            kernel[grid](table, place, **by_name)
        table[done].add_(GRAPH_STEPS)

    return launch


@functools.lru_cache(maxsize=_KEPT)
def _recorded(
    name: str,
    grid: tuple[int, int, int],
    device: torch.device,
    stream: Hashable,
    size: int,
    settings: tuple[tuple[str, Any], ...],
) -> tuple[Tensor, torch.cuda.CUDAGraph]:
    """A graph of the steps of one play, and the table that they read; each stream has its own."""
    table = torch.zeros(size, dtype=torch.long, device=device)  # of no steps at all
    launch = _launcher(name, grid, table, settings)
    launch()  # so that it is compiled, and loaded, which cannot be recorded
    graph, aside = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        # Other threads, such as those that load data, may do what a recording must not.
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            launch()
        finally:
            graph.capture_end()
    torch.cuda.current_stream(device).wait_stream(aside)
    return table, graph
