"""Word and character error rates of a trained model on any manifest."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from asr_lstm.bundle import load_bundle
from asr_lstm.confidence_report import measure_confidences
from asr_lstm.confusions import confusions, oracle_wer
from asr_lstm.console import ReaderConsole
from asr_lstm.decoding.decoders import Decoder, beam_weights, make_decoders
from asr_lstm.decoding.options import GREEDY, DecodingConfig, decoding_config
from asr_lstm.errors import failure_line
from asr_lstm.files import check_writable
from asr_lstm.inference import BATCH_SECONDS
from asr_lstm.manifest import Utterance, read_manifest
from asr_lstm.recognise import Recognition, Recognitions, recognise_each
from asr_lstm.report import (
    Results,
    SplitResult,
    error_summary,
    results_table,
    worst_alignments,
    write_results,
)
from asr_lstm.scoring import score
from asr_lstm.units import Normaliser

DECODER = GREEDY  # the one that is always there
SEED = 0  # of the bootstrap: the only chance in an evaluation
_DEFAULTS = asdict(DecodingConfig())


@dataclass(frozen=True)
class ScoredSplit:
    """Recognitions beside what was said.

    Attributes:
        result: the rates, for results.json.
        references: what was said, normalised.
        hypotheses: what was recognised, normalised the same way; "" where an utterance could not be loaded.
        ids: of the utterances.
        failures: those that could not be loaded.
    """

    result: SplitResult
    references: list[str]
    hypotheses: list[str]
    ids: list[str]
    failures: list[Recognition]

    @property
    def notes(self) -> list[str]:
        """What a reader of the rates must know."""
        if not self.failures:
            return []
        return [
            f"{len(self.failures)} of {len(self.ids)} utterances could not be loaded; "
            "all their words count as missed."
        ]


def score_recognitions(
    utterances: Sequence[Utterance],
    recognitions: Recognitions,
    *,
    normaliser: Normaliser,
    seed: int = SEED,
) -> ScoredSplit:
    """Score recognitions against the utterances' texts, intervals by speaker where the speakers are known.

    References are normalised as the model's units say. What the units lack stays in them and counts as an
    error, and so do all words of an utterance that could not be loaded: a rate must not gain by that.

    Args:
        utterances: with their reference texts.
        recognitions: of these utterances, in this order.
        normaliser: of the model's units; applied to both sides.
        seed: of the bootstrap.

    Raises:
        ValueError: nothing to score, or not one recognition for each utterance.
    """
    references = [normaliser(utterance.text) for utterance in utterances]
    hypotheses = [normaliser(text) for text in recognitions.texts]
    speakers = [utterance.speaker for utterance in utterances]
    scores = score(references, hypotheses, groups=speakers, seed=seed)
    return ScoredSplit(
        result=SplitResult.from_scores(scores, rtf=recognitions.rtf),
        references=references,
        hypotheses=hypotheses,
        ids=[utterance.id for utterance in utterances],
        failures=recognitions.failures,
    )


@dataclass(frozen=True)
class Evaluation:
    """The contents of results.json, and the utterances behind them.

    Attributes:
        results: of each decoder.
        splits: by decoder, the utterances; the last decoder has all that was asked for.
    """

    results: Results
    splits: dict[str, ScoredSplit]

    @property
    def split(self) -> ScoredSplit:
        """The utterances of the last decoder."""
        return list(self.splits.values())[-1]


def evaluate(
    *,
    model: Path,
    manifest: Path,
    output: Path | None = None,
    decoding: DecodingConfig | None = None,
    batch_seconds: float = BATCH_SECONDS,
    device: str = "cpu",
) -> Evaluation:
    """Recognise the utterances of a manifest with each decoder and score them against its texts.

    The split is named after the manifest's file. An utterance whose audio cannot be read counts as empty.

    Args:
        model: the folder of a bundle.
        manifest: the utterances, with reference texts.
        output: results.json to write, if any.
        decoding: all of its `decoders` are scored; greedy decoding by default.
        batch_seconds: length of a batch, padding included.
        device: torch's name of where to compute.

    Raises:
        ConfigError: the model cannot be loaded or there is no such device.
        DataError: the manifest or a language model cannot be used, or `output` cannot be written.
    """
    decoding = decoding or DecodingConfig()
    if output is not None:
        check_writable(output)
    bundle = load_bundle(model)
    utterances = read_manifest(manifest)
    decoders = make_decoders(decoding, bundle.units, bundle.tuned)
    recognised = recognise_each(
        bundle, utterances, decoders, batch_seconds=batch_seconds, device=device, confidences=True
    )
    about = Results(
        recipe=str(model),
        seed=SEED,
        command=command_line("evaluate", model=model, manifest=manifest, decoding=decoding, output=output),
        device=device_name(device),
        cores=torch.get_num_threads(),
        parameters=bundle.parameters,
    )
    weights = {name: beam_weights(name, decoding, bundle.tuned) for name in decoding.decoders}
    evaluation = score_decoders(
        decoders,
        recognised,
        utterances,
        normaliser=bundle.units.normaliser,
        weights=weights,
        split=manifest.stem,
        about=about,
    )
    if output is not None:
        write_results(output, evaluation.results)
    return evaluation


def score_decoders(
    decoders: Sequence[Decoder],
    recognised: Mapping[str, Recognitions],
    utterances: Sequence[Utterance],
    *,
    normaliser: Normaliser,
    weights: Mapping[str, Any],
    split: str,
    about: Results,
) -> Evaluation:
    """Score what each decoder recognised.

    Args:
        decoders: with the names of what is known of their words.
        recognised: by their names, of all utterances, with confidences.
        utterances: with their reference texts.
        normaliser: of the model's units.
        weights: by the decoders' names, for results.json.
        split: name of the utterances.
        about: what is to be told of the model and the run; it gets splits, metrics and notes.
    """
    splits = {
        name: score_recognitions(utterances, found, normaliser=normaliser)
        for name, found in recognised.items()
    }
    figures = {
        decoder.name: {
            "weights": weights[decoder.name],
            **error_figures(splits[decoder.name], recognised[decoder.name], decoder, normaliser=normaliser),
        }
        for decoder in decoders
    }
    results = replace(
        about,
        splits={split: {name: one.result for name, one in splits.items()}},
        metrics={"decoders": {split: figures}},
        notes=[*about.notes, *splits[GREEDY].notes],
    )
    return Evaluation(results, splits)


def error_figures(
    split: ScoredSplit, recognitions: Recognitions, decoder: Decoder, *, normaliser: Normaliser
) -> dict[str, Any]:
    """What results.json tells of a decoder's errors, beside the rates.

    `errors` are those of `Confusions.to_json`; `oracle_wer` is the rate if of each N-best list the best text had
    been chosen; `confidence` is from `measure_confidences`.
    """
    texts = [[normaliser(one.text) for one in item.nbest] or [""] for item in recognitions.items]
    return {
        "errors": confusions(split.references, split.hypotheses).to_json(),
        "oracle_wer": oracle_wer(split.references, texts),
        "confidence": measure_confidences(
            recognitions, split.references, score_names=decoder.score_names, seed=SEED
        ),
    }


def command_line(verb: str, *, decoding: DecodingConfig, **others: Path | int | None) -> str:
    """What reproduces a result: options that are not the default, the output last."""
    options: dict[str, Any] = {name: value for name, value in others.items() if name != "output"}
    options |= {name: value for name, value in asdict(decoding).items() if value != _DEFAULTS[name]}
    command = ["asr-lstm", verb]
    for name, value in (options | {"output": others.get("output")}).items():
        if value is not None:
            shown = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
            command += [f"--{name}", shown]
    return shlex.join(command)


def device_name(device: str = "cpu") -> str:
    """Name of the processor or accelerator, as results.json keeps it."""
    if torch.device(device).type == "cuda":
        return str(torch.cuda.get_device_name(torch.device(device)))
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def evaluate_command(
    *, model: Path, manifest: Path, output: Path | None = None, device: str = "cpu", **decoding: Any
) -> int:
    """Print the error rates of a model on a manifest, its commonest errors and its worst utterances.

    With `--decoder beam` there is a row for greedy decoding, one for the bare beam search, and one for each model
    that is added to it.

    Args:
        model: the folder of a trained model.
        manifest: JSON Lines with `audio_filepath`, `text` and `duration`.
        output: results.json to write, if any.
        device: torch's name of where to compute: cpu, cuda, cuda:1.
        **decoding: how texts are found.

    Returns:
        The exit code: 0, or 1 where an utterance could not be loaded; these are listed on standard error.

    Raises:
        ConfigError: the model cannot be loaded, there is no such device, or options that make no sense.
        DataError: the manifest or a language model cannot be used, or `output` cannot be written.
    """
    options = decoding_config(**decoding)
    evaluation = evaluate(model=model, manifest=manifest, output=output, decoding=options, device=device)
    split = evaluation.split
    console = ReaderConsole()
    print_evaluation(evaluation, console)
    console.print(worst_alignments(split.references, split.hypotheses, split.ids, width=console.width))
    for failure in split.failures:
        print(failure_line(split.ids[failure.index], failure.error), file=sys.stderr)
    return 1 if split.failures else 0


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print the rates of all decoders, and what is known of the last one's errors."""
    console.print(results_table(evaluation.results))
    (figures,) = evaluation.results.metrics["decoders"].values()
    name = list(figures)[-1]
    console.print(error_summary(name, figures[name]))
