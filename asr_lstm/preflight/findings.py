"""What a preflight says: findings, each with its severity, its places and its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from asr_lstm.manifest import Utterance

# "serious": data will be lost or results will be false; "warning": look at it; "note": good to know.
Severity = Literal["serious", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("serious", "warning", "note")


@dataclass(frozen=True, slots=True)
class Row:
    """An utterance and where it stands.

    Attributes:
        split: its split's name.
        utterance: as in the manifest.
        text: its transcript, normalised.
    """

    split: str
    utterance: Utterance
    text: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was found: an utterance, or a split as a whole where `id` and `path` are "".

    Attributes:
        split: its name.
        id: of the utterance.
        path: of its file.
        detail: what was found just there.
    """

    split: str
    id: str = ""
    path: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """Something that a person should know before training.

    Attributes:
        severity: how bad it is.
        title: what was found, in half a line.
        meaning: what it does to training or to the results.
        remedy: what to do about it.
        places: where, all of them.
    """

    severity: Severity
    title: str
    meaning: str
    remedy: str
    places: Sequence[Place] = ()


def place(row: Row, detail: str = "") -> Place:
    """The place of a row; what UTF-8 cannot write, as a file's name may hold, is shown by its code."""
    utterance = row.utterance
    parts = (row.split, utterance.id, str(utterance.path), detail)
    return Place(*(part.encode("utf-8", "backslashreplace").decode() for part in parts))


def sort_findings(findings: Sequence[Finding]) -> list[Finding]:
    """The serious ones first, else in the order they came."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 row", "1,200 rows"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
