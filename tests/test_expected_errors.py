"""Expected errors against the sum over all paths, and each changed path against an edit distance of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from asr_lstm.expected_errors import errors_with_changes, expected_errors


def written(path: Sequence[int]) -> tuple[int, ...]:
    """What a path of units writes, by the definition of CTC."""
    return tuple(
        int(unit) for place, unit in enumerate(path) if unit and (place == 0 or path[place - 1] != unit)
    )


@cache
def distance(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Levenshtein's, by its recursive definition."""
    if not one or not other:
        return len(one) + len(other)
    return min(
        distance(one[1:], other) + 1,
        distance(one, other[1:]) + 1,
        distance(one[1:], other[1:]) + (one[0] != other[0]),
    )


def test_each_unit_in_each_frame_has_the_distance_of_the_path_with_it() -> None:
    random = np.random.default_rng(0)
    for _ in range(150):
        frames, units, letters = random.integers(1, 8), random.integers(2, 5), random.integers(0, 6)
        paths = random.integers(0, units, (2, frames))
        reference = random.integers(1, units, letters)
        errors = np.zeros((frames, units), np.float32)
        mean = errors_with_changes(paths, reference, errors)
        target = tuple(reference.tolist())
        assert mean == sum(distance(written(path), target) for path in paths.tolist()) / 2
        for frame, unit in product(range(frames), range(units)):
            changed = paths.copy()
            changed[:, frame] = unit
            assert (
                errors[frame, unit] == sum(distance(written(path), target) for path in changed.tolist()) / 2
            )


def exact(logits: Tensor, target: tuple[int, ...]) -> Tensor:
    """The sum over all paths of one utterance (frames, units): probability times distance."""
    probabilities = logits.softmax(-1)
    frames, units = logits.shape
    total = torch.zeros(())
    for path in product(range(units), repeat=frames):
        likely = math.prod(
            (probabilities[frame, unit] for frame, unit in enumerate(path)), start=torch.ones(())
        )
        total = total + likely * distance(written(path), target)
    return total


def test_value_and_gradient_are_those_of_all_paths_in_the_mean() -> None:
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    texts, lengths = [(1, 2), (2, 2, 1)], torch.tensor([5, 4])
    expected = torch.stack([exact(logits[row, : lengths[row]], text) for row, text in enumerate(texts)])
    (gradient,) = torch.autograd.grad(expected.sum(), logits)
    torch.manual_seed(1)
    found = expected_errors(
        logits, lengths, torch.tensor([1, 2, 2, 2, 1]), torch.tensor([2, 3]), draws=20_000
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0.03)
    (estimate,) = torch.autograd.grad(found.sum(), logits)
    torch.testing.assert_close(estimate, gradient, rtol=0, atol=0.01)
    assert float(gradient.abs().max()) > 0.1  # so that 0.01 tells something
    assert not estimate[1, 4].any()  # in the padding


def test_what_is_certain_costs_what_is_wrong_in_it() -> None:
    path = [1, 1, 0, 2, 2, 0, 2, 3]
    logits = 50 * torch.nn.functional.one_hot(torch.tensor([path, path]), 4).float()
    targets, counts = torch.tensor([1, 2, 2, 3, 2, 2, 3, 3]), torch.tensor([4, 4])
    assert expected_errors(logits, torch.tensor([8, 8]), targets, counts).tolist() == [0, 2]
    # The last frame lies beyond the end, and with it the 3.
    assert expected_errors(logits, torch.tensor([7, 8]), targets, counts).tolist() == [1, 2]


def test_an_empty_reference_makes_all_that_is_written_an_error() -> None:
    logits = 50 * torch.nn.functional.one_hot(torch.tensor([[1, 0, 2]]), 3).float()
    nothing = torch.zeros(0, dtype=torch.long)
    assert expected_errors(logits, torch.tensor([3]), nothing, torch.tensor([0])).tolist() == [2]


def test_seeded_draws_repeat() -> None:
    logits = torch.randn(1, 20, 5, generator=torch.Generator().manual_seed(2))
    values = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        values.append(
            float(expected_errors(logits, torch.tensor([20]), torch.tensor([1, 2, 3]), torch.tensor([3])))
        )
    assert values[0] == values[1] != values[2]


def test_at_least_one_draw() -> None:
    with pytest.raises(ValueError, match="draws"):
        expected_errors(
            torch.zeros(1, 2, 2), torch.tensor([2]), torch.tensor([1]), torch.tensor([1]), draws=0
        )
