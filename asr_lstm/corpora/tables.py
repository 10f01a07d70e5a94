"""A table that lists recordings and their transcripts: CSV, TSV, `|`-separated, or JSON Lines."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_lstm.corpora.rows import Listing, Row, find_file, read_text
from asr_lstm.corpora.validate import MISSING, UNTRUE_DURATION, Dropped
from asr_lstm.errors import DataError
from asr_lstm.shards import SHARD_BYTES

log = logging.getLogger(__name__)

# What a `Dropped.reason` begins with, beside those of `corpora.validate`.
BROKEN_ROW = "broken row"

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")

# The names that corpora and toolkits give their columns, the surest first; read in any case.
# fmt: off
_PATH = ("audio_filepath", "path", "audio", "audio_path", "audio_file", "file_path", "filepath", "file_name",
         "filename", "file", "wav_filename", "wav_path", "wav_file", "wav", "recording", "clip")
_TEXT = ("text", "sentence", "transcript", "transcription", "normalized_text", "normalised_text", "utterance")
_SPEAKER = ("speaker", "speaker_id", "spk", "spk_id", "client_id", "reader", "reader_id")
_ID = ("id", "utt", "utt_id", "uttid", "utterance_id")
_LANG = ("lang", "language", "locale")
_SPLIT = ("split", "subset", "set", "partition")
_OFFSET = ("offset", "start", "start_time", "begin")
_DURATION = ("duration", "length", "seconds")
_END = ("end", "end_time", "stop")
# fmt: on

_QUOTED = ",;"  # quotes mean something only between these; in tab- and bar-separated corpora they are text
_DELIMITERS = ("\t", "|", ";", ",")
# Lines that one row may span by quoted line breaks. A quote that never closes would take in the whole file.
_MOST_LINES = 20
# Lines in which a table without a header has to name a file that is there.
_FIRST_LINES = 20
# Where published corpora keep the audio that their tables name, and what they leave out of its name.
_AUDIO_FOLDERS = ("", "clips", "wavs", "wav", "audio")
_LEFT_OUT = ("", ".wav", ".flac", ".mp3")


@dataclass(frozen=True)
class _Record:
    """A row before its columns have a meaning: `line` is where it begins, `fault` why it cannot be read."""

    line: int
    cells: dict[str, Any]
    fault: str = ""


def read_table(path: Path) -> Listing:
    """The utterances that a table lists.

    The columns are known by their usual names. Without an offset column each row is a whole file, and what
    a column says of its duration is passed over: the file knows better. A table without a header has the
    path in its first column and the text in its last, as LJSpeech's `metadata.csv`. Files are looked for
    beside the table, then in its folders clips, wavs, wav and audio, as named and with .wav, .flac or .mp3.

    Raises:
        DataError: the table cannot be read or is no UTF-8 text, no column holds the path or the text, or not
            one row can be read.
    """
    text = read_text(path)
    records = _json_records(text) if path.suffix.lower() == ".jsonl" else _cell_records(text, path)
    sound = [record for record in records if not record.fault]
    if not sound:
        why = f"line {records[0].line}: {records[0].fault}" if records else "it is empty"
        raise DataError(f"{path}: no row can be read ({why})")
    columns = dict.fromkeys(name for record in sound for name in record.cells)
    reader = _Reader(path, list(columns))
    listing = Listing([], [], "a table")
    for record in records:
        row = reader.read(record)
        if isinstance(row, Row):
            listing.rows.append(row)
        else:
            listing.dropped.append(row)
    return listing


class _Reader:
    """Turns records into rows once it is known which columns hold what."""

    def __init__(self, table: Path, columns: Sequence[str]) -> None:
        self.table = table
        lower = {column.strip().lower(): column for column in reversed(columns)}

        def find(names: Sequence[str], needed: str = "") -> str:
            found = next((lower[name] for name in names if name in lower), "")
            if needed and not found:
                raise DataError(
                    f"{table}: no column for the {needed} (there are {', '.join(columns)}); "
                    f"name it {' or '.join(names[:4])}"
                )
            return found

        self.path, self.text = find(_PATH, "recording's path"), find(_TEXT, "transcript")
        self.speaker, self.id, self.lang, self.split = map(find, (_SPEAKER, _ID, _LANG, _SPLIT))
        self.offset = find(_OFFSET)
        self.duration, self.end = (find(_DURATION), find(_END)) if self.offset else ("", "")

    def read(self, record: _Record) -> Row | Dropped:
        """The row of a record, or why it is none."""
        here = f"{self.table.name}:{record.line}"
        if record.fault:
            return Dropped(here, self.table, f"{BROKEN_ROW}: {record.fault}")
        name = self._word(record, self.path)
        sharded = name and SHARD_BYTES in record.cells  # then it is no file, but lies in one
        path = self.table.parent / name if sharded else _locate(self.table.parent, name)
        identity = self._line(record, self.id) or here
        if path is None:
            reason = (
                f"{MISSING}: no file {name!r} beside the table" if name else f"{MISSING}: no path in the row"
            )
            return Dropped(identity, self.table, f"{reason} ({here})")
        try:
            offset, duration = self._times(record)
        except ValueError as error:
            return Dropped(identity, path, f"{UNTRUE_DURATION}: {error} ({here})")
        used = {self.path, self.text, self.offset, self.duration, self.end}
        return Row(
            path,
            self._line(record, self.text),
            offset,
            duration,
            self._line(record, self.id),
            self._line(record, self.speaker),
            self._line(record, self.lang),
            self._line(record, self.split),
            {
                column: value
                for column, value in record.cells.items()
                if column and column not in used and value not in ("", None)
            },
        )

    def _word(self, record: _Record, column: str) -> str:
        value = record.cells.get(column) if column else None
        return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""

    def _line(self, record: _Record, column: str) -> str:
        """The cell without line breaks, as these would end a line wherever it is shown."""
        return " ".join(self._word(record, column).split())

    def _times(self, record: _Record) -> tuple[float, float]:
        """Offset and duration in seconds."""
        offset, duration, end = (
            self._seconds(record, column) for column in (self.offset, self.duration, self.end)
        )
        if (
            self.end
            and not self.duration
            and (self._word(record, self.end) or self._word(record, self.offset))
        ):
            if not end > offset:
                raise ValueError(f"it ends at {end:g} s and begins at {offset:g} s")
            return offset, end - offset
        return offset, duration

    def _seconds(self, record: _Record, column: str) -> float:
        value = self._word(record, column)
        try:
            return float(value or 0)
        except ValueError:
            raise ValueError(f"{column} is {value!r}, not a number of seconds") from None


def _locate(folder: Path, name: str) -> Path | None:
    if not name:
        return None
    for place in _AUDIO_FOLDERS:
        for suffix in _LEFT_OUT:
            if path := find_file(folder / place / f"{name}{suffix}"):
                return path
    return None


def _json_records(text: str) -> list[_Record]:
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line, parse_constant=lambda _: None)  # NaN, as pandas writes what is not there
        except (ValueError, RecursionError) as error:
            records.append(_Record(number, {}, f"not JSON ({error})"))
            continue
        fault = "" if isinstance(cells, dict) else "not a JSON object"
        records.append(_Record(number, {} if fault else cells, fault))
    return records


def _cell_records(text: str, path: Path) -> list[_Record]:
    lines = list(io.StringIO(text, newline=""))  # str.splitlines would also break at U+2028 and the like
    first = next((index for index, line in enumerate(lines) if line.strip()), len(lines))
    if first == len(lines):
        return []
    first += _preface(lines[first : first + _FIRST_LINES])
    delimiter, header = _header(path, lines[first : first + _FIRST_LINES])
    named = bool(header)
    if not named:
        width = len(_cells(lines[first], delimiter))
        header = ["path", *(f"column {number}" for number in range(2, width)), "text"]
        log.warning("%s has no header: its first column is taken for the path, its last for the text", path)
    return list(_rows(lines, first + named, delimiter, header))


def _preface(lines: Sequence[str]) -> int:
    """How many lines stand above one that names both path and text: comments, or the `sep=;` of Excel."""
    return next((number for number, line in enumerate(lines) if _named_columns(line, both=True)), 0)


def _named_columns(line: str, *, both: bool) -> tuple[str, list[str]] | None:
    """The delimiter and the cells of a line that names path and text, or one of them; None if it does not."""
    for delimiter in _DELIMITERS:
        cells = [cell.strip() for cell in _cells(line, delimiter)]
        names = {cell.lower() for cell in cells}
        if (names & {*_PATH} and names & {*_TEXT}) if both else names & {*_PATH, *_TEXT}:
            return delimiter, cells
    return None


def _header(path: Path, lines: Sequence[str]) -> tuple[str, list[str]]:
    """The delimiter and the names of the columns; none where there is no header.

    Raises:
        DataError: the first line names no column, or one of those that count twice; or the first cells name no file.
    """
    if found := _named_columns(lines[0], both=True) or _named_columns(lines[0], both=False):
        _check_twice(path, found[1])
        return found
    for delimiter in _DELIMITERS:
        rows = [_cells(line, delimiter) for line in lines if line.strip()]
        if any(len(cells) > 1 and _locate(path.parent, cells[0]) for cells in rows):
            return delimiter, []
    raise DataError(
        f"{path}: no header that names the columns (the first line is {lines[0].strip()[:60]!r}), and no file is "
        "named in the first column; begin it with a line such as path,text"
    )


def _check_twice(path: Path, header: Sequence[str]) -> None:
    counts = Counter(cell.lower() for cell in header)
    for name in (*_PATH, *_TEXT, *_SPEAKER, *_ID, *_SPLIT, *_OFFSET, *_DURATION, *_END):
        if counts[name] > 1:
            raise DataError(
                f"{path}: {counts[name]} columns are named {name!r}; rename those that are not meant"
            )


def _cells(line: str, delimiter: str) -> list[str]:
    """The cells of one line, whatever its quotes do."""
    line = line.rstrip("\r\n")
    if delimiter not in _QUOTED:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # a cell larger than any transcript
        return line.split(delimiter)


def _rows(lines: Sequence[str], start: int, delimiter: str, header: Sequence[str]) -> Iterator[_Record]:
    while start < len(lines):
        number, line = start + 1, lines[start]
        start += 1
        if not line.strip():
            continue
        cells = _cells(line, delimiter)
        if delimiter in _QUOTED and '"' in line:
            quoted = _quoted_row(lines[number - 1 : number - 1 + _MOST_LINES], delimiter, len(header))
            if quoted is None:
                yield _Record(
                    number, {}, 'its quotes do not match; close each one, and write one that is text as ""'
                )
                continue
            cells, used = quoted
            start += used - 1
        if any(cells[len(header) :]):
            fault = f"{len(cells)} cells under {len(header)} columns; put text that holds a {delimiter!r} in quotes"
            yield _Record(number, {}, fault)
            continue
        yield _Record(number, dict(zip(header, cells, strict=False)))


def _quoted_row(lines: Sequence[str], delimiter: str, width: int) -> tuple[list[str], int] | None:
    """The cells of the row that begins a stretch of lines, and how many of these it spans; None if it is broken."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        cells = next(reader)
    except csv.Error:
        return None
    used = reader.line_num
    # A quote that opens in one row and closes in a later one joins them; each still looks like a row by itself.
    if used > 1 and all(len(_cells(line, delimiter)) >= width for line in lines[:used]):
        return None
    return cells, used
