"""A second pass: texts of the first in a new order, by a model that scores whole sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from asr_lstm.decoding.hypothesis import Hypothesis

# Texts to their natural log-probabilities, ends of sentence included.
SentenceScorer = Callable[[Sequence[str]], Sequence[float]]


def rescore(
    nbests: Sequence[Sequence[Hypothesis]], score: SentenceScorer, *, weight: float
) -> list[list[Hypothesis]]:
    """Order the texts of each utterance by total + weight log p(text), which becomes their total.

    Args:
        nbests: of each utterance, from a search with `nbest` above 1.
        score: asked once for all texts of all utterances, each text once.
        weight: of the new score; what the first pass added stays in.

    Returns:
        For each utterance the same texts, best first; of equal ones the first stays before.

    Raises:
        ValueError: not one score for each text, or one that is NaN.
    """
    texts = list(dict.fromkeys(one.text for nbest in nbests for one in nbest))
    scores = list(score(texts)) if texts else []
    if len(scores) != len(texts):
        raise ValueError(f"score: {len(scores)} scores for {len(texts)} texts")
    known = dict(zip(texts, map(float, scores), strict=True))
    for text, value in known.items():
        if value != value:
            raise ValueError(f"score: NaN for the text {text!r}")
    return [
        sorted(
            (replace(one, total=one.total + weight * known[one.text]) for one in nbest),
            key=lambda one: -one.total,
        )
        for nbest in nbests
    ]
