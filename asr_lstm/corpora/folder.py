"""A user's own recordings: a folder with a .txt beside each, a table that lists them, or a Kaldi directory."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from asr_lstm.corpora import Prepared
from asr_lstm.corpora.kaldi import RECORDINGS, read_kaldi
from asr_lstm.corpora.pairs import read_pairs
from asr_lstm.corpora.rows import Listing, Row, join_listings, split_name, use_splits
from asr_lstm.corpora.speakers import below_common, name_speakers, speaker_pattern
from asr_lstm.corpora.splits import check_shares, split_utterances
from asr_lstm.corpora.tables import TABLE_SUFFIXES, read_table
from asr_lstm.corpora.validate import Dropped, report_dropped, validate_utterances
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.manifest import Utterance, write_manifest

log = logging.getLogger(__name__)

# What a `Dropped.reason` begins with, beside those of `corpora.validate`, `rows`, `pairs` and `tables`.
TOO_LONG = "too long"

DROPPED_NAME = "dropped.tsv"


def prepare_folder(
    output: str | Path,
    *,
    source: str | Path,
    speaker: str = "",
    dev: float = 0.1,
    test: float = 0.1,
    max_seconds: float = 40.0,
    lang: str = "",
    seed: int = 1,
) -> Prepared:
    """Write manifests of a user's own recordings.

    Faulty utterances are left out and listed with the reason in `dropped.tsv`; see `split_utterances` for how
    the rest is divided. Splits that the source gives (a column, `train.tsv` and `test.tsv`, or folders of such
    names) are kept.

    Args:
        output: folder for the manifests.
        source: a folder of recordings with a .txt of the same name beside each, in sub-folders as you like; a
            .csv, .tsv or .jsonl that lists path and text, or the folder it lies in; or a Kaldi data directory.
        speaker: how to tell who speaks: the name of a column, `folder` for the topmost sub-folder, `none`, or a
            pattern whose group finds the speaker in a file's path below the source, as `([^/]+)_[0-9]+[.]`; ""
            takes a column of a usual name, else sub-folders where there are several of several files.
        dev: share of the seconds to choose the model by.
        test: share to be tested on; 0 for none.
        max_seconds: utterances above that are left out: alignments of minutes are hardly learned.
        lang: the language of all of them, such as `cs`; "" leaves what the source says.
        seed: of the division.

    Returns:
        The manifests by split, with what a reader of the results must know.

    Raises:
        DataError: there is nothing to read, nothing of it can be used, or it is too little to divide.
        ConfigError: `speaker` fits nothing, or the manifests would lie among the recordings.
    """
    check_shares(dev, test)
    if not max_seconds > 0:
        raise ValueError(f"max_seconds: above 0, not {max_seconds}")
    if "(" in speaker:
        speaker_pattern(speaker)  # refused now, and not when all files have been read
    output, source = Path(output), _absolute(source)
    _check_output(output, source)
    listing = use_splits(read_source(source))
    log.info("%s: %s, %d utterances", source, listing.origin, len(listing.rows))
    candidates, splits = _utterances(listing.rows)
    kept, faulty = validate_utterances(candidates, stretches=any(row.duration for row in listing.rows))
    kept, long = _part_long(kept, max_seconds)
    dropped = [_one_line(item) for item in (*listing.dropped, *faulty, *long)]
    report_dropped(dropped, path=output / DROPPED_NAME, total=len(kept) + len(dropped))
    if not kept:
        raise DataError(
            f"{source}: none of its {len(dropped)} utterances can be used, for reasons listed in "
            f"{output / DROPPED_NAME}; the first: {dropped[0].reason}"
        )
    kept = name_speakers(kept, speaker=speaker, source=source)
    if lang:
        kept = [replace(utterance, lang=lang) for utterance in kept]
    names = [splits[utterance.id] for utterance in kept]
    divided = split_utterances(kept, names=names, dev=dev, test=test, seed=seed)
    manifests = _write_splits(output, divided.utterances)
    for note in divided.notes:
        log.warning("%s", note)
    return Prepared(manifests, divided.notes)


def _absolute(source: str | Path) -> Path:
    if not str(source).strip():
        raise DataError("no recordings are named; say where they lie, as DATA=/path/to/folder")
    path = Path(os.path.abspath(Path(str(source)).expanduser()))
    if not os.path.exists(path):  # `Path.exists` raises where a folder above may not be entered
        raise DataError(f"{path}: no such folder or file; check its name")
    return path


def _check_output(output: Path, source: Path) -> None:
    """Refuse to write manifests where they could replace the user's own tables, or be read as such."""
    folder, base = Path(os.path.abspath(output)), source if source.is_dir() else source.parent
    if folder == base or (folder.parent == base and split_name(folder.name)):
        raise ConfigError(f"{output}: the manifests must not lie among the recordings; choose another folder")


