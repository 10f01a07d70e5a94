"""What is known of the rows of a manifest without their texts, in columns."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from asr_lstm.units import Normaliser

_CHUNK = 4096  # texts that are looked at together

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Columns:
    """What is known of each row without its text.

    Attributes:
        durations: (rows,) seconds.
        speakers: (rows,) a number for each speaker's name, -1 where none is given.
        characters: (rows,) of the normalised transcript.
        doubled: (rows,) characters of it that equal the one before them.
        shards: (rows,) a number for the archive that the audio lies in, -1 for a file of its own.
    """

    durations: NDArray[np.float64]
    speakers: NDArray[np.int32]
    characters: NDArray[np.int32]
    doubled: NDArray[np.int32]
    shards: NDArray[np.int32]

    def take(self, rows: Integers) -> Columns:
        """The columns of some rows."""
        return Columns(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})


@dataclass(frozen=True)
class Summary:
    """What is known of all rows together.

    Attributes:
        columns: (rows,) each.
        counts: how often each character occurs in the normalised transcripts.
        shards: the archives, by their numbers, as the rows name them.
    """

    columns: Columns
    counts: Counter[str]
    shards: list[str]


class Collector:
    """Gathers a summary row by row.

    Args:
        normaliser: of the texts.
    """

    def __init__(self, normaliser: Normaliser) -> None:
        self._normaliser = normaliser
        self._durations = array("d")
        self._speakers = array("i")
        self._numbers: dict[str, int] = {"": -1}
        self._shards = array("i")
        self._archives: dict[str, int] = {"": -1}
        self._texts: list[str] = []
        self._characters: list[NDArray[np.int32]] = []
        self._doubled: list[NDArray[np.int32]] = []
        self._counts: Counter[str] = Counter()

    def add(self, text: str, *, duration: float, speaker: str, shard: str = "") -> None:
        """Take in a row; `shard` is the archive that its audio lies in."""
        self._durations.append(duration)
        self._speakers.append(self._numbers.setdefault(speaker, len(self._numbers) - 1))
        self._shards.append(self._archives.setdefault(shard, len(self._archives) - 1))
        self._texts.append(self._normaliser(text))
        if len(self._texts) == _CHUNK:
            self._look_at_texts()

    def _look_at_texts(self) -> None:
        """Lengths, doubled characters and counts of the texts at hand, which hold no line feed."""
        if not self._texts:
            return
        joined = "\n".join(self._texts) + "\n"
        encoding, kind = ("ascii", np.uint8) if joined.isascii() else ("utf-32-le", np.uint32)
        codes = np.frombuffer(joined.encode(encoding), kind)
        ends = np.flatnonzero(codes == ord("\n"))
        lengths = np.diff(ends, prepend=-1) - 1
        same = np.zeros(len(codes), np.int32)
        same[1:] = (codes[1:] == codes[:-1]) & (codes[1:] != ord("\n"))
        self._characters.append(lengths.astype(np.int32))
        self._doubled.append(np.add.reduceat(same, ends - lengths, dtype=np.int32))
        numbers = np.bincount(codes)
        numbers[ord("\n")] = 0
        for code in np.flatnonzero(numbers).tolist():
            self._counts[chr(code)] += int(numbers[code])
        self._texts.clear()

    def summary(self) -> Summary:
        """Of all rows."""
        self._look_at_texts()
        nothing = [np.zeros(0, np.int32)]
        columns = Columns(
            np.array(self._durations, np.float64),
            np.array(self._speakers, np.int32),
            np.concatenate(nothing + self._characters),
            np.concatenate(nothing + self._doubled),
            np.array(self._shards, np.int32),
        )
        return Summary(columns, self._counts, [name for name in self._archives if name])
