"""LibriSpeech: about 1000 hours of English audiobooks, read by volunteers, 16 kHz (OpenSLR 12 and 31).

https://www.openslr.org/12 and, for the small Mini LibriSpeech (`train-clean-5`, `dev-clean-2`, excerpts
of the same recordings), https://www.openslr.org/31. Licence CC BY 4.0. V. Panayotov, G. Chen,
D. Povey and S. Khudanpur, "Librispeech: an ASR corpus based on public domain audio books", ICASSP 2015.

The archives unpack to

    LibriSpeech/SUBSET/READER/CHAPTER/READER-CHAPTER-NNNN.flac
    LibriSpeech/SUBSET/READER/CHAPTER/READER-CHAPTER.trans.txt    one line an utterance: ID TEXT

with the text in capitals, without punctuation. No reader is in two of the sets train, dev and test.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr_lstm.corpora.download import fetch
from asr_lstm.corpora.unpack import unpack
from asr_lstm.corpora.validate import Dropped, report_dropped, validate_utterances
from asr_lstm.errors import DataError
from asr_lstm.files import atomic_write
from asr_lstm.manifest import Utterance, write_manifest

log = logging.getLogger(__name__)

# Mirrors with the same folders below: https://us.openslr.org/resources, https://openslr.elda.org/resources.
OFFICIAL = "https://www.openslr.org/resources"

# The publisher's checksums (md5sum.txt beside the archives), read in two places each. All: PaddleSpeech,
# dataset/librispeech/librispeech.py and dataset/mini_librispeech/mini_librispeech.py. Resource 12 again:
# Myrtle, src/myrtlespeech/data/dataset/librispeech.py; resource 31 again: projects that quote its md5sum.txt.
SUBSETS: dict[str, tuple[str, str]] = {
    "dev-clean": (f"{OFFICIAL}/12/dev-clean.tar.gz", "42e2234ba48799c1f50f24a7926300a1"),
    "dev-other": (f"{OFFICIAL}/12/dev-other.tar.gz", "c8d0bcc9cca99d4f8b62fcc847357931"),
    "test-clean": (f"{OFFICIAL}/12/test-clean.tar.gz", "32fa31d27d2e1cad72775fee3f4849a9"),
    "test-other": (f"{OFFICIAL}/12/test-other.tar.gz", "fb5a50374b501bb3bac4815ee91d3135"),
    "train-clean-100": (f"{OFFICIAL}/12/train-clean-100.tar.gz", "2a93770f6d5c6c964bc36631d331a522"),
    "train-clean-360": (f"{OFFICIAL}/12/train-clean-360.tar.gz", "c0e676e450a7ff2f54aeade5171606fa"),
    "train-other-500": (f"{OFFICIAL}/12/train-other-500.tar.gz", "d1a0fd59409feb2c614ce4d30c387708"),
    "dev-clean-2": (f"{OFFICIAL}/31/dev-clean-2.tar.gz", "6d7ab67ac6a1d2c993d050e16d61080d"),
    "train-clean-5": (f"{OFFICIAL}/31/train-clean-5.tar.gz", "5df7d4e78065366204ca6845bb08f490"),
}

_CORPUS = "LibriSpeech"
# A corpus in the same layout may have one `train`, `dev` or `test` of its own.
_SUBSET_NAME = re.compile(r"(train|dev|test)(-.+)?")
_TRANSCRIPT = "*.trans.txt"
_LAYOUT = "train-*, dev-* or test-* folder with READER/CHAPTER/*.trans.txt"
# How many of the folders found are named where none was a subset.
_NAMED = 5


def download_librispeech(*, subsets: Sequence[str], folder: str | Path, base_url: str = OFFICIAL) -> Path:
    """Fetch subsets, check them against the published checksums and unpack them; what is done is skipped.

    The archives stay in `folder` and may be deleted afterwards.

    Args:
        subsets: names from `SUBSETS`, as ("train-clean-5", "dev-clean-2") for Mini LibriSpeech.
        folder: where the archives go, and the folder `LibriSpeech` beside them.
        base_url: the address of a mirror in place of the publisher's.

    Returns:
        The folder `LibriSpeech`.

    Raises:
        DataError: no subset of that name, or `folder` cannot be written to.
        DownloadError: as in `asr_lstm.corpora.download.fetch` and `unpack.unpack`.
    """
    if isinstance(subsets, str):
        raise ValueError("subsets: a sequence of names, not one text")
    unknown = [name for name in subsets if name not in SUBSETS]
    if unknown or not subsets:
        problem = f"no subset of LibriSpeech is called {unknown[0]!r}" if unknown else "no subset was named"
        raise DataError(f"{problem}; choose from {', '.join(SUBSETS)}")
    folder = Path(folder).expanduser()
    corpus = folder / _CORPUS
    for name in subsets:
        done = corpus / f".{name}.complete"
        if done.is_file() and (corpus / name).is_dir():
            log.info("%s is complete", corpus / name)
            continue
        url, md5 = SUBSETS[name]
        url = base_url.rstrip("/") + url.removeprefix(OFFICIAL)
        log.info("fetching %s", url)
        unpack(fetch(url, folder / f"{name}.tar.gz", md5=md5), folder)
        with atomic_write(done) as file:
            file.write(f"{md5}\n")
    return corpus


def find_subsets(folder: str | Path) -> dict[str, Path]:
    """The subsets in a LibriSpeech folder, or in the folder above it, by name.

    Raises:
        DataError: there is none.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a LibriSpeech folder: there is no such folder; give one with a {_LAYOUT}"
        )
    try:
        for place in (folder, folder / _CORPUS):
            found = {path.name: path for path in _folders(place) if _is_subset(path)}
            if found:
                return found
        if any(folder.glob(f"*/*/{_TRANSCRIPT}")):
            raise DataError(
                f"{folder} is not a LibriSpeech folder: it is one of its subsets, or is named as none; "
                f"give the folder above, with a {_LAYOUT}"
            )
        names = [path.name for path in _folders(folder)]
    except OSError as error:
        raise DataError(f"{folder}: cannot read the folder ({error.strerror})") from error
    listed = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    raise DataError(
        f"{folder} is not a LibriSpeech folder: it holds no {_LAYOUT} (found: {listed or 'no folder'}); "
        "give the folder that holds e.g. dev-clean, or the one above"
    )


