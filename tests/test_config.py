"""recipe.yaml: what is read, what wins, and what a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr_lstm.config import Recipe, load_recipe
from asr_lstm.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[1]
MINIMAL = "name: mine\ncorpus: {prepare: my_corpus.prepare}\n"


def write(folder: Path, text: str) -> Path:
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    return folder


def test_what_a_recipe_leaves_out_has_the_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL), environment={})
    defaults = Recipe(name="mine", corpus=recipe.corpus)
    assert recipe == defaults
    assert recipe.corpus.prepare == "my_corpus.prepare"


def test_options_win_over_environment_and_that_over_the_file(tmp_path: Path) -> None:
    text = MINIMAL.replace("}", ", options: {source: from file, seed: 3}}")
    folder = write(
        tmp_path, text + "environment: {MY_DATA: corpus.options.source, EPOCHS: training.epochs}\n"
    )
    assert load_recipe(folder, environment={}).corpus.options == {"source": "from file", "seed": 3}
    environment = {"MY_DATA": "/from/environment", "EPOCHS": "7"}
    recipe = load_recipe(folder, environment=environment)
    assert recipe.corpus.options == {"source": "/from/environment", "seed": 3}
    assert recipe.training.epochs == 7
    recipe = load_recipe(folder, environment=environment, options=["--training.epochs", "9"])
    assert recipe.training.epochs == 9


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINIMAL + "trainin:\n  epochs: 3\n", ["recipe.yaml:3", "trainin", "did you mean `training`?"]),
        (MINIMAL + "training:\n  epoch: 3\n", ["recipe.yaml:4", "epoch", "did you mean `epochs`?"]),
        (MINIMAL + "training:\n  epochs: three\n", ["recipe.yaml", "training.epochs", "three"]),
        (MINIMAL + "augment: {speed: 2}\n", ["recipe.yaml", "augment.speed", "below 0.5"]),
        (MINIMAL + "features: {kind: frames, dims: 4}\n", ["recipe.yaml", "corpus.load"]),
        (MINIMAL + "encoder: [1, 2]\n", ["recipe.yaml:3", "mapping"]),
        (MINIMAL + "encoder: {convolution: 8}\nfeatures: {stack: 5}\n", ["recipe.yaml", "features.stack"]),
        (
            MINIMAL + "encoder: {layers: 1}\ntraining: {intermediate: 0.3}\n",
            ["recipe.yaml", "training.intermediate", "encoder.layers"],
        ),
        (
            MINIMAL + "encoder: {layers: 1}\nphones: {share: 0.3, lang: en-us}\n",
            ["recipe.yaml", "phones.share", "encoder.layers"],
        ),
        (MINIMAL + "phones: {share: 0.3}\n", ["recipe.yaml", "phones.lang", "phones.lexicon"]),
        (MINIMAL + "phones: {share: 1.5, lang: en}\n", ["recipe.yaml", "phones.share", "1.5"]),
        ("name: mine\n", ["recipe.yaml", "corpus"]),
        ("", ["recipe.yaml", "empty"]),
        ("name: [unclosed\n", ["recipe.yaml", "not YAML"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_place(tmp_path: Path, text: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(write(tmp_path, text), environment={})
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in said if part not in message] == []


@pytest.mark.parametrize("option", ["--training.epoch=3", "--nonsense", "--seed=one"])
def test_an_option_that_does_not_exist_or_fit_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(write(tmp_path, MINIMAL), options=[option], environment={})
    assert "\n" not in str(caught.value)


def test_no_recipe_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recipe there"):
        load_recipe(tmp_path / "absent", environment={})


@pytest.mark.parametrize(
    "folder", sorted(path.parent.name for path in REPOSITORY.glob("recipes/*/recipe.yaml"))
)
def test_each_recipe_of_this_repository_reads(folder: str) -> None:
    assert load_recipe(REPOSITORY / "recipes" / folder, environment={}).name == folder


def test_the_recipe_of_960_hours_is_the_same_at_other_sizes() -> None:
    folder = REPOSITORY / "recipes" / "librispeech"
    large, small = (load_recipe(folder / name, environment={}) for name in ("960h.yaml", "recipe.yaml"))
    assert (large.text, large.features) == (small.text, small.features)
    assert large.corpus.prepare == small.corpus.prepare
    assert large.encoder.hidden > small.encoder.hidden
    assert (
        load_recipe(folder / "960h.yaml", options=["--training.devices=8"], environment={}).training.devices
        == 8
    )
