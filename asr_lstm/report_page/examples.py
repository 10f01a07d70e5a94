"""Single utterances: what was said over what was recognised, to look at and to listen to."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_lstm.bundle import Bundle, load_bundle
from asr_lstm.errors import READING_ERRORS, AsrLstmError
from asr_lstm.inference import default_loader
from asr_lstm.manifest import Utterance
from asr_lstm.pages import Markup, attributes, escape, joined, paragraph
from asr_lstm.pages.axes import number
from asr_lstm.report_page.hearing import Hearing, hear
from asr_lstm.report_page.pictures import data_url, encode_audio
from asr_lstm.report_page.source import Source, SplitData, said
from asr_lstm.report_page.spectrogram import spectrogram
from asr_lstm.scoring import Edit, EditKind

WORST, MEDIAN, RANDOM = 5, 3, 4
# Of sound and pictures together, as they stand in the page: with all else it stays below 5 MB, which mail takes.
MAX_MEDIA_BYTES = 4_000_000
MAX_WORDS = 300  # of one alignment
_MISSING = "***"  # as on the console
_MARKS: dict[EditKind, str] = {"equal": "", "substitute": "S", "delete": "D", "insert": "I"}


@dataclass(frozen=True)
class Choice:
    """Which utterances are shown, by their place in the split."""

    worst: list[int]
    median: list[int]
    random: list[int]


def choose_examples(data: SplitData, *, seed: int) -> Choice:
    """The utterances with the most errors, those around the median rate, and some at random; none twice.

    Those that could not be loaded are none of them.
    """
    failed = {item.index for item in data.failures}
    left = [index for index in range(len(data.utterances)) if index not in failed]
    by_errors = sorted(left, key=lambda index: -data.errors[index])
    worst = [index for index in by_errors[:WORST] if data.errors[index]]
    rates = data.errors / np.maximum(data.words, 1)
    by_rate = sorted((index for index in left if index not in worst), key=lambda index: rates[index])
    # Around the median of all, not of what is left when the worst are gone.
    start = max(0, min(len(left) // 2 - MEDIAN // 2, len(by_rate) - MEDIAN))
    median = by_rate[start : start + MEDIAN]
    rest = [index for index in left if index not in worst and index not in median]
    return Choice(worst, median, sorted(random.Random(seed).sample(rest, min(RANDOM, len(rest)))))


class Examples:
    """Shows utterances of a source, with sound and pictures as long as these fit the page.

    Args:
        source: whose split in detail is there.
    """

    def __init__(self, source: Source, data: SplitData) -> None:
        self._source = source
        self._data = data
        self._room = MAX_MEDIA_BYTES
        self._models: dict[Path, Bundle] = {}
        self._told: set[str] = set()

    def show(self) -> Markup:
        """All that were chosen."""
        choice = choose_examples(self._data, seed=self._source.results.seed)
        groups = (
            ("Worst: the most errors", choice.worst, "No utterance has an error."),
            ("Median: as many are better as are worse", choice.median, "No others are left."),
            ("At random", choice.random, "No others are left."),
        )
        parts = [self._failures()]
        for title, indices, none in groups:
            shown = [self._example(index) for index in indices] or [paragraph(none, style="faint")]
            parts.append(joined([Markup(f"<h3>{title}</h3>\n"), *shown]))
        return joined(parts)

    def _failures(self) -> Markup:
        failures = self._data.failures
        if not failures:
            return Markup()
        first = said(failures[0].error, folder=self._source.folder)
        return paragraph(
            f"{number(len(failures))} of {number(len(self._data.utterances))} utterances could not be loaded; all "
            f"their words count as missed. The first: {first}"
        )

    def _example(self, index: int) -> Markup:
        utterance, edits = self._data.utterances[index], self._data.alignments[index]
        errors, words = int(self._data.errors[index]), int(self._data.words[index])
        about = [
            Markup(f"speaker <bdi>{escape(utterance.speaker)}</bdi>") if utterance.speaker else "",
            f"{number(utterance.duration, digits=3)} s",
            f"{_counted(errors, 'error')} in {_counted(words, 'word')}",
        ]
        below = joined(filter(None, about), by=", ")
        title = f'<h4><bdi>{escape(utterance.id)}</bdi> <span class="faint">{below}</span></h4>\n'
        parts = [Markup(title), alignment(edits, lang=utterance.lang), self._media(index)]
        return Markup(f'<article class="example">\n{joined(parts)}</article>\n')

    def _media(self, index: int) -> Markup:
        utterance = self._data.utterances[index]
        try:
            bundle = self._bundle(utterance)
            hearing = hear(bundle, utterance, load=default_loader(bundle))
        except (AsrLstmError, *READING_ERRORS) as error:
            return self._once(f"No sound and no picture: {said(error, folder=self._source.folder)}")
        parts = [self._fitting(part) for part in _media_parts(hearing, bundle)]
        if not hearing.whole:
            shown = number(len(hearing.features) * hearing.frame_seconds, digits=3)
            parts.append(paragraph(f"Sound and picture are of the first {shown} s.", style="faint"))
        elif bundle.units.normaliser(hearing.text) != self._data.hypotheses[index]:
            parts.append(paragraph(f"The model on disk now reads: {hearing.text}", style="faint"))
        return joined(parts)

    def _bundle(self, utterance: Utterance) -> Bundle:
        """The model that recognised an utterance."""
        folder = self._source.models.get(utterance.id)
        if folder is None and self._source.bundle is not None:
            return self._source.bundle
        folder = folder or self._source.folder / "model"
        if folder not in self._models:
            self._models[folder] = load_bundle(folder)
        return self._models[folder]

    def _once(self, reason: str) -> Markup:
        """What is missing, unless it was said already: a model that cannot be loaded lacks in every utterance."""
        if reason in self._told:
            return Markup()
        self._told.add(reason)
        return paragraph(reason, style="faint")

    def _fitting(self, part: Markup) -> Markup:
        """The part, if there is still room for it in the page."""
        if len(part) > self._room:
            return paragraph("Left out: the page would grow too large.", style="faint")
        self._room -= len(part)
        return part


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def _media_parts(hearing: Hearing, bundle: Bundle) -> list[Markup]:
    picture = spectrogram(hearing, bundle)
    if bundle.features.kind != "log_mel":
        return [picture]
    sound = data_url(encode_audio(hearing.inputs, rate=bundle.features.rate), "audio/flac")
    return [
        Markup(f"<audio{attributes(controls='controls', preload='metadata', src=sound)}></audio>\n"),
        picture,
    ]


def alignment(edits: Sequence[Edit], *, lang: str = "") -> Markup:
    """Reference over hypothesis, word over word; a third line marks errors by letter, so that it reads in grey.

    Args:
        edits: the columns.
        lang: language code of the words, "" where unknown.
    """
    columns = []
    for edit in edits[:MAX_WORDS]:
        words = (edit.reference or _MISSING, edit.hypothesis or _MISSING)
        cells = "".join(f"<span>{escape(word)}</span>" for word in words)
        # A space after each: copied, or read without the style sheet, words must not run together.
        columns.append(f'<span class="word {edit.kind}">{cells}<b>{_MARKS[edit.kind] or "&#160;"}</b></span>')
    more = len(edits) - MAX_WORDS
    rest = paragraph(f"... and {more} words more", style="faint") if more > 0 else ""
    # One direction for the whole line, that of its first word.
    where = attributes(dir="auto", lang=lang or None)
    return Markup(f'<div class="alignment"{where}>{" ".join(columns)}</div>\n{rest}')
