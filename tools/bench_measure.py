"""How `tools/bench_lstm.py` measures: rounds in which all cases take turns, and the memory of a fresh process."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from bench_engines import BFLOAT16, CPU, FLOAT32, NATIVE, TORCH, Case, Engine, Shape
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from asr_lstm.allocator import keep_freed_memory
from asr_lstm.lstm.kernels import native

TRAIN, INFERENCE, PRODUCT = "training step", "inference", "GEMM"
# Rounds stop early so that all ends within five minutes; a median of fewer than three says little.
ROUNDS_SECONDS, LEAST_ROUNDS = 210.0, 3
# Of square matrices, large enough for the peak: a tenth of a second of a processor, some milliseconds of a GPU.
_PRODUCT_SIZE, _GPU_PRODUCT_SIZE = 2048, 8192
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Task:
    """What is timed once a round.

    Attributes:
        what: TRAIN, INFERENCE or PRODUCT.
        shape: of the stack and the batch.
        case: what runs; of PRODUCT only its type counts.
    """

    what: str
    shape: Shape
    case: Case


class Clock:
    """A line on standard error: what runs, and about how long the rest takes by what has been seen."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._line = self._progress.add_task("")

    def __enter__(self) -> Clock:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, what: str, *, left: float | None = None) -> None:
        """Name what begins now, and the seconds that are left."""
        rest = "" if left is None else f"  ·  about {left // 60:.0f} min {left % 60:02.0f} s left"
        self._progress.update(self._line, description=what + rest)


def time_rounds(
    tasks: Sequence[Task], *, repeats: int, clock: Clock, limit: float | None = None
) -> dict[Task, list[float]]:
    """Time each task once a round, after a round that does not count.

    Args:
        tasks: in the order of a round.
        repeats: rounds that count.
        clock: where to show the time left.
        limit: seconds after which no further round begins, if at least `LEAST_ROUNDS` are done.

    Returns:
        Seconds, a number a round; those at the same place were measured one after the other.
    """
    runs = {task: _prepared(task) for task in tasks}
    last = dict.fromkeys(tasks, 0.0)
    seconds: dict[Task, list[float]] = {task: [] for task in tasks}
    start = time.perf_counter()
    for round_ in range(repeats + 1):
        spent = time.perf_counter() - start
        if limit is not None and round_ > LEAST_ROUNDS and spent + sum(last.values()) > limit:
            break
        for place, (task, run) in enumerate(runs.items()):
            left = sum(list(last.values())[place:]) + (repeats - round_) * sum(last.values())
            named = f"round {round_} of {repeats}: {task.what}, {task.case}, {task.shape}"
            clock.show(named if round_ else f"warming up: {task.case}", left=left if round_ else None)
            last[task] = _timed(run, device=task.shape.device)
            if round_:
                seconds[task].append(last[task])
    return seconds


def _timed(run: Callable[[], object], *, device: str = CPU) -> float:
    """Seconds until all is done: a GPU is waited for before and after."""
    _wait_for(device)
    start = time.perf_counter()
    run()
    _wait_for(device)
    return time.perf_counter() - start


def _wait_for(device: str) -> None:
    if device != CPU:
        torch.cuda.synchronize(device)


def _prepared(task: Task) -> Callable[[], object]:
    if task.what == PRODUCT:
        size = _product_size(task.shape.device)
        # Random: a GPU draws less power, and runs faster, on numbers that are all alike.
        matrix = torch.randn(size, size, device=task.shape.device).to(getattr(torch, task.case.dtype))
        multiply = native._product if task.case.kernel == NATIVE else torch.mm
        return lambda: multiply(matrix, matrix, out=torch.empty_like(matrix))
    engine, (inputs, lengths) = Engine(task.case, task.shape), task.shape.make_batch()
    step = engine.train_step if task.what == TRAIN else engine.infer
    return lambda: step(inputs, lengths)


def product_tasks(device: str = CPU) -> list[Task]:
    """Large matrix products in both types, torch's and in float32 our own: what the processor or GPU can do."""
    cases = [Case("GEMM", TORCH, dtype) for dtype in (FLOAT32, BFLOAT16)]
    if device == CPU and native.usable(torch.zeros(1)):
        cases.append(Case("GEMM", NATIVE, FLOAT32))
    return [Task(PRODUCT, Shape(device=device), case) for case in cases]


def product_speed(seconds: float, *, device: str = CPU) -> float:
    """Operations a second of such a product that took so long."""
    return 2 * _product_size(device) ** 3 / seconds


def _product_size(device: str) -> int:
    return _PRODUCT_SIZE if device == CPU else _GPU_PRODUCT_SIZE


def measure_peaks(cases: Iterable[Case], shape: Shape, *, clock: Clock) -> dict[Case, float | None]:
    """MiB that a training step of each case takes; None where nobody tells.

    On a CPU each has a process of its own; on a GPU torch counts what it gives out.
    """
    if shape.device != CPU:
        return {case: _gpu_peak_mib(case, shape) for case in cases}
    if not _STATUS.exists():
        return dict.fromkeys(cases)
    # Forked from a process that has imported torch and done nothing else: fresh, and there at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["asr_lstm.lstm"])
    peaks: dict[Case, float | None] = {}
    for case in cases:
        clock.show(f"memory of a training step: {case}")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_send_peak, args=(sender, case, shape))
        process.start()
        sender.close()
        try:
            peaks[case] = receiver.recv()
        except EOFError:  # it died, of too little memory perhaps
            peaks[case] = None
        process.join()
    return peaks


def _gpu_peak_mib(case: Case, shape: Shape) -> float:
    engine, (inputs, lengths) = Engine(case, shape), shape.make_batch()
    engine.train_step(inputs, lengths)
    before = torch.cuda.memory_allocated(shape.device)
    torch.cuda.reset_peak_memory_stats(shape.device)
    engine.train_step(inputs, lengths)
    return (torch.cuda.max_memory_allocated(shape.device) - before) / 2**20


def _send_peak(sender: multiprocessing.connection.Connection, case: Case, shape: Shape) -> None:
    sender.send(peak_mib(case, shape))


def peak_mib(case: Case, shape: Shape) -> float:
    """How far memory rises in this process over two training steps, the second of them warm.

    Freed memory is kept, of all engines alike, and a step over next to nothing comes first: it loads libraries and
    starts threads, which are not the step's, and makes the gradients of the weights, which all engines have.
    """
    keep_freed_memory()
    engine, (inputs, lengths) = Engine(case, shape), shape.make_batch()
    engine.train_step(inputs[:1, :2].clone(), torch.tensor([2]))
    before = _status("VmRSS")
    for _ in range(2):
        engine.train_step(inputs, lengths)
    return _status("VmHWM") - before


def _status(name: str) -> float:
    """MiB of this process by Linux's name for them."""
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"{_STATUS} has no {name}")
