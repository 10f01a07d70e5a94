"""What was measured, for files, consoles and model cards: results.json, tables, and the worst alignments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from asr_lstm.errors import DataError
from asr_lstm.files import atomic_write
from asr_lstm.scoring import Edit, EditKind, Scores, align_words, count_errors

WORST_COUNT = 5
PAIR_COUNT = 10  # of the commonest confusions: a line or two
_STYLES: dict[EditKind, str] = {
    "equal": "",
    "substitute": "bold yellow",
    "delete": "bold red",
    "insert": "bold cyan",
}
_LETTERS: dict[EditKind, str] = {"equal": "", "substitute": "S", "delete": "D", "insert": "I"}
_HEADINGS = ("split", "decoder", "WER %", "CER %", "words", "utts", "RTF")
_LEFT = ("split", "decoder")  # the columns of words; numbers stand to the right


@dataclass(frozen=True)
class SplitResult:
    """One decoder on one split: rates as fractions with the ends of their 95 % intervals.

    Attributes:
        wer: word error rate.
        wer_low: lower end of its interval.
        wer_high: upper end of its interval.
        cer: character error rate, spaces counted.
        cer_low: lower end of its interval.
        cer_high: upper end of its interval.
        words: in the references.
        utterances: how many were scored.
        rtf: real-time factor, seconds of computing a second of audio; None where it was not measured.
    """

    wer: float
    wer_low: float
    wer_high: float
    cer: float
    cer_low: float
    cer_high: float
    words: int
    utterances: int
    rtf: float | None = None

    @classmethod
    def from_scores(cls, scores: Scores, *, rtf: float | None = None) -> SplitResult:
        """What results.json keeps of a score."""
        kept = {field.name: getattr(scores, field.name) for field in fields(cls) if field.name != "rtf"}
        return cls(**kept, rtf=rtf)


@dataclass(frozen=True)
class Results:
    """The contents of results.json.

    Attributes:
        recipe: its name.
        seed: of the whole run.
        command: what reproduces it.
        device: processor or accelerator, by name.
        cores: processor cores that were used.
        parameters: of the model.
        train_seconds: wall clock of training; None where the model was not trained in this run.
        train_hours_of_audio: in the training data, before augmentation.
        splits: split name to decoder name to what was measured.
        metrics: figures of studies that are not recognition.
        notes: what a reader must know, such as that the speech is synthetic.
    """

    recipe: str
    seed: int
    command: str
    device: str
    cores: int
    parameters: int
    train_seconds: float | None = None
    train_hours_of_audio: float | None = None
    splits: dict[str, dict[str, SplitResult]] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def write_results(path: str | Path, results: Results) -> None:
    """Write results.json atomically.

    Raises:
        DataError: the folder cannot be written to.
        ValueError: a figure is NaN or infinite, or of a type that JSON lacks.
    """
    try:
        text = json.dumps(asdict(results), indent=2, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError) as error:
        raise ValueError(f"results: cannot be written as JSON ({error})") from error
    with atomic_write(path) as file:
        file.write(text + "\n")


def read_results(path: str | Path) -> Results:
    """Read what `write_results` wrote; fields that this version does not know are passed over.

    Raises:
        DataError: the file is missing, is not JSON, lacks a field, or has a rate that is no number.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path}: cannot read the results ({error.strerror}); run the recipe first"
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: not a file of results: it is not JSON; run the recipe again") from error
    try:
        splits = {
            split: {decoder: _split_result(row) for decoder, row in decoders.items()}
            for split, decoders in data["splits"].items()
        }
        return Results(**{**_known(Results, data), "splits": splits})
    except (TypeError, AttributeError, KeyError) as error:
        raise DataError(f"{path}: not a file of results ({error}); run the recipe again") from error


def _known(kind: type[Results] | type[SplitResult], data: dict[str, Any]) -> dict[str, Any]:
    return {field.name: data[field.name] for field in fields(kind) if field.name in data}


def _split_result(row: dict[str, Any]) -> SplitResult:
    known = _known(SplitResult, row)
    if lacking := [
        name for name, value in known.items() if name != "rtf" and not isinstance(value, int | float)
    ]:
        raise TypeError(f"{lacking[0]} is no number")
    return SplitResult(**known)


def results_table(results: Results) -> Table:
    """One row for each split and decoder, rates in per cent with their intervals; the notes stand below."""
    table = Table(
        title=Text(f"{results.recipe} (seed {results.seed})"),
        caption=Text("\n".join(results.notes)) if results.notes else None,
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=0,  # the box alone parts the columns, so that the longest names and rates fit 80 characters
    )
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in _LEFT else "right", overflow="fold")
    for row in _rows(results):
        table.add_row(*map(Text, row))
    return table


def results_markdown(results: Results) -> str:
    """The table for a model card or RESULTS.md, with what it takes to repeat it."""
    lines = [
        _markdown_row(_HEADINGS),
        _markdown_row(["---" if heading in _LEFT else "---:" for heading in _HEADINGS]),
        *(_markdown_row(row) for row in _rows(results)),
        "",
        "Rates in per cent, with 95 % intervals.",
        _circumstances(results),
        *(f"\n{note}" for note in results.notes),
    ]
    return "\n".join(lines) + "\n"


