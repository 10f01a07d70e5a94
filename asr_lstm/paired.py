"""Whether one recogniser is better than another on the same utterances, or only luckier."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asr_lstm.scoring import LEVEL

RESAMPLES = 10_000  # a p-value of 0.01 is then good to 0.002
_DRAWS_AT_ONCE = 1 << 21  # 16 MiB of indices

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairedTest:
    """The difference of two error rates on the same words.

    Attributes:
        difference: rate of the second less rate of the first: below 0 where the second is better.
        low: lower end of its 95 % interval.
        high: upper end.
        p: of the bootstrap, two-sided: how often chance alone would give a difference as far from 0; of few clusters
            no less than they can tell.
        z: of the normal test: the mean difference over its standard error.
        z_p: its two-sided p.
        clusters: how many utterances, or speakers, were drawn.
    """

    difference: float
    low: float
    high: float
    p: float
    z: float
    z_p: float
    clusters: int


def paired_test(
    first: ArrayLike,
    second: ArrayLike,
    lengths: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> PairedTest:
    """Compare the errors of two recognisers in the same utterances.

    The bootstrap draws utterances with replacement, both recognisers' errors together, and takes the difference of
    the rates each time (Bisani & Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance
    evaluation", ICASSP, section 4). Its p is twice the share of draws on the far side of 0, the draw that was
    observed counted in. Where all of a few clusters differ in one direction no draw crosses 0, however few they are:
    p is therefore at least 2 / 2**n, the least of an exact test that gives each of the n clusters with a difference
    either sign (Fisher 1935, "The Design of Experiments", section 21). The normal test is that of matched pairs
    (Gillick & Cox 1989, "Some statistical issues in the comparison of speech recognition algorithms", ICASSP,
    section 3), an utterance for a segment: NIST's MAPSSWE, but that cuts long utterances at words that both have
    right.

    Args:
        first: errors of the first recogniser, (utterances,).
        second: errors of the second one.
        lengths: words, or characters, in the references.
        clusters: a number for each utterance; those with the same one are drawn together, as those of a speaker.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        ValueError: nothing to compare, arguments of different lengths, or a seed below 0.
    """
    counts = [np.asarray(values, np.float64).ravel() for values in (first, second, lengths)]
    groups = np.arange(len(counts[0])) if clusters is None else np.asarray(clusters).ravel()
    if not len(groups) or len({len(groups), *map(len, counts)}) > 1:
        raise ValueError("first, second, lengths and clusters must hold a number for each utterance")
    if resamples < 1:
        raise ValueError(f"resamples must be positive, not {resamples}")
    if seed < 0:
        raise ValueError(f"seed must not be below 0, but is {seed}")
    _, numbers = np.unique(groups, return_inverse=True)
    one, other, size = (np.bincount(numbers, weights=values).astype(np.float64) for values in counts)
    gaps: Floats = other - one
    drawn = _resampled(gaps, size, seed=seed, resamples=resamples)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    far = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    z = _z(gaps)
    return PairedTest(
        difference=float(gaps.sum() / max(size.sum(), 1)),
        low=float(low),
        high=float(high),
        p=min(1.0, max(2 * (far + 1) / (resamples + 1), 2.0 ** (1 - np.count_nonzero(gaps)))),
        z=z,
        z_p=math.erfc(abs(z) / math.sqrt(2)),
        clusters=len(gaps),
    )


def _resampled(gaps: Floats, sizes: Floats, *, seed: int, resamples: int) -> Floats:
    """The difference of the rates in each resample, (resamples,)."""
    generator = np.random.default_rng(seed)
    step = max(1, _DRAWS_AT_ONCE // len(gaps))
    found = []
    for start in range(0, resamples, step):
        drawn = generator.integers(len(gaps), size=(min(step, resamples - start), len(gaps)))
        found.append(gaps[drawn].sum(axis=1) / np.maximum(sizes[drawn].sum(axis=1), 1))
    return np.concatenate(found)


def _z(gaps: Floats) -> float:
    """The mean over its standard error; 0 where there is no difference anywhere, or nothing to estimate it from."""
    if len(gaps) < 2 or not gaps.any():
        return 0.0
    deviation = float(gaps.std(ddof=1))
    mean = float(gaps.mean())
    return mean * math.sqrt(len(gaps)) / deviation if deviation else math.copysign(math.inf, mean)
