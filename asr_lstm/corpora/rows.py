"""What a user's own recordings are read into, whatever listed them: rows, and what could not become one."""

from __future__ import annotations

import codecs
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from asr_lstm.corpora.validate import Dropped
from asr_lstm.errors import DataError

# What a `Dropped.reason` begins with, beside those of `corpora.validate`.
UNKNOWN_SPLIT = "unknown split"

_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


_ZERO_BYTES = "not UTF-8 text (it holds zero bytes, as UTF-16 does); save it as UTF-8"


@dataclass(frozen=True)
class Row:
    """One utterance as its source lists it, unchecked.

    Attributes:
        path: its audio file.
        text: its transcript, "" where there is none.
        offset: where it begins in the file, in seconds.
        duration: its length in seconds; 0 for all that follows the offset.
        id: as the source gives it, "" where it gives none.
        speaker: likewise.
        lang: likewise.
        split: likewise.
        extra: the source's further columns.
    """

    path: Path
    text: str
    offset: float = 0.0
    duration: float = 0.0
    id: str = ""
    speaker: str = ""
    lang: str = ""
    split: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """What a source lists.

    Attributes:
        rows: its utterances.
        dropped: what could not be read as one.
        origin: the kind of source, in words.
    """

    rows: list[Row]
    dropped: list[Dropped]
    origin: str


def split_name(name: str) -> str:
    """The split that a column, a table or a folder means by a name, "" if none.

    "Validation" is "dev", "train-clean-100" is "train"; test sets keep a name of their own ("test-other").
    """
    kind, separator, rest = re.sub(r"[\W_]+", "-", name.strip().lower()).partition("-")
    split = _SPLIT_NAMES.get(kind, "")
    return f"test-{rest.strip('-')}" if split == "test" and separator and rest.strip("-") else split


def join_listings(parts: Sequence[tuple[str, Listing]]) -> Listing:
    """One listing of several, each with the name of its split."""
    return Listing(
        rows=[replace(row, split=split) for split, part in parts for row in part.rows],
        dropped=[item for _, part in parts for item in part.dropped],
        origin=parts[0][1].origin,
    )


def use_splits(listing: Listing) -> Listing:
    """The rows with the toolkit's names of their splits; where any is known, those without one are dropped."""
    names = [split_name(row.split) for row in listing.rows]
    if not any(names):
        return replace(listing, rows=[replace(row, split="") for row in listing.rows])
    rows, dropped = [], list(listing.dropped)
    for row, name in zip(listing.rows, names, strict=True):
        if name:
            rows.append(replace(row, split=name))
        else:
            reason = f"{UNKNOWN_SPLIT}: {row.split!r} is none of train, dev and test"
            dropped.append(Dropped(row.id or row.path.stem, row.path, reason))
    return replace(listing, rows=rows, dropped=dropped)


def find_file(name: str | Path) -> Path | None:
    """The file of a name, also where the disk has its letters with marks composed and the name has not, or reversed.

    macOS and its archives write names decomposed, tables are mostly composed.
    """
    text = str(name)
    for written in dict.fromkeys((text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD")))):
        if os.path.isfile(written):
            return Path(written)
    return None


def read_text(path: Path) -> str:
    """A text file as UTF-8, or as UTF-16 where a byte order mark says so.

    Raises:
        DataError: it cannot be read, or is in another encoding, which is not guessed: a wrong guess gives
            wrong letters without a word.
    """
    try:
        if not path.is_file():  # reading from a pipe would wait for ever
            raise DataError(f"{path}: not a regular file; write the text to one")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); change its mode or its owner") from error
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\0" in data:
            raise DataError(f"{path}: {_ZERO_BYTES}") from error
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: not UTF-8 text (byte 0x{data[error.start]:02X}); save it as UTF-8, "
            "for instance by `iconv -f LATIN1 -t UTF-8` with its true encoding"
        ) from error
    if "\0" in text:
        raise DataError(f"{path}: {_ZERO_BYTES}")
    return text
