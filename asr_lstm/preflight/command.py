"""`asr-lstm preflight`: what was found, on the console, as a page and as a table of all places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from asr_lstm.augment import AugmentConfig
from asr_lstm.console import ReaderConsole
from asr_lstm.errors import ConfigError
from asr_lstm.features import FeatureConfig
from asr_lstm.files import atomic_write, check_writable
from asr_lstm.preflight.findings import Finding, Severity, count
from asr_lstm.preflight.inspection import FEATURES, SAMPLE, SEED, TEXT, Inspection, inspect_corpus
from asr_lstm.preflight.page import expectation_text, inspection_page, sampled_text, split_rows
from asr_lstm.units import Normaliser

_HEADER = "severity\tfinding\tsplit\tid\tpath\tdetail\n"  # of the table of all places
_SHOWN = 3  # places of a finding on the console; the page has more, the table all
_STYLES: dict[Severity, str] = {"serious": "bold red", "warning": "bold yellow", "note": "bold cyan"}


def preflight_command(
    *,
    manifest: list[Path],
    output: Path = Path("preflight.html"),
    audio: int | Literal["all"] = SAMPLE,
    seed: int = SEED,
    text: Normaliser = TEXT,
    features: FeatureConfig = FEATURES,
    speed: float = AugmentConfig.speed,
) -> int:
    """Look through manifests before training and say what would lose data or make results false.

    Args:
        manifest: manifests of one corpus, or a folder of them; what is named train* is to be learned from. Where
            several folders have such a one, as folds do, splits are compared with those of their own folder only.
        output: the page to write; beside it stands a table (.tsv) of all places.
        audio: how many utterances to listen to, chosen at random; `all` for every one.
        seed: of that choice.
        text: how transcripts are normalised, as in the recipe.
        features: the front end, as in the recipe; it decides which rows are too short.
        speed: spread of the playing speed in training, as in the recipe.

    Returns:
        The exit code: 0, or 1 where data will be lost or results will be false.

    Raises:
        ConfigError: an option that makes no sense.
        DataError: a manifest cannot be read or the page cannot be written.
    """
    if audio != "all" and audio < 0:
        raise ConfigError(f"audio: a number of utterances from 0, or all, not {audio}")
    if output.suffix not in (".html", ".htm"):
        raise ConfigError(f"{output}: the page is HTML; name it .html")
    table = output.with_suffix(".tsv")
    _check_ours(table)
    check_writable(output)
    inspection = inspect_corpus(manifest, audio=audio, seed=seed, text=text, features=features, speed=speed)
    with atomic_write(output) as file:
        file.write(inspection_page(inspection))
    write_places(table, inspection.findings)
    console = ReaderConsole()
    _show(inspection, console)
    console.print(f"Page: {output}   All places: {table}", highlight=False, markup=False, soft_wrap=True)
    return 1 if inspection.serious else 0


def _check_ours(table: Path) -> None:
    """See that no other table, such as that of the corpus itself, stands where that of the places will."""
    try:
        with table.open("rb") as file:
            ours = file.readline() == _HEADER.encode()
    except OSError:  # there is none, or writing will say what is wrong
        return
    if not ours:
        raise ConfigError(f"{table}: stands where the table of all places goes; give the page another name")


def write_places(path: Path, findings: Sequence[Finding]) -> None:
    """Write a table of tab-separated severity, finding, split, id, path and detail, a place a line."""
    with atomic_write(path) as file:
        file.write(_HEADER)
        for finding in findings:
            for place in finding.places:
                cells = (finding.severity, finding.title, place.split, place.id, place.path, place.detail)
                file.write("\t".join(" ".join(cell.split()) for cell in cells) + "\n")


def _show(inspection: Inspection, console: Console) -> None:
    headers, rows = split_rows(inspection)
    table = Table(box=None, pad_edge=False)
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
    console.print(Text(sampled_text(inspection)))
    console.print()
    for finding in inspection.findings:
        console.print(_finding_text(finding), soft_wrap=True)
    if not inspection.findings:
        console.print("nothing found that should be mended")
    console.print(Text(expectation_text(inspection)))


def _finding_text(finding: Finding) -> Text:
    text = Text()
    text.append(f"{finding.severity}: ", style=_STYLES[finding.severity])
    text.append(f"{finding.title}\n", style="bold")
    text.append(f"  {finding.meaning}\n  {finding.remedy}\n")
    for place in finding.places[:_SHOWN]:
        parts = (f"{place.split} {place.id}".strip(), place.path, place.detail)
        text.append(f"    {'  '.join(filter(None, parts))}\n", style="dim")
    if (rest := len(finding.places) - _SHOWN) > 0:
        text.append(f"    and {count(rest, 'other')}\n", style="dim")
    return text
