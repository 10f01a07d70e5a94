"""What splits share: recordings, speakers, sentences; and the same recording twice within one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from asr_lstm.preflight.corpus import FileFacts, Split, recordings
from asr_lstm.preflight.findings import Finding, Place, Row, Severity, count, place
from asr_lstm.preflight.sound import Copy
from asr_lstm.speech import count_rare, is_closed

# Two rows of one recording whose stretches share more than this of the shorter one are the same utterance.
_SAME_STRETCH = 0.5
# With fewer distinct sentences than this share of the training rows, the corpus is one of prompts that everybody
# reads: commands, digits, phonetically rich sentences.
_PROMPTED = 0.5
# Short phrases (thank you, good morning) occur everywhere; a shared sentence of so many words is no chance, and of
# so many a sentence that differs in one of them is still the same.
_SENTENCE_WORDS = 4
_NEARLY_WORDS = 8
# From this share of a split on, its rate tells how well training's sentences are known by heart.
_MANY_SENTENCES = 0.05


def check_recordings(
    splits: Sequence[Split], facts: Mapping[Path, FileFacts], copies: Sequence[Copy] = ()
) -> list[Finding]:
    """The same recording in two splits, or twice within one.

    Args:
        splits: all of them.
        facts: of their files, the contents of which tell copies of a file.
        copies: rows that sound the same though their files differ.
    """
    kinds = {split.name: _kind(split) for split in splits}
    pairs: list[tuple[Row, Row, str]] = []
    for rows in recordings([row for split in splits for row in split.rows], facts).values():
        if len(rows) > 1:
            pairs += _shared(rows, kinds)
            pairs += [(*pair, "") for pair in _same_stretches(rows)]
    for copy in copies:
        remark = f"in another form, {copy.different:.0%} of the fingerprint differs"
        ordered = sorted((copy.first, copy.second), key=lambda row: _ORDER.index(kinds[row.split]))
        pairs.append((ordered[0], ordered[1], remark))
    shared: list[Place] = []
    twice: list[Place] = []
    contradicting: list[Place] = []
    for owner, row, remark in pairs:
        detail = f"in {owner.split} as {owner.utterance.id} ({owner.utterance.path})"
        found = place(row, "; ".join(filter(None, (detail, remark))))
        if owner.split == row.split:
            (twice if owner.text == row.text else contradicting).append(found)
        elif kinds[owner.split] != kinds[row.split]:
            shared.append(found)
    return [
        Finding(severity, f"{count(len(places), noun)} {title}", meaning, remedy, places)
        for places, (severity, noun, title, meaning, remedy) in (
            (shared, _SHARED),
            (twice, _TWICE),
            (contradicting, _CONTRADICTING),
        )
        if places
    ]


_Text = tuple[Severity, str, str, str, str]
_SHARED: _Text = (
    "serious",
    "row",
    "to be tested on with a recording of another split",
    "Training has heard them, or dev has chosen the model by them: the error rate on them is too good.",
    "Keep all rows of a recording in one split; take these out, or split again by recording.",
)
_TWICE: _Text = (
    "warning",
    "recording",
    "twice in one split",
    "It counts double in training and in the error rate.",
    "Keep one row of each.",
)
_CONTRADICTING: _Text = (
    "warning",
    "recording",
    "with two transcripts",
    "The same recording stands in two rows that say different things: one of them is wrong.",
    "Listen and keep the right one.",
)


_ORDER = ("train", "dev", "test")  # what a split must share no recording with stands before it


def _kind(split: Split) -> str:
    """What a split is used for: several test sets may well share recordings, as one pooled of others does."""
    if split.training:
        return "train"
    return "dev" if split.name.startswith(("dev", "val")) else "test"


def _shared(rows: Sequence[Row], kinds: Mapping[str, str]) -> Iterator[tuple[Row, Row, str]]:
    """Rows of one recording in splits of a later kind than its first, with the first."""
    owner = min(rows, key=lambda row: _ORDER.index(kinds[row.split]))
    for row in rows:
        if kinds[row.split] != kinds[owner.split]:
            yield owner, row, ""


def _same_stretches(rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Rows of one recording and split that overlap by more than a little."""
    ordered = sorted(rows, key=lambda row: (row.split, row.utterance.offset))
    for earlier, later in pairwise(ordered):
        first, second = earlier.utterance, later.utterance
        overlap = min(first.offset + first.duration, second.offset + second.duration) - second.offset
        same = overlap > _SAME_STRETCH * min(first.duration, second.duration)
        if same and earlier.split == later.split:
            yield earlier, later


