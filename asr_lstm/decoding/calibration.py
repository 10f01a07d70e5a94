"""Making confidences honest: of all words given 0.8, eight in ten shall be right. Fitted on a dev set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asr_lstm.errors import DataError
from asr_lstm.scoring import LEVEL, RESAMPLES

BINS = 15  # as in Guo et al. 2017
# Confidences of 0 and 1 have no log-odds; beyond these a posterior says nothing that counts.
_LEAST, _MOST = 1e-4, 1 - 1e-4
# Keeps weights finite where the scores part right from wrong without a fault; far below what data can tell.
_RIDGE = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """From scores of a word to the probability that it is right: sigmoid(bias + sum of weight log-odds).

    With one score and no bias that is temperature scaling (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", ICML, section 4.2), 1 / weight the temperature; the bias is Platt's (1999).

    Attributes:
        weights: one a score.
        bias: what an even score stands for.
    """

    weights: tuple[float, ...]
    bias: float

    def __call__(self, scores: ArrayLike) -> Floats:
        """`(words,)` or `(words, scores)` in 0 .. 1 -> `(words,)` probabilities of being right."""
        odds = _log_odds(scores)
        if odds.shape[1] != len(self.weights):
            raise ValueError(
                f"scores: {odds.shape[1]} of each word, the calibration has {len(self.weights)} weights"
            )
        return _sigmoid(odds @ np.array(self.weights) + self.bias)


def fit_calibration(scores: ArrayLike, correct: ArrayLike) -> Calibration:
    """The calibration of the greatest likelihood (logistic regression).

    Args:
        scores: `(words,)` or `(words, scores)` in 0 .. 1, such as `word_scores` of a dev set.
        correct: `(words,)` whether each word was right.

    Raises:
        ValueError: shapes that do not fit.
        DataError: no word was wrong, or none right: nothing can be learned from that.
    """
    odds, right = _log_odds(scores), np.asarray(correct, np.float64)
    if right.shape != odds.shape[:1]:
        raise ValueError(f"correct must be (words,) = ({len(odds)},), not of shape {right.shape}")
    if not 0 < right.sum() < len(right):
        raise DataError(
            "confidences cannot be calibrated where all words are right or all wrong; use more data"
        )
    from scipy.optimize import minimize

    inputs = np.column_stack([odds, np.ones(len(odds))])
    signs = 1 - 2 * right

    def loss(weights: Floats) -> tuple[float, Floats]:
        margins = signs * (inputs @ weights)
        slope = inputs.T @ (signs * _sigmoid(margins)) / len(right) + _RIDGE * weights
        return float(np.logaddexp(0, margins).mean() + _RIDGE * (weights @ weights) / 2), slope

    weights = minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="BFGS").x
    return Calibration(tuple(weights[:-1].tolist()), float(weights[-1]))


@dataclass(frozen=True)
class ReliabilityBin:
    """Words of like confidence, for a reliability picture.

    Attributes:
        low: least confidence of the bin.
        high: greatest.
        words: how many there are.
        confidence: their mean confidence.
        accuracy: how many of them are right, as a fraction.
    """

    low: float
    high: float
    words: int
    confidence: float
    accuracy: float


def reliability(confidences: ArrayLike, correct: ArrayLike, *, bins: int = BINS) -> list[ReliabilityBin]:
    """Confidence against accuracy in bins of equal width; bins without words are left out.

    Raises:
        ValueError: no words, other shapes, confidences outside 0 .. 1, or no bins.
    """
    sure, right = _pair(confidences, correct)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    place = np.minimum((sure * bins).astype(np.int64), bins - 1)
    return [
        ReliabilityBin(
            low=number / bins,
            high=(number + 1) / bins,
            words=int((place == number).sum()),
            confidence=float(sure[place == number].mean()),
            accuracy=float(right[place == number].mean()),
        )
        for number in np.unique(place).tolist()
    ]


def expected_calibration_error(confidences: ArrayLike, correct: ArrayLike, *, bins: int = BINS) -> float:
    """Mean distance of confidence and accuracy over bins, by words (Naeini et al. 2015; Guo et al. 2017, eq. 3)."""
    rows = reliability(confidences, correct, bins=bins)
    words = sum(row.words for row in rows)
    return sum(row.words * abs(row.accuracy - row.confidence) for row in rows) / words


def error_auc(confidences: ArrayLike, correct: ArrayLike) -> float:
    """The chance that a right word is given more than a wrong one, ties half: the area under the ROC curve.

    Raises:
        DataError: no word is wrong, or none right.
    """
    sure, right = _pair(confidences, correct)
    if not 0 < right.sum() < len(right):
        raise DataError("errors cannot be detected where all words are right or all wrong; use more data")
    _, inverse, counts = np.unique(sure, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # from 1; equal ones share their mean
    wins = ranks[right].sum() - right.sum() * (right.sum() + 1) / 2
    return float(wins / (right.sum() * (~right).sum()))


def error_auc_interval(
    confidences: Sequence[ArrayLike],
    correct: Sequence[ArrayLike],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """The 95 % interval of `error_auc`: percentile bootstrap over utterances, whose words go together.

    Args:
        confidences: of each utterance, `(words,)`.
        correct: likewise.
        seed: of the bootstrap.
        resamples: of the bootstrap; those without a wrong or a right word are drawn anew.
    """
    sure = [np.asarray(part, np.float64) for part in confidences]
    right = [np.asarray(part, np.bool_) for part in correct]
    error_auc(np.concatenate(sure), np.concatenate(right))  # complains where no interval can be found
    generator = np.random.default_rng(seed)
    areas: list[float] = []
    while len(areas) < resamples:
        drawn = generator.integers(len(sure), size=len(sure))
        known = np.concatenate([right[index] for index in drawn])
        if 0 < known.sum() < len(known):
            areas.append(error_auc(np.concatenate([sure[index] for index in drawn]), known))
    low, high = np.quantile(areas, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _pair(confidences: ArrayLike, correct: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    sure, right = np.asarray(confidences, np.float64), np.asarray(correct, np.bool_)
    if sure.ndim != 1 or sure.shape != right.shape or len(sure) == 0:
        raise ValueError(f"confidences and correct must both be (words,), not {sure.shape} and {right.shape}")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise ValueError("confidences must lie in 0 .. 1")
    return sure, right


def _log_odds(scores: ArrayLike) -> Floats:
    """`(words, scores)`."""
    values = np.asarray(scores, np.float64)
    values = np.clip(values[:, None] if values.ndim == 1 else values, _LEAST, _MOST)
    return np.log(values) - np.log1p(-values)


def _sigmoid(values: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(values / 2))
