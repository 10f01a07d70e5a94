"""Finding the weights of a decoder on a dev set: a grid, then finer ones around its best point."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track
from torch import Tensor

from asr_lstm.decoding.beam import BeamDecoder
from asr_lstm.scoring import count_errors

# For a word model: published weights for CTC lie in between (Hannun et al. 2014, Amodei et al. 2016).
GRID: Mapping[str, Sequence[float]] = {"alpha": (0.0, 0.4, 0.8, 1.2), "beta": (-1.0, 0.0, 1.0, 2.0)}
# Weights of models: below 0 they would prefer what the model finds unlikely, and the search could prune nothing.
NEVER_NEGATIVE = ("alpha", "unit_alpha", "lstm_weight")
REFINEMENTS = 2  # each halves the steps; a quarter of the grid's is finer than what a dev set can tell
PLACES = 6  # of a weight, so that a point reached by two ways is one

Point = Mapping[str, float]


@dataclass(frozen=True)
class TuningRow:
    """One point of the surface.

    Attributes:
        weights: by name.
        wer: word error rate there, a fraction.
        cer: character error rate there.
    """

    weights: dict[str, float]
    wer: float
    cer: float


@dataclass(frozen=True)
class Tuning:
    """What was tried.

    Attributes:
        rows: every point, in the order in which they were tried.
        best: the one with the lowest word error rate; of equal ones that with the lowest character error rate, for a
            small dev set has many; of these the first.
    """

    rows: list[TuningRow]
    best: TuningRow


def tune(
    transcribe: Callable[[Point], Sequence[str]],
    references: Sequence[str],
    grid: Mapping[str, Sequence[float]],
    *,
    refinements: int = REFINEMENTS,
) -> Tuning:
    """Find the weights with the fewest word errors.

    Args:
        transcribe: weights by name to the texts of the dev set.
        references: what was said, normalised as these texts are.
        grid: the values of each weight to begin with; all combinations are tried.
        refinements: how often the neighbours of the best point so far are tried at half the distance.

    Raises:
        ValueError: an empty grid, or texts that are not as many as the references.
    """
    if not grid or not all(grid.values()):
        raise ValueError("grid: give at least one value of at least one weight")
    steps = {name: _smallest_gap(values) / 2 for name, values in grid.items()}
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    rows: list[TuningRow] = []
    for _ in range(refinements + 1):
        tried = [row.weights for row in rows]
        fresh = [point for point in points if point not in tried]
        rows += [_row(transcribe, references, point) for point in _shown(fresh)]
        best = min(rows, key=lambda row: (row.wer, row.cer))
        points = _neighbours(best.weights, steps)
        steps = {name: step / 2 for name, step in steps.items()}
    return Tuning(rows, best)


def tune_beam(
    decoder: BeamDecoder,
    logits: Sequence[Tensor],
    references: Sequence[str],
    *,
    grid: Mapping[str, Sequence[float]] = GRID,
    refinements: int = REFINEMENTS,
) -> Tuning:
    """Tune numbers of a decoder's configuration.

    Args:
        decoder: with its models.
        logits: of each utterance of the dev set, (frames, units), computed once.
        references: what was said, normalised as the units say.
        grid: fields of `BeamConfig` and their values.
        refinements: as of `tune`.
    """

    def transcribe(point: Point) -> list[str]:
        return [nbest[0].text for nbest in decoder.with_config(**point, nbest=1).decode_each(logits)]

    return tune(transcribe, references, grid, refinements=refinements)


def _shown(points: Sequence[Point]) -> Iterable[Point]:
    """The points, with a bar that shows how far it is: with an LSTM each may take minutes."""
    console = Console(stderr=True)
    return track(points, "trying weights", console=console, transient=True, disable=not console.is_terminal)


def _row(transcribe: Callable[[Point], Sequence[str]], references: Sequence[str], point: Point) -> TuningRow:
    texts = transcribe(point)
    words, characters = count_errors(references, texts), count_errors(references, texts, by="character")
    wer, cer = (int(one.errors.sum()) / max(int(one.length.sum()), 1) for one in (words, characters))
    return TuningRow(dict(point), wer, cer)


def _neighbours(point: Point, steps: Point) -> list[dict[str, float]]:
    # A weight with a single value has a step of 0, and so no neighbours.
    around = [
        dict.fromkeys(round(value + side * steps[name], PLACES) for side in (-1, 0, 1))
        for name, value in point.items()
    ]
    points = [dict(zip(point, values, strict=True)) for values in itertools.product(*around)]
    return [near for near in points if not any(near.get(name, 0.0) < 0 for name in NEVER_NEGATIVE)]


def _smallest_gap(values: Sequence[float]) -> float:
    """The least distance of two values; 0 where there is only one, which then stays as it is."""
    ordered = sorted(set(values))
    return min((b - a for a, b in itertools.pairwise(ordered)), default=0.0)
