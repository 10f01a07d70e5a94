"""`asr-lstm train --manifest FILE`: one's own speech, and settings that suit it and the time there is."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from asr_lstm.config import RECIPE_NAME
from asr_lstm.corpora.accents import find_accents
from asr_lstm.corpora.espeak import find_espeak
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.grid import OptionParser
from asr_lstm.manifest import iter_manifest
from asr_lstm.recipe import RecipeRun

MINUTES = 60.0
OUTPUT = Path("exp")
_PREPARE = "asr_lstm.corpora.manifests.prepare_manifests"


def train_command(arguments: Sequence[str]) -> int:
    """`asr-lstm train --manifest FILE`: split, choose settings, train, decode and report, as a recipe does.

    Args:
        arguments: `--manifest FILE`; `--dev FILE` to choose the model by, else a tenth is held out, by speaker where
            speakers are known; `--minutes 60` of training; `--lang CODE`, for synthetic speech to begin with;
            `--output exp/NAME`, by the manifest's name where it is left out; `--fresh`, to train anew; and any option
            of a recipe, which wins over what is chosen.

    Returns:
        The exit code: 0, or 1 where something failed and the rest was done.

    Raises:
        AsrLstmError: what went wrong, in one line.
    """
    parser = OptionParser(prog="asr-lstm train", add_help=False, allow_abbrev=False)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--dev", type=Path)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--lang", default="")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--fresh", action="store_true")
    known, options = parser.parse_known_args(arguments)
    if not 0 < known.minutes < math.inf:
        raise ConfigError(f"--minutes: must be above 0, not {known.minutes:g}")
    for manifest in filter(None, (known.manifest, known.dev)):
        _check_manifest(manifest)
    if known.lang:
        _check_language(known.lang)
    place = known.output or OUTPUT / known.manifest.stem
    recipe = _make_recipe(
        place, manifest=known.manifest, dev=known.dev, lang=known.lang, minutes=known.minutes
    )
    # Apart from the experiment, whose recipe.yaml has the settings of the last run: it stands until this one begins.
    with TemporaryDirectory() as folder:
        path = Path(folder) / RECIPE_NAME
        path.write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), encoding="utf-8")
        try:
            run = RecipeRun(folder, options=options, place=place, fresh=known.fresh)
            run.experiment.command = shlex.join(["asr-lstm", "train", *arguments])
            failures = run.run()
        except ConfigError as error:  # in the options, then: nobody else wrote this recipe
            raise ConfigError(str(error).replace(f"{path}: ", "")) from error
    for failure in failures:
        print(failure, file=sys.stderr)
    again = ["asr-lstm", "recipe", str(place)]
    if place.resolve() != (OUTPUT / place.resolve().name).resolve():
        again += ["--output", str(place.resolve().parent)]
    print(f"All settings stand in {place / RECIPE_NAME}; edit it, and go on with: {shlex.join(again)}")
    return 1 if failures else 0


def _check_manifest(manifest: Path) -> None:
    if next(iter_manifest(manifest), None) is None:
        raise DataError(f"{manifest}: the manifest is empty; give one JSON object a line")


def _check_language(lang: str) -> None:
    """Find a mistake in its code now; that espeak-ng is not there is no mistake, and the choice says so."""
    try:
        find_espeak()
    except ConfigError:
        return
    find_accents(lang)


def _make_recipe(
    place: Path, *, manifest: Path, dev: Path | None, lang: str, minutes: float
) -> dict[str, Any]:
    """A recipe that says no more than which data and how many minutes, and leaves the rest open.

    Raises:
        ConfigError: another experiment is there, which would be lost.
    """
    options = {"train": str(manifest.resolve()), "dev": str(dev.resolve()) if dev else "", "lang": lang}
    path = place / RECIPE_NAME
    if path.exists() and _trained_on(path) != options["train"]:
        raise ConfigError(
            f"{place}: holds an experiment on other data; choose another --output, such as exp/mine"
        )
    corpus = {"prepare": _PREPARE, "options": options}
    return {"name": place.resolve().name, "minutes": minutes, "corpus": corpus}


def _trained_on(path: Path) -> str:
    """The manifest of an experiment that this verb made, "" of another."""
    try:
        corpus = yaml.safe_load(path.read_text(encoding="utf-8"))["corpus"]
        return str(corpus["options"]["train"]) if corpus["prepare"] == _PREPARE else ""
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return ""
