"""Time the training of a recipe against its stack of LSTM layers alone, and say where the rest goes.

    python tools/bench_throughput.py recipes/speechocean762 --corpus.options.source /path/to/speechocean762

Training is what `asr-lstm recipe` runs: loader, augmentation, Lightning, CTC, optimiser and all that stands beside
it, from the second epoch on, with audio in memory as far as `data.cache_gib` goes. The stack alone runs forward and
backward over the very frames that it heard in training, with the same dropout and precision. The two take turns in one
process, a block of batches at a time, so that whatever else the machine does meets both alike; other blocks, which do
not count in the ratio, are taken apart. Any option of the recipe may be given, after those of this tool.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_lstm import describe_machine
from bench_profile import PARTS, STACK, Blocks, Engine, Inputs, Round, Timeline, attach
from bench_results import format_plain
from lightning.pytorch.loggers import TensorBoardLogger

from asr_lstm.callbacks import Checkpointer
from asr_lstm.checkpoints import CheckpointFolder
from asr_lstm.config import Recipe
from asr_lstm.data import SpeechData, readable
from asr_lstm.errors import AsrLstmError
from asr_lstm.files import atomic_write
from asr_lstm.manifest import read_manifest
from asr_lstm.manifest_index import open_manifest
from asr_lstm.recipe import RecipeRun
from asr_lstm.schedule import choose_precision, torch_device
from asr_lstm.set_up import make_callbacks, make_trainer, set_up

AIM = 0.85  # of the stack's speed
# Not a divisor of the updates from one look at gradients to the next, so that these meet all kinds of blocks alike.
_BATCHES = 11
_ROUNDS, _SECONDS = 100, 120.0
_SAMPLE_BYTES = 2  # in the cache of `asr_lstm.data`


@dataclass(frozen=True)
class Throughput:
    """What was measured.

    Attributes:
        rounds: each a block of training, and the stack alone over the same batches.
        parts: milliseconds a batch of each part of training, over blocks of their own.
        about: precision, seconds of speech in a batch, and so on.
    """

    rounds: list[Round]
    parts: dict[str, float]
    about: dict[str, Any]

    @property
    def ratio(self) -> float:
        """The speed of training as a share of the stack's, over all rounds together."""
        return sum(one.engine for one in self.rounds) / sum(one.training for one in self.rounds)

    @property
    def ratios(self) -> list[float]:
        """The same of each round, the smallest first."""
        return sorted(one.engine / one.training for one in self.rounds)

    def speeds(self, name: str) -> list[float]:
        """Seconds of speech a second in each round, the smallest first; of `training` or of the `engine`."""
        return sorted(one.speech / getattr(one, name) for one in self.rounds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, run, and show what came of it."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("recipe", type=Path, help="folder of a recipe")
    parser.add_argument("--batches", type=int, default=_BATCHES, help="of a block")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="at most")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="after which no other round begins")
    parser.add_argument("--exp", type=Path, help="keep the prepared data in this folder, for the next time")
    parser.add_argument("--output", type=Path, default=Path("bench/throughput.json"))
    known, options = parser.parse_known_args(arguments)
    if min(known.batches, known.rounds) < 1:
        parser.error("--batches and --rounds must be at least 1")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            found = measure(
                known.recipe,
                options,
                exp=known.exp or Path(scratch, "exp"),
                scratch=Path(scratch),
                size=known.batches,
                rounds=known.rounds,
                seconds=known.seconds,
            )
    except AsrLstmError as error:
        raise SystemExit(str(error)) from error
    about = {
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(found.about["device"]),
        "command": " ".join(["python", "tools/bench_throughput.py", *arguments]),
    } | found.about
    write_json(known.output, found, about)
    print(*format_lines(found, about), sep="\n")


