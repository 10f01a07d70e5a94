"""A recipe made outside this repository: its own corpus, its own loader of frames that are not audio."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from asr_lstm.cli import main
from asr_lstm.grid import recipe_command
from asr_lstm.lock import folder_lock
from asr_lstm.manifest import read_manifest
from asr_lstm.report import read_results
from asr_lstm.schedule import TrainingConfig

# Ink-like frames: each letter of a word is a few noisy frames around its own corner of the space.
CORPUS = """
from pathlib import Path

import numpy as np

from asr_lstm.manifest import Utterance, write_manifest

LETTERS = "abc "


def load_pulses(utterance):
    random = np.random.default_rng(utterance.extra["noise_seed"])
    frames = []
    for letter in utterance.text:
        frames += [np.eye(len(LETTERS))[LETTERS.index(letter)]] * 3 + [np.zeros(len(LETTERS))]
    return (np.array(frames) + random.normal(scale=0.1, size=(len(frames), len(LETTERS)))).astype(np.float32)


def prepare_pulses(output, *, count=60, seed=0):
    random = np.random.default_rng(seed)
    manifests = {}
    for split, share in (("train", count), ("dev", 10), ("test", 15)):
        rows = []
        for index in range(share):
            words = ["".join(random.choice(list("abc"), size=3)) for _ in range(random.integers(1, 4))]
            text = " ".join(words)
            rows.append(
                Utterance(
                    Path(f"{split}-{index}.none"),
                    text,
                    duration=0.04 * len(text),
                    speaker=f"{split}{index % 3}",
                    extra={"noise_seed": int(random.integers(2**31))},
                )
            )
        manifests[split] = Path(output) / f"{split}.jsonl"
        write_manifest(manifests[split], rows)
    return manifests
"""
RECIPE = """
name: pulses
seed: 3
corpus:
  prepare: pulse_corpus.prepare_pulses
  load: pulse_corpus.load_pulses
  options: {count: 60}
