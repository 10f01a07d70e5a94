"""Writing files so that a reader, or a crash, never sees half of one."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from asr_lstm.errors import DataError


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that replaces it when the block ends without an error.

    Args:
        path: where the file shall stand; missing folders are made.
        mode: "w" for UTF-8 text, "wb" for bytes.

    Raises:
        DataError: the folder cannot be written to, `path` is a folder, or the disk is full.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: this is a folder; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise DataError(f"{path}: cannot write here ({error.strerror}); choose another folder") from error
    try:
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes it private
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{path}: the disk is full; nothing was written") from error
        raise


def check_writable(path: Path) -> None:
    """Find out before the work, not after it, that its result cannot be written.

    Raises:
        DataError: it cannot.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give the name of a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise DataError(f"{path}: cannot write here ({error.strerror}); choose another folder") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
