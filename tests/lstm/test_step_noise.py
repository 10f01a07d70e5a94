"""What is drawn by counting: its statistics, and that the C++ kernel counts alike."""

from __future__ import annotations

import math
import shutil

import pytest
import torch
from torch import Tensor

from asr_lstm.lstm.kernels import native, plan_packing
from asr_lstm.lstm.kernels.noise import CANDIDATE, CELL, STATE, draw_seed, drawn, drawn_at, threshold
from asr_lstm.lstm.kernels.rows import drop_numbers

SIGMAS = 5.0
SEED = 2**63 - 3
MASK = 2**64 - 1


def assert_share(hits: Tensor, share: float) -> None:
    spread = SIGMAS * math.sqrt(hits.numel() * share * (1 - share))
    assert abs(int(hits.sum()) - hits.numel() * share) < spread


def by_hand(place: int, unit: int, seed: int) -> int:
    """SplitMix64 (Steele, Lea & Flood 2014) and the finaliser of MurmurHash3, in Python's own integers."""
    key = (seed + place * 0x9E3779B97F4A7C15) & MASK
    key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & MASK
    key ^= key >> 31
    bits = (unit * 0x9E3779B9 + key) & 0xFFFFFFFF
    bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    bits = ((bits ^ (bits >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return bits ^ (bits >> 16) ^ (key >> 32)


@pytest.mark.parametrize("seed", [0, 12345, SEED])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.93])
def test_what_is_drawn_is_what_the_formula_says(seed: int, rate: float) -> None:
    places = torch.tensor([0, 1, 17, 2**40 + 3])
    hits = drawn_at(places, seed, rate, size=37)
    expected = [
        [by_hand(place, unit, seed) < threshold(rate) for unit in range(37)] for place in places.tolist()
    ]
    assert hits.tolist() == expected


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("shape", [(1, 1), (300, 37), (5, 64)])
def test_the_native_kernel_draws_the_same(shape: tuple[int, int]) -> None:
    numbers = torch.rand(shape) + 1
    assert native.usable(numbers)
    for rate in (0.2, 0.9999):
        mine, plain = native.drop(numbers, SEED, rate), drop_numbers(numbers.double(), SEED, rate)
        assert torch.equal(mine == 0, plain == 0)
        torch.testing.assert_close(mine.double(), plain, rtol=1e-4, atol=0)


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.8])
def test_shares_and_independence_over_units_rows_directions_streams_and_seeds(rate: float) -> None:
    plan = plan_packing(torch.tensor([60, 40, 50]), frames=60)
    alike = rate**2 + (1 - rate) ** 2

    def hits(seed: int, stream: int) -> Tensor:
        return drawn(seed, stream, rate, plan=plan, directions=2, hidden=64)

    base = hits(1, CANDIDATE)
    assert base.shape == (150, 2, 64)
    assert_share(base, rate)
    for unit in (0, 31, 63):
        assert_share(base[:, :, unit], rate)
    for one, other in (
        (base[:, :, 0::2], base[:, :, 1::2]),
        (base[0::2], base[1::2]),
        (base[:, 0], base[:, 1]),
        (base, hits(1, CELL)),
        (hits(1, CELL), hits(1, STATE)),
        (base, hits(2, CANDIDATE)),
    ):
        assert_share(one == other, alike)
    assert torch.equal(base, hits(1, CANDIDATE))


def test_seeds_come_from_torchs_generator() -> None:
    torch.manual_seed(4)
    first = [draw_seed() for _ in range(3)]
    torch.manual_seed(4)
    assert [draw_seed() for _ in range(3)] == first
    assert len(set(first)) == 3
    assert all(0 <= seed < 2**63 for seed in first)


def test_the_threshold_is_the_rate_of_32_bits() -> None:
    assert [threshold(rate) for rate in (0.0, 0.5, 1 - 2**-40)] == [0, 2**31, 2**32 - 1]