def _rows(results: Results) -> list[tuple[str, ...]]:
    return [
        (
            split,
            decoder,
            _percent(row.wer, row.wer_low, row.wer_high),
            _percent(row.cer, row.cer_low, row.cer_high),
            str(row.words),
            str(row.utterances),
            "-" if row.rtf is None else f"{row.rtf:.3f}",
        )
        for split, decoders in results.splits.items()
        for decoder, row in decoders.items()
    ]


def _percent(rate: float, low: float, high: float) -> str:
    return f"{100 * rate:.2f} ({100 * low:.2f}-{100 * high:.2f})"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _circumstances(results: Results) -> str:
    training = ""
    if results.train_seconds is not None:
        training = f"; trained for {results.train_seconds / 60:.1f} minutes"
        if results.train_hours_of_audio is not None:
            training += f" on {results.train_hours_of_audio:.2f} hours of audio"
    cores = "1 core" if results.cores == 1 else f"{results.cores} cores"
    return (
        f"Recipe {results.recipe}, seed {results.seed}, {results.parameters:,} parameters{training}; "
        f"{results.device}, {cores}; `{results.command}`."
    )


def error_summary(decoder: str, figures: Mapping[str, Any]) -> Text:
    """The commonest errors of a decoder, how much its N-best could have saved, and what its confidences are worth.

    Args:
        decoder: its name.
        figures: what results.json keeps of its errors.
    """
    errors, confidence = figures["errors"], figures["confidence"]
    shown = Text(
        f"{decoder}: {errors['substitutions']} words substituted, {errors['deletions']} missed, "
        f"{errors['insertions']} inserted; WER of the best of the N-best {100 * figures['oracle_wer']:.2f} %\n"
    )
    if errors["pairs"]:
        pairs = [f"{said} > {heard} {count}" for said, heard, count in errors["pairs"][:PAIR_COUNT]]
        shown.append(f"most confused (said > heard): {', '.join(pairs)}\n")
    if confidence:
        areas = [
            f"{name} {area['auc']:.3f} ({area['low']:.3f}-{area['high']:.3f})"
            for name, area in confidence["error_auc"].items()
        ]
        shown.append(
            f"confidence: calibration error {100 * confidence['ece']:.1f} %; AUC {', '.join(areas)}\n"
        )
    return shown


def worst_alignments(
    references: Sequence[str],
    hypotheses: Sequence[str],
    ids: Sequence[str],
    *,
    count: int = WORST_COUNT,
    width: int = 100,
) -> Text:
    """The utterances with the most word errors, word under word as sclite shows them.

    Missing words are asterisks and a third line says S, D or I under each error, so that it reads the same
    without colours and in scripts without upper case.

    Args:
        references: what was said, normalised.
        hypotheses: what was recognised, normalised the same way.
        ids: of the utterances.
        count: how many to show at most; those without errors are not shown.
        width: of the console, in columns; longer alignments are folded.

    Raises:
        ValueError: nothing to show, or arguments of different lengths.
    """
    if len(ids) != len(references):
        raise ValueError(f"ids: {len(ids)} of them for {len(references)} references")
    counts = count_errors(references, hypotheses)
    errors = counts.errors.tolist()
    worst = [index for index in sorted(range(len(ids)), key=lambda i: -errors[i])[:count] if errors[index]]
    if not worst:
        return Text("no word errors\n")
    shown = Text()
    for index in worst:
        shown.append(
            f"{ids[index]}: {counts.length[index]} words, {counts.substitutions[index]} substituted, "
            f"{counts.deletions[index]} missed, {counts.insertions[index]} inserted\n"
        )
        shown.append_text(_columns(align_words(references[index], hypotheses[index]), width=width))
    return shown


def _columns(edits: Sequence[Edit], *, width: int) -> Text:
    """Lines REF, HYP and one of marks, folded to the width and closed by an empty line."""
    heads = ("REF:", "HYP:", "    ")
    shown = Text()
    lines = [Text(head) for head in heads]
    for edit in edits:
        cells = _cells(edit)
        if len(lines[0]) > len(heads[0]) and lines[0].cell_len + 1 + cell_len(cells[0]) > width:
            shown = _joined(shown, lines)
            lines = [Text(head) for head in heads]
        for line, cell in zip(lines, cells, strict=True):
            line.append(" ").append(cell, style=_STYLES[edit.kind])
    return _joined(shown, lines).append("\n")


def _joined(shown: Text, lines: Sequence[Text]) -> Text:
    for line in lines:
        line.rstrip()
        shown.append_text(line).append("\n")
    return shown


def _cells(edit: Edit) -> tuple[str, str, str]:
    """Reference, hypothesis and mark, padded to one width on screen."""
    wide = max(cell_len(edit.reference), cell_len(edit.hypothesis))
    words = (edit.reference or "*" * wide, edit.hypothesis or "*" * wide, _LETTERS[edit.kind])
    reference, hypothesis, mark = (word + " " * (wide - cell_len(word)) for word in words)
    return reference, hypothesis, mark
