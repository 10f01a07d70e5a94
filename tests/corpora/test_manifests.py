"""Manifests that are given become those of a run: checked, divided where need be, never written over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_lstm.corpora.manifests import prepare_manifests
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.manifest import Utterance, read_manifest, write_manifest


def written(path: Path, *, count: int = 20, speakers: int = 5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        audio = path.parent / f"{path.stem}-{number}.wav"
        soundfile.write(audio, np.zeros(8000, np.float32), 8000)
        extra = {"room": number}
        rows.append(Utterance(audio, "a", 0.9, speaker=f"s{number % speakers}", lang="de", extra=extra))
    write_manifest(path, rows)
    return path


def test_without_dev_speakers_are_held_out_by_seed(tmp_path: Path) -> None:
    train = written(tmp_path / "data" / "all.jsonl")
    found = []
    for seed in (1, 1, 2, 3):
        prepared = prepare_manifests(tmp_path / "out", train=train, seed=seed)
        splits = {split: read_manifest(path) for split, path in prepared.manifests.items()}
        assert list(splits) == ["train", "dev"]
        assert {row.id for row in splits["train"] + splits["dev"]} == {row.id for row in read_manifest(train)}
        assert {row.speaker for row in splits["train"]}.isdisjoint(row.speaker for row in splits["dev"])
        found.append({row.id for row in splits["dev"]})
    assert found[0] == found[1]
    assert len({frozenset(ids) for ids in found}) > 1


def test_with_dev_nothing_is_moved_and_all_fields_are_kept(tmp_path: Path) -> None:
    train, dev = written(tmp_path / "data" / "all.jsonl"), written(tmp_path / "data" / "few.jsonl", count=2)
    prepared = prepare_manifests(tmp_path / "out", train=train, dev=dev)
    assert read_manifest(prepared.manifests["train"]) == read_manifest(train)
    assert read_manifest(prepared.manifests["dev"]) == read_manifest(dev)
    assert prepared.notes == []


def test_a_language_that_is_said_wins(tmp_path: Path) -> None:
    prepared = prepare_manifests(tmp_path / "out", train=written(tmp_path / "data" / "all.jsonl"), lang="cs")
    assert {row.lang for path in prepared.manifests.values() for row in read_manifest(path)} == {"cs"}


def test_no_manifest_is_written_over(tmp_path: Path) -> None:
    train = written(tmp_path / "out" / "train.jsonl")
    with pytest.raises(ConfigError, match="choose another --output"):
        prepare_manifests(tmp_path / "out", train=train)


def test_untrue_durations_are_dropped_and_nothing_left_is_an_error(tmp_path: Path) -> None:
    train = written(tmp_path / "data" / "all.jsonl")
    rows = read_manifest(train)
    broken = [Utterance(row.path, "a", 9.0, id=row.id) for row in rows[:3]]
    write_manifest(train, [*broken, *rows[3:]])
    prepared = prepare_manifests(tmp_path / "out", train=train)
    assert sum(len(read_manifest(path)) for path in prepared.manifests.values()) == 17
    assert (tmp_path / "out" / "dropped.tsv").read_text().count("untrue duration") == 3
    write_manifest(train, broken)
    with pytest.raises(DataError, match="nothing is left for train"):
        prepare_manifests(tmp_path / "out", train=train)
