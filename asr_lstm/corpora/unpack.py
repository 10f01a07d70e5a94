"""Unpacking a corpus: nothing lands outside its folder, and nothing half-done looks whole."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from asr_lstm.errors import DownloadError

_BLOCK_BYTES = 1 << 18


def unpack(archive: str | Path, folder: str | Path) -> None:
    """Unpack a tar.gz so that nothing lands outside `folder`, and nothing half-done looks whole.

    The files are written to a hidden folder inside `folder` first and then moved to their places, a new
    folder by one rename; what stands in `folder` already stays, except files of the same name. Owners and
    modes of the archive are not taken over. Only files and folders are unpacked: an archive with a link or
    a device in it, an absolute name, or a name with `..` is refused as a whole.

    Raises:
        DownloadError: the archive is damaged or refused, or the disk is full or not writable.
    """
    archive, folder = Path(archive), Path(folder)
    work = folder / f".{archive.name}.unpacking"
    try:
        shutil.rmtree(work, ignore_errors=True)  # left behind by a run that was killed
        work.mkdir(parents=True)
        _extract(archive, work)
        _move_into(work, folder)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DownloadError(
            f"{archive}: not a whole tar.gz archive ({error}); delete it and fetch it again"
        ) from error
    except OSError as error:
        raise DownloadError(
            f"{error.filename or folder}: cannot unpack {archive.name} ({error.strerror or error}); "
            "free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _extract(archive: Path, folder: Path) -> None:
    with (
        progress_bar() as progress,
        progress.open(archive, "rb", description=f"unpacking {archive.name}") as file,
        gzip.GzipFile(fileobj=file) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        for member in tar:
            path = folder / _safe_name(member, archive)
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            if source is not None:
                with path.open("wb") as goal:
                    shutil.copyfileobj(source, goal, _BLOCK_BYTES)
        while stream.read(_BLOCK_BYTES):  # gzip's own checksum stands at the very end
            pass


def _safe_name(member: tarfile.TarInfo, archive: Path) -> PurePosixPath:
    # tarfile's own `data` filter is missing from early releases of Python 3.10 and 3.11, and lets links pass.
    name = PurePosixPath(member.name)
    if not (member.isreg() or member.isdir()):
        reason = "neither a file nor a folder"
    elif name.is_absolute() or ".." in name.parts or "\0" in member.name:
        reason = "outside the folder"
    else:
        return name
    raise DownloadError(
        f"{archive}: refused, for its member {member.name!r} is {reason}; fetch the corpus from its publisher"
    )


def _move_into(source: Path, target: Path) -> None:
    for entry in sorted(source.iterdir()):
        goal = target / entry.name
        if entry.is_dir() and goal.is_dir():
            _move_into(entry, goal)
        else:
            os.replace(entry, goal)


def progress_bar() -> Progress:
    """Bytes and their speed on standard error, gone when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
