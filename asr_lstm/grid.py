"""A recipe several times, one after another: other seeds, other settings, and one table at the end."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import logging
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from asr_lstm.config import load_recipe
from asr_lstm.console import ReaderConsole
from asr_lstm.errors import AsrLstmError, ConfigError, TrainingInterrupted
from asr_lstm.files import atomic_write
from asr_lstm.lock import folder_lock
from asr_lstm.recipe import RecipeRun
from asr_lstm.report import Results, read_results

log = logging.getLogger(__name__)

GRID_NAME = "grid"
# Longer names of folders are cut and told apart by a digest: file systems take 255 bytes.
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        settings: what sets it apart, by option, the seed aside.
        seed: None where it is the recipe's own.
    """

    settings: Mapping[str, str]
    seed: int | None

    @property
    def options(self) -> list[str]:
        """The same as options of a recipe."""
        settings = dict(self.settings) | ({} if self.seed is None else {"seed": str(self.seed)})
        return [f"--{name}={value}" for name, value in settings.items()]

    @property
    def name(self) -> str:
        """The name of its folder."""
        name = re.sub(r"[^\w.=,+-]+", "_", ",".join(option[2:] for option in self.options))
        if len(name) <= _LONGEST_NAME:
            return name
        digest = hashlib.sha256(" ".join(self.options).encode()).hexdigest()[:8]
        return f"{name[:_LONGEST_NAME]}-{digest}"


