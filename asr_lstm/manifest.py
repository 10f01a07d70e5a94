"""The utterance record and its JSON Lines form (NeMo's field names), the one way data enters the toolkit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr_lstm.errors import DataError
from asr_lstm.files import atomic_write

# Ten years; a longer recording is a mistake, and not-a-number and infinity are none at all.
MAX_SECONDS = 3e8

_FIELDS = frozenset(("audio_filepath", "text", "duration", "offset", "speaker", "id", "lang"))


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
    folder = Path(path).parent.resolve()
    for row in iter_rows(path):
        yield make_utterance(row.fields, folder=folder, id=row.id)


class ManifestRow(NamedTuple):
    """A row that was read and checked.

    Attributes:
        line: its number, from 1.
        start: its first byte in the file.
        id: of the utterance.
        numbered: whether the line's number was put behind the id.
        fields: what stands in the row.
    """

    line: int
    start: int
    id: str
    numbered: bool
    fields: dict[str, Any]


def iter_rows(path: str | Path) -> Iterator[ManifestRow]:
    """Yield the checked rows of a manifest, without making an utterance of each; errors as in `iter_manifest`."""
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot read the manifest ({error.strerror})") from error
    seen: dict[str, int] = {}
    start = 0
    with file:
        for number, line in enumerate(file, start=1):
            fields = parse_line(line, path=path, number=number)
            if fields is not None:
                id, numbered = field_text(fields, "id"), False
                if (
                    not id
                ):  # files of one name in several folders, or parts of one, are told apart by their lines
                    id = (path.parent / fields["audio_filepath"]).stem
                    numbered = id in seen
                    id = f"{id}-{number}" if numbered else id
                if id in seen:
                    raise DataError(
                        f"{path}:{number}: id {id!r} stands already in line {seen[id]}; "
                        "give each row its own `id`"
                    )
                seen[id] = number
                yield ManifestRow(number, start, id, numbered, fields)
            start += len(line)


def parse_line(line: bytes, *, path: Path, number: int) -> dict[str, Any] | None:
    """The checked fields of a manifest's line, None of an empty one.

    Raises:
        DataError: naming the line.
    """
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a manifest: it is not UTF-8 text") from error
    try:
        fields, end = _scan_json(text, 0)
        whole = end == len(text) - 1 or not text[end:].strip()
    except (ValueError, RecursionError, StopIteration):
        whole = False
    if not whole:
        if not text.strip():
            return None
        fields = _load_json(text, where=f"{path}:{number}")
    if fault := _fault(fields):
        raise DataError(f"{path}:{number}: {fault}")
    checked: dict[str, Any] = fields
    return checked


# What `json.loads` does with a text after looking at its ends; a million rows have time for that only where it fails.
_scan_json: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def _load_json(text: str, *, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError alone: a number of thousands of digits
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise DataError(f"{where}: not JSON ({reason}); each line is one object") from error


def _fault(fields: Any) -> str:
    """What is wrong with a row, "" where nothing is."""
    if not isinstance(fields, dict):
        return f"a row must be a JSON object, not {type(fields).__name__}"
    length, begin = fields.get("duration"), fields.get("offset", 0.0)
    named = type(fields.get("audio_filepath")) is type(fields.get("text")) is str
    if (
        named
        and type(length) is type(begin) is float
        and 0 <= length < MAX_SECONDS
        and 0 <= begin < MAX_SECONDS
    ):
        return ""  # the usual row, told without the loops
    for name in ("audio_filepath", "text"):
        if not isinstance(fields.get(name), str):
            return f"`{name}` is missing or not text"
    for name, value in (("duration", fields.get("duration")), ("offset", fields.get("offset", 0.0))):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_SECONDS:
            return f"`{name}` must be a number of seconds, not {value!r}"
    return ""


def make_utterance(fields: dict[str, Any], *, folder: Path, id: str) -> Utterance:
    """The utterance of a checked row in a manifest that stands in `folder`."""
    return Utterance(
        path=folder / fields["audio_filepath"],
        text=fields["text"],
        duration=float(fields["duration"]),
        offset=float(fields.get("offset", 0.0)),
        speaker=field_text(fields, "speaker"),
        id=id,
        lang=field_text(fields, "lang"),
        extra={name: value for name, value in fields.items() if name not in _FIELDS},
    )


def field_text(fields: dict[str, Any], name: str) -> str:
    """A name in a row, where a number may stand as well; "" where there is none."""
    value = fields.get(name)
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
    return {name: value for name, value in utterance.extra.items() if name not in _FIELDS} | row
