"""How training went, from the event files that it logged for TensorBoard."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from asr_lstm.pages import Markup, columns, joined, line_chart, paragraph
from asr_lstm.pages.axes import number
from asr_lstm.scoring import summed_rates

# Beyond this many times from the highest to the lowest loss, a linear axis shows only the first minutes.
_LOG_RATIO = 20.0

# Of one tag: updates and values.
Curve = tuple[list[int], list[float]]


def training_curves(folder: Path) -> Markup:
    """Charts of loss, error rates on dev and learning rate; a line for each that was not logged.

    Args:
        folder: exp/NAME.
    """
    logs = find_logs(folder)
    curves = read_curves(logs) if logs else {}
    if not curves:
        return paragraph(
            "No training logs: logs/tensorboard holds no event files with curves.", style="faint"
        )
    charts, lacking = [], []
    losses = {name: curves[tag] for tag, name in (("loss", "training"), ("dev_loss", "dev")) if tag in curves}
    rates = {name: curves[tag] for tag, name in (("dev_wer", "WER"), ("dev_cer", "CER")) if tag in curves}
    learning = [tag for tag in sorted(curves) if tag.startswith(("lr", "learning_rate"))]
    if losses:
        positive = [value for _, values in losses.values() for value in values if value > 0]
        charts.append(
            line_chart(
                losses,
                x_label="updates",
                y_label="nats a unit",
                title="Loss",
                log_y=bool(positive) and max(positive) > _LOG_RATIO * min(positive),
            )
        )
    else:
        lacking.append("the loss")
    if rates:
        charts.append(
            line_chart(
                {name: (steps, [100 * value for value in values]) for name, (steps, values) in rates.items()},
                x_label="updates",
                y_label="%",
                title="Error rates on dev",
                caption=_best(curves),
            )
        )
    else:
        lacking.append("error rates on dev")
    if learning:
        lines = {tag: curves[tag] for tag in learning[:1]}
        charts.append(line_chart(lines, x_label="updates", y_label="learning rate", title="Learning rate"))
    else:
        lacking.append("the learning rate")
    missing = paragraph(f"Not logged: {', '.join(lacking)}.", style="faint") if lacking else Markup()
    return joined([columns(*charts), missing])


def _best(curves: Mapping[str, Curve]) -> str:
    """Which weights were kept, and after how many epochs."""
    if not {"dev_wer", "dev_cer"} <= curves.keys():
        return ""
    (steps, values), (_, of_characters) = curves["dev_wer"], curves["dev_cer"]
    # Of equals the later one, as training chooses.
    best = min(
        range(len(values)),
        key=lambda epoch: (summed_rates(values[epoch], of_characters[epoch]), -epoch),
    )
    epochs = f"{len(values)} epoch" + ("s" if len(values) > 1 else "")
    kept = f"fewest errors: WER {100 * values[best]:.1f} % after update {number(steps[best], digits=7)}"
    return f"{kept}; {epochs} in all"


def find_logs(folder: Path) -> Path | None:
    """The folder of event files of the run that made the model, or the latest one where that is not recorded."""
    logs = folder / "logs" / "tensorboard"
    try:
        version = json.loads((folder / "stages.json").read_text(encoding="utf-8"))["train"]["digest"]
        if (logs / version).is_dir():
            return logs / str(version)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    events = sorted(
        logs.glob("*/events.out.tfevents.*"), key=lambda path: (path.stat().st_mtime_ns, path.name)
    )
    return events[-1].parent if events else None


def read_curves(folder: Path) -> dict[str, Curve]:
    """The scalars in a folder of event files, by tag; what a resumed run did twice stands there once."""
    # Half a second to import.
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it remarks on every resumed run
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})  # 0: all of them
    accumulator.Reload()
    curves = {}
    for tag in accumulator.Tags()["scalars"]:
        events = sorted(accumulator.Scalars(tag), key=lambda event: event.wall_time)
        values = {event.step: event.value for event in events}  # the later of two at one step
        curves[tag] = (sorted(values), [values[step] for step in sorted(values)])
    return curves