def measure(
    folder: Path,
    options: Sequence[str],
    *,
    exp: Path,
    scratch: Path,
    size: int,
    rounds: int,
    seconds: float,
) -> Throughput:
    """Train a recipe for a while, in rounds.

    Args:
        folder: of the recipe.
        options: overrides of it.
        exp: folder of all experiments, for the prepared data.
        scratch: for checkpoints and logs.
        size: batches of a block.
        rounds: at most.
        seconds: after which no other round begins.

    Raises:
        AsrLstmError: the recipe or its data cannot be used.
    """
    run = RecipeRun(folder, options=options, output=exp)
    manifests = run.prepare().manifests
    recipe = run.recipe
    train = open_manifest(manifests["train"], recipe.text)
    dev = read_manifest(manifests["dev"])
    task, data, _ = set_up(recipe, train=train, dev=dev, load=run.experiment.load, logs=scratch)
    keeper = Checkpointer(CheckpointFolder(scratch / "checkpoints"), data, config=recipe.training)
    keeper.restore(task)
    _fill_memory(recipe, data)
    data.load_state_dict({"epoch": 1, "position": 0})  # not the first one, which begins with short utterances

    precision, heard = choose_precision(recipe.training), list[Inputs]()
    engine = Engine(task, bfloat16=precision == "bf16-mixed")
    timeline = Timeline()
    attach(timeline, task, data, heard)
    blocks = Blocks(timeline, engine, heard, data=data, size=size, rounds=rounds, seconds=seconds)
    trainer = make_trainer(
        recipe,
        *make_callbacks(recipe, task, keeper),
        blocks,
        logger=TensorBoardLogger(scratch, name="tensorboard"),
        profiler=timeline,
        limit_val_batches=0,
        max_epochs=-1,
    )
    trainer.fit(task, datamodule=data)
    batches = size * len(blocks.rounds)
    return Throughput(
        blocks.rounds,
        {part: 1000 * timeline.seconds[part] / batches for part in PARTS},
        {
            "recipe": recipe.name,
            "precision": precision,
            "device": torch_device(recipe.training),  # the trainer has moved the model back to the CPU
            "workers": recipe.data.workers,
            "batches": batches,
            "speech_seconds_a_batch": sum(one.speech for one in blocks.rounds) / batches,
        },
    )


def _fill_memory(recipe: Recipe, data: SpeechData) -> None:
    """Read every recording once if all of them stay in memory, as in the first epoch of a training."""
    size = float(data.sampler.durations.sum()) * recipe.features.rate * _SAMPLE_BYTES
    if recipe.features.kind == "log_mel" and size <= recipe.data.cache_gib * 2**30:
        for _ in readable(data.train_set.load, data.train_set.utterances):
            pass


def write_json(path: Path, found: Throughput, about: Mapping[str, Any]) -> None:
    """Write all that was measured."""
    rows = [vars(one) for one in found.rounds]
    measured = {
        "ratio": found.ratio,
        "milliseconds_a_batch": found.parts,
        "rounds": rows,
    }
    with atomic_write(path) as file:
        json.dump({**about, **measured}, file, indent=1)


def format_lines(found: Throughput, about: Mapping[str, Any]) -> list[str]:
    """What is printed: both speeds, their ratio, and the parts of a batch's time."""
    speeds = [["", "seconds of speech a second"]]
    for name, title in (("training", "training"), ("engine", "the stack alone")):
        speeds.append([title, _spread(found.speeds(name), "{:.0f}")])
    total = sum(found.parts.values())
    parts = [["part", "ms a batch", "share"]]
    for part, milliseconds in sorted(found.parts.items(), key=lambda item: -item[1]):
        if milliseconds:
            parts.append([part, f"{milliseconds:.2f}", f"{milliseconds / total:.1%}"])
    parts.append(["together", f"{total:.2f}", "100.0%"])
    met = "met" if found.ratio >= AIM else "short"
    return [
        f"{about['recipe']}: {about['batches']} batches of {about['speech_seconds_a_batch']:.1f} s of speech, "
        f"{about['precision']}, {about['device']}, {about['workers']} workers",
        "",
        format_plain(speeds),
        "",
        f"{met}: training at {found.ratio:.1%} of the stack's speed (aim: at least {AIM:.0%}); "
        f"rounds {_spread(found.ratios, '{:.3f}')}",
        "",
        format_plain(parts),
        f"{total - found.parts[STACK]:.2f} ms a batch beside the stack",
        "",
        str(about["machine"]),
    ]


def _spread(values: Sequence[float], form: str) -> str:
    """The median, the smallest and the largest."""
    return f"{form.format(statistics.median(values))} ({form.format(values[0])} to {form.format(values[-1])})"


if __name__ == "__main__":
    main()
