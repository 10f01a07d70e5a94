"""Audio in few large files instead of a million small ones: tar archives with a manifest that says where each lies.

A shard is a plain tar (as WebDataset reads it: NUMBER.flac beside NUMBER.json with the row), in the manifest's order.
The manifest written beside the shards names each recording as SHARD.tar/MEMBER and says where its bytes stand, so that
any row is one read at a known place, and rows in order are read from one end of a shard to the other. Files are copied
as they are: training hears the same, and draws the same batches, as from the files themselves.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from asr_lstm.errors import AudioError, ConfigError, DataError
from asr_lstm.files import atomic_write
from asr_lstm.manifest import Utterance, iter_manifest, write_manifest

log = logging.getLogger(__name__)

SHARD_MIB = 1024  # an hour of 16-bit audio takes 110 MiB, as FLAC half of that
_MIB = 2**20
_FIELD = "shard"  # of a manifest's row: the first byte in the archive, and how many


def shard_command(*, manifest: Path, output: Path, shard_mib: int = SHARD_MIB) -> int:
    """Copy the audio of a manifest into tar archives, and write the manifest that finds it there.

    An interrupted command goes on with the shard it was at. What the archives hold is the files as they are, each once,
    however many rows are cut from it.

    Args:
        manifest: of what to copy.
        output: folder for shard-000000.tar, ... and the new manifest, which keeps its name.
        shard_mib: size at which a new archive is begun.

    Returns:
        0, or 1 where files could not be read: these are listed, and their rows left out.

    Raises:
        ConfigError: `shard_mib` is below 1, or the output is the manifest's own folder.
        DataError: the manifest cannot be read, or the folder not be written to.
    """
    if shard_mib < 1:
        raise ConfigError(f"shard_mib: at least 1, not {shard_mib}")
    if output.resolve() == manifest.parent.resolve():
        raise ConfigError(f"{output}: the manifest itself is there; name another folder")
    failed: list[str] = []
    rows = list(_sharded(manifest, output, limit=shard_mib * _MIB, failed=failed))
    if not rows:
        raise DataError(f"{manifest}: not one of its files could be read; the first: {failed[0] if failed else '-'}")
    write_manifest(output / manifest.name, rows)
    for line in failed:
        print(line, file=sys.stderr)
    print(f"{output / manifest.name}: {len(rows)} rows, {len(failed)} left out")
    return 1 if failed else 0


def _sharded(manifest: Path, output: Path, *, limit: int, failed: list[str]) -> Iterator[Utterance]:
    """The rows as they stand in the shards, which are written on the way."""
    folder = output.resolve()
    number = 0
    waiting: list[Utterance] = []
    size = 0
    seen: set[Path] = set()
    for utterance in iter_manifest(manifest):
        if size >= limit and utterance.path not in seen:
            yield from _shard(folder / f"shard-{number:06d}.tar", waiting, failed)
            number, waiting, size, seen = number + 1, [], 0, set()
        if utterance.path not in seen:
            seen.add(utterance.path)
            size += utterance.path.stat().st_size if utterance.path.is_file() else 0
        waiting.append(utterance)
    yield from _shard(folder / f"shard-{number:06d}.tar", waiting, failed)


def _shard(path: Path, utterances: list[Utterance], failed: list[str]) -> Iterator[Utterance]:
    """Write one archive, if it is not there with just these rows, and give its rows."""
    contents: dict[Path, bytes | None] = {}
    for utterance in utterances:
        if utterance.path not in contents:
            contents[utterance.path] = None
    names = {source: f"{index:08d}{source.suffix.lower()}" for index, source in enumerate(contents)}
    if not _is_whole(path, names):
        with atomic_write(path, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
            for source, name in names.items():
                try:
                    content = source.read_bytes()
                except OSError as error:
                    log.debug("%s: %s", source, error)
                    continue
                _add(archive, name, content)
                described = [item for item in utterances if item.path == source] if len(names) < 2 else ()
                del described
                _add(archive, f"{name.partition('.')[0]}.json", json.dumps({"source": str(source)}).encode())
    with tarfile.open(path) as archive:
        places = {member.name: (member.offset_data, member.size) for member in archive}
    for utterance in utterances:
        name = names[utterance.path]
        if name not in places:
            failed.append(f"{utterance.path}: cannot be read; left out ({utterance.id})")
            continue
        yield Utterance(
            path / name,
            utterance.text,
            utterance.duration,
            utterance.offset,
            utterance.speaker,
            utterance.id,
            utterance.lang,
            utterance.extra | {_FIELD: list(places[name])},
        )
