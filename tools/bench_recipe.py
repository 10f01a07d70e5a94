"""Time a recipe's training with one LSTM engine after another: speech seconds a second, minutes of an epoch.

    DATA=/path/to/speechocean762 python tools/bench_recipe.py recipes/speechocean762

The recipe's own data, augmentation, model, loss and optimiser, over the same batches with each engine: the C++ kernel,
the one in plain torch, and torch.nn.LSTM on packed sequences in the encoder's place, which drops between layers only.
They take turns, a stretch of batches each round. What was read once comes from memory as in a run's
later epochs, as far as the recipe keeps it there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from bench_engines import BFLOAT16, FLOAT32, NATIVE, OURS, PACKED, TORCH, Case, Packed, kernel
from bench_lstm import at_least_one, describe_machine
from bench_measure import Clock
from bench_results import format_markdown, format_plain, replace_section
from recipe_batches import RecipeTraining, Stretch
from torch import Tensor, nn

from asr_lstm.errors import AsrLstmError
from asr_lstm.files import atomic_write
from asr_lstm.lstm import VariationalLSTM
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.schedule import choose_precision

ROUNDS = 3
# Batches that do not count, at the beginning of each stretch: memory and caches are another engine's.
WARMUP = 2
PRECISIONS = {FLOAT32: "32-true", BFLOAT16: "bf16-mixed"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run; 2 where the recipe or its data make no sense."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog="Further options are the recipe's, such as --data.batch_seconds 20.",
    )
    parser.add_argument("recipe", type=Path, help="its folder")
    parser.add_argument("--updates", type=at_least_one, default=30, help="timed with each engine (30)")
    parser.add_argument("--manifest", type=Path, help="to train on; the recipe's own by default")
    parser.add_argument("--output", type=Path, help="bench/recipe-NAME.json by default")
    parser.add_argument(
        "--docs", type=Path, help="a document whose section on the recipe is to be written anew"
    )
    options, settings = parser.parse_known_args(arguments)
    try:
        training = RecipeTraining(options.recipe, options=settings, manifest=options.manifest)
        with Clock() as clock:
            stretches = run(training, updates=options.updates, clock=clock)
    except AsrLstmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = _rows(stretches, hours=training.hours)
    print(f"{training.recipe.name}, {training.hours:.2f} h an epoch\n{format_plain(_table(rows))}")
    output = options.output or Path("bench", f"recipe-{training.recipe.name}.json")
    about = {
        "recipe": training.recipe.name,
        "hours": training.hours,
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(),
        "command": shlex.join(["python", "tools/bench_recipe.py", *(arguments or sys.argv[1:])]),
    }
    if options.docs:
        replace_section(options.docs, _section(rows, about), name=training.recipe.name)
    with atomic_write(output) as file:
        json.dump({**about, "rows": rows}, file, indent=1)
        file.write("\n")
    print(f"medians of {ROUNDS} rounds (smallest to largest)\n{describe_machine()}")
    return 0


def run(training: RecipeTraining, *, updates: int, clock: Clock) -> dict[Case, list[Stretch]]:
    """A stretch of batches of each engine, a round after the other; of the same batches within a round."""
    batches = -(-updates // ROUNDS) * training.recipe.training.accumulate
    tasks = {case: training.make_task(make_model(training, case)) for case in engines(training)}
    stretches: dict[Case, list[Stretch]] = {case: [] for case in tasks}
    for round_ in range(ROUNDS):
        # The first epoch of some recipes begins with the shortest utterances; later ones have all lengths.
        epoch = 1 + round_
        training.read(epoch=epoch, batches=WARMUP + batches)
        for case, task in tasks.items():
            clock.show(f"round {round_ + 1} of {ROUNDS}: {case.engine}, {case.kernel}, {case.dtype}")
            with kernel(case):
                stretch = training.time(
                    task, precision=PRECISIONS[case.dtype], epoch=epoch, warmup=WARMUP, batches=batches
                )
            stretches[case].append(stretch)
    return stretches


def engines(training: RecipeTraining) -> list[Case]:
    """What is compared: ours in the recipe's precision and in float32, and what a plain training has."""
    chosen = choose_precision(training.recipe.training)
    own = next(dtype for dtype, precision in PRECISIONS.items() if precision == chosen)
    native = [Case(OURS, NATIVE, dtype) for dtype in dict.fromkeys((own, FLOAT32))]
    return [*native, Case(OURS, TORCH, own), Case(PACKED, "its own", FLOAT32)]


def make_model(training: RecipeTraining, case: Case) -> Recogniser:
    """The recipe's model, with the engine of a case for its encoder."""
    model = training.make_model()
    if case.engine == PACKED:
        model.encoder = cast(VariationalLSTM, PackedEncoder(model.front_end.dims, training.recipe.encoder))
    return model


class PackedEncoder(Packed):
    """`torch.nn.LSTM` of the same sizes, with what a recogniser asks of an encoder besides."""

    recompute = False
    time_factor = 1

    def __init__(self, dims: int, encoder: EncoderConfig) -> None:
        self.output_size = encoder.hidden * (2 if encoder.bidirectional else 1)
        super().__init__(
            nn.LSTM(
                dims,
                encoder.hidden,
                num_layers=encoder.layers,
                dropout=encoder.layer_dropout,
                bidirectional=encoder.bidirectional,
                batch_first=True,
            )
        )

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """As many frames as there were."""
        return lengths


def _rows(stretches: Mapping[Case, Sequence[Stretch]], *, hours: float) -> list[dict[str, Any]]:
    """As the JSON has them; ratios are taken within a round."""
    packed = next(own for case, own in stretches.items() if case.engine == PACKED)
    rows = []
    for case, own in stretches.items():
        speeds = [stretch.speech / stretch.seconds for stretch in own]
        speed = statistics.median(speeds)
        rows.append(
            {
                **{"engine": case.engine, "kernel": case.kernel, "dtype": case.dtype},
                "speech_seconds_a_second": speed,
                "epoch_minutes": 60 * hours / speed,
                "times_packed": [
                    theirs.seconds / mine.seconds for mine, theirs in zip(own, packed, strict=True)
                ],
                "seconds": [stretch.seconds for stretch in own],
                "speech_seconds": [stretch.speech for stretch in own],
            }
        )
    return rows


def _table(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    lines = [["engine", "kernel", "type", "speech, s a second", "an epoch, min", "times packed"]]
    for row in rows:
        ratios = row["times_packed"]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        figures = [f"{row['speech_seconds_a_second']:.1f}", f"{row['epoch_minutes']:.2f}", ratio]
        lines.append([row["engine"], row["kernel"], row["dtype"], *figures])
    return lines


def _section(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """What a document has on this run."""
    return (
        f"{about['date']}, `{about['command']}`, {about['machine']}. {about['hours']:.2f} hours an epoch; medians of "
        f"{ROUNDS} rounds, ratios with the smallest and the largest of a round.\n\n{format_markdown(_table(rows))}"
    )


if __name__ == "__main__":
    sys.exit(main())
