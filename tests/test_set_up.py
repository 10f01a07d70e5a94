"""What a training is made of follows the recipe and the machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sung_speech import RATE, sing

from asr_lstm.augment import AugmentConfig
from asr_lstm.batching import Draw
from asr_lstm.config import CorpusConfig, Recipe
from asr_lstm.features import FeatureConfig, make_front_end
from asr_lstm.manifest import Utterance
from asr_lstm.model import EncoderConfig
from asr_lstm.phones import PhonesConfig
from asr_lstm.preflight import training_memory
from asr_lstm.schedule import TrainingConfig
from asr_lstm.set_up import check_for_recipe, make_trainer, set_up
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


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_trainer_computes_in_the_recipes_precision(precision: str) -> None:
    training = TrainingConfig(precision=precision)  # type: ignore[arg-type]
    assert (
        make_trainer(Recipe(name="r", corpus=CorpusConfig(prepare="n.n"), training=training)).precision
        == precision
    )


def test_training_is_made_of_what_the_recipe_says(tmp_path: Path) -> None:
    """Each part is asked for what it does: of a setting that got lost on the way no loss would tell."""
    (tmp_path / "lexicon.txt").write_text("abc A B C\nde D E\n")
    rows = [
        Utterance(Path(f"{index}.wav"), text, len(sing(text)) / RATE, id=str(index))
        for index, text in enumerate(("abc de", "de abc", "abc abc", "de de"))
    ]
    augment = AugmentConfig(speed=0.2, vocal_tract=0.2, frequency_masks=3, time_masks=0)
    recipe = Recipe(
        name="r",
        corpus=CorpusConfig(prepare="n.n"),
        features=FeatureConfig(rate=RATE, mels=16),
        augment=augment,
        encoder=EncoderConfig(layers=2, hidden=8, layer_dropout=0.3),
        phones=PhonesConfig(share=0.4, lexicon=str(tmp_path / "lexicon.txt")),
        training=TrainingConfig(precision="32-true"),
    )

    def load(utterance: Utterance) -> np.ndarray:
        return sing(utterance.text, seed=int(utterance.id))

    task, data, _ = set_up(recipe, train=rows, dev=rows[:1], load=load, logs=tmp_path)
    phones = data.train_set.phones
    assert task.phones == 0.4
    assert task.model.phone_head is not None
    assert phones is not None
    assert [phones.symbols[phone - 1] for phone in phones.encode("de")] == ["D", "E"]

    lengths = {len(data.train_set[Draw(0, seed)].inputs) for seed in range(6)}  # type: ignore[union-attr]
    assert len(lengths) > 3  # each time at another speed
    assert {len(data.dev_set[Draw(0, seed)].inputs) for seed in range(6)} == {len(load(rows[0]))}  # type: ignore[union-attr]

    front_end, length = task.model.front_end, torch.tensor([len(load(rows[0]))])
    audio, seeds = torch.from_numpy(load(rows[0]))[None], torch.tensor([3])
    ordinary = front_end.eval()(audio, length, seeds=seeds)[0]
    assert not torch.allclose(front_end.train()(audio, length, seeds=seeds)[0], ordinary)  # by another throat
    assert task.model.spec_augment is not None
    features = torch.ones(1, 20, front_end.dims)
    masked = task.model.spec_augment.train()(features, torch.tensor([20]), seeds)
    hidden = (masked != features)[0]
    assert hidden.any(0).sum() > 1
    assert bool((hidden.any(0) == hidden.all(0)).all())  # bands, no stretches

    frames = torch.cat(
        [
            front_end.eval()(torch.from_numpy(load(row))[None], torch.tensor([len(load(row))]))[0][0]
            for row in rows
        ]
    )
    frames = frames.view(-1, 16)
    assert float(frames.mean(0).abs().max()) < 0.1
    assert float((frames.std(0) - 1).abs().max()) < 0.1
