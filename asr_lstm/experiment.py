"""Train, decode and score below one folder: what a recipe does once, and for each fold of a cross-validation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from asr_lstm.bundle import CONFIG_NAME, UNITS_NAME, WEIGHTS_NAME, Bundle, load_bundle
from asr_lstm.config import Recipe
from asr_lstm.errors import AudioError
from asr_lstm.evaluate import DECODER, device_name, score_recognitions
from asr_lstm.files import atomic_write
from asr_lstm.manifest import Loader, read_manifest
from asr_lstm.recognise import Recognition, Recognitions, recognise
from asr_lstm.report import Results, read_results, results_markdown, write_results
from asr_lstm.schedule import torch_device
from asr_lstm.stages import Stages, content_digest, tree_digest

# Settings that change how fast a model comes, but not the model.
_NOT_THE_MODEL = (
    ("data", "workers"),
    ("data", "cache_gib"),
    ("data", "eval_seconds"),
    ("training", "device"),
)


class Experiment:
    """The stages that follow preparation, each skipped when done and unchanged.

    Each split in `results.json` has `manifests/SPLIT.jsonl` and `decoded/SPLIT.DECODER.jsonl` beside it.

    Args:
        recipe: model and training.
        folder: where everything goes.
        load: reads an utterance.
        command: what reproduces it, for results.json.
        console: for the preflight's summary.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, load: Loader, command: str, console: Console) -> None:
        self.recipe = recipe
        self.folder = folder
        self.load = load
        self.command = command
        self.console = console
        self.stages = Stages(folder / "stages.json")

    @property
    def model(self) -> Path:
        """The folder of the bundle."""
        return self.folder / "model"

    def fold(self, name: str) -> Experiment:
        """The experiment of one fold, in the same layout below `folds/NAME`."""
        folder = self.folder / "folds" / name
        return Experiment(self.recipe, folder, load=self.load, command=self.command, console=self.console)

    def manifest_path(self, split: str) -> Path:
        """Where the utterances of a split stand."""
        return self.folder / "manifests" / f"{split}.jsonl"

    def decoded_path(self, split: str) -> Path:
        """Where the recognitions of a split stand."""
        return self.folder / "decoded" / f"{split}.{DECODER}.jsonl"

    def train(self, manifests: Mapping[str, Path]) -> None:
        """Train on `train`, choose by `dev`, and save the bundle.

        Raises:
            AsrLstmError: as in `asr_lstm.fit.fit`.
        """
        sections = asdict(self.recipe)
        for name in ("corpus", "environment"):
            del sections[name]
        for section, name in _NOT_THE_MODEL:
            del sections[section][name]
        key = sections | {
            "load": self.recipe.corpus.load,
            "train": content_digest(manifests["train"]),
            "dev": content_digest(manifests["dev"]),
            "noise": tree_digest([self.recipe.augment.noise_folder]),
        }
        if self.stages.done("train", key) is not None:
            return
        from asr_lstm.fit import fit  # Lightning takes seconds to import

        outcome = fit(
            self.recipe,
            train=read_manifest(manifests["train"]),
            dev=read_manifest(manifests["dev"]),
            load=self.load,
            output=self.folder,
            key=self.stages.digest(key),
            console=self.console,
        )
        outputs = [self.model / name for name in (CONFIG_NAME, WEIGHTS_NAME, UNITS_NAME)]
        self.stages.finish("train", key, asdict(outcome), outputs=outputs)

    def decode(self, manifests: Mapping[str, Path]) -> dict[str, Path]:
        """Recognise every split but `train`; returns the files of recognitions by split."""
        weights = content_digest(self.model / WEIGHTS_NAME)
        bundle: Bundle | None = None
        decoded = {}
        for split, manifest in manifests.items():
            if split == "train":
                continue
            path = self.decoded_path(split)
            key = {"model": weights, "manifest": content_digest(manifest)}
            if self.stages.done(f"decode {split}", key) is None:
                bundle = bundle or load_bundle(self.model)
                recognitions = recognise(
                    bundle,
                    read_manifest(manifest),
                    load=self.load,
                    batch_seconds=self.recipe.data.eval_seconds,
                    device=torch_device(self.recipe.training),
                )
                write_recognitions(path, recognitions)
                record = {"seconds": recognitions.seconds, "audio_seconds": recognitions.audio_seconds}
                self.stages.finish(f"decode {split}", key, record, outputs=[path])
            decoded[split] = path
        return decoded

    def recognitions(self, split: str) -> Recognitions:
        """What was recognised in a split, and the time that it took."""
        return read_recognitions(self.decoded_path(split), **self.stages.record(f"decode {split}"))

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
            decoded: files of recognitions by split.
            notes: what a reader must know.
            metrics: further figures.
        """
        path = self.folder / "results.json"
        trained = self.stages.record("train")
        key = {
            "decoded": {split: content_digest(file) for split, file in decoded.items()},
            "references": {split: content_digest(manifests[split]) for split in decoded},
            "speed": {split: self.stages.record(f"decode {split}") for split in decoded},
            "notes": list(notes),
            "train": trained,
            **({"metrics": metrics} if metrics else {}),
        }
        if self.stages.done("score", key) is None:
            splits, remarks = {}, list(notes)
            for split in decoded:
                scored = score_recognitions(
                    read_manifest(manifests[split]),
                    self.recognitions(split),
                    normaliser=self.recipe.text,
                    seed=self.recipe.seed,
                )
                splits[split] = {DECODER: scored.result}
                remarks += [f"{split}: {note}" for note in scored.notes]
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
                metrics={name: trained[name] for name in ("precision", "best_dev_wer")} | dict(metrics or {}),
                notes=remarks,
            )
            write_results(path, results)
            self.stages.finish("score", key, {}, outputs=[path])
        return read_results(path)


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
    # Not splitlines: a file's name within an error may hold other characters that end a line.
    for index, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n")):
        row = json.loads(line)
        error = AudioError(row["error"]) if "error" in row else None
        items.append(Recognition(index, row["text"], error))
    return Recognitions(items, seconds, audio_seconds)


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
