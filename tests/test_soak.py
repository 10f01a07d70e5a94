"""What takes minutes: the LibriSpeech recipe as it stands, small, from nothing to its results."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from recordings import YESNO, needs

from asr_lstm.cli import main
from asr_lstm.experiment import Experiment
from asr_lstm.recipe import RecipeRun

pytestmark = pytest.mark.soak

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "librispeech"
# In two epochs the recipe's convolution learns nothing yet (CER 97.9 %; 41.2 without one).
SMALL = ["--corpus.options.hours", "0.5", "--corpus.options.speakers", "24", "--training.epochs", "6"]


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


# --- the kill series

WAVES = YESNO / "waves_yesno"
STAGES: dict[str, tuple[type, str]] = {
    "prepare": (RecipeRun, "prepare"),
    "train": (Experiment, "train"),
    "decode": (Experiment, "decode"),
}
KILLS = ["prepare"] * 4 + ["train"] * 12 + ["decode"] * 4
# Checkpoints every half a second, and one process that loads ahead.
OPTIONS = ["--training.epochs", "4", "--training.checkpoint_minutes", "0.008", "--data.workers", "1"]
WALL_CLOCK = {"train_seconds", "rtf", "resumed"}


def tell_stages(connection: Connection) -> None:
    """Send the name of each stage when it begins and None when it ends."""

    def told(name: str, stage: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            connection.send(name)
            try:
                return stage(*arguments, **options)
            finally:
                connection.send(None)

        return wrapped

    for name, (owner, method) in STAGES.items():
        setattr(owner, method, told(name, getattr(owner, method)))


def run_yesno(folder: Path, connection: Connection) -> None:
    """The recipe in a process of its own, in a folder."""
    os.chdir(folder)
    os.environ["DATA"] = str(WAVES)
    sys.stdout = sys.stderr = open("log.txt", "a")  # noqa: SIM115 (as long as the process lives)
    tell_stages(connection)
    raise SystemExit(main(["recipe", str(RECIPE.parent / "yesno"), *OPTIONS]))


class Runs:
    """Starts the recipe, each time in a new process, which a server forks that has imported everything already."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["asr_lstm.cli", "asr_lstm.fit", "asr_lstm.recipe"])

    def undisturbed(self, folder: Path) -> dict[str, float]:
        """Run to the end; returns how long each stage took."""
        process, connection = self._start(folder)
        seconds, stage, began = {}, "", time.monotonic()
        while True:
            try:
                name = connection.recv()
            except EOFError:
                break
            if name is None:
                seconds[stage] = time.monotonic() - began
            else:
                stage, began = name, time.monotonic()
        process.join()
        assert process.exitcode == 0, (folder / "log.txt").read_text()
        return seconds

    def killed(self, folder: Path, stage: str, delay: float) -> bool:
        """Run and kill it so many seconds after a stage has begun; False where it had ended by itself."""
        process, connection = self._start(folder)
        try:
            while connection.recv() != stage:
                pass
        except EOFError:
            pass
        process.join(delay)
        killed = process.is_alive()
        process.kill()
        process.join()
        assert killed or process.exitcode == 0, (folder / "log.txt").read_text()
        return killed

    def _start(self, folder: Path) -> tuple[Any, Connection]:
        folder.mkdir(exist_ok=True)
        here, there = self.context.Pipe(duplex=False)
        process = self.context.Process(target=run_yesno, args=(folder, there))
        process.start()
        there.close()
        return process, here


def outcome(folder: Path) -> tuple[bytes, Any]:
    """The weights and results of a run, apart from how long things took."""
    exp = folder / "exp" / "yesno"

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: timeless(item) for name, item in value.items() if name not in WALL_CLOCK}
        return value

    weights = (exp / "model" / "model.safetensors").read_bytes()
    return weights, timeless(json.loads((exp / "results.json").read_text()))


@needs(WAVES)
def test_twenty_kills_change_neither_weights_nor_results(tmp_path: Path) -> None:
    runs = Runs()
    seconds = runs.undisturbed(tmp_path / "undisturbed")
    expected = outcome(tmp_path / "undisturbed")
    chance = random.Random(1)
    kills = chance.sample(KILLS, len(KILLS))
    place, ended = tmp_path / "killed", 0
    while kills:
        if runs.killed(place, kills[0], chance.uniform(0, seconds[kills[0]])):
            del kills[0]
        else:  # it had ended before: what came of it counts, and the series goes on in a new run
            assert outcome(place) == expected
            ended += 1
            shutil.rmtree(place)
    runs.undisturbed(place)
    assert outcome(place) == expected
    resumed = json.loads((place / "exp" / "yesno" / "results.json").read_text())["metrics"]["resumed"]
    print(f"{len(KILLS)} kills, {ended + 1} runs came to their end, the last resumed {resumed} times")
