"""Finding the weights of a model's decoders, and making their confidences honest, on a dev set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from asr_lstm.bundle import Bundle
from asr_lstm.confidence_report import calibrate, correct_words, reliability_chart
from asr_lstm.decoding.calibration import (
    Calibration,
    ReliabilityBin,
    expected_calibration_error,
    reliability,
)
from asr_lstm.decoding.decoders import Decoder, Parts, make_decoder
from asr_lstm.decoding.options import DecodingConfig
from asr_lstm.decoding.tune import Tuning
from asr_lstm.decoding.tune_weights import has_weights, tune_decoder
from asr_lstm.decoding.tuned import Tuned
from asr_lstm.errors import AudioError, DataError, failure_line
from asr_lstm.inference import BATCH_SECONDS, default_loader, load_inputs
from asr_lstm.manifest import Loader, Utterance
from asr_lstm.pages import page, paragraph, section
from asr_lstm.recognise import Recognition, Recognitions, hear_each, recognise_each
from asr_lstm.stages import content_digest


@dataclass(frozen=True)
class Reliability:
    """How honest the confidences of one decoder are.

    Attributes:
        error: expected calibration error of what the decoder says by itself.
        calibrated_error: likewise of calibrated confidences, each word's fitted on the half of the dev set that it
            is not in.
        bins: of both, by what they are called.
    """

    error: float
    calibrated_error: float
    bins: dict[str, list[ReliabilityBin]]


@dataclass(frozen=True)
class TuningReport:
    """What tuning found.

    Attributes:
        tuned: what the bundle keeps.
        surfaces: by decoder, all that was tried.
        reliabilities: by decoder.
        notes: decoders whose confidences could not be calibrated, and why.
        failures: utterances that could not be recognised; no weight was judged by them.
    """

    tuned: Tuned
    surfaces: dict[str, Tuning]
    reliabilities: dict[str, Reliability]
    notes: list[str]
    failures: list[Recognition]


def tune_bundle(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    decoding: DecodingConfig,
    *,
    load: Loader | None = None,
    batch_seconds: float = BATCH_SECONDS,
    device: str = "cpu",
    source: Mapping[str, str] | None = None,
) -> TuningReport:
    """Tune those of `decoding.decoders` that have weights, then calibrate the confidences of all.

    Weights are those with the fewest word errors on a grid, and then on finer ones around its best point. A decoder
    with an LSTM starts from the weights of the one without it. Weights in `decoding` itself are left out of account.

    Args:
        bundle: the model; what was tuned for its other decoders stays.
        utterances: of a dev set, which is neither trained nor tested on.
        decoding: with the models to tune.
        load: reads an utterance; the bundle's own loader by default.
        batch_seconds: length of a batch, padding included.
        device: torch's name of where to compute.
        source: what to keep of where this comes from.

    Raises:
        ConfigError: no such device, or draws of dropout from a model without.
        DataError: no utterance could be loaded, or a language model cannot be used.
    """
    parts = Parts(replace(decoding, alpha=None, beta=None, lstm_weight=None), bundle.units)
    options: dict[str, Any] = {"load": load, "batch_seconds": batch_seconds, "device": device}
    # A language model that cannot be loaded is told before the network runs over everything.
    for name in decoding.decoders:
        make_decoder(name, parts, Tuned(bundle.tuned.weights))
    said = [bundle.units.normaliser(utterance.text) for utterance in utterances]
    weights, surfaces = dict(bundle.tuned.weights), {}
    if asked := [name for name in decoding.decoders if has_weights(name)]:
        heard = hear_each(bundle, utterances, **options)
        if not heard:
            first = f"; the first: {_why_not(bundle, utterances[0], load)}" if utterances else ""
            raise DataError(
                f"none of the dev set's utterances could be loaded: there is nothing to tune on{first}"
            )
        references = [said[index] for index in heard]
        for name in asked:
            surfaces[name] = tune_decoder(name, parts, Tuned(weights), list(heard.values()), references)
            weights[name] = dict(surfaces[name].best.weights)
    # Without their calibrations, which were made for other weights.
    decoders = [make_decoder(name, parts, Tuned(weights)) for name in decoding.decoders]
    found = recognise_each(bundle, utterances, decoders, confidences=True, **options)
    fitted, reliabilities, notes = _calibrate_each(decoders, found, said)
    others = {name: one for name, one in bundle.tuned.calibrations.items() if name not in found}
    tuned = Tuned(weights, {**others, **fitted}, dict(source or {}))
    return TuningReport(tuned, surfaces, reliabilities, notes, found[decoders[0].name].failures)


def _why_not(bundle: Bundle, utterance: Utterance, load: Loader | None) -> str:
    try:
        load_inputs(bundle, utterance, load=load or default_loader(bundle))
    except (AudioError, DataError) as error:
        return failure_line(utterance.id, error)
    return f"{utterance.id}, which can be loaded now"


def _calibrate_each(
    decoders: Sequence[Decoder], found: Mapping[str, Recognitions], said: Sequence[str]
) -> tuple[dict[str, Calibration], dict[str, Reliability], list[str]]:
    fitted: dict[str, Calibration] = {}
    reliabilities: dict[str, Reliability] = {}
    notes = []
    for decoder in decoders:
        name = decoder.name
        try:
            fitted[name], sure, right = calibrate(found[name], said, columns=len(decoder.score_names))
        except DataError as error:
            notes.append(f"{name}: {error}")
            continue
        raw = np.concatenate([np.array(item.confidences) for item in found[name].items])
        known = np.concatenate(correct_words(found[name], said))
        reliabilities[name] = Reliability(
            error=expected_calibration_error(raw, known),
            calibrated_error=expected_calibration_error(sure, right),
            bins={"uncalibrated": reliability(raw, known), "calibrated": reliability(sure, right)},
        )
    return fitted, reliabilities, notes


def reliability_page(report: TuningReport, *, model: str) -> str:
    """A page with the reliability picture of each decoder."""
    explained = paragraph(
        "Words are put into bins by their confidence; each point is a bin, with the share of its words that are "
        "right. Honest confidences lie on the diagonal. The calibrated ones are of words whose half of the dev set "
        "the calibration was not fitted on."
    )
    sections = [
        section(
            name,
            paragraph(
                f"Expected calibration error {100 * one.error:.1f} %, calibrated {100 * one.calibrated_error:.1f} %."
            ),
            reliability_chart(one.bins, title="Accuracy over confidence"),
        )
        for name, one in report.reliabilities.items()
    ]
    return page(f"Confidences of {model}", [explained, *sections])


def surface_table(name: str, tuning: Tuning) -> Table:
    """The word error rate in per cent at each point that was tried; the best is marked.

    Of more than two weights that vary, all but the last stand in the rows.
    """
    names = [key for key in tuning.best.weights if len({row.weights[key] for row in tuning.rows}) > 1]
    names = names or list(tuning.best.weights)[:1]
    rates = {tuple(row.weights[key] for key in names): row.wer for row in tuning.rows}
    best = tuple(tuning.best.weights[key] for key in names)
    table = Table(title=f"{name}: WER %", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in names[:-1]:
        table.add_column(heading, justify="right")
    columns = sorted({point[-1] for point in rates})
    for value in columns:
        table.add_column(f"{names[-1]} {value:g}", justify="right")
    for head in sorted({point[:-1] for point in rates}):
        cells = [
            "" if (rate := rates.get((*head, value))) is None else f"{100 * rate:.2f}" for value in columns
        ]
        cells = [
            f"[bold]{cell} *[/bold]" if (*head, value) == best else cell
            for cell, value in zip(cells, columns, strict=True)
        ]
        table.add_row(*(f"{value:g}" for value in head), *cells)
    return table


def describe_source(manifest: Path, decoding: DecodingConfig) -> dict[str, str]:
    """What a bundle keeps of where its weights come from: the files' names and the dev manifest's digest."""
    models = {name: getattr(decoding, name) for name in ("lm", "lstm", "rescore", "lexicon")}
    named = {name: path.name for name, path in models.items() if path is not None}
    return {"manifest": manifest.name, "manifest_sha256": content_digest(manifest), **named}


def print_report(report: TuningReport, console: Console) -> None:
    """Print the surfaces, and a line for each decoder's confidences."""
    for name, tuning in report.surfaces.items():
        console.print(surface_table(name, tuning))
        best = ", ".join(f"{key} {value:g}" for key, value in tuning.best.weights.items())
        console.print(f"{name}: {best}: WER {100 * tuning.best.wer:.2f} %", highlight=False)
    for name, one in report.reliabilities.items():
        console.print(
            f"{name}: expected calibration error {100 * one.error:.1f} %, "
            f"calibrated {100 * one.calibrated_error:.1f} %",
            highlight=False,
        )
    for note in report.notes:
        console.print(note, highlight=False)
