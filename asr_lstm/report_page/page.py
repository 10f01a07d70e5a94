"""The whole page: what was measured, how training went, where the errors are, what they look and sound like."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from asr_lstm.errors import AsrLstmError
from asr_lstm.files import atomic_write
from asr_lstm.inference import default_loader
from asr_lstm.manifest import Loader
from asr_lstm.model_files import CONFIG_NAME
from asr_lstm.pages import (
    Markup,
    columns,
    details,
    escape,
    joined,
    notice,
    page,
    paragraph,
    section,
    stack,
    table,
)
from asr_lstm.pages.axes import number
from asr_lstm.report import SplitResult
from asr_lstm.report_page.confusions import confusion_tables
from asr_lstm.report_page.curves import training_curves
from asr_lstm.report_page.dropped import dropped_tables
from asr_lstm.report_page.examples import Examples
from asr_lstm.report_page.rates import length_rates, level_rates, speaker_rates, split_rates
from asr_lstm.report_page.source import Source, read_source, said
from asr_lstm.report_page.style import STYLE

NAME = "report.html"
_EXPLAINED = (
    "Said over recognised. S: one word taken for another (underlined); D: a word missed (struck through); "
    "I: a word that nobody said (underlined twice). The pictures are the features that the model hears, low bands "
    "at the bottom, high values standing out from the ground. Above them stand the units where the model hears "
    "them, on bars as high as it is sure (the posterior, blank left out); those less than half sure are "
    "underlined; \u2423 is the space between words."
)


def write_report_page(folder: str | Path, *, split: str = "") -> Path:
    """Write `report.html` into a recipe's folder, from what stands there; the same files give the same page.

    What is missing (logs, audio, the model) is said on the page; only results.json must be there.

    Args:
        folder: exp/NAME.
        split: what to show in detail; the last one of results.json by default.

    Returns:
        The page.

    Raises:
        DataError: no results there, no such split among them, or the page cannot be written.
    """
    source = read_source(folder, split=split)
    path = source.folder / NAME
    with atomic_write(path) as file:
        file.write(report_page(source))
    return path


def report_command(folder: Path, *, split: str = "") -> int:
    """Make the page report.html anew from what a recipe left on disk, and print its path.

    Args:
        folder: of the recipe's output, exp/NAME.
        split: what to show in detail; the last one of results.json by default.

    Returns:
        The exit code: 0.

    Raises:
        DataError: no results there, no such split among them, or the page cannot be written.
    """
    print(write_report_page(folder, split=split))
    return 0


def report_page(source: Source) -> str:
    """The page's HTML."""
    results = source.results
    split = f": {source.split}" if source.split else ""
    sections = {
        "measured": ("What was measured", _measured(source)),
        "training": ("How training went", training_curves(source.folder)),
        "errors": (f"Where the errors are{split}", _errors(source)),
        "words": (f"Which words cost most{split}", _words(source)),
        "utterances": (f"Single utterances{split}", _utterances(source)),
        "dropped": ("What was dropped, and why", dropped_tables(source.folder)),
        "settings": ("All settings", _settings(source)),
    }
    # Gathered while the sections were made, and shown before them.
    notices = [notice(note) for note in [*results.notes, *_complaints(source)]]
    links = joined(
        Markup(f'<a href="#{name}">{escape(title)}</a>\n') for name, (title, _) in sections.items()
    )
    body = [
        *notices,
        Markup(f"<nav>{links}</nav>\n"),
        *(section(title, content, id=name) for name, (title, content) in sections.items()),
    ]
    return page(f"Report: {results.recipe}", body, subtitle=_subtitle(source), style=STYLE)


def _subtitle(source: Source) -> str:
    results, parts = source.results, []
    if results.train_hours_of_audio is not None:
        parts.append(f"trained on {number(results.train_hours_of_audio, digits=3)} hours of audio")
    parts.append(f"measured {_measured_at(source)}")
    return f"A speech recogniser of {number(results.parameters, digits=9)} parameters, {', '.join(parts)}"


