from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from asr_lstm.errors import DataError
from asr_lstm.lm import load
from asr_lstm.lm.load import load_ngram, save_ngram


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of kept binary forms, with every file large enough for one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(load, "_CACHE_BYTES", 0)
    return tmp_path / "cache" / "asr_lstm"


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz", "model.ngram"])
def test_each_form_is_saved_by_its_name_and_loaded_by_its_content(
    tmp_path: Path, name: str, ngram_assets: Path
) -> None:
    model = load_ngram(ngram_assets / "pruned.arpa")
    save_ngram(tmp_path / name, model)
    (tmp_path / name).rename(tmp_path / "model")
    assert load_ngram(tmp_path / "model").log_prob(["alice", "was"]) == model.log_prob(["alice", "was"])


def test_the_binary_form_is_kept_and_used(
    tmp_path: Path, cache: Path, ngram_assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(ngram_assets / "pruned.arpa", tmp_path / "model.arpa"))
    expected = load_ngram(path).log_prob(["alice"])
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(load, "read_arpa", None)  # nothing reads the text again
    assert load_ngram(path).log_prob(["alice"]) == expected


def test_a_changed_file_is_read_again_and_its_old_form_goes(
    tmp_path: Path, cache: Path, ngram_assets: Path
) -> None:
    path = Path(shutil.copy(ngram_assets / "pruned.arpa", tmp_path / "model.arpa"))
    load_ngram(path)
    before = list(cache.iterdir())
    shutil.copy(ngram_assets / "gaps.arpa", path)
    os.utime(path, (1, 1))
    assert load_ngram(path).counts == (7, 6, 4)
    assert len(list(cache.iterdir())) == 1
    assert list(cache.iterdir()) != before


def test_a_damaged_form_is_made_again(tmp_path: Path, cache: Path, ngram_assets: Path) -> None:
    path = Path(shutil.copy(ngram_assets / "gaps.arpa", tmp_path / "model.arpa"))
    load_ngram(path)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:100])
    assert load_ngram(path).counts == (7, 6, 4)
    assert kept.read_bytes() == whole


def test_without_a_place_for_it_the_text_is_enough(
    tmp_path: Path, cache: Path, ngram_assets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.parent.write_text("no folder")
    with caplog.at_level("INFO"):
        assert load_ngram(ngram_assets / "gaps.arpa").counts == (7, 6, 4)
    assert "cannot be kept" in caplog.text


def test_small_files_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ngram_assets: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_ngram(ngram_assets / "gaps.arpa")
    assert not (tmp_path / "cache").exists()


def test_what_cannot_be_loaded_or_saved_is_told(tmp_path: Path, ngram_assets: Path) -> None:
    with pytest.raises(DataError, match=f"^{tmp_path / 'absent.arpa'}: cannot read"):
        load_ngram(tmp_path / "absent.arpa")
    with pytest.raises(DataError, match=f"^{tmp_path}: a folder, where .* --lstm or --rescore$"):
        load_ngram(tmp_path)
    with pytest.raises(DataError, match=r"model.txt: the name must end in \.arpa, \.arpa\.gz, or \.ngram"):
        save_ngram(tmp_path / "model.txt", load_ngram(ngram_assets / "gaps.arpa"))
