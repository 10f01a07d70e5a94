"""What a seeded sample of the recordings sounds like: silence, clipping, damage, and the same one in another form."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from asr_lstm.audio import load_utterance
from asr_lstm.corpora.validate import UNREADABLE
from asr_lstm.errors import AudioError
from asr_lstm.preflight.corpus import FileFacts, in_threads
from asr_lstm.preflight.findings import Finding, Place, Row, Severity, count, place
from asr_lstm.preflight.fingerprint import Codes, find_matches, fingerprint

MOST_SECONDS = 30.0  # of an utterance are listened to
# Of the sample so many at most are chosen because another file has the same text and length: the same recording in
# another format, perhaps. The rest is drawn at random.
_SUSPECT_SHARE = 0.5
_SAME_SECONDS = 0.1  # what an encoder adds at the ends
_THREADS = 2  # decoding computes: more threads only hold more audio at once

_FRAME_SECONDS = 0.02
_SILENT_DB = (
    -60.0
)  # of full scale, the loudest frame: 16-bit speech so far down is 8 or fewer steps of the converter
# A frame is taken for speech when it is so near the loudest and so far above the quietest; the share is an estimate.
_BELOW_LOUD_DB = 30.0
_ABOVE_QUIET_DB = 6.0
# Speech of a second has pauses and syllables 20 dB apart and more. What varies less than 6 dB is noise or a tone; what
# varies less than 10 dB is too noisy, or too short, to tell speech from pauses by level.
_TELLING_DB = 10.0
_NO_SPEECH_DB = 6.0
_NO_SPEECH_SECONDS = 1.0
_MOSTLY_SILENT = 0.8

# A clipped wave stays at its peak; an unclipped one of 300 Hz at 16 kHz is there for one sample.
_AT_PEAK = 0.999
_CLIPPED_RUN = 3
_CLIPPED_RUNS = 5  # at least: coarsely quantised audio has a few
_LEAST_CLIPPED_PEAK = 0.05  # quieter waves repeat their peak because the converter has few steps
_CLIPPED_SHARE = 5e-4  # 8 samples in a second of 16 kHz: audible


@dataclass(frozen=True)
class Copy:
    """Two rows that sound the same; `different` is the share of the bits of their fingerprints that differ."""

    first: Row
    second: Row
    different: float


@dataclass(frozen=True)
class Sound:
    """What one utterance sounds like.

    Attributes:
        peak: largest absolute sample, 1 for full scale.
        loudest_db: level of the loudest 20 ms, in dB of full scale.
        pauses: share of the time without speech, an estimate by level.
        clipped: share of the samples in runs at the peak.
        codes: its fingerprint.
        error: why it cannot be decoded, "" where it can; the rest is empty then.
    """

    peak: float = 0.0
    loudest_db: float = -np.inf
    pauses: float = 1.0
    clipped: float = 0.0
    codes: Codes = field(default_factory=lambda: np.zeros(0, np.uint32))
    error: str = ""


def listen(samples: NDArray[np.float32], *, rate: int) -> Sound:
    """Measure one utterance, (samples,) at its own rate in Hz."""
    size = max(1, min(len(samples), round(rate * _FRAME_SECONDS)))
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    levels = 10 * np.log10(np.mean(np.square(frames, dtype=np.float64), axis=1) + 1e-12)
    peak = float(np.abs(samples).max())
    silent = levels.max() < _SILENT_DB
    return Sound(
        peak=peak,
        loudest_db=float(levels.max()),
        pauses=1.0 if silent else _pauses(levels),
        clipped=_clipped(samples, peak),
        codes=np.zeros(0, np.uint32) if silent else fingerprint(samples, rate=rate),
    )


def _pauses(levels: NDArray[np.float64]) -> float:
    """Share of the frames, their levels in dB, that hold no speech."""
    quiet, loud = np.percentile(levels, [5, 95])
    if loud - quiet < _TELLING_DB:
        nothing = loud - quiet < _NO_SPEECH_DB and len(levels) * _FRAME_SECONDS >= _NO_SPEECH_SECONDS
        return 1.0 if nothing else 0.0
    return 1.0 - float((levels > max(loud - _BELOW_LOUD_DB, quiet + _ABOVE_QUIET_DB)).mean())


def _clipped(samples: NDArray[np.float32], peak: float) -> float:
    if peak < _LEAST_CLIPPED_PEAK:
        return 0.0
    at_peak = np.zeros(len(samples) + 2, np.int8)
    at_peak[1:-1] = np.abs(samples) >= _AT_PEAK * peak
    changes = np.flatnonzero(np.diff(at_peak))
    runs = changes[1::2] - changes[::2]
    runs = runs[runs >= _CLIPPED_RUN]
    return float(runs.sum()) / len(samples) if len(runs) >= _CLIPPED_RUNS else 0.0


def choose_sample(
    rows: Sequence[Row], facts: Mapping[Path, FileFacts], *, size: int | Literal["all"], seed: int
) -> list[Row]:
    """Which utterances to listen to, in the order of `rows`: pairs that may be copies, and others at random.

    Args:
        rows: of all splits.
        facts: of their files.
        size: how many at most.
        seed: of the choice.
    """
    if size == "all" or size >= len(rows):
        return list(rows)
    generator = random.Random(seed)
    pairs = _suspects(rows, facts)
    generator.shuffle(pairs)
    pairs.sort(
        key=lambda pair: rows[pair[0]].split == rows[pair[1]].split
    )  # between splits they do most harm
    chosen: set[int] = set()
    for pair in pairs[: int(_SUSPECT_SHARE * size / 2)]:
        chosen.update(pair)
    rest = [index for index in range(len(rows)) if index not in chosen]
    chosen.update(generator.sample(rest, size - len(chosen)))
    return [rows[index] for index in sorted(chosen)]


def _suspects(rows: Sequence[Row], facts: Mapping[Path, FileFacts]) -> list[tuple[int, int]]:
    """Pairs of rows of one text and length, the files of which differ."""
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row.text, []).append(index)
    pairs = []
    for group in groups.values():
        group.sort(key=lambda index: rows[index].utterance.duration)
        for left, right in pairwise(group):
            first, second = rows[left].utterance, rows[right].utterance
            near = second.duration - first.duration <= _SAME_SECONDS
            if near and facts[first.path].content != facts[second.path].content:
                pairs.append((left, right))
    return pairs


def hear(rows: Sequence[Row], facts: Mapping[Path, FileFacts]) -> list[Sound]:
    """Decode and measure the first half minute of each row, whose file's header could be read."""

    def measure(row: Row) -> Sound:
        utterance, rate = row.utterance, facts[row.utterance.path].rate
        duration = min(utterance.duration, MOST_SECONDS)
        try:
            samples = load_utterance(replace(utterance, duration=duration), rate=rate)
        except AudioError as error:
            return Sound(error=str(error).removeprefix(f"{utterance.path}: "))
        return listen(samples, rate=rate)

    return list(in_threads(measure, rows, message="listening", threads=_THREADS))


