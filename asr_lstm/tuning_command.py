"""`asr-lstm tune`: the weights and the calibration of a model's decoders, into its bundle."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from asr_lstm.bundle import Bundle, load_bundle
from asr_lstm.console import ReaderConsole
from asr_lstm.crossfit import cross_fit
from asr_lstm.decoding.options import DecodingConfig, decoding_config
from asr_lstm.decoding.tuned import TUNED_NAME, save_tuned
from asr_lstm.errors import ConfigError, failure_line
from asr_lstm.evaluate import SEED, Evaluation, command_line, device_name, print_evaluation
from asr_lstm.files import atomic_write, check_writable
from asr_lstm.manifest import Utterance, read_manifest
from asr_lstm.report import Results, write_results
from asr_lstm.tuning import describe_source, print_report, reliability_page, tune_bundle

PAGE_NAME = "confidence.html"


def tune_command(
    *, model: Path, manifest: Path, folds: int = 0, output: Path | None = None, **decoding: Any
) -> int:
    """Find the weights of a model's decoders on a dev set, calibrate its confidences, and keep both in the bundle.

    `evaluate` and `transcribe` then use them. Prints the word error rate at each point that was tried, and how honest
    the confidences are; the picture of that is `confidence.html` in the bundle.

    Args:
        model: the folder of a trained model.
        manifest: of a dev set; JSON Lines with `audio_filepath`, `text` and `duration`.
        folds: where there is no test set: first measure on the dev set, its speakers in so many parts, each with what
            was found on the others; 2 takes as long again as tuning.
        output: results.json to write of that measurement, if any.
        **decoding: the decoder and its models.

    Returns:
        The exit code: 0, or 1 where an utterance could not be loaded; these are listed on standard error.

    Raises:
        ConfigError: the model cannot be loaded, or options that make no sense.
        DataError: the manifest or a language model cannot be used, the bundle or `output` cannot be written, or
            there are fewer speakers than folds.
    """
    options = decoding_config(**decoding)
    _check_folds(folds, output)
    bundle = load_bundle(model)
    check_writable(model / TUNED_NAME)
    utterances = read_manifest(manifest)
    if folds:
        evaluation = _measure(bundle, utterances, options, folds=folds, paths=(model, manifest, output))
        if output is not None:
            write_results(output, evaluation.results)
        print_evaluation(evaluation, ReaderConsole())
    report = tune_bundle(bundle, utterances, options, source=describe_source(manifest, options))
    save_tuned(model, report.tuned)
    with atomic_write(model / PAGE_NAME) as file:
        file.write(reliability_page(report, model=str(model)))
    print_report(report, ReaderConsole())
    for failure in report.failures:
        print(failure_line(utterances[failure.index].id, failure.error), file=sys.stderr)
    return 1 if report.failures else 0


def _check_folds(folds: int, output: Path | None) -> None:
    if folds < 0 or folds == 1:
        raise ConfigError(f"folds: must be 0, or 2 and more, not {folds}")
    if output is not None:
        if not folds:
            raise ConfigError("output: nothing is measured without folds; say --folds 2, or leave it out")
        check_writable(output)


def _measure(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    decoding: DecodingConfig,
    *,
    folds: int,
    paths: tuple[Path, Path, Path | None],
) -> Evaluation:
    model, manifest, output = paths
    about = Results(
        recipe=str(model),
        seed=SEED,
        command=command_line(
            "tune", decoding=decoding, model=model, manifest=manifest, folds=folds, output=output
        ),
        device=device_name(),
        cores=torch.get_num_threads(),
        parameters=bundle.parameters,
    )
    return cross_fit(bundle, utterances, decoding, folds=folds, split=manifest.stem, about=about)
