"""The one runner of recipes: prepare, train, decode, score, report, each skipped when done and unchanged."""

from __future__ import annotations

import inspect
import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from asr_lstm.audio import load_utterance
from asr_lstm.bundle import CONFIG_NAME, UNITS_NAME, WEIGHTS_NAME, Bundle, load_bundle, write_card
from asr_lstm.config import Recipe, load_recipe
from asr_lstm.corpora import Prepared
from asr_lstm.errors import AudioError, ConfigError, DataError
from asr_lstm.evaluate import DECODER, device_name, score_recognitions
from asr_lstm.files import atomic_write
from asr_lstm.functions import find_function
from asr_lstm.manifest import Loader, read_manifest
from asr_lstm.recognise import Recognition, Recognitions, recognise
from asr_lstm.report import (
    Results,
    read_results,
    results_markdown,
    results_table,
    worst_alignments,
    write_results,
)
from asr_lstm.schedule import torch_device
from asr_lstm.stages import Stages, content_digest, tree_digest

# Settings that change how fast a model comes, but not the model.
_NOT_THE_MODEL = (
    ("data", "workers"),
    ("data", "cache_gib"),
    ("data", "eval_seconds"),
    ("training", "device"),
)


class RecipeRun:
    """A recipe on its way through the stages, below `output/NAME/`.

    Args:
        folder: of the recipe.
        options: overrides of recipe.yaml, such as `--training.epochs 3`.
        output: folder of all experiments.
        console: for tables; standard output by default.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        options: Sequence[str] = (),
        output: str | Path = "exp",
        console: Console | None = None,
    ) -> None:
        self.recipe: Recipe = load_recipe(folder, options=options)
        self.folder = Path(folder) if Path(folder).is_dir() else Path(folder).parent
        self.output = Path(output) / self.recipe.name
        variables = [f"{name}={os.environ[name]}" for name in self.recipe.environment if os.environ.get(name)]
        self.command = shlex.join([*variables, "asr-lstm", "recipe", str(folder), *options])
        self.console = console or Console()
        self.stages = Stages(self.output / "stages.json")

    def run(self) -> list[str]:
        """Go through all stages.

        Returns:
            What could not be recognised, a line each; everything else was done.

        Raises:
            AsrLstmError: what went wrong; what was done before it stands and is not done again.
        """
        prepared = self._prepare()
        bundle_folder = self._train(prepared)
        decoded = self._decode(prepared, bundle_folder)
        results = self._score(prepared, decoded)
        self._report(prepared, decoded, results, bundle_folder)
        items = [item for file in decoded.values() for item in read_recognitions(file).items]
        return [str(item.error) for item in items if item.error is not None]

    def _prepare(self) -> Prepared:
        corpus = self.recipe.corpus
        prepare = find_function(corpus.prepare, beside=self.folder)
        options = _check_options(prepare, corpus.options, name=corpus.prepare)
        target = self.output / "manifests"
        key = {
            "prepare": corpus.prepare,
            "options": options,
            "inputs": tree_digest(options.values()),
            "code": _code_digest(prepare),
        }
        if (record := self.stages.done("prepare", key)) is None:
            try:
                prepared = prepare(output=target, **corpus.options)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"corpus.options: {error}") from error
            if not isinstance(prepared, Prepared):
                prepared = Prepared(dict(prepared))
            _check_splits(prepared, name=corpus.prepare)
            record = {
                "manifests": {split: str(path) for split, path in prepared.manifests.items()},
                "notes": list(prepared.notes),
            }
            outputs = [*prepared.manifests.values(), *prepared.depends]
            self.stages.finish("prepare", key, record, outputs=outputs)
        return Prepared({split: Path(path) for split, path in record["manifests"].items()}, record["notes"])

    def _train(self, prepared: Prepared) -> Path:
        recipe, folder = self.recipe, self.output / "model"
        sections = asdict(recipe)
        for name in ("corpus", "environment"):
            del sections[name]
        for section, name in _NOT_THE_MODEL:
            del sections[section][name]
        key = sections | {
            "load": recipe.corpus.load,
            "train": content_digest(prepared.manifests["train"]),
            "dev": content_digest(prepared.manifests["dev"]),
        }
        if self.stages.done("train", key) is None:
            from asr_lstm.fit import fit  # Lightning takes seconds to import

            outcome = fit(
                recipe,
                train=read_manifest(prepared.manifests["train"]),
                dev=read_manifest(prepared.manifests["dev"]),
                load=self._loader(),
                output=self.output,
                key=self.stages.digest(key),
                console=self.console,
            )
            outputs = [folder / name for name in (CONFIG_NAME, WEIGHTS_NAME, UNITS_NAME)]
            self.stages.finish("train", key, asdict(outcome), outputs=outputs)
        return folder

    def _decode(self, prepared: Prepared, bundle_folder: Path) -> dict[str, Path]:
        weights = content_digest(bundle_folder / WEIGHTS_NAME)
        bundle: Bundle | None = None
        decoded = {}
        for split, manifest in prepared.manifests.items():
            if split == "train":
                continue
            path = self.output / "decoded" / f"{split}.{DECODER}.jsonl"
            key = {"model": weights, "manifest": content_digest(manifest)}
            if self.stages.done(f"decode {split}", key) is None:
                bundle = bundle or load_bundle(bundle_folder)
                recognitions = recognise(
                    bundle,
                    read_manifest(manifest),
                    load=self._loader(),
                    batch_seconds=self.recipe.data.eval_seconds,
                    device=torch_device(self.recipe.training),
                )
                write_recognitions(path, recognitions)
                record = {"seconds": recognitions.seconds, "audio_seconds": recognitions.audio_seconds}
                self.stages.finish(f"decode {split}", key, record, outputs=[path])
            decoded[split] = path
        return decoded

    def _score(self, prepared: Prepared, decoded: dict[str, Path]) -> Results:
        path = self.output / "results.json"
        trained = self.stages.record("train")
        key = {
            "decoded": {split: content_digest(file) for split, file in decoded.items()},
            "references": {split: content_digest(prepared.manifests[split]) for split in decoded},
            "speed": {split: self.stages.record(f"decode {split}") for split in decoded},
            "notes": prepared.notes,
            "train": trained,
        }
        if self.stages.done("score", key) is None:
            splits, notes = {}, list(prepared.notes)
            for split, file in decoded.items():
                scored = score_recognitions(
                    read_manifest(prepared.manifests[split]),
                    read_recognitions(file, **self.stages.record(f"decode {split}")),
                    normaliser=self.recipe.text,
                    seed=self.recipe.seed,
                )
                splits[split] = {DECODER: scored.result}
                notes += [f"{split}: {note}" for note in scored.notes]
            results = Results(
                recipe=self.recipe.name,
                seed=self.recipe.seed,
                command=self.command,
                device=device_name(torch_device(self.recipe.training)),
                cores=torch.get_num_threads(),
                parameters=trained["parameters"],
                train_seconds=trained["train_seconds"],
                train_hours_of_audio=trained["train_hours_of_audio"],
                splits=splits,
                metrics={name: trained[name] for name in ("precision", "best_dev_wer")},
                notes=notes,
            )
            write_results(path, results)
            self.stages.finish("score", key, {}, outputs=[path])
        return read_results(path)

    def _report(self, prepared: Prepared, decoded: dict[str, Path], results: Results, folder: Path) -> None:
        write_card(folder, model_card(results, self.recipe))
        self.console.print(results_table(results))
        split = list(decoded)[-1]
        utterances = read_manifest(prepared.manifests[split])
        self.console.print(f"The worst utterances of {split}:\n", highlight=False)
        self.console.print(
            worst_alignments(
                [self.recipe.text(utterance.text) for utterance in utterances],
                [self.recipe.text(item.text) for item in read_recognitions(decoded[split]).items],
                [utterance.id for utterance in utterances],
                width=self.console.width,
            )
        )
        paths = f"Model: {folder}   Results: {self.output / 'results.json'}"
        self.console.print(paths, highlight=False, soft_wrap=True)

    def _loader(self) -> Loader:
        if self.recipe.corpus.load:
            return find_function(self.recipe.corpus.load, beside=self.folder)
        return partial(load_utterance, rate=self.recipe.features.rate)


def write_recognitions(path: Path, recognitions: Recognitions) -> None:
    """Write what was recognised, a JSON object for each utterance in the manifest's order."""
    with atomic_write(path) as file:
        for item in recognitions.items:
            row: dict[str, Any] = {"text": item.text}
            if item.error is not None:
                row["error"] = str(item.error)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_recognitions(path: Path, *, seconds: float = 0.0, audio_seconds: float = 0.0) -> Recognitions:
    """Read what `write_recognitions` wrote; the seconds are remembered elsewhere."""
    items = []
    for index, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        error = AudioError(row["error"]) if "error" in row else None
        items.append(Recognition(index, row["text"], error))
    return Recognitions(items, seconds, audio_seconds)


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


