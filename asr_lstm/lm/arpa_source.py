"""The bytes of an ARPA file, plain or gz, as lines and blocks; with progress shown and faults located."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from asr_lstm.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"

_BLOCK = 1 << 24  # bytes read at a time
_SHOW_BYTES = 50 << 20  # a file beyond this takes seconds: worth a progress bar


class ArpaSource:
    """A file as blocks of bytes; `line` is the number of the line last read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line = 0
        self.buffer = b""
        self.position = 0
        self.size = path.stat().st_size
        self._raw = path.open("rb")
        self.zipped = self._raw.read(2) == GZIP_MAGIC
        self._raw.seek(0)
        self._file = gzip.GzipFile(fileobj=self._raw) if self.zipped else self._raw

    def __enter__(self) -> ArpaSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: BaseException | TracebackType | None) -> None:
        self._raw.close()

    @property
    def read_bytes(self) -> int:
        """How much of the file, as it lies on disk, has been read."""
        return self._raw.tell()

    def fill(self) -> bool:
        """Get more bytes behind those not yet used; False at the end of the file."""
        try:
            block = self._file.read(_BLOCK)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self.fault(f"the gz file is cut short or damaged here ({error}); fetch it again") from error
        self.buffer = self.buffer[self.position :] + block
        self.position = 0
        return bool(block)

    def read_line(self) -> bytes | None:
        """The next line without its end; None at the end of the file."""
        while (stop := self.buffer.find(b"\n", self.position)) < 0:
            if not self.fill():
                stop = len(self.buffer)
                break
        if self.position == len(self.buffer):
            return None
        line = self.buffer[self.position : stop]
        self.position = min(stop + 1, len(self.buffer))
        self.line += 1
        return line.rstrip(b"\r")

    def read_filled_line(self) -> bytes:
        """The next line that is not blank; an error at the end of the file."""
        while (line := self.read_line()) is not None:
            if line.strip():
                return line
        raise self.cut_short()

    def fault(self, problem: str) -> DataError:
        """The error for the line last read."""
        return DataError(f"{self.path}:{self.line}: {problem}")

    def cut_short(self) -> DataError:
        """The error for a file that ends too early."""
        return self.fault("the file ends here, before \\end\\: it was cut short; fetch or write it again")


@contextmanager
def show_progress(source: ArpaSource) -> Iterator[Callable[[], None]]:
    """A bar over the file's bytes, for large files on a terminal; what it gives is called now and then."""
    console = Console(stderr=True)
    columns = (TextColumn("reading {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    hidden = source.size < _SHOW_BYTES or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task(source.path.name, total=source.size)
        yield lambda: progress.update(task, completed=source.read_bytes)
