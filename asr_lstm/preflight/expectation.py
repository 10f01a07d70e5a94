"""Which word error rate to expect of so much speech: measured points with their sources, and a wide range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from asr_lstm.speech import is_closed


@dataclass(frozen=True)
class Point:
    """A measured result.

    Attributes:
        hours: of training audio.
        low: word error rate of the easier test set, or of the best run, as a fraction.
        high: of the harder one, or of the worst.
        system: what was trained, on what.
        source: where the figures stand.
        ranged: whether the range to expect goes through it; others are shown beside it.
    """

    hours: float
    low: float
    high: float
    system: str
    source: str
    ranged: bool = True


# Measured with this toolkit, as its recipes' RESULTS.md say: hours, the lower and the higher rate, what, and the run.
_OWN = (
    (9.0, 0.189, 0.221, "2 x 256 BLSTM, 13 minutes on two cores", 7),
    (17.5, 0.141, 0.141, "2 x 256 BLSTM, 10 minutes on two cores", 9),
    (20.6, 0.031, 0.035, "2 x 256 BLSTM after a convolution, 11 minutes on two cores", 14),
)

# Open vocabulary, people reading or talking; LibriSpeech figures are test-clean and test-other.
OPEN_POINTS = (
    Point(
        2.52,
        0.621,
        0.878,
        "this toolkit, 3 x 256 or 320 BLSTM after a convolution, characters, CTC, 5 minutes on one core to an hour on "
        "two; learners of English, dev, no language model",
        "recipes/speechocean762/RESULTS.md, the hour and run 40",
    ),
    *(
        Point(
            hours,
            low,
            high,
            f"this toolkit, {what}; SYNTHETIC speech, which is easier, on its dev and test; no language model",
            f"recipes/librispeech/RESULTS.md, run {run}",
            ranged=False,
        )
        for hours, low, high, what, run in _OWN
    ),
    Point(
        100,
        0.0867,
        0.2612,
        "EESEN, 4 x 640 BLSTM with sequence dropout, phones, CTC; trigram (tgsmall)",
        "EESEN, asr_egs/librispeech/RESULTS",
    ),
    Point(
        100,
        0.096,
        0.231,
        "ESPnet, E-Branchformer of 26 million parameters, CTC alone; no language model",
        "ESPnet, egs2/librispeech_100/asr1/README.md",
        ranged=False,
    ),
    Point(
        960,
        0.0693,
        0.1694,
        "4 x 320 BLSTM with projection, phones, CTC; trigram (tgsmall)",
        "mobvoi/lstm_ctc, egs/libri/RESULT",
    ),
    Point(
        960,
        0.12,
        0.313,
        "deepspeech.pytorch, BLSTM, characters, CTC; no language model (clean derived from the pooled rate)",
        "deepspeech.pytorch issues 193 and 203",
        ranged=False,
    ),
)

CLOSED_POINTS = (
    Point(
        0.05,
        0.0,
        0.004,
        "YESNO, two words, one speaker: TDNN with CTC; Kaldi",
        "icefall, egs/yesno/ASR/README.md",
    ),
    Point(
        0.8,
        0.074,
        0.147,
        "AN4, spelled letters and numbers, 948 utterances: BLSTM with CTC 9.6 to 14.7 %, transformer 7.4 %",
        "deepspeech.pytorch issues 193 and 698; ESPnet, egs2/an4/asr1/README.md",
    ),
)


@dataclass(frozen=True)
class Expectation:
    """What word error rate to expect.

    Attributes:
        hours: of training audio.
        low: lower end, as a fraction.
        high: upper end.
        beyond: what the measured points do not reach, "" where they do.
        points: measured, by hours.
        closed: whether they are of closed vocabularies.
    """

    hours: float
    low: float
    high: float
    beyond: str
    points: Sequence[Point]
    closed: bool


def expected_wer(hours: float, *, words: int, rare: int = 0) -> Expectation:
    """The range of word error rates of so much training data.

    For an open vocabulary the logarithm of the rate is interpolated over that of the hours between the measured
    points; nothing is extrapolated. For a closed one the range is that of all points: the words decide, not the hours.

    Args:
        hours: of training audio.
        words: different words in the training transcripts.
        rare: of these, those heard less than ten times.

    Raises:
        ValueError: no hours.
    """
    if not hours > 0:
        raise ValueError(f"hours must be above 0, not {hours}")
    if is_closed(words, rare):
        low = min(point.low for point in CLOSED_POINTS)
        return Expectation(hours, low, max(point.high for point in CLOSED_POINTS), "", CLOSED_POINTS, True)
    ranged = [point for point in OPEN_POINTS if point.ranged]
    beyond = ""
    if hours < ranged[0].hours:
        beyond = f"with less than {ranged[0].hours:g} h it is rather more than that"
    elif hours > ranged[-1].hours:
        beyond = f"with more than {ranged[-1].hours:g} h it may be less than that"
    return Expectation(
        hours,
        _interpolated(hours, [(point.hours, point.low) for point in ranged]),
        _interpolated(hours, [(point.hours, point.high) for point in ranged]),
        beyond,
        OPEN_POINTS,
        False,
    )


def _interpolated(hours: float, points: Sequence[tuple[float, float]]) -> float:
    for (left, first), (right, second) in pairwise(points):
        if left <= hours <= right:
            share = math.log(hours / left) / math.log(right / left)
            return math.exp((1 - share) * math.log(first) + share * math.log(second))
    return points[0][1] if hours < points[0][0] else points[-1][1]
