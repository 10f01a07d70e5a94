"""Remembering which stage of a recipe was done with which inputs, so that it is not done twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from asr_lstm.corpora.pairs import walk_files
from asr_lstm.files import atomic_write

_BLOCK_BYTES = 1 << 20


class Stages:
    """The record of a recipe's stages, in one JSON file.

    Args:
        path: of that file; made when the first stage is finished.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._records: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._records = {}  # no record, or a damaged one: everything is to be done

    @staticmethod
    def digest(key: Mapping[str, Any]) -> str:
        """A short name for everything a stage depends on."""
        return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def done(self, stage: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was recorded when `stage` was finished with this key, if its outputs are still there; else None."""
        entry = self._records.get(stage)
        if entry is None or entry["digest"] != self.digest(key):
            return None
        if not all(Path(path).exists() for path in entry["outputs"]):
            return None
        return self.record(stage)

    def record(self, stage: str) -> dict[str, Any]:
        """What was recorded when `stage` was last finished."""
        recorded: dict[str, Any] = self._records[stage]["record"]
        return recorded

    def finish(
        self, stage: str, key: Mapping[str, Any], record: Mapping[str, Any], *, outputs: Iterable[Path]
    ) -> None:
        """Record that `stage` is done.

        Args:
            stage: its name.
            key: everything it depends on, as JSON would write it.
            record: what later stages want to know of it.
            outputs: files without which it would have to be done again.
        """
        self._records[stage] = {
            "digest": self.digest(key),
            "record": dict(record),
            "outputs": [str(path) for path in outputs],
        }
        with atomic_write(self.path) as file:
            json.dump(self._records, file, indent=1)


def content_digest(path: str | Path) -> str:
    """SHA-256 of a file's contents."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def tree_digest(values: Iterable[Any]) -> str:
    """A digest of names, sizes and times of the files among `values`, in lists of them and in folders.

    Other values are passed over.
    """
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, list | tuple):
            digest.update(tree_digest(value).encode())
        elif not isinstance(value, str | Path) or not value:
            continue
        elif Path(value).is_dir():
            files, _ = walk_files(Path(value))
            for path in files:
                digest.update(_file_entry(path, os.path.relpath(path, value)))
        elif Path(value).is_file():
            digest.update(_file_entry(value, os.path.basename(value)))
    return digest.hexdigest()


def _file_entry(path: str | Path, name: str) -> bytes:
    try:
        status = os.stat(path)
        state = f"{status.st_size} {status.st_mtime_ns}"
    except OSError:  # a link to nowhere
        state = "missing"
    return f"{name} {state}\n".encode(errors="surrogateescape")
