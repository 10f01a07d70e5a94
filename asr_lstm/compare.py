"""`asr-lstm compare A B`: two experiments on the same utterances, and whether their difference is more than chance."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from asr_lstm.config import RECIPE_NAME, load_recipe
from asr_lstm.console import ReaderConsole
from asr_lstm.decoded import read_recognitions
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.evaluate import DECODER
from asr_lstm.files import atomic_write
from asr_lstm.manifest import read_manifest
from asr_lstm.paired import PairedTest, paired_test
from asr_lstm.scoring import Counts, count_errors

SHOWN = 5  # utterances of most gain, and as many of most loss


@dataclass(frozen=True)
class Recognised:
    """What one experiment made of a split; all lists in one order.

    Attributes:
        name: the folder or file that was given.
        split: which it is.
        ids: of the utterances.
        speakers: "" where unknown.
        references: what was said, normalised.
        hypotheses: what was recognised, normalised the same way.
    """

    name: str
    split: str
    ids: list[str]
    speakers: list[str]
    references: list[str]
    hypotheses: list[str]


@dataclass(frozen=True)
class UtterancePair:
    """One utterance as both recognisers have it; `gap` is the second's word errors less the first's."""

    id: str
    gap: int
    reference: str
    first: str
    second: str


@dataclass(frozen=True)
class Comparison:
    """Two recognisers on the same utterances, rates as fractions.

    Attributes:
        names: of both.
        split: the utterances.
        utterances: how many.
        rates: `wer` and `cer` of both.
        tests: the test of each rate's difference, second less first.
        wins: utterances in which the first, neither, the second has fewer word errors.
        speaker_wins: speakers for whom the first, neither, the second has fewer word errors.
        speakers: word error rate of both for each speaker, the one who gains most by the second first.
        gains: utterances in which the second saves most errors.
        losses: utterances in which it adds most.
    """

    names: tuple[str, str]
    split: str
    utterances: int
    rates: dict[str, tuple[float, float]]
    tests: dict[str, PairedTest]
    wins: tuple[int, int, int]
    speaker_wins: tuple[int, int, int]
    speakers: dict[str, tuple[float, float]]
    gains: list[UtterancePair]
    losses: list[UtterancePair]


def read_recognised(place: str | Path, *, split: str, decoder: str = DECODER) -> Recognised:
    """Read what a recipe recognised.

    Args:
        place: its folder exp/NAME, or one file `decoded/SPLIT.DECODER.jsonl` in it, which says split and decoder.
        split: of the folder.
        decoder: likewise.

    Raises:
        DataError: nothing was recognised there, or not of these utterances.
    """
    place = Path(place)
    folder = place
    if place.is_file():
        folder = place.absolute().parent.parent
        split, _, decoder = place.name.removesuffix(".jsonl").rpartition(".")
    path = folder / "decoded" / f"{split}.{decoder}.jsonl"
    if not path.is_file():
        known = ", ".join(sorted(file.name for file in path.parent.glob("*.jsonl"))) or "nothing"
        raise DataError(f"{path}: not there; there is {known}: run the recipe, or choose another split")
    utterances = read_manifest(folder / "manifests" / f"{split}.jsonl")
    try:
        texts = read_recognitions(path).texts
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a file of recognitions ({error}); run the recipe again") from error
    if len(texts) != len(utterances):
        raise DataError(
            f"{path}: {len(texts)} recognitions of {len(utterances)} utterances; run the recipe again"
        )
    normalise = load_recipe(folder / RECIPE_NAME, environment={}).text
    return Recognised(
        name=str(place),
        split=split,
        ids=[row.id for row in utterances],
        speakers=[row.speaker for row in utterances],
        references=[normalise(row.text) for row in utterances],
        hypotheses=[normalise(text) for text in texts],
    )


def compare(
    first: Recognised,
    second: Recognised,
    *,
    by: Literal["utterance", "speaker"] = "utterance",
    seed: int = 0,
) -> Comparison:
    """Compare two recognisers on the utterances that both were given.

    Args:
        first: what the difference is measured from.
        second: what is compared with it.
        by: what the bootstrap draws: utterances, or speakers, whose errors go together.
        seed: of the bootstrap.

    Raises:
        DataError: not the same utterances and transcripts, or speakers wanted where they are unknown.
    """
    second = _in_order_of(first, second)
    clusters = None
    if by == "speaker":
        if not all(first.speakers):
            raise DataError(f"{first.name}: not every utterance has a speaker; compare by utterance")
        clusters = first.speakers
    pair = (first, second)
    words = [count_errors(side.references, side.hypotheses) for side in pair]
    characters = [count_errors(side.references, side.hypotheses, by="character") for side in pair]
    rates: dict[str, tuple[float, float]] = {}
    tests: dict[str, PairedTest] = {}
    for rate, (one, other) in (("wer", words), ("cer", characters)):
        length = max(int(one.length.sum()), 1)
        rates[rate] = (int(one.errors.sum()) / length, int(other.errors.sum()) / length)
        tests[rate] = paired_test(one.errors, other.errors, one.length, clusters=clusters, seed=seed)
    errors = np.stack([one.errors for one in words])
    speakers = _by_speaker(first.speakers, errors, words[0].length)
    pairs = _pairs(first, second, errors[1] - errors[0])
    return Comparison(
        names=(first.name, second.name),
        split=first.split,
        utterances=len(first.ids),
        rates=rates,
        tests=tests,
        wins=_wins(errors[1] - errors[0]),
        speaker_wins=_wins(np.array([other - one for one, other in speakers.values()])),
        speakers=speakers,
        gains=[pair for pair in pairs[:SHOWN] if pair.gap < 0],
        losses=[pair for pair in pairs[: -SHOWN - 1 : -1] if pair.gap > 0],
    )


def _pairs(first: Recognised, second: Recognised, gaps: Counts) -> list[UtterancePair]:
    """All utterances, the one first in which the second saves most."""
    return [
        UtterancePair(
            first.ids[index],
            int(gaps[index]),
            first.references[index],
            first.hypotheses[index],
            second.hypotheses[index],
        )
        for index in np.argsort(gaps, kind="stable").tolist()
    ]


def _in_order_of(first: Recognised, second: Recognised) -> Recognised:
    """The second's lists in the order of the first's."""
    places = {name: index for index, name in enumerate(second.ids)}
    if set(places) != set(first.ids):
        lacking = len(set(first.ids) ^ set(places))
        raise DataError(
            f"{second.name}: {lacking} utterances are only there or only in {first.name}; "
            "recognise the same manifest with both"
        )
    order = [places[name] for name in first.ids]
    for index, place in enumerate(order):
        if first.references[index] != second.references[place]:
            raise DataError(
                f"{second.name}: {first.ids[index]} has another transcript than in {first.name}; "
                "give both recipes the same `text` settings"
            )
    hypotheses = [second.hypotheses[place] for place in order]
    return Recognised(second.name, second.split, first.ids, first.speakers, first.references, hypotheses)


def _by_speaker(speakers: Sequence[str], errors: Counts, lengths: Counts) -> dict[str, tuple[float, float]]:
    """Word error rates of both for each known speaker, sorted by what the second gains."""
    found: dict[str, tuple[float, float]] = {}
    names = np.array(speakers)
    for name in sorted(set(speakers) - {""}):
        own = names == name
        words = max(int(lengths[own].sum()), 1)
        found[name] = (float(errors[0, own].sum()) / words, float(errors[1, own].sum()) / words)
    return dict(sorted(found.items(), key=lambda item: item[1][1] - item[1][0]))


def _wins(gaps: Any) -> tuple[int, int, int]:
    return int((gaps > 0).sum()), int((gaps == 0).sum()), int((gaps < 0).sum())


def compare_folders(
    first: str | Path,
    second: str | Path,
    *,
    split: str = "dev",
    decoder: str = DECODER,
    by: Literal["utterance", "speaker"] = "utterance",
    seed: int = 0,
) -> Comparison:
    """Compare two experiments; see `read_recognised` and `compare`."""
    sides = [read_recognised(place, split=split, decoder=decoder) for place in (first, second)]
    return compare(sides[0], sides[1], by=by, seed=seed)


def _finite(values: Any) -> Any:
    """Without infinities, which JSON does not know: the z of differences that are all alike is null."""
    if isinstance(values, dict):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [*map(_finite, values)]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def compare_command(
    *,
    folders: list[Path],
    split: str = "dev",
    decoder: str = DECODER,
    by: Literal["utterance", "speaker"] = "utterance",
    seed: int = 0,
    output: Path | None = None,
) -> int:
    """Say whether B recognises better than A, and whether that is more than chance.

    Args:
        folders: of two experiments, exp/A and exp/B; or two files exp/NAME/decoded/SPLIT.DECODER.jsonl.
        split: that both recognised.
        decoder: of both.
        by: what the bootstrap draws.
        seed: of the bootstrap.
        output: a JSON file to write the comparison to.

    Returns:
        0.

    Raises:
        ConfigError: a seed below 0.
        DataError: not two, nothing recognised there, or not the same utterances.
    """
    from asr_lstm.compare_tables import print_comparison

    if len(folders) != 2:
        raise DataError(f"{len(folders)} folders given; say compare A B")
    if seed < 0:
        raise ConfigError(f"seed: must not be below 0, but is {seed}")
    comparison = compare_folders(*folders, split=split, decoder=decoder, by=by, seed=seed)
    print_comparison(comparison, ReaderConsole())
    if output is not None:
        with atomic_write(output) as file:
            json.dump(_finite(asdict(comparison)), file, indent=2, ensure_ascii=False, allow_nan=False)
    return 0
