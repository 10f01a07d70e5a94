"""Which words cost most: taken for others, missed, and heard though nobody said them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from asr_lstm.confusions import count_confusions, most
from asr_lstm.pages import Markup, columns, joined, paragraph, table
from asr_lstm.pages.axes import number
from asr_lstm.report_page.source import SplitData

MAX_ROWS = 15  # of each table; what stands farther down costs little each


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

    pairs = [(*pair, number(count), cost(count)) for pair, count in most(counts.substituted, limit=MAX_ROWS)]
    wrong = [
        (word, number(counts.said[word]), number(count), cost(count))
        for word, count in most(counts.wrong, limit=MAX_ROWS)
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
    rows = [(word, number(count), cost(count)) for word, count in most(counts, limit=MAX_ROWS)]
    return _titled(title, (header, "times", "points"), rows, align="lrr")


def _titled(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], *, align: str) -> Markup:
    shown = table(headers, rows, align=align) if rows else paragraph("none", style="faint")
    return Markup(f'<div class="keep"><h3>{title}</h3>\n{shown}</div>\n')
