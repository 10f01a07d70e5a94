"""Training utterances put together anew from words of the same speaker, so that sentences are not learned by heart.

A network that hears an utterance from both ends soon knows it by a few of its words, and then need not hear the
others. A sentence that nobody said has to be heard.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray

from asr_lstm.alignment import Alignment, AlignmentFailure, TimedSpan, align_manifest
from asr_lstm.bundle import Bundle
from asr_lstm.errors import READING_ERRORS, ConfigError
from asr_lstm.manifest import Loader, Utterance

log = logging.getLogger(__name__)

Samples = NDArray[np.float32]
Places = NDArray[np.float64]  # (words, 2): where each begins and ends, in seconds

_STREAM = 8  # of an utterance's seed; `asr_lstm.augment` and `asr_lstm.vocal_tract` use those before
# Words that stay together: as many real transitions as possible, and still a sentence that is new.
_MOST_WORDS = 4
# CTC places a word within some hundredths of a second; the pause, or the closure of a stop, near there is the cut.
_LEEWAY_SECONDS = 0.02
_EDGE_SECONDS = 0.2  # before the first word and after the last one in which the quietest place is looked for
_QUIET_SECONDS = 0.02  # whose mean energy counts where the quietest place is looked for
_FADE_SECONDS = 0.005  # at both ends of a piece, against clicks
# Mean confidence in an utterance's words below which nobody knows where they are. A model of 12 h of synthetic speech
# has 0.15 or more in 95 % of real utterances, one that had learned nothing 0.02 to 0.05: what is cut by that one keeps
# a training from ever learning.
_LEAST_CONFIDENCE = 0.1


class Splicer:
    """Puts utterances together from runs of words of the same speaker.

    The idea is that of Lam et al. 2021, "On-the-Fly Aligned Data Augmentation for Sequence-to-Sequence ASR" (arXiv
    2104.01393), where single words are replaced by words from other utterances, whoever said them.

    Args:
        utterances: of the training data.
        words: where the words of each are, in its order, as its transcript parts them; empty where that is not known.
        load: gives their audio (samples,).
        rate: of the audio, in Hz.
        share: of the utterances that are put together anew.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        words: Sequence[Sequence[TimedSpan]],
        *,
        load: Loader,
        rate: int,
        share: float,
    ) -> None:
        self._utterances = utterances
        self._load = load
        self._rate = rate
        self._share = share
        # Read once: of a large manifest each is a line of a file.
        counts, self._speakers = [], []
        for utterance in utterances:
            counts.append(len(utterance.text.split()))
            self._speakers.append(utterance.speaker or "")
        self._begins = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        # In memory that processes which load ahead share, so that they learn of new places.
        self._places = torch.full((int(self._begins[-1]), 2), torch.nan, dtype=torch.float64).share_memory_()
        self._renewals = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._followed = -1
        self._cuts: dict[int, list[int]] = {}
        self._of_speaker: dict[str, _Sentences] = {}
        self.renew(words)

    def renew(self, words: Sequence[Sequence[TimedSpan]]) -> None:
        """Take the words to be elsewhere from now on; `words` as for the constructor."""
        places = np.full(self._places.shape, np.nan)
        for index, spans in enumerate(words):
            if spans:
                places[self._words_of(index)] = [(span.start, span.end) for span in spans]
        self.places = places

    @property
    def places(self) -> Places:
        """(words, 2) of all utterances, one after the other: where each begins and ends, in seconds, or NaN."""
        places: Places = self._places.numpy().copy()
        return places

    @places.setter
    def places(self, places: Places) -> None:
        self._places.copy_(torch.from_numpy(places))
        self._renewals += 1

    def _words_of(self, index: int) -> slice:
        return slice(int(self._begins[index]), int(self._begins[index + 1]))

    def _known(self, index: int) -> Places:
        """The places of an utterance's words; none where they are not known."""
        places: Places = self._places[self._words_of(index)].numpy()
        return places[:0] if np.isnan(places).any() else places

    def _follow(self) -> None:
        """Forget what was cut at earlier places."""
        if self._followed == (now := int(self._renewals)):
            return
        self._followed, self._cuts = now, {}
        found = defaultdict(list)
        for index, speaker in enumerate(self._speakers):
            if speaker and len(self._known(index)):
                found[speaker].append(index)
        self._of_speaker = {speaker: _Sentences(indices, self._begins) for speaker, indices in found.items()}

    def __call__(self, index: int, seed: int) -> tuple[Samples, str] | None:
        """Audio (samples,) and transcript with as many words as those of the utterance at `index`.

        It begins and ends as that utterance does, with the silence and the noise of the room around its words.

        None, for the utterance as it is, in all but the share of seeds, where its words or its speaker are not known,
        and where a recording that it would be put together from cannot be read: that one is to blame when its own
        turn comes, and not this.
        """
        self._follow()
        draw = np.random.default_rng([seed, _STREAM])
        own = len(self._known(index))
        same = self._of_speaker.get(self._speakers[index])
        if draw.random() >= self._share or own < 2 or same is None:
            return None
        try:
            audio, cuts = self._cut(index)
            pieces = [_faded(audio[: cuts[0]], rate=self._rate, start=False)]
            after = _faded(audio[cuts[-1] :], rate=self._rate, end=False)
            words: list[str] = []
            while len(words) < own:
                most = min(_MOST_WORDS, own - len(words))
                source, first, end = same.draw(draw, count=int(draw.integers(1, most + 1)))
                audio, cuts = self._cut(source)
                pieces.append(_faded(audio[cuts[first] : cuts[end]], rate=self._rate))
                words += self._utterances[source].text.split()[first:end]
        except READING_ERRORS:
            return None
        return np.concatenate([*pieces, after]), " ".join(words)

    def _cut(self, index: int) -> tuple[Samples, list[int]]:
        """The audio of an utterance, and where it is cut: see `cut_between`."""
        audio = self._load(self._utterances[index])
        if index not in self._cuts:
            self._cuts[index] = cut_between(audio, self._known(index), rate=self._rate)
        return audio, self._cuts[index]


