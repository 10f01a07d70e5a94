"""Looking through a whole corpus before training: all rows, all headers, and a sample of the sound."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from asr_lstm.augment import AugmentConfig
from asr_lstm.corpora.validate import MISSING
from asr_lstm.features import FeatureConfig, make_front_end
from asr_lstm.manifest import Utterance
from asr_lstm.preflight.corpus import (
    FileFacts,
    Split,
    find_manifests,
    read_headers,
    read_splits,
    sets_of_splits,
)
from asr_lstm.preflight.expectation import Expectation, expected_wer
from asr_lstm.preflight.findings import Finding, Row, sort_findings
from asr_lstm.preflight.leakage import check_recordings, check_sentences, check_speakers
from asr_lstm.preflight.rows import check_formats, check_lengths, check_rows, check_unheard
from asr_lstm.preflight.sound import Copy, Sound, check_sounds, choose_sample, find_copies, hear
from asr_lstm.preflight.texts import check_characters, check_spelling
from asr_lstm.shards import holder
from asr_lstm.speech import count_rare
from asr_lstm.units import Normaliser

# Listening to so many takes half a minute on a laptop, and finds with 95 % whatever is wrong with 1 in 300.
SAMPLE = 1000
SEED = 0  # of the choice of that sample
TEXT = Normaliser()
FEATURES = FeatureConfig()


@dataclass(frozen=True)
class Inspection:
    """What was looked at, and what was found.

    Attributes:
        splits: training first.
        facts: of each file; empty where the manifests are not of audio.
        kept: the rows that training will not refuse.
        heard: those that were listened to.
        sounds: of these rows.
        findings: the serious ones first.
        expectation: the word error rate to expect; None where training holds nothing.
    """

    splits: list[Split]
    facts: dict[Path, FileFacts]
    kept: list[Row]
    heard: list[Row]
    sounds: list[Sound]
    findings: list[Finding]
    expectation: Expectation | None

    @property
    def serious(self) -> bool:
        """Whether anything was found by which data is lost or results are false."""
        return any(finding.severity == "serious" for finding in self.findings)


def inspect_corpus(
    manifests: Sequence[Path],
    *,
    audio: int | Literal["all"] = SAMPLE,
    seed: int = SEED,
    text: Normaliser = TEXT,
    features: FeatureConfig = FEATURES,
    speed: float = AugmentConfig.speed,
) -> Inspection:
    """Look through manifests and their files for what loses data or makes results false.

    Every row is checked, and the header of every file; the sound only of a sample, for decoding a large corpus takes
    hours. Splits are compared within a set: see `corpus.sets_of_splits`. With features of kind `frames` the files are
    only looked for.

    Args:
        manifests: files, or folders of them; see `corpus.find_manifests`. A split is named after its file, and what
            begins with "train" is to be learned from.
        audio: how many utterances to listen to; "all" for every one.
        seed: of their choice.
        text: how transcripts are normalised.
        features: the front end, by which the frames of a row are counted.
        speed: spread of the playing speed either side of 1 in training.

    Raises:
        DataError: a manifest cannot be read, or there is none.
        ValueError: `audio` is below 0.
    """
    if audio != "all" and audio < 0:
        raise ValueError(f"audio must be a number of files from 0, or all, not {audio}")
    splits = read_splits(find_manifests(manifests), normaliser=text)
    rows = [row for split in splits for row in split.rows]
    sounding = features.kind == "log_mel"
    utterances = [row.utterance for row in rows]
    facts = read_headers(utterances) if sounding else {}
    front_end = make_front_end(features)
    refused, kept = check_rows(
        rows, facts or _missing(utterances), front_end=front_end, speed=speed if sounding else 0.0
    )
    heard = choose_sample(kept, facts, size=audio, seed=seed) if sounding else []
    sounds = hear(heard, facts)
    copies = find_copies(heard, sounds, facts)
    compared = [
        finding for part in sets_of_splits(splits) for finding in _compare(part, facts=facts, copies=copies)
    ]
    findings = [
        *refused,
        *compared,
        *check_sounds(heard, sounds),
        *check_unheard(kept, facts),
        *check_lengths(kept),
        *check_spelling(rows),
        *(check_formats(splits, facts) if sounding else []),
    ]
    return Inspection(splits, facts, kept, heard, sounds, sort_findings(findings), _expectation(splits, kept))


def _compare(
    splits: Sequence[Split], *, facts: Mapping[Path, FileFacts], copies: Sequence[Copy]
) -> list[Finding]:
    """What the splits of one set share that they should not, and what some of them lack."""
    names = {split.name for split in splits}
    own = [copy for copy in copies if {copy.first.split, copy.second.split} <= names]
    return [
        *check_recordings(splits, facts, own),
        *check_speakers(splits),
        *check_sentences(splits),
        *(check_characters(splits) if any(split.training for split in splits) else []),
    ]


def _missing(utterances: Sequence[Utterance]) -> dict[Path, FileFacts]:
    """What is known of files that are not audio: which are not there."""
    paths = {utterance.path for utterance in utterances if not os.path.isfile(holder(utterance))}
    return {path: FileFacts(error=f"{MISSING}: no such file") for path in paths}


def _expectation(splits: Sequence[Split], kept: Sequence[Row]) -> Expectation | None:
    # Of several folds one is as good as another: each is trained by itself.
    training = {split.name for split in sets_of_splits(splits)[0] if split.training}
    rows = [row for row in kept if row.split in training]
    if not rows:
        return None
    words = Counter(word for row in rows for word in row.text.split())
    hours = sum(row.utterance.duration for row in rows) / 3600
    return expected_wer(hours, words=len(words), rare=count_rare(words))
