"""speechocean762: 250 speakers of Mandarin, half of them children, read English, 16 kHz (OpenSLR 101).

https://www.openslr.org/101, free for any use. J. Zhang and others, "speechocean762: An Open-Source Non-native English
Speech Corpus For Pronunciation Assessment", Interspeech 2021. The archive unpacks to Kaldi's data folders:

    speechocean762/WAVE/SPEAKER0001/000010011.WAV
    speechocean762/train/{wav.scp,text,utt2spk,spk2gender,spk2age}    2500 utterances of 125 speakers
    speechocean762/test/...                                           as many of 125 others

A copy may instead have a table `train.tsv` (and `test.tsv`) with the columns utt, path, seconds, speaker, gender, age
and text. The text is in capitals, without punctuation.
"""

from __future__ import annotations

import csv
from pathlib import Path

from asr_lstm.corpora import Prepared
from asr_lstm.corpora.published import Archive, download_archive, find_corpus, keep_sound, write_split
from asr_lstm.errors import DataError
from asr_lstm.manifest import Utterance

# OpenSLR gives no checksum here: checked are gzip's own and the number of recordings. The corpus's authors know the
# archive by its 520,810,923 bytes (Kaldi, egs/gop_speechocean762/s5/local/download_and_untar.sh).
ARCHIVE = Archive(
    name="speechocean762",
    url="https://www.openslr.org/resources/101/speechocean762.tar.gz",
    folder="speechocean762",
    files={"WAVE/SPEAKER*/*.WAV": 5000, "train/wav.scp": 1, "test/wav.scp": 1},
    megabytes=521,
)

# Held out of the official training set to choose by: 12 % of it, five women, three girls, three men and four boys as
# in the whole. Drawn by seed 762 until in each of these groups the mean age lay within a year of the others' (women
# and girls apart at 18); 16.6 years in all, against 16.9 of those who are trained on.
# fmt: off
DEV_SPEAKERS = (
    "0056", "0131", "0813", "1033", "1064", "2129", "2236", "2450",
    "3021", "3046", "3083", "5195", "6048", "9615", "9616",
)
# fmt: on
DEV_NOTE = (
    "dev: 15 speakers held out of the official training set (asr_lstm.corpora.speechocean762.DEV_SPEAKERS); it also "
    "chose the epoch."
)
NO_TEST_NOTE = "test: the official test set was not there; the rates are those of dev."

_COLUMNS = ("utt", "path", "seconds", "speaker", "gender", "age", "text")


def download_speechocean762(folder: str | Path) -> Path:
    """Fetch the corpus into `folder`; errors as in `asr_lstm.corpora.published.download_archive`."""
    return download_archive(ARCHIVE, folder)


def read_speechocean762(folder: str | Path, *, split: str) -> list[Utterance]:
    """The utterances of `train` or `test`, unchecked; none where that split is not there.

    Gender and age are kept as further fields; the duration is 0 where it is not declared.

    Args:
        folder: of the corpus, or the one above it.
        split: `train` or `test`.

    Raises:
        DataError: a table that cannot be read.
    """
    for place in (Path(folder), Path(folder) / ARCHIVE.folder):
        if (place / f"{split}.tsv").is_file():
            return _read_table(place / f"{split}.tsv")
        if (place / split / "wav.scp").is_file():
            return _read_kaldi(place, split)
    return []


def _read_table(path: Path) -> list[Utterance]:
    rows = list(csv.DictReader(_read_text(path).splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    utterances = []
    for line, row in enumerate(rows, start=2):
        try:
            utt, audio, seconds, speaker, gender, age, text = (row[column].strip() for column in _COLUMNS)
            extra = {"gender": gender, "age": int(age)}
            duration = float(seconds)
        except (KeyError, AttributeError, ValueError) as error:  # AttributeError: a line with too few cells
            raise DataError(
                f"{path}:{line}: not a row of {', '.join(_COLUMNS)} ({error}); copy the table again"
            ) from error
        utterances.append(
            Utterance(path.parent / audio, text, duration, speaker=speaker, id=utt, lang="en", extra=extra)
        )
    return utterances


def _read_kaldi(folder: Path, split: str) -> list[Utterance]:
    audio, texts, speakers, genders, ages = (
        _read_map(folder / split / name) for name in ("wav.scp", "text", "utt2spk", "spk2gender", "spk2age")
    )
    utterances = []
    for utt, path in audio.items():
        speaker = speakers.get(utt, "")
        extra: dict[str, str | int] = {}
        if gender := genders.get(speaker):
            extra["gender"] = gender
        if (age := ages.get(speaker, "")).isdigit():
            extra["age"] = int(age)
        utterances.append(
            Utterance(
                folder / path, texts.get(utt, ""), 0.0, speaker=speaker, id=utt, lang="en", extra=dict(extra)
            )
        )
    return utterances


def _read_map(path: Path) -> dict[str, str]:
    """A Kaldi file: on each line a key, white space and a value."""
    pairs = (line.split(maxsplit=1) for line in _read_text(path).split("\n"))
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(f"{path}: cannot be read ({reason}); unpack the corpus again") from error


def prepare_speechocean762(
    output: str | Path, *, source: str | Path = "", download: bool = False, data: str | Path = "data"
) -> Prepared:
    """Write the manifests: `dev` the fifteen `DEV_SPEAKERS`, `train` the others, and `test` where it is there.

    Args:
        output: folder for the manifests.
        source: the folder speechocean762 or the one above it; "" for none.
        download: fetch the corpus first, into `source` or `data`.
        data: folder for what is downloaded.

    Raises:
        DataError: no corpus was given, it lacks the training set, or nothing in it can be used.
        DownloadError: see `download_speechocean762`.
    """
    folder = find_corpus(ARCHIVE, source=source, download=download, data=data)
    known, test = (read_speechocean762(folder, split=split) for split in ("train", "test"))
    if not known:
        raise DataError(
            f"{folder}: no training set of speechocean762 in it, neither train/wav.scp nor train.tsv; "
            "give the corpus's folder, or say DOWNLOAD=1"
        )
    official = {item.id for item in test}
    sound = keep_sound([*known, *test], output=output)
    training = [item for item in sound if item.id not in official]
    splits = {
        "train": [item for item in training if item.speaker not in DEV_SPEAKERS],
        "dev": [item for item in training if item.speaker in DEV_SPEAKERS],
    }
    if official:
        splits["test"] = [item for item in sound if item.id in official]
    notes = [DEV_NOTE] if official else [DEV_NOTE, NO_TEST_NOTE]
    return Prepared({split: write_split(output, split, rows) for split, rows in splits.items()}, notes)
