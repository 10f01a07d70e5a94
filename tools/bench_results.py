"""What `tools/bench_lstm.py` makes of its seconds: rows, a table, the aims, a picture, a section of a document."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench_engines import (
    BFLOAT16,
    CHOSEN,
    CPU,
    DENSE,
    FLOAT32,
    FULL,
    KINDS,
    LAUNCHES,
    LOOP,
    NATIVE,
    NONE,
    OURS,
    PACKED,
    TORCH,
    Case,
    Shape,
)
from bench_measure import INFERENCE, PRODUCT, TRAIN, Task, product_speed

from asr_lstm.files import atomic_write
from asr_lstm.pages.charts import bar_chart

BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"
_HEAD = (
    *("engine", "kernel", "type", "dropout"),
    *("step, s", "times packed", "times dense", "inference, s", "times packed", "times dense", "peak, MiB"),
)
# Standing alone a picture has no page whose style sheet colours it, and is seen on light and dark grounds alike.
_PICTURE_STYLE = (
    "svg{background:#ffffff;font:12px system-ui,sans-serif}text{fill:#1b1f24}.axis{fill:#59636e;font-size:11px}"
    ".grid{stroke:#d0d5dc}.bar{fill:#4d97c9}.whisker{stroke:#1b1f24;fill:none}"
)


@dataclass(frozen=True)
class Result:
    """One case at one shape; seconds a round, in the order of the rounds."""

    shape: Shape
    case: Case
    train: Sequence[float] = ()
    inference: Sequence[float] = ()
    peak_mib: float | None = None

    def row(self) -> dict[str, Any]:
        """As bench/lstm.json has it."""
        return {
            **asdict(self.case),
            "shape": str(self.shape),
            "train_seconds": _median(self.train),
            "inference_seconds": _median(self.inference),
            "peak_mib": self.peak_mib,
            **asdict(self.shape),
            "train_rounds": list(self.train),
            "inference_rounds": list(self.inference),
        }


def collect(seconds: Mapping[Task, Sequence[float]], peaks: Mapping[Case, float | None]) -> list[Result]:
    """A result for each case and shape, in the order they were timed in; peaks are the first shape's."""
    first = next(iter(seconds)).shape
    pairs = dict.fromkeys((task.shape, task.case) for task in seconds if task.what != PRODUCT)
    return [
        Result(
            shape,
            case,
            seconds.get(Task(TRAIN, shape, case), ()),
            seconds.get(Task(INFERENCE, shape, case), ()),
            peaks.get(case) if shape == first else None,
        )
        for shape, case in pairs
    ]


def tables(results: Sequence[Result]) -> dict[Shape, list[list[str]]]:
    """For each shape a head and a line a case: medians, and how many times faster than the peers, round by round."""
    shapes = dict.fromkeys(result.shape for result in results)
    return {shape: _table([result for result in results if result.shape == shape]) for shape in shapes}


def _table(results: Sequence[Result]) -> list[list[str]]:
    lines = [list(_HEAD)]
    for result in results:
        case, line = result.case, []
        for what in ("train", "inference"):
            own: Sequence[float] = getattr(result, what)
            line.append(_text(_median(own), ".3f"))
            for peer in (PACKED, DENSE):
                line.append(_spread(faster(own, _rounds(results, result.shape, what, peer))))
        lines.append(
            [case.engine, case.kernel, case.dtype, case.dropout, *line, _text(result.peak_mib, ".0f")]
        )
    return lines


def faster(own: Sequence[float], peer: Sequence[float]) -> list[float]:
    """How many times faster than the peer, round by round."""
    return [other / mine for mine, other in zip(own, peer, strict=False)]


def aims(results: Sequence[Result], shape: Shape) -> list[tuple[str, float, str, bool]]:
    """What is aimed at: name, figure, aim, whether it is met; what was not run is left out."""
    if shape.device != CPU:
        return _gpu_aims(results, shape)
    found = {(result.shape, result.case): result for result in results}
    alone = Shape(**{**asdict(shape), "batch": 1})
    lines: list[tuple[str, float, str, bool]] = []

    def add(name: str, ratios: Sequence[float], least: float) -> None:
        if ratios:
            ratio = statistics.median(ratios)
            lines.append((name, ratio, f"at least {least:g}", ratio >= least))

    def against(what: str, dtype: str, peer: str, where: Shape = shape) -> list[float]:
        result = found.get((where, Case(OURS, NATIVE, dtype, FULL)))
        return faster(getattr(result, what), _rounds(results, where, what, peer)) if result else []

    add("training step, float32, times packed", against("train", FLOAT32, PACKED), 12)
    add("training step, float32, times dense", against("train", FLOAT32, DENSE), 1.4)
    add("training step, bfloat16, times dense (float32)", against("train", BFLOAT16, DENSE), 2.2)
    add("inference, float32, times dense", against("inference", FLOAT32, DENSE), 1.3)
    add("inference, float32, times packed", against("inference", FLOAT32, PACKED), 8)
    add("inference of one sequence, times dense", against("inference", FLOAT32, DENSE, alone), 1)
    for dtype in (FLOAT32, BFLOAT16):
        none = found.get((shape, Case(OURS, NATIVE, dtype, NONE)))
        kinds = [found.get((shape, Case(OURS, NATIVE, dtype, kind))) for kind in KINDS]
        costs = [
            statistics.median(faster(none.train, kind.train)) - 1
            for kind in kinds
            if none and kind and none.train
        ]
        if costs:
            name = f"what the dearest kind of dropout costs a step, {dtype}, %"
            lines.append((name, 100 * max(costs), "at most 8", max(costs) <= 0.08))
    peaks = [
        result.peak_mib if result else None
        for result in (
            found.get((shape, Case(OURS, NATIVE, FLOAT32, FULL))),
            found.get((shape, Case(DENSE, "its own"))),
        )
    ]
    if peaks[0] is not None and peaks[1]:
        share = peaks[0] / peaks[1]
        lines.append(("peak memory of a step, of dense's", share, "at most 1", share <= 1))
    return lines


