"""A study of a recipe's variants, on a recipe of synthetic frames with two folds."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from asr_lstm import study as module
from asr_lstm.compare import compare_folders
from asr_lstm.config import load_recipe
from asr_lstm.errors import ConfigError
from asr_lstm.report_page.curves import read_curves
from asr_lstm.study import by_epoch, load_study, run_study, study_command
from asr_lstm.study_page import markdown

# Each letter is two noisy frames of its own.
CORPUS = """
from pathlib import Path

import numpy as np

from asr_lstm.corpora import Prepared
from asr_lstm.manifest import Utterance, write_manifest


def load(utterance):
    random = np.random.default_rng(utterance.extra["noise_seed"])
    frames = [np.eye(3)["ab ".index(letter)] * on for letter in utterance.text for on in (1, 1, 0)]
    return (np.array(frames) + random.normal(scale=0.3, size=(len(frames), 3))).astype(np.float32)


def prepare(output):
    random = np.random.default_rng(0)

    def write(place, split, count, speaker):
        rows = []
        for index in range(count):
            text = " ".join("".join(random.choice(list("ab"), size=2)) for _ in range(2))
            name = f"{split}-{speaker}-{index}"
            seeded = {"noise_seed": int(random.integers(2**31))}
            rows.append(Utterance(Path(f"{name}.none"), text, 0.15, speaker=speaker, id=name, extra=seeded))
        write_manifest(place / f"{split}.jsonl", rows)
        return place / f"{split}.jsonl"

    output = Path(output)
    folds = {
        name: Prepared({
            "train": write(output / name, "train", 20, f"not-{name}"),
            "dev": write(output / name, "dev", 6, f"other-{name}"),
            "test": write(output / name, "test", 8, name),
        })
        for name in ("ann", "bob")
    }
    manifests = {"train": write(output, "train", 20, "all"), "dev": write(output, "dev", 6, "rest")}
    return Prepared(manifests, folds=folds)
"""
RECIPE: dict[str, Any] = {
    "name": "letters",
    "corpus": {"prepare": "letter_corpus.prepare", "load": "letter_corpus.load"},
    "features": {"kind": "frames", "dims": 3, "stack": 1, "hop_ms": 10},
    "augment": {"speed": 0.0, "frequency_masks": 0, "time_masks": 0},
    "encoder": {"layers": 1, "hidden": 8},
    "data": {"batch_seconds": 1.0},
    "training": {"epochs": 3, "learning_rate": 0.02},
}
STUDY: dict[str, Any] = {
    "name": "doses",
    "title": "Doses & kinds",
    "recipe": "../letters",
    "split": "test",
    "options": {"training.patience": 3, "encoder.layer_dropout": 0.0},
    "variants": {"much": {"encoder.layer_dropout": 0.8}, "none": {}},
    "baseline": "none",
}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a study beside that of its recipe; the working directory is above both."""
    for name in ("letters", "doses"):
        (tmp_path / name).mkdir()
    (tmp_path / "letters" / "letter_corpus.py").write_text(CORPUS)
    (tmp_path / "letters" / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (tmp_path / "doses" / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path / "doses"
    sys.modules.pop("letter_corpus", None)


def trained(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}


def test_variants_are_run_compared_and_shown(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Six updates are too few to have their loss logged.
    losses = {"loss": ([0, 1, 100], [9.0, 7.0, 1.0])}
    monkeypatch.setattr(module, "read_curves", lambda logs: read_curves(logs) | losses)
    assert study_command(study, ["--training.epochs", "2"]) == 0
    printed = capsys.readouterr().out
    assert "Doses & kinds" in printed
    exp = Path("exp/doses")
    assert sorted(path.name for path in exp.iterdir() if path.is_dir()) == ["much", "none"]
    for variant, rate in (("much", 0.8), ("none", 0.0)):
        settings = yaml.safe_load((exp / variant / "recipe.yaml").read_text())
        assert settings["encoder"]["layer_dropout"] == rate
        assert (settings["training"]["epochs"], settings["training"]["patience"]) == (2, 3)
    found = json.loads((exp / "study.json").read_text())["variants"]
    assert list(found) == ["none", "much"]  # the baseline first
    assert found["none"]["comparison"] is None
    same = compare_folders(exp / "none", exp / "much", split="test")
    assert found["much"]["comparison"]["tests"]["wer"]["difference"] == same.tests["wer"].difference
    assert found["much"]["curves"]["dev loss"][0] == [1.0, 2.0]
    assert found["much"]["curves"]["dev loss"][1] != found["none"]["curves"]["dev loss"][1]
    assert found["much"]["curves"]["training loss"] == [[1.0], [8.0]]  # of the second epoch nothing is known
    results = json.loads((exp / "much" / "results.json").read_text())
    folds = sum(fold["train_seconds"] for fold in results["metrics"]["folds"].values())
    assert found["much"]["seconds"] == pytest.approx(folds + results["train_seconds"])
    assert (exp / "study.md").read_text().startswith("| variant | WER % |")

    before = trained(exp)
    ET.parse(exp / "study.svg")
    picture = ET.tostring(ET.parse(exp / "study.svg").getroot(), encoding="unicode")
    for piece in ("dev loss, none", "training loss", "word error rate on test", "Doses &amp; kinds"):
        assert piece in picture
    assert "://" not in (exp / "study.html").read_text().replace("http://www.w3.org/2000/svg", "")
    run_study(study, options=["--training.epochs", "2"])
    assert trained(exp) == before  # nothing is trained twice
    assert study_command(study, ["--fresh", "--training.epochs", "2"]) == 0
    assert trained(exp).keys() == before.keys()
    assert not set(trained(exp).values()) & set(before.values())


def test_a_split_that_is_not_there_is_told_after_the_first_variant(study: Path) -> None:
    (study / "study.yaml").write_text(yaml.safe_dump(STUDY | {"split": "test-other"}, sort_keys=False))
    with pytest.raises(ConfigError, match="split 'test-other' was not recognised"):
        run_study(study, options=["--training.epochs", "1"], output="models")
    assert [path.name for path in Path("models/doses").iterdir()] == ["none"]


def test_an_interrupted_study_goes_on(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Any = module.RecipeRun  # type: ignore[attr-defined]
    names: list[str] = []

    class Interrupted(real):  # type: ignore[misc]
        def run(self, *arguments: Any) -> Any:
            names.append(self.recipe.name)
            if len(names) == 2:
                raise KeyboardInterrupt
            return super().run(*arguments)

    monkeypatch.setattr(module, "RecipeRun", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, options=["--training.epochs", "1"])
    before = trained(Path("exp/doses/none"))
    assert not Path("exp/doses/study.json").exists()
    outcomes, failures = run_study(study, options=["--training.epochs", "1"])
    assert names == ["none", "much", "none", "much"]
    assert [outcome.name for outcome in outcomes] == ["none", "much"]
    assert failures == []
    assert trained(Path("exp/doses/none")) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"variants": {"one": {}}}, "two or more"),
        ({"variants": {"one": {}, "two": [1]}}, "mapping"),
        ({"variants": {"none": {}, "bad": {"encoder.dropuot": 0.1}}}, "variant bad: .*dropuot"),
        ({"variants": {"none": {}, "bad": {"encoder.layer_dropout": 1.5}}}, "variant bad"),
        ({"variants": {"none": {}, "a/b": {}}}, "'a/b': a name must be"),
        ({"baseline": "nobody"}, "baseline 'nobody' is none of much, none"),
        ({"recipe": "../absent"}, "absent"),
        ({"variant": {}}, "unknown key `variant`"),
        ({"by": "word"}, "utterance or speaker"),
        ({"options": 3}, "options must be a mapping"),
    ],
)
def test_a_mistake_is_found_before_anything_runs(study: Path, change: dict[str, Any], said: str) -> None:
    (study / "study.yaml").write_text(yaml.safe_dump(STUDY | change))
    with pytest.raises(ConfigError, match=said) as caught:
        run_study(study)
    assert "study.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("exp").exists()


