"""What there is to learn from: hours, words, voices and pace, by which a recipe is chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_lstm.audio import audio_info
from asr_lstm.errors import AudioError, DataError
from asr_lstm.manifest import Utterance
from asr_lstm.manifest_index import count_speakers, open_manifest
from asr_lstm.shards import recording_file
from asr_lstm.units import Normaliser

# See `is_closed`.
_CLOSED_WORDS, _OFTEN, _RARE_SHARE = 150, 10, 0.1
# Below this mean of words an utterance, each is a single word cut out.
_SINGLE_WORD = 1.5
_RATE = 16_000  # taken where no recording can be read
_RATES_READ = 20  # recordings whose header is read


def count_rare(heard: Mapping[str, int]) -> int:
    """How many words are heard less than ten times."""
    return sum(times < _OFTEN for times in heard.values())


def is_closed(vocabulary: int, rare: int) -> bool:
    """Whether so many different words, of which so many are rare, are digits, commands, spelled letters: no open text.

    At most 150 of them, and at most a tenth of these rare.
    """
    return vocabulary <= _CLOSED_WORDS and rare <= _RARE_SHARE * vocabulary


@dataclass(frozen=True)
class Speech:
    """What there is to learn from.

    Attributes:
        hours: of it.
        utterances: how many.
        words: said in all of them together.
        vocabulary: different ones among these.
        rare: of the vocabulary, those heard less than ten times.
        pace: characters a second, pauses included; a character that is doubled counts as two, as CTC has it.
        fastest: the same of the utterance that is faster than 99 of a hundred.
        speakers: how many are named; 0 where nobody is.
        rate: of the recordings, in Hz.
        lang: their language where all say the same one, else "".
    """

    hours: float
    utterances: int
    words: int
    vocabulary: int
    rare: int = 0
    pace: float = 10.0
    fastest: float = 16.0
    speakers: int = 0
    rate: int = _RATE
    lang: str = ""

    @property
    def closed(self) -> bool:
        """A small vocabulary, of which nearly each word is heard often."""
        return is_closed(self.vocabulary, self.rare)

    @property
    def single_words(self) -> bool:
        """Whether an utterance is one word."""
        return self.words < _SINGLE_WORD * self.utterances


def measure_speech(manifest: str | Path, normaliser: Normaliser) -> Speech:
    """Look through a manifest of any length; of the recordings only the headers of a few are read.

    Raises:
        DataError: it cannot be read, or no utterance has a length or a text.
    """
    rows = open_manifest(manifest, normaliser)
    heard: Counter[str] = Counter()
    languages = set()
    for row in rows:
        heard.update(normaliser(row.text).split())
        languages.add(row.lang)
    columns = rows.columns
    seconds = float(columns.durations.sum())
    if not (seconds and heard):
        missing = "text" if seconds else "length"
        raise DataError(f"{manifest}: no utterance has a {missing}; correct `text` and `duration`")
    characters = columns.characters + columns.doubled
    sounding = columns.durations > 0
    paces = characters[sounding] / columns.durations[sounding]
    return Speech(
        hours=seconds / 3600,
        utterances=len(rows),
        words=heard.total(),
        vocabulary=len(heard),
        rare=count_rare(heard),
        pace=float(characters.sum() / seconds),
        fastest=float(np.percentile(paces, 99)),
        speakers=count_speakers(rows),
        rate=_recorded_rate(rows),
        lang=languages.pop() if len(languages) == 1 else "",
    )


def _recorded_rate(rows: Sequence[Utterance]) -> int:
    """The highest rate of some recordings; those that cannot be read are the affair of training."""
    rates = []
    for row in rows[:: max(1, len(rows) // _RATES_READ)][:_RATES_READ]:
        try:
            with recording_file(row) as path:
                rates.append(audio_info(path).rate)
        except AudioError:
            continue
    return max(rates, default=_RATE)