def _folders(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def _is_subset(path: Path) -> bool:
    if not _SUBSET_NAME.fullmatch(path.name):
        return False
    return next(path.glob(f"*/*/{_TRANSCRIPT}"), None) is not None


def read_subset(folder: str | Path) -> list[Utterance]:
    """Every utterance of a subset in the order of the names, unchecked, with duration 0 for not yet known.

    A line of a transcript without audio comes with a path to nothing, audio without a line with an empty
    text: `validate_utterances` finds both.

    Raises:
        DataError: a transcript that cannot be read, or no utterance at all.
    """
    folder = Path(folder).expanduser()
    utterances = [
        utterance
        for reader in _folders(folder)
        for chapter in _folders(reader)
        for utterance in _read_chapter(chapter, speaker=reader.name)
    ]
    if not utterances:
        raise DataError(f"{folder}: no utterance in it; a subset holds READER/CHAPTER/{_TRANSCRIPT}")
    return utterances


def _read_chapter(chapter: Path, *, speaker: str) -> Iterator[Utterance]:
    silent = {path.stem: path for path in sorted(chapter.glob("*.flac")) if not path.name.startswith(".")}
    for transcript in sorted(chapter.glob(_TRANSCRIPT)):
        if transcript.name.startswith("."):  # macOS leaves such beside the real ones
            continue
        try:
            lines = transcript.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise DataError(
                f"{transcript}: cannot read the transcript ({reason}); unpack it again"
            ) from error
        for line in filter(str.strip, lines):
            name, *rest = line.split(maxsplit=1)
            silent.pop(name, None)
            path = chapter / f"{name}.flac"
            text = rest[0].strip() if rest else ""
            yield Utterance(path=path, text=text, duration=0.0, speaker=speaker, id=name, lang="en")
    for name, path in silent.items():
        yield Utterance(path=path, text="", duration=0.0, speaker=speaker, id=name, lang="en")


def prepare_librispeech(
    output: str | Path, *, source: str | Path, subsets: Sequence[str] | None = None
) -> dict[str, Path]:
    """Write a manifest for each split that is there: `train`, `dev`, and every test set by its own name.

    All `train-*` are joined to `train.jsonl`, all `dev-*` to `dev.jsonl`. Faulty utterances are left out
    and listed with the reason in `dropped.tsv`.

    Args:
        output: the folder for the manifests.
        source: the LibriSpeech folder or the one above it.
        subsets: which subsets to take; all that are there by default.

    Returns:
        The manifests by split, training first, test sets last.

    Raises:
        DataError: not a LibriSpeech folder, a subset that it lacks, or a split without one sound utterance.
    """
    if isinstance(subsets, str):
        raise ValueError("subsets: a sequence of names, not one text")
    output, found = Path(output), find_subsets(source)
    chosen = list(dict.fromkeys(subsets)) if subsets else list(found)
    for name in chosen:
        if name not in found:
            raise DataError(f"{source}: no subset {name!r}; it has {', '.join(found)}")
    splits: dict[str, list[Path]] = {"train": [], "dev": []}
    for name in sorted(chosen):
        kind = name.partition("-")[0]
        splits.setdefault(name if kind == "test" else kind, []).append(found[name])
    kept: dict[str, list[Utterance]] = {}
    dropped: list[Dropped] = []
    for split, folders in splits.items():
        if folders:
            candidates = [utterance for folder in folders for utterance in read_subset(folder)]
            kept[split], faulty = validate_utterances(candidates)
            dropped += faulty
    total = sum(map(len, kept.values())) + len(dropped)
    report_dropped(dropped, path=output / "dropped.tsv", total=total)
    return {split: _write_split(output, split, utterances) for split, utterances in kept.items()}


def _write_split(output: Path, split: str, utterances: Sequence[Utterance]) -> Path:
    if not utterances:
        raise DataError(
            f"{output / 'dropped.tsv'}: every utterance of {split} was dropped, for the reasons there"
        )
    path = output / f"{split}.jsonl"
    write_manifest(path, utterances)
    hours = sum(utterance.duration for utterance in utterances) / 3600
    speakers = len({utterance.speaker for utterance in utterances})
    log.info("%s: %d utterances, %.2f h, %d speakers", split, len(utterances), hours, speakers)
    return path
