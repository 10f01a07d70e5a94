from __future__ import annotations

from itertools import groupby

import pytest
import torch
from torch import Tensor

from asr_lstm.decoding.greedy import UnitSpan, greedy_decode, greedy_units


def random_case(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    batch, frames, units = (int(torch.randint(1, most, (), generator=generator)) for most in (6, 30, 5))
    logits = torch.randn(batch, frames, units, generator=generator)
    return logits, torch.randint(0, frames + 1, (batch,), generator=generator)


def by_hand(logits: Tensor, lengths: Tensor) -> list[list[UnitSpan]]:
    """The definition, frame by frame."""
    result = []
    for sequence, length in zip(logits.double(), lengths.tolist(), strict=True):
        posteriors = sequence[:length].softmax(dim=-1)
        path = [int(frame.argmax()) for frame in posteriors]
        spans = []
        for unit, run in groupby(range(length), key=path.__getitem__):
            frames = list(run)
            mean = sum(float(posteriors[frame, unit]) for frame in frames) / len(frames)
            if unit != 0:
                spans.append(UnitSpan(unit, frames[0], frames[-1] + 1, mean))
        result.append(spans)
    return result


def path_logits(path: list[int], units: int = 4) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor([path]), units).float()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([0, 1, 1, 0, 1, 2, 2, 3, 0, 0], [1, 1, 2, 3]),
        ([1, 1, 1], [1]),
        ([1, 0, 1], [1, 1]),
        ([0, 0], []),
        ([3], [3]),
    ],
)
def test_repeats_merge_and_blanks_go(path: list[int], expected: list[int]) -> None:
    assert greedy_decode(path_logits(path), torch.tensor([len(path)])) == [expected]


def test_frames_beyond_the_length_are_ignored() -> None:
    logits = path_logits([1, 1, 2, 3]).expand(4, -1, -1)
    assert greedy_decode(logits, torch.tensor([4, 3, 1, 0])) == [[1, 2, 3], [1, 2], [1], []]


@pytest.mark.parametrize("seed", range(60))
def test_agrees_with_the_definition(seed: int) -> None:
    logits, lengths = random_case(seed)
    expected = by_hand(logits, lengths)
    assert greedy_decode(logits, lengths) == [[span.unit for span in spans] for spans in expected]
    found = greedy_units(logits, lengths)
    assert [[(s.unit, s.start, s.end) for s in spans] for spans in found] == [
        [(s.unit, s.start, s.end) for s in spans] for spans in expected
    ]
    for spans, known in zip(found, expected, strict=True):
        assert [s.posterior for s in spans] == pytest.approx([s.posterior for s in known], abs=1e-6)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf"), 1e38])
@pytest.mark.parametrize("seed", range(8))
def test_padding_may_hold_anything(poison: float, seed: int) -> None:
    logits, lengths = random_case(seed)
    poisoned = logits.clone()
    for index, length in enumerate(lengths.tolist()):
        poisoned[index, length:, :] = 0.0
        poisoned[index, length:, -1] = poison
    assert greedy_decode(poisoned, lengths) == greedy_decode(logits, lengths)
    assert greedy_units(poisoned, lengths) == greedy_units(logits, lengths)


def test_a_sequence_gives_the_same_alone_as_in_a_batch() -> None:
    logits, lengths = random_case(3)
    together = greedy_units(logits, lengths)
    for index, length in enumerate(lengths.tolist()):
        alone = greedy_units(logits[index : index + 1, :length], lengths[index : index + 1])
        assert alone == together[index : index + 1]


def test_adding_a_constant_to_a_frame_changes_nothing() -> None:
    logits, lengths = random_case(5)
    shifted = (
        logits + 40 * torch.randn(logits.shape[:2], generator=torch.Generator().manual_seed(0))[..., None]
    )
    assert greedy_decode(shifted, lengths) == greedy_decode(logits, lengths)
    for one, other in zip(greedy_units(shifted, lengths), greedy_units(logits, lengths), strict=True):
        assert [s.posterior for s in one] == pytest.approx([s.posterior for s in other], abs=1e-5)


def test_half_precision_and_an_empty_batch() -> None:
    logits = path_logits([1, 0, 2]).bfloat16()
    assert greedy_decode(logits, torch.tensor([3])) == [[1, 2]]
    assert [span.unit for span in greedy_units(logits, torch.tensor([3]))[0]] == [1, 2]
    empty, none = torch.zeros(0, 5, 3), torch.zeros(0, dtype=torch.int64)
    assert greedy_decode(empty, none) == greedy_units(empty, none) == []
    assert greedy_units(torch.zeros(2, 0, 3), torch.tensor([0, 0])) == [[], []]


@pytest.mark.parametrize(
    ("logits", "lengths", "complaint"),
    [
        (torch.zeros(5, 3), torch.tensor([5]), r"logits must be \(batch, frames, units\)"),
        (torch.zeros(1, 5, 0), torch.tensor([5]), r"logits must be \(batch, frames, units\)"),
        (torch.zeros(2, 5, 3), torch.tensor([5]), r"lengths must be \(batch,\)"),
        (torch.zeros(1, 5, 3), torch.tensor([6]), r"lengths must lie in 0 \.\. 5, not 6 \.\. 6"),
        (torch.zeros(1, 5, 3), torch.tensor([-1]), r"lengths must lie in 0 \.\. 5"),
    ],
)
@pytest.mark.parametrize("decode", [greedy_decode, greedy_units])
def test_shapes_that_do_not_fit(decode, logits: Tensor, lengths: Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        decode(logits, lengths)
