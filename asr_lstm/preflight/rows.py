"""Rows that training will refuse, and rows whose transcript or length is not what it should be."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from asr_lstm.audio import MIN_SECONDS
from asr_lstm.corpora.validate import MISSING, NO_TEXT, UNREADABLE, UNTRUE_DURATION
from asr_lstm.features import FrontEnd
from asr_lstm.preflight.corpus import FileFacts, Split
from asr_lstm.preflight.findings import Finding, Place, Row, count, place
from asr_lstm.preflight.memory import encoder_frames
from asr_lstm.preflight.training import NO_DURATION, TOO_SHORT, find_outliers, frames_needed
from asr_lstm.shards import holder

# What `asr_lstm.audio.read_audio` lets be missing at the end, and what a declared duration may miss by rounding.
_SLACK_SECONDS = 0.1
# A declared length below this share of the file's leaves enough unheard to hold a word.
_HEARD_SHARE = 0.95
# Longer utterances than this are rarely cut well; CTC learns to align on short ones.
_LONG_SECONDS = 60.0

_MEANINGS = {
    NO_TEXT: "There is nothing to learn from them; in a test they only count insertions.",
    NO_DURATION: "The manifest says that they last 0 s.",
    MISSING: "Training and evaluation will fail or leave them out.",
    UNREADABLE: "Training and evaluation will fail or leave them out.",
    UNTRUE_DURATION: "The manifest asks for more than the file holds.",
    TOO_SHORT: "CTC needs a frame for each character and has fewer; most often the transcript belongs to another "
    "recording, or the cut is wrong.",
}
_REMEDIES = {
    NO_TEXT: "Transcribe them, or take the rows out of the manifest.",
    NO_DURATION: "Write the true `duration` in seconds into the manifest (`asr-lstm prepare` does).",
    MISSING: "Correct `audio_filepath` (it is relative to the manifest), or copy the files there.",
    UNREADABLE: "Copy them again from their source, or convert them to WAV or FLAC.",
    UNTRUE_DURATION: "Correct `duration` and `offset`; if the file was cut short, copy it again.",
    TOO_SHORT: "Listen to a few and correct their transcripts or cuts; else take the rows out.",
}


def check_rows(
    rows: Sequence[Row], facts: Mapping[Path, FileFacts], *, front_end: FrontEnd, speed: float
) -> tuple[list[Finding], list[Row]]:
    """Find the rows that training will refuse.

    Args:
        rows: of all splits.
        facts: of their files; none where the manifests are not of audio.
        front_end: decides how many frames a second has.
        speed: spread of the playing speed either side of 1.

    Returns:
        The findings, one a reason, and the rows that are left.
    """
    durations = [row.utterance.duration / (1 + speed) for row in rows]
    frames = encoder_frames(front_end, durations)
    refused: dict[str, list[Place]] = {}
    kept = []
    for row, available in zip(rows, frames, strict=True):
        if fault := _fault(row, facts.get(row.utterance.path), available):
            reason, detail = fault
            refused.setdefault(reason, []).append(place(row, detail))
        else:
            kept.append(row)
    findings = [
        Finding(
            "serious",
            f"{count(len(places), 'row')} will be refused: {reason}",
            _MEANINGS[reason],
            _REMEDIES[reason],
            places,
        )
        for reason, places in refused.items()
    ]
    return findings, kept


def _fault(row: Row, facts: FileFacts | None, frames: int) -> tuple[str, str] | None:
    """Reason and detail where a row cannot be used."""
    utterance = row.utterance
    if facts is not None and facts.error:
        return (UNREADABLE if os.path.isfile(holder(utterance)) else MISSING), facts.error
    if not row.text:
        written = (
            f"{utterance.text!r} is nothing after normalisation"
            if utterance.text.strip()
            else "the text is empty"
        )
        return NO_TEXT, written
    if not utterance.duration > 0:
        return NO_DURATION, "0 s"
    if facts is not None:
        end = utterance.offset + utterance.duration
        if end > facts.seconds + _SLACK_SECONDS:
            return UNTRUE_DURATION, f"up to {end:.2f} s is asked for, the file has {facts.seconds:.2f} s"
        if utterance.duration < MIN_SECONDS:
            return UNTRUE_DURATION, f"{utterance.duration:.3f} s; the least is {MIN_SECONDS:g} s"
    if frames < (needed := frames_needed(row.text)):
        return TOO_SHORT, f"{utterance.duration:.2f} s, {frames} frames at the fastest speed; {needed} needed"
    return None


def check_unheard(rows: Sequence[Row], facts: Mapping[Path, FileFacts]) -> list[Finding]:
    """Files that are longer than their only row says: what stands after it is never heard."""
    used: dict[Path, int] = {}
    for row in rows:
        used[row.utterance.path] = used.get(row.utterance.path, 0) + 1
    places = []
    for row in rows:
        utterance, known = row.utterance, facts.get(row.utterance.path)
        if known is None or used[utterance.path] > 1 or utterance.offset > 0:
            continue
        if utterance.duration < min(_HEARD_SHARE * known.seconds, known.seconds - _SLACK_SECONDS):
            detail = f"{utterance.duration:.2f} s declared, the file has {known.seconds:.2f} s"
            places.append(place(row, detail))
    if not places:
        return []
    return [
        Finding(
            "warning",
            f"{count(len(places), 'row')} shorter than the file",
            "Only the declared length is read; if the transcript is of the whole file, its end is never heard.",
            "Set `duration` to the file's length, or leave it if only the beginning is meant.",
            places,
        )
    ]


def check_lengths(rows: Sequence[Row]) -> list[Finding]:
    """Very long utterances, and those with far more or fewer characters a second than is usual."""
    findings = []
    long = [row for row in rows if row.utterance.duration > _LONG_SECONDS]
    if long:
        long.sort(key=lambda row: -row.utterance.duration)
        findings.append(
            Finding(
                "warning",
                f"{count(len(long), 'utterance')} longer than {_LONG_SECONDS:g} s",
                "Each makes a batch by itself and sets the memory that training needs; CTC aligns long ones late.",
                "Cut them at pauses and give each part its own row (`offset` and `duration`).",
                [place(row, f"{row.utterance.duration:.1f} s") for row in long],
            )
        )
    rates = [len(row.text) / row.utterance.duration for row in rows]
    if odd := find_outliers(rates):
        odd.sort(key=lambda index: -rates[index])
        findings.append(
            Finding(
                "warning",
                f"{count(len(odd), 'utterance')} may have another's transcript",
                "They have far more or fewer characters a second than the others, as rows do whose text was shifted, "
                "cut off or swapped.",
                "Listen to the first few; correct the transcripts or take the rows out.",
                [place(rows[index], f"{rates[index]:.1f} characters a second") for index in odd],
            )
        )
    return findings


def check_formats(splits: Sequence[Split], facts: Mapping[Path, FileFacts]) -> list[Finding]:
    """Sampling rates that training lacks or has mixed, and files of several channels."""

    def rate(row: Row) -> int:
        return facts[row.utterance.path].rate

    rows = [row for split in splits for row in split.rows if facts[row.utterance.path].rate]
    trained = Counter(rate(row) for split in splits if split.training for row in split.rows if rate(row))
    rates = Counter(map(rate, rows))
    findings = []
    if len(rates) > 1:
        usual = rates.most_common(1)[0][0]
        findings.append(
            Finding(
                "warning",
                f"{len(rates)} sampling rates: "
                + ", ".join(f"{value:,} Hz {number:,}" for value, number in rates.most_common()),
                "All are resampled to the model's, but a low one leaves nothing above half of it, and the model can "
                "learn that instead of the speech."
                + (
                    ""
                    if set(rates) == set(trained)
                    else " Training lacks some of them: the tests are of another kind."
                ),
                "Nothing, if what is to be recognised is mixed alike; else bring all to the lowest (features.rate).",
                [place(row, f"{rate(row):,} Hz") for row in rows if rate(row) != usual],
            )
        )
    several = [row for row in rows if facts[row.utterance.path].channels > 1]
    if several:
        findings.append(
            Finding(
                "note",
                f"{count(len(several), 'row')} of files with several channels",
                "Their channels are averaged: right for stereo, wrong where each channel is another person.",
                "Where each is another person, write a file for each channel and transcribe it by itself.",
                [place(row, f"{facts[row.utterance.path].channels} channels") for row in several],
            )
        )
    return findings
