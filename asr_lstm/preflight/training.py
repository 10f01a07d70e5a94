"""What the training stage asks before its first step: which rows it can use, their figures, the memory."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr_lstm.corpora.validate import NO_TEXT, Dropped
from asr_lstm.errors import DataError
from asr_lstm.features import FeatureConfig, FrontEnd, make_front_end
from asr_lstm.manifest import Utterance
from asr_lstm.manifest_index import count_speakers, durations_of, summarise, take
from asr_lstm.model import EncoderConfig
from asr_lstm.piece_units import PieceUnits
from asr_lstm.preflight.memory import count_parameters, encoder_frames, training_memory
from asr_lstm.units import BLANK, SPACE_SYMBOL, WORD_MARK, CharacterUnits, Units

# What a `Dropped.reason` begins with, beside those of `corpora.validate`.
NO_DURATION = "no duration"
TOO_SHORT = "too short for its transcript"

# With fewer examples a unit is hardly learned.
RARE = 5
# Speaking rates are compared on a log scale. A normal distribution lies beyond 5 deviations once in two million;
# a factor of 2 from the median is nothing odd whatever the deviation is.
_OUTLIER_DEVIATIONS = 5.0
_LEAST_OUTLIER = math.log(2)
_MAD_TO_DEVIATION = 1.4826  # of a normal distribution: 1 / its third quartile
_ENOUGH_FOR_OUTLIERS = 10  # of fewer one cannot say what is usual
_SHOWN = 3  # of each fault in a line; the attributes have them all

_GIB = 2**30


@dataclass(frozen=True)
class Figures:
    """The training data in numbers.

    Attributes:
        utterances: that are kept.
        hours: of these.
        speakers: distinct ones among these; 0 where none is named.
        shortest: seconds of the shortest.
        longest: seconds of the longest.
        unit_counts: how often each unit occurs in the transcripts, the blank left out.
        units_per_second: the median.
        outliers: id and units per second of those far from that median; a wrong transcript, often.
        parameters: of the model.
        memory_gib: estimate for a training step of the longest batch; see `training_memory`.
    """

    utterances: int
    hours: float
    speakers: int
    shortest: float
    longest: float
    unit_counts: dict[str, int]
    units_per_second: float
    outliers: list[tuple[str, float]]
    parameters: int
    memory_gib: float


@dataclass(frozen=True)
class Preflight:
    """What `check_training_data` found.

    Attributes:
        kept: what to train on.
        dropped: what training cannot use, with reasons.
        warnings: what a person should look at, a line each.
        figures: the kept data in numbers.
    """

    kept: Sequence[Utterance]
    dropped: list[Dropped]
    warnings: list[str]
    figures: Figures

    def summary(self) -> str:
        """A few plain lines for the console."""
        figures = self.figures
        lines = [
            f"training data: {figures.hours:.2f} h, {figures.utterances} utterances of "
            f"{figures.shortest:.1f} to {figures.longest:.1f} s, speakers: {figures.speakers or 'unknown'}",
            f"units: {len(figures.unit_counts)}, {figures.units_per_second:.1f} a second",
            f"model: {figures.parameters / 1e6:.2f} million parameters; "
            f"the longest batch needs about {figures.memory_gib:.2f} GiB",
        ]
        for reason, count in Counter(item.reason.partition(":")[0] for item in self.dropped).most_common():
            names = [item.id for item in self.dropped if item.reason.startswith(reason)]
            lines.append(f"left out: {count}, {reason} ({_few(names)})")
        return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])


def check_training_data(
    utterances: Sequence[Utterance],
    *,
    units: Units,
    features: FeatureConfig,
    encoder: EncoderConfig,
    speed: float,
    batch_seconds: float,
    bfloat16: bool = False,
    views: int = 1,
    manifest: str | Path = "training data",
) -> Preflight:
    """Look through the training data before the first step; durations are believed, no audio is read.

    CTC fits a transcript only into as many frames as it has units, and one more between two equal ones for
    the blank that parts them (Graves et al. 2006, section 3.1): rows with fewer at the fastest speed are
    dropped, for each would make the loss infinite. Where a loader gives frames itself (kind `frames`) they
    are taken to come at 1000 / `features.hop_ms` a second of the manifest's duration.

    Args:
        utterances: of the training manifest.
        units: the output units.
        features: the front end.
        encoder: the stack of layers.
        speed: spread of the playing speed either side of 1.
        batch_seconds: length of a batch, padding included.
        bfloat16: whether products will be computed in it, for the estimate of memory.
        views: how often each utterance of a batch is run, for the same.
        manifest: its name, for errors.

    Raises:
        DataError: transcripts with characters that the units lack, or nothing that could be kept.
    """
    needs = _needs(utterances, units, manifest=manifest)
    front_end = make_front_end(features)
    durations = durations_of(utterances)
    fastest = (durations / (1 + speed)).tolist()
    frames = np.array(encoder_frames(front_end, fastest, factor=encoder.time_factor), np.int64)
    usable = (needs.units > 0) & (durations > 0) & (frames >= needs.frames)
    rejected, rows = np.flatnonzero(~usable), np.flatnonzero(usable)
    left_out = take(utterances, rejected)
    dropped = [
        Dropped(
            utterance.id,
            utterance.path,
            _reason(utterance, int(needs.units[row]), int(frames[row]), int(needs.frames[row]), speed=speed),
        )
        for row, utterance in zip(rejected.tolist(), left_out, strict=True)
    ]
    if not len(rows):
        reason = f"the first: {dropped[0].id}, {dropped[0].reason}" if dropped else "it has none"
        raise DataError(f"{manifest}: no utterance can be used ({reason}); correct durations and transcripts")
    kept = take(utterances, rows) if dropped else utterances
    counts = needs.counts - _needs(left_out, units, manifest=manifest).counts
    figures = _figures(
        kept,
        needs.units[rows],
        counts,
        units,
        front_end,
        encoder=encoder,
        speed=speed,
        batch_seconds=batch_seconds,
        bfloat16=bfloat16,
        views=views,
    )
    return Preflight(kept, dropped, _warnings(figures, batch_seconds=batch_seconds), figures)


@dataclass(frozen=True)
class _Needs:
    """What transcripts ask for.

    Attributes:
        units: (rows,) of each transcript.
        frames: (rows,) that CTC needs for it: see `frames_needed`.
        counts: how often each unit's id occurs in all of them.
    """

    units: NDArray[np.int64]
    frames: NDArray[np.int64]
    counts: Counter[int]


def _needs(utterances: Sequence[Utterance], units: Units, *, manifest: str | Path) -> _Needs:
    """What the transcripts ask for; of characters an index has counted all that.

    Raises:
        DataError: transcripts with characters that the units lack.
    """
    if isinstance(units, CharacterUnits):
        known = summarise(utterances, units.normaliser)
        if known.counts.keys() <= set(units.symbols):
            length = known.columns.characters.astype(np.int64)
            ids = {symbol: index for index, symbol in enumerate(units.symbols, start=1)}
            counts = Counter({ids[character]: number for character, number in known.counts.items()})
            return _Needs(length, length + known.columns.doubled, counts)
    _check_characters(utterances, units, manifest=manifest)
    targets = [units.encode(utterance.text, utterance.id) for utterance in utterances]
    return _Needs(
        np.array([len(target) for target in targets], np.int64),
        np.array([frames_needed(target) for target in targets], np.int64),
        Counter(unit for target in targets for unit in target),
    )


def _check_characters(utterances: Sequence[Utterance], units: Units, *, manifest: str | Path) -> None:
    faults = []
    for row, utterance in enumerate(utterances, start=1):
        if lacking := units.unknown(utterance.text):
            names = ", ".join(
                f"{unit!r} (U+{ord(unit):04X})" if len(unit) == 1 else repr(unit) for unit in lacking
            )
            faults.append(f"row {row}, {utterance.id}: {names}")
    if faults:
        raise DataError(
            f"{manifest}: the units lack characters of {len(faults)} of {len(utterances)} transcripts "
            f"({_few(faults, between='; ')}); correct these, leave them out, or add the characters to the units"
        )


def _reason(utterance: Utterance, units: int, frames: int, needed: int, *, speed: float) -> str:
    """Why training cannot use an utterance."""
    if not units:
        return f"{NO_TEXT}: nothing is left of it after normalisation"
    if not utterance.duration > 0:
        return f"{NO_DURATION}: its manifest row says {utterance.duration:g} s"
    fastest = f" at {1 + speed:g} times the speed" if speed else ""
    return (
        f"{TOO_SHORT}: {utterance.duration:.2f} s give {frames} frames{fastest}, CTC needs {needed} "
        "(units and a blank between equal ones)"
    )


def frames_needed(target: Sequence[object]) -> int:
    """Frames that CTC needs for a transcript: one a unit, and one for the blank between two equal ones."""
    return len(target) + sum(left == right for left, right in pairwise(target))


def _figures(
    kept: Sequence[Utterance],
    lengths: NDArray[np.int64],
    counts: Counter[int],
    units: Units,
    front_end: FrontEnd,
    *,
    encoder: EncoderConfig,
    speed: float,
    batch_seconds: float,
    bfloat16: bool,
    views: int,
) -> Figures:
    durations = durations_of(kept)
    rates = lengths / durations
    outliers = find_outliers(rates)
    longest = float(durations.max())
    # An utterance longer than a batch makes one by itself; few short ones do not fill one. Speed stretches them.
    seconds = max(longest, min(batch_seconds, len(kept) * longest)) / (1 - speed)
    memory = training_memory(
        front_end, encoder, units=len(units), seconds=seconds, bfloat16=bfloat16, views=views
    )
    return Figures(
        utterances=len(kept),
        hours=math.fsum(durations.tolist()) / 3600,
        speakers=count_speakers(kept),
        shortest=float(durations.min()),
        longest=longest,
        unit_counts={_shown(units, unit): counts[unit] for unit in range(len(units)) if unit != BLANK},
        units_per_second=float(np.median(rates)),
        outliers=[
            (utterance.id, float(rates[row]))
            for row, utterance in zip(outliers, take(kept, np.array(outliers, np.int64)), strict=True)
        ],
        parameters=count_parameters(front_end.dims, encoder, units=len(units), stack=front_end.config.stack),
        memory_gib=memory / _GIB,
    )


def _shown(units: Units, unit: int) -> str:
    """What a unit is called; a piece with the mark that tells those that begin a word from others."""
    if isinstance(units, PieceUnits):
        return units.symbols[unit - 1]
    return units.decode([unit]) or SPACE_SYMBOL


def find_outliers(rates: Sequence[float] | NDArray[np.float64]) -> list[int]:
    """The indices of rates (above 0) far from the median: by the median absolute deviation of their logs."""
    if len(rates) < _ENOUGH_FOR_OUTLIERS:
        return []
    logs = np.log(np.asarray(rates, np.float64))
    away = np.abs(logs - np.median(logs))
    bound = max(_OUTLIER_DEVIATIONS * _MAD_TO_DEVIATION * float(np.median(away)), _LEAST_OUTLIER)
    found: list[int] = np.flatnonzero(away > bound).tolist()
    return found


def _warnings(figures: Figures, *, batch_seconds: float) -> list[str]:
    warnings = []
    if rare := [f"{unit!r} {count}" for unit, count in figures.unit_counts.items() if count < RARE]:
        remedy = (
            "ask for fewer pieces" if WORD_MARK in figures.unit_counts else "map them to other characters"
        )
        warnings.append(
            f"{len(rare)} units occur fewer than {RARE} times and will hardly be learned "
            f"({_few(rare, most=10)}); add data, or {remedy}"
        )
    if figures.outliers:
        names = [f"{name} {rate:.1f}" for name, rate in figures.outliers]
        warnings.append(
            f"{len(names)} utterances have far more or fewer units a second than the usual "
            f"{figures.units_per_second:.1f} ({_few(names)}); see whether their transcripts are theirs"
        )
    if figures.longest > batch_seconds:
        warnings.append(
            f"the longest utterance has {figures.longest:.1f} s and a batch {batch_seconds:g} s: it makes a "
            "batch by itself; cut such utterances if memory is short"
        )
    memory = machine_gib()
    if memory is not None and figures.memory_gib > memory:
        warnings.append(
            f"the longest batch needs about {figures.memory_gib:.1f} GiB and this machine has {memory:.1f}; "
            "make batches or the model smaller, or cut the longest utterances"
        )
    return warnings


def machine_gib() -> float | None:
    """Memory of this machine, None where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _few(names: Sequence[str], *, most: int = _SHOWN, between: str = ", ") -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return between.join(names[:most]) + (f"{between}and {rest} more" if rest > 0 else "")
