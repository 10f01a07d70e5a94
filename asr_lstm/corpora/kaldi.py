"""A Kaldi data directory: `wav.scp` and `text`, optionally `segments` and `utt2spk`.

https://kaldi-asr.org/doc/data_prep.html. Each file has one line an item: its name, white space, and

    wav.scp     RECORDING FILE
    text        UTTERANCE THE WORDS THAT ARE SAID
    segments    UTTERANCE RECORDING START END          in seconds; without this file each recording is an utterance
    utt2spk     UTTERANCE SPEAKER
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from asr_lstm.corpora.rows import Listing, Row, find_file, read_text
from asr_lstm.corpora.validate import DUPLICATE, MISSING, UNTRUE_DURATION, Dropped
from asr_lstm.errors import DataError

RECORDINGS = "wav.scp"
_TO_THE_END = -1.0  # what `segments` may give for an end


def read_kaldi(folder: Path) -> Listing:
    """The utterances of a Kaldi data directory.

    Relative names in `wav.scp` are looked for from the directory, then from the current folder. Of two lines of one
    name the first counts, and the other is listed as dropped.

    Raises:
        DataError: `wav.scp` or `text` is missing, empty or unreadable, or a line has too few words, or is a command:
            none is ever run.
    """
    dropped: list[Dropped] = []
    recordings = {name: _find(folder, rest) for name, rest in _first(folder / RECORDINGS, dropped).items()}
    if not recordings:
        raise DataError(f"{folder / RECORDINGS}: lists nothing; give a line `NAME FILE` for each recording")
    texts = _first(folder / "text", dropped, least=0)
    speakers = _first(folder / "utt2spk", dropped) if (folder / "utt2spk").exists() else {}
    if (folder / "segments").exists():
        parts = _first(folder / "segments", dropped)
        segments = {name: _segment(folder, name, rest) for name, rest in parts.items()}
    else:
        segments = {name: (name, 0.0, _TO_THE_END) for name in recordings}
    rows: list[Row] = []
    for name, (recording, start, end) in segments.items():
        path = recordings.get(recording, Path(recording))
        if not os.path.isfile(path):
            reason = "no such file" if recording in recordings else f"{RECORDINGS} lacks the recording"
            dropped.append(Dropped(name, path, f"{MISSING}: {reason}"))
        elif not (end > start >= 0 or (end == _TO_THE_END and start >= 0)):
            dropped.append(Dropped(name, path, f"{UNTRUE_DURATION}: from {start:g} to {end:g} s"))
        else:
            duration = 0.0 if end == _TO_THE_END else end - start
            rows.append(Row(path, texts.get(name, ""), start, duration, name, speakers.get(name, "")))
    for name in texts.keys() - segments.keys():
        dropped.append(Dropped(name, folder / "text", f"{MISSING}: no recording of this name"))
    return Listing(rows, sorted(dropped, key=lambda item: item.id), "a Kaldi data directory")


def _lines(path: Path, *, least: int = 1) -> Iterator[tuple[str, str]]:
    """Name and rest of each line; `least` is how many words the rest has at least."""
    if not path.exists():
        raise DataError(f"{path}: not there; a Kaldi data directory needs {RECORDINGS} and text")
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        name, *rest = line.split(maxsplit=1)[:2] if line.strip() else [""]
        if not name:
            continue
        if len(rest) < least:
            raise DataError(
                f"{path}:{number}: only {name!r} in this line; it needs a name and what belongs to it"
            )
        yield name, rest[0].strip() if rest else ""


def _first(path: Path, dropped: list[Dropped], *, least: int = 1) -> dict[str, str]:
    """The rest of each line by its name; a line that contradicts an earlier one goes to `dropped`."""
    found: dict[str, str] = {}
    for name, rest in _lines(path, least=least):
        if found.setdefault(name, rest) != rest:
            dropped.append(
                Dropped(name, path, f"{DUPLICATE}: {path.name} has this name twice, the first line counts")
            )
    return found


def _find(folder: Path, name: str) -> Path:
    if name.endswith("|"):
        raise DataError(
            f"{folder / RECORDINGS}: {name!r} is a command, and none is run here; "
            "write its audio to a file and name that"
        )
    return find_file(folder / name) or find_file(Path(name).absolute()) or Path(name).absolute()


def _segment(folder: Path, name: str, rest: str) -> tuple[str, float, float]:
    words = rest.split()
    try:
        return words[0], float(words[1]), float(words[2])
    except (IndexError, ValueError) as error:
        raise DataError(
            f"{folder / 'segments'}: {name!r} is followed by {rest!r}, not by a recording, start and end in seconds"
        ) from error
