"""Recordings to text with the time and the confidence of each word; a broken file stops no other."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import torch
from torch import Tensor

from asr_lstm.audio import audio_info, read_audio
from asr_lstm.batch_plan import plan_batches
from asr_lstm.bundle import Bundle, load_bundle
from asr_lstm.decoding.decoders import Decoder, Parts, make_decoder
from asr_lstm.decoding.hypothesis import Hypothesis
from asr_lstm.decoding.montecarlo import mean_log_probs
from asr_lstm.decoding.options import DecodingConfig, decoding_config
from asr_lstm.errors import AudioError, ConfigError
from asr_lstm.files import atomic_write
from asr_lstm.inference import BATCH_SECONDS, broken_logits, draw_log_probs, find_device, log_logits
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
        confidence: 0 to 1; the probability that it is right where `asr-lstm tune` calibrated the model, else the mean
            posterior of its units (or the agreement of draws of dropout).
    """

    word: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Alternative:
    """A text that the search found; scores are natural logarithms.

    Attributes:
        text: its words.
        acoustic: what the network says of it.
        language: what the language models say of it, each with its weight, and bonuses of words and hotwords.
        total: the sum of the two.
    """

    text: str
    acoustic: float
    language: float
    total: float


@dataclass(frozen=True)
class Transcript:
    """What was heard in one recording.

    Attributes:
        path: the recording.
        text: its words, parted by single spaces; "" where none was heard.
        duration: of the recording in seconds.
        words: each with its place.
        nbest: the texts that a beam search found, best first; empty of greedy decoding.
    """

    path: Path
    text: str
    duration: float
    words: list[Word]
    nbest: list[Alternative] = field(default_factory=list)


@dataclass(frozen=True)
class Failure:
    """A recording that could not be transcribed; `error` is one line that names it."""

    path: Path
    error: AudioError


def transcribe(
    *,
    model: Path | Bundle,
    paths: Sequence[Path],
    decoding: DecodingConfig | None = None,
    batch_seconds: float = BATCH_SECONDS,
    device: str = "cpu",
) -> Iterator[Transcript | Failure]:
    """Transcribe audio files of any format, rate and number of channels, in their order.

    A text does not depend on what else is transcribed beside it.

    Args:
        model: a bundle, or its folder.
        paths: of audio files of at most `MAX_SECONDS` each.
        decoding: how texts are found; the last of its `decoders` is used. Greedy by default.
        batch_seconds: files of like length are recognised together up to this many seconds, padding included.
        device: torch's name of where to compute.

    Raises:
        ConfigError: the model cannot be loaded, takes no audio, or there is no such device.
        DataError: a language model or a lexicon cannot be used. All at the call, before the first result is asked
            for.
    """
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    if bundle.features.kind != "log_mel":
        raise ConfigError(
            f"the model takes features from {bundle.loader}, not audio files; "
            "use `asr-lstm evaluate` with a manifest"
        )
    decoding = decoding or DecodingConfig()
    parts = Parts(decoding, bundle.units)
    decoder = make_decoder(decoding.decoders[-1], parts, bundle.tuned)
    transcriber = _Transcriber(bundle, decoder, find_device(device))
    return (
        result
        for window in _windows(paths, rate=bundle.features.rate)
        for result in _transcribe_window(transcriber, window, batch_seconds=batch_seconds)
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
    transcriber: _Transcriber, window: Sequence[_Recording | Failure], *, batch_seconds: float
) -> Iterator[Transcript | Failure]:
    recordings = [entry for entry in window if isinstance(entry, _Recording)]
    plan = plan_batches(
        [recording.seconds for recording in recordings],
        max_seconds=batch_seconds,
        seed=0,
        epoch=0,
        shortest_first=1.0,
    )
    results: dict[int, Transcript | Failure] = {}
    for batch in plan:
        found = transcriber.transcribe([recordings[index] for index in batch])
        results.update(zip(batch, found, strict=True))
    in_order = (results[index] for index in range(len(recordings)))
    for entry in window:
        yield entry if isinstance(entry, Failure) else next(in_order)


