"""The splits that a preflight looks at: which manifests, what they hold, what their files' headers say."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from asr_lstm.audio import audio_info
from asr_lstm.errors import AudioError, DataError
from asr_lstm.manifest import Utterance, read_manifest
from asr_lstm.preflight.findings import Row
from asr_lstm.shards import recording_file
from asr_lstm.units import Normaliser

Item = TypeVar("Item")
Result = TypeVar("Result")

# Waiting for the disk is most of the work where the disk is far; where it is near, more threads do no harm.
_THREADS = 4
_CHUNK = 64  # tasks of this many items, so that 100,000 files are some 1,500 tasks

# Files are told apart by their size and these many blocks spread over them. Two recordings that agree in all of
# them and differ elsewhere would be digital silence in four places and speech between.
_BLOCKS = 4
_BLOCK_BYTES = 4096

_LAYOUT = "manifests"  # the folder in which a recipe puts them; as part of a name it tells nothing


@dataclass(frozen=True)
class Split:
    """The rows of one manifest.

    Attributes:
        name: of the split.
        manifest: its file.
        rows: its utterances.
        training: whether a model is to learn from it.
    """

    name: str
    manifest: Path
    rows: list[Row]
    training: bool


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of a file without decoding it.

    Attributes:
        seconds: length by its header.
        rate: sampling rate in Hz.
        channels: how many.
        content: equal for files of equal bytes.
        error: why it cannot be read, "" where it can; the rest is 0 then.
    """

    seconds: float = 0.0
    rate: int = 0
    channels: int = 0
    content: str = ""
    error: str = ""


def find_manifests(paths: Sequence[Path]) -> list[Path]:
    """The manifests that `paths` name: files themselves, folders by the *.jsonl in them or, if none, below them.

    Raises:
        DataError: a folder without a manifest, or nothing named at all.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.glob("*.jsonl")) or sorted(path.rglob("*.jsonl"))
            if not inside:
                raise DataError(
                    f"{path}: no manifest (*.jsonl) in this folder; `asr-lstm prepare` or a recipe writes them"
                )
            found += inside
        else:
            found.append(path)
    if not found:
        raise DataError("no manifest given; name one with --manifest, or a folder of them")
    return list(dict.fromkeys(found))


def read_splits(manifests: Sequence[Path], *, normaliser: Normaliser) -> list[Split]:
    """Read manifests as splits named after their files, training first.

    Training are those whose name begins with "train"; where there is none, the first manifest. Files of one name are
    told apart by their folders.

    Raises:
        DataError: a manifest cannot be read.
    """
    training = [path for path in manifests if path.stem.startswith("train")] or [manifests[0]]
    order = training + [path for path in manifests if path not in training]
    splits = []
    for path, name in zip(order, _names(order), strict=True):
        rows = [Row(name, utterance, normaliser(utterance.text)) for utterance in read_manifest(path)]
        splits.append(Split(name, path, rows, path in training))
    return splits


def _names(paths: Sequence[Path]) -> list[str]:
    """The stem of each path, with the folders that tell it from others of that stem."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(paths):
        return stems
    above = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    below = [path.absolute().parent.relative_to(above).parts for path in paths]
    told = [tuple(part for part in parts if part != _LAYOUT) for parts in below]
    if len(set(zip(told, stems, strict=True))) < len(paths):
        told = below
    return [
        "/".join((*(parts or (above.name,)), stem)) if stems.count(stem) > 1 else stem
        for parts, stem in zip(told, stems, strict=True)
    ]


def sets_of_splits(splits: Sequence[Split]) -> list[list[Split]]:
    """The splits that belong together, and may be compared.

    Where several folders have a split to learn from, as the folds of a corpus have, each folder is a set by itself:
    the training of one fold is the test of another. Else all are one set, wherever they stand.
    """
    folders: dict[Path, list[Split]] = {}
    for split in splits:
        folders.setdefault(split.manifest.absolute().parent, []).append(split)
    sets = list(folders.values())
    several = sum(any(split.training for split in part) for part in sets) > 1
    return sets if several else [list(splits)]


def read_headers(utterances: Iterable[Utterance]) -> dict[Path, FileFacts]:
    """What the header of each one's file says, each file once; of a file in a shard under the name it has there."""
    distinct = {utterance.path: utterance for utterance in utterances}
    facts = in_threads(_read_header, list(distinct.values()), message="reading headers")
    return dict(zip(distinct, facts, strict=True))


def _read_header(utterance: Utterance) -> FileFacts:
    try:
        with recording_file(utterance) as file:
            info = audio_info(file)
            content = _content_key(file)
    except AudioError as error:
        return FileFacts(error=str(error).removeprefix(f"{utterance.path}: "))
    except OSError as error:  # it went away between the two
        return FileFacts(error=error.strerror or "cannot be read")
    return FileFacts(info.seconds, info.rate, info.channels, content)


def _content_key(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(str(size).encode())
        for block in range(_BLOCKS):
            file.seek(block * size // _BLOCKS)
            digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], *, message: str, threads: int = _THREADS
) -> Iterator[Result]:
    """The results of `function` in order, computed in several threads, with a bar on a terminal's standard error."""
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    console = Console(stderr=True)
    pool = ThreadPoolExecutor(threads)
    try:
        results = pool.map(lambda chunk: [function(item) for item in chunk], chunks)
        shown = track(
            results,
            message,
            total=len(chunks),
            console=console,
            disable=not console.is_terminal,  # a transient bar would leave empty lines in a log
            transient=True,
        )
        yield from itertools.chain.from_iterable(shown)
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C the files in line are not read first


def recordings(rows: Sequence[Row], facts: Mapping[Path, FileFacts]) -> dict[str, list[Row]]:
    """Rows by the recording they are cut from: one file, or several of the same bytes."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        known = facts.get(row.utterance.path)
        key = known.content if known and known.content else str(row.utterance.path)
        groups.setdefault(key, []).append(row)
    return groups
