from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import DIGITS, needs

from asr_lstm.corpora.digits import WORDS, choose_dev, prepare_digits, read_digits
from asr_lstm.errors import DataError
from asr_lstm.manifest import read_manifest

SPEAKERS = ("ann", "bob", "cy-2")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three speakers, each digit twice, as WAV and FLAC, beside what else the repository holds."""
    folder = tmp_path / "free-spoken-digit-dataset-1.0.10"
    (folder / "recordings").mkdir(parents=True)
    for speaker in SPEAKERS:
        for digit in range(10):
            for number in range(2):
                name = f"{digit}_{speaker}_{number}.{'flac' if speaker == 'bob' else 'wav'}"
                soundfile.write(folder / "recordings" / name, np.full(3000, 0.1), 8000)
    (folder / "metadata.py").write_text("")
    (folder / "recordings" / "10_ann_0.wav").write_bytes(b"no digit")
    (folder / "recordings" / "1_.._0.wav").write_bytes(b"no speaker")
    return folder


def test_each_speaker_is_held_out_once(corpus: Path, tmp_path: Path) -> None:
    prepared = prepare_digits(tmp_path / "m", source=corpus)
    assert list(prepared.folds) == list(SPEAKERS)
    tested: list[str] = []
    for speaker, fold in prepared.folds.items():
        rows = {split: read_manifest(path) for split, path in fold.manifests.items()}
        assert set(rows) == {"train", "dev", "test"}
        assert {row.speaker for row in rows["test"]} == {speaker}
        assert len(rows["test"]) == 20
        others = set(SPEAKERS) - {speaker}
        assert {row.speaker for row in rows["train"]} == {row.speaker for row in rows["dev"]} == others
        assert Counter(row.speaker for row in rows["dev"]) == dict.fromkeys(others, 2)
        assert len({row.id for split in rows.values() for row in split}) == 60
        tested += [row.id for row in rows["test"]]
    whole = {split: read_manifest(path) for split, path in prepared.manifests.items()}
    assert {split: len(rows) for split, rows in whole.items()} == {"train": 54, "dev": 6}
    assert sorted(tested) == sorted(row.id for rows in whole.values() for row in rows)
    assert {row.text for row in whole["train"]} == set(WORDS)
    assert next(row for row in whole["train"] if row.id.startswith("7_")).text == "seven"


@pytest.mark.parametrize("below", ["", "recordings", ".."])
def test_the_folder_may_be_named_on_three_levels(corpus: Path, below: str) -> None:
    rows = read_digits(corpus / below)
    assert len(rows) == 60
    assert rows == sorted(rows, key=lambda row: row.path.name)


def test_dev_is_fixed_by_its_seed(corpus: Path) -> None:
    rows = read_digits(corpus)
    assert choose_dev(rows, seed=1) == choose_dev(rows[::-1], seed=1)
    assert choose_dev(rows, seed=1) != choose_dev(rows, seed=2)


def test_a_single_speaker_cannot_be_held_out(corpus: Path, tmp_path: Path) -> None:
    for path in (corpus / "recordings").iterdir():
        if "_ann_" not in path.name:
            path.unlink()
    with pytest.raises(DataError, match=r"20 recordings of 1 speakers .* two speakers"):
        prepare_digits(tmp_path / "m", source=corpus)


def test_a_folder_without_digits_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}: holds 0 recordings"):
        prepare_digits(tmp_path / "m", source=tmp_path)


@needs(DIGITS)
def test_the_real_copy(tmp_path: Path) -> None:
    prepared = prepare_digits(tmp_path, source=DIGITS)
    assert list(prepared.folds) == ["jackson", "nicolas", "theo", "yweweler"]
    assert not (tmp_path / "dropped.tsv").exists()
    for speaker, fold in prepared.folds.items():
        rows = read_manifest(fold.manifests["test"])
        assert Counter(row.text for row in rows) == dict.fromkeys(WORDS, 50)
        assert {row.speaker for row in rows} == {speaker}
        assert len(read_manifest(fold.manifests["train"])) == 1350
