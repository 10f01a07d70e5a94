"""How good the confidences of recognised words are: calibration, and how well each score finds errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr_lstm.decoding.calibration import (
    Calibration,
    ReliabilityBin,
    error_auc,
    error_auc_interval,
    expected_calibration_error,
    fit_calibration,
    reliability,
)
from asr_lstm.decoding.confidence import agreement
from asr_lstm.errors import DataError
from asr_lstm.pages import Markup, line_chart
from asr_lstm.recognise import Recognitions

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
CALIBRATED = "confidence"  # beside the names of the scores that it is made of
FOLDS = 2  # of cross-fitting: a calibration has two or three numbers, for which half of a dev set is plenty


def correct_words(recognitions: Recognitions, references: Sequence[str]) -> list[Bools]:
    """Of each utterance whether each recognised word was said there, (words,).

    Args:
        recognitions: with their confidences.
        references: what was said, normalised as the texts are.
    """
    return [
        np.array(agreement([word.word for word in item.words], said.split()), np.bool_)
        for item, said in zip(recognitions.items, references, strict=True)
    ]


def measure_confidences(
    recognitions: Recognitions, references: Sequence[str], *, score_names: Sequence[str], seed: int
) -> dict[str, Any]:
    """What results.json keeps of the confidences of one decoder.

    `ece` is the expected calibration error of the confidences and `reliability` their bins; `error_auc` has, by
    score, the area under the ROC curve of telling right words from wrong ones with its 95 % interval. Nothing is
    measured where all words are right, or all wrong, or there are none.

    Args:
        recognitions: with their confidences.
        references: what was said, normalised as the texts are.
        score_names: of the columns of their scores.
        seed: of the bootstrap.
    """
    correct = correct_words(recognitions, references)
    right = np.concatenate(correct) if correct else np.zeros(0, np.bool_)
    if not 0 < right.sum() < len(right):
        return {}
    sure = [np.array(item.confidences, np.float64) for item in recognitions.items]
    columns = {CALIBRATED: sure}
    for number, name in enumerate(score_names):
        columns[name] = [_scores(scores, len(score_names))[:, number] for scores in _all_scores(recognitions)]
    areas = {}
    for name, values in columns.items():
        low, high = error_auc_interval(values, correct, seed=seed)
        areas[name] = {"auc": error_auc(np.concatenate(values), right), "low": low, "high": high}
    together = np.concatenate(sure)
    return {
        "words": len(right),
        "ece": expected_calibration_error(together, right),
        "reliability": [asdict(row) for row in reliability(together, right)],
        "error_auc": areas,
    }


def calibrate(
    recognitions: Recognitions, references: Sequence[str], *, columns: int
) -> tuple[Calibration, Floats, Bools]:
    """Fit the calibration of one decoder's words.

    Args:
        recognitions: of a dev set, with their scores.
        references: what was said, normalised as the texts are.
        columns: how many scores each word has.

    Returns:
        The calibration of all words; and of each word the confidence by one that was fitted without its utterance,
        (words,), and whether it was right, (words,): what is measured on these is measured on unseen words.

    Raises:
        DataError: too few words are right, or wrong.
    """
    correct = correct_words(recognitions, references)
    scores = [_scores(part, columns) for part in _all_scores(recognitions)]
    everything = fit_calibration(np.concatenate(scores), np.concatenate(correct))
    sure, right = [], []
    for fold in range(FOLDS):
        rest = [number for number in range(len(scores)) if number % FOLDS != fold]
        if not rest:
            raise DataError("confidences cannot be calibrated on a single utterance; use more data")
        fitted = fit_calibration(
            np.concatenate([scores[number] for number in rest]),
            np.concatenate([correct[number] for number in rest]),
        )
        sure += [fitted(part) for part in scores[fold::FOLDS]]
        right += correct[fold::FOLDS]
    return everything, np.concatenate(sure), np.concatenate(right)


def reliability_chart(lines: dict[str, list[ReliabilityBin]], *, title: str) -> Markup:
    """Accuracy over confidence, in per cent; what is well calibrated lies on the diagonal."""
    series = {"ideal": ([0.0, 100.0], [0.0, 100.0])}
    for name, rows in lines.items():
        series[name] = ([100 * row.confidence for row in rows], [100 * row.accuracy for row in rows])
    return line_chart(series, title=title, x_label="confidence, %", y_label="right, %")


def _all_scores(recognitions: Recognitions) -> list[Floats | None]:
    return [item.scores for item in recognitions.items]


def _scores(scores: Floats | None, columns: int) -> Floats:
    """Of an utterance that could not be loaded nothing is known."""
    return np.zeros((0, columns)) if scores is None else scores