features: {kind: frames, dims: 4, stack: 1, hop_ms: 10}
augment: {speed: 0.0, frequency_masks: 0, time_masks: 0}
encoder: {layers: 1, hidden: 16, layer_dropout: 0.1, state_dropout: 0.1}
data: {batch_seconds: 2.0}
training: {epochs: 12, learning_rate: 0.02}
"""
CONTRACT = {
    "recipe",
    "seed",
    "command",
    "device",
    "cores",
    "parameters",
    "train_seconds",
    "train_hours_of_audio",
    "splits",
    "metrics",
}
RATES = {"wer", "wer_low", "wer_high", "cer", "cer_low", "cer_high", "words", "utterances", "rtf"}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a recipe in a folder of its own."""
    folder = tmp_path / "pulses"
    folder.mkdir()
    (folder / "pulse_corpus.py").write_text(CORPUS)
    (folder / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("pulse_corpus", None)


def modified(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_recipe_outside_the_repository_trains_scores_and_is_not_done_twice(
    outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipe", "pulses"]) == 0
    exp = outside / "exp" / "pulses"
    printed = capsys.readouterr()
    assert "test" in printed.out
    assert "WER" in printed.out
    assert "REF:" in printed.out or "no word errors" in printed.out

    results = json.loads((exp / "results.json").read_text())
    assert set(results) >= CONTRACT
    assert set(results["splits"]) == {"dev", "test"}
    assert set(results["splits"]["test"]["greedy"]) == RATES
    assert results["splits"]["test"]["greedy"]["cer"] < 0.3  # it has learned
    assert results["train_seconds"] > 0
    for made in ("model/config.yaml", "model/model.safetensors", "model/units.txt", "model/README.md"):
        assert (exp / made).is_file()
    assert list((exp / "checkpoints").rglob("best-*.safetensors"))
    assert results["metrics"]["resumed"] == 0
    assert list((exp / "logs").rglob("events.out.tfevents*"))

    settings = yaml.safe_load((exp / "recipe.yaml").read_text())
    assert settings["training"]["warmup"] == TrainingConfig().warmup  # defaults as well
    page = (exp / "report.html").read_text()
    assert f"{100 * results['splits']['test']['greedy']['wer']:.1f}" in page

    before = modified(exp)
    card = str(exp / "model" / "README.md")
    assert "(layer dropout 0.1, state dropout 0.1)" in Path(card).read_text()
    assert main(["recipe", "pulses"]) == 0
    after = modified(exp)
    assert {path: time for path, time in after.items() if path != card} == {
        path: time for path, time in before.items() if path != card
    }

    assert main(["recipe", "pulses", "--corpus.options.count", "61", "--training.epochs", "1"]) == 0
    assert (
        modified(exp)[str(exp / "manifests" / "train.jsonl")]
        != before[str(exp / "manifests" / "train.jsonl")]
    )
    assert read_results(exp / "results.json").command.endswith("--training.epochs 1")


def test_evaluate_finds_the_loader_of_the_bundle(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["recipe", "pulses", "--training.epochs", "1"]) == 0
    sys.modules.pop("pulse_corpus", None)
    monkeypatch.syspath_prepend(str(outside / "pulses"))
    arguments = ["--model", "exp/pulses/model", "--manifest", "exp/pulses/manifests/test.jsonl"]
    assert main(["evaluate", *arguments, "--output", "results.json"]) == 0
    again = read_results("results.json").splits["test"]["greedy"]
    recipe = read_results("exp/pulses/results.json").splits["test"]["greedy"]
    assert (again.wer, again.cer, again.words) == (recipe.wer, recipe.cer, recipe.words)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("pulse_corpus.prepare_pulses", "pulse_corpus.prepare_pulse", "prepare_pulse"),
        ("pulse_corpus.prepare_pulses", "absent_corpus.prepare", "absent_corpus"),
        ("{count: 60}", "{counts: 60}", "counts"),
        ("seed: 3", "sed: 3", "recipe.yaml:3: unknown key `sed`; did you mean `seed`?"),
        ("hidden: 16", "hidden: 0", "hidden"),
    ],
)
def test_a_mistake_in_the_recipe_is_one_line_and_exit_2(
    outside: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    path = outside / "pulses" / "recipe.yaml"
    path.write_text(path.read_text().replace(old, new))
    assert main(["recipe", "pulses"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("asr-lstm")]
    assert len(lines) == 1
    assert said in lines[0]


def test_a_corpus_without_a_train_split_is_refused(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = outside / "pulses" / "pulse_corpus.py"
    source.write_text(
        source.read_text().replace('("train", count), ("dev", 10), ("test", 15)', '("dev", 10),')
    )
    assert main(["recipe", "pulses"]) == 2
    assert "no `train` split" in capsys.readouterr().err


def test_a_test_split_that_was_trained_on_is_refused(
    outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = outside / "pulses" / "pulse_corpus.py"
    source.write_text(
        source.read_text().replace("return manifests", 'return manifests | {"test": manifests["train"]}')
    )
    assert main(["recipe", "pulses"]) == 2
    assert "also in the training data" in capsys.readouterr().err


def test_an_utterance_that_fails_is_listed_and_the_exit_code_is_1(
    outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = outside / "pulses" / "pulse_corpus.py"
    bad = (
        "from asr_lstm.errors import DataError\n"
        '    if utterance.id == "test-3":\n        raise DataError("test-3: gone")'
    )
    source.write_text(source.read_text().replace("    frames = []", f"    {bad}\n    frames = []"))
    assert main(["recipe", "pulses", "--training.epochs", "1"]) == 1
    assert "test-3: gone" in capsys.readouterr().err.splitlines()
    results = read_results("exp/pulses/results.json")
    assert results.splits["test"]["greedy"].utterances == 15
    assert any("1 of 15" in note for note in results.notes)


def test_a_corrected_transcript_is_scored_anew(outside: Path) -> None:
    assert main(["recipe", "pulses", "--training.epochs", "1"]) == 0
    before = read_results("exp/pulses/results.json").splits["test"]["greedy"]
    manifest = outside / "exp" / "pulses" / "manifests" / "test.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[0]["text"] += " abc cab bac"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["recipe", "pulses", "--training.epochs", "1"]) == 0
    assert read_results("exp/pulses/results.json").splits["test"]["greedy"].words == before.words + 3


# --- folds

FOLDS = """

def prepare_folds(output, *, voices=3):
    from asr_lstm.corpora import Prepared
    from asr_lstm.manifest import read_manifest

    rows = [row for path in prepare_pulses(Path(output) / "all").values() for row in read_manifest(path)]

    def write(name, chosen):
        chosen = list(chosen)
        path = Path(output) / name
        write_manifest(path, chosen)
        return path

    parts = [(f"v{voice}", rows[voice::voices]) for voice in range(voices)]
    folds = {}
    for name, part in parts:
        others = [row for row in rows if row not in part]
        folds[name] = Prepared({
            "train": write(f"{name}/train.jsonl", others[10:]),
            "dev": write(f"{name}/dev.jsonl", others[:10]),
            "test": write(f"{name}/test.jsonl", part),
        }, notes=[f"without {name}"])
    whole = {"train": write("train.jsonl", rows[10:]), "dev": write("dev.jsonl", rows[:10])}
    return Prepared(whole, notes=["crossed"], folds=folds)
"""


@pytest.fixture
def crossed(outside: Path) -> Path:
    """The same corpus in three folds."""
    (outside / "pulses" / "pulse_corpus.py").write_text(CORPUS + FOLDS)
    path = outside / "pulses" / "recipe.yaml"
    recipe = path.read_text().replace("prepare_pulses", "prepare_folds").replace("{count: 60}", "{}")
    path.write_text(recipe.replace("epochs: 12", "epochs: 1"))
    return outside


def decoded_texts(folder: Path, split: str) -> list[str]:
    lines = (folder / "decoded" / f"{split}.greedy.jsonl").read_text().splitlines()
    return [json.loads(line)["text"] for line in lines]


def test_each_fold_is_trained_tested_and_pooled(crossed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "pulses"]) == 0
    assert "fold 2 of 3: v1" in capsys.readouterr().out
    exp = crossed / "exp" / "pulses"
    results = read_results(exp / "results.json")
    assert list(results.splits) == ["dev", "test-v0", "test-v1", "test-v2", "test"]
    assert results.notes[0] == "crossed"
    assert any("test-*" in note for note in results.notes)
    assert set(results.metrics["folds"]) == {"v0", "v1", "v2"}
    pooled, ids = [], []
    for name in ("v0", "v1", "v2"):
        fold = exp / "folds" / name
        for made in ("manifests/train.jsonl", "model/model.safetensors", "model/README.md", "recipe.yaml"):
            assert (fold / made).is_file()
        own = read_results(fold / "results.json")
        assert set(own.splits) == {"dev", "test"}
        assert f"without {name}" in own.notes
        assert own.splits["test"]["greedy"] == results.splits[f"test-{name}"]["greedy"]
        # Trained without what it is tested on.
        tested = read_manifest(fold / "manifests" / "test.jsonl")
        assert not {row.path for row in tested} & {
            row.path for row in read_manifest(fold / "manifests" / "train.jsonl")
        }
        assert read_manifest(exp / "manifests" / f"test-{name}.jsonl") == tested
        assert decoded_texts(exp, f"test-{name}") == decoded_texts(fold, "test")
        pooled += decoded_texts(fold, "test")
        ids += [row.id for row in tested]
    assert decoded_texts(exp, "test") == pooled
    assert [row.id for row in read_manifest(exp / "manifests" / "test.jsonl")] == ids
    whole = results.splits["test"]["greedy"]
    parts = [results.splits[f"test-{name}"]["greedy"] for name in ("v0", "v1", "v2")]
    assert (whole.utterances, whole.words) == (85, sum(part.words for part in parts))
    assert whole.wer * whole.words == pytest.approx(sum(part.wer * part.words for part in parts))
    assert (exp / "model" / "model.safetensors").is_file()


def test_folds_that_are_done_are_not_done_again(crossed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in the second fold, the recipe goes on with it; done, it does nothing."""
    from asr_lstm import fit as module
    from asr_lstm.errors import TrainingInterrupted

    fit, calls = module.fit, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(options["output"].name)
        if len(calls) == 2:
            raise TrainingInterrupted("interrupted")
        return fit(*arguments, **options)

    monkeypatch.setattr(module, "fit", interrupted)
    assert main(["recipe", "pulses"]) == 130
    assert not (crossed / "exp" / "pulses" / "results.json").exists()
    assert main(["recipe", "pulses"]) == 0
    assert calls == ["v0", "v1", "v1", "v2", "pulses"]

    before = modified(crossed / "exp")
    assert main(["recipe", "pulses"]) == 0
    assert len(calls) == 5
    changed = {path for path, time in modified(crossed / "exp").items() if time != before[path]}
    assert {Path(path).name for path in changed} <= {"README.md", "recipe.yaml"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"test": write', '"exam": write', "fold v0"),
        ('f"v{voice}"', 'f"../v{voice}"', "its name must be"),
        (
            "folds[name] = Prepared({",
            'folds[name] = Prepared(folds={"x": Prepared({})}, manifests={',
            "of its own",
        ),
        (
            "rows[:10])}\n    return",
            'rows[:10]), "test-v1": write("t.jsonl", rows[:5])}\n    return',
            "rename it",
        ),
        (
            'write(f"{name}/train.jsonl", others[10:])',
            'write(f"{name}/train.jsonl", rows)',
            "also in the training",
        ),
    ],
)
def test_folds_that_make_no_sense_are_refused(
    crossed: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    source = crossed / "pulses" / "pulse_corpus.py"
    source.write_text(source.read_text().replace(old, new))
    assert main(["recipe", "pulses"]) == 2
    assert said in capsys.readouterr().err
    assert not (crossed / "exp" / "pulses" / "model").exists()


def test_each_split_stands_in_the_place_of_its_name(outside: Path) -> None:
    """Whatever the corpus calls its files, a report finds them."""
    source = outside / "pulses" / "pulse_corpus.py"
    source.write_text(source.read_text().replace('f"{split}.jsonl"', '"deep" / f"the-{split}.jsonl"'))
    assert main(["recipe", "pulses", "--training.epochs", "1"]) == 0
    exp = outside / "exp" / "pulses"
    for split in ("train", "dev", "test"):
        assert read_manifest(exp / "manifests" / f"{split}.jsonl") == read_manifest(
            exp / "manifests" / "deep" / f"the-{split}.jsonl"
        )


# --- more than one run


def test_two_runs_in_one_folder_are_refused(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with folder_lock(outside / "exp" / "pulses"):
        assert main(["recipe", "pulses"]) == 2
    assert f"process {os.getpid()}" in capsys.readouterr().err
    assert not (outside / "exp" / "pulses" / "model").exists()


def test_an_interrupted_run_goes_on_and_its_results_say_so(
    outside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from asr_lstm.callbacks import Checkpointer

    after, seen = Checkpointer.on_train_batch_end, []

    def hook(self: Checkpointer, *arguments: Any) -> None:
        seen.append(1)
        if len(seen) == 7:
            signal.raise_signal(signal.SIGTERM)
        after(self, *arguments)

    monkeypatch.setattr(Checkpointer, "on_train_batch_end", hook)
    assert main(["recipe", "pulses", "--training.epochs", "3"]) == 130
    assert "the same command goes on" in capsys.readouterr().err

    other = ["recipe", "pulses", "--training.epochs", "2"]
    assert main(other) == 2
    said = capsys.readouterr().err
    assert "training.epochs: 3 then, 2 now" in said
    assert "--fresh" in said

    assert main(["recipe", "pulses", "--training.epochs", "3"]) == 0
    assert read_results("exp/pulses/results.json").metrics["resumed"] == 1

    assert recipe_command([*other[1:], "--fresh"]) == 0
    assert read_results("exp/pulses/results.json").metrics["resumed"] == 0
    before = len(seen)
    assert recipe_command(other[1:]) == 0
    assert len(seen) == before  # done
    assert recipe_command([*other[1:], "--fresh"]) == 0
    assert len(seen) > before


def test_a_recipe_begins_from_a_bundle_and_again_when_that_changes(
    outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipe", "pulses", "--training.epochs", "1"]) == 0
    shutil.copytree("exp/pulses/model", "start")
    command = ["pulses", "--name", "tuned", "--training.epochs", "1", "--init", "start"]
    assert recipe_command(command) == 0
    weights = Path("exp/tuned/model/model.safetensors")
    first = weights.read_bytes()
    assert recipe_command(command) == 0
    assert weights.read_bytes() == first
    shutil.copy(weights, "start/model.safetensors")
    assert recipe_command(command) == 0
    assert weights.read_bytes() != first
    capsys.readouterr()

    assert main(["recipe", "pulses", "--training.init", "exp/pulses/model"]) == 2
    assert "puts its own model" in capsys.readouterr().err
    assert main(["recipe", "pulses", "--training.init", "absent"]) == 2
    assert "absent: not a model" in capsys.readouterr().err
