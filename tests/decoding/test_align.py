from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from asr_lstm.decoding.align import align, align_units, frames_needed
from asr_lstm.decoding.greedy import UnitSpan, greedy_units
from asr_lstm.errors import DataError


def random_logits(seed: int, frames: int = 6, units: int = 4) -> Tensor:
    return 2 * torch.randn(frames, units, generator=torch.Generator().manual_seed(seed))


def spans_of(path: tuple[int, ...], posteriors: Tensor) -> list[UnitSpan]:
    spans = []
    for unit, run in itertools.groupby(range(len(path)), key=path.__getitem__):
        frames = list(run)
        if unit:
            mean = float(posteriors[frames, unit].mean())
            spans.append(UnitSpan(unit, frames[0], frames[-1] + 1, mean))
    return spans


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("target", [[1], [1, 2], [2, 2], [3, 1, 3], [1, 1, 1]])
def test_the_path_is_the_likeliest_of_all_that_write_the_text(target: list[int], seed: int) -> None:
    logits = random_logits(seed)
    posteriors = logits.double().softmax(-1)
    paths = [
        path
        for path in itertools.product(range(4), repeat=6)
        if [unit for unit, _ in itertools.groupby(path) if unit] == target
    ]
    frames = torch.arange(6)
    best = max(paths, key=lambda path: float(posteriors[frames, list(path)].log().sum()))
    found, expected = align_units(logits, target), spans_of(best, posteriors)
    assert [(s.unit, s.start, s.end) for s in found] == [(s.unit, s.start, s.end) for s in expected]
    assert [s.posterior for s in found] == pytest.approx([s.posterior for s in expected], abs=1e-6)


def test_what_greedy_heard_is_aligned_where_greedy_heard_it() -> None:
    logits = 3 * torch.randn(1, 60, 5, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([60])
    (heard,) = greedy_units(logits, lengths)
    (aligned,) = align(logits, lengths, [[span.unit for span in heard]])
    assert isinstance(aligned, list)
    assert [(s.unit, s.start, s.end) for s in aligned] == [(s.unit, s.start, s.end) for s in heard]
    assert [s.posterior for s in aligned] == pytest.approx([s.posterior for s in heard], abs=1e-6)


def test_one_that_cannot_be_aligned_stops_no_other() -> None:
    logits = random_logits(0)[None].repeat(5, 1, 1)
    logits[3, 2] = math.nan
    logits[4, 3:] = math.nan  # in its padding
    lengths = torch.tensor([6, 6, 2, 6, 3])
    good, empty, short, broken, padded = align(logits, lengths, [[1, 2], [], [1, 1], [1], [1]])
    assert isinstance(good, list)
    assert isinstance(padded, list)
    for failure, reason in (
        (empty, "the text is empty"),
        (short, "the text needs 3 frames and there are 2; "),
        (broken, "the logits are NaN or infinite"),
    ):
        assert isinstance(failure, DataError)
        assert str(failure).startswith(reason)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_hold_no_distribution(value: float) -> None:
    with pytest.raises(DataError, match="NaN or infinite"):
        align_units(torch.full((40, 29), value), [3, 4, 4, 5])


def test_impossible_units() -> None:
    logits = random_logits(0)
    logits[:, 2] = -math.inf
    with pytest.raises(DataError, match="make the text impossible"):
        align_units(logits, [2])
    assert align_units(logits, [1])


def test_frames_needed() -> None:
    assert [frames_needed(target) for target in ([], [1], [1, 2], [1, 1], [1, 1, 2, 2, 2])] == [0, 1, 2, 3, 8]
    for target in ([1, 1], [1, 2, 2]):
        assert align_units(random_logits(0, frames=frames_needed(target)), target)


@pytest.mark.parametrize("target", [[0], [4], [1, -1]])
def test_ids_that_are_no_units(target: list[int]) -> None:
    with pytest.raises(ValueError, match="target: ids must be units from 1 to 3"):
        align_units(random_logits(0), target)


def test_a_target_for_each_sequence() -> None:
    with pytest.raises(ValueError, match="targets: 2 of them for 1 sequences"):
        align(random_logits(0)[None], torch.tensor([6]), [[1], [2]])
