"""Audio in few large files instead of a million small ones: tar archives, and a manifest that says where each lies.

A shard is a plain tar in the manifest's order, NUMBER.flac beside NUMBER.json with its text, as WebDataset reads it.
The manifest beside the shards names each recording as SHARD.tar/MEMBER and says where its bytes stand: any row is one
read at a known place, and rows in order are read from one end of a shard to the other. Files are copied as they are:
training draws the same batches and hears the same as from the files themselves, and a saved place means the same.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr_lstm.errors import AudioError, ConfigError, DataError
from asr_lstm.files import atomic_write
from asr_lstm.manifest import Utterance, read_manifest, write_manifest

SHARD_MIB = 1024  # 18 hours of speech as FLAC
_MIB = 2**20
_EMPTY = "is empty; copy it again"
SHARD_BYTES = (
    "shard_bytes"  # of a row: the first byte of the recording in its archive, and how many there are
)
_MEMORY = Path("/dev/shm")


def shard_command(*, manifest: Path, output: Path, shard_mib: int = SHARD_MIB) -> int:
    """Copy the audio of a manifest into tar archives, and write the manifest that finds it there.

    The archives hold the files as they are, each once, however many rows are cut from it and wherever these stand. An
    interrupted command goes on with the archive that it was at.

    Args:
        manifest: of what to copy.
        output: folder for shard-000000.tar, ... and the new manifest, which keeps its name.
        shard_mib: size at which the next archive is begun.

    Returns:
        0, or 1 where files could not be read: they are listed, and their rows left out.

    Raises:
        ConfigError: `shard_mib` is below 1, the output is the manifest's own folder, or the manifest is of shards.
        DataError: the manifest or not one of its files can be read, or the folder cannot be written to.
    """
    if shard_mib < 1:
        raise ConfigError(f"shard_mib: at least 1, not {shard_mib}")
    if output.resolve() == manifest.parent.resolve():
        raise ConfigError(f"{output}: the manifest itself is there; name another folder")
    given = read_manifest(manifest)
    if any(map(is_sharded, given)):
        raise ConfigError(f"{manifest}: lies in shards already; give the manifest that they were made of")
    failed: dict[Path, str] = {}
    places: dict[Path, tuple[Path, list[int]]] = {}
    for number, texts in enumerate(_parts(given, shard_mib * _MIB)):
        path = output.resolve() / f"shard-{number:06d}.tar"
        names = {source: f"{place:08d}" for place, source in enumerate(texts)}
        if not _is_whole(path, names, texts):
            failed |= _write_shard(path, texts, names)
        else:
            lacking = [source for source in names if not _has_content(source)]
            failed |= {source: _EMPTY if source.is_file() else "cannot be read" for source in lacking}
        places |= _find(path, names)
    rows = [_in_shard(row, *places[row.path]) for row in given if row.path in places]
    if not rows:
        raise DataError(f"{manifest}: not one of its files can be read; check the paths in it")
    write_manifest(output / manifest.name, rows)
    for source, reason in failed.items():
        print(f"{source}: {reason}; left out", file=sys.stderr)
    print(f"{output / manifest.name}\t{len(rows)} rows")
    return 1 if failed else 0


def _parts(rows: Sequence[Utterance], limit: int) -> Iterator[dict[Path, str]]:
    """The files of each archive with the text of their first row, in order, so many as have `limit` bytes."""
    texts: dict[Path, str] = {}
    for row in rows:
        texts.setdefault(row.path, row.text)
    part: dict[Path, str] = {}
    size = 0
    for source, text in texts.items():
        if size >= limit:
            yield part
            part, size = {}, 0
        part[source] = text
        size += source.stat().st_size if os.path.isfile(source) else 0
    yield part


def _write_shard(path: Path, texts: Mapping[Path, str], names: Mapping[Path, str]) -> dict[Path, str]:
    """Write one archive whole or not at all; returns the files that cannot be read, with the reason."""
    failed = {}
    with atomic_write(path, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
        for source, name in names.items():
            try:
                content = source.read_bytes()
            except OSError as error:
                failed[source] = error.strerror or "cannot be read"
                continue
            if not content:
                failed[source] = _EMPTY
                continue
            about = json.dumps({"source": str(source), "text": texts[source]}).encode()
            for member, data in ((f"{name}{source.suffix.lower()}", content), (f"{name}.json", about)):
                header = tarfile.TarInfo(member)
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))
    return failed


def _is_whole(path: Path, names: Mapping[Path, str], texts: Mapping[Path, str]) -> bool:
    """Whether an archive is there that holds just these files, as they are now, with these texts."""
    found = {source: source.stat() for source in names if os.path.isfile(source)}
    wanted = {
        names[source]: (now.st_size, str(source), texts[source])
        for source, now in found.items()
        if now.st_size
    }
    sizes: dict[str, int] = {}
    about: dict[str, tuple[str, str]] = {}
    try:
        written = path.stat().st_mtime_ns
        if any(now.st_size and now.st_mtime_ns > written for now in found.values()):
            return False  # changed since, be it to as many bytes
        with tarfile.open(path) as archive:
            for member in archive:
                name, _, kind = member.name.partition(".")
                if kind == "json":
                    described = archive.extractfile(member)
                    row = json.load(described) if described else {}
                    about[name] = row["source"], row["text"]
                else:
                    sizes[name] = member.size
    except (OSError, tarfile.TarError, ValueError, KeyError):
        return False
    return {name: (size, *about.get(name, ("", ""))) for name, size in sizes.items()} == wanted


def _has_content(source: Path) -> bool:
    return os.path.isfile(source) and source.stat().st_size > 0


def _find(path: Path, names: Mapping[Path, str]) -> dict[Path, tuple[Path, list[int]]]:
    """Of each file that is in an archive its name there, first byte and length."""
    with tarfile.open(path) as archive:
        places = {member.name: [member.offset_data, member.size] for member in archive}
    members = {source: f"{name}{source.suffix.lower()}" for source, name in names.items()}
    return {source: (path / member, places[member]) for source, member in members.items() if member in places}


def _in_shard(row: Utterance, member: Path, place: list[int]) -> Utterance:
    """A row that finds its recording in an archive."""
    return replace(row, path=member, extra=row.extra | {SHARD_BYTES: place})


@dataclass(frozen=True)
class Shards:
    """In which archive each of some utterances lies.

    Attributes:
        numbers: (utterances,) of the archive.
        paths: of the archives, by their numbers.
    """

    numbers: NDArray[np.int32]
    paths: list[Path]


def read_ahead(paths: Sequence[Path], start: float, end: float) -> None:
    """Ask the system to read a share of some files, one after another, into its memory; it does so meanwhile.

    Where it cannot, or a file is not there, nothing happens: who reads then waits, or says what is missing.

    Args:
        paths: the files, in order.
        start: share of all their bytes, from 0, before which nothing is asked for.
        end: share, to 1, at which it ends.
    """
    if not hasattr(os, "posix_fadvise"):  # macOS, Windows
        return
    sizes = [path.stat().st_size if path.is_file() else 0 for path in paths]
    first, last = (round(share * sum(sizes)) for share in (start, end))
    for path, size in zip(paths, sizes, strict=True):
        begin, count = max(0, first), min(size, last) - max(0, first)
        if count > 0:
            with suppress(OSError), path.open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), begin, count, os.POSIX_FADV_WILLNEED)
        first, last = first - size, last - size


def is_sharded(utterance: Utterance) -> bool:
    """Whether a row's recording lies in a shard."""
    return SHARD_BYTES in utterance.extra