def find_copies(rows: Sequence[Row], sounds: Sequence[Sound], facts: Mapping[Path, FileFacts]) -> list[Copy]:
    """Rows that are the same recording in another form: they sound alike and their files differ."""
    copies = []
    for match in find_matches([sound.codes for sound in sounds]):
        first, second = rows[match.first], rows[match.second]
        if facts[first.utterance.path].content != facts[second.utterance.path].content:
            copies.append(Copy(first, second, match.different))
    return copies


def check_sounds(rows: Sequence[Row], sounds: Sequence[Sound]) -> list[Finding]:
    """What is wrong with the sound of the rows that were listened to."""
    heard = list(zip(rows, sounds, strict=True))
    damaged = [place(row, sound.error) for row, sound in heard if sound.error]
    silent = [place(row, _decibel(sound)) for row, sound in heard if not sound.error and _is_silent(sound)]
    paused = [
        place(row, f"{sound.pauses:.0%} without speech")
        for row, sound in heard
        if not sound.error and not _is_silent(sound) and sound.pauses > _MOSTLY_SILENT
    ]
    clipped = [
        place(row, f"{sound.clipped:.2%} of the samples, peak {sound.peak:.2f}")
        for row, sound in heard
        if sound.clipped > _CLIPPED_SHARE
    ]
    kinds: tuple[tuple[Severity, list[Place], tuple[str, str, str]], ...] = (
        ("serious", damaged, _DAMAGED),
        ("warning", silent, _SILENT),
        ("warning", paused, _PAUSED),
        ("warning", clipped, _CLIPPED),
    )
    listened = f"of {count(len(rows), 'recording')} listened to"
    return [
        Finding(severity, f"{len(places):,} {listened}: {what}", meaning, remedy, places)
        for severity, places, (what, meaning, remedy) in kinds
        if places
    ]


def _is_silent(sound: Sound) -> bool:
    return sound.loudest_db < _SILENT_DB


def _decibel(sound: Sound) -> str:
    return (
        "digital silence"
        if sound.peak == 0
        else f"nowhere louder than {sound.loudest_db:.0f} dB of full scale"
    )


_DAMAGED = (
    f"{UNREADABLE}, though the header is sound",
    "Training and evaluation will fail or leave them out.",
    "Copy them again from their source; run with --audio all to find every one.",
)
_SILENT = (
    "silent",
    "They have a transcript and no sound: they teach the model to write what nobody said.",
    "Listen to them; record them again or take the rows out.",
)
_PAUSED = (
    f"more than {_MOSTLY_SILENT:.0%} without speech (an estimate by level)",
    "Little speech for the computing, and often a cut gone wrong.",
    "Cut the pauses at the ends off (`offset` and `duration`), or check the cuts.",
)
_CLIPPED = (
    "clipped",
    "The level was too high when they were recorded: the peaks are cut off, and recognition suffers.",
    "Record with a lower level. What is clipped cannot be mended; keep it if speech to be recognised is like it.",
)
