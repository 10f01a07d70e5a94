"""Hours of labelled speech from any text in any of espeak-ng's languages, to learn from before real speech is at hand.

It is synthetic speech and says so in each row of its manifests (`"synthetic": true`): error rates on it say little
about recordings of people. What it is good for stands in docs/bootstrap.md.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import random
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from asr_lstm.corpora import Prepared
from asr_lstm.corpora.accents import find_accents
from asr_lstm.corpora.espeak import LIMITS, Voice, espeak_version
from asr_lstm.corpora.published import write_split
from asr_lstm.corpora.rooms import SAMPLE_RATE, Acoustics
from asr_lstm.corpora.sentences import as_spoken, read_sentences, speakable
from asr_lstm.corpora.synthetic import (
    DEFAULT_ACOUSTICS,
    FEMALE_VARIANTS,
    MALE_VARIANTS,
    Reading,
    synthesise,
)
from asr_lstm.errors import DataError
from asr_lstm.manifest import Utterance

log = logging.getLogger(__name__)

NOTE = "SYNTHETIC speech of espeak-ng: rates on it say little about people's speech."
VERSION = 1  # raise when the same arguments shall give other files
# A voice costs nothing, and another one each minute gives some of the variety of people.
SECONDS_PER_SPEAKER = 60.0
LEAST_SPEAKERS = 10
ENOUGH = 0.95  # of the hours asked for; less is worth a warning
VARIANTS = (*FEMALE_VARIANTS, *MALE_VARIANTS)
PITCH_RANGE = (35, 75)  # how lively: from nearly monotonous to singing

# How long sentences take to say, roughly, a little less than in most voices.
_SECONDS_A_SENTENCE = 0.2
_CHARACTERS_A_SECOND = 16.0

_AUDIO = "audio"
_RECORD = "seconds.json"
_VOICE_FOLDER = re.compile(r"synthetic-.+-[0-9a-f]{12}")


@dataclass(frozen=True)
class _Part:
    """A split that is to be made: its language, its hours, what is said in it, and by how many."""

    split: str
    lang: str
    hours: float
    sentences: Sequence[str]
    speakers: int


@dataclass(frozen=True)
class _Speaker:
    """One voice: its split and name, what it shall read, and the sentence of each of those files."""

    split: str
    name: str
    reading: Reading
    sentences: dict[str, str]


def prepare_spoken_text(
    output: str | Path,
    *,
    lang: str,
    text: str | Path | Sequence[str | Path] = (),
    sentences: Sequence[str] = (),
    hours: float = 3.0,
    speakers: int = 0,
    dev: float = 0.0,
    rate: int = SAMPLE_RATE,
    min_seconds: float = 1.0,
    max_seconds: float = 8.0,
    pitch: tuple[int, int] = (20, 90),
    words_a_minute: tuple[int, int] = (90, 180),
    word_gap: tuple[int, int] = (0, 5),
    acoustics: Acoustics | None = DEFAULT_ACOUSTICS,
    seed: int = 1,
    workers: int | None = None,
) -> Prepared:
    """Speak sentences in many voices and write the manifest `train` (and `dev`).

    The same arguments give the same bytes, whatever the number of workers. Interrupted, the same call goes on with the
    voices that are not done. The sentences are dealt to the voices in a random order, each to one voice, until all are
    spoken; then to other voices again.

    Args:
        output: folder for the manifests; the recordings go to `audio/` in it.
        lang: a language of espeak-ng, such as `cs`; `en` stands for all accents of English, `en-us` for one.
        text: files with a sentence a line or with prose, and manifests whose transcripts are to be spoken.
        sentences: further sentences.
        hours: of speech for training; less where that would take a voice through the whole text.
        speakers: voices for training; 0 for one a minute, or one each time that all sentences are said.
        dev: hours of further speech to choose by, of other voices and other sentences; 0 for none.
        rate: of the files, in Hz.
        min_seconds: what takes less to say is left out.
        max_seconds: what takes more, too.
        pitch: of the lowest and the highest voice, 0 to 100; 50 is as espeak-ng has it.
        words_a_minute: of the slowest and the fastest voice, 80 to 450.
        word_gap: hundredths of a second between words, of the voice with the shortest and with the longest pauses.
        acoustics: rooms and noise; None for the bare voices.
        seed: of voices, order, rooms and noise.
        workers: processes at a time; one a core by default.

    Raises:
        ConfigError: espeak-ng is not installed or has no such language.
        DataError: no sentence, or a file that cannot be read or written.
        ValueError: another argument makes no sense.
    """
    if not hours > 0:
        raise ValueError(f"hours must be above 0, not {hours}")
    for name, value in (("dev", dev), ("speakers", speakers), ("min_seconds", min_seconds)):
        if value < 0:
            raise ValueError(f"{name} must not be below 0, but is {value}")
    if not max_seconds > min_seconds:
        raise ValueError(f"max_seconds must be above min_seconds ({min_seconds}), not {max_seconds}")
    if not 0 < rate <= SAMPLE_RATE:
        raise ValueError(f"rate must lie in 1 to {SAMPLE_RATE}, not {rate}")
    for name, (low, high), limits in (
        ("pitch", pitch, LIMITS["pitch"]),
        ("words_a_minute", words_a_minute, LIMITS["rate"]),
        ("word_gap", word_gap, LIMITS["gap"]),
    ):
        if not limits[0] <= low <= high <= limits[1]:
            raise ValueError(
                f"{name} must be two numbers in {limits[0]} .. {limits[1]}, the lower first, not {low}, {high}"
            )
    voices = draw_voices(find_accents(lang), seed=seed, pitch=pitch, rate=words_a_minute, gap=word_gap)
    pool = _gather(text, sentences, output=output)
    random.Random(f"{seed} order").shuffle(pool)
    held_out = math.ceil(len(pool) * dev / (hours + dev))
    if held_out == len(pool):
        raise DataError(f"{output}: {len(pool)} sentences are too few to hold some out; give more, or dev 0")
    parts = [_part("train", lang, hours, pool[held_out:], speakers=speakers)]
    if dev:
        parts.append(_part("dev", lang, dev, pool[:held_out]))
    template = Reading(Voice(lang), {}, shortest=min_seconds, longest=max_seconds)
    identity = [VERSION, espeak_version(), seed, rate, asdict(acoustics) if acoustics else None]
    cast = _make_cast(parts, voices, template, given=identity)
    folder = Path(output) / _AUDIO
    readings = [speaker.reading for speaker in cast]
    seconds = synthesise(readings, folder, acoustics=acoustics, seed=seed, rate=rate, workers=workers)
    _remove_others(folder, cast)
    manifests = {part.split: _write_part(output, part, cast, seconds) for part in parts}
    return Prepared(manifests, [NOTE], depends=[folder / reading.record for reading in readings])


def _gather(
    text: str | Path | Sequence[str | Path], sentences: Sequence[str], *, output: str | Path
) -> list[str]:
    """All sentences, each once."""
    files = [text] if isinstance(text, str | Path) else list(text)
    pool = list(dict.fromkeys([*(read_sentences(files) if files else []), *speakable(sentences)]))
    if not pool:
        raise DataError(
            f"{output}: nothing to speak; give a file of sentences or prose, such as --text book.txt"
        )
    return pool


def draw_voices(
    accents: Sequence[str], *, seed: int, pitch: tuple[int, int], rate: tuple[int, int], gap: tuple[int, int]
) -> Iterator[Voice]:
    """Voices without end: each variant of the vocal tract once before any comes again, all else at random.

    Args:
        accents: espeak-ng's languages to choose from.
        seed: the same seed gives the same voices.
        pitch: lowest and highest.
        rate: slowest and fastest, words a minute.
        gap: between words, hundredths of a second.
    """
    rng = random.Random(f"{seed} voices")
    while True:
        for variant in rng.sample(VARIANTS, len(VARIANTS)):
            accent = rng.choice(accents)
            yield Voice(
                accent,
                variant,
                rng.randint(*pitch),
                rng.randint(*PITCH_RANGE),
                rng.randint(*rate),
                rng.randint(*gap),
            )


def deal(sentences: Sequence[str], *, voices: int, most: int) -> list[list[str]]:
    """What each voice may read: from places evenly apart on, so that voices meet only once all is read.

    Args:
        sentences: of which each voice gets no one twice.
        voices: how many.
        most: sentences a voice.
    """
    count = len(sentences)
    starts = [voice * count // voices for voice in range(voices)]
    return [
        [sentences[(start + step) % count] for step in range(min(most, count))] for start in starts if count
    ]


def _part(split: str, lang: str, hours: float, sentences: Sequence[str], *, speakers: int = 0) -> _Part:
    """A split, by a voice a minute or one for each time that few sentences are all said, where no number is given."""
    seconds = sum(_SECONDS_A_SENTENCE + len(sentence) / _CHARACTERS_A_SECOND for sentence in sentences)
    needed = max(LEAST_SPEAKERS, math.ceil(hours * 3600 / min(SECONDS_PER_SPEAKER, seconds)))
    return _Part(split, lang, hours, sentences, speakers or needed)


def _make_cast(
    parts: Sequence[_Part], voices: Iterator[Voice], template: Reading, *, given: Sequence[object]
) -> list[_Speaker]:
    """The speakers of all splits; `given` is what decides about their recordings besides the readings."""
    cast: list[_Speaker] = []
    for part in parts:
        enough = part.hours * 3600 / part.speakers
        # These fill the time for certain, even if half of them turn out too short or too long.
        most = 20 + math.ceil(2 * enough / max(template.shortest, 0.5))
        for lines in deal(part.sentences, voices=part.speakers, most=most):
            name = f"synthetic-{part.lang}-{len(cast) + 1:04d}"
            reading = replace(template, voice=next(voices), enough=enough)
            cast.append(_make_speaker(part.split, name, reading, lines, given=given))
    return cast


def _make_speaker(
    split: str, name: str, reading: Reading, lines: Sequence[str], *, given: Sequence[object]
) -> _Speaker:
    """A speaker whose folder is named after all that decides what is in it: what is there need not be made again."""
    spoken = [as_spoken(line) for line in lines]
    identity = json.dumps([*given, asdict(reading), spoken])
    place = f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    files = {f"{place}/{index:04d}.flac": line for index, line in enumerate(spoken)}
    reading = replace(reading, files=files, record=f"{place}/{_RECORD}")
    return _Speaker(split, name, reading, dict(zip(files, lines, strict=True)))


def _write_part(
    output: str | Path, part: _Part, cast: Sequence[_Speaker], seconds: Mapping[str, float]
) -> Path:
    """Write the manifest of a split from the seconds of what was made."""
    rows: list[Utterance] = []
    for speaker in cast:
        if speaker.split == part.split:
            rows += _rows(speaker, Path(output) / _AUDIO, seconds, lang=part.lang)
    if not rows:
        reading = cast[0].reading
        limits = f"{reading.shortest:g} to {reading.longest:g} seconds"
        raise DataError(
            f"{output}: no sentence of {part.split} takes {limits} to say; change these or the text"
        )
    made = sum(row.duration for row in rows) / 3600
    if made < ENOUGH * part.hours:
        text = "%s: the text gave %.2f of %g hours; give more text, more speakers, or allow longer sentences"
        log.warning(text, part.split, made, part.hours)
    return write_split(output, part.split, rows)


def _rows(speaker: _Speaker, folder: Path, seconds: Mapping[str, float], *, lang: str) -> Iterator[Utterance]:
    """What of a speaker was written, for the manifest."""
    extra = {"synthetic": True, "voice": speaker.reading.voice.name}
    for file, sentence in speaker.sentences.items():
        if file in seconds:
            path = folder / file
            name = f"{speaker.name}-{path.stem}"
            yield Utterance(
                path, sentence, seconds[file], speaker=speaker.name, id=name, lang=lang, extra=extra
            )


def _remove_others(folder: Path, cast: Sequence[_Speaker]) -> None:
    """Remove voices that an earlier call with other arguments made here."""
    kept = {Path(speaker.reading.record).parts[0] for speaker in cast}
    for place in folder.iterdir():
        if _VOICE_FOLDER.fullmatch(place.name) and place.name not in kept:
            shutil.rmtree(place, ignore_errors=True)
