"""A study: one recipe in several variants at an equal budget, each compared with the same one of them.

Each variant is an experiment like any other, in `exp/STUDY/VARIANT/`. What is done is not done again, so that an
interrupted study goes on where it was.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from asr_lstm.compare import Comparison, compare_folders
from asr_lstm.config import load_recipe
from asr_lstm.errors import ConfigError
from asr_lstm.evaluate import DECODER
from asr_lstm.grid import OptionParser
from asr_lstm.recipe import RecipeRun
from asr_lstm.report import Results, SplitResult, read_results
from asr_lstm.report_page.curves import Curve, find_logs, read_curves

log = logging.getLogger(__name__)

STUDY_NAME = "study.yaml"
Points = tuple[list[float], list[float]]  # of a curve: epochs and values
_NAME = re.compile(r"\w[\w.+-]*")  # of a variant: that of its folder


@dataclass(frozen=True)
class Study:
    """What a study.yaml says.

    Attributes:
        name: also that of its folder under exp/.
        recipe: folder of the recipe that is varied, or its yaml, relative to the study's own folder.
        variants: by name, what each sets otherwise than the recipe, such as `encoder.layer_dropout: 0.3`.
        baseline: the variant that the others are compared with; the first one by default.
        options: what all variants set otherwise than the recipe.
        split: whose errors are counted.
        by: what the bootstrap of the comparison draws.
        title: of the page.
        question: a paragraph below it.
    """

    name: str
    recipe: Path
    variants: dict[str, dict[str, Any]]
    baseline: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    split: str = "dev"
    by: Literal["utterance", "speaker"] = "utterance"
    title: str = ""
    question: str = ""

    def arguments(self, variant: str, more: Sequence[str] = ()) -> list[str]:
        """The options of a variant as a recipe takes them; what is on the command line wins."""
        settings = {"name": variant} | self.options | self.variants[variant]
        return [f"--{name}={_scalar(value)}" for name, value in settings.items()] + list(more)


@dataclass(frozen=True)
class Outcome:
    """What became of one variant.

    Attributes:
        name: of the variant.
        results: its results.json.
        result: what was measured on the study's split.
        comparison: with the baseline; None for that itself.
        curves: by name (`training loss`, `dev loss`, `dev WER`), means over the folds where there are some:
            (epochs, values).
        seconds: of training, the folds included.
    """

    name: str
    results: Results
    result: SplitResult
    comparison: Comparison | None
    curves: dict[str, Points]
    seconds: float


def load_study(path: str | Path, *, options: Sequence[str] = ()) -> Study:
    """Read a study and see that each of its variants is a recipe that can be run.

    Args:
        path: a folder with a study.yaml, or that file under any name.
        options: overrides for all variants, such as `--training.epochs 3`.

    Raises:
        ConfigError: no such study, a key that does not exist, or a variant that is no recipe.
    """
    path = Path(path)
    path = path / STUDY_NAME if path.is_dir() else path
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no study there ({error}); give a folder with a {STUDY_NAME}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    study = _make_study(tree, path)
    for variant in study.variants:
        if not _NAME.fullmatch(variant):
            raise ConfigError(
                f"{path}: variant {variant!r}: a name must be letters, digits and any of `._+-`"
            )
        try:
            load_recipe(study.recipe, options=study.arguments(variant, options))
        except ConfigError as error:
            raise ConfigError(f"{path}: variant {variant}: {error}") from error
    return study


def _make_study(tree: object, path: Path) -> Study:
    known = {entry.name for entry in fields(Study)}
    if not isinstance(tree, dict) or not {"name", "recipe", "variants"} <= set(tree):
        raise ConfigError(f"{path}: a study has at least `name`, `recipe` and `variants`")
    if unknown := sorted(set(map(str, tree)) - known):
        raise ConfigError(f"{path}: unknown key `{unknown[0]}`; known: {', '.join(sorted(known))}")
    variants = tree["variants"]
    plain = isinstance(variants, dict) and all(isinstance(each, dict | None) for each in variants.values())
    if not plain or len(variants) < 2:
        raise ConfigError(f"{path}: variants must name two or more, each with a mapping of options to values")
    baseline = str(tree.get("baseline") or next(iter(variants)))
    if baseline not in variants:
        raise ConfigError(f"{path}: baseline {baseline!r} is none of {', '.join(map(str, variants))}")
    if tree.get("by", "utterance") not in ("utterance", "speaker"):
        raise ConfigError(f"{path}: by must be utterance or speaker, not {tree['by']!r}")
    if not isinstance(tree.get("options", {}), dict):
        raise ConfigError(f"{path}: options must be a mapping of options to values")
    tree = tree | {
        "baseline": baseline,
        "variants": {str(name): dict(each or {}) for name, each in variants.items()},
        "recipe": path.parent / str(tree["recipe"]),
    }
    return Study(**tree)


def _scalar(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def run_study(
    path: str | Path, *, options: Sequence[str] = (), output: str | Path = "exp", fresh: bool = False
) -> tuple[list[Outcome], list[str]]:
    """Run each variant, compare it with the baseline, and write `study.html`, `.svg`, `.md` and `.json`.

    Args:
        path: as in `load_study`.
        options: overrides for all variants.
        output: folder of all experiments.
        fresh: train all variants anew, whatever there is.

    Returns:
        What became of each variant, the baseline first; and what could not be recognised, a line each.

    Raises:
        AsrLstmError: what went wrong; variants that are done stand and are not done again.
    """
    from asr_lstm.study_page import write_study

    study = load_study(path, options=options)
    folder = Path(output) / study.name
    names = [study.baseline, *(name for name in study.variants if name != study.baseline)]
    failures: list[str] = []
    for number, name in enumerate(names, start=1):
        log.info("variant %d of %d: %s", number, len(names), name)
        run = RecipeRun(
            study.recipe, options=study.arguments(name, options), place=folder / name, fresh=fresh
        )
        failures += run.run()
        _check_split(study, read_results(folder / name / "results.json"), folder / name)
    outcomes = [read_outcome(study, name, folder) for name in names]
    write_study(folder, study, outcomes)
    return outcomes, list(dict.fromkeys(failures))


def read_outcome(study: Study, name: str, folder: Path) -> Outcome:
    """Read what a variant left in `folder/NAME`.

    Raises:
        ConfigError: the study's split was not recognised.
        DataError: files of the experiment are missing.
    """
    place = folder / name
    results = read_results(place / "results.json")
    _check_split(study, results, place)
    comparison = None
    if name != study.baseline:
        comparison = compare_folders(folder / study.baseline, place, split=study.split, by=study.by)
    folds = results.metrics.get("folds") or {}
    seconds = sum(fold.get("train_seconds") or 0.0 for fold in folds.values()) + (
        results.train_seconds or 0.0
    )
    result = results.splits[study.split][DECODER]
    return Outcome(name, results, result, comparison, _mean_curves(place), seconds)


def _check_split(study: Study, results: Results, place: Path) -> None:
    if study.split not in results.splits:
        known = ", ".join(results.splits)
        raise ConfigError(f"{place}: the study's split {study.split!r} was not recognised; there is {known}")


def _mean_curves(place: Path) -> dict[str, Points]:
    """The curves of an experiment; of one with folds, the means of those that its tests were recognised by."""
    folders = sorted(place.glob("folds/*")) or [place]
    runs = [by_epoch(read_curves(logs)) for folder in folders if (logs := find_logs(folder))]
    means: dict[str, Points] = {}
    for name in runs[0] if runs else ():
        values = [run[name] for run in runs if name in run]
        length = min(map(len, values))
        mean = np.mean([run[:length] for run in values], axis=0)
        known = np.flatnonzero(np.isfinite(mean))
        means[name] = ((known + 1.0).tolist(), mean[known].tolist())
    return means


def by_epoch(curves: dict[str, Curve]) -> dict[str, list[float]]:
    """A value for each epoch: of the training loss, which is logged at updates, the mean since the last epoch.

    Not a number, where none was logged since.
    """
    found = {
        name: list(curves[tag][1])
        for tag, name in (("dev_loss", "dev loss"), ("dev_wer", "dev WER"))
        if tag in curves
    }
    if "loss" in curves and "dev_loss" in curves:
        steps, losses = curves["loss"]
        ends = curves["dev_loss"][0]
        means = []
        for start, end in zip([-1, *ends], ends, strict=False):
            part = [loss for step, loss in zip(steps, losses, strict=True) if start < step <= end]
            means.append(sum(part) / len(part) if part else float("nan"))
        found["training loss"] = means
    return found


def study_command(path: str | Path, arguments: Sequence[str] = ()) -> int:
    """Run a study and print its table; see `run_study`. Returns 1 if something could not be recognised, else 0.

    Args:
        path: as in `load_study`.
        arguments: `--output exp`, `--fresh`, and options of the recipe for all variants.
    """
    import sys

    from asr_lstm.study_page import print_study

    parser = OptionParser(prog="asr-lstm study", add_help=False, allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=Path("exp"))
    parser.add_argument("--fresh", action="store_true")
    known, options = parser.parse_known_args(arguments)
    outcomes, failures = run_study(path, options=options, output=known.output, fresh=known.fresh)
    study = load_study(path, options=options)
    print_study(study, outcomes, folder=known.output / study.name)
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0
