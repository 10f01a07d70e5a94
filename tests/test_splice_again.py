"""Training finds words again: from chance, killed and gone on with, with a process that loads ahead or without."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from sung_speech import RATE, random_text, sing

from asr_lstm import splice
from asr_lstm.augment import AugmentConfig
from asr_lstm.batching import DataConfig
from asr_lstm.bundle import Bundle
from asr_lstm.callbacks import Checkpointer
from asr_lstm.config import CorpusConfig, Recipe
from asr_lstm.features import FeatureConfig
from asr_lstm.fit import Outcome, fit
from asr_lstm.manifest import Utterance
from asr_lstm.model import EncoderConfig
from asr_lstm.schedule import TrainingConfig
from asr_lstm.splice_again import SpliceAgain

KILLED = 9


def utterances(count: int, *, seed: int) -> list[Utterance]:
    random = np.random.default_rng(seed)
    texts = [random_text(random, words=3) for _ in range(count)]
    return [
        Utterance(Path(f"{index}"), text, len(sing(text)) / RATE, speaker="one", id=f"{seed}-{index}")
        for index, text in enumerate(texts)
    ]


def sung(utterance: Utterance) -> np.ndarray:
    return sing(utterance.text, seed=int(str(utterance.path)))


def recipe(*, workers: int = 0, again: tuple[int, ...] = (2,)) -> Recipe:
    return Recipe(
        name="sung",
        corpus=CorpusConfig(prepare="none.none"),
        features=FeatureConfig(rate=RATE, mels=16),
        augment=AugmentConfig(splice=1.0, splice_again=again, speed=0.0, frequency_masks=0, time_masks=0),
        encoder=EncoderConfig(layers=1, hidden=16),
        data=DataConfig(batch_seconds=6.0, workers=workers),
        training=TrainingConfig(
            epochs=4, learning_rate=0.02, precision="32-true", average=0.5, checkpoint_minutes=0.0
        ),
    )


def run(output: Path, recipe: Recipe) -> Outcome:
    return fit(
        recipe,
        train=utterances(24, seed=1),
        dev=utterances(6, seed=2),
        load=sung,
        output=output,
        key="key",
        settings={},
        console=Console(quiet=True),
    )


def run_and_die(output: Path, recipe: Recipe, *, epoch: int) -> None:
    """Train in a process of its own that ends after the second batch of an epoch, as if killed."""

    def child() -> None:
        after = Checkpointer.on_train_batch_end

        def hook(self: Checkpointer, *arguments: object) -> None:
            after(self, *arguments)  # type: ignore[arg-type]
            if self.data.sampler.epoch == epoch and self.data.sampler.position == 2:
                os._exit(KILLED)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Checkpointer, "on_train_batch_end", hook)
            run(output, recipe)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == KILLED


def weights(output: Path) -> torch.Tensor:
    found = load_file(output / "model" / "model.safetensors")
    return torch.cat([found[name].flatten() for name in sorted(found)])


@pytest.fixture
def _credulous(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has learned for two epochs of seconds believes in nothing."""
    monkeypatch.setattr(splice, "_LEAST_CONFIDENCE", 0.0)


@pytest.mark.usefixtures("_credulous")
@pytest.mark.parametrize("workers", [0, 1])
def test_words_are_found_when_it_is_time_and_not_again_by_a_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    run(tmp_path / "never", recipe(again=(9,)))
    run(tmp_path / "whole", recipe())
    assert not torch.equal(weights(tmp_path / "never"), weights(tmp_path / "whole"))
    cut, often = tmp_path / "cut", recipe(workers=workers)
    run_and_die(cut, often, epoch=1)
    assert not list(cut.rglob("words-*"))
    run_and_die(cut, often, epoch=2)
    (kept,) = cut.rglob("words-*")
    places = np.load(kept)
    rows = utterances(24, seed=1)
    assert places.shape == (3 * len(rows), 2)
    assert np.isfinite(places).all()
    assert (places[:, 0] < places[:, 1]).all()
    monkeypatch.setattr("asr_lstm.splice_again.find_words", lambda *_, **__: pytest.fail("found once more"))
    assert run(cut, often).resumed == 2
    assert torch.equal(weights(cut), weights(tmp_path / "whole"))


@pytest.mark.usefixtures("_credulous")
def test_places_that_were_damaged_are_found_again(tmp_path: Path) -> None:
    run(tmp_path / "whole", recipe())
    run_and_die(tmp_path / "cut", recipe(), epoch=2)
    (kept,) = (tmp_path / "cut").rglob("words-*")
    np.save(kept, np.load(kept)[1:])
    with pytest.MonkeyPatch.context() as patch:
        found = []
        find = splice.find_words
        patch.setattr(
            "asr_lstm.splice_again.find_words",
            lambda *args, **options: found.append(1) or find(*args, **options),
        )
        run(tmp_path / "cut", recipe())
    assert found == [1]


def test_epochs_must_be_some() -> None:
    with pytest.raises(ValueError, match=r"augment\.splice_again must be 1 or more, not 0"):
        replace(AugmentConfig(), splice_again=(4, 0))


@pytest.mark.usefixtures("_credulous")
def test_averaged_weights_find_the_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What listens is what would be kept, not the weights of the last update."""
    keepers, find = [], splice.find_words
    start = Checkpointer.on_fit_start

    def note(self: Checkpointer, *arguments: Any) -> None:
        keepers.append(self)
        start(self, *arguments)

    def listen(*arguments: Any, model: Bundle, **options: Any) -> Any:
        found.append({name: value.clone() for name, value in model.model.named_parameters()})
        return find(*arguments, model=model, **options)

    found: list[dict[str, torch.Tensor]] = []
    begun: list[dict[str, torch.Tensor]] = []
    epoch_start = SpliceAgain.on_train_epoch_start

    def before(self: SpliceAgain, *arguments: Any) -> None:
        assert self.average is keepers[0].average
        if not found:
            begun.append({name: value.clone() for name, value in keepers[0].average.state_dict().items()})
        epoch_start(self, *arguments)

    monkeypatch.setattr(Checkpointer, "on_fit_start", note)
    monkeypatch.setattr("asr_lstm.splice_again.find_words", listen)
    monkeypatch.setattr(SpliceAgain, "on_train_epoch_start", before)
    run(tmp_path, recipe())
    (heard,), averages = found, begun[-1]
    assert all(torch.equal(heard[name], value) for name, value in averages.items())
    last = begun[-2]
    assert any(not torch.equal(heard[name], value) for name, value in last.items())
