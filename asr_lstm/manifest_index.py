"""A manifest of any length as a sequence of utterances: what plans need is in columns, rows are read when asked for.

A million utterances as objects take 1.5 GiB; as columns 37 MB.
"""

from __future__ import annotations

import json
import logging
import os
import unicodedata
import zipfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from asr_lstm.errors import DataError
from asr_lstm.files import atomic_write
from asr_lstm.manifest import Utterance, field_text, iter_rows, make_utterance, parse_line
from asr_lstm.manifest_columns import Collector, Columns, Integers, Summary
from asr_lstm.shards import SHARD_BYTES, Shards, is_sharded
from asr_lstm.units import Normaliser

log = logging.getLogger(__name__)

# Reading the columns of fewer rows takes a second: no need for a file that keeps them.
KEEP_FROM = 100_000
# Of so many rows the utterances stay in memory once read, some 20 MB: small corpora are read once, as a list would be.
_REMEMBERED = 20_000
_VERSION = 2  # of the file of columns


def summarise(utterances: Sequence[Utterance], normaliser: Normaliser) -> Summary:
    """The summary of utterances: an index has it already, a list is looked through."""
    if isinstance(utterances, ManifestIndex) and utterances.normaliser == normaliser:
        return Summary(utterances.columns, utterances.counts, utterances.shards)
    collector = Collector(normaliser)
    for utterance in utterances:
        collector.add(utterance.text, duration=utterance.duration, speaker=utterance.speaker)
    return collector.summary()


def durations_of(utterances: Sequence[Utterance]) -> NDArray[np.float64]:
    """Seconds of each utterance, (utterances,)."""
    if isinstance(utterances, ManifestIndex):
        return utterances.columns.durations
    return np.array([utterance.duration for utterance in utterances], np.float64)


def shards_of(utterances: Sequence[Utterance]) -> Shards:
    """In which archive each utterance lies; the number of one that has a file of its own is -1."""
    if isinstance(utterances, ManifestIndex):
        folder = utterances.path.parent.resolve()
        return Shards(utterances.columns.shards, [folder / name for name in utterances.shards])
    paths = [utterance.path.parent if is_sharded(utterance) else None for utterance in utterances]
    numbers = {path: number for number, path in enumerate(dict.fromkeys(filter(None, paths)))}
    found = [-1 if path is None else numbers[path] for path in paths]
    return Shards(np.array(found, np.int32), list(numbers))


def count_speakers(utterances: Sequence[Utterance]) -> int:
    """How many different speakers are named."""
    if isinstance(utterances, ManifestIndex):
        numbers = np.unique(utterances.columns.speakers)
        return int((numbers >= 0).sum())
    return len({utterance.speaker for utterance in utterances} - {""})


def take(utterances: Sequence[Utterance], rows: Integers) -> Sequence[Utterance]:
    """Some of the utterances, by their places: of an index another index, else a list."""
    if isinstance(utterances, ManifestIndex):
        return utterances.take(rows)
    return [utterances[row] for row in rows.tolist()]


@dataclass(frozen=True)
class _Places:
    """Where rows stand in their file.

    Attributes:
        starts: (rows,) first byte.
        lines: (rows,) number of the line, from 1.
        numbered: (rows,) whether that number is part of the id.
    """

    starts: Integers
    lines: NDArray[np.int32]
    numbered: NDArray[np.bool_]

    def take(self, rows: Integers) -> _Places:
        return _Places(self.starts[rows], self.lines[rows], self.numbered[rows])


