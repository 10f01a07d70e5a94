"""The one runner of recipes: prepare, train, decode, score, report, each skipped when done and unchanged."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from asr_lstm.bundle import Bundle, load_bundle, write_card
from asr_lstm.config import Recipe, load_recipe
from asr_lstm.corpora import Prepared
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.evaluate import decode_split, device_name, read_decoded, score_split, write_decoded
from asr_lstm.manifest import read_manifest
from asr_lstm.report import (
    Results,
    read_results,
    results_markdown,
    results_table,
    worst_alignments,
    write_results,
)
from asr_lstm.stages import Stages, content_digest, tree_digest

log = logging.getLogger(__name__)

DECODER = "greedy"


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
        self.command = shlex.join(["asr-lstm", "recipe", str(folder), *options])
        self.console = console or Console()
        self.stages = Stages(self.output / "stages.json")

    def run(self) -> Results:
        """Go through all stages.

        Raises:
            AsrLstmError: what went wrong; what was done before it stands and is not done again.
        """
        prepared = self._prepare()
        bundle_folder = self._train(prepared)
        decoded = self._decode(prepared, bundle_folder)
        results = self._score(prepared, decoded, bundle_folder)
        self._report(results, decoded, bundle_folder)
        return results

    def _prepare(self) -> Prepared:
        corpus = self.recipe.corpus
        prepare = find_function(corpus.prepare, beside=self.folder)
        _check_options(prepare, corpus.options, name=corpus.prepare)
        target = self.output / "manifests"
        key = {
            "prepare": corpus.prepare,
            "options": corpus.options,
            "inputs": tree_digest(corpus.options.values()),
        }
        if (record := self.stages.done("prepare", key)) is None:
            prepared = prepare(output=target, **corpus.options)
            if not isinstance(prepared, Prepared):
                prepared = Prepared(dict(prepared))
            record = {
                "manifests": {split: str(path) for split, path in prepared.manifests.items()},
                "notes": list(prepared.notes),
            }
            self.stages.finish("prepare", key, record, outputs=prepared.manifests.values())
        prepared = Prepared(
            {split: Path(path) for split, path in record["manifests"].items()}, record["notes"]
        )
        for split in ("train", "dev"):
            if split not in prepared.manifests:
                raise DataError(
                    f"{target}: the corpus gave no `{split}` split; {corpus.prepare} must write one"
                )
        for note in prepared.notes:
            log.warning("%s", note)
        return prepared

    def _train(self, prepared: Prepared) -> Path:
        recipe, folder = self.recipe, self.output / "model"
        sections = {
            name: value for name, value in asdict(recipe).items() if name not in ("corpus", "environment")
        }
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
            self.stages.finish("train", key, asdict(outcome), outputs=[folder / "config.yaml"])
        return folder

    def _decode(self, prepared: Prepared, bundle_folder: Path) -> dict[str, Path]:
        weights = content_digest(bundle_folder / "model.safetensors")
        bundle: Bundle | None = None
        decoded = {}
        for split, manifest in prepared.manifests.items():
            if split == "train":
                continue
            stage = f"decode {split}"
            path = self.output / "decoded" / f"{split}.{DECODER}.jsonl"
            key = {"model": weights, "manifest": content_digest(manifest)}
            if self.stages.done(stage, key) is None:
                bundle = bundle or load_bundle(bundle_folder)
                log.info("decoding %s", split)
                rows, rtf = decode_split(bundle, read_manifest(manifest), load=self._loader(bundle))
                write_decoded(path, rows)
                self.stages.finish(stage, key, {"rtf": rtf}, outputs=[path])
            decoded[split] = path
        return decoded

    def _score(self, prepared: Prepared, decoded: dict[str, Path], bundle_folder: Path) -> Results:
        path = self.output / "results.json"
        trained = self.stages.record("train")
        key = {
            "decoded": {split: content_digest(file) for split, file in decoded.items()},
            "notes": prepared.notes,
            "train": trained,
        }
        if self.stages.done("score", key) is None:
            results = Results(
                recipe=self.recipe.name,
                seed=self.recipe.seed,
                command=self.command,
                device=device_name(),
                cores=os.cpu_count() or 1,
                parameters=trained["parameters"],
                train_seconds=trained["train_seconds"],
                train_hours_of_audio=trained["train_hours_of_audio"],
                splits={
                    split: {
                        DECODER: score_split(
                            read_decoded(file), rtf=self.stages.record(f"decode {split}")["rtf"]
                        )
                    }
                    for split, file in decoded.items()
                },
                notes=prepared.notes,
            )
            write_results(path, results)
            self.stages.finish("score", key, {}, outputs=[path])
        return read_results(path)

    def _report(self, results: Results, decoded: dict[str, Path], bundle_folder: Path) -> None:
        write_card(bundle_folder, model_card(results, self.recipe))
        self.console.print(results_table(results))
        last = list(decoded)[-1]
        rows = read_decoded(decoded[last])
        self.console.print(f"The worst utterances of {last}:\n")
        self.console.print(
            worst_alignments(
                [row.reference for row in rows],
                [row.hypothesis for row in rows],
                [row.id for row in rows],
                width=self.console.width,
            )
        )
        for note in results.notes:
            self.console.print(f"Note: {note}", highlight=False)
        self.console.print(
            f"Model: {bundle_folder}   Results: {self.output / 'results.json'}", highlight=False
        )

    def _loader(self, bundle: Bundle | None = None) -> Callable[..., Any]:
        if self.recipe.corpus.load:
            return find_function(self.recipe.corpus.load, beside=self.folder)
        from functools import partial

        from asr_lstm.audio import load_utterance

        return partial(load_utterance, rate=self.recipe.features.rate)


def find_function(name: str, *, beside: Path) -> Callable[..., Any]:
    """Import `package.module.function`; a module may stand beside the recipe.

    Raises:
        ConfigError: there is no such module or function.
    """
    module_name, _, function_name = name.rpartition(".")
    if not module_name:
        raise ConfigError(f"{name}: not a dotted name of a function, such as package.module.function")
    folder = str(beside.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return getattr(importlib.import_module(module_name), function_name)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{name}: cannot be imported ({error}); is it beside recipe.yaml, or installed?"
        ) from error
    except AttributeError as error:
        raise ConfigError(f"{name}: module {module_name} has no `{function_name}`") from error


def _check_options(function: Callable[..., Any], options: dict[str, Any], *, name: str) -> None:
    try:
        inspect.signature(function).bind(output=Path(), **options)
    except TypeError as error:
        known = [option for option in inspect.signature(function).parameters if option != "output"]
        raise ConfigError(f"corpus.options: {error}; {name} takes {', '.join(known) or 'none'}") from error


def model_card(results: Results, recipe: Recipe) -> str:
    """The README.md of a trained bundle: what it is, what it learned from, what was measured."""
    encoder = recipe.encoder
    kind = "bidirectional" if encoder.bidirectional else "unidirectional"
    notes = "".join(f"\n> {note}\n" for note in results.notes)
    return (
        f"# {recipe.name}\n\n"
        f"A speech recogniser made by asr_lstm: {encoder.layers} {kind} LSTM layers of {encoder.hidden} a direction "
        f"with variational dropout, trained with CTC on {results.train_hours_of_audio or 0:.1f} h.\n"
        f"{notes}\n"
        f"{results_markdown(results)}\n"
        "Use: `asr-lstm transcribe --model THIS_FOLDER FILE...`\n"
    )


def run_recipe(folder: str | Path, *, options: Sequence[str] = (), output: str | Path = "exp") -> Results:
    """Run a recipe through all its stages; see `RecipeRun`."""
    return RecipeRun(folder, options=options, output=output).run()
