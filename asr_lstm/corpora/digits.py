"""Free Spoken Digit Dataset: six speakers who say each English digit fifty times, 8 kHz.

https://github.com/Jakobovski/free-spoken-digit-dataset, Z. Jackson and others; licence CC BY-SA 4.0. Recordings are
cut close to the word; the name says what and who:

    recordings/DIGIT_SPEAKER_NUMBER.wav
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

from asr_lstm.corpora import Prepared
from asr_lstm.corpora.published import Archive, download_archive, find_corpus, keep_sound, write_split
from asr_lstm.errors import DataError
from asr_lstm.manifest import Utterance

# GitHub makes this archive of the tag on demand and gives no checksum of it: checked are gzip's own and the number of
# recordings. (For v1.0.9, with five speakers, TensorFlow Datasets quotes one: audio/spoken_digit/checksums.tsv.)
ARCHIVE = Archive(
    name="Free Spoken Digit Dataset",
    url="https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
    folder="free-spoken-digit-dataset-1.0.10",
    files={"recordings/*_*_*.wav": 3000},
    megabytes=16,
)

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Of a speaker's recordings this share chooses the best epoch and is not trained on.
DEV_SHARE = 0.1
NOTES = (
    "test-SPEAKER: a speaker whom its model never heard, test: all of them together (cross-validation).",
    "dev: a random tenth of each training speaker's recordings, not trained on.",
)

_NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[A-Za-z][A-Za-z0-9-]*)_(?P<number>[0-9]+)")
_SOUNDS = {".wav", ".flac"}


def download_digits(folder: str | Path) -> Path:
    """Fetch the corpus into `folder`; errors as in `asr_lstm.corpora.published.download_archive`."""
    return download_archive(ARCHIVE, folder)


def read_digits(folder: str | Path) -> list[Utterance]:
    """All recordings in the order of their names, unchecked, with duration 0 for not yet known.

    Args:
        folder: of the recordings, or the one above `recordings`, or the one above that of the archive.

    Raises:
        DataError: no recording, or only one speaker.
    """
    folder = Path(folder)
    places = [folder / ARCHIVE.folder / "recordings", folder / "recordings", folder]
    folder = next(place for place in places if place.is_dir())
    utterances = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _SOUNDS and (name := _NAME.fullmatch(path.stem)):
            word = WORDS[int(name["digit"])]
            utterances.append(Utterance(path, word, duration=0.0, speaker=name["speaker"], lang="en"))
    speakers = sorted({utterance.speaker for utterance in utterances})
    if len(speakers) < 2:
        raise DataError(
            f"{folder}: holds {len(utterances)} recordings of {len(speakers)} speakers named as 7_jackson_32.wav; "
            "give the folder free-spoken-digit-dataset with two speakers at least, so that one can be held out"
        )
    return utterances


def prepare_digits(
    output: str | Path,
    *,
    source: str | Path = "",
    download: bool = False,
    data: str | Path = "data",
    seed: int = 1,
) -> Prepared:
    """Write the manifests of a cross-validation by speaker, and `train` and `dev` of the model that is kept.

    Each speaker makes a fold: `test` is that speaker, `train` and `dev` are the others.

    Args:
        output: folder for the manifests.
        source: the corpus's folder, its folder recordings, or the one above it; "" for none.
        download: fetch the corpus first, into `source` or `data`.
        data: folder for what is downloaded.
        seed: of the choice of dev.

    Raises:
        DataError: no corpus was given, or nothing in it can be used.
        DownloadError: see `download_digits`.
    """
    output = Path(output)
    candidates = read_digits(find_corpus(ARCHIVE, source=source, download=download, data=data))
    sound = keep_sound(candidates, output=output)
    dev = choose_dev(sound, seed=seed)

    def write(place: Path, rows: Sequence[Utterance]) -> dict[str, Path]:
        return {
            "train": write_split(place, "train", (row for row in rows if row.id not in dev)),
            "dev": write_split(place, "dev", (row for row in rows if row.id in dev)),
        }

    folds = {}
    for speaker in sorted({row.speaker for row in sound}):
        place = output / "folds" / speaker
        manifests = write(place, [row for row in sound if row.speaker != speaker])
        manifests["test"] = write_split(place, "test", (row for row in sound if row.speaker == speaker))
        folds[speaker] = Prepared(manifests)
    return Prepared(write(output, sound), list(NOTES), folds=folds)


def choose_dev(utterances: Sequence[Utterance], *, seed: int) -> set[str]:
    """The ids of a tenth of each speaker's utterances, at least one, drawn by the seed."""
    by_speaker: dict[str, list[str]] = {}
    for utterance in utterances:
        by_speaker.setdefault(utterance.speaker, []).append(utterance.id)
    rng = random.Random(seed)
    return {
        chosen
        for _, ids in sorted(by_speaker.items())
        for chosen in rng.sample(sorted(ids), max(1, round(DEV_SHARE * len(ids))))
    }
