from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import soundfile
from rich.console import Console

from asr_lstm.audio import load_utterance
from asr_lstm.config import CorpusConfig, Recipe
from asr_lstm.decoding.options import DecodingConfig
from asr_lstm.decoding.tuned import TUNED_NAME, load_tuned
from asr_lstm.experiment import Experiment
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.lm.load import save_ngram
from asr_lstm.manifest import Utterance, write_manifest

RATE = 8000

# audioread's reader of WAV imports modules that Python 3.13 drops (it then brings its own).
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:audioread")


def load(utterance: Utterance) -> np.ndarray:
    return load_utterance(utterance, rate=RATE)


@pytest.fixture
def manifests(tmp_path: Path, synthetic_speech: Callable, synthetic_texts: list[str]) -> dict[str, Path]:
    paths = {}
    for number, split in enumerate(("dev", "test")):
        rows = []
        for index, text in enumerate(synthetic_texts[8 * number : 8 * number + 8]):
            path = tmp_path / f"{split}{index}.wav"
            samples = synthetic_speech(text, seed=index, noise=0.14 if index % 2 else 1e-3)
            soundfile.write(path, samples, RATE, subtype="FLOAT")
            rows.append(Utterance(path, text, len(samples) / RATE))
        paths[split] = tmp_path / "exp" / "manifests" / f"{split}.jsonl"
        write_manifest(paths[split], rows)
    return paths


def make_experiment(decoding: DecodingConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """An experiment that has been trained."""
    recipe = Recipe(name="tones", corpus=CorpusConfig(prepare="nothing"))
    monkeypatch.setattr(Experiment, "decoding", decoding)
    console = Console(file=io.StringIO())
    experiment = Experiment(recipe, folder, load=load, command="test", console=console)
    trained = {"parameters": 1, "train_seconds": 1.0, "train_hours_of_audio": 1.0}
    experiment.stages.finish("train", {}, trained, outputs=[])
    return experiment


def test_each_decoder_has_its_file_and_its_row(
    tiny_bundle: Path,
    manifests: dict[str, Path],
    synthetic_texts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, lm = tmp_path / "exp", tmp_path / "lm.arpa"
    copytree(tiny_bundle, folder / "model")
    save_ngram(lm, train_ngram(synthetic_texts, order=2))
    decoding = DecodingConfig(decoder="beam", lm=lm, beam=8)
    experiment = make_experiment(decoding, folder, monkeypatch)
    decoded = experiment.decode(manifests)
    names = ["greedy", "beam", "beam+ngram"]
    assert decoded == {split: folder / "decoded" / f"{split}.greedy.jsonl" for split in manifests}
    written = {path.name for path in (folder / "decoded").iterdir()}
    assert written == {f"{split}.{name}.jsonl" for split in manifests for name in names}
    assert load_tuned(folder / "model").weights.keys() == {"beam+ngram"}

    results = experiment.score(manifests, decoded, notes=[])
    assert {split: list(rows) for split, rows in results.splits.items()} == {"dev": names, "test": names}
    assert results.splits["dev"]["beam+ngram"].wer < results.splits["dev"]["greedy"].wer
    assert any("tuned on dev itself" in note for note in results.notes)
    texts = [json.loads(line)["text"] for line in (folder / "decoded" / "test.beam.jsonl").open()]
    assert experiment.recognitions("test", "beam").texts == texts

    # Nothing is done twice; other weights decode what they concern anew, and greedy decoding stands.
    stages = experiment.stages.path.read_bytes()
    again = make_experiment(decoding, folder, monkeypatch)
    times = {path: path.stat().st_mtime_ns for path in (folder / "decoded").iterdir()}
    again.decode(manifests)
    assert experiment.stages.path.read_bytes() == stages
    wider = make_experiment(DecodingConfig(decoder="beam", lm=lm, beam=9), folder, monkeypatch)
    wider.decode(manifests)
    changed = {path.name for path, before in times.items() if path.stat().st_mtime_ns != before}
    assert changed == {f"{split}.{name}.jsonl" for split in manifests for name in names[1:]}


def test_greedy_decoding_tunes_nothing(
    tiny_bundle: Path, manifests: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "exp"
    copytree(tiny_bundle, folder / "model")
    experiment = make_experiment(DecodingConfig(), folder, monkeypatch)
    assert list(experiment.decode(manifests)) == ["dev", "test"]
    assert not (folder / "model" / TUNED_NAME).exists()
    assert experiment.stages.record("decode dev")["audio_seconds"] > 0
