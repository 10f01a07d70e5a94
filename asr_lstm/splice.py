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
from numpy.typing import NDArray

from asr_lstm.alignment import Alignment, AlignmentFailure, TimedSpan, align_manifest
from asr_lstm.errors import READING_ERRORS, ConfigError
from asr_lstm.manifest import Loader, Utterance

log = logging.getLogger(__name__)

Samples = NDArray[np.float32]

_STREAM = 8  # of an utterance's seed; `asr_lstm.augment` and `asr_lstm.vocal_tract` use those before
# Words that stay together: as many real transitions as possible, and still a sentence that is new.
_MOST_WORDS = 4
# CTC places a word within some hundredths of a second; the pause, or the closure of a stop, near there is the cut.
_LEEWAY_SECONDS = 0.02
_QUIET_SECONDS = 0.02  # over which energy is summed up where the quietest place is looked for
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
        words: where the words of each are, in its order; empty where that is not known.
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
        self._words = words
        self._load = load
        self._rate = rate
        self._share = share
        self._cuts: dict[int, list[int]] = {}
        self._of_speaker: dict[str, list[int]] = defaultdict(list)
        for index, (utterance, spans) in enumerate(zip(utterances, words, strict=True)):
            if spans and utterance.speaker:
                self._of_speaker[utterance.speaker].append(index)

    def __call__(self, index: int, seed: int) -> tuple[Samples, str] | None:
        """Audio (samples,) and transcript with as many words as those of the utterance at `index`.

        None, for the utterance as it is, in all but the share of seeds, where its words or its speaker are not known,
        and where a recording that it would be put together from cannot be read: that one is to blame when its own
        turn comes, and not this.
        """
        draw = np.random.default_rng([seed, _STREAM])
        own = self._words[index]
        same = self._of_speaker.get(self._utterances[index].speaker or "", [])
        if draw.random() >= self._share or len(own) < 2 or not same:
            return None
        pieces: list[Samples] = []
        words: list[str] = []
        while len(words) < len(own):
            source = same[draw.integers(len(same))]
            spans = self._words[source]
            most = min(_MOST_WORDS, len(spans), len(own) - len(words))
            count = int(draw.integers(1, most + 1))
            first = int(draw.integers(0, len(spans) - count + 1))
            try:
                pieces.append(self._piece(source, first, first + count))
            except READING_ERRORS:
                return None
            words += [span.text for span in spans[first : first + count]]
        return np.concatenate(pieces), " ".join(words)

    def _piece(self, index: int, first: int, end: int) -> Samples:
        """The audio of some words of an utterance, its ends faded."""
        audio = self._load(self._utterances[index])
        if index not in self._cuts:
            self._cuts[index] = cut_between(audio, self._words[index], rate=self._rate)
        cuts = self._cuts[index]
        piece: Samples = np.array(audio[cuts[first] : cuts[end]], np.float32)
        ramp = np.linspace(0, 1, min(round(_FADE_SECONDS * self._rate), len(piece) // 2), dtype=np.float32)
        piece[: len(ramp)] *= ramp
        piece[len(piece) - len(ramp) :] *= ramp[::-1]
        return piece


def cut_between(audio: Samples, words: Sequence[TimedSpan], *, rate: int) -> list[int]:
    """Where to cut an utterance into its words, at the quietest places: the first sample of each, and the length."""
    cuts = [0]
    width = round(_QUIET_SECONDS * rate)
    power = np.concatenate([[0.0], np.cumsum(np.square(audio, dtype=np.float64))])
    for word, following in pairwise(words):
        begin = max(word.end - _LEEWAY_SECONDS, word.start)
        places = np.arange(round(begin * rate), round((following.start + _LEEWAY_SECONDS) * rate) + 1)
        around = [np.clip(places + side * width // 2, 0, len(audio)) for side in (-1, 1)]
        quietest = int(places[np.argmin(power[around[1]] - power[around[0]])])
        cuts.append(min(max(quietest, cuts[-1]), len(audio)))
    return [*cuts, len(audio)]


def find_words(
    utterances: Sequence[Utterance], *, model: str | Path, device: str = "cpu"
) -> list[Sequence[TimedSpan]]:
    """Where a model hears the words of utterances, as their transcripts write them.

    There are none of an utterance that it cannot align, or in whose words it believes too little. `device` is torch's
    name of where it listens.

    Raises:
        ConfigError: the model cannot be loaded, or has units that don't say where words part.
    """
    try:
        found = align_manifest(model=Path(model), utterances=utterances, device=device)
    except ValueError as error:
        raise ConfigError(f"augment.splice: {model}: {error}; say 0") from error
    words = [_as_written(utterance.text, one) for utterance, one in zip(utterances, found, strict=True)]
    if 2 * sum(map(bool, words)) < len(words):
        log.warning(
            "augment.splice: of %d utterances %s hears the words of %d only; the others are heard as they were said. "
            "Begin from a model that has learned more (more bootstrap.hours)",
            len(words),
            model,
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