@dataclass(frozen=True)
class _Transcriber:
    bundle: Bundle
    decoder: Decoder
    device: torch.device

    def transcribe(self, recordings: Sequence[_Recording]) -> list[Transcript | Failure]:
        """Transcribe some recordings in one batch."""
        rows, draws = self._hear([recording.samples for recording in recordings])
        faults = [broken_logits(row, recording.path) for row, recording in zip(rows, recordings, strict=True)]
        sound = [index for index, fault in enumerate(faults) if fault is None]
        found = self.decoder.find([rows[index] for index in sound])
        votes = self.decoder.votes([draws[index] for index in sound]) if draws else [[] for _ in sound]
        results: dict[int, Transcript | Failure] = {
            index: Failure(recordings[index].path, AudioError(str(fault)))
            for index, fault in enumerate(faults)
            if fault is not None
        }
        for index, nbest, voted in zip(sound, found, votes, strict=True):
            results[index] = self._transcript(recordings[index], nbest, voted)
        return [results[index] for index in range(len(recordings))]

    def _hear(self, samples: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """What the network says of each recording, (frames, units), and of each the draws of dropout, if any."""
        if not self.decoder.draws:
            return log_logits(self.bundle, samples, device=self.device), []
        draws = draw_log_probs(self.bundle, samples, samples=self.decoder.draws, device=self.device)
        return [mean_log_probs(row) for row in draws], draws

    def _transcript(
        self, recording: _Recording, nbest: Sequence[Hypothesis], votes: Sequence[Sequence[Hypothesis]]
    ) -> Transcript:
        sure = self.decoder.confidences(self.decoder.word_scores(nbest, votes))
        words = [
            Word(
                span.word,
                start=self._seconds(span.start, recording),
                end=self._seconds(span.end, recording),
                confidence=confidence,
            )
            for span, confidence in zip(nbest[0].words, sure, strict=True)
        ]
        # Greedy decoding finds one text, of which there is no more to say.
        shown = nbest[: self.decoder.nbest] if self.decoder.searches else []
        others = [_alternative(one) for one in shown]
        return Transcript(recording.path, nbest[0].text, recording.seconds, words, others)

    def _seconds(self, frame: int, recording: _Recording) -> float:
        """Where a frame of the network's output begins.

        It stands for the stretch around the frames in it, each centred on its multiple of the hop: half a hop before
        the first to half a hop after the last.
        """
        features = self.bundle.features
        frames = features.stack * self.bundle.model.time_factor
        seconds = (frame * frames - 0.5) * features.hop_samples / features.rate
        return min(max(seconds, 0.0), recording.seconds)


def _alternative(one: Hypothesis) -> Alternative:
    return Alternative(one.text, one.acoustic, one.total - one.acoustic, one.total)


def transcribe_command(
    *,
    model: Path,
    paths: list[Path],
    format: Literal["text", "json"] = "text",
    output: Path | None = None,
    **decoding: Any,
) -> int:
    """Print what is said in audio files.

    Files that cannot be transcribed are listed on standard error, and the others are done.

    Args:
        model: the folder of a trained model.
        paths: audio files of any format, rate and number of channels, of at most ten minutes each.
        format: `text` prints the text of one file bare, of several as `PATH<tab>TEXT`; `json` prints a JSON
            object a line, with the time and the confidence of each word, and of a beam search the texts it found.
        output: a file to write to instead of standard output; it appears when all is done.
        **decoding: how texts are found.

    Returns:
        The exit code: 0, or 1 where a file failed.

    Raises:
        ConfigError: no files, an unknown format, a folder that is no model, or options that make no sense.
        DataError: `output` cannot be written, or a language model or lexicon cannot be used.
    """
    if not paths:
        raise ConfigError("no files to transcribe; name at least one")
    results = transcribe(model=model, paths=paths, decoding=decoding_config(**decoding))
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
