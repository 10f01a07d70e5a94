"""Loading an n-gram model from whatever file holds one; of a large ARPA file the binary form is kept."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from asr_lstm.errors import DataError
from asr_lstm.lm.arpa import read_arpa, write_arpa
from asr_lstm.lm.binary import VERSION, is_binary, load_binary, save_binary
from asr_lstm.lm.ngram import NgramModel

log = logging.getLogger(__name__)

ARPA_SUFFIXES = (".arpa", ".arpa.gz")
BINARY_SUFFIX = ".ngram"

# An ARPA file below this is parsed in a second or two; beyond it, its binary form is worth its disk space.
_CACHE_BYTES = 50 << 20


def load_ngram(path: str | Path) -> NgramModel:
    """Load a model from an ARPA file, plain or gz, or from its binary form; the content tells which.

    The binary form of a large ARPA file is kept in the user's cache (XDG_CACHE_HOME, ~/.cache) and used as long
    as the file's size and time stay the same; it may be deleted at any time.

    Raises:
        DataError: the file cannot be read or holds no sound model.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise DataError(
            f"{path}: a folder, where an n-gram model is a file; give an LSTM's to --lstm or --rescore"
        )
    try:
        if is_binary(path):
            return load_binary(path)
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot read the language model ({error.strerror})") from error
    if status.st_size < _CACHE_BYTES:
        return read_arpa(path)
    return _load_cached(path, f"{status.st_size} {status.st_mtime_ns} {VERSION}")


def _load_cached(path: Path, state: str) -> NgramModel:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "asr_lstm"
    place = f"ngram-{_digest(str(path.resolve()))}"
    cached = folder / f"{place}-{_digest(state)}{BINARY_SUFFIX}"
    if cached.is_file():
        try:
            return load_binary(cached)
        except DataError as error:
            log.info("%s; it is made again", error)
    model = read_arpa(path)
    try:
        save_binary(cached, model)
        for old in folder.glob(f"{place}-*{BINARY_SUFFIX}"):  # of what the file was before
            if old != cached:
                old.unlink()
        log.info("%s: kept in binary form as %s", path, cached)
        return load_binary(cached)
    except (DataError, OSError) as error:
        log.info("the language model's binary form cannot be kept: %s", error)
        return model


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save_ngram(path: str | Path, model: NgramModel) -> None:
    """Write a model in the form that the name asks for: .arpa, .arpa.gz, or .ngram for the binary form.

    Raises:
        DataError: another name, or the file cannot be written.
    """
    check_name(path)
    if Path(path).name.endswith(BINARY_SUFFIX):
        save_binary(path, model)
    else:
        write_arpa(path, model)


def check_name(path: str | Path) -> None:
    """Refuse a name that `save_ngram` would refuse, before the work is done."""
    if not Path(path).name.endswith((*ARPA_SUFFIXES, BINARY_SUFFIX)):
        suffixes = ", ".join(ARPA_SUFFIXES)
        raise DataError(f"{path}: the name must end in {suffixes}, or {BINARY_SUFFIX} for the binary form")
