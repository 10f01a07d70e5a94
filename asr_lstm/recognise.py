"""Run a trained model over many utterances: batches by length, any decoders, results in the input's order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from asr_lstm.batch_plan import plan_batches
from asr_lstm.bundle import Bundle
from asr_lstm.decoding.decoders import Decoder, GreedyDecoder
from asr_lstm.decoding.hypothesis import Hypothesis
from asr_lstm.decoding.montecarlo import mean_log_probs
from asr_lstm.decoding.options import GREEDY
from asr_lstm.decoding.words import WordSpan
from asr_lstm.errors import AudioError, DataError
from asr_lstm.inference import (
    BATCH_SECONDS,
    broken_logits,
    default_loader,
    draw_log_probs,
    find_device,
    load_inputs,
    log_logits,
)
from asr_lstm.manifest import Loader, Utterance

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recognition:
    """What was heard in one utterance.

    Attributes:
        index: where the utterance stands in the input.
        text: what was recognised; "" where it could not be loaded.
        error: why it could not be loaded, a line that names the file; None where it could.
        nbest: the texts that were found, best first; kept where confidences were asked for.
        scores: (words, scores) what is known of each word of the text; see `Decoder.word_scores`.
        confidences: of each word of the text, 0 to 1.
    """

    index: int
    text: str
    error: AudioError | DataError | None = None
    nbest: tuple[Hypothesis, ...] = ()
    scores: Floats | None = field(default=None, compare=False)
    confidences: tuple[float, ...] = ()

    @property
    def words(self) -> tuple[WordSpan, ...]:
        """The words of the text, where confidences were asked for."""
        return self.nbest[0].words if self.nbest else ()


@dataclass(frozen=True)
class Recognitions:
    """What was heard in all utterances, and what it took.

    Attributes:
        items: in the input's order.
        seconds: wall clock of loading, features, network and decoding.
        audio_seconds: duration of the utterances that could be loaded.
    """

    items: list[Recognition]
    seconds: float
    audio_seconds: float

    @property
    def texts(self) -> list[str]:
        """The text of each utterance."""
        return [item.text for item in self.items]

    @property
    def failures(self) -> list[Recognition]:
        """Those that could not be loaded."""
        return [item for item in self.items if item.error is not None]

    @property
    def rtf(self) -> float | None:
        """Real-time factor: seconds of computing a second of audio; None where there was no audio."""
        return self.seconds / self.audio_seconds if self.audio_seconds > 0 else None


def recognise(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    *,
    load: Loader | None = None,
    batch_seconds: float = BATCH_SECONDS,
    device: str = "cpu",
) -> Recognitions:
    """Recognise utterances greedily; arguments and errors as of `recognise_each`."""
    greedy = GreedyDecoder(bundle.units)
    decoders = [Decoder(GREEDY, greedy, greedy)]
    found = recognise_each(
        bundle, utterances, decoders, load=load, batch_seconds=batch_seconds, device=device
    )
    return found[GREEDY]


def recognise_each(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    decoders: Sequence[Decoder],
    *,
    load: Loader | None = None,
    batch_seconds: float = BATCH_SECONDS,
    device: str = "cpu",
    confidences: bool = False,
) -> dict[str, Recognitions]:
    """Recognise utterances with each decoder; the network runs once for all of them (and for draws of dropout).

    An utterance that cannot be loaded is reported among the results and stops no other. The longest come first, so
    that memory that does not suffice shows at once.

    Args:
        bundle: the model; it is moved to `device`.
        utterances: what to recognise, in any order.
        decoders: of the model's units.
        load: reads an utterance; the bundle's own loader by default.
        batch_seconds: length of a batch, padding included.
        device: torch's name of where to compute.
        confidences: keep the texts found and the confidence of each word too; their time is not counted.

    Returns:
        By the decoders' names. The seconds of each are those of loading, features, network and its own search.

    Raises:
        ConfigError: no such device, a loader that cannot be found or does not fit the model, or draws of dropout
            from a model without.
    """
    runs = [_Run(decoder, confidences) for decoder in decoders]
    source = _Source(bundle, utterances, load or default_loader(bundle), find_device(device))
    for batch in _batches(utterances, batch_seconds):
        heard = source.hear(batch)
        for run in runs:
            run.add(heard, source)
    return {run.decoder.name: run.recognitions(utterances) for run in runs}


def hear_each(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    *,
    load: Loader | None = None,
    batch_seconds: float = BATCH_SECONDS,
    device: str = "cpu",
) -> dict[int, Tensor]:
    """The logits of each utterance that could be loaded, (frames, units) on the CPU, by its index and in that order.

    Arguments and errors as of `recognise_each`. An hour of speech and a hundred units take some 40 MiB.
    """
    source = _Source(bundle, utterances, load or default_loader(bundle), find_device(device))
    logits: dict[int, Tensor] = {}
    for batch in _batches(utterances, batch_seconds):
        heard = source.hear(batch)
        logits.update(zip(heard.indices, heard.logits, strict=True))
    return {index: logits[index] for index in sorted(logits) if len(logits[index])}


def _batches(utterances: Sequence[Utterance], batch_seconds: float) -> Iterable[list[int]]:
    """Indices of batches, the longest utterances first; a bar shows how far it is."""
    durations = [utterance.duration for utterance in utterances]
    plan = plan_batches(durations, max_seconds=batch_seconds, seed=0, epoch=0, shortest_first=1.0)[::-1]
    console = Console(stderr=True)
    hidden = not console.is_terminal  # rich leaves an empty line even of a transient bar
    return track(plan, "recognising", console=console, transient=True, disable=hidden)


@dataclass(frozen=True)
class _Heard:
    """A batch as the network hears it: the logits of what could be loaded, and why the rest could not."""

    indices: list[int]
    inputs: list[Tensor]
    logits: list[Tensor]
    failures: list[Recognition]
    seconds: float  # of loading
    network_seconds: float


@dataclass(frozen=True)
class _Source:
    bundle: Bundle
    utterances: Sequence[Utterance]
    load: Loader
    device: torch.device

    def hear(self, batch: Sequence[int]) -> _Heard:
        start = time.perf_counter()
        loaded: dict[int, Tensor] = {}
        failures: list[Recognition] = []
        for index in batch:
            try:
                loaded[index] = load_inputs(self.bundle, self.utterances[index], load=self.load)
            except (AudioError, DataError) as error:
                failures.append(Recognition(index, "", error))
        begin = time.perf_counter()
        logits = log_logits(self.bundle, list(loaded.values()), device=self.device)
        kept: list[tuple[int, Tensor]] = []
        for index, row in zip(loaded, logits, strict=True):
            if (fault := broken_logits(row, self.utterances[index].path)) is None:
                kept.append((index, row))
            else:
                failures.append(Recognition(index, "", fault))
        end = time.perf_counter()
        return _Heard(
            indices=[index for index, _ in kept],
            inputs=[loaded[index] for index, _ in kept],
            logits=[row for _, row in kept],
            failures=failures,
            seconds=begin - start,
            network_seconds=end - begin,
        )

    def draw(self, heard: _Heard, decoder: Decoder) -> list[Tensor]:
        return draw_log_probs(self.bundle, heard.inputs, samples=decoder.draws, device=self.device)


class _Run:
    """What one decoder finds, batch by batch."""

    def __init__(self, decoder: Decoder, confidences: bool) -> None:
        self.decoder = decoder
        self._confidences = confidences
        self._items: dict[int, Recognition] = {}
        self._seconds = 0.0

    def add(self, heard: _Heard, source: _Source) -> None:
        decoder = self.decoder
        self._items.update({item.index: item for item in heard.failures})
        start = time.perf_counter()
        rows, draws = heard.logits, list[Tensor]()
        if decoder.draws:
            draws = source.draw(heard, decoder)
            rows = [mean_log_probs(row) for row in draws]
        found = decoder.find(rows)
        # Draws of dropout take the place of the one pass through the network.
        self._seconds += heard.seconds + time.perf_counter() - start
        self._seconds += 0.0 if decoder.draws else heard.network_seconds
        votes = decoder.votes(draws) if self._confidences and draws else [[] for _ in found]
        for index, nbest, voted in zip(heard.indices, found, votes, strict=True):
            self._items[index] = self._item(index, nbest, voted)

    def _item(
        self, index: int, nbest: Sequence[Hypothesis], votes: Sequence[Sequence[Hypothesis]]
    ) -> Recognition:
        if not self._confidences:
            return Recognition(index, nbest[0].text)
        scores = self.decoder.word_scores(nbest, votes)
        sure = tuple(self.decoder.confidences(scores))
        return Recognition(index, nbest[0].text, None, tuple(nbest[: self.decoder.nbest]), scores, sure)

    def recognitions(self, utterances: Sequence[Utterance]) -> Recognitions:
        items = [self._items[index] for index in range(len(utterances))]
        audio = sum(row.duration for row, item in zip(utterances, items, strict=True) if item.error is None)
        return Recognitions(items, self._seconds, audio)
