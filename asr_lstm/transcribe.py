"""Recordings to text with the time and the confidence of each word; a broken file stops no other."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Literal

import torch
from torch import Tensor

from asr_lstm.audio import audio_info, read_audio
from asr_lstm.batching import plan_batches
from asr_lstm.bundle import Bundle, load_bundle
from asr_lstm.decoding.greedy import UnitSpan, greedy_units
from asr_lstm.errors import AudioError, ConfigError
from asr_lstm.features import FeatureConfig
from asr_lstm.files import atomic_write
from asr_lstm.recognise import BATCH_SECONDS, find_device, run_batch
from asr_lstm.units import Units
from asr_lstm.writers import make_writer

# Of one recording, since a bidirectional model hears it in one piece: computing and memory grow with its length
# (1 MiB a second for 3 layers of 256), and utterances far longer than those in training go less well.
MAX_SECONDS = 600.0
# Batches are made within this many seconds of audio at a time: enough for files of like length to meet, while
# the first texts still come soon.
_WINDOW_SECONDS = 4 * BATCH_SECONDS


@dataclass(frozen=True)
class Word:
    """A word with its place.

    Attributes:
        word: as the units write it.
        start: in seconds from the beginning of the recording.
        end: in seconds. CTC emits a unit in a frame or few, so that this is often sooner than the word's end.
        confidence: mean posterior of its units, 0 to 1; not calibrated.
    """

    word: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Transcript:
    """What was heard in one recording.

    Attributes:
        path: the recording.
        text: its words, parted by single spaces; "" where none was heard.
        duration: of the recording in seconds.
        words: each with its place.
    """

    path: Path
    text: str
    duration: float
    words: list[Word]


@dataclass(frozen=True)
class Failure:
    """A recording that could not be transcribed; `error` is one line that names it."""

    path: Path
    error: AudioError


def transcribe(
    *,
    model: Path | Bundle,
    paths: Sequence[Path],
    batch_seconds: float = BATCH_SECONDS,
    device: str = "cpu",
) -> Iterator[Transcript | Failure]:
    """Transcribe audio files of any format, rate and number of channels, in their order.

    A text does not depend on what else is transcribed beside it.

    Args:
        model: a bundle, or its folder.
        paths: of audio files of at most `MAX_SECONDS` each.
        batch_seconds: files of like length are recognised together up to this many seconds, padding included.
        device: torch's name of where to compute.

    Raises:
        ConfigError: the model cannot be loaded, takes no audio, or there is no such device. All at the call,
            before the first result is asked for.
    """
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    if bundle.features.kind != "log_mel":
        raise ConfigError(
            f"the model takes features from {bundle.loader}, not audio files; "
            "use `asr-lstm evaluate` with a manifest"
        )
    place = find_device(device)
    return (
        result
        for window in _windows(paths, rate=bundle.features.rate)
        for result in _transcribe_window(bundle, window, batch_seconds=batch_seconds, device=place)
    )


@dataclass(frozen=True)
class _Recording:
    path: Path
    samples: Tensor  # (samples,)
    seconds: float


def _windows(paths: Sequence[Path], *, rate: int) -> Iterator[list[_Recording | Failure]]:
    """Read the files, some minutes of audio at a time."""
    window: list[_Recording | Failure] = []
    seconds = 0.0
    for path in paths:
        entry = _read(path, rate=rate)
        window.append(entry)
        seconds += entry.seconds if isinstance(entry, _Recording) else 0.0
        if seconds >= _WINDOW_SECONDS:
            yield window
            window, seconds = [], 0.0
    yield window


def _read(path: Path, *, rate: int) -> _Recording | Failure:
    try:
        seconds = audio_info(path).seconds
        if seconds > MAX_SECONDS:
            raise AudioError(
                f"{path}: {seconds / 60:.1f} min is too long to be heard in one piece "
                f"(the most is {MAX_SECONDS / 60:g} min); cut it into parts"
            )
        samples = read_audio(path, rate=rate)
    except AudioError as error:
        return Failure(path, error)
    return _Recording(path, torch.from_numpy(samples), len(samples) / rate)


def _transcribe_window(
    bundle: Bundle, window: Sequence[_Recording | Failure], *, batch_seconds: float, device: torch.device
) -> Iterator[Transcript | Failure]:
    recordings = [entry for entry in window if isinstance(entry, _Recording)]
    plan = plan_batches(
        [recording.seconds for recording in recordings],
        max_seconds=batch_seconds,
        seed=0,
        epoch=0,
        shortest_first=1.0,
    )
    transcripts: dict[int, Transcript] = {}
    for batch in plan:
        spans = greedy_units(*run_batch(bundle, [recordings[i].samples for i in batch], device=device))
        for index, found in zip(batch, spans, strict=True):
            transcripts[index] = _transcript(bundle, recordings[index], found)
    in_order = (transcripts[index] for index in range(len(recordings)))
    for entry in window:
        yield entry if isinstance(entry, Failure) else next(in_order)


def _transcript(bundle: Bundle, recording: _Recording, spans: Sequence[UnitSpan]) -> Transcript:
    text = bundle.units.decode([span.unit for span in spans])
    words = _words(spans, bundle.units, features=bundle.features, duration=recording.seconds)
    return Transcript(recording.path, text, recording.seconds, words)


def _words(
    spans: Sequence[UnitSpan], units: Units, *, features: FeatureConfig, duration: float
) -> list[Word]:
    """Part the units at spaces; frames become seconds.

    A frame of the encoder stands for the stretch around the `stack` frames in it, each centred on its multiple
    of the hop: half a hop before the first to half a hop after the last.
    """
    hop = features.hop_samples / features.rate

    def seconds(frame: int) -> float:
        return min(max((frame * features.stack - 0.5) * hop, 0.0), duration)

    words = []
    # A space alone decodes to nothing.
    for is_word, group in groupby(spans, key=lambda span: units.decode([span.unit]) != ""):
        if is_word:
            run = list(group)
            words.append(
                Word(
                    units.decode([span.unit for span in run]),
                    start=seconds(run[0].start),
                    end=seconds(run[-1].end),
                    confidence=sum(span.posterior for span in run) / len(run),
                )
            )
    return words


def transcribe_command(
    *, model: Path, paths: list[Path], format: Literal["text", "json"] = "text", output: Path | None = None
) -> int:
    """Print what is said in audio files.

    Files that cannot be transcribed are listed on standard error, and the others are done.

    Args:
        model: the folder of a trained model.
        paths: audio files of any format, rate and number of channels, of at most ten minutes each.
        format: `text` prints the text of one file bare, of several as `PATH<tab>TEXT`; `json` prints a JSON
            object a line, with the time and the confidence of each word.
        output: a file to write to instead of standard output; it appears when all is done.

    Returns:
        The exit code: 0, or 1 where a file failed.

    Raises:
        ConfigError: no files, an unknown format, or a folder that is no model.
        DataError: `output` cannot be written.
    """
    if not paths:
        raise ConfigError("no files to transcribe; name at least one")
    results = transcribe(model=model, paths=paths)
    failed = False
    with ExitStack() as stack:
        file: IO[str] = stack.enter_context(atomic_write(output)) if output else sys.stdout
        writer = make_writer(format, file, several=len(paths) > 1, model=str(model))
        for result in results:
            if isinstance(result, Failure):
                failed = True
                print(result.error, file=sys.stderr)
            else:
                writer.write(result)
    return 1 if failed else 0
