"""Fetching a corpus from its publisher: resumed where it broke, checked, unpacked without surprises."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rich.progress import (
    Progress,
    TaskID,
)

from asr_lstm.corpora.unpack import progress_bar
from asr_lstm.errors import DataError, DownloadError
from asr_lstm.files import atomic_write

log = logging.getLogger(__name__)

# Large enough that the loop costs nothing beside the network, small enough that a break loses little.
_BLOCK_BYTES = 1 << 18
# A connection that brought this much forward did its work: only those that brought less count as failed,
# so that 30 GB over a line that breaks every hour arrive in the end.
_PROGRESS_BYTES = 1 << 20
# The wait before the second attempt; it doubles from one failure to the next.
_FIRST_WAIT_SECONDS = 1.0
# Answers of a server that is busy or being restarted; any other refusal will not change by asking again.
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Interrupted(Exception):
    """The connection ended, or was useless, before the file was whole: worth another attempt."""


def fetch(
    url: str, target: str | Path, *, md5: str, timeout_seconds: float = 30.0, attempts: int = 5
) -> Path:
    """Fetch a file, going on where an earlier attempt or run broke off, and check what came.

    What has come so far stands in `TARGET.part` and survives an interruption. A file that is there with
    the right checksum is not fetched again; a hidden `.TARGET.verified` beside it (checksum, size, time of
    change) spares reading it all for that.

    Args:
        url: an http or https address.
        target: the file to write; missing folders are made.
        md5: the published checksum, 32 hexadecimal digits.
        timeout_seconds: how long the server may be silent.
        attempts: connections in a row that may fail without having brought the file forward.

    Returns:
        `target`.

    Raises:
        DownloadError: the server cannot be reached, refuses, or sends something else than was published;
            or the disk is full or not writable.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{32}", md5):
        raise ValueError(f"md5: 32 hexadecimal digits, not {md5!r}")
    if attempts < 1:
        raise ValueError(f"attempts: at least 1, not {attempts}")
    target, md5 = Path(target), md5.lower()
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with progress_bar() as progress:
            task = progress.add_task(target.name, total=None)
            if target.is_file():
                if _is_verified(target, md5, progress, task):
                    log.info("%s is there and has the published checksum", target)
                    return target
                log.warning("%s does not have the published checksum: it is fetched anew", target)
            Download(url, part, timeout_seconds, attempts, progress, task).run(md5)
            part.replace(target)
            _mark_verified(target, md5)
    except OSError as error:  # what befell the connection is a DownloadError already: this is the disk
        raise DownloadError(
            f"{target}: cannot write ({error.strerror or error}); free some space or choose another folder"
        ) from error
    return target


