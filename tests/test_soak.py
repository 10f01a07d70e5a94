"""What takes minutes: the LibriSpeech recipe as it stands, small, from nothing to its results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr_lstm.cli import main

pytestmark = pytest.mark.soak

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "librispeech"
SMALL = ["--corpus.options.hours", "0.5", "--corpus.options.speakers", "24", "--training.epochs", "2"]


def test_the_standin_recipe_learns_and_then_takes_real_speech_without_training_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    librispeech_excerpt: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("espeakng_loader")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIBRISPEECH", raising=False)
    assert main(["recipe", str(RECIPE), *SMALL]) == 0
    results = json.loads(Path("exp/librispeech/results.json").read_text())
    assert set(results["splits"]) == {"dev", "test"}
    assert results["splits"]["test"]["greedy"]["cer"] < 0.9
    assert "SYNTHETIC" in capsys.readouterr().out
    weights = Path("exp/librispeech/model/model.safetensors").stat().st_mtime_ns

    monkeypatch.setenv("LIBRISPEECH", str(librispeech_excerpt))
    assert main(["recipe", str(RECIPE), *SMALL]) == 0
    results = json.loads(Path("exp/librispeech/results.json").read_text())
    assert set(results["splits"]) == {"dev", "test-other"}
    assert results["splits"]["test-other"]["greedy"]["utterances"] == 100
    assert any("real recordings" in note for note in results["notes"])
    assert Path("exp/librispeech/model/model.safetensors").stat().st_mtime_ns == weights
