"""What was left out on the way from the corpus to the model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from asr_lstm.pages import Markup, escape, joined, paragraph, table
from asr_lstm.pages.axes import number

NAME = "dropped.tsv"  # id, path and reason, as `asr_lstm.corpora.validate.write_dropped` writes it


def dropped_tables(folder: Path) -> Markup:
    """For each table of dropped utterances how many there are of each reason, and the first of them.

    Args:
        folder: exp/NAME.
    """
    lists = [
        path for place in ("manifests", "logs", "folds") for path in sorted((folder / place).rglob(NAME))
    ]
    parts, empty = [], []
    for path in lists:
        shown = path.relative_to(folder)
        try:
            rows = read_dropped(path)
        except (OSError, UnicodeDecodeError) as error:
            parts.append(paragraph(f"{shown}: cannot be read ({error}).", style="faint"))
            continue
        if rows:
            parts.append(_table(str(shown), rows))
        else:
            empty.append(str(shown))
    if not lists:
        return paragraph(f"No list of dropped utterances is there ({NAME}).", style="faint")
    if empty:
        parts.append(paragraph(f"Nothing was dropped: {', '.join(empty)}.", style="faint"))
    return joined(parts)


def read_dropped(path: Path) -> list[tuple[str, str, str]]:
    """Id, path and reason of each row; cells that a row lacks are empty."""
    # Not splitlines: names may hold other characters that end a line.
    lines = path.read_text(encoding="utf-8").split("\n")[1:]
    rows = [[*line.split("\t"), "", "", ""][:3] for line in lines if line.strip()]
    return [(row[0], row[1], row[2]) for row in rows]


def _table(name: str, rows: list[tuple[str, str, str]]) -> Markup:
    kinds = [reason.partition(":")[0] for _, _, reason in rows]
    first = {kind: row for kind, row in reversed(list(zip(kinds, rows, strict=True)))}
    counted = [
        (
            kind or "no reason given",
            number(count),
            first[kind][0],
            first[kind][2].partition(":")[2].strip() or first[kind][1],
        )
        for kind, count in Counter(kinds).most_common()
    ]
    total = f"{number(len(rows))} listed in <code>{escape(name)}</code>"
    shown = table(("reason", "utterances", "the first of them", "what was found"), counted, align="lrll")
    return joined([Markup(f"<h3>{total}</h3>\n"), shown])
