"""What is drawn anew at each step, by counting: nothing is stored, and every kernel draws the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asr_lstm.lstm.kernels.plan import PackingPlan

CANDIDATE, CELL, STATE = range(3)  # the streams; native.cpp numbers them alike

_LOW = 0xFFFFFFFF
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / the golden ratio: Steele, Lea & Flood 2014, "Fast Splittable Pseudorandom ..."


@dataclass(frozen=True)
class StepNoise:
    """Rates of what is drawn for each unit at each step, and the seed that fixes all of it.

    Attributes:
        seed: 0 .. 2^63 - 1.
        candidate: dropout of the candidate.
        cell: zoneout of the cell.
        state: zoneout of the hidden state.
        expected: take the mean of zoneout instead of drawing it, as in evaluation.
    """

    seed: int = 0
    candidate: float = 0.0
    cell: float = 0.0
    state: float = 0.0
    expected: bool = False

    @property
    def quiet(self) -> bool:
        """Whether nothing is drawn, and no mean of it taken."""
        return not (self.candidate or self.cell or self.state)


def threshold(rate: float) -> int:
    """The 32-bit number below which a unit's number falls with probability `rate`."""
    return min(int(rate * 2**32), _LOW)


def draw_seed() -> int:
    """A new seed from torch's own generator, which `torch.manual_seed` sets."""
    return int(torch.randint(2**63 - 1, ()))


def drawn(seed: int, stream: int, rate: float, *, plan: PackingPlan, directions: int, hidden: int) -> Tensor:
    """(rows, directions, hidden), True with probability `rate`; rows in the order of steps, longest sequence first."""
    direction = torch.arange(directions, device=plan.step.device)
    sequence = (stream * directions + direction) * plan.batch + plan.sequence[:, None]
    return drawn_at(sequence * len(plan.active) + plan.step[:, None], seed, rate, size=hidden)


def drawn_at(places: Tensor, seed: int, rate: float, *, size: int) -> Tensor:
    """(..., size) for places (...), int64: True with probability `rate`.

    A place's key is its SplitMix64, a unit's number the finaliser of MurmurHash3 over the key's lower half and the
    unit, xor the key's upper half.
    """
    key = places * _signed(_GOLDEN) + seed
    key = (key ^ _shift(key, 30)) * _signed(0xBF58476D1CE4E5B9)
    key = (key ^ _shift(key, 27)) * _signed(0x94D049BB133111EB)
    key = (key ^ _shift(key, 31))[..., None]
    bits = (torch.arange(size, device=places.device) * 0x9E3779B9 + key) & _LOW
    bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) & _LOW
    bits = ((bits ^ (bits >> 13)) * 0xC2B2AE35) & _LOW
    return (bits ^ (bits >> 16) ^ _shift(key, 32)) < threshold(rate)


def _signed(number: int) -> int:
    """The same 64 bits as torch's int64, whose products wrap around."""
    return number - 2**64 if number >= 2**63 else number


def _shift(numbers: Tensor, places: int) -> Tensor:
    """To the right, with zeros coming in."""
    return (numbers >> places) & ((1 << (64 - places)) - 1)
