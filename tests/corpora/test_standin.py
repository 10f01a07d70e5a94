"""Which data a LibriSpeech recipe takes, and what it says about it."""

from __future__ import annotations

import functools
import logging
import shutil
from pathlib import Path

import pytest

from asr_lstm.cli import main
from asr_lstm.corpora import standin
from asr_lstm.corpora.standin import prepare_librispeech_or_standin
from asr_lstm.corpora.synthetic import prepare_synthetic
from asr_lstm.errors import DataError
from asr_lstm.manifest import read_manifest

TINY = {"hours": 0.005, "speakers": 16}


@pytest.fixture(autouse=True)
def few_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("espeakng_loader")
    small = functools.partial(prepare_synthetic, dev_sentences=1, test_sentences=1)
    monkeypatch.setattr(standin, "prepare_synthetic", small)


def test_with_nothing_the_standin_serves_and_is_called_synthetic(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="asr_lstm"):
        prepared = prepare_librispeech_or_standin(tmp_path / "manifests", data=str(tmp_path / "data"), **TINY)
    assert set(prepared.manifests) == {"train", "dev", "test"}
    speakers = [{row.speaker for row in read_manifest(path)} for path in prepared.manifests.values()]
    assert not speakers[0] & speakers[1] | speakers[0] & speakers[2] | speakers[1] & speakers[2]
    assert "SYNTHETIC" in caplog.text
    assert "LIBRISPEECH=" in caplog.text
    assert any("SYNTHETIC" in note for note in prepared.notes)


def test_real_test_sets_without_training_data_are_kept_apart_and_explained(
    tmp_path: Path, librispeech_excerpt: Path
) -> None:
    prepared = prepare_librispeech_or_standin(
        tmp_path / "manifests", source=str(librispeech_excerpt), data=str(tmp_path / "data"), **TINY
    )
    assert set(prepared.manifests) == {"train", "dev", "test-other"}
    real = read_manifest(prepared.manifests["test-other"])
    assert len(real) == 100
    assert len({row.speaker for row in real}) == 10
    assert any("test-other" in note and "real recordings" in note for note in prepared.notes)


def test_training_data_of_the_corpus_needs_no_standin(tmp_path: Path) -> None:
    corpus = prepare_synthetic(tmp_path / "made", dev_sentences=1, test_sentences=1, **TINY)
    prepared = prepare_librispeech_or_standin(
        tmp_path / "manifests", source=str(corpus), data=str(tmp_path / "data")
    )
    assert set(prepared.manifests) == {"train", "dev", "test-synthetic"}
    assert prepared.notes == []
    assert not (tmp_path / "data").exists()

    shutil.rmtree(corpus / "dev-synthetic")
    with pytest.raises(DataError, match=r"no dev-\*"):
        prepare_librispeech_or_standin(tmp_path / "again", source=str(corpus), data=str(tmp_path / "data"))


@pytest.mark.parametrize("place", ["absent", "empty", "file.txt"])
def test_a_path_that_is_no_librispeech_is_one_line_and_exit_2(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Path(__file__).resolve().parents[2] / "recipes" / "librispeech"
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("not a folder")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIBRISPEECH", str(tmp_path / place))
    assert main(["recipe", str(recipe)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1
    assert str(tmp_path / place) in lines[0]
