"""A recipe's folder as it lies on disk, made of the tiny recogniser and synthetic tones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from asr_lstm.bundle import load_bundle
from asr_lstm.decoded import write_recognitions
from asr_lstm.evaluate import score_recognitions
from asr_lstm.manifest import Utterance, read_manifest, write_manifest
from asr_lstm.recognise import recognise
from asr_lstm.report import Results, write_results

RATE = 8000


def write_experiment(folder: Path, *, results: dict[str, object] | None = None) -> None:
    """Recognise manifests/test.jsonl with model/ and leave what a recipe would."""
    bundle = load_bundle(folder / "model")
    utterances = read_manifest(folder / "manifests" / "test.jsonl")
    recognitions = recognise(bundle, utterances)
    write_recognitions(folder / "decoded" / "test.greedy.jsonl", recognitions)
    scored = score_recognitions(utterances, recognitions, normaliser=bundle.units.normaliser, seed=5)
    said = {
        "recipe": "tones",
        "seed": 5,
        "command": "asr-lstm recipe tones",
        "device": "a processor",
        "cores": 1,
        "parameters": bundle.parameters,
        "train_seconds": 90.0,
        "train_hours_of_audio": 1.5,
        "metrics": {"best_dev_wer": 0.125, "folds": {"a": 1}},
        "notes": ["SYNTHETIC training data: tones", *scored.notes],
    }
    splits = {split: {"greedy": scored.result} for split in ("dev", "test")}
    write_results(folder / "results.json", Results(**{**said, **(results or {})}, splits=splits))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def toy_experiment(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_bundle: Path,
    synthetic_speech: Callable[..., NDArray[np.float32]],
    synthetic_texts: list[str],
) -> Path:
    """exp/tones of 50 utterances of 5 speakers, some so noisy that the model errs; do not write into it."""
    folder = tmp_path_factory.mktemp("exp") / "tones"
    shutil.copytree(tiny_bundle, folder / "model")
    rows = []
    for index, text in enumerate(synthetic_texts):
        samples = synthetic_speech(text, seed=index, noise=(1e-3, 0.05, 0.2)[index % 3])
        path = folder / "audio" / f"u{index:02d}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples, RATE)
        rows.append(Utterance(path, text, len(samples) / RATE, speaker=f"s{index % 5}", lang="en"))
    write_manifest(folder / "manifests" / "test.jsonl", rows)
    write_experiment(folder)
    _write_logs(folder)
    return folder


def _write_logs(folder: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for version, share in (("older", 2.0), ("abc", 1.0)):
        with SummaryWriter(str(folder / "logs" / "tensorboard" / version)) as writer:
            for step in range(50, 1050, 50):
                writer.add_scalar("loss", share * 50 / step, step)
                writer.add_scalar("lr-AdamW", step * 1e-5, step)
            for step, wer in ((500, 0.5), (1000, 0.25)):
                writer.add_scalar("dev_loss", 1.0, step)
                writer.add_scalar("dev_wer", share * wer, step)
                writer.add_scalar("dev_cer", share * wer / 4, step)
    stages = {"train": {"digest": "abc", "record": {}, "outputs": []}}
    (folder / "stages.json").write_text(json.dumps(stages))
    rows = [
        "id\tpath\treason",
        "d1\t/a/d1.wav\tno text: its transcript is empty",
        "d2\t/a/d2.wav\tno text: <empty>",
    ]
    rows += ["d3\t/a/d3.wav\taudio missing: no such file", "d4"]
    (folder / "manifests" / "dropped.tsv").write_text("\n".join(rows) + "\n")
    (folder / "logs" / "dropped.tsv").write_text("id\tpath\treason\n")


@pytest.fixture
def experiment(toy_experiment: Path, tmp_path: Path) -> Path:
    """A copy of it for a test to change; its audio stays where it is."""
    return Path(shutil.copytree(toy_experiment, tmp_path / "tones"))


@pytest.fixture
def remake() -> Callable[..., None]:
    """`write_experiment`: recognise and score a changed folder anew."""
    return write_experiment