@dataclass
class Grid:
    """What came of a grid: results by cell, and what could not be recognised or done, a line each."""

    results: list[tuple[Cell, Results]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def grid_cells(sets: Sequence[str], *, seeds: int, first_seed: int) -> list[Cell]:
    """All runs that a command asks for.

    Args:
        sets: such as `training.learning_rate=1e-3,2e-3`; each value with each of the others. Commas within brackets
            do not divide.
        seeds: so many for each.
        first_seed: the others are the numbers after it.

    Raises:
        ConfigError: one that is not of that form, or an option that occurs twice.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds: must be at least 1, not {seeds}")
    choices: dict[str, list[str]] = {}
    for text in sets:
        name, found, values = text.partition("=")
        choice = [value.strip() for value in re.split(r",(?![^\[({]*[\])}])", values)]
        if not found or not name or not all(choice):
            raise ConfigError(f"--set {text}: give an option and its values, such as training.epochs=5,10")
        if name in choices or (name == "seed" and seeds > 1):
            raise ConfigError(f"--set {name}: stands there twice; give all its values at once")
        choices[name] = choice
    combinations = [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]
    numbers = [first_seed + number for number in range(seeds)] if seeds > 1 else [None]
    return [Cell(settings, seed) for settings in combinations for seed in numbers]


def run_grid(
    folder: str | Path,
    *,
    sets: Sequence[str] = (),
    seeds: int = 1,
    options: Sequence[str] = (),
    output: str | Path = "exp",
    fresh: bool = False,
    console: Console | None = None,
) -> Grid:
    """Run a recipe once for each seed and each combination of settings.

    Each run has a folder below `output/NAME/grid`, where the tables `grid.md` and `grid.json` come to stand. The data
    is prepared once, unless a setting of the corpus is among those that vary. What is done is not done again; a run
    that fails is listed and the others go on.

    Args:
        folder: of the recipe.
        sets: as in `grid_cells`.
        seeds: so many for each combination.
        options: overrides that all runs share.
        output: folder of all experiments.
        fresh: train anew, whatever there is.
        console: for tables; standard output by default.

    Raises:
        ConfigError: a setting that the recipe does not take, before anything is run.
        TrainingInterrupted: by Ctrl-C; the same command goes on.
    """
    console = console or ReaderConsole()
    recipe = load_recipe(folder, options=options)
    cells = grid_cells(sets, seeds=seeds, first_seed=recipe.seed)
    for cell in cells:
        load_recipe(folder, options=[*options, *cell.options])  # a mistake shows before hours are spent
    place = Path(output) / recipe.name / GRID_NAME
    prepared = None
    if not any(name.startswith("corpus.") for cell in cells for name in cell.settings):
        with folder_lock(place.parent):
            prepared = RecipeRun(folder, options=options, output=output, console=console).prepare()
    grid = Grid()
    for number, cell in enumerate(cells, start=1):
        console.print(f"run {number} of {len(cells)}: {cell.name}", highlight=False, soft_wrap=True)
        run = RecipeRun(
            folder,
            options=[*options, *cell.options],
            place=place / cell.name,
            fresh=fresh,
            console=console,
        )
        try:
            failures = run.run(prepared)
        except TrainingInterrupted:
            raise
        except AsrLstmError as error:
            failures = [str(error)]
            log.error("%s failed: %s", cell.name, error)
        else:
            grid.results.append((cell, read_results(run.experiment.folder / "results.json")))
        grid.failures += [f"{cell.name}: {failure}" for failure in failures]
    _write(grid, place)
    console.print(grid_table(grid), highlight=False, soft_wrap=True, markup=False)
    return grid


def grid_table(grid: Grid) -> str:
    """The results of a grid as a table in Markdown: word error rates in %, with mean and deviation over seeds."""
    splits = dict.fromkeys(key for _, results in grid.results for key in _rates(results))
    names = list(dict.fromkeys(name for cell, _ in grid.results for name in cell.settings))
    rows = [[*names, "seed", *(f"{split} {decoder}" for split, decoder in splits), "minutes"]]
    rows.append(["---"] * len(rows[0]))
    for settings, members in _by_settings(grid):
        values = [settings.get(name, "") for name in names]
        for results in members:
            rates = _rates(results)
            shown = [f"{100 * rates[key]:.2f}" if key in rates else "" for key in splits]
            rows.append([*values, str(results.seed), *shown, f"{(results.train_seconds or 0) / 60:.1f}"])
        if len(members) > 1:
            spread = _spread(members)
            shown = [f"{100 * spread[key][0]:.2f} ± {100 * spread[key][1]:.2f}" for key in splits]
            rows.append([*values, f"mean of {len(members)}", *shown, ""])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _write(grid: Grid, place: Path) -> None:
    with atomic_write(place / "grid.md") as file:
        file.write(f"Word error rates in %; ± is the standard deviation over seeds.\n\n{grid_table(grid)}\n")
    runs = [
        {
            "settings": dict(cell.settings),
            "seed": results.seed,
            "folder": cell.name,
            "command": results.command,
            "train_seconds": results.train_seconds,
            "wer": _nested(_rates(results)),
        }
        for cell, results in grid.results
    ]
    means = [
        {"settings": dict(settings), "seeds": len(members), "wer": _nested(_spread(members))}
        for settings, members in _by_settings(grid)
    ]
    with atomic_write(place / "grid.json") as file:
        json.dump(
            {"runs": runs, "means": means, "failures": grid.failures}, file, indent=1, ensure_ascii=False
        )


def _by_settings(grid: Grid) -> list[tuple[Mapping[str, str], list[Results]]]:
    groups: dict[tuple[tuple[str, str], ...], list[Results]] = {}
    for cell, results in grid.results:
        groups.setdefault(tuple(cell.settings.items()), []).append(results)
    return [(dict(key), members) for key, members in groups.items()]


def _rates(results: Results) -> dict[tuple[str, str], float]:
    """Word error rates by split and decoder."""
    return {
        (split, decoder): result.wer
        for split, decoders in results.splits.items()
        for decoder, result in decoders.items()
    }


def _spread(members: Sequence[Results]) -> dict[tuple[str, str], tuple[float, float]]:
    """Mean and standard deviation of each rate over seeds."""
    rates = [_rates(results) for results in members]
    spread = {}
    for key in rates[0]:
        values = [row[key] for row in rates if key in row]
        spread[key] = (statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0)
    return spread


def _nested(values: Mapping[tuple[str, str], Any]) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {}
    for (split, decoder), value in values.items():
        nested.setdefault(split, {})[decoder] = value
    return nested


class OptionParser(argparse.ArgumentParser):
    """A parser whose complaints are a `ConfigError` of one line."""

    def error(self, message: str) -> NoReturn:
        """Raise a complaint."""
        raise ConfigError(message)


def recipe_command(arguments: Sequence[str]) -> int:
    """`asr-lstm recipe FOLDER`: one run, or with `--seeds` or `--set` a grid of them.

    Args:
        arguments: the folder; `--seeds N`; `--set option=value,value`, any number of times; `--fresh`, to train anew
            whatever there is; `--init BUNDLE` and `--max-minutes N`, short for the options of training; `--output
            DIR`, the folder of all experiments; and any option of the recipe.

    Returns:
        The exit code: 0, or 1 where something failed and the rest was done.

    Raises:
        AsrLstmError: what went wrong, in one line.
    """
    parser = OptionParser(prog="asr-lstm recipe", add_help=False, allow_abbrev=False)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--init")
    parser.add_argument("--max-minutes", dest="max_minutes")
    parser.add_argument("--output", default="exp")
    folder, *rest = arguments
    known, options = parser.parse_known_args(rest)
    for option, value in (("init", known.init), ("max_minutes", known.max_minutes)):
        if value is not None:
            options.append(f"--training.{option}={value}")
    if known.seeds != 1 or known.sets:
        grid = run_grid(
            folder,
            sets=known.sets,
            seeds=known.seeds,
            options=options,
            output=known.output,
            fresh=known.fresh,
        )
        failures = grid.failures
    else:
        failures = RecipeRun(folder, options=options, output=known.output, fresh=known.fresh).run()
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0
