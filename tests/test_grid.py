"""Several runs of one recipe: which ones, what they share, and the table at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from asr_lstm.errors import ConfigError, DataError, TrainingInterrupted
from asr_lstm.experiment import Experiment
from asr_lstm.grid import Cell, grid_cells, recipe_command, run_grid
from asr_lstm.report import read_results

CORPUS = """
from pathlib import Path

import numpy as np

from asr_lstm.manifest import Utterance, write_manifest


def load_steps(utterance):
    return np.repeat(np.eye(3, dtype=np.float32)[["ab ".index(letter) for letter in utterance.text]], 3, axis=0)


def prepare_steps(output, *, count=8):
    with open("prepared.txt", "a") as file:
        file.write(".")
    manifests = {}
    for split, texts in (("train", ["ab", "ba", "a b", "b a"] * (count // 4)), ("dev", ["ab b", "b"])):
        rows = [Utterance(Path(f"{split}{i}"), text, duration=0.03 * len(text)) for i, text in enumerate(texts)]
        manifests[split] = Path(output) / f"{split}.jsonl"
        write_manifest(manifests[split], rows)
    return manifests
"""
RECIPE = """
name: steps
seed: 5
corpus: {prepare: step_corpus.prepare_steps, load: step_corpus.load_steps}
features: {kind: frames, dims: 3, stack: 1, hop_ms: 10}
augment: {speed: 0.0, frequency_masks: 0, time_masks: 0}
encoder: {layers: 1, hidden: 4, layer_dropout: 0.0, state_dropout: 0.0}
training: {epochs: 1}
"""


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the smallest of recipes."""
    folder = tmp_path / "steps"
    folder.mkdir()
    (folder / "step_corpus.py").write_text(CORPUS)
    (folder / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("step_corpus", None)


def test_cells_are_all_combinations_and_seeds_count_up() -> None:
    cells = grid_cells(["encoder.layers=1,2", "augment.noise_db=[5,30],[0,10]"], seeds=2, first_seed=5)
    assert len(cells) == 8
    assert cells[1].options == ["--encoder.layers=1", "--augment.noise_db=[5,30]", "--seed=6"]
    assert len({cell.name for cell in cells}) == 8
    assert grid_cells([], seeds=1, first_seed=5) == [Cell({}, None)]


def test_names_of_folders_are_safe_and_apart_even_where_long() -> None:
    cells = grid_cells(
        [f"corpus.options.source=/{'x' * 300}/a,/{'x' * 300}/b", "training.epochs=1"], seeds=1, first_seed=1
    )
    names = [cell.name for cell in cells]
    assert len(set(names)) == 2
    assert all("/" not in name and len(name) < 200 for name in names)


@pytest.mark.parametrize(
    ("sets", "seeds", "said"),
    [
        (["training.epochs"], 1, "--set training.epochs: give an option and its values"),
        (["training.epochs=1,"], 1, "give an option"),
        (["=1"], 1, "give an option"),
        (["training.epochs=1", "training.epochs=2"], 1, "stands there twice"),
        (["seed=1,2"], 2, "twice"),
        ([], 0, "--seeds: must be at least 1"),
    ],
)
def test_what_is_no_grid_is_refused(sets: list[str], seeds: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        grid_cells(sets, seeds=seeds, first_seed=1)


def test_a_grid_prepares_once_trains_each_and_ends_in_one_table(
    steps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["steps", "--seeds", "2", "--set", "training.learning_rate=1e-3,1e-2"]
    assert recipe_command(command) == 0
    assert (steps / "prepared.txt").read_text() == "."
    place = steps / "exp" / "steps" / "grid"
    table = (place / "grid.md").read_text()
    printed = capsys.readouterr().out
    assert all(line in printed for line in table.splitlines()[2:])
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| 1e-")]
    assert [[cell.strip() for cell in row[:2]] for row in rows] == [
        [rate, seed] for rate in ("1e-3", "1e-2") for seed in ("5", "6", "mean of 2")
    ]
    written = json.loads((place / "grid.json").read_text())
    runs = written["runs"]
    assert len(runs) == 4
    for run in runs:
        results = read_results(place / run["folder"] / "results.json")
        assert results.splits["dev"]["greedy"].wer == run["wer"]["dev"]["greedy"]
        assert results.seed == run["seed"]
        assert (place / run["folder"] / "manifests" / "train.jsonl").is_file()
    mean, deviation = written["means"][0]["wer"]["dev"]["greedy"]
    pair = [run["wer"]["dev"]["greedy"] for run in runs[:2]]
    assert mean == pytest.approx(sum(pair) / 2)
    assert deviation == pytest.approx(abs(pair[0] - pair[1]) / 2**0.5)
    weights = {(place / run["folder"] / "model" / "model.safetensors").read_bytes() for run in runs}
    assert len(weights) == 4

    times = [path.stat().st_mtime_ns for path in place.rglob("model.safetensors")]
    assert recipe_command(command) == 0  # done is done
    assert [path.stat().st_mtime_ns for path in place.rglob("model.safetensors")] == times


def test_settings_of_the_corpus_are_prepared_each(steps: Path) -> None:
    grid = run_grid("steps", sets=["corpus.options.count=4,8"], console=Console(quiet=True))
    assert (steps / "prepared.txt").read_text() == ".."
    hours = [results.train_hours_of_audio for _, results in grid.results]
    assert hours[1] == pytest.approx(2 * hours[0])  # type: ignore[operator]


def test_a_mistake_shows_before_anything_is_run(steps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="hidden"):
        recipe_command(["steps", "--set", "encoder.hidden=4,0"])
    with pytest.raises(ConfigError, match="--seeds"):
        recipe_command(["steps", "--seeds", "many"])
    assert not (steps / "exp").exists()


def test_a_run_that_fails_is_listed_and_the_others_go_on(
    steps: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = Experiment.train

    def fragile(self: Experiment, *arguments: Any) -> None:
        if self.recipe.seed == 5:
            raise DataError("a file went bad")
        train(self, *arguments)

    monkeypatch.setattr(Experiment, "train", fragile)
    assert recipe_command(["steps", "--seeds", "2"]) == 1
    captured = capsys.readouterr()
    assert "seed=5: a file went bad" in captured.err
    assert "| 6 |" in captured.out
    assert json.loads(Path("exp/steps/grid/grid.json").read_text())["failures"] == ["seed=5: a file went bad"]

    def interrupted(self: Experiment, *arguments: Any) -> None:
        raise TrainingInterrupted("interrupted")

    monkeypatch.setattr(Experiment, "train", interrupted)
    with pytest.raises(TrainingInterrupted):
        recipe_command(["steps", "--seeds", "2"])


def test_the_short_options_reach_the_recipe(steps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def train(self: Experiment, *arguments: Any) -> None:
        seen.append((self.recipe.training.max_minutes, self.recipe.training.init, self.fresh))
        raise DataError("enough")

    monkeypatch.setattr(Experiment, "train", train)
    with pytest.raises(DataError):
        recipe_command(
            ["steps", "--max-minutes", "2.5", "--init", "start", "--fresh", "--training.epochs", "3"]
        )
    assert seen == [(2.5, "start", True)]
