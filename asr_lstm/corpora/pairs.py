"""A folder of recordings, each with its transcript beside it: `anna/001.wav` and `anna/001.txt`."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from asr_lstm.corpora.rows import Listing, Row, read_text
from asr_lstm.corpora.validate import DUPLICATE, MISSING, Dropped
from asr_lstm.errors import DataError

# What a `Dropped.reason` begins with, beside those of `corpora.validate`.
UNREADABLE_TEXT = "transcript unreadable"
UNREADABLE_FOLDER = "folder unreadable"

# Best first: of two recordings of one name the one that lost nothing in coding is taken.
_LOSSLESS = (".wav", ".flac", ".aiff", ".aif", ".aifc", ".w64", ".rf64", ".caf", ".au", ".snd", ".sph")
_LOSSY = (".opus", ".ogg", ".oga", ".m4a", ".aac", ".mp3", ".mp4", ".webm", ".mka", ".wma", ".amr", ".3gp")
AUDIO_SUFFIXES = {suffix: rank for rank, suffix in enumerate((*_LOSSLESS, *_LOSSY))}
TEXT_SUFFIX = ".txt"


def walk_files(folder: Path) -> tuple[list[Path], list[Dropped]]:
    """All files below a folder in the order of their names, and the folders that cannot be read.

    Hidden names are passed over. Links are followed, but each folder is entered once, and one that `folder` lies in
    never: a link that leads back up ends there.

    Raises:
        DataError: `folder` itself cannot be read.
    """
    files: list[Path] = []
    dropped: list[Dropped] = []
    entered = {_identity(above) for above in Path(os.path.realpath(folder)).parents}
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            identity = _identity(place)
            names = sorted(os.listdir(place))
        except OSError as error:
            if place == folder:
                raise DataError(
                    f"{folder}: cannot read the folder ({error.strerror}); check its name and its mode"
                ) from error
            dropped.append(Dropped(place.name, place, f"{UNREADABLE_FOLDER}: {error.strerror}"))
            continue
        if identity in entered:
            continue
        entered.add(identity)
        visible = [place / name for name in names if not name.startswith(".")]
        folders = {path for path in visible if os.path.isdir(path)}
        files += [path for path in visible if path not in folders]
        waiting += sorted(folders, reverse=True)
    return files, dropped


def _identity(folder: Path) -> tuple[int, int]:
    """What tells a folder from others, however it was reached."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def read_pairs(folder: Path) -> Listing:
    """Every recording below a folder with the text of the same-named .txt beside it.

    A recording without one has the text ""; of several recordings of one name the best comes first.

    Raises:
        DataError: the folder cannot be read, or holds no recording.
    """
    files, dropped = walk_files(folder)
    audio = [path for path in files if path.suffix.lower() in AUDIO_SUFFIXES]
    if not audio:
        raise DataError(
            f"{folder}: no recordings in it; give a folder of audio files, each with a {TEXT_SUFFIX} of the same "
            "name beside it, or a table (.csv, .tsv, .jsonl) that lists path and text"
        )
    texts: dict[tuple[str, str], Path] = {}
    for path in (path for path in files if path.suffix.lower() == TEXT_SUFFIX):
        if (first := texts.setdefault(_key(path), path)) != path:
            dropped.append(Dropped(path.stem, path, f"{DUPLICATE}: {first} is the text of this name"))
    rows: list[Row] = []
    for path in sorted(audio, key=lambda path: (_key(path), AUDIO_SUFFIXES[path.suffix.lower()], path)):
        transcript = texts.get(_key(path))
        try:
            text = " ".join(read_text(transcript).split()) if transcript else ""
        except DataError as error:
            dropped.append(Dropped(path.stem, path, f"{UNREADABLE_TEXT}: {error}"))
            continue
        rows.append(Row(path, text))
    spoken = {_key(path) for path in audio}
    for key, path in texts.items():
        if key not in spoken:
            dropped.append(Dropped(path.stem, path, f"{MISSING}: no recording of this name beside the text"))
    return Listing(rows, dropped, "recordings with a .txt beside each")


def _key(path: Path) -> tuple[str, str]:
    """What a recording and its text have in common; macOS may have written one of the names decomposed."""
    return str(path.parent), unicodedata.normalize("NFC", path.stem)