def test_files_that_are_no_study(study: Path) -> None:
    for text, said in (("- 1", "at least"), ("a: [", "not YAML"), ("name: x", "at least")):
        (study / "study.yaml").write_text(text)
        with pytest.raises(ConfigError, match=said):
            load_study(study)
    with pytest.raises(ConfigError, match="no study there"):
        load_study(study / "absent.yaml")


def test_the_baseline_is_the_first_unless_it_is_named(study: Path) -> None:
    plain = {key: value for key, value in STUDY.items() if key != "baseline"}
    (study / "study.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    loaded = load_study(study / "study.yaml")
    assert loaded.baseline == "much"
    assert loaded.arguments("much", ["--seed", "4"]) == [
        "--name=much",
        "--training.patience=3",
        "--encoder.layer_dropout=0.8",
        "--seed",
        "4",
    ]


def test_training_loss_is_that_since_the_last_epoch() -> None:
    curves = {"loss": ([0, 1, 2, 3, 4, 5], [6.0, 4.0, 3.0, 1.0, 2.0, 9.0]), "dev_loss": ([1, 4], [5.0, 4.0])}
    assert by_epoch(curves) == {"dev loss": [5.0, 4.0], "training loss": [5.0, 2.0]}
    assert by_epoch({}) == {}


def test_markdown() -> None:
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |\n"


@pytest.mark.parametrize("name", ["study.yaml", "speechocean762.yaml"])
def test_the_studies_of_dropout_are_recipes(name: str) -> None:
    folder = Path(__file__).parents[1] / "recipes" / "dropout_study"
    loaded = load_study(folder / name)
    assert list(loaded.variants) == [
        "none",
        "standard",
        "locked",
        "locked+recurrent",
        "weight_drop",
        "zoneout",
    ]
    for variant in loaded.variants:  # all by the same loss, and at their rates from the first update on
        training = load_recipe(loaded.recipe, environment={}, options=loaded.arguments(variant)).training
        assert (training.dropout_epochs, training.errors) == (0, 0)
