"""`asr-lstm lm train --kind lstm`: a language model from a text, with its measures, in a folder."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from asr_lstm.bundle import load_bundle
from asr_lstm.decoding.spelling import SpelledUnits
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.evaluate import device_name
from asr_lstm.files import atomic_write
from asr_lstm.lm.neural.bundle import KIND, NeuralLM, load_neural, save_neural
from asr_lstm.lm.neural.network import LanguageModel, NetworkConfig
from asr_lstm.lm.neural.pieces import piece_units
from asr_lstm.lm.neural.scores import Measured, figures, measure, shown
from asr_lstm.lm.neural.text_units import (
    UNKNOWN_WORD,
    CharacterTextUnits,
    TextUnits,
    UnitKind,
    character_units,
    word_units,
)
from asr_lstm.lm.neural.texts import Sentences, Splits, read_splits
from asr_lstm.lm.text import read_lines
from asr_lstm.lm_training.config import LMTrainingConfig
from asr_lstm.lm_training.fit import fit_language_model, machine_settings
from asr_lstm.lock import folder_lock
from asr_lstm.model_files import CONFIG_NAME, read_config
from asr_lstm.report import Results, read_results, write_results
from asr_lstm.schedule import torch_device
from asr_lstm.units import Normaliser

log = logging.getLogger(__name__)

_RECIPE_NAME = "recipe.yaml"  # as `asr_lstm.config` has it, which is not for a language model to import
# How many word pieces there are by default: few enough to be learned from a megabyte of text.
PIECES = 1000
RESULTS_NAME = "results.json"


def lstm_train_command(
    *,
    text: Path | list[Path],
    output: Path = Path("exp/language_model"),
    dev: float | Path = 0.1,
    test: float | Path = 0.0,
    units: UnitKind = "characters",
    vocabulary: int | Path | None = None,
    recogniser: Path | None = None,
    sentences: Sentences = "lines",
    casing: Literal["lower", "upper", "keep"] = "lower",
    punctuation: Literal["keep", "remove"] = "remove",
    network: NetworkConfig = NetworkConfig(),  # noqa: B008
    training: LMTrainingConfig = LMTrainingConfig(),  # noqa: B008
    seed: int = 1,
) -> int:
    """Train an LSTM language model and print how well it predicts.

    In the output folder stand `model/` (the model), `results.json`, `texts/` (the splits as they were learned and
    the vocabulary), `checkpoints/` and `logs/`. The same command goes on where it was interrupted.

    Args:
        text: a text file, plain or gz, or a manifest (.jsonl, .json); or several, as [A, B].
        output: folder of all that is written.
        dev: a text to choose the best weights by, or the share of each text that is.
        test: a text to be measured on at the end, or the share at the end of each text that is.
        units: "characters", "words" or "sentencepiece".
        vocabulary: of words, a file with those to keep, or how many of the most frequent (those that occur twice or
            more by default); of sentencepiece, how many pieces.
        recogniser: the bundle of a recogniser to be fused with, whose characters and form of text are used.
        sentences: "lines" takes each line for a sentence, "prose" finds sentences in text with lines broken
            anywhere, "raw" takes every character and line end as it stands.
        casing: "lower", "upper" or "keep".
        punctuation: "remove" or "keep".
        network: sizes and dropout.
        training: updates, time, learning rate.
        seed: of everything random.

    Returns:
        The exit code 0.

    Raises:
        ConfigError: settings that make no sense, or `output` is the folder of a recogniser or of a run at work.
        DataError: a text that cannot be used, or `output` cannot be written.
        TrainingInterrupted: by Ctrl-C; a checkpoint stands.
    """
    _check_output(output)
    listener = _recogniser_units(recogniser, units=units, sentences=sentences)
    normaliser = None if sentences == "raw" else Normaliser(casing=casing, punctuation=punctuation)
    if listener is not None:
        normaliser = listener.normaliser
    splits = read_splits(text, dev=dev, test=test, normaliser=normaliser, sentences=sentences)
    if listener is not None:
        splits = Splits(*(_writable(part, listener) for part in splits))
    chosen = _make_units(splits, units, vocabulary=vocabulary, listener=listener)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LanguageModel(network, units=len(chosen))
    lm = NeuralLM(model, chosen, network, normaliser)
    with folder_lock(output):
        found = train_language_model(lm, splits, output=output, training=training, seed=seed)
    for split, one in found.items():
        for name, value in shown(figures(one, kind=chosen.kind)).items():
            print(f"{split}: {name}: {value}")
    print(f"{output / 'model'}: {lm.parameters} parameters")
    return 0


def train_language_model(
    lm: NeuralLM, splits: Splits, *, output: Path, training: LMTrainingConfig, seed: int
) -> dict[str, Measured]:
    """Train a model and write it with its measures below `output`; what is done is not done again.

    Args:
        lm: the model, which is trained in place.
        splits: the texts, normalised as the model says.
        output: as of `lstm_train_command`.
        training: how to train.
        seed: of everything random but the weights to begin with.

    Returns:
        How well the model predicts dev, and test where there is one.
    """
    key = _key(lm, splits, training, seed)
    done = _is_done(output, key)
    if done:
        log.info("%s: trained already on this text with these settings", output / "model")
        lm.model.load_state_dict(load_neural(output / "model").model.state_dict())
        lm.model.eval()
    else:
        _write_texts(output / "texts", splits, lm.units)
        seconds = fit_language_model(
            lm.model,
            train=lm.units.encode(splits.train),
            dev=lm.units.encode(splits.dev),
            config=training,
            checkpoints=output / "checkpoints" / key,
            logs=output / "logs",
            seed=seed,
        )
    found = {"dev": measure(lm, splits.dev)} | ({"test": measure(lm, splits.test)} if splits.test else {})
    if not done:
        results = Results(
            recipe=output.name,
            seed=seed,
            command=shlex.join(["asr-lstm", *sys.argv[1:]]),
            device=device_name(torch_device(machine_settings(training))),
            cores=torch.get_num_threads(),
            parameters=lm.parameters,
            train_seconds=seconds,
            metrics={
                "key": key,
                "train_characters": len(splits.train),
                **{name: figures(one, kind=lm.units.kind) for name, one in found.items()},
            },
        )
        save_neural(output / "model", lm, card=_card(lm, results))
        write_results(output / RESULTS_NAME, results)
    return found


def _check_output(output: Path) -> None:
    """See that a language model takes the place of no recogniser."""
    kind: Any = KIND
    if (output / "model" / CONFIG_NAME).exists():
        config = read_config(output / "model", missing="no language model")
        kind = config.get("kind") if isinstance(config, dict) else None
    if kind != KIND or (output / _RECIPE_NAME).exists():
        raise ConfigError(
            f"output: {output} is the folder of a recogniser; give the language model one of its own"
        )


def _recogniser_units(folder: Path | None, *, units: UnitKind, sentences: Sentences) -> SpelledUnits | None:
    if folder is None:
        return None
    if units != "characters" or sentences == "raw":
        raise ConfigError(
            "recogniser: its units are characters of normalised text; use these, and not raw text"
        )
    found = load_bundle(folder).units
    if not isinstance(found, SpelledUnits):
        raise ConfigError(f"{folder}: units of kind {found.kind} do not say what they write")
    if found.kind != "characters":
        raise ConfigError(
            f"{folder}: its units are {found.kind}; a language model is made for characters alone, drop --recogniser"
        )
    return found


def _writable(text: str, units: SpelledUnits) -> str:
    """The lines of a text that a recogniser could write."""
    known = {*units.symbols}
    lines = text.split("\n")[:-1]
    kept = [line for line in lines if known.issuperset(line)]
    if lines and not kept:
        raise DataError(
            "the recogniser can write not one line of the text; give text of its language and casing"
        )
    if len(kept) < len(lines):
        log.info(
            "%d of %d lines left out: they have characters that the recogniser lacks",
            len(lines) - len(kept),
            len(lines),
        )
    return "".join(f"{line}\n" for line in kept)


def _make_units(
    splits: Splits, kind: UnitKind, *, vocabulary: int | Path | None, listener: SpelledUnits | None
) -> TextUnits:
    if listener is not None:
        return CharacterTextUnits(listener.symbols)
    if kind == "characters":
        return character_units(*splits)
    if kind == "words":
        words: int | set[str] | None = vocabulary if not isinstance(vocabulary, Path) else None
        if isinstance(vocabulary, Path):
            words = {word for line in read_lines(vocabulary) for word in line.split()}
        return word_units(splits.train, words)
    if isinstance(vocabulary, Path):
        raise ConfigError("vocabulary: of sentencepiece it is how many pieces there shall be, not a file")
    return piece_units(splits.train, vocabulary or PIECES)


def _key(lm: NeuralLM, splits: Splits, training: LMTrainingConfig, seed: int) -> str:
    """A name for everything that the trained weights depend on."""
    digest = hashlib.sha256()
    for part in (*splits, *lm.units.symbols):
        digest.update(part.encode() + b"\0")
    settings = [asdict(lm.network), asdict(training), lm.units.kind, seed]
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _is_done(output: Path, key: str) -> bool:
    try:
        return read_results(output / RESULTS_NAME).metrics.get("key") == key
    except DataError:
        return False


def _write_texts(folder: Path, splits: Splits, units: TextUnits) -> None:
    """What was learned and measured, for other models to be compared with."""
    for name, part in zip(Splits._fields, splits, strict=True):
        with atomic_write(folder / f"{name}.txt") as file:
            file.write(part)
    if units.kind == "words":
        with atomic_write(folder / "vocabulary.txt") as file:
            file.writelines(f"{word}\n" for word in units.symbols if word != UNKNOWN_WORD)


def _card(lm: NeuralLM, results: Results) -> str:
    """The README.md of a model: what it is, what it learned from, what was measured."""
    network = lm.network
    lines = [
        f"# {results.recipe}",
        "",
        f"A language model of {lm.units.kind} made by asr_lstm: {network.layers} LSTM layers of {network.hidden} with "
        f"tied weights, {results.parameters} parameters, {len(lm.units)} units; trained on "
        f"{results.metrics['train_characters']} characters in {(results.train_seconds or 0) / 60:.1f} minutes "
        f"({results.device}, {results.cores} cores, seed {results.seed}).",
        "",
        "| text | measure | value |",
        "|---|---|---:|",
    ]
    for split in ("dev", "test"):
        for name, value in shown(results.metrics.get(split, {})).items():
            lines.append(f"| {split} | {name} | {value} |")
    lines += ["", "Use: `asr-lstm lm generate --lm THIS_FOLDER --prompt TEXT`"]
    lines += ["`asr-lstm lm perplexity --lm THIS_FOLDER --text FILE`", "", f"Made by: `{results.command}`"]
    return "\n".join(lines) + "\n"