def _measured_at(source: Source) -> str:
    seconds = (source.folder / "results.json").stat().st_mtime
    return datetime.fromtimestamp(seconds, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _complaints(source: Source) -> list[str]:
    return [said(line, folder=source.folder) for line in dict.fromkeys(source.complaints)]


def _measured(source: Source) -> Markup:
    results = source.results
    card = _card(source.split, source.result) if source.result else Markup()
    minutes = "" if results.train_seconds is None else f"{results.train_seconds / 60:.1f} minutes"
    hours = "" if results.train_hours_of_audio is None else f"{results.train_hours_of_audio:.2f}"
    facts = [
        ("recipe", results.recipe),
        ("command", _command(results.command)),
        ("seed", results.seed),
        ("measured", _measured_at(source)),
        ("device", results.device),
        ("cores", results.cores),
        ("training", minutes),
        ("hours of audio", hours),
        ("parameters", number(results.parameters, digits=9)),
        *(pair for name, value in results.metrics.items() if (pair := _metric(name, value))),
    ]
    shown = table(
        ("", ""), [(Markup(f"<b>{escape(name)}</b>"), value) for name, value in facts if value != ""]
    )
    return joined([columns(stack(card, split_rates(results)), shown), _rates(source)])


def _command(command: str) -> Markup:
    """A command whose lines break between its words only, and not after the dashes of an option."""
    words = " ".join(f"<span>{escape(word)}</span>" for word in command.split(" "))
    return Markup(f'<code class="command">{words}</code>')


def _metric(name: str, value: object) -> tuple[str, str] | None:
    """A figure of results.json as people write it; None where it is more than a figure."""
    title = " ".join({"wer": "WER", "cer": "CER"}.get(word, word) for word in name.split("_"))
    if isinstance(value, float):
        rate = name.endswith(("wer", "cer"))
        return title, f"{100 * value:.2f} %" if rate else number(value)
    return (title, str(value)) if isinstance(value, str | int) else None


def _card(split: str, result: SplitResult) -> Markup:
    return Markup(
        f'<div class="card"><div class="big">{100 * result.wer:.1f} %</div>'
        f"<div>word error rate on {escape(split)}</div>"
        f'<div class="faint">95 % interval {100 * result.wer_low:.1f} to {100 * result.wer_high:.1f} %, '
        f"{number(result.words)} words, {number(result.utterances)} utterances</div></div>\n"
    )


def _rates(source: Source) -> Markup:
    headers = ("split", "decoder", "WER %", "interval", "CER %", "interval", "words", "utterances", "RTF")
    rows = [
        (
            split,
            decoder,
            f"{100 * row.wer:.2f}",
            f"{100 * row.wer_low:.2f} to {100 * row.wer_high:.2f}",
            f"{100 * row.cer:.2f}",
            f"{100 * row.cer_low:.2f} to {100 * row.cer_high:.2f}",
            number(row.words, digits=9),
            number(row.utterances, digits=9),
            "" if row.rtf is None else f"{row.rtf:.4f}",
        )
        for split, decoders in source.results.splits.items()
        for decoder, row in decoders.items()
    ]
    below = (
        "WER, CER: word and character error rate, with 95 % intervals. "
        "RTF: seconds of computing a second of audio."
    )
    return joined([table(headers, rows, align="llrrrrrrr"), paragraph(below, style="faint")])


def _errors(source: Source) -> Markup:
    if source.data is None:
        return _nothing(source)
    seed = source.results.seed
    load, rate = _audio_loader(source)
    return columns(
        stack(speaker_rates(source.data, seed=seed)),
        stack(
            length_rates(source.data, seed=seed),
            level_rates(source.data, load=load, rate=rate, seed=seed),
        ),
    )


def _audio_loader(source: Source) -> tuple[Loader | None, int]:
    """What reads the audio that the model hears, and its rate; None where it hears something else."""
    if source.bundle is None or source.bundle.features.kind != "log_mel":
        return None, 0
    try:
        return default_loader(source.bundle), source.bundle.features.rate
    except AsrLstmError as error:
        source.complaints.append(said(error, folder=source.folder))
        return None, 0


def _words(source: Source) -> Markup:
    return confusion_tables(source.data) if source.data else _nothing(source)


def _utterances(source: Source) -> Markup:
    if source.data is None:
        return _nothing(source)
    return joined([paragraph(_EXPLAINED, style="faint"), Examples(source, source.data).show()])


def _nothing(source: Source) -> Markup:
    return paragraph(
        f"The utterances of {source.split or 'the splits'} are not on disk any more.", style="faint"
    )


def _settings(source: Source) -> Markup:
    files = (
        ("The recipe's settings", source.folder / "recipe.yaml"),
        ("The model's settings", source.folder / "model" / CONFIG_NAME),
    )
    parts = []
    for title, path in files:
        shown = path.relative_to(source.folder)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            parts.append(paragraph(f"{title} are not there ({shown}).", style="faint"))
        else:
            parts.append(details(f"{title} ({shown})", Markup(f"<pre>{escape(text)}</pre>\n")))
    return joined(parts)
