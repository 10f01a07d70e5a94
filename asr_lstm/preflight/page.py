"""The preflight as a page: figures, charts and findings in one HTML file."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from asr_lstm.pages import (
    Markup,
    bar_chart,
    columns,
    details,
    escape,
    histogram,
    joined,
    notice,
    page,
    paragraph,
    section,
    table,
)
from asr_lstm.preflight.corpus import Split
from asr_lstm.preflight.expectation import Expectation
from asr_lstm.preflight.findings import SEVERITIES, Finding, Severity, count
from asr_lstm.preflight.inspection import Inspection
from asr_lstm.preflight.sound import MOST_SECONDS
from asr_lstm.preflight.texts import character_counts, show_character
from asr_lstm.preflight.training import RARE

_SHOWN = 20  # places of a finding
_OPEN = 3  # so many places are not folded away
_CHARACTERS = 120  # rows of the table of characters, the rarest
_HEADLINES: dict[Severity, str] = {
    "serious": "Serious: data will be lost, or results will be false",
    "warning": "Warnings: look at these",
    "note": "Notes",
}
# What this page adds to the style sheet of all pages.
STYLE = """
.finding { border-left: .35rem solid var(--line); padding: .1rem 0 .1rem .9rem; margin: 1rem 0; }
.finding h3 { margin: .1rem 0 .25rem; }
.finding.serious { border-color: var(--delete); }
.finding.warning { border-color: var(--warn-line); }
.finding.note { border-color: var(--data1); }
.severity { text-transform: uppercase; font-size: .75rem; letter-spacing: .06em; margin-right: .5rem; }
.serious .severity { color: var(--delete); }
.warning .severity { color: var(--substitute); }
.note .severity { color: var(--data1); }
"""


def inspection_page(inspection: Inspection) -> str:
    """The HTML of a preflight."""
    counts = Counter(finding.severity for finding in inspection.findings)
    verdict = (
        ", ".join(count(counts[name], label) for name, label in _LABELS if counts[name]) or "nothing found"
    )
    first = " Mend the serious ones before training." if inspection.serious else ""
    headers, rows = split_rows(inspection)
    body = [
        notice(f"{verdict}.{first}"),
        table(headers, rows, align="lrrrrrrrr"),
        _prose(sampled_text(inspection)),
        section("Findings", *_findings(inspection.findings), id="findings"),
        section("Lengths, rates and levels", columns(*_charts(inspection)), id="lengths"),
        section("What to expect", *_expected(inspection), id="expected"),
        section("Characters", *_characters(inspection.splits), id="characters"),
    ]
    names = ", ".join(str(split.manifest) for split in inspection.splits)
    return page("Preflight", body, subtitle=names, style=STYLE)


_LABELS: tuple[tuple[Severity, str], ...] = (
    ("serious", "serious finding"),
    ("warning", "warning"),
    ("note", "note"),
)


def sampled_text(inspection: Inspection) -> str:
    """What was looked at: everything, or a sample."""
    rows = sum(len(split.rows) for split in inspection.splits)
    if not inspection.facts:
        return f"Looked at {count(rows, 'row')}; these are no audio files, so nothing was listened to."
    listened = f"listened to {len(inspection.heard):,} of them"
    if len(inspection.heard) < len(inspection.kept):
        listened += " (a seeded sample, and pairs that may be copies first; `--audio all` for every one)"
    return (
        f"Looked at {count(rows, 'row')} and the headers of {count(len(inspection.facts), 'file')}; {listened}, "
        f"to {MOST_SECONDS:g} s each."
    )


def expectation_text(inspection: Inspection) -> str:
    """The word error rate to expect, in a sentence or two."""
    expected = inspection.expectation
    if expected is None:
        return "No error rate can be expected: no row of training can be used."
    text = (
        f"Word error rate to expect of {expected.hours:.2f} h of training: "
        f"{_percent(expected.low)} to {_percent(expected.high)}"
    )
    if expected.closed:
        return text + ", as measured on other corpora of few different words; not a promise."
    text += ", between results measured on read speech with more and less data; not a promise"
    return f"{text}; {expected.beyond}." if expected.beyond else f"{text}."


def _percent(rate: float) -> str:
    return f"{100 * rate:.2g} %" if rate < 0.1 else f"{100 * rate:.0f} %"


def split_rows(inspection: Inspection) -> tuple[Sequence[str], list[list[str]]]:
    """The table of splits: headers, and a row for each."""
    headers = (
        "split",
        "rows",
        "hours",
        "speakers",
        "min s",
        "median s",
        "max s",
        "words",
        "distinct",
    )
    return headers, [_split_row(split) for split in inspection.splits]


def _split_row(split: Split) -> list[str]:
    durations = [row.utterance.duration for row in split.rows]
    speakers = {row.utterance.speaker for row in split.rows} - {""}
    words = Counter(word for row in split.rows for word in row.text.split())
    return [
        split.name,
        f"{len(split.rows):,}",
        f"{sum(durations) / 3600:.2f}",
        f"{len(speakers):,}" if speakers else "unknown",
        f"{min(durations):.2f}",
        f"{statistics.median(durations):.2f}",
        f"{max(durations):.2f}",
        f"{words.total():,}",
        f"{len(words):,}",
    ]


def _charts(inspection: Inspection) -> list[Markup]:
    durations = [row.utterance.duration for split in inspection.splits for row in split.rows]
    charts = [histogram(durations, unit="s", title="Lengths", count="utterances")]
    rates = Counter(
        inspection.facts[row.utterance.path].rate
        for split in inspection.splits
        for row in split.rows
        if row.utterance.path in inspection.facts
    )
    rates.pop(0, None)
    if rates:
        ordered = sorted(rates.items())
        charts.append(
            bar_chart(
                [f"{rate:,} Hz" for rate, _ in ordered],
                [number for _, number in ordered],
                title="Sampling rates",
                caption="utterances by the rate of their file",
            )
        )
    heard = [sound for sound in inspection.sounds if not sound.error]
    if heard:
        caption = f"of the {count(len(heard), 'utterance')} listened to"
        charts += [
            histogram(
                [100 * sound.pauses for sound in heard],
                unit="% of the time",
                title="Without speech",
                caption=f"{caption}; an estimate by level",
                count="utterances",
            ),
            histogram(
                [sound.loudest_db for sound in heard if sound.peak],
                unit="dB of full scale",
                title="Loudest 20 ms",
                caption=f"{caption}, digital silence left out",
                count="utterances",
            ),
        ]
    return charts


def _findings(findings: Sequence[Finding]) -> list[Markup]:
    if not findings:
        return [paragraph("Nothing was found that should be mended.")]
    parts = []
    for severity in SEVERITIES:
        of_it = [finding for finding in findings if finding.severity == severity]
        if of_it:
            parts += [Markup(f"<h3>{escape(_HEADLINES[severity])}</h3>\n"), *map(_finding, of_it)]
    return parts


def _finding(finding: Finding) -> Markup:
    severity = Markup(f'<span class="severity">{escape(finding.severity)}</span>')
    head = Markup(f"<h3>{severity}{escape(finding.title)}</h3>\n")
    body = [head, _prose(finding.meaning), _prose(finding.remedy, before=Markup("<b>Remedy:</b> "))]
    if finding.places:
        rows = [(place.split, place.id, place.path, place.detail) for place in finding.places[:_SHOWN]]
        shown = f"the first {_SHOWN} of {len(finding.places):,}" if len(finding.places) > _SHOWN else "where"
        few = len(finding.places) <= _OPEN
        body.append(details(shown, table(("split", "id", "file", "what"), rows), open=few))
    return Markup(f'<div class="finding keep {finding.severity}">\n{joined(body)}</div>\n')


def _prose(text: str, *, before: str = "") -> Markup:
    """A paragraph; what stands between backticks is code."""
    pieces = [
        Markup(f"<code>{escape(piece)}</code>") if index % 2 else piece
        for index, piece in enumerate(text.split("`"))
    ]
    return paragraph(before, *pieces)


def _expected(inspection: Inspection) -> list[Markup]:
    parts = [paragraph(expectation_text(inspection))]
    if inspection.expectation is not None:
        parts += _points(inspection.expectation)
    return parts


def _points(expected: Expectation) -> list[Markup]:
    rows = [
        (
            f"{point.hours:g}",
            f"{100 * point.low:.1f} to {100 * point.high:.1f}",
            point.system,
            point.source,
            "yes" if point.ranged else "",
        )
        for point in expected.points
    ]
    how = (
        "The words decide here, not the hours: the range is that of all points."
        if expected.closed
        else "The logarithm of the rate is interpolated over that of the hours, between the points marked in the last "
        "column; two figures are those of an easier and a harder test set, or of several runs. Conversation, noise "
        "and accents that training lacks make it worse; a language model, synthetic speech added, and more updates "
        "make it better."
    )
    headers = ("hours", "WER %", "what was trained and tested", "source", "in the range")
    return [paragraph(how), table(headers, rows, align="rrlll")]


def _characters(splits: Sequence[Split]) -> list[Markup]:
    counts = {split.name: character_counts(split.rows) for split in splits}
    learned = sum((counts[split.name] for split in splits if split.training), Counter())
    everything = sum(counts.values(), Counter())
    ordered = sorted(everything, key=lambda character: (learned[character], character))
    rows = [
        (show_character(character), *(f"{counts[split.name][character]:,}" for split in splits))
        for character in ordered[:_CHARACTERS]
    ]
    about = (
        f"{count(len(everything), 'character')} after normalisation, {len(learned):,} of them in training; with fewer "
        f"than {RARE} examples one is hardly learned. The rarest in training come first."
    )
    headers = ("character", *(split.name for split in splits))
    folded = details(
        f"counts of {count(len(rows), 'character')}", table(headers, rows, align="l" + "r" * len(splits))
    )
    usual = sorted(learned.items(), key=lambda item: -item[1])[:40]
    chart = bar_chart(
        [show_character(character).partition(" U+")[0] for character, _ in usual],
        [number for _, number in usual],
        title="Characters in training",
        caption="the 40 most frequent",
    )
    return [paragraph(about), folded, details("chart of the most frequent", chart)]
