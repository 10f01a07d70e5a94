"""Time `VariationalLSTM` against `torch.nn.LSTM`, and other engines where they are installed.

At one shape, 3 layers of 256 a direction: training step, inference and peak memory of our kernels in float32 and
bfloat16 with every kind of dropout, of nn.LSTM on packed sequences (right on padding) and on the padded batch
(wrong on padding, torch's fastest). Each round times all of them in turn, so that whatever else the machine does
meets them alike. --full, or FULL=1 in the environment, adds sizes 128 to 1024 and batches of 1 to 64.

--device cuda does the same on a GPU at 5 layers of 512 and batches of 64 x 800 frames, all in bfloat16, with a loop
over time beside them; --full then adds sizes 256 to 1024 and batches of 8 to 128. Ratios are against nn.LSTM there.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from bench_engines import (
    BFLOAT16,
    CHOSEN,
    CPU,
    CUDA,
    DENSE,
    FLOAT32,
    FULL,
    LAUNCHES,
    NATIVE,
    OURS,
    PACKAGES,
    PACKED,
    Case,
    Shape,
    reference_cases,
    runs,
    size_cases,
)
from bench_measure import (
    INFERENCE,
    ROUNDS_SECONDS,
    TRAIN,
    Clock,
    Task,
    measure_peaks,
    product_tasks,
    time_rounds,
)
from bench_results import (
    Result,
    aims,
    collect,
    floors,
    format_markdown,
    format_plain,
    picture,
    product_speeds,
    replace_section,
    tables,
    write_json,
)

from asr_lstm.allocator import keep_freed_memory
from asr_lstm.doctor.machine import check_gpu
from asr_lstm.evaluate import device_name
from asr_lstm.files import atomic_write
from asr_lstm.lstm.kernels import native

SIZES, BATCHES = (128, 256, 512, 1024), (1, 4, 16, 64)
GPU_SIZES, GPU_BATCHES = (256, 512, 1024), (8, 16, 32, 64, 128)
GPU_SHAPE = Shape(layers=5, hidden=512, batch=64, frames=800, device=CUDA)
SIZE_REPEATS = 3  # of the many shapes of --full, some of which take a minute a step


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    sizes = [field.name for field in dataclasses.fields(Shape) if field.name != "device"]
    parser.add_argument("--device", choices=(CPU, CUDA), default=CPU, help="where all of it runs")
    for name in sizes:
        text = f"{getattr(Shape, name)}, and {getattr(GPU_SHAPE, name)} on a GPU"
        parser.add_argument(f"--{name}", type=at_least_one, help=text, default=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=at_least_one, default=7, help="rounds, fewer where time is short")
    parser.add_argument("--full", action="store_true", default=bool(os.environ.get("FULL")), help="all sizes")
    parser.add_argument(
        "--output", type=Path, help="bench/lstm.json, or lstm-cuda.json; a picture goes beside it"
    )
    parser.add_argument("--docs", type=Path, help="a document whose section is to be written anew")
    options = parser.parse_args(arguments)
    gpu = options.device == CUDA
    if gpu and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no CUDA device here")
    output = options.output or Path("bench/lstm-cuda.json" if gpu else "bench/lstm.json")
    shape = GPU_SHAPE if gpu else Shape()
    shape = dataclasses.replace(shape, **{name: getattr(options, name) for name in sizes if name in options})

    for line in missing(reference_cases(options.device), device=options.device):
        print(line)
    keep_freed_memory()
    about: dict[str, object] = {
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(options.device),
        "command": " ".join(
            ["python", "tools/bench_lstm.py", *(sys.argv[1:] if arguments is None else arguments)]
        ),
    }
    for seconds, results in run(shape, repeats=options.repeats, full=options.full):
        about["repeats"] = len(next(iter(seconds.values())))
        gemm = {dtype: round(speed / 1e9, 1) for dtype, speed in product_speeds(seconds).items()}
        write_json(output, results, **about, gemm_gflops=gemm, step_gflop=shape.operations() / 1e9)
    drawn = picture(results, shape)
    with atomic_write(output.with_suffix(".svg")) as file:
        file.write(drawn)
    for place, lines in tables(results).items():
        print(f"\n{place}\n{format_plain(lines)}")
    print(*_sentences(seconds, results, shape), sep="\n")
    print(f"\nmedians of {about['repeats']} rounds (smallest to largest)\n{about['machine']}")
    if options.docs:
        with atomic_write(options.docs.with_suffix(".svg")) as file:
            file.write(drawn)
        replace_section(options.docs, _section(options.docs, seconds, results, shape, about))


def run(shape: Shape, *, repeats: int, full: bool) -> Iterator[tuple[dict[Task, list[float]], list[Result]]]:
    """Measure memory and then time, at the given shape and, where asked for, at all others.

    Yields:
        All that is known so far, after each shape: what has been measured is not lost where time runs out.
    """
    cases = [case for case in reference_cases(shape.device) if runs(case, shape)]
    gpu = shape.device != CPU
    alone = dataclasses.replace(shape, batch=1)
    kernel = CHOSEN if gpu else NATIVE
    one_sequence = [Case(OURS, kernel, dtype, FULL) for dtype in (FLOAT32, BFLOAT16)]
    one_sequence += [case for case in cases if case.engine in (PACKED, DENSE)]
    tasks = _tasks(cases, shape)
    tasks += [Task(INFERENCE, alone, case) for case in one_sequence if alone != shape]
    tasks += product_tasks(shape.device)
    with Clock() as clock:
        peaks = measure_peaks(cases, shape, clock=clock)
        seconds = time_rounds(tasks, repeats=repeats, clock=clock, limit=ROUNDS_SECONDS)
        yield seconds, collect(seconds, peaks)
        for hidden in (GPU_SIZES if gpu else SIZES) if full else ():
            for batch in GPU_BATCHES if gpu else BATCHES:
                other = dataclasses.replace(shape, hidden=hidden, batch=batch)
                cases = [case for case in size_cases(shape.device) if runs(case, other)]
                more = [task for task in _tasks(cases, other) if task not in seconds]
                seconds |= time_rounds(more, repeats=min(repeats, SIZE_REPEATS), clock=clock)
                yield seconds, collect(seconds, peaks)


def _tasks(cases: Sequence[Case], shape: Shape) -> list[Task]:
    """A training step and inference of each case; how steps are launched does not matter to inference, by cuDNN."""
    return [
        Task(what, shape, case)
        for case in cases
        for what in (TRAIN, INFERENCE)
        if what == TRAIN or case.kernel not in LAUNCHES
    ]


def missing(cases: Sequence[Case], *, device: str = CPU) -> list[str]:
    """A line for each engine that is left out."""
    there = {case.engine for case in cases}
    lines = [
        f"{name}: left out, its package {package} is not installed"
        for name, package in PACKAGES.items()
        if name not in there
    ]
    if device == CPU and not native.usable(torch.zeros(1)):
        lines.append("no C++ kernel: the lines that name it run in plain torch")
    return lines


def describe_machine(device: str = CPU) -> str:
    """One line: threads and cores, processor, torch; or GPU, its driver, and what of NVIDIA's torch runs on."""
    if device != CPU:
        gpu = next(check_gpu()).text.partition(";")[0]  # with its driver and CUDA
        triton = importlib.import_module("triton").__version__ if importlib.util.find_spec("triton") else "-"
        return f"{gpu}, cuDNN {torch.backends.cudnn.version()}, Triton {triton}, torch {torch.__version__}"
    cores = f"{torch.get_num_threads()} threads, {os.cpu_count()} cores"
    return f"{cores}, {device_name()}, torch {torch.__version__}"


