"""Train, decode and score below one folder: what a recipe does once, and for each fold of a cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from asr_lstm.bootstrap import bootstrap_notes, bootstrap_recipe
from asr_lstm.bundle import UNITS_NAME, Bundle, load_bundle
from asr_lstm.config import Recipe
from asr_lstm.decoded import decode_stage, read_recognitions, write_recognitions
from asr_lstm.decoding.decoders import Parts, make_decoder
from asr_lstm.decoding.options import DecodingConfig
from asr_lstm.decoding.tune_weights import has_weights
from asr_lstm.decoding.tuned import TUNED_NAME, Tuned, load_tuned, save_tuned
from asr_lstm.errors import ConfigError
from asr_lstm.evaluate import DECODER, ScoredSplit, device_name, score_recognitions
from asr_lstm.init_from import bundle_digest
from asr_lstm.manifest import Loader, read_manifest
from asr_lstm.manifest_index import open_manifest
from asr_lstm.model_files import CONFIG_NAME, WEIGHTS_NAME
from asr_lstm.model_inputs import inputs_beside, known_inputs, model_settings
from asr_lstm.recognise import Recognitions, recognise_each
from asr_lstm.report import Results, read_results, write_results
from asr_lstm.resume import CHECKPOINTS_NAME, refuse_others
from asr_lstm.schedule import torch_device
from asr_lstm.spoken import SpokenTranscripts
from asr_lstm.stages import Stages, content_digest, tree_digest
from asr_lstm.tuning import describe_source, print_report, tune_bundle

# What results.json says of training.
_TRAINED = ("precision", "best_dev_wer", "resumed", "bootstrap_seconds")


class Experiment:
    """The stages that follow preparation, each skipped when done and unchanged.

    Each split in `results.json` has `manifests/SPLIT.jsonl` and `decoded/SPLIT.DECODER.jsonl` beside it.

    Args:
        recipe: model and training.
        folder: where everything goes.
        load: reads an utterance.
        command: what reproduces it, for results.json.
        console: for the preflight's summary.
        fresh: train anew, whatever there is.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        load: Loader,
        command: str,
        console: Console,
        fresh: bool = False,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.load = load
        self.command = command
        self.console = console
        self.fresh = fresh
        self.stages = Stages(folder / "stages.json")

    @property
    def model(self) -> Path:
        """The folder of the bundle."""
        return self.folder / "model"

    @property
    def _spoken(self) -> SpokenTranscripts:
        return SpokenTranscripts(self.recipe, self.folder / "bootstrap")

    def fold(self, name: str) -> Experiment:
        """The experiment of one fold, in the same layout below `folds/NAME`."""
        return self._within(self.folder / "folds" / name, self.recipe)

    def _within(self, folder: Path, recipe: Recipe) -> Experiment:
        """An experiment that is a part of this one."""
        return Experiment(
            recipe,
            folder,
            load=self.load,
            command=self.command,
            console=self.console,
            fresh=self.fresh,
        )

    def manifest_path(self, split: str) -> Path:
        """Where the utterances of a split stand."""
        return self.folder / "manifests" / f"{split}.jsonl"

    @property
    def decoding(self) -> DecodingConfig:
        """How texts are found."""
        return self.recipe.decoding

    def decoded_path(self, split: str, decoder: str = DECODER) -> Path:
        """Where what a decoder recognised of a split stands."""
        return self.folder / "decoded" / f"{split}.{decoder}.jsonl"

    def train(self, manifests: Mapping[str, Path]) -> None:
        """Train on `train`, choose by `dev`, and save the bundle.

        Raises:
            AsrLstmError: as in `asr_lstm.fit.fit`.
        """
        recipe, train, before = self.recipe, manifests["train"], 0.0
        known = known_inputs(recipe, manifests)
        if self._is_trained(known):
            return
        self._refuse_others(known)
        if spoken := self._spoken.make(train):
            if recipe.bootstrap.how == "begin":
                first = self._begin({"train": spoken, "dev": manifests["dev"]})
                before = first.stages.record("train")["train_seconds"]
                recipe = replace(recipe, training=replace(recipe.training, init=str(first.model)))
            else:
                train = spoken
        settings = model_settings(recipe)
        if init := settings["training"].pop("init"):
            if Path(init).resolve() == self.model.resolve():
                raise ConfigError(
                    f"training.init: {init} is where this recipe puts its own model; "
                    "copy it, or give the recipe another --name"
                )
            settings["init"] = bundle_digest(init)
        key = settings | inputs_beside(recipe, manifests["dev"]) | {"train": content_digest(train)}
        if fade := recipe.bootstrap.fading_epochs:
            key["fade"] = fade
        if not self.fresh and self.stages.done("train", key) is not None:
            return
        from asr_lstm.fit import fit  # Lightning takes seconds to import

        outcome = fit(
            recipe,
            train=open_manifest(train, self.recipe.text),
            dev=read_manifest(manifests["dev"]),
            load=self.load,
            output=self.folder,
            key=self.stages.digest(key),
            settings=key | known,
            fresh=self.fresh,
            console=self.console,
        )
        record = asdict(outcome)
        if before:
            record |= {
                "train_seconds": outcome.train_seconds + before,
                "bootstrap_seconds": before,
                "all": self.stages.digest(known),
            }
        self.stages.finish("train", key, record, outputs=self._outputs)

    def check_unfinished(self, manifests: Mapping[str, Path]) -> None:
        """See that no training that other settings began is under way: what it goes on from is not to be lost.

        Raises:
            ConfigError: there is one.
        """
        self._refuse_others(known_inputs(self.recipe, manifests))

    def _refuse_others(self, known: Mapping[str, Any]) -> None:
        if not self.fresh:
            refuse_others(self.folder / CHECKPOINTS_NAME, known)
            self._spoken.refuse_others(known["recordings"])

    def _is_trained(self, known: Mapping[str, Any]) -> bool:
        """Whether the model stands that began with synthetic speech, be that speech still there or not."""
        if self.fresh or not self.recipe.bootstrap.hours or not all(map(Path.exists, self._outputs)):
            return False
        try:
            return bool(self.stages.record("train").get("all") == self.stages.digest(known))
        except KeyError:
            return False

    @property
    def _outputs(self) -> list[Path]:
        """The files that training writes."""
        return [self.model / name for name in (CONFIG_NAME, WEIGHTS_NAME, UNITS_NAME)]

    def _begin(self, manifests: Mapping[str, Path]) -> Experiment:
        """The experiment whose model training begins from, learned from synthetic speech.

        That model is judged by the real `dev`, which shows how little of it carries over by itself.
        """
        first = self._within(self._spoken.folder, bootstrap_recipe(self.recipe))
        hours = self.recipe.bootstrap.hours
        self.console.print(f"synthetic speech to begin with, {hours:g} h:", highlight=False)
        first.train(manifests)
        return first

    def tune(self, dev: Path) -> None:
        """Find the weights of the decoders on dev, and calibrate their confidences; greedy decoding needs neither.

        Raises:
            AsrLstmError: as in `asr_lstm.tuning.tune_bundle`.
        """
        if not any(map(has_weights, self.decoding.decoders)):
            return
        key = self._decoding_key() | {"manifest": content_digest(dev)}
        if self.stages.done("tune", key) is not None:
            return
        bundle = load_bundle(self.model)
        bundle.tuned = Tuned()
        report = tune_bundle(
            bundle,
            read_manifest(dev),
            self.decoding,
            load=self.load,
            batch_seconds=self.recipe.data.eval_seconds,
            device=torch_device(self.recipe.training),
            source=describe_source(dev, self.decoding),
        )
        save_tuned(self.model, report.tuned)
        print_report(report, self.console)
        self.stages.finish("tune", key, report.tuned.weights, outputs=[self.model / TUNED_NAME])

    def decode(self, manifests: Mapping[str, Path]) -> dict[str, Path]:
        """Recognise every split but `train` with each decoder; returns the files of greedy decoding by split.

        The decoders' weights are tuned first, on `dev`.
        """
        if "dev" in manifests:
            self.tune(manifests["dev"])
        splits = {split: manifest for split, manifest in manifests.items() if split != "train"}
        bundle: Bundle | None = None
        for split, manifest in splits.items():
            keys = self._decode_keys(manifest)
            left = [
                name for name, key in keys.items() if self.stages.done(decode_stage(split, name), key) is None
            ]
            if not left:
                continue
            bundle = bundle or load_bundle(self.model)
            parts = Parts(self.decoding, bundle.units)
            found = recognise_each(
                bundle,
                read_manifest(manifest),
                [make_decoder(name, parts, bundle.tuned) for name in left],
                load=self.load,
                batch_seconds=self.recipe.data.eval_seconds,
                device=torch_device(self.recipe.training),
            )
            for name, recognitions in found.items():
                path = self.decoded_path(split, name)
                write_recognitions(path, recognitions)
                record = {"seconds": recognitions.seconds, "audio_seconds": recognitions.audio_seconds}
                self.stages.finish(decode_stage(split, name), keys[name], record, outputs=[path])
        return {split: self.decoded_path(split) for split in splits}

    def _decode_keys(self, manifest: Path) -> dict[str, dict[str, Any]]:
        """By decoder, all that its texts of a split depend on."""
        keys: dict[str, dict[str, Any]] = {}
        shared = {"manifest": content_digest(manifest)}
        for name in self.decoding.decoders:
            keys[name] = {"model": content_digest(self.model / WEIGHTS_NAME), **shared}
            if name != DECODER:
                keys[name] |= self._decoding_key() | {"tuned": load_tuned(self.model).weights}
        return keys

    def _decoding_key(self) -> dict[str, Any]:
        return {
            "model": content_digest(self.model / WEIGHTS_NAME),
            "decoding": asdict(self.decoding),
            "files": tree_digest(self.decoding.files),
        }

    def recognitions(self, split: str, decoder: str = DECODER) -> Recognitions:
        """What a decoder recognised in a split, and the time that it took."""
        record = self.stages.record(decode_stage(split, decoder))
        return read_recognitions(self.decoded_path(split, decoder), **record)

    def score(
        self,
        manifests: Mapping[str, Path],
        decoded: Mapping[str, Path],
        *,
        notes: Sequence[str],
        metrics: Mapping[str, Any] | None = None,
    ) -> Results:
        """Score the recognitions of each split and write `results.json`.

        Args:
            manifests: with the reference texts.
            decoded: by split, as `decode` returns it.
            notes: what a reader must know.
            metrics: further figures.
        """
        path = self.folder / "results.json"
        trained = self.stages.record("train")
        decoders = self.decoding.decoders
        pairs = [(split, name) for split in decoded for name in decoders]
        key = {
            "decoded": {decode_stage(*pair): content_digest(self.decoded_path(*pair)) for pair in pairs},
            "references": {split: content_digest(manifests[split]) for split in decoded},
            "speed": {decode_stage(*pair): self.stages.record(decode_stage(*pair)) for pair in pairs},
            "notes": list(notes),
            "bootstrap": asdict(self.recipe.bootstrap),
            "train": trained,
            **({"metrics": metrics} if metrics else {}),
        }
        if self.stages.done("score", key) is None:
            splits, remarks = {}, [*notes, *bootstrap_notes(self.recipe.bootstrap)]
            for split in decoded:
                scored = {name: self._score(manifests[split], split, name) for name in decoders}
                splits[split] = {name: one.result for name, one in scored.items()}
                remarks += [f"{split}: {note}" for note in scored[DECODER].notes]
            if "dev" in decoded and any(map(has_weights, decoders)):
                remarks.append(
                    "dev: the weights of its decoders were tuned on dev itself; tune --folds does better"
                )
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
                metrics={name: trained[name] for name in _TRAINED if name in trained} | dict(metrics or {}),
                notes=remarks,
            )
            write_results(path, results)
            self.stages.finish("score", key, {}, outputs=[path])
        return read_results(path)

    def _score(self, manifest: Path, split: str, decoder: str) -> ScoredSplit:
        return score_recognitions(
            read_manifest(manifest),
            self.recognitions(split, decoder),
            normaliser=self.recipe.text,
            seed=self.recipe.seed,
        )
