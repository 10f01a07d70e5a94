"""Text for language models: lines out of files, sentences out of prose, characters as words."""

from __future__ import annotations

import gzip
import json
import logging
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from asr_lstm.errors import DataError
from asr_lstm.manifest import iter_manifest
from asr_lstm.units import SPACE_SYMBOL

log = logging.getLogger(__name__)

MANIFEST_SUFFIX = ".jsonl"
# Of the lines of prose broken anywhere most begin with a small letter, but some with a capital; of sentences a line
# few do, and of normalised text all or none.
_BROKEN_SHARES = 0.3, 0.98

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# The end of a sentence: its mark, quotes or brackets that close, and white space.
_SENTENCE_END = re.compile(r"""[.!?…]["'”’»)\]]*(\s+)""")
_OPENING = "\"'“‘«([-—"
_TITLES = re.compile(r"\b(?:Mr|Mrs|Ms|Messrs|Dr|St|Prof|Rev|Capt|Col|Gen|Sr|Jr|No|[A-Z])\.$")


def read_lines(paths: str | Path | Sequence[str | Path]) -> Iterator[str]:
    """The lines of one text file or of several, plain or gz; of a manifest (.jsonl, .json) the utterances' texts.

    Raises:
        DataError: a file that cannot be read or is not UTF-8 text; its line is named.
    """
    for path in [paths] if isinstance(paths, str | Path) else paths:
        path = Path(path)
        if _is_manifest(path):
            yield from (utterance.text for utterance in iter_manifest(path))
        else:
            yield from _read_file(path)


def _is_manifest(path: Path) -> bool:
    """By its name; NeMo's are called .json, and so may other texts be: there the first line decides."""
    if path.suffix != ".json":
        return path.suffix == MANIFEST_SUFFIX
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = json.loads(file.readline())
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and "audio_filepath" in first


def read_sentences(paths: str | Path | Sequence[str | Path], *, prose: bool) -> Iterator[str]:
    """The sentences of text files: each line one, or found in prose whose lines are broken anywhere.

    The text of an utterance is a sentence by itself either way.

    Raises:
        DataError: as `read_lines`.
    """
    for path in [paths] if isinstance(paths, str | Path) else paths:
        lines = read_lines(path)
        if _is_manifest(Path(path)):
            yield from lines
        elif prose:
            yield from split_sentences(lines)
        else:
            yield from _warning_of_prose(lines, path)


def _warning_of_prose(lines: Iterable[str], path: str | Path) -> Iterator[str]:
    small = capital = 0
    for line in lines:
        first = line.lstrip()[:1]
        small += first.islower()
        capital += first.isupper()
        yield line
    least, most = _BROKEN_SHARES
    if least < small / max(small + capital, 1) < most:
        log.warning(
            "%s: most lines begin within a sentence; if it is prose with broken lines, say --sentences prose",
            path,
        )


def _read_file(path: Path) -> Iterator[str]:
    number = 0
    try:
        with path.open("rb") as raw:
            zipped = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            raw.seek(0)
            file: IO[bytes] = gzip.GzipFile(fileobj=raw) if zipped else raw  # type: ignore[assignment]
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(_BYTE_ORDER_MARK)
                yield line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}: not UTF-8 text ({error.reason}); convert the file to UTF-8"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: the gz file is cut short or damaged after line {number}; fetch it again"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot read the text ({error.strerror})") from error


def split_sentences(lines: Iterable[str]) -> Iterator[str]:
    """The sentences of prose whose lines are broken anywhere, as in books; a blank line ends one too.

    A sentence ends at . ! ? or ... before anything but a lower-case letter; not after an initial or one of the
    commonest English titles (Mr. and the like). Rough, as it is enough for counting words.
    """
    paragraph: list[str] = []
    for line in lines:
        if line.strip():
            paragraph.append(line.strip())
        else:
            yield from _split_paragraph(" ".join(paragraph))
            paragraph = []
    yield from _split_paragraph(" ".join(paragraph))


def _split_paragraph(text: str) -> Iterator[str]:
    start = 0
    for match in _SENTENCE_END.finditer(text):
        following = text[match.end() : match.end() + 3].lstrip(_OPENING)
        if following[:1].islower() or _TITLES.search(text, start, match.start() + 1):
            continue
        yield text[start : match.start(1)]
        start = match.end(1)
    if start < len(text):
        yield text[start:]


def spell(text: str) -> str:
    """A text's characters as words: "to be" becomes "t o <space> b e", for models over characters."""
    return " ".join(SPACE_SYMBOL if character == " " else character for character in " ".join(text.split()))