def read_source(source: Path) -> Listing:
    """What a file or a folder lists, by whichever of the known layouts it has.

    Raises:
        DataError: it has none of them, or it is not clear which table is meant.
    """
    if not os.path.isdir(source):
        if source.suffix.lower() not in TABLE_SUFFIXES:
            raise DataError(f"{source}: give a folder, or a table ({', '.join(TABLE_SUFFIXES)})")
        return read_table(source)
    if os.path.isfile(source / RECORDINGS):
        return read_kaldi(source)
    entries = _entries(source)
    for parts in (_tables(entries), [path for path in entries if _is_below(path, source)]):
        if named := _named_parts(parts):
            others = ", ".join(path.name for path in entries if path not in named) or "nothing"
            log.info(
                "%s: its splits are %s; not read: %s", source, ", ".join(path.name for path in named), others
            )
            return join_listings([(path.stem, _read_part(path)) for path in named])
    return _read_table_or_pairs(source)


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, hidden names left out."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot read the folder ({error.strerror}); change its mode") from error


def _tables(entries: Sequence[Path]) -> list[Path]:
    return [path for path in entries if path.suffix.lower() in TABLE_SUFFIXES and os.path.isfile(path)]


def _is_below(path: Path, folder: Path) -> bool:
    """Whether it is a folder that does not, as a link may, lead to the one it lies in or to one above."""
    return os.path.isdir(path) and not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(path))


def _named_parts(paths: Sequence[Path]) -> list[Path]:
    """Those that are named as splits, if `train` is one of several."""
    named = {path: split_name(path.stem) for path in paths}
    found = [path for path, split in named.items() if split]
    return found if "train" in named.values() and len(set(named.values()) - {""}) > 1 else []


def _read_part(path: Path) -> Listing:
    """What one split lists; names of splits mean nothing within it."""
    if not os.path.isdir(path):
        return read_table(path)
    return read_kaldi(path) if os.path.isfile(path / RECORDINGS) else _read_table_or_pairs(path)


def _read_table_or_pairs(folder: Path) -> Listing:
    usable: list[tuple[Path, Listing]] = []
    faults: list[DataError] = []
    for table in _tables(_entries(folder)):
        try:
            usable.append((table, read_table(table)))
        except DataError as error:
            faults.append(error)
    if len(usable) > 1:
        names = ", ".join(path.name for path, _ in usable)
        raise DataError(f"{folder}: holds several tables of recordings ({names}); name the one that is meant")
    if usable:
        path, listing = usable[0]
        return replace(listing, origin=f"listed by {path.name}")
    try:
        listing = read_pairs(folder)
    except DataError as error:
        raise faults[0] if faults else error from None
    if faults and not any(row.text for row in listing.rows):
        raise faults[0]
    return listing


def _utterances(rows: Sequence[Row]) -> tuple[list[Utterance], dict[str, str]]:
    """The rows as unchecked utterances with ids of their own, and the given split of each id."""
    given = [row.id for row in rows]
    distinct = all(given) and len(set(given)) == len(given)
    names = given if distinct else _names(rows)
    utterances = [
        Utterance(row.path, row.text, row.duration, row.offset, row.speaker, name, row.lang, row.extra)
        for row, name in zip(rows, names, strict=True)
    ]
    splits: dict[str, str] = {}
    for row, name in zip(rows, names, strict=True):
        splits.setdefault(name, row.split)
    return utterances, splits


def _names(rows: Sequence[Row]) -> list[str]:
    """The path of each row below the folder that all share, without suffix; of a stretch, its beginning too."""
    names = []
    for row, path in zip(rows, below_common([row.path for row in rows]), strict=True):
        name = path.with_suffix("").as_posix()
        name += f"-{row.offset:.2f}" if row.offset or row.duration else ""
        # Ids stand in lines and tables of all kinds.
        names.append("".join(letter if letter.isprintable() else "_" for letter in name))
    return names


def _part_long(utterances: Sequence[Utterance], most: float) -> tuple[list[Utterance], list[Dropped]]:
    kept, long = [], []
    for utterance in utterances:
        if utterance.duration <= most:
            kept.append(utterance)
            continue
        reason = (
            f"{TOO_LONG}: {utterance.duration:.1f} s, more than max_seconds {most:g}; cut it into sentences, or "
            "list these in a table with columns path, text, offset, duration"
        )
        long.append(Dropped(utterance.id, utterance.path, reason))
    return kept, long


def _one_line(item: Dropped) -> Dropped:
    """A file's name may hold line breaks; what is said of it must not."""
    return replace(item, id=" ".join(item.id.split()), reason=" ".join(item.reason.split()))


def _write_splits(output: Path, splits: Mapping[str, Sequence[Utterance]]) -> dict[str, Path]:
    """Write all manifests, or, where the disk is full or the like, none."""
    manifests = {split: output / f"{split}.jsonl" for split in splits}
    earlier = [path for path in output.glob("*.jsonl") if split_name(path.stem) == path.stem not in splits]
    try:
        for split, utterances in splits.items():
            write_manifest(manifests[split], utterances)
    except BaseException:
        for path in manifests.values():
            with contextlib.suppress(OSError):
                path.unlink()
        raise
    for path in earlier:  # of a run with other options: it would be taken for a split of this one
        log.info("%s: removed, it was of an earlier division", path)
        path.unlink()
    for split, utterances in splits.items():
        hours = sum(utterance.duration for utterance in utterances) / 3600
        speakers = len({utterance.speaker for utterance in utterances} - {""})
        log.info(
            "%s: %d utterances, %.2f h, %s speakers", split, len(utterances), hours, speakers or "unknown"
        )
    return manifests