def _sentences(seconds: Mapping[Task, Sequence[float]], results: Sequence[Result], shape: Shape) -> list[str]:
    """A line an aim, and what the processor's products would allow."""
    lines = [
        f"{'met  ' if met else 'short'}  {name}: {figure:.2f} (aim: {aim})"
        for name, figure, aim, met in aims(results, shape)
    ]
    return ["", *lines, "", *floors(results, seconds, shape)]


def _section(
    document: Path,
    seconds: Mapping[Task, Sequence[float]],
    results: Sequence[Result],
    shape: Shape,
    about: Mapping[str, object],
) -> str:
    """What a document has on this run."""
    aimed = [["aim", "measured", "wanted", ""]] + [
        [name, f"{figure:.2f}", aim, "met" if met else "short"]
        for name, figure, aim, met in aims(results, shape)
    ]
    return "\n\n".join(
        [
            f"{about['date']}, `{about['command']}`, {about['machine']}. Medians of {about['repeats']} rounds; "
            "ratios with the smallest and the largest of a round, against nn.LSTM in "
            f"{FLOAT32 if shape.device == CPU else BFLOAT16}.",
            f"![seconds of a training step]({document.with_suffix('.svg').name})",
            *(f"### {place}\n\n{format_markdown(lines)}" for place, lines in tables(results).items()),
            "### What was aimed at",
            format_markdown(aimed),
            "\n".join(f"- {line}." for line in floors(results, seconds, shape)),
        ]
    )


def at_least_one(text: str) -> int:
    """A count on the command line."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {count}")
    return count


if __name__ == "__main__":
    main()
