"""What every corpus passes through before it becomes a manifest: faults are found, listed and dropped."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from asr_lstm.audio import audio_info, read_audio
from asr_lstm.errors import AudioError
from asr_lstm.files import atomic_write
from asr_lstm.manifest import Utterance
from asr_lstm.shards import holder, recording_file

log = logging.getLogger(__name__)

# What a `Dropped.reason` begins with.
NO_TEXT = "no text"
MISSING = "audio missing"
UNREADABLE = "audio unreadable"
UNTRUE_DURATION = "untrue duration"
DUPLICATE = "duplicate id"
NOT_UTF8 = "not UTF-8"

# Reading a header is mostly waiting for the disk. On two cores and a near disk 2 and 16 threads take the same
# 0.5 ms a file (2 min for 280 000); on a far one the more of them wait at once, the better.
_THREADS = 16
# One task for this many files, so that a corpus of 280 000 is a thousand tasks.
_CHUNK = 256
# More than a block of any compressed format, and than what `read_audio` lets be missing at the end of MP3.
_TAIL_SECONDS = 0.5
# Faults shown on the console; the list has them all.
_SHOWN = 3


@dataclass(frozen=True)
class Dropped:
    """An utterance that was left out.

    Attributes:
        id: the utterance's id.
        path: its audio file, there or not.
        reason: one of this module's constants, and after a colon what was found.
    """

    id: str
    path: Path
    reason: str


def measure_audio(path: Path) -> float:
    """Length of an audio file in seconds, once its header and its end could be read.

    A header alone would not do: that of a FLAC file cut in the middle still promises the whole. Damage
    in the midst of a file is not found, for that takes decoding it all.

    Raises:
        AudioError: the file cannot be read to its end, or holds too little sound to be speech.
    """
    info = audio_info(path)
    tail = min(info.seconds, _TAIL_SECONDS)
    # At its own rate, so that nothing is resampled.
    read_audio(path, rate=info.rate, offset=info.seconds - tail, duration=tail)
    return info.seconds


def validate_utterances(
    candidates: Iterable[Utterance],
    *,
    duration_tolerance: float = 0.05,
    stretches: bool = False,
    measure: Callable[[Path], float] = measure_audio,
) -> tuple[list[Utterance], list[Dropped]]:
    """Part what can be used from what cannot; the order is kept, and nobody need mend anything by hand.

    Dropped are: an empty text, audio that is missing or unreadable, a declared duration that is not true,
    an id that an utterance before it has (the first sound one stays), and names that UTF-8 cannot write.

    Args:
        candidates: utterances as the corpus declares them, with duration 0 where it declares none: that
            is filled from the file, from the offset to its end.
        duration_tolerance: seconds by which a declared duration may miss the real one. The default is
            half of the last digit of corpora that declare tenths of a second.
        stretches: a declared duration may be less than the file, as where several utterances share one
            recording. With an offset it always may.
        measure: seconds of a file, or AudioError; another one than `measure_audio` for other inputs. It
            is called from several threads at once.

    Returns:
        The sound utterances, with the true duration, and those that were dropped.
    """
    if not duration_tolerance >= 0:
        raise ValueError(f"duration_tolerance: seconds, at least 0, not {duration_tolerance}")
    examine = functools.partial(_examine, tolerance=duration_tolerance, stretches=stretches, measure=measure)
    kept: list[Utterance] = []
    dropped: list[Dropped] = []
    first: dict[str, Path] = {}
    for result in _in_threads(examine, list(candidates)):
        if isinstance(result, Dropped):
            dropped.append(result)
        elif result.id in first:
            reason = f"{DUPLICATE}: {first[result.id]} has it already"
            dropped.append(Dropped(result.id, result.path, reason))
        else:
            first[result.id] = result.path
            kept.append(result)
    return kept, dropped


def _in_threads(
    examine: Callable[[Utterance], Utterance | Dropped], candidates: Sequence[Utterance]
) -> Iterator[Utterance | Dropped]:
    chunks = [candidates[start : start + _CHUNK] for start in range(0, len(candidates), _CHUNK)]
    pool = ThreadPoolExecutor(_THREADS)
    console = Console(stderr=True)
    try:
        results = pool.map(lambda chunk: [examine(candidate) for candidate in chunk], chunks)
        yield from itertools.chain.from_iterable(
            track(
                results,
                "reading the audio files",
                total=len(chunks),
                console=console,
                disable=not console.is_terminal,  # a transient bar would leave empty lines in a log
                transient=True,
            )
        )
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C the files in line are not read first


def _examine(
    candidate: Utterance, *, tolerance: float, stretches: bool, measure: Callable[[Path], float]
) -> Utterance | Dropped:
    def drop(reason: str) -> Dropped:
        return Dropped(candidate.id, candidate.path, reason)

    try:
        for value in (candidate.id, candidate.path, candidate.text, candidate.speaker, candidate.lang):
            str(value).encode()
        json.dumps(candidate.extra, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return drop(f"{NOT_UTF8}: a manifest cannot hold its name, its text or what else is said of it")
    if not candidate.text.strip():
        return drop(f"{NO_TEXT}: its transcript is empty or missing")
    if not os.path.isfile(holder(candidate)):  # Path.is_file raises where a folder above it is forbidden
        return drop(f"{MISSING}: no such file")
    try:
        with recording_file(candidate) as path:
            seconds = measure(path)
    except AudioError as error:
        return drop(f"{UNREADABLE}: {str(error).removeprefix(f'{candidate.path}: ')}")
    available = seconds - candidate.offset
    if not 0 <= candidate.offset < seconds:
        return drop(f"{UNTRUE_DURATION}: begins at {candidate.offset:g} s of a file of {seconds:.2f} s")
    if candidate.duration == 0:
        return replace(candidate, duration=available)
    part = stretches or candidate.offset > 0
    shortest = 0.0 if part else available - tolerance
    # Written so that NaN is untrue as well.
    if not (candidate.duration > 0 and shortest <= candidate.duration <= available + tolerance):
        return drop(f"{UNTRUE_DURATION}: {candidate.duration:.2f} s declared, {available:.2f} s in the file")
    return replace(candidate, duration=min(candidate.duration, available) if part else available)


def write_dropped(path: str | Path, dropped: Iterable[Dropped]) -> None:
    """Write a table of tab-separated id, path and reason, one dropped utterance a line, atomically."""
    with atomic_write(path) as file:
        file.write("id\tpath\treason\n")
        for item in dropped:
            line = "\t".join(" ".join(str(cell).split()) for cell in (item.id, item.path, item.reason))
            file.write(line.encode("utf-8", "backslashreplace").decode() + "\n")


def report_dropped(dropped: Sequence[Dropped], *, path: str | Path, total: int) -> None:
    """Log how many of `total` utterances were dropped and why, and list them all in the table `path`.

    Where nothing was dropped, a table that an earlier run left there is removed.
    """
    if not dropped:
        # A folder that cannot be written to is found when there is something to write.
        with suppress(OSError):
            Path(path).unlink(missing_ok=True)
        return
    write_dropped(path, dropped)
    counts = Counter(item.reason.partition(":")[0] for item in dropped)
    log.warning(
        "dropped %d of %d utterances (%s), all listed in %s; the first: %s",
        len(dropped),
        total,
        ", ".join(f"{reason} {count}" for reason, count in counts.most_common()),
        path,
        "; ".join(f"{item.id} ({item.reason})" for item in dropped[:_SHOWN]),
    )