class _Sentences:
    """Runs of words of one speaker, drawn so that each word is as likely as any other.

    Args:
        indices: of the speaker's utterances.
        begins: (utterances + 1,) the number of words before each utterance of the training data.
    """

    def __init__(self, indices: Sequence[int], begins: NDArray[np.int64]) -> None:
        self._indices = np.asarray(indices)
        self._lengths = begins[self._indices + 1] - begins[self._indices]
        self._ends = np.cumsum(self._lengths)

    def draw(self, random: np.random.Generator, *, count: int) -> tuple[int, int, int]:
        """An utterance's index, and the first and the end of a run of `count` of its words, or fewer at its ends.

        A sentence of n words has n + count - 1 places for the run, where it may reach beyond its ends: each word then
        lies in `count` of them.
        """
        ends = self._ends + (count - 1) * np.arange(1, len(self._ends) + 1)
        place = int(random.integers(ends[-1]))
        row = int(np.searchsorted(ends, place, side="right"))
        length = int(self._lengths[row])
        end = place - int(ends[row]) + length + count
        return int(self._indices[row]), max(0, end - count), min(length, end)


def _faded(piece: Samples, *, rate: int, start: bool = True, end: bool = True) -> Samples:
    """A copy of some audio (samples,), faded at its ends."""
    faded = np.array(piece, np.float32)
    ramp = np.linspace(0, 1, min(round(_FADE_SECONDS * rate), len(faded) // 2), dtype=np.float32)
    if start:
        faded[: len(ramp)] *= ramp
    if end:
        faded[len(faded) - len(ramp) :] *= ramp[::-1]
    return faded


def cut_between(audio: Samples, words: Places, *, rate: int) -> list[int]:
    """Where to cut an utterance into its words, at the quietest places: the first sample of each, and the last's end.

    Args:
        audio: (samples,) of the utterance.
        words: (words, 2), at least one: where each begins and ends, in seconds.
        rate: of the audio, in Hz.
    """
    cuts: list[int] = []
    width = round(_QUIET_SECONDS * rate)
    power = np.concatenate([[0.0], np.cumsum(np.square(audio, dtype=np.float64))])
    begin, end = words[0, 0], words[-1, 1]
    between = [
        (max(end - _LEEWAY_SECONDS, start), following + _LEEWAY_SECONDS)
        for (start, end), (following, _) in pairwise(words.tolist())
    ]
    for least, most in [
        (begin - _EDGE_SECONDS, begin + _LEEWAY_SECONDS),
        *between,
        (end - _LEEWAY_SECONDS, end + _EDGE_SECONDS),
    ]:
        places = np.arange(round(least * rate), round(most * rate) + 1).clip(0, len(audio))
        around = [np.clip(places + side * width // 2, 0, len(audio)) for side in (-1, 1)]
        # At an end of the audio there is less to sum up.
        energies = (power[around[1]] - power[around[0]]) / (around[1] - around[0]).clip(1)
        quietest = int(places[np.argmin(energies)])
        cuts.append(max(quietest, cuts[-1] if cuts else 0))
    return cuts


def find_words(
    utterances: Sequence[Utterance],
    *,
    model: str | Path | Bundle,
    load: Loader | None = None,
    device: str = "cpu",
    show: bool = True,
) -> list[Sequence[TimedSpan]]:
    """Where a model hears the words of utterances, as their transcripts write them.

    Args:
        utterances: with transcripts.
        model: its folder, or itself.
        load: reads an utterance for it; its own loader by default.
        device: torch's name of where it listens.
        show: how far it is, on a terminal.

    Returns:
        The words of each; none of one that cannot be aligned, or in whose words the model believes too little.

    Raises:
        ConfigError: the model cannot be loaded, or has units that don't say where words part.
    """
    named = "the model" if isinstance(model, Bundle) else model
    try:
        bundle = model if isinstance(model, Bundle) else Path(model)
        found = align_manifest(model=bundle, utterances=utterances, load=load, device=device, show=show)
    except ValueError as error:
        raise ConfigError(f"augment.splice: {named}: {error}; say 0") from error
    words = [_as_written(utterance.text, one) for utterance, one in zip(utterances, found, strict=True)]
    if 2 * sum(map(bool, words)) < len(words):
        log.warning(
            "augment.splice: of %d utterances %s hears the words of %d only; the others are heard as they were said. "
            "Begin from a model that has learned more (more bootstrap.hours)",
            len(words),
            named,
            sum(map(bool, words)),
        )
    return words


def _as_written(text: str, found: Alignment | AlignmentFailure) -> Sequence[TimedSpan]:
    """The words of a transcript with their places; none where the model's normaliser makes others of them."""
    if isinstance(found, AlignmentFailure) or not found.words or len(found.words) != len(text.split()):
        return ()
    if fmean(span.confidence for span in found.words) < _LEAST_CONFIDENCE:
        return ()
    return [replace(span, text=word) for span, word in zip(found.words, text.split(), strict=True)]
