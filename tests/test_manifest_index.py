"""An index of a manifest is the same utterances as the list, and its columns are what counting one by one gives."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from asr_lstm import manifest_columns, manifest_index
from asr_lstm.errors import DataError
from asr_lstm.manifest import read_manifest
from asr_lstm.manifest_index import (
    ManifestIndex,
    count_speakers,
    durations_of,
    open_manifest,
    summarise,
    take,
)
from asr_lstm.units import Normaliser

NORMALISER = Normaliser()
TEXTS = ["Hello all", "", "it's  Anna", "ΣΑΣ", "été", "a" * 50, "\ud800x", "12 -- 3", "'tis"]


def write(path: Path, rows: int = 40, *, seed: int = 0) -> Path:
    """Rows of every kind: blank lines between, names that occur twice, numbers as ids, further fields."""
    random = np.random.default_rng(seed)
    lines = []
    for row in range(rows):
        fields: dict[str, object] = {
            "audio_filepath": f"folder{row}/same.wav" if row % 3 else f"r{row}.wav",
            "text": TEXTS[row % len(TEXTS)],
            "duration": round(float(random.uniform(0, 9)), 3),
        }
        if row % 4 == 1:
            fields |= {"id": row, "speaker": f"s{row % 5}", "offset": 1, "note": {"é": row}}
        lines += [json.dumps(fields, ensure_ascii=row % 2 == 0 or row % 9 == 6)] + [""] * (row % 7 == 0)
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    return path


@pytest.fixture
def index(tmp_path: Path) -> ManifestIndex:
    return open_manifest(write(tmp_path / "m.jsonl"), NORMALISER)


def test_it_is_the_list_of_its_utterances(index: ManifestIndex) -> None:
    rows = read_manifest(index.path)
    assert len({row.id for row in rows}) == len(index) == len(rows)
    assert list(index) == rows
    assert [index[row] for row in range(-len(rows), len(rows))] == rows + rows
    assert list(index[5:30:4]) == rows[5:30:4]
    assert list(index[::-3]) == rows[::-3]
    assert list(index.take(np.array([7, 3, 3]))) == [rows[7], rows[3], rows[3]]
    with pytest.raises(IndexError):
        index[len(rows)]


def test_rows_are_read_again_where_they_are_not_remembered(
    index: ManifestIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_index, "_REMEMBERED", 0)
    rows = read_manifest(index.path)
    copy = pickle.loads(pickle.dumps(index))
    assert [copy[row] for row in range(len(rows))] == rows
    assert copy[0] is not copy[0]


def test_columns_are_what_counting_one_by_one_gives(
    index: ManifestIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_columns, "_CHUNK", 7)
    rows = read_manifest(index.path)
    texts = [NORMALISER(row.text) for row in rows]
    for known in (summarise(index, NORMALISER), summarise(rows, NORMALISER)):
        assert known.columns.durations.tolist() == [row.duration for row in rows]
        assert known.columns.characters.tolist() == list(map(len, texts))
        assert known.columns.doubled.tolist() == [sum(a == b for a, b in pairwise(text)) for text in texts]
        assert known.counts == Counter("".join(texts))
        assert len(set(known.columns.speakers.tolist())) == len({row.speaker for row in rows})
    assert count_speakers(index) == count_speakers(rows) == len({row.speaker for row in rows} - {""})
    assert durations_of(index).tolist() == durations_of(rows).tolist()


@pytest.mark.parametrize("chosen", [[0, 1, 2, 3], [39, 5], list(range(1, 40)), list(range(40))])
def test_a_part_counts_its_own_characters(index: ManifestIndex, chosen: list[int]) -> None:
    part, rows = take(index, np.array(chosen)), take(read_manifest(index.path), np.array(chosen))
    assert list(part) == rows
    known = summarise(part, NORMALISER)
    assert known.counts == summarise(rows, NORMALISER).counts
    assert known.columns.characters.tolist() == summarise(rows, NORMALISER).columns.characters.tolist()
    assert count_speakers(part) == count_speakers(rows)


def test_nothing_is_a_part_too(index: ManifestIndex) -> None:
    part = index.take(np.array([], np.int64))
    assert (len(part), list(part), part.counts) == (0, [], Counter())


def test_another_normaliser_is_counted_anew(index: ManifestIndex) -> None:
    other = Normaliser(casing="upper")
    assert summarise(index, other).counts == Counter("".join(other(row.text) for row in index))


def test_columns_are_kept_until_the_manifest_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_index, "KEEP_FROM", 10)
    path = write(tmp_path / "m.jsonl")
    first = open_manifest(path, NORMALISER)
    (kept,) = tmp_path.glob(".m.jsonl.*")
    monkeypatch.setattr(manifest_index, "_scan", None)  # a call of it would fail
    again = open_manifest(path, NORMALISER)
    assert list(again) == list(first)
    assert again.counts == first.counts
    monkeypatch.undo()
    monkeypatch.setattr(manifest_index, "KEEP_FROM", 10)
    assert open_manifest(path, Normaliser(casing="upper")).counts["A"] > 0
    write(path, rows=30, seed=1)
    assert list(open_manifest(path, NORMALISER)) == read_manifest(path)

    whole = kept.read_bytes()
    for damaged in (b"", whole[:100], whole[: len(whole) // 2], b"x" * 50, whole[:-1] + b"\0"):
        kept.write_bytes(damaged)
        assert list(open_manifest(path, NORMALISER)) == read_manifest(path)


def test_few_rows_leave_no_file_and_a_folder_that_cannot_be_written_does_no_harm(
    index: ManifestIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [path.name for path in index.path.parent.iterdir()] == ["m.jsonl"]

    def refuse(*arguments: object) -> None:
        raise DataError("read-only")

    monkeypatch.setattr(manifest_index, "KEEP_FROM", 10)
    monkeypatch.setattr(manifest_index, "atomic_write", refuse)
    assert len(open_manifest(index.path, NORMALISER)) == len(index)


def test_a_manifest_that_changes_under_ones_feet_is_not_read_wrongly(index: ManifestIndex) -> None:
    write(index.path, rows=41)
    with pytest.raises(DataError, match=r"m\.jsonl: the manifest was changed while it was in use"):
        index[3]
    index.path.unlink()
    with pytest.raises(DataError, match="No such file"):
        index[4]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the manifest is empty"),
        ('{"audio_filepath": "a.wav", "text": "x"}', ":1: `duration`"),
        (
            '{"audio_filepath": "a.wav", "text": "x", "duration": 1, "id": "i"}\n' * 2,
            ":2: id 'i' stands already",
        ),
    ],
)
def test_errors_are_those_of_a_list(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(content)
    with pytest.raises(DataError) as indexed:
        open_manifest(path, NORMALISER)
    with pytest.raises(DataError) as listed:
        read_manifest(path)
    assert said in str(indexed.value)
    assert str(indexed.value) == str(listed.value)
    with pytest.raises(DataError, match="No such file"):
        open_manifest(tmp_path / "none.jsonl", NORMALISER)
