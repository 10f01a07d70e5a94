"""How sure to be of a word: from the posteriors along its path, and from the other texts that the search kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asr_lstm.decoding.hypothesis import Hypothesis
from asr_lstm.scoring import align_words

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def nbest_confidences(nbest: Sequence[Hypothesis]) -> list[float]:
    """For each word of the best text, the probability of the texts that have it in the same place.

    The totals of the N-best are taken for log-probabilities and normalised (Wessel et al. 2001, "Confidence
    measures for large vocabulary continuous speech recognition", IEEE Trans. Speech and Audio Processing 9(3),
    section III: word posteriors from N-best lists). The place is that of an alignment with the fewest errors.

    Args:
        nbest: texts of one utterance, best first; a single one is certain of itself.

    Raises:
        ValueError: no text.
    """
    return draw_confidences(nbest, [nbest])


def draw_confidences(nbest: Sequence[Hypothesis], draws: Sequence[Sequence[Hypothesis]]) -> list[float]:
    """Likewise, of the texts that draws of Monte-Carlo dropout have it: the mean over the draws.

    Args:
        nbest: texts of one utterance, best first, whose first one's words are asked for.
        draws: the texts of each draw, best first; a draw with a single one votes for or against each word.

    Raises:
        ValueError: no text, no draw, or one without a text.
    """
    if not nbest or not draws or not all(draws):
        raise ValueError("nbest: there is no text, or a draw has none")
    words = [word.word for word in nbest[0].words]
    mass = np.zeros(len(words))
    for draw in draws:
        totals = np.array([one.total for one in draw])
        posteriors = np.exp(totals - np.logaddexp.reduce(totals))
        for one, posterior in zip(draw, posteriors, strict=True):
            heard = agreement(words, [word.word for word in one.words])
            mass += posterior / len(draws) * np.array(heard, np.float64)
    return [min(float(value), 1.0) for value in mass]


def word_scores(nbest: Sequence[Hypothesis]) -> Floats:
    """What is known of each word of the best text: `(words, 2)`, its path's posterior and its N-best mass."""
    path = [word.confidence for word in nbest[0].words]
    return np.column_stack([path, nbest_confidences(nbest)]).reshape(-1, 2)


def agreement(words: Sequence[str], others: Sequence[str]) -> list[bool]:
    """For each word, whether the other text has it there: of a hypothesis and its reference, what was right."""
    if list(words) == list(others):
        return [True] * len(words)
    edits = align_words(" ".join(others), " ".join(words))
    return [edit.kind == "equal" for edit in edits if edit.kind != "delete"]