@dataclass
class Download:
    """One file on its way: fetched into `part`, on from where an earlier attempt broke off."""

    url: str
    part: Path
    timeout_seconds: float
    attempts: int
    progress: Progress
    task: TaskID

    def run(self, md5: str) -> None:
        """Fill `part` until it has this checksum."""
        start = self.complete()
        found = _md5(self.part, self.progress, self.task)
        if found != md5 and start > 0:
            log.warning(
                "%s: what was joined has a wrong checksum: fetched once more from its start", self.url
            )
            self.part.unlink()
            self.complete()
            found = _md5(self.part, self.progress, self.task)
        if found != md5:
            self.part.unlink()
            raise DownloadError(
                f"{self.url}: what the server sends has the MD5 {found}, not the published {md5}; try again "
                f"later or from a mirror, or put the file at {self.part.with_suffix('')} yourself"
            )

    def complete(self) -> int:
        """Fill `part` by as many connections as it takes; returns the byte at which the last one began."""
        failures, furthest = 0, _size(self.part)
        while True:
            try:
                return self.receive()
            except _Interrupted as error:
                size = _size(self.part)
                # Counted from the furthest byte ever reached, so that starting over again and again ends.
                failures = 0 if size >= furthest + _PROGRESS_BYTES else failures + 1
                furthest = max(furthest, size)
                if failures >= self.attempts:
                    raise DownloadError(
                        f"{self.url}: {error} (attempt {failures} of {self.attempts}); run the same command "
                        f"again to go on at byte {size:,}, or use a mirror"
                    ) from error
                log.warning("%s: %s; going on at byte %s", self.url, error, f"{size:,}")
                time.sleep(_FIRST_WAIT_SECONDS * 2 ** max(0, failures - 1))

    def receive(self) -> int:
        """Append one answer of the server to `part`; returns the byte at which the answer began."""
        offset = _size(self.part)
        response = self.open(offset)
        if response is None:
            return offset
        with response:
            start, total = _extent(response)
            if start not in (0, offset):
                self.part.unlink(missing_ok=True)  # never joined to what does not continue it
                raise _Interrupted(f"asked for the bytes from {offset:,}, the server sent others")
            self.progress.reset(self.task, total=total, completed=start, description=self.part.stem)
            with self.part.open("ab" if start else "wb") as file:
                for block in _blocks(response):
                    file.write(block)
                    self.progress.advance(self.task, len(block))
        size = _size(self.part)
        if total is not None and size < total:
            raise _Interrupted(f"the connection ended at {size:,} of {total:,} bytes")
        return start

    def open(self, offset: int) -> HTTPResponse | None:
        """Ask for the bytes from `offset`; None where the server says that there are none after it."""
        try:
            # Some mirrors turn Python's own name away.
            request = Request(self.url, headers={"User-Agent": "asr_lstm"})
            if request.type not in ("http", "https"):
                raise ValueError(f"cannot fetch by {request.type}")
            if offset:
                request.add_header("Range", f"bytes={offset}-")
            return cast(HTTPResponse, urlopen(request, timeout=self.timeout_seconds))
        except (ValueError, InvalidURL) as error:
            raise DownloadError(f"{self.url}: {error}; give an address that begins with https://") from error
        except HTTPError as error:
            error.close()
            if error.code == 416 and offset:
                return None  # the part is whole, or wrong: its checksum will tell
            answer = f"the server answers {error.code} {error.reason}"
            if error.code in _PASSING_STATUS:
                raise _Interrupted(answer) from error
            raise DownloadError(f"{self.url}: {answer}; check the address or use a mirror") from error
        except URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                reason = error.reason.verify_message
                raise DownloadError(
                    f"{self.url}: {reason}; check this machine's clock and certificates"
                ) from error
            raise _Interrupted(f"no connection ({error.reason})") from error
        except (OSError, HTTPException) as error:
            raise _Interrupted(f"the connection ended ({error or type(error).__name__})") from error


def _extent(response: HTTPResponse) -> tuple[int, int | None]:
    """Where an answer begins, -1 if it does not say, and the size in bytes of the whole file, if known."""
    length = response.headers.get("Content-Length", "")
    if response.status != 206:
        return 0, int(length) if length.isdigit() else None
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if match is None:
        return -1, None
    start = int(match[1])
    if match[2] != "*":
        return start, int(match[2])
    return start, start + int(length) if length.isdigit() else None


def _blocks(response: HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            block = response.read(_BLOCK_BYTES)
        except (OSError, HTTPException) as error:
            raise _Interrupted(f"the connection ended ({error or type(error).__name__})") from error
        if not block:
            return
        yield block


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path, progress: Progress, task: TaskID) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    progress.reset(task, total=_size(path), description=f"checking {path.name}")
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            progress.advance(task, len(block))
    return digest.hexdigest()


def _verification(target: Path, md5: str) -> tuple[Path, str]:
    status = target.stat()
    return target.with_name(f".{target.name}.verified"), f"{md5} {status.st_size} {status.st_mtime_ns}\n"


def _is_verified(target: Path, md5: str, progress: Progress, task: TaskID) -> bool:
    marker, record = _verification(target, md5)
    if marker.is_file() and marker.read_bytes() == record.encode():
        return True
    if _md5(target, progress, task) != md5:
        return False
    _mark_verified(target, md5)
    return True


def _mark_verified(target: Path, md5: str) -> None:
    marker, record = _verification(target, md5)
    # Without it the next run reads the file once more: no reason to fail in a folder that is read-only.
    with contextlib.suppress(DataError, OSError), atomic_write(marker) as file:
        file.write(record)