def _check_splits(prepared: Prepared, *, name: str) -> None:
    """Training must share no recording with what it is judged by; a shared speaker is worth a note."""
    for split in ("train", "dev"):
        if split not in prepared.manifests:
            raise DataError(f"the corpus gave no `{split}` split; {name} must write one")
    train = read_manifest(prepared.manifests["train"])
    heard = {(row.path, row.offset) for row in train}
    speakers = {row.speaker for row in train} - {""}
    for split, manifest in prepared.manifests.items():
        if split == "train":
            continue
        rows = read_manifest(manifest)
        if shared := [row for row in rows if (row.path, row.offset) in heard]:
            raise DataError(
                f"{manifest}: {shared[0].path} is also in the training data, and so are {len(shared) - 1} others; "
                "a split must not be tested on what was trained on"
            )
        if known := {row.speaker for row in rows} & speakers:
            prepared.notes.append(
                f"{split}: {len(known)} of its speakers are also in the training data; "
                "the rates say little about new speakers"
            )


def model_card(results: Results, recipe: Recipe) -> str:
    """The README.md of a trained bundle: what it is, what it learned from, what was measured."""
    encoder = recipe.encoder
    kind = "bidirectional" if encoder.bidirectional else "unidirectional"
    return (
        f"# {recipe.name}\n\n"
        f"A speech recogniser made by asr_lstm: {encoder.layers} {kind} LSTM layers of {encoder.hidden} a direction "
        f"with variational dropout, trained with CTC on {results.train_hours_of_audio or 0:.1f} h.\n"
        "\n"
        f"{results_markdown(results)}\n"
        "Use: `asr-lstm transcribe --model THIS_FOLDER FILE...`\n"
    )


def run_recipe(folder: str | Path, *, options: Sequence[str] = (), output: str | Path = "exp") -> list[str]:
    """Run a recipe through all its stages; see `RecipeRun`. Returns what could not be recognised, a line each."""
    return RecipeRun(folder, options=options, output=output).run()