class ManifestIndex(Sequence[Utterance]):
    """The rows of a manifest, or some of them; `open_manifest` makes it.

    It holds no open file, so that it can be sent to other processes. Reading a row costs some 30 microseconds.

    Args:
        path: of the manifest.
        normaliser: of the texts that were counted.
        places: where the rows stand.
        columns: what is known of them.
        stamp: of the file when it was read.
        counts: of the characters of its rows; those of a part are counted when asked for.
        shards: the archives that the audio lies in, by their numbers, as the rows name them.

    Attributes:
        columns: (rows,) each.
    """

    def __init__(
        self,
        path: Path,
        normaliser: Normaliser,
        *,
        places: _Places,
        columns: Columns,
        stamp: tuple[int, int],
        counts: Counter[str] | None = None,
        shards: list[str],
    ) -> None:
        self.path = path
        self.normaliser = normaliser
        self.columns = columns
        self.shards = shards
        self._places = places
        self._stamp = stamp
        self._counts = counts
        self._folder = path.parent.resolve()
        self._remembered: dict[int, Utterance] = {}

    @property
    def counts(self) -> Counter[str]:
        """How often each character occurs in the normalised transcripts."""
        if self._counts is None:
            self._counts = Counter()
            for utterance in self:
                self._counts.update(self.normaliser(utterance.text))
        return self._counts

    def __len__(self) -> int:
        return len(self._places.starts)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> ManifestIndex: ...
    def __getitem__(self, index: int | slice) -> Utterance | ManifestIndex:
        """An utterance, read from the file; of a slice an index.

        Raises:
            DataError: the manifest is gone, or was changed since it was opened.
        """
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        row = range(len(self))[index]
        if row in self._remembered:
            return self._remembered[row]
        return next(self._read([row]))

    def __iter__(self) -> Iterator[Utterance]:
        return self._read(range(len(self)))

    def take(self, rows: Integers) -> ManifestIndex:
        """The index of some rows, in their order."""
        counts = None
        left_out = np.setdiff1d(np.arange(len(self)), rows)
        if self._counts is not None and len(left_out) + len(rows) == len(self) and len(left_out) < len(rows):
            counts = self._counts - self._part(left_out).counts
        return self._part(rows, counts)

    def _part(self, rows: Integers, counts: Counter[str] | None = None) -> ManifestIndex:
        return ManifestIndex(
            self.path,
            self.normaliser,
            places=self._places.take(rows),
            columns=self.columns.take(rows),
            stamp=self._stamp,
            counts=counts,
            shards=self.shards,
        )

    def _read(self, rows: Iterable[int]) -> Iterator[Utterance]:
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise DataError(f"{self.path}: cannot read the manifest ({error.strerror})") from error
        with file:
            if _stamp(os.fstat(file.fileno())) != self._stamp:
                raise DataError(f"{self.path}: the manifest was changed while it was in use; start again")
            for row in rows:
                file.seek(int(self._places.starts[row]))
                utterance = self._utterance(file.readline(), row)
                if len(self._remembered) < _REMEMBERED:
                    self._remembered[row] = utterance
                yield utterance

    def _utterance(self, line: bytes, row: int) -> Utterance:
        number = int(self._places.lines[row])
        fields = parse_line(line, path=self.path, number=number)
        if fields is None:
            raise DataError(
                f"{self.path}:{number}: the manifest was changed while it was in use; start again"
            )
        id = field_text(fields, "id") or (self.path.parent / fields["audio_filepath"]).stem
        if self._places.numbered[row]:
            id = f"{id}-{number}"
        return make_utterance(fields, folder=self._folder, id=id)


def open_manifest(path: str | Path, normaliser: Normaliser) -> ManifestIndex:
    """Open a manifest of any length.

    All rows are read once and checked as by `read_manifest`. Of 100,000 rows and more the columns are kept in a hidden
    file beside the manifest, and read from there while the manifest's size and time are the same.

    Args:
        path: of the manifest.
        normaliser: of the texts whose lengths and characters are counted.

    Raises:
        DataError: as `read_manifest`.
    """
    path = Path(path)
    try:
        stamp = _stamp(path.stat())
    except OSError as error:
        raise DataError(f"{path}: cannot read the manifest ({error.strerror})") from error
    index = _read_kept(path, normaliser, stamp)
    if index is None:
        index = _scan(path, normaliser, stamp)
        if len(index) >= KEEP_FROM:
            _keep(index)
    return index


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _scan(path: Path, normaliser: Normaliser, stamp: tuple[int, int]) -> ManifestIndex:
    collector = Collector(normaliser)
    starts, lines, numbered = array("q"), array("i"), array("b")
    for row in iter_rows(path):
        starts.append(row.start)
        lines.append(row.line)
        numbered.append(row.numbered)
        fields = row.fields
        collector.add(
            fields["text"],
            duration=fields["duration"],
            speaker=field_text(fields, "speaker"),
            shard=os.path.dirname(fields["audio_filepath"]) if SHARD_BYTES in fields else "",
        )
    if not lines:
        raise DataError(f"{path}: the manifest is empty; give one JSON object a line")
    places = _Places(np.array(starts, np.int64), np.array(lines, np.int32), np.array(numbered, np.bool_))
    summary = collector.summary()
    return ManifestIndex(
        path,
        normaliser,
        places=places,
        columns=summary.columns,
        stamp=stamp,
        counts=summary.counts,
        shards=summary.shards,
    )


def _kept_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.columns.npz")


def _key(normaliser: Normaliser, stamp: tuple[int, int]) -> str:
    return json.dumps([_VERSION, stamp, asdict(normaliser), unicodedata.unidata_version])


def _keep(index: ManifestIndex) -> None:
    """Write the columns down; where that cannot be, they are read from the manifest the next time too."""
    characters = sorted(index.counts)
    try:
        with atomic_write(_kept_path(index.path), "wb") as file:
            np.savez(
                file,
                key=np.array(_key(index.normaliser, index._stamp)),
                codes=np.array([ord(character) for character in characters]),
                counts=np.array([index.counts[character] for character in characters]),
                archives=np.array(index.shards, np.str_),
                **vars(index._places),
                **vars(index.columns),
            )
    except (DataError, OSError) as error:
        log.debug("columns not kept: %s", error)


def _read_kept(path: Path, normaliser: Normaliser, stamp: tuple[int, int]) -> ManifestIndex | None:
    try:
        with np.load(_kept_path(path), allow_pickle=False) as kept:
            if str(kept["key"]) != _key(normaliser, stamp):
                return None
            arrays = dict(kept)
            characters = map(chr, arrays["codes"].tolist())
            return ManifestIndex(
                path,
                normaliser,
                places=_Places(**{item.name: arrays[item.name] for item in fields(_Places)}),
                columns=Columns(**{item.name: arrays[item.name] for item in fields(Columns)}),
                stamp=stamp,
                counts=Counter(dict(zip(characters, arrays["counts"].tolist(), strict=True))),
                shards=arrays["archives"].tolist(),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # none there, or a damaged one
        return None
