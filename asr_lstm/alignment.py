"""When each word of a manifest's transcripts is said: forced alignment of known texts to audio."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from asr_lstm.alignment_writers import ctm, ctm_name, json_line, textgrid
from asr_lstm.batch_plan import plan_batches
from asr_lstm.bundle import Bundle, load_bundle
from asr_lstm.decoding.align import align_units
from asr_lstm.decoding.greedy import UnitSpan
from asr_lstm.decoding.spelling import Spelling, spell_units
from asr_lstm.decoding.words import word_spans
from asr_lstm.errors import AudioError, ConfigError, DataError, failure_line
from asr_lstm.features import FeatureConfig
from asr_lstm.files import atomic_write, check_writable
from asr_lstm.inference import BATCH_SECONDS, default_loader, find_device, load_inputs, run_batch
from asr_lstm.manifest import Loader, Utterance, read_manifest

TEXTGRID_SUFFIX = ".TextGrid"


@dataclass(frozen=True)
class TimedSpan:
    """A word or a unit with its place.

    Attributes:
        text: as the units write it.
        start: in seconds from the beginning of the utterance.
        end: in seconds. CTC emits a unit in a frame or few, so that this is often sooner than the word's end.
        confidence: mean posterior of its units, 0 to 1; low where the text is not what is said.
    """

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Alignment:
    """An utterance whose text was aligned.

    Attributes:
        id: of the utterance.
        duration: of the utterance in seconds.
        words: each with its place.
        units: each with its place; spaces are left out.
    """

    id: str
    duration: float
    words: list[TimedSpan]
    units: list[TimedSpan]


@dataclass(frozen=True)
class AlignmentFailure:
    """An utterance that could not be aligned; `reason` is one line that names it."""

    id: str
    reason: str


def align_manifest(
    *,
    model: Path | Bundle,
    utterances: Sequence[Utterance],
    batch_seconds: float = BATCH_SECONDS,
    load: Loader | None = None,
    device: str = "cpu",
    show: bool = True,
) -> list[Alignment | AlignmentFailure]:
    """Align the text of each utterance; one that cannot be aligned stops no other.

    Args:
        model: a bundle, or its folder.
        utterances: with the texts that are said in them.
        batch_seconds: length of a batch, padding included.
        load: reads an utterance for the model; the loader that it names by default.
        device: torch's name of where to compute.
        show: how far it is, on a terminal.

    Returns:
        In the order of the utterances.

    Raises:
        ConfigError: the model cannot be loaded or there is no such device.
    """
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    aligner = _Aligner(bundle, spell_units(bundle.units), load or default_loader(bundle), find_device(device))
    durations = [utterance.duration for utterance in utterances]
    plan = plan_batches(durations, max_seconds=batch_seconds, seed=0, epoch=0, shortest_first=1.0)[::-1]
    console = Console(stderr=True)
    results: dict[int, Alignment | AlignmentFailure] = {}
    for batch in track(
        plan, "aligning", console=console, transient=True, disable=not (show and console.is_terminal)
    ):
        found = aligner.align_batch([utterances[index] for index in batch])
        results.update(zip(batch, found, strict=True))
    return [results[index] for index in range(len(utterances))]


@dataclass(frozen=True)
class _Aligner:
    bundle: Bundle
    spelling: Spelling
    load: Loader
    device: torch.device

    def align_batch(self, batch: Sequence[Utterance]) -> list[Alignment | AlignmentFailure]:
        results: dict[str, Alignment | AlignmentFailure] = {}
        ready: list[tuple[Utterance, list[int], Tensor]] = []
        for utterance in batch:
            try:
                target = self.bundle.units.encode(utterance.text, where=utterance.id)
                ready.append((utterance, target, load_inputs(self.bundle, utterance, load=self.load)))
            except (AudioError, DataError) as error:
                results[utterance.id] = AlignmentFailure(utterance.id, str(error))
        if ready:
            logits, lengths = run_batch(self.bundle, [inputs for _, _, inputs in ready], device=self.device)
            for (utterance, target, _), row, length in zip(ready, logits, lengths.tolist(), strict=True):
                results[utterance.id] = self._align(utterance, target, row[:length])
        return [results[utterance.id] for utterance in batch]

    def _align(self, utterance: Utterance, target: list[int], logits: Tensor) -> Alignment | AlignmentFailure:
        try:
            spans = align_units(logits, target)
        except DataError as error:
            return AlignmentFailure(utterance.id, f"{utterance.id}: {error}")
        scale = _Timing(
            self.bundle.features, utterance.duration, frames=len(logits), factor=self.bundle.model.time_factor
        )
        words = word_spans(spans, self.bundle.units, self.spelling)
        return Alignment(
            id=utterance.id,
            duration=utterance.duration,
            words=[scale.span(word.word, word.start, word.end, word.confidence) for word in words],
            units=[self._unit(span, scale) for span in spans if self.spelling.texts[span.unit]],
        )

    def _unit(self, span: UnitSpan, scale: _Timing) -> TimedSpan:
        return scale.span(self.spelling.texts[span.unit], span.start, span.end, span.posterior)


class _Timing:
    """Frames to seconds.

    A frame of the logits stands for the stretch around the `stack` times `factor` frames in it, each centred on its
    multiple of the hop: half a hop before the first to half a hop after the last. Where the loader gives frames,
    whose rate nobody told, they share the utterance's duration.
    """

    def __init__(self, features: FeatureConfig, duration: float, *, frames: int, factor: int) -> None:
        self._duration = duration
        if features.kind == "log_mel":
            hop = features.hop_samples / features.rate
            self._step, self._first = features.stack * factor * hop, -0.5 * hop
        else:
            self._step, self._first = duration / frames, 0.0

    def span(self, text: str, start: int, end: int, confidence: float) -> TimedSpan:
        begins = max(start * self._step + self._first, 0.0)
        ends = end * self._step + self._first
        if begins < self._duration < ends:
            ends = self._duration
        return TimedSpan(text, begins, ends, confidence)


def align_command(
    *,
    model: Path,
    manifest: Path,
    format: Literal["ctm", "textgrid", "json"] = "ctm",
    output: Path | None = None,
) -> int:
    """Write when each word of a manifest's texts is said.

    Utterances whose text cannot be aligned are listed on standard error, and the others are done.

    Args:
        model: the folder of a trained model.
        manifest: JSON Lines with `audio_filepath`, `text` and `duration`.
        format: `ctm` has a line a word; `json` an object an utterance, with words and units; `textgrid` is a file
            an utterance for Praat.
        output: a file to write to instead of standard output; of `textgrid` a folder.

    Returns:
        The exit code: 0, or 1 where an utterance could not be aligned.

    Raises:
        ConfigError: the model cannot be loaded, or no folder is given for TextGrids.
        DataError: the manifest cannot be used or `output` cannot be written.
    """
    utterances = read_manifest(manifest)
    if format == "textgrid":
        paths = _textgrid_paths(utterances, output)
    else:
        if format == "ctm":
            _refuse_same([(ctm_name(row.id), row.id) for row in utterances])
        if output is not None:
            check_writable(output)
    results = align_manifest(model=model, utterances=utterances)
    aligned = [result for result in results if isinstance(result, Alignment)]
    failures = [failure_line(one.id, one.reason) for one in results if isinstance(one, AlignmentFailure)]
    if format == "textgrid":
        for alignment in aligned:
            try:
                with atomic_write(paths[alignment.id]) as file:
                    file.write(textgrid(alignment))
            except DataError as error:  # a name that is too long, say; the others are written
                failures.append(str(error))
    else:
        with ExitStack() as stack:
            out: IO[str] = stack.enter_context(atomic_write(output)) if output else sys.stdout
            out.writelines(map(ctm if format == "ctm" else json_line, aligned))
    for reason in failures:
        print(reason, file=sys.stderr)
    return 1 if failures else 0


def _textgrid_paths(utterances: Sequence[Utterance], folder: Path | None) -> dict[str, Path]:
    """Where the TextGrid of each utterance shall stand."""
    if folder is None:
        raise ConfigError("output: a TextGrid is a file an utterance; name the folder for them")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: this is a file; name a folder for the TextGrids")
    names = {row.id: re.sub("[/\0]", "_", row.id) + TEXTGRID_SUFFIX for row in utterances}
    _refuse_same([(str(folder / name), id) for id, name in names.items()])
    check_writable(folder / f"any{TEXTGRID_SUFFIX}")
    return {id: folder / name for id, name in names.items()}


def _refuse_same(named: Sequence[tuple[str, str]]) -> None:
    """See that each name stands for one utterance's id.

    Raises:
        DataError: one stands for two.
    """
    owners: dict[str, str] = {}
    for name, id in named:
        if name in owners:
            raise DataError(f"{name}: both {owners[name]!r} and {id!r} would be written there; rename one")
        owners[name] = id
