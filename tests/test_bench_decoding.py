from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import soundfile

from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.lm.load import save_ngram
from asr_lstm.manifest import Utterance, write_manifest

TOOLS = Path(__file__).resolve().parents[1] / "tools"

# audioread's reader of WAV imports modules that Python 3.13 drops (it then brings its own).
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:audioread")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_decoding", TOOLS / "bench_decoding.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_made_up_posteriors(bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "figures.json"
    assert bench.main(["--utterances", "4", "--rounds", "1", "--beam", "8", "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "beam 8, 3-gram of " in printed
    figures = json.loads(output.read_text())
    assert figures["ours"]["rtf"] > 0
    assert figures["ours"]["wer"] < 0.2
    for name in bench.PEERS:  # timed, or left out with its reason
        assert name in figures or f"{name}: left out, " in printed


def test_a_bundle_and_a_manifest(
    bench: ModuleType,
    tiny_bundle: Path,
    tmp_path: Path,
    synthetic_speech: Callable,
    capsys: pytest.CaptureFixture[str],
) -> None:
    soundfile.write(tmp_path / "a.wav", synthetic_speech("bad cab"), 8000)
    write_manifest(tmp_path / "test.jsonl", [Utterance(tmp_path / "a.wav", "bad cab", 1.16)])
    save_ngram(tmp_path / "lm.arpa", train_ngram(["bad cab", "cab"], order=2))
    options = ["--model", tiny_bundle, "--manifest", tmp_path / "test.jsonl", "--lm", tmp_path / "lm.arpa"]
    assert bench.main([*map(str, options), "--rounds", "1"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("ours "))
    assert line.split()[-1] == "0.00"


def test_half_of_what_it_needs_is_no_task(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        bench.main(["--lm", "x.arpa"])
    assert caught.value.code == 2
    assert "--model, --manifest and --lm go together" in capsys.readouterr().err


def test_a_peer_that_fails_is_a_line(bench: ModuleType, tmp_path: Path) -> None:
    assert bench._peer("flashlight-text", str(tmp_path), sys.executable).startswith("it failed (")
