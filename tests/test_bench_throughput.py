"""The tool that times training against its stack: on tones, and whether its parts are what they are called."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch
from sung_speech import RATE, random_text, sing

pytestmark = pytest.mark.usefixtures("tools_path")


@pytest.fixture
def bench() -> ModuleType:
    return importlib.import_module("bench_throughput")


@pytest.fixture
def profile() -> ModuleType:
    return importlib.import_module("bench_profile")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe over a folder of sung letters."""
    random = np.random.default_rng(0)
    audio = tmp_path / "audio"
    audio.mkdir()
    for speaker in range(4):
        for index in range(10):
            text = random_text(random, words=2)
            soundfile.write(audio / f"s{speaker}-{index}.wav", sing(text, seed=index), RATE)
            (audio / f"s{speaker}-{index}.txt").write_text(text)
    (tmp_path / "recipe.yaml").write_text(
        f"""
name: sung
corpus:
  prepare: asr_lstm.corpora.folder.prepare_folder
  options:
    source: {audio}
features: {{rate: {RATE}, mels: 16, stack: 2}}
encoder: {{layers: 2, hidden: 12}}
data: {{batch_seconds: 4}}
training: {{precision: bf16-mixed, average: 0.9}}
"""
    )
    return tmp_path


def test_a_recipe_is_measured_and_taken_apart(
    bench: ModuleType, profile: ModuleType, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bench" / "throughput.json"
    bench.main([str(recipe), "--batches=3", "--rounds=2", f"--output={output}", "--data.workers=0"])
    written = json.loads(output.read_text())
    assert len(written["rounds"]) == 2
    engine, training = (sum(one[name] for one in written["rounds"]) for name in ("engine", "training"))
    assert 0 < engine < training
    assert written["ratio"] == pytest.approx(engine / training)
    assert written["batches"] == 6
    assert 0 < written["speech_seconds_a_batch"] < 4
    assert (written["precision"], written["device"]) == ("bf16-mixed", "cpu")
    parts = written["milliseconds_a_batch"]
    assert parts.keys() == set(profile.PARTS)
    assert {part for part, milliseconds in parts.items() if milliseconds == 0} <= {profile.WATCHING}
    printed = capsys.readouterr().out
    assert f"training at {written['ratio']:.1%} of the stack's speed (aim: at least 85%)" in printed
    assert profile.CTC in printed


def test_the_stack_alone_repeats_what_it_did_in_training(profile: ModuleType) -> None:
    """Its gradients are those of the weights that training had, for the same frames."""
    from small_training import make

    task, data = make()
    heard: list[tuple[torch.Tensor, torch.Tensor]] = []
    engine, timeline = profile.Engine(task, bfloat16=False), profile.Timeline()
    profile.attach(timeline, task, data, heard)
    batch = next(iter(data.train_dataloader()))
    timeline.switch(True)
    logits, _ = task.model(batch.inputs, batch.lengths, seeds=batch.seeds)
    weights = list(task.model.parameters())
    torch.autograd.grad(logits.sum(), weights, materialize_grads=True)
    timeline.switch(False)
    assert all(timeline.seconds[part] > 0 for part in (profile.FEATURES, profile.STACK, profile.HEAD))
    ((frames, _),) = heard
    assert frames.shape[0] == len(batch)
    before = dict(timeline.seconds)
    engine.learn(heard)
    task.model.eval()
    task.model(batch.inputs, batch.lengths)
    assert dict(timeline.seconds) == before, "neither the stack alone nor an evaluation is training"
    assert len(heard) == 1


def test_time_is_given_to_what_has_run(profile: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(profile.time, "perf_counter", lambda: next(clock))
    timeline = profile.Timeline()
    timeline.mark(profile.CTC)
    timeline.switch(True)
    timeline.start("[_TrainingEpochLoop].train_dataloader_next")
    timeline.stop("[_TrainingEpochLoop].train_dataloader_next")
    timeline.mark(profile.CTC)
    timeline.start("optimizer_step")
    timeline.stop("[Callback]GradientWatch.on_before_optimizer_step")
    timeline.stop("optimizer_step")
    timeline.switch(False)
    timeline.stop("optimizer_step")
    assert timeline.seconds == {
        profile.REST: 2, profile.DATA: 1, profile.CTC: 1, profile.GRADIENTS: 1,
        profile.WATCHING: 1, profile.OPTIMISER: 1,
    }  # fmt: skip


def test_mistakes_are_one_line(bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="no recipe there"):
        bench.main([str(tmp_path / "none")])
    with pytest.raises(SystemExit) as caught:
        bench.main([str(tmp_path), "--rounds", "0"])
    assert caught.value.code == 2
    assert "must be at least 1" in capsys.readouterr().err
