"""The synthetic stand-in corpus: sentences of a grammar spoken by espeak-ng, in LibriSpeech's layout.

It lets a recipe be tried where no recorded speech is at hand. It is synthetic speech and says so wherever it
appears: results on it say little about recordings of people.

`prepare_synthetic` makes the stand-in; `synthesise` turns any texts in any language of espeak-ng into files.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asr_lstm.corpora.espeak import Voice, espeak_version, find_espeak
from asr_lstm.corpora.espeak_pool import speak_jobs
from asr_lstm.corpora.grammar import make_sentences
from asr_lstm.corpora.rooms import SAMPLE_RATE, Acoustics
from asr_lstm.errors import DataError
from asr_lstm.files import atomic_write

MARKER = "SYNTHETIC.json"  # written last: a folder with it is complete, and ours to replace
VERSION = 5  # raise when the same parameters shall give other files, so that old copies are made anew
SPLITS = ("train", "dev", "test")

# Two American accents. With British ones beside them the same spelling has two sounds (half, car, hot), which a
# quarter of an hour of training does not sort out, and the stand-in shall show that the pipeline learns.
ACCENTS = ("en-us", "en-us-nyc")
# Variants of the vocal tract, "" being espeak-ng's plain voice: those that a recogniser trained on all of them for a
# few minutes mistook least (character error rate below 29 %; the worst had 52 %). Left out before that: robots,
# whispers, echoes and the Klatt synthesisers.
FEMALE_VARIANTS = ("f1", "f3", "f5", "grandma", "steph", "aunty", "linda", "f4")
MALE_VARIANTS = (
    "", "Alex", "Diogo", "Henrique", "Hugo", "Mario", "Mike", "Nguyen", "adam", "ed", "edward2", "grandpa",
    "iven3", "iven4", "john", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "max", "michel", "miguel", "pablo",
    "paul", "rob", "robert", "sandro", "victor",
)  # fmt: skip
PITCH = (30, 70)  # about the variant's own pitch, which espeak-ng calls 50
PITCH_RANGE = (35, 75)
RATE = (100, 140)  # espeak-ng's words a minute, which come out some 15 % faster on these sentences

# Of espeak-ng at these rates with the silence around it: what turns hours into a number of sentences.
SECONDS_PER_SENTENCE = 4.3
DEV_SENTENCES, TEST_SENTENCES = 20, 40  # a speaker

DEFAULT_ACOUSTICS = Acoustics()

_NOTE = """SYNTHETIC SPEECH. Nobody is heard here.

