"""Processes that speak, and what becomes of one that fails."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import soundfile

from asr_lstm.corpora.espeak_pool import answer_job, speak_jobs
from asr_lstm.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def _espeak_is_installed() -> None:
    pytest.importorskip("espeakng_loader")


def job(folder: Path, name: str, *, text: str = "good morning", **further: Any) -> dict[str, Any]:
    voice = {"language": "en", "variant": "victor"}  # breathy: its noise has a state
    return {
        "voice": voice,
        "files": {name: text},
        "folder": str(folder),
        "seed": 1,
        "acoustics": None,
    } | further


def test_each_job_finds_espeak_fresh_in_the_same_process(tmp_path: Path) -> None:
    names = [f"{number}.flac" for number in range(3)]
    written = list(speak_jobs([job(tmp_path, name) for name in names], workers=1))
    assert sorted(name for seconds in written for name in seconds) == names
    assert len({(tmp_path / name).read_bytes() for name in names}) == 1


def test_two_workers_share_the_jobs(tmp_path: Path) -> None:
    jobs = [job(tmp_path, f"{number}.flac", text="one two " * (number + 1)) for number in range(5)]
    seconds: dict[str, float] = {}
    for written in speak_jobs(jobs, workers=2):
        seconds |= written
    lengths = [seconds[f"{number}.flac"] for number in range(5)]
    assert lengths == sorted(lengths)
    assert lengths == [soundfile.info(tmp_path / f"{number}.flac").duration for number in range(5)]


def test_too_short_too_long_and_enough(tmp_path: Path) -> None:
    lines = ["no", "good morning to you", "yes " * 40, "and good evening", "good night to all"]
    texts = {f"{letter}.flac": line for letter, line in zip("abcde", lines, strict=True)}
    given = job(tmp_path, "") | {"files": texts, "shortest": 0.8, "longest": 6.0}
    assert list(next(speak_jobs([given]))) == ["b.flac", "d.flac", "e.flac"]
    assert list(next(speak_jobs([given | {"folder": str(tmp_path / "few"), "enough": 1.5}]))) == [
        "b.flac",
        "d.flac",
    ]
    assert sorted(path.name for path in (tmp_path / "few").iterdir()) == ["b.flac", "d.flac"]


def test_a_record_spares_the_work(tmp_path: Path) -> None:
    given = job(tmp_path, "x.flac", record="done.json")
    first = next(speak_jobs([given]))
    (tmp_path / "x.flac").unlink()
    assert next(speak_jobs([given])) == first
    assert not (tmp_path / "x.flac").exists()
    (tmp_path / "done.json").write_text("{")  # damaged: made again
    assert next(speak_jobs([given])) == first
    assert (tmp_path / "x.flac").exists()


def test_the_rate_of_the_files(tmp_path: Path) -> None:
    seconds = next(speak_jobs([job(tmp_path, "x.flac", rate=8000)]))
    info = soundfile.info(tmp_path / "x.flac")
    assert info.samplerate == 8000
    assert info.duration == seconds["x.flac"]


def test_an_error_keeps_its_kind_and_ends_all(tmp_path: Path) -> None:
    bad = job(tmp_path, "x.flac") | {"voice": {"language": "nowhere"}}
    with pytest.raises(ConfigError, match="nowhere"):
        list(speak_jobs([bad, *(job(tmp_path, f"{number}.flac") for number in range(3))], workers=1))


def test_a_fault_of_ours_is_named(tmp_path: Path) -> None:
    answer = answer_job(json.dumps(job(tmp_path, "x.flac") | {"voice": {"unknown": 1}}))
    assert answer["kind"] == "DataError"
    assert f"{tmp_path}: the espeak-ng process ended with status 1: TypeError" in answer["error"]


@pytest.mark.parametrize("code", ["import os; os.abort()", "pass"])
def test_a_process_that_dies_is_reported(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def broken(command: list[str], **options: Any) -> Any:
        return real([command[0], "-c", code], **options)

    monkeypatch.setattr(subprocess, "Popen", broken)
    with pytest.raises(DataError, match="ended with status"):
        list(speak_jobs([job(tmp_path, "x.flac")]))
