"""The one runner of recipes: prepare, train, decode, score, report, each skipped when done and unchanged."""

from __future__ import annotations

import inspect
import os
import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from asr_lstm.audio import load_utterance
from asr_lstm.choices import settle
from asr_lstm.config import RECIPE_NAME, Recipe, load_recipe, write_settings
from asr_lstm.console import ReaderConsole
from asr_lstm.corpora import Prepared
from asr_lstm.corpora.splits import shared_recordings
from asr_lstm.defaults import LEFT_OPEN, choose_settings
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.experiment import Experiment
from asr_lstm.folds import FOLD_NOTE, run_folds
from asr_lstm.functions import find_function
from asr_lstm.lock import folder_lock
from asr_lstm.manifest import Loader, Utterance, read_manifest, write_manifest
from asr_lstm.model_card import model_card
from asr_lstm.model_files import WEIGHTS_NAME, write_card
from asr_lstm.report import Results, results_table, worst_alignments
from asr_lstm.report_page import write_report_page
from asr_lstm.stages import content_digest, tree_digest

# A fold's name is that of its folder and of a split.
_FOLD_NAME = re.compile(r"\w[\w.-]*")


class RecipeRun:
    """A recipe on its way through the stages, below `output/NAME/`.

    Args:
        folder: of the recipe.
        options: overrides of recipe.yaml, such as `--training.epochs 3`.
        output: folder of all experiments.
        place: folder of this one; `output/NAME` by default.
        fresh: train anew, whatever there is.
        console: for tables; standard output by default.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        options: Sequence[str] = (),
        output: str | Path = "exp",
        place: Path | None = None,
        fresh: bool = False,
        console: Console | None = None,
    ) -> None:
        self.recipe: Recipe = load_recipe(folder, options=options)
        self._settings = partial(load_recipe, folder, options=options)
        self.folder = Path(folder) if Path(folder).is_dir() else Path(folder).parent
        self.console = console or ReaderConsole()
        variables = [f"{name}={os.environ[name]}" for name in self.recipe.environment if os.environ.get(name)]
        self.experiment = Experiment(
            self.recipe,
            place or Path(output) / self.recipe.name,
            load=self._loader(),
            command=shlex.join([*variables, "asr-lstm", "recipe", str(folder), *options]),
            console=self.console,
            fresh=fresh,
        )

    def run(self, prepared: Prepared | None = None) -> list[str]:
        """Go through all stages, those of the folds first where the corpus has some.

        Args:
            prepared: the data, where another run has prepared it.

        Returns:
            What could not be recognised, a line each; everything else was done.

        Raises:
            AsrLstmError: what went wrong, or another process is at work in the experiment's folder; what was done
                before it stands and is not done again.
        """
        with folder_lock(self.experiment.folder):
            prepared = _put_in_place(prepared, self.experiment) if prepared else self.prepare()
            remarks = self._choose(prepared.manifests["train"]) if self.recipe.minutes else []
            self.experiment.check_unfinished(prepared.manifests)
            write_settings(self.experiment.folder / RECIPE_NAME, self.recipe, remarks=remarks)
            return self._train_and_test(prepared)

    def _choose(self, train: Path) -> list[str]:
        """Settle what the recipe leaves open, and say it: a line for each setting, with the reason."""
        choices, about = choose_settings(train, self._settings(chosen=LEFT_OPEN))
        self.recipe = replace(settle(choices, lambda options: self._settings(chosen=options)), minutes=0.0)
        self.experiment.recipe, self.experiment.load = self.recipe, self._loader()
        lines = [about, *(choice.line for choice in choices if choice.holds(self.recipe))]
        for line in lines:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        return lines

    def _train_and_test(self, prepared: Prepared) -> list[str]:
        experiment = self.experiment
        tests = run_folds(experiment, prepared.folds)
        experiment.train(prepared.manifests)
        decoded = experiment.decode(prepared.manifests) | tests.decoded
        manifests = prepared.manifests | tests.manifests
        notes, metrics = prepared.notes, {}
        if prepared.folds:
            notes, metrics = [*notes, FOLD_NOTE], {"folds": tests.trained}
        results = experiment.score(manifests, decoded, notes=notes, metrics=metrics)
        self._report(manifests, results)
        items = [item for split in decoded for item in experiment.recognitions(split).items]
        return list(dict.fromkeys(str(item.error) for item in items if item.error is not None))

    def prepare(self) -> Prepared:
        """The first stage: write the manifests, each at `manifests/SPLIT.jsonl`."""
        corpus, stages = self.recipe.corpus, self.experiment.stages
        prepare = find_function(corpus.prepare, beside=self.folder)
        options = _check_options(prepare, corpus.options, name=corpus.prepare)
        key = {
            "prepare": corpus.prepare,
            "options": options,
            "inputs": tree_digest(options.values()),
            "code": _code_digest(prepare),
        }
        if (record := stages.done("prepare", key)) is None:
            try:
                prepared = prepare(output=self.experiment.folder / "manifests", **corpus.options)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"corpus.options: {error}") from error
            if not isinstance(prepared, Prepared):
                prepared = Prepared(dict(prepared))
            _check_prepared(prepared, name=corpus.prepare)
            depends = prepared.depends
            prepared = _put_in_place(prepared, self.experiment)
            record = _to_record(prepared)
            stages.finish("prepare", key, record, outputs=[*_all_manifests(prepared), *depends])
        return _from_record(record)

    def _report(self, manifests: Mapping[str, Path], results: Results) -> None:
        experiment = self.experiment
        write_card(experiment.model, model_card(results, self.recipe))
        page = self._page(results)
        self.console.print(results_table(results))
        split = list(results.splits)[-1]
        utterances = read_manifest(manifests[split])
        self.console.print(f"The worst utterances of {split}:\n", highlight=False)
        self.console.print(
            worst_alignments(
                [self.recipe.text(utterance.text) for utterance in utterances],
                [self.recipe.text(text) for text in experiment.recognitions(split).texts],
                [utterance.id for utterance in utterances],
                width=self.console.width,
            )
        )
        paths = f"Model: {experiment.model}   Results: {experiment.folder / 'results.json'}   Look: {page}"
        self.console.print(paths, highlight=False, soft_wrap=True)

    def _page(self, results: Results) -> Path:
        experiment = self.experiment
        sources = [experiment.folder / name for name in ("results.json", RECIPE_NAME)]
        sources += [experiment.model / WEIGHTS_NAME]
        sources += [experiment.decoded_path(split) for split in results.splits]
        key = {"sources": [content_digest(path) for path in sources]}
        if experiment.stages.done("report", key) is None:
            page = write_report_page(experiment.folder)
            experiment.stages.finish("report", key, {"page": str(page)}, outputs=[page])
        return Path(experiment.stages.record("report")["page"])

    def _loader(self) -> Loader:
        if self.recipe.corpus.load:
            return find_function(self.recipe.corpus.load, beside=self.folder)
        return partial(load_utterance, rate=self.recipe.features.rate)


def _check_options(function: Callable[..., Any], options: dict[str, Any], *, name: str) -> dict[str, Any]:
    """All options of a corpus function, defaults included."""
    signature = inspect.signature(function)
    try:
        bound = signature.bind(output=Path(), **options)
    except TypeError as error:
        known = ", ".join(option for option in signature.parameters if option != "output")
        raise ConfigError(f"corpus.options: {error}; {name} takes {known or 'none'}") from error
    bound.apply_defaults()
    return {option: value for option, value in bound.arguments.items() if option != "output"}


def _code_digest(function: Callable[..., Any]) -> str:
    """A digest of the files beside the one that defines a corpus function: other code may give other data."""
    source = inspect.getsourcefile(inspect.unwrap(function))
    files = sorted(Path(source).parent.glob("*.py")) if source else []
    return " ".join(content_digest(file) for file in files)


def _check_prepared(prepared: Prepared, *, name: str) -> None:
    """Check the splits of a corpus and of its folds, and note what they share."""
    _check_splits(prepared, name=name)
    for fold, part in prepared.folds.items():
        if not _FOLD_NAME.fullmatch(fold):
            raise DataError(
                f"{name} gave a fold {fold!r}; its name must be letters, digits, `.`, `_` and `-`"
            )
        _check_splits(part, name=f"{name}, fold {fold}", needed=("train", "dev", "test"))
        if part.folds:
            raise DataError(f"{name}, fold {fold}: has folds of its own; give all folds side by side")
    taken = {"test", *(f"test-{fold}" for fold in prepared.folds)} & set(prepared.manifests)
    if prepared.folds and taken:
        raise DataError(
            f"{name} gave folds and a split `{min(taken)}`, the name of what the folds test; rename it"
        )


def _check_splits(prepared: Prepared, *, name: str, needed: Sequence[str] = ("train", "dev")) -> None:
    """Training must share no recording with what it is judged by; a shared speaker is worth a note."""
    for split in needed:
        if split not in prepared.manifests:
            raise DataError(f"the corpus gave no `{split}` split; {name} must write one")
    train = read_manifest(prepared.manifests["train"])
    heard = _stretches(train)
    speakers = {row.speaker for row in train} - {""}
    for split, manifest in prepared.manifests.items():
        if split == "train":
            continue
        rows = read_manifest(manifest)
        if shared := [row for row in rows if _is_heard(row, heard)]:
            raise DataError(
                f"{manifest}: {shared[0].path} is also in the training data, and so are {len(shared) - 1} others; "
                "a split must not be tested on what was trained on"
            )
        notes = shared_recordings(split, rows, heard)
        prepared.notes.extend(note for note in notes if note not in prepared.notes)
        if known := {row.speaker for row in rows} & speakers:
            prepared.notes.append(
                f"{split}: also in the training data: {len(known)} of its speakers; "
                "the rates say little about new speakers"
            )


def _stretches(rows: Iterable[Utterance]) -> dict[Path, list[tuple[float, float]]]:
    """Begin and end of the utterances of each recording, in seconds."""
    found: dict[Path, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        found[row.path].append((row.offset, row.offset + row.duration))
    return found


def _is_heard(row: Utterance, heard: Mapping[Path, Sequence[tuple[float, float]]]) -> bool:
    """Whether more than half of an utterance lies in one of those stretches: cuts may overlap a little."""
    end = row.offset + row.duration
    return any(
        row.offset == begin or min(end, stop) - max(row.offset, begin) > row.duration / 2
        for begin, stop in heard.get(row.path, ())
    )


def _put_in_place(prepared: Prepared, experiment: Experiment) -> Prepared:
    """The same manifests at `manifests/SPLIT.jsonl` of the experiment, and so for its folds."""
    manifests = {}
    for split, path in prepared.manifests.items():
        manifests[split] = place = experiment.manifest_path(split)
        if path.resolve() != place.resolve():
            write_manifest(place, read_manifest(path))
    folds = {name: _put_in_place(part, experiment.fold(name)) for name, part in prepared.folds.items()}
    return Prepared(manifests, prepared.notes, folds=folds)


def _all_manifests(prepared: Prepared) -> list[Path]:
    folds = [path for part in prepared.folds.values() for path in _all_manifests(part)]
    return [*prepared.manifests.values(), *folds]


def _to_record(prepared: Prepared) -> dict[str, Any]:
    return {
        "manifests": {split: str(path) for split, path in prepared.manifests.items()},
        "notes": prepared.notes,
        "folds": {name: _to_record(part) for name, part in prepared.folds.items()},
    }


def _from_record(record: Mapping[str, Any]) -> Prepared:
    return Prepared(
        manifests={split: Path(path) for split, path in record["manifests"].items()},
        notes=list(record["notes"]),
        # A record that an earlier version wrote has no folds.
        folds={name: _from_record(part) for name, part in record.get("folds", {}).items()},
    )


def run_recipe(folder: str | Path, *, options: Sequence[str] = (), output: str | Path = "exp") -> list[str]:
    """Run a recipe through all its stages; see `RecipeRun`. Returns what could not be recognised, a line each."""
    return RecipeRun(folder, options=options, output=output).run()
