"""Writing files so that a reader, or a crash, never sees half of one."""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from asr_lstm.errors import DataError


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that replaces it when the block ends without an error.

    A link stays one, to what is written, and a file that is replaced hands its permissions on. A pipe or a device,
    such as /dev/stdout, is written to as it is: there is nothing to replace.

    Args:
        path: where the file shall stand; missing folders are made.
        mode: "w" for UTF-8 text, "wb" for bytes.

    Raises:
        DataError: the folder cannot be written to, `path` is a folder, or the disk is full.
    """
    path, encoding = _where(Path(path)), None if "b" in mode else "utf-8"
    if _is_no_file(path):
        sys.stdout.flush()  # what was printed before may go the same way
        with path.open(mode.replace("w", "a"), encoding=encoding) as file:
            yield file
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise DataError(f"{path}: cannot write here ({error.strerror}); choose another folder") from error
    try:
        with os.fdopen(descriptor, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes it private
        os.chmod(temporary, stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask())
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
    path = _where(path)
    if _is_no_file(path):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise DataError(f"{path}: cannot write here ({error.strerror}); choose another folder") from error


def _where(path: Path) -> Path:
    """The path itself, or where a link leads.

    Raises:
        DataError: it is a folder, or no disk takes such a name.
    """
    try:
        if path.is_dir():
            raise DataError(f"{path}: this is a folder; name a file")
        return path.resolve() if path.is_symlink() and not _is_no_file(path) else path
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        reason = getattr(error, "strerror", None) or "its links lead in a circle"
        raise DataError(f"{path}: cannot write here ({reason}); choose another name") from error


def _is_no_file(path: Path) -> bool:
    """Whether something is there that no file may take the place of, be it /dev/stdout led to a file."""
    top = path.absolute().parts[1:3]
    system = top[:1] in (("dev",), ("proc",)) and top != ("dev", "shm")
    return path.exists() and (system or not path.is_file())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
