"""What corpora that are one archive at their publisher's have in common: fetched or found, checked, written."""

from __future__ import annotations

import gzip
import hashlib
import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr_lstm.corpora.download import Download
from asr_lstm.corpora.unpack import progress_bar, unpack
from asr_lstm.corpora.validate import report_dropped, validate_utterances
from asr_lstm.errors import DataError, DownloadError
from asr_lstm.files import atomic_write
from asr_lstm.manifest import Utterance, write_manifest

log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20
# The server may be silent so long, and so many connections in a row may fail: as in `download.fetch`.
_TIMEOUT_SECONDS = 30.0
_ATTEMPTS = 5
_COMPLETE = ".complete"


@dataclass(frozen=True)
class Archive:
    """A corpus as its publisher gives it away.

    Attributes:
        name: of the corpus, in messages.
        url: of a tar.gz.
        folder: what it unpacks to.
        files: how many files match a pattern below that folder once all is there.
        megabytes: to be fetched, about.
        sha256: published checksum; "" where there is none, and gzip's own and `files` have to do.
    """

    name: str
    url: str
    folder: str
    files: Mapping[str, int]
    megabytes: int
    sha256: str = ""


def find_corpus(archive: Archive, *, source: str | Path, download: bool, data: str | Path) -> Path:
    """The folder of a corpus: what the user names, or where it is downloaded to.

    Args:
        archive: the corpus.
        source: the corpus's folder or the one above it; "" for none.
        download: fetch it first, into `source` or `data`.
        data: folder for what is downloaded.

    Raises:
        DataError: neither was asked for, or there is no such folder.
        DownloadError: as in `download_archive`.
    """
    if download:
        place = Path(source or data).expanduser()
        return download_archive(archive, place.parent if place.name == archive.folder else place)
    if not source:
        raise DataError(
            f"no {archive.name} given: say DATA=/path/to/{archive.folder} where it lies, or DOWNLOAD=1 to fetch it "
            f"({archive.megabytes} MB, {archive.url}); to asr-lstm prepare the path alone, or --download true"
        )
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; give that of {archive.name}, or fetch it (DOWNLOAD=1, or --download true of "
            "asr-lstm prepare)"
        )
    return folder


def download_archive(archive: Archive, folder: str | Path) -> Path:
    """Fetch, check and unpack a corpus into `folder`; what is done is skipped, what broke off goes on.

    Returns:
        The corpus's folder.

    Raises:
        DownloadError: it cannot be fetched or unpacked, or is not what was published.
    """
    corpus = Path(folder) / archive.folder
    done = corpus / _COMPLETE
    if done.is_file():
        log.info("%s is complete", corpus)
        return corpus
    target = Path(folder) / f"{archive.folder}.tar.gz"
    log.info("fetching %s", archive.url)
    unpack(fetch_archive(archive.url, target, sha256=archive.sha256), folder)
    for pattern, count in archive.files.items():
        if (found := sum(1 for _ in corpus.glob(pattern))) != count:
            raise DownloadError(
                f"{target}: gave {found} files {archive.folder}/{pattern}, the corpus has {count}; "
                "delete it and fetch it again, or take the corpus from elsewhere"
            )
    with atomic_write(done) as file:
        file.write(f"{archive.url}\n")
    return corpus


def fetch_archive(url: str, target: str | Path, *, sha256: str = "") -> Path:
    """Fetch a gzip archive, going on where an earlier attempt or run broke off, and check what came.

    Without a published checksum it must be whole by gzip's own. That finds what was cut or damaged, but not what
    somebody put in the archive's place: check what it holds.

    Args:
        url: an http or https address.
        target: the file to write; missing folders are made.
        sha256: published checksum, 64 hexadecimal digits; "" where there is none.

    Raises:
        DownloadError: the server cannot be reached, refuses, or sends something else; or the disk is full or not
            writable.
    """
    target = Path(target)
    part = target.with_name(f"{target.name}.part")
    fault = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_file() and not _fault(target, sha256):
            return target
        for _ in range(2):  # what two sittings joined may not fit: then once more from its start
            with progress_bar() as progress:
                task = progress.add_task(target.name, total=None)
                Download(url, part, _TIMEOUT_SECONDS, _ATTEMPTS, progress, task).complete()
            if not (fault := _fault(part, sha256)):
                part.replace(target)
                return target
            part.unlink()
    except OSError as error:
        raise DownloadError(
            f"{target}: cannot write ({error.strerror or error}); free some space or choose another folder"
        ) from error
    raise DownloadError(
        f"{url}: what the server sends {fault}; try again later, or put the file at {target} yourself"
    )


def _fault(path: Path, sha256: str) -> str:
    """What is wrong with an archive, "" if nothing is known to be."""
    if sha256:
        found = _sha256(path)
        return "" if found == sha256.lower() else f"has the SHA-256 {found}, not the published {sha256}"
    try:
        with gzip.open(path) as stream:
            while stream.read(_BLOCK_BYTES):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return "is not a whole gzip archive"
    return "" if path.stat().st_size else "is empty"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def keep_sound(candidates: Sequence[Utterance], *, output: str | Path) -> list[Utterance]:
    """The utterances that can be used; the others are listed in `output/dropped.tsv` with the reason."""
    sound, dropped = validate_utterances(candidates)
    report_dropped(dropped, path=Path(output) / "dropped.tsv", total=len(candidates))
    return sound


def write_split(output: str | Path, split: str, utterances: Iterable[Utterance]) -> Path:
    """Write `output/SPLIT.jsonl`.

    Raises:
        DataError: there is no utterance.
    """
    output, utterances = Path(output), list(utterances)
    if not utterances:
        raise DataError(
            f"{output / 'dropped.tsv'}: nothing is left for {split}; see there what was dropped and why"
        )
    path = output / f"{split}.jsonl"
    write_manifest(path, utterances)
    hours = sum(utterance.duration for utterance in utterances) / 3600
    speakers = len({utterance.speaker for utterance in utterances})
    log.info("%s: %d utterances, %.2f h, %d speakers", split, len(utterances), hours, speakers)
    return path
