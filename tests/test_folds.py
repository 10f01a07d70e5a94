"""Cross-validation from recordings to report: the recipe for digits on three speakers of tones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_lstm.cli import main
from asr_lstm.manifest import Utterance, read_manifest
from asr_lstm.report import read_results

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "digits"
SPEAKERS = ("ann", "bob", "cy")
SMALL = ["--encoder.hidden=8", "--encoder.layers=1", "--features.mels=20"]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each digit twice, a tone of its own, by each speaker; the working directory is beside it."""
    folder = tmp_path / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for voice, speaker in enumerate(SPEAKERS):
        for digit in range(10):
            for number in range(2):
                tone = np.sin(np.arange(3200) * (0.1 + 0.2 * digit + 0.01 * voice))
                samples = 0.2 * tone + random.normal(scale=0.01, size=3200)
                soundfile.write(folder / f"{digit}_{speaker}_{number}.wav", samples, 8000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA", str(tmp_path / "fsdd"))
    return tmp_path


def _rows(exp: Path, split: str) -> list[Utterance]:
    return read_manifest(exp / "manifests" / f"{split}.jsonl")


def _times(folder: Path) -> dict[Path, int]:
    """When each file was written, but for the model's card, which is made anew from the results each time."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "README.md")
    return {path: path.stat().st_mtime_ns for path in files}


def test_each_speaker_is_tested_unheard_and_the_model_that_is_kept_heard_all(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipe", str(RECIPE), *SMALL, "--training.epochs=1"]) == 0
    exp = corpus / "exp" / "digits"
    results = read_results(exp / "results.json")
    assert list(results.splits) == ["dev", *(f"test-{speaker}" for speaker in SPEAKERS), "test"]
    for speaker in SPEAKERS:
        fold = exp / "folds" / speaker
        assert {row.speaker for row in _rows(exp, f"test-{speaker}")} == {speaker}
        assert {row.speaker for row in _rows(fold, "train") + _rows(fold, "dev")} == set(SPEAKERS) - {speaker}
        assert results.splits[f"test-{speaker}"]["greedy"].utterances == 20
        assert (fold / "model" / "model.safetensors").read_bytes() != (
            exp / "model" / "model.safetensors"
        ).read_bytes()
    pooled = results.splits["test"]["greedy"]
    assert (pooled.utterances, pooled.words) == (60, 60)
    assert sorted(row.id for row in _rows(exp, "test")) == sorted(
        row.id for row in _rows(exp, "train") + _rows(exp, "dev")
    )
    # The time of training and the hours are of the model that is kept: it learned from every speaker.
    assert {row.speaker for row in _rows(exp, "train")} == set(SPEAKERS)
    seconds = sum(row.duration for row in _rows(exp, "train"))
    assert results.train_hours_of_audio == pytest.approx(seconds / 3600)
    assert set(results.metrics["folds"]) == set(SPEAKERS)
    assert any("trained without it" in note for note in results.notes)
    page = (exp / "report.html").read_text(encoding="utf-8")
    for split in results.splits:
        assert f">{split}<" in page
    assert "trained without it" in page
    printed = capsys.readouterr().out
    assert [f"fold {n} of 3: {speaker}" in printed for n, speaker in enumerate(SPEAKERS, start=1)] == [
        True
    ] * 3
    assert "test-bob" in printed


@pytest.mark.soak
def test_killed_in_the_second_fold_it_goes_on_there(corpus: Path) -> None:
    # Saved after each update of several an epoch.
    options = [*SMALL, "--training.epochs=3", "--training.checkpoint_minutes=0", "--data.batch_seconds=4"]
    command = [sys.executable, "-m", "asr_lstm.cli", "recipe", str(RECIPE), *options]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    assert process.stdout is not None
    in_second = False
    for line in process.stdout:
        in_second |= line.startswith("fold 2 of 3: bob")
        if in_second and line.startswith("epoch 2/3"):
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    exp = corpus / "exp" / "digits"
    first = _times(exp / "folds" / "ann")
    assert (exp / "folds" / "ann" / "results.json").is_file()
    assert not (exp / "folds" / "bob" / "results.json").exists()

    again = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert _times(exp / "folds" / "ann") == first
    lines = (again.stdout + again.stderr).splitlines()
    # The first epoch of bob is not done again; cy and the model that is kept begin at theirs.
    assert sum(line.startswith("epoch 1/3") for line in lines) == 2
    assert list(read_results(exp / "results.json").splits)[-1] == "test"
