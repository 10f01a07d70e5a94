"""Which words cost most: taken for others, missed, and heard though nobody said them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from asr_lstm.pages import Markup, columns, joined, paragraph, table
from asr_lstm.pages.axes import number
from asr_lstm.report_page.source import SplitData
from asr_lstm.scoring import Edit

Key = TypeVar("Key", str, tuple[str, str])

MAX_ROWS = 15  # of each table; what stands farther down costs little each


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
    def wrong(self) -> Counter[str]:
        """How often each word that was said was missed or taken for another."""
        counts = Counter(self.deleted)
        for (word, _), count in self.substituted.items():
            counts[word] += count
        return counts


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


def confusion_tables(data: SplitData) -> Markup:
    """The counts as tables, what costs most first; the cost is in points of the word error rate."""
    counts = count_confusions(data.alignments)
    substituted, deleted, inserted = (
        each.total() for each in (counts.substituted, counts.deleted, counts.inserted)
    )
    errors, words = substituted + deleted + inserted, int(data.words.sum())
    if not errors:
        return paragraph("No word was wrong.")

    def cost(count: int) -> str:
        return f"{100 * count / max(words, 1):.2f}"

    pairs = [(*pair, number(count), cost(count)) for pair, count in _most(counts.substituted)]
    wrong = [
        (word, number(counts.said[word]), number(count), cost(count)) for word, count in _most(counts.wrong)
    ]
    summary = (
        f"{number(errors)} errors in {number(words)} words: {number(substituted)} taken for another word "
        f"({cost(substituted)} points of WER), {number(deleted)} missed ({cost(deleted)}), "
        f"{number(inserted)} inserted ({cost(inserted)}). "
        "Points are what the word error rate would fall by, were it not for these errors."
    )
    return joined(
        [
            paragraph(summary),
            columns(
                _titled("Taken for another", ("said", "heard", "times", "points"), pairs, align="llrr"),
                _titled("Words that cost most", ("said", "times", "wrong", "points"), wrong, align="lrrr"),
                _words("Missed", "said", counts.deleted, cost),
                _words("Inserted", "heard", counts.inserted, cost),
                narrow=True,
            ),
        ]
    )


def _words(title: str, header: str, counts: Counter[str], cost: Callable[[int], str]) -> Markup:
    rows = [(word, number(count), cost(count)) for word, count in _most(counts)]
    return _titled(title, (header, "times", "points"), rows, align="lrr")


def _titled(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], *, align: str) -> Markup:
    shown = table(headers, rows, align=align) if rows else paragraph("none", style="faint")
    return Markup(f'<div class="keep"><h3>{title}</h3>\n{shown}</div>\n')


def _most(counts: Counter[Key]) -> list[tuple[Key, int]]:
    """The most frequent, ties in the order of the alphabet so that a report repeats."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_ROWS]
