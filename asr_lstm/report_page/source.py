"""What a recipe left on disk, read for its report; what is missing is said and stops nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr_lstm.bundle import Bundle, load_bundle
from asr_lstm.decoded import read_recognitions
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.evaluate import DECODER
from asr_lstm.manifest import Utterance, read_manifest
from asr_lstm.recognise import Recognition
from asr_lstm.report import Results, SplitResult, read_results
from asr_lstm.scoring import Edit, align_words
from asr_lstm.stages import Stages
from asr_lstm.units import Normaliser


@dataclass(frozen=True)
class SplitData:
    """The utterances of a split and what was made of them; all lists in the manifest's order.

    Attributes:
        name: of the split.
        utterances: with their transcripts.
        references: what was said, normalised.
        hypotheses: what was recognised, normalised the same way; "" where the utterance could not be loaded.
        failures: those that could not be loaded.
    """

    name: str
    utterances: list[Utterance]
    references: list[str]
    hypotheses: list[str]
    failures: list[Recognition]

    @cached_property
    def alignments(self) -> list[list[Edit]]:
        """The words of each utterance, said and heard, side by side."""
        return [align_words(*pair) for pair in zip(self.references, self.hypotheses, strict=True)]

    @cached_property
    def errors(self) -> NDArray[np.int64]:
        """Word errors of each utterance, (utterances,)."""
        return np.array([sum(edit.kind != "equal" for edit in edits) for edits in self.alignments], np.int64)

    @cached_property
    def words(self) -> NDArray[np.int64]:
        """Words said in each utterance, (utterances,)."""
        return np.array([len(reference.split()) for reference in self.references], np.int64)


@dataclass
class Source:
    """A recipe's folder and what could be read of it.

    Attributes:
        folder: exp/NAME.
        results: of results.json.
        split: name of the split that is shown in detail.
        data: of that split; None where its files are gone.
        bundle: the model; None where it cannot be loaded.
        complaints: what could not be read, a line each.
    """

    folder: Path
    results: Results
    split: str
    data: SplitData | None = None
    bundle: Bundle | None = None
    complaints: list[str] = field(default_factory=list)

    @property
    def result(self) -> SplitResult | None:
        """What was measured on the split that is shown in detail."""
        return self.results.splits.get(self.split, {}).get(DECODER)

    @cached_property
    def models(self) -> dict[str, Path]:
        """The model that recognised an utterance, by id, where that was the model of a fold."""
        if not self.split.startswith("test"):
            return {}
        found: dict[str, Path] = {}
        for manifest in sorted(self.folder.glob("folds/*/manifests/test.jsonl")):
            try:
                found |= {row.id: manifest.parents[1] / "model" for row in read_manifest(manifest)}
            except DataError as error:
                self.complaints.append(str(error))
        return found


def read_source(folder: str | Path, *, split: str = "") -> Source:
    """Read what a recipe left in `folder`.

    Args:
        folder: exp/NAME.
        split: what to show in detail; the last one of results.json by default, as on the recipe's console.

    Raises:
        DataError: no such folder, no results in it, or no such split among them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give what a recipe wrote, such as exp/NAME")
    results = read_results(folder / "results.json")
    if split and split not in results.splits:
        known = ", ".join(results.splits) or "none"
        raise DataError(f"{folder / 'results.json'}: no split {split!r} there; known: {known}")
    source = Source(folder, results, split or next(reversed(results.splits), ""))
    source.bundle = _bundle(source)
    source.data = _data(source)
    return source


def _bundle(source: Source) -> Bundle | None:
    try:
        return load_bundle(source.folder / "model")
    except ConfigError as error:
        source.complaints.append(f"{error}; texts are compared in lower case and without punctuation")
        return None


def _data(source: Source) -> SplitData | None:
    """The split in detail; a line of complaint where it cannot be had."""
    if not source.split:
        source.complaints.append("results.json: no split was recognised")
        return None
    try:
        utterances = read_manifest(_manifest(source))
        recognised = _recognised(source.folder / "decoded" / f"{source.split}.{DECODER}.jsonl")
    except DataError as error:
        source.complaints.append(str(error))
        return None
    if len(recognised) != len(utterances):
        source.complaints.append(
            f"{source.split}: {len(recognised)} recognitions for {len(utterances)} utterances; "
            "run the recipe again to decode anew"
        )
        return None
    normaliser = source.bundle.units.normaliser if source.bundle else Normaliser()
    data = SplitData(
        source.split,
        utterances,
        [normaliser(utterance.text) for utterance in utterances],
        [normaliser(item.text) for item in recognised],
        [item for item in recognised if item.error is not None],
    )
    _compare(source, data)
    return data


def _manifest(source: Source) -> Path:
    """The split's manifest: beside the results, or where the preparation recorded it."""
    beside = source.folder / "manifests" / f"{source.split}.jsonl"
    if beside.is_file():
        return beside
    try:
        recorded: Any = Stages(source.folder / "stages.json").record("prepare")["manifests"][source.split]
        return Path(recorded)
    except (KeyError, TypeError):
        return beside


def _recognised(path: Path) -> Sequence[Recognition]:
    try:
        return read_recognitions(path).items
    except OSError as error:
        raise DataError(
            f"{path}: cannot read the recognitions ({error.strerror}); run the recipe again"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a file of recognitions ({error}); run the recipe again") from error


def _compare(source: Source, data: SplitData) -> None:
    """Say so where the files are no longer those that results.json was made from."""
    result, errors, words = source.result, int(data.errors.sum()), int(data.words.sum())
    if result and (result.words != words or abs(result.wer - errors / max(words, 1)) > 1e-9):
        source.complaints.append(
            f"{data.name}: results.json was made from other transcripts or recognitions than those on disk now; "
            "run the recipe again to score anew"
        )


def said(message: object, *, folder: Path) -> str:
    """What went wrong, for readers of the report: they know which folder it is about."""
    return str(message).replace(f"{folder}/", "")
