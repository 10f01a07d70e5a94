"""What a study found, as one table, one picture and one page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from asr_lstm.compare_tables import p_text
from asr_lstm.console import ReaderConsole
from asr_lstm.files import atomic_write
from asr_lstm.pages import Markup, bar_chart, escape, line_chart, page, paragraph, section, table
from asr_lstm.pages.style import STYLE
from asr_lstm.study import Outcome, Study

HEADINGS = (
    "variant", "WER %", "95 %", "CER %", "WER - {baseline}", "95 %", "p", "speakers", "dev WER %", "minutes",
)  # fmt: skip
_ON_CONSOLE = (0, 1, 2, 4, 6, 9)  # columns that 80 characters have room for
_NOTE = (
    "p: how often chance alone would give so large a difference of WER (matched-pairs bootstrap over {by}s, "
    "two-sided). It says that these two models differ; another seed gives others. speakers: for how many the "
    "variant is better and worse than {baseline}. dev WER: the lowest of an epoch."
)
_CAPTION = "A dropped unit is noise to training alone: its loss may lie above that of dev."
_CELL = 500  # of a chart in the picture, with its margin
_COLUMNS = 2
_SVG = re.compile(r'<svg viewBox="0 0 [\d.]+ (?P<height>[\d.]+)"[^>]*>(?P<inside>.*)</svg>', re.DOTALL)


def write_study(folder: Path, study: Study, outcomes: Sequence[Outcome]) -> None:
    """Write `study.html`, `study.svg`, `study.md` and `study.json` into the study's folder."""
    picture = study_picture(study, outcomes)
    heads, rows = headings(study), [row(outcome) for outcome in outcomes]
    note = _NOTE.format(by=study.by, baseline=study.baseline)
    body = [
        section(
            "Error rates",
            table(heads, rows, align="l" + "r" * (len(heads) - 1)),
            paragraph(note, style="faint"),
        ),
        section("Curves", picture, paragraph(_CAPTION, style="faint")),
        section(
            "Settings",
            table(["variant", "settings"], [[name, settings(study, name)] for name in study.variants]),
        ),
    ]
    title = study.title or study.name
    subtitle = f"{study.question} Split: {study.split}."
    _write(folder / "study.html", page(title, body, subtitle=subtitle.strip()))
    _write(folder / "study.svg", picture)
    _write(folder / "study.md", f"{markdown(heads, rows)}\n{note}\n")
    plain = {"name": study.name, "split": study.split, "baseline": study.baseline}
    found = {outcome.name: asdict(outcome) for outcome in outcomes}
    _write(folder / "study.json", json.dumps(plain | {"variants": found}, indent=1, ensure_ascii=False))


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text)


def headings(study: Study) -> list[str]:
    """Of the table's columns."""
    return [heading.format(baseline=study.baseline) for heading in HEADINGS]


def row(outcome: Outcome) -> list[str]:
    """A variant's cells in the table; what a baseline has no difference to itself in is a dash."""
    result = outcome.result
    difference = ["-"] * 4
    if outcome.comparison is not None:
        test, (worse, _, better) = outcome.comparison.tests["wer"], outcome.comparison.speaker_wins
        difference = [
            f"{100 * test.difference:+.2f}",
            f"{100 * test.low:+.2f} to {100 * test.high:+.2f}",
            p_text(test.p),
            f"+{better} -{worse}",
        ]
    dev = outcome.curves.get("dev WER")
    return [
        outcome.name,
        f"{100 * result.wer:.2f}",
        f"{100 * result.wer_low:.2f} to {100 * result.wer_high:.2f}",
        f"{100 * result.cer:.2f}",
        *difference,
        f"{100 * min(dev[1]):.2f}" if dev else "-",
        f"{outcome.seconds / 60:.1f}",
    ]


def settings(study: Study, variant: str) -> str:
    """What a variant sets otherwise than the recipe and all the others."""
    return (
        ", ".join(f"{name} {value}" for name, value in study.variants[variant].items()) or "the recipe's own"
    )


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table for a RESULTS.md."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def study_picture(study: Study, outcomes: Sequence[Outcome]) -> Markup:
    """One picture that also stands alone: the error rates, and the losses of each variant beside the baseline's."""
    rates = bar_chart(
        [outcome.name for outcome in outcomes],
        [100 * outcome.result.wer for outcome in outcomes],
        low=[100 * outcome.result.wer_low for outcome in outcomes],
        high=[100 * outcome.result.wer_high for outcome in outcomes],
        unit="%",
    )
    charts = [(f"word error rate on {study.split}", rates)]
    reference = next((o.curves.get("dev loss") for o in outcomes if o.name == study.baseline), None)
    for outcome in outcomes:
        kinds: tuple[str, ...] = ("training loss", "dev loss")
        lines = {name: outcome.curves[name] for name in kinds if name in outcome.curves}
        if reference and outcome.name != study.baseline:
            lines[f"dev loss, {study.baseline}"] = reference
        charts.append((outcome.name, line_chart(lines, x_label="epoch", y_label="nats a unit")))
    return _one_picture(study.title or study.name, charts)


def _one_picture(title: str, charts: Sequence[tuple[str, Markup]]) -> Markup:
    """Charts in rows of two, as one SVG with the style sheet within."""
    parts: list[str] = []
    top, height = 10.0, 0.0
    for index, (name, chart) in enumerate(charts):
        found = _SVG.search(chart)
        if found is None:
            raise ValueError(f"charts: {name} is no picture")
        if index % _COLUMNS == 0:
            top, height = top + height, 0.0
        x = 10 + _CELL * (index % _COLUMNS)
        parts.append(f'<text x="{x}" y="{top + 14:g}" style="font-weight:600">{escape(name)}</text>')
        parts.append(f'<g transform="translate({x} {top + 24:g})">{found["inside"]}</g>')
        height = max(height, float(found["height"]) + 40)
    width, bottom = 10 + _CELL * min(_COLUMNS, len(charts)), top + height
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom:g}" role="img" '
        f'aria-label="{escape(title)}"><style>{STYLE}</style>'
        f'<rect width="100%" height="100%" style="fill:var(--ground)"/>{"".join(parts)}</svg>\n'
    )


def print_study(study: Study, outcomes: Sequence[Outcome], *, folder: Path) -> None:
    """The table on the console, and where the rest is."""
    shown = Table(title=study.title or study.name, box=SIMPLE_HEAD, padding=(0, 1))
    heads = headings(study)
    for number in _ON_CONSOLE:
        shown.add_column(heads[number], justify="right" if number else "left", no_wrap=True)
    for outcome in outcomes:
        cells = row(outcome)
        shown.add_row(*(cells[number] for number in _ON_CONSOLE))
    console = ReaderConsole()
    console.print(shown)
    console.print(f"Look: {folder / 'study.html'}   {folder / 'study.svg'}", highlight=False, soft_wrap=True)