def read_member(utterance: Utterance) -> bytes:
    """The bytes of a row's recording, in one read.

    Raises:
        AudioError: the shard is missing or cut short, or the row does not say where in it.
    """
    shard = utterance.path.parent
    place = utterance.extra[SHARD_BYTES]
    if not (
        isinstance(place, list)
        and len(place) == 2
        and all(type(value) is int and value >= 0 for value in place)
    ):
        raise AudioError(f"{utterance.path}: `{SHARD_BYTES}` must be two numbers of bytes, not {place!r}")
    start, size = place
    try:
        with shard.open("rb", buffering=0) as file:
            present = os.fstat(file.fileno()).st_size
            file.seek(start)
            content = file.read(size) if start + size <= present else b""
    except OSError as error:
        raise AudioError(
            f"{utterance.path}: the shard cannot be read ({error.strerror}); check the path"
        ) from error
    if len(content) < size or not size:
        raise AudioError(f"{utterance.path}: the shard ends before it; copy the shard again")
    return content


def holder(utterance: Utterance) -> Path:
    """The file that holds a row's recording: its shard, or the recording itself."""
    return utterance.path.parent if is_sharded(utterance) else utterance.path


@contextmanager
def recording_file(utterance: Utterance) -> Iterator[Path]:
    """A file with a row's recording; of one in a shard a copy, as long as the block lasts.

    It is in memory where the system offers that.

    Raises:
        AudioError: as `read_member`; and what is raised in the block, with the recording's own name.
    """
    if not is_sharded(utterance):
        yield utterance.path
        return
    content = read_member(utterance)
    folder = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place, utterance.path.name)
        path.write_bytes(content)
        try:
            yield path
        except AudioError as error:
            raise AudioError(str(error).replace(str(path), str(utterance.path))) from error
