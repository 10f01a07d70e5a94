from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch

from asr_lstm.lstm import VariationalLSTM
from asr_lstm.lstm.kernels import native
from asr_lstm.manifest import Utterance, write_manifest
from asr_lstm.model import EncoderConfig

SECONDS = 0.5


@pytest.fixture(scope="module")
def bench(tools_path: Path) -> ModuleType:
    return importlib.import_module("bench_recipe")


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of twenty recordings, two a batch."""
    monkeypatch.chdir(tmp_path)
    random, rows = np.random.default_rng(0), []
    for number in range(20):
        path = tmp_path / f"{number:02}.wav"
        soundfile.write(path, random.normal(scale=0.1, size=int(16000 * SECONDS)), 16000)
        rows.append(Utterance(path, "ab", SECONDS, id=path.stem))
    write_manifest(tmp_path / "train.jsonl", rows)
    (tmp_path / "recipe.yaml").write_text(
        "name: small\ncorpus: {prepare: asr_lstm.corpora.folder.prepare_folder}\nencoder: {layers: 2, hidden: 8}\n"
        f"data: {{batch_seconds: {2 * SECONDS}}}\n"
    )
    return tmp_path


def test_every_engine_trains_on_the_same_batches(bench: ModuleType, recipe: Path) -> None:
    training = bench.RecipeTraining(recipe, options=[], manifest=recipe / "train.jsonl")
    assert training.hours == pytest.approx(20 * SECONDS / 3600)
    ran: list[str] = []
    forward = native.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "forward", lambda *a, **k: (ran.append("native"), forward(*a, **k))[1])
        for case in bench.engines(training):
            task = training.make_task(bench.make_model(training, case))
            before = [weight.clone() for weight in task.model.parameters()]
            ran.clear()
            with bench.kernel(case):
                stretch = training.time(
                    task, precision=bench.PRECISIONS[case.dtype], epoch=1, warmup=1, batches=3
                )
            assert stretch.seconds > 0
            assert stretch.speech == pytest.approx(3 * 2 * SECONDS)
            assert all(
                not torch.equal(old, new) for old, new in zip(before, task.model.parameters(), strict=True)
            )
            assert bool(ran) == (case.kernel == "native" and native.usable(torch.zeros(1)))


def test_torchs_layers_stand_in_for_ours(bench: ModuleType) -> None:
    packed = bench.PackedEncoder(3, EncoderConfig(layers=2, hidden=4, layer_norm=False)).eval()
    ours = VariationalLSTM.from_torch(packed.lstm).eval()
    inputs, lengths = torch.randn(2, 5, 3), torch.tensor([5, 2])
    torch.testing.assert_close(packed(inputs, lengths), ours(inputs, lengths))
    assert torch.equal(packed.output_lengths(lengths), lengths)


def test_the_command_prints_and_writes_speed(
    bench: ModuleType, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = recipe / "speed.json"
    words = [
        str(recipe),
        "--updates",
        "3",
        "--manifest",
        str(recipe / "train.jsonl"),
        "--output",
        str(output),
    ]
    document = recipe / "page.md"
    document.write_text("<!-- small: begin -->\n<!-- small: end -->\n")
    assert bench.main([*words, "--docs", str(document), "--training.precision", "32-true"]) == 0
    assert "| nn.LSTM packed | its own | float32 |" in document.read_text()
    written = json.loads(output.read_text())
    assert [(row["engine"], row["kernel"], row["dtype"]) for row in written["rows"]] == [
        ("ours", "native", "float32"),
        ("ours", "torch", "float32"),
        ("nn.LSTM packed", "its own", "float32"),
    ]
    for row in written["rows"]:
        speeds = sorted(
            speech / seconds for speech, seconds in zip(row["speech_seconds"], row["seconds"], strict=True)
        )
        assert row["speech_seconds_a_second"] == speeds[1]
        assert row["epoch_minutes"] == pytest.approx(20 * SECONDS / speeds[1] / 60)
        assert row["speech_seconds"] == pytest.approx([2 * SECONDS] * 3)
    assert written["rows"][-1]["times_packed"] == [1.0] * 3
    assert "nn.LSTM packed" in capsys.readouterr().out


def test_more_batches_than_an_epoch_has_are_refused(
    bench: ModuleType, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(recipe), "--updates", "99", "--manifest", str(recipe / "train.jsonl")]
    assert bench.main(words) == 2
    assert "an epoch has 10 batches of 1 s, and 35 are to be timed" in capsys.readouterr().err
