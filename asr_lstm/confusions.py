"""Which words cost most: taken for others, missed, and heard though nobody said them; and what the N-best missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from asr_lstm.scoring import Edit, align_words, count_errors

Key = TypeVar("Key", str, tuple[str, str])


@dataclass
class Confusions:
    """Counts over all utterances of a split.

    Attributes:
        substituted: (said, heard) pairs.
        deleted: words that were missed.
        inserted: words that nobody said.
        said: how often each word was said.
    """

    substituted: Counter[tuple[str, str]] = field(default_factory=Counter)
    deleted: Counter[str] = field(default_factory=Counter)
    inserted: Counter[str] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)

    @property
    def replaced(self) -> Counter[str]:
        """How often each word that was said was taken for another."""
        counts: Counter[str] = Counter()
        for (word, _), count in self.substituted.items():
            counts[word] += count
        return counts

    @property
    def wrong(self) -> Counter[str]:
        """How often each word that was said was missed or taken for another."""
        return self.deleted + self.replaced

    def to_json(self) -> dict[str, Any]:
        """For results.json: totals, each word with an error, and pairs, what costs most first.

        A word has how often it was said, taken for another, missed, and heard though nobody said it.
        """
        replaced = self.replaced
        return {
            "substitutions": self.substituted.total(),
            "deletions": self.deleted.total(),
            "insertions": self.inserted.total(),
            "words": {
                word: [self.said[word], replaced[word], self.deleted[word], self.inserted[word]]
                for word, _ in most(self.wrong + self.inserted)
            },
            "pairs": [[said, heard, count] for (said, heard), count in most(self.substituted)],
        }


def count_confusions(alignments: Iterable[Sequence[Edit]]) -> Confusions:
    """Count the errors of alignments."""
    counts = Confusions()
    for edits in alignments:
        for edit in edits:
            if edit.kind != "insert":
                counts.said[edit.reference] += 1
            if edit.kind == "substitute":
                counts.substituted[edit.reference, edit.hypothesis] += 1
            elif edit.kind == "delete":
                counts.deleted[edit.reference] += 1
            elif edit.kind == "insert":
                counts.inserted[edit.hypothesis] += 1
    return counts


def confusions(references: Sequence[str], hypotheses: Sequence[str]) -> Confusions:
    """Count the errors of texts, both normalised."""
    return count_confusions(map(align_words, references, hypotheses))


def oracle_wer(references: Sequence[str], texts: Sequence[Sequence[str]]) -> float:
    """The word error rate if of each utterance's texts the one with the fewest errors had been chosen.

    Args:
        references: what was said, normalised.
        texts: of each utterance those that were found, normalised; at least one.

    Raises:
        ValueError: nothing to score, or an utterance without a text.
    """
    if not all(texts):
        raise ValueError("texts: an utterance has none")
    pairs = [(said, heard) for said, several in zip(references, texts, strict=True) for heard in several]
    counts = count_errors([said for said, _ in pairs], [heard for _, heard in pairs])
    firsts = np.cumsum([0, *(len(several) for several in texts)])[:-1]
    fewest = np.minimum.reduceat(counts.errors, firsts)
    return float(fewest.sum()) / max(int(counts.length[firsts].sum()), 1)


def most(counts: Counter[Key], *, limit: int | None = None) -> list[tuple[Key, int]]:
    """The most frequent, ties in the order of the alphabet so that a report repeats."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