def check_speakers(splits: Sequence[Split]) -> list[Finding]:
    """Speakers of training in other splits, and rows whose speaker is not known."""
    named = {row.utterance.speaker for split in splits for row in split.rows} - {""}
    trained = {row.utterance.speaker for split in splits if split.training for row in split.rows} - {""}
    findings = []
    several = len(named) > 1
    for split in splits:
        shared: dict[str, list[Row]] = {}
        for row in split.rows:
            if row.utterance.speaker in trained:
                shared.setdefault(row.utterance.speaker, []).append(row)
        if split.training or not shared:
            continue
        findings.append(
            Finding(
                "serious" if several else "note",
                f"{split.name} shares {count(len(shared), 'speaker')} with training",
                "The error rate says little about new speakers."
                if several
                else "There is one speaker: the error rate is for that voice.",
                "Split again by speaker." if several else "Record others, if others are to be understood.",
                [
                    place(rows[0], f"speaker {speaker}, {count(len(rows), 'row')}, this the first")
                    for speaker, rows in shared.items()
                ],
            )
        )
    unknown = [row for split in splits for row in split.rows if not row.utterance.speaker]
    if unknown:
        findings.append(
            Finding(
                "note",
                f"the speaker of {count(len(unknown), 'row')} is not known",
                "Whether splits share these speakers cannot be told, nor can intervals be taken by speaker.",
                "Write `speaker` into the manifest where you know it.",
                [place(row) for row in unknown],
            )
        )
    return findings


def check_sentences(splits: Sequence[Split]) -> list[Finding]:
    """Sentences of training, or all but one word of them, in other splits; by different recordings.

    Texts that differ in one word more, less or otherwise have a form in common when each form is the text with
    one word left out: all forms of the smaller side are held, and training passes by.
    """
    trained = [row for split in splits if split.training for row in split.rows if row.text]
    if not trained:
        return []
    words = Counter(word for row in trained for word in row.text.split())
    closed = is_closed(len(words), count_rare(words))
    prompted = closed or len({row.text for row in trained}) < _PROMPTED * len(trained)
    findings = []
    for split in splits:
        if not split.training and (places := _shared_sentences(split.rows, trained)):
            share = len(places) / len(split.rows)
            findings.append(_sentence_finding(split, places, share=share, prompted=prompted))
    return findings


def _shared_sentences(rows: Sequence[Row], trained: Sequence[Row]) -> list[Place]:
    owners: dict[int, list[str]] = {}  # by form: the texts of `rows` that have it
    for text in {row.text for row in rows}:
        for form in _forms(text):
            owners.setdefault(form, []).append(text)
    known: dict[str, Row] = {}  # by text of `rows`: who has it in training, as nearly as anybody
    for row in {row.text: row for row in reversed(trained)}.values():
        for form in _forms(row.text):
            for text in owners.get(form, ()):
                if text not in known or text == row.text:
                    known[text] = row
    return [
        place(
            row,
            f"{'as' if row.text == known[row.text].text else 'nearly as'} {known[row.text].utterance.id}: {row.text}",
        )
        for row in rows
        if row.text in known
    ]


def _forms(text: str) -> set[int]:
    """Hashes of a text and of what is left of it without each of its words; none of short ones."""
    words = text.split()
    if len(words) < _SENTENCE_WORDS:
        return set()
    if len(words) < _NEARLY_WORDS:
        return {hash(text)}
    return {hash(text)} | {hash(" ".join(words[:index] + words[index + 1 :])) for index in range(len(words))}


def _sentence_finding(split: Split, places: list[Place], *, share: float, prompted: bool) -> Finding:
    title = (
        f"{count(len(places), 'row')} of {split.name} ({share:.0%}) with a sentence of training, or nearly"
    )
    if prompted:
        return Finding(
            "note",
            title,
            "Training itself repeats its sentences or has few words, as corpora of prompts, commands and digits do: "
            "the error rate is for these and says nothing about other sentences.",
            "Nothing, if only these are to be recognised; else record other sentences for the tests.",
            places,
        )
    return Finding(
        "serious" if share >= _MANY_SENTENCES else "warning",
        title,
        "The model can know them by heart: the error rate on them is too good for new sentences.",
        "Split again so that a sentence, whoever says it, stands in one split only.",
        places,
    )