def _gpu_aims(results: Sequence[Result], shape: Shape) -> list[tuple[str, float, str, bool]]:
    """Those of a training step in bfloat16, against torch's packed sequences and our own time loop."""
    found = {result.case: result.train for result in results if result.shape == shape}
    packed = _rounds(results, shape, "train", PACKED)
    loop = found.get(Case(OURS, LOOP, BFLOAT16, "state_dropout"), ())
    wanted = [(kind, "packed", packed, 1.0) for kind in ("weight_dropout", "input_dropout", "layer_dropout")]
    wanted += [("state_dropout", "packed", packed, 1.0), ("state_dropout", "the time loop", loop, 15.0)]
    lines = []
    for kind, name, peer, least in wanted:
        if ratios := faster(found.get(Case(OURS, CHOSEN, BFLOAT16, kind), ()), peer):
            ratio = statistics.median(ratios)
            lines.append(
                (f"training step, {kind}, times {name}", ratio, f"at least {least:g}", ratio >= least)
            )
    return lines


def floors(results: Sequence[Result], seconds: Mapping[Task, Sequence[float]], shape: Shape) -> list[str]:
    """Lines on what the matrix products of the real frames alone would take, and the share of it reached."""
    lines = []
    for dtype, speed in product_speeds(seconds).items():
        floor = shape.operations() / speed
        line = (
            f"GEMM {dtype}: {speed / 1e9:.0f} GFLOP/s; the {shape.operations() / 1e9:.0f} GFLOP of the real frames "
            f"take {floor:.3f} s at that speed"
        )
        for result in results:
            if result.shape == shape and result.case in (
                Case(OURS, NATIVE, dtype, FULL),
                Case(OURS, CHOSEN, dtype, FULL),
            ):
                step = statistics.median(result.train)
                line += f"; the step takes {step:.3f} s, {floor / step:.0%} of it"
        packed = _median(_rounds(results, shape, "train", PACKED))
        if packed:
            line += f"; a step of nothing but these products would be {packed / floor:.1f} times packed"
        lines.append(line)
    return lines


def product_speeds(seconds: Mapping[Task, Sequence[float]]) -> dict[str, float]:
    """Operations a second of large matrix products by type, those of the faster library."""
    speeds: dict[str, float] = {}
    for task, runs in seconds.items():
        if task.what == PRODUCT:
            speed = product_speed(statistics.median(runs), device=task.shape.device)
            speeds[task.case.dtype] = max(speed, speeds.get(task.case.dtype, 0.0))
    return speeds


def format_plain(lines: Sequence[Sequence[str]]) -> str:
    """A table for the terminal, columns aligned."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 4 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def format_markdown(lines: Sequence[Sequence[str]]) -> str:
    """The same for a document."""
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([rows[0], "|" + "---|" * len(lines[0]), *rows[1:]])


def picture(results: Sequence[Result], shape: Shape) -> str:
    """Bars as SVG: seconds of a training step of each case, whiskers from the fastest round to the slowest."""
    shown = [result for result in results if result.shape == shape and result.train]
    chart = bar_chart(
        [_short(result.case) for result in shown],
        [statistics.median(result.train) for result in shown],
        unit="s",
        low=[min(result.train) for result in shown],
        high=[max(result.train) for result in shown],
    )
    svg = chart[chart.index("<svg") : chart.index("</svg>")]
    return (
        svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1).replace(
            ">", f"><style>{_PICTURE_STYLE}</style>", 1
        )
        + "</svg>\n"
    )


def write_json(path: Path, results: Sequence[Result], **about: Any) -> None:
    """Write rows and what they were measured with."""
    with atomic_write(path) as file:
        json.dump({**about, "rows": [result.row() for result in results]}, file, indent=1)
        file.write("\n")


def replace_section(path: Path, section: str, *, name: str = "bench") -> None:
    """Put text between the markers of a document that bear a name.

    Raises:
        ValueError: it has not both markers.
    """
    first, last = BEGIN.format(name), END.format(name)
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"{path}: has no section between {first} and {last}; add both lines")
    with atomic_write(path) as file:
        file.write(f"{before}{first}\n{section.strip()}\n{last}{after}")


def _short(case: Case) -> str:
    """A name that fits beside a bar."""
    parts = [
        case.engine,
        case.kernel if case.kernel in (TORCH, LOOP, *LAUNCHES) else "",
        "bf16" if case.dtype == BFLOAT16 else "",
    ]
    if case.engine == OURS:
        parts.append(case.dropout.removesuffix("_dropout").replace("zoneout_", "zone "))
    return " ".join(filter(None, parts))


def _rounds(results: Sequence[Result], shape: Shape, what: str, peer: str) -> Sequence[float]:
    """Seconds of a peer in float32, and on a GPU in bfloat16."""
    dtype = FLOAT32 if shape.device == CPU else BFLOAT16
    for result in results:
        if (result.shape, result.case.engine, result.case.dtype) == (shape, peer, dtype):
            rounds: Sequence[float] = getattr(result, what)
            return rounds
    return ()


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _spread(ratios: Sequence[float]) -> str:
    if not ratios:
        return "–"
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
