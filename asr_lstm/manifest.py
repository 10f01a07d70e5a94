"""The utterance record and its JSON Lines form (NeMo's field names), the one way data enters the toolkit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr_lstm.errors import DataError
from asr_lstm.files import atomic_write

# Ten years; a longer recording is a mistake, and not-a-number and infinity are none at all.
MAX_SECONDS = 3e8

_FIELDS = ("audio_filepath", "text", "duration", "offset", "speaker", "id", "lang")


@dataclass(frozen=True)
class Utterance:
    """One recording, or a stretch of one, with its transcript.

    Attributes:
        path: the file; what it holds is the loader's affair (audio for `asr_lstm.audio.load_utterance`).
        text: the reference transcript.
        duration: length in seconds of what is to be used.
        offset: where it begins in the file, in seconds.
        speaker: who speaks, "" where unknown.
        id: unique in its manifest; the file's stem by default.
        lang: language code, "" where unknown.
        extra: every further field of the manifest's row, kept as it was.
    """

    path: Path
    text: str
    duration: float
    offset: float = 0.0
    speaker: str = ""
    id: str = ""
    lang: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", self.path.stem)


# Reads an utterance as audio (samples,) or as frames (frames, dims).
Loader = Callable[[Utterance], NDArray[np.float32]]


def read_manifest(path: str | Path) -> list[Utterance]:
    """Read a JSON Lines manifest.

    Each row needs `audio_filepath` (absolute, or relative to the manifest), `text` and `duration`
    (seconds); `offset`, `speaker`, `id` and `lang` are optional; other fields are kept. Without an `id` the
    file's stem is one, with the line's number behind it where that stem occurred before.

    Raises:
        DataError: no such file, a broken row (named by its line), an id that occurs twice, or no row.
    """
    utterances = list(iter_manifest(path))
    if not utterances:
        raise DataError(f"{path}: the manifest is empty; give one JSON object a line")
    return utterances


def iter_manifest(path: str | Path) -> Iterator[Utterance]:
    """Yield the rows of a manifest one by one; errors as in `read_manifest`, but an empty file is none."""
    path = Path(path)
    try:
        file = path.open(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot read the manifest ({error.strerror})") from error
    folder = path.parent.resolve()
    seen: dict[str, int] = {}
    with file:
        try:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                utterance, named = _parse_row(line, folder=folder, where=f"{path}:{number}")
                if (
                    utterance.id in seen and not named
                ):  # files of one name in several folders, or parts of one
                    utterance = replace(utterance, id=f"{utterance.id}-{number}")
                if utterance.id in seen:
                    raise DataError(
                        f"{path}:{number}: id {utterance.id!r} stands already in line {seen[utterance.id]}; "
                        "give each row its own `id`"
                    )
                seen[utterance.id] = number
                yield utterance
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not a manifest: it is not UTF-8 text") from error


def _parse_row(line: str, *, folder: Path, where: str) -> tuple[Utterance, bool]:
    """The utterance of a row, and whether the row gives it an id."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError alone: a number of thousands of digits
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise DataError(f"{where}: not JSON ({reason}); each line is one object") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: a row must be a JSON object, not {type(row).__name__}")
    for name, kind in (("audio_filepath", str), ("text", str)):
        if not isinstance(row.get(name), kind):
            raise DataError(f"{where}: `{name}` is missing or not text")
    numbers = {}
    for name, value in (("duration", row.get("duration")), ("offset", row.get("offset", 0.0))):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_SECONDS:
            raise DataError(f"{where}: `{name}` must be a number of seconds, not {value!r}")
        numbers[name] = float(value)
    utterance = Utterance(
        path=folder / row["audio_filepath"],
        text=row["text"],
        duration=numbers["duration"],
        offset=numbers["offset"],
        speaker=_name(row, "speaker"),
        id=_name(row, "id"),
        lang=_name(row, "lang"),
        extra={name: value for name, value in row.items() if name not in _FIELDS},
    )
    return utterance, bool(_name(row, "id"))


def _name(row: dict[str, Any], field: str) -> str:
    value = row.get(field)
    return "" if value is None else str(value)


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest atomically; audio below the manifest's folder is named relative to it."""
    path = Path(path)
    folder = path.parent.resolve()
    with atomic_write(path) as file:
        for utterance in utterances:
            file.write(json.dumps(_to_row(utterance, folder), ensure_ascii=False) + "\n")


def _to_row(utterance: Utterance, folder: Path) -> dict[str, Any]:
    audio = os.path.abspath(utterance.path)
    # Resolved like `folder`, or a folder reached through a link would not contain its own audio.
    relative = os.path.relpath(utterance.path.parent.resolve() / utterance.path.name, folder)
    row: dict[str, Any] = {
        "audio_filepath": audio if relative.startswith("..") else relative,
        "text": utterance.text,
        "duration": utterance.duration,
        "id": utterance.id,
    }
    if utterance.offset:
        row["offset"] = utterance.offset
    for name in ("speaker", "lang"):
        if value := getattr(utterance, name):
            row[name] = value
    return utterance.extra | row