Made by espeak-ng ({version}) from sentences of a context-free grammar, with simulated rooms and noise, in the
layout of LibriSpeech (https://www.openslr.org/12). It stands in for recorded speech where there is none at
hand; error rates on it say little about people's speech.
Parameters: {parameters}
"""


@dataclass(frozen=True)
class Speaker:
    """One synthetic speaker of the stand-in: its id, "F" or "M", its split and its voice."""

    id: int
    sex: str
    split: str
    voice: Voice


@dataclass(frozen=True)
class Reading:
    """What one voice shall speak.

    Attributes:
        voice: whose it is.
        files: path below the output folder (.flac) -> text, spoken in this order.
        shortest: seconds; a text that takes less is left out.
        longest: seconds; so is one that takes more.
        enough: seconds; when so much is written, the other texts are left out.
        record: path below the output folder of a file that says that all this is done; where it is there, nothing
            is spoken. "" for none.
    """

    voice: Voice
    files: Mapping[str, str]
    shortest: float = 0.0
    longest: float = math.inf
    enough: float = math.inf
    record: str = ""


def prepare_synthetic(
    output_folder: str | Path,
    *,
    hours: float = 4.0,
    speakers: int = 76,
    readers: int = 2,
    seed: int = 1,
    workers: int | None = None,
    dev_sentences: int = DEV_SENTENCES,
    test_sentences: int = TEST_SENTENCES,
) -> Path:
    """Make the synthetic stand-in for LibriSpeech, or return at once where it is already made.

    The same arguments give the same bytes, whatever the number of workers. The splits share no speaker, no
    pair of accent and variant, and no sentence. An interrupted run leaves nothing that looks complete.

    Args:
        output_folder: where `LibriSpeech/` is written, with train-synthetic, dev-synthetic, test-synthetic.
        hours: of training speech, met within a few per cent.
        speakers: in all; an eighth of them each for dev and test.
        readers: training speakers who read the same sentence (all of them, if there are fewer). Recordings are what a
            network learns by heart first, and they are cheap; distinct sentences would make the text easy.
        seed: of sentences, voices, rooms and noise.
        workers: processes at a time; one a core by default.
        dev_sentences: sentences that each dev speaker reads.
        test_sentences: sentences that each test speaker reads.

    Returns:
        The folder `LibriSpeech`.

    Raises:
        ConfigError: espeak-ng is not installed.
        DataError: the folder cannot be written, or holds a corpus that is not synthetic.
        ValueError: `hours`, `speakers` or `readers` makes no sense.
    """
    if not hours > 0:
        raise ValueError(f"hours must be above 0, not {hours}")
    if readers < 1:
        raise ValueError(f"readers must be at least 1, not {readers}")
    parameters = {
        "synthetic": True,
        "version": VERSION,
        "hours": float(hours),
        "speakers": speakers,
        "readers": readers,
        "seed": seed,
        "dev_sentences": dev_sentences,
        "test_sentences": test_sentences,
    }
    corpus = Path(output_folder) / "LibriSpeech"
    if read_marker(corpus) == parameters:
        return corpus
    cast = make_speakers(speakers, seed=seed)
    cast_of = {split: [speaker for speaker in cast if speaker.split == split] for split in SPLITS}
    each = {
        "train": max(1, round(hours * 3600 / SECONDS_PER_SENTENCE / len(cast_of["train"]))),
        "dev": dev_sentences,
        "test": test_sentences,
    }
    wanted = {split: each[split] * len(cast_of[split]) for split in SPLITS}
    sentences = _draw_sentences(wanted, readers=min(readers, len(cast_of["train"])), seed=seed)
    partial = _fresh_partial(corpus)
    try:
        _write_corpus(partial, cast_of, sentences, each, parameters, workers)
        if corpus.exists():
            shutil.rmtree(corpus)
        partial.rename(corpus)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return corpus


def _draw_sentences(wanted: Mapping[str, int], *, readers: int, seed: int) -> dict[str, list[str]]:
    """As many sentences as are wanted of each split, those of training `readers` times.

    Dealt to the speakers in turn, a sentence comes back after 1 / readers of all: to another speaker.
    """
    distinct = {**wanted, "train": math.ceil(wanted["train"] / readers)}
    sentences = make_sentences(distinct, seed=seed)
    sentences["train"] = (sentences["train"] * readers)[: wanted["train"]]
    return sentences


def read_marker(corpus: str | Path) -> dict[str, Any] | None:
    """Return the parameters of a complete synthetic corpus, None where the folder holds no such corpus."""
    try:
        marker = json.loads((Path(corpus) / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


def _fresh_partial(corpus: Path) -> Path:
    """Return an empty folder beside `corpus`; what an interrupted run left there is removed."""
    if corpus.exists() and read_marker(corpus) is None and any(corpus.iterdir()):
        raise DataError(f"{corpus}: holds a corpus that is not synthetic; give the stand-in another folder")
    partial = corpus.with_name(f".{corpus.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    except OSError as error:
        raise DataError(
            f"{partial}: cannot write the synthetic corpus here ({error.strerror}); choose another folder"
        ) from error
    return partial


def make_speakers(count: int, *, seed: int) -> list[Speaker]:
    """Draw distinct speakers, no two with the same accent and variant; an eighth each for dev and test.

    Raises:
        ValueError: `count` is below 3, or more than there are pairs of accent and variant.
    """
    variants = [("F", name) for name in FEMALE_VARIANTS] + [("M", name) for name in MALE_VARIANTS]
    most = len(variants) * len(set(ACCENTS))
    if not 3 <= count <= most:
        raise ValueError(f"speakers must lie in 3 to {most}, not {count}")
    rng = random.Random(seed)
    held_out = max(1, count // 8)
    splits = ["train"] * (count - 2 * held_out) + ["dev"] * held_out + ["test"] * held_out
    speakers: list[Speaker] = []
    seen: set[tuple[str, str]] = set()
    queue: list[tuple[str, str]] = []
    while len(speakers) < count:
        if not queue:  # every variant is used once before any is used again
            queue = rng.sample(variants, len(variants))
        sex, variant = queue.pop()
        accent = rng.choice([name for name in ACCENTS if (name, variant) not in seen])
        seen.add((accent, variant))
        voice = Voice(accent, variant, rng.randint(*PITCH), rng.randint(*PITCH_RANGE), rng.randint(*RATE))
        # LibriSpeech's own ids end below 9000.
        speakers.append(Speaker(10_001 + len(speakers), sex, splits[len(speakers)], voice))
    return speakers


def _write_corpus(
    folder: Path,
    readers: Mapping[str, Sequence[Speaker]],
    sentences: Mapping[str, Sequence[str]],
    each: Mapping[str, int],
    parameters: Mapping[str, Any],
    workers: int | None,
) -> None:
    cast: list[Speaker] = []
    readings: list[Reading] = []
    for split in SPLITS:
        for number, speaker in enumerate(readers[split]):
            texts = sentences[split][number * each[split] : (number + 1) * each[split]]
            chapter = 100_000 + speaker.id
            stem = f"{split}-synthetic/{speaker.id}/{chapter}/{speaker.id}-{chapter}"
            cast.append(speaker)
            readings.append(
                Reading(speaker.voice, {f"{stem}-{index:04d}.flac": text for index, text in enumerate(texts)})
            )
    seconds = synthesise(readings, folder, seed=int(parameters["seed"]), workers=workers)
    for reading in readings:
        _write_transcripts(folder, reading.files)
    minutes = [sum(seconds[name] for name in reading.files) / 60 for reading in readings]
    with atomic_write(folder / "SPEAKERS.TXT") as file:
        file.write(_speakers_table(cast, minutes))
    with atomic_write(folder / "README.TXT") as file:
        file.write(_NOTE.format(version=espeak_version(), parameters=json.dumps(parameters)))
    with atomic_write(folder / MARKER) as file:
        json.dump(parameters, file, indent=1)


def _write_transcripts(folder: Path, files: Mapping[str, str]) -> None:
    """Write LibriSpeech's `SPEAKER-CHAPTER.trans.txt`, upper case as there."""
    if not files:
        return
    chapter = (folder / next(iter(files))).parent
    with atomic_write(chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt") as file:
        file.writelines(f"{Path(name).stem} {text.upper()}\n" for name, text in files.items())


def _speakers_table(cast: Iterable[Speaker], minutes: Iterable[float]) -> str:
    lines = [
        "; SYNTHETIC speakers, made by espeak-ng; in the layout of LibriSpeech's SPEAKERS.TXT.",
        "; The name is espeak-ng's voice: language+variant, pitch, pitch range, words a minute.",
        ";ID   |SEX| SUBSET           |MINUTES| NAME",
    ]
    for speaker, length in zip(cast, minutes, strict=True):
        voice = speaker.voice
        name = f"Synthetic {voice.name} {voice.pitch} {voice.range} {voice.rate}"
        lines.append(
            f"{speaker.id:<6}| {speaker.sex} | {speaker.split + '-synthetic':<17}| {length:5.2f} | {name}"
        )
    return "\n".join(lines) + "\n"


def synthesise(
    readings: Sequence[Reading],
    folder: str | Path,
    *,
    acoustics: Acoustics | None = DEFAULT_ACOUSTICS,
    seed: int = 1,
    rate: int = SAMPLE_RATE,
    workers: int | None = None,
) -> dict[str, float]:
    """Speak texts by espeak-ng and write them as mono FLAC below `folder`.

    Each reading runs in a fresh process, so its bytes depend on it and on `seed` alone.

    Args:
        readings: voices with what they say.
        folder: where the readings' paths begin.
        acoustics: rooms and noise; None leaves the voice as espeak-ng gives it.
        seed: of rooms and noise.
        rate: of the files, in Hz.
        workers: processes at a time; one a core by default.

    Returns:
        The seconds of each file that was written.

    Raises:
        ConfigError: espeak-ng is not installed, or has no such voice.
        DataError: a text that cannot be spoken, or a file that cannot be written.
    """
    find_espeak()
    jobs = [
        {
            "voice": asdict(reading.voice),
            "files": dict(reading.files),
            "folder": str(Path(folder)),
            "seed": seed,
            "acoustics": asdict(acoustics) if acoustics else None,
            "rate": rate,
            "shortest": reading.shortest,
            "longest": reading.longest,
            "enough": reading.enough,
            "record": reading.record,
        }
        for reading in readings
    ]
    seconds: dict[str, float] = {}
    with _progress() as progress:
        task = progress.add_task("synthetic speech", total=len(jobs))
        for written in speak_jobs(jobs, workers=workers):
            seconds |= written
            progress.advance(task)
    return seconds


def _progress() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("voices"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
