"""What a training is made of follows the recipe and the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr_lstm.config import CorpusConfig, Recipe
from asr_lstm.features import make_front_end
from asr_lstm.manifest import Utterance
from asr_lstm.preflight import training_memory
from asr_lstm.schedule import TrainingConfig
from asr_lstm.set_up import check_for_recipe, make_trainer
from asr_lstm.units import CharacterUnits

ROWS = [Utterance(Path(f"{index}.wav"), "abc", 10.0) for index in range(20)]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_memory_is_estimated_for_the_precision_that_training_will_have(precision: str) -> None:
    recipe = Recipe(
        name="r",
        corpus=CorpusConfig(prepare="none.none"),
        training=TrainingConfig(precision=precision),  # type: ignore[arg-type]
    )
    units = CharacterUnits("abc", recipe.text)
    found = check_for_recipe(recipe, ROWS, units).figures.memory_gib
    expected = training_memory(
        make_front_end(recipe.features),
        recipe.encoder,
        units=len(units),
        seconds=60.0 / (1 - recipe.augment.speed),
        bfloat16=precision == "bf16-mixed",
    )
    assert found == expected / 2**30


def test_options_of_the_trainer_win() -> None:
    recipe = Recipe(name="r", corpus=CorpusConfig(prepare="none.none"), training=TrainingConfig(epochs=3))
    assert make_trainer(recipe).max_epochs == 3
    assert make_trainer(recipe, max_epochs=7).max_epochs == 7
